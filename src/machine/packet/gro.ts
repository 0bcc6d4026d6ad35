/**
 * Generic receive offload: TCP segments of one flow that arrive in one NAPI poll become one packet (dev_gro_receive() of
 * linux net/core/gro.c, inet_gro_receive(), ipv6_gro_receive(), tcp_gro_receive(), tcp4_gro_complete()). What comes out is
 * what a GSO packet is on its way out: pseudo header sum in the checksum field, CHECKSUM_PARTIAL, gso_size of the segments.
 *
 * The head of a flow keeps its frame id, the others end in it (PACKET_MERGE). Linux strings the segments' buffers together;
 * here their bytes are moved into a jumbo slot, which is bookkeeping of the emulator and costs no virtual time.
 */
import type { Services } from '../services.ts';
import {
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
} from '../wire/virtio-net.ts';
import { be16, be32, putBe16 } from './big-endian.ts';
import { CHECKSUM_GOOD, pseudoHeader, put16, TCP_CHECK, verifyChecksums, writeIpv4Checksum } from './checksum.ts';
import { ETH_HLEN, FrameHeaders, IPPROTO_TCP, IPV4_HLEN, IPV6_HLEN, TCP_HLEN } from './headers.ts';
import { flagsOf, isPlain, writeHeader } from './net-header.ts';
import { FRAME_OFFSET, JUMBO_BYTES, PacketQueue } from './pool.ts';

/** linux net/core/gro.c, MAX_GRO_SKBS: flows that are held at most (here of all, in linux for each of 8 hash buckets). */
const MAX_GRO_SKBS = 8;
/** linux include/linux/netdevice.h, GRO_LEGACY_MAX_SIZE: a merged IP packet is shorter. */
const GRO_MAX_SIZE = 65_536;
/** Packets of one poll, and heads that come out of it, at most. */
const OUT_LIMIT = 256;

const TCP_FLAGS = 13;
const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const PSH = 0x08;
const URG = 0x20;
const CWR = 0x80;
/** Flags with which a flow's packet goes up at once. */
const FLUSHING = URG | PSH | RST | SYN | FIN;

export class Gro {
  /** Packets that go up, in order. */
  readonly out = new PacketQueue(OUT_LIMIT);
  /** Time of checksums that software had to verify, not paid yet, ns. */
  cost = 0;
  declare private readonly services: Services;
  declare private readonly headers: FrameHeaders;
  declare private readonly sumCost256: number;
  // heads that are held, oldest first
  private held = 0;
  private readonly head = new Int32Array(MAX_GRO_SKBS);
  private readonly l4 = new Int32Array(MAX_GRO_SKBS);
  private readonly version = new Int32Array(MAX_GRO_SKBS);
  /** Segments in the head. */
  private readonly count = new Int32Array(MAX_GRO_SKBS);
  /** Payload bytes of the first segment. */
  private readonly mss = new Int32Array(MAX_GRO_SKBS);
  /** Whether all its IP identifications so far are the same, which DF allows (NAPI_GRO_CB()->is_atomic). */
  private readonly fixedId = new Uint8Array(MAX_GRO_SKBS);

  constructor(services: Services) {
    this.services = services;
    this.headers = new FrameHeaders(services.arena);
    this.sumCost256 = services.per256('checksum_per_byte');
  }

  /** True for packets that receive() may hold or merge: TCP over IPv4 without options or over IPv6 without extensions. */
  candidate(packet: number): boolean {
    const { pool, arena } = this.services;
    const { headers } = this;
    const { u8 } = arena;
    // most frames are told by two bytes: untagged, and another protocol than TCP
    const at = pool.at(packet);
    if (u8[at + 12] === 0x08 && u8[at + 13] === 0 && u8[at + ETH_HLEN + 9] !== IPPROTO_TCP) return false;
    if (!isPlain(u8, pool.slot(packet))) return false;
    if (!headers.parse(pool.at(packet), pool.length[packet]!, false)) return false;
    const ipBytes = headers.version === 4 ? IPV4_HLEN : IPV6_HLEN;
    return headers.protocol === IPPROTO_TCP && headers.l4 - headers.l3 === ipBytes;
  }

