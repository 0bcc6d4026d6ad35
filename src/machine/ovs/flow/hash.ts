/** Open vSwitch's hashes of words and bytes (ovs lib/hash.h without SSE 4.2, as Debian builds it; lib/jhash.c). */

const rot = (x: number, k: number): number => (x << k) | (x >>> (32 - k));

/** hash_add(). */
export function hashAdd(hash: number, data: number): number {
  if (data !== 0) hash ^= Math.imul(rot(Math.imul(data, 0xcc9e2d51), 15), 0x1b873593);
  return (Math.imul(rot(hash, 13), 5) + 0xe6546b64) | 0;
}
/** hash_finish(). */
export function hashFinish(hash: number, final: number): number {
  hash ^= final;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
/** hash_2words(), which hash_int() is, too. */
export function hash2words(x: number, y: number): number {
  return hashFinish(hashAdd(hashAdd(x, 0), y), 8);
}
/** hash_uint64(). */
export function hashUint64(low: number, high: number): number {
  return hashFinish(hashAdd(hashAdd(0, low), high), 8);
}
/** hash_bytes(). */
export function hashBytes(bytes: Uint8Array, basis: number): number {
  let hash = basis;
  for (let at = 0; at < bytes.length; at += 4) hash = hashAdd(hash, littleWord(bytes, at));
  return hashFinish(hash, bytes.length);
}
export function littleWord(bytes: Uint8Array, at: number): number {
  let word = 0;
  for (let i = 0; i < 4; i++) word |= (bytes[at + i] ?? 0) << (8 * i);
  return word;
}

/** jhash_bytes(). */
export function jhashBytes(bytes: Uint8Array, basis: number): number {
  let a = (0xdeadbeef + bytes.length + basis) | 0;
  let b = a;
  let c = a;
  let at = 0;
  for (; bytes.length - at >= 12; at += 12) {
    a += littleWord(bytes, at);
    b += littleWord(bytes, at + 4);
    c += littleWord(bytes, at + 8);
    a = (a - c) ^ rot(c, 4);
    c += b;
    b = (b - a) ^ rot(a, 6);
    a += c;
    c = (c - b) ^ rot(b, 8);
    b += a;
    a = (a - c) ^ rot(c, 16);
    c += b;
    b = (b - a) ^ rot(a, 19);
    a += c;
    c = (c - b) ^ rot(b, 4);
    b += a;
  }
  if (at < bytes.length) {
    a += littleWord(bytes, at);
    b += littleWord(bytes, at + 4);
    c += littleWord(bytes, at + 8);
    c = (c ^ b) - rot(b, 14);
    a = (a ^ c) - rot(c, 11);
    b = (b ^ a) - rot(a, 25);
    c = (c ^ b) - rot(b, 16);
    a = (a ^ c) - rot(c, 4);
    b = (b ^ a) - rot(a, 14);
    c = (c ^ b) - rot(b, 24);
  }
  return c >>> 0;
}
