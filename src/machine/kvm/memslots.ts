/**
 * KVM's memory slots: what part of guest-physical memory lies where in the process that made the VM. linux
 * virt/kvm/kvm_main.c, __kvm_set_memory_region(), kvm_get_dirty_log() (6.1).
 *
 * DEVIATION: pages that a vCPU writes are not logged by themselves, as guests write memory without a page table in between;
 * markDirty() logs what whoever moves a guest says that it wrote.
 */
import { EEXIST, EFAULT, EINVAL, ENOENT } from '../kernel/errno.ts';
import { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_dirty_log, kvm_userspace_memory_region } from '../wire/kvm.ts';

/** linux include/linux/kvm_host.h: SHRT_MAX less the three that KVM keeps for itself (arch/x86/include/asm/kvm_host.h). */
export const KVM_USER_MEM_SLOTS = 32_764;
/** Of x86: one as the guest sees it, one for system management mode. */
export const KVM_ADDRESS_SPACE_NUM = 2;
const PAGE = 4096;
/** linux include/linux/kvm_host.h, KVM_MEM_MAX_NR_PAGES. */
const MAX_PAGES = 0x7fff_ffff;
/** What a process of x86-64 can have mapped (access_ok()). */
const TASK_SIZE_MAX = 2 ** 47 - PAGE;

export interface KvmMemorySlot {
  /** Address space in bits 16 and up, number below. */
  readonly slot: number;
  readonly flags: number;
  readonly guest_phys_addr: number;
  readonly memory_size: number;
  readonly userspace_addr: number;
  /** A bit for each page while KVM_MEM_LOG_DIRTY_PAGES is set. */
  readonly dirty: Uint8Array | null;
}

export class MemSlots {
  private readonly slots = new Map<number, KvmMemorySlot>();

  /** In order of their addresses. */
  get list(): KvmMemorySlot[] {
    return [...this.slots.values()].sort((a, b) => a.slot - b.slot);
  }

  /** KVM_SET_USER_MEMORY_REGION: 0 or a negative errno. */
  set(m: DataView): number {
    const r = kvm_userspace_memory_region;
    const slot = r.slot.get(m, 0);
    const flags = r.flags.get(m, 0);
    const guest_phys_addr = r.guest_phys_addr.get(m, 0);
    const memory_size = r.memory_size.get(m, 0);
    const userspace_addr = r.userspace_addr.get(m, 0);
    if ((slot & 0xffff) >= KVM_USER_MEM_SLOTS) return -EINVAL;
    if ((flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)) !== 0) return -EINVAL;
    // a field beyond 2^53 reads as -1, which is no multiple of a page
    if (memory_size % PAGE !== 0 || guest_phys_addr % PAGE !== 0 || userspace_addr % PAGE !== 0) return -EINVAL;
    if (userspace_addr + memory_size > TASK_SIZE_MAX) return -EINVAL;
    if (slot >>> 16 >= KVM_ADDRESS_SPACE_NUM) return -EINVAL;
    if (memory_size / PAGE > MAX_PAGES) return -EINVAL;
    const old = this.slots.get(slot);
    if (memory_size === 0) {
      if (old === undefined) return -EINVAL;
      this.slots.delete(slot);
      return 0;
    }
    if (old !== undefined) {
      const replaced =
        userspace_addr !== old.userspace_addr ||
        memory_size !== old.memory_size ||
        ((flags ^ old.flags) & KVM_MEM_READONLY) !== 0;
      if (replaced) return -EINVAL;
    }
    const end = guest_phys_addr + memory_size;
    if ((old === undefined || old.guest_phys_addr !== guest_phys_addr) && this.overlaps(slot, guest_phys_addr, end))
      return -EEXIST;
    const logs = (flags & KVM_MEM_LOG_DIRTY_PAGES) !== 0;
    const dirty = logs ? (old?.dirty ?? new Uint8Array(bitmapBytes(memory_size))) : null;
    this.slots.set(slot, { slot, flags, guest_phys_addr, memory_size, userspace_addr, dirty });
    return 0;
  }
  private overlaps(slot: number, start: number, end: number): boolean {
    for (const other of this.slots.values()) {
      if (other.slot === slot || other.slot >>> 16 !== slot >>> 16) continue;
      if (start < other.guest_phys_addr + other.memory_size && other.guest_phys_addr < end) return true;
    }
    return false;
  }

  /** KVM_GET_DIRTY_LOG: the pages written since it was asked last, into the bytes that follow the structure. */
  dirtyLog(argument: Uint8Array, m: DataView): number {
    const slot = kvm_dirty_log.slot.get(m, 0);
    if (slot >>> 16 >= KVM_ADDRESS_SPACE_NUM || (slot & 0xffff) >= KVM_USER_MEM_SLOTS) return -EINVAL;
    const found = this.slots.get(slot);
    if (found === undefined || found.dirty === null) return -ENOENT;
    if (argument.length < kvm_dirty_log.SIZE + found.dirty.length) return -EFAULT;
    argument.set(found.dirty, kvm_dirty_log.SIZE);
    found.dirty.fill(0);
    return 0;
  }
  /** `bytes` of guest memory from `gpa` on were written. */
  markDirty(gpa: number, bytes: number): void {
    for (const { guest_phys_addr, memory_size, dirty } of this.slots.values()) {
      if (dirty === null) continue;
      const from = Math.max(gpa, guest_phys_addr);
      const to = Math.min(gpa + bytes, guest_phys_addr + memory_size);
      for (let at = from - (from % PAGE); at < to; at += PAGE) {
        const page = (at - guest_phys_addr) / PAGE;
        dirty[page >> 3]! |= 1 << (page & 7);
      }
    }
  }

  /** Where a guest-physical address lies in the process, -1 where no slot has it. */
  translate(gpa: number): number {
    for (const { slot, guest_phys_addr, memory_size, userspace_addr } of this.slots.values()) {
      if (slot >>> 16 !== 0 || gpa < guest_phys_addr || gpa >= guest_phys_addr + memory_size) continue;
      return userspace_addr + gpa - guest_phys_addr;
    }
    return -1;
  }
}

/** linux kvm_dirty_bitmap_bytes(): whole 64-bit words. */
function bitmapBytes(memory_size: number): number {
  return Math.ceil(memory_size / PAGE / 64) * 8;
}
