/** Notifications of a queue that get lost on their way: kicks to the back-end, interrupts to the guest. */
import { FAULT_INTERRUPT_LOST, FAULT_KICK_LOST } from '../../engine/events.ts';
import type { InterruptRoute } from '../../machine/kvm/vm.ts';
import { kickOf } from '../devices/netdev/nic-wiring.ts';
import type { NicDevice } from '../devices/nic-device.ts';
import type { Alarm } from './alarms.ts';
import { Fault, type FaultWorld } from './fault.ts';
import type { FaultSpec } from './fault-types.ts';

export type LostSpec = Extract<FaultSpec, { kind: 'lost_kick' | 'lost_interrupt' }>;

export class LostNotification extends Fault {
  readonly spec: LostSpec;
  private readonly nic: NicDevice;
  /** Index of the virtqueue: rx0, tx0, rx1 … */
  private readonly queue: number;
  private alarm: Alarm | null;
  private left: number;
  private restore: () => void = () => {};

  constructor(world: FaultWorld, number: number, spec: LostSpec, nic: NicDevice, queue: number) {
    super(world, number, nic.wiring.backendPlace);
    this.spec = spec;
    this.nic = nic;
    this.queue = queue;
    this.left = spec.count;
    const { atNs } = spec;
    this.alarm = null;
    if (atNs === null || atNs <= this.time) this.arm();
    else
      this.alarm = world.alarms.set(atNs, () => {
        this.alarm = null;
        this.arm();
      });
  }
  private arm(): void {
    if (this.spec.kind === 'lost_kick') this.takeKicks();
    else this.takeInterrupts();
  }
  private takeKicks(): void {
    const eventfd = kickOf(this.nic.wiring, this.queue);
    eventfd.signal = () => this.lose(FAULT_KICK_LOST, 0);
    this.restore = () => {
      Reflect.deleteProperty(eventfd, 'signal');
    };
  }
  private takeInterrupts(): void {
    const { pair } = this.nic.wiring.pairs[this.queue >> 1]!;
    const which = (this.queue & 1) === 0 ? 'rx' : 'tx';
    const lossy: InterruptRoute = { trigger: (contextBits) => this.lose(FAULT_INTERRUPT_LOST, contextBits) };
    const before = pair.reroute(which, lossy);
    this.restore = () => {
      const now = pair.reroute(which, before);
      // the ring has been handed over anew meanwhile
      if (now !== lossy) pair.reroute(which, now);
    };
  }
  private lose(kind: number, contextBits: number): void {
    const { recorder } = this.world;
    recorder.event((this.nic.wiring.backendPlace << 8) | contextBits | kind, 0, this.number, 0);
    if (this.phase === 'ARMED') this.begins(contextBits);
    else this.strikes++;
    this.left--;
    if (this.left > 0) return;
    this.restore();
    this.recovers(contextBits);
    this.ended();
  }

  override end(): void {
    if (this.phase === 'ENDED') return;
    if (this.alarm !== null) this.world.alarms.cancel(this.alarm);
    this.restore();
    this.ended();
  }
}
