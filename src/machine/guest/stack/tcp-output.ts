/**
 * What a connection sends next, and when: linux net/ipv4/tcp_output.c and tcp_timer.c. A packet is as long as the driver takes it (GSO): the device, or whoever comes behind it, cuts it into segments.
 */
import { TCP_RETRANSMIT } from '../../../engine/events.ts';
import { NEVER } from '../../../engine/timeline.ts';
import type { Arena } from '../../memory/arena.ts';
import { IPPROTO_TCP } from '../../wire/ip.ts';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
} from '../../wire/virtio-net.ts';
import {
  MAX_SACKS,
  TCP_CLOSE_WAIT,
  TCP_CLOSING,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT1,
  TCP_LAST_ACK,
  TCP_RETRIES2,
  TCP_SYN_RECV,
  TCP_SYN_RETRIES,
  TCP_SYN_SENT,
  TCP_SYNACK_RETRIES,
  TCP_TIME_WAIT,
  type TcpBlock,
} from './tcp-block.ts';
import {
  TCP_ACK,
  TCP_CHECK,
  TCP_FIN,
  TCP_HLEN,
  TCP_PSH,
  TCP_SYN,
  TCPOLEN_SACK_BASE_ALIGNED,
  TCPOLEN_SACK_PERBLOCK,
  TcpHeaderWriter,
} from './tcp-segment.ts';

/** linux include/net/tcp.h MAX_TCP_HEADER: what tcp_bound_to_half_wnd() and the GSO size leave for headers. */
const MAX_TCP_HEADER = 320;
/** linux net.ipv4.tcp_tso_win_divisor. */
const TCP_TSO_WIN_DIVISOR = 3;

/** Kinds of what goes out. */
const NOTHING = 0;
const HANDSHAKE = 1;
const DATA = 2;
const PROBE = 3;
const ACKNOWLEDGEMENT = 4;

export class TcpOutput {
  private readonly b: TcpBlock;
  private readonly arena: Arena;
  private readonly header: TcpHeaderWriter;
  // what plan() has found
  private kind = NOTHING;
  private from = 0;
  private length = 0;
  private fin = false;
  private again = false;
  private rescues = false;

  constructor(block: TcpBlock) {
    this.b = block;
    this.arena = block.services.arena;
    this.header = new TcpHeaderWriter(block.services.arena);
  }

  /** Runs the timers that are due at clock[0] (tcp_write_timer(), tcp_delack_timer()). */
  runTimers(clock: Float64Array): void {
    const b = this.b;
    const now = clock[0]!;
    if (b.delackAt <= now) {
      b.delackAt = NEVER;
      b.ackNow = true;
    }
    if (b.rtoAt > now) return;
    b.rtoAt = NEVER;
    b.backoff++;
    if (!b.inFlight) {
      if (b.backoff > TCP_RETRIES2) return b.end('the receiver kept its window closed');
      b.probe = true;
      b.armRto(now);
      return;
    }
    const most =
      b.state === TCP_SYN_SENT ? TCP_SYN_RETRIES : b.state === TCP_SYN_RECV ? TCP_SYNACK_RETRIES : TCP_RETRIES2;
    if (b.backoff > most) return b.end('no answer: the connection timed out');
    b.timeouts++;
    b.retransmit = true;
    b.timedAt = 0;
    if (this.sending) {
      b.recovery.timeout(b.una, b.nxt, b.backoff === 1);
      b.windowChanged();
    }
    b.armRto(now);
  }

  /** True when something is to be sent. */
  get pending(): boolean {
    this.plan();
    return this.kind !== NOTHING;
  }

