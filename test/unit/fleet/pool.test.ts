/** The pool of threads: outcomes, limits, cancellation, threads that are lost. Threads of a stub where jobs misbehave, else real ones. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { afterEach, test } from 'vitest';
import { type PoolOptions, ThreadPool } from '../../../src/fleet/pool.ts';
import type { JobOutcome, QueuedJob } from '../../../src/fleet/queue.ts';
import { contentHash } from '../../../src/lab/job/job.ts';
import { runJob } from '../../../src/lab/job/run-job.ts';
import { greedyJob, jobOf, queued, Told, udp } from './jobs.ts';

const MIB = 2 ** 20;
const STUB = new URL('./stub-jobs.worker.ts', import.meta.url);
const pools: ThreadPool[] = [];

function start(options: Partial<PoolOptions> = {}): { pool: ThreadPool; told: Told } {
  const told = new Told();
  const pool = new ThreadPool(told, { threads: 2, ...options });
  pools.push(pool);
  return { pool, told };
}
afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.close()));
});

/** A job of the stub. */
function named(name: string, limits: Partial<QueuedJob['limits']> = {}): QueuedJob {
  const job = jobOf(1);
  return queued({ ...job, document: { ...job.document, name } }, limits);
}
function submit(pool: ThreadPool, jobs: readonly QueuedJob[]): void {
  for (const job of jobs) pool.submit(job);
}
function digestOf(outcome: JobOutcome): string {
  assert.equal(outcome.kind, 'result');
  return outcome.kind === 'result' ? outcome.digest : '';
}
function problemOf(outcome: JobOutcome): { code: string; detail: string; pointer?: string } {
  assert.equal(outcome.kind, 'failed');
  return outcome.kind === 'failed' ? outcome.problem : { code: '', detail: '' };
}
const onceEach = (told: Told, jobs: readonly QueuedJob[]): void =>
  assert.deepEqual(
    jobs.map(({ key }) => told.outcomes.get(key)?.length),
    jobs.map(() => 1),
  );

test('results are those of the same jobs run here, each told once', async () => {
  const { pool, told } = start();
  const jobs = Array.from({ length: 40 }, (_, n) => queued(jobOf(n + 1)));
  submit(pool, [...jobs, ...jobs]);
  await told.hasBegun(jobs[0]!);
  const { busy } = pool.counts();
  assert.ok(busy >= 1 && busy <= pool.parallel, String(busy));
  for (const job of jobs) assert.equal(digestOf(await told.outcome(job)), contentHash(runJob(job.job)));
  onceEach(told, jobs);
  assert.deepEqual(new Set(told.begun), new Set(jobs.map(({ key }) => key)));
  const { ended, waiting, out, lost, busySeconds } = pool.counts();
  assert.deepEqual([ended, waiting, out, lost], [{ result: 40, failed: 0, cancelled: 0 }, 0, 0, 0]);
  assert.ok(busySeconds > 0);
});

test('a run that cannot succeed has a result that says so', async () => {
  const { pool, told } = start();
  const endless = queued(jobOf(1, { maxEvents: 100, traffic: [udp({ count: 100_000 })] }));
  submit(pool, [endless]);
  const outcome = await told.outcome(endless);
  assert.equal(outcome.kind === 'result' ? outcome.result.problem?.detail : '', 'more than 100 events have happened');
});

