/**
 * Coalescing of used buffer notifications: virtio 1.4 §5.1.9.5.9. The driver says per queue how many packets or microseconds
 * the device may wait; the back-end reports what it used, and is told when a notification is due. It keeps the timer, and
 * the driver's own suppression (flags, event index) still has the last word.
 *
 * Owner: device. Times are virtual nanoseconds.
 */
import type { DeviceQueue } from '../queue/device-queue.ts';

const NS_PER_US = 1000;
/** deadline(): nothing waits. */
export const NO_DEADLINE = -1;

export class NetCoalescing {
  /** Per virtqueue; even indices receive, odd ones transmit. 0 and 0: every used buffer is notified at once. */
  readonly max_packets: Uint32Array;
  readonly max_usecs: Uint32Array;
  /** Packets used since the last notification, and when the first of them was. */
  readonly pending: Uint32Array;
  readonly #since: Float64Array;
  /** What TX_SET and RX_SET said last: [receive, transmit]. */
  readonly #packets = [0, 0];
  readonly #usecs = [0, 0];

  /** `queues`: receive and transmit queues together, without the control queue. */
  constructor(queues: number) {
    this.max_packets = new Uint32Array(queues);
    this.max_usecs = new Uint32Array(queues);
    this.pending = new Uint32Array(queues);
    this.#since = new Float64Array(queues);
  }
  /** Device reset: nothing is coalesced. */
  reset(): void {
    this.max_packets.fill(0);
    this.max_usecs.fill(0);
    this.pending.fill(0);
    this.#packets.fill(0);
    this.#usecs.fill(0);
  }
  /** VQ_SET. */
  set(queue: number, max_usecs: number, max_packets: number): void {
    this.max_usecs[queue] = max_usecs;
    this.max_packets[queue] = max_packets;
  }
  /** RX_SET (`direction` 0) and TX_SET (1): all queues of the kind, and those that are enabled later. */
  setAll(direction: 0 | 1, max_usecs: number, max_packets: number): void {
    this.#usecs[direction] = max_usecs;
    this.#packets[direction] = max_packets;
    for (let queue: number = direction; queue < this.pending.length; queue += 2)
      this.set(queue, max_usecs, max_packets);
  }
  /** A queue was enabled, after a reset of it or for the first time: it has what was said for its kind last. */
  queueEnabled(queue: number): void {
    this.set(queue, this.#usecs[queue & 1]!, this.#packets[queue & 1]!);
    this.pending[queue] = 0;
  }

  /**
   * The back-end used buffers for `packets` packets at `now`. True if a notification is due at once. A packet limit without
   * a time limit would hold the last packets of a burst for ever, so it counts for nothing; the device may notify more often
   * than it is asked to.
   */
  used(queue: number, packets: number, now: number): boolean {
    if (packets === 0) return false;
    if (this.pending[queue] === 0) this.#since[queue] = now;
    this.pending[queue]! += packets;
    const limit = this.max_packets[queue]!;
    return this.max_usecs[queue] === 0 || (limit > 0 && this.pending[queue]! >= limit) || this.due(queue, now);
  }
  /** When the packets that wait are due, or NO_DEADLINE. */
  deadline(queue: number): number {
    if (this.pending[queue] === 0) return NO_DEADLINE;
    return this.#since[queue]! + this.max_usecs[queue]! * NS_PER_US;
  }
  /** True if packets wait that are due at `now`. */
  due(queue: number, now: number): boolean {
    return this.pending[queue]! > 0 && now >= this.deadline(queue);
  }
  /** A notification was sent, or suppressed by the driver's words: nothing waits any more. */
  notified(queue: number): void {
    this.pending[queue] = 0;
  }
}

/**
 * True if what was published on a queue is to wait no longer: `packets` more of them at `now` (0: the timer ran out). A full ring
 * that waits is not held back: nothing can come behind it before the driver has looked, and no index may go round between two
 * questions. Ask the driver's own words behind this only: the question moves the point from which the next interrupt counts
 * (DeviceQueue.interruptWanted()), and where they say no there is none, whatever was coalesced.
 */
export function waitsNoLonger(
  queue: DeviceQueue,
  coalescing: NetCoalescing,
  index: number,
  packets: number,
  now: number,
): boolean {
  const due =
    packets > 0
      ? coalescing.used(index, packets, now) || coalescing.pending[index]! >= queue.size
      : coalescing.due(index, now);
  if (due) coalescing.notified(index);
  return due;
}
