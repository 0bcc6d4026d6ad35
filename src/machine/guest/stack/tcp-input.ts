/**
 * What a segment does to its connection: RFC 9293 §3.10.7, with the choices of linux net/ipv4/tcp_input.c. It only changes
 * the connection; what it makes necessary is sent by tcp-output.ts in a slice of its own.
 */
import { GUEST_CONSUME, GUEST_DELIVER, GUEST_DROP_TCP } from '../../../engine/events.ts';
import { NEVER } from '../../../engine/timeline.ts';
import {
  MAX_SACKS,
  TCP_CLOSE_WAIT,
  TCP_CLOSING,
  TCP_DELACK_MIN,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT1,
  TCP_FIN_WAIT2,
  TCP_LAST_ACK,
  TCP_MAX_QUICKACKS,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
  type TcpBlock,
} from './tcp-block.ts';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, type TcpSegment } from './tcp-segment.ts';

/** linux net.ipv4.tcp_invalid_ratelimit: segments outside of the window are answered this seldom, ns. */
const TCP_INVALID_RATELIMIT = 500_000_000;

/**
 * A segment for this connection has arrived at clock[0]. Returns the event kind that says what became of its frame:
 * GUEST_DELIVER where it brought new data (also data that waits for what is missing before it: it is never looked at again),
 * GUEST_CONSUME for control, GUEST_DROP_TCP for what is old or outside of the window.
 */
export function tcpReceive(b: TcpBlock, s: TcpSegment, clock: Float64Array): number {
  if (b.state === TCP_SYN_SENT) return synSent(b, s, clock);
  const offset = b.rcvNxt + ((s.seq - (b.irs + b.rcvNxt)) | 0);
  const syn = (s.flags & TCP_SYN) !== 0;
  const fin = (s.flags & TCP_FIN) !== 0;
  const length = s.payload + (syn ? 1 : 0) + (fin ? 1 : 0);
  const end = offset + length;
  const reset = (s.flags & TCP_RST) !== 0;
  const now = clock[0]!;
  const old = b.timestamps && s.timestamps && ((s.tsval - b.tsRecent) | 0) < 0; // PAWS, RFC 7323 §5
  const outside = end < b.rcvNxt || (length > 0 && end <= b.rcvNxt) || offset > b.rcvAdv;
  if ((outside || old) && !reset) {
    if (length > 0 || now - b.invalidAt >= TCP_INVALID_RATELIMIT) {
      b.ackNow = true;
      if (length === 0) b.invalidAt = now;
    }
    // an acknowledgement in an old segment may still be news
    if (!old && (s.flags & TCP_ACK) !== 0 && offset <= b.rcvAdv) acknowledge(b, s, offset, length, clock);
    return length > 0 ? GUEST_DROP_TCP : GUEST_CONSUME;
  }
  if (reset) {
    if (offset === b.rcvNxt) b.end('the other side reset the connection');
    else b.ackNow = true; // RFC 5961 §3: a challenge
    return GUEST_CONSUME;
  }
  if (syn) {
    b.ackNow = true; // RFC 5961 §4
    return GUEST_DROP_TCP;
  }
  if ((s.flags & TCP_ACK) === 0) return GUEST_DROP_TCP;
  if (b.timestamps && s.timestamps && offset <= b.rcvWup) b.tsRecent = s.tsval;
  const acknowledged = b.una + ((s.ack - (b.iss + b.una)) | 0);
  if (acknowledged > b.nxt) {
    b.ackNow = true;
    return GUEST_DROP_TCP;
  }
  if (b.state === TCP_SYN_RECV && acknowledged > 0) b.established();
  acknowledge(b, s, offset, length, clock);
  if (b.dead || s.payload + (fin ? 1 : 0) === 0) return GUEST_CONSUME;
  return data(b, s, offset, fin, clock);
}

function synSent(b: TcpBlock, s: TcpSegment, clock: Float64Array): number {
  const ack = (s.flags & TCP_ACK) !== 0;
  if (ack && (s.ack | 0) !== ((b.iss + 1) | 0)) return GUEST_DROP_TCP;
  if ((s.flags & TCP_RST) !== 0) {
    if (!ack) return GUEST_DROP_TCP;
    b.end('connection refused');
    return GUEST_CONSUME;
  }
  if ((s.flags & TCP_SYN) === 0) return GUEST_DROP_TCP;
  b.negotiate(s);
  if (!ack) {
    // both opened at once
    b.setState(TCP_SYN_RECV);
    b.nxt = 0;
    b.timedAt = 0;
    b.ackNow = true;
    return GUEST_CONSUME;
  }
  b.established();
  advance(b, 1, clock);
  b.ackNow = true;
  return GUEST_CONSUME;
}

