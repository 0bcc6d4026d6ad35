/**
 * Open vSwitch with DPDK on a host with a netdev bridge: its EAL takes hugepages when it starts, a pool of mbufs for all ports
 * of one MTU is made, and physical NICs become ports through VFIO. ovs 3.0 lib/dpdk.c, lib/netdev-dpdk.c.
 *
 * DEVIATION: this is done before virtual time begins, and recorded with its first PMD. Packets of the emulated switch lie
 * elsewhere: its pool has as many slots as all queues can hold, whatever the number of mbufs.
 */
import { assert } from '../../engine/assert.ts';
import { DPDK_MEMPOOL, DPDK_PORT } from '../../engine/events.ts';
import { Eal } from '../../machine/dpdk/eal.ts';
import { EalMemory } from '../../machine/dpdk/eal-memory.ts';
import type { StaticDma } from '../../machine/iommu/dma.ts';
import type { Pmd } from '../../machine/ovs/datapath/pmd.ts';
import { baseOf } from '../../machine/services.ts';
import type { VfioDomain } from '../../machine/vfio/container.ts';
import { VfioGroupNode } from '../../machine/vfio/group.ts';
import type { VfioPciFunction } from '../../machine/vfio/pci-device.ts';
import type { Host } from '../topology.ts';
import { type Amounts, MIN_NB_MBUF, mbufBytes, PAGE_BYTES, poolMtus, socketPages } from '../validate-hugepages.ts';
import type { HostSite, Site } from './site.ts';

const GiB = 2 ** 30;
/** Where the program's memory lies in the host's physical addresses: behind what is below 4 GiB. */
const PHYSICAL = 2 ** 32;
/** `other_config:dpdk-socket-mem` where a document says nothing. */
const SOCKET_MEM = GiB;
/** ovs lib/netdev-dpdk.c: mbufs of the shared pool of a port with an MTU of Ethernet or more; halved until there is room. */
const MAX_NB_MBUF = 4096 * 64;

export interface HostPool {
  readonly mtu: number;
  readonly mbufs: number;
  readonly mbufBytes: number;
}
export interface HostPort {
  readonly nic: string;
  readonly pci: string;
  readonly group: VfioGroupNode;
}
export interface HostDpdk {
  readonly host: string;
  readonly socketMem: number;
  readonly pages: Amounts;
  readonly eal: Eal;
  readonly pmds: readonly Pmd[];
  readonly pools: readonly HostPool[];
  readonly ports: readonly HostPort[];
}

/** Intel's 82599: registers, ports, MSI-X table in BARs 0, 2 and 4; function-level reset. */
const NIC_FUNCTION: VfioPciFunction = {
  barSize: (bar) => [512 * 1024, 0, 32, 0, 16 * 1024, 0][bar] ?? 0,
  barIsIo: (bar) => bar === 2,
  romSize: 0,
  configSize: 4096,
  msixBar: 4,
  msixVectors: 64,
  msiVectors: 1,
  hasIntx: true,
  isExpress: true,
  canReset: true,
  reset: () => {},
};

/** Starts Open vSwitch's DPDK on a host; null where no bridge has the netdev datapath. */
export function startHostDpdk(site: Site, hostSite: HostSite): HostDpdk | null {
  const { host, prefix } = hostSite;
  const bridge = site.bridges.find((b) => b.host === host.name && b.datapath === 'netdev');
  const pmds = site.pmdsOf(hostSite);
  if (bridge === undefined || pmds.length === 0) return null;
  const { recorder, arena } = site.services;
  const socketMem = host.hugepages?.socketMem ?? SOCKET_MEM;
  const left = host.hugepages ?? { '2MiB': Number.POSITIVE_INFINITY, '1GiB': Number.POSITIVE_INFINITY };
  const pages = socketPages(socketMem, { '2MiB': left['2MiB'], '1GiB': left['1GiB'] });
  assert(pages !== null, 'validation gives Open vSwitch its hugepages');
  // a heap has pages of one size here: where both are taken, the small ones
  const pageBytes = pages['2MiB'] === 0 ? PAGE_BYTES['1GiB'] : PAGE_BYTES['2MiB'];
  const base = baseOf(bridge.place, pmds[0]!.id);
  recorder.stamp[0] = 0;
  const memory = new EalMemory({
    from: PHYSICAL,
    to: Number.MAX_SAFE_INTEGER,
    pageBytes,
    iovaMode: host.iommu ? 'va' : 'pa',
    atStart: socketMem,
  });
  const eal = new Eal(
    { base, spend: () => {}, syscall: 0, recorder, world: arena.u8 },
    { memory, domain: host.iommu ? hostDomain(memory) : null, unsafeNoIommu: !host.iommu },
  );
  const reason = eal.init();
  assert(reason === null, `the EAL of Open vSwitch starts: ${reason}`);
  eal.phase('rte_bus_probe');
  const ports: HostPort[] = [];
  for (const [i, nic] of netdevNics(host).entries()) {
    const pci = `0000:${(i + 3).toString(16).padStart(2, '0')}:00.0`;
    const members = [{ name: pci, sourceId: (i + 3) << 8, fn: NIC_FUNCTION }];
    const group = new VfioGroupNode({ number: i + (host.iommu ? 20 : 0), noIommu: !host.iommu, members });
    const failed = eal.setUpDevice(group, pci, NIC_FUNCTION.msixBar);
    assert(failed === null, `the EAL sets up ${pci}: ${failed}`);
    ports.push({ nic: nic.name, pci, group });
    const place = site.places.list.find((p) => p.name === prefix + nic.name && p.type === 'nic')!;
    recorder.event(baseOf(place.id, pmds[0]!.id) | DPDK_PORT, 0, nic.rxRing, nic.txRing);
  }
  eal.phase('rte_pktmbuf_pool_create');
  const mtus = host.guests.flatMap((g) => g.nics.filter((n) => n.backend === 'vhost-user').map((n) => n.mtu));
  const pools = poolMtus(mtus).map((mtu): HostPool => {
    const bytes = mbufBytes(mtu);
    let mbufs = MAX_NB_MBUF;
    while (mbufs > MIN_NB_MBUF && mbufs * bytes > memory.free) mbufs /= 2;
    const at = memory.alloc(mbufs * bytes, 4096);
    assert(at >= 0, 'validation gives Open vSwitch the memory of its smallest pools');
    recorder.event(base | DPDK_MEMPOOL, 0, mbufs, bytes);
    return { mtu, mbufs, mbufBytes: bytes };
  });
  return {
    host: host.name,
    socketMem,
    pages,
    eal,
    get pmds() {
      return site.pmdsOf(hostSite);
    },
    pools,
    ports,
  };
}

const netdevNics = (host: Host): Host['nics'] =>
  host.nics.filter((nic) => host.bridges.find((b) => b.name === nic.bridge)?.datapath === 'netdev');

/** The hardware IOMMU takes what fits; what the NIC may reach is host-iommu.ts. */
function hostDomain(memory: EalMemory): VfioDomain {
  const dma: StaticDma = {
    map: (gpa) => memory.iova(gpa),
    unmap: () => {},
    mapRegion: () => 0,
    unmapRegion: (_, bytes) => bytes,
  };
  return { dma, largestPage: GiB, attach: () => 0, detach: () => {} };
}
