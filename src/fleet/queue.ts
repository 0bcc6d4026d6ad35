/**
 * Where jobs wait and who runs them: one interface for the threads of this machine (pool.ts) and for the workers of many
 * (nats.ts). Delivery is at least once, which is enough: a job that runs twice comes to the same result.
 */
import type { JobProblem, JobResult, JobSpec } from '../lab/job/job.ts';

export interface JobLimits {
  /** Bytes that a job's world and heap may take. */
  readonly memory: number;
  /** Wall time, seconds. */
  readonly wallSeconds: number;
}

export interface QueuedJob {
  /** contentHash(job). */
  readonly key: string;
  readonly job: JobSpec;
  readonly limits: JobLimits;
}

export type JobOutcome =
  /** It came to a result, which may say that a traffic run failed. `digest` is contentHash(result). */
  | { readonly kind: 'result'; readonly result: JobResult; readonly digest: string; readonly wallSeconds: number }
  /** It came to none: its memory or time was over, or its worker died as often as it may. Not a result that is kept for others. */
  | { readonly kind: 'failed'; readonly problem: JobProblem; readonly wallSeconds: number }
  | { readonly kind: 'cancelled' };

export interface QueueListener {
  /** A worker has begun with it; may be called again after a worker has died. */
  started(key: string): void;
  /** Once for each job that was submitted. */
  ended(key: string, outcome: JobOutcome): void;
}

export interface JobQueue {
  /** Jobs that may be worked on at the same time, as far as it is known: what an ETA is computed with. */
  readonly parallel: number;
  /** Takes a job; it is run once however often it is submitted while it waits or runs. */
  submit(job: QueuedJob): void;
  /** Jobs that wait are dropped, jobs that run are stopped; each ends with `cancelled` unless its result was faster. */
  cancel(keys: Iterable<string>): void;
  /** Ends what runs in this process; jobs that have no outcome yet get none. */
  close(): Promise<void>;
}
