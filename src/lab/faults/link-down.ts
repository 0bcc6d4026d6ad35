/** The cable of a NIC is pulled for a while (QMP set_link). */

import type { NicDevice } from '../devices/nic-device.ts';
import { monitorOf } from '../devices/vmm/monitor.ts';
import { setLink } from '../devices/vmm/vm-state.ts';
import type { Vmm } from '../devices/vmm/vmm.ts';
import type { Alarm } from './alarms.ts';
import { Fault, type FaultWorld } from './fault.ts';
import type { FaultSpec } from './fault-types.ts';

export type LinkDownSpec = Extract<FaultSpec, { kind: 'link_down' }>;

export class LinkDown extends Fault {
  readonly spec: LinkDownSpec;
  private readonly vmm: Vmm;
  private readonly nic: NicDevice;
  private alarm: Alarm | null;

  constructor(world: FaultWorld, number: number, spec: LinkDownSpec, vmm: Vmm, nic: NicDevice) {
    super(world, number, nic.wiring.backendPlace);
    this.spec = spec;
    this.vmm = vmm;
    this.nic = nic;
    this.alarm = world.alarms.set(Math.max(this.time, spec.atNs ?? 0), (contextBits) => this.pull(contextBits));
  }
  private pull(contextBits: number): void {
    this.alarm = null;
    if (!this.nic.device.netConfig.linkUp) {
      this.missed++;
      this.ended('the link was down');
      return;
    }
    this.begins(contextBits);
    this.ask(false, () => {
      this.last!.noticedNs = this.time;
    });
    const { durationNs } = this.spec;
    if (durationNs !== null) this.alarm = this.world.alarms.set(this.time + durationNs, () => this.plug());
  }
  private plug(): void {
    this.alarm = null;
    this.ask(true, () => {
      this.recovers(this.vmm.actorBits);
      this.ended();
    });
  }
  private ask(up: boolean, done: () => void): void {
    monitorOf(this.vmm).ask([...setLink(this.vmm, this.nic, up), { cost: 0, run: done }]);
  }

  override end(): void {
    if (this.phase === 'ENDED') return;
    if (this.alarm !== null) this.world.alarms.cancel(this.alarm);
    if (this.phase === 'ARMED') this.ended();
    else if (this.alarm !== null || this.spec.durationNs === null) {
      this.alarm = this.world.alarms.set(this.time, () => this.plug());
    }
  }
}
