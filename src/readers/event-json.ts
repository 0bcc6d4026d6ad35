/**
 * Events as JSON, one line each, for the WebSocket and for NDJSON downloads: the filter that a client asks for, and the
 * cursor that a slow client reads with. A cursor never makes the engine wait; what it could not read any more is counted.
 */
import type { WorldCatalog } from '../engine/catalog.ts';
import type { EventBlock, RingReader } from '../engine/event-ring.ts';
import { restore } from '../engine/event-ring.ts';
import {
  contextOf,
  EVENT_KINDS,
  type FrameRole,
  KIND_BY_ID,
  KIND_STRIDE,
  kindOf,
  MAX_CONTEXTS,
  MAX_PLACES,
  PACKET_BYTES,
  PACKET_CLONE,
  placeOf,
} from '../engine/events.ts';
import { ByteWriter, piece } from './byte-writer.ts';
import { commaList, globMatches } from './glob.ts';

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

// ---- filter -----------------------------------------------------------------------------------------------------

/**
 * The filter grammar, as query parameters; all that are given must match:
 *
 *     events=guest.*,dp.miss     kind names, comma-separated, `*` for any characters; a leading `!` takes kinds out again
 *     places=a/*,br0             place names, same rules
 *     contexts=vhost-*           context names, same rules
 *     role=dropped               born, cloned, delivered, consumed, dropped or none; comma-separated
 *     frame=17                   one frame id; or a range 17-40
 */
export interface EventFilterQuery {
  readonly events?: string;
  readonly places?: string;
  readonly contexts?: string;
  readonly role?: string;
  readonly frame?: string;
}

/** A parameter of the filter cannot be understood or matches nothing that exists. */
export class EventFilterError extends Error {
  readonly parameter: keyof EventFilterQuery;
  readonly value: string;
  readonly valid: readonly string[];
  constructor(parameter: keyof EventFilterQuery, value: string, expected: string, valid: readonly string[]) {
    super(`${parameter}: ${JSON.stringify(value)} ${expected}`);
    this.name = 'EventFilterError';
    this.parameter = parameter;
    this.value = value;
    this.valid = valid;
  }
}

const ROLES: readonly FrameRole[] = ['born', 'cloned', 'delivered', 'consumed', 'dropped', 'none'];

/** Which events a client wants: one byte per kind, place and context, and a range of frames. */
export class EventFilter {
  private readonly kinds = new Uint8Array(256);
  private readonly places = new Uint8Array(MAX_PLACES);
  private readonly contexts = new Uint8Array(MAX_CONTEXTS);
  private firstFrame = 0;
  private lastFrame = Number.POSITIVE_INFINITY;

  constructor(catalog: WorldCatalog, query: EventFilterQuery = {}) {
    const roles = parseRoles(query.role);
    select('events', query.events, EVENT_KINDS, this.kinds);
    for (const kind of EVENT_KINDS) if (!roles.has(kind.role)) this.kinds[kind.id] = 0;
    select('places', query.places, catalog.places, this.places);
    select('contexts', query.contexts, catalog.contexts, this.contexts);
    if (query.frame !== undefined) this.parseFrames(query.frame);
  }

  /** `frame` is the full id, 0 = the event has none. */
  matches(meta: number, frame: number): boolean {
    return (
      this.kinds[kindOf(meta)] === 1 &&
      this.places[placeOf(meta)] === 1 &&
      this.contexts[contextOf(meta)] === 1 &&
      frame >= this.firstFrame &&
      frame <= this.lastFrame
    );
  }

  private parseFrames(text: string): void {
    const match = /^(\d{1,16})(?:-(\d{1,16}))?$/.exec(text.trim());
    const first = Number(match?.[1] ?? Number.NaN);
    const last = Number(match?.[2] ?? first);
    if (!(Number.isSafeInteger(first) && Number.isSafeInteger(last) && first >= 1 && last >= first)) {
      throw new EventFilterError('frame', text, 'is neither a frame id nor a range such as 17-40', []);
    }
    this.firstFrame = first;
    this.lastFrame = last;
  }
}

function parseRoles(text: string | undefined): ReadonlySet<FrameRole> {
  if (text === undefined) return new Set(ROLES);
  const wanted = new Set<FrameRole>();
  for (const name of commaList(text)) {
    const role = ROLES.find((r) => r === name);
    if (role === undefined) throw new EventFilterError('role', name, `is not one of ${ROLES.join(', ')}`, ROLES);
    wanted.add(role);
  }
  if (wanted.size === 0)
    throw new EventFilterError('role', text, `is empty; expected some of ${ROLES.join(', ')}`, ROLES);
  return wanted;
}

/** Sets table[id] for the names that a list of patterns selects; all when there is no list or it only takes out. */
function select(
  parameter: 'events' | 'places' | 'contexts',
  text: string | undefined,
  items: readonly { readonly id: number; readonly name: string }[],
  table: Uint8Array,
): void {
  const patterns = commaList(text ?? '');
  if (text !== undefined && patterns.length === 0) {
    throw new EventFilterError(parameter, text, 'is empty; expected names or patterns such as guest.*', namesOf(items));
  }
  if (patterns.every((p) => p.startsWith('!'))) for (const item of items) table[item.id] = 1;
  for (const pattern of patterns) {
    const out = pattern.startsWith('!');
    const name = out ? pattern.slice(1) : pattern;
    let hits = 0;
    for (const item of items) {
      if (!globMatches(name, item.name)) continue;
      hits++;
      table[item.id] = out ? 0 : 1;
    }
    if (hits === 0) throw new EventFilterError(parameter, name, 'matches nothing here', namesOf(items));
  }
}
function namesOf(items: readonly { readonly name: string }[]): string[] {
  return items.map((x) => x.name);
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
        if (this.filter.matches(block.meta[i]!, block.frame[i]!)) {
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
