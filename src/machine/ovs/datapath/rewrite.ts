/**
 * Headers of a frame rewritten in place, checksums brought up to date (ovs lib/packets.c packet_set_ipv4() and its like, lib/odp-execute.c;
 * linux net/openvswitch/actions.c). A checksum that is still to be completed by an offload holds the pseudo header's sum, and follows
 * that.
 *
 * Offsets are those of the key that was extracted from the frame as it is now. The bytes must be the packet's own.
 */
import type { Arena } from '../../memory/arena.ts';
import { fold } from '../../packet/checksum.ts';
import { csumStartOf, isPlain } from '../../packet/net-header.ts';
import { FLOW_NW_FRAG_ANY, W_NW } from '../flow/flow.ts';
import { crc32c } from './crc32c.ts';
import type { FlowKey } from './flow-key.ts';
import type { Ipv4Set, Ipv6Set, SetKey } from './odp-actions.ts';

const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const IPPROTO_ICMPV6 = 58;
const IPPROTO_SCTP = 132;

export class Rewriter {
  declare private readonly arena: Arena;
  /** Checksums that the bytes written now are part of: arena offsets, 0 = none. */
  private ipCheck = 0;
  private l4Check = 0;
  private partial = false;
  /** UDP without a checksum stays without one, and one that becomes 0 is written as 0xffff. */
  private udp = false;

  constructor(arena: Arena) {
    this.arena = arena;
  }

  /** Writes what `set` has into the frame at `at`, whose header is at `slot`. What the frame does not have is left. */
  set(set: SetKey, key: FlowKey, slot: number, at: number): void {
    const { u8 } = this.arena;
    const { l3, l4 } = key;
    this.ipCheck = 0;
    this.l4Check = 0;
    const type = (u8[at + l3 - 2]! << 8) | u8[at + l3 - 1]!;
    if (set.eth !== undefined) {
      this.bytes(at, set.eth.dst, set.eth.dstMask);
      this.bytes(at + 6, set.eth.src, set.eth.srcMask);
    }
    if (set.ipv4 !== undefined && type === 0x0800 && l4 > 0) this.ipv4(set.ipv4, key, slot, at);
    if (set.ipv6 !== undefined && type === 0x86dd && l4 > 0) this.ipv6(set.ipv6, key, slot, at);
    if (set.tp !== undefined && l4 > 0) this.ports(set.tp, key, slot, at);
    if (set.icmp !== undefined && l4 > 0 && key.end >= l4 + 4) {
      this.l4Check = at + l4 + 2;
      this.partial = false;
      this.udp = false;
      this.masked16(at + l4, set.icmp.type, set.icmp.code, set.icmp.typeMask, set.icmp.codeMask);
    }
    if (set.arp !== undefined && (type === 0x0806 || type === 0x8035) && key.end >= l3 + 28) {
      this.l4Check = 0;
      const p = at + l3;
      const { mask } = set.arp;
      this.masked16(p + 6, 0, set.arp.op, mask.op, mask.op);
      this.bytes(p + 8, set.arp.sha, mask.sha);
      this.bytes(p + 14, set.arp.sip, mask.sip);
      this.bytes(p + 18, set.arp.tha, mask.tha);
      this.bytes(p + 24, set.arp.tip, mask.tip);
    }
    if (set.nd !== undefined && type === 0x86dd && l4 > 0) this.neighbour(set.nd, key, at);
    if (set.mpls !== undefined && (type === 0x8847 || type === 0x8848) && key.end >= l3 + 4) {
      this.l4Check = 0;
      this.word(at + l3, set.mpls.lse, -1);
    }
  }

