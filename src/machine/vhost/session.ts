/**
 * The back-end's side of a vhost device: everything that a front-end has told it, checked. vhost-net's ioctls and
 * vhost-user's messages are two carriers for this one state; the data path reads `regions` and `vrings` from it.
 *
 * Nothing here throws: what a front-end sends is answered with 0 or a negative errno, and a refused request changes nothing.
 * Where the two real back-ends differ, the constructor says which one it is. Read first: linux drivers/vhost/vhost.c,
 * vhost_vring_ioctl(); dpdk lib/vhost/vhost_user.c.
 */
import { E2BIG, EBUSY, EFAULT, EINVAL, ENOBUFS, EOPNOTSUPP, EPERM } from '../kernel/errno.ts';
import {
  type Features,
  hasFeature,
  isSubset,
  NO_FEATURES,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
} from '../virtio/features.ts';
import { VHOST_VRING_F_LOG } from '../wire/vhost.ts';
import {
  isPackedVirtqSize,
  isVirtqSize,
  pvirtq_event_suppress,
  VIRTQ_AVAIL_ALIGN,
  VIRTQ_DESC_ALIGN,
  VIRTQ_USED_ALIGN,
  virtqAvailBytes,
  virtqDescBytes,
  virtqUsedBytes,
} from '../wire/virtio-ring.ts';

/** No file descriptor. linux VHOST_FILE_UNBIND. */
export const NO_FD = -1;

/** A piece of guest memory that the back-end has mapped. Owner: front-end (replaced as a whole). */
export interface MemoryRegion {
  readonly guest_phys_addr: number;
  readonly memory_size: number;
  /** The front-end's own address of the piece: ring addresses are given in these. */
  readonly userspace_addr: number;
  /** vhost-user: where the piece starts in the file that came along. 0 with vhost-net. */
  readonly mmap_offset: number;
  /** vhost-user: the file. NO_FD with vhost-net, which uses the caller's own mapping. */
  readonly fd: number;
}
/** A ring as the back-end knows it. Owner: front-end, but `base` while the ring runs, which is the back-end's. */
export interface Vring {
  readonly index: number;
  num: number;
  /** Next available index. */
  base: number;
  desc_user_addr: number;
  avail_user_addr: number;
  used_user_addr: number;
  /** Guest address of the used ring for the dirty log, and whether writes to the ring are to be logged (VHOST_VRING_F_LOG). */
  log_guest_addr: number;
  logs: boolean;
  kick: number;
  call: number;
  err: number;
  /** vhost-user: SET_VRING_ENABLE; remembered even before anything else about the ring is known. */
  enabled: boolean;
  /** vhost-net: the tap. */
  backend: number;
  /** vhost-user: the front-end gave a kick descriptor, which starts the ring; GET_VRING_BASE stops it. */
  started: boolean;
}
export interface SessionOptions {
  readonly features: Features;
  /** vhost-user only; low word of the protocol features. */
  readonly protocolFeatures?: number;
  readonly vrings: number;
  readonly maxRegions: number;
  /** vhost-net refuses nearly everything before SET_OWNER; DPDK does not look. */
  readonly ownerRequired: boolean;
  /**
   * What makes a ring run. vhost-net: it has a tap, and its addresses are looked at when the tap comes. vhost-user: a kick
   * descriptor, and addresses are looked at when they come.
   */
  readonly runsBy: 'backend' | 'kick';
}

function regionOk(r: MemoryRegion): boolean {
  const ends = [r.guest_phys_addr + r.memory_size, r.userspace_addr + r.memory_size, r.mmap_offset + r.memory_size];
  return (
    r.guest_phys_addr >= 0 &&
    r.memory_size > 0 &&
    r.userspace_addr >= 0 &&
    r.mmap_offset >= 0 &&
    ends.every((end) => Number.isSafeInteger(end))
  );
}
const overlap = (a: number, b: number, aSize: number, bSize: number): boolean => a < b + bSize && b < a + aSize;

