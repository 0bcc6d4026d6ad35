/**
 * The DMA API of a guest's kernel over an IOMMU: a mapping for each buffer, made when it goes into a ring and taken away when
 * it comes back. Strict mode invalidates at once, buffer by buffer; lazy mode keeps addresses in a queue until it is full or
 * old, and then invalidates the whole domain. linux 6.1 drivers/iommu/dma-iommu.c, __iommu_dma_map(), __iommu_dma_unmap(),
 * queue_iova().
 *
 * Runs on the vCPU that drives the queue: one DmaPort for each, all of a device's share its domain.
 *
 * DEVIATION: ring memory is one piece of guest memory, where Linux puts pages together that lie apart. Tables are not given
 * back when their last entry goes.
 */
import { IOMMU_FLUSH, IOMMU_MAP, IOMMU_UNMAP } from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';
import { NEVER } from '../../engine/timeline.ts';
import { VTD_SL_R, VTD_SL_W } from '../wire/vtd.ts';
import { DMA_FROM_DEVICE, DMA_MAPPING_ERROR, DMA_TO_DEVICE, type DmaDirection, type GuestDma } from './dma.ts';
import type { DmaOwner, IntelIommuDriver, IommuDomain } from './intel-driver.ts';
import type { IovaDomain } from './iova.ts';

const PAGE = 4096;
/** linux IOVA_FQ_SIZE: buffers that a CPU keeps before it flushes; IOVA_FQ_TIMEOUT, 10 ms. */
export const IOVA_FQ_SIZE = 256;
export const IOVA_FQ_TIMEOUT_NS = 10_000_000;

/** dma_info_to_prot(): what the device may do. */
const PROT: Readonly<Record<DmaDirection, number>> = {
  [DMA_TO_DEVICE]: VTD_SL_R,
  [DMA_FROM_DEVICE]: VTD_SL_W,
  3: VTD_SL_R | VTD_SL_W,
};

/** A device's address space as its DMA API users share it. */
export interface DmaSpace {
  readonly driver: IntelIommuDriver;
  readonly domain: IommuDomain;
  readonly iova: IovaDomain;
  readonly lazy: boolean;
}
export interface DmaCosts {
  readonly map: number;
  readonly unmap: number;
}

/** A flush queue as plain data. */
export interface FlushStanding {
  readonly due: number;
  readonly pfns: Float64Array;
  readonly pages: Int32Array;
}

export class DmaPort implements GuestDma {
  /** Who runs now: the boot first, then the queue's vCPU. */
  owner: DmaOwner;
  /** Element 0: when the flush queue is emptied at the latest, NEVER while it is empty. An array, so that it is not boxed. */
  readonly flushDue = new Float64Array([NEVER]);
  maps = 0;
  unmaps = 0;
  /** Buffers that could not be mapped. */
  failed = 0;
  private readonly space: DmaSpace;
  private readonly recorder: Recorder;
  /** Place of the driver in meta words. */
  private readonly place: number;
  private readonly mapCost: number;
  private readonly unmapCost: number;
  // the flush queue
  private readonly pfns: Float64Array;
  private readonly pages: Int32Array;
  private waiting = 0;

  constructor(space: DmaSpace, recorder: Recorder, place: number, owner: DmaOwner, costs: DmaCosts) {
    this.space = space;
    this.recorder = recorder;
    this.place = place << 8;
    this.owner = owner;
    this.mapCost = costs.map;
    this.unmapCost = costs.unmap;
    this.pfns = new Float64Array(space.lazy ? IOVA_FQ_SIZE : 0);
    this.pages = new Int32Array(space.lazy ? IOVA_FQ_SIZE : 0);
  }

  standing(): FlushStanding {
    const { flushDue, pfns, pages, waiting } = this;
    return { due: flushDue[0]!, pfns: pfns.slice(0, waiting), pages: pages.slice(0, waiting) };
  }
  standAs({ due, pfns, pages }: FlushStanding): void {
    this.flushDue[0] = due;
    this.pfns.set(pfns);
    this.pages.set(pages);
    this.waiting = pfns.length;
  }

  map(gpa: number, bytes: number, direction: DmaDirection): number {
    const { space, owner } = this;
    const offset = gpa % PAGE;
    const pages = Math.ceil((offset + bytes) / PAGE);
    const pfn = space.iova.alloc(pages);
    owner.owe(this.mapCost);
    if (pfn < 0) return this.fails();
    const first = gpa - offset;
    const { tables } = space.domain;
    for (let i = 0; i < pages; i++) {
      if (tables.mapPage((pfn + i) * PAGE, first + i * PAGE, 1, PROT[direction])) continue;
      for (let j = 0; j < i; j++) tables.unmapPage((pfn + j) * PAGE, 1);
      space.iova.free(pfn, pages);
      return this.fails();
    }
    this.maps++;
    this.recorder.event(this.place | owner.contextBits | IOMMU_MAP, 0, pfn, bytes);
    // not-present entries may be cached only in caching mode (intel_iommu_iotlb_sync_map())
    if (space.driver.iommu.cachingMode) space.driver.flushPages(owner, space.domain, pfn, pages, true);
    return pfn * PAGE + offset;
  }
  private fails(): number {
    this.failed++;
    return DMA_MAPPING_ERROR;
  }

  unmap(iova: number, bytes: number): void {
    const { space, owner } = this;
    const pfn = Math.floor(iova / PAGE);
    const pages = Math.ceil(((iova % PAGE) + bytes) / PAGE);
    let cleared = 0;
    for (let i = 0; i < pages; i++) if (space.domain.tables.unmapPage((pfn + i) * PAGE, 1)) cleared++;
    owner.owe(this.unmapCost);
    if (cleared < pages || pages === 0) return; // it never was a mapping of ours
    this.unmaps++;
    this.recorder.event(this.place | owner.contextBits | IOMMU_UNMAP, 0, pfn, bytes);
    if (space.lazy) {
      this.later(pfn, pages);
      return;
    }
    space.driver.flushPages(owner, space.domain, pfn, pages, false);
    space.iova.free(pfn, pages);
  }

  /** queue_iova(): the address is not used again before the domain was flushed. */
  private later(pfn: number, pages: number): void {
    if (this.waiting === IOVA_FQ_SIZE) this.flush(false);
    this.pfns[this.waiting] = pfn;
    this.pages[this.waiting++] = pages;
    if (this.flushDue[0] === NEVER) this.flushDue[0] = this.recorder.stamp[0]! + IOVA_FQ_TIMEOUT_NS;
  }
  /** fq_flush_timeout() at the current stamp, or a full queue: one invalidation for all that waits. */
  flush(byTimer: boolean): void {
    const { space, owner } = this;
    if (byTimer) this.flushDue[0] = NEVER;
    if (this.waiting === 0) return;
    this.recorder.event(this.place | owner.contextBits | IOMMU_FLUSH, 0, this.waiting, byTimer ? 1 : 0);
    space.driver.flushDomain(owner, space.domain);
    for (let i = 0; i < this.waiting; i++) space.iova.free(this.pfns[i]!, this.pages[i]!);
    this.waiting = 0;
  }
}
