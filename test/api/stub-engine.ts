/**
 * An engine thread that speaks the protocol but simulates nothing: the rings, the run states and the refusals that the
 * API's tests need, when they need them. Traffic is five made-up events per frame; `rate` paces it by the wall clock, so
 * that a test can have a run that does not end. Seeds with a meaning: see SEED_*.
 */
import { parentPort } from 'node:worker_threads';
import type { ContextInfo, Place, WorldCatalog, WorldLayout } from '../../src/engine/catalog.ts';
import { costStamp } from '../../src/engine/cost-profile.ts';
import {
  BLOCK_EVENTS,
  CTL_BYTES,
  CTL_EVENTS,
  CTL_FINGERPRINT,
  CTL_FRAMES,
  CTL_SIZE,
  CTL_TIME,
} from '../../src/engine/event-ring.ts';
import {
  DP_INGRESS,
  GUEST_DELIVER,
  GUEST_XMIT,
  KIND_STRIDE,
  metaOf,
  PACKET_BORN,
  PACKET_BYTES,
} from '../../src/engine/events.ts';
import { latencyBytes } from '../../src/engine/latency.ts';
import type {
  ClockState,
  EngineCall,
  EngineError,
  EngineMessage,
  EngineRequest,
  FramesSpec,
  RunResult,
  TrafficSpec,
} from '../../src/lab/protocol.ts';
import type { Topology } from '../../src/lab/topology.ts';

/** The engine refuses the topology. */
const SEED_REFUSED = 666;
/** The world's first traffic fails an assertion. */
const SEED_ASSERTS = 667;
/** The thread ends while the world is built. */
const SEED_DIES = 668;
/** The thread hangs at the world's first traffic. */
const SEED_HANGS = 669;
/** The timelines of all runs have been given up. */
const SEED_FORGETS = 670;

const FRAME_BYTES = 64;

class Refusal extends Error {
  readonly error: EngineError;
  constructor(error: EngineError) {
    super(error.message);
    this.error = error;
  }
}

interface Run {
  result: RunResult;
  readonly count: number;
  readonly rate: number;
}

class StubWorld {
  readonly id: number;
  readonly topology: Topology;
  readonly catalog: WorldCatalog;
  readonly memory: SharedArrayBuffer;
  readonly runs = new Map<string, Run>();
  readonly commands: { virtualTimeSeconds: number; command: string; detail: string }[] = [];
  clock: 'RUNNING' | 'PAUSED' = 'RUNNING';
  deleted = false;
  private readonly view: DataView;
  private events = 0;
  private published = 0;
  private bytes = 0;
  private frames = 0;

  constructor(id: number, topology: Topology) {
    this.id = id;
    this.topology = topology;
    const { places, contexts } = namesOf(topology);
    const layout = layoutOf(topology, places.length, contexts.length);
    this.memory = new SharedArrayBuffer(layout.memoryBytes);
    this.view = new DataView(this.memory);
    const { name, seed, epochNs, costs, costProfile } = topology;
    const stamp = costStamp(costProfile, costs);
    this.catalog = { topology: name, seed, epochNs, places, contexts, layout, costs, costStamp: stamp };
  }

  get virtualTimeSeconds(): number {
    return (this.frames * 1000) / 1e9;
  }
  get eventCount(): number {
    return this.events;
  }
  get fingerprint(): string {
    return this.events.toString(16).padStart(16, '0');
  }

