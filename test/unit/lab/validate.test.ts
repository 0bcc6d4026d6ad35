/** One mistake at a time, and what is reported for it: where, as what, and nothing else. */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import { planMemory } from '../../../src/lab/build/memory.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { DEFAULT_LIMITS, type Limits } from '../../../src/lab/document-checks.ts';
import { closeMatches, type Fault, MAX_FAULTS } from '../../../src/lab/document-faults.ts';
import { PRESETS } from '../../../src/lab/presets.ts';
import { nicBytes } from '../../../src/lab/validate-guest.ts';

interface Json {
  [key: string]: unknown;
}
interface Parts {
  top?: Json;
  host?: Json;
  guest?: Json;
  nic?: Json;
  guests?: Json[];
  limits?: Partial<Limits>;
}
/** A valid document of one guest, with parts replaced. */
function document({ top, host, guest, nic, guests }: Parts): Json {
  const a = { name: 'a', nics: [{ name: 'net0', addresses: ['10.0.0.1/24'], ...nic }], ...guest };
  return { hosts: [{ guests: guests ?? [a], ...host }], ...top };
}
function faults(value: unknown, limits: Partial<Limits> = {}): readonly Fault[] {
  const parsed = parseTopology(value, { name: 't', limits, knownCosts: new Set(['vm_exit', 'copy_per_byte']) });
  return parsed.ok ? [] : parsed.faults;
}
const short = (list: readonly Fault[]): string[] => list.map((f) => `${f.pointer} ${f.code}`);
const NIC = '/hosts/0/guests/0/nics/0';

test('the document that the cases change is valid', () => {
  expect(faults(document({}))).toEqual([]);
});

describe('shape', () => {
  test.each<[string, unknown, string]>([
    ['null', null, ' wrong-type'],
    ['a list', [], ' wrong-type'],
    ['a text', 'hosts', ' wrong-type'],
    ['nothing', undefined, ' wrong-type'],
    ['no hosts', {}, ' missing-field'],
    ['an empty list of hosts', { hosts: [] }, '/hosts too-few'],
    ['too many hosts', { hosts: Array(65).fill({}) }, '/hosts too-many'],
    ['a host that is null', { hosts: [null] }, '/hosts/0 wrong-type'],
    ['unknown field', document({ top: { sead: 1 } }), '/sead unknown-field'],
    ['unknown field with odd letters', document({ top: { 'a/b~c': 1 } }), '/a~1b~0c unknown-field'],
    ['__proto__', JSON.parse('{"hosts":[{}],"__proto__":{"seed":2}}'), '/__proto__ unknown-field'],
    ['unknown field of a NIC', document({ nic: { queues: 2 } }), `${NIC}/queues unknown-field`],
    [
      'unknown feature',
      document({ nic: { features: { VIRTIO_F_X: true } } }),
      `${NIC}/features/VIRTIO_F_X unknown-field`,
    ],
    ['a number as a name', document({ guest: { name: 7 } }), '/hosts/0/guests/0/name wrong-type'],
    ['no name', document({ guests: [{}] }), '/hosts/0/guests/0 missing-field'],
    ['a bad name', document({ guest: { name: 'A b' } }), '/hosts/0/guests/0/name bad-name'],
    ['a long name', document({ guest: { name: 'x'.repeat(64) } }), '/hosts/0/guests/0/name bad-name'],
    ['a name that ends in a hyphen', document({ guest: { name: 'a-' } }), '/hosts/0/guests/0/name bad-name'],
    ['an unknown backend', document({ nic: { backend: 'vhost' } }), `${NIC}/backend unknown-value`],
    ['a fraction', document({ host: { cores: 1.5 } }), '/hosts/0/cores wrong-type'],
    ['no cores', document({ host: { cores: 0 } }), '/hosts/0/cores out-of-range'],
    ['a negative seed', document({ top: { seed: -1 } }), '/seed out-of-range'],
    ['a bad MAC', document({ nic: { mac: '52:54:0:0:0:1' } }), `${NIC}/mac bad-mac`],
    ['a multicast MAC', document({ nic: { mac: '53:54:00:00:00:01' } }), `${NIC}/mac bad-mac`],
    ['a zero MAC', document({ nic: { mac: '00:00:00:00:00:00' } }), `${NIC}/mac bad-mac`],
    ['an address without prefix', document({ nic: { addresses: ['10.0.0.1'] } }), `${NIC}/addresses/0 bad-address`],
    ['a wrong unit', document({ guest: { memory: '16MB' } }), '/hosts/0/guests/0/memory bad-size'],
    ['a truth value as a size', document({ guest: { memory: true } }), '/hosts/0/guests/0/memory wrong-type'],
    [
      'a number as a rate',
      document({ host: { nics: [{ name: 'e', speed: 25 }] } }),
      '/hosts/0/nics/0/speed wrong-type',
    ],
    ['a bad time', document({ top: { epoch: 'today' } }), '/epoch bad-time'],
    ['a clock mode', document({ top: { clock: { mode: 'fast' } } }), '/clock/mode unknown-value'],
    ['a clock factor', document({ top: { clock: { factor: 0 } } }), '/clock/factor out-of-range'],
    ['one end', document({ top: { links: [{ ends: ['eth0'] }] } }), '/links/0/ends too-few'],
    ['three ends', document({ top: { links: [{ ends: ['a', 'b', 'c'] }] } }), '/links/0/ends too-many'],
  ])('%s', (_, value, expected) => {
    expect(short(faults(value))).toEqual([expected]);
  });
  test('says what was expected', () => {
    const of = (value: unknown): string | undefined => faults(value)[0]?.expected;
    expect(of(document({ top: { sead: 1 } }))).toBe('"seed"');
    expect(of(document({ nic: { backend: 'vhost' } }))).toBe('one of "virtio-net", "vhost-net", "vhost-user"');
    expect(of(document({ guest: { memory: '16MB' } }))).toContain('"16MiB"');
    expect(of(document({ guest: { memory: true } }))).toContain('"16MiB"');
    expect(of(document({ host: { cores: 0 } }))).toBe('a whole number from 1 to 256');
    expect(of({})).toBe('a list');
    expect(faults({})[0]?.detail).toContain('"hosts"');
  });
});

