/**
 * How much a sender may have under way, so that the network is not overloaded: slow start and NewReno's congestion avoidance
 * (RFC 5681, counted in bytes as RFC 3465 does), and CUBIC (RFC 9438). Windows are bytes, times ns. What happens between a loss
 * and its repair is tcp-recovery.ts.
 *
 * DEVIATION: slow start ends at a loss or at ssthresh: no HyStart, which Linux has for CUBIC; packets are not
 * paced, and a socket may fill its transmit ring (no TCP Small Queues).
 */

export type CongestionControl = 'newreno' | 'cubic';

/** RFC 6928 §2, linux TCP_INIT_CWND. */
const INITIAL_SEGMENTS = 10;
/** RFC 9438 §4.1 and §4.6. */
const CUBIC_C = 0.4;
const CUBIC_BETA = 0.7;
/** §4.3: as much as Reno gains per round trip with a decrease by BETA. */
const CUBIC_ALPHA = (3 * (1 - CUBIC_BETA)) / (1 + CUBIC_BETA);
const SECOND = 1e9;

export abstract class Congestion {
  abstract readonly name: CongestionControl;
  cwnd = Number.POSITIVE_INFINITY;
  ssthresh = Number.POSITIVE_INFINITY;
  mss = 536;

  /** The handshake has told the size of segments. */
  start(mss: number): void {
    this.mss = mss;
    this.cwnd = INITIAL_SEGMENTS * mss;
  }
  get slowStart(): boolean {
    return this.cwnd < this.ssthresh;
  }
  /**
   * `bytes` of new data were acknowledged at `now` by a receiver `srtt` away, while the window was what limited the sender.
   * Slow start grows by all of them (linux tcp_slow_start()): one acknowledgement of a merged packet stands for many.
   */
  acked(bytes: number, now: number, srtt: number): void {
    let left = bytes;
    if (this.slowStart) {
      const grown = Math.min(left, this.ssthresh - this.cwnd);
      this.cwnd += grown;
      left -= grown;
    }
    if (left > 0) this.avoid(left, now, srtt);
  }
  /** Congestion avoidance. */
  protected abstract avoid(bytes: number, now: number, srtt: number): void;
  /** A loss was found with `flight` bytes under way: sets ssthresh. The window is the business of the recovery. */
  abstract lost(flight: number): void;
  /** The retransmission timer ran out; `first`: for the first time since something was acknowledged (RFC 5681 §3.1). */
  timedOut(flight: number, first: boolean): void {
    if (first) this.lost(flight);
    this.cwnd = this.mss;
  }
  /** Nothing was sent for longer than a retransmission timeout (RFC 5681 §4.1). */
  restart(): void {
    this.cwnd = Math.min(this.cwnd, INITIAL_SEGMENTS * this.mss);
  }
}

export class NewReno extends Congestion {
  readonly name = 'newreno';
  private counted = 0;

  /** RFC 3465 §2.1: a segment more for each window that was acknowledged. */
  protected override avoid(bytes: number): void {
    this.counted += bytes;
    if (this.counted < this.cwnd) return;
    this.counted -= this.cwnd;
    this.cwnd += this.mss;
  }
  /** RFC 5681 §3.1, equation 4. */
  override lost(flight: number): void {
    this.counted = 0;
    this.ssthresh = Math.max(flight / 2, 2 * this.mss);
  }
}

/** The window grows with the time since the last loss: towards what it was then, slowly around it, faster beyond. */
export class Cubic extends Congestion {
  readonly name = 'cubic';
  /** Segments: the window before the last reduction (less where the one before was larger), 0 = there was none. */
  private wMax = 0;
  /** When this stage of congestion avoidance began, -1 = with the next acknowledgement. */
  private epoch = -1;
  /** Seconds from there until the window is wMax again. */
  private k = 0;
  private origin = 0;
  /** What Reno's window would be by now, segments. */
  private wEst = 0;
  private cwndPrior = 0;

  protected override avoid(bytes: number, now: number, srtt: number): void {
    const cwnd = this.cwnd / this.mss;
    if (this.epoch < 0) {
      this.epoch = now;
      this.wEst = cwnd;
      // §4.2, §4.10: a window above wMax is where the plateau is
      this.origin = Math.max(this.wMax, cwnd);
      this.k = Math.cbrt((this.origin - cwnd) / CUBIC_C);
    }
    const segments = bytes / this.mss;
    const t = (now - this.epoch) / SECOND;
    // §4.3
    const alpha = this.wEst >= this.cwndPrior ? 1 : CUBIC_ALPHA;
    this.wEst += (alpha * segments) / cwnd;
    if (this.at(t) < this.wEst) {
      // the Reno-friendly region
      if (this.wEst > cwnd) this.cwnd = this.wEst * this.mss;
      return;
    }
    // §4.4, §4.5
    const target = Math.min(1.5 * cwnd, Math.max(cwnd, this.at(t + srtt / SECOND)));
    this.cwnd += ((target - cwnd) / cwnd) * bytes;
  }
  /** W_cubic(t), segments (figure 1). */
  private at(t: number): number {
    const d = t - this.k;
    return CUBIC_C * d * d * d + this.origin;
  }
  /** §4.6 and §4.7 (fast convergence). */
  override lost(flight: number): void {
    const cwnd = this.cwnd / this.mss;
    this.cwndPrior = cwnd;
    this.wMax = cwnd < this.wMax ? (cwnd * (1 + CUBIC_BETA)) / 2 : cwnd;
    this.ssthresh = Math.max(flight * CUBIC_BETA, 2 * this.mss);
    this.epoch = -1;
  }
  override timedOut(flight: number, first: boolean): void {
    super.timedOut(flight, first);
    // §4.8: congestion avoidance will begin with its window as W_max, and K = 0
    this.wMax = 0;
    this.epoch = -1;
  }
  override restart(): void {
    super.restart();
    this.epoch = -1;
  }
}

export function makeCongestion(name: CongestionControl): Congestion {
  return name === 'cubic' ? new Cubic() : new NewReno();
}
