/**
 * The recorded hops of a world as pcapng. A scan of the ring in landing order resolves each row's bytes (the version that
 * was stored last before the event), a window puts the rows into time order, and each row is copied from the byte ring
 * straight into the output. Runs in the reader's thread, in steps of a few milliseconds; the engine is never stopped.
 *
 * What could not be read any more is counted per interface (isb_ifdrop), not left out silently.
 */
import type { Place } from '../../engine/catalog.ts';
import type { RingReader } from '../../engine/event-ring.ts';
import { DP_INGRESS, EVENT_KINDS } from '../../engine/events.ts';
import { EventFilter, type EventFilterQuery } from '../events/event-filter.ts';
import { ROW_DROP, ROW_HOP, ROW_OF_KIND } from '../frame-path.ts';
import { globMatches } from '../glob.ts';
import { allPlaces, hopKindsOf, hopPlaces } from '../place-kinds.ts';
import { CaptureInterfaces } from './capture-interfaces.ts';
import { PcapngWriter, SNAPLEN_MAX } from './pcapng.ts';
import { countRows, type RowCounts } from './row-counts.ts';
import { CHUNK_BYTES, RowOutput } from './row-output.ts';
import { RowScan } from './row-scan.ts';
import { RowWindow } from './row-window.ts';

/** Blocks of the ring that are scanned before the event loop gets air, and the time that they may take while the code is cold. */
const BLOCKS_PER_STEP = 4;
const STEP_MS = 2;
const EMPTY = new Uint8Array(0);
/** `wire`, `journey` and `events`, see CaptureOptions. */
export type CaptureView = 'wire' | 'journey' | 'events';

export interface CaptureOptions {
  /**
   * `wire`: frames as they enter a bridge, or the hops named by `points`. `journey`: all hops, and where frames were dropped.
   * `events`: every event, as a packet of its own kind (event-rows.ts).
   */
  readonly view: CaptureView;
  /** Place names, exact or with `*`. */
  readonly points?: readonly string[];
  /** Only rows whose event matches; all rows count as seen that do. Throws EventFilterError. */
  readonly filter?: EventFilterQuery;
  /** Bytes kept of each frame; 0 or left out = all. */
  readonly snaplen?: number;
  /** Sequence numbers: rows come from events in [fromEvent, toEvent). Default: everything held when the capture starts. */
  readonly fromEvent?: number;
  readonly toEvent?: number;
  /** Written into the section header, e.g. `Ringside 0.1.0`. */
  readonly application?: string;
}

/** `points` names a place that is no hop of this world, or nothing at all. */
export class UnknownPointError extends Error {
  readonly point: string;
  readonly valid: readonly string[];
  constructor(point: string, valid: readonly string[]) {
    const what = point === '' ? 'no capture point is named' : `there is no capture point ${JSON.stringify(point)}`;
    super(`${what}; the points are ${valid.join(', ')}`);
    this.name = 'UnknownPointError';
    this.point = point;
    this.valid = valid;
  }
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
  private readonly interfaces: CaptureInterfaces;
  private readonly scanner: RowScan;
  private readonly output: RowOutput;
  private readonly filter: EventFilter;
  private readonly ofEvents: boolean;
  /** 1 = events of this kind are rows. */
  private readonly isRow: Uint8Array = new Uint8Array(256);
  /** Rows count from this event on; earlier ones only say where bytes are. */
  private readonly from: number;
  private next: number;
  private lostEvents = 0;
  private snapshot: RowCounts = { head: 0, timeNs: 0, rows: null };

  constructor(reader: RingReader, options: CaptureOptions) {
    this.reader = reader;
    this.options = options;
    this.writer = new PcapngWriter(reader.catalog.epochNs, CHUNK_BYTES);
    this.ofEvents = options.view === 'events';
    this.from = options.fromEvent ?? 0;
    this.next = 0;
    const snaplen = options.snaplen === undefined || options.snaplen === 0 ? SNAPLEN_MAX : options.snaplen;
    const { writer, window, ofEvents } = this;
    this.filter = new EventFilter(reader.catalog, options.filter);
    const open = options.points === undefined && options.view !== 'wire';
    this.interfaces = new CaptureInterfaces(reader, writer, open, ofEvents, snaplen);
    this.scanner = new RowScan(reader, window, this.interfaces, this.isRow, this.filter, this.from);
    this.output = new RowOutput(reader, writer, window, this.interfaces, ofEvents, snaplen);
    this.choose();
  }

  /** Decides the interfaces and the kinds of rows. */
  private choose(): void {
    const { view, points } = this.options;
    const all = this.ofEvents ? allPlaces(this.reader) : hopPlaces(this.reader, view === 'journey');
    let wanted = all;
    if (points !== undefined) {
      // An empty list would be a capture that stays empty.
      for (const point of points.length === 0 ? [''] : points) {
        if (!all.some((p) => globMatches(point, p.name)))
          throw new UnknownPointError(
            point,
            all.map((p) => p.name),
          );
      }
      wanted = all.filter((p) => points.some((point) => globMatches(point, p.name)));
    } else if (view === 'wire') {
      wanted = all.filter((p) => p.type === 'port');
    }
    for (const { id: k } of EVENT_KINDS) {
      if (this.ofEvents) this.isRow[k] = 1;
      const hop = ROW_OF_KIND[k] === ROW_HOP && (view === 'journey' || points !== undefined || k === DP_INGRESS);
      if (hop || (ROW_OF_KIND[k] === ROW_DROP && view === 'journey')) this.isRow[k] = 1;
    }
    for (const place of wanted) this.interfaces.add(place);
    this.interfaces.wants = (place) => this.wants(place);
  }