/** tcp_ack(): what was received, and how much more may be sent. */
function acknowledge(b: TcpBlock, s: TcpSegment, offset: number, length: number, clock: Float64Array): void {
  const acknowledged = b.una + ((s.ack - (b.iss + b.una)) | 0);
  if (acknowledged < b.una || acknowledged > b.nxt) return;
  const window = s.window * 2 ** b.windowShift;
  const sameWindow = window === b.window;
  if (acknowledged > b.una || offset >= b.wl1) {
    if (window > 0 && b.window === 0) {
      // it was closed: go on at once
      b.backoff = 0;
      b.rtoAt = NEVER;
      if (b.inFlight) b.armRto(clock[0]!);
    }
    b.window = window;
    if (window > b.maxWindow) b.maxWindow = window;
    b.wl1 = offset;
  }
  const { recovery } = b;
  const news = recovery.sack && s.sacks > 0 && learn(b, s, acknowledged);
  if (acknowledged > b.una) {
    advance(b, acknowledged, clock);
    if (news && recovery.found(b.una, b.nxt)) missing(b);
  } else if (length === 0 && b.inFlight && (recovery.sack ? news : sameWindow)) {
    // RFC 5681 §3.2; with SACK what counts is that something new has arrived (RFC 6675 §2)
    if (recovery.duplicate(b.una, b.nxt)) missing(b);
  }
  recovery.reduce(b.una, b.nxt);
}
/** tcp_sacktag_write_queue(). True where the blocks tell of something new; what lies outside of what was sent is no news. */
function learn(b: TcpBlock, s: TcpSegment, acknowledged: number): boolean {
  let news = false;
  for (let i = 0; i < s.sacks; i++) {
    const from = b.una + ((s.sackLeft[i]! - (b.iss + b.una)) | 0);
    const to = b.una + ((s.sackRight[i]! - (b.iss + b.una)) | 0);
    if (from < acknowledged || to > b.nxt || to <= from) continue;
    if (b.recovery.learn(from, to)) news = true;
  }
  if (news) b.recovery.judge(b.una, b.nxt);
  return news;
}
/** The first segment that was not acknowledged is to be sent again. */
function missing(b: TcpBlock): void {
  b.retransmit = true;
  b.timedAt = 0;
  b.windowChanged();
}

/** Everything before `to` has been received. */
function advance(b: TcpBlock, to: number, clock: Float64Array): void {
  const { recovery } = b;
  const now = clock[0]!;
  const bytes = to - b.una;
  // the window was used up, or slow start would not have filled it twice (linux tcp_is_cwnd_limited())
  const { congestion } = b;
  const limited = b.una <= b.limitedAt || (congestion.slowStart && congestion.cwnd < 2 * (b.nxt - b.una));
  b.una = to;
  b.backoff = 0;
  if (b.timedAt > 0 && to >= b.timedAt) {
    b.timedAt = 0;
    b.sample(now - b.timedSince);
  }
  const recovering = recovery.active;
  b.retransmit = recovery.advance(to, b.nxt, bytes, limited, now, b.srtt);
  if (recovering && !recovery.active) b.windowChanged();
  if (b.inFlight) b.armRto(now);
  else b.rtoAt = NEVER;
  if (!b.closing || to <= b.finPosition) return;
  if (b.state === TCP_FIN_WAIT1) b.setState(TCP_FIN_WAIT2);
  else if (b.state === TCP_CLOSING) b.timeWait();
  else if (b.state === TCP_LAST_ACK) b.end(null);
}

/**
 * Compares what a segment carries with what the other side must have sent there; bytes that are old or beyond the window
 * are not looked at. Called when the segment arrives, while its bytes are there.
 */
export function tcpVerify(b: TcpBlock, s: TcpSegment): void {
  const offset = b.rcvNxt + ((s.seq - (b.irs + b.rcvNxt)) | 0);
  const from = Math.max(offset, b.rcvNxt, 1);
  const end = Math.min(offset + s.payload, b.rcvAdv);
  if (end <= from) return;
  const at = s.payloadAt + (from - offset);
  if (!b.pattern.matches(at, b.options.receiveStart, from - 1, end - from)) b.mismatches++;
}

