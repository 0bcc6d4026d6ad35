/**
 * A client's place in the event stream. A cursor reads the ring block by block, picks the events that the filter lets
 * through, and hands them to an encoder (event-json.ts, event-binary.ts) that puts them into the form that the client asked
 * for. A cursor never makes the engine wait; what it could not read any more is counted.
 */
import { BLOCK_EVENTS, type RingReader } from '../../engine/event-ring.ts';
import type { EventFilter } from './event-filter.ts';

/** Puts events into one form. Used within one call of EventCursor.next(), so many cursors of a world may share one. */
export interface EventEncoder {
  /** Begins a batch that accounts for the events from `from` on. */
  begin(from: number): void;
  /**
   * Adds the events `picks[0..count)` of the reader's current block, ascending. Returns how many it took: fewer where about
   * `maxBytes` are full, but at least one in a batch.
   */
  add(reader: RingReader, picks: Uint16Array, count: number, maxBytes: number): number;
  /** Ends the batch, which accounts for the events before `to`. The bytes belong to the caller. */
  take(to: number): Uint8Array;
}

/** What one call of EventCursor.next() read. Sequence numbers [from, to) are accounted for, dropped ones included. */
export interface EventBatch {
  readonly from: number;
  readonly to: number;
  /** Events at the beginning of [from, to) that had been overwritten, whether they would have matched or not. */
  readonly dropped: number;
  /** Events in `bytes`. */
  readonly events: number;
  /** The events as the encoder writes them; empty where there are none. */
  readonly bytes: Uint8Array;
}

/** Events looked at in one call, so that a filter that matches nothing does not hold up the event loop: below 1 ms. */
const SCAN_EVENTS = 16384;
const NOTHING = new Uint8Array(0);
const ALL: Uint16Array = Uint16Array.from({ length: BLOCK_EVENTS }, (_, i) => i);
/** Scratch of one call. */
const picked = new Uint16Array(BLOCK_EVENTS);

export class EventCursor {
  /** Sequence number of the next event. */
  position: number;
  private readonly reader: RingReader;
  private readonly filter: EventFilter;
  private readonly encoder: EventEncoder;

  /** `from`: sequence number to start at; left out = only what comes from now on. */
  constructor(reader: RingReader, filter: EventFilter, encoder: EventEncoder, from?: number) {
    this.reader = reader;
    this.filter = filter;
    this.encoder = encoder;
    this.position = from ?? reader.head();
  }

  /** Events between the cursor and the newest one, overwritten ones included. */
  behind(): number {
    return Math.max(0, this.reader.head() - this.position);
  }

  /**
   * Reads on until `maxEvents` (at least 1) matched, about `maxBytes` are full, a number of events has been looked at, or
   * there is no more. Null when nothing new has been recorded.
   */
  next(maxEvents = 1000, maxBytes = 1 << 20): EventBatch | null {
    const from = this.position;
    const head = this.reader.head();
    if (from >= head) return null;
    const { block } = this.reader;
    let dropped = 0;
    let events = 0;
    let at = from;
    while (at < head && at - dropped - from < SCAN_EVENTS) {
      const count = this.reader.read(at);
      if (block.first > at) {
        // Overtaken in mid-batch: the gap opens the next batch, so that a batch has at most one, at its beginning.
        if (at > from) break;
        dropped = block.first - at;
        at = block.first;
      }
      // Negative where a whole ring was recorded since `head` was read: then there is nothing but the gap.
      const end = Math.max(0, Math.min(count, head - at));
      const room = maxEvents - events;
      const scanned = this.pick(end, room);
      if (events === 0 && this.count > 0) this.encoder.begin(from + dropped);
      const added = this.count === 0 ? 0 : this.encoder.add(this.reader, this.picks, this.count, maxBytes);
      events += added;
      if (added < this.count) {
        at += this.picks[added]!;
        break;
      }
      at += scanned;
      if (scanned < end) break;
    }
    this.position = at;
    return { from, to: at, dropped, events, bytes: events === 0 ? NOTHING : this.encoder.take(at) };
  }

  // What pick() found.
  private picks = ALL;
  private count = 0;

  /** Picks matching events from the block's first `end`, at most `room`. Returns how many events are done with. */
  private pick(end: number, room: number): number {
    if (this.filter.everything) {
      this.picks = ALL;
      this.count = Math.min(end, room);
      return this.count;
    }
    const { meta, frame, time } = this.reader.block;
    this.picks = picked;
    this.count = 0;
    for (let i = 0; i < end; i++) {
      if (!this.filter.matches(meta[i]!, frame[i]!, time[i]!)) continue;
      if (this.count === room) return i;
      picked[this.count++] = i;
    }
    return end;
  }
}
