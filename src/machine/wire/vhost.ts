/**
 * Arguments of the /dev/vhost-net ioctls; the vhost-user messages carry the same structures as payloads.
 * Source: linux include/uapi/linux/vhost.h and vhost_types.h (6.1).
 */
import { bytes, type Field, le32, le64, sle32, struct, u8 } from './struct.ts';

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
/** VHOST_SET_LOG_BASE: an address. */
export const vhost_u64: Field = le64;
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

export const VHOST_IOTLB_MISS = 1;
export const VHOST_IOTLB_UPDATE = 2;
export const VHOST_IOTLB_INVALIDATE = 3;
export const VHOST_IOTLB_ACCESS_FAIL = 4;
export const VHOST_ACCESS_RO = 1;
export const VHOST_ACCESS_WO = 2;
export const VHOST_ACCESS_RW = 3;
/** `type` of a message that is read from or written to the vhost device. */
export const VHOST_IOTLB_MSG = 1;
export const VHOST_IOTLB_MSG_V2 = 2;
/** Both forms have 72 bytes; the first has 4 of padding where the second has an address space identifier. */
export const vhost_msg = struct({ type: le32, padding: le32, iotlb: bytes(32), rest: bytes(32) });
export const vhost_msg_v2 = struct({ type: le32, asid: le32, iotlb: bytes(32), rest: bytes(32) });
/** Pages of the dirty log. */
export const VHOST_PAGE_SIZE = 4096;
/** Backend feature: messages of the second form. */
export const VHOST_BACKEND_F_IOTLB_MSG_V2 = 1;
