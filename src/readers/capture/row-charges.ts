/**
 * Exits, kicks and interrupts belong to the row after which they happened: the kick to the row at which the driver put the
 * frame into its ring, the interrupt to the row at which the device put it into the used ring. Such a row still waits in the
 * window in nearly all cases; where it has gone, the frame's next row gets the charge.
 *
 * A used buffer notification belongs to no frame: it is charged to each frame that it announced, as in a journey.
 */
import * as E from '../../engine/events.ts';
import {
  F_EXIT_KINDS,
  F_EXITS,
  F_INTERRUPTS,
  F_KICKS,
  F_MARKS,
  F_OTHER,
  F_OTHER_TICKET,
  F_ROW,
  F_ROW_CONTEXT,
  F_TICKET,
  FRAME_WORDS,
  type FramePage,
  type FrameTable,
  MARK_CHARGES,
  PAGE_FRAMES,
} from './frame-table.ts';
import {
  MARKS_SHIFT,
  R_EXIT_KINDS,
  R_EXITS,
  R_INTERRUPTS,
  R_KICKS,
  R_LENGTH,
  R_META,
  RARE_WORDS,
  ROW_WORDS,
  type RowWindow,
} from './row-window.ts';

/** The kinds of exits, in the order of the bits of `exitKinds`, and their names in a comment. */
const EXITS = E.EVENT_KINDS.filter((k) => k.name.startsWith('kvm.exit_'));
/** Bit by kind id; 0 = not an exit. */
export const EXIT_BIT_OF_KIND: Uint8Array = new Uint8Array(256);
for (const [i, k] of EXITS.entries()) EXIT_BIT_OF_KIND[k.id] = 1 << i;
/** Names by set of exit kinds: `hlt`, `ept_misconfig_kernel,hlt`. */
export const EXIT_NAMES: readonly string[] = Array.from({ length: 1 << EXITS.length }, (_, set) =>
  EXITS.filter((_k, i) => (set & (1 << i)) !== 0)
    .map((k) => k.name.slice('kvm.exit_'.length))
    .join(','),
);

/** Names of the flow caches by their number in a mark (MARK_CACHE), and that number by the kind that says so; 0 = none. */
export const CACHE_NAMES: readonly string[] = ['', 'hit', 'emc_hit', 'megaflow_hit', 'miss'];
export const CACHE_OF_KIND: Uint8Array = new Uint8Array(256);
CACHE_OF_KIND[E.DP_HIT] = 1;
CACHE_OF_KIND[E.DP_EMC_HIT] = 2;
CACHE_OF_KIND[E.DP_MEGAFLOW_HIT] = 3;
CACHE_OF_KIND[E.DP_MISS] = 4;

// What an event means to the rows of its frame, beside being a row: by kind id.
export const DOES_NOTHING = 0;
export const STORES = 1;
export const CLONES = 2;
export const COPIES = 3;
export const LOOKS_UP = 4;
/** An exit, a kick or an interrupt: charged. */
export const CHARGES = 5;
/** A decision about an interrupt, of either kind. */
export const DECIDES = 6;
export const ENTERS_USED = 7;
export const EFFECT_OF_KIND: Uint8Array = new Uint8Array(256);
for (let kind = 0; kind < 256; kind++) {
  if (EXIT_BIT_OF_KIND[kind] !== 0) EFFECT_OF_KIND[kind] = CHARGES;
  if (CACHE_OF_KIND[kind] !== 0) EFFECT_OF_KIND[kind] = LOOKS_UP;
}
EFFECT_OF_KIND[E.PACKET_BYTES] = STORES;
EFFECT_OF_KIND[E.PACKET_CLONE] = CLONES;
EFFECT_OF_KIND[E.PACKET_DUPLICATE] = CLONES;
EFFECT_OF_KIND[E.PACKET_SEGMENT] = CLONES;
EFFECT_OF_KIND[E.PACKET_COPY] = COPIES;
EFFECT_OF_KIND[E.VIRTQ_KICK] = CHARGES;
EFFECT_OF_KIND[E.VIRTQ_INTERRUPT] = DECIDES;
EFFECT_OF_KIND[E.VIRTQ_INTERRUPT_SUPPRESSED] = DECIDES;
EFFECT_OF_KIND[E.VIRTQ_USED] = ENTERS_USED;

/** Frames put into one used ring since the device last decided about an interrupt. */
class Announced {
  count = 0;
  frame = new Float64Array(256);
  context = new Uint16Array(256);
  row = new Int32Array(256);
  ticket = new Int32Array(256);

