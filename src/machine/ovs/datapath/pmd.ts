/**
 * A PMD thread of the netdev datapath: polls its receive queues in turn, a burst at a time, classifies, then flushes what
 * it has batched for each output port (ovs lib/dpif-netdev.c pmd_thread_main, dp_netdev_process_rxq_port,
 * dp_netdev_pmd_flush_output_packets). It never sleeps; with nothing in any queue it is parked on its poll grid.
 */
import { Context, PARKED, PHASE_OWN, RETIRED } from '../../../engine/context.ts';
import type { Services } from '../../services.ts';
import type { NetdevDatapath } from './netdev-datapath.ts';

/** ovs lib/dp-packet.h NETDEV_MAX_BURST. */
export const NETDEV_MAX_BURST = 32;

/** A receive queue that a PMD polls. */
export interface PmdRxq {
  readonly datapath: NetdevDatapath;
  /** As `dpif-netdev/pmd-rxq-show` shows it. */
  readonly portName: string;
  readonly queueId: number;
  readonly enabled: boolean;
  /** Frames that wait now. */
  readonly ready: number;
  /** ns for taking and classifying `n` frames by their exact match. */
  receiveCost(n: number): number;
  /** Takes the frames of a burst that began at the recorder's stamp and hands them to datapath.process(). */
  receive(n: number, contextBits: number): void;
  /** After the landing: publishes used entries, notifies, resumes pollers. */
  received(timeline: { unpark(id: number): void }): void;
  attach(context: number): void;
}
/** An output port with a batch. */
export interface PmdTxq {
  readonly pending: number;
  /** Puts frames of one flow together, and says how many of them are in front, at most `limit`. */
  oneFlow(limit: number): number;
  flushCost(n: number): number;
  /** Sends a batch that began at the recorder's stamp. */
  flush(n: number, contextBits: number): void;
  /** After the landing: publishes, notifies. Returns what notifying has cost, ns. */
  flushed(timeline: { unpark(id: number): void }): number;
  attach(context: number): void;
}
/** A port with queues of PMDs. */
export interface PolledPort {
  readonly name: string;
  /** By slot: see lab/ovs/pmd-threads.ts. */
  readonly txqs: readonly PmdTxq[];
  /** One more, for frames up to `limit`. */
  addTxq(limit: number): void;
}

/** A burst that has begun and not landed. */
export interface PmdBurst {
  readonly begun: number;
  readonly count: number;
}

const TAKE = PHASE_OWN;
const LAND_RX = PHASE_OWN + 1;
const LAND_FLUSH = PHASE_OWN + 2;

export class Pmd extends Context {
  private readonly rxqs: PmdRxq[] = [];
  /** Time spent on each of them, ns. */
  private readonly rxqBusy: number[] = [];
  /** Bursts taken and batches flushed, packets that left in them; time in upcalls and subtables beyond the bursts', ns. */
  bursts = 0;
  txBatches = 0;
  txPackets = 0;
  debtNs = 0;
  private readonly txqs: PmdTxq[] = [];
  private rxq!: PmdRxq;
  private txq!: PmdTxq;
  /** other_config:tx-flush-interval, ns: a batch that is not full waits until so long after the one before it; 0: not at all. */
  txFlushNs = 0;
  /** False: frames of each flow of a burst are sent by themselves and at once, as before Open vSwitch 2.9 (commit 009e0033d). */
  outputBatching = true;
  /** By transmit queue, flush_time: until then a batch that is not full waits. */
  private readonly flushAt: number[] = [];
  /** The thread runs. */
  private runs = false;
  private turn = 0;
  /** Which of the queues the burst is of. */
  private polling = 0;
  private count = 0;
  private begun = 0;
  private contextBits = 0;
  declare private readonly pollGrid: number;
  /** When it came, ns. */
  born = 0;
  private reloads: (() => void)[] = [];

  constructor(name: string, core: number, services: Services) {
    super(name, core, services.recorder);
    this.pollGrid = Math.max(1, services.ns('pmd_idle_iteration'));
  }

