/** DPDK in a guest: its program, and the port that a NIC is to it. */
import { Type } from 'typebox';
import { closed, mapOf, name, oneOf, orNull } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ minimum: 0, description, examples: [example] });
const hex = (description: string, example: string) => Type.String({ description, examples: [example] });
const guest = Type.String({ examples: ['a'] });
const nic = Type.String({ examples: ['net0'] });
const flag = (description: string) => Type.Boolean({ description, examples: [false] });

export const NicXstatsSchema = name(
  closed(
    {
      guest,
      nic,
      xstats: mapOf(Type.Integer({ minimum: 0 }), {
        description: 'By the names of rte_eth_xstats_get_names(), in its order.',
        examples: [{ rx_good_packets: 0, tx_good_packets: 0 }],
      }),
    },
    { $id: 'NicXstats', description: 'The extended statistics of a port, as DPDK counts them.' },
  ),
);

const MAC = '^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$';
const macAddrs = Type.Array(Type.String({ pattern: MAC, examples: ['52:54:00:00:00:77'] }), {
  maxItems: 63,
  description: "Addresses that the device takes beside the port's own, multicast ones among them.",
  examples: [['52:54:00:00:00:77']],
});
const vlanFilter = Type.Array(Type.Integer({ minimum: 0, maximum: 4095 }), {
  maxItems: 4096,
  uniqueItems: true,
  description: 'VLANs that the device takes.',
  examples: [[100]],
});

export const DriverChangeSchema = name(
  closed(
    {
      promiscuous: Type.Optional(flag('Everything is taken (rte_eth_promiscuous_enable()).')),
      allmulticast: Type.Optional(flag('Every multicast frame is taken (rte_eth_allmulticast_enable()).')),
      macAddrs: Type.Optional(macAddrs),
      vlanFilter: Type.Optional(vlanFilter),
    },
    {
      $id: 'DriverChange',
      minProperties: 1,
      description: 'What a DPDK program is to change of its port. What is left out stays; lists are set as a whole.',
      examples: [{ promiscuous: false, macAddrs: ['52:54:00:00:00:77'], vlanFilter: [100] }],
    },
  ),
);
export const DriverStateSchema = name(
  closed(
    {
      guest,
      nic,
      promiscuous: flag('As the device has acknowledged it.'),
      allmulticast: flag('As the device has acknowledged it.'),
      macAddrs,
      vlanFilter,
      failed: whole('Commands that the device refused.'),
      done: flag('No command is under way. They take virtual time: false where the clock is paused.'),
    },
    { $id: 'DriverState', description: 'The port of a DPDK program.' },
  ),
);

export const DpdkSchema = name(
  closed(
    {
      guest,
      app: Type.String({ examples: ['macswap'] }),
      iovaMode: oneOf(['pa', 'va'], {
        description: 'What devices get as addresses: physical ones, or those of the program (`--iova-mode`).',
        examples: ['pa'],
      }),
      iommu: oneOf(['type1', 'noiommu'], {
        description: 'What VFIO_SET_IOMMU chose: mappings in an IOMMU, or none in front of the devices.',
        examples: ['noiommu'],
      }),
      hugepages: closed(
        {
          size: Type.String({ examples: ['2MiB'] }),
          pages: whole('Pages taken.', 1),
          bytes: whole('Bytes of the heap.', 2_097_152),
          freeBytes: whole('Bytes of it that nobody has.', 800_000),
        },
        { description: 'Memory of the program.' },
      ),
      memsegs: Type.Array(
        closed({
          virtual: hex('Address in the program.', '0x100000000'),
          physical: hex('Guest-physical address.', '0x200000'),
          iova: hex('Address for devices.', '0x200000'),
          bytes: whole('Length.', 2_097_152),
        }),
        { description: 'Segments, each mapped for the devices by one VFIO_IOMMU_MAP_DMA where there is an IOMMU.' },
      ),
      vfio: closed(
        {
          groups: Type.Array(Type.String(), { examples: [['/dev/vfio/noiommu-0']] }),
          dmaMaps: whole('Mappings of the container.'),
          descriptors: Type.Array(
            closed({ fd: whole('Number.', 3), file: Type.String({ examples: ['/dev/vfio/vfio'] }) }),
          ),
        },
        { description: 'Container, groups and devices, and what else the program has open.' },
      ),
      mempool: closed(
        {
          mbufs: whole('Size of the pool.', 576),
          free: whole('mbufs that are in no ring and in nobody’s hands.', 320),
          mbufBytes: whole('Bytes of an mbuf.', 2048),
        },
        { description: 'The pool of mbufs.' },
      ),
      lcores: Type.Array(
        closed({
          lcore: whole('Number.'),
          vcpu: Type.String({ examples: ['a/vcpu0'] }),
          core: whole('Core of the host that it has to itself.', 7),
          queues: Type.Array(Type.String(), { description: 'Queues that it polls.', examples: [['a/net0/rx0']] }),
        }),
      ),
    },
    { $id: 'Dpdk', description: 'The DPDK program of a guest.' },
  ),
);

const count = orNull(Type.Integer({ minimum: 0 }), {
  description: 'null: as many as anybody asks for.',
  examples: [null],
});
export const HostDpdkSchema = name(
  closed(
    {
      host: Type.String({ examples: ['h1'] }),
      hugepages: Type.Array(
        closed({
          size: Type.String({ examples: ['2MiB'] }),
          total: count,
          used: whole('Pages that somebody has.', 8),
          free: count,
          users: Type.Array(closed({ who: Type.String({ examples: ['guest a'] }), pages: whole('Pages.', 8) })),
        }),
        { description: 'By size.' },
      ),
      dpdk: orNull(
        closed({
          socketMemBytes: whole('Taken when it started (`other_config:dpdk-socket-mem`).', 1_073_741_824),
          freeBytes: whole('Bytes of it that nobody has.', 0),
          iovaMode: oneOf(['pa', 'va'], { examples: ['pa'] }),
          iommu: orNull(oneOf(['type1', 'noiommu'], {}), {
            description: 'null: no physical NIC is a port.',
            examples: ['noiommu'],
          }),
          dmaMaps: whole('Mappings of its VFIO container.'),
          lcores: Type.Array(
            closed({
              name: Type.String({ examples: ['pmd-c07'] }),
              core: whole('Core of the host.', 7),
              rxqs: whole('Receive queues that it polls.', 2),
            }),
            { description: 'Poll-mode threads.' },
          ),
          mempools: Type.Array(
            closed({
              mtu: whole('Of the ports that share it.', 1500),
              mbufs: whole('Size of the pool.', 262_144),
              mbufBytes: whole('Bytes of an mbuf.', 2848),
              ring: Type.String({ description: 'The rte_ring that holds the free ones.', examples: ['MP_ovs0'] }),
              ringEntries: whole('Its size.', 524_288),
            }),
          ),
          ports: Type.Array(
            closed({
              nic: Type.String({ examples: ['eth0'] }),
              driver: Type.String({ examples: ['vfio-pci'] }),
              pci: Type.String({ examples: ['0000:03:00.0'] }),
              group: Type.String({ examples: ['/dev/vfio/noiommu-0'] }),
            }),
            { description: 'Physical NICs.' },
          ),
          descriptors: Type.Array(
            closed({ fd: whole('Number.', 3), file: Type.String({ examples: ['/dev/vfio/vfio'] }) }),
          ),
        }),
        { description: 'Open vSwitch with DPDK; null where no bridge has the netdev datapath.' },
      ),
    },
    { $id: 'HostDpdk', description: 'Hugepages of a host, and DPDK on it.' },
  ),
);
