/** Runs a job from its document to its result, on this thread. Deterministic: the result depends on the job alone. */
import { costStamp } from '../../engine/cost-profile.ts';
import { COST_NAMES } from '../../engine/costs.ts';
import { NEVER } from '../../engine/timeline.ts';
import { planMemory } from '../build/memory.ts';
import { parseTopology } from '../document.ts';
import type { RunResult, TrafficSpec } from '../protocol.ts';
import { Refusal } from '../refusal.ts';
import type { Topology } from '../topology.ts';
import { BadTraffic, trafficSpec } from '../traffic-request.ts';
import { parseSpan } from '../units.ts';
import { World } from '../world.ts';
import { type JobProblem, type JobResult, type JobRun, type JobSpec, type JobTraffic, withJobRings } from './job.ts';
import { type MeasureBody, measureSpec } from './measure.ts';
import { type Measured, measure, TrialFailed } from './rfc2544-trials.ts';

/** Wall time of one turn, ms: how long a cancellation may wait. */
const TURN_MS = 20;

export interface JobWatch {
  /** True ends the job between two turns: runJob() throws JobCancelled. */
  readonly cancelled?: () => boolean;
  /** Told how many bytes a world will take, before it is built; those before it have ended. May throw JobExceeded. */
  readonly building?: (bytes: number) => void;
}
export class JobCancelled extends Error {}
/** It needs more of this machine than it may take, or has taken it: it came to no result. */
export class JobExceeded extends Error {
  readonly problem: JobProblem;
  constructor(what: 'memory' | 'time', detail: string) {
    super(detail);
    this.problem = { code: 'RINGSIDE_E_LIMIT', detail, pointer: `/limits/${what}` };
  }
}

class JobFailed extends Error {
  readonly problem: JobProblem;
  constructor(problem: JobProblem) {
    super(problem.detail);
    this.problem = problem;
  }
}
/** It was stopped at some event, which one depends on the machine: nothing of what it had come to is told. */
class JobStopped extends JobFailed {}

/** Never throws but JobCancelled, JobExceeded and what V8 throws where memory ends: what is wrong with the job is in its result. */
export function runJob(job: JobSpec, watch: JobWatch = {}): JobResult {
  return job.measure === undefined ? playJob(job, watch).result : measureJob(job, job.measure, watch);
}

export interface Played {
  /** As the traffic has left it; null where none could be built, or where it was stopped. */
  readonly world: World | null;
  readonly result: JobResult;
}
/** The traffic of a job, and the world that it has run in: who compares runs reads the rings. Throws as runJob(). */
export function playJob(job: JobSpec, watch: JobWatch = {}): Played {
  let world: World | null = null;
  const ids: string[] = [];
  let problem: JobProblem | null = null;
  try {
    world = build(topologyOf(job), watch);
    runTraffic(world, job, ids, watch);
    if (world.failed !== null) problem = { code: 'RINGSIDE_E_WORLD_FAILED', detail: world.failed };
  } catch (error) {
    if (error instanceof JobStopped) world = null;
    if (error instanceof JobFailed) problem = error.problem;
    else if (error instanceof Refusal) problem = ofRefusal(error);
    else throw error;
  }
  const runs = world === null ? [] : ids.map((id) => withoutWall(world.run(id)));
  const failed = runs.find((run) => run.state !== 'SUCCEEDED');
  if (problem === null && failed !== undefined)
    problem = { code: 'RINGSIDE_E_RUN_FAILED', detail: failed.reason ?? `${failed.id} is ${failed.state}` };
  const status = world?.status() ?? null;
  const result: JobResult = {
    ...named(job, problem),
    fingerprint: status?.fingerprint ?? '',
    virtualTimeSeconds: status?.virtualTimeSeconds ?? 0,
    events: status?.events ?? 0,
    conservation: status?.conservation ?? null,
    runs,
  };
  return { world, result };
}

/** A measurement comes to all of its answers or to none. */
function measureJob(job: JobSpec, body: MeasureBody, watch: JobWatch): JobResult {
  let measured: Measured | null = null;
  let problem: JobProblem | null = null;
  try {
    const topology = topologyOf(job);
    const spec = measureSpec(body, job.traffic);
    const streams = job.traffic.map((request, index) => specOf(request, index, true));
    measured = measure(spec, {
      streams,
      open: () => build(topology, watch),
      start: (world, index, id, change) => startStream(world, { ...streams[index]!, ...change, id }, index),
      tryStart: (world, index, id, change) => {
        try {
          world.startTraffic({ ...streams[index]!, ...change, id });
          return true;
        } catch (error) {
          if (error instanceof Refusal) return false;
          throw error;
        }
      },
      fault: (world, fault) => {
        try {
          world.fault(fault);
        } catch (error) {
          if (error instanceof Refusal) throw new JobFailed(ofRefusal(error, '/measure/reset'));
          throw error;
        }
      },
      settle: (world, events) => settle(world, job, watch, events),
    });
  } catch (error) {
    if (error instanceof JobFailed) problem = error.problem;
    else if (error instanceof TrialFailed) problem = { code: 'RINGSIDE_E_RUN_FAILED', detail: error.message };
    else if (error instanceof BadTraffic) problem = invalid(error.pointer, error.detail, error.expected);
    else throw error;
  }
  const nothing = { fingerprint: '', virtualTimeSeconds: 0, events: 0, conservation: null, runs: [] };
  return { ...named(job, problem), ...(measured ?? nothing) };
}

