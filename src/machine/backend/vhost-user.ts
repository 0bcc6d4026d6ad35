/**
 * A vhost-user port of the netdev datapath (dpdkvhostuserclient): DPDK's vhost library between a guest's rings and mbufs,
 * polled by PMDs. rte_vhost_dequeue_burst() and rte_vhost_enqueue_burst() of dpdk lib/vhost/virtio_net.c.
 *
 * Each queue pair of the guest is a receive queue of the port, and each of these is polled by one PMD. Towards the guest each
 * PMD has a transmit queue of its own, which is one receive queue of the guest: with one PMD the guest receives on one queue
 * only, whatever it has (ovs lib/dpif-netdev.c static_tx_qid, lib/netdev-dpdk.c netdev_dpdk_remap_txqs()).
 *
 * The library leaves avail_event alone: with event idx a kernel guest rings once per 65,536 entries, and without it
 * VRING_USED_F_NO_NOTIFY is set once at the start (rte_vhost_enable_guest_notification(0)).
 */
import {
  DP_INGRESS,
  MAX_CONTEXTS,
  PORT_DROP_REMOVED,
  VHOST_USER_BACKEND_DEAD,
  VHOST_USER_DROP_CRASH,
  VHOST_USER_DROP_IOTLB_MISS,
  VHOST_USER_DROP_RX_FULL,
} from '../../engine/events.ts';
import { Port } from '../host/port.ts';
import type { NetdevDatapath } from '../ovs/datapath/netdev-datapath.ts';
import type { Pmd, PmdBurst, PmdRxq, PmdTxq, PolledPort } from '../ovs/datapath/pmd.ts';
import { FRAME_OFFSET, PacketQueue } from '../packet/pool.ts';
import { rarpPacket } from '../packet/rarp.ts';
import type { Services } from '../services.ts';
import type { DeviceQueue } from '../virtio/queue/device-queue.ts';
import type { NetQueuePair } from './net-queue-pair.ts';

/**
 * Lines that the guest wrote last and that a frame out of it is read from: descriptor and ring, header, payload. Into the guest they
 * are stored to, which a core does not wait for; what that takes is in `vhost_enqueue`.
 */
const SHARED_LINES = 3;
/** Frames of one output batch; the PMD flushes before it polls again, so a batch never holds more than a few bursts. */
const BATCH_LIMIT = 4096;

/** Marks used rings in the front-end's dirty log, before they are published. */
export interface UsedLog {
  used(ring: number, queue: DeviceQueue, entries: number): void;
}

export class VhostUserPort extends Port implements PolledPort {
  /** null while the front-end keeps no log. */
  log: UsedLog | null = null;
  /** By queue pair. */
  declare readonly rxqs: readonly VhostUserRxq[];
  /** By slot of the host's PMDs. */
  declare readonly txqs: VhostUserTxq[];
  /** Queue pairs whose rings are enabled (VHOST_USER_SET_VRING_ENABLE): the first ones. */
  active = 1;
  /** The device is about to go: no further burst begins (destroy_device()). */
  stopping = false;
  /** Frames of both directions until the back-end dies: a fault that was asked for. */
  framesLeft = Number.POSITIVE_INFINITY;
  /** Has the back-end die in the burst in which `framesLeft` runs out, which lands now. */
  onLastFrame: () => void = () => {};
  declare private readonly pairs: (NetQueuePair | null)[];
  /** Which transmit queue a context has; what is no PMD has the first. */
  private readonly txqOf = new Uint8Array(MAX_CONTEXTS);
  declare private readonly services: Services;

  constructor(
    services: Services,
    datapath: NetdevDatapath,
    number: number,
    name: string,
    place: number,
    pairs = 1,
    pmds = 1,
    type: 'dpdkvhostuserclient' | 'dpdkvhostuser' = 'dpdkvhostuserclient',
  ) {
    super(number, name, place, type);
    this.services = services;
    this.pairs = new Array<NetQueuePair | null>(pairs).fill(null);
    this.rxqs = this.pairs.map(() => new VhostUserRxq(services, this, datapath));
    this.txqs = Array.from({ length: pmds }, (_, pmd) => new VhostUserTxq(services, this, pmd));
  }

