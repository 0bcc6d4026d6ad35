/**
 * The transmit timer of QEMU's virtio-net with tx=timer: a kick arms it and switches kicks off, and the queue is flushed when it
 * has run out, or with the next kick before that. A flush that found a full burst, or frames on its second look, arms it again.
 * qemu hw/net/virtio-net.c, virtio_net_handle_tx_timer(), virtio_net_tx_timer() (7.2).
 */
import { NEVER } from '../../engine/timeline.ts';

export class TxTimer {
  /** `x-txtimer`, ns. */
  declare readonly ns: number;
  /** Element 0: when it runs out, NEVER while it is not armed (q->tx_waiting). An array, so that a time is not boxed. */
  readonly due = new Float64Array(1).fill(NEVER);
  /** Frames of the flush under way. */
  flushed = 0;
  /** The flush has looked a second time, with kicks on, and found something. */
  second = false;
  /** A kick came while the flush was under way. */
  again = false;

  constructor(ns: number) {
    this.ns = ns;
  }
  get armed(): boolean {
    return this.due[0]! !== NEVER;
  }
  arm(now: number): void {
    this.due[0] = now + this.ns;
  }
  /** The flush begins. */
  flush(): void {
    this.due[0] = NEVER;
    this.flushed = 0;
    this.second = false;
    this.again = false;
  }
  reset(): void {
    this.flush();
  }
}
