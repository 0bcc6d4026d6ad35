/**
 * A vCPU as KVM sees it: exits with their reason and with who answered them, interrupts, halting. What runs on it (the
 * Linux kernel with its driver, or a DPDK program) is a subclass in guest/.
 */
import { assert } from '../../engine/assert.ts';
import { Context, SLEEPING, WAKING } from '../../engine/context.ts';
import {
  EVENTFD_SIGNAL,
  KVM_ENTRY,
  KVM_EXIT_EXTERNAL_INTERRUPT,
  KVM_EXIT_HLT,
  KVM_EXIT_IO,
  KVM_EXIT_IO_KERNEL,
  KVM_EXIT_MMIO_KERNEL,
  KVM_EXIT_MMIO_USER,
  KVM_HALT_POLL_FAIL,
  KVM_HALT_POLL_SUCCESS,
  KVM_POSTED_INTERRUPT,
  KVM_RUN_CALL,
  KVM_USERSPACE_EXIT,
  VIRTQ_KICK,
  VIRTQ_KICK_SUPPRESSED,
} from '../../engine/events.ts';
import { NEVER } from '../../engine/timeline.ts';
import type { GuestQueuePair } from '../guest/guest-queue-pair.ts';
import { EINTR } from '../kernel/errno.ts';
import { baseOf, type Services } from '../services.ts';
import type { DriverQueue } from '../virtio/queue/driver-queue.ts';
import { KVM_EXIT_INTR } from '../wire/kvm.ts';
import { HaltPoll } from './halt-poll.ts';
import { VcpuRun } from './vcpu-run.ts';
import type { InterruptTarget, Vm } from './vm.ts';

/** Interrupt lines of a vCPU at most: x86 has 256 vectors, of which Linux gives about 200 to devices. */
export const MAX_IRQS = 200;
const VECTORS = 256;

/** A driver's way to ask a device why it interrupts. */
export interface LevelLine {
  /** Reads what the line is about (VIRTIO_PCI_ISR_ bits), at that time, and so lets go of it. */
  take(now: number): number;
  /** What the exits of the last take() cost, ns. */
  readonly spent: number;
}
/** What a driver has registered for an interrupt line; several queues share one where vectors are scarce. */
export interface IrqHandler {
  readonly pairs: readonly GuestQueuePair[];
  /** A configuration change: what the driver does about it, and the time that its exits cost, ns. */
  readonly config: (() => number) | null;
  /** Of a line that is a level: a pin, or the line of virtio-mmio. Without: a message. */
  readonly level?: LevelLine;
}

/** x86 has 64 KiB of ports; a doorbell below is one, as no register lies in low memory. */
const isPort = (address: number): boolean => address < 0x1_0000;

/** Where a queue's notify register is. An object, so that the address, which is no small integer, is not boxed for each frame. */
export interface DoorbellPlace {
  /** Guest-physical address, or port. */
  readonly address: number;
  /** What a driver writes there at least. */
  readonly bytes: number;
}

export abstract class Vcpu extends Context implements InterruptTarget {
  declare protected readonly services: Services;
  declare readonly vm: Vm;
  /** What each interrupt line does, by line; set up with the devices. */
  readonly irqs: IrqHandler[] = [];
  /** The line on each vector, as the guest has set up its descriptor table; MAX_IRQS where it has none. */
  private readonly vectorLines = new Uint8Array(VECTORS).fill(MAX_IRQS);
  /** Why KVM_RUN came back to the VMM. */
  readonly run = new VcpuRun();
  /** Descriptor of the vCPU in the VMM's process. */
  fd = -1;
  /** null where the thread of a halted vCPU sleeps at once. */
  declare readonly poll: HaltPoll | null;
  /** When a halted vCPU was woken first; negative while it was not. An array, so that a time is not boxed. */
  private readonly woken = new Float64Array(1);
  /** Lines that wait: how many, which in order of arrival, and the first 32 as bits for the record. */
  protected pending = 0;
  private pendingBits = 0;
  private readonly pendingLines = new Int32Array(MAX_IRQS + 1);
  private readonly raised = new Uint8Array(MAX_IRQS + 1);
  /** Set when a vector arrived while the guest ran: it must leave the guest to take it. */
  protected interruptedRunning = false;
  /** Time that exits have cost since the last slice; the vCPU stands still for it before its next one. */
  protected exitDebt = 0;
  protected halted = true;
  protected vcpuBase = 0;
  declare private readonly exitKernel: number;
  declare private readonly exitUser: number;
  declare protected readonly exitInterrupt: number;
  declare private readonly eventfdDelay: number;
  declare private readonly injectDelay: number;
  declare private readonly pollDelay: number;
  declare private readonly posted: boolean;
  declare private readonly userDelay: number;

