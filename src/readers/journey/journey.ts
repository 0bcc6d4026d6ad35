/**
 * The journey of one frame: every event of it that is still held, as steps with what each one cost. Found by the block
 * index (highest frame id per block), so that a frame of a long run costs a few blocks, not a scan of the ring.
 *
 * Read frame-path.ts first: it says what is processing, what is waiting, and what is not on the frame's way. The steps are
 * put together in journey-build.ts. A frame that is cut into segments ends there, and each segment has a journey of its own
 * that begins with the cutting; so does a frame that GRO merges into another one.
 */
import type { ContextInfo, PlaceType } from '../../engine/catalog.ts';
import type { RingReader } from '../../engine/event-ring.ts';
import { BLOCK_EVENTS, restore, restoreNear } from '../../engine/event-ring.ts';
import * as E from '../../engine/events.ts';
import { Announcement, buildJourney, hexOf, Relatives, type Seen } from './journey-build.ts';

/** Blocks that are still searched once the frame has reached its end: for the return of its buffer. */
const BLOCKS_AFTER_END = 8;
const NS_PER_SECOND = 1e9;

export interface JourneyHop {
  /** Virtual time in seconds since the world began, and ns since the frame's first event. */
  readonly time: number;
  readonly sinceStartNs: number;
  readonly place: string;
  readonly placeType: PlaceType;
  /** Who did it, what that is, and on which core of its host; null for hardware. */
  readonly context: string;
  readonly contextKind: ContextInfo['kind'];
  readonly core: number | null;
  readonly event: string;
  readonly text: string;
  /** Index into `versions`: the bytes as they are at this step; -1 = not known yet. */
  readonly version: number;
  /** Processing in this context up to this step, and what was charged to it there (ns). */
  costNs: number;
  /**
   * Time between the previous context's last event of the frame and this one (ns): waiting, and what the new context did
   * before it recorded its first event of the frame.
   */
  readonly waitedNs: number;
  /** Bytes that a host CPU copied in this step; 0 = none. */
  readonly copies: number;
  /**
   * VM exits, kicks and interrupts that this step caused. A used buffer notification belongs to no frame: it is shown at
   * the step that put the frame into the used ring, and is shared with the other frames that it announced.
   */
  exits: number;
  /** The exits by event name. */
  readonly exitsByReason: Record<string, number>;
  kicks: number;
  interrupts: number;
  /** Which flow cache answered (`emc_hit`, `megaflow_hit`, `hit` of the kernel's table, `miss`), and how many masks or subtables it probed. */
  readonly cache: string | null;
  readonly probed: number | null;
  /** Reason, where the frame ends here as dropped. */
  readonly drop: string | null;
  /** False for what happens to the buffer after the frame has gone on. */
  readonly onPath: boolean;
  /** Names of the events that were charged to this step, in order. */
  readonly charged: string[];
}

export interface FrameVersion {
  readonly time: number;
  readonly bytes: number;
  /** Null where the bytes have been overwritten. */
  readonly hex: string | null;
}

/** A context that had the frame: how long it worked for it, and how long the frame waited to be taken by it. */
export interface JourneyLane {
  readonly context: string;
  readonly kind: ContextInfo['kind'];
  readonly host: string;
  readonly core: number | null;
  /** How often the frame came to it. */
  visits: number;
  busyNs: number;
  waitedNs: number;
}

export interface Journey {
  readonly frame: number;
  /** The frame that this one is a copy of, or was cut from. */
  readonly parent: number | null;
  /** Copies that were made of this frame by flooding. */
  readonly clones: readonly number[];
  /** Frames that this one was cut into. */
  readonly segments: readonly number[];
  /** Frames that were merged into this one, and the frame that this one was merged into. */
  readonly merged: readonly number[];
  readonly mergedInto: number | null;
  readonly versions: readonly FrameVersion[];
  readonly hops: readonly JourneyHop[];
  /** In the order in which the frame came to them. */
  readonly lanes: readonly JourneyLane[];
  /** `delivered`, `consumed`, `dropped:<reason>`, `segmented`, `merged` or `in flight`. */
  readonly outcome: string;
  /** The reason alone; null where the frame was not dropped. */
  readonly dropReason: string | null;
  readonly totals: {
    readonly latencyNs: number;
    readonly processingNs: number;
    readonly waitingNs: number;
    readonly copies: number;
    readonly copiedBytes: number;
    readonly exits: number;
    /** Exits by event name. */
    readonly exitsByReason: Readonly<Record<string, number>>;
    readonly kicks: number;
    readonly interrupts: number;
  };
}

export type JourneyResult =
  | { readonly kind: 'found'; readonly journey: Journey }
  /** Too old: `oldest` is the oldest frame whose journey is still held. */
  | { readonly kind: 'gone'; readonly oldest: number }
  /** No frame has this id (yet). */
  | { readonly kind: 'unknown' };

/** First event of the first block that can hold `frame`: marks grow, and no event comes before its frame's id was given out. */
function firstBlockOf(reader: RingReader, frame: number): number {
  let low = Math.floor(reader.tail() / BLOCK_EVENTS);
  let high = Math.floor(Math.max(0, reader.head() - 1) / BLOCK_EVENTS);
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (reader.highFrame(middle * BLOCK_EVENTS) >= frame) high = middle;
    else low = middle + 1;
  }
  return low * BLOCK_EVENTS;
}

