/**
 * vhost-user messages on the socket: a header of 12 bytes, then the payload. Source: QEMU docs/interop/vhost-user.rst.
 * All fields are in the host's byte order; here always little-endian, as on x86-64.
 */
import { le32, le64, struct } from './struct.ts';

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
/** Largest payload that a message for a network device has; anything longer closes the connection. */
export const VHOST_USER_PAYLOAD_MAX = 8 + 32 * VHOST_USER_MEMORY_MAX_NREGIONS;
export const vhost_user_log = struct({ mmap_size: le64, mmap_offset: le64 });
