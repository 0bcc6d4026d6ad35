/**
 * An XDP program on a guest's NICs that swaps the MAC addresses of every frame and sends it back by the NIC that it came in at
 * (XDP_TX), as `xdp_rxq_info --action XDP_TX` does. It runs within the NAPI poll, before there is an skb: no stack sees a frame.
 * Follows linux drivers/net/virtio_net.c from 5.13 on.
 *
 * Where the device has queue pairs to spare, one more for each CPU, those CPUs send by queues of their own, for which nobody wants
 * an interrupt: what was sent is freed before the next frame. Otherwise the program shares the queue of the stack
 * ("slower locked tx mode"). Dedicated pairs receive as well: the device has been told that they are in use, and steers to them.
 *
 * DEVIATION: receive buffers stay as they were without a program, where Linux posts a page for each from then on, with headroom. So
 * MTUs above 1500 are refused, not only those above 3506, and a frame of several buffers is sent where it fits a transmit slot.
 * The frame is copied beside the guest's RAM, at no cost, where Linux hands its page on. The program is there when the interface
 * goes up, and not attached later. What a poll sends is published together at its end, where Linux publishes each and kicks then.
 * The lock of a shared queue is never waited for, as each CPU that runs has a pair.
 */
import { GUEST_DROP_MALFORMED, GUEST_DROP_TX_FULL, GUEST_FORWARD } from '../../engine/events.ts';
import type { Services } from '../services.ts';
import {
  andFeatures,
  type Features,
  hasFeature,
  NO_FEATURES,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_MQ,
} from '../virtio/features.ts';
import { GUEST_OFFLOADS } from '../virtio/net/net-control.ts';
import { VIRTIO_NET_HDR_GSO_NONE } from '../wire/virtio-net.ts';
import type { GuestNic } from './guest-nic.ts';
import type { GuestQueuePair } from './guest-queue-pair.ts';
import { swapMacs } from './mac-swap.ts';
import { type ControlCommand, guestOffloadsSet, vqPairsSet } from './net-commands.ts';

/** __virtnet_xdp_xmit_one(): a zeroed header, which leaves nothing to the device. */
const NO_WISH = new Int32Array(6);

export class GuestXdp {
  /** ns of a frame: out of the receive ring, through the program, into the transmit ring. */
  declare readonly frameCost: number;
  /** nr_cpu_ids of the guest. */
  declare private readonly cpus: number;
  declare private readonly services: Services;
  /** As a bridge has it: nothing is left undone here. */
  owed = 0;

  constructor(services: Services, cpus: number) {
    this.services = services;
    this.cpus = cpus;
    this.frameCost = services.ns('guest_xdp_tx');
  }

  /** The queue pair by which CPU `cpu` sends what it polls of the NIC of `pair` (virtnet_xdp_get_sq()). */
  peerOf({ nic }: GuestQueuePair, cpu: number): GuestQueuePair {
    const { active, pairs } = nic;
    return pairs[active > this.cpus ? active - this.cpus + cpu : cpu % active]!;
  }
  /** Whether nobody but the program sends by this queue (is_xdp_raw_buffer_queue()). */
  owns({ nic, index }: GuestQueuePair): boolean {
    return nic.active > this.cpus && index >= nic.active - this.cpus && index < nic.active;
  }

  /** Puts the frame that `pair` has taken into the ring of `out`, unpublished, at the current stamp. False: it was dropped. */
  pass(pair: GuestQueuePair, out: GuestQueuePair, frame: number): boolean {
    const { services } = this;
    const { nic } = pair;
    const { frameAt: at, frameLength: length } = nic;
    // what was under way before the offloads were off, and what no page could hold
    if (nic.rxGsoType !== VIRTIO_NET_HDR_GSO_NONE || out.isLong(length)) {
      services.recorder.event(pair.base | GUEST_DROP_MALFORMED, frame, length, 0);
      services.frames.dropped(frame, GUEST_DROP_MALFORMED);
      return false;
    }
    if (out.tx.num_free === 0 && out.reclaim() === 0) {
      services.recorder.event(pair.base | GUEST_DROP_TX_FULL, frame, length, 0);
      services.frames.dropped(frame, GUEST_DROP_TX_FULL);
      return false;
    }
    services.recorder.event(pair.base | GUEST_FORWARD, frame, length, 0);
    swapMacs(services.arena.u16, at);
    services.frames.changed(pair.base, frame, at, length);
    out.pass(at, length, NO_WISH, frame);
    return true;
  }

  /**
   * Commands by which the program comes to a NIC (virtnet_xdp_set()): more pairs where the device has `maxPairs`, and no receive
   * offloads. `pairs`: those in use by the stack.
   */
  attach(pairs: number, maxPairs: number, accepted: Features): ControlCommand[] {
    const out: ControlCommand[] = [];
    const wanted = pairs + this.cpus > maxPairs ? pairs : pairs + this.cpus;
    if (hasFeature(accepted, VIRTIO_NET_F_MQ)) out.push(vqPairsSet(wanted));
    const { lo, hi } = andFeatures(accepted, GUEST_OFFLOADS);
    const offloads = (lo | hi) !== 0;
    if (offloads && hasFeature(accepted, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) out.push(guestOffloadsSet(NO_FEATURES));
    return out;
  }

  /** The pairs of a NIC by which nobody but the program sends. */
  ownPairs({ pairs }: GuestNic): readonly GuestQueuePair[] {
    return pairs.filter((pair) => this.owns(pair));
  }
}
