/**
 * The host's own IOMMU in front of a physical NIC that a DPDK program drives through VFIO: the NIC reaches what the program has
 * mapped, its mbufs, and nothing else. What it is refused stays with it: the frame is gone, and the fault is counted.
 * linux drivers/vfio/vfio_iommu_type1.c; dpdk lib/eal/linux/eal_vfio.c, vfio_dma_mem_map().
 *
 * DEVIATION: a list of mappings in place of tables in the host's memory, translations cost no time (the IOTLB of the hardware
 * holds pages of hugepages), and NICs that the host's kernel drives are not behind it.
 */
import { EEXIST, EINVAL, ENOENT } from '../kernel/errno.ts';

/** Pages that the host's hugepages have. */
const HUGE_PAGE = 2 ** 21;

interface HostMapping {
  readonly start: number;
  readonly end: number;
}

export class HostDma {
  /** Accesses that were refused. */
  faults = 0;
  private readonly mappings: HostMapping[] = [];
  // the mapping of the last access, as plain fields
  private hotStart = 1;
  private hotEnd = 0;

  /** VFIO_IOMMU_MAP_DMA, in whole pages: the address is the program's own (IOVA as VA). 0, -EINVAL or -EEXIST. */
  map(address: number, bytes: number): number {
    if (!(bytes > 0) || !Number.isSafeInteger(address) || address < 0) return -EINVAL;
    const start = address - (address % HUGE_PAGE);
    const end = Math.ceil((address + bytes) / HUGE_PAGE) * HUGE_PAGE;
    if (this.mappings.some((m) => start < m.end && m.start < end)) return -EEXIST;
    this.mappings.push({ start, end });
    return 0;
  }
  /** VFIO_IOMMU_UNMAP_DMA of what map() mapped from there on. 0 or -ENOENT. */
  unmap(address: number): number {
    const start = address - (address % HUGE_PAGE);
    const at = this.mappings.findIndex((m) => m.start === start);
    if (at < 0) return -ENOENT;
    this.mappings.splice(at, 1);
    this.hotStart = 1;
    this.hotEnd = 0;
    return 0;
  }
  /** Bytes mapped, in whole pages. */
  get bytes(): number {
    return this.mappings.reduce((n, m) => n + m.end - m.start, 0);
  }

  /** Whether the NIC may reach [address, address + bytes). A refusal is a fault. */
  allows(address: number, bytes: number): boolean {
    if (address >= this.hotStart && address + bytes <= this.hotEnd) return true;
    for (let i = 0; i < this.mappings.length; i++) {
      const m = this.mappings[i]!;
      if (address < m.start || address + bytes > m.end) continue;
      this.hotStart = m.start;
      this.hotEnd = m.end;
      return true;
    }
    this.faults++;
    return false;
  }
}
