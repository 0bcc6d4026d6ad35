/**
 * The journey of one frame: every event of it that is still held, as steps with what each one cost. Found by the block
 * index (highest frame id per block), so that a frame of a long run costs a few blocks, not a scan of the ring.
 *
 * Read frame-path.ts first: it says what is processing, what is waiting, and what is not on the frame's way.
 */
import type { PlaceType } from '../engine/catalog.ts';
import type { RingReader } from '../engine/event-ring.ts';
import { BLOCK_EVENTS, restore } from '../engine/event-ring.ts';
import * as E from '../engine/events.ts';
import { PATH_CHARGED, PATH_OF_KIND, PATH_OFF, PATH_STEP } from './frame-path.ts';

/** Blocks that are still searched once the frame has reached its end: for the return of its buffer. */
const BLOCKS_AFTER_END = 8;
const NS_PER_SECOND = 1e9;

export interface JourneyHop {
  /** Virtual time in seconds since the world began, and ns since the frame's first event. */
  readonly time: number;
  readonly sinceStartNs: number;
  readonly place: string;
  readonly placeType: PlaceType;
  readonly context: string;
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
  kicks: number;
  interrupts: number;
  /** Which flow cache answered. */
  readonly cache: string | null;
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

export interface Journey {
  readonly frame: number;
  /** The frame that this one is a copy of. */
  readonly parent: number | null;
  /** Copies that were made of this frame by flooding. */
  readonly clones: readonly number[];
  readonly versions: readonly FrameVersion[];
  readonly hops: readonly JourneyHop[];
  /** `delivered`, `consumed`, `dropped:<reason>` or `in flight`. */
  readonly outcome: string;
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

/** One event of the frame, copied out of the ring. */
interface Seen {
  readonly seq: number;
  readonly time: number;
  readonly meta: number;
  readonly a: number;
  readonly b: number;
  /** Restored byte ring position for PACKET_BYTES, else 0. */
  readonly position: number;
}

/** The used buffer notification that announced a frame: found by where and by whom the frame was put into the used ring. */
class Announcement {
  private place = -1;
  private context = -1;
  /** True once the device decided to notify: what that context does next carries it out. */
  private sending = false;
  /** Kinds of the events, by the sequence number of the step that they belong to. */
  readonly of = new Map<number, number[]>();
  private step = -1;

