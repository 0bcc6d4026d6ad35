/**
 * What a user of the API asks QEMU for, as its monitor would be asked: stop a guest and let it go on, pull and plug the cable of
 * a NIC. Each is done in virtual time, on the main loop of the guest; what was asked for can be waited for by `done`.
 */
import type { BuiltGuest, BuiltNic, Machine } from './build/machine.ts';
import type { NicDevice } from './devices/nic-device.ts';
import { type MonitorStep, monitorOf } from './devices/vmm/monitor.ts';
import { announceStep } from './devices/vmm/nic-migration.ts';
import { setLink, vmStart, vmStop } from './devices/vmm/vm-state.ts';
import type { Vmm } from './devices/vmm/vmm.ts';
import { deviceState } from './inspect.ts';
import type { GuestRunState, NicLink } from './protocol.ts';
import { Refusal } from './refusal.ts';

/** Something asked for: when, and when it was done, ns of virtual time. */
export interface Asked {
  readonly askedNs: number;
  doneNs: number | null;
}

/** The VMM of a guest, which has to be QEMU. */
export function qemuOf(guest: BuiltGuest): Vmm {
  const { vmm } = guest.nics[0]?.setup ?? {};
  if (vmm === undefined || vmm.mainLoop === null) {
    const why = vmm === undefined ? 'has no NIC' : 'runs under StratoVirt, which has no such command here';
    throw new Refusal('CONFLICT', `guest ${guest.name} ${why}`);
  }
  return vmm;
}
export function devicesOf(guest: BuiltGuest): NicDevice[] {
  return guest.nics.map((nic) => deviceState(nic).nic);
}

/** Asks the guest's QEMU for something, now. */
export function ask(machine: Machine, vmm: Vmm, steps: readonly MonitorStep[]): Asked {
  const { scheduler } = machine;
  const asked: Asked = { askedNs: scheduler.now[0]!, doneNs: null };
  const end = { cost: 0, run: () => void Object.assign(asked, { doneNs: scheduler.now[0]! }) };
  monitorOf(vmm).ask([...steps, end]);
  return asked;
}

/** QMP stop and cont. Null: the guest is already as asked for. */
export function setGuestState(machine: Machine, guest: BuiltGuest, state: 'paused' | 'running'): Asked | null {
  const vmm = qemuOf(guest);
  if (vmm.wantsPaused === (state === 'paused')) return null;
  vmm.wantsPaused = state === 'paused';
  const nics = devicesOf(guest);
  return ask(machine, vmm, state === 'paused' ? vmStop(vmm, nics) : vmStart(vmm, nics));
}

/** QMP set_link. Null: the link is already as asked for. */
export function setNicLink(machine: Machine, nic: BuiltNic, up: boolean): Asked | null {
  const vmm = qemuOf(nic.guest);
  const { nic: device } = deviceState(nic);
  if (device.device.netConfig.linkUp === up) return null;
  return ask(machine, vmm, setLink(vmm, device, up));
}

/** QMP announce-self, for one NIC. */
export function announceNic(machine: Machine, nic: BuiltNic): Asked {
  const vmm = qemuOf(nic.guest);
  return ask(machine, vmm, [announceStep(vmm, deviceState(nic).nic)]);
}

/** A guest is stopped, or has been asked to stop. */
export function anyStopped(machine: Machine): boolean {
  return machine.guests.some((guest) => guest.nics[0]?.setup.vmm.wantsPaused === true);
}
/** A twin of the world would have all guests running, all cables plugged, and the switches of the document. */
export function checkRehearsable(machine: Machine): void {
  for (const ovs of machine.ovs) {
    if (ovs.changed)
      throw new Refusal(
        'CONFLICT',
        `the database of host ${ovs.host} is not what the document says any more; a dry run's twin would be the document's`,
      );
    const bridge = ovs.bridgeWithOtherFlows;
    if (bridge !== null)
      throw new Refusal(
        'CONFLICT',
        `bridge ${bridge} of host ${ovs.host} has other OpenFlow flows, groups or meters than it began with; a dry run's twin would not`,
      );
  }
  for (const guest of machine.guests) {
    const { nics, name } = guest;
    if (nics[0]?.setup.vmm.wantsPaused === true)
      throw new Refusal('CONFLICT', `guest ${name} is paused; a dry run is for worlds whose guests run`);
    for (const nic of nics) {
      if (nic.setup.states.length > 0 && !deviceState(nic).nic.device.netConfig.linkUp)
        throw new Refusal(
          'CONFLICT',
          `the link of ${nic.nic.name} is down; a dry run is for worlds whose links are up`,
        );
    }
  }
}
export function guestRunState(guest: BuiltGuest): GuestRunState {
  const { paused, wantsPaused } = qemuOf(guest);
  return { guest: guest.name, state: wantsPaused ? 'paused' : 'running', done: paused === wantsPaused };
}
export function nicLink(nic: BuiltNic): NicLink {
  const { nic: built } = deviceState(nic);
  const { guest, document } = nic;
  return { guest: guest.name, nic: document.name, up: built.device.netConfig.linkUp, servedBy: built.servedBy };
}
