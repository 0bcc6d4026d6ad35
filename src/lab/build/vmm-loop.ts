/** The thread of a guest's VMM that handles what its devices hear, and the NICs whose frames it carries itself. */
import type { Context } from '../../engine/context.ts';
import type { NetQueuePair } from '../../machine/backend/net-queue-pair.ts';
import { QemuMainLoop, QemuNic } from '../../machine/backend/qemu.ts';
import { NetIoHandler, StratovirtLoop } from '../../machine/backend/stratovirt.ts';
import { TxTimer } from '../../machine/backend/tx-timer.ts';
import type { UserspaceNic } from '../../machine/backend/userspace-nic.ts';
import type { TapQueue } from '../../machine/host/tap.ts';
import type { RingFds } from '../devices/netdev/nic-wiring.ts';
import type { Vmm } from '../devices/vmm/vmm.ts';
import type { Guest, GuestNic as GuestNicDocument, VmmKind } from '../topology.ts';
import type { HostSite, Site } from './site.ts';

export const VMM_TEXT: Readonly<Record<VmmKind, string>> = { qemu: 'QEMU', stratovirt: 'StratoVirt' };
const LOOP_TEXT: Readonly<Record<VmmKind, string>> = { qemu: 'its main loop', stratovirt: 'its event loop' };

/** The place of the guest's VMM. `labels`: host, guest, backend. */
export function vmmPlace(
  site: Site,
  guest: Guest,
  name: string,
  labels: { readonly host: string; readonly guest: string; readonly backend: string },
): number {
  const description = `${VMM_TEXT[guest.vmm]} process of guest ${name}: ${LOOP_TEXT[guest.vmm]}`;
  return site.places.add({ name: `${name}/${guest.vmm}`, type: 'vmm', description, ...labels });
}

/** One queue pair of a NIC as its VMM carries it. `bounce`: arena offset of what QEMU reads frames of the tap into. */
export function userspaceNic(
  site: Site,
  vmm: VmmKind,
  document: GuestNicDocument,
  of: { readonly pair: NetQueuePair; readonly fds: RingFds; readonly queue: TapQueue; readonly bounce: number },
): UserspaceNic {
  const { pair, fds, queue, bounce } = of;
  const { services } = site;
  if (vmm === 'qemu') {
    const timer = document.tx === 'timer' ? new TxTimer(document.txTimer) : null;
    return new QemuNic(pair, queue, fds.txKick, fds.rxKick, bounce, timer);
  }
  return new NetIoHandler(pair, queue, fds.txKick, fds.rxKick, {
    interruptCost: document.transport === 'mmio' ? services.ns('irqfd_write') : services.ns('signal_msi_ioctl'),
    queueSize: document.queueSize,
  });
}

/** Makes the loop of a guest's VMM, on a core of its own where it carries frames. */
export function buildLoop(
  site: Site,
  { host, prefix, cores }: HostSite,
  of: {
    readonly guest: Guest;
    readonly name: string;
    readonly label: string;
    readonly place: number;
    readonly vmm: Vmm;
  },
  nics: readonly UserspaceNic[],
): Context {
  const { guest, vmm } = of;
  const { services } = site;
  // without frames to carry, or interrupts to pass on, it has next to nothing to do, and takes no core from those that have
  const passes = guest.vmm === 'stratovirt' && guest.nics.some((nic) => nic.transport === 'mmio');
  const core = nics.length > 0 || passes ? cores.shared() : cores.least();
  const name = `${prefix}${guest.vmm}-${guest.name}`;
  const labels = { core: cores.local(core), host: host.name, guest: of.name, backend: of.label, polls: false } as const;
  if (guest.vmm === 'qemu') {
    const own = nics.filter((nic) => nic instanceof QemuNic);
    vmm.mainLoop = new QemuMainLoop(name, core, services, own);
    site.enter(vmm.mainLoop, of.place, { kind: 'qemu', ...labels });
    return vmm.mainLoop;
  }
  const own = nics.filter((nic) => nic instanceof NetIoHandler);
  vmm.stratovirt = new StratovirtLoop(name, core, services, own);
  site.enter(vmm.stratovirt, of.place, { kind: 'stratovirt', ...labels });
  return vmm.stratovirt;
}
