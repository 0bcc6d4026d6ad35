/** Drives a world from a test, in process: build it from a document, start traffic, run it out, watch every event. */
import assert from 'node:assert/strict';
import * as E from '../../../src/engine/events.ts';
import { NEVER } from '../../../src/engine/timeline.ts';
import type { Machine } from '../../../src/lab/build/machine.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import type { RunResult, TrafficSpec } from '../../../src/lab/protocol.ts';
import { World } from '../../../src/lab/world.ts';

export type Backend = 'virtio-net' | 'vhost-net' | 'vhost-user';
export const BACKENDS: readonly Backend[] = ['virtio-net', 'vhost-net', 'vhost-user'];
export const full = process.env['RINGSIDE_FULL'] === '1';

/** Small rings: a world of its own for each test costs little. */
const RECORDER = { events: 1 << 16, bytes: '4MiB' };

export function makeWorld(document: object): World {
  const parsed = parseTopology({ recorder: RECORDER, ...document }, { name: 't' });
  assert.ok(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.faults));
  return new World(parsed.topology);
}

export interface PairOptions {
  /** Fields of both NICs. */
  readonly nic?: object;
  readonly host?: object;
  readonly document?: object;
  /** Names of the guests; 10.0.0.1/24 and so on. */
  readonly guests?: readonly string[];
}
/** Guests on one bridge, as in the presets. */
export function pairDocument(backend: Backend, options: PairOptions = {}): object {
  const driver = backend === 'vhost-user' ? { driver: 'virtio-pmd' } : {};
  const guests = (options.guests ?? ['a', 'b']).map((name, i) => ({
    name,
    nics: [{ name: 'net0', backend, ...driver, addresses: [`10.0.0.${i + 1}/24`], ...options.nic }],
  }));
  const bridges = [{ name: 'br0', datapath: backend === 'vhost-user' ? 'netdev' : 'system' }];
  return { hosts: [{ name: 'h1', bridges, guests, ...options.host }], ...options.document };
}

/** Wire, NIC, guest that forwards, NIC, wire. */
export function pvpDocument(app: 'macswap' | 'io' = 'macswap', nic: object = {}, hostNic: object = {}): object {
  const guest = { name: 'net0', backend: 'vhost-user', driver: 'virtio-pmd', addresses: ['10.0.0.1/24'], ...nic };
  return {
    hosts: [
      {
        name: 'h1',
        bridges: [{ name: 'br0', datapath: 'netdev' }],
        nics: [{ name: 'eth0', speed: '25Gbps', ...hostNic }],
        guests: [{ name: 'a', app, nics: [guest] }],
      },
    ],
  };
}

export interface XdpOptions {
  readonly nic?: object;
  readonly guest?: object;
  readonly document?: object;
}
/** Wire, NIC, switch, guest whose kernel sends back, and the same way again. */
export function xdpDocument(backend: Backend, { nic, guest, document }: XdpOptions = {}): object {
  return {
    hosts: [
      {
        name: 'h1',
        cores: 16,
        bridges: [{ name: 'br0', datapath: backend === 'vhost-user' ? 'netdev' : 'system' }],
        nics: [{ name: 'eth0', speed: '25Gbps' }],
        guests: [{ name: 'a', app: 'xdp-tx', nics: [{ name: 'net0', backend, ...nic }], ...guest }],
      },
    ],
    ...document,
  };
}

/** Two hosts with a guest each and a cable between them. */
export function twoHostsDocument(backend: Backend, link: object = {}, hostNic: object = {}): object {
  const driver = backend === 'vhost-user' ? { driver: 'virtio-pmd' } : {};
  const host = (name: string, i: number): object => ({
    name,
    bridges: [{ name: 'br0', datapath: backend === 'vhost-user' ? 'netdev' : 'system' }],
    nics: [{ name: 'eth0', speed: '10Gbps', ...hostNic }],
    guests: [{ name: 'a', nics: [{ name: 'net0', backend, ...driver, addresses: [`10.0.0.${i}/24`] }] }],
  });
  return { hosts: [host('h1', 1), host('h2', 2)], links: [{ ends: ['h1/eth0', 'h2/eth0'], ...link }] };
}

let ids = 0;
export function udp(from: string, to: string, options: Partial<TrafficSpec> = {}): TrafficSpec {
  const id = `r${++ids}`;
  return { id, kind: 'udp', from, to, frameSize: 64, count: 100, rate: 0, generator: null, flows: 1, ...options };
}
export function ping(from: string, to: string, options: Partial<TrafficSpec> = {}): TrafficSpec {
  return udp(from, to, { kind: 'ping', frameSize: 98, ...options });
}

