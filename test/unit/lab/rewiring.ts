/** What QEMU does around rewire(): takes the rings back, wires the NIC anew, opens the back-end, hands the rings over. */
import type { BuiltNic } from '../../../src/lab/build/machine.ts';
import { rewire } from '../../../src/lab/build/rewire.ts';
import { openNetdev } from '../../../src/lab/devices/netdev/nic-backend.ts';
import type { NicWiring } from '../../../src/lab/devices/netdev/nic-wiring.ts';
import { deviceState, findNic } from '../../../src/lab/inspect.ts';
import type { Backend } from '../../../src/lab/topology.ts';
import type { World } from '../../../src/lab/world.ts';

/** Changes back-end and bridge of a guest's NIC at the virtual time that it is now. */
export function switchOver(world: World, guest: string, backend: Backend, bridge: string, nic = 'net0'): NicWiring {
  const { machine } = world;
  const built = findNic(machine, guest, nic);
  const device = deviceState(built).nic;
  machine.recorder.stamp[0] = machine.scheduler.now[0]!;
  device.suspend();
  const wiring = rewire(machine, built, { ...built.document, backend, bridge });
  const opened = openNetdev(built.setup.vmm, wiring);
  Object.assign(device, { wiring, backend: opened });
  device.translation?.retire();
  if (device.iommu !== null) device.behind(device.iommu);
  (device as unknown as { rings: { hear(): void } }).rings.hear();
  for (const [i, pair] of built.nic.pairs.entries()) {
    pair.devicePoller = wiring.kind === 'vhost-user' ? wiring.pmds[i]!.id : -1;
  }
  device.goOn();
  // between two steps nobody asks whether frames that were dropped have been the last ones of a run
  machine.scheduler.afterStep();
  // what lies in the rings already, no doorbell tells
  for (const [i, { fds }] of wiring.pairs.entries()) {
    if (wiring.kind === 'vhost-user') wiring.pmds[i]!.look();
    else for (const kick of [fds.txKick, fds.rxKick]) signal(world, kick);
  }
  return wiring;
}
function signal({ machine }: World, kick: BuiltNic['wiring']['pairs'][number]['fds']['txKick']): void {
  const { now } = machine.scheduler;
  now[1] = now[0]! + 1000;
  kick.signal();
}
