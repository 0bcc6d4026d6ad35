/**
 * Memory of a DPDK program: a heap that takes pages from the system when it needs them, and tells whoever has to map them for
 * devices. dpdk 22.11 lib/eal/common/malloc_heap.c, lib/eal/linux/eal_memalloc.c.
 *
 * DEVIATION: the pages of a program lie one behind the other in the memory of the guest, and it never gives any back.
 */

/** dpdk lib/eal/common/eal_common_options.c: where a 64-bit program begins to map its memory. */
export const EAL_BASE_VIRTADDR = 0x1_0000_0000;

/** IOVAs are physical addresses, or the program's virtual ones (`--iova-mode`). */
export type IovaMode = 'pa' | 'va';

/** struct rte_memseg: one page of a heap in hugepages, all of it without. */
export interface Memseg {
  readonly vaddr: number;
  readonly physical: number;
  readonly iova: number;
  readonly bytes: number;
}
export interface EalMemoryOptions {
  /** First physical address that the heap may have, and the one behind the last. */
  readonly from: number;
  readonly to: number;
  /** 4 KiB (`--no-huge`), 2 MiB or 1 GiB. */
  readonly pageBytes: number;
  readonly iovaMode: IovaMode;
  /** Taken at once when the program starts: `--socket-mem`, or `-m` without hugepages. Bytes. */
  readonly atStart: number;
}
const SMALL_PAGE = 4096;

export class EalMemory {
  readonly pageBytes: number;
  readonly iovaMode: IovaMode;
  readonly memsegs: Memseg[] = [];
  /** rte_mem_event_callback_register(): told of each segment that the heap takes after the program has started. */
  onGrow: (memseg: Memseg) => void = () => {};
  private readonly base: number;
  private readonly to: number;
  private readonly atStart: number;
  /** Physical address behind what was taken from the system, and behind what was given out of that. */
  private end: number;
  private next: number;

  constructor(options: EalMemoryOptions) {
    const { from, to, pageBytes, iovaMode, atStart } = options;
    this.pageBytes = pageBytes;
    this.iovaMode = iovaMode;
    this.base = Math.ceil(from / pageBytes) * pageBytes;
    this.to = to;
    this.atStart = atStart;
    this.end = this.base;
    this.next = this.base;
  }
  /** Bytes taken from the system, and bytes of them that nobody has. */
  get bytes(): number {
    return this.end - this.base;
  }
  get free(): number {
    return this.end - this.next;
  }
  /** Pages taken. */
  get pages(): number {
    return this.bytes / this.pageBytes;
  }

  /** rte_eal_memory_init(): what the command line asks for. False: the system has not so much. */
  init(): boolean {
    return this.atStart === 0 || this.take(this.atStart);
  }
  /** Zeroed memory of so many bytes: its physical address, or -1. */
  alloc(bytes: number, align: number): number {
    const at = Math.ceil(this.next / align) * align;
    const missing = at + bytes - this.end;
    if (missing > 0 && !this.take(missing)) return -1;
    this.next = at + bytes;
    return at;
  }
  /** Whole pages, at least so many bytes. */
  private take(bytes: number): boolean {
    const rounded = Math.ceil(bytes / this.pageBytes) * this.pageBytes;
    if (this.end + rounded > this.to) return false;
    // without hugepages the kernel gives pages one by one, and the EAL keeps them as one segment
    const step = this.pageBytes === SMALL_PAGE ? rounded : this.pageBytes;
    for (let i = 0; i < rounded; i += step) {
      const physical = this.end;
      const vaddr = this.vaddrOf(physical);
      this.end += step;
      const memseg = { vaddr, physical, iova: this.iovaMode === 'va' ? vaddr : physical, bytes: step };
      this.memsegs.push(memseg);
      this.onGrow(memseg);
    }
    return true;
  }
  private vaddrOf(physical: number): number {
    return EAL_BASE_VIRTADDR + (physical - this.base);
  }

  /** What a device uses for a physical address of the heap. */
  iova(physical: number): number {
    return this.iovaMode === 'va' ? this.vaddrOf(physical) : physical;
  }
  /** ProcessMemory: -1 beyond the heap. */
  physical(vaddr: number, bytes: number): number {
    const at = this.base + (vaddr - EAL_BASE_VIRTADDR);
    return at >= this.base && at + bytes <= this.end ? at : -1;
  }
}
