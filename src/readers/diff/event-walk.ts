/** Two rings beside each other: the first event in which they differ, and how often each kind of event came. */
import type { RingReader } from '../../engine/event-ring.ts';
import * as E from '../../engine/events.ts';

export interface EventView {
  /** Sequence number in its ring, and virtual time in seconds. */
  readonly sequence: number;
  readonly time: number;
  readonly event: string;
  readonly place: string;
  /** Who did it; empty where nobody did. */
  readonly context: string;
  /** 0: of no frame. */
  readonly frame: number;
  readonly a: number;
  readonly b: number;
}

/**
 * `order`: something else happens, or at another place, or to another frame. `time`: the same happens at another time. `values`:
 * with other values. One of the two is null where one run has ended and the other goes on.
 */
export interface EventDivergence {
  readonly differs: 'order' | 'time' | 'values';
  readonly left: EventView | null;
  readonly right: EventView | null;
  /** Events before it, which are the same in both, oldest first. */
  readonly before: readonly EventView[];
}

/** Events shown before the first that differs. */
const CONTEXT_EVENTS = 5;

/** Reads a ring event by event. */
export class EventCursor {
  readonly reader: RingReader;
  /** Sequence number of the event that is looked at. */
  sequence: number;
  private index = 0;
  private count = 0;

  /** `from`: sequence number of the first event, or of the oldest that is held. */
  constructor(reader: RingReader, from = 0) {
    this.reader = reader;
    this.sequence = from - 1;
  }
  /** Goes to the next event; false at the end of the ring. */
  next(): boolean {
    const { reader } = this;
    if (++this.index >= this.count) {
      this.count = reader.read(this.sequence + 1);
      this.index = 0;
      if (this.count === 0) return false;
    }
    this.sequence = reader.block.first + this.index;
    return true;
  }
  get kind(): number {
    return E.kindOf(this.reader.block.meta[this.index]!);
  }
  get place(): string {
    return this.reader.catalog.places[E.placeOf(this.reader.block.meta[this.index]!)]?.name ?? '?';
  }
  get context(): string {
    return this.reader.catalog.contexts[E.contextOf(this.reader.block.meta[this.index]!)]?.name ?? '';
  }
  get time(): number {
    return this.reader.block.time[this.index]!;
  }
  get frame(): number {
    return this.reader.block.frame[this.index]!;
  }
  get a(): number {
    return this.reader.block.a[this.index]!;
  }
  get b(): number {
    return this.reader.block.b[this.index]!;
  }
  view(): EventView {
    const { sequence, place, context, frame, a, b } = this;
    const event = E.KIND_BY_ID[this.kind]?.name ?? '?';
    return { sequence, time: this.time / 1e9, event, place, context, frame, a, b };
  }
}

/** Times and frames count from the first that is compared: boots of two documents differ in both. */
class Base {
  time = -1;
  frame = 0;
  timeOf(cursor: EventCursor): number {
    if (this.time < 0) this.time = cursor.time;
    return cursor.time - this.time;
  }
  frameOf({ frame }: EventCursor): number {
    if (this.frame === 0) this.frame = frame;
    return frame === 0 ? -1 : frame - this.frame;
  }
}
class Pair {
  readonly left: EventCursor;
  readonly right: EventCursor;
  private readonly bases = [new Base(), new Base()] as const;
  constructor(left: EventCursor, right: EventCursor) {
    this.left = left;
    this.right = right;
  }
  difference(): EventDivergence['differs'] | null {
    const { left, right, bases } = this;
    if (left.kind !== right.kind || bases[0].frameOf(left) !== bases[1].frameOf(right) || left.place !== right.place)
      return 'order';
    if (bases[0].timeOf(left) !== bases[1].timeOf(right)) return 'time';
    // where the recorder keeps bytes says nothing of the run
    const same = left.kind === E.PACKET_BYTES || (left.a === right.a && left.b === right.b);
    return same ? null : 'values';
  }
}

/**
 * The first event from `from` on in which two rings differ, times and frames counted from there; null: they hold the same.
 */
export function firstDivergence(
  left: RingReader,
  right: RingReader,
  from: { readonly left: number; readonly right: number } = { left: 0, right: 0 },
): EventDivergence | null {
  const one = new EventCursor(left, from.left);
  const other = new EventCursor(right, from.right);
  const pair = new Pair(one, other);
  for (let same = 0; ; same++) {
    const more = one.next();
    const moreThere = other.next();
    if (!more && !moreThere) return null;
    const differs = more && moreThere ? pair.difference() : 'order';
    if (differs !== null)
      return {
        differs,
        left: more ? one.view() : null,
        right: moreThere ? other.view() : null,
        before: lastEvents(left, one.sequence + (more ? 0 : 1), same),
      };
  }
}
/** The last of `same` events before event `end`. */
function lastEvents(reader: RingReader, end: number, same: number): EventView[] {
  const count = Math.min(same, CONTEXT_EVENTS);
  const cursor = new EventCursor(reader, end - count);
  return Array.from({ length: count }, () => {
    cursor.next();
    return cursor.view();
  });
}

export interface TrafficEvents {
  /** Sequence number of the first event of traffic; the end of the ring where there is none. */
  readonly from: number;
  /** How often each kind came since, by its name. */
  readonly counts: ReadonlyMap<string, number>;
  /** False where older events of the traffic have been overwritten. */
  readonly complete: boolean;
}

/** Counts what has happened since traffic began. */
export function trafficEvents(reader: RingReader): TrafficEvents {
  const cursor = new EventCursor(reader);
  const counts = new Float64Array(E.KIND_STRIDE);
  // where the ring has been overwritten, all that is left is of traffic: booting is over by then
  let from = reader.tail() > 0 ? reader.tail() : -1;
  const complete = from < 0;
  while (cursor.next()) {
    if (from < 0 && cursor.kind === E.TRAFFIC_START) from = cursor.sequence;
    if (from >= 0) counts[cursor.kind]!++;
  }
  const named = E.EVENT_KINDS.filter((kind) => counts[kind.id]! > 0).map(
    (kind) => [kind.name, counts[kind.id]!] as const,
  );
  return { from: from < 0 ? reader.head() : from, counts: new Map(named), complete };
}
