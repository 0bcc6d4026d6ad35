/**
 * The vhost-user messages, one row each: number, payload, descriptors, reply, what has to be negotiated first. Codec, back-end
 * and readers work from this table and know no message sizes of their own.
 *
 * Source: QEMU docs/interop/vhost-user.rst; who takes descriptors: dpdk lib/vhost/vhost_user.c, vhost_message_handlers.
 */
import * as R from './vhost-user-requests.ts';

export type PayloadKind =
  | 'none'
  | 'u64'
  | 'vring_state'
  | 'vring_addr'
  | 'memory'
  | 'single_region'
  | 'log'
  | 'iotlb'
  | 'config'
  | 'vring_area'
  | 'inflight'
  | 'crypto_session'
  | 'device_state'
  | 'uuid'
  | 'shmem_config'
  | 'mmap';

export interface VhostUserMessage {
  readonly id: number;
  /** Without the prefix `VHOST_USER_`. */
  readonly name: string;
  readonly payload: PayloadKind;
  /**
   * Descriptors beside it: none, one, one or none, one unless bit 8 of the u64 says none, one for each memory region. `optional`
   * of REM_MEM_REG: QEMU sends one, which is closed unused.
   */
  readonly fds: 'none' | 'one' | 'optional' | 'vring' | 'regions';
  /** Payload of the reply that always comes; null where only REPLY_ACK brings one (u64, 0 = success). */
  readonly reply: PayloadKind | null;
  /** Descriptors beside that reply. */
  readonly replyFds: 'none' | 'one' | 'optional';
  /** Protocol feature bits without which the message is not allowed. */
  readonly needs: readonly number[];
  /** What a network device has to do with it: false for GPUs, crypto devices, postcopy and devices with shared objects. */
  readonly net: boolean;
}

const none = 'none' as const;
function row(
  id: number,
  name: string,
  payload: PayloadKind,
  reply: PayloadKind | null = null,
  options: {
    fds?: VhostUserMessage['fds'];
    replyFds?: VhostUserMessage['replyFds'];
    needs?: number | readonly number[];
    net?: boolean;
  } = {},
): VhostUserMessage {
  const { fds = none, replyFds = none, needs = [], net = true } = options;
  return { id, name, payload, reply, fds, replyFds, needs: typeof needs === 'number' ? [needs] : needs, net };
}

