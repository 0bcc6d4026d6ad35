/**
 * Topology documents that come with Ringside: one for each backend, the three beside each other under QEMU and under
 * StratoVirt, wire to wire with and without guests between, and two hosts.
 * Each is what a user would write, and what PUT takes as it is. Changing a name here breaks readers' commands.
 */
import type { TopologyDocument } from './document-schema.ts';

export interface Preset {
  readonly name: string;
  readonly summary: string;
  readonly document: TopologyDocument;
}

export const PRESETS: readonly Preset[] = [
  {
    name: 'virtio-net',
    summary: "Two guests whose frames QEMU's own device model carries, through taps, to a kernel bridge",
    document: {
      hosts: [
        {
          name: 'h1',
          bridges: [{ name: 'br0', datapath: 'system' }],
          guests: [
            { name: 'a', nics: [{ name: 'net0', bridge: 'br0', backend: 'virtio-net', addresses: ['10.0.0.1/24'] }] },
            { name: 'b', nics: [{ name: 'net0', bridge: 'br0', backend: 'virtio-net', addresses: ['10.0.0.2/24'] }] },
          ],
        },
      ],
    },
  },
  {
    name: 'vhost-net',
    summary: 'Two guests whose frames a vhost worker in the kernel carries, through taps, to a kernel bridge',
    document: {
      hosts: [
        {
          name: 'h1',
          bridges: [{ name: 'br0', datapath: 'system' }],
          guests: [
            { name: 'a', nics: [{ name: 'net0', bridge: 'br0', backend: 'vhost-net', addresses: ['10.0.0.1/24'] }] },
            { name: 'b', nics: [{ name: 'net0', bridge: 'br0', backend: 'vhost-net', addresses: ['10.0.0.2/24'] }] },
          ],
        },
      ],
    },
  },
  {
    name: 'vhost-user',
    summary: 'Two guests with polling drivers on a userspace bridge, whose poll-mode thread carries the frames itself',
    document: {
      hosts: [
        {
          name: 'h1',
          bridges: [{ name: 'br0', datapath: 'netdev' }],
          guests: [
            { name: 'a', nics: [pmd('br0', '10.0.0.1/24')] },
            { name: 'b', nics: [pmd('br0', '10.0.0.2/24')] },
          ],
        },
      ],
    },
  },
  {
    name: 'compare',
    summary: 'The three backends side by side on one host, two guests each, on a kernel and a userspace bridge',
    document: {
      hosts: [
        {
          name: 'h1',
          // So many that no two threads have to share one.
          cores: 16,
          bridges: [
            { name: 'br0', datapath: 'system' },
            { name: 'br1', datapath: 'netdev' },
          ],
          guests: [
            {
              name: 'virtio-net-a',
              nics: [{ name: 'net0', bridge: 'br0', backend: 'virtio-net', addresses: ['10.0.0.1/24'] }],
            },
            {
              name: 'virtio-net-b',
              nics: [{ name: 'net0', bridge: 'br0', backend: 'virtio-net', addresses: ['10.0.0.2/24'] }],
            },
            {
              name: 'vhost-net-a',
              nics: [{ name: 'net0', bridge: 'br0', backend: 'vhost-net', addresses: ['10.0.0.3/24'] }],
            },
            {
              name: 'vhost-net-b',
              nics: [{ name: 'net0', bridge: 'br0', backend: 'vhost-net', addresses: ['10.0.0.4/24'] }],
            },
            { name: 'vhost-user-a', nics: [pmd('br1', '10.0.0.5/24')] },
            { name: 'vhost-user-b', nics: [pmd('br1', '10.0.0.6/24')] },
          ],
        },
      ],
    },
  },
  {
    name: 'pvp',
    summary: 'Wire to guest to wire: a NIC and a guest that swaps the MAC addresses of every frame and sends it back',
    document: {
      hosts: [
        {
          name: 'h1',
          bridges: [{ name: 'br0', datapath: 'netdev' }],
          nics: [{ name: 'eth0', speed: '25Gbps', bridge: 'br0' }],
          guests: [{ name: 'a', app: 'macswap', nics: [pmd('br0', '10.0.0.1/24')] }],
        },
      ],
    },
  },
  {
    name: 'pvp-kernel',
    summary:
      'The same through the kernel: a NIC, a kernel bridge, a vhost worker, and a guest whose polling program swaps the MAC addresses',
    document: {
      hosts: [
        {
          name: 'h1',
          bridges: [{ name: 'br0', datapath: 'system' }],
          nics: [{ name: 'eth0', speed: '25Gbps', bridge: 'br0' }],
          guests: [
            { name: 'a', app: 'macswap', nics: [{ ...pmd('br0', '10.0.0.1/24'), backend: 'vhost-net' as const }] },
          ],
        },
      ],
    },
  },
  {
    name: 'pvvp',
    summary: 'Wire to wire through a chain of two guests with two NICs each, that OpenFlow flows of the bridge make',
    document: chain('netdev', [
      { name: 'a', app: 'io', nics: [pmd('br0', '10.0.0.1/24'), pmd('br0', '10.0.0.2/24', 'net1')] },
      { name: 'b', app: 'io', nics: [pmd('br0', '10.0.0.3/24'), pmd('br0', '10.0.0.4/24', 'net1')] },
    ]),
  },
  {
    name: 'pvvp-kernel',
    summary: 'The same chain through kernels alone: vhost workers, a kernel bridge, and guests whose kernels forward',
    document: chain('system', [
      { name: 'a', app: 'bridge', nics: [kernelNic('net0'), kernelNic('net1')] },
      { name: 'b', app: 'bridge', nics: [kernelNic('net0'), kernelNic('net1')] },
    ]),
  },
  {
    name: 'p2p',
    summary: 'Wire to wire: two NICs and a userspace bridge between them, with a flow for each direction',
    document: nicToNic('netdev'),
  },
  {
    name: 'p2p-kernel',
    summary: 'Wire to wire: two NICs and a kernel bridge between them, with a flow for each direction',
    document: nicToNic('system'),
  },
  {
    name: 'viommu',
    summary:
      'Two guests behind an IOMMU whose polling drivers map their memory once, through VFIO; the userspace bridge asks QEMU for what it does not know',
    document: {
      hosts: [
        {
          name: 'h1',
          bridges: [{ name: 'br0', datapath: 'netdev' }],
          guests: [
            { name: 'a', iommu: { mode: 'strict' }, nics: [pmd('br0', '10.0.0.1/24')] },
            { name: 'b', iommu: { mode: 'strict' }, nics: [pmd('br0', '10.0.0.2/24')] },
          ],
        },
      ],
    },
  },
  {
    name: 'stratovirt',
    summary:
      'The three backends under StratoVirt, two microVMs each with the kernel driver, on a kernel and a userspace bridge',
    document: {
      hosts: [
        {
          name: 'h1',
          cores: 16,
          bridges: [
            { name: 'br0', datapath: 'system' },
            { name: 'br1', datapath: 'netdev' },
          ],
          guests: [
            microVm('virtio-net-a', 'virtio-net', 'br0', '10.0.0.1/24'),
            microVm('virtio-net-b', 'virtio-net', 'br0', '10.0.0.2/24'),
            microVm('vhost-net-a', 'vhost-net', 'br0', '10.0.0.3/24'),
            microVm('vhost-net-b', 'vhost-net', 'br0', '10.0.0.4/24'),
            microVm('vhost-user-a', 'vhost-user', 'br1', '10.0.0.5/24'),
            microVm('vhost-user-b', 'vhost-user', 'br1', '10.0.0.6/24'),
          ],
        },
      ],
    },
  },
  {
    name: 'two-hosts',
    summary:
      'Two hosts with a guest each, joined by a cable: an Open vSwitch bridge on one, a Linux bridge on the other',
    document: {
      hosts: [
        {
          name: 'h1',
          bridges: [{ name: 'br0', datapath: 'system' }],
          nics: [{ name: 'eth0', speed: '25Gbps', bridge: 'br0' }],
          guests: [
            { name: 'a', nics: [{ name: 'net0', bridge: 'br0', backend: 'vhost-net', addresses: ['10.0.0.1/24'] }] },
          ],
        },
        {
          name: 'h2',
          bridges: [{ name: 'br0', datapath: 'linux' }],
          nics: [{ name: 'eth0', speed: '25Gbps', bridge: 'br0' }],
          guests: [
            { name: 'b', nics: [{ name: 'net0', bridge: 'br0', backend: 'vhost-net', addresses: ['10.0.0.2/24'] }] },
          ],
        },
      ],
      links: [{ name: 'cable', ends: ['h1/eth0', 'h2/eth0'], latency: '1us' }],
    },
  },
];

