/**
 * Neighbour discovery (RFC 4861) as frames: solicitations and advertisements with their link-layer address option, the
 * addresses that they are sent to, and what makes a received one valid.
 *
 * DEVIATION: IPv6 without duplicate address detection, router discovery, MLD reports and extension headers.
 */
import type { Arena } from '../../memory/arena.ts';
import { ETH_HLEN } from '../../wire/ethernet.ts';
import { type IpAddress, IpPath } from './ip-path.ts';

export const IPPROTO_ICMPV6 = 58;
export const IPV6_HLEN = 40;
export const ICMPV6_ECHO_REQUEST = 128;
export const ICMPV6_ECHO_REPLY = 129;
export const NDISC_NEIGHBOUR_SOLICITATION = 135;
export const NDISC_NEIGHBOUR_ADVERTISEMENT = 136;
const ND_OPT_SOURCE_LL_ADDR = 1;
const ND_OPT_TARGET_LL_ADDR = 2;
const NA_SOLICITED = 0x40;
const NA_OVERRIDE = 0x20;
/** Packets of neighbour discovery come from the link itself: no router has lowered this. */
export const ND_HOP_LIMIT = 255;
/** ICMPv6 header, flags, target, one option of 8 bytes. */
const ND_MESSAGE = 32;
/** Ethernet, IPv6 and the message. */
export const ND_FRAME = ETH_HLEN + IPV6_HLEN + ND_MESSAGE;

export const ALL_NODES: IpAddress = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/** fe80::/64 with the modified EUI-64 of the MAC address (RFC 4291 appendix A). */
export function linkLocalOf(mac: readonly number[]): IpAddress {
  return [...[0xfe, 0x80, 0, 0, 0, 0, 0, 0], mac[0]! ^ 2, mac[1]!, mac[2]!, 0xff, 0xfe, mac[3]!, mac[4]!, mac[5]!];
}
/** RFC 4291 §2.7.1: ff02::1:ff00:0/104 and the last 24 bits of the address. */
export function solicitedNodeOf(ip: IpAddress): IpAddress {
  return [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ip[13]!, ip[14]!, ip[15]!];
}
/** RFC 2464 §7: 33:33 and the last 32 bits of a group. */
export function multicastMacOf(group: IpAddress): readonly number[] {
  return [0x33, 0x33, group[12]!, group[13]!, group[14]!, group[15]!];
}
export const isUnspecified = (ip: IpAddress): boolean => ip.every((b) => b === 0);

export class Ndp {
  private readonly arena: Arena;

  constructor(arena: Arena) {
    this.arena = arena;
  }

  /** Asks for the link address of `target` (§4.3), at arena offset `at` (even). Returns the frame's length. */
  solicitation(at: number, mac: readonly number[], source: IpAddress, target: IpAddress): number {
    const group = solicitedNodeOf(target);
    const path = new IpPath(this.arena, mac, multicastMacOf(group), source, group);
    return this.message(at, path, NDISC_NEIGHBOUR_SOLICITATION, 0, target, ND_OPT_SOURCE_LL_ADDR, mac);
  }
  /** Says that `target` is at `mac` (§4.4); `solicited`: the answer to somebody who has an address. */
  advertisement(
    at: number,
    mac: readonly number[],
    toMac: readonly number[],
    to: IpAddress,
    target: IpAddress,
    solicited: boolean,
  ): number {
    const path = new IpPath(this.arena, mac, toMac, target, to);
    const flags = NA_OVERRIDE | (solicited ? NA_SOLICITED : 0);
    return this.message(at, path, NDISC_NEIGHBOUR_ADVERTISEMENT, flags, target, ND_OPT_TARGET_LL_ADDR, mac);
  }
  private message(
    at: number,
    path: IpPath,
    type: number,
    flags: number,
    target: IpAddress,
    option: number,
    mac: readonly number[],
  ): number {
    const { u8, code } = this.arena;
    path.write(at, IPPROTO_ICMPV6, ND_MESSAGE, 0);
    u8[at + ETH_HLEN + 7] = ND_HOP_LIMIT;
    const m = at + path.headerBytes;
    u8.fill(0, m, m + ND_MESSAGE);
    u8[m] = type;
    u8[m + 4] = flags;
    u8.set(target, m + 8);
    u8[m + 24] = option;
    u8[m + 25] = 1;
    u8.set(mac, m + 26);
    let sum = path.pseudo(IPPROTO_ICMPV6, ND_MESSAGE) + code.sum16(m, ND_MESSAGE);
    sum = (sum & 0xffff) + (sum >>> 16);
    this.arena.u16[(m + 2) >> 1] = ~sum & 0xffff;
    return ND_FRAME;
  }

  /**
   * Whether a message of `size` bytes at `m` in a packet with this hop limit is one that a host may act on (§7.1.1 and
   * §7.1.2); its checksum has been verified.
   */
  valid(m: number, size: number, hopLimit: number): boolean {
    const { u8 } = this.arena;
    if (hopLimit !== ND_HOP_LIMIT || u8[m + 1] !== 0 || size < 24 || u8[m + 8] === 0xff) return false;
    for (let o = m + 24; o < m + size; ) {
      const length = o + 1 < m + size ? u8[o + 1]! * 8 : 0;
      if (length === 0 || o + length > m + size) return false;
      o += length;
    }
    return true;
  }
  /** The link-layer address of a valid message; null where it carries none. */
  linkAddress(m: number, size: number): readonly number[] | null {
    const { u8 } = this.arena;
    const wanted = u8[m] === NDISC_NEIGHBOUR_SOLICITATION ? ND_OPT_SOURCE_LL_ADDR : ND_OPT_TARGET_LL_ADDR;
    for (let o = m + 24; o < m + size; o += u8[o + 1]! * 8) {
      if (u8[o] === wanted && u8[o + 1] === 1) return Array.from(u8.subarray(o + 2, o + 8));
    }
    return null;
  }
  /** The address that a message asks for or is about. */
  target(m: number): IpAddress {
    return Array.from(this.arena.u8.subarray(m + 8, m + 24));
  }
}
