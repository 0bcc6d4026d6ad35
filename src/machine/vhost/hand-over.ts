/** What a front-end hands to a vhost back-end at DRIVER_OK, whichever way it goes: the same structures by ioctl and by message. */
import type { Features } from '../virtio/features.ts';
import { viewOf } from '../wire/struct.ts';
import { vhost_vring_addr } from '../wire/vhost.ts';
import type { MemoryRegion } from './session.ts';

/** A ring to hand over. Addresses are the front-end's own (QEMU's mapping of guest memory). */
export interface RingParams {
  /** False: the driver has not enabled it, and it is left out (qemu vhost_virtqueue_start(): not ready for start). */
  readonly enabled?: boolean;
  readonly size: number;
  /** Next available index to start from; 0 after a reset. */
  readonly base: number;
  readonly desc_user_addr: number;
  readonly avail_user_addr: number;
  readonly used_user_addr: number;
  /** Guest-physical address of the used ring. QEMU always sends it, logging or not. */
  readonly log_guest_addr: number;
  readonly kick: number;
  readonly call: number;
  /** vhost-user: eventfd for errors. */
  readonly err: number;
}
export interface StartParams {
  /** As the driver and the device negotiated. */
  readonly features: Features;
  readonly regions: readonly MemoryRegion[];
  readonly rings: readonly RingParams[];
}

/** `flags`: 1 << VHOST_VRING_F_LOG where writes to the used ring are to be logged. */
export function vringAddrPayload(index: number, ring: RingParams, flags = 0): Uint8Array {
  const out = new Uint8Array(vhost_vring_addr.SIZE);
  const m = viewOf(out);
  vhost_vring_addr.index.set(m, 0, index);
  vhost_vring_addr.flags.set(m, 0, flags);
  vhost_vring_addr.desc_user_addr.set(m, 0, ring.desc_user_addr);
  vhost_vring_addr.used_user_addr.set(m, 0, ring.used_user_addr);
  vhost_vring_addr.avail_user_addr.set(m, 0, ring.avail_user_addr);
  vhost_vring_addr.log_guest_addr.set(m, 0, ring.log_guest_addr);
  return out;
}
