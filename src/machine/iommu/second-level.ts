/**
 * Second-level tables: real bytes in the guest's memory. Its kernel writes them, QEMU reads them for each translation. Three
 * levels for the 39 bits of QEMU's default (aw-bits=39); a leaf is a page of 4 KiB, 2 MiB or 1 GiB.
 *
 * Whoever reads them does not trust them: an entry may point anywhere. Source: VT-d §3.7, §9.8; qemu hw/i386/intel_iommu.c
 * vtd_iova_to_slpte(); linux drivers/iommu/intel/iommu.c __domain_mapping().
 */
import type { Arena } from '../memory/arena.ts';
import {
  VTD_FR_ADDR_BEYOND_MGAW,
  VTD_FR_PAGING_ENTRY_INV,
  VTD_FR_READ,
  VTD_FR_WRITE,
  VTD_PAGE_SHIFT,
  VTD_SL_ADDRESS_LO,
  VTD_SL_PT_PAGE_SIZE_MASK,
  VTD_SL_R,
  VTD_SL_W,
  VTD_STRIDE,
} from '../wire/vtd.ts';

export const LEVELS = 3;
/** Bytes that the tables address. */
export const ADDRESS_LIMIT = 2 ** (VTD_PAGE_SHIFT + LEVELS * VTD_STRIDE);
const WORD = 2 ** 32;
const ENTRIES_MASK = (1 << VTD_STRIDE) - 1;

/** Bytes of a leaf at a level: 4 KiB, 2 MiB, 1 GiB. */
export const pageBytes = (level: number): number => 2 ** (VTD_PAGE_SHIFT + (level - 1) * VTD_STRIDE);
/** The entry's index in its table. */
export const indexAt = (iova: number, level: number): number => Math.floor(iova / pageBytes(level)) & ENTRIES_MASK;

/** A guest's memory as QEMU reaches it. */
export interface GuestMemory {
  readonly arena: Arena;
  /** Arena offset of guest-physical address 0. */
  readonly ram: number;
  readonly ramBytes: number;
}

/** What one walk found; an object of the walker's, so that walks allocate nothing. */
export class Walk {
  /** Guest-physical address of the byte, where the walk succeeded. */
  gpa = 0;
  /** 1 is a page of 4 KiB, 2 one of 2 MiB, 3 one of 1 GiB. */
  level = 0;
  /** Guest-physical address of the entry that was read last. */
  pteGpa = 0;
  pteLo = 0;
  pteHi = 0;
  /** 0, or a VTD_FR_ reason. */
  fault = 0;
}
/** One entry on the way, for those who want to see it. */
export interface WalkStep {
  readonly level: number;
  readonly pteGpa: number;
  readonly pteLo: number;
  readonly pteHi: number;
}

/**
 * Walks the tables at guest-physical `root` for `iova`. `write`: the device wants to write. `steps` gets every entry read.
 * Fills `walk` and returns whether the address is mapped.
 */
export function walkTables(
  memory: GuestMemory,
  root: number,
  iova: number,
  write: boolean,
  walk: Walk,
  steps?: WalkStep[],
): boolean {
  const { u32 } = memory.arena;
  walk.fault = 0;
  walk.level = LEVELS;
  if (iova < 0 || iova >= ADDRESS_LIMIT) {
    walk.fault = VTD_FR_ADDR_BEYOND_MGAW;
    return false;
  }
  let table = root;
  for (let level = LEVELS; ; level--) {
    walk.level = level;
    walk.pteGpa = table + 8 * indexAt(iova, level);
    if (table < 0 || walk.pteGpa + 8 > memory.ramBytes) {
      walk.fault = VTD_FR_PAGING_ENTRY_INV;
      return false;
    }
    const w = (memory.ram + walk.pteGpa) >> 2;
    const lo = u32[w]!;
    walk.pteLo = lo;
    walk.pteHi = u32[w + 1]!;
    steps?.push({ level, pteGpa: walk.pteGpa, pteLo: walk.pteLo, pteHi: walk.pteHi });
    if ((lo & (write ? VTD_SL_W : VTD_SL_R)) === 0) {
      walk.fault = write ? VTD_FR_WRITE : VTD_FR_READ;
      return false;
    }
    // bits 52-63 are the hardware's or ignored
    const next = (walk.pteHi & 0xf_ffff) * WORD + ((lo & VTD_SL_ADDRESS_LO) >>> 0);
    if (level === 1 || (lo & VTD_SL_PT_PAGE_SIZE_MASK) !== 0) {
      const size = pageBytes(level);
      walk.gpa = next - (next % size) + (iova % size);
      return true;
    }
    table = next;
  }
}

