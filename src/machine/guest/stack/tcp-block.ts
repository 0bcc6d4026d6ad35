/**
 * The state of one TCP connection (RFC 9293 §3.3.1, linux struct tcp_sock): what input, output and timers share. Positions
 * in the two streams are plain numbers that never wrap: 0 is the SYN, 1 the first byte, the last one the FIN; sequence
 * numbers on the wire are these plus the initial one, modulo 2^32.
 *
 * DEVIATION: TCP without RACK, tail loss probe, D-SACK and ECN. Buffers have one size, they are not tuned.
 * DEVIATION: acknowledgements that become due within one receive poll are sent as one, behind it; duplicate ones are all sent.
 * DEVIATION: a connection in TIME_WAIT is forgotten when both of its ends have closed, where Linux keeps it for 60 s.
 */
import { TCP_CWND, TCP_STATE } from '../../../engine/events.ts';
import { NEVER } from '../../../engine/timeline.ts';
import type { Services } from '../../services.ts';
import type { GuestNic } from '../guest-nic.ts';
import type { BytePattern } from './byte-pattern.ts';
import type { IpPath } from './ip-path.ts';
import { RangeList } from './range-list.ts';
import { type Congestion, type CongestionControl, makeCongestion } from './tcp-congestion.ts';
import { Recovery } from './tcp-recovery.ts';
import { TCPOLEN_TSTAMP_ALIGNED, type TcpSegment } from './tcp-segment.ts';

// linux include/net/tcp_states.h
export const TCP_ESTABLISHED = 1;
export const TCP_SYN_SENT = 2;
export const TCP_SYN_RECV = 3;
export const TCP_FIN_WAIT1 = 4;
export const TCP_FIN_WAIT2 = 5;
export const TCP_TIME_WAIT = 6;
export const TCP_CLOSE = 7;
export const TCP_CLOSE_WAIT = 8;
export const TCP_LAST_ACK = 9;
export const TCP_LISTEN = 10;
export const TCP_CLOSING = 11;

// linux include/net/tcp.h, in ns
const TCP_RTO_MIN = 200_000_000;
const TCP_RTO_MAX = 120_000_000_000;
const TCP_TIMEOUT_INIT = 1_000_000_000;
/** RFC 6298 §5.7: where the handshake had to be repeated, and measured no round trip. */
const TCP_TIMEOUT_FALLBACK = 3_000_000_000;
export const TCP_DELACK_MIN = 40_000_000;
/** linux net.ipv4.tcp_syn_retries, tcp_synack_retries, tcp_retries2. */
export const TCP_SYN_RETRIES = 6;
export const TCP_SYNACK_RETRIES = 5;
export const TCP_RETRIES2 = 15;
/** linux net.ipv4.tcp_min_snd_mss: whatever the other side says, a segment has room for data behind its options. */
const TCP_MIN_SND_MSS = 48;
/** TCP_MAX_QUICKACKS. */
export const TCP_MAX_QUICKACKS = 16;
/** Bytes that a socket may have under way, and takes before they are read, where it is not told. */
export const TCP_BUFFER = 262_144;
/** Window scale for tcp_rmem up to 6 MiB (linux tcp_select_initial_window()). */
const WINDOW_SCALE = 7;
const MILLISECOND = 1_000_000;
/** SACK blocks that a segment has room for, without and with timestamps (RFC 2018 §3). */
export const MAX_SACKS = 4;

/** What the owner of a connection is told. */
export interface TcpOwner {
  /** The other side has sent all that it will send, and everything was received. */
  ended(): void;
  /** The connection is gone: `reason` null when both sides closed it (this one may be in TIME_WAIT). */
  closed(reason: string | null): void;
  /** A round trip was measured, ns. */
  roundTrip(ns: number): void;
}

export interface TcpOptions {
  readonly localPort: number;
  readonly remotePort: number;
  /** Largest IP packet of the link. */
  readonly mtu: number;
  /** Initial sequence number, and what the timestamp clock begins with. */
  readonly iss: number;
  readonly timestampOffset: number;
  /** Where the streams begin in the pattern. */
  readonly sendStart: number;
  readonly receiveStart: number;
  /** Default: that of Linux. */
  readonly congestion?: CongestionControl;
  /** Selective acknowledgements are offered (RFC 2018); both sides have to. Default true. */
  readonly sack?: boolean;
  /** Size of both socket buffers, bytes; default TCP_BUFFER. */
  readonly buffer?: number;
}

export class TcpBlock {
  readonly services: Services;
  readonly nic: GuestNic;
  /** Queue pair by which this side sends. */
  readonly pair: number;
  readonly owner: TcpOwner;
  readonly pattern: BytePattern;
  readonly localPort: number;
  readonly remotePort: number;
  /** null until the way to the other side is known. */
  path: IpPath | null = null;
  state = TCP_CLOSE;
  readonly options: TcpOptions;

