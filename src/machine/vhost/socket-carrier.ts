/**
 * The back-end's end of a vhost-user socket: bytes and descriptors in, a reply or nothing out. What OVS-DPDK's vhost library
 * does with each message, on the VhostSession behind.
 *
 * A message that is malformed, unknown, not allowed or refused without REPLY_ACK closes the connection (QEMU
 * docs/interop/vhost-user.rst; dpdk vhost_user_msg_handler()); nothing throws. After that every message is answered with
 * nothing, and the session's state is that of the last good message. Descriptors are numbers and belong to whoever gave them.
 */
import { VHOST_USER_REPLY } from '../../engine/events.ts';
import { viewOf } from '../wire/struct.ts';
import { vhost_vring_addr, vhost_vring_state } from '../wire/vhost.ts';
import {
  VHOST_USER_MEMORY_MAX_NREGIONS,
  VHOST_USER_REPLY_MASK,
  VHOST_USER_VRING_IDX_MASK,
  VHOST_USER_VRING_NOFD_MASK,
  vhost_user_memory,
  vhost_user_memory_region,
  vhost_user_u64,
} from '../wire/vhost-user.ts';
import { EINVAL, EOPNOTSUPP } from '../kernel/errno.ts';
import type { Trace } from './ioctl-carrier.ts';
import {
  decodeMessage,
  encodeMessage,
  payloadSizeOk,
  u64Payload,
  VHOST_USER_GET_FEATURES,
  VHOST_USER_GET_PROTOCOL_FEATURES,
  VHOST_USER_GET_QUEUE_NUM,
  VHOST_USER_GET_STATUS,
  VHOST_USER_GET_VRING_BASE,
  VHOST_USER_NET_SET_MTU,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_RESET_OWNER,
  VHOST_USER_SEND_RARP,
  VHOST_USER_SET_BACKEND_REQ_FD,
  VHOST_USER_SET_FEATURES,
  VHOST_USER_SET_LOG_BASE,
  VHOST_USER_SET_LOG_FD,
  VHOST_USER_SET_MEM_TABLE,
  VHOST_USER_SET_OWNER,
  VHOST_USER_SET_PROTOCOL_FEATURES,
  VHOST_USER_SET_STATUS,
  VHOST_USER_SET_VRING_ADDR,
  VHOST_USER_SET_VRING_BASE,
  VHOST_USER_SET_VRING_CALL,
  VHOST_USER_SET_VRING_ENABLE,
  VHOST_USER_SET_VRING_ERR,
  VHOST_USER_SET_VRING_KICK,
  VHOST_USER_SET_VRING_NUM,
  type VhostUserMessage,
  vhostUserMessage,
  vringStatePayload,
} from './messages.ts';
import { DPDK_22_11_PROTOCOL_FEATURES, DPDK_MAX_QUEUE_PAIRS, OVS_DPDK_OFFER } from './offers.ts';
import { type MemoryRegion, NO_FD, VhostSession } from './session.ts';

/** A session with DPDK's rules, for as many rings as the guest's device has. */
export function vhostUserSession(features = OVS_DPDK_OFFER, vrings = 2): VhostSession {
  return new VhostSession({
    features,
    protocolFeatures: DPDK_22_11_PROTOCOL_FEATURES,
    vrings,
    maxRegions: VHOST_USER_MEMORY_MAX_NREGIONS,
    ownerRequired: false,
    runsBy: 'kick',
  });
}

/** Smallest MTU that DPDK takes, and the largest an Ethernet header's length field leaves room for. */
const MTU_MIN = 68;
const MTU_MAX = 65535;

export class VhostUserBackend {
  readonly session: VhostSession;
  closed = false;
  /** Why the connection was closed; for people. */
  closeReason = '';
  readonly #trace: Trace;
  readonly #queuePairs: number;

  constructor(trace: Trace, session = vhostUserSession(), queuePairs = DPDK_MAX_QUEUE_PAIRS) {
    this.#trace = trace;
    this.session = session;
    this.#queuePairs = queuePairs;
  }

  /** One message of the front-end. Returns the reply's bytes, or null: no reply, or the connection is closed (see `closed`). */
  receive(bytes: Uint8Array, fds: readonly number[]): Uint8Array | null {
    if (this.closed) return null;
    const message = decodeMessage(bytes);
    if (message === null || message.reply) return this.#close('malformed header');
    const kind = vhostUserMessage(message.request);
    if (kind === undefined) return this.#close(`unknown request ${message.request}`);
    const s = this.session;
    if (!payloadSizeOk(kind.payload, message.payload)) return this.#close(`${kind.name}: payload size`);
    if (kind.needs >= 0 && !s.hasProtocolFeature(kind.needs)) return this.#close(`${kind.name}: not negotiated`);
    if (!fdsOk(kind, message.payload, fds)) return this.#close(`${kind.name}: number of file descriptors`);

    const m = viewOf(message.payload);
    const result = this.#handle(message.request, m, fds);
    if (typeof result !== 'number') return this.#reply(message.request, result);
    if (kind.reply === 'none' && result >= 0) return this.#reply(message.request, new Uint8Array(0));
    if (message.needReply && s.hasProtocolFeature(VHOST_USER_PROTOCOL_F_REPLY_ACK)) {
      return this.#reply(message.request, u64Payload(result < 0 ? 1 : 0));
    }
    return result < 0 ? this.#close(`${kind.name}: error ${-result}`) : null;
  }

