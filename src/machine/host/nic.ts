/**
 * A physical NIC's transmit side, and what both sides share: rings towards the host, a line towards a peer (another NIC over a
 * link, or the wire end where traffic is generated and ends). Transmission and reception are hardware contexts: they take their
 * time on no core. On transmit the NIC completes checksums and cuts GSO packets (TSO), each segment a frame of its own on the
 * line. The wire carries bytes only: whatever the host knew of a packet beside them ends here. Reception: nic-rx.ts.
 *
 * DEVIATION: one transmit ring, no interrupt moderation, DMA costs no CPU. A ring's descriptors are counted (several for a
 * long frame or an offload, as with Intel's 82599), but are not in memory.
 */
import { Context, PHASE_OWN, WAKING } from '../../engine/context.ts';
import {
  DP_DROP_MALFORMED,
  HOST_IOMMU_FAULT,
  LINK_DROP_LOSS,
  NIC_DROP_TX_RING_FULL,
  NIC_TX,
  NIC_WIRE_TX,
  PACKET_DMA,
  PACKET_DROP_NO_MEMORY,
} from '../../engine/events.ts';
import type { RandomStream } from '../../engine/random.ts';
import type { HostDma } from '../iommu/host-iommu.ts';
import { completeChecksum } from '../packet/checksum.ts';
import { GSO_OK } from '../packet/gso-plan.ts';
import { clearHeader, flagsOf, isGso, isPlain } from '../packet/net-header.ts';
import {
  OFFLOAD_CSUM,
  OFFLOAD_ECN,
  OFFLOAD_TSO4,
  OFFLOAD_TSO6,
  OFFLOAD_USO4,
  OFFLOAD_USO6,
} from '../packet/offload-flags.ts';
import { PacketQueue } from '../packet/pool.ts';
import { Segmenter } from '../packet/segment.ts';
import { writable } from '../packet/xmit.ts';
import { baseOf, type Services } from '../services.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../wire/virtio-net.ts';

/** Bytes of the frame check sequence, which never enters the bytes. */
export const FCS_BYTES = 4;
/** Shortest frame on the wire with FCS; shorter ones are padded by the NIC. */
const MIN_FRAME_BYTES = 64;

/** Offloads of a NIC as `ethtool -k` names them: tx-checksumming, rx-checksumming, tcp-segmentation-offload (and tx-udp-segmentation), generic-receive-offload, large-receive-offload. */
export interface NicOffloads {
  readonly txChecksum: boolean;
  readonly rxChecksum: boolean;
  readonly tso: boolean;
  readonly gro: boolean;
  readonly lro: boolean;
}
/** What a NIC has switched on unless a document says otherwise. */
export const NIC_OFFLOADS: NicOffloads = { txChecksum: true, rxChecksum: true, tso: true, gro: true, lro: false };

/** What the NIC's transmit side takes, OFFLOAD_… bits; segmentation needs checksums (netdev_fix_features()). */
export function txOffloads(offloads: NicOffloads): number {
  if (!offloads.txChecksum) return 0;
  const tso = OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN | OFFLOAD_USO4 | OFFLOAD_USO6;
  return offloads.tso ? OFFLOAD_CSUM | tso : OFFLOAD_CSUM;
}

/** linux drivers/net/ethernet/intel/ixgbe: IXGBE_MAX_DATA_PER_TXD. */
const MAX_DATA_PER_TXD = 16384;
/** Descriptors of a packet of so many bytes in the transmit ring; checksum and TSO take a context descriptor first. */
export function txDescriptors(length: number, plain: boolean): number {
  return Math.ceil(length / MAX_DATA_PER_TXD) + (plain ? 0 : 1);
}

/** What receives frames at the far end of a line. */
export interface LineEnd {
  /** The last bit of the packet arrives at clock[1]. The packet is the end's from then on. */
  arrive(packet: number, contextBits: number): void;
}

/** What lies between a NIC and the far end. */
export interface Line {
  readonly to: LineEnd;
  readonly latencyNs: number;
  readonly loss: number;
  readonly random: RandomStream;
  /** Bits per second of the link; 0 = the NIC's own. */
  readonly rate: number;
}

