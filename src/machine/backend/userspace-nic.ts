/**
 * A NIC whose frames the VMM's own process carries, or one queue pair of it: what QEMU's main loop and StratoVirt's event loop
 * know of it alike.
 */
import type { EventFd } from '../../engine/eventfd.ts';
import type { Tap, TapQueue } from '../host/tap.ts';
import type { NetFilter } from '../virtio/net/net-filter.ts';
import type { Rss } from '../virtio/net/rss.ts';
import type { ControlEnd } from './control-end.ts';
import type { NetQueuePair } from './net-queue-pair.ts';

export abstract class UserspaceNic {
  declare readonly pair: NetQueuePair;
  declare readonly queue: TapQueue;
  declare readonly tap: Tap;
  declare readonly txKick: EventFd;
  declare readonly rxKick: EventFd;
  /** Kicks of the receive ring are wanted: no buffer was found, or none was looked for yet. */
  rxKicks = true;
  base = 0;
  /** The NIC's control queue, where this loop has its kicks; on its first queue pair. */
  control: ControlEnd | null = null;
  /** What the guest wants to receive; null: everything. */
  filter: NetFilter | null = null;
  /** What hashes received frames for their headers; null where none is to be reported. */
  hash: Rss | null = null;
  /**
   * The link is down: what comes from either side is taken and dropped (qemu virtio_net_drop_tx_queue_data(),
   * qemu_deliver_packet_iov()).
   */
  linkDown = false;

  constructor(pair: NetQueuePair, queue: TapQueue, txKick: EventFd, rxKick: EventFd) {
    this.pair = pair;
    this.queue = queue;
    this.tap = queue.tap;
    this.txKick = txKick;
    this.rxKick = rxKick;
  }

  /** The device was reset: the tap waits for the next driver. */
  reset(): void {
    this.rxKicks = true;
    this.queue.paused = true;
  }
}
