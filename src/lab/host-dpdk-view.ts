/** What the API shows of a host's hugepages, and of Open vSwitch with DPDK on it. */
import { VFIO_NOIOMMU_IOMMU } from '../machine/wire/vfio.ts';
import type { HostDpdk } from './build/host-dpdk.ts';
import type { Machine } from './build/machine.ts';
import type { HostDpdkState } from './protocol.ts';
import { Refusal } from './refusal.ts';
import type { Host } from './topology.ts';
import { type HugepageUse, ramPages } from './validate-hugepages.ts';

export function hostDpdkState(machine: Machine, name: string): HostDpdkState {
  const host = machine.topology.hosts.find((h) => h.name === name);
  if (host === undefined) throw new Refusal('NOT_FOUND', `there is no host ${name}`);
  const dpdk = machine.hostDpdks.find((d) => d.host === name) ?? null;
  return { host: name, hugepages: pagesOf(host, dpdk), dpdk: dpdk === null ? null : switchOf(machine, dpdk) };
}

function pagesOf(host: Host, dpdk: HostDpdk | null): HostDpdkState['hugepages'] {
  const uses: HugepageUse[] = host.guests.map((guest) => ({
    who: `guest ${guest.name}`,
    pages: ramPages(guest.hugepages, guest.memory),
  }));
  if (dpdk !== null) uses.unshift({ who: 'Open vSwitch', pages: dpdk.pages });
  return (['2MiB', '1GiB'] as const).map((size) => {
    const users = uses.flatMap(({ who, pages }) => (pages[size] > 0 ? [{ who, pages: pages[size] }] : []));
    const used = users.reduce((n, u) => n + u.pages, 0);
    const total = host.hugepages === null ? null : host.hugepages[size];
    return { size, total, used, free: total === null ? null : total - used, users };
  });
}

function switchOf(machine: Machine, dpdk: HostDpdk): NonNullable<HostDpdkState['dpdk']> {
  const { eal, pmds, pools, ports, socketMem } = dpdk;
  const { contexts } = machine.catalog;
  return {
    socketMemBytes: socketMem,
    freeBytes: eal.memory.free,
    iovaMode: eal.memory.iovaMode,
    iommu: eal.iommuType === 0 ? null : eal.iommuType === VFIO_NOIOMMU_IOMMU ? 'noiommu' : 'type1',
    dmaMaps: eal.container?.mappings.length ?? 0,
    lcores: pmds.map((pmd) => ({ name: pmd.name, core: contexts[pmd.id]!.core, rxqs: pmd.rxqCount })),
    // dpdk lib/mempool: the common pool of an mbuf pool is a ring of the next power of two
    mempools: pools.map((pool, i) => ({
      ...pool,
      ring: `MP_ovs${i}`,
      ringEntries: 2 ** Math.ceil(Math.log2(pool.mbufs + 1)),
    })),
    ports: ports.map(({ nic, pci, group }) => ({ nic, driver: 'vfio-pci', pci, group: group.path })),
    descriptors: [...eal.fds.entries()].map(([fd, file]) => ({ fd, file: file.name })),
  };
}