export class VhostSession {
  readonly offered: Features;
  readonly offeredProtocolFeatures: number;
  owned = false;
  features: Features = NO_FEATURES;
  protocolFeatures = 0;
  /** VHOST_SET_BACKEND_FEATURES (vhost-net) as given. */
  backendFeatures = 0;
  /** vhost-user SET_STATUS: the device status that the guest's driver wrote. */
  status = 0;
  mtu = 0;
  /** vhost-user: socket for requests of the back-end. */
  backendReqFd = NO_FD;
  regions: readonly MemoryRegion[] = [];
  readonly vrings: readonly Vring[];
  /** Requests answered with an error. */
  refused = 0;
  /** Second result of `translate` and `translateGpa`: bytes from the region's start. */
  translatedOffset = 0;
  readonly #options: SessionOptions;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.offered = options.features;
    this.offeredProtocolFeatures = options.protocolFeatures ?? 0;
    this.vrings = Array.from({ length: options.vrings }, (_, index) => ({
      index,
      num: 0,
      base: 0,
      desc_user_addr: 0,
      avail_user_addr: 0,
      used_user_addr: 0,
      log_guest_addr: 0,
      logs: false,
      kick: NO_FD,
      call: NO_FD,
      err: NO_FD,
      enabled: false,
      backend: NO_FD,
      started: false,
    }));
  }

  #refuse(errno: number): number {
    this.refused++;
    return -errno;
  }
  /** 0, or the errno for a request that needs an owner first. */
  checkOwner(): number {
    return this.owned || !this.#options.ownerRequired ? 0 : this.#refuse(EPERM);
  }

  /** linux vhost_net_set_owner(): EBUSY when owned. A vhost-user front-end may say it again. */
  setOwner(): number {
    if (this.owned && this.#options.ownerRequired) return this.#refuse(EBUSY);
    this.owned = true;
    return 0;
  }
  /** linux vhost_dev_reset_owner(): the state is as after open. vhost-user: deprecated, rings stop. */
  resetOwner(): number {
    const owner = this.checkOwner();
    if (owner < 0) return owner;
    this.owned = false;
    if (this.#options.runsBy === 'backend') {
      this.regions = [];
      this.features = NO_FEATURES;
    }
    for (const v of this.vrings) this.#resetVring(v);
    return 0;
  }
  /** vhost-user RESET_DEVICE: rings and features as after the connection, the owner stays. */
  resetDevice(): void {
    this.features = NO_FEATURES;
    this.status = 0;
    for (const v of this.vrings) this.#resetVring(v);
  }
  #resetVring(v: Vring): void {
    Object.assign(v, { num: 0, base: 0, desc_user_addr: 0, avail_user_addr: 0, used_user_addr: 0 });
    Object.assign(v, { log_guest_addr: 0, logs: false });
    Object.assign(v, { kick: NO_FD, call: NO_FD, err: NO_FD, backend: NO_FD, enabled: false, started: false });
  }

  /** vhost-net: EOPNOTSUPP for a bit that was not offered. */
  setFeatures(features: Features): number {
    if (!isSubset(features, this.offered)) return this.#refuse(EOPNOTSUPP);
    this.features = features;
    return 0;
  }
  setProtocolFeatures(bits: number): number {
    if ((bits & ~this.offeredProtocolFeatures) !== 0) return this.#refuse(EINVAL);
    this.protocolFeatures = bits >>> 0;
    return 0;
  }
  hasProtocolFeature(bit: number): boolean {
    return ((this.protocolFeatures >>> bit) & 1) === 1;
  }
  setStatus(status: number): number {
    if (status < 0 || status > 0xff) return this.#refuse(EINVAL);
    this.status = status;
    return 0;
  }

  /** Replaces the whole table. Overlapping or impossible regions are refused. */
  setMemTable(regions: readonly MemoryRegion[]): number {
    const owner = this.checkOwner();
    if (owner < 0) return owner;
    if (regions.length > this.#options.maxRegions) return this.#refuse(E2BIG);
    if (!regions.every(regionOk)) return this.#refuse(EFAULT);
    for (const [i, a] of regions.entries()) {
      for (const b of regions.slice(i + 1)) {
        const gpa = overlap(a.guest_phys_addr, b.guest_phys_addr, a.memory_size, b.memory_size);
        if (gpa || overlap(a.userspace_addr, b.userspace_addr, a.memory_size, b.memory_size))
          return this.#refuse(EINVAL);
      }
    }
    // linux vhost_set_memory(): rings that run must still be inside.
    const before = this.regions;
    this.regions = regions.map((r) => ({ ...r }));
    if (this.vrings.some((v) => this.running(v.index) && !this.#ringInside(v))) {
      this.regions = before;
      return this.#refuse(EFAULT);
    }
    return 0;
  }

  /** Region that holds all of [uva, uva+len), or -1; the place in it is in `translatedOffset`. */
  translate(uva: number, len: number): number {
    for (let i = 0; i < this.regions.length; i++) {
      const r = this.regions[i]!;
      const offset = uva - r.userspace_addr;
      if (offset >= 0 && len >= 0 && offset + len <= r.memory_size) {
        this.translatedOffset = offset;
        return i;
      }
    }
    return -1;
  }
  /** The same for guest-physical addresses, which descriptors hold. */
  translateGpa(gpa: number, len: number): number {
    for (let i = 0; i < this.regions.length; i++) {
      const r = this.regions[i]!;
      const offset = gpa - r.guest_phys_addr;
      if (offset >= 0 && len >= 0 && offset + len <= r.memory_size) {
        this.translatedOffset = offset;
        return i;
      }
    }
    return -1;
  }

  #vring(index: number): Vring | undefined {
    return Number.isInteger(index) ? this.vrings[index] : undefined;
  }
  /** Does the back-end serve the ring? */
  running(index: number): boolean {
    const v = this.#vring(index);
    if (v === undefined) return false;
    return this.#options.runsBy === 'backend' ? v.backend !== NO_FD : v.started && this.isEnabled(index);
  }
  /** vhost-user: without bit 30 a started ring is enabled at once; vhost-net knows no enable. */
  isEnabled(index: number): boolean {
    const v = this.#vring(index);
    if (v === undefined) return false;
    return (
      this.#options.runsBy === 'backend' || !hasFeature(this.features, VHOST_USER_F_PROTOCOL_FEATURES) || v.enabled
    );
  }
  get #packed(): boolean {
    return hasFeature(this.features, VIRTIO_F_RING_PACKED);
  }
  /** With an IOMMU ring addresses are I/O virtual ones, which are looked at when the ring is used (linux vhost_vq_access_ok()). */
  get translates(): boolean {
    return hasFeature(this.features, VIRTIO_F_ACCESS_PLATFORM);
  }
  #ringInside(v: Vring): boolean {
    if (this.translates) return v.num > 0;
    const event = pvirtq_event_suppress.SIZE;
    return (
      v.num > 0 &&
      this.translate(v.desc_user_addr, virtqDescBytes(v.num)) >= 0 &&
      this.translate(v.avail_user_addr, this.#packed ? event : virtqAvailBytes(v.num)) >= 0 &&
      this.translate(v.used_user_addr, this.#packed ? event : virtqUsedBytes(v.num)) >= 0
    );
  }
  /** Errno for a change that a running ring does not allow, or that names no ring. */
  #stoppedRing(index: number): Vring | number {
    const owner = this.checkOwner();
    if (owner < 0) return owner;
    const v = this.#vring(index);
    if (v === undefined) return this.#refuse(ENOBUFS);
    const busy = this.#options.runsBy === 'backend' ? v.backend !== NO_FD : v.started;
    return busy ? this.#refuse(EBUSY) : v;
  }

  setVringNum(index: number, num: number): number {
    const v = this.#stoppedRing(index);
    if (typeof v === 'number') return v;
    const valid = this.#packed ? isPackedVirtqSize(num) : isVirtqSize(num);
    if (!valid) return this.#refuse(EINVAL);
    v.num = num;
    return 0;
  }
  setVringBase(index: number, base: number): number {
    const v = this.#stoppedRing(index);
    if (typeof v === 'number') return v;
    // packed: both slots with their wrap counters, 32 bits
    if (base < 0 || base > (this.#packed ? 0xffff_ffff : 0xffff)) return this.#refuse(EINVAL);
    v.base = base;
    return 0;
  }
  /** Stops a vhost-user ring (the document's ring states); with vhost-net taking the tap away does. */
  getVringBase(index: number): number {
    const owner = this.checkOwner();
    if (owner < 0) return owner;
    const v = this.#vring(index);
    if (v === undefined) return this.#refuse(ENOBUFS);
    if (this.#options.runsBy === 'kick') {
      v.started = false;
      v.kick = NO_FD;
      v.call = NO_FD;
    }
    return v.base;
  }
  /**
   * Alignment always. vhost-user: the ring must lie in the memory table, which has to be known by then (dpdk
   * translate_ring_addresses()); vhost-net looks when the tap comes.
   */
  setVringAddr(index: number, flags: number, desc: number, used: number, avail: number, log: number): number {
    const owner = this.checkOwner();
    if (owner < 0) return owner;
    const v = this.#vring(index);
    if (v === undefined) return this.#refuse(ENOBUFS);
    if ((flags & ~(1 << VHOST_VRING_F_LOG)) !== 0) return this.#refuse(EOPNOTSUPP);
    if (desc < 0 || used < 0 || avail < 0) return this.#refuse(EFAULT);
    const aligned = desc % VIRTQ_DESC_ALIGN === 0 && avail % VIRTQ_AVAIL_ALIGN === 0 && used % VIRTQ_USED_ALIGN === 0;
    if (!aligned || log % VIRTQ_USED_ALIGN !== 0) return this.#refuse(EINVAL);
    const moved = { ...v, desc_user_addr: desc, used_user_addr: used, avail_user_addr: avail };
    const mustBeInside = this.#options.runsBy === 'kick' || v.backend !== NO_FD;
    if (mustBeInside && !this.#ringInside(moved))
      return this.#refuse(this.#options.runsBy === 'kick' ? EFAULT : EINVAL);
    v.desc_user_addr = desc;
    v.used_user_addr = used;
    v.avail_user_addr = avail;
    v.log_guest_addr = log;
    v.logs = (flags & (1 << VHOST_VRING_F_LOG)) !== 0;
    return 0;
  }
  /** The ring starts with the descriptor that wakes its back-end (or without one, when it is to be polled). */
  setVringKick(index: number, fd: number): number {
    const owner = this.checkOwner();
    if (owner < 0) return owner;
    const v = this.#vring(index);
    if (v === undefined) return this.#refuse(ENOBUFS);
    if (this.#options.runsBy === 'kick') {
      if (!this.#ringInside(v)) return this.#refuse(EFAULT);
      v.started = true;
    }
    v.kick = fd;
    return 0;
  }
  setVringCall(index: number, fd: number): number {
    return this.#setFd(index, 'call', fd);
  }
  setVringErr(index: number, fd: number): number {
    return this.#setFd(index, 'err', fd);
  }
  #setFd(index: number, which: 'call' | 'err', fd: number): number {
    const owner = this.checkOwner();
    if (owner < 0) return owner;
    const v = this.#vring(index);
    if (v === undefined) return this.#refuse(ENOBUFS);
    v[which] = fd;
    return 0;
  }
  setVringEnable(index: number, num: number): number {
    const v = this.#vring(index);
    if (v === undefined) return this.#refuse(ENOBUFS);
    if (num !== 0 && num !== 1) return this.#refuse(EINVAL);
    v.enabled = num === 1;
    return 0;
  }
  /** linux vhost_net_set_backend(): the ring must be usable by now; NO_FD stops it. */
  setBackend(index: number, fd: number): number {
    const owner = this.checkOwner();
    if (owner < 0) return owner;
    const v = this.#vring(index);
    if (v === undefined) return this.#refuse(ENOBUFS);
    if (fd !== NO_FD && !this.#ringInside(v)) return this.#refuse(EFAULT);
    v.backend = fd;
    return 0;
  }
}
