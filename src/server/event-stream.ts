/** What the NDJSON download and the WebSocket of a topology's events share: the filter and the place in the stream. */
import type { EventFilterQuery } from '../readers/event-filter.ts';
import { EventCursor } from '../readers/event-json.ts';
import { openFilter } from './event-filter.ts';
import type { Stopping } from './stopping.ts';
import { pause } from './stopping.ts';
import type { World } from './world.ts';

export interface EventRequest extends EventFilterQuery {
  readonly after?: number;
}

/** How often a stream that has nothing to send looks again. */
export const POLL_MS = 20;

/** A cursor of its own for one client. `start`: where to begin without `after`; left out = with what comes from now on. */
export function openCursor(world: World, query: EventRequest, start?: number): EventCursor {
  const reader = world.openReader();
  const from = query.after === undefined ? start : query.after + 1;
  return new EventCursor(reader, openFilter(reader.catalog, query), from);
}

export function gapJson(from: number, dropped: number): string {
  return JSON.stringify({ type: 'gap', from, to: from + dropped, dropped });
}

export interface LineOptions {
  readonly limit: number;
  readonly follow: boolean;
}

/** NDJSON until the limit, until what was recorded at the start is out, or (following) until somebody ends it. */
export async function* eventLines(
  world: World,
  cursor: EventCursor,
  options: LineOptions,
  stopping: Stopping,
  gone: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const end = options.follow ? Number.POSITIVE_INFINITY : world.counters.head();
  let left = options.limit;
  while (left > 0 && cursor.position < end && !gone.aborted) {
    const over = world.over;
    const batch = cursor.next(Math.min(left, 1000));
    if (batch === null) {
      if (!options.follow || over) return;
      await pause(POLL_MS, stopping.signal, gone);
      if (stopping.begun) return;
      continue;
    }
    left -= batch.events;
    if (batch.dropped > 0) yield Buffer.from(`${gapJson(batch.from, batch.dropped)}\n`);
    // Empty too: it gives the event loop air while a filter matches nothing.
    yield batch.lines;
  }
}