  // ---- send ---------------------------------------------------------------------------------------------------------
  readonly iss: number;
  /** First position that is not acknowledged, and the one after the last that was sent. */
  una = 0;
  nxt = 0;
  /** Bytes that the other side lets us have beyond una, and the most it ever did. */
  window = 0;
  maxWindow = 0;
  /** Position and acknowledgement of the segment that said so last (RFC 9293 SND.WL1, SND.WL2). */
  wl1 = 0;
  windowShift = 0;
  /** Position after the last byte that the application has given so far; the FIN follows when `closing`. */
  limit = 1;
  closing = false;
  /** Payload bytes of a full segment. */
  mss = 536;
  readonly congestion: Congestion;
  readonly recovery: Recovery;
  /** Up to here the congestion window was what kept the sender from sending more (linux tp->is_cwnd_limited). */
  limitedAt = 0;
  /** When something was sent last. */
  sentAt = 0;
  /** To be sent at the next opportunity: the first segment that is missing. */
  retransmit = false;
  probe = false;
  ackNow = false;
  /** Duplicate acknowledgements that are owed: one for each segment that came out of order. */
  duplicatesOwed = 0;
  ipId = 1;

  // ---- timers (ns) --------------------------------------------------------------------------------------------------
  /** Retransmission, or zero-window probe. */
  rtoAt = NEVER;
  delackAt = NEVER;
  srtt = 0;
  rttvar = 0;
  rto = TCP_TIMEOUT_INIT;
  backoff = 0;
  /** Position whose acknowledgement is timed (Karn: only of what was sent once), and when it was sent; 0 = none. */
  timedAt = 0;
  timedSince = 0;
  /** Last time that a segment outside of the window was answered. */
  invalidAt = Number.NEGATIVE_INFINITY;

  // ---- receive ------------------------------------------------------------------------------------------------------
  irs = 0;
  rcvNxt = 0;
  /** rcvNxt of the last acknowledgement that was sent. */
  rcvWup = 0;
  /** Right edge of the window as announced: never moves back. */
  rcvAdv = 0;
  /** The application reads; otherwise bytes stay in the buffer, and the window closes. */
  reading = true;
  /** Bytes before this have been read. */
  read = 1;
  rcvMss = 536;
  quickAcks = -1;
  /** When payload or a FIN came last. */
  heardAt = 0;
  /** Position of the other side's FIN; 0 = not seen. */
  finAt = 0;
  /** What has arrived beyond rcvNxt. */
  readonly waiting = new RangeList();
  /** Positions in the stretches of it that grew last, the latest first: these are reported (RFC 2018 §4). */
  readonly reported = new Float64Array(MAX_SACKS);
  reports = 0;
  /** Bytes of each socket buffer. */
  readonly buffer: number;

  // ---- options ------------------------------------------------------------------------------------------------------
  timestamps = true;
  tsRecent = 0;
  /** -1: the other side does not scale. */
  receiveShift: number;
  sack: boolean;

  // ---- counts -------------------------------------------------------------------------------------------------------
  segmentsSent = 0;
  /** Packets with payload handed to the driver, and the segments that they make. */
  dataPackets = 0;
  dataSegments = 0;
  retransmits = 0;
  timeouts = 0;
  /** Bytes that did not match what the other side must have sent. */
  mismatches = 0;

  constructor(
    services: Services,
    nic: GuestNic,
    pair: number,
    pattern: BytePattern,
    options: TcpOptions,
    owner: TcpOwner,
  ) {
    this.services = services;
    this.nic = nic;
    this.pair = pair;
    this.pattern = pattern;
    this.options = options;
    this.localPort = options.localPort;
    this.remotePort = options.remotePort;
    this.iss = options.iss | 0;
    this.owner = owner;
    this.congestion = makeCongestion(options.congestion ?? 'cubic');
    this.recovery = new Recovery(this.congestion);
    this.sack = options.sack ?? true;
    this.buffer = options.buffer ?? TCP_BUFFER;
    // as much as the buffer needs, and what Linux announces at least
    this.receiveShift = Math.max(WINDOW_SCALE, Math.ceil(Math.log2(this.buffer / 65535)));
  }

  /** Bytes that were received in order. */
  get received(): number {
    return Math.max(0, (this.finAt > 0 && this.rcvNxt > this.finAt ? this.finAt : this.rcvNxt) - 1);
  }
  /** Whether the SYN of the other side has come: before, options are what this side would like. */
  get negotiated(): boolean {
    return this.rcvNxt > 0;
  }
  /** Bytes of ours that were acknowledged. */
  get acknowledged(): number {
    return Math.max(0, Math.min(this.una, this.limit) - 1);
  }
  /** Largest payload of a packet without options, as the SYN announces it. */
  get announcedMss(): number {
    return this.options.mtu - (this.path!.family === 4 ? 20 : 40) - 20;
  }
  /** Stretches that wait for what is missing before them. */
  get ranges(): number {
    return this.waiting.count;
  }
  get inFlight(): boolean {
    return this.nxt > this.una;
  }
  /** Position of our FIN. */
  get finPosition(): number {
    return this.limit;
  }
  get dead(): boolean {
    return this.state === TCP_CLOSE || this.state === TCP_TIME_WAIT;
  }

