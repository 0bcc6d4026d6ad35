/**
 * One traffic run: its account in the frame table, and the counters of the places that it touches, taken when its first
 * frame is sent and when its last one has ended.
 */
import {
  KIND_BY_ID,
  KIND_STRIDE,
  KVM_ENTRY,
  KVM_EXIT_EXTERNAL_INTERRUPT,
  KVM_EXIT_HLT,
  KVM_EXIT_IO,
  KVM_EXIT_IO_KERNEL,
  KVM_EXIT_MMIO_KERNEL,
  KVM_EXIT_MMIO_USER,
  PACKET_BORN,
  PACKET_COPY,
  PACKET_DMA,
  SCHED_SYSCALL,
  SCHED_WAKE,
  VIRTQ_INTERRUPT,
  VIRTQ_INTERRUPT_SUPPRESSED,
  VIRTQ_KICK,
  VIRTQ_KICK_SUPPRESSED,
} from '../engine/events.ts';
import type { RunLedger } from '../machine/packet/run-ledger.ts';
import type { BuiltHostNic, BuiltNic, Machine } from './build/machine.ts';
import { frameQueuePlaces, queuePlaces, virtqueueName } from './devices/netdev/nic-wiring.ts';
import type { RunResult, RunState, TcpResult, TransactionResult } from './protocol.ts';

/** FCS, and preamble and gap, in bytes. */
export const FCS_BYTES = 4;
const LINE_BYTES = 20;

/** What a run touches: the NICs at its ends (and in between). */
export interface RunScope {
  readonly nics: readonly BuiltNic[];
  readonly hostNics: readonly BuiltHostNic[];
}

export class Run {
  readonly id: string;
  readonly kind: string;
  readonly from: string;
  readonly to: string | null;
  readonly ledger: RunLedger;
  state: RunState = 'RUNNING';
  reason: string | null = null;
  shared = false;
  /** Frames that the source has sent, where that is not the ledger's count (ping: requests). */
  sentBySource: (() => number) | null = null;
  /** What came of TCP traffic so far. */
  tcp: (() => TcpResult) | null = null;
  /** What came of requests and responses so far. */
  transactions: (() => TransactionResult) | null = null;
  /** Stops the source. */
  stop: () => void = () => {};
  private readonly machine: Machine;
  private readonly scope: RunScope;
  private readonly places: number[] = [];
  private readonly contextIds: number[] = [];
  /** Of the NICs that it touches. */
  readonly backends: string[] = [];
  private before: Float64Array | null = null;
  private after: Float64Array | null = null;
  private busyBefore: number[] = [];
  private busyAfter: number[] = [];
  private wallStart: number;
  private wallEnd = 0;

  constructor(
    machine: Machine,
    id: string,
    kind: string,
    from: string,
    to: string | null,
    ledger: RunLedger,
    scope: RunScope,
  ) {
    this.machine = machine;
    this.id = id;
    this.kind = kind;
    this.from = from;
    this.to = to;
    this.ledger = ledger;
    this.scope = scope;
    this.wallStart = performance.now();
    this.widen();
    machine.site.onGrowth.add(this.widen);
  }

  /** Takes in what its NICs are made of: at its beginning, and again when one of them has been wired to something else. */
  private readonly widen = (): void => {
    const { machine, scope } = this;
    const places = new Set<number>();
    const names = new Set<string>();
    for (const n of scope.nics) {
      for (const p of [n.wiring.driverPlace, ...queuePlaces(n.wiring), n.wiring.backendPlace, n.guest.vcpuPlace])
        places.add(p);
      for (const c of n.contexts) names.add(c);
      if (!this.backends.includes(n.document.backend)) this.backends.push(n.document.backend);
    }
    for (const n of scope.hostNics) {
      places.add(n.rx.place);
      if (n.wire) places.add(n.wire.place);
    }
    const contexts = machine.catalog.contexts.filter((c) => names.has(c.name));
    for (const c of contexts) places.add(machine.scheduler.contexts[c.id]!.place);
    const newPlaces = [...places].filter((p) => !this.places.includes(p));
    const newIds = contexts.map((c) => c.id).filter((id) => !this.contextIds.includes(id));
    this.places.push(...newPlaces);
    this.contextIds.push(...newIds);
    if (this.before === null) return;
    // what counts for the run begins now
    const now = this.counters();
    now.set(this.before);
    this.before = now;
    this.busyBefore.push(...newIds.map((id) => machine.scheduler.busy[id]!));
  };

  get done(): boolean {
    return this.state !== 'RUNNING';
  }

  /** The first frame is about to be recorded. */
  begin(): void {
    this.wallStart = performance.now();
    this.before = this.counters();
    this.busyBefore = this.contextIds.map((id) => this.machine.scheduler.busy[id]!);
  }

  /** The run is over. */
  end(state: RunState, reason: string | null = null): void {
    this.wallEnd = performance.now();
    this.state = state;
    this.reason = reason;
    this.ledger.finished = true;
    this.machine.site.onGrowth.delete(this.widen);
    this.after = this.counters();
    this.busyAfter = this.contextIds.map((id) => this.machine.scheduler.busy[id]!);
  }

  private counters(): Float64Array {
    this.machine.recorder.publish(this.machine.scheduler.now[0]!);
    const all = new Float64Array(
      this.machine.arena.buffer,
      this.machine.catalog.layout.counters,
      this.machine.catalog.places.length * KIND_STRIDE * 2,
    );
    const out = new Float64Array(this.places.length * KIND_STRIDE * 2);
    for (const [i, place] of this.places.entries()) {
      out.set(all.subarray(place * KIND_STRIDE * 2, (place + 1) * KIND_STRIDE * 2), i * KIND_STRIDE * 2);
    }
    return out;
  }

