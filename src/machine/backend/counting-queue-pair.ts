/**
 * A queue pair that counts what happens on it for a driver that may ask (VIRTIO_NET_F_DEVICE_STATS, virtio 1.4 §5.1.9.5.10).
 * A class of its own, so that other worlds have none of its work on the way of a frame.
 *
 * Frames count without their virtio header. A drop is a frame that the device took and did not pass on: with the receive
 * filter, a bad chain, or no memory. Frames for which there is no buffer wait in the tap, so nothing is ever overrun here.
 * Large segments go to and from the tap whole: the device neither cuts (tx_gso_segments) nor merges (…_coalesced) any, and it
 * finds no checksum bad, because it looks at none.
 */
import { VIRTQ_DROP_BAD_CHAIN } from '../../engine/events.ts';
import { flagsOf, isGso } from '../packet/net-header.ts';
import type { Services } from '../services.ts';
import * as S from '../virtio/net/net-stats.ts';
import { RX_QUEUE } from '../virtio/queue/queue-index.ts';
import { VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../wire/virtio-net.ts';
import { NetQueuePair, type QueuePairPlaces } from './net-queue-pair.ts';

export class CountingQueuePair extends NetQueuePair {
  private stats: S.NetStats | null = null;
  private rxRow = 0;
  private txRow = 0;
  private refused = false;
  declare private readonly memory: Pick<Services, 'arena' | 'pool'>;

  constructor(services: Services, name: string, places: QueuePairPlaces) {
    super(services, name, places);
    this.memory = services;
  }
  /** Where to count; `firstQueue` is the index of the receive queue. */
  count(stats: S.NetStats, firstQueue: number): void {
    this.stats = stats;
    this.rxRow = firstQueue;
    this.txRow = firstQueue + 1;
  }

  override popTx(chain: number): number {
    const packet = super.popTx(chain);
    const { stats, txRow } = this;
    if (packet < 0 || stats === null) return packet;
    const { arena, pool } = this.memory;
    const slot = pool.slot(packet);
    const bytes = pool.length[packet]!;
    stats.add(txRow, S.TX_PACKETS, 1);
    stats.add(txRow, S.TX_BYTES, bytes);
    const open = (flagsOf(arena.u8, slot) & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0;
    stats.add(txRow, open ? S.TX_NEEDS_CSUM : S.TX_CSUM_NONE, 1);
    if (isGso(arena.u8, slot)) {
      stats.add(txRow, S.TX_GSO_PACKETS, 1);
      stats.add(txRow, S.TX_GSO_BYTES, bytes);
      stats.add(txRow, S.TX_GSO_PACKETS_NOSEG, 1);
      stats.add(txRow, S.TX_GSO_BYTES_NOSEG, bytes);
    }
    return packet;
  }
  protected override refuse(packet: number, code: number, reason: number): void {
    super.refuse(packet, code, reason);
    this.stats?.add(this.txRow, S.TX_DROPS, 1);
    if (reason === VIRTQ_DROP_BAD_CHAIN) this.stats?.add(this.txRow, S.TX_DROP_MALFORMED, 1);
  }

  override pushRx(packet: number, bounce: number): boolean {
    const { arena, pool } = this.memory;
    const slot = pool.slot(packet);
    const bytes = pool.length[packet]!;
    const flags = flagsOf(arena.u8, slot);
    const gso = isGso(arena.u8, slot);
    this.refused = false;
    const done = super.pushRx(packet, bounce);
    const { stats, rxRow } = this;
    if (!done || this.refused || stats === null) return done;
    stats.add(rxRow, S.RX_PACKETS, 1);
    stats.add(rxRow, S.RX_BYTES, bytes);
    if ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0) stats.add(rxRow, S.RX_NEEDS_CSUM, 1);
    else stats.add(rxRow, (flags & VIRTIO_NET_HDR_F_DATA_VALID) !== 0 ? S.RX_CSUM_VALID : S.RX_CSUM_NONE, 1);
    if (gso) {
      stats.add(rxRow, S.RX_GSO_PACKETS, 1);
      stats.add(rxRow, S.RX_GSO_BYTES, bytes);
    }
    return done;
  }
  protected override notPlaced(packet: number, code: number): true {
    this.refused = true;
    this.filtered();
    return super.notPlaced(packet, code);
  }
  override filtered(): void {
    this.stats?.add(this.rxRow, S.RX_DROPS, 1);
  }

  override kicked(queue: number, times: number): void {
    if (queue === RX_QUEUE) this.stats?.add(this.rxRow, S.RX_NOTIFICATIONS, times);
    else this.stats?.add(this.txRow, S.TX_NOTIFICATIONS, times);
  }
  override publishRx(entries: number): boolean {
    return this.interrupted(0, super.publishRx(entries));
  }
  override publishTx(entries: number): boolean {
    return this.interrupted(1, super.publishTx(entries));
  }
  override timeUp(which: 0 | 1): boolean {
    return this.interrupted(which, super.timeUp(which));
  }
  private interrupted(which: 0 | 1, sent: boolean): boolean {
    if (!sent) return false;
    if (which === 0) this.stats?.add(this.rxRow, S.RX_INTERRUPTS, 1);
    else this.stats?.add(this.txRow, S.TX_INTERRUPTS, 1);
    return true;
  }
}
