/**
 * What a pool (fleet/pool.ts) and its threads (job.worker.ts) say to each other: a batch of jobs goes out as one message, what
 * they came to comes back as one. Meanwhile both look at a few words of shared memory.
 */
import type { JobProblem, JobResult, JobSpec } from './job.ts';

export interface BatchJob {
  readonly job: JobSpec;
  /** Bytes that its world and heap may take. */
  readonly memory: number;
  readonly wallSeconds: number;
}

export interface Batch {
  readonly jobs: readonly BatchJob[];
  /** BATCH_WORDS words, shared. */
  readonly control: Int32Array<SharedArrayBuffer>;
  /** No job is begun later than this after the first, ms: the others wait for a thread that is free sooner. */
  readonly turnMs: number;
}

/** Word of `control` that the thread writes: which job it works on, NOT_BEGUN, or their number when it is through. */
export const CURRENT = 0;
export const NOT_BEGUN = -1;
/** Words that the pool writes, one for each job: 1 = cancelled. */
export const CANCELLED = 1;
/** Most jobs of a batch. */
export const BATCH_JOBS = 64;
export const BATCH_WORDS = CANCELLED + BATCH_JOBS;

export type BatchOutcome =
  | { readonly kind: 'result'; readonly result: JobResult; readonly digest: string; readonly wallSeconds: number }
  | { readonly kind: 'failed'; readonly problem: JobProblem; readonly wallSeconds: number }
  | { readonly kind: 'cancelled' };

/** In the order of the batch's jobs; fewer where its turn was over. */
export type BatchOutcomes = readonly BatchOutcome[];