  /** new_device(): the rings of a pair are set up; the PMDs serve them from now on. */
  connect(pair: NetQueuePair, index: number): void {
    this.stopping = false;
    this.pairs[index] = pair;
    this.remap();
    pair.attach(this.rxqs[index]!.context);
    pair.disableTxKicks(this.rxqs[index]!.context << 20);
    pair.disableRxKicks();
  }
  /** destroy_device(): the rings are nobody's; what comes for the guest is dropped. */
  disconnect(): void {
    this.pairs.fill(null);
    this.remap();
  }
  /** The rings of the first `active` pairs are enabled, the others disabled (vring_state_changed()). */
  setActive(active: number): void {
    this.active = active;
    this.remap();
  }
  /**
   * Queue 0 is that of the threads that are no PMDs, the first PMD has queue 1; those for which there is no enabled ring
   * share the enabled ones in turn.
   */
  private remap(): void {
    for (const [i, rxq] of this.rxqs.entries()) rxq.pair = i < this.active ? this.pairs[i]! : null;
    this.mapTxqs();
    this.onLink();
  }
  private mapTxqs(): void {
    for (const txq of this.txqs) txq.pair = this.pairs[(txq.pmd + 1) % this.active]!;
  }
  addTxq(limit: number): void {
    const { txqs } = this;
    txqs.push(new VhostUserTxq(this.services, this, txqs.length, limit));
    this.mapTxqs();
  }
  attachTxq(pmd: number, context: number): void {
    this.txqOf[context] = pmd;
  }

  /** A burst is about to be published in a ring of a pair: receive 0, transmit 1. */
  marks(log: UsedLog, pair: NetQueuePair, which: 0 | 1, entries: number): void {
    log.used(2 * this.pairs.indexOf(pair) + which, which === 0 ? pair.rx : pair.tx, entries);
  }
  /** SEND_RARP: the port sends it with its next burst, in front of what the guest sends. `mac`: 48 bits, first byte highest. */
  sendRarp(mac: number): void {
    const rxq = this.rxqs[0]!;
    if (rxq.rarp >= 0) return; // one is waiting
    const bytes = Array.from({ length: 6 }, (_, i) => Math.floor(mac / 2 ** (8 * (5 - i))) & 0xff);
    rxq.rarp = rarpPacket(this.services, (this.place << 8) | (rxq.context << 20), bytes);
  }
  override transmit(packet: number, contextBits: number): void {
    this.txqs[this.txqOf[contextBits >>> 20]!]!.add(packet, contextBits);
  }
  /** destroy_device(), and the port is removed: its rings are nobody's, its batches are dropped. */
  override close(contextBits: number): void {
    this.pairs.fill(null);
    this.remap();
    for (const rxq of this.rxqs) rxq.close(contextBits);
    for (const txq of this.txqs) txq.close(contextBits);
  }
  /** The burst that lands holds the last frame. */
  lastFrame(): void {
    this.framesLeft = Number.POSITIVE_INFINITY;
    this.onLastFrame();
  }
  /**
   * The back-end dies at the time `until`, which is now: of bursts that are under way, what has been handed on by then has left
   * it, and the driver will not learn of it; what was being looked at is lost with all that waits at the port. `pmds`: by queue
   * pair. Returns the number of frames dropped.
   *
   * DEVIATION: what dies is the device of one port with its connection, and not the process with all its ports. DPDK marks
   * descriptors as used before the datapath has their frames; here a burst is marked when it has been handed on.
   */
  crash(pmds: readonly Pmd[], until: number, contextBits: number): number {
    const { recorder } = this.services;
    let dropped = 0;
    let again = 0;
    for (const [i, rxq] of this.rxqs.entries()) {
      rxq.breakOff(pmds[i]?.underWay(rxq) ?? null, until);
      dropped += rxq.lost;
      again += rxq.again;
    }
    recorder.stamp[0] = until;
    this.pairs.fill(null);
    this.remap();
    for (const rxq of this.rxqs) dropped += rxq.close(contextBits, VHOST_USER_DROP_CRASH);
    for (const txq of this.txqs) dropped += txq.close(contextBits, VHOST_USER_DROP_CRASH);
    recorder.event((this.place << 8) | contextBits | VHOST_USER_BACKEND_DEAD, 0, dropped, again);
    return dropped;
  }
  override get waiting(): number {
    let n = 0;
    for (let i = 0; i < this.txqs.length; i++) n += this.txqs[i]!.pending;
    return n;
  }
}

