/**
 * A VFIO container, /dev/vfio/vfio: the groups whose devices share one set of DMA mappings, and the driver of the IOMMU that
 * makes them: type 1, or none at all (`vfio.enable_unsafe_noiommu_mode`). linux 6.1 drivers/vfio/container.c,
 * vfio_iommu_type1.c.
 *
 * Runs on the vCPU of the program that makes the ioctl. What it is given is checked as the kernel does; a bad argument is an
 * errno and leaves everything as it was.
 */
import type { StaticDma } from '../iommu/dma.ts';
import { EEXIST, EFAULT, EINVAL, ENODEV, ENOSPC, ENOTTY, EPERM } from '../kernel/errno.ts';
import { OpenFile } from '../kernel/files.ts';
import { viewOf } from '../wire/struct.ts';
import {
  VFIO_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_GET_API_VERSION,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_INFO_PGSIZES,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_NOIOMMU_IOMMU,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VFIO_UNMAP_ALL,
  vfio_iommu_type1_dma_map,
  vfio_iommu_type1_dma_unmap,
  vfio_iommu_type1_info,
  vfio_iommu_type1_info_minsz,
} from '../wire/vfio.ts';

const PAGE = 4096;
/** linux dma_entry_limit of vfio_iommu_type1. */
export const DMA_ENTRY_LIMIT = 65_535;
/** What type 1 says its pages are: the bits of 4 KiB, 2 MiB, 1 GiB where the tables have them. */
const PGSIZES = 0x1000 + 0x20_0000 + 0x4000_0000;

/** The memory of the program that has the container open. */
export interface ProcessMemory {
  /** Physical address of `bytes` bytes from `vaddr` on, which must lie in one piece; -1 where nothing is mapped. */
  physical(vaddr: number, bytes: number): number;
  /** Bytes of its pages: what lies in several of them is not known to be in one piece. */
  readonly pageBytes: number;
}
/** The domain of a container in an IOMMU: the mappings of all its devices. */
export interface VfioDomain {
  readonly dma: StaticDma;
  /** Pages in which `dma` may map, bytes: the largest. */
  readonly largestPage: number;
  /** iommu_attach_group(): the device translates through the domain from now on. 0 or a negative errno. */
  attach(sourceId: number): number;
  detach(sourceId: number): void;
}
/** What a container holds of a group; group.ts has the rest. */
export interface ContainedGroup {
  readonly noIommu: boolean;
  /** Bus, device and function of its devices, as an IOMMU names them. */
  readonly sourceIds: readonly number[];
}
export interface VfioMapping {
  readonly iova: number;
  readonly vaddr: number;
  readonly bytes: number;
}
export interface ContainerOptions {
  readonly memory: ProcessMemory;
  /** null: the machine has no IOMMU. */
  readonly domain: VfioDomain | null;
  /** The module parameter that allows devices without an IOMMU. */
  readonly unsafeNoIommu: boolean;
}

export class VfioContainer extends OpenFile {
  /** VFIO_SET_IOMMU: 0 before. */
  iommuType = 0;
  readonly groups: ContainedGroup[] = [];
  readonly mappings: VfioMapping[] = [];
  private readonly options: ContainerOptions;

  constructor(options: ContainerOptions) {
    super('/dev/vfio/vfio');
    this.options = options;
  }
  /** All groups of a container have an IOMMU, or none has. */
  private get noIommu(): boolean {
    return this.groups.length > 0 && this.groups[0]!.noIommu;
  }

  override ioctl(request: number, argument: Uint8Array, value = 0): number {
    switch (request) {
      case VFIO_GET_API_VERSION:
        return VFIO_API_VERSION;
      case VFIO_CHECK_EXTENSION:
        return this.checkExtension(value);
      case VFIO_SET_IOMMU:
        return this.setIommu(value);
      case VFIO_IOMMU_GET_INFO:
        return this.typed() ?? this.getInfo(argument);
      case VFIO_IOMMU_MAP_DMA:
        return this.typed() ?? this.mapDma(argument);
      case VFIO_IOMMU_UNMAP_DMA:
        return this.typed() ?? this.unmapDma(argument);
      default:
        return this.typed() ?? -ENOTTY;
    }
  }
  /** Errno of an ioctl that only the driver of an IOMMU knows; null where type 1 takes it. */
  private typed(): number | null {
    if (this.iommuType === 0) return -EINVAL;
    return this.iommuType === VFIO_NOIOMMU_IOMMU ? -ENOTTY : null;
  }

  /** Until a driver is chosen, any that is loaded may say yes, whatever the machine has. */
  private checkExtension(extension: number): number {
    const { unsafeNoIommu } = this.options;
    const type1 = [VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_UNMAP_ALL].includes(extension);
    const none = extension === VFIO_NOIOMMU_IOMMU && unsafeNoIommu;
    if (this.iommuType !== 0) return this.iommuType === VFIO_NOIOMMU_IOMMU ? Number(none) : Number(type1);
    if (this.groups.length > 0) return Number(this.noIommu ? none : type1);
    return Number(type1 || none);
  }
  /** vfio_ioctl_set_iommu(): a driver that knows the type takes all groups; -ENODEV where none does. */
  private setIommu(type: number): number {
    if (this.groups.length === 0 || this.iommuType !== 0) return -EINVAL;
    const suits = this.noIommu
      ? type === VFIO_NOIOMMU_IOMMU && this.options.unsafeNoIommu
      : type === VFIO_TYPE1_IOMMU || type === VFIO_TYPE1v2_IOMMU;
    if (!suits) return -ENODEV;
    for (const [i, group] of this.groups.entries()) {
      const result = this.attachDevices(group);
      if (result === 0) continue;
      for (const other of this.groups.slice(0, i)) this.detachDevices(other);
      return result;
    }
    this.iommuType = type;
    return 0;
  }
  private attachDevices(group: ContainedGroup): number {
    if (group.noIommu) return 0;
    const { domain } = this.options;
    if (domain === null) return -ENODEV;
    for (const [i, id] of group.sourceIds.entries()) {
      const result = domain.attach(id);
      if (result === 0) continue;
      for (const other of group.sourceIds.slice(0, i)) domain.detach(other);
      return result;
    }
    return 0;
  }
  private detachDevices(group: ContainedGroup): void {
    if (group.noIommu) return;
    for (const id of group.sourceIds) this.options.domain?.detach(id);
  }

