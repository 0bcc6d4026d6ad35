/** What a document may ask of a guest of StratoVirt, and what is said of the rest. */
import { describe, expect, test } from 'vitest';
import { parseTopology } from '../../../src/lab/document.ts';
import type { Fault } from '../../../src/lab/document-faults.ts';
import type { GuestNic } from '../../../src/lab/topology.ts';

const DATAPATHS = [{ name: 'br0' }, { name: 'br1', datapath: 'netdev' }, { name: 'br2', datapath: 'linux' }];
function parse(guest: object) {
  return parseTopology(
    { hosts: [{ bridges: DATAPATHS, guests: [{ name: 'a', vmm: 'stratovirt', ...guest }] }] },
    { name: 't' },
  );
}
function nics(...documents: object[]): readonly GuestNic[] {
  const parsed = parse({ nics: documents.map((nic, i) => ({ name: `net${i}`, ...nic })) });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  return parsed.topology.hosts[0]!.guests[0]!.nics;
}
function faults(...documents: object[]): readonly Fault[] {
  const parsed = parse({ nics: documents.map((nic, i) => ({ name: `net${i}`, ...nic })) });
  return parsed.ok ? [] : parsed.faults;
}
const on = (nic: GuestNic): string[] => Object.keys(nic.features).filter((name) => nic.features[name]);

describe('the transport', () => {
  test('a microVM by default, the standard VM for what needs PCI', () => {
    expect(nics({}).map((n) => [n.transport, n.vectors])).toEqual([['mmio', 0]]);
    expect(nics({}, { transport: 'pci-modern' }).map((n) => n.transport)).toEqual(['pci-modern', 'pci-modern']);
    expect(nics({ queuePairs: 2 }).map((n) => n.transport)).toEqual(['pci-modern']);
    expect(nics({ backend: 'vhost-user', driver: 'virtio-pmd' }).map((n) => n.transport)).toEqual(['pci-modern']);
  });
  test('QEMU keeps its own default', () => {
    const parsed = parse({ vmm: 'qemu', nics: [{ name: 'net0' }] });
    expect(parsed.ok && parsed.topology.hosts[0]!.guests[0]!.nics[0]!.transport).toBe('pci-modern');
  });
});

describe('the feature bits', () => {
  test('of the device that StratoVirt serves itself', () => {
    expect(on(nics({ backend: 'virtio-net' })[0]!)).toEqual([
      'VIRTIO_NET_F_CSUM',
      'VIRTIO_NET_F_GUEST_CSUM',
      'VIRTIO_NET_F_MAC',
      'VIRTIO_NET_F_GUEST_TSO4',
      'VIRTIO_NET_F_GUEST_TSO6',
      'VIRTIO_NET_F_GUEST_UFO',
      'VIRTIO_NET_F_HOST_TSO4',
      'VIRTIO_NET_F_HOST_TSO6',
      'VIRTIO_NET_F_HOST_UFO',
      'VIRTIO_NET_F_STATUS',
      'VIRTIO_NET_F_CTRL_VQ',
      'VIRTIO_NET_F_CTRL_RX',
      'VIRTIO_NET_F_CTRL_VLAN',
      'VIRTIO_NET_F_CTRL_RX_EXTRA',
      'VIRTIO_NET_F_CTRL_MAC_ADDR',
      'VIRTIO_RING_F_INDIRECT_DESC',
      'VIRTIO_RING_F_EVENT_IDX',
      'VIRTIO_F_VERSION_1',
    ]);
  });
  test('of its vhost devices: mergeable buffers, and a control queue with several queue pairs only', () => {
    const [one] = nics({ backend: 'vhost-net' });
    const [several] = nics({ backend: 'vhost-net', queuePairs: 4 });
    expect(on(one!)).toContain('VIRTIO_NET_F_MRG_RXBUF');
    expect(on(one!)).not.toContain('VIRTIO_NET_F_CTRL_VQ');
    expect(on(several!)).toEqual(expect.arrayContaining(['VIRTIO_NET_F_CTRL_VQ', 'VIRTIO_NET_F_MQ']));
    // it lacks the bit that segmentation needs
    const [user] = nics({ backend: 'vhost-user' });
    expect(on(user!)).not.toContain('VIRTIO_NET_F_CSUM');
    expect(on(user!)).not.toContain('VIRTIO_NET_F_HOST_TSO4');
  });
  test('a complete document is taken back as it is', () => {
    for (const nic of [{}, { backend: 'virtio-net' }, { queuePairs: 2 }, { backend: 'vhost-user' }]) {
      const first = parse({ nics: [{ name: 'net0', ...nic }] });
      if (!first.ok) throw new Error(JSON.stringify(first.faults));
      const second = parseTopology(first.document, { name: 't' });
      expect(second.ok && second.topology).toEqual(first.topology);
    }
  });
});

