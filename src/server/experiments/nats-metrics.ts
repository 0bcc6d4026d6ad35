/** Metrics of a queue of jobs at a NATS server. Where the threads of this machine have the jobs, all of them are 0. */
import type { NatsCounts, NatsQueue } from '../../fleet/nats.ts';
import type { JobQueue } from '../../fleet/queue.ts';
import { type CountedMetric, countedMetric } from '../counted-metrics.ts';

const NONE: NatsCounts = {
  connected: false,
  unsent: 0,
  sent: 0,
  republished: 0,
  ended: { result: 0, failed: 0, cancelled: 0 },
  workers: 0,
  threads: 0,
};

/** What a queue counts, where it is at a NATS server. */
export function natsCounts(queue: JobQueue | null): NatsCounts {
  return queue !== null && isNats(queue) ? queue.counts() : NONE;
}
/** By its field: the class is loaded only where it is used. */
function isNats(queue: JobQueue): queue is NatsQueue {
  return 'kind' in queue && queue.kind === 'nats';
}

const metric = countedMetric<NatsCounts>;
export const NATS_METRICS: readonly CountedMetric<NatsCounts>[] = [
  metric('nats_connected', 'gauge', 'Whether the NATS server that has the jobs is connected.', null, (c) => [
    ['', c.connected ? 1 : 0],
  ]),
  metric('nats_workers', 'gauge', 'Workers that have reported in the last seconds.', null, (c) => [['', c.workers]]),
  metric('nats_worker_threads', 'gauge', 'Threads of these workers.', null, (c) => [['', c.threads]]),
  metric(
    'nats_jobs',
    'gauge',
    'Jobs of this server without outcome: still to be sent, or at the NATS server and with workers.',
    'state',
    ({ unsent, sent }) => [
      ['unsent', unsent],
      ['sent', sent],
    ],
  ),
  metric(
    'nats_jobs_ended_total',
    'counter',
    'Jobs that have ended since the server started, by outcome.',
    'outcome',
    (c) => Object.entries(c.ended),
  ),
  metric(
    'nats_jobs_republished_total',
    'counter',
    'Jobs that had no outcome and were not at the NATS server any more, and were published again.',
    null,
    (c) => [['', c.republished]],
  ),
];