/** Which job it is the result of, and what went wrong. */
function named(job: JobSpec, problem: JobProblem | null): Pick<JobResult, 'state' | 'problem' | 'profile' | 'seed'> {
  return {
    state: problem === null ? 'SUCCEEDED' : 'FAILED',
    problem,
    profile: { name: job.profile.name, hash: costStamp(job.profile, job.document.costs ?? {}).hash },
    seed: job.document.seed ?? 1,
  };
}

function topologyOf(job: JobSpec): Topology {
  const { document, profile } = job;
  // The job's profile is the one that counts: a book of this machine may have another under that name.
  const profiles = new Map([[profile.name, profile]]);
  const parsed = parseTopology(
    { ...withJobRings(document), costProfile: profile.name },
    { name: document.name ?? 'job', knownCosts: COST_NAMES, profiles },
  );
  if (!parsed.ok) {
    const { pointer, detail } = parsed.faults[0]!;
    throw new JobFailed({ code: 'RINGSIDE_E_VALIDATION', detail, pointer: `/topology${pointer}` });
  }
  return parsed.topology;
}
function build(topology: Topology, watch: JobWatch): World {
  watch.building?.(planMemory(topology).layout.memoryBytes);
  const world = new World(topology);
  world.keepTimelines = false;
  return world;
}

/** Starts each request at its time, and runs until all have ended. */
function runTraffic(world: World, job: JobSpec, ids: string[], watch: JobWatch): void {
  const booted = world.now;
  const starts = job.traffic.map((request, index) => ({ request, index, at: booted + startOf(request, index) }));
  for (const { request, index, at } of starts.toSorted((a, b) => a.at - b.at || a.index - b.index)) {
    if (at > world.now) {
      world.clock({ untilSeconds: at / 1e9 });
      settle(world, job, watch);
      world.clock({ state: 'RUNNING' });
    }
    ids[index] = start(world, request, index);
  }
  settle(world, job, watch);
}
function startOf(request: JobTraffic, index: number): number {
  if (request.start === undefined) return 0;
  const parsed = parseSpan(request.start);
  if (parsed.ok) return parsed.value;
  throw new JobFailed(invalid(`/traffic/${index}/start`, parsed.detail, parsed.expected));
}
function start(world: World, request: JobTraffic, index: number): string {
  const id = `run-${index + 1}`;
  startStream(world, { ...specOf(request, index), id }, index);
  return id;
}
/** A request in the engine's units. */
function specOf({ start: _, ...request }: JobTraffic, index: number, measured = false): Omit<TrafficSpec, 'id'> {
  try {
    return trafficSpec(request, measured);
  } catch (error) {
    if (!(error instanceof BadTraffic)) throw error;
    throw new JobFailed(invalid(`/traffic/${index}${error.pointer}`, error.detail, error.expected));
  }
}
function startStream(world: World, spec: TrafficSpec, index: number): void {
  try {
    world.startTraffic(spec);
  } catch (error) {
    if (error instanceof Refusal) throw new JobFailed(ofRefusal(error, `/traffic/${index}`));
    throw error;
  }
}

/** Until nothing more happens, or a stop that was asked for is reached. `before`: events of the job's earlier worlds. */
function settle(world: World, job: JobSpec, watch: JobWatch, before = 0): void {
  for (;;) {
    const more = world.turn(TURN_MS) !== NEVER;
    if (before + world.machine.recorder.events > job.maxEvents)
      throw new JobStopped({
        code: 'RINGSIDE_E_RUN_FAILED',
        detail: `more than ${job.maxEvents} events have happened`,
      });
    if (!more) return;
    if (watch.cancelled?.() === true) throw new JobCancelled();
  }
}

function withoutWall({ wall: _, ...run }: RunResult): JobRun {
  return run;
}
function invalid(pointer: string, detail: string, expected: string): JobProblem {
  return { code: 'RINGSIDE_E_VALIDATION', detail: `${detail}; expected ${expected}`, pointer };
}
function ofRefusal({ error }: Refusal, at = ''): JobProblem {
  const code = error.code === 'CONFLICT' ? 'RINGSIDE_E_CONFLICT' : 'RINGSIDE_E_VALIDATION';
  return { code, detail: error.message, ...(error.field === undefined ? {} : { pointer: at + error.field }) };
}
