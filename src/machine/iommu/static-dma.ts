/**
 * A program's mappings through VFIO: made once for the memory that it gives to its device, in pages as large as they can be,
 * and looked up afterwards. linux drivers/vfio/vfio_iommu_type1.c, vfio_dma_do_map(), vfio_iommu_map().
 *
 * Runs on the vCPU of the program: mapping is an ioctl that writes table entries and, in caching mode, invalidates.
 */
import { VFIO_DMA } from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';
import { EEXIST, EINVAL, ENOMEM } from '../kernel/errno.ts';
import { VTD_SL_R, VTD_SL_W } from '../wire/vtd.ts';
import { DMA_MAPPING_ERROR, type StaticDma } from './dma.ts';
import type { DmaOwner, IntelIommuDriver, IommuDomain } from './intel-driver.ts';
import { ADDRESS_LIMIT, pageBytes } from './second-level.ts';

const PAGE = 4096;

interface Region {
  readonly iova: number;
  readonly gpa: number;
  readonly bytes: number;
}

export class VfioDma implements StaticDma {
  owner: DmaOwner;
  readonly regions: Region[] = [];
  private readonly driver: IntelIommuDriver;
  private readonly domain: IommuDomain;
  private readonly recorder: Recorder;
  private readonly place: number;
  private readonly costs: { readonly map: number; readonly unmap: number };

  constructor(
    driver: IntelIommuDriver,
    domain: IommuDomain,
    recorder: Recorder,
    place: number,
    owner: DmaOwner,
    costs: { readonly map: number; readonly unmap: number },
  ) {
    this.driver = driver;
    this.domain = domain;
    this.recorder = recorder;
    this.place = place << 8;
    this.owner = owner;
    this.costs = costs;
  }

  map(gpa: number, bytes: number): number {
    const { regions } = this;
    for (let i = 0; i < regions.length; i++) {
      const r = regions[i]!;
      if (gpa >= r.gpa && gpa + bytes <= r.gpa + r.bytes) return r.iova + (gpa - r.gpa);
    }
    return DMA_MAPPING_ERROR;
  }
  unmap(): void {}

  mapRegion(iova: number, gpa: number, bytes: number, pageSize: number): number {
    const whole = [iova, gpa, bytes].every((n) => Number.isSafeInteger(n) && n >= 0 && n % PAGE === 0);
    const inside = iova + bytes <= ADDRESS_LIMIT && gpa + bytes <= this.driver.iommu.memory.ramBytes;
    if (!whole || bytes === 0 || !inside) return -EINVAL;
    if (this.regions.some((r) => iova < r.iova + r.bytes && r.iova < iova + bytes)) return -EEXIST;
    const mapped: [number, number][] = [];
    const { tables } = this.domain;
    for (let done = 0; done < bytes; ) {
      const level = largest(iova + done, gpa + done, bytes - done, pageSize);
      if (!tables.mapPage(iova + done, gpa + done, level, VTD_SL_R | VTD_SL_W)) {
        for (const [at, l] of mapped) tables.unmapPage(at, l);
        return -ENOMEM;
      }
      mapped.push([iova + done, level]);
      done += pageBytes(level);
      this.owner.owe(this.costs.map);
    }
    this.regions.push({ iova, gpa, bytes });
    this.recorder.event(this.place | this.owner.contextBits | VFIO_DMA, 0, iova / PAGE, bytes / PAGE);
    if (this.driver.iommu.cachingMode) this.driver.flushPages(this.owner, this.domain, iova / PAGE, bytes / PAGE, true);
    return 0;
  }

  unmapRegion(iova: number, bytes: number): number {
    if (iova % PAGE !== 0 || bytes <= 0 || bytes % PAGE !== 0) return -EINVAL;
    // VFIO_TYPE1v2: a mapping is taken away as a whole or not at all
    const cut = this.regions.some(
      (r) => iova < r.iova + r.bytes && r.iova < iova + bytes && !(r.iova >= iova && r.iova + r.bytes <= iova + bytes),
    );
    if (cut) return -EINVAL;
    let unmapped = 0;
    for (let i = this.regions.length - 1; i >= 0; i--) {
      const r = this.regions[i]!;
      if (r.iova < iova || r.iova >= iova + bytes) continue;
      for (let at = r.iova; at < r.iova + r.bytes; ) {
        const level = Math.max(1, this.domain.tables.levelOf(at));
        this.domain.tables.unmapPage(at, level);
        at += pageBytes(level);
        this.owner.owe(this.costs.unmap);
      }
      this.regions.splice(i, 1);
      unmapped += r.bytes;
    }
    if (unmapped > 0) {
      this.recorder.event(this.place | this.owner.contextBits | VFIO_DMA, 0, iova / PAGE, 0);
      this.driver.flushDomain(this.owner, this.domain);
    }
    return unmapped;
  }
}

/** Level of the largest page that fits, at most of `pageSize` bytes. */
function largest(iova: number, gpa: number, bytes: number, pageSize: number): number {
  for (let level = 3; level > 1; level--) {
    const size = pageBytes(level);
    if (size <= pageSize && size <= bytes && iova % size === 0 && gpa % size === 0) return level;
  }
  return 1;
}
