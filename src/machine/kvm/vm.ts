/**
 * A virtual machine as KVM knows it: memory slots, who answers a write to a doorbell (an ioeventfd in the kernel, or the VMM
 * in userspace), the routes of its interrupts and which vCPU a message goes to. The VMM sets it up through the descriptors in
 * kvm-files.ts. Nothing here runs by itself: vCPUs, workers and the VMM call it.
 */
import { Context } from '../../engine/context.ts';
import type { EventFd } from '../../engine/eventfd.ts';
import { EVENTFD_SIGNAL, KVM_IRQFD, KVM_SIGNAL_MSI, SCHED_SYSCALL } from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';
import { EAGAIN, EBUSY, EINVAL, ENXIO } from '../kernel/errno.ts';
import { eventFdOf } from '../kernel/eventfd-file.ts';
import type { FdTable } from '../kernel/files.ts';
import {
  KVM_IRQFD_FLAG_DEASSIGN,
  KVM_IRQFD_FLAG_RESAMPLE,
  KVM_MSI_VALID_DEVID,
  kvm_irq_routing,
  kvm_irqfd,
  kvm_msi,
} from '../wire/kvm.ts';
import { msiTarget } from './apic.ts';
import { IoBus } from './io-bus.ts';
import { defaultRoutes, type IrqRoute, KVM_MAX_IRQ_ROUTES, parseRoutes } from './irq-routing.ts';
import { flatMemory, type MemorySlot, memorySlots } from './memory-slots.ts';
import { MemSlots } from './memslots.ts';
import type { VcpuRun } from './vcpu-run.ts';

/** What an interrupt reaches: a vCPU. */
export interface InterruptTarget {
  /** The interrupt line that the guest has on a vector; a line that nobody handles where it has none. */
  lineOf(vector: number): number;
  /** The line is pending from timeline.now[0] on. */
  interrupt(line: number): void;
}

/** System call numbers of x86-64 that the data path uses (linux arch/x86/entry/syscalls/syscall_64.tbl). */
export const SYS_read = 0;
export const SYS_write = 1;
export const SYS_ioctl = 16;
export const SYS_writev = 20;

/** The vector in a message: the low byte of its data (Intel SDM 3A §11.11.2). */
export const msiVector = (data: number): number => data & 0xff;

export class Vm {
  declare readonly name: string;
  /** Arena offset of guest-physical address 0, and RAM size in bytes. */
  declare readonly ram: number;
  declare readonly ramBytes: number;
  /** vCPUs that the machine has; `targets` may have fewer, as those that never run have no context. */
  declare readonly cpus: number;
  readonly memory = new MemSlots();
  readonly bus = new IoBus();
  /** By number: those that run. */
  readonly targets: InterruptTarget[] = [];
  /** By number: why KVM_RUN of each came back. */
  readonly runs: VcpuRun[] = [];
  readonly irqfds: Irqfd[] = [];
  routes: readonly IrqRoute[] = [];
  /** The parameter `halt_poll_ns` of the module kvm; 0: vCPUs that halt sleep at once. */
  haltPollNs = 0;
  /** The processor posts interrupts to vCPUs that run (VT-x posted-interrupt processing; VT-d posting is not there). */
  postedInterrupts = false;
  /** KVM_CREATE_IRQCHIP was called: local APICs, I/O APIC and PICs are the kernel's. */
  irqchip = false;
  /** Lines of the I/O APIC, as the guest has programmed its redirection table: who takes a pin. */
  private readonly pins: ({ readonly target: InterruptTarget; readonly line: number } | undefined)[] = [];
  /** Its machine has RAM from 0 on without a hole for old devices (StratoVirt's), instead of a PC's layout. */
  flatMemory = false;
  /** The VMM's answer to a write that no ioeventfd takes. Runs on the vCPU's thread. */
  onUserWrite: (address: number, value: number, contextBits: number, width: number) => void = () => {};
  declare private readonly recorder: Recorder | null;

