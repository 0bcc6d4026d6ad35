/**
 * The recorded hops of a world as pcapng. A scan of the ring in landing order resolves each row's bytes (the version that
 * was stored last before the event), a window puts the rows into time order, and each row is copied from the byte ring
 * straight into the output. Runs in the reader's thread, in steps of a few milliseconds; the engine is never stopped.
 *
 * What could not be read any more is counted per interface (isb_ifdrop), not left out silently.
 */
import type { Place } from '../engine/catalog.ts';
import type { RingReader } from '../engine/event-ring.ts';
import { restore } from '../engine/event-ring.ts';
import {
  contextOf,
  DP_INGRESS,
  KIND_BY_ID,
  KIND_STRIDE,
  kindOf,
  PACKET_BYTES,
  PACKET_CLONE,
  placeOf,
} from '../engine/events.ts';
import { piece } from './byte-writer.ts';
import { PATH_CHARGED, PATH_OF_KIND, PATH_OFF, PATH_STEP, ROW_DROP, ROW_HOP, ROW_OF_KIND } from './frame-path.ts';
import type { FramePage } from './frame-table.ts';
import { FrameTable, PAGE_FRAMES } from './frame-table.ts';
import { globMatches } from './glob.ts';
import { EPB_INBOUND, EPB_OUTBOUND, EPB_OVERHEAD, PcapngWriter, SNAPLEN_MAX } from './pcapng.ts';
import { directionOf, hopPlaces } from './place-kinds.ts';
import { countRows, type RowCounts } from './row-counts.ts';
import { RowWindow } from './row-window.ts';

/** Upper bound of a yielded chunk, bytes. */
export const CHUNK_BYTES = 262144;
/** Blocks of the ring that are scanned before the event loop gets air, and the time that they may take while the code is cold. */
const BLOCKS_PER_STEP = 4;
const STEP_MS = 2;
const BLOCK_ROWS = 2048;
const EMPTY = new Uint8Array(0);

export interface CaptureOptions {
  /** `wire`: frames as they enter a bridge, or the hops named by `points`. `journey`: all hops, and where frames were dropped. */
  readonly view: 'wire' | 'journey';
  /** Place names, exact or with `*`. */
  readonly points?: readonly string[];
  /** Bytes kept of each frame; 0 or left out = all. */
  readonly snaplen?: number;
  /** Sequence numbers: rows come from events in [fromEvent, toEvent). Default: everything held when the capture starts. */
  readonly fromEvent?: number;
  readonly toEvent?: number;
  /** Written into the section header, e.g. `Ringside 0.1.0`. */
  readonly application?: string;
}

/** `points` names a place that is no hop of this world. */
export class UnknownPointError extends Error {
  readonly point: string;
  readonly valid: readonly string[];
  constructor(point: string, valid: readonly string[]) {
    super(`there is no capture point ${JSON.stringify(point)}; the points are ${valid.join(', ')}`);
    this.name = 'UnknownPointError';
    this.point = point;
    this.valid = valid;
  }
}

/** Names that `points` can choose from, in the order of the interfaces. */
export function capturePoints(reader: RingReader): string[] {
  return hopPlaces(reader, true).map((p) => p.name);
}

/**
 * A capture in parts, for consumers that follow a running world: header(), then scan() as often as wanted, then flush()
 * and trailer(). captureChunks() is the whole of it for a snapshot.
 */
export class Capture {
  private readonly reader: RingReader;
  private readonly options: CaptureOptions;
  private readonly writer: PcapngWriter;
  private readonly window = new RowWindow();
  private readonly frames = new FrameTable();
  private readonly snaplen: number;
  /** Interface index by place id; -1 = no interface (yet), -2 = not wanted. */
  private readonly interfaceOf: Int32Array;
  private readonly declared: Place[] = [];
  /** 1 = events of this kind are rows. */
  private readonly isRow: Uint8Array = new Uint8Array(256);
  /** Rows that were read, and rows that were written, by interface. */
  private readonly seen: number[] = [];
  private readonly written: number[] = [];
  // Prepared parts of rows, by place * KIND_STRIDE + kind and by context.
  private readonly prefixes: (Uint8Array | undefined)[];
  private readonly flags: Uint8Array;
  private readonly queues: Int32Array;
  private readonly contexts: readonly Uint8Array[];
  private readonly commentLimit: number;
  /** Rows count from this event on; earlier ones only say where bytes are. */
  private readonly from: number;
  private next: number;
  private lostEvents = 0;
  private snapshot: RowCounts = { head: 0, timeNs: 0, rows: null };

