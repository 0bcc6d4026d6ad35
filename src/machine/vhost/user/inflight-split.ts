/**
 * Tracking of what a back-end has taken from a split queue. The order of the stores is the point: whoever comes after a crash,
 * between any two of them, finds every chain that was taken and not given back, and no other.
 *
 * QEMU docs/interop/vhost-user.rst, "Inflight I/O tracking", split virtqueue; qemu subprojects/libvhost-user/libvhost-user.c,
 * vu_queue_inflight_get() and vu_check_queue_inflights().
 */
import { desc_state_split as desc, INFLIGHT_VERSION, inflight_split_region as region } from './inflight-area.ts';

export class InflightSplit {
  /** Chains that are taken and not given back. */
  outstanding = 0;
  private readonly m: DataView;
  private readonly at: number;
  /** Order in which chains were taken; goes on above what a predecessor left. */
  private counter = 0;
  private readonly size: number;

  /** `at`: where the queue's region starts in `memory`. A region that was never used is set up. */
  constructor(memory: DataView, at: number, size: number) {
    this.m = memory;
    this.at = at;
    this.size = size;
    if (region.version.get(memory, at) === INFLIGHT_VERSION) return;
    region.desc_num.set(memory, at, size);
    region.used_idx.set(memory, at, 0);
    region.last_batch_head.set(memory, at, 0);
    // last: what is before it is there
    region.version.set(memory, at, INFLIGHT_VERSION);
  }
  private entry(head: number): number {
    return this.at + region.SIZE + head * desc.SIZE;
  }

  /** The chain that starts with descriptor `head` is taken from the available ring. */
  take(head: number): void {
    const e = this.entry(head);
    desc.counter.set(this.m, e, this.counter++);
    desc.inflight.set(this.m, e, 1);
    this.outstanding++;
  }
  /**
   * Chains go back together. `heads`: in the order of their entries in the used ring, which are written already. `publish`:
   * makes used.idx go on by their number, and answers it.
   */
  give(heads: readonly number[], publish: () => number): void {
    for (const head of heads) {
      desc.next.set(this.m, this.entry(head), region.last_batch_head.get(this.m, this.at));
      region.last_batch_head.set(this.m, this.at, head);
    }
    const used = publish();
    for (const head of heads) desc.inflight.set(this.m, this.entry(head), 0);
    region.used_idx.set(this.m, this.at, used);
    this.outstanding -= heads.length;
  }

  /**
   * After a crash: what has to be done again, heads in the order in which they were taken. `used`: used.idx as it stands in
   * the ring. The next available index is `used` plus as many as there are.
   */
  reconnect(used: number): number[] {
    const { m, at } = this;
    let behind = (used - region.used_idx.get(m, at)) & 0xffff;
    // the last batch was published, and its entries may not all say so yet
    for (let head = region.last_batch_head.get(m, at); behind > 0 && head < this.size; behind--) {
      desc.inflight.set(m, this.entry(head), 0);
      head = desc.next.get(m, this.entry(head));
    }
    region.used_idx.set(m, at, used);
    const heads: number[] = [];
    for (let head = 0; head < this.size; head++) if (desc.inflight.get(m, this.entry(head)) === 1) heads.push(head);
    const counterOf = (head: number): number => desc.counter.get(m, this.entry(head));
    heads.sort((a, b) => counterOf(a) - counterOf(b));
    this.counter = heads.length === 0 ? 0 : counterOf(heads.at(-1)!) + 1;
    this.outstanding = heads.length;
    return heads;
  }
}
