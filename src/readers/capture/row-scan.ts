/**
 * From blocks of events to rows: follows each frame (its bytes, its time, what was charged to it) and puts the rows of a
 * capture into the window. frame-path.ts says what is processing and what is waiting, row-charges.ts to which row an exit, a
 * kick or an interrupt belongs.
 */
import { BLOCK_EVENTS, type RingReader, restore } from '../../engine/event-ring.ts';
import { contextOf, kindOf, placeOf, VIRTQ_INTERRUPT } from '../../engine/events.ts';
import { storesBytes, valueOfA } from '../events/event-columns.ts';
import type { EventFilter } from '../events/event-filter.ts';
import { PATH_CHARGED, PATH_OF_KIND, PATH_OFF, PATH_STEP } from '../frame-path.ts';
import type { CaptureInterfaces } from './capture-interfaces.ts';
import {
  F_CONTEXT,
  F_COPIED,
  F_COPIES,
  F_COST,
  F_EXIT_KINDS,
  F_EXITS,
  F_INTERRUPTS,
  F_KICKS,
  F_LAST,
  F_LENGTH,
  F_MARKS,
  F_OTHER,
  F_OTHER_TICKET,
  F_PARENT,
  F_POSITION,
  F_ROW,
  F_ROW_CONTEXT,
  F_TICKET,
  F_WAITED,
  FRAME_NUMBERS,
  FRAME_WORDS,
  type FramePage,
  FrameTable,
  MARK_CACHE,
  MARK_CHARGES,
  MARK_COPIES,
  MARK_PARENT,
  PAGE_FRAMES,
} from './frame-table.ts';
import {
  CACHE_OF_KIND,
  CHARGES,
  CLONES,
  COPIES,
  DECIDES,
  DOES_NOTHING,
  EFFECT_OF_KIND,
  ENTERS_USED,
  LOOKS_UP,
  RowCharges,
  STORES,
} from './row-charges.ts';
import {
  LENGTH_MASK,
  MARKS_SHIFT,
  R_A,
  R_B,
  R_BLOCK,
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
  R_POSITION,
  R_SEQ,
  R_TICKET,
  R_WAITED,
  RARE_NUMBERS,
  RARE_WORDS,
  ROW_NUMBERS,
  ROW_WORDS,
  type RowWindow,
} from './row-window.ts';

export class RowScan {
  private readonly reader: RingReader;
  private readonly window: RowWindow;
  private readonly interfaces: CaptureInterfaces;
  private readonly isRow: Uint8Array;
  private readonly filter: EventFilter;
  private readonly from: number;
  private readonly frames = new FrameTable();
  private readonly charges: RowCharges;
  /** Number of the block that is scanned. */
  private block = 0;

  /** `isRow`: 1 by kind id. `from`: rows count from this event on; earlier ones only say where bytes are. */
  constructor(
    reader: RingReader,
    window: RowWindow,
    interfaces: CaptureInterfaces,
    isRow: Uint8Array,
    filter: EventFilter,
    from: number,
  ) {
    this.reader = reader;
    this.window = window;
    this.interfaces = interfaces;
    this.isRow = isRow;
    this.filter = filter;
    this.from = from;
    this.charges = new RowCharges(window, this.frames);
  }

  /**
   * Events were lost. Among them may be new bytes of any frame that was followed, and parts of its way: a row without its
   * bytes is counted as dropped, a row with earlier ones would be wrong.
   */
  forget(): void {
    this.frames.clear();
    this.charges.clear();
  }
  /** Forgets frames that the rings no longer tell of. */
  evict(): void {
    this.frames.evict(this.reader.tail(), this.reader.bytesHead() - this.reader.layout.byteCapacity);
  }

  /** Rows of frames, from the first `count` events of the reader's block. */
  hops(count: number): void {
    const block = this.reader.block;
    const first = block.first;
    const { frame: frames, meta: metas, time: times } = block;
    const { isRow, charges } = this;
    this.block = Math.floor(first / BLOCK_EVENTS);
    for (let i = 0; i < count; i++) {
      const frame = frames[i]!;
      const meta = metas[i]!;
      const kind = kindOf(meta);
      const effect = EFFECT_OF_KIND[kind]!;
      if (frame === 0) {
        if (effect === DECIDES) charges.decided(placeOf(meta), contextOf(meta), kind === VIRTQ_INTERRUPT, 0);
        // A drop of something that never was a frame (a refused chain): counted, without a row.
        else if (isRow[kind] === 1 && first + i >= this.from) this.countRefused(meta, times[i]!);
        continue;
      }
      const page = this.frames.page(frame);
      const at = frame % PAGE_FRAMES;
      page.touched = first + i;
      const time = times[i]!;
      if (effect !== DOES_NOTHING && effect < CHARGES) this.takeIn(page, at, frame, kind, block.a[i]!, block.b[i]!);
      follow(page, at, PATH_OF_KIND[kind]!, contextOf(meta), time);
      if (isRow[kind] === 1 && first + i >= this.from) this.row(page, at, frame, meta, time);
      if (effect >= CHARGES) this.charge(page, at, frame, meta);
    }
  }

