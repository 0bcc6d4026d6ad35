/**
 * VFIO: numbers of ioctls, flags and structures. linux include/uapi/linux/vfio.h (6.1); numbers and offsets from a program
 * compiled against those headers on x86-64, the flags and struct vfio_iommu_type1_info from the header's text.
 */
import { le32, le64, struct } from './struct.ts';

export const VFIO_API_VERSION = 0;

export const VFIO_GET_API_VERSION = 0x3b64;
export const VFIO_CHECK_EXTENSION = 0x3b65;
export const VFIO_SET_IOMMU = 0x3b66;
export const VFIO_GROUP_GET_STATUS = 0x3b67;
export const VFIO_GROUP_SET_CONTAINER = 0x3b68;
export const VFIO_GROUP_UNSET_CONTAINER = 0x3b69;
export const VFIO_GROUP_GET_DEVICE_FD = 0x3b6a;
export const VFIO_DEVICE_GET_INFO = 0x3b6b;
export const VFIO_DEVICE_GET_REGION_INFO = 0x3b6c;
export const VFIO_DEVICE_GET_IRQ_INFO = 0x3b6d;
export const VFIO_DEVICE_SET_IRQS = 0x3b6e;
export const VFIO_DEVICE_RESET = 0x3b6f;
/** Of a container; the number is shared with ioctls of other drivers' devices. */
export const VFIO_IOMMU_GET_INFO = 0x3b70;
export const VFIO_IOMMU_MAP_DMA = 0x3b71;
export const VFIO_IOMMU_UNMAP_DMA = 0x3b72;
/** Number to name, for text. */
export const VFIO_IOCTL_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries({
    VFIO_GET_API_VERSION,
    VFIO_CHECK_EXTENSION,
    VFIO_SET_IOMMU,
    VFIO_GROUP_GET_STATUS,
    VFIO_GROUP_SET_CONTAINER,
    VFIO_GROUP_UNSET_CONTAINER,
    VFIO_GROUP_GET_DEVICE_FD,
    VFIO_DEVICE_GET_INFO,
    VFIO_DEVICE_GET_REGION_INFO,
    VFIO_DEVICE_GET_IRQ_INFO,
    VFIO_DEVICE_SET_IRQS,
    VFIO_DEVICE_RESET,
    VFIO_IOMMU_GET_INFO,
    VFIO_IOMMU_MAP_DMA,
    VFIO_IOMMU_UNMAP_DMA,
  }).map(([name, value]) => [value, name]),
);

/** Extensions: what VFIO_CHECK_EXTENSION and VFIO_SET_IOMMU take. */
export const VFIO_TYPE1_IOMMU = 1;
export const VFIO_SPAPR_TCE_IOMMU = 2;
export const VFIO_TYPE1v2_IOMMU = 3;
export const VFIO_DMA_CC_IOMMU = 4;
export const VFIO_SPAPR_TCE_v2_IOMMU = 7;
export const VFIO_NOIOMMU_IOMMU = 8;
export const VFIO_UNMAP_ALL = 9;
export const VFIO_UPDATE_VADDR = 10;

export const VFIO_GROUP_FLAGS_VIABLE = 1;
export const VFIO_GROUP_FLAGS_CONTAINER_SET = 2;
export const VFIO_DEVICE_FLAGS_RESET = 1;
export const VFIO_DEVICE_FLAGS_PCI = 2;
export const VFIO_REGION_INFO_FLAG_READ = 1;
export const VFIO_REGION_INFO_FLAG_WRITE = 2;
export const VFIO_REGION_INFO_FLAG_MMAP = 4;
export const VFIO_REGION_INFO_FLAG_CAPS = 8;
export const VFIO_IRQ_INFO_EVENTFD = 1;
export const VFIO_IRQ_INFO_MASKABLE = 2;
export const VFIO_IRQ_INFO_AUTOMASKED = 4;
export const VFIO_IRQ_INFO_NORESIZE = 8;
export const VFIO_IRQ_SET_DATA_NONE = 1;
export const VFIO_IRQ_SET_DATA_BOOL = 2;
export const VFIO_IRQ_SET_DATA_EVENTFD = 4;
export const VFIO_IRQ_SET_ACTION_MASK = 8;
export const VFIO_IRQ_SET_ACTION_UNMASK = 16;
export const VFIO_IRQ_SET_ACTION_TRIGGER = 32;
export const VFIO_IRQ_SET_DATA_TYPE_MASK = 0x07;
export const VFIO_IRQ_SET_ACTION_TYPE_MASK = 0x38;
export const VFIO_DMA_MAP_FLAG_READ = 1;
export const VFIO_DMA_MAP_FLAG_WRITE = 2;
export const VFIO_DMA_MAP_FLAG_VADDR = 4;
export const VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 1;
export const VFIO_DMA_UNMAP_FLAG_ALL = 2;
export const VFIO_IOMMU_INFO_PGSIZES = 1;

/** Indices of regions: BARs 0 to 5, expansion ROM, configuration space, VGA. */
export const VFIO_PCI_ROM_REGION_INDEX = 6;
export const VFIO_PCI_CONFIG_REGION_INDEX = 7;
export const VFIO_PCI_VGA_REGION_INDEX = 8;
export const VFIO_PCI_NUM_REGIONS = 9;
/** Where a region begins in the device's file: its index above bit 40 (linux VFIO_PCI_OFFSET_SHIFT). */
export const vfioRegionOffset = (index: number): number => index * 2 ** 40;
export const VFIO_PCI_INTX_IRQ_INDEX = 0;
export const VFIO_PCI_MSI_IRQ_INDEX = 1;
export const VFIO_PCI_MSIX_IRQ_INDEX = 2;
export const VFIO_PCI_ERR_IRQ_INDEX = 3;
export const VFIO_PCI_REQ_IRQ_INDEX = 4;
export const VFIO_PCI_NUM_IRQS = 5;
/** A capability of a region: the MSI-X table lies in a page that may be mapped. */
export const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3;

export const vfio_group_status = struct({ argsz: le32, flags: le32 });
export const vfio_device_info = struct({
  argsz: le32,
  flags: le32,
  num_regions: le32,
  num_irqs: le32,
  cap_offset: le32,
});
/** Up to num_irqs: all that older programs know. */
export const vfio_device_info_minsz = 16;
export const vfio_region_info = struct({
  argsz: le32,
  flags: le32,
  index: le32,
  cap_offset: le32,
  size: le64,
  offset: le64,
});
/** struct vfio_info_cap_header: `id` and `version` are 16 bits each, here one word. */
export const vfio_info_cap_header = struct({ id_version: le32, next: le32 });
export const vfio_irq_info = struct({ argsz: le32, flags: le32, index: le32, count: le32 });
/** Data follows. */
export const vfio_irq_set = struct({ argsz: le32, flags: le32, index: le32, start: le32, count: le32 });
export const vfio_iommu_type1_info = struct({
  argsz: le32,
  flags: le32,
  iova_pgsizes: le64,
  cap_offset: le32,
  pad: le32,
});
export const vfio_iommu_type1_info_minsz = 16;
export const vfio_iommu_type1_dma_map = struct({ argsz: le32, flags: le32, vaddr: le64, iova: le64, size: le64 });
export const vfio_iommu_type1_dma_unmap = struct({ argsz: le32, flags: le32, iova: le64, size: le64 });
