/**
 * The writer's half of the event ring and the byte ring. Every context records here, in the order in which slices land;
 * blocks of events are folded (fingerprint, counters) and published together.
 *
 * Hot-path rule: the time of an event travels in `stamp[0]`, because a double that crosses a call is boxed.
 */
import { assert } from './assert.ts';
import type { WorldLayout } from './catalog.ts';
import {
  BLOCK_EVENTS,
  CTL_BYTES,
  CTL_BYTES_ENTERED,
  CTL_ENTERED,
  CTL_EVENTS,
  CTL_FINGERPRINT,
  CTL_FRAMES,
  CTL_RESTING,
  CTL_SIZE,
  CTL_TIME,
} from './event-ring.ts';
import { LATENCY_ALL_UNTIL, prepareLatency } from './latency.ts';
import type { WorldCode } from './wasm.ts';

/** Bytes that are announced at a time. */
const BYTES_AHEAD = 65536;
// V8 folds a constant of the module itself; an imported one is loaded and checked at each use
const BLOCK_MASK = BLOCK_EVENTS - 1;

export class Recorder {
  /** Time of the events recorded next, ns since the run's start. Written by the context that records. */
  readonly stamp = new Float64Array(1);
  declare private readonly layout: WorldLayout;
  declare private readonly code: WorldCode;
  declare private readonly time: Float64Array;
  /** The columns meta, frame, a and b, one after the other: V8 looks once at each view that an event is written through. */
  declare private readonly words: Uint32Array;
  declare private readonly blockFrame: Float64Array;
  declare private readonly blockBytes: Float64Array;
  declare private readonly control64: BigInt64Array;
  declare private readonly controlF: Float64Array;
  declare private readonly mask: number;
  declare private readonly ordinals: number;
  /** Slot of the next event, and of the first that is not folded yet. */
  private slot = 0;
  private foldedSlot = 0;
  /** Events folded since the world began. */
  private folded = 0;
  /** Sequence number of the first event after the block that is being written. */
  private entered = 0;
  /** Byte ring: offset of the next record and how much was written before this turn of the ring. */
  private byteAt = 0;
  private byteBase = 0;
  private bytesEntered = 0;
  /** Frame ids given out; events carry the low 32 bits. */
  frames = 0;

  /** `ordinals` is the byte offset of one u32 per context, private to the fold. */
  constructor(memory: SharedArrayBuffer, layout: WorldLayout, code: WorldCode, ordinals: number) {
    this.layout = layout;
    this.code = code;
    this.ordinals = ordinals;
    this.mask = layout.eventCapacity - 1;
    this.time = new Float64Array(memory, layout.eventTime, layout.eventCapacity);
    const column = 4 * layout.eventCapacity;
    const { eventMeta, eventFrame, eventA, eventB } = layout;
    assert(
      eventFrame === eventMeta + column && eventA === eventFrame + column && eventB === eventA + column,
      'the columns lie one after the other',
    );
    this.words = new Uint32Array(memory, eventMeta, column);
    const blocks = layout.eventCapacity / BLOCK_EVENTS;
    this.blockFrame = new Float64Array(memory, layout.blockFrame, blocks);
    this.blockBytes = new Float64Array(memory, layout.blockBytes, blocks);
    this.control64 = new BigInt64Array(memory, layout.control, CTL_SIZE / 8);
    this.controlF = new Float64Array(memory, layout.control, CTL_SIZE / 8);
    prepareLatency(memory, layout.latency);
  }

  /** Records one event at stamp[0]. `meta` is metaOf(kind, place, context); frame, a and b are taken modulo 2^32. */
  event(meta: number, frame: number, a: number, b: number): void {
    const i = this.slot;
    if ((i & BLOCK_MASK) === 0) this.enterBlock();
    const { mask, words } = this;
    this.slot = (i + 1) & mask;
    this.time[i] = this.stamp[0]!;
    words[i] = meta;
    let at = i + mask + 1;
    words[at] = frame;
    at += mask + 1;
    words[at] = a;
    at += mask + 1;
    words[at] = b;
  }