/** Where tables come from. */
export interface TablePages {
  /** Guest-physical address of a zeroed page of 4 KiB, or -1. */
  take(): number;
}

/** The tables of one domain as the guest's kernel keeps them. */
export class SecondLevelTables {
  /** Guest-physical address of the top table. */
  readonly root: number;
  private readonly memory: GuestMemory;
  private readonly pages: TablePages;

  /** `pages` has at least one left: the top table. */
  constructor(memory: GuestMemory, pages: TablePages) {
    this.memory = memory;
    this.pages = pages;
    this.root = pages.take();
  }

  /** Word index of the entry of `iova` at `level`, whose tables are made on the way where `make`; -1 without. */
  private entry(iova: number, level: number, make: boolean): number {
    const { arena, ram } = this.memory;
    const { u32 } = arena;
    let table = this.root;
    for (let l = LEVELS; ; l--) {
      const w = (ram + table + 8 * indexAt(iova, l)) >> 2;
      if (l === level) return w;
      let lo = u32[w]!;
      if ((lo & (VTD_SL_R | VTD_SL_W)) === 0) {
        if (!make) return -1;
        const page = this.pages.take();
        if (page < 0) return -1;
        lo = page | VTD_SL_R | VTD_SL_W;
        u32[w] = lo;
        u32[w + 1] = 0;
      } else if ((lo & VTD_SL_PT_PAGE_SIZE_MASK) !== 0) return -1; // a larger page is in the way
      table = (lo & VTD_SL_ADDRESS_LO) >>> 0;
    }
  }

  /**
   * Maps one page at `level`; `access` is VTD_SL_R and VTD_SL_W. False: no memory for a table, or something is mapped there.
   * Guest memory ends below 4 GiB, so an entry's upper word is 0.
   */
  mapPage(iova: number, gpa: number, level: number, access: number): boolean {
    const { u32 } = this.memory.arena;
    const w = this.entry(iova, level, true);
    if (w < 0 || (u32[w]! & (VTD_SL_R | VTD_SL_W)) !== 0) return false;
    u32[w + 1] = 0;
    u32[w] = gpa | access | (level > 1 ? VTD_SL_PT_PAGE_SIZE_MASK : 0);
    return true;
  }
  /** Clears the entry of one page at `level`. False: it was not mapped so. */
  unmapPage(iova: number, level: number): boolean {
    const { u32 } = this.memory.arena;
    const w = this.entry(iova, level, false);
    if (w < 0 || (u32[w]! & (VTD_SL_R | VTD_SL_W)) === 0) return false;
    if (level > 1 && (u32[w]! & VTD_SL_PT_PAGE_SIZE_MASK) === 0) return false;
    u32[w] = 0;
    u32[w + 1] = 0;
    return true;
  }
  /** The level at which `iova` is mapped, 0 where it is not. */
  levelOf(iova: number): number {
    for (let level = LEVELS; level > 0; level--) {
      const w = this.entry(iova, level, false);
      if (w < 0) return 0;
      const lo = this.memory.arena.u32[w]!;
      if ((lo & (VTD_SL_R | VTD_SL_W)) === 0) return 0;
      if (level === 1 || (lo & VTD_SL_PT_PAGE_SIZE_MASK) !== 0) return level;
    }
    return 0;
  }
}
