/**
 * A table of translations: what QEMU's IOTLB, vhost's iotlb and DPDK's cache have in common. Entries are ranges; those of one
 * page of 4 KiB, 2 MiB or 1 GiB are found by hashing, others by looking through them. Columns, nothing allocated after
 * construction. linux include/linux/vhost_iotlb.h; dpdk lib/vhost/iotlb.c.
 */
const SHIFTS = [12, 21, 30] as const;
const OTHER = SHIFTS.length;

export class IotlbTable {
  readonly capacity: number;
  /** Entries held. */
  count = 0;
  // by entry
  private readonly start: Float64Array;
  private readonly bytes: Float64Array;
  private readonly target: Float64Array;
  private readonly kind: Uint8Array;
  private readonly next: Int32Array;
  /** Place of the entry in `used`. */
  private readonly place: Int32Array;
  /** Entries that are held, in no order; behind `count` the free ones. */
  private readonly used: Int32Array;
  private readonly heads: Int32Array;
  private readonly mask: number;
  /** Entries of each kind. */
  private readonly kinds = new Int32Array(OTHER + 1);

  constructor(capacity: number) {
    this.capacity = capacity;
    this.start = new Float64Array(capacity);
    this.bytes = new Float64Array(capacity);
    this.target = new Float64Array(capacity);
    this.kind = new Uint8Array(capacity);
    this.next = new Int32Array(capacity);
    this.place = new Int32Array(capacity);
    this.used = Int32Array.from({ length: capacity }, (_, i) => i);
    let buckets = 16;
    while (buckets < 2 * capacity) buckets *= 2;
    this.mask = buckets - 1;
    this.heads = new Int32Array(buckets).fill(-1);
  }

  private bucket(iova: number, kind: number): number {
    if (kind === OTHER) return 0;
    const page = Math.floor(iova / 2 ** SHIFTS[kind]!);
    return (Math.imul(page | 0, 0x9e3779b1) >>> 7) & this.mask;
  }

  /** Entry that holds the byte at `iova`, or -1. */
  find(iova: number): number {
    const { kinds, heads, start, bytes, next, kind } = this;
    for (let k = 0; k <= OTHER; k++) {
      if (kinds[k] === 0) continue;
      for (let e = heads[this.bucket(iova, k)]!; e >= 0; e = next[e]!) {
        if (kind[e] === k && iova >= start[e]! && iova < start[e]! + bytes[e]!) return e;
      }
    }
    return -1;
  }
  startOf(entry: number): number {
    return this.start[entry]!;
  }
  bytesOf(entry: number): number {
    return this.bytes[entry]!;
  }
  /** What the entry's first byte translates to. */
  targetOf(entry: number): number {
    return this.target[entry]!;
  }
  /** The i-th entry held, in no order; i < count. */
  entryAt(i: number): number {
    return this.used[i]!;
  }

  /** Adds a translation of `bytes` bytes from `iova` on; there is room. What overlaps it has been removed before. */
  insert(iova: number, bytes: number, target: number): void {
    const e = this.used[this.count]!;
    this.place[e] = this.count++;
    this.start[e] = iova;
    this.bytes[e] = bytes;
    this.target[e] = target;
    let k = 0;
    while (k < OTHER && (bytes !== 2 ** SHIFTS[k]! || iova % bytes !== 0)) k++;
    this.kind[e] = k;
    this.kinds[k]!++;
    const b = this.bucket(iova, k);
    this.next[e] = this.heads[b]!;
    this.heads[b] = e;
  }

  remove(entry: number): void {
    const b = this.bucket(this.start[entry]!, this.kind[entry]!);
    if (this.heads[b] === entry) this.heads[b] = this.next[entry]!;
    else {
      let e = this.heads[b]!;
      while (this.next[e] !== entry) e = this.next[e]!;
      this.next[e] = this.next[entry]!;
    }
    this.kinds[this.kind[entry]!]!--;
    this.count--;
    const at = this.place[entry]!;
    const last = this.used[this.count]!;
    this.used[at] = last;
    this.place[last] = at;
    this.used[this.count] = entry;
  }

  /** Removes whatever overlaps the range. Returns how many entries that were. */
  invalidate(iova: number, bytes: number): number {
    let removed = 0;
    if (bytes <= 4096 && iova % 4096 === 0 && this.kinds[0] === this.count) {
      // the usual case: one page of a table of such pages
      const e = this.find(iova);
      if (e < 0) return 0;
      this.remove(e);
      return 1;
    }
    for (let i = this.count - 1; i >= 0; i--) {
      const e = this.used[i]!;
      if (this.start[e]! >= iova + bytes || this.start[e]! + this.bytes[e]! <= iova) continue;
      this.remove(e);
      removed++;
    }
    return removed;
  }
  clear(): void {
    this.heads.fill(-1);
    this.kinds.fill(0);
    this.count = 0;
  }
}
