/**
 * What both kinds of guest software have in common on a vCPU: the NICs, the queue pairs that this vCPU serves, a stack,
 * the sources that send in turn, and booting first of all (on the first vCPU). linux-vcpu.ts and pmd-vcpu.ts say when
 * they look at which.
 */
import { PHASE_OWN } from '../../engine/context.ts';
import { KVM_EXIT_MMIO_USER } from '../../engine/events.ts';
import { NEVER } from '../../engine/timeline.ts';
import type { DmaPort } from '../iommu/dma-iommu.ts';
import { Vcpu } from '../kvm/vcpu.ts';
import type { Vm } from '../kvm/vm.ts';
import type { Services } from '../services.ts';
import type { GuestControl } from './guest-control.ts';
import type { GuestNic } from './guest-nic.ts';
import type { GuestQueuePair } from './guest-queue-pair.ts';
import type { ControlCommand } from './net-commands.ts';
import type { GuestBoot } from './probe/boot.ts';
import type { GuestStack } from './stack/stack.ts';
import type { TrafficSource } from './traffic/source.ts';

/** The first step: the devices are probed. */
export const BOOT = PHASE_OWN;
/** The second: their rings are filled. */
export const LINK_UP = PHASE_OWN + 1;
/** A command is on the control queue: the vCPU looks whether it was answered, and looks again when it was. */
export const CONTROL_POLL = PHASE_OWN + 2;
export const CONTROL_WAIT = PHASE_OWN + 3;
/** The VM is stopped. Below PHASE_OWN, as no work of the guest's. */
const STOPPED = 4;
/** A guest's own phases begin here. */
export const PHASE_GUEST = PHASE_OWN + 4;

export abstract class GuestVcpu extends Vcpu {
  declare readonly index: number;
  declare readonly nics: readonly GuestNic[];
  /** Queue pairs that this vCPU serves: pair i of a NIC on vCPU i modulo their number (virtnet_set_affinity()). */
  declare readonly pairs: readonly GuestQueuePair[];
  declare readonly stack: GuestStack;
  /** All vCPUs of the guest that run, this one among them; set by the builder. */
  group: readonly GuestVcpu[] = [];
  /** Senders, the stack's answers first. */
  declare protected readonly sources: TrafficSource[];
  declare private readonly answers: number;
  /** Index of the sender that is asked first. */
  protected turn = 0;
  private boot: GuestBoot | null = null;
  // ---- control queues: the first vCPU sends all commands
  /** Commands that wait, of all NICs. */
  protected commands = 0;
  private sent: GuestControl | null = null;
  private sentAt = 0;
  declare private readonly seenDelay: number;

  constructor(
    name: string,
    core: number,
    services: Services,
    vm: Vm,
    nics: readonly GuestNic[],
    stack: GuestStack,
    index: number,
    vcpus: number,
  ) {
    super(name, core, services, vm);
    this.seenDelay = services.ns('cross_core_cache_line');
    this.index = index;
    this.nics = nics;
    this.pairs = nics.flatMap((nic) => nic.pairs.filter((pair) => pair.index % vcpus === index));
    this.stack = stack;
    this.sources = this.pairs.map((pair) => stack.replies(pair));
    this.answers = this.sources.length;
  }

  /** Buffers that a lazy IOMMU has not invalidated yet; empty without one. */
  readonly flushes: DmaPort[] = [];
  /** The guest writes a register that nobody has in the kernel, at the current stamp: KVM_RUN returns to the VMM. */
  registerExit(address: number, value: number, width: number): void {
    this.recorder.event(this.vcpuBase | KVM_EXIT_MMIO_USER, 0, address | 0, value);
    this.leave(address, value, width, true);
  }
  /** The vCPU has so much more to do, or to wait for, before it goes on, ns. */
  owe(ns: number): void {
    this.exitDebt += ns;
  }

  /** Whether received frames end in this guest. */
  abstract get ends(): boolean;
  /** What the first step does. */
  onBoot(boot: GuestBoot): void {
    this.boot = boot;
    this.phase = BOOT;
  }
  protected probeDevices(): void {
    this.spend(this.boot!.probe(this.timeline.now[0]!), LINK_UP);
    this.boot = null;
  }

  // ---- QMP stop and cont --------------------------------------------------------------------------------------------
  /** QEMU has stopped the VM. */
  protected stopped = false;
  private stoppedIn = STOPPED;
  /**
   * Nothing of the guest happens until startVm() (qemu pause_all_vcpus()).
   * DEVIATION: a slice that is under way has taken its time when the guest goes on, and lands then; a real vCPU stops within it.
   */
  stopVm(): void {
    this.stopped = true;
  }
  /** In place of a step: what was to happen waits. */
  protected standStill(): void {
    this.stoppedIn = this.phase;
    this.phase = STOPPED;
    this.timeline.next[this.id] = NEVER;
  }
  /** The guest goes on at the current time, where it was (qemu resume_all_vcpus()). */
  startVm(): void {
    this.stopped = false;
    if (this.phase !== STOPPED) return;
    this.phase = this.stoppedIn;
    this.timeline.now[1] = this.timeline.now[0]!;
    this.timeline.wake(this.id);
  }

