/**
 * Who answers a guest's write to a register inside the kernel: ioeventfds on the MMIO and the port bus. linux
 * virt/kvm/eventfd.c, kvm_assign_ioeventfd(), kvm_deassign_ioeventfd(), ioeventfd_in_range() (6.1).
 */
import type { EventFd } from '../../engine/eventfd.ts';
import { EEXIST, EINVAL, ENOENT, ENOSPC } from '../kernel/errno.ts';
import { eventFdOf } from '../kernel/eventfd-file.ts';
import type { FdTable } from '../kernel/files.ts';
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_IOEVENTFD_FLAG_PIO,
  KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY,
  kvm_coalesced_mmio_zone,
  kvm_ioeventfd,
} from '../wire/kvm.ts';

const KVM_MMIO_BUS = 0;
const KVM_PIO_BUS = 1;
const KVM_VIRTIO_CCW_NOTIFY_BUS = 2;
type Bus = typeof KVM_MMIO_BUS | typeof KVM_PIO_BUS | typeof KVM_VIRTIO_CCW_NOTIFY_BUS;
/** linux include/linux/kvm_host.h: devices on a bus beside ioeventfds, which are not counted. */
const NR_IOBUS_DEVS = 1000;
const VALID_FLAGS =
  KVM_IOEVENTFD_FLAG_DATAMATCH |
  KVM_IOEVENTFD_FLAG_PIO |
  KVM_IOEVENTFD_FLAG_DEASSIGN |
  KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY;

/** One registration. */
export interface IoEventFd {
  readonly bus: Bus;
  readonly addr: number;
  /** Bytes of the write; 0 for any. */
  readonly length: number;
  readonly eventfd: EventFd;
  /** The value that it listens to, -1 for any. */
  readonly datamatch: number;
}

/** All registrations for one address with writes of one length; `next`: of another length. */
interface Slot {
  readonly length: number;
  any: EventFd | null;
  byValue: Map<number, EventFd> | null;
  readonly next: Slot | null;
}

/** Addresses up to 4 GiB as numbers that need no box. */
const keyOf = (address: number): number => (address < 0x1_0000_0000 ? address | 0 : address);

export class IoBus {
  private readonly registered: IoEventFd[] = [];
  /** What find() looks at, by address; made again from the list when that changes. */
  private readonly mmio = new Map<number, Slot>();
  private readonly ports = new Map<number, Slot>();
  private readonly zones: { readonly addr: number; readonly size: number; readonly pio: number }[] = [];

  get list(): readonly IoEventFd[] {
    return this.registered;
  }

  /** The eventfd that takes a write of `width` bytes to a memory address or, below 64 KiB, a port; null for userspace. */
  find(address: number, value: number, width: number): EventFd | null {
    const bus = address < 0x1_0000 ? this.ports : this.mmio;
    for (let s: Slot | null = bus.get(keyOf(address)) ?? null; s !== null; s = s.next) {
      if (s.length !== 0 && s.length !== width) continue;
      if (s.any !== null) return s.any;
      const matched = s.byValue === null ? undefined : s.byValue.get(value);
      if (matched !== undefined) return matched;
    }
    return null;
  }

