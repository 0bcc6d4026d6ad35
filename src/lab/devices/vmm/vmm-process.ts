/**
 * The VMM as a process: its descriptors, and the ioctls that it makes on KVM's, each recorded with the bytes that it passed and
 * what it got. QEMU's order of a start is in qemu-start.ts.
 *
 * Read first: qemu accel/kvm/kvm-all.c, kvm_irqchip_add_msi_route(), kvm_set_ioeventfd_mmio(), kvm_irqchip_assign_irqfd().
 */
import type { EventFd } from '../../../engine/eventfd.ts';
import { KVM_IOCTL, KVM_IOCTL_ARGUMENT, KVM_IOCTL_RESULT, KVM_OPEN } from '../../../engine/events.ts';
import { eventFdOf, openEventFd } from '../../../machine/kernel/eventfd-file.ts';
import { FdTable } from '../../../machine/kernel/files.ts';
import { defaultRoutes, type IrqRoute } from '../../../machine/kvm/irq-routing.ts';
import { KvmDevice } from '../../../machine/kvm/kvm-files.ts';
import { Irqfd, type Vm } from '../../../machine/kvm/vm.ts';
import type { Services } from '../../../machine/services.ts';
import type { MsiMessage } from '../../../machine/virtio/msix.ts';
import type { Doorbell } from '../../../machine/virtio/virtio-device-types.ts';
import * as K from '../../../machine/wire/kvm.ts';
import { viewOf } from '../../../machine/wire/struct.ts';

const NOTHING = new Uint8Array(0);
/** GSIs below are the pins of the I/O APIC (qemu kvm_irqchip_get_virq() gives out the first free one). */
const FIRST_MSI_GSI = 24;
/** A message to nobody: what a queue without a vector would send. */
const NO_MESSAGE: MsiMessage = { address: 0, data: 0 };

export class VmmProcess {
  readonly fds = new FdTable();
  readonly vm: Vm;
  private readonly services: Services;
  /** Context and place of what the process does now, as part of meta words. */
  private readonly base: () => number;
  private readonly cpus: number;
  private kvm = -1;
  private vmFd = -1;
  readonly vcpuFds: number[] = [];
  /** The table that KVM_SET_GSI_ROUTING passes. */
  private routes: IrqRoute[] = [];
  private readonly gsiOf = new Map<EventFd, number>();

  /** `base`: place and context of what it does; `cpus`: of the host. */
  constructor(services: Services, vm: Vm, base: () => number, cpus: number) {
    this.services = services;
    this.vm = vm;
    this.base = base;
    this.cpus = cpus;
  }

  // ---- descriptors --------------------------------------------------------------------------------------------------
  /** The descriptor of an eventfd; opened where the process has none yet. */
  eventFd(eventfd: EventFd): number {
    return eventFdOf(this.fds, eventfd.fd) === eventfd ? eventfd.fd : openEventFd(this.fds, eventfd);
  }
  /** Closes it, where it is open. */
  closeEventFd(eventfd: EventFd): void {
    if (eventFdOf(this.fds, eventfd.fd) === eventfd) this.fds.close(eventfd.fd);
  }
  /** open("/dev/kvm"). */
  openKvm(): number {
    this.kvm = this.fds.install(new KvmDevice(this.fds, () => this.vm, this.cpus));
    this.services.recorder.event(this.base() | KVM_OPEN, 0, this.kvm, 0);
    return this.kvm;
  }

  // ---- ioctls -------------------------------------------------------------------------------------------------------
  private ioctl(fd: number, request: number, argument: Uint8Array, value: number, key: number): number {
    const { recorder, arena } = this.services;
    const base = this.base();
    recorder.event(base | KVM_IOCTL, 0, request | 0, key | 0);
    if (argument.length > 0)
      recorder.event(base | KVM_IOCTL_ARGUMENT, 0, recorder.foreignBytes(arena.u8, argument), argument.length);
    const result = this.fds.ioctl(fd, request, argument, value);
    if (result !== 0) recorder.event(base | KVM_IOCTL_RESULT, 0, request | 0, result);
    return result;
  }
  /** On /dev/kvm. */
  system(request: number, value = 0): number {
    return this.ioctl(this.kvm, request, NOTHING, value, value);
  }
  /** On the VM's descriptor, with a number. */
  machine(request: number, value = 0): number {
    return this.ioctl(this.vmFd, request, NOTHING, value, value);
  }
  /** The same with a structure; `key`: what the record shows of it first. */
  machineWith(request: number, argument: Uint8Array, key: number): number {
    return this.ioctl(this.vmFd, request, argument, 0, key);
  }
  /** On a vCPU's descriptor. */
  vcpu(id: number, request: number, argument: Uint8Array = NOTHING): number {
    return this.ioctl(this.vcpuFds[id]!, request, argument, 0, 0);
  }

  createVm(): number {
    this.vmFd = this.system(K.KVM_CREATE_VM);
    return this.vmFd;
  }
  createIrqchip(): number {
    this.routes = defaultRoutes();
    return this.machine(K.KVM_CREATE_IRQCHIP);
  }
  createVcpu(id: number): number {
    const fd = this.machine(K.KVM_CREATE_VCPU, id);
    this.vcpuFds[id] = fd;
    return fd;
  }
  /** Guest RAM, which the process has mapped from `userspace_addr` on: a slot for each part that has memory. */
  setMemory(userspace_addr: number): void {
    const r = K.kvm_userspace_memory_region;
    for (const slot of this.vm.layout) {
      const argument = new Uint8Array(r.SIZE);
      const m = viewOf(argument);
      r.slot.set(m, 0, slot.slot);
      r.guest_phys_addr.set(m, 0, slot.gpa);
      r.memory_size.set(m, 0, slot.size);
      r.userspace_addr.set(m, 0, userspace_addr + slot.offsetInRam);
      this.machineWith(K.KVM_SET_USER_MEMORY_REGION, argument, slot.gpa);
    }
  }

