/**
 * A physical NIC: rings towards the host, a line towards a peer (another NIC over a link, or the wire end where traffic is
 * generated and ends). Transmission and reception are hardware contexts: they take their time on no core. On transmit the
 * NIC completes checksums and cuts GSO packets (TSO), each segment a frame of its own on the line; on receive it verifies
 * checksums. The wire carries bytes only: whatever the host knew of a packet beside them ends here.
 *
 * DEVIATION: one queue each way, no interrupt moderation, DMA costs no CPU. A ring's descriptors are counted (several for a
 * long frame or an offload, as with Intel's 82599), but are not in memory.
 */
import { Context, PHASE_OWN, WAKING } from '../../engine/context.ts';
import {
  DP_DROP_MALFORMED,
  HOST_IOMMU_FAULT,
  LINK_DROP_LOSS,
  NIC_DROP_RX_LENGTH,
  NIC_DROP_RX_RING_FULL,
  NIC_DROP_TX_RING_FULL,
  NIC_INTERRUPT,
  NIC_RX,
  NIC_TX,
  NIC_WIRE_RX,
  NIC_WIRE_TX,
  PACKET_DMA,
  PACKET_DROP_NO_MEMORY,
  VFIO_DMA,
} from '../../engine/events.ts';
import type { RandomStream } from '../../engine/random.ts';
import type { HostDma } from '../iommu/host-iommu.ts';
import { CHECKSUM_BAD, CHECKSUM_GOOD, completeChecksum, verifyChecksums } from '../packet/checksum.ts';
import { GSO_OK } from '../packet/gso-plan.ts';
import { ETH_HLEN, FrameHeaders, VLAN_HLEN } from '../packet/headers.ts';
import { clearHeader, flagsOf, isGso, isPlain, writeHeader } from '../packet/net-header.ts';
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
import {
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
} from '../wire/virtio-net.ts';
import { ETH_DATA_LEN } from './port.ts';

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

/** linux drivers/net/ethernet/intel/ixgbe: IXGBE_MAX_DATA_PER_TXD, and the usual size of a receive buffer. */
const MAX_DATA_PER_TXD = 16384;
const RX_BUFFER_BYTES = 2048;
/** Descriptors of a packet of so many bytes in the transmit ring; checksum and TSO take a context descriptor first. */
export function txDescriptors(length: number, plain: boolean): number {
  return Math.ceil(length / MAX_DATA_PER_TXD) + (plain ? 0 : 1);
}
/** Descriptors of a frame in the receive ring: one buffer each. */
export function rxDescriptors(length: number): number {
  return Math.ceil(length / RX_BUFFER_BYTES);
}

/** What receives frames at the far end of a line. */
export interface LineEnd {
  /** The last bit of the packet arrives at clock[1]. The packet is the end's from then on. */
  arrive(packet: number, contextBits: number): void;
}
/** Who takes frames out of the receive ring. */
export interface NicReader {
  /** A frame was placed into an empty (or not) ring at the current time. */
  frameArrived(): void;
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
  private base = 0;
  private contextBits = 0;
  private lineFree = 0;
  declare private readonly segmenter: Segmenter;
  /** Segment of the ring's first packet that leaves next; -1 while that packet is not being cut. */
  private segment = -1;

