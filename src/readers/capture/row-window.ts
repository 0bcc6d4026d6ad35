/**
 * Rows of a capture on their way from ring order to time order. The ring holds events in landing order: sorted per
 * context, across contexts late by at most one slice. The window keeps a bounded number of rows and gives out the earliest
 * (of equal times the one that the ring has first). Each context's rows are a run that is sorted as it comes; a tree of
 * winners over the runs finds the earliest.
 *
 * While a row waits here, what happens because of it (an exit, a kick, an interrupt) is still added to it: row-charges.ts.
 *
 * What every row has lies side by side in 64 bytes, because a row is touched twice, long apart: index `slot * ROW_NUMBERS +
 * R_…` in `numbers`, `slot * ROW_WORDS + R_…` in `words`, two views of one memory. What few rows have is in `rareNumbers`
 * (`slot * RARE_NUMBERS + R_…`) and `rareWords`.
 */
import { BLOCK_EVENTS } from '../../engine/event-ring.ts';

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

// The same 64 bytes as words: those behind the numbers.
export const ROW_WORDS = 16;
export const R_META = 10;
/** Length of the row's bytes, and above it MARK_… of frame-table.ts, which say what of the rarer fields means anything. */
export const R_LENGTH = 11;
export const LENGTH_MASK = 0xffffff;
export const MARKS_SHIFT = 24;
/** Number of the row that has the slot: a slot is used again, a ticket is not (for 2^31 rows). 0 = the slot is free. */
export const R_TICKET = 12;
/** The next row of the run: its slot. */
const R_NEXT = 13;
/** Number of the block of events that the row comes from. */
export const R_BLOCK = 14;
/** Column `b`; of rows of events only. */
export const R_B = 15;

export const RARE_NUMBERS = 4;
/** Bytes copied, and the frame's parent: see the marks. */
export const R_COPIED = 0;
export const R_PARENT = 1;
/** Sequence number and column `a`; of rows of events only. */
export const R_SEQ = 2;
export const R_A = R_PARENT;

export const RARE_WORDS = 8;
export const R_COPIES = 0;
export const R_EXITS = 1;
export const R_EXIT_KINDS = 2;
export const R_KICKS = 3;
export const R_INTERRUPTS = 4;

/** The run that never has a row: leaves that stand for no run yet stand for it. */
const EMPTY_RUN = 0;

export class RowWindow {
  readonly capacity: number;
  readonly numbers: Float64Array;
  readonly words: Int32Array;
  readonly rareNumbers: Float64Array;
  readonly rareWords: Int32Array;
  latest = 0;
  count = 0;
  private tickets = 0;
  /** Free slots, last in, first out: the slot of a row that was just written is still in the cache. */
  private readonly free: Int32Array;
  // Runs: first and last row of each, and their times and the first one's ticket. A time of Infinity = the run is empty.
  private readonly headTime: number[] = [];
  private readonly headTicket: number[] = [];
  private readonly head: number[] = [];
  private readonly tail: number[] = [];
  private readonly tailTime: number[] = [];
  /** The run that rows of a context went to last, by context. */
  private readonly runOf: number[] = [];
  /** tree[1] is the run with the earliest row; the winner of a pair of runs or winners is above it, the runs are leaves. */
  private tree = new Int32Array(2);
  private leaves = 1;

  constructor(capacity = WINDOW_ROWS) {
    this.capacity = capacity;
    this.numbers = new Float64Array(capacity * ROW_NUMBERS);
    this.words = new Int32Array(this.numbers.buffer);
    this.rareNumbers = new Float64Array(capacity * RARE_NUMBERS);
    this.rareWords = new Int32Array(capacity * RARE_WORDS);
    this.free = Int32Array.from({ length: capacity }, (_, i) => capacity - 1 - i);
    this.addRun();
    this.tailTime[EMPTY_RUN] = Number.POSITIVE_INFINITY;
  }

