/** Metrics of the threads that run experiments' jobs on this machine. Where a NATS server has the queue, all of them are 0. */
import { type PoolCounts, ThreadPool } from '../../fleet/pool.ts';
import type { JobQueue } from '../../fleet/queue.ts';
import { type CountedMetric, countedMetric } from '../counted-metrics.ts';

const NONE: PoolCounts = {
  threads: 0,
  busy: 0,
  waiting: 0,
  out: 0,
  ended: { result: 0, failed: 0, cancelled: 0 },
  lost: 0,
  busySeconds: 0,
};

/** What a queue counts, where it is a pool of threads. */
export function poolCounts(queue: JobQueue | null): PoolCounts {
  return queue instanceof ThreadPool ? queue.counts() : NONE;
}

const metric = countedMetric<PoolCounts>;
export const POOL_METRICS: readonly CountedMetric<PoolCounts>[] = [
  metric('job_threads', 'gauge', 'Threads for jobs that there are; they end when they are idle.', null, (c) => [
    ['', c.threads],
  ]),
  metric('job_threads_busy', 'gauge', 'Threads that jobs are with.', null, (c) => [['', c.busy]]),
  metric('jobs', 'gauge', 'Jobs of experiments in the pool, by state.', 'state', ({ waiting, out }) => [
    ['waiting', waiting],
    ['running', out],
  ]),
  metric(
    'jobs_ended_total',
    'counter',
    'Jobs that the pool has ended since the server started, by outcome.',
    'outcome',
    (c) => Object.entries(c.ended),
  ),
  metric('job_seconds_total', 'counter', 'Wall time of the jobs that came to an outcome.', null, (c) => [
    ['', c.busySeconds],
  ]),
  metric(
    'job_threads_lost_total',
    'counter',
    'Threads that ended with a job: out of memory, hung, or crashed.',
    null,
    (c) => [['', c.lost]],
  ),
];