/** tcp_data_queue(): payload or FIN, in the window at least in part. */
function data(b: TcpBlock, s: TcpSegment, offset: number, fin: boolean, clock: Float64Array): number {
  const now = clock[0]!;
  if (b.state !== TCP_ESTABLISHED && b.state !== TCP_FIN_WAIT1 && b.state !== TCP_FIN_WAIT2) {
    b.ackNow = true; // the other side has sent its FIN
    return GUEST_DROP_TCP;
  }
  // tcp_event_data_recv(): after a long gap the other side may have to start again, and waits for acknowledgements
  if (b.heardAt > 0 && now - b.heardAt > b.rto) b.quickAcks = -1;
  b.heardAt = now;
  const full = s.gsoSize > 0 ? s.gsoSize : s.payload;
  if (full > b.rcvMss) b.rcvMss = Math.min(full, b.announcedMss);
  const end = Math.min(offset + s.payload, b.rcvAdv);
  const from = Math.max(offset, b.rcvNxt);
  const whole = end === offset + s.payload;
  if (b.finAt > 0 && end > b.finAt) return GUEST_DROP_TCP;
  if (fin && whole) b.finAt = end;
  let news = true;
  if (from === b.rcvNxt) {
    b.rcvNxt = end;
    b.duplicatesOwed = 0;
    absorb(b);
  } else {
    news = remember(b, from, end);
    // each says what is missing: the third makes the other side send it again
    b.ackNow = true;
    b.duplicatesOwed++;
  }
  if (b.finAt > 0 && b.rcvNxt === b.finAt) finReceived(b);
  else if (from === offset || news) scheduleAck(b, clock);
  if (b.reading) b.read = Math.min(b.rcvNxt, b.finAt > 0 ? b.finAt : b.rcvNxt);
  if (s.payload === 0) return GUEST_CONSUME;
  return news ? GUEST_DELIVER : GUEST_DROP_TCP;
}

/** __tcp_ack_snd_check(): more than one full segment, quick ACK mode, or something is missing: now. Otherwise delayed. */
function scheduleAck(b: TcpBlock, clock: Float64Array): void {
  if (b.quickAcks < 0) {
    b.quickAcks = Math.min(TCP_MAX_QUICKACKS, Math.max(2, Math.floor(b.buffer / (2 * b.rcvMss))));
  }
  if (b.ackNow || b.rcvNxt - b.rcvWup > b.rcvMss || b.quickAcks > 0 || b.ranges > 0) b.ackNow = true;
  else b.delackAt = Math.min(b.delackAt, clock[0]! + TCP_DELACK_MIN);
}

function finReceived(b: TcpBlock): void {
  b.rcvNxt = b.finAt + 1;
  b.ackNow = true;
  if (b.state === TCP_ESTABLISHED) b.setState(TCP_CLOSE_WAIT);
  else if (b.state === TCP_FIN_WAIT1) b.setState(TCP_CLOSING);
  else if (b.state === TCP_FIN_WAIT2) b.timeWait();
  b.owner.ended();
}

/** Takes what waited in the out-of-order queue and now follows. */
function absorb(b: TcpBlock): void {
  if (b.waiting.count === 0) return;
  const before = b.waiting.count;
  const to = b.waiting.take(b.rcvNxt);
  if (b.waiting.count < before) b.ackNow = true;
  b.rcvNxt = to;
  let left = 0;
  for (let i = 0; i < b.reports; i++) if (b.reported[i]! >= to) b.reported[left++] = b.reported[i]!;
  b.reports = left;
}

/** Keeps a stretch for later. False when all of it is there already, or there is no room. */
function remember(b: TcpBlock, from: number, to: number): boolean {
  if (to === from) return true; // a FIN alone: its position is known
  const news = b.waiting.add(from, to);
  if (b.sack) report(b, from);
  return news;
}
/** RFC 2018 §4: the stretch that grew last is reported first, the others as they were. */
function report(b: TcpBlock, position: number): void {
  const { waiting, reported } = b;
  const stretch = waiting.indexOf(position);
  if (stretch < 0) return;
  let before = position;
  let n = 0;
  for (let i = 0; i < b.reports && n < MAX_SACKS - 1; i++) {
    const at = reported[i]!;
    if (waiting.indexOf(at) === stretch) continue;
    reported[n++] = before;
    before = at;
  }
  reported[n++] = before;
  b.reports = n;
}