  constructor(reader: RingReader, options: CaptureOptions) {
    const { places, contexts } = reader.catalog;
    this.reader = reader;
    this.options = options;
    this.snaplen = options.snaplen === undefined || options.snaplen === 0 ? SNAPLEN_MAX : options.snaplen;
    this.writer = new PcapngWriter(reader.catalog.epochNs, CHUNK_BYTES);
    this.from = options.fromEvent ?? 0;
    this.next = 0;
    this.prefixes = new Array(places.length * KIND_STRIDE);
    this.flags = new Uint8Array(places.length * KIND_STRIDE);
    this.queues = Int32Array.from(places, (p) => p.queueIndex ?? -1);
    this.contexts = contexts.map((c) => piece(c.name));
    const longest = (names: readonly { readonly name: string }[]) =>
      names.reduce((n, x) => Math.max(n, piece(x.name).length), 0);
    // Sentence, four labels and four numbers of at most 17 digits beside the names.
    this.commentLimit = 512 + longest(places) + longest(contexts);
    this.interfaceOf = new Int32Array(places.length).fill(options.points === undefined ? -1 : -2);
    this.choose();
  }

  /** Decides the interfaces and the kinds of rows. */
  private choose(): void {
    const { view, points } = this.options;
    const all = hopPlaces(this.reader, view === 'journey');
    let wanted = all;
    if (points !== undefined) {
      for (const point of points) {
        if (!all.some((p) => globMatches(point, p.name)))
          throw new UnknownPointError(
            point,
            all.map((p) => p.name),
          );
      }
      wanted = all.filter((p) => points.some((point) => globMatches(point, p.name)));
    } else if (view === 'wire') {
      wanted = all.filter((p) => p.type === 'port');
      this.interfaceOf.fill(-2);
    }
    for (let k = 0; k < 256; k++) {
      const hop = ROW_OF_KIND[k] === ROW_HOP && (view === 'journey' || points !== undefined || k === DP_INGRESS);
      if (hop || (ROW_OF_KIND[k] === ROW_DROP && view === 'journey')) this.isRow[k] = 1;
    }
    for (const place of wanted) this.addInterface(place);
  }

  private addInterface(place: Place): number {
    const index = this.declared.length;
    this.declared.push(place);
    this.seen.push(0);
    this.written.push(0);
    this.interfaceOf[place.id] = index;
    return index;
  }

  /** Sequence number of the event that scan() reads next: what a reader that holds may let go of (rows that wait aside). */
  get position(): number {
    return this.next;
  }

  /** Section header and interfaces. */
  header(): Uint8Array {
    const { topology, seed } = this.reader.catalog;
    this.writer.section({
      hardware: 'emulated virtualization host',
      os: 'virtual time',
      application: this.options.application ?? 'Ringside',
      comments: [`topology=${topology} seed=${seed} view=${this.options.view}`],
    });
    for (const place of this.declared) this.describe(place);
    return this.writer.take();
  }
  private describe(place: Place): void {
    this.writer.interface({ name: place.name, description: place.description, snaplen: this.snaplen });
  }

  /**
   * Reads what has been recorded since the last scan and yields the rows that are final. Takes the head of the ring when
   * it starts and stops there.
   */
  *scan(): Generator<Uint8Array, void, undefined> {
    this.snapshot = countRows(this.reader, this.isRow);
    const to = Math.min(this.snapshot.head, this.options.toEvent ?? Number.POSITIVE_INFINITY);
    while (this.next < to) {
      const started = performance.now();
      for (let i = 0; i < BLOCKS_PER_STEP && this.next < to; i++) {
        // At least one block: a thread that is stalled here must not stand still.
        if (i > 0 && performance.now() - started > STEP_MS) break;
        this.scanBlock(to);
        while (this.fill(false)) yield this.writer.take();
      }
      this.frames.evict(this.reader.tail(), this.reader.bytesHead() - this.reader.layout.byteCapacity);
      yield this.writer.at > 0 ? this.writer.take() : EMPTY;
    }
  }

