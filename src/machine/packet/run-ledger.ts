/**
 * The account of one traffic run: what was sent, where it ended, how long it took. Written where frames are born and end;
 * read by the lab. Latencies go into a log-linear histogram (64 steps per power of two: at most 1.6 % off).
 */
import { KIND_STRIDE } from '../../engine/events.ts';

const STEPS = 64;
const BUCKETS = STEPS * 54;

export class RunLedger {
  /** Index in the frame table, from 1. */
  declare readonly index: number;
  /** Place of the driver or wire that frames are meant for; 0 = any. */
  declare readonly destination: number;
  /** Second end whose deliveries count (the requester of a ping); 0 = none. */
  declare readonly origin: number;
  sent = 0;
  /** Frames that arrived at `destination` (or anywhere, where that is 0); for a ping, the answers that came back. */
  received = 0;
  /** Deliveries in both directions: what perFrame divides by. */
  delivered = 0;
  replicated = 0;
  /** Frames that were sent again after a back-end had died. */
  duplicated = 0;
  /** Frames that were cut from frames of the run, and frames that were cut into such. */
  segments = 0;
  segmented = 0;
  /** Frames whose bytes became part of another frame (GRO, LRO). */
  merged = 0;
  elsewhere = 0;
  /** Frames of the run that have not ended. */
  live = 0;
  readonly dropped = new Float64Array(KIND_STRIDE);
  firstSendNs = -1;
  lastSendNs = -1;
  /** When the delivery came before which there were `mark`; -1: not yet. Default: the first. */
  mark = 0;
  markedNs = -1;
  lastDeliveryNs = -1;
  lastDropNs = -1;
  firstFrame = 0;
  lastFrame = 0;
  deliveredBytes = 0;
  /** True when no more frames will be sent. */
  sourceDone = false;
  finished = false;
  private readonly histogram = new Float64Array(BUCKETS);
  private samples = 0;
  private longest = 0;

  constructor(index: number, destination: number, origin: number) {
    this.index = index;
    this.destination = destination;
    this.origin = origin;
  }

  get complete(): boolean {
    return this.sourceDone && this.live === 0;
  }

  addLatency(ns: number): void {
    this.samples++;
    if (ns > this.longest) this.longest = ns;
    this.histogram[bucketOf(ns)]!++;
  }

  /** Latency in ns below which a share `q` of the samples lies; 0 without samples. */
  quantile(q: number): number {
    let left = q * this.samples;
    for (let i = 0; i < BUCKETS; i++) {
      left -= this.histogram[i]!;
      if (left <= 0 && this.histogram[i]! > 0) return Math.min(bucketTop(i), this.longest);
    }
    return this.longest;
  }
  get maxLatency(): number {
    return this.longest;
  }
  /** Mean of the latencies in ns, from the middles of the histogram's steps: at most 0.8 % off. */
  get meanLatency(): number {
    let sum = 0;
    for (let i = 0; i < BUCKETS; i++) if (this.histogram[i]! > 0) sum += this.histogram[i]! * bucketMiddle(i);
    return this.samples === 0 ? 0 : sum / this.samples;
  }

  /** Counts what another account has counted here too: what several runs came to together. */
  add(other: RunLedger): void {
    this.sent += other.sent;
    this.received += other.received;
    this.delivered += other.delivered;
    this.deliveredBytes += other.deliveredBytes;
    this.samples += other.samples;
    this.longest = Math.max(this.longest, other.longest);
    for (let i = 0; i < BUCKETS; i++) this.histogram[i]! += other.histogram[i]!;
  }
}

function bucketOf(ns: number): number {
  if (ns < STEPS) return ns | 0;
  let exponent = 0;
  let v = ns;
  while (v >= 2147483648) {
    v /= 2;
    exponent++;
  }
  const shift = 25 - Math.clz32(v); // brings v into [64, 128)
  return (exponent + shift) * STEPS + (v >>> shift);
}
function bucketTop(bucket: number): number {
  if (bucket < 2 * STEPS) return bucket;
  const shift = Math.floor(bucket / STEPS) - 1;
  return ((bucket % STEPS) + STEPS + 1) * 2 ** shift - 1;
}
function bucketMiddle(bucket: number): number {
  if (bucket < 2 * STEPS) return bucket;
  const width = 2 ** (Math.floor(bucket / STEPS) - 1);
  return bucketTop(bucket) - (width - 1) / 2;
}