  #reply(request: number, payload: Uint8Array): Uint8Array {
    const message = encodeMessage(request, VHOST_USER_REPLY_MASK, payload);
    this.#trace(VHOST_USER_REPLY, request, payload.length, message);
    return message;
  }
  /** The end of the connection, also when the front-end goes away: rings stop. */
  disconnect(): void {
    this.#close('disconnected');
  }
  #close(why: string): null {
    this.closed = true;
    this.closeReason = why;
    for (const v of this.session.vrings) this.session.getVringBase(v.index);
    return null;
  }

  /** Payload of the reply, or 0, or a negative errno. */
  #handle(request: number, m: DataView, fds: readonly number[]): Uint8Array | number {
    const s = this.session;
    switch (request) {
      case VHOST_USER_GET_FEATURES:
        return u64Payload(s.offered.lo, s.offered.hi);
      case VHOST_USER_SET_FEATURES:
        return s.setFeatures({ lo: vhost_user_u64.lo.get(m, 0), hi: vhost_user_u64.hi.get(m, 0) });
      case VHOST_USER_SET_OWNER:
        return s.setOwner();
      case VHOST_USER_RESET_OWNER:
        return s.resetOwner();
      case VHOST_USER_GET_PROTOCOL_FEATURES:
        return u64Payload(s.offeredProtocolFeatures);
      case VHOST_USER_SET_PROTOCOL_FEATURES:
        if (vhost_user_u64.hi.get(m, 0) !== 0) return -EINVAL;
        return s.setProtocolFeatures(vhost_user_u64.lo.get(m, 0));
      case VHOST_USER_GET_QUEUE_NUM:
        return u64Payload(this.#queuePairs);
      case VHOST_USER_SET_MEM_TABLE:
        return s.setMemTable(readRegions(m, fds));
      case VHOST_USER_SET_BACKEND_REQ_FD:
        s.backendReqFd = fds[0]!;
        return 0;
      case VHOST_USER_NET_SET_MTU:
        return this.#setMtu(vhost_user_u64.lo.get(m, 0), vhost_user_u64.hi.get(m, 0));
      case VHOST_USER_SET_STATUS:
        return vhost_user_u64.hi.get(m, 0) !== 0 ? -EINVAL : s.setStatus(vhost_user_u64.lo.get(m, 0));
      case VHOST_USER_GET_STATUS:
        return u64Payload(s.status);
      case VHOST_USER_SEND_RARP:
        return 0; // DEVIATION: the back-end would broadcast a RARP for the guest's MAC after a migration; there is none here
      case VHOST_USER_SET_LOG_BASE:
      case VHOST_USER_SET_LOG_FD:
        return -EOPNOTSUPP; // DEVIATION: no migration, no dirty log
      default:
        return this.#handleVring(request, m, fds[0] ?? NO_FD);
    }
  }

  #handleVring(request: number, m: DataView, fd: number): Uint8Array | number {
    const s = this.session;
    const index = vhost_vring_state.index.get(m, 0);
    const num = vhost_vring_state.num.get(m, 0);
    switch (request) {
      case VHOST_USER_SET_VRING_NUM:
        return s.setVringNum(index, num);
      case VHOST_USER_SET_VRING_BASE:
        return s.setVringBase(index, num);
      case VHOST_USER_GET_VRING_BASE: {
        const base = s.getVringBase(index);
        return base < 0 ? base : vringStatePayload(index, base);
      }
      case VHOST_USER_SET_VRING_ENABLE:
        return s.setVringEnable(index, num);
      case VHOST_USER_SET_VRING_ADDR: {
        const a = vhost_vring_addr;
        const desc = a.desc_user_addr.get(m, 0);
        const used = a.used_user_addr.get(m, 0);
        return s.setVringAddr(
          index,
          a.flags.get(m, 0),
          desc,
          used,
          a.avail_user_addr.get(m, 0),
          a.log_guest_addr.get(m, 0),
        );
      }
      // The u64 of these three: ring index in the low byte; `num` is its upper half and must be 0.
      case VHOST_USER_SET_VRING_KICK:
        return num !== 0 ? -EINVAL : s.setVringKick(index & VHOST_USER_VRING_IDX_MASK, fd);
      case VHOST_USER_SET_VRING_CALL:
        return num !== 0 ? -EINVAL : s.setVringCall(index & VHOST_USER_VRING_IDX_MASK, fd);
      case VHOST_USER_SET_VRING_ERR:
        return num !== 0 ? -EINVAL : s.setVringErr(index & VHOST_USER_VRING_IDX_MASK, fd);
      default:
        return -EOPNOTSUPP;
    }
  }

  #setMtu(lo: number, hi: number): number {
    if (hi !== 0 || lo < MTU_MIN || lo > MTU_MAX) return -EINVAL;
    this.session.mtu = lo;
    return 0;
  }
}

function fdsOk(kind: VhostUserMessage, payload: Uint8Array, fds: readonly number[]): boolean {
  if (kind.fds === 'none') return fds.length === 0;
  if (kind.fds === 'one') return fds.length === 1;
  const m = viewOf(payload);
  if (kind.fds === 'regions') return fds.length === vhost_user_memory.nregions.get(m, 0);
  return fds.length === ((vhost_user_u64.lo.get(m, 0) & VHOST_USER_VRING_NOFD_MASK) !== 0 ? 0 : 1);
}

function readRegions(m: DataView, fds: readonly number[]): MemoryRegion[] {
  const r = vhost_user_memory_region;
  return fds.map((fd, i) => {
    const at = vhost_user_memory.SIZE + i * r.SIZE;
    return {
      guest_phys_addr: r.guest_phys_addr.get(m, at),
      memory_size: r.memory_size.get(m, at),
      userspace_addr: r.userspace_addr.get(m, at),
      mmap_offset: r.mmap_offset.get(m, at),
      fd,
    };
  });
}
