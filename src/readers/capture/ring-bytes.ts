/**
 * Copies bytes out of the byte ring into a writer. Which way is fastest depends on length and alignment: a typed array's
 * set() moves shared memory byte by byte where source and target are aligned differently (1500 bytes: 500 ns), words of four
 * bytes do better up to a few hundred bytes (64 bytes: 25 ns), Buffer.copy() beyond (1500 bytes: 50 ns).
 */
import type { RingReader } from '../../engine/event-ring.ts';
import type { ByteWriter } from '../byte-writer.ts';

const WORDS_MAX = 320;

export class RingBytes {
  private readonly words: Uint32Array;
  private readonly buffer: Buffer;
  private readonly capacity: number;

  constructor(reader: RingReader) {
    const { byteRing, byteCapacity } = reader.layout;
    const memory = reader.counters.buffer;
    this.words = new Uint32Array(memory, byteRing, byteCapacity / 4);
    this.buffer = Buffer.from(memory as ArrayBuffer, byteRing, byteCapacity);
    this.capacity = byteCapacity;
  }

  /**
   * Copies `length` bytes from byte ring `position` to offset `at` of the writer, which must have room for whole words. Does
   * not look whether they are still held: ask RingReader.holdsBytes() afterwards, and do not use them where it says no.
   */
  copy(position: number, length: number, writer: ByteWriter, at: number): void {
    const start = position % this.capacity;
    if (length > WORDS_MAX || (at & 3) !== 0) {
      this.buffer.copy(writer.bytes, at, start, start + length);
      return;
    }
    const source = this.words;
    const target = writer.words;
    const from = start >>> 2;
    const to = at >>> 2;
    const whole = length >>> 2;
    for (let i = 0; i < whole; i++) target[to + i] = source[from + i]!;
    const rest = length & 3;
    // the bytes behind the last are padding: zeros
    if (rest !== 0) target[to + whole] = source[from + whole]! & (0xffffffff >>> (32 - 8 * rest));
  }
}
