/**
 * The memory in which a back-end keeps what it has taken and not yet given back, so that its successor can go on after a
 * crash: one region for each queue, in a file that the front-end holds meanwhile (GET_INFLIGHT_FD, SET_INFLIGHT_FD). What is
 * in a region is inflight-split.ts and inflight-packed.ts. QEMU docs/interop/vhost-user.rst, "Inflight I/O tracking".
 */
import { le16, le32, le64, struct, u8 } from '../../wire/struct.ts';

/** Head of a split queue's region, DescStateSplit follow. */
export const inflight_split_region = struct({
  features: le64,
  /** 1; 0 means that nothing has been written yet. */
  version: le16,
  desc_num: le16,
  last_batch_head: le16,
  used_idx: le16,
});
export const desc_state_split = struct({
  inflight: u8,
  padding: { width: 5, get: () => 0, set: () => {} },
  next: le16,
  counter: le64,
});
/** Head of a packed queue's region, DescStatePacked follow at 32. */
export const inflight_packed_region = struct({
  features: le64,
  version: le16,
  desc_num: le16,
  free_head: le16,
  old_free_head: le16,
  used_idx: le16,
  old_used_idx: le16,
  used_wrap_counter: u8,
  old_used_wrap_counter: u8,
});
/** The C structure ends with 7 bytes of padding, and what follows is aligned to 8. */
export const PACKED_REGION_HEAD = 32;
export const desc_state_packed = struct({
  inflight: u8,
  padding: u8,
  next: le16,
  last: le16,
  num: le16,
  counter: le64,
  id: le16,
  flags: le16,
  len: le32,
  addr: le64,
});
export const INFLIGHT_VERSION = 1;
/** Regions start at multiples of it (qemu, dpdk: INFLIGHT_ALIGNMENT). */
export const INFLIGHT_ALIGNMENT = 64;

/** Bytes of one queue's region. */
export function inflightRegionBytes(queueSize: number, packed: boolean): number {
  const bytes = packed
    ? PACKED_REGION_HEAD + desc_state_packed.SIZE * queueSize
    : inflight_split_region.SIZE + desc_state_split.SIZE * queueSize;
  return Math.ceil(bytes / INFLIGHT_ALIGNMENT) * INFLIGHT_ALIGNMENT;
}
