/**
 * What a vhost-user back-end does for each request of the front-end, once the message has been checked for its size,
 * descriptors and what was negotiated. Results: a reply, 0, or a negative errno.
 *
 * Read first: dpdk lib/vhost/vhost_user.c, vhost_message_handlers; ring states in QEMU docs/interop/vhost-user.rst.
 */
import { EINVAL, EOPNOTSUPP } from '../../kernel/errno.ts';
import { mac48, viewOf } from '../../wire/struct.ts';
import { vhost_vring_addr, vhost_vring_state } from '../../wire/vhost.ts';
import {
  VHOST_SET_CONFIG_TYPE_MIGRATION,
  VHOST_USER_VRING_IDX_MASK,
  vhost_user_config,
  vhost_user_u64,
} from '../../wire/vhost-user.ts';
import { NO_PAYLOAD, u64Payload, vringStatePayload } from '../../wire/vhost-user-codec.ts';
import * as R from '../../wire/vhost-user-requests.ts';
import { NO_FD, type Vring } from '../session.ts';
import type { Reply, VhostUserBackend } from './backend.ts';
import { readIotlb } from './backend-iotlb.ts';

/** Smallest MTU that DPDK takes, and the largest an Ethernet header's length field leaves room for. */
const MTU_MIN = 68;
const MTU_MAX = 65535;

const answer = (payload: Uint8Array): Reply => ({ payload, files: [] });
const u64 = (lo: number, hi = 0): Reply => answer(u64Payload(lo, hi));

/** Descriptors that are kept are taken out of `fds`. */
export function handleRequest(
  b: VhostUserBackend,
  request: number,
  payload: Uint8Array,
  fds: number[],
): Reply | number {
  const { session: s } = b;
  const m = viewOf(payload);
  switch (request) {
    case R.VHOST_USER_GET_FEATURES:
      return u64(s.offered.lo, s.offered.hi);
    case R.VHOST_USER_SET_FEATURES:
      return b.setFeatures({ lo: vhost_user_u64.lo.get(m, 0), hi: vhost_user_u64.hi.get(m, 0) });
    case R.VHOST_USER_SET_OWNER:
      return s.setOwner();
    case R.VHOST_USER_RESET_OWNER:
      return resetOwner(b);
    case R.VHOST_USER_GET_PROTOCOL_FEATURES:
      return u64(s.offeredProtocolFeatures);
    case R.VHOST_USER_SET_PROTOCOL_FEATURES:
      return setProtocolFeatures(b, vhost_user_u64.lo.get(m, 0), vhost_user_u64.hi.get(m, 0));
    case R.VHOST_USER_GET_QUEUE_NUM:
      return u64(b.profile.queuePairs);
    case R.VHOST_USER_GET_MAX_MEM_SLOTS:
      return u64(b.profile.maxRegions);
    case R.VHOST_USER_SET_BACKEND_REQ_FD:
      return kept(b.channel.open(fds[0]!), fds);
    case R.VHOST_USER_NET_SET_MTU:
      return setMtu(b, vhost_user_u64.lo.get(m, 0), vhost_user_u64.hi.get(m, 0));
    case R.VHOST_USER_SEND_RARP:
      b.hooks.onRarp?.(mac48.get(m, 0));
      return 0;
    case R.VHOST_USER_SET_STATUS:
      return setStatus(b, vhost_user_u64.lo.get(m, 0), vhost_user_u64.hi.get(m, 0));
    case R.VHOST_USER_GET_STATUS:
      return u64(s.status);
    case R.VHOST_USER_IOTLB_MSG:
      return b.iotlbMessage(readIotlb(m));
    case R.VHOST_USER_GET_CONFIG:
      return getConfig(b, m);
    case R.VHOST_USER_SET_CONFIG:
      return setConfig(b, m, payload);
    case R.VHOST_USER_RESET_DEVICE:
      return resetDevice(b);
    default:
      return handleMemory(b, request, m, fds);
  }
}
/** A descriptor that the request brought is the back-end's now, where it took it. */
function kept(result: number, fds: number[]): number {
  if (result >= 0) fds.length = 0;
  return result;
}