  /** A queue of a port that has come; one that comes to a running PMD is polled from its next look on. */
  addRxq(rxq: PmdRxq, busyNs = 0): void {
    this.rxqs.push(rxq);
    this.rxqBusy.push(busyNs);
    if (this.runs) rxq.attach(this.id);
  }
  /** Its port is gone; a burst of it that is under way lands in nothing. Returns the time that it has taken, ns. */
  removeRxq(rxq: PmdRxq): number {
    const at = this.rxqs.indexOf(rxq);
    if (at < 0) return 0;
    this.rxqs.splice(at, 1);
    const [busyNs] = this.rxqBusy.splice(at, 1);
    if (this.polling >= at) this.polling = this.polling === at ? this.rxqs.length : this.polling - 1;
    if (this.turn > at) this.turn--;
    if (this.turn >= this.rxqs.length) this.turn = 0;
    return busyNs!;
  }
  busyOf(rxq: PmdRxq): number {
    return this.rxqBusy[this.rxqs.indexOf(rxq)] ?? 0;
  }
  /** The queues that it polls, and the time that each has taken, ns. */
  get polled(): { readonly rxq: PmdRxq; readonly busyNs: number }[] {
    return this.rxqs.map((rxq, i) => ({ rxq, busyNs: this.rxqBusy[i]! }));
  }
  /** `dpif-netdev/pmd-stats-clear`: what it has counted itself. */
  clearCounters(): void {
    this.bursts = 0;
    this.txBatches = 0;
    this.txPackets = 0;
    this.debtNs = 0;
    this.rxqBusy.fill(0);
  }
  get rxqCount(): number {
    return this.rxqs.length;
  }
  addTxq(txq: PmdTxq): void {
    this.adoptTxq(txq);
    if (this.runs) txq.attach(this.id);
    else this.ownTxqs.push(txq);
  }
  /** One that others fill: the PMD that it was for has gone. */
  adoptTxq(txq: PmdTxq): void {
    this.txqs.push(txq);
    this.flushAt.push(0);
  }
  /** Those that are to be its own when it begins. */
  private readonly ownTxqs: PmdTxq[] = [];
  removeTxq(txq: PmdTxq): void {
    const at = this.txqs.indexOf(txq);
    if (at < 0) return;
    this.txqs.splice(at, 1);
    this.flushAt.splice(at, 1);
  }
  begin(): void {
    if (this.phase === RETIRED) return;
    this.runs = true;
    this.contextBits = this.id << 20;
    for (const q of this.rxqs) q.attach(this.id);
    for (const q of this.ownTxqs.splice(0)) q.attach(this.id);
    this.phase = TAKE;
  }
  /** It has come to a running world, and has begun: its first poll is now. */
  arrive(): void {
    this.born = this.timeline.now[0]!;
    this.phase = PARKED;
    this.timeline.now[1] = Number.POSITIVE_INFINITY;
    this.timeline.park(this.id, this.pollGrid);
  }

  override get turns(): readonly number[] {
    return [this.turn];
  }
  override set turns(turns: readonly number[]) {
    this.turn = turns[0]!;
  }

  /** Something that no doorbell tells has changed: its next poll looks. */
  look(): void {
    if (this.phase === PARKED) this.timeline.unpark(this.id);
  }
  /** The burst of `rxq` that is under way, or that lands now; null: none. */
  underWay(rxq: PmdRxq): PmdBurst | null {
    const { begun, count } = this;
    return this.phase === LAND_RX && this.rxq === rxq ? { begun, count } : null;
  }
  /** Calls `then` when the slice under way has landed (ovsrcu_synchronize()). True: none is, and `then` is not called. */
  quiesce(then: () => void): boolean {
    if (this.phase !== LAND_RX && this.phase !== LAND_FLUSH) return true;
    this.onQuiet.push(then);
    return false;
  }
  /**
   * Calls `then` when its queues may change hands: what is under way has landed, and all that is batched has been flushed
   * (dp_netdev_reload_pmd__()). At once where there is nothing; otherwise from within its step.
   */
  reload(then: () => void): void {
    if (!this.runs || (this.phase === PARKED && this.txqs.every((txq) => txq.pending === 0))) {
      then();
      return;
    }
    this.reloads.push(then);
    this.look();
  }
  private reloaded(): void {
    const waiting = this.reloads;
    this.reloads = [];
    for (const then of waiting) then();
  }
  private onQuiet: (() => void)[] = [];
  private quiet(): void {
    const waiting = this.onQuiet;
    this.onQuiet = [];
    for (const then of waiting) then();
  }

