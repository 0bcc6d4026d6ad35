/**
 * The event ring and the byte ring as they lie in a world's shared memory, and the reader's half.
 *
 * The engine writes (recorder.ts) and publishes once per block; readers copy, then look again at what the engine has
 * published and discard what was overwritten meanwhile. Readers write nothing and make nobody wait, unless they hold
 * (hold.ts).
 *
 * Frame ids and byte positions are recorded as their low 32 bits; each block of BLOCK_EVENTS events keeps the high end
 * (blockFrame, blockBytes), from which readers restore full numbers.
 */
import type { WorldCatalog, WorldLayout } from './catalog.ts';
import { KIND_STRIDE } from './events.ts';
import { CatalogFollower } from './growth.ts';
import { GAUGES, LATENCY_GAUGES, LATENCY_HISTOGRAMS, LATENCY_SLOTS, LATENCY_WORDS } from './latency.ts';

/** Events per block: the unit of hashing, counting and publishing. */
export const BLOCK_EVENTS = 2048;

// Control block: byte offsets from layout.control. The 64-bit words are written with Atomics.
/** Number of events published since the world began (u64). */
export const CTL_EVENTS = 0;
/** Byte ring position, in bytes, up to which bytes are published (u64, multiple of 8). */
export const CTL_BYTES = 8;
/** Fingerprint: order-free sum of mixed events (u64). */
export const CTL_FINGERPRINT = 16;
/** Virtual time in ns, up to which the world has been run (f64). */
export const CTL_TIME = 24;
/** Highest frame id given out (f64). */
export const CTL_FRAMES = 32;
/** Sequence number of the first event after the block that is being written (u64): written before the block is. */
export const CTL_ENTERED = 40;
/** Byte ring position up to which bytes may have been written, published or not (u64): announced before they are. */
export const CTL_BYTES_ENTERED = 48;
/** Number of holds that are taken (u64, see hold.ts). */
export const CTL_HOLDS_TAKEN = 56;
/** Holds: HOLDS words, each 0 = free, else 1 + the sequence number of the first event that its reader has not read (u64). */
export const CTL_HOLDS = 64;
export const HOLDS = 16;
/** 1 while the world rests: idle, paused, waiting for a reader or for wall time. Nothing earlier is on its way then (u64). */
export const CTL_RESTING = CTL_HOLDS + 8 * HOLDS;
export const CTL_SIZE = CTL_RESTING + 8;

/**
 * What readers leave to the writer, who runs ahead of what is published: a block that is about to be published, and the
 * slice that filled it, with the bytes that these store. Of a small ring at most half.
 */
const EVENT_MARGIN = 8 * BLOCK_EVENTS;
const BYTE_MARGIN = 8 << 20;
export function eventMargin(layout: WorldLayout): number {
  return Math.min(EVENT_MARGIN, layout.eventCapacity / 2);
}
export function byteMargin(layout: WorldLayout): number {
  return Math.min(BYTE_MARGIN, layout.byteCapacity / 2);
}

/** A block of events copied out of the ring; valid until the next call of the reader that filled it. */
export interface EventBlock {
  /** Sequence number of the first event: events are numbered from 0 in the order in which they were recorded. */
  first: number;
  count: number;
  readonly time: Float64Array;
  readonly meta: Uint32Array;
  /** Full frame ids (restored), 0 = none. */
  readonly frame: Float64Array;
  readonly a: Uint32Array;
  readonly b: Uint32Array;
  /** Restored byte ring position (bytes) for PACKET_BYTES events is low `a` * 8; see `bytePosition`. */
  blockFrame: number;
  blockBytes: number;
}

/** The full number below or equal to `high` whose low 32 bits are `low`. */
export function restore(low: number, high: number): number {
  const n = Math.floor(high / 4294967296) * 4294967296 + low;
  return n > high ? n - 4294967296 : n;
}

/** The full number nearest to `near` whose low 32 bits are `low`. */
export function restoreNear(low: number, near: number): number {
  return restore(low, near + 2147483648);
}

