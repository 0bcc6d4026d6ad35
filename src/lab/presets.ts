/**
 * Topology documents that come with Ringside: one for each backend, the three beside each other, and a wire-to-wire one.
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
];

function pmd(bridge: string, address: string) {
  return {
    name: 'net0',
    bridge,
    backend: 'vhost-user' as const,
    driver: 'virtio-pmd' as const,
    addresses: [address],
  };
}
