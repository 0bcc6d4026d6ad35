/** What a scenario is: jobs that stand for a published measurement, and how their results answer it. */
import type { TopologyDocument } from '../src/lab/document-schema.ts';
import type { JobResult, JobRun, JobTraffic } from '../src/lab/job/job.ts';
import type { MeasureBody } from '../src/lab/job/measure.ts';

/** Clock of processors that sources do not name, GHz: that of the cost table's defaults. */
export const NOT_STATED = 2.4;

/** One job without its profile, which follows from the scenario's clock. */
export interface Ask {
  readonly document: TopologyDocument;
  readonly traffic: readonly JobTraffic[];
  readonly measure?: MeasureBody;
}

export interface Scenario {
  readonly id: string;
  /** Clock of the source's processor, GHz: the cost table's defaults, scaled by it and by nothing else. */
  readonly clockGhz: number;
  /** What is run, and where the set-up is not quite the source's. */
  readonly setup: string;
  /** Why the error is told but not scored; left out: it is scored. */
  readonly unscored?: string;
  readonly asks: readonly Ask[];
  /** The prediction, in the published point's unit. */
  readonly value: (results: readonly JobResult[]) => number;
}

// ---- traffic ----------------------------------------------------------------------------------------------------

/** Frames of `flows` source addresses that are drawn uniformly. */
export function frames(from: string, to: string, frameSize: number, flows = 1): JobTraffic {
  const many = flows === 1 ? {} : { flows, spread: 'addresses' as const, distribution: 'uniform' as const };
  return { kind: 'udp', from, to, frameSize, ...many };
}
/** Flows are learned slowly enough for an upcall each. */
const LEARNING = { rate: 5000 };
/** The highest rate that loses nothing (RFC 2544). */
export const LOSSLESS: MeasureBody = {
  kind: 'rfc2544',
  tests: ['throughput'],
  duration: '10ms',
  resolution: 0.01,
  learning: LEARNING,
};
/**
 * One trial with as many frames as the line can, for 50 ms: long against the turns of a vhost worker. It passes whatever is lost, so
 * that it is the only one, and its run the one that is shown.
 */
export const OVERLOAD: MeasureBody = {
  kind: 'rfc2544',
  tests: ['throughput'],
  loss: 0.999,
  duration: '50ms',
  maxFrames: 10_000_000,
  learning: LEARNING,
};

// ---- answers ----------------------------------------------------------------------------------------------------
export function only(results: readonly JobResult[]): JobResult {
  const [result] = results;
  if (result === undefined) throw new Error('a scenario without results');
  return result;
}
export function runOf(results: readonly JobResult[]): JobRun {
  const run = only(results).runs[0];
  if (run === undefined) throw new Error('a job without runs');
  return run;
}
/** Throughput of RFC 2544, Mpps. */
export function losslessMpps(results: readonly JobResult[]): number {
  const found = only(results).rfc2544?.sizes[0]?.throughput;
  if (found === undefined) throw new Error('a job without throughput');
  return found.framesPerSecond / 1e6;
}
/** What came out while as much went in as the line can, Mpps. */
export function overloadMpps(results: readonly JobResult[]): number {
  if (only(results).rfc2544?.trials !== 1) throw new Error('a flood of one trial is expected');
  return receivedMpps(results);
}
export const receivedMpps = (results: readonly JobResult[]): number => runOf(results).virtual.framesPerSecond / 1e6;
/** Goodput of TCP, Gb/s. */
export function tcpGbps(results: readonly JobResult[]): number {
  const { tcp } = runOf(results);
  if (tcp === undefined) throw new Error('a run without TCP');
  return tcp.bitsPerSecond / 1e9;
}
