/**
 * The TCP state machine of the connection tracker: states of both ends and the windows in which their sequence numbers have to lie
 * (ovs lib/conntrack-tcp.c, after OpenBSD's pf). Sequence numbers are 32 bits, compared modulo.
 */
import { be16, be32 } from '../../../packet/big-endian.ts';

/** CT_DPIF_TCPS_…. */
export const TCPS_CLOSED = 0;
export const TCPS_SYN_SENT = 2;
export const TCPS_ESTABLISHED = 4;
export const TCPS_CLOSING = 7;
export const TCPS_FIN_WAIT_2 = 9;
export const TCPS_TIME_WAIT = 10;

const FIN = 1;
const SYN = 2;
const RST = 4;
const PSH = 8;
const ACK = 16;
const URG = 32;

const WSCALE_FLAG = 0x80;
const WSCALE_UNKNOWN = 0x40;
const WSCALE_MASK = 15;
const MAX_WSCALE = 14;
const MAX_ACK_WINDOW = 0xffff + 1500;

export interface TcpPeer {
  /** Highest sequence number sent, and the most that the other end allows. */
  seqlo: number;
  seqhi: number;
  maxWindow: number;
  wscale: number;
  state: number;
}
/** What a segment's header says. */
export class TcpSegment {
  flags = 0;
  seq = 0;
  ack = 0;
  window = 0;
  /** Bytes of data. */
  payload = 0;
  /** Of its window scale option, with a flag that it is there; 0: it is not. */
  wscale = 0;

  /** Reads the segment at arena offset `at`; `end` is the end of its packet. Its header has been found to be there. */
  read(u8: Uint8Array, at: number, end: number): this {
    const header = Math.min(Math.max(20, (u8[at + 12]! >>> 4) << 2), end - at);
    this.flags = ((u8[at + 12]! & 15) << 8) | u8[at + 13]!;
    this.seq = be32(u8, at + 4);
    this.ack = be32(u8, at + 8);
    this.window = be16(u8, at + 14);
    this.payload = end - at - header;
    this.wscale = windowScale(u8, at + 20, at + header);
    return this;
  }
}
/** Which time-out the connection has from now on. */
export type TcpTimeout = 'first' | 'opening' | 'established' | 'closing' | 'fin_wait' | 'closed';
export type TcpUpdate = {
  readonly result: 'valid' | 'invalid' | 'new' | 'valid_new';
  readonly timeout: TcpTimeout | null;
};

const INVALID: TcpUpdate = { result: 'invalid', timeout: null };
const NEW: TcpUpdate = { result: 'new', timeout: null };
const FIRST: TcpUpdate = { result: 'valid_new', timeout: 'first' };
/** Valid, and the time-out stays. */
const STRAGGLER: TcpUpdate = { result: 'valid', timeout: null };
const OPENING: TcpUpdate = { result: 'valid', timeout: 'opening' };
const ESTABLISHED: TcpUpdate = { result: 'valid', timeout: 'established' };
const CLOSING: TcpUpdate = { result: 'valid', timeout: 'closing' };
const FIN_WAIT: TcpUpdate = { result: 'valid', timeout: 'fin_wait' };
const CLOSED: TcpUpdate = { result: 'valid', timeout: 'closed' };

const after = (a: number, b: number): boolean => ((a - b) | 0) > 0;
const notBefore = (a: number, b: number): boolean => ((a - b) | 0) >= 0;

/** Combinations that no sane stack sends. */
function invalidFlags(flags: number): boolean {
  if ((flags & SYN) !== 0) {
    if ((flags & (RST | FIN)) !== 0) return true;
  } else if ((flags & (ACK | RST)) === 0) return true;
  return (flags & ACK) === 0 && (flags & (FIN | PSH | URG)) !== 0;
}
/** A SYN, or the middle of a connection, may begin to be tracked; half of a handshake may not. */
export function tcpValidNew({ flags }: TcpSegment): boolean {
  return !invalidFlags(flags) && (flags & (SYN | ACK)) !== (SYN | ACK);
}

function windowScale(u8: Uint8Array, from: number, to: number): number {
  let wscale = 0;
  for (let at = from; to - at >= 3; ) {
    const option = u8[at]!;
    if (option === 0) break;
    if (option === 1) {
      at++;
      continue;
    }
    if (option === 3) wscale = Math.min(u8[at + 2]!, MAX_WSCALE) | WSCALE_FLAG;
    at += Math.max(2, u8[at + 1]!);
  }
  return wscale;
}

/** Both ends after the first segment that was committed. */
export function newTcp(s: TcpSegment): [TcpPeer, TcpPeer] {
  const syn = (s.flags & SYN) !== 0;
  const wscale = syn ? s.wscale : WSCALE_UNKNOWN;
  const seqhi = (s.seq + s.payload + 1 + (syn ? 1 : 0) + ((s.flags & FIN) !== 0 ? 1 : 0)) | 0;
  const maxWindow = Math.ceil(Math.max(s.window, 1) / 2 ** (wscale & WSCALE_MASK));
  return [
    { seqlo: s.seq, seqhi, maxWindow, wscale, state: TCPS_SYN_SENT },
    { seqlo: 0, seqhi: 1, maxWindow: 1, wscale: syn ? 0 : WSCALE_UNKNOWN, state: TCPS_CLOSED },
  ];
}

