/**
 * Events as JSON, one line each, for the WebSocket and for downloads: the cursor that a client reads with. A cursor never
 * makes the engine wait; what it could not read any more is counted. Which events: event-filter.ts.
 */
import type { EventBlock, RingReader } from '../engine/event-ring.ts';
import { restore } from '../engine/event-ring.ts';
import { contextOf, KIND_BY_ID, KIND_STRIDE, kindOf, PACKET_BYTES, PACKET_CLONE, placeOf } from '../engine/events.ts';
import { ByteWriter, piece } from './byte-writer.ts';
import type { EventFilter } from './event-filter.ts';

export type EventJson = Readonly<Record<string, number | string | null>>;

/** Names of the columns `a` and `b` in JSON, by kind: the first words of the table's entry; empty where unused. */
function columnName(column: string): string {
  const words = column
    .split(/[|/]/)[0]!
    .trim()
    .split(' ')
    .filter((w) => w !== '');
  return words.map((w, i) => (i === 0 ? w : w[0]!.toUpperCase() + w.slice(1))).join('');
}
const NAME_A: readonly string[] = Array.from({ length: KIND_STRIDE }, (_, k) => columnName(KIND_BY_ID[k]?.a ?? ''));
const NAME_B: readonly string[] = Array.from({ length: KIND_STRIDE }, (_, k) => columnName(KIND_BY_ID[k]?.b ?? ''));

/** Column `a` as a full number: positions and parents are recorded as their low halves. */
function valueOfA(reader: RingReader, kind: number, frame: number, a: number): number {
  if (kind === PACKET_BYTES) return reader.bytePosition(a);
  if (kind === PACKET_CLONE) return restore(a, frame);
  return a;
}

/** Event `i` of the reader's current block as an object: `seq`, `time` (seconds), `ns`, `event`, `place`, `context`, `frame`, then the kind's own columns. */
export function eventObject(reader: RingReader, block: EventBlock, i: number): EventJson {
  const meta = block.meta[i]!;
  const kind = kindOf(meta);
  const frame = block.frame[i]!;
  const event: Record<string, number | string | null> = {
    seq: block.first + i,
    time: block.time[i]! / 1e9,
    ns: block.time[i]!,
    event: KIND_BY_ID[kind]?.name ?? `unknown.${kind}`,
    place: reader.catalog.places[placeOf(meta)]?.name ?? null,
    context: reader.catalog.contexts[contextOf(meta)]?.name ?? null,
    frame: frame === 0 ? null : frame,
  };
  if (NAME_A[kind]) event[NAME_A[kind]] = valueOfA(reader, kind, frame, block.a[i]!);
  if (NAME_B[kind]) event[NAME_B[kind]] = block.b[i]!;
  return event;
}

// ---- cursor -----------------------------------------------------------------------------------------------------

/** What one call of EventCursor.next() read. Sequence numbers [from, to) are accounted for, dropped ones included. */
export interface EventBatch {
  readonly from: number;
  readonly to: number;
  /** Events at the beginning of [from, to) that had been overwritten, whether they would have matched or not. */
  readonly dropped: number;
  /** Events in `lines`. */
  readonly events: number;
  /** NDJSON in UTF-8, each line ended by a newline. The bytes belong to the caller. */
  readonly lines: Uint8Array;
}

/** Most bytes that one line can take beside its names. */
const LINE_BYTES = 256;
/** Events looked at in one call, so that a filter that matches nothing does not hold up the event loop: about 1 ms. */
const SCAN_EVENTS = 16384;

/** A client's place in the event stream. */
export class EventCursor {
  /** Sequence number of the next event. */
  position: number;
  private readonly reader: RingReader;
  private readonly filter: EventFilter;
  private readonly writer: ByteWriter;
  private readonly lineLimit: number;
  // Prepared parts of a line.
  private readonly kinds: readonly Uint8Array[];
  private readonly places: readonly Uint8Array[];
  private readonly contexts: readonly Uint8Array[];
  private readonly tailA: readonly (Uint8Array | null)[];
  private readonly tailB: readonly (Uint8Array | null)[];