describe('meaning', () => {
  const two = (first: Json, second: Json): Json[] => [
    { name: 'a', nics: [{ name: 'net0', ...first }] },
    { name: 'b', nics: [{ name: 'net0', ...second }] },
  ];
  const pmd = { backend: 'vhost-user', driver: 'virtio-pmd' };
  const netdev = [{ name: 'br0', datapath: 'netdev' }];
  const pair = [{ name: 'eth0' }, { name: 'eth1' }];
  const links = (...list: Json[]): Parts => ({ host: { nics: pair }, top: { links: list } });

  test.each<[string, Parts, string[]]>([
    ['hosts without names', { top: { hosts: [{}, {}] } }, []],
    ['two hosts of one name', { top: { hosts: [{}, { name: 'h1' }] } }, ['/hosts/1/name duplicate-name']],
    ['a document of another name', { top: { name: 'other' } }, ['/name name-mismatch']],
    ['two guests of one name', { guests: [{ name: 'a' }, { name: 'a' }] }, ['/hosts/0/guests/1/name duplicate-name']],
    ['a guest and a bridge of one name', { guest: { name: 'br0' } }, ['/hosts/0/guests/0/name duplicate-name']],
    ['a NIC and a bridge of one name', { host: { nics: [{ name: 'br0' }] } }, ['/hosts/0/nics/0/name duplicate-name']],
    ['a guest named as its host', { guest: { name: 'h1' } }, ['/hosts/0/guests/0/name duplicate-name']],
    [
      'two NICs of one name',
      { guest: { nics: [{ name: 'net0' }, { name: 'net0' }] } },
      ['/hosts/0/guests/0/nics/1/name duplicate-name'],
    ],
    ['a NIC named as a vCPU', { nic: { name: 'vcpu0' } }, [`${NIC}/name reserved-name`]],
    [
      'two MACs, in different letters',
      { guests: two({ mac: '52:54:00:00:00:aa' }, { mac: '52:54:00:00:00:AA' }) },
      ['/hosts/0/guests/1/nics/0/mac duplicate-mac'],
    ],
    [
      'one address twice, with different prefixes',
      { guests: two({ addresses: ['10.0.0.1/24'] }, { addresses: ['10.0.0.1/16'] }) },
      ['/hosts/0/guests/1/nics/0/addresses/0 duplicate-address'],
    ],
    ['an unknown bridge', { nic: { bridge: 'br1' } }, [`${NIC}/bridge unknown-bridge`]],
    [
      'an unknown bridge of a NIC',
      { host: { nics: [{ name: 'e', bridge: 'x' }] } },
      ['/hosts/0/nics/0/bridge unknown-bridge'],
    ],
    [
      'no bridge at all',
      { host: { bridges: [], nics: [{ name: 'e' }] }, guests: [] },
      ['/hosts/0/nics/0 unknown-bridge'],
    ],
    [
      'vhost-user on a system bridge',
      { nic: { backend: 'vhost-user', bridge: 'br0' } },
      [`${NIC}/bridge wrong-datapath`],
    ],
    ['vhost-user without a netdev bridge', { nic: { backend: 'vhost-user' } }, [`${NIC} wrong-datapath`]],
    [
      'vhost-net on a netdev bridge',
      { host: { bridges: netdev }, nic: { bridge: 'br0' } },
      [`${NIC}/bridge wrong-datapath`],
    ],
    [
      'virtio-net without a system bridge',
      { host: { bridges: netdev }, nic: { backend: 'virtio-net' } },
      [`${NIC} wrong-datapath`],
    ],
    ['a queue size', { nic: { queueSize: 100 } }, [`${NIC}/queueSize not-power-of-two`]],
    ['a short queue', { nic: { queueSize: 16 } }, [`${NIC}/queueSize out-of-range`]],
    ['a long queue', { nic: { queueSize: 65_536 } }, [`${NIC}/queueSize out-of-range`]],
    ['the longest queue', { nic: { queueSize: 32_768 } }, []],
    ['a packed queue of any size', { nic: { queueSize: 1, packed: true } }, []],
    [
      'a packed queue shorter than a burst',
      { nic: { queueSize: 31, packed: true, driver: 'virtio-pmd' } },
      [`${NIC}/queueSize out-of-range`],
    ],
    ['a short queue of a client', { nic: { queueSize: 2, driver: 'none' } }, []],
    ['an odd queue of a client', { nic: { queueSize: 3, driver: 'none' } }, [`${NIC}/queueSize not-power-of-two`]],
    ['queue pairs with vhost-user', { host: { cores: 18, bridges: netdev }, nic: { ...pmd, queuePairs: 16 } }, []],
    [
      'as many polling vCPUs as queue pairs, and as many threads as are asked for',
      { host: { cores: 10, bridges: [{ ...netdev[0]!, pmds: 2 }] }, nic: { ...pmd, queuePairs: 8 } },
      ['/hosts/0/cores not-enough-cores'],
    ],
    [
      'fewer polling vCPUs than queue pairs',
      {
        host: { cores: 5, bridges: [{ ...netdev[0]!, pmds: 2 }] },
        guest: { vcpus: 2 },
        nic: { ...pmd, queuePairs: 8 },
      },
      [],
    ],
    [
      'poll-mode threads of a system bridge',
      { host: { bridges: [{ name: 'br0', pmds: 2 }] } },
      ['/hosts/0/bridges/0/pmds wrong-datapath'],
    ],
    ['too many queue pairs', { nic: { queuePairs: 17 } }, [`${NIC}/queuePairs out-of-range`]],
    ['queue pairs without MQ', { nic: { queuePairs: 4, features: { VIRTIO_NET_F_MQ: false } } }, []],
    [
      'queue pairs without a control queue',
      { nic: { queuePairs: 4, features: { VIRTIO_NET_F_CTRL_VQ: false } } },
      [`${NIC}/queuePairs wrong-feature`],
    ],
    ['packed on vhost-net', { nic: { packed: true } }, []],
    ['packed and legacy', { nic: { packed: true, transport: 'pci-legacy' } }, [`${NIC}/packed wrong-transport`]],
    [
      'a polling driver on mmio',
      { nic: { driver: 'virtio-pmd', transport: 'mmio' } },
      [`${NIC}/transport wrong-transport`],
    ],
    [
      'a polling driver on a legacy device',
      { nic: { driver: 'virtio-pmd', transport: 'pci-legacy' } },
      [`${NIC}/transport wrong-transport`],
    ],
    ['a client on a legacy device', { nic: { driver: 'none', transport: 'pci-legacy' } }, []],
    ['vectors on mmio', { nic: { transport: 'mmio', vectors: 2 } }, [`${NIC}/vectors wrong-transport`]],
    ['no vectors on mmio', { nic: { transport: 'mmio', vectors: 0 } }, []],
    ['too many vectors', { nic: { vectors: 2049 } }, [`${NIC}/vectors out-of-range`]],
    ['a small MTU', { nic: { mtu: 67 } }, [`${NIC}/mtu out-of-range`]],
    ['a large MTU', { nic: { mtu: 65_536 } }, [`${NIC}/mtu out-of-range`]],
    ['a duplex mode', { nic: { duplex: 'both' } }, [`${NIC}/duplex unknown-value`]],
    [
      'a bit without the bit that it needs',
      { nic: { features: { VIRTIO_NET_F_CSUM: false, VIRTIO_NET_F_HOST_TSO4: true } } },
      [`${NIC}/features/VIRTIO_NET_F_HOST_TSO4 wrong-feature`],
    ],
    ['bits that go with the one that they need', { nic: { features: { VIRTIO_NET_F_CTRL_VQ: false } } }, []],
    [
      'one of two bits that a bit needs',
      { nic: { features: { VIRTIO_NET_F_GUEST_TSO4: false, VIRTIO_NET_F_GUEST_ECN: true } } },
      [],
    ],
    [
      'neither of two bits that a bit needs',
      {
        nic: {
          features: {
            VIRTIO_NET_F_GUEST_TSO4: false,
            VIRTIO_NET_F_GUEST_TSO6: false,
            VIRTIO_NET_F_GUEST_ECN: true,
          },
        },
      },
      [`${NIC}/features/VIRTIO_NET_F_GUEST_ECN wrong-feature`],
    ],
    [
      'packed by its bit',
      { nic: { features: { VIRTIO_F_RING_PACKED: true } } },
      [`${NIC}/features/VIRTIO_F_RING_PACKED wrong-feature`],
    ],
    ['packed without its bit', { nic: { packed: true, features: { VIRTIO_F_RING_PACKED: false } } }, []],
    ['MQ with one pair', { nic: { features: { VIRTIO_NET_F_MQ: true } } }, []],
    [
      'a legacy bit on a modern device',
      { nic: { features: { VIRTIO_NET_F_GSO: true } } },
      [`${NIC}/features/VIRTIO_NET_F_GSO wrong-feature`],
    ],
    [
      'a modern bit on a legacy device',
      { nic: { transport: 'pci-legacy', features: { VIRTIO_F_IN_ORDER: true } } },
      [`${NIC}/features/VIRTIO_F_IN_ORDER wrong-feature`],
    ],
    [
      'no VERSION_1',
      { nic: { features: { VIRTIO_F_VERSION_1: false } } },
      [`${NIC}/features/VIRTIO_F_VERSION_1 wrong-driver`],
    ],
    ['no VERSION_1 for a client', { nic: { driver: 'none', features: { VIRTIO_F_VERSION_1: false } } }, []],
    ['an IPv6 address', { nic: { addresses: ['fd00::1/64', '10.0.0.1/24'] } }, []],
    [
      'one IPv6 address in two forms',
      { nic: { addresses: ['fd00::1/64', 'fd00:0::0001/64'] } },
      [`${NIC}/addresses/1 duplicate-address`],
    ],
    ['an IPv6 subnet', { nic: { addresses: ['fd00::/64'] } }, [`${NIC}/addresses/0 bad-address`]],
    [
      'userspace TSO in the kernel datapath',
      { host: { bridges: [{ name: 'br0', userspaceTso: true }] } },
      ['/hosts/0/bridges/0/userspaceTso wrong-datapath'],
    ],
    [
      'segments without checksums',
      { host: { nics: [{ name: 'e', offloads: { tso: true, txChecksum: false } }] } },
      ['/hosts/0/nics/0/offloads/tso wrong-feature'],
    ],
    ['neither segments nor checksums', { host: { nics: [{ name: 'e', offloads: { txChecksum: false } }] } }, []],
    ['a client beside the kernel driver', { guest: { nics: [{ name: 'n0' }, { name: 'n1', driver: 'none' }] } }, []],
    [
      'a forwarding program with a NIC of a client',
      { guest: { app: 'io', nics: [{ name: 'n0', driver: 'none' }] } },
      ['/hosts/0/guests/0/nics/0/driver wrong-driver'],
    ],
    ['memory of a client', { guest: { memory: '1MiB' }, nic: { driver: 'none', queueSize: 1024 } }, []],
    [
      'large receive buffers',
      { guest: { memory: '16MiB' }, nic: { features: { VIRTIO_NET_F_MRG_RXBUF: false } } },
      ['/hosts/0/guests/0/memory memory-too-small'],
    ],
    [
      'more queues than there are places',
      {
        guests: Array.from({ length: 60 }, (_, i) => ({
          name: `g${i}`,
          nics: [
            { name: 'n0', driver: 'none', queuePairs: 16 },
            { name: 'n1', driver: 'none', queuePairs: 16 },
          ],
          memory: '1MiB',
        })),
      },
      ['/hosts too-many', '/hosts memory-too-large'],
    ],
    ['a NIC ring', { host: { nics: [{ name: 'e', rxRing: 65 }] } }, ['/hosts/0/nics/0/rxRing not-power-of-two']],
    [
      'a NIC speed',
      {
        host: {
          nics: [
            { name: 'e', speed: '1Mbps' },
            { name: 'f', speed: '1bps' },
          ],
        },
      },
      ['/hosts/0/nics/1/speed out-of-range'],
    ],
    ['poll-us in QEMU', { nic: { pollUs: 50, backend: 'virtio-net' } }, [`${NIC}/pollUs wrong-backend`]],
    ['poll-us in vhost-net', { nic: { pollUs: 50 } }, []],
    ['ioeventfd off in vhost-net', { nic: { ioeventfd: false } }, [`${NIC}/ioeventfd wrong-backend`]],
    ['ioeventfd off in QEMU', { nic: { ioeventfd: false, backend: 'virtio-net' } }, []],
    ['macswap with the kernel driver', { guest: { app: 'macswap' } }, [`${NIC} wrong-driver`]],
    ['io without NICs', { guest: { app: 'io', nics: [] } }, ['/hosts/0/guests/0/app wrong-driver']],
    ['io with one NIC', { guest: { app: 'io' }, nic: { driver: 'virtio-pmd' } }, []],
    [
      'both drivers in a guest',
      { guest: { nics: [{ name: 'n0' }, { name: 'n1', driver: 'virtio-pmd' }] } },
      ['/hosts/0/guests/0/nics mixed-drivers'],
    ],
    ['pages of a program without the driver', { guest: { dpdk: {} } }, ['/hosts/0/guests/0/dpdk wrong-driver']],
    [
      'a program without hugepages and without an IOMMU',
      { guest: { dpdk: { hugepages: '4KiB' } }, nic: { driver: 'virtio-pmd' } },
      ['/hosts/0/guests/0/dpdk/hugepages wrong-feature'],
    ],
    [
      'a program without hugepages and an IOMMU that a NIC goes around',
      {
        guest: { dpdk: { hugepages: '4KiB' }, iommu: {} },
        nic: { driver: 'virtio-pmd', features: { VIRTIO_F_ACCESS_PLATFORM: false } },
      },
      ['/hosts/0/guests/0/dpdk/hugepages wrong-feature'],
    ],
    [
      'a program without hugepages',
      { guest: { dpdk: { hugepages: '4KiB' }, iommu: {} }, nic: { driver: 'virtio-pmd' } },
      [],
    ],
    [
      'a program in a page of 1 GiB, for which memory grows',
      { guest: { dpdk: { hugepages: '1GiB' } }, nic: { driver: 'virtio-pmd' } },
      [],
    ],
    [
      'a pool that does not fit',
      { guest: { memory: '16MiB', dpdk: { mempool: 8000 } }, nic: { driver: 'virtio-pmd' } },
      ['/hosts/0/guests/0/memory memory-too-small'],
    ],
    [
      'RAM of less than a page',
      { guest: { memory: '16MiB', hugepages: '1GiB' } },
      ['/hosts/0/guests/0/hugepages memory-too-small'],
    ],
    ['RAM of half a page more', { guest: { memory: '17MiB', hugepages: '2MiB' } }, []],
    [
      'socket memory of no whole pages',
      { host: { hugepages: { '2MiB': 600, socketMem: '1MiB' } } },
      ['/hosts/0/hugepages/socketMem not-page-aligned'],
    ],
    [
      'too few hugepages for Open vSwitch',
      { host: { hugepages: { '2MiB': 511 }, bridges: netdev }, nic: pmd },
      ['/hosts/0/hugepages not-enough-hugepages'],
    ],
    [
      'too few hugepages for the guest behind it',
      { host: { hugepages: { '2MiB': 519 }, bridges: netdev }, nic: pmd },
      ['/hosts/0/guests/0 not-enough-hugepages'],
    ],
    ['just enough hugepages', { host: { hugepages: { '2MiB': 520 }, bridges: netdev }, nic: pmd }, []],
    ['a large page in their place', { host: { hugepages: { '1GiB': 1, '2MiB': 8 }, bridges: netdev }, nic: pmd }, []],
    ['cores for pollers', { host: { cores: 2, bridges: netdev }, nic: pmd }, ['/hosts/0/cores not-enough-cores']],
    ['just enough cores', { host: { cores: 3, bridges: netdev }, nic: pmd }, []],
    [
      'cores for a PMD on a tap',
      { host: { cores: 1 }, nic: { driver: 'virtio-pmd' } },
      ['/hosts/0/cores not-enough-cores'],
    ],
    ['memory of no whole pages', { guest: { memory: 16777217 } }, ['/hosts/0/guests/0/memory not-page-aligned']],
    ['memory too small', { guest: { memory: '2MiB' } }, ['/hosts/0/guests/0/memory memory-too-small']],
    [
      'memory too small for eight NICs',
      { guest: { memory: '16MiB', nics: Array.from({ length: 8 }, (_, i) => ({ name: `n${i}`, queueSize: 1024 })) } },
      ['/hosts/0/guests/0/memory memory-too-small'],
    ],
    [
      'default memory for more than a guest can have',
      {
        guest: {
          nics: [{ name: 'n0', queuePairs: 16, queueSize: 32_768, features: { VIRTIO_NET_F_MRG_RXBUF: false } }],
        },
      },
      ['/hosts/0/guests/0 memory-too-large', '/hosts memory-too-large'],
    ],
    ['memory too large', { guest: { memory: '3GiB' } }, ['/hosts/0/guests/0/memory memory-too-large']],
    [
      'a world too large',
      {
        guests: [
          { name: 'a', memory: '2GiB' },
          { name: 'b', memory: '2GiB' },
        ],
      },
      ['/hosts memory-too-large'],
    ],
    ['events', { top: { recorder: { events: 5000 } } }, ['/recorder/events not-power-of-two']],
    ['few events', { top: { recorder: { events: 2048 } } }, ['/recorder/events out-of-range']],
    ['bytes', { top: { recorder: { bytes: '100KiB' } } }, ['/recorder/bytes not-power-of-two']],
    ['few bytes', { top: { recorder: { bytes: '32KiB' } } }, ['/recorder/bytes out-of-range']],
    ['an unknown cost', { top: { costs: { vm_exti: 1, copy_per_byte: 0.5 } } }, ['/costs/vm_exti unknown-cost']],
    ['a cost below zero', { top: { costs: { vm_exit: -1 } } }, ['/costs/vm_exit out-of-range']],
    ['a good link', links({ ends: ['h1/eth0', 'eth1'], rate: '10Gbps', latency: '10us', loss: 0.5 }), []],
    ['an unknown end', links({ ends: ['h1/eth0', 'h1/eth9'] }), ['/links/0/ends/1 unknown-end']],
    ['an end of no form', links({ ends: ['h1/eth0', 'h1/a/net0'] }), ['/links/0/ends/1 unknown-end']],
    ['a guest NIC as an end', links({ ends: ['h1/eth0', 'a/net0'] }), ['/links/0/ends/1 unknown-end']],
    ['identical ends', links({ ends: ['h1/eth0', 'eth0'] }), ['/links/0/ends/1 same-end']],
    [
      'a NIC in two links',
      {
        host: { nics: [...pair, { name: 'eth2' }] },
        top: { links: [{ ends: ['eth0', 'eth1'] }, { ends: ['eth1', 'eth2'] }] },
      },
      ['/links/1/ends/0 end-in-use'],
    ],
    ['a latency', links({ ends: ['eth0', 'eth1'], latency: '11s' }), ['/links/0/latency out-of-range']],
    ['a rate', links({ ends: ['eth0', 'eth1'], rate: '10bps' }), ['/links/0/rate out-of-range']],
    ['a loss', links({ ends: ['eth0', 'eth1'], loss: 1.5 }), ['/links/0/loss out-of-range']],
    [
      'guests over the limit',
      { guests: [{ name: 'a' }, { name: 'b' }], limits: { maxGuests: 1 } },
      ['/hosts too-many'],
    ],
    ['hosts over the limit', { top: { hosts: [{}, { name: 'h2' }] }, limits: { maxHosts: 1 } }, ['/hosts too-many']],
    [
      'NICs over the limit',
      { guest: { nics: [{ name: 'n0' }, { name: 'n1' }] }, limits: { maxNicsPerGuest: 1 } },
      ['/hosts/0/guests/0/nics too-many'],
    ],
    ['memory over the limit', { limits: { maxMemoryBytes: 2 ** 28 } }, ['/hosts memory-too-large']],
  ])('%s', (_, parts, expected) => {
    const value = document(parts);
    expect(short(faults(value, parts.limits))).toEqual(expected);
  });

  test('a host prefix is needed where there are several hosts', () => {
    const hosts = [
      { name: 'h1', nics: [{ name: 'eth0' }] },
      { name: 'h2', nics: [{ name: 'eth0', speed: '10Gbps' }] },
    ];
    expect(faults({ hosts, links: [{ ends: ['h1/eth0', 'h2/eth0'] }] })).toEqual([]);
    expect(short(faults({ hosts, links: [{ ends: ['h1/eth0', 'eth0'] }] }))).toEqual(['/links/0/ends/1 unknown-end']);
  });
  test('close matches are offered', () => {
    expect(faults(document({ top: { costs: { vm_exti: 1 } } }))[0]?.expected).toBe('"vm_exit"');
    expect(closeMatches('VM_EXIT', ['vm_exit'])).toEqual(['vm_exit']);
    expect(closeMatches('vm', ['vm_exit', 'vm_entry', 'copy'])).toEqual(['vm_entry', 'vm_exit']);
    expect(closeMatches('x'.repeat(65), ['vm_exit'])).toEqual([]);
    expect(closeMatches('zzz', ['vm_exit'])).toEqual([]);
  });
  test('memory: exactly what is needed is enough, and the default grows', () => {
    const nics = [
      { queueSize: 1024 },
      { queueSize: 300, packed: true, queuePairs: 3 },
      { features: { VIRTIO_NET_F_MRG_RXBUF: false } },
      { mtu: 9000, features: { VIRTIO_NET_F_MRG_RXBUF: false, VIRTIO_NET_F_GUEST_CSUM: false } },
      { driver: 'virtio-pmd' },
    ];
    for (const nic of nics) {
      const parsed = parseTopology(document({ nic }), { name: 't' });
      const guest = parsed.ok ? parsed.topology.hosts[0]?.guests[0] : undefined;
      // a DPDK program begins at its first hugepage, and takes whole ones
      const page = nic.driver === 'virtio-pmd' ? 2 ** 21 : 4096;
      const kernel = Math.max(2 ** 20, nic.driver === 'virtio-pmd' ? page : 0);
      const needed = kernel + Math.ceil(nicBytes(guest!.nics[0]!) / page) * page;
      expect(guest!.memory).toBe(Math.max(16 * 2 ** 20, Math.ceil(needed / 2 ** 20) * 2 ** 20));
      expect(faults(document({ guest: { memory: needed }, nic }))).toEqual([]);
      const [fault] = faults(document({ guest: { memory: needed - 4096 }, nic }));
      expect(fault).toMatchObject({ pointer: '/hosts/0/guests/0/memory', code: 'memory-too-small' });
      expect(fault?.expected).toBe(`at least ${needed / 1024}KiB`);
    }
  });
  test('memory of a NIC: what its buffers need', () => {
    const bytes = (nic: Json): number => {
      const parsed = parseTopology(document({ nic }), { name: 't' });
      if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
      return nicBytes(parsed.topology.hosts[0]!.guests[0]!.nics[0]!);
    };
    expect(bytes({ driver: 'none' })).toBe(0);
    // 256 slots each way, and 16 frames of 68 KiB
    expect(bytes({})).toBeGreaterThan(2 * 256 * 2048 + 16 * 68 * 1024);
    expect(bytes({})).toBeLessThan(3 * 2 ** 20);
    expect(bytes({ features: { VIRTIO_NET_F_MRG_RXBUF: false } }) - bytes({})).toBe(256 * 70 * 1024);
    const csum = { VIRTIO_NET_F_CSUM: false };
    expect(bytes({}) - bytes({ features: csum })).toBe(16 * 68 * 1024);
  });
  test('a fault of a feature names both bits', () => {
    const features = { VIRTIO_NET_F_CTRL_VQ: false, VIRTIO_NET_F_CTRL_RX: true };
    const [fault] = faults(document({ nic: { features } }));
    expect(fault?.detail).toBe('VIRTIO_NET_F_CTRL_RX needs VIRTIO_NET_F_CTRL_VQ, which is off');
    expect(fault?.expected).toBe('false, or "VIRTIO_NET_F_CTRL_VQ": true');
  });
});

