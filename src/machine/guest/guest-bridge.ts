/**
 * Bridges of a guest's kernel, with two ports each: NICs 0 and 1, 2 and 3 and so on. What comes in at one NIC leaves by the
 * other, on the time of the NAPI poll that took it (linux net/bridge/br_forward.c). A guest that forwards without a polling
 * program: the V of a PVP chain that has a kernel of its own.
 *
 * DEVIATION: no addresses are learned, as everything that comes in at one of two ports leaves by the other, and STP is off. The frame is
 * copied beside the guest's RAM, at no cost, where Linux hands its pages on. There is no qdisc: what finds the ring full is dropped.
 * What a poll forwards is published together at its end, as with xmit_more. A packet that the other NIC cannot segment is dropped,
 * where a kernel would cut it.
 */
import { GUEST_DROP_MTU, GUEST_DROP_TX_FULL, GUEST_FORWARD } from '../../engine/events.ts';
import { put16 } from '../packet/checksum.ts';
import { ETH_HLEN, VLAN_HLEN } from '../packet/headers.ts';
import type { Services } from '../services.ts';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '../wire/virtio-net.ts';
import type { GuestNic, NicCaps } from './guest-nic.ts';
import type { GuestQueuePair } from './guest-queue-pair.ts';

const UDP_HLEN = 8;
/** Offset of the data offset in a TCP header. */
const TCP_DOFF = 12;

export class GuestBridge {
  /** ns of a frame: the driver's receive side; the bridge, the driver's transmit side included. */
  declare readonly frameCost: number;
  declare private readonly services: Services;
  declare private readonly nics: readonly GuestNic[];
  private readonly wish = new Int32Array(6);
  declare private readonly checksumCost256: number;
  /** ns of checksums that the other NIC does not write, since they were last taken. */
  owed = 0;

  constructor(services: Services, nics: readonly GuestNic[]) {
    this.services = services;
    this.nics = nics;
    this.frameCost = services.ns('napi_rx_per_packet') + services.ns('linux_bridge_per_packet');
    this.checksumCost256 = services.per256('checksum_per_byte');
  }

  /** Where what `pair` receives leaves: the same queue of the other NIC. */
  peerOf(pair: GuestQueuePair): GuestQueuePair {
    const nic = this.nics[this.nics.indexOf(pair.nic) ^ 1]!;
    return nic.pairs[pair.index % nic.active]!;
  }

  /**
   * Puts the frame that `pair` has taken into the ring of `out`, unpublished, at the current stamp. False: it was dropped. The MTU
   * leaves room for a VLAN tag, whether there is one or not, and what is to be segmented is not asked for its length
   * (br_dev_queue_push_xmit(), is_skb_forwardable()).
   */
  pass(pair: GuestQueuePair, out: GuestQueuePair, frame: number): boolean {
    const { services, wish } = this;
    const { nic } = pair;
    const { frameAt: at, frameLength: length } = nic;
    if (
      length > out.nic.mtu + ETH_HLEN + VLAN_HLEN &&
      (nic.rxGsoType & ~VIRTIO_NET_HDR_GSO_ECN) === VIRTIO_NET_HDR_GSO_NONE
    ) {
      services.recorder.event(pair.base | GUEST_DROP_MTU, frame, length, out.nic.mtu);
      services.frames.dropped(frame, GUEST_DROP_MTU);
      return false;
    }
    const sendable = this.headerFor(nic, out.nic.caps, at, length);
    if (!sendable || out.txStopped || out.txRoom(length, 1, false) === 0) {
      services.recorder.event(pair.base | GUEST_DROP_TX_FULL, frame, length, 0);
      services.frames.dropped(frame, GUEST_DROP_TX_FULL);
      return false;
    }
    services.recorder.event(pair.base | GUEST_FORWARD, frame, length, 0);
    out.pass(at, length, wish, frame);
    return true;
  }

  /** What the header of the frame says that was left undone is left to the other device, or done here. False: it cannot be. */
  private headerFor(nic: GuestNic, caps: NicCaps, at: number, length: number): boolean {
    const { wish } = this;
    wish.fill(0);
    const gso = nic.rxGsoType & ~VIRTIO_NET_HDR_GSO_ECN;
    if (gso !== VIRTIO_NET_HDR_GSO_NONE && !segments(caps, gso)) return false;
    if ((nic.rxFlags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) return gso === VIRTIO_NET_HDR_GSO_NONE;
    const { rxCsumStart: start, rxCsumOffset: offset } = nic;
    if (start + offset + 2 > length) return false;
    if (!caps.csum) {
      // skb_checksum_help(): the field holds the sum of the pseudo-header
      const { arena } = this.services;
      const check = ~arena.code.sum16(at + start, length - start) & 0xffff || 0xffff;
      put16(arena.u8, at + start + offset, check);
      this.owed += ((length - start) * this.checksumCost256) >> 8;
      return true;
    }
    wish[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    wish[1] = nic.rxGsoType;
    if (gso === VIRTIO_NET_HDR_GSO_UDP_L4) wish[2] = start + UDP_HLEN;
    else if (gso !== VIRTIO_NET_HDR_GSO_NONE)
      wish[2] = start + (this.services.arena.u8[at + start + TCP_DOFF]! >> 4) * 4;
    wish[3] = nic.rxGsoSize;
    wish[4] = start;
    wish[5] = offset;
    return true;
  }
}

function segments(caps: NicCaps, gso: number): boolean {
  if (gso === VIRTIO_NET_HDR_GSO_TCPV4) return caps.tso4;
  if (gso === VIRTIO_NET_HDR_GSO_TCPV6) return caps.tso6;
  return gso === VIRTIO_NET_HDR_GSO_UDP_L4 && caps.uso;
}