  /**
   * Records the events of `count` frames. Publishes them as the recorder does, as soon as a block is full: readers leave
   * half of a small ring to the writer, and one who runs further ahead writes over what they are reading.
   */
  send(count: number): void {
    const l = this.catalog.layout;
    const place = (type: Place['type']): number => this.catalog.places.findIndex((p) => p.type === type);
    const [driver, port, world] = [place('driver'), place('port'), place('world')];
    for (let i = 0; i < count; i++) {
      const frame = ++this.frames;
      this.event(PACKET_BORN, world, frame, FRAME_BYTES, 1);
      this.event(PACKET_BYTES, driver, frame, this.bytes / 8, FRAME_BYTES);
      new Uint8Array(this.memory, l.byteRing + (this.bytes % l.byteCapacity), FRAME_BYTES).fill(frame & 255);
      this.bytes += FRAME_BYTES;
      this.event(GUEST_XMIT, driver, frame, FRAME_BYTES, 0);
      this.event(DP_INGRESS, port, frame, FRAME_BYTES, 1);
      this.event(GUEST_DELIVER, driver, frame, FRAME_BYTES, 0);
      if (this.events - this.published >= BLOCK_EVENTS) this.publish();
    }
    this.publish();
  }

  private publish(): void {
    const l = this.catalog.layout;
    const control = new BigInt64Array(this.memory, l.control, CTL_SIZE / 8);
    this.view.setFloat64(l.control + CTL_TIME, this.frames * 1000, true);
    this.view.setFloat64(l.control + CTL_FRAMES, this.frames, true);
    Atomics.store(control, CTL_FINGERPRINT / 8, BigInt(this.events));
    Atomics.store(control, CTL_BYTES / 8, BigInt(this.bytes));
    Atomics.store(control, CTL_EVENTS / 8, BigInt(this.events));
    this.published = this.events;
  }

  private event(kind: number, place: number, frame: number, a: number, b: number): void {
    const l = this.catalog.layout;
    const at = this.events % l.eventCapacity;
    const block = Math.floor(at / BLOCK_EVENTS);
    this.view.setFloat64(l.eventTime + at * 8, frame * 1000, true);
    this.view.setUint32(l.eventMeta + at * 4, metaOf(kind, place, 0), true);
    this.view.setUint32(l.eventFrame + at * 4, frame, true);
    this.view.setUint32(l.eventA + at * 4, a, true);
    this.view.setUint32(l.eventB + at * 4, b, true);
    this.view.setFloat64(l.blockFrame + block * 8, frame, true);
    this.view.setFloat64(l.blockBytes + block * 8, this.bytes + FRAME_BYTES, true);
    const counter = l.counters + (place * KIND_STRIDE + kind) * 16;
    this.view.setFloat64(counter, this.view.getFloat64(counter, true) + 1, true);
    this.view.setFloat64(counter + 8, this.view.getFloat64(counter + 8, true) + a, true);
    this.events++;
  }
}

function namesOf(topology: Topology): { places: Place[]; contexts: ContextInfo[] } {
  const places: Place[] = [];
  const contexts: ContextInfo[] = [];
  const add = (name: string, type: Place['type'], labels: Partial<Place> = {}): void => {
    places.push({ id: places.length, name, type, description: name, order: places.length, ...labels });
  };
  for (const host of topology.hosts) {
    for (const guest of host.guests) {
      const id = contexts.length;
      contexts.push({ id, name: `${guest.name}/vcpu0`, kind: 'vcpu', core: id, host: host.name, polls: false });
      for (const nic of guest.nics) {
        const labels = { host: host.name, guest: guest.name, nic: nic.name };
        add(`${guest.name}/${nic.name}`, 'driver', labels);
        add(`${nic.bridge}/${guest.name}.${nic.name}`, 'port', { ...labels, bridge: nic.bridge });
      }
    }
  }
  add('world', 'world');
  if (contexts.length === 0) contexts.push({ id: 0, name: 'wire', kind: 'wire', core: -1, host: 'h1', polls: false });
  return { places, contexts };
}

