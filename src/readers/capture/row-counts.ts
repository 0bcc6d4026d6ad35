/**
 * How many rows each hop had since the world began, for the statistics of a capture whose oldest events are overwritten:
 * read from the shared counters in a state that belongs to one head of the ring.
 */
import type { RingReader } from '../../engine/event-ring.ts';
import { KIND_STRIDE } from '../../engine/events.ts';

/** Counters that may be read in attempts at a consistent state: well under 1 ms. */
const READS = 400_000;

export interface RowCounts {
  /** Events that are counted, and the virtual time (ns) at which they had been published. */
  readonly head: number;
  readonly timeNs: number;
  /** Rows by place, or null where the engine was too fast to read a consistent state. */
  readonly rows: Float64Array | null;
}

/**
 * Counts the events whose kind is marked in `isRow`. Every event is counted once, and before it is published: the counters
 * belong to the head exactly when their sum is the head.
 */
export function countRows(reader: RingReader, isRow: Uint8Array): RowCounts {
  const attempts = Math.max(4, Math.min(64, Math.floor(READS / (reader.catalog.places.length * KIND_STRIDE))));
  for (let attempt = 0; attempt < attempts; attempt++) {
    const head = reader.head();
    // a running world may gain places meanwhile
    const places = reader.catalog.places.length;
    const rows = new Float64Array(places);
    const timeNs = reader.virtualTimeNs();
    let total = 0;
    for (let place = 0; place < places; place++) {
      let sum = 0;
      for (let kind = 0; kind < KIND_STRIDE; kind++) {
        const count = reader.counters[(place * KIND_STRIDE + kind) * 2]!;
        total += count;
        if (isRow[kind] === 1) sum += count;
      }
      rows[place] = sum;
    }
    if (total === head && reader.head() === head) return { head, timeNs, rows };
  }
  return { head: reader.head(), timeNs: reader.virtualTimeNs(), rows: null };
}
