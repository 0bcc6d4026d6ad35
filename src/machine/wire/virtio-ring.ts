/**
 * Virtqueues in guest memory. Split: descriptor table, available ring (driver writes), used ring (device writes). Packed: one
 * ring of descriptors that both write, and two event suppression structures. And the arithmetic of their sizes and places.
 * Both sides of every queue read and write by these.
 */
import { le16, le32, le64, struct } from './struct.ts';

/** virtio 1.2 §2.7.5, struct virtq_desc. */
export const virtq_desc = struct({ addr: le64, len: le32, flags: le16, next: le16 });
/** §2.7.5: the chain goes on at `next`. */
export const VIRTQ_DESC_F_NEXT = 1;
/** §2.7.5: device writes, driver reads. */
export const VIRTQ_DESC_F_WRITE = 2;
/** §2.7.5.3: the buffer holds a table of descriptors. */
export const VIRTQ_DESC_F_INDIRECT = 4;

/** §2.7.6. The ring follows the header; `used_event` follows the ring (§2.7.7.1). */
export const virtq_avail = {
  ...struct({ flags: le16, idx: le16 }),
  ring: (m: DataView, at: number, slot: number): number => le16.get(m, at + 4 + 2 * slot),
  setRing: (m: DataView, at: number, slot: number, head: number): void => le16.set(m, at + 4 + 2 * slot, head),
  used_event: (m: DataView, at: number, size: number): number => le16.get(m, at + 4 + 2 * size),
  setUsedEvent: (m: DataView, at: number, size: number, v: number): void => le16.set(m, at + 4 + 2 * size, v),
};
/** §2.7.7: the driver asks for no interrupt (a hint; unused with VIRTIO_F_EVENT_IDX). */
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;

/** §2.7.8, struct virtq_used_elem. */
export const virtq_used_elem = struct({ id: le32, len: le32 });
/** §2.7.8. `avail_event` follows the ring (§2.7.10). */
export const virtq_used = {
  ...struct({ flags: le16, idx: le16 }),
  id: (m: DataView, at: number, slot: number): number => le32.get(m, at + 4 + 8 * slot),
  len: (m: DataView, at: number, slot: number): number => le32.get(m, at + 8 + 8 * slot),
  setElem: (m: DataView, at: number, slot: number, id: number, len: number): void => {
    le32.set(m, at + 4 + 8 * slot, id);
    le32.set(m, at + 8 + 8 * slot, len);
  },
  avail_event: (m: DataView, at: number, size: number): number => le16.get(m, at + 4 + 8 * size),
  setAvailEvent: (m: DataView, at: number, size: number, v: number): void => le16.set(m, at + 4 + 8 * size, v),
};
/** §2.7.10: the device asks for no kick (a hint; unused with VIRTIO_F_EVENT_IDX). */
export const VIRTQ_USED_F_NO_NOTIFY = 1;

/** §2.7: required alignment of the three parts. */
export const VIRTQ_DESC_ALIGN = 16;
export const VIRTQ_AVAIL_ALIGN = 2;
export const VIRTQ_USED_ALIGN = 4;
/** §2.7: largest queue. */
export const VIRTQ_MAX_SIZE = 32768;

/** Bytes of the parts for a queue of `size`, event words included (§2.7). */
export const virtqDescBytes = (size: number): number => 16 * size;
export const virtqAvailBytes = (size: number): number => 6 + 2 * size;
export const virtqUsedBytes = (size: number): number => 6 + 8 * size;
/** §2.7: a split queue's size is a power of two, 1 to 32768. */
export function isVirtqSize(size: number): boolean {
  return size >= 1 && size <= VIRTQ_MAX_SIZE && Number.isInteger(size) && (size & (size - 1)) === 0;
}

/** Where Linux aligns the used ring: SMP_CACHE_BYTES on x86-64 (linux drivers/virtio/virtio_pci_modern.c, setup_vq()). */
export const LINUX_VRING_ALIGN = 64;
/** Offset of the used ring from the descriptor table (linux include/uapi/linux/virtio_ring.h, vring_init()). */
export function vringUsedOffset(size: number, align = LINUX_VRING_ALIGN): number {
  const end = virtqDescBytes(size) + virtqAvailBytes(size);
  return Math.ceil(end / align) * align;
}
/** Bytes of the three parts together (vring_size()). */
export function vringBytes(size: number, align = LINUX_VRING_ALIGN): number {
  return vringUsedOffset(size, align) + virtqUsedBytes(size);
}

/**
 * §2.7.10.1, vring_need_event(): has the index passed the other side's event index since `oldIdx`? All three are
 * free-running 16-bit numbers.
 */
export function vring_need_event(eventIdx: number, newIdx: number, oldIdx: number): boolean {
  return ((newIdx - eventIdx - 1) & 0xffff) < ((newIdx - oldIdx) & 0xffff);
}

// ---- packed virtqueues, virtio 1.2 §2.8 ---------------------------------------------------------------------------------
/** virtio 1.2 §2.8.13, struct pvirtq_desc. */
export const pvirtq_desc = struct({ addr: le64, len: le32, id: le16, flags: le16 });
/** §2.8.1: equal to the driver's wrap counter, and unlike VIRTQ_DESC_F_USED, in an available descriptor. */
export const VIRTQ_DESC_F_AVAIL = 1 << 7;
/** §2.8.1: equal to the device's wrap counter, and to VIRTQ_DESC_F_AVAIL, in a used descriptor. */
export const VIRTQ_DESC_F_USED = 1 << 15;

/** §2.8.14, struct pvirtq_event_suppress: `desc_event_off` (15 bits) and `desc_event_wrap`, then `desc_event_flags` (2 bits). */
export const pvirtq_event_suppress = struct({ off_wrap: le16, flags: le16 });
/** §2.8.10: notifications are wanted. */
export const RING_EVENT_FLAGS_ENABLE = 0;
/** §2.8.10: notifications are not wanted. */
export const RING_EVENT_FLAGS_DISABLE = 1;
/** §2.8.10: a notification is wanted for the descriptor that off_wrap names (VIRTIO_RING_F_EVENT_IDX only). */
export const RING_EVENT_FLAGS_DESC = 2;
/** §2.8.14: the bit of desc_event_wrap in off_wrap. */
export const RING_EVENT_WRAP = 1 << 15;

/** §2.8.10.1: required alignment of the descriptor ring and of both event suppression structures. */
export const PVIRTQ_DESC_ALIGN = 16;
export const PVIRTQ_EVENT_ALIGN = 4;
/** §2.8: a packed queue has any size from 1 to 32768. */
export function isPackedVirtqSize(size: number): boolean {
  return size >= 1 && size <= VIRTQ_MAX_SIZE && Number.isInteger(size);
}
/** §2.8: bytes of the descriptor ring. */
export const pvirtqDescBytes = (size: number): number => 16 * size;

/**
 * §2.9 (VIRTIO_F_NOTIFICATION_DATA): what the driver writes to notify of queue `vqn`. `nextOff` has 15 bits and `nextWrap`
 * one; in a split ring they are the lower 15 bits and the highest bit of the available index.
 */
export function notificationData(vqn: number, nextOff: number, nextWrap: number): number {
  return (vqn | (nextOff << 16) | (nextWrap << 31)) >>> 0;
}