  /** What an event says about a frame: where its bytes are, whose copy it is, what its next row has to tell. */
  private takeIn(page: FramePage, at: number, frame: number, kind: number, a: number, b: number): void {
    const { numbers, words } = page;
    const n = at * FRAME_NUMBERS;
    const w = at * FRAME_WORDS;
    const effect = EFFECT_OF_KIND[kind]!;
    if (effect === STORES) {
      const position = this.reader.bytePosition(a);
      numbers[n + F_POSITION] = position;
      words[w + F_LENGTH] = b;
      if (position > page.newest) page.newest = position;
    } else if (effect === COPIES) {
      if ((words[w + F_MARKS]! & MARK_COPIES) === 0) {
        words[w + F_MARKS]! |= MARK_COPIES;
        words[w + F_COPIES] = 0;
        numbers[n + F_COPIED] = 0;
      }
      words[w + F_COPIES]!++;
      numbers[n + F_COPIED]! += a;
    } else if (effect === LOOKS_UP) {
      words[w + F_MARKS] = (words[w + F_MARKS]! & ~MARK_CACHE) | CACHE_OF_KIND[kind]!;
    } else if (effect === CLONES) {
      this.inherit(page, at, restore(a, frame));
    }
  }

  /** A clone has its parent's bytes until it gets its own. */
  private inherit(page: FramePage, at: number, parent: number): void {
    const { numbers, words } = page;
    const n = at * FRAME_NUMBERS;
    words[at * FRAME_WORDS + F_MARKS]! |= MARK_PARENT;
    numbers[n + F_PARENT] = parent;
    const from = this.frames.find(parent);
    if (from === undefined) return;
    const parentAt = parent % PAGE_FRAMES;
    const position = from.numbers[parentAt * FRAME_NUMBERS + F_POSITION]!;
    numbers[n + F_POSITION] = position;
    words[at * FRAME_WORDS + F_LENGTH] = from.words[parentAt * FRAME_WORDS + F_LENGTH]!;
    if (position > page.newest) page.newest = position;
  }

  /** Exits, kicks and interrupts: to the row after which they happened. */
  private charge(page: FramePage, at: number, frame: number, meta: number): void {
    const kind = kindOf(meta);
    const context = contextOf(meta);
    const effect = EFFECT_OF_KIND[kind]!;
    if (effect === ENTERS_USED) this.charges.used(page, at, frame, placeOf(meta), context);
    else if (effect === CHARGES) this.charges.charge(page, at, kind, context);
    else {
      if (kind === VIRTQ_INTERRUPT) this.charges.charge(page, at, kind, context);
      this.charges.decided(placeOf(meta), context, kind === VIRTQ_INTERRUPT, frame);
    }
  }

  private countRefused(meta: number, time: number): void {
    const index = this.interfaces.find(placeOf(meta));
    if (index >= 0 && this.filter.matches(meta, 0, time)) this.interfaces.seen[index]!++;
  }

  private row(page: FramePage, at: number, frame: number, meta: number, time: number): void {
    if (!this.filter.everything && !this.filter.matches(meta, frame, time)) return;
    const index = this.interfaces.of(placeOf(meta));
    if (index < 0) return;
    this.interfaces.seen[index]!++;
    const { numbers, words } = page;
    const n = at * FRAME_NUMBERS;
    const w = at * FRAME_WORDS;
    const marks = words[w + F_MARKS]!;
    const cost = numbers[n + F_COST]!;
    const waited = numbers[n + F_WAITED]!;
    numbers[n + F_COST] = 0;
    numbers[n + F_WAITED] = 0;
    words[w + F_MARKS] = marks & MARK_PARENT;
    const position = numbers[n + F_POSITION]!;
    if (position < 0) return;
    const rows = this.window;
    const slot = rows.insert(time, contextOf(meta));
    const rowNumbers = rows.numbers;
    const rowWords = rows.words;
    const rn = slot * ROW_NUMBERS;
    const rw = slot * ROW_WORDS;
    const context = contextOf(meta);
    rowNumbers[rn + R_FRAME] = frame;
    rowNumbers[rn + R_POSITION] = position;
    rowNumbers[rn + R_COST] = cost;
    rowNumbers[rn + R_WAITED] = waited;
    rowWords[rw + R_META] = meta;
    rowWords[rw + R_LENGTH] = words[w + F_LENGTH]! | (marks << MARKS_SHIFT);
    rowWords[rw + R_BLOCK] = this.block;
    if (words[w + F_ROW_CONTEXT] !== context) {
      words[w + F_OTHER] = words[w + F_ROW]!;
      words[w + F_OTHER_TICKET] = words[w + F_TICKET]!;
      words[w + F_ROW_CONTEXT] = context;
    }
    words[w + F_ROW] = slot;
    words[w + F_TICKET] = rowWords[rw + R_TICKET]!;
    if (marks !== 0) handOver(page, at, rows, slot, marks);
  }