  /** The frame was put into the used ring by event `seq`. */
  begin(seq: number, meta: number): void {
    this.place = E.placeOf(meta);
    this.context = E.contextOf(meta);
    this.sending = false;
    this.step = seq;
    this.of.set(seq, []);
  }
  /** Looks at an event that belongs to no frame, or to another one. */
  see(meta: number): void {
    if (this.context < 0 || E.contextOf(meta) !== this.context) return;
    const kind = E.kindOf(meta);
    if (this.sending) {
      if (CARRIERS.has(kind)) this.of.get(this.step)!.push(kind);
      else this.context = -1;
    } else if (
      E.placeOf(meta) === this.place &&
      (kind === E.VIRTQ_INTERRUPT || kind === E.VIRTQ_INTERRUPT_SUPPRESSED)
    ) {
      this.of.get(this.step)!.push(kind);
      this.sending = true;
      if (kind === E.VIRTQ_INTERRUPT_SUPPRESSED) this.context = -1;
    }
  }
}

const EXITS = new Set<number>(E.EVENT_KINDS.filter((k) => k.name.startsWith('kvm.exit_')).map((k) => k.id));
/** What carries a used buffer notification to the vCPU. */
const CARRIERS = new Set<number>([E.EVENTFD_SIGNAL, E.KVM_IRQFD, E.SCHED_SYSCALL, E.KVM_SIGNAL_MSI]);
const CACHES: ReadonlyMap<number, string> = new Map([
  [E.DP_HIT, 'hit'],
  [E.DP_EMC_HIT, 'emc_hit'],
  [E.DP_MEGAFLOW_HIT, 'megaflow_hit'],
  [E.DP_MISS, 'miss'],
]);

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
  const clones: number[] = [];
  const announcement = new Announcement();
  let parent: number | null = null;
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
      if (kind === E.PACKET_CLONE && a === low && of !== frame && restore(a, of) === frame) clones.push(of);
      if (of !== frame) {
        announcement.see(block.meta[i]!);
        continue;
      }
      if (kind === E.VIRTQ_USED) announcement.begin(block.first + i, block.meta[i]!);
      const role = E.KIND_BY_ID[kind]?.role ?? 'none';
      if (role === 'born' || role === 'cloned') born = true;
      if (kind === E.PACKET_CLONE) parent = restore(a, frame);
      if (ended < 0 && (role === 'delivered' || role === 'consumed' || role === 'dropped')) ended = block.first + i;
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
  // A copy has the bytes of its parent as they were when it was made.
  const inherited: FrameVersion[] = [];
  if (parent !== null) {
    const result: JourneyResult = yield* findJourney(reader, parent);
    const made = seen[0]!.time / NS_PER_SECOND;
    const version = result.kind === 'found' ? result.journey.versions.findLast((v) => v.time <= made) : undefined;
    if (version !== undefined) inherited.push(version);
  }
  return { kind: 'found', journey: buildJourney(reader, frame, parent, clones, seen, inherited, announcement) };
}

function buildJourney(
  reader: RingReader,
  frame: number,
  parent: number | null,
  clones: number[],
  seen: readonly Seen[],
  versions: FrameVersion[],
  announcement: Announcement,
): Journey {
  const { places, contexts } = reader.catalog;
  const start = seen[0]!.time;
  const hops: JourneyHop[] = [];
  const lastIn = new Map<number, JourneyHop>();
  const exitsByReason: Record<string, number> = {};
  let context = -1;
  let last = start;
  let end = start;
  let outcome = 'in flight';
  let [processingNs, waitingNs, copies, copiedBytes, exits, kicks, interrupts] = [0, 0, 0, 0, 0, 0, 0];

  for (const event of seen) {
    const id = E.kindOf(event.meta);
    const kind = E.KIND_BY_ID[id];
    if (kind === undefined) continue;
    const in_ = E.contextOf(event.meta);
    const path = PATH_OF_KIND[id]!;
    if (id === E.PACKET_BYTES) {
      versions.push({ time: event.time / NS_PER_SECOND, bytes: event.b, hex: hexOf(reader, event.position, event.b) });
    }
    let cost = 0;
    let waited = 0;
    const counted = path === PATH_STEP || (path === PATH_CHARGED && (context === -1 || context === in_));
    if (counted) {
      if (context === in_) cost = event.time - last;
      else waited = event.time - last;
      context = in_;
      last = event.time;
      processingNs += cost;
      waitingNs += waited;
    }
    if (counted && kind.role !== 'none') end = event.time;
    if (EXITS.has(id)) {
      exits++;
      exitsByReason[kind.name] = (exitsByReason[kind.name] ?? 0) + 1;
    }
    if (id === E.VIRTQ_KICK) kicks++;
    if (id === E.VIRTQ_INTERRUPT) interrupts++;
    if (id === E.PACKET_COPY) {
      copies++;
      copiedBytes += event.a;
    }
    if (kind.role === 'delivered' || kind.role === 'consumed') outcome = kind.role;
    if (kind.role === 'dropped') outcome = `dropped:${kind.name}`;
    const charge = path === PATH_CHARGED ? lastIn.get(in_) : undefined;
    if (charge !== undefined) {
      charge.costNs += cost;
      charge.charged.push(kind.name);
      if (EXITS.has(id)) charge.exits++;
      if (id === E.VIRTQ_KICK) charge.kicks++;
      if (id === E.VIRTQ_INTERRUPT) charge.interrupts++;
      continue;
    }
    const place = places[E.placeOf(event.meta)];
    const hop: JourneyHop = {
      time: event.time / NS_PER_SECOND,
      sinceStartNs: event.time - start,
      place: place?.name ?? '?',
      placeType: place?.type ?? 'world',
      context: contexts[in_]?.name ?? '?',
      event: kind.name,
      text: kind.text,
      version: versions.length - 1,
      costNs: cost,
      waitedNs: waited,
      copies: id === E.PACKET_COPY ? event.a : 0,
      exits: EXITS.has(id) ? 1 : 0,
      kicks: id === E.VIRTQ_KICK ? 1 : 0,
      interrupts: id === E.VIRTQ_INTERRUPT ? 1 : 0,
      cache: CACHES.get(id) ?? null,
      onPath: path !== PATH_OFF,
      charged: [],
    };
    for (const announced of announcement.of.get(event.seq) ?? []) {
      hop.charged.push(E.KIND_BY_ID[announced]!.name);
      if (announced === E.VIRTQ_INTERRUPT) {
        hop.interrupts++;
        interrupts++;
      }
    }
    hops.push(hop);
    lastIn.set(in_, hop);
  }
  if (outcome === 'in flight') end = last;
  return {
    frame,
    parent,
    clones,
    versions,
    hops,
    outcome,
    totals: {
      latencyNs: end - start,
      processingNs,
      waitingNs,
      copies,
      copiedBytes,
      exits,
      exitsByReason,
      kicks,
      interrupts,
    },
  };
}

const HEX: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));
function hexOf(reader: RingReader, position: number, length: number): string | null {
  const bytes = new Uint8Array(length);
  if (!reader.readBytes(position, length, bytes)) return null;
  let text = '';
  for (let i = 0; i < length; i++) text += HEX[bytes[i]!]!;
  return text;
}

/** The journey as a ladder of text, one step per line, columns in ns. */
export function journeyText(journey: Journey): string {
  const t = journey.totals;
  const size = journey.versions[0]?.bytes;
  const lines = [
    `frame ${journey.frame}${size === undefined ? '' : `, ${size} bytes`}${journey.parent === null ? '' : `, a copy of frame ${journey.parent}`}: ${journey.outcome}`,
    `latency ${t.latencyNs} ns = processing ${t.processingNs} + waiting ${t.waitingNs}; ${plural(t.copies, 'copy', 'copies')} (${t.copiedBytes} bytes), ${plural(t.exits, 'VM exit')}, ${plural(t.kicks, 'kick')}, ${plural(t.interrupts, 'interrupt')}`,
    '',
  ];
  const table = [['+ns', 'cost', 'waited', 'context', 'place', 'event', '']];
  for (const hop of journey.hops) {
    const notes = [];
    if (hop.copies > 0) notes.push(`copies ${hop.copies} bytes`);
    if (hop.charged.length > 0) notes.push(hop.charged.join(', '));
    if (!hop.onPath) notes.push('not on the way');
    table.push([
      String(hop.sinceStartNs),
      String(hop.costNs),
      hop.waitedNs > 0 ? String(hop.waitedNs) : '',
      hop.context,
      hop.place,
      hop.event,
      notes.join('; '),
    ]);
  }
  const widths = table[0]!.map((_, c) => Math.max(...table.map((row) => row[c]!.length)));
  for (const row of table) {
    lines.push(
      row
        .map((cell, c) => (c < 3 ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
        .join('  ')
        .trimEnd(),
    );
  }
  if (journey.clones.length > 0)
    lines.push('', `copied by flooding as ${journey.clones.map((c) => `frame ${c}`).join(', ')}`);
  return lines.join('\n') + '\n';
}
function plural(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}
