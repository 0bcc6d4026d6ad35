/**
 * The bytes of a control command as the guest laid them out: any number of segments, any lengths, any split. Everything is
 * read once into values; nothing is trusted to stay as it was.
 */
import type { Segment } from '../queue/device-queue.ts';

/** Total length of segments. */
export function totalBytes(segments: readonly Segment[]): number {
  let n = 0;
  for (const s of segments) n += s.length;
  return n;
}
/** Copies `n` bytes from byte `from` of the segments on to `into`; returns how many there were. */
export function gatherBytes(
  u8: Uint8Array,
  segments: readonly Segment[],
  from: number,
  n: number,
  into: Uint8Array,
): number {
  let done = 0;
  let start = 0;
  for (const s of segments) {
    if (done === n) break;
    const skip = Math.max(from + done - start, 0);
    const take = Math.min(s.length - skip, n - done);
    if (take > 0) {
      into.set(u8.subarray(s.at + skip, s.at + skip + take), done);
      done += take;
    }
    start += s.length;
  }
  return done;
}
/** Writes `bytes` from byte `from` of the segments on; returns how many had room. */
export function scatterBytes(u8: Uint8Array, segments: readonly Segment[], from: number, bytes: Uint8Array): number {
  let done = 0;
  let start = 0;
  for (const s of segments) {
    if (done === bytes.length) break;
    const skip = Math.max(from + done - start, 0);
    const take = Math.min(s.length - skip, bytes.length - done);
    if (take > 0) {
      u8.set(bytes.subarray(done, done + take), s.at + skip);
      done += take;
    }
    start += s.length;
  }
  return done;
}
