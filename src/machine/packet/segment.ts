/**
 * Cutting a GSO packet into frames of its gso_size, as software does it for interfaces that cannot (skb_gso_segment() of
 * linux net/core/gso.c: inet_gso_segment(), tcp_gso_segment(), __udp_gso_segment(), udp4_ufo_fragment()) and as a NIC with
 * TSO does it on its way to the wire. One segment at a time, so that a NIC can send each when the line is free.
 *
 * Every field is written anew from the packet's own headers: lengths, IPv4 identification (counts up) and header checksum,
 * TCP sequence number and flags (FIN and PSH on the last segment only, CWR on the first only), UDP length, fragment offset,
 * transport checksum.
 */

import type { Services } from '../services.ts';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_UDP,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '../wire/virtio-net.ts';
import { be16, be32, putBe16, putBe32 } from './big-endian.ts';
import { fold, pseudoHeader, put16, TCP_CHECK, UDP_CHECK, writeIpv4Checksum } from './checksum.ts';
import { GSO_OK, GsoPlan } from './gso-plan.ts';
import { IPV6_HLEN, NEXTHDR_FRAGMENT } from './headers.ts';
import { clearHeader, flagsOf, gsoSizeOf, gsoTypeOf, writeHeader } from './net-header.ts';
import { FRAME_OFFSET } from './pool.ts';

const TCP_FLAGS = 13;
const TCP_FIN_PSH = 0x09;
const TCP_CWR = 0x80;
/** sizeof(struct frag_hdr), RFC 8200 §4.5. */
const FRAGMENT_HLEN = 8;
const IP_MF = 0x2000;

export class Segmenter {
  declare readonly plan: GsoPlan;
  /** Segments of the packet that start() took. */
  segments = 0;
  declare private readonly services: Services;
  private packet = -1;
  private at = 0;
  /** Checksum of a UFO packet's whole datagram, -1 where it is in there already. */
  private datagramCheck = -1;

  constructor(services: Services) {
    this.services = services;
    this.plan = new GsoPlan(services.arena);
  }