  constructor(name: string, core: number, services: Services, vm: Vm) {
    super(name, core, services.recorder);
    this.services = services;
    this.vm = vm;
    vm.targets.push(this);
    vm.runs.push(this.run);
    this.poll = vm.haltPollNs > 0 ? new HaltPoll(vm.haltPollNs) : null;
    this.posted = vm.postedInterrupts;
    this.exitKernel = services.ns('vm_exit_in_kernel_device');
    this.exitUser = services.ns('vm_exit_userspace');
    this.exitInterrupt = services.ns('vm_exit_external_interrupt');
    this.eventfdDelay = services.ns('ioeventfd_signal') + services.ns('idle_backend_wakeup');
    this.userDelay = Math.round(services.ns('vm_exit_userspace') / 2) + services.ns('idle_backend_wakeup');
    // with overridden costs the trap may cost more than the whole: nothing wakes before its cause
    const injected = services.ns('msi_injection') - services.ns('vm_exit_in_kernel_device');
    this.injectDelay = Math.max(0, injected + services.ns('halted_vcpu_wakeup'));
    this.pollDelay = Math.max(0, injected + services.ns('halt_poll_wakeup'));
  }

  /** For `turns`: what a halt under way depends on. */
  protected get halting(): readonly number[] {
    return this.poll === null ? [] : [this.timeline.leftCore[this.id]!, ...this.poll.state];
  }
  protected set halting(state: readonly number[]) {
    if (this.poll === null || state.length === 0) return;
    this.timeline.leftCore[this.id] = state[0]!;
    this.poll.state = state.slice(1);
  }

  /** Called once when the id and place are known. */
  begin(): void {
    this.vcpuBase = baseOf(this.place, this.id);
  }

  /** A new interrupt line of this vCPU, on a vector where messages reach it by one. Returns its number. */
  addIrq(handler: IrqHandler, vector = -1): number {
    assert(this.irqs.length < MAX_IRQS, 'validation bounds the queues of a guest');
    this.irqs.push(handler);
    const line = this.irqs.length - 1;
    if (vector >= 0) this.vectorLines[vector] = line;
    return line;
  }
  lineOf(vector: number): number {
    return this.vectorLines[vector]!;
  }
  protected pendingLine(i: number): number {
    return this.pendingLines[i]!;
  }
  protected clearPending(): void {
    for (let i = 0; i < this.pending; i++) this.raised[this.pendingLines[i]!] = 0;
    this.pending = 0;
    this.pendingBits = 0;
  }

  /** KVM_SIGNAL_MSI or irqfd: the line is pending; a halted vCPU wakes after injection and wake-up. */
  interrupt(line: number): void {
    if (this.raised[line] === 0) {
      this.raised[line] = 1;
      this.pendingLines[this.pending++] = line;
      if (line < 32) this.pendingBits |= 1 << line;
    }
    if (this.halted) {
      this.timeline.now[1] = this.timeline.now[0]! + this.wakeDelay();
      this.rouse();
    } else if (this.posted) {
      // the processor takes it from the posted-interrupt descriptor, at its next instruction
      this.recorder.event(this.vcpuBase | KVM_POSTED_INTERRUPT, 0, line, 0);
    } else this.interruptedRunning = true;
  }
  /** From an interrupt to the halted vCPU that runs, ns: its thread sleeps, or still polls. */
  protected wakeDelay(): number {
    const { poll } = this;
    if (poll === null) return this.injectDelay;
    const now = this.timeline.now[0]!;
    if (this.woken[0]! < 0) this.woken[0] = now;
    return poll.polls(now, this.timeline.leftCore[this.id]!) ? this.pollDelay : this.injectDelay;
  }