  /** The same choice for a place that the world gains while the capture runs. */
  private wants(place: Place): boolean {
    const { view, points } = this.options;
    if (points !== undefined) {
      return (this.ofEvents || hopKindsOf(place).length > 0) && points.some((point) => globMatches(point, place.name));
    }
    return view !== 'wire' || place.type === 'port';
  }

  /** Sequence number of the event that scan() reads next. */
  get position(): number {
    return this.next;
  }
  /** The same, or where the oldest row that waits begins: nothing before it will be read again, of its bytes neither. */
  get needed(): number {
    return Math.min(this.next, this.window.oldest());
  }

  /** Events that were overwritten before they could be read. */
  get lost(): number {
    return this.lostEvents;
  }

  /** The world's own counters say how many rows there are, also of those that were overwritten. */
  private get whole(): boolean {
    return this.from === 0 && this.options.toEvent === undefined && this.filter.everything;
  }

  /** A chunk that its consumer is done with is written into again, which is faster than new memory. */
  giveBack(chunk: Uint8Array | undefined): void {
    if (chunk !== undefined) this.writer.giveBack(chunk);
  }

  /** Section header and interfaces. */
  header(): Uint8Array {
    const { topology, seed, costStamp } = this.reader.catalog;
    const costs = `costProfile=${costStamp.profile} costsHash=${costStamp.hash} costOverrides=${costStamp.overrides}`;
    this.writer.section({
      hardware: 'emulated virtualization host',
      os: 'virtual time',
      application: this.options.application ?? 'Ringside',
      comments: [`topology=${topology} seed=${seed} view=${this.options.view}`, costs],
    });
    for (const place of this.interfaces.declared) this.interfaces.describe(place);
    return this.writer.take();
  }
  /**
   * Reads what has been recorded since the last scan and yields the rows that are final. Takes the head of the ring when
   * it starts and stops there.
   */
  *scan(): Generator<Uint8Array, void, undefined> {
    this.snapshot = this.whole
      ? countRows(this.reader, this.isRow)
      : { head: this.reader.head(), timeNs: this.reader.virtualTimeNs(), rows: null };
    const to = Math.min(this.snapshot.head, this.options.toEvent ?? Number.POSITIVE_INFINITY);
    while (this.next < to) {
      const started = performance.now();
      for (let i = 0; i < BLOCKS_PER_STEP && this.next < to; i++) {
        // At least one block: a thread that is stalled here must not stand still.
        if (i > 0 && performance.now() - started > STEP_MS) break;
        this.scanBlock(to);
        while (this.output.fill(false)) yield this.output.take();
      }
      this.scanner.evict();
      yield this.output.pending ? this.output.take() : EMPTY;
    }
  }

  /** Yields the rows that still wait for later ones, in time order. */
  *flush(): Generator<Uint8Array, void, undefined> {
    while (this.output.fill(true)) yield this.output.take();
    if (this.output.pending) yield this.output.take();
  }

  /** Interface statistics: how many frames each hop saw, and how many of them are not in the file. */
  trailer(): Uint8Array {
    const exact = this.lostEvents === 0;
    const { whole } = this;
    const rows = this.snapshot.rows;
    let comment = '';
    if (!exact && !(whole && rows !== null)) {
      comment = `${this.lostEvents} events were overwritten before they could be read; rows among them are not counted here`;
    }
    const { declared, seen, written } = this.interfaces;
    for (let i = 0; i < declared.length; i++) {
      const counted = whole && rows !== null && !exact ? (rows[declared[i]!.id] ?? 0) : seen[i]!;
      const received = Math.max(counted, seen[i]!);
      this.writer.statistics(i, this.snapshot.timeNs, received, received - written[i]!, comment);
    }
    return this.writer.take();
  }

  /** Copies one block out of the ring, follows its frames and puts its rows into the window. */
  private scanBlock(to: number): void {
    const reader = this.reader;
    const count = reader.read(this.next);
    const first = reader.block.first;
    if (first > this.next) {
      this.lostEvents += Math.max(0, Math.min(first, to) - Math.max(this.next, this.from));
      this.scanner.forget();
    }
    const end = Math.min(first + count, to);
    // Not beyond `to`, also where the gap goes on there: a scan that follows counts the rest of it.
    this.next = end;
    if (this.ofEvents) this.scanner.events(end - first);
    else this.scanner.hops(end - first);
  }
}

/**
 * A snapshot of the ring as pcapng: rows up to the head at the time of the first call. Chunks are at most CHUNK_BYTES long
 * and take at most a few milliseconds each; empty chunks only give the event loop air. Throws UnknownPointError and
 * EventFilterError at once. `next(chunk)` gives a chunk back whose bytes are no longer needed: see Capture.giveBack().
 */
export function captureChunks(
  reader: RingReader,
  options: CaptureOptions,
): Generator<Uint8Array, void, Uint8Array | undefined> {
  const capture = new Capture(reader, options);
  return chunks(capture);
}
function* chunks(capture: Capture): Generator<Uint8Array, void, Uint8Array | undefined> {
  capture.giveBack(yield capture.header());
  for (const chunk of capture.scan()) capture.giveBack(yield chunk);
  for (const chunk of capture.flush()) capture.giveBack(yield chunk);
  yield capture.trailer();
}
