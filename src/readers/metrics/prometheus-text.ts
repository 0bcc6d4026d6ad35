/**
 * Lines of a scrape as bytes: what precedes each value is kept as it was encoded the first time, so that a line costs a
 * copy and some digits.
 */
const encoder = new TextEncoder();
const FIRST_BYTES = 1 << 18;
/** Longest number, with room for the end of a line. */
const NUMBER_BYTES = 32;
const NEWLINE = 10;
const ZERO = 48;

/** The starts of some lines, each up to its value: line i is [ends[i - 1], ends[i]) of `bytes`. */
export interface LineStarts {
  readonly bytes: Uint8Array;
  readonly ends: Int32Array;
}
export function lineStarts(lines: readonly string[]): LineStarts {
  const text = lines.join('');
  const bytes = encoder.encode(text);
  const ascii = bytes.length === text.length;
  let end = 0;
  const ends = Int32Array.from(lines, (line) => (end += ascii ? line.length : encoder.encode(line).length));
  return { bytes, ends };
}

export class TextWriter {
  private buffer = new Uint8Array(FIRST_BYTES);
  private at = 0;

  get length(): number {
    return this.at;
  }

  /** Everything since the last call, as a copy. */
  take(): Uint8Array {
    const out = this.buffer.slice(0, this.at);
    this.at = 0;
    return out;
  }

  text(text: string): void {
    const bytes = encoder.encode(text);
    this.reserve(bytes.length);
    this.buffer.set(bytes, this.at);
    this.at += bytes.length;
  }

  /** Line `i`, with its value. */
  line(starts: LineStarts, i: number, value: number): void {
    this.start(starts, i);
    this.number(value);
    this.buffer[this.at++] = NEWLINE;
  }
  /** Line `i` up to its value, and the value; the line goes on with `rest`. */
  lineWith(starts: LineStarts, i: number, value: number, rest: string): void {
    this.start(starts, i);
    this.number(value);
    this.text(rest);
  }

  private start({ bytes, ends }: LineStarts, i: number): void {
    const from = i === 0 ? 0 : ends[i - 1]!;
    const end = ends[i]!;
    this.reserve(end - from + NUMBER_BYTES);
    const out = this.buffer;
    let at = this.at;
    for (let b = from; b < end; b++) out[at++] = bytes[b]!;
    this.at = at;
  }

  private number(value: number): void {
    if (!(value >= 0 && value < 1e9) || value !== Math.floor(value)) {
      const text = String(value);
      for (let i = 0; i < text.length; i++) this.buffer[this.at++] = text.charCodeAt(i);
      return;
    }
    let digits = 1;
    for (let power = 10; power <= value; power *= 10) digits++;
    let rest = value | 0;
    for (let i = this.at + digits - 1; i >= this.at; i--) {
      const next = (rest / 10) | 0;
      this.buffer[i] = ZERO + rest - next * 10;
      rest = next;
    }
    this.at += digits;
  }

  private reserve(bytes: number): void {
    if (this.at + bytes <= this.buffer.length) return;
    const larger = new Uint8Array(Math.max(this.buffer.length * 2, this.at + bytes));
    larger.set(this.buffer.subarray(0, this.at));
    this.buffer = larger;
  }
}