  /**
   * Takes a packet that is to be cut by its own header. Returns GSO_OK, or why it cannot be cut (gso-plan.ts); the packet
   * stays the caller's until finish().
   */
  start(packet: number): number {
    const { pool, arena } = this.services;
    const { plan } = this;
    const slot = pool.slot(packet);
    const at = pool.at(packet);
    const code = plan.make(at, pool.length[packet]!, gsoTypeOf(arena.u8, slot), gsoSizeOf(arena.u8, slot));
    if (code !== GSO_OK) return code;
    this.packet = packet;
    this.at = at;
    this.segments = plan.segments;
    this.datagramCheck = -1;
    const ufo = plan.kind === VIRTIO_NET_HDR_GSO_UDP;
    if (ufo && plan.payload >= UDP_CHECK + 2 && (flagsOf(arena.u8, slot) & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0) {
      this.datagramCheck = this.sumOfDatagram();
    }
    return GSO_OK;
  }

  /** Frame bytes of segment `i` (from 0). */
  lengthOf(i: number): number {
    const { plan } = this;
    return plan.headerBytes + this.fragmentBytes + Math.min(plan.size, plan.payload - i * plan.size);
  }
  /** Bytes of the fragment header that IPv6 fragments get. */
  private get fragmentBytes(): number {
    const { plan } = this;
    return plan.kind === VIRTIO_NET_HDR_GSO_UDP && plan.headers.version === 6 ? FRAGMENT_HLEN : 0;
  }

  /**
   * Makes segment `i` as a packet of its own, born at the place and context of `base` at the current stamp. With `partial`
   * its checksum is left to an offload (CHECKSUM_PARTIAL), else it is complete; fragments are always complete. Returns the
   * packet, -1 where the pool has no slot of that size.
   */
  make(i: number, base: number, partial: boolean): number {
    const { services, plan, at } = this;
    const { pool, arena, frames, copy } = services;
    const parent = this.packet;
    const length = this.lengthOf(i);
    const packet = pool.alloc(FRAME_OFFSET + length);
    if (packet < 0) return -1;
    const target = pool.at(packet);
    const { headerBytes } = plan;
    const extra = this.fragmentBytes;
    copy(target, at, headerBytes);
    copy(target + headerBytes + extra, at + headerBytes + i * plan.size, length - headerBytes - extra);
    clearHeader(arena.u32, pool.slot(packet));
    if (plan.kind === VIRTIO_NET_HDR_GSO_UDP) this.fragment(i, target, length);
    else {
      if (plan.headers.version === 4) this.ipv4(target, length, i, 0);
      else this.ipv6(target, length);
      this.transport(i, target, length, partial, pool.slot(packet));
    }
    pool.length[packet] = length;
    pool.inPort[packet] = pool.inPort[parent]!;
    pool.flowBatch[packet] = pool.flowBatch[parent]!;
    pool.frame[packet] = frames.segment(base, pool.frame[parent]!, target, length);
    return packet;
  }

  /** All segments have been made (or given up): ends the packet that start() took. */
  finish(base: number): void {
    const { pool, frames } = this.services;
    frames.segmented(base, pool.frame[this.packet]!, this.segments, this.plan.size);
    pool.release(this.packet);
    this.packet = -1;
  }

  // ---- headers of a segment at arena offset `target`, `length` bytes long ---------------------------------------------
  private ipv4(target: number, length: number, idStep: number, fragmentField: number): void {
    const { u8 } = this.services.arena;
    const { l3, l4 } = this.plan.headers;
    const ip = target + l3;
    putBe16(u8, ip + 2, length - l3);
    putBe16(u8, ip + 4, be16(u8, ip + 4) + idStep);
    if (fragmentField !== 0) putBe16(u8, ip + 6, fragmentField);
    writeIpv4Checksum(this.services.arena, ip, l4 - l3);
  }
  private ipv6(target: number, length: number): void {
    const { l3 } = this.plan.headers;
    putBe16(this.services.arena.u8, target + l3 + 4, length - l3 - IPV6_HLEN);
  }

  private transport(i: number, target: number, length: number, partial: boolean, slot: number): void {
    const { arena } = this.services;
    const { u8 } = arena;
    const { plan } = this;
    const { l3, l4, version, protocol } = plan.headers;
    const header = target + l4;
    let check = TCP_CHECK;
    if (plan.kind === VIRTIO_NET_HDR_GSO_UDP_L4) {
      check = UDP_CHECK;
      putBe16(u8, header + 4, length - l4);
    } else {
      putBe32(u8, header + 4, be32(u8, header + 4) + i * plan.size);
      let flags = u8[header + TCP_FLAGS]!;
      if (i < this.segments - 1) flags &= ~TCP_FIN_PSH;
      if (i > 0) flags &= ~TCP_CWR;
      u8[header + TCP_FLAGS] = flags;
    }
    const pseudo = pseudoHeader(arena, version, target + l3, protocol, length - l4);
    put16(u8, header + check, pseudo);
    if (partial) {
      writeHeader(arena.u32, slot, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE, 0, 0, l4, check);
    } else put16(u8, header + check, ~arena.code.sum16(header, length - l4) & 0xffff || 0xffff);
  }

  /** An IP fragment of a UFO packet. */
  private fragment(i: number, target: number, length: number): void {
    const { arena, pool } = this.services;
    const { u8 } = arena;
    const { plan } = this;
    const { l4, version, protocol, protocolAt } = plan.headers;
    const more = i < this.segments - 1;
    const units = (i * plan.size) >>> 3;
    let payload = target + l4;
    if (version === 4) this.ipv4(target, length, 0, units | (more ? IP_MF : 0));
    else {
      this.ipv6(target, length);
      u8[target + protocolAt] = NEXTHDR_FRAGMENT;
      u8[payload] = protocol;
      u8[payload + 1] = 0;
      putBe16(u8, payload + 2, (units << 3) | (more ? 1 : 0));
      // ipv6_proxy_select_ident() hashes addresses and a counter; the parent's id is as good and repeats
      putBe32(u8, payload + 4, pool.frame[this.packet]!);
      payload += FRAGMENT_HLEN;
    }
    if (i === 0 && this.datagramCheck >= 0) put16(u8, payload + UDP_CHECK, this.datagramCheck);
  }

  /** The UDP checksum over the whole datagram, from its headers (the field itself is left out). */
  private sumOfDatagram(): number {
    const { arena } = this.services;
    const { at, plan } = this;
    const { l3, l4, version, protocol } = plan.headers;
    const field = arena.u8[at + l4 + UDP_CHECK]! | (arena.u8[at + l4 + UDP_CHECK + 1]! << 8);
    const bytes = plan.payload;
    const sum = pseudoHeader(arena, version, at + l3, protocol, bytes) + arena.code.sum16(at + l4, bytes);
    return ~fold(sum + (~field & 0xffff)) & 0xffff || 0xffff;
  }
}