export class NicTx extends Context {
  /** Packets that have not left; each takes one descriptor or more of `descriptors`. */
  declare readonly ring: PacketQueue;
  /** Descriptors in use. */
  used = 0;
  declare private readonly descriptors: number;
  line!: Line;
  declare private readonly services: Services;
  declare private readonly speed: number;
  declare private readonly overhead: number;
  /** ns between two frames at least, whatever the line's rate; 0: the line alone counts. */
  declare private readonly frameGap: number;
  private base = 0;
  private contextBits = 0;
  private lineFree = 0;
  declare private readonly segmenter: Segmenter;
  /** Segment of the ring's first packet that leaves next; -1 while that packet is not being cut. */
  private segment = -1;

  /** `speed` in bits per second, `ring` in descriptors, `maxFrames` per second (0: as many as the line has room for). */
  constructor(name: string, services: Services, speed: number, ring: number, maxFrames = 0) {
    super(name, -1, services.recorder);
    this.frameGap = frameGap(maxFrames);
    this.services = services;
    this.speed = speed;
    this.segmenter = new Segmenter(services);
    this.ring = new PacketQueue(ring);
    this.descriptors = ring;
    this.overhead = services.figure('ethernet_overhead') + FCS_BYTES;
  }
  begin(): void {
    this.base = baseOf(this.place, this.id);
    this.contextBits = this.id << 20;
  }

  override get turns(): readonly number[] {
    return [this.lineFree];
  }
  override set turns(turns: readonly number[]) {
    this.lineFree = turns[0]!;
  }

  /** Behind the host's IOMMU: what the program that drives the NIC has mapped; null without. */
  dma: HostDma | null = null;

  /** The host hands a packet over, on its own time. */
  send(packet: number, contextBits: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    const length = pool.length[packet]!;
    const bits = (this.place << 8) | contextBits;
    const needed = this.needed(packet);
    if (this.used + needed > this.descriptors) {
      this.refuse(packet, contextBits);
      return;
    }
    if (this.dma !== null && !this.dma.allows(pool.at(packet), length)) {
      recorder.event(bits | HOST_IOMMU_FAULT, frame, length, 0);
      frames.dropped(frame, HOST_IOMMU_FAULT);
      pool.release(packet);
      return;
    }
    this.used += needed;
    this.ring.push(packet);
    recorder.event(bits | NIC_TX, frame, length, this.used);
    this.timeline.now[1] = this.timeline.now[0]!;
    this.rouse();
  }

  private needed(packet: number): number {
    const { pool, arena } = this.services;
    return txDescriptors(pool.length[packet]!, isPlain(arena.u8, pool.slot(packet)));
  }
  /** Takes the first packet out of the ring. */
  private shift(): number {
    this.used -= this.needed(this.ring.peek(0));
    return this.ring.shift();
  }

  /** Drops a packet that there is no room for. */
  refuse(packet: number, contextBits: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event((this.place << 8) | contextBits | NIC_DROP_TX_RING_FULL, frame, pool.length[packet]!, 0);
    frames.dropped(frame, NIC_DROP_TX_RING_FULL);
    pool.release(packet);
  }

  override step(): void {
    const now = this.timeline.now[0]!;
    if (this.phase !== WAKING) this.sent();
    let length = -1;
    while (length < 0 && this.ring.length > 0) length = this.nextLength();
    if (length < 0) {
      this.phase = 0;
      this.timeline.next[this.id] = Number.POSITIVE_INFINITY;
      return;
    }
    const ns = wireNs(length, this.overhead, this.line.rate || this.speed);
    this.lineFree = lineStart(this.lineFree, now) + (ns > this.frameGap ? ns : this.frameGap);
    this.spend(Math.ceil(this.lineFree) - now, PHASE_OWN);
  }