/** tcp_conn_update(): a segment from `src` to `dst`. */
export function updateTcp(src: TcpPeer, dst: TcpPeer, s: TcpSegment): TcpUpdate {
  const { flags } = s;
  if (invalidFlags(flags)) return INVALID;
  if ((flags & (SYN | ACK)) === SYN) {
    if (dst.state >= TCPS_FIN_WAIT_2 && src.state >= TCPS_FIN_WAIT_2) {
      src.state = TCPS_CLOSED;
      dst.state = TCPS_CLOSED;
      return NEW;
    }
    if (src.state <= TCPS_SYN_SENT) {
      src.state = TCPS_SYN_SENT;
      return FIRST;
    }
  }
  return track(src, dst, s);
}

function track(src: TcpPeer, dst: TcpPeer, s: TcpSegment): TcpUpdate {
  const { flags } = s;
  const plain = (flags & SYN) === 0;
  const both = src.wscale & dst.wscale;
  let sws = 0;
  let dws = 0;
  if (plain && (both & WSCALE_FLAG) !== 0) {
    sws = src.wscale & WSCALE_MASK;
    dws = dst.wscale & WSCALE_MASK;
  } else if (plain && (both & WSCALE_UNKNOWN) !== 0) {
    sws = MAX_WSCALE;
    dws = MAX_WSCALE;
  }
  let { seq, ack } = s;
  let win = s.window;
  let end = (seq + s.payload + (plain ? 0 : 1) + ((flags & FIN) !== 0 ? 1 : 0)) | 0;
  let checksAck = true;
  if (src.state < TCPS_SYN_SENT) {
    // the first segment of this end
    if (!plain && (dst.wscale & WSCALE_FLAG) !== 0) {
      src.wscale = s.wscale;
      if ((src.wscale & WSCALE_FLAG) !== 0) {
        sws = src.wscale & WSCALE_MASK;
        dws = dst.wscale & WSCALE_MASK;
        win = Math.ceil(win / 2 ** sws);
      } else {
        dst.maxWindow *= 2 ** (dst.wscale & WSCALE_MASK);
        dst.wscale = 0;
      }
    }
    src.seqlo = seq;
    src.state = TCPS_SYN_SENT;
    const allowed = (end + Math.max(1, dst.maxWindow * 2 ** dws)) | 0;
    if (src.seqhi === 1 || notBefore(allowed, src.seqhi)) {
      src.seqhi = allowed;
      checksAck = false;
    }
    src.maxWindow = Math.max(win, src.maxWindow);
  }
  // an RST without an acknowledgement number, or no acknowledgement at all
  if ((flags & ACK) === 0 || (ack === 0 && (flags & (ACK | RST)) === (ACK | RST))) ack = dst.seqlo;
  if (seq === end) {
    seq = src.seqlo;
    end = seq;
  }
  const skew = checksAck ? (dst.seqlo - ack) | 0 : 0;
  const exact = s.seq === src.seqlo || s.seq === ((src.seqlo + 1) | 0) || ((s.seq + 1) | 0) === src.seqlo;
  const inWindow =
    notBefore(src.seqhi, end) &&
    notBefore(seq, (src.seqlo - dst.maxWindow * 2 ** dws) | 0) &&
    skew >= -MAX_ACK_WINDOW &&
    skew <= MAX_ACK_WINDOW * 2 ** sws &&
    ((flags & RST) === 0 || exact);
  if (inWindow) {
    slide(src, dst, end, ack, win, sws);
    return advance(src, dst, flags);
  }
  const awkward =
    (dst.state < TCPS_SYN_SENT || dst.state >= TCPS_FIN_WAIT_2 || src.state >= TCPS_FIN_WAIT_2) &&
    notBefore((src.seqhi + MAX_ACK_WINDOW) | 0, end) &&
    notBefore(seq, (src.seqlo - MAX_ACK_WINDOW) | 0);
  if (!awkward) return INVALID;
  // picked up in the middle, or stragglers after the end: no new time-out
  slide(src, dst, end, ack, win, sws);
  if ((flags & FIN) !== 0 && src.state < TCPS_CLOSING) src.state = TCPS_CLOSING;
  if ((flags & RST) !== 0) {
    src.state = TCPS_TIME_WAIT;
    dst.state = TCPS_TIME_WAIT;
  }
  return STRAGGLER;
}
function slide(src: TcpPeer, dst: TcpPeer, end: number, ack: number, win: number, sws: number): void {
  src.maxWindow = Math.max(src.maxWindow, win);
  if (after(end, src.seqlo)) src.seqlo = end;
  const open = win * 2 ** sws;
  if (notBefore((ack + open) | 0, dst.seqhi)) dst.seqhi = (ack + Math.max(open, 1)) | 0;
}
function advance(src: TcpPeer, dst: TcpPeer, flags: number): TcpUpdate {
  if ((flags & SYN) !== 0 && src.state < TCPS_SYN_SENT) src.state = TCPS_SYN_SENT;
  if ((flags & FIN) !== 0 && src.state < TCPS_CLOSING) src.state = TCPS_CLOSING;
  if ((flags & ACK) !== 0) {
    if (dst.state === TCPS_SYN_SENT) dst.state = TCPS_ESTABLISHED;
    else if (dst.state === TCPS_CLOSING) dst.state = TCPS_FIN_WAIT_2;
  }
  if ((flags & RST) !== 0) {
    src.state = TCPS_TIME_WAIT;
    dst.state = TCPS_TIME_WAIT;
  }
  const least = Math.min(src.state, dst.state);
  const most = Math.max(src.state, dst.state);
  if (least >= TCPS_FIN_WAIT_2) return CLOSED;
  if (least >= TCPS_CLOSING) return FIN_WAIT;
  if (least < TCPS_ESTABLISHED) return OPENING;
  return most >= TCPS_CLOSING ? CLOSING : ESTABLISHED;
}