  /** VFIO_GROUP_SET_CONTAINER, the container's part. */
  take(group: ContainedGroup): number {
    if (this.groups.length > 0 && this.noIommu !== group.noIommu) return -EPERM;
    if (this.iommuType !== 0) {
      const result = this.attachDevices(group);
      if (result !== 0) return result;
    }
    this.groups.push(group);
    this.references++;
    return 0;
  }
  /** A group leaves. With the last one the driver goes, and all mappings with it. */
  leave(group: ContainedGroup): void {
    const at = this.groups.indexOf(group);
    if (at < 0) return;
    if (this.iommuType !== 0) this.detachDevices(group);
    this.groups.splice(at, 1);
    if (this.groups.length === 0) this.dropDriver();
    this.put();
  }
  private dropDriver(): void {
    for (const m of this.mappings) this.options.domain?.dma.unmapRegion(m.iova, m.bytes);
    this.mappings.length = 0;
    this.iommuType = 0;
  }
  protected override released(): void {
    this.dropDriver();
  }

  private getInfo(argument: Uint8Array): number {
    const S = vfio_iommu_type1_info;
    if (argument.length < vfio_iommu_type1_info_minsz) return -EFAULT;
    const view = viewOf(argument);
    if (S.argsz.get(view, 0) < vfio_iommu_type1_info_minsz) return -EINVAL;
    S.flags.set(view, 0, VFIO_IOMMU_INFO_PGSIZES);
    const { largestPage } = this.options.domain!;
    S.iova_pgsizes.set(view, 0, PGSIZES % (2 * largestPage));
    return 0;
  }

  /** vfio_dma_do_map(). */
  private mapDma(argument: Uint8Array): number {
    const S = vfio_iommu_type1_dma_map;
    if (argument.length < S.SIZE) return -EFAULT;
    const view = viewOf(argument);
    const flags = S.flags.get(view, 0);
    const known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    if (S.argsz.get(view, 0) < S.SIZE || (flags & ~known) !== 0 || flags === 0) return -EINVAL;
    const vaddr = S.vaddr.get(view, 0);
    const iova = S.iova.get(view, 0);
    const bytes = S.size.get(view, 0);
    // U64_TOO_BIG reads as a negative number
    if (bytes <= 0 || [vaddr, iova, bytes].some((n) => n < 0 || n % PAGE !== 0)) return -EINVAL;
    if (!Number.isSafeInteger(iova + bytes) || !Number.isSafeInteger(vaddr + bytes)) return -EINVAL;
    if (this.overlaps(iova, bytes)) return -EEXIST;
    if (this.mappings.length >= DMA_ENTRY_LIMIT) return -ENOSPC;
    const { memory, domain } = this.options;
    const at = memory.physical(vaddr, bytes);
    if (at < 0) return -EFAULT;
    const result = domain!.dma.mapRegion(iova, at, bytes, Math.min(domain!.largestPage, memory.pageBytes));
    if (result === 0) this.mappings.push({ iova, vaddr, bytes });
    return result;
  }
  private overlaps(iova: number, bytes: number): boolean {
    return this.mappings.some((m) => iova < m.iova + m.bytes && m.iova < iova + bytes);
  }

  /** vfio_dma_do_unmap(). Type 1 takes whole mappings that the range touches, version 2 refuses to cut one. */
  private unmapDma(argument: Uint8Array): number {
    const S = vfio_iommu_type1_dma_unmap;
    if (argument.length < S.SIZE) return -EFAULT;
    const view = viewOf(argument);
    const flags = S.flags.get(view, 0);
    if (S.argsz.get(view, 0) < S.SIZE || (flags & ~VFIO_DMA_UNMAP_FLAG_ALL) !== 0) return -EINVAL;
    const all = (flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
    const iova = S.iova.get(view, 0);
    const bytes = S.size.get(view, 0);
    if (iova < 0 || bytes < 0 || iova % PAGE !== 0 || bytes % PAGE !== 0) return -EINVAL;
    if (all ? iova !== 0 || bytes !== 0 : bytes === 0 || !Number.isSafeInteger(iova + bytes)) return -EINVAL;
    const end = all ? Number.POSITIVE_INFINITY : iova + bytes;
    const touched = this.mappings.filter((m) => iova < m.iova + m.bytes && m.iova < end);
    const cut = touched.some((m) => m.iova < iova || m.iova + m.bytes > end);
    if (cut && this.iommuType === VFIO_TYPE1v2_IOMMU) return -EINVAL;
    const first = touched.find((m) => m.iova < iova);
    // type 1 does not begin within a mapping: nothing is unmapped
    const going = first === undefined ? touched : [];
    let unmapped = 0;
    for (const m of going) {
      this.options.domain!.dma.unmapRegion(m.iova, m.bytes);
      this.mappings.splice(this.mappings.indexOf(m), 1);
      unmapped += m.bytes;
    }
    S.size.set(view, 0, unmapped);
    return 0;
  }
}