  /**
   * Asks the ring whether the device wants a kick for what was just published, and rings the doorbell at `place` if so:
   * a register write is always an exit; who answers it is KVM's table of ioeventfds. `frame` is charged.
   */
  protected considerKick(
    queue: DriverQueue,
    queueBase: number,
    index: number,
    place: DoorbellPlace,
    frame: number,
  ): void {
    const recorder = this.recorder;
    if (!queue.kickWanted()) {
      recorder.event(queueBase | VIRTQ_KICK_SUPPRESSED, frame, queue.availEvent, queue.avail_idx_shadow);
      return;
    }
    recorder.event(queueBase | VIRTQ_KICK, frame, index, queue.avail_idx_shadow);
    const value = queue.kickValue(index);
    const { address } = place;
    const width = queue.kickBytes > place.bytes ? queue.kickBytes : place.bytes;
    const eventfd = this.vm.ioeventfdAt(address, value, width);
    const now = recorder.stamp[0]!;
    if (eventfd !== null) {
      recorder.event(
        this.vcpuBase | (isPort(address) ? KVM_EXIT_IO_KERNEL : KVM_EXIT_MMIO_KERNEL),
        frame,
        address | 0,
        value,
      );
      this.timeline.now[1] = now + this.eventfdDelay;
      eventfd.signal();
      recorder.event(queueBase | EVENTFD_SIGNAL, frame, eventfd.counter, eventfd.fd);
      this.exitDebt += this.exitKernel;
    } else {
      recorder.event(this.vcpuBase | (isPort(address) ? KVM_EXIT_IO : KVM_EXIT_MMIO_USER), frame, address | 0, value);
      this.timeline.now[1] = now + this.userDelay;
      this.leave(address, value, width, true);
      this.vm.onUserWrite(address, value, this.id << 20, width);
      recorder.event(this.vcpuBase | KVM_RUN_CALL, 0, this.fd, 0);
      this.exitDebt += this.exitUser;
    }
  }

  /** KVM_RUN returns to the VMM for an access to a register that nobody has in the kernel. */
  leave(address: number, value: number, width: number, isWrite: boolean): void {
    if (isPort(address)) this.run.io(address, value, width, isWrite);
    else this.run.mmio(address, value, width, isWrite);
    this.recorder.event(this.vcpuBase | KVM_USERSPACE_EXIT, 0, this.run.exit_reason, 0);
  }
  /** A signal takes the vCPU's thread out of the guest (qemu qemu_cpu_kick()): KVM_RUN returns -EINTR. At the current stamp. */
  kicked(): void {
    this.run.interrupted();
    this.recorder.event(this.vcpuBase | KVM_USERSPACE_EXIT, 0, KVM_EXIT_INTR, EINTR);
  }
  /** The VMM calls KVM_RUN, for the first time or again. */
  enter(): void {
    this.recorder.event(this.vcpuBase | KVM_RUN_CALL, 0, this.fd, 0);
  }

  /** HLT: sleeps until an interrupt, or until the guest's timer at timeline.now[1] (NEVER without). */
  protected halt(): void {
    const timer = this.timeline.now[1]!;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    this.recorder.event(this.vcpuBase | KVM_EXIT_HLT, 0, 0, 0);
    this.halted = true;
    this.timeline.idle.since[this.id] = this.timeline.now[0]!;
    if (this.poll !== null) {
      this.poll.halt(this.timeline.now[0]!);
      this.woken[0] = -1;
      // its core is awake as long as its thread polls
      this.timeline.idle.since[this.id]! += this.poll.halt_poll_ns;
    }
    if (timer === NEVER) {
      this.phase = SLEEPING;
      this.timeline.next[this.id] = NEVER;
    } else {
      this.phase = WAKING;
      this.timeline.next[this.id] = Math.max(this.timeline.now[0]!, Math.ceil(timer));
    }
  }

  /** The vCPU runs again after a halt. */
  protected resume(): void {
    this.halted = false;
    this.interruptedRunning = false;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    if (this.poll !== null) this.endPoll(this.poll);
    this.recorder.event(this.vcpuBase | KVM_ENTRY, 0, this.pendingBits, 0);
  }

  /** The time that the thread polled was the core's, whether that was in vain or not. */
  private endPoll(poll: HaltPoll): void {
    const now = this.timeline.now[0]!;
    const woken = this.woken[0]!;
    // nobody woke it: the guest's timer ran out
    const used = poll.wake(now, woken < 0 ? now : woken, this.timeline.leftCore[this.id]!);
    if (!poll.didPoll) return;
    const ns = used < 0 ? -used - 1 : used;
    this.timeline.busy[this.id]! += ns;
    const kind = used < 0 ? KVM_HALT_POLL_FAIL : KVM_HALT_POLL_SUCCESS;
    this.recorder.event(this.vcpuBase | kind, 0, ns, poll.halt_poll_ns);
  }

  /** An interrupt arrived while the guest ran: it leaves the guest to take it, which costs its own time. */
  protected takeExternalInterrupt(): void {
    this.interruptedRunning = false;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    this.recorder.event(this.vcpuBase | KVM_EXIT_EXTERNAL_INTERRUPT, 0, this.pendingBits, 0);
    this.exitDebt += this.exitInterrupt;
  }
}
