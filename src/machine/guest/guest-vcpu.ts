/**
 * What both kinds of guest software have in common on a vCPU: the NICs, the queue pairs that this vCPU serves, a stack,
 * the sources that send in turn, and booting first of all (on the first vCPU). linux-vcpu.ts and pmd-vcpu.ts say when
 * they look at which.
 */
import { PHASE_OWN } from '../../engine/context.ts';
import { Vcpu } from '../kvm/vcpu.ts';
import type { Vm } from '../kvm/vm.ts';
import type { Services } from '../services.ts';
import type { GuestBoot } from './boot.ts';
import type { GuestNic } from './guest-nic.ts';
import type { GuestQueuePair } from './guest-queue-pair.ts';
import type { TrafficSource } from './source.ts';
import type { GuestStack } from './stack.ts';

/** The first step: the devices are probed. */
export const BOOT = PHASE_OWN;
/** The second: their rings are filled. */
export const LINK_UP = PHASE_OWN + 1;
/** A guest's own phases begin here. */
export const PHASE_GUEST = PHASE_OWN + 2;

export abstract class GuestVcpu extends Vcpu {
  readonly index: number;
  readonly nics: readonly GuestNic[];
  /** Queue pairs that this vCPU serves: pair i of a NIC on vCPU i modulo their number (virtnet_set_affinity()). */
  readonly pairs: readonly GuestQueuePair[];
  readonly stack: GuestStack;
  /** All vCPUs of the guest that run, this one among them; set by the builder. */
  group: readonly GuestVcpu[] = [];
  /** Senders, the stack's answers first. */
  protected readonly sources: TrafficSource[];
  private readonly answers: number;
  /** Index of the sender that is asked first. */
  protected turn = 0;
  private boot: GuestBoot | null = null;

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
    this.index = index;
    this.nics = nics;
    this.pairs = nics.flatMap((nic) => nic.pairs.filter((pair) => pair.index % vcpus === index));
    this.stack = stack;
    this.sources = this.pairs.map((pair) => stack.replies(pair));
    this.answers = this.sources.length;
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

  /** When the next frame or timer is due, NEVER without. A stopped queue waits for its device, not for the clock. */
  protected earliestDue(): number {
    let t = this.index === 0 ? this.stack.timer[0]! : Number.POSITIVE_INFINITY;
    for (const s of this.sources) if (!s.nic.pairs[s.pair]!.txStopped && s.due[0]! < t) t = s.due[0]!;
    return t;
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
