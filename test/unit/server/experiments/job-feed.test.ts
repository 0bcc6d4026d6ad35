/** Between experiments and the queue: a bounded number of jobs, experiments in turn, equal jobs once, nothing lost. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'vitest';
import type { JobQueue, QueuedJob, QueueListener } from '../../../../src/fleet/queue.ts';
import { planExperiment } from '../../../../src/lab/experiment/plan.ts';
import type { JobResult } from '../../../../src/lab/job/job.ts';
import { Experiment } from '../../../../src/server/experiments/experiment.ts';
import { JobFeed, type RunOutcome } from '../../../../src/server/experiments/job-feed.ts';

/** Remembers what it was asked for; the test ends jobs itself. */
class HandQueue implements JobQueue {
  readonly parallel = 1;
  readonly submitted: string[] = [];
  readonly cancelled: string[] = [];
  listener!: QueueListener;
  closed = false;
  submit({ key }: QueuedJob): void {
    this.submitted.push(key);
  }
  cancel(keys: Iterable<string>): void {
    this.cancelled.push(...keys);
  }
  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
  succeed(key: string): void {
    const result = { state: 'SUCCEEDED', problem: null, runs: [] } as unknown as JobResult;
    this.listener.ended(key, { kind: 'result', result, digest: 'd', wallSeconds: 1 });
  }
}

let numbers = 0;
function experimentOf(runs: number, seed = 1): Experiment {
  const planned = planExperiment(
    {
      template: { topology: { preset: 'vhost-net' }, traffic: [{ kind: 'udp', from: 'a/net0', to: 'b/net0' }] },
      repetitions: runs,
      seed,
    },
    { engine: 'test', maxRuns: 1e6 },
  );
  assert.ok(planned.ok);
  const number = ++numbers;
  const row = { number, created: '', ended: null, state: 'RUNNING', reason: null, engine: 'test' } as const;
  return new Experiment({ ...row, template: '', profiles: '', skipped: '' }, planned.plan, 1);
}

function feedOf(make?: () => JobQueue) {
  const queue = new HandQueue();
  const ended: { readonly experiment: Experiment; readonly run: number; readonly outcome: RunOutcome }[] = [];
  const broken: Experiment[] = [];
  const feed: JobFeed = new JobFeed(
    (listener) => {
      queue.listener = listener;
      return make === undefined ? queue : make();
    },
    {
      known: () => null,
      ended: (experiment, { number: run }, outcome) => {
        experiment.schedule?.ended(run, 'SUCCEEDED', null);
        ended.push({ experiment, run, outcome });
      },
      broken: (experiment) => {
        broken.push(experiment);
        feed.remove(experiment);
      },
    },
  );
  return { feed, queue, ended, broken };
}
async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 100_000 && !what(); i++) await turn();
  assert.ok(what());
}

test('the queue holds a bounded number of jobs, experiments get their turns', async () => {
  const { feed, queue } = feedOf();
  const large = experimentOf(5000);
  const small = experimentOf(10, 100_000);
  feed.add(large);
  feed.add(small);
  await until(() => feed.outstanding === 128);
  await turn();
  assert.equal(queue.submitted.length, 128);
  assert.equal(small.inFlight.size, 10);
  for (const key of queue.submitted.slice(0, 50)) queue.succeed(key);
  await until(() => queue.submitted.length === 178);
  assert.equal(feed.outstanding, 128);
});

test('equal jobs of two experiments are one job; who gives it up does not take it from the other', async () => {
  const { feed, queue, ended } = feedOf();
  const [one, two] = [experimentOf(3), experimentOf(3)];
  feed.add(one);
  feed.add(two);
  await until(() => one.inFlight.size === 3 && two.inFlight.size === 3);
  assert.equal(queue.submitted.length, 3);
  feed.remove(one);
  assert.deepEqual(queue.cancelled, []);
  queue.succeed(queue.submitted[0]!);
  assert.deepEqual(
    ended.map(({ experiment }) => experiment),
    [two],
  );
  feed.remove(two);
  assert.deepEqual(queue.cancelled, queue.submitted.slice(1));
  assert.equal(feed.outstanding, 0);
  queue.succeed(queue.submitted[1]!);
  assert.equal(ended.length, 1, 'nobody waits for it any more');
});

test('a job that was cancelled for nobody, and is wanted since, is asked for again', async () => {
  const { feed, queue, ended } = feedOf();
  const one = experimentOf(1);
  feed.add(one);
  await until(() => queue.submitted.length === 1);
  queue.listener.ended(queue.submitted[0]!, { kind: 'cancelled' });
  assert.equal(queue.submitted.length, 2);
  queue.succeed(queue.submitted[1]!);
  assert.equal(ended.length, 1);
});

test('a queue that cannot be made breaks the experiments that wait for it, and may be made later', async () => {
  let works = false;
  const later = new HandQueue();
  const { feed, broken } = feedOf(() => {
    if (works) return later;
    throw new Error('no broker');
  });
  const first = experimentOf(1);
  feed.add(first);
  await until(() => broken.length > 0);
  assert.deepEqual(broken, [first]);
  works = true;
  feed.add(experimentOf(1));
  await until(() => later.submitted.length === 1);
  await feed.close();
  assert.equal(later.closed, true);
});
