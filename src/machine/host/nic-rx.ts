/**
 * A physical NIC's receive side: frames from the line go into one of its receive rings, by RSS where there are several, and
 * checksums are verified. Whoever serves a ring takes them out: a softirq of the kernel's, or a PMD.
 *
 * Where the NIC has a limit of frames per second, those that come faster wait in its packet buffer, and are dropped when that
 * is full.
 */
import { Context, WAKING } from '../../engine/context.ts';
import {
  HOST_IOMMU_FAULT,
  NIC_DROP_RX_FIFO,
  NIC_DROP_RX_LENGTH,
  NIC_DROP_RX_RING_FULL,
  NIC_INTERRUPT,
  NIC_RX,
  NIC_WIRE_RX,
  PACKET_DMA,
  VFIO_DMA,
} from '../../engine/events.ts';
import type { HostDma } from '../iommu/host-iommu.ts';
import { IN_FLIGHT } from '../memory/sizes.ts';
import { CHECKSUM_BAD, CHECKSUM_GOOD, verifyChecksums } from '../packet/checksum.ts';
import { ETH_HLEN, FrameHeaders, VLAN_HLEN } from '../packet/headers.ts';
import { writeHeader } from '../packet/net-header.ts';
import { PacketQueue } from '../packet/pool.ts';
import { baseOf, type Services } from '../services.ts';
import {
  MICROSOFT_RSS_KEY,
  Rss,
  VIRTIO_NET_RSS_HASH_TYPE_IPv4,
  VIRTIO_NET_RSS_HASH_TYPE_IPv6,
  VIRTIO_NET_RSS_HASH_TYPE_TCPv4,
  VIRTIO_NET_RSS_HASH_TYPE_TCPv6,
  VIRTIO_NET_RSS_HASH_TYPE_UDPv4,
  VIRTIO_NET_RSS_HASH_TYPE_UDPv6,
} from '../virtio/net/rss.ts';
import { VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_GSO_NONE } from '../wire/virtio-net.ts';
import { FCS_BYTES, frameGap, type LineEnd } from './nic.ts';
import { ETH_DATA_LEN } from './port.ts';

/** The usual size of a receive buffer. */
const RX_BUFFER_BYTES = 2048;
/** Intel 82599 datasheet §1.3: receive packet buffer. */
const PACKET_BUFFER_BYTES = 512 * 1024;
/** Entries of the redirection table of Intel's 82599 (RETA). */
const RETA_ENTRIES = 128;
/** What is hashed: addresses, and the ports of TCP and UDP. */
const HASH_TYPES =
  VIRTIO_NET_RSS_HASH_TYPE_IPv4 |
  VIRTIO_NET_RSS_HASH_TYPE_TCPv4 |
  VIRTIO_NET_RSS_HASH_TYPE_UDPv4 |
  VIRTIO_NET_RSS_HASH_TYPE_IPv6 |
  VIRTIO_NET_RSS_HASH_TYPE_TCPv6 |
  VIRTIO_NET_RSS_HASH_TYPE_UDPv6;

/** Descriptors of a frame in the receive ring: one buffer each. */
export function rxDescriptors(length: number): number {
  return Math.ceil(length / RX_BUFFER_BYTES);
}

/** Who takes frames out of a receive ring. */
export interface NicReader {
  /** A frame was placed into an empty (or not) ring at the current time. */
  frameArrived(): void;
}

/** One receive ring. */
export class NicRxQueue {
  declare readonly nic: NicRx;
  declare readonly index: number;
  /** Frames that the host has not taken yet; each takes one descriptor or more. */
  declare readonly ring: PacketQueue;
  declare readonly descriptors: number;
  /** Descriptors that hold frames. */
  used = 0;
  reader!: NicReader;

  constructor(nic: NicRx, index: number, descriptors: number) {
    this.nic = nic;
    this.index = index;
    this.ring = new PacketQueue(descriptors);
    this.descriptors = descriptors;
  }

  /** The host takes the next frame out of the ring, at the current stamp. */
  take(contextBits: number): number {
    const occupancy = this.used;
    const packet = this.ring.shift();
    this.used -= this.nic.taken(packet, occupancy, contextBits);
    return packet;
  }
}

export class NicRx extends Context implements LineEnd {
  declare readonly queues: readonly NicRxQueue[];
  /** Chooses a queue for each frame; null where there is one. */
  declare private readonly rss: Rss | null;
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
  /** ns that the NIC takes for each frame; 0: none. */
  declare private readonly frameGap: number;
  /** [0] when it has done with the last one (not rounded). */
  private readonly busyUntil = new Float64Array(1);

