/** Bytes of OpenFlow messages in network order: what is written grows, what is read stays within its bounds. */
import { OfError } from '../../flow/actions.ts';
import { HEADER } from './codes.ts';

const text = new TextEncoder();
const latin = new TextDecoder('latin1');

export class Writer {
  declare bytes: Uint8Array;
  declare view: DataView;
  length = 0;

  constructor(capacity = 256) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  private room(count: number): number {
    const at = this.length;
    this.length = at + count;
    if (this.length > this.bytes.length) {
      const bytes = new Uint8Array(Math.max(2 * this.bytes.length, this.length));
      bytes.set(this.bytes);
      this.bytes = bytes;
      this.view = new DataView(bytes.buffer);
    }
    return at;
  }
  u8(value: number): this {
    // First room, which may move the bytes.
    const at = this.room(1);
    this.bytes[at] = value;
    return this;
  }
  u16(value: number): this {
    const at = this.room(2);
    this.view.setUint16(at, value);
    return this;
  }
  u32(value: number): this {
    const at = this.room(4);
    this.view.setUint32(at, value);
    return this;
  }
  u64(value: bigint): this {
    const at = this.room(8);
    this.view.setBigUint64(at, value);
    return this;
  }
  /** A counter: a whole number up to 2^53; below zero: all bits set, OpenFlow's "not known". */
  count(value: number): this {
    if (value < 0) return this.u32(0xffffffff).u32(0xffffffff);
    return this.u32(Math.floor(value / 0x100000000)).u32(value % 0x100000000);
  }
  zeros(count: number): this {
    const at = this.room(count);
    this.bytes.fill(0, at, at + count);
    return this;
  }
  raw(bytes: Uint8Array): this {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
    return this;
  }
  /** A text in a field of `width` bytes; its last byte is always zero. */
  string(value: string, width: number): this {
    const at = this.room(width);
    this.bytes.fill(0, at, at + width);
    this.bytes.set(text.encode(value).subarray(0, width - 1), at);
    return this;
  }
  /** Zeros up to a multiple of `unit`, counted from `from`. */
  pad(unit: number, from = 0): this {
    return this.zeros((unit - ((this.length - from) % unit)) % unit);
  }
  setU16(at: number, value: number): void {
    this.view.setUint16(at, value);
  }
  /** A copy of what was written. */
  take(): Uint8Array {
    return this.bytes.slice(0, this.length);
  }
}

/** A message under way: `finish()` fills its length in. */
export function message(version: number, type: number, xid: number, capacity = 64): Writer {
  return new Writer(capacity).u8(version).u8(type).u16(0).u32(xid);
}
/** An experimenter's message (ovs struct ofp_vendor_header, ofp11_vendor…: the same in all versions). */
export function experimenter(version: number, vendor: number, subtype: number, xid: number, capacity = 64): Writer {
  return message(version, 4, xid, capacity).u32(vendor).u32(subtype);
}
export function finish(writer: Writer): Uint8Array {
  writer.setU16(2, writer.length);
  return writer.take();
}

/** Reads a message, or a part of it. Whoever reads has to ask `left` first; reading past the end is refused with OFPBRC_BAD_LEN. */
export class Reader {
  declare readonly bytes: Uint8Array;
  declare readonly view: DataView;
  declare at: number;
  declare readonly end: number;

  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
    this.end = end;
  }

  get left(): number {
    return this.end - this.at;
  }
  skip(count: number): number {
    const at = this.at;
    if (count > this.end - at) throw new OfError('OFPBRC_BAD_LEN');
    this.at = at + count;
    return at;
  }
  u8(): number {
    return this.bytes[this.skip(1)]!;
  }
  u16(): number {
    return this.view.getUint16(this.skip(2));
  }
  u32(): number {
    return this.view.getUint32(this.skip(4));
  }
  u64(): bigint {
    return this.view.getBigUint64(this.skip(8));
  }
  /** A copy of `count` bytes. */
  raw(count: number): Uint8Array {
    const at = this.skip(count);
    return this.bytes.slice(at, at + count);
  }
  string(width: number): string {
    const bytes = this.raw(width);
    const end = bytes.indexOf(0);
    return latin.decode(end < 0 ? bytes : bytes.subarray(0, end));
  }
  allZeros(count: number): boolean {
    const at = this.skip(count);
    for (let i = 0; i < count; i++) if (this.bytes[at + i] !== 0) return false;
    return true;
  }
}

export interface Header {
  readonly version: number;
  readonly type: number;
  readonly length: number;
  readonly xid: number;
}
/** Of a message that has at least its header. */
export function header(bytes: Uint8Array): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER);
  return { version: bytes[0]!, type: bytes[1]!, length: view.getUint16(2), xid: view.getUint32(4) };
}
