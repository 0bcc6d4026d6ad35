/**
 * Intel VT-d as QEMU emulates it: registers, root and context entries, second-level entries, invalidation descriptors.
 * Sources: Intel Virtualization Technology for Directed I/O, revision 3.x, §9 to §11; qemu hw/i386/intel_iommu_internal.h;
 * linux drivers/iommu/intel/iommu.h. 64-bit words are read as two le32: their flags use all bits.
 */
import { le32, struct } from './struct.ts';

/** Where q35 maps the registers (qemu Q35_HOST_BRIDGE_IOMMU_ADDR). */
export const DMAR_BASE = 0xfed9_0000;

// registers, offsets in bytes
export const DMAR_VER_REG = 0x00;
export const DMAR_CAP_REG = 0x08;
export const DMAR_ECAP_REG = 0x10;
export const DMAR_GCMD_REG = 0x18;
export const DMAR_GSTS_REG = 0x1c;
export const DMAR_RTADDR_REG = 0x20;
export const DMAR_CCMD_REG = 0x28;
export const DMAR_FSTS_REG = 0x34;
export const DMAR_FECTL_REG = 0x38;
export const DMAR_FEDATA_REG = 0x3c;
export const DMAR_FEADDR_REG = 0x40;
export const DMAR_IQH_REG = 0x80;
export const DMAR_IQT_REG = 0x88;
export const DMAR_IQA_REG = 0x90;
export const DMAR_IRTA_REG = 0xb8;
/** One fault recording register of 16 bytes (qemu DMAR_FRCD_REG_OFFSET). */
export const DMAR_FRCD_REG = 0x220;
export const DMAR_REG_SIZE = 0x230;

// GCMD and GSTS
export const DMA_GCMD_TE = 0x8000_0000;
export const DMA_GCMD_SRTP = 0x4000_0000;
export const DMA_GCMD_QIE = 0x0400_0000;
// FSTS
export const DMA_FSTS_PFO = 1;
export const DMA_FSTS_PPF = 2;
/** Invalidation queue error: a descriptor that is none; the queue stops (§6.5.2.1). */
export const DMA_FSTS_IQE = 0x10;
// FECTL
export const DMA_FECTL_IM = 0x8000_0000;

// CAP_REG, low word: fields that QEMU 7.2 sets (vtd_init())
/** Domains: 4 + 2 * 6 bits, i.e. 16 bits of domain id. */
export const VTD_CAP_ND = 0x6;
/** Caching mode: not-present entries may be cached, so mapping too needs an invalidation. */
export const VTD_CAP_CM = 1 << 7;
/** CAP_REG.SLLPS, bits 34 and 35: pages of 2 MiB and 1 GiB. In the high word. */
export const VTD_CAP_SLLPS_HI = 0xc;
/** CAP_REG.MAMV, bits 48-53: page-selective invalidations of up to 2^18 pages (qemu VTD_MAMV). In the high word. */
export const VTD_MAMV = 18;
// ECAP_REG, low word
export const VTD_ECAP_QI = 1 << 1;
/** Device-TLB support (device-iotlb=on). */
export const VTD_ECAP_DT = 1 << 2;
/** Pass-through entries (pt=on, the default). */
export const VTD_ECAP_PT = 1 << 6;

/** struct root_entry (§9.1): for each bus the table of its functions. */
export const vtd_root_entry = struct({ lo: le32, lo_hi: le32, hi: le32, hi_hi: le32 });
/** struct context_entry (§9.3): for each function its tables and domain. */
export const vtd_context_entry = struct({ lo: le32, lo_hi: le32, hi: le32, hi_hi: le32 });
export const VTD_PRESENT = 1;
/** Bits 2 and 3 of a context entry: translation type. */
export const CONTEXT_TT_MULTI_LEVEL = 0 << 2;
export const CONTEXT_TT_DEV_IOTLB = 1 << 2;
export const CONTEXT_TT_PASS_THROUGH = 2 << 2;
export const CONTEXT_TT_MASK = 3 << 2;
/** Address width of the second word: 1 is 39 bits in three levels, 2 is 48 bits in four. */
export const CONTEXT_AW_39 = 1;
export const CONTEXT_AW_48 = 2;
export const CONTEXT_DOMAIN_SHIFT = 8;

/** Second-level entry (§9.8): 64 bits, nine index bits a level. */
export const VTD_SL_R = 1;
export const VTD_SL_W = 2;
export const VTD_SL_PT_PAGE_SIZE_MASK = 0x80;
export const VTD_SL_ADDRESS_LO = 0xffff_f000;
export const VTD_PAGE_SHIFT = 12;
export const VTD_STRIDE = 9;

/** struct qi_desc: an invalidation descriptor of 128 bits (§6.5.2). */
export const qi_desc = struct({ lo: le32, lo_hi: le32, hi: le32, hi_hi: le32 });
export const QI_CC_TYPE = 1;
export const QI_IOTLB_TYPE = 2;
export const QI_DIOTLB_TYPE = 3;
export const QI_IEC_TYPE = 4;
export const QI_IWD_TYPE = 5;
/** Granularity, bits 4 and 5 of context-cache and IOTLB descriptors. */
export const QI_GRAN_GLOBAL = 1 << 4;
export const QI_GRAN_DOMAIN = 2 << 4;
export const QI_GRAN_PAGE = 3 << 4;
export const QI_GRAN_MASK = 3 << 4;
/** Domain id of an IOTLB descriptor, source id of a device-TLB one: upper half of the low word, or word 1. */
export const QI_IOTLB_DID_SHIFT = 16;
/** Address mask: the low 6 bits of a page-selective descriptor's second half. */
export const QI_IOTLB_AM_MASK = 0x3f;
/** Size bit of a device-TLB descriptor's address: the lowest clear bit above it says how many pages. */
export const QI_DEV_IOTLB_SIZE = 1;
/** Status write of a wait descriptor, and its fence. */
export const QI_IWD_STATUS_WRITE = 1 << 5;
export const QI_IWD_FENCE = 1 << 6;

/** Fault reasons (§7.2.3.1). */
export const VTD_FR_ROOT_ENTRY_P = 1;
export const VTD_FR_CONTEXT_ENTRY_P = 2;
export const VTD_FR_CONTEXT_ENTRY_INV = 3;
export const VTD_FR_ADDR_BEYOND_MGAW = 4;
export const VTD_FR_WRITE = 5;
export const VTD_FR_READ = 6;
export const VTD_FR_PAGING_ENTRY_INV = 7;
export const VTD_FR_ROOT_TABLE_INV = 8;
export const VTD_FR_CONTEXT_TABLE_INV = 9;

/** What each reason says, for problems and tables. */
export const VTD_FAULT_TEXT: Readonly<Record<number, string>> = {
  [VTD_FR_ROOT_ENTRY_P]: 'the root entry of the bus is not present',
  [VTD_FR_CONTEXT_ENTRY_P]: 'the context entry of the device is not present',
  [VTD_FR_CONTEXT_ENTRY_INV]: 'the context entry of the device is invalid',
  [VTD_FR_ADDR_BEYOND_MGAW]: 'the address has more bits than the tables',
  [VTD_FR_WRITE]: 'no entry on the way allows writing',
  [VTD_FR_READ]: 'no entry on the way allows reading',
  [VTD_FR_PAGING_ENTRY_INV]: 'a table on the way lies outside the guest’s memory',
  [VTD_FR_ROOT_TABLE_INV]: 'the root table lies outside the guest’s memory',
  [VTD_FR_CONTEXT_TABLE_INV]: 'the context table lies outside the guest’s memory',
};
