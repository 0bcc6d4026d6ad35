/**
 * The guest kernel's driver of the IOMMU: its tables in guest memory, its invalidation queue, one domain for each device
 * (each has an IOMMU group to itself). linux 6.1 drivers/iommu/intel/iommu.c, dmar.c.
 *
 * Every register write is an exit that userspace answers. Who makes it, and pays, is the DmaOwner: the boot, or a vCPU.
 */
import { IOMMU_REGISTER } from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';
import {
  CONTEXT_AW_39,
  CONTEXT_DOMAIN_SHIFT,
  CONTEXT_TT_DEV_IOTLB,
  CONTEXT_TT_PASS_THROUGH,
  DMA_GCMD_QIE,
  DMA_GCMD_SRTP,
  DMA_GCMD_TE,
  DMAR_BASE,
  DMAR_GCMD_REG,
  DMAR_IQA_REG,
  DMAR_IQT_REG,
  DMAR_RTADDR_REG,
  QI_CC_TYPE,
  QI_DEV_IOTLB_SIZE,
  QI_DIOTLB_TYPE,
  QI_GRAN_DOMAIN,
  QI_GRAN_GLOBAL,
  QI_GRAN_PAGE,
  QI_IOTLB_DID_SHIFT,
  QI_IOTLB_TYPE,
  QI_IWD_FENCE,
  QI_IWD_STATUS_WRITE,
  QI_IWD_TYPE,
  qi_desc,
  VTD_MAMV,
  VTD_PRESENT,
} from '../wire/vtd.ts';
import type { IntelIommu } from './intel-iommu.ts';
import { SecondLevelTables, type TablePages } from './second-level.ts';

const PAGE = 4096;
/** linux QI_LENGTH: descriptors of the queue, which is one page. */
const QI_LENGTH = 256;
/** linux QI_DONE: what a wait descriptor writes. */
const QI_DONE = 2;
/** A device-TLB invalidation of everything: MAX_AGAW_PFN_WIDTH. */
const ALL_PAGES_MASK = 27;

/** On whose time the kernel's IOMMU code runs. */
export interface DmaOwner {
  /** Place and context part of the meta words of its vCPU's events. */
  readonly vcpuBase: number;
  /** Context part alone. */
  readonly contextBits: number;
  /** A register is written that nobody has in the kernel: KVM_RUN returns to QEMU, which costs its time. */
  leave(address: number, value: number, width: number): void;
  /** QEMU is done with it, and calls KVM_RUN again. */
  enter(): void;
  /** So many ns more before the vCPU goes on. */
  owe(ns: number): void;
}

/** A DMA domain: tables and who uses them. */
export interface IommuDomain {
  readonly id: number;
  readonly tables: SecondLevelTables;
  /** Devices with a device-TLB that are attached, by source id. */
  readonly devices: number[];
}

export class IntelIommuDriver {
  readonly iommu: IntelIommu;
  private readonly recorder: Recorder;
  private readonly pages: TablePages;
  private readonly submitCost: number;
  private readonly root: number;
  private readonly queue: number;
  /** Status words of wait descriptors, one for each descriptor. */
  private readonly status: number;
  /** The next descriptor to write. */
  tail = 0;
  private domains = 0;
  /** Invalidations submitted. */
  submitted = 0;

  /** Takes three pages at once: root table, queue, status words. */
  constructor(iommu: IntelIommu, recorder: Recorder, pages: TablePages, submitCost: number) {
    this.iommu = iommu;
    this.recorder = recorder;
    this.pages = pages;
    this.submitCost = submitCost;
    this.root = pages.take();
    this.queue = pages.take();
    this.status = pages.take();
  }

  /** init_dmars(): queue, root table, everything invalidated, then translation on. */
  enable(owner: DmaOwner): void {
    this.write64(owner, DMAR_IQA_REG, this.queue);
    this.write(owner, DMAR_IQT_REG, 0);
    this.write(owner, DMAR_GCMD_REG, DMA_GCMD_QIE);
    this.write64(owner, DMAR_RTADDR_REG, this.root);
    this.write(owner, DMAR_GCMD_REG, (DMA_GCMD_QIE | DMA_GCMD_SRTP) >>> 0);
    this.submit(owner, QI_CC_TYPE | QI_GRAN_GLOBAL, 0, 0, 0);
    this.submit(owner, QI_IOTLB_TYPE | QI_GRAN_GLOBAL, 0, 0, 0);
    this.write(owner, DMAR_GCMD_REG, (DMA_GCMD_QIE | DMA_GCMD_TE) >>> 0);
  }

