/**
 * What Open vSwitch 3.1 says of a field that an action names and that it does not know: its lookup takes every field that shares the
 * hash bucket for one of another length (ovs lib/nx-match.c nxm_field_by_header()). So the answer follows the hash; this is the one of
 * builds without SSE 4.2, as Debian's are.
 */
import { FIELDS } from '../fields.ts';
import { hashUint64 } from '../hash.ts';

const EXPERIMENTER_BYTES = 4;

/** How lengths of the known headers are spread over the buckets. */
const buckets: number[][] = [];

function bucketOf(header: number, experimenter: number): number {
  return hashUint64(experimenter, header) & (buckets.length - 1);
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
