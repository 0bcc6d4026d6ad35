/**
 * A vhost-user back-end behind a vIOMMU: what the front-end has told of translations, as far as the rings need it, and which
 * misses it has been asked about already. The data path's own lookups go through `onIotlb` of the back-end's hooks.
 *
 * Read first: dpdk lib/vhost/iotlb.c, vhost_user_iotlb_pending_insert(); vhost_user.c, vhost_user_iotlb_msg().
 */
import { IotlbTable } from '../../iommu/iotlb-table.ts';
import { viewOf } from '../../wire/struct.ts';
import { vhost_iotlb_msg } from '../../wire/vhost.ts';

/** struct vhost_iotlb_msg. */
export interface IotlbMessage {
  readonly iova: number;
  readonly size: number;
  /** Front-end's own address; means nothing in a miss or an invalidation. */
  readonly uaddr: number;
  readonly perm: number;
  readonly type: number;
}
export function iotlbPayload({ iova, size, uaddr, perm, type }: IotlbMessage): Uint8Array {
  const out = new Uint8Array(vhost_iotlb_msg.SIZE);
  const m = viewOf(out);
  vhost_iotlb_msg.iova.set(m, 0, iova);
  vhost_iotlb_msg.size.set(m, 0, size);
  vhost_iotlb_msg.uaddr.set(m, 0, uaddr);
  vhost_iotlb_msg.perm.set(m, 0, perm);
  vhost_iotlb_msg.type.set(m, 0, type);
  return out;
}
/** 64-bit values that are no numbers read as -1. */
export function readIotlb(m: DataView): IotlbMessage {
  const f = vhost_iotlb_msg;
  return {
    iova: f.iova.get(m, 0),
    size: f.size.get(m, 0),
    uaddr: f.uaddr.get(m, 0),
    perm: f.perm.get(m, 0),
    type: f.type.get(m, 0),
  };
}

/** dpdk IOTLB_CACHE_SIZE. */
const IOTLB_CACHE_SIZE = 2048;

export class BackendIotlb {
  private readonly entries = new IotlbTable(IOTLB_CACHE_SIZE);
  /** Misses that wait for their update: first address missing, and the access. */
  private readonly pending: { readonly iova: number; readonly perm: number }[] = [];

  /** Is a miss there to be sent? Not twice for one address and access. */
  miss(iova: number, perm: number): boolean {
    if (this.pending.some((p) => p.iova === iova && p.perm === perm)) return false;
    this.pending.push({ iova, perm });
    return true;
  }
  /** Misses not answered. */
  get waiting(): number {
    return this.pending.length;
  }
  update({ iova, size, uaddr, perm }: IotlbMessage): void {
    this.entries.invalidate(iova, size);
    if (this.entries.count === this.entries.capacity) this.entries.remove(this.entries.entryAt(0));
    this.entries.insert(iova, size, uaddr);
    for (let i = this.pending.length - 1; i >= 0; i--) {
      const p = this.pending[i]!;
      if (p.iova >= iova && p.iova < iova + size && (p.perm & ~perm) === 0) this.pending.splice(i, 1);
    }
  }
  invalidate(iova: number, size: number): void {
    this.entries.invalidate(iova, size);
  }
  clear(): void {
    this.entries.clear();
    this.pending.length = 0;
  }
  /** First address of [iova, iova + bytes) that has no translation; -1 where all have one. */
  firstMissing(iova: number, bytes: number): number {
    let at = iova;
    while (at < iova + bytes) {
      const e = this.entries.find(at);
      if (e < 0) return at;
      at = this.entries.startOf(e) + this.entries.bytesOf(e);
    }
    return -1;
  }
}