  override step(): void {
    const now = this.timeline.now[0]!;
    let debt = 0;
    switch (this.phase) {
      case PARKED:
        this.timeline.resumed(this.id);
        break;
      case LAND_RX: {
        const rxq = this.rxq;
        this.recorder.stamp[0] = this.begun;
        if (!this.outputBatching) rxq.datapath.beginBurst();
        rxq.receive(this.count, this.contextBits);
        this.recorder.stamp[0] = now;
        rxq.received(this.timeline);
        debt = rxq.datapath.debt;
        rxq.datapath.debt = 0;
        this.bursts++;
        this.debtNs += debt;
        if (this.polling < this.rxqBusy.length) this.rxqBusy[this.polling]! += now - this.begun + debt;
        break;
      }
      case LAND_FLUSH:
        this.recorder.stamp[0] = this.begun;
        this.txq.flush(this.count, this.contextBits);
        this.recorder.stamp[0] = now;
        debt = this.txq.flushed(this.timeline);
        this.txBatches++;
        this.txPackets += this.count;
        break;
    }
    if (this.onQuiet.length > 0) this.quiet();
    if (debt > 0) {
      this.spend(debt, TAKE);
      return;
    }
    this.take();
  }

  private nextFlush(): number {
    let next = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.txqs.length; i++) if (this.txqs[i]!.pending > 0) next = Math.min(next, this.flushAt[i]!);
    return next;
  }
  /** What is batched first, then a burst (dp_netdev_pmd_flush_output_packets(), dp_netdev_process_rxq_port()). */
  private take(): void {
    const now = this.timeline.now[0]!;
    this.recorder.stamp[0] = now;
    const txqs = this.txqs;
    const reloads = this.reloads.length > 0;
    const waits = this.txFlushNs > 0 && this.outputBatching && !reloads;
    for (let i = 0; i < txqs.length; i++) {
      const pending = txqs[i]!.pending;
      if (pending === 0) continue;
      if (waits && pending < NETDEV_MAX_BURST && now < this.flushAt[i]!) continue;
      this.flushAt[i] = now + this.txFlushNs;
      this.txq = txqs[i]!;
      const most = Math.min(pending, NETDEV_MAX_BURST);
      this.count = this.outputBatching ? most : this.txq.oneFlow(most);
      this.begun = now;
      this.spend(this.txq.flushCost(this.count), LAND_FLUSH);
      return;
    }
    if (reloads) {
      this.reloaded();
      if (this.phase === RETIRED) return;
    }
    const rxqs = this.rxqs;
    for (let i = 0; i < rxqs.length; i++) {
      const at = this.turn + i < rxqs.length ? this.turn + i : this.turn + i - rxqs.length;
      const ready = rxqs[at]!.ready;
      if (ready === 0) continue;
      this.turn = at + 1 === rxqs.length ? 0 : at + 1;
      this.rxq = rxqs[at]!;
      this.polling = at;
      this.count = Math.min(ready, NETDEV_MAX_BURST);
      this.begun = now;
      this.spend(this.rxq.receiveCost(this.count), LAND_RX);
      return;
    }
    this.phase = PARKED;
    this.timeline.now[1] = this.txFlushNs > 0 ? this.nextFlush() : Number.POSITIVE_INFINITY;
    this.timeline.park(this.id, this.pollGrid);
  }
}
