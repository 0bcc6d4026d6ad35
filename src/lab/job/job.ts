/**
 * A whole run as data: everything that its result depends on, and nothing else. Runs are deterministic, so the hash of a job is
 * its name: who runs it, where and how often makes no difference, and a result that is there already need not be made again.
 */
import { createHash } from 'node:crypto';
import type { TopologyDocument } from '../document-schema.ts';
import type { RunResult, WorldStatus } from '../protocol.ts';
import type { TrafficRequestBody } from '../traffic-request.ts';
import type { MeasureBody, Rfc2544Result } from './measure.ts';

/** One traffic request of a job. All start when the topology has booted; `start` (a duration) delays one. */
export type JobTraffic = TrafficRequestBody & { readonly start?: string };

/** What the virtual times of a job are computed from: all costs by name, so that a worker needs no book of profiles. */
export interface JobProfile {
  readonly name: string;
  readonly costs: Readonly<Record<string, number>>;
}

export interface JobSpec {
  /** Which Ringside computes it: engineVersion(). A worker of another version leaves it alone. */
  readonly engine: string;
  /** With the run's seed. */
  readonly document: TopologyDocument;
  readonly profile: JobProfile;
  readonly traffic: readonly JobTraffic[];
  /** A measurement: the traffic says between which ends, the measurement how much and how often, each time in a fresh world. */
  readonly measure?: MeasureBody;
  /** Bound of virtual events: a run that never ends, as a loop of broadcasts, fails here, at the same event everywhere. */
  readonly maxEvents: number;
}

/**
 * A document with the rings of a job's world where it does not say any: nobody looks back in it, and small rings stay in the
 * processor's caches. Its results are those of a live world, its fingerprint is that of one with these rings: where bytes lie is
 * part of it.
 */
export function withJobRings<T extends { readonly recorder?: unknown }>(document: T): T {
  const { recorder = {} } = document;
  if (typeof recorder !== 'object' || recorder === null) return document;
  return { ...document, recorder: { events: 65_536, bytes: '4MiB', ...recorder } };
}

/** Why a job has no result, or not the one that was asked for: `code` as problems of the API have it. */
export interface JobProblem {
  readonly code: string;
  readonly detail: string;
  readonly pointer?: string;
}

/** A traffic run's result without what depends on the machine. */
export type JobRun = Omit<RunResult, 'wall'>;

/** What a job came to: the same bytes on every machine. */
export interface JobResult {
  /** FAILED: a traffic run failed or was refused; `problem` says why. */
  readonly state: 'SUCCEEDED' | 'FAILED';
  readonly problem: JobProblem | null;
  readonly profile: { readonly name: string; readonly hash: string };
  readonly seed: number;
  readonly fingerprint: string;
  readonly virtualTimeSeconds: number;
  readonly events: number;
  readonly conservation: WorldStatus['conservation'] | null;
  /** In the order of the job's traffic; of a measurement those of one trial: see rfc2544-trials.ts. */
  readonly runs: readonly JobRun[];
  readonly rfc2544?: Rfc2544Result;
}

/** JSON with the members of objects in order: equal values have equal texts. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item ?? null)).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`);
  return `{${members.join(',')}}`;
}

/** SHA-256 of a value's canonical JSON, hexadecimal: the key of a job, the digest of a result. */
export function contentHash(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}