test('all faults at once, those of shape and those of meaning, and none twice', () => {
  const value = {
    name: 'other',
    seed: 'one',
    colour: 'red',
    hosts: [
      {
        name: 'h1',
        cores: '8',
        bridges: [{ name: 'br0', datapath: 'sistem' }, { name: 'BR1' }],
        nics: [{ name: 'eth0', speed: '25' }],
        guests: [
          { name: 'a', memory: '1KB', nics: [{ name: 'net0', bridge: 'br0', mac: '01:00:00:00:00:00' }] },
          {
            name: 'a',
            nics: [{ name: 'net0', bridge: 'br7', queueSize: 96, addresses: ['10.0.0.1/24', '10.0.0.1/24'] }],
          },
        ],
      },
    ],
    links: [{ ends: ['h1/eth0', 'h1/eth0'] }],
  };
  expect(short(faults(value)).sort()).toEqual([
    '/colour unknown-field',
    '/hosts/0/bridges/0/datapath unknown-value',
    '/hosts/0/bridges/1/name bad-name',
    '/hosts/0/cores wrong-type',
    '/hosts/0/guests/0/memory bad-size',
    '/hosts/0/guests/0/nics/0/mac bad-mac',
    '/hosts/0/guests/1/name duplicate-name',
    '/hosts/0/guests/1/nics/0/addresses/1 duplicate-address',
    '/hosts/0/guests/1/nics/0/queueSize not-power-of-two',
    '/hosts/0/nics/0/speed bad-rate',
    '/links/0/ends/1 same-end',
    '/name name-mismatch',
    '/seed wrong-type',
  ]);
});

