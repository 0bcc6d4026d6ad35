/**
 * Where guest RAM lies in guest-physical addresses: the KVM memory slots that QEMU's pc and q35 machines register. Below
 * 1 MiB there is the legacy hole for video memory; guests here have at most 2 GiB, so nothing reaches the PCI hole
 * (q35: from 0xb0000000) and there is no memory above 4 GiB. qemu hw/i386/pc.c, pc_memory_init().
 */
export interface MemorySlot {
  readonly slot: number;
  readonly gpa: number;
  readonly size: number;
  /** Place of the slot's first byte in the guest's RAM block. */
  readonly offsetInRam: number;
}

export const LEGACY_HOLE_START = 0xa_0000;
export const LEGACY_HOLE_END = 0xc_0000;
export const GUEST_RAM_MAX = 2 * 1024 ** 3;
export const PAGE_SIZE = 4096;

/** stratovirt machine/src/x86_64/micro.rs and standard.rs, MEM_LAYOUT: RAM from 0 on, in one piece up to 2 GiB. */
export const flatMemory = (ramBytes: number): MemorySlot[] => [{ slot: 0, gpa: 0, size: ramBytes, offsetInRam: 0 }];

/**
 * The hole swallows the RAM behind it, as on hardware: a guest of 16 MiB has 128 KiB less to use, and its highest address is
 * still 16 MiB. DEVIATION: QEMU splits 0xc0000-0x100000 further where firmware shadow is read-only (PAM); here it is RAM.
 */
export function memorySlots(ramBytes: number): MemorySlot[] {
  if (!Number.isInteger(ramBytes) || ramBytes <= 0 || ramBytes > GUEST_RAM_MAX || ramBytes % PAGE_SIZE !== 0) {
    throw new RangeError(`guest RAM of ${ramBytes} bytes: whole pages up to 2 GiB`);
  }
  const low = { slot: 0, gpa: 0, size: Math.min(ramBytes, LEGACY_HOLE_START), offsetInRam: 0 };
  if (ramBytes <= LEGACY_HOLE_END) return [low];
  return [low, { slot: 1, gpa: LEGACY_HOLE_END, size: ramBytes - LEGACY_HOLE_END, offsetInRam: LEGACY_HOLE_END }];
}