/** From the guest: one of its transmit rings. */
export class VhostUserRxq implements PmdRxq {
  declare readonly datapath: NetdevDatapath;
  /** null until the guest's device is set up, and while the ring is disabled. */
  pair: NetQueuePair | null = null;
  /** A frame that the back-end itself has to send (VHOST_USER_SEND_RARP), in front of what the guest sends; -1: none. */
  rarp = -1;
  /** The PMD that polls the queue. */
  context = -1;
  declare private readonly port: VhostUserPort;
  declare private readonly services: Services;
  declare private readonly burstCost: number;
  declare private readonly dequeueCost: number;
  declare private readonly passCost: number;
  declare private readonly callCost: number;
  declare private readonly lookupCost: number;
  declare private readonly byteCost256: number;
  /** Chains of the burst that lands. */
  private taken = 0;
  /** The ring that it was looked up in: by the time it lands there may be another, or none. */
  private ring: DeviceQueue | null = null;
  /** Of the burst in which the back-end died: frames that were lost, and chains whose frames will be sent again. */
  lost = 0;
  again = 0;
  /** Frames of the burst that lands before the back-end dies. */
  private most = Number.POSITIVE_INFINITY;

  constructor(services: Services, port: VhostUserPort, datapath: NetdevDatapath) {
    this.services = services;
    this.port = port;
    this.datapath = datapath;
    this.burstCost = services.ns('vhost_burst_overhead');
    this.dequeueCost = services.ns('vhost_dequeue') + SHARED_LINES * services.ns('cross_core_cache_line');
    this.passCost = services.ns('emc_pass');
    this.callCost = services.ns('irqfd_write');
    this.lookupCost = services.ns('iotlb_hit');
    this.byteCost256 = services.per256('copy_per_byte_vhost_user');
  }
  get portName(): string {
    return this.port.name;
  }
  get queueId(): number {
    return this.port.rxqs.indexOf(this);
  }
  get enabled(): boolean {
    return this.pair !== null;
  }
  attach(context: number): void {
    this.context = context;
    this.pair?.attach(context);
  }

  get ready(): number {
    if (this.pair === null || this.port.stopping) return 0;
    const n = this.pair.tx.available();
    if (n >= 0) return this.rarp < 0 ? n : n + 1;
    this.pair.lost('tx');
    return 0;
  }
  receiveCost(n: number): number {
    const tx = this.pair!.tx;
    this.ring = tx;
    let bytes = 0;
    const chains = this.rarp < 0 ? n : n - 1;
    for (let i = 0; i < chains; i++) bytes += tx.peekBytes(i);
    return this.burstCost + n * (this.dequeueCost + this.passCost) + ((bytes * this.byteCost256) >> 8);
  }