/** Reads one world's rings. Cheap to make; keeps copies of at most BLOCK_EVENTS events. */
export class RingReader {
  declare readonly layout: WorldLayout;
  declare private readonly follower: CatalogFollower;
  declare private readonly time: Float64Array;
  declare private readonly meta: Uint32Array;
  declare private readonly frame: Uint32Array;
  declare private readonly a: Uint32Array;
  declare private readonly b: Uint32Array;
  declare private readonly blockFrame: Float64Array;
  declare private readonly blockBytes: Float64Array;
  declare private readonly control64: BigInt64Array;
  declare private readonly controlF: Float64Array;
  declare private readonly bytes: Uint8Array;
  declare readonly counters: Float64Array;
  declare readonly busy: Float64Array;
  declare readonly idlePolls: Float64Array;
  /** With room for places and contexts that come later. Latency histograms and gauges: see latency.ts. */
  declare readonly histograms: Float64Array;
  declare readonly gauges: Float64Array;
  declare readonly block: EventBlock;

  constructor(memory: SharedArrayBuffer, catalog: WorldCatalog) {
    const l = catalog.layout;
    this.follower = new CatalogFollower(memory, catalog);
    this.layout = l;
    this.time = new Float64Array(memory, l.eventTime, l.eventCapacity);
    this.meta = new Uint32Array(memory, l.eventMeta, l.eventCapacity);
    this.frame = new Uint32Array(memory, l.eventFrame, l.eventCapacity);
    this.a = new Uint32Array(memory, l.eventA, l.eventCapacity);
    this.b = new Uint32Array(memory, l.eventB, l.eventCapacity);
    this.blockFrame = new Float64Array(memory, l.blockFrame, l.eventCapacity / BLOCK_EVENTS);
    this.blockBytes = new Float64Array(memory, l.blockBytes, l.eventCapacity / BLOCK_EVENTS);
    this.control64 = new BigInt64Array(memory, l.control, CTL_SIZE / 8);
    this.controlF = new Float64Array(memory, l.control, CTL_SIZE / 8);
    this.bytes = new Uint8Array(memory, l.byteRing, l.byteCapacity);
    this.counters = new Float64Array(memory, l.counters, l.placeRoom * KIND_STRIDE * 2);
    this.busy = new Float64Array(memory, l.busy, l.contextRoom);
    this.idlePolls = new Float64Array(memory, l.idlePolls, l.contextRoom);
    const words = l.placeRoom * LATENCY_SLOTS * LATENCY_WORDS;
    this.histograms = new Float64Array(memory, l.latency + LATENCY_HISTOGRAMS, words);
    this.gauges = new Float64Array(memory, l.latency + LATENCY_GAUGES, GAUGES);
    this.block = {
      first: 0,
      count: 0,
      time: new Float64Array(BLOCK_EVENTS),
      meta: new Uint32Array(BLOCK_EVENTS),
      frame: new Float64Array(BLOCK_EVENTS),
      a: new Uint32Array(BLOCK_EVENTS),
      b: new Uint32Array(BLOCK_EVENTS),
      blockFrame: 0,
      blockBytes: 0,
    };
  }

  /**
   * What the numbers mean, as it stands now: a new object whenever that has changed, with lists that are the same as long as
   * the reader lives and grow. Whatever place or context an event of `read` names is in them.
   */
  get catalog(): WorldCatalog {
    return this.follower.now();
  }