/** Flows that make two ports of a bridge a cable. */
function joined(one: string, other: string): string[] {
  return [`in_port=${one},actions=output:${other}`, `in_port=${other},actions=output:${one}`];
}

type HostDocument = TopologyDocument['hosts'][number];

/** From eth0 through two guests with two NICs each, a and b, to eth1. */
function chain(datapath: 'netdev' | 'system', guests: NonNullable<HostDocument['guests']>): TopologyDocument {
  const flows = [...joined('eth0', 'a.net0'), ...joined('a.net1', 'b.net0'), ...joined('b.net1', 'eth1')];
  return { hosts: [{ ...betweenNics(datapath, flows), guests }] };
}

function nicToNic(datapath: 'netdev' | 'system'): TopologyDocument {
  return { hosts: [betweenNics(datapath, joined('eth0', 'eth1'))] };
}

/** A host with two NICs, and a bridge that drops what no flow takes. */
function betweenNics(datapath: 'netdev' | 'system', flows: string[]): HostDocument {
  return {
    name: 'h1',
    bridges: [{ name: 'br0', datapath, flows: [...flows, 'priority=0,actions=drop'] }],
    nics: [
      { name: 'eth0', speed: '25Gbps', bridge: 'br0' },
      { name: 'eth1', speed: '25Gbps', bridge: 'br0' },
    ],
  };
}

function kernelNic(name: string) {
  return { name, bridge: 'br0', backend: 'vhost-net' as const };
}

function pmd(bridge: string, address: string, name = 'net0') {
  return {
    name,
    bridge,
    backend: 'vhost-user' as const,
    driver: 'virtio-pmd' as const,
    addresses: [address],
  };
}

function microVm(name: string, backend: 'virtio-net' | 'vhost-net' | 'vhost-user', bridge: string, address: string) {
  return { name, vmm: 'stratovirt' as const, nics: [{ name: 'net0', bridge, backend, addresses: [address] }] };
}
