/**
 * Arguments of the /dev/vhost-net ioctls; the vhost-user messages carry the same structures as payloads.
 * Source: linux include/uapi/linux/vhost.h and vhost_types.h (6.1).
 */
import { bytes, le32, le64, sle32, struct, u8 } from './struct.ts';

export const vhost_vring_state = struct({ index: le32, num: le32 });
/** fd -1 unbinds. */
export const vhost_vring_file = struct({ index: le32, fd: sle32 });
/** `used` comes before `avail`. */
export const vhost_vring_addr = struct({
  index: le32,
  flags: le32,
  desc_user_addr: le64,
  used_user_addr: le64,
  avail_user_addr: le64,
  log_guest_addr: le64,
});
/** Bit of `flags`: log writes to the used ring. */
export const VHOST_VRING_F_LOG = 0;
/** Head of the table; `regions` follow. */
export const vhost_memory = struct({ nregions: le32, padding: le32 });
export const vhost_memory_region = struct({
  guest_phys_addr: le64,
  memory_size: le64,
  userspace_addr: le64,
  flags_padding: le64,
});
/** A 64-bit feature word as two halves. */
export const vhost_features = struct({ lo: le32, hi: le32 });
export const vhost_iotlb_msg = struct({
  iova: le64,
  size: le64,
  uaddr: le64,
  perm: u8,
  type: u8,
  padding: bytes(6),
});