  receive(n: number, contextBits: number): void {
    const { recorder, pool } = this.services;
    const pair = this.pair;
    this.taken = 0;
    if (pair === null || pair.tx !== this.ring) return; // disabled or stopped meanwhile
    const { number } = this.port;
    const ingressBits = (this.port.place << 8) | contextBits;
    let begin = recorder.stamp[0]! + this.burstCost;
    const chains = pair.tx.still(this.rarp < 0 ? n : n - 1);
    if (this.port.framesLeft <= chains) {
      this.most = this.port.framesLeft;
      this.port.lastFrame();
      return;
    }
    this.port.framesLeft -= chains;
    if (this.rarp >= 0) {
      recorder.stamp[0] = begin;
      this.sendRarp(ingressBits, contextBits);
    }
    for (let i = 0; i < chains; i++) {
      const bytes = pair.tx.peekBytes(0);
      const copied = begin + this.dequeueCost + ((bytes * this.byteCost256) >> 8);
      const end = copied + this.passCost;
      pair.at[0] = begin;
      pair.at[1] = copied;
      const packet = pair.popTx(bytes);
      if (packet >= 0) {
        pair.usedTx();
        pool.inPort[packet] = number;
        recorder.event(ingressBits | DP_INGRESS, pair.txFrame, pool.length[packet]!, number);
        recorder.stamp[0] = end;
        this.datapath.process(packet, contextBits);
      }
      begin = end;
    }
    this.taken = chains;
  }
  /** rte_vhost_dequeue_burst(): the frame comes in front of the guest's, once. At the current stamp. */
  private sendRarp(ingressBits: number, contextBits: number): void {
    const { recorder, pool } = this.services;
    const packet = this.rarp;
    this.rarp = -1;
    pool.inPort[packet] = this.port.number;
    recorder.event(ingressBits | DP_INGRESS, pool.frame[packet]!, pool.length[packet]!, this.port.number);
    this.datapath.process(packet, contextBits);
  }
  /** The port is gone before it was sent. Returns frames dropped. */
  close(contextBits: number, reason: number = PORT_DROP_REMOVED): number {
    const packet = this.rarp;
    if (packet < 0) return 0;
    this.rarp = -1;
    this.drop(packet, contextBits, reason);
    return 1;
  }
  private drop(packet: number, contextBits: number, reason: number): void {
    const { recorder, pool, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event((this.port.place << 8) | contextBits | reason, frame, pool.length[packet]!, 0);
    frames.dropped(frame, reason);
    pool.release(packet);
  }

  /**
   * The back-end dies at `until`, with the burst under way (null: none). Frames that have been handed on by then go their way;
   * one that was being copied or classified is lost; those behind it have not been touched. Nothing is marked used, so that all
   * of the taken chains are in the ring as before: what they hold is sent again, as frames of their own.
   */
  breakOff(burst: PmdBurst | null, until: number): void {
    const { recorder, pool } = this.services;
    const { most, pair, context, port } = this;
    this.most = Number.POSITIVE_INFINITY;
    this.taken = 0;
    this.lost = 0;
    this.again = 0;
    if (burst === null || pair === null || pair.tx !== this.ring) return;
    const contextBits = context << 20;
    const ingressBits = (port.place << 8) | contextBits;
    const chains = pair.tx.still(this.rarp < 0 ? burst.count : burst.count - 1);
    let begin = burst.begun + this.burstCost;
    for (let i = 0; i < chains && begin < until && i <= most; i++) {
      const bytes = pair.tx.peekBytes(0);
      const copied = begin + this.dequeueCost + ((bytes * this.byteCost256) >> 8);
      const end = copied + this.passCost;
      pair.at[0] = begin;
      pair.at[1] = Math.min(copied, until);
      const packet = pair.popTx(bytes);
      begin = end;
      // a bad chain is given back when it is looked at again
      if (packet < 0) continue;
      const length = pool.length[packet]!;
      recorder.stamp[0] = Math.min(end, until);
      pair.repeatTx(length);
      this.again++;
      if (end > until || i === most) {
        this.drop(packet, contextBits, VHOST_USER_DROP_CRASH);
        this.lost++;
        continue;
      }
      pool.inPort[packet] = port.number;
      recorder.event(ingressBits | DP_INGRESS, pair.txFrame, length, port.number);
      recorder.stamp[0] = end;
      this.datapath.process(packet, contextBits);
    }
  }
  received(timeline: { unpark(id: number): void }): void {
    const pair = this.pair;
    if (pair === null || this.taken === 0) return;
    if (this.port.log !== null) this.port.marks(this.port.log, pair, 1, this.taken);
    this.datapath.debt += pair.tx.takeLookups() * this.lookupCost;
    if (pair.publishTx(this.taken)) this.datapath.debt += this.callCost;
    if (pair.driverPoller >= 0) timeline.unpark(pair.driverPoller);
  }
}

/** To the guest: what one PMD has for it, into one of its receive rings. */
export class VhostUserTxq implements PmdTxq {
  /** Number of the PMD among those of the host. */
  declare readonly pmd: number;
  /** null until the guest's device is set up. */
  pair: NetQueuePair | null = null;
  declare private readonly port: VhostUserPort;
  declare private readonly services: Services;
  declare private readonly batch: PacketQueue;
  declare private readonly burstCost: number;
  declare private readonly enqueueCost: number;
  declare private readonly callCost: number;
  declare private readonly lookupCost: number;
  declare private readonly byteCost256: number;
  /** Frames of the flush that lands, and the ring that they went into. */
  private placed = 0;
  private served: NetQueuePair | null = null;

