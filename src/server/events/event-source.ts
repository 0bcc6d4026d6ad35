/**
 * What all clients of one world's events share: one reader, one encoder for each form, one look at the world every
 * POLL_MS instead of one for each client, and the batches just made. Clients that keep up with the same filter ask for the
 * same batch at the same time: it is encoded once and its bytes are sent to all.
 */
import type { RingReader } from '../../engine/event-ring.ts';
import { BINARY_EVENTS, BinaryEncoder } from '../../readers/events/event-binary.ts';
import { type EventBatch, EventCursor, type EventEncoder } from '../../readers/events/event-cursor.ts';
import type { EventFilterQuery } from '../../readers/events/event-filter.ts';
import { JsonEncoder, type JsonForm } from '../../readers/events/event-json.ts';
import { Problem } from '../problem.ts';
import type { World } from '../world.ts';
import { filterOf, openFilter } from './event-filter.ts';

export type EventForm = JsonForm | 'binary';

/** How often streams that have nothing to send look whether something was recorded. */
export const POLL_MS = 20;
/** The same for a client that virtual time waits for: a small ring has to be emptied often. */
export const HELD_POLL_MS = 4;
/** Events and bytes of one batch: about a millisecond of work, after which somebody else has a turn. */
const BATCH_EVENTS = { lines: 1000, 'server-sent': 1000, message: 1000, binary: BINARY_EVENTS } as const;
export const BATCH_BYTES = 256 * 1024;
/** Batches that are kept until the next look. */
const KEPT_BATCHES = 8;

export function batchEvents(form: EventForm): number {
  return BATCH_EVENTS[form];
}

/** Events that clients of this process were given, and that they were told they missed; for the metrics. */
export const eventTotals: Readonly<Record<EventForm, { sent: number; dropped: number }>> = {
  lines: { sent: 0, dropped: 0 },
  'server-sent': { sent: 0, dropped: 0 },
  message: { sent: 0, dropped: 0 },
  binary: { sent: 0, dropped: 0 },
};

// Worlds of all topologies share it: it knows no names.
const binary = new BinaryEncoder();
const sources = new WeakMap<World, EventSource>();

export class EventSource {
  readonly world: World;
  private readonly reader: RingReader;
  private readonly encoders = new Map<EventForm, EventEncoder>([['binary', binary]]);
  private readonly listeners = new Set<() => void>();
  private readonly batches = new Map<string, EventBatch>();
  private timer: NodeJS.Timeout | null = null;
  private seen = 0;

  private constructor(world: World) {
    this.world = world;
    this.reader = world.openReader();
  }

  static of(world: World): EventSource {
    let source = sources.get(world);
    if (source === undefined) {
      source = new EventSource(world);
      sources.set(world, source);
    }
    return source;
  }

  /** Sequence number that the next event will have. */
  get next(): number {
    return this.reader.head();
  }
  /** Oldest event that is held. */
  get oldest(): number {
    return this.reader.tail();
  }
  get virtualTimeSeconds(): number {
    return this.reader.virtualTimeNs() / 1e9;
  }

  /**
   * A place in the stream. `start`: sequence number to begin with; left out = what comes from now on. Throws a problem;
   * `at`: what its pointers begin with.
   */
  open(form: EventForm, query: EventFilterQuery, start: number | undefined, at?: string): EventPlace {
    const filter = openFilter(this.reader.catalog, query, at);
    if (start !== undefined && start > this.next) {
      const detail = `after: ${start - 1} is beyond the newest event, ${this.next - 1}; a world that was rebuilt counts from 0`;
      throw new Problem('RINGSIDE_E_REQUEST', detail, {
        errors: [{ pointer: `${at ?? 'querystring'}/after`, detail }],
      });
    }
    const cursor = new EventCursor(this.reader, filter, this.encoder(form), start);
    return new EventPlace(this.batches, cursor, form, JSON.stringify(filterOf(query)));
  }

  /** Calls `listener` soon after events were recorded, and when the world has ended; until the returned function is called. */
  onNews(listener: () => void): () => void {
    this.listeners.add(listener);
    if (this.timer === null) {
      // Whatever was recorded since the listener looked itself, the first look tells it.
      this.seen = -1;
      this.timer = setInterval(this.look, POLL_MS);
      this.world.events.once('end', this.tell);
    }
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size > 0 || this.timer === null) return;
      clearInterval(this.timer);
      this.timer = null;
      this.world.events.off('end', this.tell);
      this.batches.clear();
    };
  }

  private readonly look = (): void => {
    this.batches.clear();
    const head = this.next;
    if (head === this.seen) return;
    this.seen = head;
    this.tell();
  };
  private readonly tell = (): void => {
    for (const listener of [...this.listeners]) listener();
  };

  private encoder(form: EventForm): EventEncoder {
    let encoder = this.encoders.get(form);
    if (encoder === undefined) {
      encoder = new JsonEncoder(this.reader.catalog, form as JsonForm);
      this.encoders.set(form, encoder);
    }
    return encoder;
  }
}

/** One client's place in a world's events. */
export class EventPlace {
  private readonly batches: Map<string, EventBatch>;
  private readonly cursor: EventCursor;
  private readonly form: EventForm;
  private readonly filter: string;

  constructor(batches: Map<string, EventBatch>, cursor: EventCursor, form: EventForm, filter: string) {
    this.batches = batches;
    this.cursor = cursor;
    this.form = form;
    this.filter = filter;
  }

  /** Sequence number of the next event. */
  get position(): number {
    return this.cursor.position;
  }

  /** The next batch of at most `most` events; null when nothing new has been recorded. Its bytes may be sent to others, too. */
  next(most = Number.POSITIVE_INFINITY): EventBatch | null {
    const batch = this.batchOf(Math.min(most, BATCH_EVENTS[this.form]));
    if (batch === null) return null;
    this.cursor.position = batch.to;
    const totals = eventTotals[this.form];
    totals.sent += batch.events;
    totals.dropped += batch.dropped;
    return batch;
  }

  private batchOf(events: number): EventBatch | null {
    const key = `${this.cursor.position} ${events} ${this.form} ${this.filter}`;
    const kept = this.batches.get(key);
    if (kept !== undefined) return kept;
    const batch = this.cursor.next(events, BATCH_BYTES);
    if (batch === null) return null;
    this.batches.set(key, batch);
    if (this.batches.size > KEPT_BATCHES) {
      const [oldest = ''] = this.batches.keys();
      this.batches.delete(oldest);
    }
    return batch;
  }
}