  /** napi_gro_receive() of a candidate; `base` is where and on whose time. It comes out now, later, or in another one. */
  receive(packet: number, base: number): void {
    const { pool, arena } = this.services;
    const { u8 } = arena;
    const at = pool.at(packet);
    const { headers } = this;
    headers.parse(at, pool.length[packet]!, false);
    const { l3, l4, end, version } = headers;
    const tcp = at + l4;
    const headerBytes = end - l4 < TCP_HLEN ? 0 : (u8[tcp + 12]! >>> 4) << 2;
    const payload = end - l4 - headerBytes;
    // a padded frame, a fragment, a header that does not fit: inet_gro_receive() gives these up
    if (headerBytes < TCP_HLEN || payload < 0 || end !== pool.length[packet]! || headers.fragment) {
      this.out.push(packet);
      return;
    }
    if (!this.valid(packet, at)) {
      this.out.push(packet);
      return;
    }
    const flags = u8[tcp + TCP_FLAGS]!;
    const i = this.find(at, l3, l4, version);
    let mss = 1;
    if (i >= 0) {
      mss = this.mss[i]!;
      if (this.fits(i, at, l3, l4, headerBytes, payload) && this.merge(i, packet, l4, headerBytes, payload, base)) {
        if (payload < mss || (flags & FLUSHING) !== 0) this.complete(i, base);
        return;
      }
      this.complete(i, base);
      mss = 1;
    }
    if (payload < mss || (flags & FLUSHING) !== 0) {
      this.out.push(packet);
      return;
    }
    if (this.held === MAX_GRO_SKBS) this.complete(0, base); // gro_flush_oldest()
    this.hold(packet, l4, version, payload);
  }

  /** napi_gro_flush(): everything that is held goes up. */
  flush(base: number): void {
    while (this.held > 0) this.complete(0, base);
  }

  /** skb_gro_checksum_validate(): what the NIC has not verified is summed up here. */
  private valid(packet: number, at: number): boolean {
    const { pool, arena } = this.services;
    if ((flagsOf(arena.u8, pool.slot(packet)) & VIRTIO_NET_HDR_F_DATA_VALID) !== 0) return true;
    const length = pool.length[packet]!;
    this.cost += (length * this.sumCost256) >> 8;
    return verifyChecksums(arena, this.headers, at, length) === CHECKSUM_GOOD;
  }

  /** The head of the same flow: equal Ethernet header, addresses and ports. */
  private find(at: number, l3: number, l4: number, version: number): number {
    const { pool, arena } = this.services;
    const { u8 } = arena;
    const addresses = version === 4 ? 12 : 8;
    for (let i = 0; i < this.held; i++) {
      if (this.version[i] !== version || this.l4[i] !== l4) continue;
      const other = pool.at(this.head[i]!);
      if (
        same(u8, at, other, l3) &&
        same(u8, at + l3 + addresses, other + l3 + addresses, l4 - l3 - addresses) &&
        same(u8, at + l4, other + l4, 4)
      )
        return i;
    }
    return -1;
  }

  /** Whether the segment continues head `i` and nothing else in its headers differs. */
  private fits(i: number, at: number, l3: number, l4: number, headerBytes: number, payload: number): boolean {
    const { pool, arena } = this.services;
    const { u8 } = arena;
    const head = this.head[i]!;
    const other = pool.at(head);
    const length = pool.length[head]!;
    const tcp = at + l4;
    const tcp2 = other + l4;
    if (payload === 0 || payload > this.mss[i]!) return false;
    if (length - l3 + payload >= GRO_MAX_SIZE) return false;
    const merged = length - l4 - ((u8[tcp2 + 12]! >>> 4) << 2);
    if (((be32(u8, tcp2 + 4) + merged) | 0) !== (be32(u8, tcp + 4) | 0)) return false;
    // acknowledgement, data offset, window; the flags but for FIN and PSH, which may come with the last
    if (!same(u8, tcp + 8, tcp2 + 8, 5) || !same(u8, tcp + 14, tcp2 + 14, 2)) return false;
    const flags = u8[tcp + TCP_FLAGS]!;
    if ((flags & CWR) !== 0 || ((flags ^ u8[tcp2 + TCP_FLAGS]!) & ~(CWR | FIN | PSH)) !== 0) return false;
    if (!same(u8, tcp + TCP_HLEN, tcp2 + TCP_HLEN, headerBytes - TCP_HLEN)) return false;
    return this.version[i] === 4 ? this.fits4(i, at + l3, other + l3) : this.fits6(at + l3, other + l3);
  }
  private fits4(i: number, ip: number, ip2: number): boolean {
    const { u8 } = this.services.arena;
    // type of service, time to live, DF
    if (u8[ip + 1] !== u8[ip2 + 1] || u8[ip + 8] !== u8[ip2 + 8] || u8[ip + 6] !== u8[ip2 + 6]) return false;
    const step = (be16(u8, ip + 4) - be16(u8, ip2 + 4)) & 0xffff;
    const df = (u8[ip + 6]! & 0x40) !== 0;
    // identifications count up, or with DF all are the same; the second segment decides
    if (this.count[i] === 1) {
      if (df && step === 0) {
        this.fixedId[i] = 1;
        return true;
      }
      this.fixedId[i] = 0;
      return step === 1;
    }
    return this.fixedId[i] === 1 ? step === 0 : step === (this.count[i]! & 0xffff);
  }
  private fits6(ip: number, ip2: number): boolean {
    // version, traffic class and flow label; hop limit
    const { u8 } = this.services.arena;
    return same(u8, ip, ip2, 4) && u8[ip + 7] === u8[ip2 + 7];
  }

