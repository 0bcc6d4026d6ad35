/**
 * What follows from the negotiated features for the buffers of a queue pair: the header in front of each frame, and how
 * receive buffers are laid out (linux drivers/net/virtio_net.c, virtnet_probe(), virtnet_set_big_packets(), try_fill_recv()).
 */
import { VLAN_HLEN } from '../packet/headers.ts';
import { SLOT_BYTES } from '../packet/pool.ts';
import {
  type Features,
  hasFeature,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../virtio/features.ts';
import type { HeaderBytes } from '../virtio/queue/device-queue.ts';
import { ETH_DATA_LEN, ETH_HLEN } from '../wire/ethernet.ts';

export type RxBuffers =
  /** VIRTIO_NET_F_MRG_RXBUF: one descriptor each, a frame may take several. */
  | 'mergeable'
  /** One descriptor for a frame of an MTU of 1500. */
  | 'small'
  /** Longer frames without mergeable buffers: header, rest of its page, more pages, a descriptor each. */
  | 'big';

/** Receive buffers of a queue. */
export interface RxLayout {
  readonly kind: RxBuffers;
  /** Length of the descriptor of a mergeable or small buffer; bytes of all descriptors of a big one. */
  readonly bytes: number;
  /** Pages of a big buffer: one with the header, the others behind it. */
  readonly pages: number;
  /** A frame may take several buffers. */
  readonly spreads: boolean;
  /** Bytes that a buffer takes from its pool. */
  readonly room: number;
}

const PAGE = 4096;
/** linux include/linux/skbuff.h, with pages of 4 KiB. */
const MAX_SKB_FRAGS = 17;
/** L1_CACHE_BYTES: mergeable buffers are multiples of it. */
const CACHE_LINE = 64;
const IP_MAX_MTU = 65535;
/** GOOD_PACKET_LEN: Ethernet, a VLAN tag, 1500. */
const GOOD_PACKET_LEN = 1518;
/** sizeof(struct padded_vnet_hdr): where the frame begins in a big buffer. */
export const PADDED_HEADER = 32;
/** virtnet_check_guest_gso(): the device may deliver packets of 64 KiB. */
const GUEST_GSO = [
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
];

/** sizeof of the header (virtio 1.4 §5.1.9), the same in both directions. */
export function headerBytesOf(features: Features): HeaderBytes {
  if (hasFeature(features, VIRTIO_NET_F_HASH_REPORT)) return 20;
  return hasFeature(features, VIRTIO_F_VERSION_1) || hasFeature(features, VIRTIO_NET_F_MRG_RXBUF) ? 12 : 10;
}
export const receivesGso = (features: Features): boolean => GUEST_GSO.some((bit) => hasFeature(features, bit));

/**
 * Receive buffers of a ring of `size` entries; `mtu`: what the device said, null without VIRTIO_NET_F_MTU. Mergeable ones are
 * as long as Linux posts them first (get_mergeable_buf_len(), mergeable_min_buf_len()): a full ring holds a frame of the MTU.
 */
export function rxLayoutOf(features: Features, mtu: number | null, size: number): RxLayout {
  const header = headerBytesOf(features);
  const gso = receivesGso(features);
  const frame = mtu ?? ETH_DATA_LEN;
  if (hasFeature(features, VIRTIO_NET_F_MRG_RXBUF)) {
    const longest = header + ETH_HLEN + VLAN_HLEN + (gso ? IP_MAX_MTU : frame);
    const least = Math.max(Math.ceil(longest / size) - header, GOOD_PACKET_LEN);
    const bytes = Math.ceil((header + Math.min(least, PAGE - header)) / CACHE_LINE) * CACHE_LINE;
    const spreads = longest > bytes;
    return { kind: 'mergeable', bytes, pages: 0, spreads, room: bytes > SLOT_BYTES ? PAGE : SLOT_BYTES };
  }
  if (!gso && frame <= ETH_DATA_LEN) {
    return { kind: 'small', bytes: header + GOOD_PACKET_LEN, pages: 0, spreads: false, room: SLOT_BYTES };
  }
  const pages = 1 + (gso ? MAX_SKB_FRAGS : Math.ceil(frame / PAGE));
  return { kind: 'big', bytes: header + pages * PAGE - PADDED_HEADER, pages, spreads: false, room: pages * PAGE };
}
