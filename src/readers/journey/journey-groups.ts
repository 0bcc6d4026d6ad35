/**
 * Journeys grouped by path: one pass over the ring, in steps, with bounded memory. Frames that took the same steps at the
 * same places and ended alike are one group; what is processing and what is waiting follows frame-path.ts, as in the
 * journey of a single frame (journey-build.ts), so that the sums agree.
 */
import { type RingReader, restore } from '../../engine/event-ring.ts';
import * as E from '../../engine/events.ts';
import type { EventFilter } from '../events/event-filter.ts';
import { PATH_CHARGED, PATH_OF_KIND, PATH_STEP } from '../frame-path.ts';
import {
  BLOCKS_KEPT,
  CONTEXT,
  COPIED,
  COPIES,
  DEPTH,
  ENDED,
  EXITS,
  FLAGS,
  FrameStates,
  HEADLESS,
  INTERRUPTS,
  KICKS,
  LAST,
  NODE,
  NUMBERS,
  OF_RUN,
  rowOf,
  SLOT,
  START,
  STATE,
  type StatePage,
  UNDER_WAY,
  UNSEEN,
  WANTED,
  WORDS,
} from './frame-states.ts';
import { type JourneyGroup, outcomeOf, PathGroups } from './path-groups.ts';
import { NO_NODE, PathTree, ROOT } from './path-tree.ts';
import { MOST_STEPS, NO_SLOT, StepSlab } from './step-slab.ts';

/** Blocks between two yields: about a millisecond. */
const BLOCKS_PER_STEP = 2;
/** Frames that wait in one used ring for a decision about an interrupt; no ring is longer. */
const MOST_ANNOUNCED = 65_536;
export interface GroupResult {
  /** Most frames first. */
  readonly groups: readonly JourneyGroup[];
  /** Frames that were found, grouped or not. */
  readonly frames: number;
  /** Frames that no group holds: too many different ways, or ways that are too long. By outcome. */
  readonly others: Readonly<Record<string, number>>;
  /** Frames whose beginning was overwritten: in no group. */
  readonly incomplete: number;
  /** Events that were read: sequence numbers [from, to). */
  readonly from: number;
  readonly to: number;
}
export interface GroupOptions {
  /** Frames of which at least one event matches. */
  readonly filter?: EventFilter;
  /** Frames of this run, by its number in PACKET_BORN. */
  readonly run?: number;
  /** `delivered`, `consumed`, `dropped`, `dropped:<reason>`, `segmented`, `merged` or `in flight`. */
  readonly outcome?: string;
}

const IS_EXIT = new Uint8Array(256);
/** 1 where a frame ends. */
const IS_END = new Uint8Array(256);
for (const k of E.EVENT_KINDS) {
  if (k.name.startsWith('kvm.exit_')) IS_EXIT[k.id] = 1;
  if (k.role === 'delivered' || k.role === 'consumed' || k.role === 'dropped' || k.role === 'replaced')
    IS_END[k.id] = 1;
}
const UNDER_WAY_KIND = 0;

export class JourneyGroups {
  private readonly reader: RingReader;
  private readonly filter: EventFilter | null;
  private readonly run: number;
  private readonly outcome: string | null;
  private readonly states = new FrameStates();
  private readonly tree = new PathTree();
  private readonly slab = new StepSlab();
  private readonly table = new PathGroups(this.tree);
  private readonly others: Record<string, number> = {};
  private frames = 0;
  private incomplete = 0;
  /** Frames that lie in a used ring without a decision about its interrupt, by place; and who put them there. */
  private readonly announced = new Map<number, { context: number; frames: number[] }>();

  constructor(reader: RingReader, options: GroupOptions = {}) {
    this.reader = reader;
    this.filter = options.filter === undefined || options.filter.everything ? null : options.filter;
    this.run = options.run ?? -1;
    this.outcome = options.outcome ?? null;
  }

  /** Reads all that is held now. */
  *scan(): Generator<void, GroupResult, undefined> {
    const { reader } = this;
    const head = reader.head();
    let from = -1;
    let next = reader.tail();
    for (let blocks = 1; next < head; blocks++) {
      const count = reader.read(next);
      const { first } = reader.block;
      if (from < 0) from = first;
      else if (first > next) this.overtaken();
      this.states.beginBlock(blocks);
      this.block(Math.min(count, head - first));
      next = first + count;
      if (blocks % BLOCKS_KEPT === 0) this.states.forget(reader.block.blockFrame);
      if (blocks % BLOCKS_PER_STEP === 0) yield;
    }
    this.finish();
    const groups = this.table.groups.toSorted((x, y) => y.count - x.count || x.firstFrame - y.firstFrame);
    const { frames, others, incomplete } = this;
    const first = Math.max(0, from);
    return { groups, frames, others, incomplete, from: first, to: Math.max(first, Math.min(next, head)) };
  }