function handleMemory(b: VhostUserBackend, request: number, m: DataView, fds: number[]): Reply | number {
  const changed = (result: number): number => {
    if (result === 0) b.hooks.onMemory?.();
    return result;
  };
  switch (request) {
    case R.VHOST_USER_SET_MEM_TABLE:
      return changed(b.memory.setTable(m, fds));
    case R.VHOST_USER_ADD_MEM_REG:
      return changed(b.memory.addRegion(m, fds));
    case R.VHOST_USER_REM_MEM_REG:
      return changed(b.memory.removeRegion(m));
    case R.VHOST_USER_SET_LOG_BASE: {
      const result = b.memory.setLog(m, fds[0]!);
      if (result === 0) b.hooks.onLog?.();
      return result;
    }
    case R.VHOST_USER_SET_LOG_FD:
      return kept(b.memory.setLogFd(fds[0]!), fds);
    case R.VHOST_USER_GET_INFLIGHT_FD: {
      const made = b.memory.makeInflight(m, b.packed);
      return typeof made === 'number' ? made : { payload: made.payload, files: [made.file] };
    }
    case R.VHOST_USER_SET_INFLIGHT_FD:
      return kept(b.memory.setInflight(m, fds[0]!, b.packed), fds);
    default:
      return handleVring(b, request, m, fds);
  }
}

function handleVring(b: VhostUserBackend, request: number, m: DataView, fds: number[]): Reply | number {
  const { session: s } = b;
  const index = vhost_vring_state.index.get(m, 0);
  const num = vhost_vring_state.num.get(m, 0);
  switch (request) {
    case R.VHOST_USER_SET_VRING_NUM:
      return s.setVringNum(index, num);
    case R.VHOST_USER_SET_VRING_BASE:
      return s.setVringBase(index, num);
    case R.VHOST_USER_GET_VRING_BASE:
      return getVringBase(b, index);
    case R.VHOST_USER_SET_VRING_ENABLE:
      return setVringEnable(b, index, num);
    case R.VHOST_USER_SET_VRING_ADDR:
      return setVringAddr(b, index, m);
    case R.VHOST_USER_SET_VRING_KICK:
    case R.VHOST_USER_SET_VRING_CALL:
    case R.VHOST_USER_SET_VRING_ERR:
      // the u64 of these three: ring index in the low byte; `num` is its upper half and must be 0
      return num !== 0 ? -EINVAL : setVringFd(b, request, index & VHOST_USER_VRING_IDX_MASK, fds);
    case R.VHOST_USER_VRING_KICK: {
      const v = s.vrings[index];
      if (v === undefined || num !== 0) return -EINVAL;
      if (!v.started) return s.setVringKick(index, NO_FD);
      b.hooks.onKick?.(v);
      return 0;
    }
    default:
      return -EOPNOTSUPP;
  }
}

function getVringBase(b: VhostUserBackend, index: number): Reply | number {
  const v = b.session.vrings[index];
  if (v === undefined) return b.session.getVringBase(index);
  b.stopping(v);
  // dpdk closes both and keeps the third
  b.setFd(v, 'kick', NO_FD);
  b.setFd(v, 'call', NO_FD);
  const base = b.session.getVringBase(index);
  if (base < 0) return base;
  if (!b.session.vrings.some((other) => other.started)) b.iotlb.clear();
  return answer(vringStatePayload(index, b.packed && b.profile.packedBaseBits === 16 ? base & 0xffff : base));
}
function setVringEnable(b: VhostUserBackend, index: number, num: number): number {
  const result = b.session.setVringEnable(index, num);
  if (result < 0) return result;
  const v = b.session.vrings[index]!;
  b.hooks.onEnable?.(v, num === 1);
  if (v.started) b.lookUp(v);
  return 0;
}
function setVringAddr(b: VhostUserBackend, index: number, m: DataView): number {
  const a = vhost_vring_addr;
  const desc = a.desc_user_addr.get(m, 0);
  const used = a.used_user_addr.get(m, 0);
  const avail = a.avail_user_addr.get(m, 0);
  const result = b.session.setVringAddr(index, a.flags.get(m, 0), desc, used, avail, a.log_guest_addr.get(m, 0));
  if (result < 0) return result;
  b.lookUp(b.session.vrings[index]!);
  return 0;
}
function setVringFd(b: VhostUserBackend, request: number, index: number, fds: number[]): number {
  const { session: s } = b;
  const v: Vring | undefined = s.vrings[index];
  const fd = fds[0] ?? NO_FD;
  const which =
    request === R.VHOST_USER_SET_VRING_KICK ? 'kick' : request === R.VHOST_USER_SET_VRING_CALL ? 'call' : 'err';
  const before = v?.[which] ?? NO_FD;
  const set = { kick: s.setVringKick, call: s.setVringCall, err: s.setVringErr }[which];
  const result = set.call(s, index, fd);
  if (result < 0) return result;
  fds.length = 0;
  if (before !== NO_FD && before !== fd) b.table.close(before);
  if (which === 'kick') b.lookUp(v!);
  return 0;
}

