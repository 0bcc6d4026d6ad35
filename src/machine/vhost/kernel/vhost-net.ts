/**
 * /dev/vhost-net: requests as ioctl numbers with real structures as arguments. QEMU's process is the caller, the state is the
 * VhostSession behind. Source: linux drivers/vhost/net.c, vhost_net_ioctl(), and vhost.c, vhost_vring_ioctl() (6.1).
 */

import type { EventFd } from '../../../engine/eventfd.ts';
import { VHOST_IOCTL, VHOST_IOCTL_ARGUMENT, VHOST_IOCTL_RESULT } from '../../../engine/events.ts';
import { TunFile } from '../../host/tun-file.ts';
import { E2BIG, EBADF, EFAULT, EINVAL, ENOBUFS, ENOTSOCK, ENOTTY, EOPNOTSUPP } from '../../kernel/errno.ts';
import { EventFdFile, eventFdOf } from '../../kernel/eventfd-file.ts';
import { type FdTable, OpenFile } from '../../kernel/files.ts';
import { type Features, hasFeature, isSubset, VHOST_F_LOG_ALL } from '../../virtio/features.ts';
import { viewOf } from '../../wire/struct.ts';
import {
  VHOST_BACKEND_F_IOTLB_MSG_V2,
  vhost_features,
  vhost_memory,
  vhost_memory_region,
  vhost_u64,
  vhost_vring_addr,
  vhost_vring_file,
  vhost_vring_state,
} from '../../wire/vhost.ts';
import { DirtyBits } from '../dirty-bits.ts';
import { VHOST_NET_BACKEND_FEATURES, VHOST_NET_MAX_MEM_REGIONS, VHOST_NET_OFFER } from '../offers.ts';
import { type MemoryRegion, NO_FD, VhostSession, type Vring } from '../session.ts';
import { IotlbChannel } from './iotlb-channel.ts';

export const VHOST_GET_FEATURES = 0x8008_af00;
export const VHOST_SET_FEATURES = 0x4008_af00;
export const VHOST_SET_OWNER = 0x0000_af01;
export const VHOST_RESET_OWNER = 0x0000_af02;
export const VHOST_SET_MEM_TABLE = 0x4008_af03;
export const VHOST_SET_LOG_BASE = 0x4008_af04;
export const VHOST_SET_LOG_FD = 0x4004_af07;
export const VHOST_SET_VRING_NUM = 0x4008_af10;
export const VHOST_SET_VRING_ADDR = 0x4028_af11;
export const VHOST_SET_VRING_BASE = 0x4008_af12;
export const VHOST_GET_VRING_BASE = 0xc008_af12;
export const VHOST_SET_VRING_ENDIAN = 0x4008_af13;
export const VHOST_GET_VRING_ENDIAN = 0x4008_af14;
export const VHOST_SET_VRING_KICK = 0x4008_af20;
export const VHOST_SET_VRING_CALL = 0x4008_af21;
export const VHOST_SET_VRING_ERR = 0x4008_af22;
export const VHOST_SET_VRING_BUSYLOOP_TIMEOUT = 0x4008_af23;
export const VHOST_GET_VRING_BUSYLOOP_TIMEOUT = 0x4008_af24;
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
    VHOST_SET_LOG_BASE,
    VHOST_SET_LOG_FD,
    VHOST_SET_VRING_NUM,
    VHOST_SET_VRING_ADDR,
    VHOST_SET_VRING_BASE,
    VHOST_GET_VRING_BASE,
    VHOST_SET_VRING_ENDIAN,
    VHOST_GET_VRING_ENDIAN,
    VHOST_SET_VRING_KICK,
    VHOST_SET_VRING_CALL,
    VHOST_SET_VRING_ERR,
    VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
    VHOST_GET_VRING_BUSYLOOP_TIMEOUT,
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

/** What the data path wants to know of an open device. */
export interface VhostNetHooks {
  /** VHOST_SET_VRING_BUSYLOOP_TIMEOUT: microseconds that the worker polls for before it sleeps. */
  onBusyloop(ring: number, microseconds: number): void;
  /** What the caller has at an address of its own; null where there is nothing. */
  memoryAt(address: number): Uint8Array | null;
}
const NO_HOOKS: VhostNetHooks = { onBusyloop: () => {}, memoryAt: () => null };

/** The ring index is the first word of these arguments; a file descriptor the second. */
const RING_FD_REQUESTS: ReadonlySet<number> = new Set([
  VHOST_SET_VRING_KICK,
  VHOST_SET_VRING_CALL,
  VHOST_SET_VRING_ERR,
  VHOST_NET_SET_BACKEND,
]);