  setState(state: number): void {
    if (state === this.state) return;
    this.state = state;
    const { recorder } = this.services;
    recorder.event(this.nic.pairs[this.pair]!.base | TCP_STATE, 0, state, this.localPort);
  }

  /** The congestion window has changed for another reason than growth. */
  windowChanged(): void {
    const { cwnd, ssthresh } = this.congestion;
    const { recorder } = this.services;
    const most = 0xffffffff;
    recorder.event(
      this.nic.pairs[this.pair]!.base | TCP_CWND,
      0,
      Math.min(most, cwnd) >>> 0,
      Math.min(most, ssthresh) >>> 0,
    );
  }
  /** Opens towards the other side; the first segment is due now. */
  connect(path: IpPath): void {
    this.path = path;
    this.rcvAdv = 0;
    this.setState(TCP_SYN_SENT);
  }
  /** The application has nothing more to send: what it gave goes out (after the handshake), then a FIN. */
  close(): void {
    if (this.closing) return;
    this.closing = true;
    if (this.state === TCP_ESTABLISHED) this.setState(TCP_FIN_WAIT1);
    else if (this.state === TCP_CLOSE_WAIT) this.setState(TCP_LAST_ACK);
  }
  /** The handshake is complete. An application may have closed already: what it wrote goes out, then the FIN. */
  established(): void {
    this.setState(TCP_ESTABLISHED);
    // RFC 5681 §3.1: the handshake itself has seen a loss
    if (this.timeouts > 0) {
      this.congestion.cwnd = this.mss;
      if (this.srtt === 0) this.rto = TCP_TIMEOUT_FALLBACK;
    }
    if (this.closing) this.setState(TCP_FIN_WAIT1);
  }
  /** Gone: no timer runs, nothing is sent. */
  end(reason: string | null): void {
    if (this.state === TCP_CLOSE) return;
    this.stopTimers();
    this.setState(TCP_CLOSE);
    this.owner.closed(reason);
  }
  /** Our side has closed last or both at once: what is late is still answered. */
  timeWait(): void {
    this.stopTimers();
    this.setState(TCP_TIME_WAIT);
    this.owner.closed(null);
  }
  private stopTimers(): void {
    this.rtoAt = NEVER;
    this.delackAt = NEVER;
    this.retransmit = false;
    this.probe = false;
  }

  /** What the SYN of the other side says (tcp_finish_connect(), tcp_openreq_init()). Sets mss, scales, windows. */
  negotiate(syn: TcpSegment): void {
    const { mss, windowScale, timestamps, tsval, window } = syn;
    this.irs = syn.seq;
    this.rcvNxt = 1;
    this.rcvWup = 1;
    this.timestamps = this.timestamps && timestamps;
    if (this.timestamps) this.tsRecent = tsval;
    const agreed = Math.max(TCP_MIN_SND_MSS, Math.min(mss === 0 ? 536 : mss, this.announcedMss));
    this.mss = agreed - (this.timestamps ? TCPOLEN_TSTAMP_ALIGNED : 0);
    this.rcvMss = Math.min(this.mss, 536);
    this.sack = this.sack && syn.sackPermitted;
    this.recovery.sack = this.sack;
    this.congestion.start(this.mss);
    if (windowScale < 0) this.receiveShift = -1;
    this.windowShift = Math.max(0, windowScale);
    // the window of a SYN is never scaled (RFC 7323 §2.2)
    this.window = window;
    this.maxWindow = window;
    this.wl1 = 0;
    this.rcvAdv = Math.max(this.rcvAdv, 1 + Math.min(65535, this.buffer));
  }

  /** Milliseconds of the timestamp clock. */
  timestamp(now: number): number {
    return (Math.floor(now / MILLISECOND) + this.options.timestampOffset) | 0;
  }

  /** RFC 6298 §2, with Linux' floor. */
  sample(rtt: number): void {
    if (this.srtt === 0) {
      this.srtt = rtt;
      this.rttvar = rtt / 2;
    } else {
      this.rttvar += (Math.abs(this.srtt - rtt) - this.rttvar) / 4;
      this.srtt += (rtt - this.srtt) / 8;
    }
    // linux tcp_set_rto(): the variance counts as TCP_RTO_MIN at least, so that delayed ACKs do not time out
    this.rto = Math.min(TCP_RTO_MAX, Math.ceil(this.srtt + Math.max(TCP_RTO_MIN, 4 * this.rttvar)));
    this.owner.roundTrip(rtt);
  }
  armRto(now: number): void {
    this.rtoAt = now + Math.min(TCP_RTO_MAX, this.rto * 2 ** this.backoff);
  }

  /** When a timer has to be looked at, NEVER without. */
  get nextTimer(): number {
    return Math.min(this.rtoAt, this.delackAt);
  }
}
