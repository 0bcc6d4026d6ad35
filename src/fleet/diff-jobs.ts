/** Two jobs run again, side by side in one thread, and compared event by event. */
import { Worker } from 'node:worker_threads';
import type { JobProblem, JobResult, JobSpec } from '../lab/job/job.ts';
import type { ValueDiff } from '../readers/diff/json-diff.ts';
import type { RunsDiff } from '../readers/diff/run-diff.ts';
import type { JobLimits } from './queue.ts';

export interface DiffRequest {
  readonly left: JobSpec;
  readonly right: JobSpec;
  /** Of each of the two. */
  readonly limits: JobLimits;
}
export interface JobsDiff {
  /** What the jobs differ in: documents, traffic, profiles. Pointers into JobSpec. */
  readonly inputs: readonly ValueDiff[];
  /** What the results differ in, without what names a run. Pointers into JobResult. */
  readonly outcomes: readonly ValueDiff[];
  readonly results: { readonly left: JobResult; readonly right: JobResult };
  /** Null where one of the two has no world to look at; its result says why. */
  readonly runs: RunsDiff | null;
}
export type DiffAnswer =
  | { readonly ok: true; readonly diff: JobsDiff }
  | { readonly ok: false; readonly problem: JobProblem };

const ENTRY = new URL('./diff.worker.ts', import.meta.url);
/** A thread's heap beside its worlds, MiB. */
const HEAP_MIB = 1024;
/** What a thread takes to start and to compare two rings, beside the runs themselves, ms. */
const SPARE_MS = 60_000;

/** Runs both in a thread of their own, which is ended when `signal` says so or their time is over. Never rejects. */
export async function diffJobs(request: DiffRequest, signal: AbortSignal): Promise<DiffAnswer> {
  const worker = new Worker(ENTRY, { workerData: request, resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB } });
  const { promise, resolve } = Promise.withResolvers<DiffAnswer>();
  const failed = (code: string, detail: string): void => resolve({ ok: false, problem: { code, detail } });
  const late = setTimeout(
    () => failed('RINGSIDE_E_LIMIT', `the two runs take longer than ${2 * request.limits.wallSeconds} s`),
    2000 * request.limits.wallSeconds + SPARE_MS,
  );
  const stop = (): void => failed('RINGSIDE_E_UNAVAILABLE', 'nobody waits for the answer any more');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  worker.once('message', resolve);
  worker.once('error', (error) => failed('RINGSIDE_E_INTERNAL', error.message));
  worker.once('exit', (code) => failed('RINGSIDE_E_INTERNAL', `the thread ended with ${code}`));
  const answer = await promise;
  clearTimeout(late);
  signal.removeEventListener('abort', stop);
  await worker.terminate();
  return answer;
}
