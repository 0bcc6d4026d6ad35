/**
 * I/O virtual addresses of one domain, from the top of the first 4 GiB downwards, in sizes of a power of two and aligned to
 * them, with what was freed last handed out first. Follows linux 6.1 drivers/iommu/iova.c (alloc_iova_fast(), the rcache) and
 * dma-iommu.c iommu_dma_alloc_iova(), which asks for 32 bits first for a PCI device.
 *
 * DEVIATION: one cache for all CPUs, without magazines and their depot; gaps that alignment leaves are not filled, and long
 * ranges come back to a cache of their size too, where Linux gives them to its tree.
 */
const PAGE = 4096;
/** PCI addresses of 32 bits (dma-iommu.c: DMA_BIT_MASK(32)). */
const LIMIT_PFN = 2 ** 32 / PAGE;
/** iova_reserve_iommu_regions(): message-signalled interrupts. */
const MSI_FIRST_PFN = 0xfee00;
const MSI_LAST_PFN = 0xfeeff;
/** Caches by the logarithm of their size in pages: up to 512 MiB. */
const ORDERS = 18;

/** A domain's addresses as plain data. */
export interface IovaStanding {
  readonly next: number;
  readonly allocated: number;
  /** What is free, by the logarithm of its size. */
  readonly free: readonly Float64Array[];
}

export class IovaDomain {
  private next = LIMIT_PFN;
  private readonly caches: Float64Array[] = Array.from({ length: ORDERS }, () => new Float64Array(16));
  private readonly counts = new Int32Array(ORDERS);
  /** Page frames handed out and not freed. */
  allocated = 0;

  standing(): IovaStanding {
    const { next, allocated, caches, counts } = this;
    return { next, allocated, free: caches.map((cache, order) => cache.slice(0, counts[order])) };
  }
  standAs({ next, allocated, free }: IovaStanding): void {
    this.next = next;
    this.allocated = allocated;
    for (const [order, pfns] of free.entries()) {
      const cache = new Float64Array(Math.max(16, pfns.length));
      cache.set(pfns);
      this.caches[order] = cache;
      this.counts[order] = pfns.length;
    }
  }

  /** First page frame of `pages` pages; -1 where the address space is exhausted. */
  alloc(pages: number): number {
    const order = orderOf(pages);
    if (order >= ORDERS) return -1;
    const count = this.counts[order]!;
    if (count > 0) {
      this.counts[order] = count - 1;
      this.allocated += 1 << order;
      return this.caches[order]![count - 1]!;
    }
    const size = 1 << order;
    let pfn = alignDown(this.next - size, size);
    if (pfn <= MSI_LAST_PFN && pfn + size > MSI_FIRST_PFN) pfn = alignDown(MSI_FIRST_PFN - size, size);
    if (pfn <= 0) return -1; // page 0 is no address
    this.next = pfn;
    this.allocated += size;
    return pfn;
  }

  /** Gives back what alloc(pages) gave. */
  free(pfn: number, pages: number): void {
    const order = orderOf(pages);
    let cache = this.caches[order]!;
    const count = this.counts[order]!;
    if (count === cache.length) {
      const grown = new Float64Array(2 * count);
      grown.set(cache);
      cache = grown;
      this.caches[order] = grown;
    }
    cache[count] = pfn;
    this.counts[order] = count + 1;
    this.allocated -= 1 << order;
  }
}

/** Logarithm of the smallest power of two that holds so many pages. */
function orderOf(pages: number): number {
  return pages <= 1 ? 0 : 32 - Math.clz32(pages - 1);
}
const alignDown = (pfn: number, size: number): number => pfn - (pfn % size);