  /** Yields the rows that still wait for later ones, in time order. */
  *flush(): Generator<Uint8Array, void, undefined> {
    while (this.fill(true)) yield this.writer.take();
    if (this.writer.at > 0) yield this.writer.take();
  }

  /** Interface statistics: how many frames each hop saw, and how many of them are not in the file. */
  trailer(): Uint8Array {
    const exact = this.lostEvents === 0;
    const whole = this.from === 0 && this.options.toEvent === undefined;
    const rows = this.snapshot.rows;
    let comment = '';
    if (!exact && !(whole && rows !== null)) {
      comment = `${this.lostEvents} events were overwritten before they could be read; rows among them are not counted here`;
    }
    for (let i = 0; i < this.declared.length; i++) {
      const counted = whole && rows !== null && !exact ? rows[this.declared[i]!.id]! : this.seen[i]!;
      const received = Math.max(counted, this.seen[i]!);
      this.writer.statistics(i, this.snapshot.timeNs, received, received - this.written[i]!, comment);
    }
    return this.writer.take();
  }

  /** Copies one block out of the ring, follows its frames and puts its rows into the window. */
  private scanBlock(to: number): void {
    const reader = this.reader;
    const count = reader.read(this.next);
    const block = reader.block;
    const first = block.first;
    if (first > this.next) {
      this.lostEvents += Math.max(0, Math.min(first, to) - Math.max(this.next, this.from));
      // Among the lost events may be new bytes of any frame that was followed, and parts of its way: a row without its
      // bytes is counted as dropped, a row with earlier ones would be wrong.
      this.frames.clear();
    }
    const end = Math.min(first + count, to);
    this.next = Math.max(end, first);
    for (let i = 0; first + i < end; i++) {
      const frame = block.frame[i]!;
      const meta = block.meta[i]!;
      const kind = kindOf(meta);
      if (frame === 0) {
        // A drop of something that never was a frame (a refused chain): counted, without a row.
        if (this.isRow[kind] === 1 && first + i >= this.from && this.interfaceOf[placeOf(meta)]! >= 0) {
          this.seen[this.interfaceOf[placeOf(meta)]!]!++;
        }
        continue;
      }
      const page = this.frames.page(frame);
      const at = frame % PAGE_FRAMES;
      page.touched = first + i;
      if (kind === PACKET_BYTES) {
        const position = reader.bytePosition(block.a[i]!);
        page.position[at] = position;
        page.length[at] = block.b[i]!;
        if (position > page.newest) page.newest = position;
      } else if (kind === PACKET_CLONE) {
        this.inherit(page, at, restore(block.a[i]!, frame));
      }
      const time = block.time[i]!;
      follow(page, at, PATH_OF_KIND[kind]!, contextOf(meta), time);
      if (this.isRow[kind] === 1 && first + i >= this.from) this.row(page, at, frame, meta, time);
    }
  }

  /** A clone has its parent's bytes until it gets its own. */
  private inherit(page: FramePage, at: number, parent: number): void {
    const from = this.frames.find(parent);
    if (from === undefined) return;
    const parentAt = parent % PAGE_FRAMES;
    page.position[at] = from.position[parentAt]!;
    page.length[at] = from.length[parentAt]!;
    if (page.position[at]! > page.newest) page.newest = page.position[at]!;
  }

  private row(page: FramePage, at: number, frame: number, meta: number, time: number): void {
    const place = placeOf(meta);
    let index = this.interfaceOf[place]!;
    if (index === -2) return;
    // A drop at a place that no frame was dropped at when the header was written.
    if (index === -1) {
      const info = this.reader.catalog.places[place];
      if (info === undefined) return;
      index = this.addInterface(info);
      this.describe(info);
    }
    this.seen[index]!++;
    const cost = page.cost[at]!;
    const waited = page.waited[at]!;
    page.cost[at] = 0;
    page.waited[at] = 0;
    if (page.position[at]! < 0) return;
    const slot = this.window.insert(time);
    this.window.frame[slot] = frame;
    this.window.position[slot] = page.position[at]!;
    this.window.length[slot] = page.length[at]!;
    this.window.meta[slot] = meta;
    this.window.cost[slot] = cost;
    this.window.waited[slot] = waited;
  }

