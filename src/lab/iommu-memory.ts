/** Guest memory that the kernel's IOMMU tables take: planned before the guest is built, as nothing is freed or added later. */

/** What decides about it, of a NIC. */
export interface MappedNic {
  readonly queueSize: number;
  readonly queuePairs: number;
}
const PAGE = 4096;
const ENTRIES = 512;
/** Pages of a big receive buffer with its header, and of a frame that the device cuts: more than any other buffer has. */
const BUFFER_PAGES = 20;
/** Buffers that a lazy flush queue keeps mapped addresses of, for each pair. */
const FLUSH_QUEUE = 256;
/** Root table, queue, status words, a context table. */
const FIXED = 8;
/** Upper tables of a domain, and what sizes that lie apart begin anew. */
const PER_DOMAIN = 12;

/** Pages for root and context tables, the invalidation queue and the second-level tables of all NICs. */
export function iommuPages(nics: readonly MappedNic[], ramBytes = 0): number {
  let pages = FIXED;
  for (const { queueSize, queuePairs } of nics) {
    const buffers = queuePairs * (queueSize * (BUFFER_PAGES + 4) + FLUSH_QUEUE * 4) + 64 * 4;
    pages += PER_DOMAIN + Math.ceil(buffers / ENTRIES);
  }
  // a static map of all memory in pages of 4 KiB
  return pages + nics.length * Math.ceil(ramBytes / PAGE / ENTRIES);
}