  /** A new domain with empty tables. */
  domain(): IommuDomain {
    return { id: ++this.domains, tables: new SecondLevelTables(this.iommu.memory, this.pages), devices: [] };
  }
  /** domain_context_mapping_one(): the device translates through the domain's tables; null: its addresses are its own. */
  attach(owner: DmaOwner, sourceId: number, domain: IommuDomain | null): void {
    const { u32 } = this.iommu.memory.arena;
    const { ram } = this.iommu.memory;
    const rootEntry = (ram + this.root + (sourceId >>> 8) * 16) >> 2;
    if ((u32[rootEntry]! & VTD_PRESENT) === 0) u32[rootEntry] = this.pages.take() | VTD_PRESENT;
    const context = (ram + (u32[rootEntry]! & ~VTD_PRESENT) + (sourceId & 0xff) * 16) >> 2;
    const before = u32[context]! & VTD_PRESENT;
    const domainId = domain === null ? 0 : domain.id;
    u32[context + 3] = 0;
    u32[context + 2] = CONTEXT_AW_39 | (domainId << CONTEXT_DOMAIN_SHIFT);
    u32[context + 1] = 0;
    u32[context] =
      domain === null ? CONTEXT_TT_PASS_THROUGH | VTD_PRESENT : domain.tables.root | CONTEXT_TT_DEV_IOTLB | VTD_PRESENT;
    if (domain !== null) domain.devices.push(sourceId);
    // a present entry was changed, or absent ones may be cached
    if (before !== 0 || this.iommu.cachingMode) {
      this.submit(owner, QI_CC_TYPE | QI_GRAN_GLOBAL, 0, 0, 0);
      this.submit(owner, QI_IOTLB_TYPE | QI_GRAN_DOMAIN | (domainId << QI_IOTLB_DID_SHIFT), 0, 0, 0);
    }
  }

  /**
   * iommu_flush_iotlb_psi(): pages of one mapping. `mapped`: they were not present before, which only caching mode has to be
   * told of, and no device-TLB.
   */
  flushPages(owner: DmaOwner, domain: IommuDomain, pfn: number, pages: number, mapped: boolean): void {
    const mask = pages <= 1 ? 0 : 32 - Math.clz32(pages - 1);
    const did = domain.id << QI_IOTLB_DID_SHIFT;
    if (mask > VTD_MAMV) this.submit(owner, QI_IOTLB_TYPE | QI_GRAN_DOMAIN | did, 0, 0, 0);
    else {
      const iova = pfn * PAGE;
      this.submit(owner, QI_IOTLB_TYPE | QI_GRAN_PAGE | did, 0, (iova | mask) >>> 0, Math.floor(iova / 2 ** 32));
    }
    if (!mapped) this.flushDevices(owner, domain, pfn, mask);
  }
  /** intel_flush_iotlb_all(): the whole domain. */
  flushDomain(owner: DmaOwner, domain: IommuDomain): void {
    this.submit(owner, QI_IOTLB_TYPE | QI_GRAN_DOMAIN | (domain.id << QI_IOTLB_DID_SHIFT), 0, 0, 0);
    this.flushDevices(owner, domain, 0, ALL_PAGES_MASK);
  }
  /** iommu_flush_dev_iotlb(), qi_flush_dev_iotlb(): 2^mask pages, for each device that caches. */
  private flushDevices(owner: DmaOwner, domain: IommuDomain, pfn: number, mask: number): void {
    const { devices } = domain;
    const pages = mask === 0 ? pfn : pfn + 2 ** (mask - 1) - 1;
    const lo = ((pages * PAGE) | (mask === 0 ? 0 : QI_DEV_IOTLB_SIZE)) >>> 0;
    const hi = Math.floor((pages * PAGE) / 2 ** 32);
    for (let i = 0; i < devices.length; i++) this.submit(owner, QI_DIOTLB_TYPE, devices[i]!, lo, hi);
  }

  /** qi_submit_sync(): the descriptor and a wait, then the tail register; done when QEMU has written the status word. */
  private submit(owner: DmaOwner, lo: number, loHi: number, hi: number, hiHi: number): void {
    const { arena, ram } = this.iommu.memory;
    const { u32 } = arena;
    const first = this.tail;
    const wait = (first + 1) & (QI_LENGTH - 1);
    let w = (ram + this.queue + first * qi_desc.SIZE) >> 2;
    u32[w] = lo;
    u32[w + 1] = loHi;
    u32[w + 2] = hi;
    u32[w + 3] = hiHi;
    w = (ram + this.queue + wait * qi_desc.SIZE) >> 2;
    u32[w] = QI_IWD_TYPE | QI_IWD_STATUS_WRITE | QI_IWD_FENCE;
    u32[w + 1] = QI_DONE;
    u32[w + 2] = this.status + 4 * wait;
    u32[w + 3] = 0;
    u32[(ram + this.status + 4 * wait) >> 2] = 0;
    this.tail = (wait + 1) & (QI_LENGTH - 1);
    this.submitted++;
    owner.owe(this.submitCost);
    this.write(owner, DMAR_IQT_REG, this.tail * qi_desc.SIZE);
  }

  private write64(owner: DmaOwner, offset: number, value: number): void {
    owner.leave(DMAR_BASE + offset, value, 8);
    this.recorder.event(owner.vcpuBase | IOMMU_REGISTER, 0, offset, value);
    this.iommu.write(offset, value, owner.contextBits);
    this.iommu.write(offset + 4, 0, owner.contextBits);
    owner.enter();
  }
  private write(owner: DmaOwner, offset: number, value: number): void {
    owner.leave(DMAR_BASE + offset, value, 4);
    if (offset !== DMAR_IQT_REG) this.recorder.event(owner.vcpuBase | IOMMU_REGISTER, 0, offset, value);
    owner.owe(this.iommu.write(offset, value, owner.contextBits));
    owner.enter();
  }
}
