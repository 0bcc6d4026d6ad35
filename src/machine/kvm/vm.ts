/**
 * A virtual machine as KVM knows it: its RAM, who answers a write to a doorbell (an ioeventfd in the kernel, or the VMM
 * in userspace), and which vCPU an MSI goes to. Nothing here runs by itself: vCPUs, workers and the VMM call it.
 */

import type { EventFd } from '../../engine/eventfd.ts';
import { EVENTFD_SIGNAL, KVM_IRQFD, KVM_SIGNAL_MSI, SCHED_SYSCALL } from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';

/** What an interrupt reaches: a vCPU. */
export interface InterruptTarget {
  /** An MSI with this vector is pending from timeline.now[0] on. */
  interrupt(vector: number): void;
}

/** System call numbers of x86-64 that the data path uses (linux arch/x86/entry/syscalls/syscall_64.tbl). */
export const SYS_read = 0;
export const SYS_write = 1;
export const SYS_ioctl = 16;
export const SYS_readv = 19;
export const SYS_writev = 20;

/** Addresses up to 4 GiB as numbers that need no box. */
const keyOf = (address: number): number => (address < 0x1_0000_0000 ? address | 0 : address);

export class Vm {
  declare readonly name: string;
  /** Arena offset of guest-physical address 0, and RAM size in bytes. */
  declare readonly ram: number;
  declare readonly ramBytes: number;
  private readonly ioeventfds = new Map<number, EventFd>();
  /** Those with KVM_IOEVENTFD_FLAG_DATAMATCH: by address, then by value. */
  private readonly matched = new Map<number, Map<number, EventFd>>();
  /** The VMM's answer to a write that no ioeventfd takes. Runs on the vCPU's thread. */
  onUserWrite: (address: number, value: number, contextBits: number, width: number) => void = () => {};

  constructor(name: string, ram: number, ramBytes: number) {
    this.name = name;
    this.ram = ram;
    this.ramBytes = ramBytes;
  }

  /** KVM_IOEVENTFD on a memory address or a port; `match`: the value that it listens to, -1 for any. */
  assignIoeventfd(address: number, eventfd: EventFd, match = -1): void {
    if (match < 0) this.ioeventfds.set(keyOf(address), eventfd);
    else {
      const byValue = this.matched.get(address) ?? new Map<number, EventFd>();
      this.matched.set(address, byValue.set(match, eventfd));
    }
  }
  /** KVM_IOEVENTFD_FLAG_DEASSIGN, if it is still that eventfd's. */
  removeIoeventfd(address: number, eventfd: EventFd, match = -1): void {
    const byValue = this.matched.get(address);
    if (match >= 0 && byValue?.get(match) === eventfd) byValue.delete(match);
    else if (match < 0 && this.ioeventfds.get(keyOf(address)) === eventfd) this.ioeventfds.delete(keyOf(address));
  }
  ioeventfdAt(address: number, value: number): EventFd | undefined {
    return this.ioeventfds.get(keyOf(address)) ?? this.matched.get(address)?.get(value);
  }
}

/** How a device's used buffer notification reaches the guest. `contextBits` is the caller's part of the meta word. */
export interface InterruptRoute {
  trigger(contextBits: number): void;
}

/** vhost's way: the call eventfd is an irqfd, the kernel injects (linux virt/kvm/eventfd.c, irqfd_wakeup). */
export class Irqfd implements InterruptRoute {
  declare private readonly eventfd: EventFd;
  declare private readonly target: InterruptTarget;
  declare private readonly vector: number;
  declare private readonly recorder: Recorder;
  declare private readonly vcpuBits: number;

  constructor(recorder: Recorder, eventfd: EventFd, target: InterruptTarget, vector: number, vcpuPlace: number) {
    this.recorder = recorder;
    this.eventfd = eventfd;
    this.target = target;
    this.vector = vector;
    this.vcpuBits = vcpuPlace << 8;
  }
  trigger(contextBits: number): void {
    this.eventfd.counter++;
    this.recorder.event(this.vcpuBits | contextBits | EVENTFD_SIGNAL, 0, this.eventfd.counter, this.eventfd.fd);
    this.eventfd.read(); // irqfd consumes it in the wake-up itself
    this.recorder.event(this.vcpuBits | contextBits | KVM_IRQFD, 0, this.vector, 0);
    this.target.interrupt(this.vector);
  }
}

/** QEMU's way for the userspace path without irqfd: an ioctl (DD-2 step 6). */
export class SignalMsi implements InterruptRoute {
  declare private readonly target: InterruptTarget;
  declare private readonly vector: number;
  declare private readonly recorder: Recorder;
  declare private readonly vcpuBits: number;
  declare private readonly backendBits: number;

  constructor(recorder: Recorder, target: InterruptTarget, vector: number, vcpuPlace: number, backendPlace: number) {
    this.recorder = recorder;
    this.target = target;
    this.vector = vector;
    this.vcpuBits = vcpuPlace << 8;
    this.backendBits = backendPlace << 8;
  }
  trigger(contextBits: number): void {
    this.recorder.event(this.backendBits | contextBits | SCHED_SYSCALL, 0, SYS_ioctl, 0);
    this.recorder.event(this.vcpuBits | contextBits | KVM_SIGNAL_MSI, 0, this.vector, 0);
    this.target.interrupt(this.vector);
  }
}
