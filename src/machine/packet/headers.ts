/**
 * Where the headers of a frame lie: Ethernet, up to two VLAN tags, IPv4 with options or IPv6 with extension headers, and
 * the transport header. Works on anything a guest wrote: nothing outside of the frame is looked at.
 */
import type { Arena } from '../memory/arena.ts';

export const ETH_HLEN = 14;
export const VLAN_HLEN = 4;
export const ETH_P_IP = 0x0800;
export const ETH_P_IPV6 = 0x86dd;
export const ETH_P_8021Q = 0x8100;
export const ETH_P_8021AD = 0x88a8;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const TCP_HLEN = 20;
export const UDP_HLEN = 8;
export const IPV4_HLEN = 20;
export const IPV6_HLEN = 40;
// IPv6 extension headers (RFC 8200 §4)
const NEXTHDR_HOP = 0;
const NEXTHDR_ROUTING = 43;
export const NEXTHDR_FRAGMENT = 44;
const NEXTHDR_AUTH = 51;
const NEXTHDR_DEST = 60;
/** Extension headers that are followed at most, as linux include/net/ipv6.h IP6_MAX_EXT_HDRS_CNT. */
const MOST_EXTENSIONS = 12;

/** Offsets are relative to the Ethernet header. Valid after parse() returned true, until it is called again. */
export class FrameHeaders {
  /** 4 or 6. */
  version = 0;
  /** IP header. */
  l3 = 0;
  /** Transport header. */
  l4 = 0;
  /** The byte that names the transport protocol: of the IP header, or of the last IPv6 extension header. */
  protocolAt = 0;
  /** End of the IP packet by its own length field; padding lies behind it. */
  end = 0;
  /** Transport protocol number. */
  protocol = 0;
  /** A fragment, also the first one: its transport checksum is not that of its own bytes. */
  fragment = false;
  declare private readonly u8: Uint8Array;

  constructor(arena: Arena) {
    this.u8 = arena.u8;
  }

  /**
   * Looks for the headers of a frame of `length` bytes at arena offset `at`. False where it is not IP, or its headers do not
   * fit into the frame or into each other. `whole` takes the frame's end for the packet's whatever the IP header says, as
   * linux does with GSO packets.
   */
  parse(at: number, length: number, whole: boolean): boolean {
    const u8 = this.u8;
    if (length < ETH_HLEN) return false;
    let l3 = ETH_HLEN;
    let type = (u8[at + 12]! << 8) | u8[at + 13]!;
    for (let tags = 0; tags < 2 && (type === ETH_P_8021Q || type === ETH_P_8021AD); tags++) {
      if (length < l3 + VLAN_HLEN) return false;
      type = (u8[at + l3 + 2]! << 8) | u8[at + l3 + 3]!;
      l3 += VLAN_HLEN;
    }
    this.l3 = l3;
    if (type === ETH_P_IP) return this.ipv4(at, length, whole);
    if (type === ETH_P_IPV6) return this.ipv6(at, length, whole);
    return false;
  }

  private ipv4(at: number, length: number, whole: boolean): boolean {
    const u8 = this.u8;
    const l3 = this.l3;
    const ip = at + l3;
    if (length < l3 + IPV4_HLEN || u8[ip]! >>> 4 !== 4) return false;
    const headerBytes = (u8[ip]! & 15) << 2;
    const bytes = whole ? length - l3 : (u8[ip + 2]! << 8) | u8[ip + 3]!;
    if (headerBytes < IPV4_HLEN || bytes < headerBytes || l3 + bytes > length) return false;
    this.version = 4;
    this.l4 = l3 + headerBytes;
    this.end = l3 + bytes;
    this.protocolAt = l3 + 9;
    this.protocol = u8[ip + 9]!;
    this.fragment = ((u8[ip + 6]! & 0x3f) | u8[ip + 7]!) !== 0;
    return true;
  }

  private ipv6(at: number, length: number, whole: boolean): boolean {
    const u8 = this.u8;
    const l3 = this.l3;
    const ip = at + l3;
    if (length < l3 + IPV6_HLEN || u8[ip]! >>> 4 !== 6) return false;
    const end = whole ? length : l3 + IPV6_HLEN + ((u8[ip + 4]! << 8) | u8[ip + 5]!);
    if (end > length) return false;
    let l4 = l3 + IPV6_HLEN;
    let protocolAt = l3 + 6;
    let next = u8[ip + 6]!;
    let fragment = false;
    for (let i = 0; i < MOST_EXTENSIONS; i++) {
      if (
        next !== NEXTHDR_HOP &&
        next !== NEXTHDR_ROUTING &&
        next !== NEXTHDR_FRAGMENT &&
        next !== NEXTHDR_AUTH &&
        next !== NEXTHDR_DEST
      )
        break;
      if (end < l4 + 8) return false;
      const header = at + l4;
      protocolAt = l4;
      if (next === NEXTHDR_FRAGMENT) {
        fragment = true;
        l4 += 8;
      } else l4 += next === NEXTHDR_AUTH ? (u8[header + 1]! + 2) << 2 : (u8[header + 1]! + 1) << 3;
      if (l4 > end) return false;
      next = u8[header]!;
    }
    this.version = 6;
    this.l4 = l4;
    this.end = end;
    this.protocolAt = protocolAt;
    this.protocol = next;
    this.fragment = fragment;
    return true;
  }
}
