/**
 * What a sender does between a loss and its repair: fast retransmit and fast recovery of NewReno (RFC 6582), that of selective
 * acknowledgements (RFC 6675) with Proportional Rate Reduction (RFC 6937), and going back after a timeout (RFC 5681 §3.1, linux
 * tcp_enter_loss()). It says how much may be under way and what is to be sent again; tcp-output.ts sends it.
 *
 * DEVIATION: what was sent again and lost again is found where segments that were sent after it have arrived, as in Linux before
 * RACK; where nothing more can be sent, the retransmission timer finds it.
 */

import { RangeList } from './range-list.ts';
import type { Congestion } from './tcp-congestion.ts';

/** RFC 5681 §3.2, RFC 6675 §2. */
const DUP_THRESH = 3;

export class Recovery {
  readonly congestion: Congestion;
  /** Both sides take selective acknowledgements. */
  sack = false;
  /** What the other side has of what lies beyond una. */
  readonly sacked = new RangeList();
  /** It goes on until this is acknowledged; 0 = everything is well. */
  point = 0;
  /** It was a timeout that began it. */
  timedOut = false;
  duplicates = 0;
  /** RecoveryPoint of the last one: older duplicates begin no new one (RFC 6582 §3.2). */
  private last = 0;
  /** What lies before this and is not there is lost (IsLost()); and what was sent again lies before this (HighRxt). */
  private lostTo = 0;
  highRxt = 0;
  private rescueRxt = 0;
  /** Position after the last byte that had been sent when something was sent again last. */
  private rxtMark = 0;
  // ---- RFC 6937: what was under way when it began, what has arrived and what was sent since; una and sacked bytes by then
  private recoverFs = 0;
  private prrDelivered = 0;
  private prrOut = 0;
  private arrived = 0;
  /** Times that one began without a timeout. */
  count = 0;

  constructor(congestion: Congestion) {
    this.congestion = congestion;
  }

  get active(): boolean {
    return this.point > 0;
  }

  /** Bytes of una..nxt that are in the network, as far as one knows (RFC 6675 §4, SetPipe(); without SACK FlightSize). */
  pipe(una: number, nxt: number): number {
    if (!this.sack && !this.timedOut) return nxt - una;
    if (this.sacked.count === 0 && this.point === 0) return nxt - una;
    const { sacked } = this;
    return sacked.missing(Math.max(una, this.lostTo), nxt) + sacked.missing(una, this.highRxt);
  }
  /** Bytes beyond the window that may be sent for the first two duplicates (RFC 3042); with SACK the pipe says so. */
  get limitedTransmit(): number {
    return this.sack || this.active ? 0 : Math.min(2, this.duplicates) * this.congestion.mss;
  }

  /** The other side has said that it has from..to. True where that is news. */
  learn(from: number, to: number): boolean {
    return this.sacked.add(from, to);
  }
  /** After learn(): IsLost() of RFC 6675 for all positions at once. */
  judge(una: number, nxt: number): void {
    const { sacked, congestion } = this;
    const behind = sacked.highest - this.rxtMark;
    if (this.active && this.highRxt > una && behind > 0) {
      // three segments that were sent after all of it have arrived: it is lost again (linux tcp_mark_lost_retrans())
      if (behind - sacked.missing(this.rxtMark, sacked.highest) >= DUP_THRESH * congestion.mss) {
        this.highRxt = una;
        this.rxtMark = nxt;
      }
    }
    let bytes = 0;
    for (let i = sacked.count - 1; i >= 0; i--) {
      bytes += sacked.rangeTo[i]! - sacked.rangeFrom[i]!;
      if (sacked.count - i < DUP_THRESH && bytes <= (DUP_THRESH - 1) * congestion.mss) continue;
      if (sacked.rangeFrom[i]! > this.lostTo) this.lostTo = sacked.rangeFrom[i]!;
      return;
    }
  }

