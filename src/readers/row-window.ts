/**
 * Rows of a capture on their way from ring order to time order. The ring holds events in landing order: sorted per
 * context, across contexts late by at most one slice. The window keeps a bounded number of rows sorted by time (equal
 * times in ring order) and gives out the earliest: a row goes to the end in most cases, else to its place by binary search.
 */
export const WINDOW_ROWS = 32768;
/** A row this far (ns) behind the latest one seen is final: no slice of a context lasts longer. */
export const WINDOW_NS = 2_000_000;

export class RowWindow {
  readonly capacity: number;
  // Columns of a row, by slot.
  readonly time: Float64Array;
  readonly frame: Float64Array;
  /** Byte ring position. */
  readonly position: Float64Array;
  readonly length: Uint32Array;
  readonly meta: Uint32Array;
  /** Processing and waiting time in ns since the frame's previous row. */
  readonly cost: Float64Array;
  readonly waited: Float64Array;
  latest = 0;
  count = 0;
  private readonly free: Int32Array;
  private freeCount: number;
  /** Slots by time, from `head` on; twice the capacity so that it is seldom moved to the front. */
  private readonly order: Int32Array;
  private head = 0;

  constructor(capacity = WINDOW_ROWS) {
    this.capacity = capacity;
    this.time = new Float64Array(capacity);
    this.frame = new Float64Array(capacity);
    this.position = new Float64Array(capacity);
    this.length = new Uint32Array(capacity);
    this.meta = new Uint32Array(capacity);
    this.cost = new Float64Array(capacity);
    this.waited = new Float64Array(capacity);
    this.free = new Int32Array(capacity);
    for (let i = 0; i < capacity; i++) this.free[i] = capacity - 1 - i;
    this.freeCount = capacity;
    this.order = new Int32Array(capacity * 2);
  }

  /** Takes a slot for a row at `time`; the caller fills the other columns. The window must not be full. */
  insert(time: number): number {
    const slot = this.free[--this.freeCount]!;
    this.time[slot] = time;
    if (time > this.latest) this.latest = time;
    if (this.head + this.count === this.order.length) {
      this.order.copyWithin(0, this.head, this.head + this.count);
      this.head = 0;
    }
    const end = this.head + this.count;
    let at = end;
    if (this.count > 0 && this.time[this.order[end - 1]!]! > time) {
      let low = this.head;
      let high = end - 1;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (this.time[this.order[middle]!]! > time) high = middle;
        else low = middle + 1;
      }
      at = low;
      this.order.copyWithin(at + 1, at, end);
    }
    this.order[at] = slot;
    this.count++;
    return slot;
  }

  /** The earliest row's slot if it is final (or `all`), or if fewer than `room` slots are free; -1 otherwise. */
  ready(room: number, all: boolean): number {
    if (this.count === 0) return -1;
    const slot = this.order[this.head]!;
    if (all || this.freeCount < room || this.time[slot]! <= this.latest - WINDOW_NS) return slot;
    return -1;
  }
  /** Takes out the row that ready() gave. */
  remove(): void {
    this.free[this.freeCount++] = this.order[this.head++]!;
    this.count--;
    if (this.count === 0) this.head = 0;
  }
}
