/**
 * A journey as visits: what happens while one context has the frame, and how the frame came from there to the next one.
 * Drawings have a lane for each context, a box for each visit, an arrow for each hand-over.
 */
import type { Journey, JourneyHop } from './journey.ts';

export interface Visit {
  readonly context: string;
  readonly hops: readonly JourneyHop[];
  /** Sum of the steps (ns). */
  readonly costNs: number;
  /** How long the frame lay there before this visit began (ns), and how it came; null for the first. */
  readonly waitedNs: number;
  readonly cameBy: string | null;
}

/** The visits along the frame's way; what happens to its buffer afterwards is left out. */
export function visitsOf(journey: Journey): Visit[] {
  const visits: Visit[] = [];
  let hops: JourneyHop[] = [];
  let before: JourneyHop | null = null;
  const close = (): void => {
    const first = hops[0];
    if (first === undefined) return;
    visits.push({
      context: first.context,
      hops,
      costNs: hops.reduce((sum, hop) => sum + hop.costNs, 0),
      waitedNs: first.waitedNs,
      cameBy: before === null ? null : handOver(before),
    });
    before = hops.at(-1)!;
    hops = [];
  };
  for (const hop of journey.hops) {
    if (!hop.onPath) continue;
    if (hops.length > 0 && hops[0]!.context !== hop.context) close();
    hops.push(hop);
  }
  close();
  return visits;
}

/** What carries the frame on from its last step in a context: told from what was recorded there. */
export function handOver(last: JourneyHop): string {
  const did = (name: string): boolean => last.charged.includes(name);
  switch (last.event) {
    case 'virtq.avail':
      if (did('virtq.kick')) return did('eventfd.signal') ? 'kick, ioeventfd' : 'kick, exit to userspace';
      return did('virtq.kick_suppressed') ? 'avail ring, no kick wanted' : 'avail ring';
    case 'virtq.used':
      if (did('virtq.interrupt')) {
        if (did('kvm.irqfd')) return 'interrupt, irqfd';
        if (did('kvm.irq_line')) return 'interrupt, KVM_IRQ_LINE';
        return did('kvm.signal_msi') ? 'interrupt, KVM_SIGNAL_MSI' : 'interrupt';
      }
      return did('virtq.interrupt_suppressed') ? 'used ring, no interrupt wanted' : 'used ring';
    case 'tap.enqueue':
      return 'tap queue';
    case 'dp.miss':
    case 'dp.upcall_copy':
      return 'upcall, netlink';
    case 'dp.output':
      return 'port batch';
    case 'nic.tx':
      return 'transmit ring, DMA';
    case 'nic.wire_tx':
      return 'wire';
    case 'nic.wire_rx':
    case 'packet.dma':
      return 'receive ring';
    default:
      return last.event;
  }
}

/** A whole number of ns with a space every three digits. */
export function nsText(ns: number): string {
  return `${String(Math.round(ns)).replace(/\B(?=(\d{3})+(?!\d))/g, ' ')} ns`;
}

/** What the step did beside its own event, in words: copies, cache, exits, notifications. */
export function stepNotes(
  hop: JourneyHop,
): { readonly kind: 'copy' | 'cache' | 'exit' | 'notice'; readonly text: string }[] {
  const notes: ReturnType<typeof stepNotes> = [];
  if (hop.copies > 0) notes.push({ kind: 'copy', text: `copies ${hop.copies} bytes` });
  if (hop.cache !== null && hop.probed !== null) notes.push({ kind: 'cache', text: `masks probed: ${hop.probed}` });
  for (const name of hop.charged) {
    if (name === 'packet.bytes') continue;
    notes.push(
      name.startsWith('kvm.exit_')
        ? { kind: 'exit', text: `VM exit ${name.slice(9)}` }
        : { kind: 'notice', text: name },
    );
  }
  return notes;
}

/** One sentence: what became of the frame and what it cost. */
export function summaryOf(journey: Journey): string {
  const t = journey.totals;
  return `${journey.outcome}; latency ${nsText(t.latencyNs)}, processing ${nsText(t.processingNs)}, waiting ${nsText(t.waitingNs)}; copies ${t.copies}, VM exits ${t.exits}, kicks ${t.kicks}, interrupts ${t.interrupts}`;
}
/** `frame 7, 60 bytes, a copy of frame 6`. */
export function titleOf(journey: Journey): string {
  const size = journey.versions[0]?.bytes;
  const copy = descentOf(journey);
  return `frame ${journey.frame}${size === undefined ? '' : `, ${size} bytes`}${copy}`;
}

/** `, a copy of frame 6`, `, a segment of frame 6`; empty where the frame comes from no other. */
export function descentOf(journey: Journey): string {
  if (journey.parent === null) return '';
  const cut = journey.hops[0]?.event === 'packet.segment';
  return `, ${cut ? 'a segment' : 'a copy'} of frame ${journey.parent}`;
}

/** What became of the frame beside its own way, a line each. */
export function relativesOf(journey: Journey): string[] {
  const list = (frames: readonly number[]): string => frames.map((f) => `frame ${f}`).join(', ');
  const lines: string[] = [];
  if (journey.clones.length > 0) lines.push(`copied by flooding as ${list(journey.clones)}`);
  if (journey.segments.length > 0) lines.push(`cut into ${list(journey.segments)}`);
  if (journey.merged.length > 0) lines.push(`took in ${list(journey.merged)}`);
  if (journey.mergedInto !== null) lines.push(`merged into frame ${journey.mergedInto}`);
  return lines;
}
