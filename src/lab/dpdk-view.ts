/** What the API shows of DPDK: the program of a guest with its memory, devices and lcores; its port's counters and filters. */

import { type PortChange, VIRTIO_MAX_MAC_ADDRS } from '../machine/guest/pmd-port.ts';
import { xstats } from '../machine/guest/pmd-stats.ts';
import { PmdVcpu } from '../machine/guest/pmd-vcpu.ts';
import { VFIO_NOIOMMU_IOMMU } from '../machine/wire/vfio.ts';
import type { BuiltGuest, BuiltNic, Machine } from './build/machine.ts';
import type { DpdkGuest } from './devices/dpdk-guest.ts';
import { deviceState } from './inspect.ts';
import type { DpdkState, DriverState } from './protocol.ts';
import type { Asked } from './qemu-commands.ts';
import { Refusal } from './refusal.ts';
import { formatMac } from './units.ts';

/** The DPDK program of a guest; a refusal where another driver has its NICs. */
function dpdkOf(guest: BuiltGuest, nic?: BuiltNic): DpdkGuest {
  const { dpdk } = guest.nics[0]?.setup ?? {};
  const named = nic ?? guest.nics[0];
  if (guest.nics.length > 0 && guest.vcpu instanceof PmdVcpu && named?.document.driver === 'virtio-pmd') {
    if (dpdk !== null && dpdk !== undefined) return dpdk;
    throw new Refusal('CONFLICT', `guest ${guest.name} has not started its DPDK program yet`);
  }
  const what = nic === undefined ? `guest ${guest.name}` : `${nic.nic.name}`;
  throw new Refusal('CONFLICT', `${what} has no DPDK program; expected a NIC with the driver virtio-pmd`);
}

export function nicXstats(nic: BuiltNic): {
  readonly guest: string;
  readonly nic: string;
  readonly xstats: Record<string, number>;
} {
  dpdkOf(nic.guest, nic);
  const pairs = nic.nic.pairs.filter((p) => p.up && p.stats !== null);
  return {
    guest: nic.guest.name,
    nic: nic.document.name,
    xstats: xstats({ pairs: pairs.map((p) => p.stats!), nombuf: pairs.reduce((n, p) => n + p.nombuf, 0) }),
  };
}

export function driverState(nic: BuiltNic): DriverState {
  const port = dpdkOf(nic.guest, nic).port(deviceState(nic).nic);
  return {
    guest: nic.guest.name,
    nic: nic.document.name,
    promiscuous: port.promiscuous,
    allmulticast: port.allmulticast,
    macAddrs: port.addresses.map(formatMac),
    vlanFilter: [...port.vlans].sort((a, b) => a - b),
    failed: port.failed,
    done: port.waiting === 0,
  };
}

/** Has the program change its port, now. Null: it is as asked for. */
export function changeDriver(machine: Machine, nic: BuiltNic, change: PortChange): Asked | null {
  const state = deviceState(nic).nic;
  const port = dpdkOf(nic.guest, nic).port(state);
  const lacking = port.lacks(change);
  if (lacking !== null) throw new Refusal('CONFLICT', `${nic.nic.name} has not negotiated ${lacking}`);
  const most = VIRTIO_MAX_MAC_ADDRS - 1;
  if ((change.macAddrs?.length ?? 0) > most)
    throw new Refusal('INVALID', `${change.macAddrs!.length} addresses; expected at most ${most}`, '/macAddrs');
  const zero = change.macAddrs?.findIndex((mac) => mac.every((byte) => byte === 0)) ?? -1;
  if (zero >= 0) throw new Refusal('INVALID', '00:00:00:00:00:00 is no address', `/macAddrs/${zero}`);
  const commands = port.change(change);
  if (commands.length === 0) return null;
  const asked: Asked = { askedNs: machine.scheduler.now[0]!, doneNs: null };
  port.settled(() => {
    asked.doneNs = machine.scheduler.now[0]!;
  });
  nic.guest.vcpu.command(nic.nic, commands);
  return asked;
}

export function dpdkState(machine: Machine, guest: BuiltGuest): DpdkState {
  const { eal, memory, mempool, mbufs, groups, document } = dpdkOf(guest);
  const { contexts } = machine.catalog;
  return {
    guest: guest.name,
    app: guest.document.app,
    iovaMode: memory.iovaMode,
    iommu: eal.iommuType === VFIO_NOIOMMU_IOMMU ? 'noiommu' : 'type1',
    hugepages: { size: document.hugepages, pages: memory.pages, bytes: memory.bytes, freeBytes: memory.free },
    memsegs: memory.memsegs.map((m) => ({
      virtual: `0x${m.vaddr.toString(16)}`,
      physical: `0x${m.physical.toString(16)}`,
      iova: `0x${m.iova.toString(16)}`,
      bytes: m.bytes,
    })),
    vfio: {
      groups: groups.map((g) => g.path),
      dmaMaps: eal.container?.mappings.length ?? 0,
      descriptors: [...eal.fds.entries()].map(([fd, file]) => ({ fd, file: file.name })),
    },
    mempool: { mbufs, free: mempool?.size ?? 0, mbufBytes: mempool?.bytes ?? 0 },
    lcores: guest.vcpus.map((vcpu) => ({
      lcore: vcpu.index,
      vcpu: vcpu.name,
      core: contexts[vcpu.id]!.core,
      queues: vcpu.pairs
        .filter((p) => p.up)
        .flatMap((p) => [`${p.nic.name}/rx${p.index}`, `${p.nic.name}/tx${p.index}`]),
    })),
  };
}