  /**
   * Says that a block is about to be written over. A slice has no limit, so what it has recorded is published from within
   * where it fills whole blocks: readers are never further behind than that, and the ring cannot run over itself.
   */
  private enterBlock(): void {
    if (this.due) this.publish(Math.max(this.controlF[CTL_TIME / 8]!, this.stamp[0]!));
    this.entered += BLOCK_EVENTS;
    Atomics.store(this.control64, CTL_ENTERED / 8, BigInt(this.entered));
  }

  /** Stores a version of a frame's bytes (arena offset `source`) and returns its position / 8, low 32 bits. */
  bytes(source: number, length: number): number {
    const at = this.room(length);
    this.code.copy(this.layout.byteRing + at, source, length);
    return ((this.byteBase + at) / 8) | 0;
  }

  /** Stores bytes that lie outside the world's memory (which `memory` views) and returns their position as bytes() does. */
  foreignBytes(memory: Uint8Array, bytes: Uint8Array, length = bytes.length): number {
    const at = this.room(length);
    const start = this.layout.byteRing + at;
    for (let i = 0; i < length; i++) memory[start + i] = bytes[i]!;
    return ((this.byteBase + at) / 8) | 0;
  }

  /** Takes the next `length` bytes of the byte ring; returns their offset in it. */
  private room(length: number): number {
    const size = (length + 7) & ~7;
    if (this.byteAt + size > this.layout.byteCapacity) {
      this.byteBase += this.layout.byteCapacity;
      this.byteAt = 0;
    }
    const at = this.byteAt;
    this.byteAt = at + size;
    if (this.byteBase + this.byteAt > this.bytesEntered) this.enterBytes();
    return at;
  }

  /** Says how far bytes are about to be written, some way ahead. */
  private enterBytes(): void {
    const ahead = Math.min(BYTES_AHEAD, this.layout.byteCapacity / 16);
    this.bytesEntered = this.byteBase + Math.min(this.layout.byteCapacity, this.byteAt + ahead);
    Atomics.store(this.control64, CTL_BYTES_ENTERED / 8, BigInt(this.bytesEntered));
  }

  /** Tells readers whether the world rests. */
  set resting(rests: boolean) {
    Atomics.store(this.control64, CTL_RESTING / 8, rests ? 1n : 0n);
  }

  /** Events recorded since the world began. */
  get events(): number {
    return this.folded + ((this.slot - this.foldedSlot) & this.mask);
  }

  /** Byte ring position up to which bytes have been stored. */
  get bytesHead(): number {
    return this.byteBase + this.byteAt;
  }

  /** True when at least one block waits to be folded. Asked between the scheduler's dispatches. */
  get due(): boolean {
    return ((this.slot - this.foldedSlot) & this.mask) >= BLOCK_EVENTS;
  }

  /** Folds what was recorded and publishes it, with `now` as the world's virtual time. */
  publish(now: number): void {
    const l = this.layout;
    let left = (this.slot - this.foldedSlot) & this.mask;
    while (left > 0) {
      const at = this.foldedSlot;
      const n = Math.min(left, BLOCK_EVENTS - (at % BLOCK_EVENTS));
      this.code.fold(
        l.eventTime + at * 8,
        l.eventMeta + at * 4,
        l.eventFrame + at * 4,
        l.eventA + at * 4,
        l.eventB + at * 4,
        n,
        l.control + CTL_FINGERPRINT,
        l.counters,
        this.ordinals,
      );
      this.code.latencies(
        l.eventTime + at * 8,
        l.eventMeta + at * 4,
        l.eventFrame + at * 4,
        l.eventA + at * 4,
        n,
        l.latency,
        this.frames <= LATENCY_ALL_UNTIL ? 1 : 0,
      );
      const block = Math.floor(at / BLOCK_EVENTS);
      this.blockFrame[block] = this.frames;
      this.blockBytes[block] = this.byteBase + this.byteAt;
      this.foldedSlot = (at + n) & this.mask;
      this.folded += n;
      left -= n;
    }
    this.controlF[CTL_TIME / 8] = now;
    this.controlF[CTL_FRAMES / 8] = this.frames;
    Atomics.store(this.control64, CTL_BYTES / 8, BigInt(this.byteBase + this.byteAt));
    Atomics.store(this.control64, CTL_EVENTS / 8, BigInt(this.folded));
  }
}