/** The oldest frame whose first event is still held. */
export function oldestFrame(reader: RingReader): number {
  const count = reader.read(0);
  let oldest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < count; i++) {
    const role = E.KIND_BY_ID[E.kindOf(reader.block.meta[i]!)]?.role;
    if (role === 'born' || role === 'cloned') oldest = Math.min(oldest, reader.block.frame[i]!);
  }
  if (oldest !== Number.POSITIVE_INFINITY) return oldest;
  return Math.min(reader.framesHead(), reader.block.blockFrame + 1);
}

/** Looks for a frame's journey; yields between blocks so that the caller can give the event loop air. */
export function* findJourney(reader: RingReader, frame: number): Generator<void, JourneyResult, undefined> {
  if (!Number.isSafeInteger(frame) || frame <= 0 || frame > reader.framesHead()) return { kind: 'unknown' };
  const head = reader.head();
  const low = frame % 4294967296;
  const seen: Seen[] = [];
  const relatives = new Relatives();
  const announcement = new Announcement();
  let born = false;
  let ended = -1;
  const tail = reader.tail();
  const start = firstBlockOf(reader, frame);
  // Its first events may have been overwritten only where the search begins at the oldest block.
  let lost = tail > 0 && start <= tail;
  let overtaken = false;
  for (let next = start; next < head && (ended < 0 || next <= ended + BLOCKS_AFTER_END * BLOCK_EVENTS); ) {
    const count = reader.read(next);
    const block = reader.block;
    if (block.first > next) {
      if (next === start) lost = true;
      else overtaken = true;
    }
    for (let i = 0; i < count; i++) {
      const kind = E.kindOf(block.meta[i]!);
      const a = block.a[i]!;
      const of = block.frame[i]!;
      if (a === low && of !== frame) {
        if ((kind === E.PACKET_CLONE || kind === E.PACKET_DUPLICATE) && restore(a, of) === frame)
          relatives.clones.push(of);
        else if (kind === E.PACKET_SEGMENT && restore(a, of) === frame) relatives.segments.push(of);
        else if (kind === E.PACKET_MERGE && restoreNear(a, of) === frame) relatives.merged.push(of);
      }
      if (of !== frame) {
        announcement.see(block.meta[i]!);
        continue;
      }
      if (kind === E.VIRTQ_USED) announcement.begin(block.first + i, block.meta[i]!);
      const role = E.KIND_BY_ID[kind]?.role ?? 'none';
      if (role === 'born' || role === 'cloned') born = true;
      if (kind === E.PACKET_CLONE || kind === E.PACKET_DUPLICATE || kind === E.PACKET_SEGMENT)
        relatives.parent = restore(a, frame);
      if (kind === E.PACKET_MERGE) relatives.mergedInto = restoreNear(a, frame);
      if (ended < 0 && (role === 'delivered' || role === 'consumed' || role === 'dropped' || role === 'replaced'))
        ended = block.first + i;
      const position = kind === E.PACKET_BYTES ? reader.bytePosition(a) : 0;
      seen.push({ seq: block.first + i, time: block.time[i]!, meta: block.meta[i]!, a, b: block.b[i]!, position });
    }
    next = block.first + count;
    yield;
  }
  // A hole before or in the journey: what is left would tell a wrong story.
  if (overtaken || (lost && !born)) return { kind: 'gone', oldest: oldestFrame(reader) };
  if (seen.length === 0) return { kind: 'unknown' };
  seen.sort((x, y) => x.time - y.time || x.seq - y.seq);
  const inherited: FrameVersion[] = [];
  if (relatives.parent !== null && !seen.some((event) => E.kindOf(event.meta) === E.PACKET_SEGMENT)) {
    const version = yield* versionOf(reader, relatives.parent, seen[0]!);
    if (version !== null) inherited.push(version);
  }
  return { kind: 'found', journey: buildJourney(reader, frame, relatives, seen, inherited, announcement) };
}

/**
 * The bytes of `frame` as they were when the copy was made that `made` tells of: a copy has its parent's, which may be those
 * of its own parent. Floods in a loop have thousands of such generations, so each costs only the blocks between the two
 * births. Null where they have been overwritten.
 */
function* versionOf(
  reader: RingReader,
  frame: number,
  made: { readonly seq: number; readonly time: number },
): Generator<void, FrameVersion | null, undefined> {
  let of = frame;
  let before = made;
  for (;;) {
    let found: { readonly time: number; readonly position: number; readonly bytes: number } | null = null;
    let parent = 0;
    let birth = before;
    for (let next = Math.max(firstBlockOf(reader, of), reader.tail()); next <= before.seq; ) {
      const count = reader.read(next);
      const { block } = reader;
      if (count === 0 || block.first > next) return null;
      for (let i = 0; i < count && block.first + i <= before.seq; i++) {
        if (block.frame[i] !== of) continue;
        const kind = E.kindOf(block.meta[i]!);
        const time = block.time[i]!;
        if (kind === E.PACKET_BYTES && time <= before.time) {
          found = { time, position: reader.bytePosition(block.a[i]!), bytes: block.b[i]! };
        } else if (kind === E.PACKET_CLONE || kind === E.PACKET_DUPLICATE) {
          parent = restore(block.a[i]!, of);
          birth = { seq: block.first + i, time };
        }
      }
      next = block.first + count;
      yield;
    }
    if (found !== null) {
      const { time, position, bytes } = found;
      return { time: time / NS_PER_SECOND, bytes, hex: hexOf(reader, position, bytes) };
    }
    if (parent === 0) return null;
    of = parent;
    before = birth;
  }
}
