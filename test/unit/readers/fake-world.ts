/**
 * A world's memory written by hand: what the engine's recorder does, as plainly as possible, so that readers are tested
 * against the layout and not against the recorder. Frame ids and byte positions can start anywhere, e.g. just below the
 * 32-bit wrap.
 */
import type { ContextInfo, Place, WorldCatalog, WorldLayout } from '../../../src/engine/catalog.ts';
import {
  BLOCK_EVENTS,
  CTL_BYTES,
  CTL_EVENTS,
  CTL_FRAMES,
  CTL_SIZE,
  CTL_TIME,
  RingReader,
} from '../../../src/engine/event-ring.ts';
import { KIND_STRIDE, kindOf, metaOf, PACKET_BYTES, placeOf } from '../../../src/engine/events.ts';
import { CatalogGrowth } from '../../../src/engine/growth.ts';
import { latencyBytes } from '../../../src/engine/latency.ts';

/** Places and contexts that a world can gain, and room for the lines that say so. */
const SPARE = 8;
const GROWTH_BYTES = 16384;

export interface FakeOptions {
  readonly places?: readonly Place[];
  readonly contexts?: readonly ContextInfo[];
  readonly eventCapacity?: number;
  readonly byteCapacity?: number;
  /** Frame ids given out, and bytes stored (a multiple of 8), before the world begins. */
  readonly firstFrame?: number;
  readonly firstByte?: number;
  readonly epochNs?: string;
  readonly topology?: string;
}

/** Two guests on vhost-net behind one bridge, named as the presets name them. */
export const PLACES: readonly Place[] = [
  place(0, 'world', 'world', 99),
  place(1, 'a/net0', 'driver', 10, { guest: 'a', nic: 'net0', backend: 'vhost-net' }),
  place(2, 'a/net0/tx0', 'queue', 20, { guest: 'a', nic: 'net0', backend: 'vhost-net', queue: 'tx0', queueIndex: 1 }),
  place(3, 'a/net0/rx0', 'queue', 80, { guest: 'a', nic: 'net0', backend: 'vhost-net', queue: 'rx0', queueIndex: 0 }),
  place(4, 'vhost-1201', 'backend', 30, { guest: 'a', nic: 'net0', backend: 'vhost-net' }),
  place(5, 'a/vcpu0', 'vcpu', 5, { guest: 'a' }),
  place(6, 'tap-a', 'tap', 40, { guest: 'a', nic: 'net0', backend: 'vhost-net' }),
  place(7, 'br0', 'bridge', 60, { bridge: 'br0' }),
  place(8, 'br0/a.net0', 'port', 50, { bridge: 'br0', port: 'a.net0' }),
  place(9, 'br0/b.net0', 'port', 65, { bridge: 'br0', port: 'b.net0' }),
  place(10, 'tap-b', 'tap', 70, { guest: 'b', nic: 'net0', backend: 'vhost-net' }),
  place(11, 'b/net0/rx0', 'queue', 81, { guest: 'b', nic: 'net0', backend: 'vhost-net', queue: 'rx0', queueIndex: 0 }),
  place(12, 'b/net0', 'driver', 90, { guest: 'b', nic: 'net0', backend: 'vhost-net' }),
  place(13, 'vhost-1202', 'backend', 75, { guest: 'b', nic: 'net0', backend: 'vhost-net' }),
  place(14, 'b/vcpu0', 'vcpu', 95, { guest: 'b' }),
  place(15, 'b/net0/tx0', 'queue', 21, { guest: 'b', nic: 'net0', backend: 'vhost-net', queue: 'tx0', queueIndex: 1 }),
];
export const CONTEXTS: readonly ContextInfo[] = [
  { id: 0, name: 'a/vcpu0', kind: 'vcpu', core: 0, host: 'h1', guest: 'a', polls: false },
  { id: 1, name: 'vhost-1201', kind: 'vhost', core: 1, host: 'h1', guest: 'a', backend: 'vhost-net', polls: false },
  { id: 2, name: 'vhost-1202', kind: 'vhost', core: 2, host: 'h1', guest: 'b', backend: 'vhost-net', polls: false },
  { id: 3, name: 'b/vcpu0', kind: 'vcpu', core: 3, host: 'h1', guest: 'b', polls: false },
];

export function place(
  id: number,
  name: string,
  type: Place['type'],
  order: number,
  labels: Partial<Place> = {},
): Place {
  return { id, name, type, order, description: `what ${name} is`, host: 'h1', ...labels };
}

export class FakeWorld {
  readonly reader: RingReader;
  readonly catalog: WorldCatalog;
  readonly layout: WorldLayout;
  /** What the world gains is written here; `catalog` stays as it was at the beginning. */
  readonly growth: CatalogGrowth;
  /** Frame ids given out, byte position, events recorded, virtual time in ns. */
  frames: number;
  bytes: number;
  events = 0;
  now = 0;
  private readonly view: DataView;
  private readonly memory: Uint8Array;