function layoutOf(topology: Topology, places: number, contexts: number): WorldLayout {
  let at = 0;
  const take = (bytes: number): number => {
    const start = at;
    at += (bytes + 7) & ~7;
    return start;
  };
  const { eventCapacity, byteCapacity } = topology;
  const blocks = eventCapacity / BLOCK_EVENTS;
  const regions = {
    control: take(CTL_SIZE),
    eventTime: take(eventCapacity * 8),
    eventMeta: take(eventCapacity * 4),
    eventFrame: take(eventCapacity * 4),
    eventA: take(eventCapacity * 4),
    eventB: take(eventCapacity * 4),
    blockFrame: take(blocks * 8),
    blockBytes: take(blocks * 8),
    byteRing: take(byteCapacity),
    counters: take(places * KIND_STRIDE * 16),
    busy: take(contexts * 8),
    idlePolls: take(contexts * 8),
    latency: take(latencyBytes(places)),
    placeRoom: places,
    contextRoom: contexts,
    growth: take(64),
    growthBytes: 64,
  };
  return { ...regions, eventCapacity, byteCapacity, memoryBytes: at };
}

const worlds = new Map<number, StubWorld>();

function post(message: EngineMessage): void {
  parentPort?.postMessage(message);
}

function worldOf(request: EngineRequest): StubWorld {
  const world = worlds.get(request.world);
  if (world === undefined) throw new Refusal({ code: 'NOT_FOUND', message: 'the world is gone' });
  return world;
}

function startRun(world: StubWorld, spec: TrafficSpec | FramesSpec): RunResult {
  if (world.topology.seed === SEED_ASSERTS) {
    post({ type: 'failed', world: world.id, reason: 'assertion failed: the stub was told to' });
    throw new Refusal({ code: 'FAILED', message: 'assertion failed: the stub was told to' });
  }
  if (world.topology.seed === SEED_HANGS) for (;;);
  const known = new Set(world.catalog.places.filter((p) => p.type !== 'world').map((p) => p.name));
  const from = 'from' in spec ? spec.from : spec.at;
  const to = 'to' in spec ? spec.to : null;
  const fields = [['from' in spec ? '/from' : '/at', from] as const, ['/to', to] as const];
  for (const [field, name] of fields) {
    if (name !== null && !known.has(name)) {
      throw new Refusal({ code: 'NOT_FOUND', message: `there is no end '${name}'`, field });
    }
  }
  if (from === to) throw new Refusal({ code: 'INVALID', message: `${from} is both ends`, field: '/to' });
  const count = 'count' in spec ? spec.count : spec.lengths.length;
  const rate = 'rate' in spec ? spec.rate : 0;
  const run: Run = { result: emptyResult(spec.id, spec.kind, from, to), count, rate };
  world.runs.set(spec.id, run);
  world.commands.push({ virtualTimeSeconds: world.virtualTimeSeconds, command: 'traffic', detail: spec.id });
  setImmediate(advance, world, run);
  return run.result;
}

/** Sends a part of the run, then lets other messages through. */
function advance(world: StubWorld, run: Run): void {
  if (world.deleted || run.result.state === 'CANCELLED') return;
  if (world.clock === 'PAUSED') {
    setTimeout(advance, 5, world, run);
    return;
  }
  const left = run.count - run.result.sent;
  const part = Math.min(left, run.rate === 0 ? 4000 : Math.ceil(run.rate * 0.005));
  world.send(part);
  const sent = run.result.sent + part;
  run.result = { ...run.result, state: sent === run.count ? 'SUCCEEDED' : 'RUNNING', sent, received: sent };
  if (sent === run.count) post({ type: 'run', world: world.id, result: run.result });
  else if (run.rate === 0) setImmediate(advance, world, run);
  else setTimeout(advance, 5, world, run);
}