  add(frame: number, context: number, row: number, ticket: number): void {
    if (this.count === this.frame.length) this.grow();
    const i = this.count++;
    this.frame[i] = frame;
    this.context[i] = context;
    this.row[i] = row;
    this.ticket[i] = ticket;
  }
  private grow(): void {
    const length = this.count * 2;
    const { frame, context, row, ticket } = this;
    this.frame = new Float64Array(length);
    this.frame.set(frame);
    this.context = new Uint16Array(length);
    this.context.set(context);
    this.row = new Int32Array(length);
    this.row.set(row);
    this.ticket = new Int32Array(length);
    this.ticket.set(ticket);
  }
}
/** No ring has more entries: a list that grows beyond that belongs to a device that never decides. */
const ANNOUNCED_MAX = 65536;

export class RowCharges {
  private readonly window: RowWindow;
  private readonly frames: FrameTable;
  /** By place. */
  private readonly announced: (Announced | undefined)[] = [];

  constructor(window: RowWindow, frames: FrameTable) {
    this.window = window;
    this.frames = frames;
  }

  /** An exit, kick or interrupt of the frame at `page`, `at`, by `context`. */
  charge(page: FramePage, at: number, kind: number, context: number): void {
    const slot = this.find(page, at, context);
    if (slot >= 0) this.toRow(slot, kind);
    else carry(page, at, kind);
  }

  /** The frame's latest row, or the one before it in another context, if that is `context`; -1 where it has gone. */
  private find(page: FramePage, at: number, context: number): number {
    const words = page.words;
    const f = at * FRAME_WORDS;
    if (words[f + F_ROW_CONTEXT] !== context) {
      const other = words[f + F_OTHER]!;
      const row = this.window.words[other * ROW_WORDS + R_META]!;
      if (this.window.holds(other, words[f + F_OTHER_TICKET]!) && E.contextOf(row) === context) return other;
    }
    const slot = words[f + F_ROW]!;
    return this.window.holds(slot, words[f + F_TICKET]!) ? slot : -1;
  }

  /** Adds one event to a waiting row. */
  toRow(slot: number, kind: number): void {
    const { words, rareWords } = this.window;
    const marks = slot * ROW_WORDS + R_LENGTH;
    const row = slot * RARE_WORDS;
    if (((words[marks]! >>> MARKS_SHIFT) & MARK_CHARGES) === 0) {
      words[marks]! |= MARK_CHARGES << MARKS_SHIFT;
      rareWords[row + R_EXITS] = 0;
      rareWords[row + R_EXIT_KINDS] = 0;
      rareWords[row + R_KICKS] = 0;
      rareWords[row + R_INTERRUPTS] = 0;
    }
    if (kind === E.VIRTQ_KICK) rareWords[row + R_KICKS]!++;
    else if (kind === E.VIRTQ_INTERRUPT) rareWords[row + R_INTERRUPTS]!++;
    else {
      rareWords[row + R_EXITS]!++;
      rareWords[row + R_EXIT_KINDS]! |= EXIT_BIT_OF_KIND[kind]!;
    }
  }

  /** The device put the frame into the used ring at `place`. */
  used(page: FramePage, at: number, frame: number, place: number, context: number): void {
    this.announced[place] ??= new Announced();
    const list = this.announced[place];
    if (list.count >= ANNOUNCED_MAX) list.count = 0;
    list.add(frame, context, page.words[at * FRAME_WORDS + F_ROW]!, page.words[at * FRAME_WORDS + F_TICKET]!);
  }

  /** The device decided about a used buffer notification at `place`, in an event of frame `own` (0 = of none). */
  decided(place: number, context: number, interrupts: boolean, own: number): void {
    const list = this.announced[place];
    if (list === undefined) return;
    let kept = 0;
    for (let i = 0; i < list.count; i++) {
      const frame = list.frame[i]!;
      const row = list.row[i]!;
      const ticket = list.ticket[i]!;
      if (list.context[i] !== context) {
        list.frame[kept] = frame;
        list.context[kept] = list.context[i]!;
        list.row[kept] = row;
        list.ticket[kept++] = ticket;
      } else if (interrupts && frame !== own) {
        if (this.window.holds(row, ticket)) this.toRow(row, E.VIRTQ_INTERRUPT);
        else {
          const page = this.frames.find(frame);
          if (page !== undefined) carry(page, frame % PAGE_FRAMES, E.VIRTQ_INTERRUPT);
        }
      }
    }
    list.count = kept;
  }

  /** After lost events nothing is known of what a notification announces. */
  clear(): void {
    this.announced.length = 0;
  }
}

/** Keeps one event for the frame's next row. */
function carry(page: FramePage, at: number, kind: number): void {
  const words = page.words;
  const f = at * FRAME_WORDS;
  words[f + F_MARKS]! |= MARK_CHARGES;
  if (kind === E.VIRTQ_KICK) words[f + F_KICKS]!++;
  else if (kind === E.VIRTQ_INTERRUPT) words[f + F_INTERRUPTS]!++;
  else {
    words[f + F_EXITS]!++;
    words[f + F_EXIT_KINDS]! |= EXIT_BIT_OF_KIND[kind]!;
  }
}
