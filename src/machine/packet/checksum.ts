/**
 * The Internet checksum (RFC 1071) over arena bytes: sums, pseudo headers, completing what a sender left to an offload
 * (skb_checksum_help() of linux net/core/dev.c), verifying. Sums are of 16-bit words as they lie in memory, little-endian:
 * the ones-complement sum may be taken in either byte order, so they are stored as they are and never swapped.
 */
import type { Arena } from '../memory/arena.ts';
import { type FrameHeaders, IPPROTO_TCP, IPPROTO_UDP, IPV4_HLEN, IPV6_HLEN, TCP_HLEN, UDP_HLEN } from './headers.ts';
import { csumOffsetOf, csumStartOf } from './net-header.ts';

/** Offset of the checksum in a TCP header. */
export const TCP_CHECK = 16;
/** Offset of the checksum in a UDP header. */
export const UDP_CHECK = 6;
/** Offset of the checksum in an IPv4 header. */
const IPV4_CHECK = 10;

/** Folds a sum of 16-bit words (below 2^31) to 16 bits. */
export function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once + (once >>> 16)) & 0xffff;
}
/** A 16-bit value as its two bytes in network order lie in memory. */
export function swapped(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}

/** Folded sum of the pseudo header of a transport packet of `length` bytes; `ip` is the arena offset of its IPv4 header. */
export function pseudoHeader4(arena: Arena, ip: number, protocol: number, length: number): number {
  return fold(arena.code.sum16(ip + 12, 8) + (protocol << 8) + swapped(length));
}
/** The same for IPv6 (RFC 8200 §8.1); `protocol` is that of the transport header, not of the first extension header. */
export function pseudoHeader6(arena: Arena, ip: number, protocol: number, length: number): number {
  return fold(arena.code.sum16(ip + 8, 32) + (protocol << 8) + swapped(length) + swapped(length >>> 16));
}
export function pseudoHeader(arena: Arena, version: number, ip: number, protocol: number, length: number): number {
  return version === 4 ? pseudoHeader4(arena, ip, protocol, length) : pseudoHeader6(arena, ip, protocol, length);
}

/** Writes the header checksum of the IPv4 header of `bytes` bytes at `ip`. */
export function writeIpv4Checksum(arena: Arena, ip: number, bytes: number): void {
  put16(arena.u8, ip + IPV4_CHECK, 0);
  put16(arena.u8, ip + IPV4_CHECK, ~arena.code.sum16(ip, bytes) & 0xffff);
}

/** Writes a 16-bit sum as it is. */
export function put16(u8: Uint8Array, at: number, value: number): void {
  u8[at] = value & 0xff;
  u8[at + 1] = value >>> 8;
}

/**
 * Completes the checksum that the header at `slot` describes, over the frame of `length` bytes at `frame`: the field at
 * csum_start + csum_offset holds the pseudo header's sum. Returns the checksum as it was written (0xffff stands for 0, as
 * CSUM_MANGLED_0), or -1 where csum_start and csum_offset lie outside of the frame. The header is left as it is.
 */
export function completeChecksum(arena: Arena, slot: number, frame: number, length: number): number {
  const start = csumStartOf(arena.u8, slot);
  const offset = csumOffsetOf(arena.u8, slot);
  if (start + offset + 2 > length) return -1;
  const check = ~arena.code.sum16(frame + start, length - start) & 0xffff || 0xffff;
  put16(arena.u8, frame + start + offset, check);
  return check;
}

/** There is nothing to verify: no IP, a fragment, another protocol, a UDP datagram without checksum. */
export const CHECKSUM_NONE = 0;
/** IP header (of IPv4) and transport checksum are right. */
export const CHECKSUM_GOOD = 1;
export const CHECKSUM_BAD = 2;

/**
 * Verifies what a NIC verifies on receive: the IPv4 header checksum and the TCP or UDP checksum of a frame of `length`
 * bytes at arena offset `at`. `headers` is scratch and describes the frame afterwards.
 */
export function verifyChecksums(arena: Arena, headers: FrameHeaders, at: number, length: number): number {
  if (!headers.parse(at, length, false)) return CHECKSUM_NONE;
  const { l3, l4, end, protocol, version } = headers;
  if (version === 4 && arena.code.sum16(at + l3, l4 - l3) !== 0xffff) return CHECKSUM_BAD;
  if (headers.fragment) return CHECKSUM_NONE;
  const bytes = end - l4;
  if (protocol === IPPROTO_UDP) {
    if (bytes < UDP_HLEN) return CHECKSUM_BAD;
    const check = arena.u8[at + l4 + UDP_CHECK]! | arena.u8[at + l4 + UDP_CHECK + 1]!;
    // RFC 768: none was made; over IPv6 there has to be one (RFC 8200 §8.1)
    if (check === 0) return version === 4 ? CHECKSUM_NONE : CHECKSUM_BAD;
    const length16 = (arena.u8[at + l4 + 4]! << 8) | arena.u8[at + l4 + 5]!;
    if (length16 < UDP_HLEN || length16 > bytes) return CHECKSUM_BAD;
    return good(arena, version, at + l3, at + l4, protocol, length16);
  }
  if (protocol === IPPROTO_TCP) {
    return bytes < TCP_HLEN ? CHECKSUM_BAD : good(arena, version, at + l3, at + l4, protocol, bytes);
  }
  return CHECKSUM_NONE;
}

function good(arena: Arena, version: number, ip: number, l4: number, protocol: number, bytes: number): number {
  // the addresses mostly lie right before the transport header, and are summed up with it
  const addresses = version === 4 ? ip + 12 : ip + 8;
  const sum =
    l4 - ip === (version === 4 ? IPV4_HLEN : IPV6_HLEN)
      ? arena.code.sum16(addresses, l4 - addresses + bytes) + (protocol << 8) + swapped(bytes)
      : pseudoHeader(arena, version, ip, protocol, bytes) + arena.code.sum16(l4, bytes);
  return fold(sum) === 0xffff ? CHECKSUM_GOOD : CHECKSUM_BAD;
}