  private ipv4(set: Ipv4Set, key: FlowKey, slot: number, at: number): void {
    const ip = at + key.l3;
    const { u8 } = this.arena;
    this.ipCheck = ip + 10;
    this.pseudo(u8[ip + 9]!, key, slot, at);
    this.bytes(ip + 12, set.src, set.mask.src);
    this.bytes(ip + 16, set.dst, set.mask.dst);
    this.l4Check = 0;
    this.masked16(ip, u8[ip]!, set.tos, 0, set.mask.tos);
    this.masked16(ip + 8, set.ttl, u8[ip + 9]!, set.mask.ttl, 0);
    this.ipCheck = 0;
  }
  private ipv6(set: Ipv6Set, key: FlowKey, slot: number, at: number): void {
    const ip = at + key.l3;
    const { u8 } = this.arena;
    this.pseudo(key.words[W_NW]! & 0xff, key, slot, at);
    this.bytes(ip + 8, set.src, set.mask.src);
    this.bytes(ip + 24, set.dst, set.mask.dst);
    this.l4Check = 0;
    this.word(ip, (set.tclass << 20) | set.label, (set.mask.tclass << 20) | set.mask.label);
    u8[ip + 7] = (u8[ip + 7]! & ~set.mask.hlimit) | (set.hlimit & set.mask.hlimit);
  }
  private ports(set: NonNullable<SetKey['tp']>, key: FlowKey, slot: number, at: number): void {
    const { u8 } = this.arena;
    const l4 = at + key.l4;
    const protocol = key.words[W_NW]! & 0xff;
    if (key.words[W_NW]! >>> 24 > FLOW_NW_FRAG_ANY || key.end < key.l4 + 8) return;
    const wanted = set.protocol === 'tcp' ? IPPROTO_TCP : set.protocol === 'udp' ? IPPROTO_UDP : IPPROTO_SCTP;
    if (protocol !== wanted) return;
    this.pseudo(protocol, key, slot, at);
    // ports are no part of a pseudo header
    if (this.partial) this.l4Check = 0;
    this.masked16(l4, set.src >>> 8, set.src & 0xff, set.srcMask >>> 8, set.srcMask & 0xff);
    this.masked16(l4 + 2, set.dst >>> 8, set.dst & 0xff, set.dstMask >>> 8, set.dstMask & 0xff);
    this.l4Check = 0;
    if (protocol === IPPROTO_SCTP && key.end >= key.l4 + 12) {
      u8.fill(0, l4 + 8, l4 + 12);
      const crc = crc32c(u8, l4, at + key.end);
      for (let i = 0; i < 4; i++) u8[l4 + 8 + i] = crc >>> (8 * i);
    }
  }
  /** packet_set_nd(): the target, and options that are there. */
  private neighbour(set: NonNullable<SetKey['nd']>, key: FlowKey, at: number): void {
    const { u8 } = this.arena;
    const { l4, end } = key;
    if ((key.words[W_NW]! & 0xff) !== IPPROTO_ICMPV6 || end < l4 + 24) return;
    this.l4Check = at + l4 + 2;
    this.partial = false;
    this.udp = false;
    this.bytes(at + l4 + 8, set.target, set.mask.target);
    for (let o = l4 + 24; o + 8 <= end; ) {
      const length = u8[at + o + 1]! << 3;
      if (length === 0) break;
      if (length === 8 && u8[at + o] === 1) this.bytes(at + o + 2, set.sll, set.mask.sll);
      if (length === 8 && u8[at + o] === 2) this.bytes(at + o + 2, set.tll, set.mask.tll);
      o += length;
    }
    this.l4Check = 0;
  }

  /** The transport checksum follows what is written next. Fragments other than the first have none. */
  private pseudo(protocol: number, key: FlowKey, slot: number, at: number): void {
    const { u8 } = this.arena;
    const { l4, end } = key;
    this.l4Check = 0;
    this.udp = protocol === IPPROTO_UDP;
    this.partial = false;
    if (key.words[W_NW]! >>> 24 > FLOW_NW_FRAG_ANY) return;
    const offset = protocol === IPPROTO_TCP ? 16 : protocol === IPPROTO_UDP ? 6 : protocol === IPPROTO_ICMPV6 ? 2 : -1;
    if (offset < 0 || end < l4 + offset + 2) return;
    const check = at + l4 + offset;
    this.partial = !isPlain(u8, slot) && csumStartOf(u8, slot) === l4;
    if (this.udp && !this.partial && (u8[check]! | u8[check + 1]!) === 0) return;
    this.l4Check = check;
  }

  /** Writes `value` at `at` (even), those bits that `mask` has, and follows with the checksums. */
  private bytes(at: number, value: Uint8Array, mask: Uint8Array | null): void {
    for (let i = 0; i + 1 < value.length; i += 2)
      this.masked16(
        at + i,
        value[i]!,
        value[i + 1]!,
        mask === null ? 255 : mask[i]!,
        mask === null ? 255 : mask[i + 1]!,
      );
  }
  private word(at: number, value: number, mask: number): void {
    this.masked16(at, value >>> 24, (value >>> 16) & 255, mask >>> 24, (mask >>> 16) & 255);
    this.masked16(at + 2, (value >>> 8) & 255, value & 255, (mask >>> 8) & 255, mask & 255);
  }
  private masked16(at: number, high: number, low: number, highMask: number, lowMask: number): void {
    const { u16 } = this.arena;
    const mask = highMask | (lowMask << 8);
    const before = u16[at >> 1]!;
    const after = (before & ~mask) | ((high | (low << 8)) & mask);
    if (after === before) return;
    u16[at >> 1] = after;
    if (this.ipCheck !== 0) this.follow(this.ipCheck, before, after, false, false);
    if (this.l4Check !== 0) this.follow(this.l4Check, before, after, this.partial, this.udp);
  }
  /** RFC 1624. */
  private follow(check: number, before: number, after: number, partial: boolean, udp: boolean): void {
    const { u16 } = this.arena;
    const sum = u16[check >> 1]!;
    if (partial) u16[check >> 1] = fold(sum + (~before & 0xffff) + after);
    else {
      const next = ~fold((~sum & 0xffff) + (~before & 0xffff) + after) & 0xffff;
      u16[check >> 1] = udp && next === 0 ? 0xffff : next;
    }
  }
}