  /** Bytes of the frame that write() makes now. */
  nextLength(): number {
    this.plan();
    const b = this.b;
    this.header.timestamps = b.timestamps;
    this.options();
    return b.path!.headerBytes + this.header.bytes + (this.kind === DATA ? this.length : 0);
  }
  /** Options of a SYN, or SACK blocks where there is something to report and room for it: a full segment has none. */
  private options(): void {
    const b = this.b;
    const h = this.header;
    const handshake = this.kind === HANDSHAKE;
    h.mss = handshake ? b.announcedMss : 0;
    h.windowScale = handshake ? b.receiveShift : -1;
    h.sackPermitted = handshake && b.sack;
    h.sacks = 0;
    if (b.reports === 0 || handshake) return;
    const room = this.kind === DATA ? b.mss - this.length : b.mss;
    const most = Math.min(
      b.reports,
      b.timestamps ? MAX_SACKS - 1 : MAX_SACKS,
      Math.floor((room - TCPOLEN_SACK_BASE_ALIGNED) / TCPOLEN_SACK_PERBLOCK),
    );
    for (let i = 0; i < most; i++) {
      const stretch = b.waiting.indexOf(b.reported[i]!);
      h.sackLeft[i] = (b.irs + b.waiting.rangeFrom[stretch]!) | 0;
      h.sackRight[i] = (b.irs + b.waiting.rangeTo[stretch]!) | 0;
    }
    h.sacks = Math.max(0, most);
  }

  private get sending(): boolean {
    const state = this.b.state;
    return (
      state === TCP_ESTABLISHED ||
      state === TCP_CLOSE_WAIT ||
      state === TCP_FIN_WAIT1 ||
      state === TCP_CLOSING ||
      state === TCP_LAST_ACK
    );
  }

  /** Decides what is next; changes nothing but its own fields. */
  private plan(): void {
    const b = this.b;
    this.kind = NOTHING;
    this.length = 0;
    this.fin = false;
    this.again = false;
    this.rescues = false;
    if (b.state === TCP_SYN_SENT) {
      if (b.nxt === 0 || b.retransmit) this.kind = HANDSHAKE;
      return;
    }
    if (b.state === TCP_SYN_RECV) {
      if (b.nxt === 0 || b.retransmit || b.ackNow) this.kind = HANDSHAKE;
      return;
    }
    if (this.sending) {
      if (b.inFlight && b.retransmit) this.planRetransmission(b.una);
      else if (b.inFlight && b.recovery.active) this.planRecovery();
      else this.planNew();
      if (this.kind !== NOTHING) return;
      if (b.probe) {
        this.kind = PROBE;
        return;
      }
    }
    if (b.ackNow && (this.sending || !b.dead || b.state === TCP_TIME_WAIT)) this.kind = ACKNOWLEDGEMENT;
  }

  /** tcp_retransmit_skb(): one segment at most, what is missing from position `from` on. */
  private planRetransmission(from: number): void {
    const b = this.b;
    const missingTo = b.recovery.sacked.next(from, b.nxt);
    const dataEnd = Math.min(missingTo, b.limit);
    this.kind = DATA;
    this.from = from;
    this.length = Math.max(0, Math.min(b.mss, dataEnd - from));
    this.fin = b.closing && missingTo > b.finPosition && from + this.length === b.finPosition;
    this.again = true;
  }
  /** NextSeg() of RFC 6675 §4: as long as the window has room, what is lost, then new data, then what may be lost. */
  private planRecovery(): void {
    const b = this.b;
    const { recovery } = b;
    if (b.congestion.cwnd - recovery.pipe(b.una, b.nxt) < b.mss) return;
    const lost = recovery.lost(b.una);
    if (lost >= 0) return this.planRetransmission(lost);
    this.planNew();
    if (this.kind !== NOTHING || !recovery.sack) return;
    const doubtful = recovery.doubtful(b.una);
    if (doubtful >= 0) return this.planRetransmission(doubtful);
    const last = recovery.rescue(b.una, b.nxt);
    if (last < 0) return;
    this.planRetransmission(last);
    this.rescues = true;
  }