/** Of the front-end, on the main channel. */
export const VHOST_USER_MESSAGES: readonly VhostUserMessage[] = [
  row(R.VHOST_USER_GET_FEATURES, 'GET_FEATURES', none, 'u64'),
  row(R.VHOST_USER_SET_FEATURES, 'SET_FEATURES', 'u64'),
  row(R.VHOST_USER_SET_OWNER, 'SET_OWNER', none),
  row(R.VHOST_USER_RESET_OWNER, 'RESET_OWNER', none),
  row(R.VHOST_USER_SET_MEM_TABLE, 'SET_MEM_TABLE', 'memory', null, { fds: 'regions' }),
  row(R.VHOST_USER_SET_LOG_BASE, 'SET_LOG_BASE', 'log', 'none', {
    fds: 'one',
    needs: R.VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  }),
  row(R.VHOST_USER_SET_LOG_FD, 'SET_LOG_FD', none, null, { fds: 'one' }),
  row(R.VHOST_USER_SET_VRING_NUM, 'SET_VRING_NUM', 'vring_state'),
  row(R.VHOST_USER_SET_VRING_ADDR, 'SET_VRING_ADDR', 'vring_addr'),
  row(R.VHOST_USER_SET_VRING_BASE, 'SET_VRING_BASE', 'vring_state'),
  row(R.VHOST_USER_GET_VRING_BASE, 'GET_VRING_BASE', 'vring_state', 'vring_state'),
  row(R.VHOST_USER_SET_VRING_KICK, 'SET_VRING_KICK', 'u64', null, { fds: 'vring' }),
  row(R.VHOST_USER_SET_VRING_CALL, 'SET_VRING_CALL', 'u64', null, { fds: 'vring' }),
  row(R.VHOST_USER_SET_VRING_ERR, 'SET_VRING_ERR', 'u64', null, { fds: 'vring' }),
  row(R.VHOST_USER_GET_PROTOCOL_FEATURES, 'GET_PROTOCOL_FEATURES', none, 'u64'),
  row(R.VHOST_USER_SET_PROTOCOL_FEATURES, 'SET_PROTOCOL_FEATURES', 'u64'),
  row(R.VHOST_USER_GET_QUEUE_NUM, 'GET_QUEUE_NUM', none, 'u64', { needs: R.VHOST_USER_PROTOCOL_F_MQ }),
  row(R.VHOST_USER_SET_VRING_ENABLE, 'SET_VRING_ENABLE', 'vring_state'),
  row(R.VHOST_USER_SEND_RARP, 'SEND_RARP', 'u64', null, { needs: R.VHOST_USER_PROTOCOL_F_RARP }),
  row(R.VHOST_USER_NET_SET_MTU, 'NET_SET_MTU', 'u64', null, { needs: R.VHOST_USER_PROTOCOL_F_NET_MTU }),
  row(R.VHOST_USER_SET_BACKEND_REQ_FD, 'SET_BACKEND_REQ_FD', none, null, {
    fds: 'one',
    needs: R.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  }),
  row(R.VHOST_USER_IOTLB_MSG, 'IOTLB_MSG', 'iotlb', 'u64'),
  row(R.VHOST_USER_SET_VRING_ENDIAN, 'SET_VRING_ENDIAN', 'vring_state', null, {
    needs: R.VHOST_USER_PROTOCOL_F_CROSS_ENDIAN,
  }),
  row(R.VHOST_USER_GET_CONFIG, 'GET_CONFIG', 'config', 'config', { needs: R.VHOST_USER_PROTOCOL_F_CONFIG }),
  row(R.VHOST_USER_SET_CONFIG, 'SET_CONFIG', 'config', null, { needs: R.VHOST_USER_PROTOCOL_F_CONFIG }),
  row(R.VHOST_USER_CREATE_CRYPTO_SESSION, 'CREATE_CRYPTO_SESSION', 'crypto_session', 'crypto_session', {
    needs: R.VHOST_USER_PROTOCOL_F_CRYPTO_SESSION,
    net: false,
  }),
  row(R.VHOST_USER_CLOSE_CRYPTO_SESSION, 'CLOSE_CRYPTO_SESSION', 'u64', null, {
    needs: R.VHOST_USER_PROTOCOL_F_CRYPTO_SESSION,
    net: false,
  }),
  row(R.VHOST_USER_POSTCOPY_ADVISE, 'POSTCOPY_ADVISE', none, none, {
    replyFds: 'one',
    needs: R.VHOST_USER_PROTOCOL_F_PAGEFAULT,
    net: false,
  }),
  row(R.VHOST_USER_POSTCOPY_LISTEN, 'POSTCOPY_LISTEN', none, null, {
    needs: R.VHOST_USER_PROTOCOL_F_PAGEFAULT,
    net: false,
  }),
  row(R.VHOST_USER_POSTCOPY_END, 'POSTCOPY_END', none, 'u64', {
    needs: R.VHOST_USER_PROTOCOL_F_PAGEFAULT,
    net: false,
  }),
  row(R.VHOST_USER_GET_INFLIGHT_FD, 'GET_INFLIGHT_FD', 'inflight', 'inflight', {
    replyFds: 'one',
    needs: R.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  }),
  row(R.VHOST_USER_SET_INFLIGHT_FD, 'SET_INFLIGHT_FD', 'inflight', null, {
    fds: 'one',
    needs: R.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  }),
  row(R.VHOST_USER_GPU_SET_SOCKET, 'GPU_SET_SOCKET', none, null, { fds: 'one', net: false }),
  row(R.VHOST_USER_RESET_DEVICE, 'RESET_DEVICE', none, null, { needs: R.VHOST_USER_PROTOCOL_F_RESET_DEVICE }),
  row(R.VHOST_USER_VRING_KICK, 'VRING_KICK', 'vring_state', null, {
    needs: R.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
  }),
  row(R.VHOST_USER_GET_MAX_MEM_SLOTS, 'GET_MAX_MEM_SLOTS', none, 'u64', {
    needs: R.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  }),
  row(R.VHOST_USER_ADD_MEM_REG, 'ADD_MEM_REG', 'single_region', null, {
    fds: 'one',
    needs: R.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  }),
  row(R.VHOST_USER_REM_MEM_REG, 'REM_MEM_REG', 'single_region', null, {
    fds: 'optional',
    needs: R.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  }),
  row(R.VHOST_USER_SET_STATUS, 'SET_STATUS', 'u64', null, { needs: R.VHOST_USER_PROTOCOL_F_STATUS }),
  row(R.VHOST_USER_GET_STATUS, 'GET_STATUS', none, 'u64', { needs: R.VHOST_USER_PROTOCOL_F_STATUS }),
  row(R.VHOST_USER_GET_SHARED_OBJECT, 'GET_SHARED_OBJECT', 'uuid', none, {
    replyFds: 'optional',
    needs: R.VHOST_USER_PROTOCOL_F_SHARED_OBJECT,
    net: false,
  }),
  row(R.VHOST_USER_SET_DEVICE_STATE_FD, 'SET_DEVICE_STATE_FD', 'device_state', 'u64', {
    fds: 'one',
    replyFds: 'optional',
    needs: R.VHOST_USER_PROTOCOL_F_DEVICE_STATE,
    net: false,
  }),
  row(R.VHOST_USER_CHECK_DEVICE_STATE, 'CHECK_DEVICE_STATE', none, 'u64', {
    needs: R.VHOST_USER_PROTOCOL_F_DEVICE_STATE,
    net: false,
  }),
  row(R.VHOST_USER_GET_SHMEM_CONFIG, 'GET_SHMEM_CONFIG', none, 'shmem_config', {
    needs: R.VHOST_USER_PROTOCOL_F_SHMEM,
    net: false,
  }),
];