/** Runs until nothing is left to do. */
export function runOut(world: World, budgetMs = 50): void {
  while (world.turn(budgetMs) === 0);
}
export function traffic(world: World, ...specs: TrafficSpec[]): RunResult[] {
  for (const spec of specs) world.startTraffic(spec);
  runOut(world);
  return specs.map((spec) => world.run(spec.id));
}
/** One run, alone, in a world of its own or an old one. */
export function runOne(world: World, spec: TrafficSpec): RunResult {
  return traffic(world, spec)[0]!;
}

export interface SeenEvent {
  readonly kind: number;
  readonly place: number;
  readonly context: number;
  readonly frame: number;
  readonly a: number;
  readonly b: number;
  readonly time: number;
}
/** Calls `see` with each event at the moment at which it is recorded. */
export function watch(machine: Machine, see: (event: SeenEvent) => void): void {
  const { recorder } = machine;
  const event = recorder.event.bind(recorder);
  recorder.event = (meta, frame, a, b) => {
    event(meta, frame, a, b);
    const m = meta >>> 0;
    const at = { kind: E.kindOf(m), place: E.placeOf(m), context: E.contextOf(m) };
    see({ ...at, frame, a: a >>> 0, b: b >>> 0, time: recorder.stamp[0]! });
  };
}
/** Events of the kinds asked for, as they come. */
export function collect(machine: Machine, ...kinds: number[]): SeenEvent[] {
  const out: SeenEvent[] = [];
  watch(machine, (e) => {
    if (kinds.includes(e.kind)) out.push(e);
  });
  return out;
}
export function placeId(machine: Machine, name: string): number {
  const place = machine.catalog.places.find((p) => p.name === name);
  assert.ok(place, `there is no place ${name}`);
  return place.id;
}

/** Runs step by step, calling `check` after every single one. Returns the number of steps. */
export function stepThrough(world: World, check: () => void, most = 20_000_000): number {
  const { scheduler } = world.machine;
  let steps = 0;
  while (steps < most && scheduler.earliest() !== NEVER) {
    scheduler.run(NEVER, 1);
    steps++;
    check();
  }
  return steps;
}

/** Where frames are, counted apart from the engine's own account: by events seen, and in rings, queues and packets. */
export class FrameAccount {
  injected: number;
  replicated: number;
  segments: number;
  ended: number;
  readonly dropped = new Map<string, number>();
  private readonly machine: Machine;

  constructor(world: World) {
    this.machine = world.machine;
    const { conservation } = world.status();
    this.injected = conservation.injected;
    this.replicated = conservation.replicated;
    this.segments = conservation.segments;
    this.ended = conservation.delivered + conservation.consumed + conservation.segmented + conservation.merged;
    for (const [kind, n] of Object.entries(conservation.dropped)) this.dropped.set(kind, n);
    this.ended += [...this.dropped.values()].reduce((sum, n) => sum + n, 0);
    watch(world.machine, ({ kind }) => {
      const k = E.KIND_BY_ID[kind]!;
      if (k.role === 'born') this.injected++;
      else if (kind === E.PACKET_SEGMENT) this.segments++;
      else if (k.role === 'cloned') this.replicated++;
      else if (k.role === 'delivered' || k.role === 'consumed' || k.role === 'replaced') this.ended++;
      else if (k.role === 'dropped') {
        this.ended++;
        this.dropped.set(k.name, (this.dropped.get(k.name) ?? 0) + 1);
      }
    });
  }

  /** Packets of the host, and frames in guests' rings. */
  get inFlight(): number {
    let n = this.machine.pool.live;
    for (const { nics } of this.machine.guests) {
      for (const { nic, wiring } of nics) {
        for (const [i, { pair }] of wiring.pairs.entries()) {
          if (!nic.pairs[i]!.up) continue;
          n += (nic.pairs[i]!.tx.avail_idx_shadow - pair.tx.last_avail_idx) & 0xffff;
          n += (pair.rx.used_idx - nic.pairs[i]!.rx.last_used_idx) & 0xffff;
        }
      }
    }
    return n;
  }
  check(): void {
    const { inFlight } = this;
    if (this.injected + this.replicated + this.segments === this.ended + inFlight) return;
    assert.fail(
      `${this.injected} injected + ${this.replicated} replicated + ${this.segments} segments, but ${this.ended} ended and ${inFlight} under way`,
    );
  }
}
