/**
 * TCP of a guest: which connection a segment belongs to, listening ones among them, and the answer where there is none
 * (linux tcp_v4_rcv()). Segments of one NAPI poll that follow each other are merged first (gro.ts).
 */
import { GUEST_CONSUME, GUEST_DROP_TCP } from '../../../engine/events.ts';
import type { Services } from '../../services.ts';
import type { GuestNic } from '../guest-nic.ts';
import type { TcpSource } from '../traffic/tcp-source.ts';
import { type IpAddress, IpPath } from './ip-path.ts';
import { TCP_LISTEN, TCP_SYN_RECV, type TcpBlock } from './tcp-block.ts';
import { tcpReceive } from './tcp-input.ts';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, TcpHeaderWriter, type TcpSegment } from './tcp-segment.ts';

/** Where a frame's packet came from and goes to, as the IP layer has found it: arena offsets. */
export interface IpPacket {
  /** Ethernet header. */
  readonly frameAt: number;
  /** Source address; the destination follows it. */
  readonly addressesAt: number;
  /** 4 or 16. */
  readonly addressBytes: number;
}

export class Tcp {
  private readonly services: Services;
  private readonly u8: Uint8Array;
  private readonly sockets = new Map<number, TcpSource[]>();
  private readonly header: TcpHeaderWriter;

  constructor(services: Services) {
    this.services = services;
    this.u8 = services.arena.u8;
    this.header = new TcpHeaderWriter(services.arena);
  }

  /** A connection that is about to open. */
  add(source: TcpSource): void {
    const { localPort, remotePort } = source.block;
    const key = keyOf(localPort, remotePort);
    const list = this.sockets.get(key);
    if (list === undefined) this.sockets.set(key, [source]);
    else list.push(source);
  }
  remove(source: TcpSource): void {
    const key = keyOf(source.block.localPort, source.block.remotePort);
    const left = (this.sockets.get(key) ?? []).filter((s) => s !== source);
    if (left.length === 0) this.sockets.delete(key);
    else this.sockets.set(key, left);
  }
  /** A connection waits for the other side to open it. */
  listen(source: TcpSource): void {
    source.block.setState(TCP_LISTEN);
    this.add(source);
  }

  /** The connection that a segment from `p` belongs to; null where there is none. */
  find(nic: GuestNic, s: TcpSegment, p: IpPacket): TcpSource | null {
    const list = this.sockets.get(keyOf(s.dest, s.source));
    if (list === undefined) return null;
    for (let i = 0; i < list.length; i++) {
      const { block } = list[i]!;
      if (block.nic !== nic) continue;
      const path = block.path;
      if (path === null ? block.state === TCP_LISTEN : this.between(path, p)) return list[i]!;
    }
    return null;
  }
  private between(path: IpPath, p: IpPacket): boolean {
    const { u8 } = this;
    const n = p.addressBytes;
    if (path.source.length !== n) return false;
    const at = p.addressesAt;
    for (let i = 0; i < n; i++) {
      if (u8[at + i] !== path.destination[i] || u8[at + n + i] !== path.source[i]) return false;
    }
    return true;
  }

  /** A segment for `source`, at clock[0]. Returns what became of its frame (see tcpReceive()). */
  receive(source: TcpSource, s: TcpSegment, p: IpPacket, clock: Float64Array): number {
    const { block } = source;
    const kind = block.state === TCP_LISTEN ? this.opened(block, s, p) : tcpReceive(block, s, clock);
    source.refresh(clock);
    return kind;
  }

  /** tcp_conn_request(). */
  private opened(block: TcpBlock, s: TcpSegment, p: IpPacket): number {
    if ((s.flags & (TCP_SYN | TCP_ACK | TCP_RST)) !== TCP_SYN) return GUEST_DROP_TCP;
    const n = p.addressBytes;
    const bytes = (at: number, length: number): IpAddress => Array.from(this.u8.subarray(at, at + length));
    block.path = new IpPath(
      this.services.arena,
      block.nic.mac,
      bytes(p.frameAt + 6, 6),
      bytes(p.addressesAt + n, n),
      bytes(p.addressesAt, n),
    );
    block.setState(TCP_SYN_RECV);
    block.negotiate(s);
    block.ackNow = true;
    return GUEST_CONSUME;
  }

  /**
   * The answer to a segment that belongs to no connection (RFC 9293 §3.5.2, tcp_v4_send_reset()): writes a RST at arena
   * offset `to`; returns its frame length, 0 where there is nothing to answer.
   */
  reset(nic: GuestNic, s: TcpSegment, p: IpPacket, to: number): number {
    if ((s.flags & TCP_RST) !== 0) return 0;
    const n = p.addressBytes;
    const bytes = (at: number, length: number): IpAddress => Array.from(this.u8.subarray(at, at + length));
    const path = new IpPath(
      this.services.arena,
      nic.mac,
      bytes(p.frameAt + 6, 6),
      bytes(p.addressesAt + n, n),
      bytes(p.addressesAt, n),
    );
    const h = this.header;
    const acknowledges = (s.flags & TCP_ACK) !== 0;
    h.source = s.dest;
    h.dest = s.source;
    h.seq = acknowledges ? s.ack : 0;
    const length = s.payload + ((s.flags & TCP_SYN) !== 0 ? 1 : 0) + ((s.flags & TCP_FIN) !== 0 ? 1 : 0);
    h.ack = acknowledges ? 0 : (s.seq + length) | 0;
    h.flags = acknowledges ? TCP_RST : TCP_RST | TCP_ACK;
    h.window = 0;
    path.write(to, 6, h.bytes, 0);
    const tcp = to + path.headerBytes;
    h.write(tcp);
    let sum = path.pseudo(6, h.bytes) + this.services.arena.code.sum16(tcp, h.bytes);
    sum = (sum & 0xffff) + (sum >>> 16);
    this.services.arena.u16[(tcp + 16) >> 1] = ~sum & 0xffff;
    return path.headerBytes + h.bytes;
  }
}

const keyOf = (local: number, remote: number): number => (local << 16) | remote;
