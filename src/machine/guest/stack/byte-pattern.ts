/**
 * The bytes that TCP traffic carries: byte `offset` of a stream is a function of its start and of the offset alone. A
 * sender needs no buffer to send a stretch again, and a receiver can tell a byte that is wrong, or at the wrong place.
 */
import { PATTERN_BYTES, PATTERN_PERIOD } from '../../memory/sizes.ts';
import { copyIn } from '../../packet/copy.ts';
import type { Services } from '../../services.ts';

export class BytePattern {
  private readonly services: Services;
  private readonly at: number;
  private readonly view: DataView;
  private written = false;

  /** `at`: arena offset of PATTERN_BYTES. */
  constructor(services: Services, at: number) {
    this.services = services;
    this.at = at;
    this.view = services.arena.view;
  }

  /** Writes bytes `offset` to `offset + length` of the stream with this start at arena offset `to`; at most 64 KiB. */
  write(to: number, start: number, offset: number, length: number): void {
    if (!this.written) this.make();
    this.services.copy(to, this.at + ((start + offset) % PATTERN_PERIOD), length);
  }

  /** True when `length` bytes at arena offset `from` are those of the stream from `offset` on. */
  matches(from: number, start: number, offset: number, length: number): boolean {
    if (!this.written) this.make();
    const view = this.view;
    const at = this.at + ((start + offset) % PATTERN_PERIOD);
    let i = 0;
    for (; i + 4 <= length; i += 4) if (view.getUint32(from + i) !== view.getUint32(at + i)) return false;
    for (; i < length; i++) if (view.getUint8(from + i) !== view.getUint8(at + i)) return false;
    return true;
  }

  /** A world without TCP never pays for it. */
  private make(): void {
    const bytes = new Uint8Array(PATTERN_BYTES);
    // xorshift32 (Marsaglia 2003)
    let x = 0x9e3779b9;
    for (let i = 0; i < PATTERN_PERIOD; i++) {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      bytes[i] = x >>> 24;
    }
    for (let i = PATTERN_PERIOD; i < PATTERN_BYTES; i++) bytes[i] = bytes[i - PATTERN_PERIOD]!;
    copyIn(this.services.arena, this.at, bytes);
    this.written = true;
  }
}