  // ---- interrupts ---------------------------------------------------------------------------------------------------
  /** kvm_irqchip_commit_routes(): the whole table. */
  setRoutes(routes: readonly IrqRoute[]): number {
    this.routes = [...routes];
    const entry = K.kvm_irq_routing_entry;
    const argument = new Uint8Array(K.kvm_irq_routing.SIZE + routes.length * entry.SIZE);
    const m = viewOf(argument);
    K.kvm_irq_routing.nr.set(m, 0, routes.length);
    for (const [i, route] of routes.entries()) {
      const at = K.kvm_irq_routing.SIZE + i * entry.SIZE;
      entry.gsi.set(m, at, route.gsi);
      if (route.type === 'irqchip') {
        entry.type.set(m, at, K.KVM_IRQ_ROUTING_IRQCHIP);
        K.kvm_irq_routing_entry_irqchip.irqchip.set(m, at, route.irqchip);
        K.kvm_irq_routing_entry_irqchip.pin.set(m, at, route.pin);
        continue;
      }
      entry.type.set(m, at, K.KVM_IRQ_ROUTING_MSI);
      K.kvm_irq_routing_entry_msi.address_lo.set(m, at, route.address_lo);
      K.kvm_irq_routing_entry_msi.address_hi.set(m, at, route.address_hi);
      K.kvm_irq_routing_entry_msi.data.set(m, at, route.data);
    }
    return this.machineWith(K.KVM_SET_GSI_ROUTING, argument, routes.length);
  }
  /** kvm_irqchip_add_msi_route(): the GSI of a message, which vectors with the same one share. */
  private gsiFor(message: MsiMessage): number {
    const same = this.routes.find(
      (r) => r.type === 'msi' && r.address_lo === message.address && r.data === message.data,
    );
    if (same !== undefined) return same.gsi;
    let gsi = FIRST_MSI_GSI;
    while (this.routes.some((r) => r.gsi === gsi)) gsi++;
    const route = { gsi, type: 'msi', address_lo: message.address, address_hi: 0, data: message.data } as const;
    this.setRoutes([...this.routes, route]);
    return gsi;
  }

  /** KVM_IRQFD: what signals `eventfd` sends `message` from now on. Returns the kernel's end of it. */
  irqfd(eventfd: EventFd, message: MsiMessage | null): Irqfd {
    this.releaseIrqfd(eventfd);
    const gsi = this.gsiFor(message ?? NO_MESSAGE);
    this.gsiOf.set(eventfd, gsi);
    this.irqfdIoctl(eventfd, gsi, 0);
    return this.vm.irqfdOf(eventfd) ?? new Irqfd(this.services.recorder, eventfd, gsi, null);
  }
  /** KVM_IRQFD_FLAG_DEASSIGN, where it is one; the route goes with its last user, at the next change of the table. */
  releaseIrqfd(eventfd: EventFd): void {
    const gsi = this.gsiOf.get(eventfd);
    if (gsi === undefined) return;
    this.irqfdIoctl(eventfd, gsi, K.KVM_IRQFD_FLAG_DEASSIGN);
    this.gsiOf.delete(eventfd);
    if (![...this.gsiOf.values()].includes(gsi)) this.routes = this.routes.filter((r) => r.gsi !== gsi);
  }
  /** KVM_IRQFD on a line of the interrupt controllers: each signal is an edge. */
  lineIrqfd(eventfd: EventFd, gsi: number): number {
    this.gsiOf.set(eventfd, gsi);
    return this.irqfdIoctl(eventfd, gsi, 0);
  }
  private irqfdIoctl(eventfd: EventFd, gsi: number, flags: number): number {
    const argument = new Uint8Array(K.kvm_irqfd.SIZE);
    const m = viewOf(argument);
    K.kvm_irqfd.fd.set(m, 0, this.eventFd(eventfd));
    K.kvm_irqfd.gsi.set(m, 0, gsi);
    K.kvm_irqfd.flags.set(m, 0, flags);
    return this.machineWith(K.KVM_IRQFD, argument, gsi);
  }

  // ---- doorbells ----------------------------------------------------------------------------------------------------
  /**
   * KVM_IOEVENTFD: writes to a doorbell signal `eventfd`, or (`assign` false) do so no more. An address that means one queue
   * takes writes of any width (the fast way); one that all queues share is told apart by the value.
   */
  ioeventfd(doorbell: Doorbell, eventfd: EventFd, assign = true): number {
    const argument = new Uint8Array(K.kvm_ioeventfd.SIZE);
    const m = viewOf(argument);
    let flags = doorbell.io ? K.KVM_IOEVENTFD_FLAG_PIO : 0;
    if (doorbell.match >= 0) {
      flags |= K.KVM_IOEVENTFD_FLAG_DATAMATCH;
      K.kvm_ioeventfd.datamatch.set(m, 0, doorbell.match);
      K.kvm_ioeventfd.len.set(m, 0, doorbell.bytes);
    }
    if (!assign) flags |= K.KVM_IOEVENTFD_FLAG_DEASSIGN;
    K.kvm_ioeventfd.addr.set(m, 0, doorbell.address);
    K.kvm_ioeventfd.fd.set(m, 0, this.eventFd(eventfd));
    K.kvm_ioeventfd.flags.set(m, 0, flags);
    return this.machineWith(K.KVM_IOEVENTFD, argument, doorbell.address);
  }
}
