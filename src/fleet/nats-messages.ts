/** What the API and the workers say to each other over NATS, as JSON. What comes from the broker is checked: others may write there. */
import { Type } from 'typebox';
import { JobTrafficRequest } from '../lab/experiment/template.ts';
import { contentHash } from '../lab/job/job.ts';
import { Measure } from '../lab/job/measure.ts';
import { schemaCheck } from '../lab/schema-faults.ts';
import { closed } from '../lab/schema-kit.ts';
import type { JobLimits, JobOutcome, QueuedJob } from './queue.ts';

/** An outcome in the object store, under its job's key. A failed one was made with these limits and says nothing of others. */
export type KeptOutcome =
  | Extract<JobOutcome, { readonly kind: 'result' }>
  | (Extract<JobOutcome, { readonly kind: 'failed' }> & { readonly limits: JobLimits });

/** A worker has begun with a job, or its outcome is in the store. */
export interface Notice {
  readonly kind: 'started' | 'ended';
  readonly key: string;
}
export interface Cancellation {
  readonly keys: readonly string[];
}
/** A worker says this every few seconds, and when an API server says hello. `threads` 0: it is going away. */
export interface WorkerReport {
  readonly id: string;
  readonly engine: string;
  readonly threads: number;
}
/** In the stream of dead letters. */
export interface DeadLetter {
  readonly reason: string;
  readonly deliveries: number;
  /** What could be read of it: the job, or the text that is none. */
  readonly job: QueuedJob | string;
}

const Key = Type.String({ pattern: '^[0-9a-f]{64}$' });
const Name = Type.String({ minLength: 1, maxLength: 200 });
const checkQueued = schemaCheck(
  closed({
    key: Key,
    job: closed({
      engine: Name,
      document: Type.Object({}, { additionalProperties: true }),
      profile: closed({ name: Name, costs: Type.Record(Type.String(), Type.Number({ minimum: 0 })) }),
      traffic: Type.Array(JobTrafficRequest, { maxItems: 1000 }),
      measure: Type.Optional(Measure),
      maxEvents: Type.Number({ exclusiveMinimum: 0 }),
    }),
    limits: closed({
      memory: Type.Number({ exclusiveMinimum: 0 }),
      wallSeconds: Type.Number({ exclusiveMinimum: 0 }),
    }),
  }),
);
const checkNotice = schemaCheck(
  Type.Object({ kind: Type.Union([Type.Literal('started'), Type.Literal('ended')]), key: Key }),
);
const checkCancellation = schemaCheck(Type.Object({ keys: Type.Array(Key) }));
const checkReport = schemaCheck(
  Type.Object({ id: Name, engine: Name, threads: Type.Integer({ minimum: 0, maximum: 100_000 }) }),
);
const checkOutcome = schemaCheck(
  Type.Union([
    Type.Object({
      kind: Type.Literal('result'),
      result: Type.Object({ state: Name, runs: Type.Array(Type.Object({})) }),
      digest: Key,
      wallSeconds: Type.Number({ minimum: 0 }),
    }),
    Type.Object({
      kind: Type.Literal('failed'),
      problem: Type.Object({ code: Name, detail: Type.String() }),
      wallSeconds: Type.Number({ minimum: 0 }),
      limits: Type.Object({ memory: Type.Number(), wallSeconds: Type.Number() }),
    }),
  ]),
);

/** A job, or what is wrong with it. */
export function parseQueued(bytes: Uint8Array): QueuedJob | string {
  const text = textOf(bytes);
  const value = jsonOf(text);
  if (value === undefined) return 'it is not JSON';
  const [fault] = checkQueued(value);
  if (fault !== undefined) return `${fault.pointer} ${fault.detail}`;
  // The check fills in defaults; the job is what was written.
  const queued = JSON.parse(text) as QueuedJob;
  return contentHash(queued.job) === queued.key ? queued : '/key is not the hash of /job';
}
export function parseOutcome(bytes: Uint8Array): KeptOutcome | null {
  const value = jsonOf(textOf(bytes));
  return value !== undefined && checkOutcome(value).length === 0 ? (value as KeptOutcome) : null;
}
export function parseNotice(bytes: Uint8Array): Notice | null {
  const value = jsonOf(textOf(bytes));
  return checkNotice(value).length === 0 ? (value as Notice) : null;
}
export function parseCancellation(bytes: Uint8Array): Cancellation | null {
  const value = jsonOf(textOf(bytes));
  return checkCancellation(value).length === 0 ? (value as Cancellation) : null;
}
export function parseReport(bytes: Uint8Array): WorkerReport | null {
  const value = jsonOf(textOf(bytes));
  return checkReport(value).length === 0 ? (value as WorkerReport) : null;
}

/** The beginning of what could not be read, for those who look why. */
export function excerptOf(bytes: Uint8Array): string {
  return textOf(bytes.subarray(0, 2000));
}
function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
