/** A topology's events as an HTTP body: NDJSON, or server-sent events. The WebSocket is in event-socket.ts. */
import type { Hold } from '../../engine/hold.ts';
import type { EventBatch } from '../../readers/events/event-cursor.ts';
import type { Stopping } from '../stopping.ts';
import { turn } from '../turns.ts';
import { gapJson, PING_MS, STALL_MS } from './event-protocol.ts';
import { type EventPlace, type EventSource, HELD_POLL_MS } from './event-source.ts';
import { Waiter } from './event-waiter.ts';

/** After how much silence a server-sent stream shows that it is alive. */
const HEARTBEAT_MS = 15_000;
/** After how long a browser that lost the stream comes back. */
const RETRY_MS = 1000;

export interface StreamOptions {
  readonly form: 'lines' | 'server-sent';
  readonly limit: number;
  readonly follow: boolean;
  /** Where virtual time waits for this client. The caller releases it. */
  readonly hold: Hold | null;
}

/** Until the limit, until what was recorded at the start is out, or (following) until somebody ends it. */
export async function* eventChunks(
  source: EventSource,
  place: EventPlace,
  { form, limit, follow, hold }: StreamOptions,
  stopping: Stopping,
  gone: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const sse = form === 'server-sent';
  const { world } = source;
  const end = follow ? Number.POSITIVE_INFINITY : source.next;
  let left = limit;
  let sentAt = performance.now();
  const waiter = new Waiter(source, stopping.signal, gone);
  try {
    if (sse) yield text(`retry: ${RETRY_MS}\n\n`);
    while (left > 0 && place.position < end) {
      if (gone.aborted || stopping.begun) return;
      const { over } = world;
      const batch = place.next(left);
      if (batch !== null) {
        left -= batch.events;
        if (batch.dropped > 0) yield text(gapText(batch, sse));
        // Empty too: it gives the event loop air while a filter matches nothing.
        yield batch.bytes;
        hold?.advance(place.position);
        if (batch.events + batch.dropped > 0) sentAt = performance.now();
      } else if (over || !follow) break;
      else if (await waiter.sleep(hold !== null ? HELD_POLL_MS : sse ? silence(sentAt) : undefined)) await turn();
      if (sse && silence(sentAt) === 0) {
        sentAt = performance.now();
        yield text(heartbeat(place));
      }
    }
  } finally {
    waiter.close();
  }
  if (sse) yield text(`event: end\ndata: ${JSON.stringify(endOf(source, place, left))}\n\n`);
}

/** Milliseconds until it is time for a heartbeat. */
function silence(sentAt: number): number {
  return Math.max(0, Math.ceil(sentAt + HEARTBEAT_MS - performance.now()));
}

/**
 * Calls `cut` where a client that virtual time waits for has taken nothing for STALL_MS although there is something for it;
 * until the returned function is called.
 */
export function watchStall(source: EventSource, place: EventPlace, cut: () => void): () => void {
  let { position } = place;
  let since = performance.now();
  const timer = setInterval(() => {
    if (place.position !== position || place.position >= source.next) {
      position = place.position;
      since = performance.now();
    } else if (performance.now() - since > STALL_MS) cut();
  }, PING_MS);
  return () => clearInterval(timer);
}

function gapText({ from, dropped }: EventBatch, sse: boolean): string {
  const gap = gapJson(from, dropped);
  // Who comes back after a gap shall not be told of it again: its id is that of the last event that was missed.
  return sse ? `id: ${from + dropped - 1}\nevent: gap\ndata: ${gap}\n\n` : `${gap}\n`;
}

/** A comment; and the id without data moves the place to come back to past what the filter left out, without an event. */
function heartbeat(place: EventPlace): string {
  return place.position === 0 ? ': alive\n\n' : `: alive\nid: ${place.position - 1}\n\n`;
}

function endOf(source: EventSource, place: EventPlace, left: number): object {
  const { world, next } = source;
  const gone = world.over ? (world.failed ?? 'the topology was deleted or rebuilt') : 'everything that was held is out';
  return { type: 'end', reason: left <= 0 ? 'the limit is reached' : gone, position: place.position, next };
}

function text(value: string): Uint8Array {
  return Buffer.from(value);
}
