/**
 * A physical NIC: descriptor rings towards the host, a line towards a peer (another NIC over a link, or the wire end where
 * traffic is generated and ends). Transmission and reception are hardware contexts: they take their time on no core.
 *
 * DEVIATION: one queue each way, no offloads, no interrupt moderation, DMA costs no CPU.
 */
import { Context, PHASE_OWN, WAKING } from '../../engine/context.ts';
import {
  LINK_DROP_LOSS,
  NIC_DROP_RX_RING_FULL,
  NIC_DROP_TX_RING_FULL,
  NIC_INTERRUPT,
  NIC_RX,
  NIC_TX,
  NIC_WIRE_RX,
  NIC_WIRE_TX,
  PACKET_DMA,
} from '../../engine/events.ts';
import type { RandomStream } from '../../engine/random.ts';
import { PacketQueue } from '../packet/pool.ts';
import { baseOf, type Services } from '../services.ts';

/** Bytes of the frame check sequence, which never enters the bytes. */
export const FCS_BYTES = 4;
/** Shortest frame on the wire with FCS; shorter ones are padded by the NIC. */
const MIN_FRAME_BYTES = 64;

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
  readonly ring: PacketQueue;
  line!: Line;
  private readonly services: Services;
  private readonly speed: number;
  private readonly overhead: number;
  private base = 0;
  private contextBits = 0;
  private lineFree = 0;

  constructor(name: string, services: Services, speed: number, ring: number) {
    super(name, -1, services.recorder);
    this.services = services;
    this.speed = speed;
    this.ring = new PacketQueue(ring);
    this.overhead = services.figure('ethernet_overhead') + FCS_BYTES;
  }
  begin(): void {
    this.base = baseOf(this.place, this.id);
    this.contextBits = this.id << 20;
  }

  /** The host hands a packet over, on its own time. */
  send(packet: number, contextBits: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    const length = pool.length[packet]!;
    const bits = (this.place << 8) | contextBits;
    if (this.ring.full) {
      recorder.event(bits | NIC_DROP_TX_RING_FULL, frame, length, 0);
      frames.dropped(frame, NIC_DROP_TX_RING_FULL);
      pool.release(packet);
      return;
    }
    this.ring.push(packet);
    recorder.event(bits | NIC_TX, frame, length, this.ring.length);
    this.timeline.now[1] = this.timeline.now[0]!;
    this.rouse();
  }

  override step(): void {
    const now = this.timeline.now[0]!;
    if (this.phase !== WAKING) this.sent(now);
    if (this.ring.length === 0) {
      this.phase = 0;
      this.timeline.next[this.id] = Number.POSITIVE_INFINITY;
      return;
    }
    const length = this.services.pool.length[this.ring.peek(0)]!;
    this.lineFree = lineStart(this.lineFree, now) + wireNs(length, this.overhead, this.line.rate || this.speed);
    this.spend(Math.ceil(this.lineFree) - now, PHASE_OWN);
  }

  /** The last bit of the first frame of the ring has left. */
  private sent(now: number): void {
    const { pool, recorder, frames } = this.services;
    const packet = this.ring.shift();
    const frame = pool.frame[packet]!;
    const length = pool.length[packet]!;
    recorder.stamp[0] = now;
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
  /** Frames that the host has not taken yet: the used descriptors of the receive ring. */
  readonly ring: PacketQueue;
  reader!: NicReader;
  /** Port number of the NIC in its bridge. */
  port = 0;
  private readonly services: Services;
  // what is on its way over the link, in order of arrival
  private readonly coming: PacketQueue;
  private readonly arrivals: Float64Array;
  private arrivalHead = 0;
  private base = 0;

  constructor(name: string, services: Services, ring: number) {
    super(name, -1, services.recorder);
    this.services = services;
    this.ring = new PacketQueue(ring);
    this.coming = new PacketQueue(IN_FLIGHT);
    this.arrivals = new Float64Array(IN_FLIGHT);
  }
  begin(): void {
    this.base = baseOf(this.place, this.id);
  }

  arrive(packet: number, contextBits: number): void {
    if (this.coming.full) {
      // more on one line than IN_FLIGHT frames: a latency of many milliseconds at full rate
      this.drop(packet, (this.place << 8) | contextBits);
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
  private drop(packet: number, bits: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event(bits | NIC_DROP_RX_RING_FULL, frame, pool.length[packet]!, 0);
    frames.dropped(frame, NIC_DROP_RX_RING_FULL);
    pool.release(packet);
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
      if (this.ring.full) {
        this.drop(packet, this.base);
        continue;
      }
      recorder.event(this.base | PACKET_DMA, frame, pool.length[packet]!, 0);
      this.ring.push(packet);
      this.reader.frameArrived();
    }
    this.timeline.next[this.id] = this.coming.length > 0 ? this.arrivals[this.arrivalHead]! : Number.POSITIVE_INFINITY;
  }

  /** The host takes the next frame out of the ring, at the current stamp. */
  take(contextBits: number): number {
    const { pool, recorder } = this.services;
    const occupancy = this.ring.length;
    const packet = this.ring.shift();
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