  /** tcp_write_xmit() for one packet. */
  private planNew(): void {
    const b = this.b;
    const left = b.limit - b.nxt;
    if (left < 0) return; // the FIN has been sent
    const finDue = b.closing;
    this.from = b.nxt;
    if (left === 0) {
      if (!finDue) return;
      this.kind = DATA;
      this.fin = true;
      return;
    }
    const window = Math.min(b.window, b.buffer);
    const offered = b.una + window - b.nxt;
    const { congestion } = b;
    const allowed = congestion.cwnd + b.recovery.limitedTransmit - b.recovery.pipe(b.una, b.nxt);
    if (allowed < offered && allowed < left) b.limitedAt = b.nxt;
    if (offered <= 0 || allowed < Math.min(left, b.mss)) return;
    const usable = Math.min(offered, Math.max(b.mss, Math.floor(allowed / b.mss) * b.mss));
    const goal = this.sizeGoal();
    let length = Math.min(left, usable, goal);
    if (length < left) {
      if (length >= b.mss) length -= length % b.mss;
      // silly windows: less than a segment waits for more room (RFC 9293 §3.8.6.2.1)
      else if (length < b.maxWindow / 2 && b.inFlight) return;
      // tcp_tso_should_defer(): a small part of the window waits until more is acknowledged
      const whole = Math.min(window, congestion.cwnd);
      if (length < goal && b.inFlight && !b.recovery.active && usable < whole / TCP_TSO_WIN_DIVISOR) return;
    }
    this.kind = DATA;
    this.length = length;
    this.fin = finDue && b.nxt + length === b.finPosition;
  }

  /** tcp_bound_to_half_wnd() and tcp_send_mss(): payload of a packet, a whole number of segments. */
  private sizeGoal(): number {
    const b = this.b;
    const caps = b.nic.caps;
    if (!caps.csum || !(b.path!.family === 4 ? caps.tso4 : caps.tso6)) return b.mss;
    const most = Math.min(caps.gsoMaxBytes, 65536) - 1 - MAX_TCP_HEADER;
    const half = b.maxWindow > TCP_HLEN ? Math.max(b.maxWindow >> 1, b.mss) : most;
    return Math.max(1, Math.floor(Math.min(most, half) / b.mss)) * b.mss;
  }

  /**
   * Writes the next frame at arena offset `at` (even) and `wish`, at clock[0]; returns its length in bytes. Where the
   * reason to send has gone meanwhile it is an acknowledgement.
   */
  write(at: number, wish: Int32Array, clock: Float64Array): number {
    this.plan();
    const b = this.b;
    const h = this.header;
    const now = clock[0]!;
    const path = b.path!;
    const synchronized = b.state !== TCP_SYN_SENT;
    h.source = b.localPort;
    h.dest = b.remotePort;
    h.ack = synchronized ? (b.irs + b.rcvNxt) | 0 : 0;
    h.flags = synchronized ? TCP_ACK : 0;
    h.timestamps = b.timestamps;
    if (b.timestamps) h.tsval = b.timestamp(now);
    h.tsecr = synchronized ? b.tsRecent : 0;
    this.options();
    let position = b.nxt;
    if (this.kind === HANDSHAKE) {
      position = 0;
      h.flags |= TCP_SYN;
      if (b.nxt > 0) this.sentAgain(0, 0, now);
      else this.sentFirst(1, now);
    } else if (this.kind === DATA) {
      position = this.from;
      const end = this.from + this.length + (this.fin ? 1 : 0);
      if (this.fin) h.flags |= TCP_FIN;
      if (this.length > 0 && (this.fin || this.from + this.length === b.limit)) h.flags |= TCP_PSH;
      if (this.again) this.sentAgain(this.from, this.length, now);
      else this.sentFirst(end, now);
    } else if (this.kind === PROBE) {
      // tcp_xmit_probe_skb(): what has been acknowledged already, so that it must be answered
      position = b.una - 1;
      b.probe = false;
    }
    h.seq = (b.iss + position) | 0;
    h.window = this.announcedWindow();
    const tcp = at + path.headerBytes;
    const headerBytes = h.bytes;
    const payload = this.kind === DATA ? this.length : 0;
    const segments = Math.max(1, Math.ceil(payload / b.mss));
    path.write(at, IPPROTO_TCP, headerBytes + payload, b.ipId);
    b.ipId = (b.ipId + segments) & 0xffff;
    h.write(tcp);
    if (payload > 0) b.pattern.write(tcp + headerBytes, b.options.sendStart, this.from - 1, payload);
    this.finish(tcp, headerBytes + payload, wish);
    if (segments > 1) {
      wish[1] = path.family === 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
      wish[2] = path.headerBytes + headerBytes;
      wish[3] = b.mss;
    }
    this.acknowledged();
    b.segmentsSent += segments;
    if (payload > 0) {
      b.dataPackets++;
      b.dataSegments += segments;
    }
    if (!b.inFlight && synchronized) this.persist(clock);
    return path.headerBytes + headerBytes + payload;
  }

