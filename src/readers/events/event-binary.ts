/**
 * Events in columns, for clients that read millions of them a second: one binary message holds a header and one array for
 * each column, as the machine's memory holds it, so that a client looks at the bytes in place. The layout is published in
 * docs/events.md and in the AsyncAPI document, both from BINARY_COLUMNS and BINARY_HEADER; examples/event-decoder.mjs reads it.
 */
import { BLOCK_EVENTS, type RingReader } from '../../engine/event-ring.ts';
import { KIND_STRIDE, kindOf } from '../../engine/events.ts';
import { namesFrame, storesBytes, valueOfA } from './event-columns.ts';
import type { EventEncoder } from './event-cursor.ts';

/** Fields of the header, in order; all numbers are little-endian. */
export const BINARY_HEADER = [
  { name: 'magic', bytes: 4, text: 'the letters `RSEB`' },
  { name: 'version', bytes: 1, text: '1' },
  { name: 'type', bytes: 1, text: '1 = events' },
  { name: 'headerBytes', bytes: 2, text: 'where the first column begins; later versions may have a longer header' },
  { name: 'from', bytes: 8, text: 'first sequence number that this message accounts for' },
  { name: 'to', bytes: 8, text: 'the one after the last' },
  { name: 'count', bytes: 4, text: 'events in this message, n' },
  { name: 'flags', bytes: 4, text: 'bit 0: there is a column `seq`; else event i has the sequence number from + i' },
] as const;
export const HEADER_BYTES = BINARY_HEADER.reduce((sum, field) => sum + field.bytes, 0);

/** Columns, in order. Each has n elements and is filled with zeros to a multiple of 8 bytes. */
export const BINARY_COLUMNS = [
  { name: 'time', type: 'f64', text: 'virtual time in ns' },
  { name: 'frame', type: 'f64', text: 'frame id, 0 = none' },
  { name: 'a', type: 'f64', text: "the kind's first value" },
  { name: 'seq', type: 'u32', text: 'sequence number less `from`; only with bit 0 of the flags' },
  {
    name: 'meta',
    type: 'u32',
    text: 'kind in bits 0-7, place in bits 8-19, context in bits 20-31: ids of the dictionary',
  },
  { name: 'b', type: 'u32', text: "the kind's second value" },
] as const;

export const FLAG_SEQ = 1;
/** Events of one message at most. */
export const BINARY_EVENTS = 16384;
const MAGIC = [0x52, 0x53, 0x45, 0x42];
const VERSION = 1;
const TYPE_EVENTS = 1;
/** By kind id: 1 where `a` is recorded as a low half. */
const HALVES = Uint8Array.from({ length: 256 }, (_, k) =>
  k < KIND_STRIDE && (storesBytes(k) || namesFrame(k)) ? 1 : 0,
);
const padded = (bytes: number): number => (bytes + 7) & ~7;
const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Collects columns, then writes them as one message. Holds about 600 KB, so share it: a batch is made within one call. */
export class BinaryEncoder implements EventEncoder {
  private readonly time = new Float64Array(BINARY_EVENTS);
  private readonly frame = new Float64Array(BINARY_EVENTS);
  private readonly a = new Float64Array(BINARY_EVENTS);
  private readonly seq = new Uint32Array(BINARY_EVENTS);
  private readonly meta = new Uint32Array(BINARY_EVENTS);
  private readonly b = new Uint32Array(BINARY_EVENTS);
  private count = 0;
  private from = 0;

  constructor() {
    // Columns are copied as the machine holds them. Node has no builds for machines of the other order.
    if (!littleEndian) throw new Error('events in columns need a little-endian machine');
  }

  begin(from: number): void {
    this.count = 0;
    this.from = from;
  }

  /** The size of a message is bounded by its events, so `maxBytes` is not looked at. */
  add(reader: RingReader, picks: Uint16Array, count: number): number {
    const taken = Math.min(count, BINARY_EVENTS - this.count);
    if (taken === 0) return 0;
    if (picks[taken - 1] === taken - 1) this.copyFirst(reader, taken);
    else this.copyPicked(reader, picks, taken);
    this.restoreA(reader, taken);
    this.count += taken;
    return taken;
  }

  take(to: number): Uint8Array {
    const n = this.count;
    const withSeq = to - this.from !== n;
    const wide = 8 * n;
    const narrow = padded(4 * n);
    const bytes = new Uint8Array(HEADER_BYTES + 3 * wide + (withSeq ? 3 : 2) * narrow);
    const header = new DataView(bytes.buffer);
    bytes.set(MAGIC);
    header.setUint8(4, VERSION);
    header.setUint8(5, TYPE_EVENTS);
    header.setUint16(6, HEADER_BYTES, true);
    header.setBigUint64(8, BigInt(this.from), true);
    header.setBigUint64(16, BigInt(to), true);
    header.setUint32(24, n, true);
    header.setUint32(28, withSeq ? FLAG_SEQ : 0, true);
    let at = HEADER_BYTES;
    for (const column of [this.time, this.frame, this.a]) {
      new Float64Array(bytes.buffer, at, n).set(column.subarray(0, n));
      at += wide;
    }
    for (const column of withSeq ? [this.seq, this.meta, this.b] : [this.meta, this.b]) {
      new Uint32Array(bytes.buffer, at, n).set(column.subarray(0, n));
      at += narrow;
    }
    return bytes;
  }

  /** The block's first events, without a gap. */
  private copyFirst({ block }: RingReader, count: number): void {
    const at = this.count;
    const all = count === BLOCK_EVENTS;
    this.time.set(all ? block.time : block.time.subarray(0, count), at);
    this.frame.set(all ? block.frame : block.frame.subarray(0, count), at);
    this.a.set(all ? block.a : block.a.subarray(0, count), at);
    this.meta.set(all ? block.meta : block.meta.subarray(0, count), at);
    this.b.set(all ? block.b : block.b.subarray(0, count), at);
    const first = block.first - this.from;
    for (let n = 0; n < count; n++) this.seq[at + n] = first + n;
  }

  private copyPicked({ block }: RingReader, picks: Uint16Array, count: number): void {
    const first = block.first - this.from;
    for (let n = 0, at = this.count; n < count; n++, at++) {
      const i = picks[n]!;
      this.time[at] = block.time[i]!;
      this.frame[at] = block.frame[i]!;
      this.a[at] = block.a[i]!;
      this.seq[at] = first + i;
      this.meta[at] = block.meta[i]!;
      this.b[at] = block.b[i]!;
    }
  }

  /** What the ring holds as low halves goes out in full: only here the block's high ends are at hand. */
  private restoreA(reader: RingReader, count: number): void {
    for (let at = this.count; at < this.count + count; at++) {
      const kind = kindOf(this.meta[at]!);
      if (HALVES[kind] === 1) this.a[at] = valueOfA(reader, kind, this.frame[at]!, this.a[at]!);
    }
  }
}