  private block(count: number): void {
    const { block } = this.reader;
    const { time, meta, frame, a, b } = block;
    for (let i = 0; i < count; i++) {
      const of = frame[i]!;
      const word = meta[i]!;
      const kind = E.kindOf(word);
      if (of === 0) {
        if (kind === E.VIRTQ_INTERRUPT || kind === E.VIRTQ_INTERRUPT_SUPPRESSED) this.decided(word, kind);
        continue;
      }
      const page = this.states.page(of);
      if (page !== null) this.event(page, of, word, kind, time[i]!, a[i]!, b[i]!);
    }
  }

  private event(page: StatePage, frame: number, meta: number, kind: number, time: number, a: number, b: number): void {
    const { words, numbers } = page;
    const row = rowOf(frame);
    const w = row * WORDS;
    const n = row * NUMBERS;
    if (words[w + STATE] === UNSEEN) {
      if (
        kind !== E.PACKET_BORN &&
        kind !== E.PACKET_CLONE &&
        kind !== E.PACKET_DUPLICATE &&
        kind !== E.PACKET_SEGMENT
      ) {
        words[w + STATE] = HEADLESS;
        if (this.filter === null && this.run < 0) this.incomplete++;
      } else this.begin(page, w, n, frame, kind, time, a, b);
    }
    if (this.filter !== null && (words[w + FLAGS]! & WANTED) === 0 && this.filter.matches(meta, frame, time)) {
      words[w + FLAGS]! |= WANTED;
      if (words[w + STATE] === HEADLESS && this.run < 0) this.incomplete++;
    }
    const state = words[w + STATE]!;
    if (state === HEADLESS) return;

    if (IS_EXIT[kind] === 1) this.count(words, w, EXITS, 1);
    else if (kind === E.VIRTQ_KICK) this.count(words, w, KICKS, 1);
    else if (kind === E.PACKET_COPY) {
      this.count(words, w, COPIES, 1);
      this.count(words, w, COPIED, a);
    } else if (kind === E.VIRTQ_USED) this.enterUsed(meta, frame);

    const path = PATH_OF_KIND[kind]!;
    const context = E.contextOf(meta) + 1;
    const same = words[w + CONTEXT] === context;
    if (path !== PATH_STEP && !(path === PATH_CHARGED && same)) return;
    const elapsed = time - numbers[n + LAST]!;
    numbers[n + LAST] = time;
    words[w + CONTEXT] = context;
    if (state === ENDED) return this.late(words[w + NODE]!, elapsed, same);
    const depth = words[w + DEPTH]!;
    const slot = words[w + SLOT]!;
    if (path === PATH_CHARGED) {
      if (slot !== NO_SLOT) this.slab.charge(slot, depth - 1, elapsed);
      return;
    }
    if (slot !== NO_SLOT) {
      const node = this.tree.enter(words[w + NODE]!, meta);
      const cost = same ? elapsed : 0;
      const room = depth < MOST_STEPS && node !== NO_NODE && this.slab.write(slot, depth, cost, same ? 0 : elapsed);
      if (room) {
        words[w + NODE] = node;
        words[w + DEPTH] = depth + 1;
      } else {
        this.slab.release(slot);
        words[w + SLOT] = NO_SLOT;
      }
    }
    if (IS_END[kind] === 1) this.end(page, frame, kind, time);
  }

  private begin(
    page: StatePage,
    w: number,
    n: number,
    frame: number,
    kind: number,
    time: number,
    a: number,
    b: number,
  ): void {
    const { words, numbers } = page;
    words[w + STATE] = UNDER_WAY;
    words[w + NODE] = ROOT;
    words[w + SLOT] = this.slab.take();
    words[w + CONTEXT] = 0;
    page.underWay++;
    numbers[n + START] = time;
    numbers[n + LAST] = time;
    if (this.run >= 0 && this.belongs(frame, kind, a, b)) words[w + FLAGS]! |= OF_RUN;
  }
  /** A copy or a segment belongs to the run of its parent. */
  private belongs(frame: number, kind: number, a: number, b: number): boolean {
    if (kind === E.PACKET_BORN) return b === this.run;
    const parent = restore(a, frame);
    const page = this.states.page(parent);
    return page !== null && (page.words[rowOf(parent) * WORDS + FLAGS]! & OF_RUN) !== 0;
  }