  constructor(name: string, services: Services, speed: number, ring: number) {
    super(name, -1, services.recorder);
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
    if (this.phase !== WAKING) this.sent(now);
    let length = -1;
    while (length < 0 && this.ring.length > 0) length = this.nextLength();
    if (length < 0) {
      this.phase = 0;
      this.timeline.next[this.id] = Number.POSITIVE_INFINITY;
      return;
    }
    this.lineFree = lineStart(this.lineFree, now) + wireNs(length, this.overhead, this.line.rate || this.speed);
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
  private sent(now: number): void {
    const { pool, recorder, frames } = this.services;
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

/** When the next frame begins: where the last one ended, also between two ns (steps are at whole ones), or now on an idle line. */
export function lineStart(lineFree: number, now: number): number {
  return now - lineFree < 1 ? lineFree : now;
}

export class NicRx extends Context implements LineEnd {
  /** Frames that the host has not taken yet; each takes one descriptor or more of `descriptors`. */
  declare readonly ring: PacketQueue;
  /** Descriptors that hold frames. */
  used = 0;
  declare private readonly descriptors: number;
  reader!: NicReader;
  /** Port number of the NIC in its bridge. */
  port = 0;
  /** `rx_length_errors` beyond this MTU: longer frames do not fit the receive buffers. */
  mtu = ETH_DATA_LEN;
  /** rx-checksumming: good checksums are marked VIRTIO_NET_HDR_F_DATA_VALID (CHECKSUM_UNNECESSARY). */
  declare rxChecksum: boolean;
  /** Behind the host's IOMMU: what the program that drives the NIC has mapped; null without. */
  dma: HostDma | null = null;
  /** Frames with a wrong IPv4, TCP or UDP checksum (`rx_csum_offload_errors`); they go up unmarked. */
  checksumErrors = 0;
  declare private readonly headers: FrameHeaders;
  declare private readonly services: Services;
  // what is on its way over the link, in order of arrival
  declare private readonly coming: PacketQueue;
  declare private readonly arrivals: Float64Array;
  private arrivalHead = 0;
  private base = 0;

  constructor(name: string, services: Services, ring: number, rxChecksum = false) {
    super(name, -1, services.recorder);
    this.services = services;
    this.rxChecksum = rxChecksum;
    this.headers = new FrameHeaders(services.arena);
    this.ring = new PacketQueue(ring);
    this.descriptors = ring;
    this.coming = new PacketQueue(IN_FLIGHT);
    this.arrivals = new Float64Array(IN_FLIGHT);
  }
  begin(): void {
    this.base = baseOf(this.place, this.id);
    // the program has bound the NIC and mapped its mbufs before anything else happens
    if (this.dma !== null) this.recorder.event(this.base | VFIO_DMA, 0, 0, this.dma.bytes / 4096);
  }

  arrive(packet: number, contextBits: number): void {
    if (this.coming.full) {
      // more on one line than IN_FLIGHT frames: a latency of many milliseconds at full rate
      this.drop(packet, (this.place << 8) | contextBits, NIC_DROP_RX_RING_FULL);
      return;
    }
    const at = this.timeline.now[1]!;
    this.arrivals[(this.arrivalHead + this.coming.length) % IN_FLIGHT] = at;
    this.coming.push(packet);
    if (this.coming.length === 1) {
      this.phase = WAKING;
      this.timeline.wake(this.id);
    }
  }
  private drop(packet: number, bits: number, kind: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event(bits | kind, frame, pool.length[packet]!, 0);
    frames.dropped(frame, kind);
    pool.release(packet);
  }

  /** Verifies the frame's checksums and marks it where they are right. */
  private verify(packet: number): void {
    const { pool, arena } = this.services;
    const result = verifyChecksums(arena, this.headers, pool.at(packet), pool.length[packet]!);
    if (result === CHECKSUM_BAD) this.checksumErrors++;
    if (result !== CHECKSUM_GOOD) return;
    const slot = pool.slot(packet);
    writeHeader(arena.u32, slot, VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_GSO_NONE, 0, 0, 0, 0);
  }

  override step(): void {
    const { pool, recorder } = this.services;
    const now = this.timeline.now[0]!;
    recorder.stamp[0] = now;
    while (this.coming.length > 0 && this.arrivals[this.arrivalHead]! <= now) {
      const packet = this.coming.shift();
      this.arrivalHead = (this.arrivalHead + 1) % IN_FLIGHT;
      const frame = pool.frame[packet]!;
      recorder.event(this.base | NIC_WIRE_RX, frame, pool.length[packet]!, 0);
      const length = pool.length[packet]!;
      if (length > this.mtu + ETH_HLEN + VLAN_HLEN) {
        this.drop(packet, this.base, NIC_DROP_RX_LENGTH);
        continue;
      }
      const needed = rxDescriptors(length);
      if (this.used + needed > this.descriptors) {
        this.drop(packet, this.base, NIC_DROP_RX_RING_FULL);
        continue;
      }
      if (this.dma !== null && !this.dma.allows(pool.at(packet), length)) {
        this.drop(packet, this.base, HOST_IOMMU_FAULT);
        continue;
      }
      this.used += needed;
      if (this.rxChecksum) this.verify(packet);
      recorder.event(this.base | PACKET_DMA, frame, pool.length[packet]!, 0);
      this.ring.push(packet);
      this.reader.frameArrived();
    }
    this.timeline.next[this.id] = this.coming.length > 0 ? this.arrivals[this.arrivalHead]! : Number.POSITIVE_INFINITY;
  }

  /** The host takes the next frame out of the ring, at the current stamp. */
  take(contextBits: number): number {
    const { pool, recorder } = this.services;
    const occupancy = this.used;
    const packet = this.ring.shift();
    this.used -= rxDescriptors(pool.length[packet]!);
    pool.inPort[packet] = this.port;
    recorder.event((this.place << 8) | contextBits | NIC_RX, pool.frame[packet]!, pool.length[packet]!, occupancy);
    return packet;
  }
  /** The interrupt that starts a NAPI poll, for the record. */
  interrupted(contextBits: number): void {
    this.services.recorder.event((this.place << 8) | contextBits | NIC_INTERRUPT, 0, 0, 0);
  }

  /** Resumes the poller that watches the ring. */
  resume(poller: number): void {
    if (poller >= 0) this.timeline.unpark(poller);
  }

  get waiting(): number {
    return this.ring.length + this.coming.length;
  }
}
/** Frames that a line holds at most. */
export const IN_FLIGHT = 16384;
