/**
 * Generic receive offload in the guest's NAPI poll: segments of a connection that follow each other become one packet for
 * TCP, which then acknowledges once. The rules are those of linux net/ipv4/tcp_offload.c tcp_gro_receive(); payload is
 * checked when it arrives, so what is kept of a packet is its header.
 */
import type { Services } from '../../services.ts';
import type { GuestNic } from '../guest-nic.ts';
import type { TcpSource } from '../traffic/tcp-source.ts';
import type { Tcp } from './tcp.ts';
import { TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TcpSegment } from './tcp-segment.ts';

/** linux net/core/gro.c: as many packets as a bucket keeps (MAX_GRO_SKBS). */
const MAX_GRO_SKBS = 8;
const URG = 32;

class Held {
  source: TcpSource | null = null;
  frame = 0;
  /** Bytes of that frame, payload with everything that was merged into it, and segments. */
  frameBytes = 0;
  bytes = 0;
  count = 0;
  id = 0;
  ttl = 0;
  readonly segment: TcpSegment;
  packet = { frameAt: 0, addressesAt: 0, addressBytes: 4 };

  constructor(services: Services) {
    this.segment = new TcpSegment(services.arena);
  }
}

export class Gro {
  private readonly services: Services;
  private readonly tcp: Tcp;
  private readonly held: Held[];
  private count = 0;

  constructor(services: Services, tcp: Tcp) {
    this.services = services;
    this.tcp = tcp;
    this.held = Array.from({ length: MAX_GRO_SKBS }, () => new Held(services));
  }

  /**
   * A segment of `source` in a frame of `length` bytes. True when it is kept or was merged: it goes up with flush().
   * `id` and `ttl` are of its IP header (id -1: IPv6 has none).
   */
  receive(
    nic: GuestNic,
    source: TcpSource,
    s: TcpSegment,
    frame: number,
    length: number,
    id: number,
    ttl: number,
  ): boolean {
    const h = this.of(source);
    let merged = false;
    if (h !== null && mergeable(h, s, length, id, ttl)) {
      const p = h.segment;
      p.payload += s.payload;
      p.flags |= s.flags & (TCP_FIN | TCP_PSH);
      p.segments += s.segments;
      if (p.gsoSize === 0) p.gsoSize = p.payload - s.payload;
      h.count += s.segments;
      h.bytes += s.payload;
      this.services.frames.merged(nic.base, frame, h.frame, length);
      merged = true;
    }
    const full = h === null || !merged ? 1 : h.segment.gsoSize;
    const last =
      (s.gsoSize > 0 ? s.payload !== s.segments * s.gsoSize : s.payload < full) ||
      (s.flags & (URG | TCP_PSH | TCP_RST | TCP_SYN | TCP_FIN)) !== 0;
    if (h !== null && (last || !merged)) this.release(nic, h);
    if (merged) return true;
    if (last || (s.flags & TCP_ACK) === 0 || s.sacks > 0) return false;
    if (this.count === MAX_GRO_SKBS) this.release(nic, this.held[0]!);
    const kept = this.held[this.count++]!;
    kept.source = source;
    kept.frame = frame;
    kept.frameBytes = length;
    kept.bytes = s.payload;
    kept.count = s.segments;
    kept.id = id;
    kept.ttl = ttl;
    copySegment(kept.segment, s);
    return true;
  }

  private of(source: TcpSource): Held | null {
    for (let i = 0; i < this.count; i++) if (this.held[i]!.source === source) return this.held[i]!;
    return null;
  }

  /** napi_gro_flush(): what was kept goes up, at the recorder's stamp. */
  flush(nic: GuestNic): void {
    while (this.count > 0) this.release(nic, this.held[0]!);
  }
  private release(nic: GuestNic, h: Held): void {
    const { recorder } = this.services;
    const source = h.source!;
    const kind = this.tcp.receive(source, h.segment, h.packet, recorder.stamp);
    recorder.event(nic.base | kind, h.frame, h.frameBytes, 0);
    h.source = null;
    const i = this.held.indexOf(h);
    this.held.copyWithin(i, i + 1, this.count);
    this.count--;
    this.held[this.count] = h;
  }
}

/** The conditions of tcp_gro_receive() under which a segment goes into the packet before it. */
function mergeable(h: Held, s: TcpSegment, length: number, id: number, ttl: number): boolean {
  const p = h.segment;
  const mss = p.gsoSize > 0 ? p.gsoSize : p.payload;
  if (h.ttl !== ttl || (id >= 0 && ((h.id + h.count) & 0xffff) !== id)) return false;
  if (((p.flags ^ s.flags) & ~(TCP_FIN | TCP_PSH)) !== 0 || p.ack !== s.ack) return false;
  // DEVIATION: segments with SACK blocks go up alone, where Linux merges those that have the same
  if (s.sacks > 0) return false;
  if (p.headerBytes !== s.headerBytes || p.timestamps !== s.timestamps) return false;
  if (p.timestamps && (p.tsval !== s.tsval || p.tsecr !== s.tsecr)) return false;
  if (s.gsoSize > 0 ? s.gsoSize !== mss : s.payload === 0 || s.payload > mss) return false;
  return ((p.seq + p.payload) | 0) === s.seq && h.bytes + length < 65536;
}

function copySegment(to: TcpSegment, from: TcpSegment): void {
  to.source = from.source;
  to.dest = from.dest;
  to.seq = from.seq;
  to.ack = from.ack;
  to.flags = from.flags;
  to.window = from.window;
  to.headerBytes = from.headerBytes;
  to.payloadAt = from.payloadAt;
  to.payload = from.payload;
  to.segments = from.segments;
  to.gsoSize = from.gsoSize;
  to.mss = from.mss;
  to.windowScale = from.windowScale;
  to.timestamps = from.timestamps;
  to.tsval = from.tsval;
  to.tsecr = from.tsecr;
}
