/**
 * The header before every host packet, `struct virtio_net_hdr_v1` at `pool.slot(packet)`: what the host knows of the
 * packet beside its bytes (ip_summed, gso_size and gso_type of an sk_buff; ol_flags and tso_segsz of an mbuf), in the form
 * in which taps and virtqueues carry it. `num_buffers` is 0 here and becomes what it has to be in a guest's ring.
 *
 * All functions take arena views and the slot's offset (a multiple of 8).
 */
import { VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_NONE } from '../wire/virtio-net.ts';

/** Nothing is known of the packet, nothing is left to do (CHECKSUM_NONE, no GSO). */
export function clearHeader(u32: Uint32Array, slot: number): void {
  const w = slot >>> 2;
  u32[w] = 0;
  u32[w + 1] = 0;
  u32[w + 2] = 0;
}

/** True where clearHeader() would change nothing: the usual case. */
export function isBare(u32: Uint32Array, slot: number): boolean {
  const w = slot >>> 2;
  return (u32[w]! | u32[w + 1]! | u32[w + 2]!) === 0;
}

/** True where the only thing left to do is the checksum, and no field says more than that: a driver without GSO. */
export function isOnlyPartial(u32: Uint32Array, slot: number): boolean {
  const w = slot >>> 2;
  return u32[w] === VIRTIO_NET_HDR_F_NEEDS_CSUM && (u32[w + 1]! & 0xffff) === 0 && u32[w + 2]! <= 0xffff;
}

/** Writes all fields; `num_buffers` is 0. */
export function writeHeader(
  u32: Uint32Array,
  slot: number,
  flags: number,
  gsoType: number,
  hdrLen: number,
  gsoSize: number,
  csumStart: number,
  csumOffset: number,
): void {
  const w = slot >>> 2;
  u32[w] = flags | (gsoType << 8) | (hdrLen << 16);
  u32[w + 1] = gsoSize | (csumStart << 16);
  u32[w + 2] = csumOffset;
}

export const flagsOf = (u8: Uint8Array, slot: number): number => u8[slot]!;
/** With the ECN bit. */
export const gsoTypeOf = (u8: Uint8Array, slot: number): number => u8[slot + 1]!;
export const hdrLenOf = (u8: Uint8Array, slot: number): number => u8[slot + 2]! | (u8[slot + 3]! << 8);
export const gsoSizeOf = (u8: Uint8Array, slot: number): number => u8[slot + 4]! | (u8[slot + 5]! << 8);
export const csumStartOf = (u8: Uint8Array, slot: number): number => u8[slot + 6]! | (u8[slot + 7]! << 8);
export const csumOffsetOf = (u8: Uint8Array, slot: number): number => u8[slot + 8]! | (u8[slot + 9]! << 8);

/** True where the packet is what any interface takes: checksum complete, not to be cut. The usual case, one load. */
export function isPlain(u8: Uint8Array, slot: number): boolean {
  return (u8[slot]! & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0 && u8[slot + 1] === VIRTIO_NET_HDR_GSO_NONE;
}
/** The packet's gso_type without the ECN bit. */
export function gsoKindOf(u8: Uint8Array, slot: number): number {
  return u8[slot + 1]! & ~VIRTIO_NET_HDR_GSO_ECN;
}
/** skb_is_gso(). */
export function isGso(u8: Uint8Array, slot: number): boolean {
  return u8[slot + 1] !== VIRTIO_NET_HDR_GSO_NONE;
}
