/**
 * What the host makes of the header that a guest wrote before its frame: virtio_net_hdr_to_skb() of linux
 * include/linux/virtio_net.h, which tun_get_user() and tun_get_socket()'s sendmsg call for QEMU's writes and for vhost-net.
 * Afterwards the header is the packet's offload state (net-header.ts): only flags that mean something, a hdr_len that is
 * true, no gso_type on a packet that is one segment.
 */
import type { Arena } from '../memory/arena.ts';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '../wire/virtio-net.ts';
import { TCP_CHECK, UDP_CHECK } from './checksum.ts';
import { GSO_BAD_HEADERS, GSO_BAD_SIZE, GSO_BAD_TYPE, GSO_OK, GsoPlan } from './gso-plan.ts';
import { ETH_HLEN, IPV4_HLEN } from './headers.ts';
import {
  clearHeader,
  csumOffsetOf,
  csumStartOf,
  flagsOf,
  gsoKindOf,
  gsoSizeOf,
  gsoTypeOf,
  isOnlyPartial,
  writeHeader,
} from './net-header.ts';
import { OFFLOAD_CSUM, OFFLOAD_TSO4, OFFLOAD_TSO6, OFFLOAD_UFO, OFFLOAD_USO4, OFFLOAD_USO6 } from './offload-flags.ts';

/** The header is good. */
export const HEADER_OK = 0;
// Codes of headers that are refused (-EINVAL in linux), by what is wrong.
/** NEEDS_CSUM, or the gso_type, was not negotiated; or gso_type is not that of the packet. */
export const HEADER_TYPE = GSO_BAD_TYPE;
/** gso_size is 0 or makes too many segments. */
export const HEADER_GSO_SIZE = GSO_BAD_SIZE;
/** csum_start and csum_offset lie outside of the frame, inside the network header, or not on the protocol's field. */
export const HEADER_CSUM = 66;
/** The frame ends before its headers. */
export const HEADER_LENGTH = GSO_BAD_HEADERS;

export class GuestHeader {
  declare private readonly arena: Arena;
  declare private readonly plan: GsoPlan;

  constructor(arena: Arena) {
    this.arena = arena;
    this.plan = new GsoPlan(arena);
  }

  /**
   * Checks the header at arena offset `slot` (a multiple of 8) against the frame of `length` bytes at `frame`, and what
   * was `negotiated` (OFFLOAD_… bits). Returns HEADER_OK, with the header written anew, or a HEADER_ code: the frame has to
   * be dropped then. hdr_len is not looked at (virtio 1.2 §5.1.6.2.2: the device must not rely on it).
   */
  sanitize(slot: number, frame: number, length: number, negotiated: number): number {
    const { u8, u32 } = this.arena;
    if (isOnlyPartial(u32, slot)) return checksumCode(u8, slot, length, negotiated);
    const gso = gsoKindOf(u8, slot);
    const partial = (flagsOf(u8, slot) & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0;
    if (!partial && gsoTypeOf(u8, slot) === VIRTIO_NET_HDR_GSO_NONE) {
      clearHeader(u32, slot);
      return HEADER_OK;
    }
    const code = partial ? checksumCode(u8, slot, length, negotiated) : HEADER_OK;
    if (code !== HEADER_OK) return code;
    if (gsoTypeOf(u8, slot) === VIRTIO_NET_HDR_GSO_NONE) {
      const start = csumStartOf(u8, slot);
      const offset = csumOffsetOf(u8, slot);
      writeHeader(u32, slot, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE, 0, 0, start, offset);
      return HEADER_OK;
    }
    return this.gso(slot, frame, length, negotiated, gso, partial);
  }

  private gso(slot: number, frame: number, length: number, negotiated: number, kind: number, partial: boolean): number {
    const { u8, u32 } = this.arena;
    const plan = this.plan;
    const code = plan.make(frame, length, gsoTypeOf(u8, slot), gsoSizeOf(u8, slot));
    if (code !== GSO_OK) return code;
    const { l4, version } = plan.headers;
    if ((offloadOf(kind, version) & negotiated) === 0) return HEADER_TYPE;
    // USO has to leave its checksum to the device (virtio_net_hdr_to_skb()); for the others linux looks for the headers itself
    if (!partial && kind === VIRTIO_NET_HDR_GSO_UDP_L4) return HEADER_CSUM;
    const field = kind === VIRTIO_NET_HDR_GSO_TCPV4 || kind === VIRTIO_NET_HDR_GSO_TCPV6 ? TCP_CHECK : UDP_CHECK;
    if (partial && (csumStartOf(u8, slot) !== l4 || csumOffsetOf(u8, slot) !== field)) return HEADER_CSUM;
    const flags = partial ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0;
    // "Too small packets are not really GSO ones."
    if (plan.segments === 1) {
      writeHeader(u32, slot, flags, VIRTIO_NET_HDR_GSO_NONE, 0, 0, partial ? l4 : 0, partial ? field : 0);
      return HEADER_OK;
    }
    const hdrLen = kind === VIRTIO_NET_HDR_GSO_UDP ? plan.headerBytes + 8 : plan.headerBytes;
    writeHeader(
      u32,
      slot,
      flags,
      gsoTypeOf(u8, slot),
      hdrLen,
      gsoSizeOf(u8, slot),
      partial ? l4 : 0,
      partial ? field : 0,
    );
    return HEADER_OK;
  }
}

/** Whether csum_start and csum_offset lie within the frame, behind its network header: skb_partial_csum_set(). */
function checksumCode(u8: Uint8Array, slot: number, length: number, negotiated: number): number {
  if ((negotiated & OFFLOAD_CSUM) === 0) return HEADER_TYPE;
  const start = csumStartOf(u8, slot);
  return start + csumOffsetOf(u8, slot) + 2 > length || start < ETH_HLEN + IPV4_HLEN ? HEADER_CSUM : HEADER_OK;
}

/** The OFFLOAD_ bit that lets an interface take GSO packets of this kind. */
export function offloadOf(kind: number, version: number): number {
  switch (kind) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
      return OFFLOAD_TSO4;
    case VIRTIO_NET_HDR_GSO_TCPV6:
      return OFFLOAD_TSO6;
    case VIRTIO_NET_HDR_GSO_UDP:
      return OFFLOAD_UFO;
    case VIRTIO_NET_HDR_GSO_UDP_L4:
      return version === 4 ? OFFLOAD_USO4 : OFFLOAD_USO6;
    default:
      return 0;
  }
}