function setProtocolFeatures(b: VhostUserBackend, lo: number, hi: number): number {
  if (hi !== 0) return -EINVAL;
  const has = (bit: number): boolean => ((lo >>> bit) & 1) === 1;
  if (has(R.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS)) {
    // in-band notifications without these two close the connection, asked for a reply or not
    if (!has(R.VHOST_USER_PROTOCOL_F_BACKEND_REQ) || !has(R.VHOST_USER_PROTOCOL_F_REPLY_ACK)) {
      b.close('refused', R.VHOST_USER_SET_PROTOCOL_FEATURES, 'in-band notifications need BACKEND_REQ and REPLY_ACK');
      return -EINVAL;
    }
  }
  return b.session.setProtocolFeatures(lo);
}
function setMtu(b: VhostUserBackend, lo: number, hi: number): number {
  if (hi !== 0 || lo < MTU_MIN || lo > MTU_MAX) return -EINVAL;
  b.session.mtu = lo;
  b.hooks.onMtu?.(lo);
  return 0;
}
function setStatus(b: VhostUserBackend, lo: number, hi: number): number {
  if (hi !== 0) return -EINVAL;
  const result = b.session.setStatus(lo);
  if (result === 0) b.hooks.onStatus?.(lo);
  return result;
}
/** Bytes of the configuration space; a payload of no length says that there are none there. */
function getConfig(b: VhostUserBackend, m: DataView): Reply {
  const offset = vhost_user_config.offset.get(m, 0);
  const size = vhost_user_config.size.get(m, 0);
  if (offset + size > b.config.length) return answer(NO_PAYLOAD);
  const out = new Uint8Array(m.byteLength);
  out.set(new Uint8Array(m.buffer, m.byteOffset, m.byteLength));
  out.set(b.config.subarray(offset, offset + size), vhost_user_config.SIZE);
  return answer(out);
}
/** All fields of a network device are read-only to the driver; a migration may set them. */
function setConfig(b: VhostUserBackend, m: DataView, payload: Uint8Array): number {
  const offset = vhost_user_config.offset.get(m, 0);
  const size = vhost_user_config.size.get(m, 0);
  const flags = vhost_user_config.flags.get(m, 0);
  if (offset + size > b.config.length || flags !== VHOST_SET_CONFIG_TYPE_MIGRATION) return -EINVAL;
  const bytes = payload.subarray(vhost_user_config.SIZE);
  b.config.set(bytes, offset);
  b.hooks.onConfig?.(offset, bytes);
  return 0;
}
/** Deprecated: rings stop and are disabled, the connection's state stays. */
function resetOwner(b: VhostUserBackend): number {
  for (const v of b.session.vrings) {
    b.stopping(v);
    v.started = false;
    v.enabled = false;
    b.closeFds(v);
  }
  b.session.owned = false;
  return 0;
}
function resetDevice(b: VhostUserBackend): number {
  for (const v of b.session.vrings) {
    b.stopping(v);
    b.closeFds(v);
  }
  b.session.resetDevice();
  b.memory.reset();
  b.iotlb.clear();
  return 0;
}