  constructor(name: string, ram: number, ramBytes: number, cpus = 1, recorder: Recorder | null = null) {
    this.name = name;
    this.ram = ram;
    this.ramBytes = ramBytes;
    this.cpus = cpus;
    this.recorder = recorder;
  }

  /** Where its RAM lies. */
  get layout(): MemorySlot[] {
    return this.flatMemory ? flatMemory(this.ramBytes) : memorySlots(this.ramBytes);
  }

  /** The eventfd that takes a write of `width` bytes to an address or port; null: userspace answers. */
  ioeventfdAt(address: number, value: number, width: number): EventFd | null {
    return this.bus.find(address, value, width);
  }

  // ---- interrupts ---------------------------------------------------------------------------------------------------
  createIrqchip(): void {
    this.irqchip = true;
    this.routes = defaultRoutes();
  }
  /** KVM_SET_GSI_ROUTING: the whole table is replaced, and irqfds follow. */
  setRoutes(m: DataView): number {
    if (!this.irqchip) return -EINVAL;
    if (kvm_irq_routing.nr.get(m, 0) > KVM_MAX_IRQ_ROUTES || kvm_irq_routing.flags.get(m, 0) !== 0) return -EINVAL;
    const routes = parseRoutes(m);
    if (typeof routes === 'number') return routes;
    this.routes = routes;
    for (const irqfd of this.irqfds) this.follow(irqfd);
    return 0;
  }
  /** irqfd_update(): where its interrupt goes is looked up now, not when it is signalled. */
  private follow(irqfd: Irqfd): void {
    const found = this.resolve(irqfd.gsi);
    irqfd.follow(found === null ? null : found.target, found === null ? 0 : found.line);
  }
  private resolve(gsi: number): { readonly target: InterruptTarget; readonly line: number } | null {
    for (const route of this.routes) {
      if (route.gsi !== gsi) continue;
      if (route.type === 'msi') return this.messageTarget(route.address_lo, route.data);
      const pin = this.pins[route.pin];
      if (pin !== undefined) return pin;
    }
    return null;
  }
  /** Who takes a message, and by which line; null where no vCPU does. */
  messageTarget(address: number, data: number): { readonly target: InterruptTarget; readonly line: number } | null {
    const target = this.targets[msiTarget(address)];
    return target === undefined ? null : { target, line: target.lineOf(msiVector(data)) };
  }
  /** The guest's redirection table sends a pin of the I/O APIC to a vCPU. */
  redirect(pin: number, target: InterruptTarget, line: number): void {
    this.pins[pin] = { target, line };
    for (const irqfd of this.irqfds) this.follow(irqfd);
  }

  /** KVM_SIGNAL_MSI: 1 where a vCPU takes it, 0 where none does, or a negative errno. */
  signalMsi(m: DataView): number {
    if (!this.irqchip || (kvm_msi.flags.get(m, 0) & ~KVM_MSI_VALID_DEVID) !== 0) return -EINVAL;
    const found = this.messageTarget(kvm_msi.address_lo.get(m, 0), kvm_msi.data.get(m, 0));
    if (found === null) return 0;
    found.target.interrupt(found.line);
    return 1;
  }
  /** KVM_IRQ_LINE: the level of a GSI; -ENXIO without an interrupt controller in the kernel. Returns vCPUs reached, -1 for none. */
  setIrq(gsi: number, level: number): number {
    if (!this.irqchip) return -ENXIO;
    const found = this.resolve(gsi);
    if (found === null) return -1;
    if (level !== 0) found.target.interrupt(found.line);
    return 1;
  }