  constructor(services: Services, port: VhostUserPort, pmd: number, limit = BATCH_LIMIT) {
    this.services = services;
    this.batch = new PacketQueue(limit);
    this.port = port;
    this.pmd = pmd;
    this.burstCost = services.ns('vhost_burst_overhead');
    this.callCost = services.ns('irqfd_write');
    this.lookupCost = services.ns('iotlb_hit');
    this.enqueueCost = services.ns('vhost_enqueue');
    this.byteCost256 = services.per256('copy_per_byte_vhost_user');
  }
  attach(context: number): void {
    this.port.attachTxq(this.pmd, context);
  }

  get pending(): number {
    return this.batch.length;
  }
  oneFlow(limit: number): number {
    return this.batch.oneFlow(this.services.pool, limit);
  }
  add(packet: number, contextBits: number): void {
    if (this.pair === null || this.port.stopping || this.batch.full) this.drop(packet, contextBits);
    else this.batch.push(packet);
  }
  private drop(packet: number, contextBits: number, reason: number = VHOST_USER_DROP_RX_FULL): void {
    const { recorder, pool, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event((this.port.place << 8) | contextBits | reason, frame, pool.length[packet]!, 0);
    frames.dropped(frame, reason);
    pool.release(packet);
  }
  /** Returns frames dropped. */
  close(contextBits: number, reason: number = PORT_DROP_REMOVED): number {
    const waiting = this.batch.length;
    while (this.batch.length > 0) this.drop(this.batch.shift(), contextBits, reason);
    return waiting;
  }
  flushCost(n: number): number {
    const lengths = this.services.pool.length;
    let bytes = 0;
    for (let i = 0; i < n; i++) bytes += lengths[this.batch.peek(i)]! + FRAME_OFFSET;
    return this.burstCost + n * this.enqueueCost + ((bytes * this.byteCost256) >> 8);
  }
  flush(n: number, contextBits: number): void {
    const { recorder, pool } = this.services;
    const pair = this.pair;
    this.served = pair;
    pair?.attachRx(contextBits);
    let begin = recorder.stamp[0]! + this.burstCost;
    // none, where the port was closed meanwhile
    const waiting = Math.min(n, this.batch.length);
    if (this.port.framesLeft <= waiting) {
      // used entries are published when the burst has landed: what is copied by now, the driver never sees
      this.served = null;
      this.port.lastFrame();
      return;
    }
    this.port.framesLeft -= waiting;
    for (let i = 0; i < waiting; i++) {
      const packet = this.batch.shift();
      const end = begin + this.enqueueCost + (((pool.length[packet]! + FRAME_OFFSET) * this.byteCost256) >> 8);
      let placed = false;
      if (pair !== null) {
        pair.at[0] = begin;
        pair.at[1] = end;
        placed = pair.pushRx(packet, 0);
      }
      if (placed) this.placed++;
      else {
        recorder.stamp[0] = begin;
        this.drop(
          packet,
          contextBits,
          pair?.rx.missing === true ? VHOST_USER_DROP_IOTLB_MISS : VHOST_USER_DROP_RX_FULL,
        );
      }
      begin = end;
    }
  }

  /** vhost_vring_call(): an interrupt is a write to the call eventfd, on the PMD's time. So are translations of addresses. */
  flushed(timeline: { unpark(id: number): void }): number {
    const pair = this.served;
    if (pair === null || this.placed === 0) return 0;
    if (this.port.log !== null) this.port.marks(this.port.log, pair, 0, this.placed);
    const called = pair.publishRx(this.placed);
    this.placed = 0;
    if (pair.driverPoller >= 0) timeline.unpark(pair.driverPoller);
    const looked = pair.rx.takeLookups() * this.lookupCost;
    return called ? looked + this.callCost : looked;
  }
}
