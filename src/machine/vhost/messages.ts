/**
 * The vhost-user messages, one row each: number, payload, descriptors, reply. Codec and back-end work from this table and know
 * no message sizes of their own. Source: QEMU docs/interop/vhost-user.rst; who takes descriptors: dpdk lib/vhost/vhost_user.c.
 */
import { struct, viewOf } from '../wire/struct.ts';
import { vhost_vring_addr, vhost_vring_state } from '../wire/vhost.ts';
import {
  VHOST_USER_NEED_REPLY_MASK,
  VHOST_USER_PAYLOAD_MAX,
  VHOST_USER_REPLY_MASK,
  VHOST_USER_VERSION,
  VHOST_USER_VERSION_MASK,
  vhost_user_header,
  vhost_user_log,
  vhost_user_memory,
  vhost_user_memory_region,
  vhost_user_u64,
} from '../wire/vhost-user.ts';

export const VHOST_USER_GET_FEATURES = 1;
export const VHOST_USER_SET_FEATURES = 2;
export const VHOST_USER_SET_OWNER = 3;
export const VHOST_USER_RESET_OWNER = 4;
export const VHOST_USER_SET_MEM_TABLE = 5;
export const VHOST_USER_SET_LOG_BASE = 6;
export const VHOST_USER_SET_LOG_FD = 7;
export const VHOST_USER_SET_VRING_NUM = 8;
export const VHOST_USER_SET_VRING_ADDR = 9;
export const VHOST_USER_SET_VRING_BASE = 10;
export const VHOST_USER_GET_VRING_BASE = 11;
export const VHOST_USER_SET_VRING_KICK = 12;
export const VHOST_USER_SET_VRING_CALL = 13;
export const VHOST_USER_SET_VRING_ERR = 14;
export const VHOST_USER_GET_PROTOCOL_FEATURES = 15;
export const VHOST_USER_SET_PROTOCOL_FEATURES = 16;
export const VHOST_USER_GET_QUEUE_NUM = 17;
export const VHOST_USER_SET_VRING_ENABLE = 18;
export const VHOST_USER_SEND_RARP = 19;
export const VHOST_USER_NET_SET_MTU = 20;
/** In older texts SET_SLAVE_REQ_FD. */
export const VHOST_USER_SET_BACKEND_REQ_FD = 21;
export const VHOST_USER_SET_STATUS = 39;
export const VHOST_USER_GET_STATUS = 40;

export const VHOST_USER_PROTOCOL_F_MQ = 0;
export const VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1;
export const VHOST_USER_PROTOCOL_F_RARP = 2;
export const VHOST_USER_PROTOCOL_F_REPLY_ACK = 3;
export const VHOST_USER_PROTOCOL_F_NET_MTU = 4;
export const VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5;
export const VHOST_USER_PROTOCOL_F_STATUS = 16;

export type PayloadKind = 'none' | 'u64' | 'vring_state' | 'vring_addr' | 'memory' | 'log';
export interface VhostUserMessage {
  readonly id: number;
  /** Without the prefix `VHOST_USER_`. */
  readonly name: string;
  readonly payload: PayloadKind;
  /** Descriptors beside it: none, one, one unless bit 8 of the u64 says none, one per memory region. */
  readonly fds: 'none' | 'one' | 'vring' | 'regions';
  /** Payload of the reply that always comes; null where only REPLY_ACK brings one (u64, 0 = success). */
  readonly reply: PayloadKind | null;
  /** Protocol feature bit without which the message is not allowed, or -1. */
  readonly needs: number;
}

const none = 'none' as const;
function row(
  id: number,
  name: string,
  payload: PayloadKind,
  reply: PayloadKind | null = null,
  options: { fds?: VhostUserMessage['fds']; needs?: number } = {},
): VhostUserMessage {
  return { id, name, payload, reply, fds: options.fds ?? none, needs: options.needs ?? -1 };
}
/**
 * The messages of a network device that this back-end takes. Left out: IOTLB (22), cross-endian, config, crypto, postcopy,
 * inflight, memory slots, in-band notifications, device state (see the conformance list); they close the connection, as
 * DPDK does with a request that it does not know.
 */