  /** KVM_IOEVENTFD: 0 or a negative errno. `fds`: the caller's descriptors. */
  ioeventfd(fds: FdTable, m: DataView): number {
    const flags = kvm_ioeventfd.flags.get(m, 0);
    const length = kvm_ioeventfd.len.get(m, 0);
    const addr = kvm_ioeventfd.addr.get(m, 0);
    const bus =
      (flags & KVM_IOEVENTFD_FLAG_PIO) !== 0
        ? KVM_PIO_BUS
        : (flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY) !== 0
          ? KVM_VIRTIO_CCW_NOTIFY_BUS
          : KVM_MMIO_BUS;
    const matches = (flags & KVM_IOEVENTFD_FLAG_DATAMATCH) !== 0;
    const value = kvm_ioeventfd.datamatch.get(m, 0);
    // one beyond 2^53 reads as -1, and no guest here writes it
    const datamatch = matches ? (value < 0 ? Number.MAX_VALUE : value) : -1;
    const fd = kvm_ioeventfd.fd.get(m, 0);
    if ((flags & KVM_IOEVENTFD_FLAG_DEASSIGN) !== 0) {
      const eventfd = eventFdOf(fds, fd);
      return typeof eventfd === 'number' ? eventfd : this.deassign({ bus, addr, length, eventfd, datamatch });
    }
    if (![0, 1, 2, 4, 8].includes(length)) return -EINVAL;
    // beyond 2^53 an address reads as -1: nothing of a guest lies there
    if (addr < 0 || (flags & ~VALID_FLAGS) !== 0) return -EINVAL;
    if (length === 0 && matches) return -EINVAL;
    const eventfd = eventFdOf(fds, fd);
    return typeof eventfd === 'number' ? eventfd : this.assign({ bus, addr, length, eventfd, datamatch });
  }
  private assign(entry: IoEventFd): number {
    if (this.registered.some((other) => collide(other, entry))) return -EEXIST;
    this.registered.push(entry);
    this.index();
    return 0;
  }
  private deassign(entry: IoEventFd): number {
    const at = this.registered.findIndex(
      (r) =>
        r.bus === entry.bus &&
        r.eventfd === entry.eventfd &&
        r.addr === entry.addr &&
        r.length === entry.length &&
        r.datamatch === entry.datamatch,
    );
    if (at < 0) return -ENOENT;
    this.registered.splice(at, 1);
    this.index();
    return 0;
  }
  private index(): void {
    this.mmio.clear();
    this.ports.clear();
    for (const { bus, addr, length, eventfd, datamatch } of this.registered) {
      if (bus === KVM_VIRTIO_CCW_NOTIFY_BUS) continue;
      const map = bus === KVM_PIO_BUS ? this.ports : this.mmio;
      const first = map.get(keyOf(addr)) ?? null;
      let slot = first;
      while (slot !== null && slot.length !== length) slot = slot.next;
      if (slot === null) {
        slot = { length, any: null, byValue: null, next: first };
        map.set(keyOf(addr), slot);
      }
      if (datamatch < 0) slot.any = eventfd;
      else {
        slot.byValue ??= new Map();
        slot.byValue.set(datamatch, eventfd);
      }
    }
  }

  // ---- coalesced MMIO -----------------------------------------------------------------------------------------------
  /**
   * KVM_REGISTER_COALESCED_MMIO. linux virt/kvm/coalesced_mmio.c.
   * DEVIATION: zones are kept and nothing is put into the ring, as no device here has registers that QEMU coalesces.
   */
  registerCoalesced(m: DataView): number {
    const zone = zoneOf(m);
    if (zone.pio > 1) return -EINVAL;
    if (this.zones.length >= NR_IOBUS_DEVS) return -ENOSPC;
    this.zones.push(zone);
    return 0;
  }
  /** KVM_UNREGISTER_COALESCED_MMIO: all zones that lie within the given one; 0 also where there is none. */
  unregisterCoalesced(m: DataView): number {
    const zone = zoneOf(m);
    if (zone.pio > 1) return -EINVAL;
    const within = (z: typeof zone): boolean =>
      z.pio === zone.pio && z.addr >= zone.addr && z.addr + z.size <= zone.addr + zone.size;
    for (let i = this.zones.length - 1; i >= 0; i--) if (within(this.zones[i]!)) this.zones.splice(i, 1);
    return 0;
  }
  get coalesced(): number {
    return this.zones.length;
  }
}

function zoneOf(m: DataView): { addr: number; size: number; pio: number } {
  const z = kvm_coalesced_mmio_zone;
  return { addr: z.addr.get(m, 0), size: z.size.get(m, 0), pio: z.pio.get(m, 0) };
}

/** ioeventfd_check_collision(). */
function collide(a: IoEventFd, b: IoEventFd): boolean {
  if (a.bus !== b.bus || a.addr !== b.addr) return false;
  if (a.length === 0 || b.length === 0) return true;
  return a.length === b.length && (a.datamatch < 0 || b.datamatch < 0 || a.datamatch === b.datamatch);
}
