/**
 * A vhost-user port of the netdev datapath (dpdkvhostuserclient): DPDK's vhost library between a guest's rings and mbufs,
 * polled by a PMD. rte_vhost_dequeue_burst() and rte_vhost_enqueue_burst() of dpdk lib/vhost/virtio_net.c.
 *
 * The library leaves avail_event alone: with event idx a kernel guest rings once per 65,536 entries, and without it
 * VRING_USED_F_NO_NOTIFY is set once at the start (rte_vhost_enable_guest_notification(0)).
 */
import { DP_INGRESS, VHOST_USER_DROP_RX_FULL } from '../../engine/events.ts';
import { Port } from '../host/port.ts';
import type { NetdevDatapath } from '../ovs/netdev-datapath.ts';
import type { PmdRxq, PmdTxq } from '../ovs/pmd.ts';
import { FRAME_OFFSET, PacketQueue } from '../packet/pool.ts';
import type { Services } from '../services.ts';
import type { NetQueuePair } from './net-queue-pair.ts';

/** Lines that the other core wrote last, per frame and direction: descriptor and ring, header, payload. */
const SHARED_LINES = 3;
/** Frames of one output batch; the PMD flushes before it polls again, so a batch never holds more than a few bursts. */
const BATCH_LIMIT = 4096;

export class VhostUserPort extends Port implements PmdRxq, PmdTxq {
  readonly datapath: NetdevDatapath;
  /** null until the guest's device is set up. */
  pair: NetQueuePair | null = null;
  private readonly services: Services;
  private readonly batch = new PacketQueue(BATCH_LIMIT);
  private context = -1;
  private readonly burstCost: number;
  private readonly dequeueCost: number;
  private readonly enqueueCost: number;
  private readonly passCost: number;
  private readonly byteCost256: number;
  /** Chains of the burst that lands. */
  private taken = 0;
  /** Frames of the flush that lands. */
  private placed = 0;

  constructor(services: Services, datapath: NetdevDatapath, number: number, name: string, place: number) {
    super(number, name, place, 'dpdkvhostuserclient');
    this.services = services;
    this.datapath = datapath;
    const lines = SHARED_LINES * services.ns('cross_core_cache_line');
    this.burstCost = services.ns('vhost_burst_overhead');
    this.dequeueCost = services.ns('vhost_dequeue') + lines;
    this.enqueueCost = services.ns('vhost_enqueue') + lines;
    this.passCost = services.ns('emc_pass');
    this.byteCost256 = services.per256('copy_per_byte_vhost_user');
  }

  attach(context: number): void {
    this.context = context;
    this.pair?.attach(context);
  }
  /** new_device(): the rings are set up; the PMD serves them from now on. */
  connect(pair: NetQueuePair): void {
    this.pair = pair;
    if (this.context >= 0) pair.attach(this.context);
    pair.disableTxKicks(this.context << 20);
    pair.disableRxKicks();
  }

  // ---- from the guest -----------------------------------------------------------------------------------------------
  get ready(): number {
    if (this.pair === null) return 0;
    const n = this.pair.tx.available();
    return n > 0 ? n : 0;
  }
  receiveCost(n: number): number {
    const tx = this.pair!.tx;
    let bytes = 0;
    for (let i = 0; i < n; i++) bytes += tx.peekBytes(i);
    return this.burstCost + n * (this.dequeueCost + this.passCost) + ((bytes * this.byteCost256) >> 8);
  }

  receive(n: number, begun: number, contextBits: number): void {
    const { recorder, pool } = this.services;
    const pair = this.pair!;
    const ingressBits = (this.place << 8) | contextBits;
    let begin = begun + this.burstCost;
    for (let i = 0; i < n; i++) {
      const copied = begin + this.dequeueCost + ((pair.tx.peekBytes(0) * this.byteCost256) >> 8);
      const end = copied + this.passCost;
      pair.at[0] = begin;
      pair.at[1] = copied;
      const packet = pair.popTx();
      if (packet >= 0) {
        pair.usedTx();
        pool.inPort[packet] = this.number;
        recorder.event(ingressBits | DP_INGRESS, pair.txFrame, pool.length[packet]!, this.number);
        recorder.stamp[0] = end;
        this.datapath.process(packet, contextBits);
      }
      begin = end;
    }
    this.taken = n;
  }
  received(timeline: { unpark(id: number): void }): void {
    const pair = this.pair!;
    pair.publishTx(this.taken);
    if (pair.driverPoller >= 0) timeline.unpark(pair.driverPoller);
  }

  // ---- to the guest -------------------------------------------------------------------------------------------------
  get pending(): number {
    return this.batch.length;
  }
  override transmit(packet: number, contextBits: number): void {
    if (this.pair === null || this.batch.full) this.drop(packet, contextBits);
    else this.batch.push(packet);
  }
  private drop(packet: number, contextBits: number): void {
    const { recorder, pool, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event((this.place << 8) | contextBits | VHOST_USER_DROP_RX_FULL, frame, pool.length[packet]!, 0);
    frames.dropped(frame, VHOST_USER_DROP_RX_FULL);
    pool.release(packet);
  }
  flushCost(n: number): number {
    const lengths = this.services.pool.length;
    let bytes = 0;
    for (let i = 0; i < n; i++) bytes += lengths[this.batch.peek(i)]! + FRAME_OFFSET;
    return this.burstCost + n * this.enqueueCost + ((bytes * this.byteCost256) >> 8);
  }
  flush(n: number, begun: number, contextBits: number): void {
    const { recorder, pool } = this.services;
    const pair = this.pair!;
    let begin = begun + this.burstCost;
    for (let i = 0; i < n; i++) {
      const packet = this.batch.shift();
      const end = begin + this.enqueueCost + (((pool.length[packet]! + FRAME_OFFSET) * this.byteCost256) >> 8);
      pair.at[0] = begin;
      pair.at[1] = end;
      if (pair.pushRx(packet, 0)) this.placed++;
      else {
        recorder.stamp[0] = begin;
        this.drop(packet, contextBits);
      }
      begin = end;
    }
  }

  flushed(timeline: { unpark(id: number): void }): void {
    const pair = this.pair!;
    if (this.placed === 0) return;
    pair.publishRx(this.placed);
    this.placed = 0;
    if (pair.driverPoller >= 0) timeline.unpark(pair.driverPoller);
  }

  override get waiting(): number {
    return this.batch.length;
  }
}
