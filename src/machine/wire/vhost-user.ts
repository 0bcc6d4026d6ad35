/**
 * vhost-user messages on the socket: a header of 12 bytes, then the payload. Source: QEMU docs/interop/vhost-user.rst.
 * All fields are in the host's byte order; here always little-endian, as on x86-64.
 */
import { bytes, le16, le32, le64, struct } from './struct.ts';

export const vhost_user_header = struct({ request: le32, flags: le32, size: le32 });
export const VHOST_USER_VERSION = 0x1;
export const VHOST_USER_VERSION_MASK = 0x3;
export const VHOST_USER_REPLY_MASK = 0x4;
export const VHOST_USER_NEED_REPLY_MASK = 0x8;

/** Payload `u64`: two halves, because feature words use all 64 bits. */
export const vhost_user_u64 = struct({ lo: le32, hi: le32 });
/** SET_VRING_KICK, CALL and ERR: ring index in bits 0-7, bit 8 says that no descriptor comes along. */
export const VHOST_USER_VRING_IDX_MASK = 0xff;
export const VHOST_USER_VRING_NOFD_MASK = 0x100;
/** Payload `memory regions`: this head, then regions. */
export const vhost_user_memory = struct({ nregions: le32, padding: le32 });
export const vhost_user_memory_region = struct({
  guest_phys_addr: le64,
  memory_size: le64,
  userspace_addr: le64,
  mmap_offset: le64,
});
/** The document's limit and DPDK's (VHOST_MEMORY_MAX_NREGIONS). */
export const VHOST_USER_MEMORY_MAX_NREGIONS = 8;
/** rust-vmm takes as many, and the slots of VHOST_USER_GET_MAX_MEM_SLOTS may be as many here. */
export const VHOST_USER_MAX_RAM_SLOTS = 32;
/** Largest message that is looked at, header included (rust-vmm MAX_MSG_SIZE); anything longer closes the connection. */
export const VHOST_USER_MSG_MAX = 4096;
export const VHOST_USER_PAYLOAD_MAX = VHOST_USER_MSG_MAX - 12;
/** Descriptors beside one message (dpdk VHOST_MEMORY_MAX_NREGIONS). */
export const VHOST_USER_FDS_MAX = 8;
export const vhost_user_log = struct({ mmap_size: le64, mmap_offset: le64 });
/** Payload `single memory region`. */
export const vhost_user_single_region = struct({
  padding: le64,
  guest_phys_addr: le64,
  memory_size: le64,
  userspace_addr: le64,
  mmap_offset: le64,
});
/** Payload `config`: this head, then `size` bytes of the device's configuration space. */
export const vhost_user_config = struct({ offset: le32, size: le32, flags: le32 });
/** qemu VHOST_USER_MAX_CONFIG_SIZE, dpdk VHOST_USER_MAX_CONFIG_SIZE. */
export const VHOST_USER_MAX_CONFIG_SIZE = 256;
/** `flags` of SET_CONFIG: also fields that are read-only to the driver. */
export const VHOST_SET_CONFIG_TYPE_MIGRATION = 1;
/** Payload `vring area`: index in bits 0-7 of the u64, bit 8 says that no descriptor comes along. */
export const vhost_user_vring_area = struct({ lo: le32, hi: le32, size: le64, offset: le64 });
/** Payload `inflight`; without the padding it is as valid. */
export const vhost_user_inflight = struct({
  mmap_size: le64,
  mmap_offset: le64,
  num_queues: le16,
  queue_size: le16,
  padding: bytes(4),
});
export const VHOST_USER_INFLIGHT_UNPADDED = 20;
