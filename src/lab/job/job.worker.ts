/**
 * Runs batches of jobs in a thread of a pool (fleet/pool.ts), one job after the other. What a job may take is looked at between its
 * turns; a job that never comes to one is ended from outside, with the thread.
 */
import { getHeapStatistics } from 'node:v8';
import { collectGarbage } from '../collect-garbage.ts';
import { type Batch, type BatchJob, type BatchOutcome, type BatchOutcomes, CANCELLED, CURRENT } from './batch.ts';
import { giveWay } from './give-way.ts';
import { contentHash, type JobProblem } from './job.ts';
import { JobCancelled, JobExceeded, runJob } from './run-job.ts';

/** Worlds that have ended lie in memory until garbage is collected, which takes as long as a short job. */
const WORLDS_KEPT = 32;
/** The same in bytes of their frames and events, of those that have many. */
const BYTES_KEPT = 128 * 2 ** 20;
/** What a job's events take in its rings, with the frames that they tell of. */
const BYTES_PER_EVENT = 64;

giveWay();
/** Heap of this thread without any job. */
const EMPTY_HEAP = heapBytes();
let worlds = 0;
let touched = 0;

/** What Piscina calls. */
export function runBatch(batch: Batch): BatchOutcomes {
  const { jobs, control, turnMs } = batch;
  const outcomes: BatchOutcome[] = [];
  const started = performance.now();
  for (const [index, job] of jobs.entries()) {
    if (index > 0 && performance.now() - started > turnMs) break;
    Atomics.store(control, CURRENT, index);
    outcomes.push(runOne(job, () => Atomics.load(control, CANCELLED + index) !== 0));
  }
  Atomics.store(control, CURRENT, jobs.length);
  return outcomes;
}

function runOne({ job, memory, wallSeconds }: BatchJob, cancelled: () => boolean): BatchOutcome {
  if (cancelled()) return { kind: 'cancelled' };
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  let world = 0;
  const building = (bytes: number): void => {
    if (bytes > memory) throw tooLarge('world', bytes, memory);
    tidy();
    worlds++;
    world = bytes;
  };
  const watch = (): boolean => {
    if (seconds() > wallSeconds) throw new JobExceeded('time', `the run takes longer than ${wallSeconds} s`);
    checkHeap(world, memory);
    return cancelled();
  };
  try {
    const result = runJob(job, { cancelled: watch, building });
    touched += result.events * BYTES_PER_EVENT;
    return { kind: 'result', result, digest: contentHash(result), wallSeconds: seconds() };
  } catch (error) {
    // how much it has touched is not known
    touched = BYTES_KEPT;
    if (error instanceof JobCancelled) return { kind: 'cancelled' };
    return { kind: 'failed', problem: problemOf(error), wallSeconds: seconds() };
  }
}

function problemOf(error: unknown): JobProblem {
  if (error instanceof JobExceeded) return error.problem;
  const detail = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  // its limit allows such a world, the machine does not
  if (error instanceof RangeError && detail.includes('WebAssembly.Memory'))
    return { code: 'RINGSIDE_E_LIMIT', detail, pointer: '/limits/memory' };
  return { code: 'RINGSIDE_E_INTERNAL', detail };
}

/** Garbage does not count, but what is garbage is known when it has been collected. */
function checkHeap(world: number, memory: number): void {
  if (world + heapBytes() - EMPTY_HEAP <= memory) return;
  collectGarbage();
  const bytes = world + heapBytes() - EMPTY_HEAP;
  if (bytes > memory) throw tooLarge('world and its heap', bytes, memory);
}
function tooLarge(what: string, bytes: number, memory: number): JobExceeded {
  return new JobExceeded(
    'memory',
    `the run's ${what} take${what === 'world' ? 's' : ''} ${bytes} bytes of memory; it may take ${memory}`,
  );
}
function heapBytes(): number {
  return getHeapStatistics().used_heap_size;
}

function tidy(): void {
  if (worlds < WORLDS_KEPT && touched < BYTES_KEPT) return;
  worlds = 0;
  touched = 0;
  collectGarbage();
}
