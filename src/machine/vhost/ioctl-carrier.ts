/**
 * /dev/vhost-net: requests as ioctl numbers with real structures as arguments. QEMU's process is the caller, the state is the
 * VhostSession behind. Source: linux drivers/vhost/net.c, vhost_net_ioctl(), and vhost.c, vhost_vring_ioctl() (6.1).
 */
import { VHOST_IOCTL } from '../../engine/events.ts';
import { viewOf } from '../wire/struct.ts';
import {
  vhost_features,
  vhost_memory,
  vhost_memory_region,
  vhost_vring_addr,
  vhost_vring_file,
  vhost_vring_state,
} from '../wire/vhost.ts';
import { EBADF, EFAULT, ENOTTY, EOPNOTSUPP } from '../kernel/errno.ts';
import { VHOST_NET_BACKEND_FEATURES, VHOST_NET_MAX_MEM_REGIONS, VHOST_NET_OFFER } from './offers.ts';
import { type MemoryRegion, NO_FD, VhostSession } from './session.ts';

export const VHOST_GET_FEATURES = 0x8008_af00;
export const VHOST_SET_FEATURES = 0x4008_af00;
export const VHOST_SET_OWNER = 0x0000_af01;
export const VHOST_RESET_OWNER = 0x0000_af02;
export const VHOST_SET_MEM_TABLE = 0x4008_af03;
export const VHOST_SET_VRING_NUM = 0x4008_af10;
export const VHOST_SET_VRING_ADDR = 0x4028_af11;
export const VHOST_SET_VRING_BASE = 0x4008_af12;
export const VHOST_GET_VRING_BASE = 0xc008_af12;
export const VHOST_SET_VRING_KICK = 0x4008_af20;
export const VHOST_SET_VRING_CALL = 0x4008_af21;
export const VHOST_SET_VRING_ERR = 0x4008_af22;
export const VHOST_SET_BACKEND_FEATURES = 0x4008_af25;
export const VHOST_GET_BACKEND_FEATURES = 0x8008_af26;
export const VHOST_NET_SET_BACKEND = 0x4008_af30;
/** Number to name, for text. */
export const VHOST_IOCTL_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries({
    VHOST_GET_FEATURES,
    VHOST_SET_FEATURES,
    VHOST_SET_OWNER,
    VHOST_RESET_OWNER,
    VHOST_SET_MEM_TABLE,
    VHOST_SET_VRING_NUM,
    VHOST_SET_VRING_ADDR,
    VHOST_SET_VRING_BASE,
    VHOST_GET_VRING_BASE,
    VHOST_SET_VRING_KICK,
    VHOST_SET_VRING_CALL,
    VHOST_SET_VRING_ERR,
    VHOST_SET_BACKEND_FEATURES,
    VHOST_GET_BACKEND_FEATURES,
    VHOST_NET_SET_BACKEND,
  }).map(([name, value]) => [value, name]),
);

/** Receives every request: event kind, then the event's columns a and b; of a vhost-user message also its bytes. */
export type Trace = (kind: number, a: number, b: number, message?: Uint8Array) => void;

/** Bytes of the argument: bits 16-29 of the request (linux include/uapi/asm-generic/ioctl.h, _IOC_SIZE). */
export const ioctlSize = (request: number): number => (request >>> 16) & 0x3fff;

/** A session with vhost-net's rules: one queue pair per open file. */
export function vhostNetSession(): VhostSession {
  return new VhostSession({
    features: VHOST_NET_OFFER,
    vrings: 2,
    maxRegions: VHOST_NET_MAX_MEM_REGIONS,
    ownerRequired: true,
    runsBy: 'backend',
  });
}

export class VhostNetDevice {
  readonly session: VhostSession;
  readonly #trace: Trace;

  constructor(trace: Trace, session = vhostNetSession()) {
    this.session = session;
    this.#trace = trace;
  }