  result(): RunResult {
    const { ledger } = this;
    const before = this.before ?? new Float64Array(this.places.length * KIND_STRIDE * 2);
    const after = this.after ?? (this.before ? this.counters() : before);
    const value = (place: number, kind: number, sum: 0 | 1): number => {
      const i = this.places.indexOf(place);
      return i < 0 ? 0 : after[(i * KIND_STRIDE + kind) * 2 + sum]! - before[(i * KIND_STRIDE + kind) * 2 + sum]!;
    };
    const total = (kind: number, sum: 0 | 1 = 0): number => this.places.reduce((n, p) => n + value(p, kind, sum), 0);
    const frames = ledger.delivered;
    const per = (n: number): number => (frames === 0 ? 0 : n / frames);
    const start = ledger.firstSendNs < 0 ? 0 : ledger.firstSendNs;
    const end = Math.max(start, ledger.lastDeliveryNs);
    const duration = (end - start) / 1e9;
    const perSecond = (n: number): number => (duration > 0 ? n / duration : 0);
    const bytes = ledger.deliveredBytes + frames * FCS_BYTES;
    const dropped: Record<string, number> = {};
    for (const [kind, n] of ledger.dropped.entries()) if (n > 0) dropped[KIND_BY_ID[kind]!.name] = n;
    const wallSeconds = ((this.wallEnd || performance.now()) - this.wallStart) / 1000;
    const busyAfter = this.after ? this.busyAfter : this.contextIds.map((id) => this.machine.scheduler.busy[id]!);
    const elapsed = this.after || end > start ? end - start : 0;
    return {
      id: this.id,
      kind: this.kind,
      state: this.state,
      ...(this.reason === null ? {} : { reason: this.reason }),
      from: this.from,
      to: this.to,
      sent: this.sentBySource ? this.sentBySource() : ledger.sent,
      // what an application answers is received at either end; pings count the answers themselves
      received: ledger.origin !== 0 && this.kind !== 'ping' ? ledger.delivered : ledger.received,
      replicated: ledger.replicated,
      duplicated: ledger.duplicated,
      elsewhere: ledger.elsewhere,
      dropped,
      virtual: {
        startSeconds: start / 1e9,
        durationSeconds: duration,
        framesPerSecond: perSecond(frames),
        frameBitsPerSecond: perSecond(bytes * 8),
        lineBitsPerSecond: perSecond((bytes + frames * LINE_BYTES) * 8),
        latencySeconds: {
          p50: ledger.quantile(0.5) / 1e9,
          p90: ledger.quantile(0.9) / 1e9,
          p99: ledger.quantile(0.99) / 1e9,
          max: ledger.maxLatency / 1e9,
        },
      },
      perFrame: {
        exitsKernel: per(total(KVM_EXIT_MMIO_KERNEL) + total(KVM_EXIT_IO_KERNEL)),
        exitsUserspace: per(total(KVM_EXIT_MMIO_USER) + total(KVM_EXIT_IO)),
        kicks: per(total(VIRTQ_KICK)),
        kicksSuppressed: per(total(VIRTQ_KICK_SUPPRESSED)),
        interrupts: per(total(VIRTQ_INTERRUPT)),
        interruptsSuppressed: per(total(VIRTQ_INTERRUPT_SUPPRESSED)),
        copies: per(total(PACKET_COPY)),
        copiedBytes: per(total(PACKET_COPY, 1)),
        // a frame that a guest's own software makes is copied once inside the guest; what it forwards is not
        guestCopies: per(this.scope.nics.reduce((n, b) => n + value(b.wiring.driverPlace, PACKET_BORN, 0), 0)),
        dmaTransfers: per(total(PACKET_DMA)),
        syscalls: per(total(SCHED_SYSCALL)),
        wakeups: per(total(SCHED_WAKE) + total(KVM_ENTRY)),
      },
      shared: this.shared,
      exitsByReason: {
        EPT_MISCONFIG: total(KVM_EXIT_MMIO_KERNEL) + total(KVM_EXIT_MMIO_USER),
        HLT: total(KVM_EXIT_HLT),
        EXTERNAL_INTERRUPT: total(KVM_EXIT_EXTERNAL_INTERRUPT),
        IO_INSTRUCTION: total(KVM_EXIT_IO) + total(KVM_EXIT_IO_KERNEL),
      },
      queues: this.scope.nics.flatMap((n) =>
        frameQueuePlaces(n.wiring).map((place, queue) => {
          return {
            guest: n.guest.name,
            nic: n.document.name,
            queue: virtqueueName(queue),
            kicks: value(place, VIRTQ_KICK, 0),
            kicksSuppressed: value(place, VIRTQ_KICK_SUPPRESSED, 0),
            interrupts: value(place, VIRTQ_INTERRUPT, 0),
            interruptsSuppressed: value(place, VIRTQ_INTERRUPT_SUPPRESSED, 0),
          };
        }),
      ),
      contexts: this.contextIds.map((id, i) => ({
        name: this.machine.catalog.contexts[id]!.name,
        busyRatio:
          elapsed > 0 && this.busyBefore.length > 0
            ? Math.min(1, Math.max(0, (busyAfter[i]! - this.busyBefore[i]!) / elapsed))
            : 0,
      })),
      wall: { durationSeconds: wallSeconds, framesPerSecond: wallSeconds > 0 ? frames / wallSeconds : 0 },
      costs: this.machine.catalog.costStamp,
      ...(this.tcp === null ? {} : { tcp: this.tcp() }),
      ...(this.transactions === null ? {} : { transactions: this.transactions() }),
      frames: { first: ledger.firstFrame, last: ledger.lastFrame },
    };
  }
}