  /** skb_gro_receive(): the segment's payload goes behind that of head `i`. False where there is no room for that. */
  private merge(i: number, packet: number, l4: number, headerBytes: number, payload: number, base: number): boolean {
    const { pool, arena, frames, copy } = this.services;
    const { u8 } = arena;
    let head = this.head[i]!;
    const length = pool.length[head]!;
    if (FRAME_OFFSET + length + payload > pool.room(head) || pool.shared(head)) {
      const grown = pool.alloc(JUMBO_BYTES);
      if (grown < 0) return false;
      copy(pool.slot(grown), pool.slot(head), FRAME_OFFSET + length);
      pool.length[grown] = length;
      pool.frame[grown] = pool.frame[head]!;
      pool.inPort[grown] = pool.inPort[head]!;
      pool.release(head);
      this.head[i] = grown;
      head = grown;
    }
    const at = pool.at(head);
    copy(at + length, pool.at(packet) + l4 + headerBytes, payload);
    pool.length[head] = length + payload;
    u8[at + l4 + TCP_FLAGS]! |= u8[pool.at(packet) + l4 + TCP_FLAGS]! & (FIN | PSH);
    this.count[i]!++;
    frames.merged(base, pool.frame[packet]!, pool.frame[head]!, pool.length[packet]!);
    pool.release(packet);
    return true;
  }

  private hold(packet: number, l4: number, version: number, payload: number): void {
    const i = this.held++;
    this.head[i] = packet;
    this.l4[i] = l4;
    this.version[i] = version;
    this.count[i] = 1;
    this.mss[i] = payload;
    this.fixedId[i] = 0;
  }

  /** napi_gro_complete(): head `i` goes up. */
  private complete(i: number, base: number): void {
    const { pool, arena, frames } = this.services;
    const packet = this.head[i]!;
    if (this.count[i]! > 1) {
      const slot = pool.slot(packet);
      const at = pool.at(packet);
      const length = pool.length[packet]!;
      const l4 = this.l4[i]!;
      const version = this.version[i]!;
      const l3 = l4 - (version === 4 ? IPV4_HLEN : IPV6_HLEN);
      const { u8 } = arena;
      if (version === 4) {
        putBe16(u8, at + l3 + 2, length - l3);
        writeIpv4Checksum(arena, at + l3, IPV4_HLEN);
      } else putBe16(u8, at + l3 + 4, length - l4);
      put16(u8, at + l4 + TCP_CHECK, pseudoHeader(arena, version, at + l3, IPPROTO_TCP, length - l4));
      const ecn = (u8[at + l4 + TCP_FLAGS]! & CWR) !== 0 ? VIRTIO_NET_HDR_GSO_ECN : 0;
      const type = (version === 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6) | ecn;
      const hdrLen = l4 + ((u8[at + l4 + 12]! >>> 4) << 2);
      writeHeader(arena.u32, slot, VIRTIO_NET_HDR_F_NEEDS_CSUM, type, hdrLen, this.mss[i]!, l4, TCP_CHECK);
      frames.changed(base, pool.frame[packet]!, at, length);
    }
    this.out.push(packet);
    this.held--;
    for (let j = i; j < this.held; j++) {
      this.head[j] = this.head[j + 1]!;
      this.l4[j] = this.l4[j + 1]!;
      this.version[j] = this.version[j + 1]!;
      this.count[j] = this.count[j + 1]!;
      this.mss[j] = this.mss[j + 1]!;
      this.fixedId[j] = this.fixedId[j + 1]!;
    }
  }
}

function same(u8: Uint8Array, a: number, b: number, bytes: number): boolean {
  for (let i = 0; i < bytes; i++) if (u8[a + i] !== u8[b + i]) return false;
  return true;
}
