/**
 * vhost-user messages as bytes: the header of 12 bytes, the payload behind it, and how long and with how many descriptors a
 * message of the table may be. What the payload's fields are called is fields.ts.
 */
import { struct, viewOf } from './struct.ts';
import { vhost_iotlb_msg, vhost_vring_addr, vhost_vring_state } from './vhost.ts';
import {
  VHOST_USER_INFLIGHT_UNPADDED,
  VHOST_USER_MAX_CONFIG_SIZE,
  VHOST_USER_NEED_REPLY_MASK,
  VHOST_USER_PAYLOAD_MAX,
  VHOST_USER_REPLY_MASK,
  VHOST_USER_VERSION,
  VHOST_USER_VERSION_MASK,
  VHOST_USER_VRING_NOFD_MASK,
  vhost_user_config,
  vhost_user_header,
  vhost_user_inflight,
  vhost_user_log,
  vhost_user_memory,
  vhost_user_memory_region,
  vhost_user_single_region,
  vhost_user_u64,
  vhost_user_vring_area,
} from './vhost-user.ts';
import type { PayloadKind, VhostUserMessage } from './vhost-user-messages.ts';

/** Without an owner's layout here: a session of a crypto device, 256 sizes of shared memory regions. */
const CRYPTO_SESSION_BYTES = 632;
const SHMEM_CONFIG_BYTES = 8 + 8 * 256;
const FIXED: Readonly<Record<Exclude<PayloadKind, 'memory' | 'config'>, readonly number[]>> = {
  none: [struct({}).SIZE],
  u64: [vhost_user_u64.SIZE],
  vring_state: [vhost_vring_state.SIZE],
  vring_addr: [vhost_vring_addr.SIZE],
  single_region: [vhost_user_single_region.SIZE],
  log: [vhost_user_log.SIZE],
  // the structure of linux/vhost.h has padding behind its last byte; who packs it sends 26
  iotlb: [vhost_iotlb_msg.SIZE, 26],
  vring_area: [vhost_user_vring_area.SIZE],
  inflight: [vhost_user_inflight.SIZE, VHOST_USER_INFLIGHT_UNPADDED],
  crypto_session: [CRYPTO_SESSION_BYTES],
  device_state: [8],
  uuid: [16],
  shmem_config: [SHMEM_CONFIG_BYTES],
  mmap: [40],
};
/** Is this a payload of that kind? A memory table and a piece of configuration say themselves how long they are. */
export function payloadSizeOk(kind: PayloadKind, payload: Uint8Array): boolean {
  const m = viewOf(payload);
  if (kind === 'memory') {
    if (payload.length < vhost_user_memory.SIZE) return false;
    const n = vhost_user_memory.nregions.get(m, 0);
    return payload.length === vhost_user_memory.SIZE + n * vhost_user_memory_region.SIZE;
  }
  if (kind === 'config') {
    if (payload.length < vhost_user_config.SIZE) return false;
    const size = vhost_user_config.size.get(m, 0);
    return size <= VHOST_USER_MAX_CONFIG_SIZE && payload.length === vhost_user_config.SIZE + size;
  }
  return FIXED[kind].includes(payload.length);
}
/** How many descriptors belong to a message with that payload (of the right size): [fewest, most]. */
export function fdRange(message: VhostUserMessage, payload: Uint8Array): readonly [number, number] {
  const m = viewOf(payload);
  switch (message.fds) {
    case 'none':
      return [0, 0];
    case 'one':
      return [1, 1];
    case 'optional':
      return [0, 1];
    case 'regions': {
      const n = vhost_user_memory.nregions.get(m, 0);
      return [n, n];
    }
    case 'vring': {
      const n = (vhost_user_u64.lo.get(m, 0) & VHOST_USER_VRING_NOFD_MASK) !== 0 ? 0 : 1;
      return [n, n];
    }
  }
}

/** A message, header and payload in one. */
export function encodeMessage(request: number, flags: number, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(vhost_user_header.SIZE + payload.length);
  const m = viewOf(out);
  vhost_user_header.request.set(m, 0, request);
  vhost_user_header.flags.set(m, 0, flags | VHOST_USER_VERSION);
  vhost_user_header.size.set(m, 0, payload.length);
  out.set(payload, vhost_user_header.SIZE);
  return out;
}
export interface DecodedMessage {
  readonly request: number;
  readonly flags: number;
  readonly reply: boolean;
  readonly needReply: boolean;
  readonly payload: Uint8Array;
}
/** Is this the start of a message: version, flags that exist, a size that a message may have? `bytes` are 12 at least. */
export function headerOk(bytes: Uint8Array): boolean {
  const m = viewOf(bytes);
  const flags = vhost_user_header.flags.get(m, 0);
  if ((flags & VHOST_USER_VERSION_MASK) !== VHOST_USER_VERSION) return false;
  if ((flags & ~(VHOST_USER_VERSION_MASK | VHOST_USER_REPLY_MASK | VHOST_USER_NEED_REPLY_MASK)) !== 0) return false;
  return vhost_user_header.size.get(m, 0) <= VHOST_USER_PAYLOAD_MAX;
}
/** One whole message, or null: too short, other version, flags that do not exist, size that is not the payload's. */
export function decodeMessage(bytes: Uint8Array): DecodedMessage | null {
  if (bytes.length < vhost_user_header.SIZE || !headerOk(bytes)) return null;
  const m = viewOf(bytes);
  const flags = vhost_user_header.flags.get(m, 0);
  if (bytes.length !== vhost_user_header.SIZE + vhost_user_header.size.get(m, 0)) return null;
  return {
    request: vhost_user_header.request.get(m, 0),
    flags,
    reply: (flags & VHOST_USER_REPLY_MASK) !== 0,
    needReply: (flags & VHOST_USER_NEED_REPLY_MASK) !== 0,
    payload: bytes.subarray(vhost_user_header.SIZE),
  };
}

export const NO_PAYLOAD = new Uint8Array(0);
export function u64Payload(lo: number, hi = 0): Uint8Array {
  const out = new Uint8Array(vhost_user_u64.SIZE);
  vhost_user_u64.lo.set(viewOf(out), 0, lo);
  vhost_user_u64.hi.set(viewOf(out), 0, hi);
  return out;
}
export function vringStatePayload(index: number, num: number): Uint8Array {
  const out = new Uint8Array(vhost_vring_state.SIZE);
  vhost_vring_state.index.set(viewOf(out), 0, index);
  vhost_vring_state.num.set(viewOf(out), 0, num);
  return out;
}
