/**
 * Makes a journey of the events of one frame: which of them are steps, what each step cost or waited for, and what else was
 * charged to it. journey.ts finds the events.
 */
import type { ContextInfo } from '../../engine/catalog.ts';
import type { RingReader } from '../../engine/event-ring.ts';
import * as E from '../../engine/events.ts';
import { PATH_CHARGED, PATH_OF_KIND, PATH_OFF, PATH_STEP } from '../frame-path.ts';
import type { FrameVersion, Journey, JourneyHop, JourneyLane } from './journey.ts';

const NS_PER_SECOND = 1e9;

/** One event of the frame, copied out of the ring. */
export interface Seen {
  readonly seq: number;
  readonly time: number;
  readonly meta: number;
  readonly a: number;
  readonly b: number;
  /** Restored byte ring position for PACKET_BYTES, else 0. */
  readonly position: number;
}

/** The used buffer notification that announced a frame: found by where and by whom the frame was put into the used ring. */
export class Announcement {
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
const CARRIERS = new Set<number>([E.EVENTFD_SIGNAL, E.KVM_IRQFD, E.SCHED_SYSCALL, E.KVM_SIGNAL_MSI, E.KVM_IRQ_LINE]);
/** The level of the datapath's caches that answered; a kernel datapath has one, its flow table. */
const CACHES: ReadonlyMap<number, string> = new Map([
  [E.DP_HIT, 'hit'],
  [E.DP_EMC_HIT, 'emc_hit'],
  [E.DP_MEGAFLOW_HIT, 'megaflow_hit'],
  [E.DP_MISS, 'miss'],
]);
/** Their column `a` says how many masks or subtables were probed; the exact match cache has none. */
const PROBES = new Set<number>([E.DP_HIT, E.DP_MEGAFLOW_HIT, E.DP_MISS]);

/** The frames that a frame came from, and those that came from it. */
export class Relatives {
  parent: number | null = null;
  mergedInto: number | null = null;
  readonly clones: number[] = [];
  readonly segments: number[] = [];
  readonly merged: number[] = [];
}

/** `seen`: the frame's events in the order of time; `versions`: what a copy has from its parent. */
export function buildJourney(
  reader: RingReader,
  frame: number,
  relatives: Relatives,
  seen: readonly Seen[],
  versions: FrameVersion[],
  announcement: Announcement,
): Journey {
  const { places, contexts } = reader.catalog;
  const start = seen[0]!.time;
  const hops: JourneyHop[] = [];
  const lastIn = new Map<number, JourneyHop>();
  const lanes = new Map<number, JourneyLane>();
  const exitsByReason: Record<string, number> = {};
  let context = -1;
  let last = start;
  let end = start;
  let outcome = 'in flight';
  let dropReason: string | null = null;
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
      const lane = lanes.get(in_) ?? newLane(contexts[in_]);
      lanes.set(in_, lane);
      if (context === in_) cost = event.time - last;
      else {
        waited = event.time - last;
        lane.visits++;
      }
      lane.busyNs += cost;
      lane.waitedNs += waited;
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
    if (kind.role === 'replaced') outcome = id === E.PACKET_MERGE ? 'merged' : 'segmented';
    const drop = kind.role === 'dropped' ? kind.name : null;
    if (drop !== null) {
      outcome = `dropped:${drop}`;
      dropReason = drop;
    }
    const charge = path === PATH_CHARGED ? lastIn.get(in_) : undefined;
    if (charge !== undefined) {
      charge.costNs += cost;
      charge.charged.push(kind.name);
      if (EXITS.has(id)) {
        charge.exits++;
        charge.exitsByReason[kind.name] = (charge.exitsByReason[kind.name] ?? 0) + 1;
      }
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
      contextKind: contexts[in_]?.kind ?? 'wire',
      core: coreOf(contexts[in_]),
      event: kind.name,
      text: kind.text,
      version: versions.length - 1,
      costNs: cost,
      waitedNs: waited,
      copies: id === E.PACKET_COPY ? event.a : 0,
      exits: EXITS.has(id) ? 1 : 0,
      exitsByReason: EXITS.has(id) ? { [kind.name]: 1 } : {},
      kicks: id === E.VIRTQ_KICK ? 1 : 0,
      interrupts: id === E.VIRTQ_INTERRUPT ? 1 : 0,
      cache: CACHES.get(id) ?? null,
      probed: PROBES.has(id) ? event.a : null,
      drop,
      onPath: counted,
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
    if (path !== PATH_OFF) lastIn.set(in_, hop);
  }
  if (outcome === 'in flight') end = last;
  return {
    frame,
    parent: relatives.parent,
    clones: relatives.clones,
    segments: relatives.segments,
    merged: relatives.merged,
    mergedInto: relatives.mergedInto,
    versions,
    hops,
    lanes: [...lanes.values()],
    outcome,
    dropReason,
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

function coreOf(context: ContextInfo | undefined): number | null {
  return context === undefined || context.core < 0 ? null : context.core;
}
function newLane(context: ContextInfo | undefined): JourneyLane {
  const { name = '?', kind = 'wire', host = '?' } = context ?? {};
  return { context: name, kind, host, core: coreOf(context), visits: 0, busyNs: 0, waitedNs: 0 };
}

const HEX: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));
export function hexOf(reader: RingReader, position: number, length: number): string | null {
  const bytes = new Uint8Array(length);
  if (!reader.readBytes(position, length, bytes)) return null;
  let text = '';
  for (let i = 0; i < length; i++) text += HEX[bytes[i]!]!;
  return text;
}
