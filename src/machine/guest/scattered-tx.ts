/**
 * Frames that a DPDK program sends from several mbufs: the header in a descriptor of its own, one more for each mbuf, in an
 * indirect table where they fit. dpdk 22.11 drivers/net/virtio/virtio_rxtx.c, virtio_xmit_pkts(), virtqueue_enqueue_xmit().
 */
import { assert } from '../../engine/assert.ts';
import type { DriverQueue } from '../virtio/queue/driver-queue.ts';
import type { BufferPool } from './buffer-pool.ts';

/** dpdk VIRTIO_MAX_TX_INDIRECT: entries of a table, the header's among them. */
export const VIRTIO_MAX_TX_INDIRECT = 8;
/** mbufs of one frame at most: a frame of 64 KiB in the smallest buffers. */
const SEGMENTS_MAX = 64;

/** The mbufs behind the first of each frame under way, by head. */
export type ScatteredStanding = readonly (readonly number[] | null)[];

export class ScatteredTx {
  private readonly tx: DriverQueue;
  private readonly pool: BufferPool;
  private readonly headerBytes: number;
  private further: (readonly number[] | null)[];
  private readonly gpas = new Int32Array(SEGMENTS_MAX + 1);
  private readonly lengths = new Int32Array(SEGMENTS_MAX + 1);

  constructor(tx: DriverQueue, pool: BufferPool, headerBytes: number) {
    this.tx = tx;
    this.pool = pool;
    this.headerBytes = headerBytes;
    this.further = new Array<null>(tx.size).fill(null);
  }
  roomFor(mbufs: number): boolean {
    return mbufs <= SEGMENTS_MAX && this.tx.roomFor(mbufs + 1);
  }
  /** `gpas`, `bytes`: of so many mbufs; the first has the header in front of its data, which counts among its bytes. Returns the head. */
  add(gpas: Int32Array, bytes: Int32Array, mbufs: number, frame: number): number {
    this.gpas[0] = gpas[0]!;
    this.lengths[0] = this.headerBytes;
    for (let i = 0; i < mbufs; i++) {
      const header = i === 0 ? this.headerBytes : 0;
      this.gpas[i + 1] = gpas[i]! + header;
      this.lengths[i + 1] = bytes[i]! - header;
    }
    const head = this.tx.addChain(this.gpas, this.lengths, mbufs + 1, 0, frame);
    assert(head >= 0, 'roomFor() has said that there is room');
    this.further[head] = Array.from(gpas.subarray(1, mbufs));
    return head;
  }
  /** The device is done with a chain; its first mbuf is given back by whoever asks. */
  release(head: number): void {
    const gpas = this.further[head];
    if (gpas === null || gpas === undefined) return;
    this.further[head] = null;
    for (const gpa of gpas) this.pool.give(gpa);
  }

  standing(): ScatteredStanding {
    return this.further;
  }
  standAs(other: ScatteredStanding): void {
    this.further = [...other];
  }
}
