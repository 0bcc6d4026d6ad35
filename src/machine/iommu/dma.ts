/**
 * What a driver in the guest puts into rings and descriptors: addresses as the device sees them. Without an IOMMU these are
 * guest-physical addresses; with one they are I/O virtual addresses that somebody mapped before: the kernel buffer by buffer
 * (linux kernel/dma/mapping.c dma_map_page()), or a program once for all its memory (VFIO_IOMMU_MAP_DMA).
 *
 * A driver has no GuestDma at all (null) where VIRTIO_F_ACCESS_PLATFORM was not negotiated: that costs nothing for each
 * buffer. Runs on the vCPU that drives the queue; what it costs is owed by that vCPU.
 */

/** Guest-physical address in bytes; guests have at most 2 GiB. */
export type GuestPhysical = number;
/** I/O virtual address in bytes, below 2^48: needs both words of a descriptor. */
export type Iova = number;

/** The device reads the buffer (linux enum dma_data_direction DMA_TO_DEVICE). */
export const DMA_TO_DEVICE = 1;
/** The device writes it (DMA_FROM_DEVICE). */
export const DMA_FROM_DEVICE = 2;
/** Both: rings, and whatever a static user maps (DMA_BIDIRECTIONAL). */
export const DMA_BIDIRECTIONAL = 3;
export type DmaDirection = typeof DMA_TO_DEVICE | typeof DMA_FROM_DEVICE | typeof DMA_BIDIRECTIONAL;

/** map() where there is no mapping, and none can be made. Never a valid address. */
export const DMA_MAPPING_ERROR = -1;

export interface GuestDma {
  /**
   * The address under which the device reaches `bytes` bytes at `gpa`, which are contiguous in guest memory. A dynamic user
   * makes a mapping; a static one looks up what it has mapped. DMA_MAPPING_ERROR where it cannot.
   */
  map(gpa: GuestPhysical, bytes: number, direction: DmaDirection): Iova;
  /** The device is done with what map() gave. Nothing happens for a static user. An address that is not mapped is ignored. */
  unmap(iova: Iova, bytes: number): void;
}

/** A user whose mappings stand for as long as the program runs: VFIO. */
export interface StaticDma extends GuestDma {
  /**
   * Maps `bytes` bytes from `gpa` on to `iova`, in pages of `pageSize` bytes (4 KiB, 2 MiB, 1 GiB) where the alignment of both
   * allows it, in smaller ones elsewhere. 0, -EEXIST (overlaps a mapping), -EINVAL (not in whole pages of 4 KiB) or -ENOMEM.
   */
  mapRegion(iova: Iova, gpa: GuestPhysical, bytes: number, pageSize: number): number;
  /** Takes away every mapping that lies within the range, and tells the device. Returns the bytes unmapped, or -EINVAL. */
  unmapRegion(iova: Iova, bytes: number): number;
}

/** No translation: what passthrough mode gives to a driver. */
export const IDENTITY_DMA: GuestDma = {
  map: (gpa) => gpa,
  unmap: () => {},
};