/** Of the back-end, on the channel that SET_BACKEND_REQ_FD brought. */
export const VHOST_USER_BACKEND_MESSAGES: readonly VhostUserMessage[] = [
  row(R.VHOST_USER_BACKEND_IOTLB_MSG, 'BACKEND_IOTLB_MSG', 'iotlb', null, {
    needs: R.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  }),
  row(R.VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 'BACKEND_CONFIG_CHANGE_MSG', none, null, {
    needs: [R.VHOST_USER_PROTOCOL_F_BACKEND_REQ, R.VHOST_USER_PROTOCOL_F_CONFIG],
  }),
  row(R.VHOST_USER_BACKEND_VRING_HOST_NOTIFIER_MSG, 'BACKEND_VRING_HOST_NOTIFIER_MSG', 'vring_area', null, {
    fds: 'vring',
    needs: [
      R.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
      R.VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD,
      R.VHOST_USER_PROTOCOL_F_HOST_NOTIFIER,
    ],
  }),
  row(R.VHOST_USER_BACKEND_VRING_CALL, 'BACKEND_VRING_CALL', 'vring_state', null, {
    needs: R.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
  }),
  row(R.VHOST_USER_BACKEND_VRING_ERR, 'BACKEND_VRING_ERR', 'vring_state', null, {
    needs: R.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
  }),
  row(R.VHOST_USER_BACKEND_SHARED_OBJECT_ADD, 'BACKEND_SHARED_OBJECT_ADD', 'uuid', null, {
    needs: R.VHOST_USER_PROTOCOL_F_SHARED_OBJECT,
    net: false,
  }),
  row(R.VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE, 'BACKEND_SHARED_OBJECT_REMOVE', 'uuid', null, {
    needs: R.VHOST_USER_PROTOCOL_F_SHARED_OBJECT,
    net: false,
  }),
  row(R.VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP, 'BACKEND_SHARED_OBJECT_LOOKUP', 'uuid', 'u64', {
    replyFds: 'optional',
    needs: R.VHOST_USER_PROTOCOL_F_SHARED_OBJECT,
    net: false,
  }),
  row(R.VHOST_USER_BACKEND_SHMEM_MAP, 'BACKEND_SHMEM_MAP', 'mmap', null, {
    fds: 'one',
    needs: R.VHOST_USER_PROTOCOL_F_SHMEM,
    net: false,
  }),
  row(R.VHOST_USER_BACKEND_SHMEM_UNMAP, 'BACKEND_SHMEM_UNMAP', 'mmap', null, {
    needs: R.VHOST_USER_PROTOCOL_F_SHMEM,
    net: false,
  }),
];

const BY_ID: ReadonlyMap<number, VhostUserMessage> = new Map(VHOST_USER_MESSAGES.map((m) => [m.id, m]));
const BACKEND_BY_ID: ReadonlyMap<number, VhostUserMessage> = new Map(VHOST_USER_BACKEND_MESSAGES.map((m) => [m.id, m]));
/** A request of the front-end; undefined where the number means nothing. */
export const vhostUserMessage = (id: number): VhostUserMessage | undefined => BY_ID.get(id);
/** A request of the back-end; undefined where the number means nothing. */
export const vhostUserBackendMessage = (id: number): VhostUserMessage | undefined => BACKEND_BY_ID.get(id);