  /** Rows of events: every event is one, and tells about itself only. */
  events(count: number): void {
    const block = this.reader.block;
    this.block = Math.floor(block.first / BLOCK_EVENTS);
    for (let i = 0; i < count; i++) {
      const frame = block.frame[i]!;
      const meta = block.meta[i]!;
      const time = block.time[i]!;
      const kind = kindOf(meta);
      let cost = 0;
      let waited = 0;
      if (frame !== 0) {
        const page = this.frames.page(frame);
        const n = (frame % PAGE_FRAMES) * FRAME_NUMBERS;
        page.touched = block.first + i;
        follow(page, frame % PAGE_FRAMES, PATH_OF_KIND[kind]!, contextOf(meta), time);
        cost = page.numbers[n + F_COST]!;
        waited = page.numbers[n + F_WAITED]!;
        page.numbers[n + F_COST] = 0;
        page.numbers[n + F_WAITED] = 0;
      }
      if (block.first + i < this.from) continue;
      if (!this.filter.everything && !this.filter.matches(meta, frame, time)) continue;
      const index = this.interfaces.of(placeOf(meta));
      if (index < 0) continue;
      this.interfaces.seen[index]!++;
      const { numbers, words, rareNumbers } = this.window;
      const slot = this.window.insert(time, contextOf(meta));
      const rn = slot * ROW_NUMBERS;
      const rw = slot * ROW_WORDS;
      const a = valueOfA(this.reader, kind, frame, block.a[i]!);
      const stores = storesBytes(kind);
      numbers[rn + R_FRAME] = frame;
      numbers[rn + R_POSITION] = stores ? a : -1;
      numbers[rn + R_COST] = cost;
      numbers[rn + R_WAITED] = waited;
      rareNumbers[slot * RARE_NUMBERS + R_SEQ] = block.first + i;
      rareNumbers[slot * RARE_NUMBERS + R_A] = a;
      words[rw + R_META] = meta;
      words[rw + R_LENGTH] = stores ? block.b[i]! & LENGTH_MASK : 0;
      words[rw + R_BLOCK] = this.block;
      words[rw + R_B] = block.b[i]!;
      this.markEvent(slot, kind);
    }
  }

  private markEvent(slot: number, kind: number): void {
    const effect = EFFECT_OF_KIND[kind]!;
    if (effect === DOES_NOTHING) return;
    let marks = 0;
    if (effect === COPIES) {
      marks = MARK_COPIES;
      this.window.rareWords[slot * RARE_WORDS + R_COPIES] = 1;
    } else if (effect === LOOKS_UP) marks = CACHE_OF_KIND[kind]!;
    else if (effect === CHARGES || kind === VIRTQ_INTERRUPT) this.charges.toRow(slot, kind);
    else if (effect === CLONES) marks = MARK_PARENT;
    this.window.words[slot * ROW_WORDS + R_LENGTH]! |= marks << MARKS_SHIFT;
  }
}

/** Moves a frame on by one event: the time since its previous one is processing or waiting (see frame-path.ts). */
function follow(page: FramePage, at: number, path: number, context: number, time: number): void {
  if (path === PATH_OFF) return;
  const { numbers, words } = page;
  const n = at * FRAME_NUMBERS;
  const w = at * FRAME_WORDS + F_CONTEXT;
  const before = words[w]! - 1;
  if (before === context) {
    const last = numbers[n + F_LAST]!;
    if (time > last) numbers[n + F_COST]! += time - last;
  } else {
    if (path === PATH_CHARGED && before >= 0) return;
    const last = numbers[n + F_LAST]!;
    if (before >= 0 && path === PATH_STEP && time > last) numbers[n + F_WAITED]! += time - last;
    words[w] = context + 1;
  }
  numbers[n + F_LAST] = time;
}

/** A row takes over what its frame has gathered since its previous one. */
function handOver(page: FramePage, at: number, rows: RowWindow, slot: number, marks: number): void {
  const { numbers, words } = page;
  const { rareNumbers, rareWords } = rows;
  const n = at * FRAME_NUMBERS;
  const w = at * FRAME_WORDS;
  const rn = slot * RARE_NUMBERS;
  const rw = slot * RARE_WORDS;
  if ((marks & MARK_COPIES) !== 0) {
    rareWords[rw + R_COPIES] = words[w + F_COPIES]!;
    rareNumbers[rn + R_COPIED] = numbers[n + F_COPIED]!;
  }
  if ((marks & MARK_CHARGES) !== 0) {
    rareWords[rw + R_EXITS] = words[w + F_EXITS]!;
    rareWords[rw + R_EXIT_KINDS] = words[w + F_EXIT_KINDS]!;
    rareWords[rw + R_KICKS] = words[w + F_KICKS]!;
    rareWords[rw + R_INTERRUPTS] = words[w + F_INTERRUPTS]!;
    words[w + F_EXITS] = 0;
    words[w + F_EXIT_KINDS] = 0;
    words[w + F_KICKS] = 0;
    words[w + F_INTERRUPTS] = 0;
  }
  if ((marks & MARK_PARENT) !== 0) rareNumbers[rn + R_PARENT] = numbers[n + F_PARENT]!;
}
