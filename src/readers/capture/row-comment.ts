/**
 * The comment of a row: a sentence for people, then `key=value` words for display filters. The sentence, the hop, the event
 * and the context are prepared once per (place, kind, context); the numbers are written per row.
 */
import type { RingReader } from '../../engine/event-ring.ts';
import { contextOf, KIND_BY_ID, KIND_STRIDE, kindOf, placeOf } from '../../engine/events.ts';
import { piece, shortText } from '../byte-writer.ts';
import { ROW_DROP, ROW_OF_KIND } from '../frame-path.ts';
import { directionOf } from '../place-kinds.ts';
import { MARK_CACHE, MARK_CHARGES, MARK_COPIES, MARK_PARENT } from './frame-table.ts';
import { EPB_INBOUND, EPB_OUTBOUND, type PcapngWriter, type RowTemplate } from './pcapng.ts';
import { CACHE_NAMES, EXIT_NAMES } from './row-charges.ts';
import {
  MARKS_SHIFT,
  R_A,
  R_COPIED,
  R_COPIES,
  R_COST,
  R_EXIT_KINDS,
  R_EXITS,
  R_FRAME,
  R_INTERRUPTS,
  R_KICKS,
  R_LENGTH,
  R_META,
  R_PARENT,
  R_SEQ,
  R_TIME,
  R_WAITED,
  RARE_NUMBERS,
  RARE_WORDS,
  ROW_NUMBERS,
  ROW_WORDS,
  type RowWindow,
} from './row-window.ts';

/** Most bytes of a comment behind its prepared beginning. */
export const KEYS_MAX = 512;

const COST = shortText(' cost=');
const WAIT = shortText(' wait=');
const COPY = shortText(' copy=');
const COPIES = shortText(' copies=');
const EXIT = EXIT_NAMES.map((names) => piece(` exit=${names}`));
const EXITS = shortText(' exits=');
const KICK = shortText(' kick=');
const IRQ = shortText(' irq=');
const CACHE = CACHE_NAMES.map((name) => piece(` cache=${name}`));
const PARENT = piece(' parent=');
const SEQ = piece(' seq=');
const DROP: readonly Uint8Array[] = Array.from({ length: KIND_STRIDE }, (_, k) =>
  piece(` drop=${KIND_BY_ID[k]?.name ?? '?'}`),
);

/** Prepared rows by place, kind and context; made when the first such row comes. */
export class RowTemplates {
  private readonly reader: RingReader;
  private readonly writer: PcapngWriter;
  /** By place * KIND_STRIDE + kind: nearly all rows of a kind at a place are of one context. */
  private readonly first: (Prepared | undefined)[];

  constructor(reader: RingReader, writer: PcapngWriter) {
    this.reader = reader;
    this.writer = writer;
    this.first = new Array(reader.layout.placeRoom * KIND_STRIDE);
  }

  /** `ofFrame`: the rows have a packet id. One kind at one place may come with and without. */
  of(meta: number, ofFrame: boolean): RowTemplate {
    const key = placeOf(meta) * KIND_STRIDE + kindOf(meta);
    for (let p = this.first[key]; p !== undefined; p = p.next) {
      if (p.meta === meta && p.ofFrame === ofFrame) return p.template;
    }
    const made = { meta, ofFrame, template: this.make(meta, ofFrame), next: this.first[key] };
    this.first[key] = made;
    return made.template;
  }

  private make(meta: number, ofFrame: boolean): RowTemplate {
    const { places, contexts } = this.reader.catalog;
    const place = places[placeOf(meta)]!;
    const kind = KIND_BY_ID[kindOf(meta)]!;
    const context = contexts[contextOf(meta)]?.name ?? '?';
    const text = piece(`${kind.text} | hop=${place.name} event=${kind.name} ctx=${context} ns=`);
    const isRow = ROW_OF_KIND[kind.id] !== 0;
    const flags = !isRow ? 0 : directionOf(kind.id, place) === 'out' ? EPB_OUTBOUND : EPB_INBOUND;
    return this.writer.rowTemplate(flags, ofFrame, place.queueIndex ?? -1, text);
  }
}
interface Prepared {
  readonly meta: number;
  readonly ofFrame: boolean;
  readonly template: RowTemplate;
  readonly next: Prepared | undefined;
}

/** The rest of the comment of the row in `slot`, from the virtual time on: at most KEYS_MAX bytes. */
export function writeKeys(w: PcapngWriter, rows: RowWindow, slot: number, ofEvent: boolean): void {
  const { numbers, words } = rows;
  const n = slot * ROW_NUMBERS;
  w.decimalOf(numbers, n + R_TIME);
  if (!ofEvent || numbers[n + R_FRAME]! !== 0) {
    w.short(COST);
    w.decimalOf(numbers, n + R_COST);
    if (numbers[n + R_WAITED]! > 0) {
      w.short(WAIT);
      w.decimalOf(numbers, n + R_WAITED);
    }
  }
  const marks = words[slot * ROW_WORDS + R_LENGTH]! >>> MARKS_SHIFT;
  if (marks !== 0) writeMarked(w, rows, slot, marks, ofEvent);
  const kind = kindOf(words[slot * ROW_WORDS + R_META]!);
  if (ROW_OF_KIND[kind] === ROW_DROP) w.raw(DROP[kind]!);
  if ((marks & MARK_PARENT) !== 0) {
    w.raw(PARENT);
    w.decimalOf(rows.rareNumbers, slot * RARE_NUMBERS + R_PARENT);
  }
  if (ofEvent) {
    w.raw(SEQ);
    w.decimalOf(rows.rareNumbers, slot * RARE_NUMBERS + R_SEQ);
  }
}

/** Copies, charges, cache. Of an event's row that copies, column `a` says how many bytes. */
function writeMarked(w: PcapngWriter, rows: RowWindow, slot: number, marks: number, ofEvent: boolean): void {
  const words = rows.rareWords;
  const r = slot * RARE_WORDS;
  if ((marks & MARK_COPIES) !== 0) {
    w.short(COPY);
    w.decimalOf(rows.rareNumbers, slot * RARE_NUMBERS + (ofEvent ? R_A : R_COPIED));
    w.short(COPIES);
    w.decimal(words[r + R_COPIES]!);
  }
  if ((marks & MARK_CHARGES) !== 0) {
    if (words[r + R_EXITS]! > 0) {
      w.raw(EXIT[words[r + R_EXIT_KINDS]!]!);
      w.short(EXITS);
      w.decimal(words[r + R_EXITS]!);
    }
    if (words[r + R_KICKS]! > 0) {
      w.short(KICK);
      w.decimal(words[r + R_KICKS]!);
    }
    if (words[r + R_INTERRUPTS]! > 0) {
      w.short(IRQ);
      w.decimal(words[r + R_INTERRUPTS]!);
    }
  }
  const cache = marks & MARK_CACHE;
  if (cache !== 0) w.raw(CACHE[cache]!);
}
