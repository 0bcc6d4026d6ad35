/** Payloads that QEMU makes from what it knows of memory and rings, and what `vhost_dev_log_resize()` asks for. */
import { viewOf } from '../../wire/struct.ts';
import {
  vhost_user_inflight,
  vhost_user_log,
  vhost_user_memory,
  vhost_user_memory_region,
  vhost_user_single_region,
} from '../../wire/vhost-user.ts';
import type { MemoryRegion } from '../session.ts';

export function memoryPayload(regions: readonly MemoryRegion[]): Uint8Array {
  const r = vhost_user_memory_region;
  const out = new Uint8Array(vhost_user_memory.SIZE + regions.length * r.SIZE);
  const m = viewOf(out);
  vhost_user_memory.nregions.set(m, 0, regions.length);
  for (const [i, region] of regions.entries()) {
    const at = vhost_user_memory.SIZE + i * r.SIZE;
    r.guest_phys_addr.set(m, at, region.guest_phys_addr);
    r.memory_size.set(m, at, region.memory_size);
    r.userspace_addr.set(m, at, region.userspace_addr);
    r.mmap_offset.set(m, at, region.mmap_offset);
  }
  return out;
}
export function regionPayload(region: MemoryRegion): Uint8Array {
  const r = vhost_user_single_region;
  const out = new Uint8Array(r.SIZE);
  const m = viewOf(out);
  r.guest_phys_addr.set(m, 0, region.guest_phys_addr);
  r.memory_size.set(m, 0, region.memory_size);
  r.userspace_addr.set(m, 0, region.userspace_addr);
  r.mmap_offset.set(m, 0, region.mmap_offset);
  return out;
}
export function logPayload(size: number): Uint8Array {
  const out = new Uint8Array(vhost_user_log.SIZE);
  vhost_user_log.mmap_size.set(viewOf(out), 0, size);
  return out;
}
export interface InflightArea {
  readonly mmap_size: number;
  readonly mmap_offset: number;
  readonly num_queues: number;
  readonly queue_size: number;
}
export function inflightPayload(area: InflightArea): Uint8Array {
  const out = new Uint8Array(vhost_user_inflight.SIZE);
  const m = viewOf(out);
  vhost_user_inflight.mmap_size.set(m, 0, area.mmap_size);
  vhost_user_inflight.mmap_offset.set(m, 0, area.mmap_offset);
  vhost_user_inflight.num_queues.set(m, 0, area.num_queues);
  vhost_user_inflight.queue_size.set(m, 0, area.queue_size);
  return out;
}
export function readInflight(payload: Uint8Array): InflightArea {
  const m = viewOf(payload);
  return {
    mmap_size: vhost_user_inflight.mmap_size.get(m, 0),
    mmap_offset: vhost_user_inflight.mmap_offset.get(m, 0),
    num_queues: vhost_user_inflight.num_queues.get(m, 0),
    queue_size: vhost_user_inflight.queue_size.get(m, 0),
  };
}

/** Guest memory that one word of the log is for: 64 pages (qemu include/hw/virtio/vhost.h, VHOST_LOG_CHUNK). */
const VHOST_LOG_CHUNK = 4096 * 64;
const LOG_WORD_BYTES = 8;
/** Bytes of a log for all of that memory: qemu hw/virtio/vhost.c, vhost_get_log_size(). */
export function logBytes(regions: readonly MemoryRegion[]): number {
  const last = Math.max(0, ...regions.map((r) => r.guest_phys_addr + r.memory_size - 1));
  return (Math.floor(last / VHOST_LOG_CHUNK) + 1) * LOG_WORD_BYTES;
}