/** An open /dev/vhost-net. `fds`: the descriptors of the process that opened it; null: numbers are taken as they are. */
export class VhostNetDevice extends OpenFile {
  readonly session: VhostSession;
  readonly iotlb = new IotlbChannel();
  hooks: VhostNetHooks = NO_HOOKS;
  /** VHOST_SET_LOG_BASE: the caller's dirty bitmap; null without. */
  log: DirtyBits | null = null;
  /** VHOST_SET_LOG_FD: signalled when the log was written; null without. */
  logFd: EventFd | null = null;
  readonly #busyloop: number[];
  readonly #trace: Trace;
  readonly #fds: FdTable | null;
  /** What the rings hold of the caller's files: kick, call, err and backend of each, so that they stay open. */
  readonly #held = new Map<string, OpenFile>();

  constructor(trace: Trace, session = vhostNetSession(), fds: FdTable | null = null) {
    super('/dev/vhost-net');
    this.session = session;
    this.#trace = trace;
    this.#fds = fds;
    this.#busyloop = session.vrings.map(() => 0);
  }

  /** 0 or a negative errno. A request that reads writes its answer into `payload`. */
  override ioctl(request: number, payload: Uint8Array = new Uint8Array(0)): number {
    const m = viewOf(payload);
    this.#trace(VHOST_IOCTL, request, payload.length >= 4 ? m.getUint32(0, true) : 0);
    const result = this.#answer(request, payload, m);
    if (payload.length > 0) this.#trace(VHOST_IOCTL_ARGUMENT, 0, 0, payload);
    if (result !== 0) this.#trace(VHOST_IOCTL_RESULT, request, result);
    return result;
  }
  #answer(request: number, payload: Uint8Array, m: DataView): number {
    if (VHOST_IOCTL_NAMES.has(request >>> 0) && payload.length < ioctlSize(request)) return -EFAULT;
    const s = this.session;
    switch (request >>> 0) {
      case VHOST_GET_FEATURES:
        vhost_features.lo.set(m, 0, s.offered.lo);
        vhost_features.hi.set(m, 0, s.offered.hi);
        return 0;
      case VHOST_SET_FEATURES:
        return this.#setFeatures({ lo: vhost_features.lo.get(m, 0), hi: vhost_features.hi.get(m, 0) });
      case VHOST_GET_BACKEND_FEATURES:
        vhost_features.lo.set(m, 0, VHOST_NET_BACKEND_FEATURES);
        vhost_features.hi.set(m, 0, 0);
        return 0;
      case VHOST_SET_BACKEND_FEATURES:
        return this.#setBackendFeatures(vhost_features.lo.get(m, 0), vhost_features.hi.get(m, 0));
      case VHOST_SET_OWNER:
        return s.setOwner();
      case VHOST_RESET_OWNER:
        return this.#resetOwner();
      default: {
        const owner = s.checkOwner();
        return owner < 0 ? owner : this.#ownedIoctl(request >>> 0, m);
      }
    }
  }
  /** read(2): what the IOTLB misses. */
  read(buffer: Uint8Array): number {
    return this.iotlb.read(buffer);
  }
  /** write(2): what the VMM answers, or takes back. */
  write(bytes: Uint8Array): number {
    return this.iotlb.write(bytes);
  }
  /** VHOST_SET_VRING_BUSYLOOP_TIMEOUT of a ring, microseconds. */
  busyloopOf(ring: number): number {
    return this.#busyloop[ring] ?? 0;
  }

  /** VHOST_F_LOG_ALL was acknowledged, and there is a log. */
  get logging(): boolean {
    return this.log !== null && hasFeature(this.session.features, VHOST_F_LOG_ALL);
  }
  /** The data path wrote `length` bytes of a buffer at the guest-physical address `gpa` (vhost_log_write()). */
  logWrite(gpa: number, length: number): void {
    if (!this.logging) return;
    this.log!.mark(gpa, length);
    this.logFd?.signal();
  }
  /** The data path wrote `length` bytes of a used ring, `offset` bytes behind its start (log_used()). */
  logUsed(v: Vring, offset: number, length: number): void {
    if (!v.logs || !this.logging) return;
    this.log!.mark(v.log_guest_addr + offset, length);
    this.logFd?.signal();
  }

  /** vhost_net_release(): the device stops and lets go of everything that it was given. */
  protected override released(): void {
    this.session.owned = true; // whoever closes it need not own it
    this.#resetOwner();
  }
  #resetOwner(): number {
    const result = this.session.resetOwner();
    if (result < 0) return result;
    for (const file of this.#held.values()) file.put();
    this.#held.clear();
    this.iotlb.clear();
    this.iotlb.hooks = null;
    this.log = null;
    this.logFd = null;
    this.#busyloop.fill(0);
    return 0;
  }

  /** vhost_net_set_features(): a log has to be there before rings may be told to keep one. */
  #setFeatures(features: Features): number {
    const logs = hasFeature(features, VHOST_F_LOG_ALL);
    if (isSubset(features, this.session.offered) && logs && this.log === null && this.session.regions.length > 0)
      return -EFAULT;
    return this.session.setFeatures(features);
  }
  #setBackendFeatures(lo: number, hi: number): number {
    if ((lo & ~VHOST_NET_BACKEND_FEATURES) !== 0 || hi !== 0) return -EOPNOTSUPP;
    this.session.backendFeatures = lo;
    this.iotlb.v2 = (lo & (1 << VHOST_BACKEND_F_IOTLB_MSG_V2)) !== 0;
    return 0;
  }

  #ownedIoctl(request: number, m: DataView): number {
    const s = this.session;
    switch (request) {
      case VHOST_SET_MEM_TABLE:
        return this.#setMemTable(m);
      case VHOST_SET_LOG_BASE: {
        const base = vhost_u64.get(m, 0);
        const bits = base < 0 ? null : this.hooks.memoryAt(base);
        if (bits === null) return -EFAULT;
        this.log = new DirtyBits(bits);
        return 0;
      }
      case VHOST_SET_LOG_FD:
        return this.#setLogFd(m.getInt32(0, true));
      case VHOST_SET_VRING_ADDR:
        return this.#setVringAddr(m);
      // without CONFIG_VHOST_CROSS_ENDIAN_LEGACY, which x86 has no use for
      case VHOST_SET_VRING_ENDIAN:
      case VHOST_GET_VRING_ENDIAN:
        return -ENOTTY;
    }
    if (!VHOST_IOCTL_NAMES.has(request)) return -ENOTTY;
    const index = vhost_vring_state.index.get(m, 0);
    const num = vhost_vring_state.num.get(m, 0);
    if (index >= s.vrings.length) return -ENOBUFS;
    if (RING_FD_REQUESTS.has(request)) return this.#setFd(request, index, vhost_vring_file.fd.get(m, 0));
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
      case VHOST_SET_VRING_BUSYLOOP_TIMEOUT:
        this.#busyloop[index] = num;
        this.hooks.onBusyloop(index, num);
        return 0;
      case VHOST_GET_VRING_BUSYLOOP_TIMEOUT:
        vhost_vring_state.num.set(m, 0, this.#busyloop[index]!);
        return 0;
      default:
        return -ENOTTY;
    }
  }
  #setVringAddr(m: DataView): number {
    const a = vhost_vring_addr;
    // Out of a number's range reads as -1: no user address either way.
    return this.session.setVringAddr(
      a.index.get(m, 0),
      a.flags.get(m, 0),
      a.desc_user_addr.get(m, 0),
      a.used_user_addr.get(m, 0),
      a.avail_user_addr.get(m, 0),
      a.log_guest_addr.get(m, 0),
    );
  }

  /** A descriptor of the caller for a ring: an eventfd, or for the backend a tap. -1 takes the ring's away. */
  #setFd(request: number, index: number, fd: number): number {
    if (fd < NO_FD) return -EBADF;
    const file = this.#fds === null || fd === NO_FD ? null : this.#fileFor(request, fd);
    if (typeof file === 'number') return file;
    const result = this.#give(request, index, fd);
    if (result < 0) return result;
    const key = `${request} ${index}`;
    if (file !== null) file.references++;
    this.#held.get(key)?.put();
    if (file === null) this.#held.delete(key);
    else this.#held.set(key, file);
    return 0;
  }
  /** linux get_tap_socket() and eventfd_fget(): -EBADF where nothing is open, then what is no tap or no eventfd. */
  #fileFor(request: number, fd: number): OpenFile | number {
    const file = this.#fds!.file(fd);
    if (file === undefined) return -EBADF;
    if (request === VHOST_NET_SET_BACKEND) return file instanceof TunFile && file.isTap ? file : -ENOTSOCK;
    return file instanceof EventFdFile ? file : -EINVAL;
  }
  #give(request: number, index: number, fd: number): number {
    switch (request) {
      case VHOST_SET_VRING_KICK:
        return this.session.setVringKick(index, fd);
      case VHOST_SET_VRING_CALL:
        return this.session.setVringCall(index, fd);
      case VHOST_SET_VRING_ERR:
        return this.session.setVringErr(index, fd);
      default:
        return this.session.setBackend(index, fd);
    }
  }
  #setLogFd(fd: number): number {
    if (fd === NO_FD) {
      this.logFd = null;
      return 0;
    }
    const eventfd = this.#fds === null ? -EBADF : eventFdOf(this.#fds, fd);
    if (typeof eventfd === 'number') return eventfd;
    this.logFd = eventfd;
    return 0;
  }

  /** linux vhost_set_memory(): padding must be 0, the regions follow the head. */
  #setMemTable(m: DataView): number {
    if (vhost_memory.padding.get(m, 0) !== 0) return -EOPNOTSUPP;
    const n = vhost_memory.nregions.get(m, 0);
    if (n > VHOST_NET_MAX_MEM_REGIONS) return -E2BIG;
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