function emptyResult(id: string, kind: string, from: string, to: string | null): RunResult {
  return {
    id,
    kind,
    state: 'PENDING',
    from,
    to,
    sent: 0,
    received: 0,
    replicated: 0,
    duplicated: 0,
    elsewhere: 0,
    dropped: {},
    virtual: {
      startSeconds: 0,
      durationSeconds: 0,
      framesPerSecond: 0,
      frameBitsPerSecond: 0,
      lineBitsPerSecond: 0,
      latencySeconds: { p50: 0, p90: 0, p99: 0, max: 0 },
    },
    perFrame: {
      exitsKernel: 0,
      exitsUserspace: 0,
      kicks: 0,
      kicksSuppressed: 0,
      interrupts: 0,
      interruptsSuppressed: 0,
      copies: 0,
      copiedBytes: 0,
      guestCopies: 0,
      dmaTransfers: 0,
      syscalls: 0,
      wakeups: 0,
    },
    shared: false,
    exitsByReason: {},
    queues: [],
    contexts: [],
    wall: { durationSeconds: 0, framesPerSecond: 0 },
    costs: { profile: 'haswell-2.4', hash: '0123456789abcdef', overrides: 0 },
    frames: { first: 0, last: 0 },
  };
}

function runOf(world: StubWorld, id: string): Run {
  const run = world.runs.get(id);
  if (run === undefined) throw new Refusal({ code: 'NOT_FOUND', message: `there is no run '${id}'` });
  return run;
}

function clockOf(world: StubWorld): ClockState {
  return {
    mode: 'work',
    factor: 1,
    state: world.clock,
    virtualTimeSeconds: world.virtualTimeSeconds,
    idle: true,
    deterministic: true,
    events: world.eventCount,
    waitingFor: 0,
  };
}

function answer(request: EngineRequest): unknown {
  if (request.op === 'create') {
    const { topology } = request;
    if (topology.seed === SEED_REFUSED)
      throw new Refusal({ code: 'INVALID', message: 'the stub refuses', field: '/seed' });
    if (topology.seed === SEED_DIES) process.exit(7);
    const world = new StubWorld(request.world, topology);
    worlds.set(request.world, world);
    return { memory: world.memory, catalog: world.catalog };
  }
  const world = worldOf(request);
  switch (request.op) {
    case 'open':
      return null;
    case 'ovsMetrics':
      return [];
    case 'delete':
      world.deleted = true;
      worlds.delete(world.id);
      return null;
    case 'status':
      return {
        state: world.clock,
        virtualTimeSeconds: world.virtualTimeSeconds,
        fingerprint: world.fingerprint,
        events: world.eventCount,
        endpoints: [],
        conservation: {
          injected: 0,
          replicated: 0,
          duplicated: 0,
          segments: 0,
          delivered: 0,
          consumed: 0,
          dropped: {},
          segmented: 0,
          merged: 0,
          inFlight: 0,
          holds: true,
        },
        journal: world.commands,
      };
    case 'traffic':
    case 'frames':
      return startRun(world, request.spec);
    case 'run':
      return runOf(world, request.run).result;
    case 'timeline': {
      runOf(world, request.run);
      if (world.topology.seed === SEED_FORGETS) return null;
      const none = new Float64Array(0);
      return { timesNs: none, events: none, counters: new Uint32Array(0), values: none, contexts: none, gauges: none };
    }
    case 'runs':
      return [...world.runs.values()].map((run) => run.result);
    case 'cancel': {
      const run = runOf(world, request.run);
      if (run.result.state === 'RUNNING' || run.result.state === 'PENDING') {
        run.result = { ...run.result, state: 'CANCELLED' };
        post({ type: 'run', world: world.id, result: run.result });
      }
      return run.result;
    }
    case 'clock':
      if (request.command?.state !== undefined) world.clock = request.command.state;
      return clockOf(world);
    case 'memory':
      if (request.address + request.length > 16 * 1024 * 1024) {
        throw new Refusal({ code: 'INVALID', message: 'outside guest memory', field: '/address' });
      }
      return { bytes: new Uint8Array(request.length).fill(0xa5) };
    default:
      throw new Refusal({ code: 'NOT_FOUND', message: `the stub has no ${request.op}` });
  }
}

parentPort?.on('message', (call: EngineCall) => {
  try {
    post({ type: 'answer', id: call.id, ok: true, value: answer(call.request) });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    post({ type: 'answer', id: call.id, ok: false, error: error.error });
  }
});
