/**
 * What both kinds of guest software have in common on their vCPU: the NICs, a stack, the sources that send in turn, and
 * booting first of all. linux-vcpu.ts and pmd-vcpu.ts say when they look at which.
 */
import { PHASE_OWN } from '../../engine/context.ts';
import { Vcpu } from '../kvm/vcpu.ts';
import type { Vm } from '../kvm/vm.ts';
import type { Services } from '../services.ts';
import { RX_QUEUE } from '../virtio/queue-index.ts';
import type { GuestBoot } from './boot.ts';
import type { GuestNic } from './guest-nic.ts';
import type { TrafficSource } from './source.ts';
import type { GuestStack } from './stack.ts';

/** The first step: the devices are probed. */
export const BOOT = PHASE_OWN;
/** The second: their rings are filled. */
export const LINK_UP = PHASE_OWN + 1;
/** A guest's own phases begin here. */
export const PHASE_GUEST = PHASE_OWN + 2;

export abstract class GuestVcpu extends Vcpu {
  readonly nics: readonly GuestNic[];
  readonly stack: GuestStack;
  /** Senders, the stack's answers first. */
  protected readonly sources: TrafficSource[];
  /** Index of the sender that is asked first. */
  protected turn = 0;
  private boot: GuestBoot | null = null;

  constructor(name: string, core: number, services: Services, vm: Vm, nics: readonly GuestNic[], stack: GuestStack) {
    super(name, core, services, vm);
    this.nics = nics;
    this.stack = stack;
    this.sources = [...stack.replies()];
  }

  /** What the first step does. */
  onBoot(boot: GuestBoot): void {
    this.boot = boot;
    this.phase = BOOT;
  }
  protected probeDevices(): void {
    this.spend(this.boot!.probe(this.timeline.now[0]!), LINK_UP);
    this.boot = null;
  }

  /** A new sender. Called between slices; the source is started by its owner. */
  addSource(source: TrafficSource): void {
    for (let i = this.sources.length - 1; i >= 0; i--) if (this.sources[i]!.done) this.sources.splice(i, 1);
    this.turn = 0;
    this.sources.push(source);
    this.timersChanged();
  }
  /** Something may be due earlier than this vCPU thinks. */
  abstract timersChanged(): void;

  /** When the next frame or timer is due, NEVER without. A stopped queue waits for its device, not for the clock. */
  protected earliestDue(): number {
    let t = this.stack.timer[0]!;
    for (const s of this.sources) if (!s.nic.txStopped && s.due[0]! < t) t = s.due[0]!;
    return t;
  }

  /** Posts receive buffers where descriptors are free, and lets the device know. */
  protected refill(nic: GuestNic): void {
    if (nic.refill() === 0) return;
    if (nic.devicePoller >= 0) this.timeline.unpark(nic.devicePoller);
    this.considerKick(nic.rx, nic.rxBase, RX_QUEUE, nic.doorbells.rx, 0);
  }
}
