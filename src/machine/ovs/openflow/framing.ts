/** OpenFlow messages out of a stream of bytes: split or joined as the network pleases. */
import { HEADER } from './wire/codes.ts';

export class Framing {
  /** A message of which a part has come; null: none. Until its length is known, its header. */
  private partial: Uint8Array | null = null;
  private filled = 0;

  /** Calls `message` for each whole message; the bytes are only good within the call. False: a length that cannot be, nothing more will be told. */
  push(chunk: Uint8Array, message: (bytes: Uint8Array) => void): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.partial === null) {
        const left = chunk.length - at;
        const length = left < 4 ? HEADER : (chunk[at + 2]! << 8) | chunk[at + 3]!;
        if (length < HEADER) return false;
        if (left >= 4 && left >= length) {
          message(chunk.subarray(at, at + length));
          at += length;
          continue;
        }
        this.partial = new Uint8Array(length);
        this.filled = 0;
      }
      const count = Math.min(this.partial.length - this.filled, chunk.length - at);
      this.partial.set(chunk.subarray(at, at + count), this.filled);
      this.filled += count;
      at += count;
      if (this.filled < 4) continue;
      const length = (this.partial[2]! << 8) | this.partial[3]!;
      if (length < HEADER) return false;
      if (length !== this.partial.length) {
        const grown = new Uint8Array(length);
        grown.set(this.partial.subarray(0, this.filled));
        this.partial = grown;
      }
      if (this.filled < length) continue;
      const whole = this.partial;
      this.partial = null;
      message(whole);
    }
    return true;
  }
}