test.each<[string, object, string]>([
  ['packed', { packed: true, transport: 'pci-modern' }, 'StratoVirt has no packed rings'],
  ['transport', { transport: 'pci-legacy' }, "StratoVirt's devices have no legacy interface"],
  ['transport', { transport: 'pci-transitional' }, "StratoVirt's devices have no legacy interface"],
  ['ioeventfd', { backend: 'virtio-net', ioeventfd: false }, 'StratoVirt has an ioeventfd for each queue'],
  ['pollUs', { pollUs: 50 }, 'StratoVirt does not set VHOST_SET_VRING_BUSYLOOP_TIMEOUT'],
  ['queueSize', { queueSize: 128 }, 'StratoVirt has no queues of 128 entries'],
  ['queueSize', { queueSize: 8192 }, 'StratoVirt has no queues of 8192 entries'],
  ['queuePairs', { queuePairs: 2, transport: 'mmio' }, "StratoVirt's microVM has one queue pair for each NIC"],
  ['vectors', { transport: 'pci-modern', vectors: 0 }, "StratoVirt's devices on PCI have MSI-X"],
  ['mtu', { mtu: 9000 }, "StratoVirt's device does not say its MTU"],
  ['speed', { speed: 1000 }, "StratoVirt's device does not say its speed"],
  ['duplex', { duplex: 'full' }, "StratoVirt's device does not say its duplex"],
  ['coalescing', { coalescing: { rx: { usecs: 5 } } }, "StratoVirt's device holds no notifications back"],
  [
    'features/VIRTIO_NET_F_MRG_RXBUF',
    { backend: 'virtio-net', features: { VIRTIO_NET_F_MRG_RXBUF: true } },
    "StratoVirt's device with the backend virtio-net does not have VIRTIO_NET_F_MRG_RXBUF",
  ],
  [
    'features/VIRTIO_NET_F_GUEST_ANNOUNCE',
    { features: { VIRTIO_NET_F_GUEST_ANNOUNCE: true } },
    "StratoVirt's device with the backend vhost-net does not have VIRTIO_NET_F_GUEST_ANNOUNCE",
  ],
])('%s is refused', (field, nic, detail) => {
  const pointer = `/hosts/0/guests/0/nics/0/${field}`;
  const found = faults(nic).filter((f) => f.code === 'wrong-vmm');
  expect(found).toContainEqual(expect.objectContaining({ pointer, detail }));
  for (const fault of found) expect(fault.expected).toBeTruthy();
});
test('one machine has one bus, and a microVM two slots for devices of its own', () => {
  expect(faults({ transport: 'mmio' }, { transport: 'pci-modern' })[0]).toMatchObject({
    pointer: '/hosts/0/guests/0/nics',
    code: 'wrong-vmm',
    expected: 'one transport for all NICs of the guest',
  });
  const own = { backend: 'virtio-net' };
  expect(faults(own, own)).toEqual([]);
  expect(faults(own, own, { backend: 'vhost-net' })).toEqual([]);
  expect(faults(own, own, own)[0]).toMatchObject({
    code: 'wrong-vmm',
    expected: 'at most 2, or "transport": "pci-modern"',
  });
  const pci = { ...own, transport: 'pci-modern' };
  expect(faults(pci, pci, pci)).toEqual([]);
});

describe('a Linux bridge', () => {
  test('takes taps, and no vhost-user sockets', () => {
    const [own, kernel] = nics({ backend: 'virtio-net', bridge: 'br2' }, { backend: 'vhost-net', bridge: 'br2' });
    expect([own?.bridge, kernel?.bridge]).toEqual(['br2', 'br2']);
    expect(faults({ backend: 'vhost-user', bridge: 'br2' })).toEqual([
      {
        pointer: '/hosts/0/guests/0/nics/0/bridge',
        code: 'wrong-datapath',
        detail: 'vhost-user needs a bridge with the netdev datapath, and "br2" has the linux one',
        expected: 'a bridge with "datapath": "netdev"',
      },
    ]);
  });
  test('has no poll-mode threads and no userspace TSO', () => {
    const bridge = { name: 'br0', datapath: 'linux', pmds: 2, userspaceTso: true };
    const parsed = parseTopology({ hosts: [{ bridges: [bridge] }] }, { name: 't' });
    expect(parsed.ok ? [] : parsed.faults.map((f) => [f.pointer, f.code])).toEqual([
      ['/hosts/0/bridges/0/userspaceTso', 'wrong-datapath'],
      ['/hosts/0/bridges/0/pmds', 'wrong-datapath'],
    ]);
  });
});
