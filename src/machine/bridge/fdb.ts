/**
 * The forwarding database of a Linux bridge: where each source address was seen last, and when. A hash of the two words of an
 * address, in columns that grow, so that a frame allocates nothing; for the same reason the time comes as a clock, whose [0] is
 * now. linux net/bridge/br_fdb.c.
 */

export interface FdbRow {
  /** 00:11:22:33:44:55 */
  readonly mac: string;
  readonly port: number;
  /** When a frame from the address came last, ns. */
  readonly updated: number;
}

const FIRST_ROWS = 64;
/** One multiplication spreads the bytes that differ in practice, the last ones. */
const SPREAD = 0x9e3779b1;

export class Fdb {
  /** Rows in use. */
  length = 0;
  private readonly most: number;
  private readonly agingNs: number;
  private low = new Int32Array(FIRST_ROWS);
  private high = new Int32Array(FIRST_ROWS);
  private ports = new Int32Array(FIRST_ROWS);
  private updated = new Float64Array(FIRST_ROWS);
  /** Row + 1 of the next in the same bucket, and by bucket: 0 ends. */
  private next = new Int32Array(FIRST_ROWS);
  private heads = new Int32Array(2 * FIRST_ROWS);

  /** `most`: addresses at most (`fdb_max_learned`); `agingNs`: how long one is remembered (`ageing_time`). */
  constructor(most: number, agingNs: number) {
    this.most = most;
    this.agingNs = agingNs;
  }

  private bucket(low: number, high: number): number {
    return (Math.imul(low ^ (high << 7), SPREAD) >>> 8) & (this.heads.length - 1);
  }
  private row(low: number, high: number): number {
    let row = this.heads[this.bucket(low, high)]! - 1;
    while (row >= 0 && (this.low[row] !== low || this.high[row] !== high)) row = this.next[row]! - 1;
    return row;
  }

  /** br_fdb_find_rcu(): the port of an address, 0 where it is not known. `low`: its last four bytes, `high`: its first two. */
  find(low: number, high: number, clock: Float64Array): number {
    const row = this.row(low, high);
    return row < 0 || this.expired(row, clock) ? 0 : this.ports[row]!;
  }
  private expired(row: number, clock: Float64Array): boolean {
    return clock[0]! - this.updated[row]! >= this.agingNs;
  }

  /** br_fdb_update(): a frame from the address came in by `port`. True where that is new: it was unknown, or elsewhere. */
  update(low: number, high: number, port: number, clock: Float64Array): boolean {
    const row = this.row(low, high);
    if (row >= 0) {
      const fresh = this.ports[row] !== port || this.expired(row, clock);
      this.ports[row] = port;
      this.updated[row] = clock[0]!;
      return fresh;
    }
    if (this.length >= this.most && this.cleanup(clock) === 0) return false;
    this.insert(low, high, port, clock[0]!);
    return true;
  }
  private insert(low: number, high: number, port: number, now: number): void {
    if (this.length === this.low.length) this.rebuild(2 * this.length, () => true);
    const row = this.length++;
    const bucket = this.bucket(low, high);
    this.low[row] = low;
    this.high[row] = high;
    this.ports[row] = port;
    this.updated[row] = now;
    this.next[row] = this.heads[bucket]!;
    this.heads[bucket] = row + 1;
  }

  /** br_fdb_cleanup(): forgets what has aged. Returns how many. */
  cleanup(clock: Float64Array): number {
    const before = this.length;
    this.rebuild(this.low.length, (row) => !this.expired(row, clock));
    return before - this.length;
  }
  /** br_fdb_delete_by_port(). */
  deletePort(port: number): void {
    this.rebuild(this.low.length, (row) => this.ports[row] !== port);
  }
  private rebuild(room: number, keep: (row: number) => boolean): void {
    const { low, high, ports, updated, length } = this;
    const kept: number[] = [];
    for (let row = 0; row < length; row++) if (keep(row)) kept.push(row);
    this.low = new Int32Array(room);
    this.high = new Int32Array(room);
    this.ports = new Int32Array(room);
    this.updated = new Float64Array(room);
    this.next = new Int32Array(room);
    this.heads = new Int32Array(2 * room);
    this.length = 0;
    for (const row of kept) this.insert(low[row]!, high[row]!, ports[row]!, updated[row]!);
  }

  /** What is known at `now`, in the order in which it was learned. */
  rows(now: number): FdbRow[] {
    return this.all().filter((row) => now - row.updated < this.agingNs);
  }
  /** The same with what has aged. */
  all(): FdbRow[] {
    return Array.from({ length: this.length }, (_, row) => ({
      mac: macText(this.high[row]!, this.low[row]!),
      port: this.ports[row]!,
      updated: this.updated[row]!,
    }));
  }
  /** Takes over the rows of another. */
  adopt(rows: readonly FdbRow[]): void {
    this.rebuild(FIRST_ROWS, () => false);
    for (const { mac, port, updated } of rows) {
      const bytes = mac.split(':').map((b) => Number.parseInt(b, 16));
      this.insert(wordOf(bytes, 2), (bytes[0]! << 8) | bytes[1]!, port, updated);
    }
  }
}

function wordOf(bytes: ArrayLike<number>, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}
/** The last four bytes of the address at `at`. */
export const macLow = (u8: Uint8Array, at: number): number => wordOf(u8, at + 2);
/** Its first two. */
export const macHigh = (u8: Uint8Array, at: number): number => (u8[at]! << 8) | u8[at + 1]!;

function macText(high: number, low: number): string {
  const bytes = [high >>> 8, high, low >>> 24, low >>> 16, low >>> 8, low];
  return bytes.map((b) => (b & 0xff).toString(16).padStart(2, '0')).join(':');
}