  /** Writes final rows. True when the chunk is full (and more may follow), false when no row is ready. */
  private fill(all: boolean): boolean {
    for (;;) {
      const slot = this.window.ready(BLOCK_ROWS, all);
      if (slot < 0) return false;
      const captured = Math.min(this.window.length[slot]!, this.snaplen);
      const most = EPB_OVERHEAD + captured + 4 + this.commentLimit + 16;
      if (this.writer.at > 0 && this.writer.at + most > CHUNK_BYTES) return true;
      this.write(slot, captured);
      this.window.remove();
    }
  }

  private write(slot: number, captured: number): void {
    const w = this.writer;
    const rows = this.window;
    const meta = rows.meta[slot]!;
    const place = placeOf(meta);
    const kind = kindOf(meta);
    const index = this.interfaceOf[place]!;
    const time = rows.time[slot]!;
    const data = w.packet(index, time, captured, rows.length[slot]!);
    if (!this.reader.readBytes(rows.position[slot]!, captured, w.bytes, data)) {
      w.packetCancel();
      return;
    }
    this.written[index]!++;
    const key = place * KIND_STRIDE + kind;
    const prefix = this.prefixes[key] ?? this.prefix(place, kind);
    w.packetOptions(this.flags[key]!, rows.frame[slot]!, this.queues[place]!);
    w.commentBegin(this.commentLimit);
    w.raw(prefix);
    w.raw(this.contexts[contextOf(meta)] ?? UNKNOWN);
    w.raw(NS);
    w.decimal(time);
    w.raw(COST);
    w.decimal(rows.cost[slot]!);
    if (rows.waited[slot]! > 0) {
      w.raw(WAIT);
      w.decimal(rows.waited[slot]!);
    }
    if (ROW_OF_KIND[kind] === ROW_DROP) {
      w.raw(DROP);
      w.raw(KIND_NAMES[kind]!);
    }
    w.commentEnd();
    w.packetEnd();
  }

  /** The start of a row's comment: the sentence, the hop and the event. Made once per place and kind. */
  private prefix(place: number, kind: number): Uint8Array {
    const info = this.reader.catalog.places[place]!;
    const k = KIND_BY_ID[kind]!;
    const key = place * KIND_STRIDE + kind;
    const text = piece(`${k.text} | hop=${info.name} event=${k.name} ctx=`);
    this.prefixes[key] = text;
    this.flags[key] = directionOf(kind, info) === 'out' ? EPB_OUTBOUND : EPB_INBOUND;
    return text;
  }
}

const NS = piece(' ns=');
const COST = piece(' cost=');
const WAIT = piece(' wait=');
const DROP = piece(' drop=');
const UNKNOWN = piece('?');
const KIND_NAMES: readonly Uint8Array[] = Array.from({ length: KIND_STRIDE }, (_, k) =>
  piece(KIND_BY_ID[k]?.name ?? '?'),
);

/** Moves a frame on by one event: the time since its previous one is processing or waiting (see frame-path.ts). */
function follow(page: FramePage, at: number, path: number, context: number, time: number): void {
  if (path === PATH_OFF) return;
  const before = page.context[at]!;
  if (before === context) {
    if (time > page.last[at]!) page.cost[at]! += time - page.last[at]!;
  } else {
    if (path === PATH_CHARGED && before >= 0) return;
    if (before >= 0 && path === PATH_STEP && time > page.last[at]!) page.waited[at]! += time - page.last[at]!;
    page.context[at] = context;
  }
  page.last[at] = time;
}

/**
 * A snapshot of the ring as pcapng: rows up to the head at the time of the first call. Chunks are at most CHUNK_BYTES long
 * and take at most a few milliseconds each; empty chunks only give the event loop air. Throws UnknownPointError at once.
 */
export function captureChunks(reader: RingReader, options: CaptureOptions): Generator<Uint8Array, void, undefined> {
  const capture = new Capture(reader, options);
  return chunks(capture);
}
function* chunks(capture: Capture): Generator<Uint8Array, void, undefined> {
  yield capture.header();
  yield* capture.scan();
  yield* capture.flush();
  yield capture.trailer();
}
