/** The memory of a ring as drivers lay it out. linux drivers/virtio/virtio_ring.c, vring_create_virtqueue_split() and _packed(). */
import {
  isPackedVirtqSize,
  isVirtqSize,
  PVIRTQ_EVENT_ALIGN,
  pvirtqDescBytes,
  virtqDescBytes,
  vringBytes,
  vringUsedOffset,
} from '../../wire/virtio-ring.ts';
import type { GuestAllocator } from './probe-types.ts';

export interface RingPlaces {
  readonly descGpa: number;
  readonly driverGpa: number;
  readonly deviceGpa: number;
}
const PAGE_SIZE = 4096;

/** Sizes that a ring can have: packed ones any (virtio 1.2 §2.8), split ones powers of two (§2.7). */
export const isRingSize = (size: number, packed: boolean): boolean =>
  packed ? isPackedVirtqSize(size) : isVirtqSize(size);

/**
 * A ring of `size` entries; null when there is no memory. Split: one piece on a page, the used ring at the next multiple of
 * `usedAlign`. Packed: descriptors and the two event areas each on a page of their own.
 */
export function allocateRing(
  allocator: GuestAllocator,
  size: number,
  packed: boolean,
  usedAlign: number,
): RingPlaces | null {
  if (!packed) {
    const descGpa = allocator.alloc(vringBytes(size, usedAlign), PAGE_SIZE);
    if (descGpa < 0) return null;
    return {
      descGpa,
      driverGpa: descGpa + virtqDescBytes(size),
      deviceGpa: descGpa + vringUsedOffset(size, usedAlign),
    };
  }
  const descGpa = allocator.alloc(pvirtqDescBytes(size), PAGE_SIZE);
  const driverGpa = allocator.alloc(PVIRTQ_EVENT_ALIGN, PAGE_SIZE);
  const deviceGpa = allocator.alloc(PVIRTQ_EVENT_ALIGN, PAGE_SIZE);
  return descGpa < 0 || driverGpa < 0 || deviceGpa < 0 ? null : { descGpa, driverGpa, deviceGpa };
}