  // ---- commands -----------------------------------------------------------------------------------------------------
  /** The driver is to send commands on the NIC's control queue, one after the other. Called on the first vCPU. */
  command(nic: GuestNic, commands: readonly ControlCommand[]): void {
    if (nic.control === null || commands.length === 0) return;
    nic.control.ask(commands);
    this.commands += commands.length;
    this.timersChanged();
  }
  /** True where a command was sent, and the vCPU waits for its answer: takeAnswer() runs next. */
  protected sendCommand(): boolean {
    if (this.commands === 0) return false;
    const control = this.nics.find((nic) => nic.control !== null && nic.control.waiting > 0)?.control ?? null;
    if (control === null) return false;
    this.sent = control;
    this.sentAt = this.timeline.now[0]!;
    this.recorder.stamp[0] = this.sentAt;
    control.send();
    this.considerKick(control.queue, control.base, control.index, control.doorbell, 0);
    const debt = this.exitDebt;
    this.exitDebt = 0;
    this.spend(debt, CONTROL_POLL);
    return true;
  }
  /** False: the answer is not there yet, and the vCPU goes on to wait, without giving anything else a turn. */
  protected takeAnswer(): boolean {
    const now = this.timeline.now[0]!;
    if (this.phase === CONTROL_WAIT) this.timeline.busy[this.id]! += now - this.waitsSince;
    this.recorder.stamp[0] = now;
    if (!this.sent!.answered()) {
      this.phase = CONTROL_WAIT;
      this.waitsSince = now;
      this.timeline.next[this.id] = NEVER;
      return false;
    }
    this.commands--;
    this.sent = null;
    return true;
  }
  private waitsSince = 0;
  /** The device has used chains of a control queue, at timeline.now[0]. */
  controlUsed(): void {
    if (this.phase !== CONTROL_WAIT) return;
    this.timeline.now[1] = this.seenAt(this.timeline.now[0]! + this.seenDelay, this.sentAt);
    this.timeline.wake(this.id);
  }
  /** When a driver that began to poll at `since` sees what it could see at `at`: Linux spins (cpu_relax()). */
  protected seenAt(at: number, _since: number): number {
    return at;
  }

  /** Whether this vCPU brings the guest up; the others wait for what it does. */
  protected get boots(): boolean {
    return this.boot !== null;
  }

  /** A new sender, on the vCPU that serves its queue pair. Called between slices; the source is started by its owner. */
  addSource(source: TrafficSource): void {
    const pair = source.nic.pairs[source.pair]!;
    const owner = this.group.find((vcpu) => vcpu.pairs.includes(pair)) ?? this;
    owner.takeOn(source);
  }
  private takeOn(source: TrafficSource): void {
    for (let i = this.sources.length - 1; i >= this.answers; i--) if (this.sources[i]!.done) this.sources.splice(i, 1);
    this.turn = 0;
    this.sources.push(source);
    this.timersChanged();
  }
  /** Whose answers go first where nobody sends any more. */
  protected get answerTurn(): number {
    return this.turn < this.answers ? this.turn : 0;
  }
  /** Something may be due earlier than this vCPU thinks. */
  abstract timersChanged(): void;

  /** After the stack has taken frames: what it made due on other vCPUs runs there. */
  protected rouseOthers(): void {
    for (const vcpu of this.group) if (vcpu !== this) vcpu.timersChanged();
  }

  /** Element 0: what findDue() found. An array, so that a time is not boxed for each frame. */
  protected readonly due = new Float64Array(1);
  /** When the next frame or timer is due, NEVER without. A stopped queue waits for its device, not for the clock. */
  protected findDue(): void {
    const { due } = this;
    due[0] = this.index === 0 ? this.stack.timer[0]! : Number.POSITIVE_INFINITY;
    for (const s of this.sources) {
      if ((s.work >= 0 || !s.nic.pairs[s.pair]!.txStopped) && s.due[0]! < due[0]!) due[0] = s.due[0]!;
    }
    if (this.commands > 0 && this.sent === null) due[0] = 0;
    for (let i = 0; i < this.flushes.length; i++) {
      const at = this.flushes[i]!.flushDue[0]!;
      if (at < due[0]!) due[0] = at;
    }
  }

  /** fq_flush_timeout(): what has waited long enough is invalidated. True: the vCPU has exits to pay for. */
  protected runFlushes(): boolean {
    const now = this.timeline.now[0]!;
    this.recorder.stamp[0] = now;
    for (const port of this.flushes) if (port.flushDue[0]! <= now) port.flush(true);
    return this.exitDebt > 0;
  }

  /** Posts receive buffers where descriptors are free, and lets the device know. */
  protected refill(pair: GuestQueuePair): void {
    if (pair.refill() === 0) return;
    if (pair.devicePoller >= 0) this.timeline.unpark(pair.devicePoller);
    this.considerKick(pair.rx, pair.rxBase, 2 * pair.index, pair.doorbells.rx, 0);
  }
  /** Publishes what was put into the transmit ring and lets the device know; `frame` is charged. */
  protected publish(pair: GuestQueuePair, frame: number): void {
    pair.tx.publish();
    if (pair.devicePoller >= 0) this.timeline.unpark(pair.devicePoller);
    this.considerKick(pair.tx, pair.txBase, 2 * pair.index + 1, pair.doorbells.tx, frame);
  }
}