  /** 0 or a negative errno. A request that reads writes its answer into `payload`. */
  ioctl(request: number, payload: Uint8Array = new Uint8Array(0)): number {
    const m = viewOf(payload);
    this.#trace(VHOST_IOCTL, request, payload.length >= 4 ? m.getUint32(0, true) : 0);
    if (VHOST_IOCTL_NAMES.has(request >>> 0) && payload.length < ioctlSize(request)) return -EFAULT;
    const s = this.session;
    switch (request >>> 0) {
      case VHOST_GET_FEATURES:
        vhost_features.lo.set(m, 0, s.offered.lo);
        vhost_features.hi.set(m, 0, s.offered.hi);
        return 0;
      case VHOST_SET_FEATURES:
        return s.setFeatures({ lo: vhost_features.lo.get(m, 0), hi: vhost_features.hi.get(m, 0) });
      case VHOST_GET_BACKEND_FEATURES:
        vhost_features.lo.set(m, 0, VHOST_NET_BACKEND_FEATURES);
        vhost_features.hi.set(m, 0, 0);
        return 0;
      case VHOST_SET_BACKEND_FEATURES:
        return this.#setBackendFeatures(vhost_features.lo.get(m, 0), vhost_features.hi.get(m, 0));
      case VHOST_SET_OWNER:
        return s.setOwner();
      case VHOST_RESET_OWNER:
        return s.resetOwner();
      default: {
        const owner = s.checkOwner();
        return owner < 0 ? owner : this.#ownedIoctl(request >>> 0, m);
      }
    }
  }

  #setBackendFeatures(lo: number, hi: number): number {
    if ((lo & ~VHOST_NET_BACKEND_FEATURES) !== 0 || hi !== 0) return -EOPNOTSUPP;
    this.session.backendFeatures = lo;
    return 0;
  }

  #ownedIoctl(request: number, m: DataView): number {
    const s = this.session;
    if (request === VHOST_SET_MEM_TABLE) return this.#setMemTable(m);
    if (request === VHOST_SET_VRING_ADDR) {
      const a = vhost_vring_addr;
      // Out of a number's range reads as -1: no user address either way.
      return s.setVringAddr(
        a.index.get(m, 0),
        a.flags.get(m, 0),
        a.desc_user_addr.get(m, 0),
        a.used_user_addr.get(m, 0),
        a.avail_user_addr.get(m, 0),
        a.log_guest_addr.get(m, 0),
      );
    }
    if (!VHOST_IOCTL_NAMES.has(request)) return -ENOTTY;
    const index = vhost_vring_state.index.get(m, 0);
    const num = vhost_vring_state.num.get(m, 0);
    const fd = vhost_vring_file.fd.get(m, 0);
    switch (request) {
      case VHOST_SET_VRING_NUM:
        return s.setVringNum(index, num);
      case VHOST_SET_VRING_BASE:
        return s.setVringBase(index, num);
      case VHOST_GET_VRING_BASE: {
        const base = s.getVringBase(index);
        if (base < 0) return base;
        vhost_vring_state.num.set(m, 0, base);
        return 0;
      }
      case VHOST_SET_VRING_KICK:
        return fd < NO_FD ? -EBADF : s.setVringKick(index, fd);
      case VHOST_SET_VRING_CALL:
        return fd < NO_FD ? -EBADF : s.setVringCall(index, fd);
      case VHOST_SET_VRING_ERR:
        return fd < NO_FD ? -EBADF : s.setVringErr(index, fd);
      case VHOST_NET_SET_BACKEND:
        return fd < NO_FD ? -EBADF : s.setBackend(index, fd);
      default:
        return -ENOTTY;
    }
  }

  /** linux vhost_set_memory(): padding must be 0, the regions follow the head. */
  #setMemTable(m: DataView): number {
    if (vhost_memory.padding.get(m, 0) !== 0) return -EOPNOTSUPP;
    const n = vhost_memory.nregions.get(m, 0);
    const r = vhost_memory_region;
    if (m.byteLength < vhost_memory.SIZE + n * r.SIZE) return -EFAULT;
    const regions: MemoryRegion[] = [];
    for (let i = 0; i < n; i++) {
      const at = vhost_memory.SIZE + i * r.SIZE;
      regions.push({
        guest_phys_addr: r.guest_phys_addr.get(m, at),
        memory_size: r.memory_size.get(m, at),
        userspace_addr: r.userspace_addr.get(m, at),
        mmap_offset: 0,
        fd: NO_FD,
      });
    }
    return this.session.setMemTable(regions);
  }
}
