/**
 * A bit for each page of guest memory that a back-end has written, for a migration. Somebody else reads them at the same time,
 * so they are set atomically. linux drivers/vhost/vhost.c, log_write(); dpdk lib/vhost/vhost.c, __vhost_log_write().
 */
import { VHOST_PAGE_SIZE } from '../wire/vhost.ts';

export class DirtyBits {
  declare private readonly bits: Uint8Array;

  constructor(bits: Uint8Array) {
    this.bits = bits;
  }

  /** Bytes of guest memory that the log covers. */
  get covers(): number {
    return this.bits.length * 8 * VHOST_PAGE_SIZE;
  }
  /** `length` bytes from the guest-physical address `gpa` on were written. What lies behind the log is left out. */
  mark(gpa: number, length: number): void {
    if (length <= 0 || gpa < 0 || gpa + length > this.covers) return;
    const last = Math.floor((gpa + length - 1) / VHOST_PAGE_SIZE);
    for (let page = Math.floor(gpa / VHOST_PAGE_SIZE); page <= last; page++)
      Atomics.or(this.bits, page >>> 3, 1 << (page & 7));
  }
  /** Is the page of that address marked? */
  isDirty(gpa: number): boolean {
    const page = Math.floor(gpa / VHOST_PAGE_SIZE);
    return ((this.bits[page >>> 3] ?? 0) & (1 << (page & 7))) !== 0;
  }
}