test('a world larger than its limit is not built', async () => {
  const { pool, told } = start();
  const large = queued(jobOf(1), { memory: 40 * MIB });
  submit(pool, [large, queued(jobOf(2))]);
  const problem = problemOf(await told.outcome(large));
  assert.deepEqual([problem.code, problem.pointer], ['RINGSIDE_E_LIMIT', '/limits/memory']);
  assert.match(problem.detail, /^the run's world takes \d+ bytes of memory; it may take 41943040$/);
  digestOf(await told.outcome(queued(jobOf(2))));
  assert.equal(pool.counts().lost, 0);
});

test('a run whose heap grows beyond its limit ends with a problem, and its thread goes on', async () => {
  const { pool, told } = start({ threads: 1 });
  const greedy = queued(greedyJob(1), { memory: 200 * MIB });
  submit(pool, [greedy, queued(jobOf(2))]);
  const problem = problemOf(await told.outcome(greedy));
  assert.deepEqual([problem.code, problem.pointer], ['RINGSIDE_E_LIMIT', '/limits/memory']);
  assert.match(problem.detail, /^the run's world and its heap take \d+ bytes/);
  digestOf(await told.outcome(queued(jobOf(2))));
  assert.equal(pool.counts().lost, 0);
});

test("a run that fills its thread's heap fails alone: the others have the results that they have anywhere", async () => {
  const { pool, told } = start({ heapBytes: 56 * MIB });
  const small = Array.from({ length: 20 }, (_, n) => queued(jobOf(n + 1)));
  const greedy = queued(greedyJob(1), { memory: 4096 * MIB });
  submit(pool, [...small.slice(0, 10), greedy, ...small.slice(10)]);
  const problem = problemOf(await told.outcome(greedy));
  assert.deepEqual([problem.code, problem.pointer], ['RINGSIDE_E_LIMIT', '/limits/memory']);
  assert.match(problem.detail, /^the heap of the run's thread is full/);
  for (const job of small) assert.equal(digestOf(await told.outcome(job)), contentHash(runJob(job.job)));
  onceEach(told, [...small, greedy]);
  assert.equal(pool.counts().lost, 1);
});

test('a run ends when its wall time is over', async () => {
  const { pool, told } = start();
  const long = queued(jobOf(1, { traffic: [udp({ count: 1_000_000_000 })] }), { wallSeconds: 0.2 });
  submit(pool, [long]);
  const problem = problemOf(await told.outcome(long));
  assert.deepEqual(problem, {
    code: 'RINGSIDE_E_LIMIT',
    detail: 'the run takes longer than 0.2 s',
    pointer: '/limits/time',
  });
  assert.equal(pool.counts().lost, 0);
});

test('a run that hangs loses its thread, and the others of its batch are run', async () => {
  const { pool, told } = start({ threads: 1, entry: STUB, graceMs: 100 });
  // the mean of the first makes batches of the others
  const jobs = ['done-1', 'done-2', 'hang-1', 'done-3', 'done-4'].map((name) => named(name, { wallSeconds: 0.1 }));
  submit(pool, jobs);
  const hung = problemOf(await told.outcome(jobs[2]!));
  assert.deepEqual([hung.code, hung.pointer], ['RINGSIDE_E_LIMIT', '/limits/time']);
  for (const n of [0, 1, 3, 4]) assert.equal(digestOf(await told.outcome(jobs[n]!)), jobs[n]!.job.document.name);
  onceEach(told, jobs);
  assert.equal(pool.counts().lost, 1);
});

test('a thread that ends takes one run with it', async () => {
  const { pool, told } = start({ threads: 1, entry: STUB });
  const jobs = ['done-1', 'done-2', 'exit-1', 'done-3'].map((name) => named(name));
  submit(pool, jobs);
  const problem = problemOf(await told.outcome(jobs[2]!));
  assert.equal(problem.code, 'RINGSIDE_E_INTERNAL');
  assert.match(problem.detail, /exit.* 3/);
  for (const n of [0, 1, 3]) digestOf(await told.outcome(jobs[n]!));
  onceEach(told, jobs);
});

test('threads that do not start fail their jobs, in the end', async () => {
  const { pool, told } = start({ entry: new URL('./no-such.worker.ts', import.meta.url) });
  const job = named('done');
  submit(pool, [job]);
  assert.equal(problemOf(await told.outcome(job)).code, 'RINGSIDE_E_INTERNAL');
});

test('cancelled: what waits is dropped at once, what runs is stopped', async () => {
  const { pool, told } = start();
  const long = queued(jobOf(1, { traffic: [udp({ count: 1_000_000_000 })] }));
  const second = queued(jobOf(2, { traffic: [udp({ count: 1_000_000_000 })] }));
  const waits = queued(jobOf(3));
  submit(pool, [long, second, waits]);
  await told.hasBegun(long);
  pool.cancel([waits.key, 'nobody']);
  assert.deepEqual(told.outcomes.get(waits.key), [{ kind: 'cancelled' }]);
  pool.cancel([long.key, second.key, long.key]);
  assert.deepEqual(
    [await told.outcome(long), await told.outcome(second)],
    [{ kind: 'cancelled' }, { kind: 'cancelled' }],
  );
  onceEach(told, [long, second, waits]);
  assert.deepEqual(pool.counts().ended, { result: 0, failed: 0, cancelled: 3 });
  assert.equal(pool.counts().lost, 0);
});

test('cancelled: a run that does not hear of it loses its thread', async () => {
  const { pool, told } = start({ threads: 1, entry: STUB, graceMs: 100 });
  const jobs = [named('hang'), named('done')];
  submit(pool, jobs);
  await told.hasBegun(jobs[0]!);
  pool.cancel([jobs[0]!.key]);
  assert.deepEqual(await told.outcome(jobs[0]!), { kind: 'cancelled' });
  digestOf(await told.outcome(jobs[1]!));
  assert.equal(pool.counts().lost, 1);
});

test('cancelled: a result that was faster counts; what is submitted again is run again', async () => {
  const { pool, told } = start({ threads: 2, entry: STUB });
  const late = named('late');
  const waits = named('wait');
  submit(pool, [late, waits]);
  await told.hasBegun(late);
  await told.hasBegun(waits);
  pool.cancel([late.key]);
  digestOf(await told.outcome(late));
  pool.cancel([waits.key]);
  pool.submit(waits);
  // it has been cancelled and begun anew: nobody is told of the first time
  await told.until(() => told.begun.filter((key) => key === waits.key).length === 2);
  assert.equal(told.outcomes.size, 1);
  pool.cancel([waits.key]);
  assert.deepEqual(await told.outcome(waits), { kind: 'cancelled' });
  onceEach(told, [late, waits]);
});

test('threads of jobs give way to this one', { skip: process.platform !== 'linux' }, async () => {
  /** proc_pid_stat(5), field 19; the name in parentheses may hold spaces. A thread may end meanwhile. */
  const niceOf = (task: string): number => {
    const stat = `/proc/self/task/${task}/stat`;
    return existsSync(stat) ? Number(readFileSync(stat, 'utf8').split(') ')[1]?.split(' ')[16]) : 0;
  };
  const { pool, told } = start();
  const job = queued(jobOf(1));
  submit(pool, [job]);
  await told.outcome(job);
  const main = niceOf(String(process.pid));
  assert.ok(readdirSync('/proc/self/task').some((task) => niceOf(task) > main));
});

test('closed: what has no outcome gets none', async () => {
  const { pool, told } = start({ entry: STUB });
  const jobs = [named('wait-1'), named('wait-2'), named('done')];
  submit(pool, jobs);
  await told.hasBegun(jobs[0]!);
  await pool.close();
  assert.equal(told.outcomes.size, 0);
});
