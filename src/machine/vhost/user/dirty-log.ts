/**
 * The log of pages that a back-end has written, for a migration: one bit for each 4 KiB of guest memory, in memory that the
 * front-end shares and reads at the same time, so bits are set atomically. QEMU docs/interop/vhost-user.rst, "Migration";
 * dpdk lib/vhost/vhost.c, __vhost_log_write().
 */
import type { Mapping } from '../../kernel/memory-file.ts';

export const VHOST_LOG_PAGE = 4096;

export class DirtyLog {
  readonly mapping: Mapping;
  declare private readonly bits: Uint8Array;

  /** `mapping`: of a file whose bytes are at hand. `offset`: where in the mapping the log starts; it goes on to its end. */
  constructor(mapping: Mapping, offset: number) {
    this.mapping = mapping;
    const bytes = mapping.file.bytes ?? new Uint8Array(0);
    this.bits = bytes.subarray(mapping.offset + offset, mapping.offset + mapping.length);
  }

  /** Bytes of guest memory that the log covers. */
  get covers(): number {
    return this.bits.length * 8 * VHOST_LOG_PAGE;
  }
  /** `length` bytes from the guest-physical address `gpa` on were written. What lies behind the log is left out, as DPDK does. */
  mark(gpa: number, length: number): void {
    if (length <= 0 || gpa < 0 || gpa + length > this.covers) return;
    const last = Math.floor((gpa + length - 1) / VHOST_LOG_PAGE);
    for (let page = Math.floor(gpa / VHOST_LOG_PAGE); page <= last; page++)
      Atomics.or(this.bits, page >>> 3, 1 << (page & 7));
  }
  /** Is the page of that address marked? */
  isDirty(gpa: number): boolean {
    const page = Math.floor(gpa / VHOST_LOG_PAGE);
    return ((this.bits[page >>> 3] ?? 0) & (1 << (page & 7))) !== 0;
  }
}
