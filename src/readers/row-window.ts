/**
 * Rows of a capture on their way from ring order to time order. The ring holds events in landing order: sorted per
 * context, across contexts late by at most one slice. The window keeps a bounded number of rows sorted by time (equal
 * times in ring order) and gives out the earliest: a row goes to the end in most cases, else to its place by binary search.
 *
 * While a row waits here, what happens because of it (an exit, a kick, an interrupt) is still added to it: row-charges.ts.
 *
 * A row's fields lie side by side in two typed arrays, a cache line each: index `slot * ROW_NUMBERS + R_…` in `numbers`,
 * `slot * ROW_WORDS + R_…` in `words`.
 */
export const WINDOW_ROWS = 32768;
/** A row this far (ns) behind the latest one seen is final: no slice of a context lasts longer. */
export const WINDOW_NS = 2_000_000;

export const ROW_NUMBERS = 8;
export const R_TIME = 0;
export const R_FRAME = 1;
/** Byte ring position of the row's bytes; -1 = it has none (rows of events). */
export const R_POSITION = 2;
/** Processing and waiting time in ns since the frame's previous row. */
export const R_COST = 3;
export const R_WAITED = 4;
/** Bytes copied, and the frame's parent: see the marks. */
export const R_COPIED = 5;
export const R_PARENT = 6;
/** Sequence number of the event; kept for rows of events only, whose column `a` is in R_A. */
export const R_SEQ = 7;
export const R_A = R_PARENT;

export const ROW_WORDS = 16;
export const R_META = 0;
/** Length of the row's bytes. */
export const R_LENGTH = 1;
/** MARK_… of frame-table.ts: which of the fields of copies, charges and parent mean anything. */
export const R_MARKS = 2;
/** Number of the row that has the slot: a slot is used again, a ticket is not (for 2^31 rows). 0 = the slot is free. */
export const R_TICKET = 3;
/** The frame's row before this one: slot and ticket. */
export const R_BEFORE = 4;
export const R_BEFORE_TICKET = 5;
export const R_COPIES = 6;
export const R_EXITS = 7;
export const R_EXIT_KINDS = 8;
export const R_KICKS = 9;
export const R_INTERRUPTS = 10;
/** Column `b`; kept for rows of events only. */
export const R_B = 11;

export class RowWindow {
  readonly capacity: number;
  readonly numbers: Float64Array;
  readonly words: Int32Array;
  latest = 0;
  count = 0;
  private tickets = 0;
  /** Free slots, first in, first out: rows leave in about the order in which they came, so that slots follow each other. */
  private readonly free: Int32Array;
  private freeAt = 0;
  /** Slots by time, from `head` on; twice the capacity so that it is seldom moved to the front. */
  private readonly order: Int32Array;
  private head = 0;

  constructor(capacity = WINDOW_ROWS) {
    this.capacity = capacity;
    this.numbers = new Float64Array(capacity * ROW_NUMBERS);
    this.words = new Int32Array(capacity * ROW_WORDS);
    this.free = Int32Array.from({ length: capacity }, (_, i) => i);
    this.order = new Int32Array(capacity * 2);
  }

  /** Takes a slot for a row at `time`; the caller fills the other fields. The window must not be full. */
  insert(time: number): number {
    const slot = this.free[this.freeAt]!;
    this.freeAt = this.freeAt + 1 === this.capacity ? 0 : this.freeAt + 1;
    this.numbers[slot * ROW_NUMBERS + R_TIME] = time;
    this.tickets = this.tickets === 0x7fffffff ? 1 : this.tickets + 1;
    this.words[slot * ROW_WORDS + R_TICKET] = this.tickets;
    if (this.head + this.count === this.order.length) {
      this.order.copyWithin(0, this.head, this.head + this.count);
      this.head = 0;
    }
    const end = this.head + this.count;
    this.count++;
    if (time >= this.latest || this.count === 1) {
      if (time > this.latest) this.latest = time;
      this.order[end] = slot;
    } else this.sortIn(slot, time, end);
    return slot;
  }
  private sortIn(slot: number, time: number, end: number): void {
    const { order, numbers } = this;
    let at = end;
    if (numbers[order[end - 1]! * ROW_NUMBERS + R_TIME]! > time) {
      let low = this.head;
      let high = end - 1;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (numbers[order[middle]! * ROW_NUMBERS + R_TIME]! > time) high = middle;
        else low = middle + 1;
      }
      at = low;
      order.copyWithin(at + 1, at, end);
    }
    order[at] = slot;
  }

  /** Whether the row with this ticket still waits in `slot`. */
  holds(slot: number, ticket: number): boolean {
    return ticket !== 0 && this.words[slot * ROW_WORDS + R_TICKET] === ticket;
  }

  /** The earliest row's slot if it is final (or `all`), or if fewer than `room` slots are free; -1 otherwise. */
  ready(room: number, all: boolean): number {
    if (this.count === 0) return -1;
    const slot = this.order[this.head]!;
    if (all || this.capacity - this.count < room) return slot;
    return this.numbers[slot * ROW_NUMBERS + R_TIME]! <= this.latest - WINDOW_NS ? slot : -1;
  }
  /** Takes out the row that ready() gave. */
  remove(): void {
    const slot = this.order[this.head++]!;
    this.words[slot * ROW_WORDS + R_TICKET] = 0;
    const at = this.freeAt - this.count;
    this.free[at < 0 ? at + this.capacity : at] = slot;
    this.count--;
    if (this.count === 0) this.head = 0;
  }
}
