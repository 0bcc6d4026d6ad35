/**
 * What a GSO packet is to be cut into: which headers every segment repeats, how many bytes each takes. The same checks
 * serve the packet that comes from a guest and the one that is cut, so that nothing is cut that was not checked.
 */

import type { Arena } from '../memory/arena.ts';
import {
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '../wire/virtio-net.ts';
import { FrameHeaders, IPPROTO_TCP, IPPROTO_UDP, TCP_HLEN, UDP_HLEN } from './headers.ts';

/** The packet can be cut. */
export const GSO_OK = 0;
/** gso_type is none that exists, or not that of the packet's protocols. */
export const GSO_BAD_TYPE = 64;
/** gso_size is 0, or would make more than MAX_SEGMENTS. */
export const GSO_BAD_SIZE = 65;
/** The frame ends before its headers do, or is too long for an IP packet. */
export const GSO_BAD_HEADERS = 67;

/**
 * Segments of one packet at most: 64 KiB in segments of 48 bytes, the least MSS that linux sends with
 * (TCP_MIN_SND_MSS). More would let a guest make the host work without bound.
 */
export const MAX_SEGMENTS = 1366;
/** linux include/linux/udp.h, UDP_MAX_SEGMENTS: datagrams of one USO packet at most. */
export const UDP_MAX_SEGMENTS = 128;
/** Longest IP packet. */
const MOST_IP_BYTES = 65_535;

export class GsoPlan {
  declare readonly headers: FrameHeaders;
  /** VIRTIO_NET_HDR_GSO_… without the ECN bit. */
  kind = 0;
  /** Bytes that each segment repeats: up to the end of the transport header, with UFO up to the end of the IP header. */
  headerBytes = 0;
  /** Bytes of each segment after those, but for the last. */
  size = 0;
  /** Bytes of all segments after their headers. */
  payload = 0;
  segments = 0;
  declare private readonly u8: Uint8Array;

  constructor(arena: Arena) {
    this.u8 = arena.u8;
    this.headers = new FrameHeaders(arena);
  }

  /**
   * Plans the cutting of the frame of `length` bytes at arena offset `at`. Returns GSO_OK, with the fields above set, or why
   * it cannot be cut. A packet that is not longer than one segment gets `segments` 1.
   */
  make(at: number, length: number, gsoType: number, gsoSize: number): number {
    const kind = gsoType & ~VIRTIO_NET_HDR_GSO_ECN;
    const tcp = kind === VIRTIO_NET_HDR_GSO_TCPV4 || kind === VIRTIO_NET_HDR_GSO_TCPV6;
    const ufo = kind === VIRTIO_NET_HDR_GSO_UDP;
    if (!tcp && !ufo && kind !== VIRTIO_NET_HDR_GSO_UDP_L4) return GSO_BAD_TYPE;
    if (gsoSize === 0) return GSO_BAD_SIZE;
    const headers = this.headers;
    if (!headers.parse(at, length, true)) return GSO_BAD_HEADERS;
    const { version, l3, l4, protocol } = headers;
    if (kind === VIRTIO_NET_HDR_GSO_TCPV4 && version !== 4) return GSO_BAD_TYPE;
    if (kind === VIRTIO_NET_HDR_GSO_TCPV6 && version !== 6) return GSO_BAD_TYPE;
    if (protocol !== (tcp ? IPPROTO_TCP : IPPROTO_UDP) || headers.fragment) return GSO_BAD_TYPE;
    let transport = UDP_HLEN;
    if (tcp) {
      if (length < l4 + TCP_HLEN) return GSO_BAD_HEADERS;
      transport = (this.u8[at + l4 + 12]! >>> 4) << 2;
      if (transport < TCP_HLEN) return GSO_BAD_HEADERS;
    }
    if (length < l4 + transport || length - l3 > MOST_IP_BYTES) return GSO_BAD_HEADERS;
    // fragments begin at multiples of eight bytes (RFC 791), whatever the guest asks for
    const size = ufo ? Math.max(8, gsoSize & ~7) : gsoSize;
    this.kind = kind;
    this.headerBytes = ufo ? l4 : l4 + transport;
    this.payload = length - this.headerBytes;
    this.size = size;
    this.segments = this.payload <= gsoSize ? 1 : Math.ceil(this.payload / size);
    const most = kind === VIRTIO_NET_HDR_GSO_UDP_L4 ? UDP_MAX_SEGMENTS : MAX_SEGMENTS;
    return this.segments > most ? GSO_BAD_SIZE : GSO_OK;
  }
}