  /** Events published so far; the next event will have this sequence number. */
  head(): number {
    return Number(Atomics.load(this.control64, CTL_EVENTS / 8));
  }
  /**
   * Sequence number of the oldest event that can still be read. The margin keeps readers away from the writer; where a
   * slice runs further ahead than the margin, what it has begun to write over is gone as well.
   */
  tail(): number {
    const capacity = this.layout.eventCapacity;
    const entered = Number(Atomics.load(this.control64, CTL_ENTERED / 8));
    const head = this.head();
    return Math.min(head, Math.max(0, head + eventMargin(this.layout) - capacity, entered - capacity));
  }
  /** Highest frame id given out when the block that holds event `seq` was published. */
  highFrame(seq: number): number {
    return this.blockFrame[Math.floor((seq % this.layout.eventCapacity) / BLOCK_EVENTS)]!;
  }
  bytesHead(): number {
    return Number(Atomics.load(this.control64, CTL_BYTES / 8));
  }
  virtualTimeNs(): number {
    return this.controlF[CTL_TIME / 8]!;
  }
  /** Highest frame id given out so far. */
  framesHead(): number {
    return this.controlF[CTL_FRAMES / 8]!;
  }
  /** Whether the world rests: what is recorded next is later than what has been published. */
  resting(): boolean {
    return Atomics.load(this.control64, CTL_RESTING / 8) !== 0n;
  }
  /** 16 hexadecimal digits. */
  fingerprint(): string {
    const v = Atomics.load(this.control64, CTL_FINGERPRINT / 8);
    return BigInt.asUintN(64, v).toString(16).padStart(16, '0');
  }

  /**
   * Copies events from sequence number `from` on, at most to the end of their block, into `this.block`.
   * Returns the number of events copied; 0 when there is none yet. Where `from` is already overwritten, starts at the
   * oldest readable event: the caller sees the gap as `block.first - from`.
   */
  read(from: number): number {
    const out = this.block;
    for (;;) {
      // The head last: the tail of a ring that is being written soon passes an older head.
      const first = Math.max(from, this.tail());
      const head = this.head();
      const at = first % this.layout.eventCapacity;
      const count = Math.min(head - first, BLOCK_EVENTS - (first % BLOCK_EVENTS));
      if (count <= 0) {
        out.first = first;
        out.count = 0;
        return 0;
      }
      const slot = Math.floor(at / BLOCK_EVENTS);
      out.blockFrame = this.blockFrame[slot]!;
      out.blockBytes = this.blockBytes[slot]!;
      for (let i = 0; i < count; i++) {
        out.time[i] = this.time[at + i]!;
        out.meta[i] = this.meta[at + i]!;
        const low = this.frame[at + i]!;
        out.frame[i] = low === 0 ? 0 : restore(low, out.blockFrame);
        out.a[i] = this.a[at + i]!;
        out.b[i] = this.b[at + i]!;
      }
      if (this.tail() > first) continue; // overwritten while we copied: take what is left
      this.follower.now();
      out.first = first;
      out.count = count;
      return count;
    }
  }

  /** Byte ring position of a PACKET_BYTES event of the current block, in bytes. `a` is the event's column. */
  bytePosition(a: number): number {
    return restore(a, this.block.blockBytes / 8) * 8;
  }

  /** Copies `length` bytes at byte ring `position` into `target`. False where they were (or are being) overwritten. */
  readBytes(position: number, length: number, target: Uint8Array, at = 0): boolean {
    const start = position % this.layout.byteCapacity;
    if (!this.holdsBytes(position)) return false;
    target.set(this.bytes.subarray(start, start + length), at);
    return this.holdsBytes(position);
  }
  /** Whether bytes at `position` are still held. */
  holdsBytes(position: number): boolean {
    const held = this.layout.byteCapacity - byteMargin(this.layout);
    const entered = Number(Atomics.load(this.control64, CTL_BYTES_ENTERED / 8));
    return this.bytesHead() - position <= held && entered - position <= this.layout.byteCapacity;
  }

  /** Number of events of `kind` at `place` since the world began. */
  count(place: number, kind: number): number {
    return this.counters[(place * KIND_STRIDE + kind) * 2]!;
  }
  /** Sum of column `a` over the events of `kind` at `place`. */
  sum(place: number, kind: number): number {
    return this.counters[(place * KIND_STRIDE + kind) * 2 + 1]!;
  }
}
