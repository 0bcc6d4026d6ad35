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
  /** What the device is told, where that is not the same. */
  readonly bus?: { readonly desc: number; readonly driver: number; readonly device: number };
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
    const bytes = vringBytes(size, usedAlign);
    const descGpa = allocator.alloc(bytes, PAGE_SIZE);
    if (descGpa < 0) return null;
    const driver = virtqDescBytes(size);
    const device = vringUsedOffset(size, usedAlign);
    const places = { descGpa, driverGpa: descGpa + driver, deviceGpa: descGpa + device };
    const desc = allocator.mapped?.(descGpa, bytes);
    if (desc === undefined) return places;
    return desc < 0 ? null : { ...places, bus: { desc, driver: desc + driver, device: desc + device } };
  }
  const descGpa = allocator.alloc(pvirtqDescBytes(size), PAGE_SIZE);
  const driverGpa = allocator.alloc(PVIRTQ_EVENT_ALIGN, PAGE_SIZE);
  const deviceGpa = allocator.alloc(PVIRTQ_EVENT_ALIGN, PAGE_SIZE);
  if (descGpa < 0 || driverGpa < 0 || deviceGpa < 0) return null;
  const places = { descGpa, driverGpa, deviceGpa };
  if (allocator.mapped === undefined) return places;
  const desc = allocator.mapped(descGpa, pvirtqDescBytes(size));
  const driver = allocator.mapped(driverGpa, PVIRTQ_EVENT_ALIGN);
  const device = allocator.mapped(deviceGpa, PVIRTQ_EVENT_ALIGN);
  return desc < 0 || driver < 0 || device < 0 ? null : { ...places, bus: { desc, driver, device } };
}