  /** `ring`: descriptors of each of the `queues`. `maxFrames` per second; 0: no such limit. */
  constructor(name: string, services: Services, ring: number, rxChecksum = false, queues = 1, maxFrames = 0) {
    super(name, -1, services.recorder);
    this.services = services;
    this.rxChecksum = rxChecksum;
    this.headers = new FrameHeaders(services.arena);
    this.queues = Array.from({ length: queues }, (_, i) => new NicRxQueue(this, i, ring));
    this.rss = queues > 1 ? redirection(queues) : null;
    this.frameGap = frameGap(maxFrames);
    this.coming = new PacketQueue(IN_FLIGHT);
    this.arrivals = new Float64Array(IN_FLIGHT);
  }
  begin(): void {
    this.base = baseOf(this.place, this.id);
    // the program has bound the NIC and mapped its mbufs before anything else happens
    if (this.dma !== null) this.recorder.event(this.base | VFIO_DMA, 0, 0, this.dma.bytes / 4096);
  }

  override get turns(): readonly number[] {
    return this.frameGap === 0 ? [] : [this.busyUntil[0]!];
  }
  override set turns(turns: readonly number[]) {
    if (turns.length > 0) this.busyUntil[0] = turns[0]!;
  }

  arrive(packet: number, contextBits: number): void {
    if (this.coming.full) {
      // more on one line than IN_FLIGHT frames: a latency of many milliseconds at full rate
      this.drop(packet, (this.place << 8) | contextBits, NIC_DROP_RX_RING_FULL);
      return;
    }
    if (this.frameGap > 0 && !this.buffered(packet, contextBits)) return;
    const at = this.timeline.now[1]!;
    this.arrivals[(this.arrivalHead + this.coming.length) % IN_FLIGHT] = at;
    this.coming.push(packet);
    if (this.coming.length === 1) {
      this.phase = WAKING;
      this.timeline.wake(this.id);
    }
  }
  /** The frame that arrives at now[1] waits for those before it, until now[1] as it is then. False: there was no room. */
  private buffered(packet: number, contextBits: number): boolean {
    const { now } = this.timeline;
    const { frameGap: gap, busyUntil } = this;
    const wait = busyUntil[0]! - now[1]!;
    if (wait > 0 && (wait / gap) * (this.services.pool.length[packet]! + FCS_BYTES) > PACKET_BUFFER_BYTES) {
      this.drop(packet, (this.place << 8) | contextBits, NIC_DROP_RX_FIFO);
      return false;
    }
    // its own time is over when the next one may follow: where nothing waits a frame is not late
    if (wait > 0) now[1] = Math.ceil(busyUntil[0]!);
    busyUntil[0] = (wait > 0 ? busyUntil[0]! : now[1]!) + gap;
    return true;
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

  /** The ring that a frame goes into. */
  private steer(packet: number): NicRxQueue {
    const { pool, arena } = this.services;
    const { rss } = this;
    return this.queues[rss === null ? 0 : rss.selectQueue(arena.u8, pool.at(packet), pool.length[packet]!)]!;
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
      const queue = this.rss === null ? this.queues[0]! : this.steer(packet);
      if (queue.used + needed > queue.descriptors) {
        this.drop(packet, this.base, NIC_DROP_RX_RING_FULL);
        continue;
      }
      if (this.dma !== null && !this.dma.allows(pool.at(packet), length)) {
        this.drop(packet, this.base, HOST_IOMMU_FAULT);
        continue;
      }
      queue.used += needed;
      if (this.rxChecksum) this.verify(packet);
      recorder.event(this.base | PACKET_DMA, frame, pool.length[packet]!, 0);
      queue.ring.push(packet);
      queue.reader.frameArrived();
    }
    this.timeline.next[this.id] = this.coming.length > 0 ? this.arrivals[this.arrivalHead]! : Number.POSITIVE_INFINITY;
  }

  /** A frame leaves its ring, of which `occupancy` descriptors were in use, at the current stamp. Returns its descriptors. */
  taken(packet: number, occupancy: number, contextBits: number): number {
    const { pool, recorder } = this.services;
    pool.inPort[packet] = this.port;
    const length = pool.length[packet]!;
    recorder.event((this.place << 8) | contextBits | NIC_RX, pool.frame[packet]!, length, occupancy);
    return rxDescriptors(length);
  }
  /** The interrupt that starts a NAPI poll, for the record. */
  interrupted(contextBits: number): void {
    this.services.recorder.event((this.place << 8) | contextBits | NIC_INTERRUPT, 0, 0, 0);
  }

  /** Resumes the poller that watches a ring. */
  resume(poller: number): void {
    if (poller >= 0) this.timeline.unpark(poller);
  }

  /** Descriptors that hold frames, in all rings. */
  get used(): number {
    return this.queues.reduce((n, queue) => n + queue.used, 0);
  }
  get waiting(): number {
    return this.queues.reduce((n, queue) => n + queue.ring.length, this.coming.length);
  }
}

/** A redirection table that gives each queue its share, with the usual key. */
function redirection(queues: number): Rss {
  const rss = new Rss();
  const table = Uint16Array.from({ length: RETA_ENTRIES }, (_, i) => i % queues);
  rss.configure(HASH_TYPES, table, 0, MICROSOFT_RSS_KEY);
  return rss;
}