  /** The checksum: the whole one, or (CHECKSUM_PARTIAL) the pseudo-header's sum, for the device to complete. */
  private finish(tcp: number, length: number, wish: Int32Array): void {
    const { path, nic } = this.b;
    wish.fill(0);
    let sum = path!.pseudo(IPPROTO_TCP, length);
    if (nic.caps.csum) {
      wish[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
      wish[4] = path!.headerBytes;
      wish[5] = TCP_CHECK;
    } else {
      sum += this.arena.code.sum16(tcp, length);
      sum = (sum & 0xffff) + (sum >>> 16);
      sum = ~sum & 0xffff;
    }
    this.arena.u16[(tcp + TCP_CHECK) >> 1] = sum;
  }

  private sentFirst(end: number, now: number): void {
    const b = this.b;
    const { recovery } = b;
    if (!b.inFlight && now - b.sentAt > b.rto && b.sentAt > 0) b.congestion.restart();
    b.sentAt = now;
    if (b.timedAt === 0 && !recovery.active) {
      b.timedAt = end;
      b.timedSince = now;
    }
    recovery.sent(end - b.nxt);
    b.nxt = end;
    if (b.rtoAt === NEVER) b.armRto(now);
  }
  private sentAgain(position: number, bytes: number, now: number): void {
    const b = this.b;
    b.retransmit = false;
    b.timedAt = 0;
    b.retransmits++;
    b.sentAt = now;
    if (this.rescues) b.recovery.rescued();
    else b.recovery.sentAgain(position, position + bytes + (this.fin ? 1 : 0), b.nxt);
    b.armRto(now);
    const { recorder } = b.services;
    recorder.event(b.nic.pairs[b.pair]!.base | TCP_RETRANSMIT, 0, (b.iss + position) >>> 0, bytes);
  }

  /** Everything that was received is acknowledged by the frame that was just written. */
  private acknowledged(): void {
    const b = this.b;
    if (b.duplicatesOwed > 0) b.duplicatesOwed--;
    b.ackNow = b.duplicatesOwed > 0;
    b.delackAt = NEVER;
    b.rcvWup = b.rcvNxt;
    if (b.quickAcks > 0) b.quickAcks--;
  }

  /** Nothing is under way at clock[0], and the window lets nothing out: the persist timer (RFC 9293 §3.8.6.1). */
  persist(clock: Float64Array): void {
    const b = this.b;
    if (b.rtoAt !== NEVER || b.inFlight || !this.sending || b.limit <= b.nxt) return;
    this.plan();
    if (this.kind === NOTHING) b.armRto(clock[0]!);
  }

  /** tcp_select_window(): the right edge never moves back, and moves on by a segment at least (RFC 9293 §3.8.6.2.2). */
  private announcedWindow(): number {
    const b = this.b;
    const handshake = this.kind === HANDSHAKE;
    if (b.state === TCP_SYN_SENT) {
      const first = Math.min(65535, b.buffer);
      b.rcvAdv = 1 + first;
      return first;
    }
    const shift = handshake ? 0 : Math.max(0, b.receiveShift);
    const unit = 2 ** shift;
    const most = 65535 * unit;
    const free = Math.max(0, b.buffer - (b.rcvNxt - b.read));
    const current = Math.max(0, b.rcvAdv - b.rcvNxt);
    let window = current;
    if (free >= current + Math.min(b.buffer / 2, b.mss)) window = free;
    window = Math.min(most, Math.ceil(window / unit) * unit);
    if (b.rcvNxt + window > b.rcvAdv) b.rcvAdv = b.rcvNxt + window;
    return window / unit;
  }

  /** The application has read: the window is announced where that opens it by two segments or half of the buffer. */
  windowUpdate(): void {
    const b = this.b;
    const free = b.buffer - (b.rcvNxt - b.read);
    const current = Math.max(0, b.rcvAdv - b.rcvNxt);
    if (free >= 2 * current && free - current >= Math.min(b.buffer / 2, b.mss)) b.ackNow = true;
  }
}
