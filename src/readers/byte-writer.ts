/**
 * A growing byte buffer with a write position: what the pcapng writer and the event stream put their output into. Text is
 * written as bytes (prepared pieces and decimal digits), because building a string per row costs more than the row.
 */
const NINE_DIGITS = 1_000_000_000;

export class ByteWriter {
  bytes: Uint8Array;
  view: DataView;
  /** Number of bytes written so far; the next byte goes here. */
  at = 0;
  private readonly capacity: number;

  /** `capacity`: bytes that each buffer starts with. */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Makes sure that `count` more bytes fit. The put methods do not check: callers reserve once per row. */
  reserve(count: number): void {
    const needed = this.at + count;
    if (needed <= this.bytes.length) return;
    let length = this.bytes.length * 2;
    while (length < needed) length *= 2;
    const grown = new Uint8Array(length);
    grown.set(this.bytes.subarray(0, this.at));
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }

  /** Hands over what was written and starts an empty buffer. The bytes belong to the caller. */
  take(): Uint8Array {
    // A mostly empty buffer is copied, so that a consumer which keeps chunks does not keep their unused rest.
    if (this.at * 4 < this.bytes.length) {
      const copy = this.bytes.slice(0, this.at);
      this.at = 0;
      return copy;
    }
    const written = this.bytes.subarray(0, this.at);
    this.bytes = new Uint8Array(this.capacity);
    this.view = new DataView(this.bytes.buffer);
    this.at = 0;
    return written;
  }

  u16(value: number): void {
    this.view.setUint16(this.at, value, true);
    this.at += 2;
  }
  u32(value: number): void {
    this.view.setUint32(this.at, value, true);
    this.at += 4;
  }
  /** A non-negative integer below 2^53 as 64 bits, little-endian. */
  u64(value: number): void {
    const high = Math.floor(value / 4294967296);
    this.view.setUint32(this.at, value - high * 4294967296, true);
    this.view.setUint32(this.at + 4, high, true);
    this.at += 8;
  }
  raw(piece: Uint8Array): void {
    const length = piece.length;
    // A call of set() costs more than a short loop.
    if (length < 24) for (let i = 0; i < length; i++) this.bytes[this.at + i] = piece[i]!;
    else this.bytes.set(piece, this.at);
    this.at += length;
  }
  /** A non-negative integer below 2^53 in decimal digits. */
  decimal(value: number): void {
    if (value < NINE_DIGITS) {
      this.small(value);
      return;
    }
    const high = Math.floor(value / NINE_DIGITS);
    this.small(high);
    this.nineDigits(value - high * NINE_DIGITS);
  }
  /** Nanoseconds as seconds with nine decimals. */
  seconds(ns: number): void {
    const whole = Math.floor(ns / NINE_DIGITS);
    this.decimal(whole);
    this.bytes[this.at++] = 0x2e;
    this.nineDigits(ns - whole * NINE_DIGITS);
  }

  private small(value: number): void {
    let n = value | 0;
    let width = 1;
    for (let limit = 10; n >= limit && width < 10; limit *= 10) width++;
    const end = this.at + width;
    for (let p = end - 1; p >= this.at; p--) {
      const rest = (n / 10) | 0;
      this.bytes[p] = 0x30 + (n - rest * 10);
      n = rest;
    }
    this.at = end;
  }
  private nineDigits(value: number): void {
    let n = value | 0;
    for (let p = this.at + 8; p >= this.at; p--) {
      const rest = (n / 10) | 0;
      this.bytes[p] = 0x30 + (n - rest * 10);
      n = rest;
    }
    this.at += 9;
  }
}

const encoder = new TextEncoder();
/** The UTF-8 bytes of a text that is written many times. */
export function piece(text: string): Uint8Array {
  return encoder.encode(text);
}
