/**
 * What Open vSwitch 3.1 says of a field that an action names and that it does not know: its lookup takes every field that shares the
 * hash bucket for one of another length (ovs lib/nx-match.c nxm_field_by_header()). So the answer follows the hash; this is the one of
 * builds without SSE 4.2, as Debian's are.
 */
import { FIELDS } from '../fields.ts';

const EXPERIMENTER_BYTES = 4;

/** How lengths of the known headers are spread over the buckets. */
const buckets: number[][] = [];

function bucketOf(header: number, experimenter: number): number {
  return hash64(header, experimenter) & (buckets.length - 1);
}

/** Whether the bucket of a header has a field of a length other than `length`, 1 to 255; `header` is class << 16 | field << 9. */
export function meetsAnotherLength(header: number, experimenter: number, length: number): boolean {
  if (buckets.length === 0) fill();
  // The topmost bit of the length is taken for a part of the field.
  const lengths = buckets[bucketOf(header | (length & 0x80), experimenter)]!;
  return lengths.some((one) => one !== length);
}

function fill(): void {
  const headers = FIELDS.flatMap(({ bytes, headers }) =>
    headers.map(({ header, experimenter }) => ({
      header,
      experimenter,
      length: bytes + (experimenter === 0 ? 0 : EXPERIMENTER_BYTES),
    })),
  );
  // hmap_insert(): at most two in a bucket on average.
  let mask = 0;
  for (let n = 1; n <= headers.length; n++) {
    if (n >> 1 <= mask) continue;
    mask = 2 ** (32 - Math.clz32(n >> 1)) - 1;
    // hmap: never two buckets, but one or four and more.
    if ((mask & 1) !== 0) mask |= 2;
  }
  for (let i = 0; i <= mask; i++) buckets.push([]);
  for (const { header, experimenter, length } of headers) buckets[bucketOf(header, experimenter)]!.push(length);
}

/** hash_uint64(): MurmurHash3 of the lower word, then the upper one. */
function hash64(upper: number, lower: number): number {
  let hash = add(add(0, lower), upper) ^ 8;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
function add(hash: number, data: number): number {
  const mixed = Math.imul(rotate(Math.imul(data, 0xcc9e2d51), 15), 0x1b873593);
  return (Math.imul(rotate(hash ^ mixed, 13), 5) + 0xe6546b64) | 0;
}
function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
