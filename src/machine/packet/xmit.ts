/**
 * What happens to a packet before an interface that cannot take it as it is: its checksum is completed, or it is cut into
 * segments, in software, on the sender's time (validate_xmit_skb() of linux net/core/dev.c; netdev_send() of ovs lib/netdev.c).
 */
import { DP_DROP_MALFORMED, PACKET_CHECKSUM, PACKET_DROP_NO_MEMORY } from '../../engine/events.ts';
import type { Services } from '../services.ts';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '../wire/virtio-net.ts';
import { completeChecksum } from './checksum.ts';
import { GSO_OK, MAX_SEGMENTS } from './gso-plan.ts';
import { offloadOf } from './guest-header.ts';
import { clearHeader, csumStartOf, flagsOf, gsoKindOf, gsoTypeOf, isPlain } from './net-header.ts';
import { OFFLOAD_CSUM, OFFLOAD_ECN, OFFLOAD_USO4, OFFLOAD_USO6 } from './offload-flags.ts';
import { FRAME_OFFSET } from './pool.ts';
import { Segmenter } from './segment.ts';

export class XmitOffload {
  /** What prepare() made of the packet, in order. */
  readonly packets = new Int32Array(MAX_SEGMENTS);
  /** Time of the software's work that nobody has paid yet, ns. */
  cost = 0;
  declare private readonly services: Services;
  declare private readonly segmenter: Segmenter;
  declare private readonly segmentCost: number;
  declare private readonly sumCost256: number;

  constructor(services: Services) {
    this.services = services;
    this.segmenter = new Segmenter(services);
    this.segmentCost = services.ns('gso_segment');
    this.sumCost256 = services.per256('checksum_per_byte');
  }

  /**
   * Makes of a packet what an interface with `features` (OFFLOAD_…) takes; `base` is where and on whose time. Returns how
   * many packets there are in `packets`: the packet itself, its segments, or none where it was dropped. They are the
   * caller's.
   */
  prepare(packet: number, features: number, base: number): number {
    const { pool, arena } = this.services;
    const { u8 } = arena;
    const slot = pool.slot(packet);
    this.packets[0] = packet;
    if (isPlain(u8, slot)) return 1;
    if (gsoTypeOf(u8, slot) !== VIRTIO_NET_HDR_GSO_NONE && !this.takes(slot, packet, features)) {
      return this.cut(packet, (features & OFFLOAD_CSUM) !== 0, base);
    }
    if ((features & OFFLOAD_CSUM) !== 0 || (flagsOf(u8, slot) & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) return 1;
    return this.complete(packet, base);
  }

  /** net_gso_ok(): whether a GSO packet may be handed over whole. Segmentation offload needs checksum offload. */
  private takes(slot: number, packet: number, features: number): boolean {
    const { pool, arena } = this.services;
    if ((features & OFFLOAD_CSUM) === 0) return false;
    const type = gsoTypeOf(arena.u8, slot);
    if ((type & VIRTIO_NET_HDR_GSO_ECN) !== 0 && (features & OFFLOAD_ECN) === 0) return false;
    const kind = gsoKindOf(arena.u8, slot);
    if (kind !== VIRTIO_NET_HDR_GSO_UDP_L4) return (offloadOf(kind, 4) & features) !== 0;
    const both = OFFLOAD_USO4 | OFFLOAD_USO6;
    if ((features & both) === both || (features & both) === 0) return (features & both) !== 0;
    const { headers } = this.segmenter.plan;
    return (
      headers.parse(pool.at(packet), pool.length[packet]!, true) && (offloadOf(kind, headers.version) & features) !== 0
    );
  }

  private cut(packet: number, partial: boolean, base: number): number {
    const { pool } = this.services;
    const { segmenter } = this;
    if (segmenter.start(packet) !== GSO_OK) return this.drop(packet, DP_DROP_MALFORMED, base);
    const n = segmenter.segments;
    // as skb_segment(): all of them or none
    if (!pool.has(FRAME_OFFSET + segmenter.lengthOf(0), n)) return this.drop(packet, PACKET_DROP_NO_MEMORY, base);
    let bytes = 0;
    for (let i = 0; i < n; i++) {
      const segment = segmenter.make(i, base, partial);
      this.packets[i] = segment;
      bytes += pool.length[segment]!;
    }
    segmenter.finish(base);
    this.cost += n * this.segmentCost + (partial ? 0 : (bytes * this.sumCost256) >> 8);
    return n;
  }

  /** skb_checksum_help(). */
  private complete(packet: number, base: number): number {
    const { pool, arena, recorder, frames } = this.services;
    const own = writable(this.services, packet);
    if (own < 0) return this.drop(packet, PACKET_DROP_NO_MEMORY, base);
    const slot = pool.slot(own);
    const at = pool.at(own);
    const length = pool.length[own]!;
    const bytes = length - csumStartOf(arena.u8, slot);
    const check = completeChecksum(arena, slot, at, length);
    if (check < 0) return this.drop(own, DP_DROP_MALFORMED, base);
    clearHeader(arena.u32, slot);
    recorder.event(base | PACKET_CHECKSUM, pool.frame[own]!, bytes, check);
    frames.changed(base, pool.frame[own]!, at, length);
    this.cost += (bytes * this.sumCost256) >> 8;
    this.packets[0] = own;
    return 1;
  }

  private drop(packet: number, kind: number, base: number): number {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event(base | kind, frame, pool.length[packet]!, 0);
    frames.dropped(frame, kind);
    pool.release(packet);
    return 0;
  }
}

/**
 * A packet whose bytes nobody else has, with room for `more` of them (skb_ensure_writable(), skb_cow_head()): `packet` itself, or
 * one in its place with a copy of its bytes and header. -1 where the pool has no slot; `packet` stays the caller's then.
 */
export function writable(services: Services, packet: number, more = 0): number {
  const { pool, copy } = services;
  const bytes = FRAME_OFFSET + pool.length[packet]!;
  if (!pool.shared(packet) && (more === 0 || bytes + more <= pool.room(packet))) return packet;
  const own = pool.alloc(bytes + more);
  if (own < 0) return -1;
  copy(pool.slot(own), pool.slot(packet), bytes);
  pool.length[own] = pool.length[packet]!;
  pool.inPort[own] = pool.inPort[packet]!;
  pool.flowBatch[own] = pool.flowBatch[packet]!;
  pool.frame[own] = pool.frame[packet]!;
  pool.release(packet);
  return own;
}
