/**
 * Tracking of what a back-end has taken from a packed queue. The driver's descriptors are copied, because the device
 * overwrites them with used ones; entries that are free form a list. Heads as in the document: `free_head`, `used_idx` and the
 * wrap counter are what a batch in progress is about to be, the `old_` ones what is committed.
 *
 * QEMU docs/interop/vhost-user.rst, "Inflight I/O tracking", packed virtqueue; dpdk lib/vhost/vhost.c,
 * rte_vhost_set_inflight_desc_packed() and vhost_user.c, vhost_check_queue_inflights_packed().
 */
import {
  desc_state_packed as desc,
  INFLIGHT_VERSION,
  PACKED_REGION_HEAD,
  inflight_packed_region as region,
} from './inflight-area.ts';

/** A descriptor as the driver wrote it. */
export interface PackedDescriptor {
  readonly addr: number;
  readonly len: number;
  readonly id: number;
  readonly flags: number;
}
/** A chain that has to be done again: its entry, and the descriptors that the driver had written. */
export interface InflightChain {
  readonly entry: number;
  readonly descriptors: readonly PackedDescriptor[];
}
/** Where the device stands in the ring. */
export interface PackedPosition {
  readonly idx: number;
  readonly wrap: 0 | 1;
}

export class InflightPacked {
  outstanding = 0;
  private readonly m: DataView;
  private readonly at: number;
  private readonly size: number;
  private counter = 0;

  constructor(memory: DataView, at: number, size: number) {
    this.m = memory;
    this.at = at;
    this.size = size;
    if (region.version.get(memory, at) === INFLIGHT_VERSION) return;
    region.desc_num.set(memory, at, size);
    region.used_wrap_counter.set(memory, at, 1);
    region.old_used_wrap_counter.set(memory, at, 1);
    for (let i = 0; i < size; i++) desc.next.set(memory, this.entry(i), i + 1);
    region.version.set(memory, at, INFLIGHT_VERSION);
  }
  private entry(i: number): number {
    return this.at + PACKED_REGION_HEAD + i * desc.SIZE;
  }

  /** A chain is taken: its descriptors as the driver wrote them. Returns the entry that stands for it. */
  take(descriptors: readonly PackedDescriptor[]): number {
    const { m, at } = this;
    const first = region.old_free_head.get(m, at);
    const head = this.entry(first);
    for (const [i, d] of descriptors.entries()) {
      if (i === 0) {
        desc.num.set(m, head, 0);
        desc.counter.set(m, head, this.counter++);
        desc.inflight.set(m, head, 1);
      }
      const free = region.free_head.get(m, at);
      if (i === descriptors.length - 1) desc.last.set(m, head, free);
      desc.num.set(m, head, desc.num.get(m, head) + 1);
      const e = this.entry(free);
      desc.addr.set(m, e, d.addr);
      desc.len.set(m, e, d.len);
      desc.flags.set(m, e, d.flags);
      desc.id.set(m, e, d.id);
      region.free_head.set(m, at, desc.next.get(m, e));
    }
    region.old_free_head.set(m, at, region.free_head.get(m, at));
    this.outstanding++;
    return first;
  }

  /**
   * Chains go back together. `entries`: what take() gave, in the order of their used descriptors. `publish`: writes the used
   * descriptors, the flags of the first one last, from the committed position on.
   */
  give(entries: readonly number[], publish: (from: PackedPosition) => void): void {
    const { m, at } = this;
    let slots = 0;
    for (const first of entries) {
      const e = this.entry(first);
      desc.next.set(m, this.entry(desc.last.get(m, e)), region.free_head.get(m, at));
      region.free_head.set(m, at, first);
      slots += desc.num.get(m, e);
    }
    const from = this.position();
    this.setUsed(this.advance(from, slots), from);
    publish(from);
    for (const first of entries) desc.inflight.set(m, this.entry(first), 0);
    this.commit();
    this.outstanding -= entries.length;
  }
  /** What is committed: where the next used descriptor goes. */
  position(): PackedPosition {
    const { m, at } = this;
    return {
      idx: region.old_used_idx.get(m, at),
      wrap: region.old_used_wrap_counter.get(m, at) === 0 ? 0 : 1,
    };
  }
  private advance({ idx, wrap }: PackedPosition, slots: number): PackedPosition {
    const to = idx + slots;
    return to < this.size ? { idx: to, wrap } : { idx: to - this.size, wrap: wrap === 0 ? 1 : 0 };
  }
  /** The batch in progress is the driver's. */
  private commit(): void {
    const { m, at } = this;
    region.old_free_head.set(m, at, region.free_head.get(m, at));
    const { idx, wrap } = this.pending();
    this.setUsed({ idx, wrap }, { idx, wrap });
  }
  private pending(): PackedPosition {
    const { m, at } = this;
    return { idx: region.used_idx.get(m, at), wrap: region.used_wrap_counter.get(m, at) === 0 ? 0 : 1 };
  }
  /**
   * used_idx, old_used_idx and both wrap counters in one store: they are the eight bytes from 16 on. One after the other, as the
   * document has it, a crash between them leaves an index with the other round's wrap counter.
   */
  private setUsed(pending: PackedPosition, committed: PackedPosition): void {
    const low = BigInt(pending.idx) | (BigInt(committed.idx) << 16n);
    const high = BigInt(pending.wrap) | (BigInt(committed.wrap) << 8n);
    this.m.setBigUint64(this.at + region.used_idx.offset, low | (high << 32n), true);
  }

  /**
   * After a crash: what has to be done again, in the order in which it was taken. `isUsed`: does the descriptor at a position
   * of the ring say used, by its flags and the wrap counter? The next descriptors to take come after those of these chains.
   */
  reconnect(isUsed: (position: PackedPosition) => boolean): InflightChain[] {
    const { m, at } = this;
    const committed = this.position();
    const pending = this.pending();
    const moved = pending.idx !== committed.idx || pending.wrap !== committed.wrap;
    // the driver has been told of the batch that was in progress: it stands; else it is rolled back
    if (moved && isUsed(committed)) this.commit();
    region.free_head.set(m, at, region.old_free_head.get(m, at));
    this.setUsed(this.position(), this.position());
    const free = region.free_head.get(m, at);
    for (let i = free, n = 0; i < this.size && n < this.size; i = desc.next.get(m, this.entry(i)), n++)
      desc.inflight.set(m, this.entry(i), 0);
    const chains: (InflightChain & { counter: number })[] = [];
    for (let i = 0; i < this.size; i++) {
      const e = this.entry(i);
      if (desc.inflight.get(m, e) !== 1) continue;
      chains.push({ entry: i, counter: desc.counter.get(m, e), descriptors: this.descriptors(i) });
    }
    chains.sort((a, b) => a.counter - b.counter);
    this.counter = chains.length === 0 ? 0 : chains.at(-1)!.counter + 1;
    this.outstanding = chains.length;
    return chains;
  }
  private descriptors(first: number): PackedDescriptor[] {
    const { m } = this;
    const out: PackedDescriptor[] = [];
    let at = first;
    for (let n = desc.num.get(m, this.entry(first)); n > 0 && at < this.size; n--) {
      const e = this.entry(at);
      out.push({
        addr: desc.addr.get(m, e),
        len: desc.len.get(m, e),
        id: desc.id.get(m, e),
        flags: desc.flags.get(m, e),
      });
      at = desc.next.get(m, e);
    }
    return out;
  }
}