  /** The frame has come to its end, or (UNDER_WAY_KIND) the ring has. */
  private end(page: StatePage, frame: number, kind: number, time: number): void {
    const { words, numbers } = page;
    const w = rowOf(frame) * WORDS;
    const slot = words[w + SLOT]!;
    const node = words[w + NODE]!;
    words[w + STATE] = ENDED;
    words[w + NODE] = -1;
    page.underWay--;
    const flags = words[w + FLAGS]!;
    const wanted = (this.filter === null || (flags & WANTED) !== 0) && (this.run < 0 || (flags & OF_RUN) !== 0);
    const outcome = outcomeOf(kind);
    if (wanted && (this.outcome === null || outcome === this.outcome || outcome.startsWith(`${this.outcome}:`))) {
      this.frames++;
      const group = slot === NO_SLOT ? -1 : this.table.find(node, kind, frame);
      if (group < 0) this.others[outcome] = (this.others[outcome] ?? 0) + 1;
      else {
        words[w + NODE] = group;
        this.fold(this.table.groups[group]!, words, w, frame, time - numbers[rowOf(frame) * NUMBERS + START]!);
      }
    }
    if (slot !== NO_SLOT) this.slab.release(slot);
    words[w + SLOT] = NO_SLOT;
  }

  private fold(group: JourneyGroup, words: Int32Array, w: number, frame: number, latency: number): void {
    const slot = words[w + SLOT]!;
    const { hops } = group;
    for (let i = 0; i < hops.length; i++) {
      const hop = hops[i]!;
      const cost = this.slab.cost(slot, i);
      const waited = this.slab.waited(slot, i);
      hop.cost.add(cost);
      hop.waited.add(waited);
      group.processingNs += cost;
      group.waitingNs += waited;
    }
    if (group.count === 0 || latency > group.latency.max) group.slowestFrame = frame;
    group.latency.add(latency);
    group.count++;
    group.copies += words[w + COPIES]!;
    group.copiedBytes += words[w + COPIED]!;
    group.exits += words[w + EXITS]!;
    group.kicks += words[w + KICKS]!;
    group.interrupts += words[w + INTERRUPTS]!;
  }

  // ---- what belongs to a frame that may have ended ------------------------------------------------------------------
  private count(words: Int32Array, w: number, field: number, by: number): void {
    if (words[w + STATE] !== ENDED) {
      words[w + field]! += by;
      return;
    }
    const group = this.table.groups[words[w + NODE]!];
    if (group === undefined) return;
    if (field === COPIES) group.copies += by;
    else if (field === COPIED) group.copiedBytes += by;
    else if (field === EXITS) group.exits += by;
    else if (field === KICKS) group.kicks += by;
    else group.interrupts += by;
  }
  private late(index: number, elapsed: number, same: boolean): void {
    const group = this.table.groups[index];
    if (group === undefined) return;
    if (same) group.processingNs += elapsed;
    else group.waitingNs += elapsed;
  }

  /** A used buffer notification belongs to no frame: each frame that it announces counts it. */
  private enterUsed(meta: number, frame: number): void {
    const place = E.placeOf(meta);
    const context = E.contextOf(meta);
    let list = this.announced.get(place);
    if (list === undefined || list.context !== context || list.frames.length >= MOST_ANNOUNCED) {
      list = { context, frames: [] };
      this.announced.set(place, list);
    }
    list.frames.push(frame);
  }
  private decided(meta: number, kind: number): void {
    const list = this.announced.get(E.placeOf(meta));
    if (list === undefined || list.context !== E.contextOf(meta)) return;
    for (const frame of kind === E.VIRTQ_INTERRUPT ? list.frames : []) {
      const page = this.states.page(frame);
      if (page !== null) this.count(page.words, rowOf(frame) * WORDS, INTERRUPTS, 1);
    }
    list.frames.length = 0;
  }

  /** Events were lost: nobody knows where frames that were under way have been. */
  private overtaken(): void {
    this.announced.clear();
    this.states.underWay((page, frame) => {
      const w = rowOf(frame) * WORDS;
      page.underWay--;
      page.words[w + STATE] = HEADLESS;
      const slot = page.words[w + SLOT]!;
      if (slot !== NO_SLOT) this.slab.release(slot);
      const flags = page.words[w + FLAGS]!;
      if ((this.filter === null || (flags & WANTED) !== 0) && (this.run < 0 || (flags & OF_RUN) !== 0))
        this.incomplete++;
    });
  }
  private finish(): void {
    this.states.underWay((page, frame) => {
      const last = page.numbers[rowOf(frame) * NUMBERS + LAST]!;
      this.end(page, frame, UNDER_WAY_KIND, last);
    });
  }
}