  /** KVM_IRQFD: 0 or a negative errno. */
  irqfd(fds: FdTable, m: DataView): number {
    const flags = kvm_irqfd.flags.get(m, 0);
    const gsi = kvm_irqfd.gsi.get(m, 0);
    if ((flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE)) !== 0) return -EINVAL;
    const eventfd = eventFdOf(fds, kvm_irqfd.fd.get(m, 0));
    if ((flags & KVM_IRQFD_FLAG_DEASSIGN) !== 0) {
      if (typeof eventfd === 'number') return eventfd;
      const at = this.irqfds.findIndex((i) => i.eventfd === eventfd && i.gsi === gsi);
      if (at >= 0) this.irqfds.splice(at, 1)[0]!.follow(null, 0);
      return 0;
    }
    if (!this.irqchip) return -EAGAIN;
    if (typeof eventfd === 'number') return eventfd;
    let resample: EventFd | null = null;
    if ((flags & KVM_IRQFD_FLAG_RESAMPLE) !== 0) {
      const found = eventFdOf(fds, kvm_irqfd.resamplefd.get(m, 0));
      if (typeof found === 'number') return found;
      resample = found;
    }
    if (this.irqfds.some((i) => i.eventfd === eventfd)) return -EBUSY;
    const irqfd = new Irqfd(this.recorder, eventfd, gsi, resample);
    this.irqfds.push(irqfd);
    this.follow(irqfd);
    return 0;
  }
  /** The irqfd on an eventfd; null where it is none. */
  irqfdOf(eventfd: EventFd): Irqfd | null {
    return this.irqfds.find((i) => i.eventfd === eventfd) ?? null;
  }
}

/** How a device's used buffer notification reaches the guest. `contextBits` is the caller's part of the meta word. */
export interface InterruptRoute {
  trigger(contextBits: number): void;
}

/**
 * vhost's way: the call eventfd is an irqfd, the kernel injects (linux virt/kvm/eventfd.c, irqfd_wakeup).
 * DEVIATION: with KVM_IRQFD_FLAG_RESAMPLE nobody signals the resample eventfd, as no device here has its level in the kernel.
 */
export class Irqfd implements InterruptRoute {
  declare readonly eventfd: EventFd;
  declare readonly gsi: number;
  declare readonly resample: EventFd | null;
  declare private readonly recorder: Recorder | null;
  private target: InterruptTarget | null = null;
  private line = 0;
  private vcpuBits = 0;

  constructor(recorder: Recorder | null, eventfd: EventFd, gsi: number, resample: EventFd | null) {
    this.recorder = recorder;
    this.eventfd = eventfd;
    this.gsi = gsi;
    this.resample = resample;
  }
  /** Where its interrupt goes from now on; null: to nobody. */
  follow(target: InterruptTarget | null, line: number): void {
    this.target = target;
    this.line = line;
    this.vcpuBits = target instanceof Context ? target.place << 8 : 0;
  }
  trigger(contextBits: number): void {
    const { recorder, eventfd } = this;
    eventfd.counter++;
    if (recorder !== null) recorder.event(this.vcpuBits | contextBits | EVENTFD_SIGNAL, 0, eventfd.counter, eventfd.fd);
    if (this.target === null) return;
    eventfd.read(); // irqfd consumes it in the wake-up itself
    if (recorder !== null) recorder.event(this.vcpuBits | contextBits | KVM_IRQFD, 0, this.line, this.gsi);
    this.target.interrupt(this.line);
  }
}

/** QEMU's way for the userspace path without irqfd: an ioctl (DD-2 step 6). What it is about was looked up before. */
export class SignalMsi implements InterruptRoute {
  declare private readonly target: InterruptTarget;
  declare private readonly line: number;
  declare private readonly data: number;
  declare private readonly recorder: Recorder;
  declare private readonly vcpuBits: number;
  declare private readonly backendBits: number;

  /** `data`: of the message that struct kvm_msi holds. */
  constructor(
    recorder: Recorder,
    target: InterruptTarget,
    line: number,
    data: number,
    vcpuPlace: number,
    backendPlace: number,
  ) {
    this.recorder = recorder;
    this.target = target;
    this.line = line;
    this.data = data;
    this.vcpuBits = vcpuPlace << 8;
    this.backendBits = backendPlace << 8;
  }
  trigger(contextBits: number): void {
    this.recorder.event(this.backendBits | contextBits | SCHED_SYSCALL, 0, SYS_ioctl, 0);
    this.recorder.event(this.vcpuBits | contextBits | KVM_SIGNAL_MSI, 0, this.line, this.data);
    this.target.interrupt(this.line);
  }
}
