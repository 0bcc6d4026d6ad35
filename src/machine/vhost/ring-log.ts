/**
 * What a back-end's data path writes while the front-end keeps a dirty log: buffers, seen where their addresses are translated
 * for writing, and used rings, seen before they are published. Without a log there is none of this, and nothing is asked.
 *
 * DEVIATION: a buffer is marked as long as it is, DPDK and Linux mark what they wrote of it; of a packed ring all descriptors are marked;
 * behind a vIOMMU buffers are not marked; marking takes no time. dpdk lib/vhost/vhost.h, vhost_log_cache_write().
 */
import { ACCESS_READ, type AddressSpace, type Translator } from '../memory/address-space.ts';
import type { DeviceQueue } from '../virtio/queue/device-queue.ts';
import { virtqDescBytes } from '../wire/virtio-ring.ts';
import type { VhostSession, Vring } from './session.ts';

const USED_ELEMENT = 8;
const USED_RING = 4;
const USED_IDX = 2;

/** A back-end that keeps a log while it is asked to. */
export interface LogKeeper {
  readonly session: VhostSession;
  /** `length` bytes of a buffer at the guest-physical address `gpa` were written. */
  logWrite(gpa: number, length: number): void;
  /** `length` bytes of a used ring, `offset` bytes behind its start. */
  logUsed(v: Vring, offset: number, length: number): void;
}

export class RingLog implements Translator {
  readonly generation = 0;
  private readonly backend: LogKeeper;
  private readonly space: AddressSpace;
  /** By ring: where its used entries have been marked up to; -1 before the first. */
  private readonly marked: Int32Array;

  /** `space`: by which the back-end's queues reach guest memory. */
  constructor(backend: LogKeeper, space: AddressSpace) {
    this.backend = backend;
    this.space = space;
    this.marked = new Int32Array(backend.session.vrings.length).fill(-1);
  }

  translate(address: number, length: number, access: number): number {
    const at = this.space.inRegions(address, length);
    if (at >= 0 && access !== ACCESS_READ) this.backend.logWrite(address, length);
    return at;
  }

  /** `entries` at least will be published in the used ring. */
  used(ring: number, queue: DeviceQueue, entries: number): void {
    const { session } = this.backend;
    const v = session.vrings[ring];
    if (v === undefined) return;
    if (queue.packed) {
      const region = session.regions[session.translate(v.desc_user_addr, virtqDescBytes(v.num))];
      if (region !== undefined)
        this.backend.logWrite(region.guest_phys_addr + session.translatedOffset, virtqDescBytes(v.num));
      return;
    }
    let from = this.marked[ring]!;
    if (from < 0) from = (queue.used_idx - entries) & 0xffff;
    for (let i = from; i !== queue.used_idx; i = (i + 1) & 0xffff)
      this.backend.logUsed(v, USED_RING + USED_ELEMENT * (i & (v.num - 1)), USED_ELEMENT);
    this.backend.logUsed(v, USED_IDX, 2);
    this.marked[ring] = queue.used_idx;
  }
}