  /** Bytes of the frame that leaves next; -1 where the ring's first packet could not be cut and is gone. */
  private nextLength(): number {
    const { pool, arena } = this.services;
    const packet = this.ring.peek(0);
    if (!isGso(arena.u8, pool.slot(packet))) return pool.length[packet]!;
    if (this.segment < 0) {
      if (this.segmenter.start(packet) !== GSO_OK) {
        this.giveUp(DP_DROP_MALFORMED);
        return -1;
      }
      this.segment = 0;
    }
    return this.segmenter.lengthOf(this.segment);
  }
  /** Drops the ring's first packet, or what is left of it. */
  private giveUp(kind: number): void {
    const { pool, recorder, frames } = this.services;
    const packet = this.shift();
    const frame = pool.frame[packet]!;
    this.segment = -1;
    recorder.stamp[0] = this.timeline.now[0]!;
    recorder.event(this.base | kind, frame, pool.length[packet]!, 0);
    frames.dropped(frame, kind);
    pool.release(packet);
  }

  /** The frame whose last bit has left, with all its bytes as they are on the wire; -1 where there is none. */
  private leave(): number {
    const { segmenter } = this;
    if (this.segment >= 0) {
      const packet = segmenter.make(this.segment, this.base, false);
      if (packet < 0) {
        this.giveUp(PACKET_DROP_NO_MEMORY);
        return -1;
      }
      if (++this.segment === segmenter.segments) {
        this.segment = -1;
        this.shift();
        segmenter.finish(this.base);
      }
      return packet;
    }
    const packet = this.shift();
    const { pool, arena } = this.services;
    const slot = pool.slot(packet);
    const bare = isPlain(arena.u8, slot) && flagsOf(arena.u8, slot) === 0 && !pool.shared(packet);
    return bare ? packet : this.completed(packet);
  }
  /** Completes the checksum and forgets what the host knew of the packet. */
  private completed(packet: number): number {
    const { pool, arena, frames, recorder } = this.services;
    const own = writable(this.services, packet);
    if (own < 0) {
      const frame = pool.frame[packet]!;
      recorder.event(this.base | PACKET_DROP_NO_MEMORY, frame, pool.length[packet]!, 0);
      frames.dropped(frame, PACKET_DROP_NO_MEMORY);
      pool.release(packet);
      return -1;
    }
    const slot = pool.slot(own);
    const at = pool.at(own);
    const length = pool.length[own]!;
    if ((flagsOf(arena.u8, slot) & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0) {
      completeChecksum(arena, slot, at, length);
      frames.changed(this.base, pool.frame[own]!, at, length);
    }
    clearHeader(arena.u32, slot);
    return own;
  }

  /** The last bit of a frame has left. */
  private sent(): void {
    const { pool, recorder, frames } = this.services;
    const now = this.timeline.now[0]!;
    recorder.stamp[0] = now;
    const packet = this.leave();
    if (packet < 0) return;
    const frame = pool.frame[packet]!;
    const length = pool.length[packet]!;
    recorder.event(this.base | PACKET_DMA, frame, length, 0);
    recorder.event(this.base | NIC_WIRE_TX, frame, length, 0);
    if (this.line.random.chance(this.line.loss)) {
      recorder.event(this.base | LINK_DROP_LOSS, frame, length, 0);
      frames.dropped(frame, LINK_DROP_LOSS);
      pool.release(packet);
      return;
    }
    this.timeline.now[1] = now + this.line.latencyNs;
    this.line.to.arrive(packet, this.contextBits);
  }
}

/** Time that a frame takes on a line, ns (not rounded). */
export function wireNs(length: number, overhead: number, bitsPerSecond: number): number {
  return ((Math.max(length, MIN_FRAME_BYTES - FCS_BYTES) + overhead) * 8e9) / bitsPerSecond;
}

/** ns that a NIC of so many frames per second at most takes for each; 0: it has no such limit. */
export function frameGap(maxFrames: number): number {
  return maxFrames === 0 ? 0 : 1e9 / maxFrames;
}

/** When the next frame begins: where the last one ended, also between two ns (steps are at whole ones), or now on an idle line. */
export function lineStart(lineFree: number, now: number): number {
  return now - lineFree < 1 ? lineFree : now;
}
