/**
 * A growing byte buffer with a write position: what the pcapng writer and the event stream put their output into. Text is
 * written as bytes (prepared pieces and decimal digits), because building a string per row costs more than the row.
 */
const THOUSAND = 1000;
const MILLION = 1_000_000;
const BILLION = 1_000_000_000;

/** The three digits of 0-999, one after the other. */
const DIGITS: Uint8Array = new Uint8Array(3 * THOUSAND);
for (let n = 0; n < THOUSAND; n++) {
  DIGITS[3 * n] = 0x30 + Math.floor(n / 100);
  DIGITS[3 * n + 1] = 0x30 + (Math.floor(n / 10) % 10);
  DIGITS[3 * n + 2] = 0x30 + (n % 10);
}

export class ByteWriter {
  bytes: Uint8Array;
  view: DataView;
  /** The same bytes as little-endian words, for what is written at multiples of 4. */
  words: Uint32Array;
  /** Number of bytes written so far; the next byte goes here. */
  at = 0;
  private readonly capacity: number;
  /** A buffer that its consumer has given back. */
  private spare: Uint8Array | null = null;

  /** `capacity`: bytes that each buffer starts with, a multiple of 4. */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.bytes = freshBytes(capacity);
    this.view = new DataView(this.bytes.buffer);
    this.words = new Uint32Array(this.bytes.buffer);
  }

  /** Makes sure that `count` more bytes fit. The put methods do not check: callers reserve once per row. */
  reserve(count: number): void {
    if (this.at + count > this.bytes.length) this.grow(this.at + count);
  }
  private grow(needed: number): void {
    let length = this.bytes.length * 2;
    while (length < needed) length *= 2;
    const grown = freshBytes(length);
    grown.set(this.bytes.subarray(0, this.at));
    this.use(grown);
  }
  private use(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
    this.words = new Uint32Array(bytes.buffer);
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
    this.use(this.spare ?? freshBytes(this.capacity));
    this.spare = null;
    this.at = 0;
    return written;
  }
  /** What take() handed over is no longer needed, and is written into again: warm memory, and none to collect. */
  giveBack(written: Uint8Array): void {
    if (written.buffer.byteLength === this.capacity && written.buffer !== this.bytes.buffer) {
      this.spare = new Uint8Array(written.buffer);
    }
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
  /** A text of at most 8 bytes; writes 8 of which the last may be overwritten. */
  short(text: ShortText): void {
    this.view.setInt32(this.at, text.low, true);
    this.view.setInt32(this.at + 4, text.high, true);
    this.at += text.length;
  }
  /** `values[index]` as decimal() writes it: a double that crosses a call is boxed, an element of an array is not. */
  decimalOf(values: Float64Array, index: number): void {
    const value = values[index]!;
    if (value < BILLION) {
      this.small(value | 0);
      return;
    }
    const high = Math.floor(value / BILLION);
    this.nineDigitsAfter(high, (value - high * BILLION) | 0);
  }
  private nineDigitsAfter(high: number, low: number): void {
    this.decimal(high);
    this.nineDigits(low);
  }
  /** A non-negative integer below 2^53 in decimal digits. */
  decimal(value: number): void {
    if (value < BILLION) {
      this.small(value | 0);
      return;
    }
    const high = Math.floor(value / BILLION);
    this.small(high);
    this.nineDigits(value - high * BILLION);
  }
  /** Nanoseconds as seconds with nine decimals. */
  seconds(ns: number): void {
    const whole = Math.floor(ns / BILLION);
    this.decimal(whole);
    this.bytes[this.at++] = 0x2e;
    this.nineDigits(ns - whole * BILLION);
  }

  /** Below 10^9. */
  private small(n: number): void {
    if (n < THOUSAND) {
      this.upToThree(n);
      return;
    }
    const thousands = (n / THOUSAND) | 0;
    if (thousands < THOUSAND) this.upToThree(thousands);
    else {
      const millions = (thousands / THOUSAND) | 0;
      this.upToThree(millions);
      this.threeDigits(thousands - millions * THOUSAND);
    }
    this.threeDigits(n - thousands * THOUSAND);
  }
  /** Below 1000, without leading zeros. */
  private upToThree(n: number): void {
    const bytes = this.bytes;
    let at = this.at;
    const d = 3 * n;
    if (n >= 100) bytes[at++] = DIGITS[d]!;
    if (n >= 10) bytes[at++] = DIGITS[d + 1]!;
    bytes[at++] = DIGITS[d + 2]!;
    this.at = at;
  }
  private threeDigits(n: number): void {
    const bytes = this.bytes;
    const at = this.at;
    const d = 3 * n;
    bytes[at] = DIGITS[d]!;
    bytes[at + 1] = DIGITS[d + 1]!;
    bytes[at + 2] = DIGITS[d + 2]!;
    this.at = at + 3;
  }
  private nineDigits(value: number): void {
    const n = value | 0;
    const millions = (n / MILLION) | 0;
    const rest = n - millions * MILLION;
    const thousands = (rest / THOUSAND) | 0;
    this.threeDigits(millions);
    this.threeDigits(thousands);
    this.threeDigits(rest - thousands * THOUSAND);
  }
}

/** Bytes that are written before they are read: not filled with zeros first, which costs as much as some writers do. */
function freshBytes(length: number): Uint8Array {
  const buffer = Buffer.allocUnsafeSlow((length + 3) & ~3);
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
}

/** A text of at most 8 bytes, as two words: shorter to write than a loop over its bytes. */
export interface ShortText {
  readonly low: number;
  readonly high: number;
  readonly length: number;
}
export function shortText(text: string): ShortText {
  const bytes = new Uint8Array(8);
  const { written } = encoder.encodeInto(text, bytes);
  const view = new DataView(bytes.buffer);
  return { low: view.getInt32(0, true), high: view.getInt32(4, true), length: written };
}

const encoder = new TextEncoder();
/** The UTF-8 bytes of a text that is written many times. */
export function piece(text: string): Uint8Array {
  return encoder.encode(text);
}
