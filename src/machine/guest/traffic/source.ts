/**
 * What a guest sends: something that writes one frame after the other into transmit buffers. A vCPU asks its sources in
 * turn; each says when its next frame is due and what making it costs.
 */
import { NEVER } from '../../../engine/timeline.ts';
import type { RunLedger } from '../../packet/run-ledger.ts';
import type { GuestNic } from '../guest-nic.ts';

export abstract class TrafficSource {
  declare readonly nic: GuestNic;
  /** Account of the run that the frames belong to; null = none (the stack's own). */
  ledger: RunLedger | null = null;
  /** Frames per slice at most: 1 for a socket, a burst for pktgen and txonly. */
  declare readonly batch: number;
  /** ns per frame, without bytes. */
  declare readonly cost: number;
  /** True where header and frame lie apart (a shared skb: no room to push the header): two segments. */
  declare readonly split: boolean;
  /** Queue pair of `nic` that the frames go out by. */
  declare readonly pair: number;
  /**
   * struct virtio_net_hdr of the frame that fill() wrote last: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.
   * All 0: nothing is left to the device.
   */
  readonly wish = new Int32Array(6);
  /** [0] time of the next frame, NEVER where there is none. */
  readonly due = new Float64Array([NEVER]);

  /** ns that the application behind it works next, in a slice of its own (application.ts); -1 = it has nothing to do. */
  work = -1;

  /** Its frames differ in length: bytesOf() says what a batch has. */
  mixed = false;

  constructor(nic: GuestNic, batch: number, cost: number, split: boolean, pair = 0) {
    this.nic = nic;
    this.pair = pair;
    this.batch = batch;
    this.cost = cost;
    this.split = split;
  }

  /** Frames that may be sent at clock[0], at most `batch`; 0 when the next is not due. (A time as argument would be boxed.) */
  abstract ready(clock: Float64Array): number;
  /** The application begins with that work, at the recorder's stamp; `polls`: it was not asleep. */
  begin(_polls: boolean): void {}
  /** It is done, at clock[0]. */
  worked(_clock: Float64Array): void {}
  /** Bytes of the next frame, for its cost. */
  abstract nextLength(): number;
  /** Bytes of the next `n` frames. */
  bytesOf(n: number): number {
    return n * this.nextLength();
  }
  /** Writes the next frame at arena offset `at`, which has room for nextLength() bytes; returns its length and moves on. */
  abstract fill(at: number): number;
  /** Run of the frame that fill() wrote last. */
  get frameRun(): number {
    return this.ledger === null ? 0 : this.ledger.index;
  }
  /** True when nothing will be sent any more. */
  abstract get done(): boolean;
  /** Stops sending. */
  abstract cancel(): void;
}