  /**
   * An acknowledgement without progress says that a segment has arrived out of order. True where the first one that is missing
   * is to be sent again now.
   */
  duplicate(una: number, nxt: number): boolean {
    this.duplicates++;
    if (this.active) {
      // RFC 6582 §3.2 step 3: each says that a segment has left the network
      if (!this.sack && !this.timedOut) this.congestion.cwnd += this.congestion.mss;
      return false;
    }
    if (this.duplicates < DUP_THRESH && !(this.sack && this.lostTo > una)) return false;
    if (this.sack ? una < this.last : una <= this.last) return false;
    this.enter(una, nxt);
    return true;
  }
  /** The same after learn(), where an acknowledgement has brought progress too. */
  found(una: number, nxt: number): boolean {
    if (this.active || this.lostTo <= una || una < this.last) return false;
    this.enter(una, nxt);
    return true;
  }
  private enter(una: number, nxt: number): void {
    const { congestion } = this;
    this.begin(una, nxt);
    this.timedOut = false;
    this.count++;
    // what limited transmit has sent does not count (RFC 5681 §3.2)
    congestion.lost(Math.min(nxt - una, congestion.cwnd));
    this.lostTo = Math.max(this.lostTo, una + congestion.mss);
    if (!this.sack) congestion.cwnd = congestion.ssthresh + DUP_THRESH * congestion.mss;
    else {
      this.recoverFs = nxt - una;
      this.prrDelivered = 0;
      this.prrOut = 0;
      this.arrived = una + this.sacked.total;
      congestion.cwnd = this.pipe(una, nxt) + congestion.mss;
    }
  }
  /** The retransmission timer ran out: everything that is not known to be there counts as lost. */
  timeout(una: number, nxt: number, first: boolean): void {
    this.congestion.timedOut(Math.min(nxt - una, this.congestion.cwnd), first);
    // tcp_timeout_mark_lost(): a receiver that has the first one would acknowledge it; it has thrown away what it said to have
    if (this.sacked.indexOf(una) >= 0) this.sacked.clear();
    this.begin(una, nxt);
    this.timedOut = true;
    this.duplicates = 0;
    this.lostTo = nxt;
  }
  private begin(una: number, nxt: number): void {
    this.point = nxt;
    this.last = nxt;
    this.highRxt = una;
    this.rescueRxt = 0;
    this.rxtMark = nxt;
  }
  /** After an acknowledgement: how much may be under way meanwhile (RFC 6937 §3, with the slow start bound). */
  reduce(una: number, nxt: number): void {
    if (!this.active || !this.sack || this.timedOut) return;
    const { congestion } = this;
    const arrived = una + this.sacked.total;
    const delivered = arrived - this.arrived;
    if (delivered <= 0) return;
    this.arrived = arrived;
    this.prrDelivered += delivered;
    const pipe = this.pipe(una, nxt);
    const { ssthresh, mss } = congestion;
    const count =
      pipe > ssthresh
        ? Math.ceil((this.prrDelivered * ssthresh) / this.recoverFs) - this.prrOut
        : Math.min(ssthresh - pipe, Math.max(this.prrDelivered - this.prrOut, delivered) + mss);
    congestion.cwnd = Math.max(mss, pipe + Math.max(0, count));
  }

  /**
   * Everything before `una` has arrived, `bytes` more than before; `limited`: the window was what held the sender back. True
   * where the first segment that is missing is to be sent again now.
   */
  advance(una: number, nxt: number, bytes: number, limited: boolean, now: number, srtt: number): boolean {
    const { congestion } = this;
    this.duplicates = 0;
    this.sacked.take(una);
    if (this.highRxt < una) this.highRxt = una;
    if (!this.active) {
      if (limited) congestion.acked(bytes, now, srtt);
      return false;
    }
    if (una >= this.point) {
      this.point = 0;
      this.lostTo = 0;
      // RFC 6582 §3.2 step 3, a full acknowledgement: no burst
      if (this.timedOut) congestion.acked(bytes, now, srtt);
      else if (this.sack) congestion.cwnd = congestion.ssthresh;
      else congestion.cwnd = Math.min(congestion.ssthresh, Math.max(nxt - una, congestion.mss) + congestion.mss);
      this.timedOut = false;
      return false;
    }
    if (this.timedOut) congestion.acked(bytes, now, srtt);
    else if (!this.sack) {
      // a partial acknowledgement: the window deflates by what has left, and the next hole is filled
      congestion.cwnd = Math.max(
        congestion.mss,
        congestion.cwnd - bytes + (bytes >= congestion.mss ? congestion.mss : 0),
      );
      return true;
    }
    return false;
  }

  /** First position that is lost and was not sent again; -1 without (RFC 6675 §4 NextSeg() rule 1). */
  lost(una: number): number {
    if (!this.sack && !this.timedOut) return -1;
    const at = this.sacked.hole(Math.max(una, this.highRxt));
    return at < this.lostTo ? at : -1;
  }
  /** The same where it is not sure to be lost, but something behind it has arrived (rule 3). */
  doubtful(una: number): number {
    const at = this.sacked.hole(Math.max(una, this.highRxt));
    return at < this.sacked.highest ? at : -1;
  }
  /** The last segment that is missing, once in a recovery (rule 4); -1 without. */
  rescue(una: number, nxt: number): number {
    if (!this.sack || this.rescueRxt >= una) return -1;
    const at = Math.max(una, this.sacked.highest, nxt - this.congestion.mss);
    return at < nxt ? at : -1;
  }
  rescued(): void {
    this.rescueRxt = this.point;
  }
  /** The stretch from `from` to `end` was sent again. */
  sentAgain(from: number, end: number, nxt: number): void {
    if (end > this.highRxt) this.highRxt = end;
    this.rxtMark = nxt;
    this.prrOut += end - from;
  }
  /** So much was sent for the first time. */
  sent(bytes: number): void {
    this.prrOut += bytes;
  }
}
