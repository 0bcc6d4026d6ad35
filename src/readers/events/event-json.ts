/**
 * Events as JSON objects, in the three frames that clients ask for: a line each (NDJSON), a server-sent event each, or a
 * WebSocket message with a list. The bytes are written directly: building a string for each event costs more than the event.
 */
import type { WorldCatalog } from '../../engine/catalog.ts';
import type { EventBlock, RingReader } from '../../engine/event-ring.ts';
import { contextOf, KIND_BY_ID, kindOf, placeOf } from '../../engine/events.ts';
import type { MessageFields } from '../../machine/wire/vhost-user-fields.ts';
import { ByteWriter, piece } from '../byte-writer.ts';
import { NAME_A, NAME_B, valueOfA } from './event-columns.ts';
import type { EventEncoder } from './event-cursor.ts';
import { isMessage, messageOf } from './event-message.ts';

export type EventJson = Readonly<Record<string, number | string | MessageFields | null>>;

/** Event `i` of the reader's current block as an object: `seq`, `time` (seconds), `ns`, `event`, `place`, `context`, `frame`, then the kind's own columns. */
export function eventObject(reader: RingReader, block: EventBlock, i: number): EventJson {
  const meta = block.meta[i]!;
  const kind = kindOf(meta);
  const frame = block.frame[i]!;
  const event: Record<string, number | string | MessageFields | null> = {
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
  if (isMessage(kind)) event['message'] = messageOf(reader, kind, block.a[i]!, block.b[i]!);
  return event;
}

/** What stands around the objects. */
export type JsonForm =
  /** One object a line (application/x-ndjson, application/jsonl). */
  | 'lines'
  /** One server-sent event each, whose id is the sequence number (text/event-stream). */
  | 'server-sent'
  /** One message `{"type":"events","from":…,"events":[…],"to":…}` for all. */
  | 'message';

/** Most bytes that one event can take beside its names. */
const LINE_BYTES = 300;

const SEQ = piece('{"seq":');
const TIME = piece(',"time":');
const NS = piece(',"ns":');
const NO_PLACE = piece(',"place":null');
const NO_CONTEXT = piece(',"context":null');
const NO_FRAME = piece(',"frame":null');
const FRAME = piece(',"frame":');
const ID = piece('id: ');
const DATA = piece('\ndata: ');
const FROM = piece('{"type":"events","from":');
const EVENTS = piece(',"events":[');
const TO = piece('],"to":');
const MESSAGE = piece(',"message":');
const NEWLINE = 0x0a;
const COMMA = 0x2c;
const END = 0x7d;
const kindPieces: readonly Uint8Array[] = Array.from({ length: 256 }, (_, k) =>
  piece(`,"event":${JSON.stringify(KIND_BY_ID[k]?.name ?? `unknown.${k}`)}`),
);
function tailPieces(names: readonly string[]): (Uint8Array | null)[] {
  return Array.from({ length: 256 }, (_, k) => (names[k] ? piece(`,${JSON.stringify(names[k])}:`) : null));
}
const tailA = tailPieces(NAME_A);
const tailB = tailPieces(NAME_B);

export class JsonEncoder implements EventEncoder {
  private readonly form: JsonForm;
  private readonly writer = new ByteWriter(65536);
  private lineLimit = 0;
  /** Events in this batch. */
  private events = 0;
  // Prepared parts of an object.
  private readonly places: Uint8Array[] = [];
  private readonly contexts: Uint8Array[] = [];

  constructor(catalog: WorldCatalog, form: JsonForm) {
    this.form = form;
    this.prepare(catalog);
  }

  /** Parts for the places and contexts that have come since the last call. */
  private prepare({ places, contexts }: WorldCatalog): void {
    for (const p of places.slice(this.places.length)) this.places.push(piece(`,"place":${JSON.stringify(p.name)}`));
    for (const c of contexts.slice(this.contexts.length))
      this.contexts.push(piece(`,"context":${JSON.stringify(c.name)}`));
    const longest = (list: readonly Uint8Array[]) => list.reduce((n, x) => Math.max(n, x.length), 0);
    this.lineLimit = LINE_BYTES + longest(kindPieces) + longest(this.places) + longest(this.contexts);
  }

  begin(from: number): void {
    this.events = 0;
    if (this.form !== 'message') return;
    this.writer.reserve(LINE_BYTES);
    this.writer.raw(FROM);
    this.writer.decimal(from);
    this.writer.raw(EVENTS);
  }

  add(reader: RingReader, picks: Uint16Array, count: number, maxBytes: number): number {
    const w = this.writer;
    const { catalog } = reader;
    if (catalog.places.length > this.places.length || catalog.contexts.length > this.contexts.length) {
      this.prepare(catalog);
    }
    for (let n = 0; n < count; n++) {
      if (w.at >= maxBytes && this.events > 0) return n;
      w.reserve(this.lineLimit);
      const i = picks[n]!;
      this.before(reader.block.first + i);
      this.object(reader, i);
      this.after();
      this.events++;
    }
    return count;
  }

  take(to: number): Uint8Array {
    const w = this.writer;
    if (this.form === 'message') {
      w.reserve(LINE_BYTES);
      w.raw(TO);
      w.decimal(to);
      w.bytes[w.at++] = END;
    }
    return w.take();
  }

  private before(seq: number): void {
    const w = this.writer;
    if (this.form === 'message') {
      if (this.events > 0) w.bytes[w.at++] = COMMA;
    } else if (this.form === 'server-sent') {
      w.raw(ID);
      w.decimal(seq);
      w.raw(DATA);
    }
  }
  private after(): void {
    const w = this.writer;
    if (this.form === 'message') return;
    w.bytes[w.at++] = NEWLINE;
    if (this.form === 'server-sent') w.bytes[w.at++] = NEWLINE;
  }

  private object(reader: RingReader, i: number): void {
    const w = this.writer;
    const { block } = reader;
    const meta = block.meta[i]!;
    const kind = kindOf(meta);
    const frame = block.frame[i]!;
    w.raw(SEQ);
    w.decimal(block.first + i);
    w.raw(TIME);
    w.seconds(block.time[i]!);
    w.raw(NS);
    w.decimal(block.time[i]!);
    w.raw(kindPieces[kind]!);
    w.raw(this.places[placeOf(meta)] ?? NO_PLACE);
    w.raw(this.contexts[contextOf(meta)] ?? NO_CONTEXT);
    if (frame === 0) w.raw(NO_FRAME);
    else {
      w.raw(FRAME);
      w.decimal(frame);
    }
    const a = tailA[kind] ?? null;
    if (a !== null) {
      w.raw(a);
      w.decimal(valueOfA(reader, kind, frame, block.a[i]!));
    }
    const b = tailB[kind] ?? null;
    if (b !== null) {
      w.raw(b);
      w.decimal(block.b[i]!);
    }
    if (isMessage(kind)) this.message(messageOf(reader, kind, block.a[i]!, block.b[i]!));
    w.bytes[w.at++] = END;
  }
  /** Rare, and as long as it is: what a vhost-user message says. */
  private message(fields: MessageFields | null): void {
    const w = this.writer;
    const text = piece(JSON.stringify(fields));
    w.reserve(MESSAGE.length + text.length + this.lineLimit);
    w.raw(MESSAGE);
    w.raw(text);
  }
}