export const VHOST_USER_MESSAGES: readonly VhostUserMessage[] = [
  row(VHOST_USER_GET_FEATURES, 'GET_FEATURES', none, 'u64'),
  row(VHOST_USER_SET_FEATURES, 'SET_FEATURES', 'u64'),
  row(VHOST_USER_SET_OWNER, 'SET_OWNER', none),
  row(VHOST_USER_RESET_OWNER, 'RESET_OWNER', none),
  row(VHOST_USER_SET_MEM_TABLE, 'SET_MEM_TABLE', 'memory', null, { fds: 'regions' }),
  row(VHOST_USER_SET_LOG_BASE, 'SET_LOG_BASE', 'log', 'none', { fds: 'one', needs: VHOST_USER_PROTOCOL_F_LOG_SHMFD }),
  row(VHOST_USER_SET_LOG_FD, 'SET_LOG_FD', none, null, { fds: 'one' }),
  row(VHOST_USER_SET_VRING_NUM, 'SET_VRING_NUM', 'vring_state'),
  row(VHOST_USER_SET_VRING_ADDR, 'SET_VRING_ADDR', 'vring_addr'),
  row(VHOST_USER_SET_VRING_BASE, 'SET_VRING_BASE', 'vring_state'),
  row(VHOST_USER_GET_VRING_BASE, 'GET_VRING_BASE', 'vring_state', 'vring_state'),
  row(VHOST_USER_SET_VRING_KICK, 'SET_VRING_KICK', 'u64', null, { fds: 'vring' }),
  row(VHOST_USER_SET_VRING_CALL, 'SET_VRING_CALL', 'u64', null, { fds: 'vring' }),
  row(VHOST_USER_SET_VRING_ERR, 'SET_VRING_ERR', 'u64', null, { fds: 'vring' }),
  row(VHOST_USER_GET_PROTOCOL_FEATURES, 'GET_PROTOCOL_FEATURES', none, 'u64'),
  row(VHOST_USER_SET_PROTOCOL_FEATURES, 'SET_PROTOCOL_FEATURES', 'u64'),
  row(VHOST_USER_GET_QUEUE_NUM, 'GET_QUEUE_NUM', none, 'u64', { needs: VHOST_USER_PROTOCOL_F_MQ }),
  row(VHOST_USER_SET_VRING_ENABLE, 'SET_VRING_ENABLE', 'vring_state'),
  row(VHOST_USER_SEND_RARP, 'SEND_RARP', 'u64', null, { needs: VHOST_USER_PROTOCOL_F_RARP }),
  row(VHOST_USER_NET_SET_MTU, 'NET_SET_MTU', 'u64', null, { needs: VHOST_USER_PROTOCOL_F_NET_MTU }),
  row(VHOST_USER_SET_BACKEND_REQ_FD, 'SET_BACKEND_REQ_FD', none, null, {
    fds: 'one',
    needs: VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  }),
  row(VHOST_USER_SET_STATUS, 'SET_STATUS', 'u64', null, { needs: VHOST_USER_PROTOCOL_F_STATUS }),
  row(VHOST_USER_GET_STATUS, 'GET_STATUS', none, 'u64', { needs: VHOST_USER_PROTOCOL_F_STATUS }),
];
const BY_ID: ReadonlyMap<number, VhostUserMessage> = new Map(VHOST_USER_MESSAGES.map((m) => [m.id, m]));
export const vhostUserMessage = (id: number): VhostUserMessage | undefined => BY_ID.get(id);

const FIXED: Readonly<Record<Exclude<PayloadKind, 'memory'>, number>> = {
  none: struct({}).SIZE,
  u64: vhost_user_u64.SIZE,
  vring_state: vhost_vring_state.SIZE,
  vring_addr: vhost_vring_addr.SIZE,
  log: vhost_user_log.SIZE,
};
/** Is this a payload of that kind? A memory table says itself how long it is. */
export function payloadSizeOk(kind: PayloadKind, payload: Uint8Array): boolean {
  if (kind !== 'memory') return payload.length === FIXED[kind];
  if (payload.length < vhost_user_memory.SIZE) return false;
  const n = vhost_user_memory.nregions.get(viewOf(payload), 0);
  return payload.length === vhost_user_memory.SIZE + n * vhost_user_memory_region.SIZE;
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
/** One whole message, or null: too short, other version, flags that do not exist, size that is not the payload's. */
export function decodeMessage(bytes: Uint8Array): DecodedMessage | null {
  if (bytes.length < vhost_user_header.SIZE) return null;
  const m = viewOf(bytes);
  const flags = vhost_user_header.flags.get(m, 0);
  const size = vhost_user_header.size.get(m, 0);
  if ((flags & VHOST_USER_VERSION_MASK) !== VHOST_USER_VERSION) return null;
  if ((flags & ~(VHOST_USER_VERSION_MASK | VHOST_USER_REPLY_MASK | VHOST_USER_NEED_REPLY_MASK)) !== 0) return null;
  if (size > VHOST_USER_PAYLOAD_MAX || bytes.length !== vhost_user_header.SIZE + size) return null;
  return {
    request: vhost_user_header.request.get(m, 0),
    flags,
    reply: (flags & VHOST_USER_REPLY_MASK) !== 0,
    needReply: (flags & VHOST_USER_NEED_REPLY_MASK) !== 0,
    payload: bytes.subarray(vhost_user_header.SIZE),
  };
}

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