  constructor(options: FakeOptions = {}) {
    const places = options.places ?? PLACES;
    const contexts = options.contexts ?? CONTEXTS;
    const eventCapacity = options.eventCapacity ?? 1 << 16;
    const byteCapacity = options.byteCapacity ?? 1 << 22;
    let at = 0;
    const region = (size: number): number => {
      const start = at;
      at += (size + 7) & ~7;
      return start;
    };
    const layout = {
      control: region(CTL_SIZE),
      eventCapacity,
      eventTime: region(eventCapacity * 8),
      eventMeta: region(eventCapacity * 4),
      eventFrame: region(eventCapacity * 4),
      eventA: region(eventCapacity * 4),
      eventB: region(eventCapacity * 4),
      blockFrame: region((eventCapacity / BLOCK_EVENTS) * 8),
      blockBytes: region((eventCapacity / BLOCK_EVENTS) * 8),
      byteRing: region(byteCapacity),
      byteCapacity,
      counters: region((places.length + SPARE) * KIND_STRIDE * 16),
      busy: region((contexts.length + SPARE) * 8),
      idlePolls: region((contexts.length + SPARE) * 8),
      latency: region(latencyBytes(places.length + SPARE)),
      placeRoom: places.length + SPARE,
      contextRoom: contexts.length + SPARE,
      growth: region(GROWTH_BYTES),
      growthBytes: GROWTH_BYTES,
    };
    this.layout = { ...layout, memoryBytes: at };
    const shared = new SharedArrayBuffer(at);
    this.view = new DataView(shared);
    this.memory = new Uint8Array(shared);
    this.catalog = {
      topology: options.topology ?? 't1',
      seed: 1,
      epochNs: options.epochNs ?? '1767225600000000000',
      places,
      contexts,
      layout: this.layout,
      costs: {},
      costStamp: { profile: 'haswell-2.4', hash: '0123456789abcdef', overrides: 0 },
    };
    this.frames = options.firstFrame ?? 0;
    this.bytes = options.firstByte ?? 0;
    this.growth = new CatalogGrowth(shared, this.layout);
    this.reader = new RingReader(shared, this.catalog);
    this.publish();
  }

  /** Gives out a frame id; ids whose low half is 0 are left out, as 0 means no frame. */
  newFrame(): number {
    this.frames++;
    if (this.frames % 2 ** 32 === 0) this.frames++;
    return this.frames;
  }

  /** Records an event; not visible before publish(). */
  event(context: number, time: number, kind: number, placeId: number, frame = 0, a = 0, b = 0): void {
    const l = this.layout;
    const i = this.events % l.eventCapacity;
    const meta = metaOf(kind, placeId, context);
    this.view.setFloat64(l.eventTime + i * 8, time, true);
    this.view.setUint32(l.eventMeta + i * 4, meta, true);
    this.view.setUint32(l.eventFrame + i * 4, frame % 2 ** 32, true);
    this.view.setUint32(l.eventA + i * 4, a % 2 ** 32, true);
    this.view.setUint32(l.eventB + i * 4, b % 2 ** 32, true);
    const counter = l.counters + (placeOf(meta) * KIND_STRIDE + kindOf(meta)) * 16;
    this.view.setFloat64(counter, this.view.getFloat64(counter, true) + 1, true);
    this.view.setFloat64(counter + 8, this.view.getFloat64(counter + 8, true) + (a % 2 ** 32), true);
    this.events++;
    if (time > this.now) this.now = time;
    if (this.events % BLOCK_EVENTS === 0) this.publish();
  }

  /** Stores a version of a frame's bytes and records it. */
  version(context: number, time: number, placeId: number, frame: number, data: Uint8Array, kind = PACKET_BYTES): void {
    const l = this.layout;
    const size = (data.length + 7) & ~7;
    if ((this.bytes % l.byteCapacity) + size > l.byteCapacity) {
      this.bytes = Math.ceil(this.bytes / l.byteCapacity) * l.byteCapacity;
    }
    const position = this.bytes;
    this.memory.set(data, l.byteRing + (position % l.byteCapacity));
    this.bytes = position + size;
    this.event(context, time, kind, placeId, frame, position / 8, data.length);
  }

  setBusy(context: number, ns: number, idlePolls = 0): void {
    this.view.setFloat64(this.layout.busy + context * 8, ns, true);
    this.view.setFloat64(this.layout.idlePolls + context * 8, idlePolls, true);
  }

  publish(): void {
    const l = this.layout;
    const block = Math.floor((Math.max(0, this.events - 1) % l.eventCapacity) / BLOCK_EVENTS);
    this.view.setFloat64(l.blockFrame + block * 8, this.frames, true);
    this.view.setFloat64(l.blockBytes + block * 8, this.bytes, true);
    this.view.setFloat64(l.control + CTL_TIME, this.now, true);
    this.view.setFloat64(l.control + CTL_FRAMES, this.frames, true);
    this.view.setBigUint64(l.control + CTL_BYTES, BigInt(this.bytes), true);
    this.view.setBigUint64(l.control + CTL_EVENTS, BigInt(this.events), true);
  }
}

/** A frame of `length` bytes that can be told from every other by its contents. */
export function frameBytes(frame: number, length: number, version = 0): Uint8Array {
  const data = new Uint8Array(length);
  const view = new DataView(data.buffer);
  data.set([0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1, 0x88, 0xb5]);
  for (let i = 14; i < length; i++) data[i] = (frame * 31 + version * 7 + i) & 0xff;
  if (length >= 26) {
    view.setFloat64(14, frame);
    view.setUint32(22, version);
  }
  return data;
}