  /** `from`: sequence number to start at; left out = only what comes from now on. */
  constructor(reader: RingReader, filter: EventFilter, from?: number) {
    const { places, contexts } = reader.catalog;
    this.reader = reader;
    this.filter = filter;
    this.position = from ?? reader.head();
    this.writer = new ByteWriter(65536);
    this.kinds = kindPieces;
    this.places = places.map((p) => piece(`,"place":${JSON.stringify(p.name)}`));
    this.contexts = contexts.map((c) => piece(`,"context":${JSON.stringify(c.name)}`));
    this.tailA = tailPieces(NAME_A);
    this.tailB = tailPieces(NAME_B);
    const longest = (list: readonly Uint8Array[]) => list.reduce((n, x) => Math.max(n, x.length), 0);
    this.lineLimit = LINE_BYTES + longest(this.kinds) + longest(this.places) + longest(this.contexts);
  }

  /** Events between the cursor and the newest one, overwritten ones included. */
  behind(): number {
    return Math.max(0, this.reader.head() - this.position);
  }

  /**
   * Reads on until `maxEvents` matched, about `maxBytes` are full, about a millisecond is over, or there is no more.
   * Null when nothing new has been recorded.
   */
  next(maxEvents = 1000, maxBytes = 1 << 20): EventBatch | null {
    const from = this.position;
    const head = this.reader.head();
    if (from >= head) return null;
    const block = this.reader.block;
    let dropped = 0;
    let events = 0;
    let at = from;
    let stop = false;
    while (!stop && at < head && at - dropped - from < SCAN_EVENTS) {
      const count = this.reader.read(at);
      if (block.first > at) {
        // Overtaken in mid-batch: the gap opens the next batch, so that a batch has at most one, at its beginning.
        if (at > from) break;
        dropped = block.first - at;
        at = block.first;
      }
      const end = Math.min(block.first + count, head);
      while (at < end) {
        const i = at - block.first;
        if (this.filter.matches(block.meta[i]!, block.frame[i]!, block.time[i]!)) {
          if (events === maxEvents || (this.writer.at >= maxBytes && events > 0)) {
            stop = true;
            break;
          }
          this.line(i);
          events++;
        }
        at++;
      }
    }
    this.position = at;
    return { from, to: at, dropped, events, lines: this.writer.take() };
  }

  private line(i: number): void {
    const w = this.writer;
    const block = this.reader.block;
    const meta = block.meta[i]!;
    const kind = kindOf(meta);
    const frame = block.frame[i]!;
    w.reserve(this.lineLimit);
    w.raw(SEQ);
    w.decimal(block.first + i);
    w.raw(TIME);
    w.seconds(block.time[i]!);
    w.raw(NS);
    w.decimal(block.time[i]!);
    w.raw(this.kinds[kind]!);
    w.raw(this.places[placeOf(meta)] ?? NO_PLACE);
    w.raw(this.contexts[contextOf(meta)] ?? NO_CONTEXT);
    if (frame === 0) w.raw(NO_FRAME);
    else {
      w.raw(FRAME);
      w.decimal(frame);
    }
    const a = this.tailA[kind]!;
    if (a !== null) {
      w.raw(a);
      w.decimal(valueOfA(this.reader, kind, frame, block.a[i]!));
    }
    const b = this.tailB[kind]!;
    if (b !== null) {
      w.raw(b);
      w.decimal(block.b[i]!);
    }
    w.raw(END);
  }
}

const SEQ = piece('{"seq":');
const TIME = piece(',"time":');
const NS = piece(',"ns":');
const NO_PLACE = piece(',"place":null');
const NO_CONTEXT = piece(',"context":null');
const NO_FRAME = piece(',"frame":null');
const FRAME = piece(',"frame":');
const END = piece('}\n');
const kindPieces: readonly Uint8Array[] = Array.from({ length: 256 }, (_, k) =>
  piece(`,"event":${JSON.stringify(KIND_BY_ID[k]?.name ?? `unknown.${k}`)}`),
);
function tailPieces(names: readonly string[]): (Uint8Array | null)[] {
  return Array.from({ length: 256 }, (_, k) => (names[k] ? piece(`,${JSON.stringify(names[k])}:`) : null));
}