test('a hostile document gets a short answer in a short time', () => {
  const keys = Object.fromEntries(Array.from({ length: 200_000 }, (_, i) => [`k${i}`, i]));
  const guests = Array.from({ length: 1024 }, () => ({ name: '!'.repeat(1000), nics: Array(64).fill({ x: 1 }) }));
  const long = Array(1_000_000).fill(0);
  const start = performance.now();
  for (const value of [
    keys,
    { hosts: [{ guests }] },
    { hosts: long },
    { hosts: [{ guests: long }] },
    { hosts: [{}], costs: keys },
  ]) {
    const list = faults(value);
    expect(list.length).toBeGreaterThan(0);
    expect(list.length).toBeLessThanOrEqual(MAX_FAULTS + 1);
    expect(JSON.stringify(list).length).toBeLessThan(60_000);
  }
  expect(faults(keys).at(-1)?.code).toBe('too-many-faults');
  expect(performance.now() - start).toBeLessThan(5000);
});
describe('the memory of a world is what its plan says', () => {
  const eths = (n: number) => Array.from({ length: n }, (_, i) => ({ name: `eth${i}`, queues: 2 }));
  const netdev = [{ name: 'br0', datapath: 'netdev', pmds: 3 }];
  test.each<[string, unknown]>([
    ...PRESETS.map(({ name, document: value }): [string, unknown] => [`preset ${name}`, value]),
    ['frames under way to host NICs', { hosts: [{ nics: eths(8) }] }],
    ['to several PMDs', { hosts: [{ cores: 8, bridges: netdev, nics: eths(3) }] }],
    ['upcalls of many handlers', { hosts: [{ cores: 64, ovs: { otherConfig: { 'n-handler-threads': '40' } } }] }],
    [
      'guests with many queue pairs',
      document({ guest: { vcpus: 8, nics: Array.from({ length: 8 }, (_, i) => ({ name: `n${i}`, queuePairs: 16 })) } }),
    ],
  ])('%s', (_, value) => {
    const parsed = parseTopology(value, { name: 't' });
    assert(parsed.ok);
    const { memoryBytes } = planMemory(parsed.topology).layout;
    const limited = (maxMemoryBytes: number) => parseTopology(value, { name: 't', limits: { maxMemoryBytes } });
    expect(limited(memoryBytes).ok).toBe(true);
    const refused = limited(memoryBytes - 1);
    expect(refused.ok ? [] : short(refused.faults)).toEqual(['/hosts memory-too-large']);
  });

  test('what no WebAssembly memory holds is refused before it is built', () => {
    const [fault] = faults({ hosts: [{ nics: eths(64) }, { name: 'h2', nics: eths(64) }] });
    expect(fault).toMatchObject({ pointer: '/hosts', code: 'memory-too-large', expected: 'at most 3584 MiB' });
    expect(fault?.detail).toMatch(
      /^the topology needs \d{4} MiB: guests 0 MiB, recorder \d+ MiB, counters and host buffers/,
    );
  });
});

test('limits have defaults', () => {
  expect(DEFAULT_LIMITS.maxMemoryBytes).toBe(3.5 * 2 ** 30);
});