  /** Takes a slot for a row of `context` at `time`; the caller fills the other fields. The window must not be full. */
  insert(time: number, context: number): number {
    const slot = this.free[this.capacity - this.count - 1]!;
    this.numbers[slot * ROW_NUMBERS + R_TIME] = time;
    this.tickets = this.tickets === 0x7fffffff ? 1 : this.tickets + 1;
    this.words[slot * ROW_WORDS + R_TICKET] = this.tickets;
    this.count++;
    if (time > this.latest) this.latest = time;
    let run = this.runOf[context] ?? -1;
    if (run < 0 || this.tailTime[run]! > time) run = this.findRun(time, context);
    if (this.headTime[run] === Number.POSITIVE_INFINITY) this.begin(run, slot, time);
    else this.words[this.tail[run]! * ROW_WORDS + R_NEXT] = slot;
    this.tail[run] = slot;
    this.tailTime[run] = time;
    return slot;
  }

  /** A run that a row at `time` can be put at the end of: none for rows that a context records out of order. */
  private findRun(time: number, context: number): number {
    let run = this.runOf[context] === undefined ? this.headTime.length : this.tailTime.findIndex((t) => t <= time);
    if (run < 0 || run === this.headTime.length) run = this.addRun();
    this.runOf[context] = run;
    return run;
  }
  private addRun(): number {
    const run = this.headTime.length;
    this.headTime.push(Number.POSITIVE_INFINITY);
    this.headTicket.push(0);
    this.head.push(0);
    this.tail.push(0);
    this.tailTime.push(0);
    if (run < this.leaves) {
      // An empty run wins nothing: begin() plays for it.
      this.tree[this.leaves + run] = run;
      return run;
    }
    this.leaves *= 2;
    this.tree = new Int32Array(2 * this.leaves);
    for (let i = 0; i < this.leaves; i++) this.tree[this.leaves + i] = i <= run ? i : EMPTY_RUN;
    for (let i = this.leaves - 1; i > 0; i--) this.play(i);
    return run;
  }

  private begin(run: number, slot: number, time: number): void {
    this.head[run] = slot;
    this.headTicket[run] = this.words[slot * ROW_WORDS + R_TICKET]!;
    this.headTime[run] = time;
    for (let i = (run + this.leaves) >> 1; i > 0; i >>= 1) this.play(i);
  }
  private play(i: number): void {
    const x = this.tree[2 * i]!;
    const y = this.tree[2 * i + 1]!;
    const dx = this.headTime[x]!;
    const dy = this.headTime[y]!;
    // tickets start again after 2^31 rows: compared by their distance
    this.tree[i] = dx < dy || (dx === dy && ((this.headTicket[x]! - this.headTicket[y]!) | 0) <= 0) ? x : y;
  }

  /** Whether the row with this ticket still waits in `slot`. */
  holds(slot: number, ticket: number): boolean {
    return ticket !== 0 && this.words[slot * ROW_WORDS + R_TICKET] === ticket;
  }

  /** The earliest row's slot if it is final (or `all`), or if fewer than `room` slots are free; -1 otherwise. */
  ready(room: number, all: boolean): number {
    if (this.count === 0) return -1;
    const run = this.tree[1]!;
    if (all || this.capacity - this.count < room || this.headTime[run]! <= this.latest - WINDOW_NS)
      return this.head[run]!;
    return -1;
  }
  /** First event of the oldest block that rows come from which wait, Infinity without: a run's first row is its oldest. */
  oldest(): number {
    let seq = Number.POSITIVE_INFINITY;
    for (let run = 0; run < this.head.length; run++) {
      if (this.headTime[run] === Number.POSITIVE_INFINITY) continue;
      seq = Math.min(seq, (this.words[this.head[run]! * ROW_WORDS + R_BLOCK]! >>> 0) * BLOCK_EVENTS);
    }
    return seq;
  }
  /** Takes out the row that ready() gave. */
  remove(): void {
    const run = this.tree[1]!;
    const slot = this.head[run]!;
    this.words[slot * ROW_WORDS + R_TICKET] = 0;
    this.free[this.capacity - this.count] = slot;
    this.count--;
    if (slot === this.tail[run]) {
      // an empty run takes rows of any time
      this.tailTime[run] = 0;
      this.begin(run, slot, Number.POSITIVE_INFINITY);
    } else {
      const next = this.words[slot * ROW_WORDS + R_NEXT]!;
      this.begin(run, next, this.numbers[next * ROW_NUMBERS + R_TIME]!);
    }
  }
}
