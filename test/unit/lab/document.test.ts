import { describe, expect, test } from 'vitest';
import { costTable } from '../../../src/engine/costs.ts';
import {
  documentOf,
  equalDocuments,
  MAX_TEXT_LENGTH,
  type ParseOptions,
  parseDocumentText,
  parseTopology,
} from '../../../src/lab/document.ts';
import type { TopologyDocument } from '../../../src/lab/document-schema.ts';
import type { Topology } from '../../../src/lab/topology.ts';

function parsed(
  value: unknown,
  options: ParseOptions = { name: 't' },
): { topology: Topology; document: TopologyDocument } {
  const result = parseTopology(value, options);
  if (!result.ok) throw new Error(JSON.stringify(result.faults));
  return result;
}
const guest = (name: string, nic: object = {}): object => ({ name, nics: [{ name: 'net0', ...nic }] });

const on = (names: readonly string[], value: boolean): Record<string, boolean> =>
  Object.fromEntries(names.map((name) => [name, value]));
const net = (...names: string[]): string[] => names.map((name) => `VIRTIO_NET_F_${name}`);
/** What QEMU 7.2 offers by default, 0x10130bfffa7, without what follows from other fields (VERSION_1). */
const DEFAULT_ON = [
  ...net('CSUM', 'GUEST_CSUM', 'CTRL_GUEST_OFFLOADS', 'MAC', 'GUEST_TSO4', 'GUEST_TSO6', 'GUEST_ECN', 'GUEST_UFO'),
  ...net('HOST_TSO4', 'HOST_TSO6', 'HOST_ECN', 'HOST_UFO', 'MRG_RXBUF', 'STATUS', 'CTRL_VQ', 'CTRL_RX', 'CTRL_VLAN'),
  ...net('CTRL_RX_EXTRA', 'GUEST_ANNOUNCE', 'CTRL_MAC_ADDR'),
  'VIRTIO_RING_F_INDIRECT_DESC',
  'VIRTIO_RING_F_EVENT_IDX',
  'VIRTIO_F_RING_RESET',
];
const DEFAULT_OFF = [
  'VIRTIO_F_IN_ORDER',
  'VIRTIO_F_NOTIFICATION_DATA',
  ...net('DEVICE_STATS', 'VQ_NOTF_COAL', 'NOTF_COAL', 'GUEST_USO4', 'GUEST_USO6', 'HOST_USO', 'HASH_REPORT'),
  ...net('GUEST_HDRLEN', 'RSS', 'HASH_TUNNEL'),
];

describe('defaults', () => {
  test('the shortest document', () => {
    expect(parsed({ hosts: [{}] }).document).toEqual({
      name: 't',
      seed: 1,
      debug: false,
      clock: { mode: 'work', factor: 1 },
      epoch: '2026-01-01T00:00:00Z',
      recorder: { events: 4_194_304, bytes: '256MiB', descriptors: false },
      costProfile: 'haswell-2.4',
      costs: {},
      hosts: [
        {
          name: 'h1',
          cores: 8,
          bridges: [
            { name: 'br0', datapath: 'system', macTableSize: 8192, macAgingTime: 300, userspaceTso: false, pmds: 1 },
          ],
          nics: [],
          guests: [],
        },
      ],
      links: [],
    });
  });
  test('a guest with a NIC', () => {
    const [host] = parsed({ hosts: [{ guests: [guest('a')] }] }).document.hosts;
    expect(host?.guests).toEqual([
      {
        name: 'a',
        vmm: 'qemu',
        vcpus: 1,
        memory: '16MiB',
        app: 'stack',
        haltPollNs: 0,
        postedInterrupts: false,
        hugepages: '4KiB',
        nics: [
          {
            name: 'net0',
            bridge: 'br0',
            backend: 'vhost-net',
            driver: 'virtio-net',
            mac: '52:54:00:00:00:01',
            addresses: [],
            queueSize: 256,
            queuePairs: 1,
            packed: false,
            transport: 'pci-modern',
            ioeventfd: true,
            tx: 'bh',
            txTimer: 150_000,
            pollUs: 0,
            features: { ...on(DEFAULT_ON, true), ...on(DEFAULT_OFF, false) },
            tapQueueLength: 1000,
          },
        ],
      },
    ]);
  });
  test('a bridge is chosen by the datapath that the backend needs', () => {
    const bridges = [
      { name: 'kernel', datapath: 'system' },
      { name: 'user', datapath: 'netdev' },
    ];
    const { topology } = parsed({
      hosts: [{ bridges, nics: [{ name: 'eth0' }], guests: [guest('a'), guest('b', { backend: 'vhost-user' })] }],
    });
    expect(topology.hosts[0]?.guests.map((g) => g.nics[0]?.bridge)).toEqual(['kernel', 'user']);
    expect(topology.hosts[0]?.nics[0]?.bridge).toBe('kernel');
  });
  test('MAC addresses are counted up and leave out those that are named', () => {
    const named = { mac: '52:54:00:00:00:02' };
    const { topology } = parsed({
      hosts: [{ guests: [guest('a'), guest('b'), guest('c', named)] }, { guests: [guest('a')] }],
    });
    expect(topology.hosts.flatMap((h) => h.guests.map((g) => g.nics[0]?.mac.at(-1)))).toEqual([1, 3, 2, 4]);
  });
  test('a link has the speed of its slower NIC and a name', () => {
    const { topology, document } = parsed({
      hosts: [{ nics: [{ name: 'eth0', speed: '10Gbps' }] }, { nics: [{ name: 'eth0', speed: '40Gbps' }] }],
      links: [{ ends: ['h1/eth0', 'h2/eth0'] }],
    });
    expect(topology.links).toEqual([
      {
        name: 'link1',
        ends: [
          { host: 'h1', nic: 'eth0' },
          { host: 'h2', nic: 'eth0' },
        ],
        rate: 10e9,
        latencyNs: 0,
        loss: 0,
      },
    ]);
    expect(document.links?.[0]?.rate).toBe('10Gbps');
  });
});

test("the contract's example", () => {
  const { topology } = parsed(
    JSON.parse(
      '{"name":"t1","seed":1,"hosts":[{"name":"h1","cores":8,"bridges":[{"name":"br0","datapath":"system"}],"nics":[{"name":"eth0","speed":"25Gbps","bridge":"br0"}],"guests":[{"name":"a","vcpus":1,"memory":"16MiB","nics":[{"name":"net0","bridge":"br0","backend":"vhost-net","driver":"virtio-net","mac":"52:54:00:00:00:01","addresses":["10.0.0.1/24"],"queueSize":256,"ioeventfd":true}]}]}],"links":[]}',
    ),
    {},
  );
  expect(topology).toMatchObject({ name: 't1', seed: 1, hosts: [{ guests: [{ memory: 16 * 2 ** 20 }] }] });
  expect(topology.hosts[0]?.nics[0]?.speed).toBe(25e9);
});

test('every field reaches the topology', () => {
  const { topology, document } = parsed({
    name: 't',
    seed: 7,
    debug: true,
    clock: { mode: 'real', factor: 0.5 },
    epoch: '2025-12-31T23:00:00.25-01:00',
    recorder: { events: 8192, bytes: 65536 },
    costs: { z: 1.5, a: 2 },
    hosts: [
      {
        name: 'left',
        cores: 8,
        hugepages: { '2MiB': 600, socketMem: '512MiB' },
        iommu: true,
        vhostPacketWeight: 0,
        ovs: { ovsdbPort: 6640, otherConfig: { 'max-idle': '5000' }, dummy: true, outputBatching: false },
        bridges: [
          {
            name: 'ovs',
            datapath: 'netdev',
            macTableSize: 16,
            macAgingTime: 20,
            userspaceTso: true,
            pmds: 3,
            failMode: 'secure',
            ports: [
              { name: 'int0', type: 'internal', tag: 5 },
              { name: 'D_1', ofport: 9 },
              { name: 'to-x', type: 'patch', peer: 'x', trunks: [7, 2, 7] },
            ],
            bonds: [{ name: 'bond0', interfaces: ['D_1', 'int0'], mode: 'active-backup', vlanMode: 'trunk' }],
            mirrors: [{ name: 'm', selectAll: true, selectVlan: [3], outputPort: 'int0' }],
            flows: ['actions=drop'],
            controllers: ['tcp:127.0.0.1:6653'],
            protocols: ['OpenFlow13', 'OpenFlow10'],
            otherConfig: { 'flow-limit': '9', hwaddr: '02:00:00:00:00:09' },
            openflowPort: 6653,
          },
        ],
        nics: [
          {
            name: 'eth0',
            speed: '2.5Gbps',
            bridge: 'ovs',
            queues: 4,
            rxRing: 64,
            txRing: 128,
            maxFramesPerSecond: 12_500_000,
            offloads: { lro: true, txChecksum: false },
            plugged: false,
            tag: 4,
          },
        ],
        guests: [
          {
            name: 'vm',
            vcpus: 2,
            memory: 8 * 2 ** 20,
            app: 'io',
            haltPollNs: 50_000,
            postedInterrupts: true,
            hugepages: '4KiB',
            dpdk: { mempool: 700 },
            nics: [
              {
                name: 'p0',
                bridge: 'ovs',
                backend: 'vhost-user',
                driver: 'virtio-pmd',
                mac: '02:00:00:00:00:AB',
                addresses: ['10.1.0.1/16', 'FD00:0:0::1/64', '10.2.0.1/16'],
                queueSize: 100,
                queuePairs: 2,
                packed: true,
                transport: 'pci-transitional',
                vectors: 3,
                mtu: 9000,
                speed: 10_000,
                duplex: 'full',
                txTimer: 20_000,
                pollUs: 0,
                features: {
                  VIRTIO_NET_F_STATUS: false,
                  VIRTIO_RING_F_EVENT_IDX: false,
                  VIRTIO_NET_F_MRG_RXBUF: true,
                  VIRTIO_NET_F_CSUM: false,
                  VIRTIO_NET_F_RSS: true,
                },
                tapQueueLength: 5,
                tag: 0,
                trunks: [1],
                vlanMode: 'native-tagged',
              },
            ],
          },
        ],
      },
      { name: 'right', nics: [{ name: 'eth0' }] },
    ],
    links: [{ name: 'wire', ends: ['right/eth0', 'left/eth0'], rate: '1Gbps', latency: '1.5us', loss: 0.01 }],
  });
  const features: Record<string, boolean> = {
    ...on(DEFAULT_ON, true),
    ...on(DEFAULT_OFF, false),
    ...on(net('MQ', 'MTU', 'SPEED_DUPLEX', 'RSS'), true),
    VIRTIO_F_VERSION_1: true,
    VIRTIO_F_ACCESS_PLATFORM: false,
    VIRTIO_F_RING_PACKED: true,
    VIRTIO_F_NOTIFY_ON_EMPTY: true,
    VIRTIO_F_ANY_LAYOUT: true,
    ...on(net('STATUS', 'CSUM', 'HOST_TSO4', 'HOST_TSO6', 'HOST_ECN', 'HOST_UFO', 'GSO'), false),
    VIRTIO_RING_F_EVENT_IDX: false,
  };
  expect(topology).toEqual({
    name: 't',
    seed: 7,
    epochNs: '1767225600250000000',
    clock: 'real',
    clockFactor: 0.5,
    eventCapacity: 8192,
    byteCapacity: 65536,
    recordDescriptors: false,
    debug: true,
    costProfile: { name: 'haswell-2.4', costs: costTable({}) },
    costs: { a: 2, z: 1.5 },
    hosts: [
      {
        name: 'left',
        cores: 8,
        hugepages: { '2MiB': 600, '1GiB': 0, socketMem: 2 ** 29 },
        iommu: true,
        vhostPacketWeight: 0,
        ovs: { ovsdbPort: 6640, otherConfig: { 'max-idle': '5000' }, dummy: true, outputBatching: false },
        bridges: [
          {
            name: 'ovs',
            datapath: 'netdev',
            macTableSize: 16,
            macAgingSeconds: 20,
            userspaceTso: true,
            pmds: 3,
            failMode: 'secure',
            ports: [
              { name: 'int0', type: 'internal', peer: null, ofport: null, tag: 5, trunks: [], vlanMode: null },
              { name: 'D_1', type: 'dummy', peer: null, ofport: 9, tag: null, trunks: [], vlanMode: null },
              { name: 'to-x', type: 'patch', peer: 'x', ofport: null, tag: null, trunks: [2, 7], vlanMode: null },
            ],
            bonds: [
              {
                name: 'bond0',
                interfaces: ['D_1', 'int0'],
                mode: 'active-backup',
                tag: null,
                trunks: [],
                vlanMode: 'trunk',
              },
            ],
            mirrors: [
              {
                name: 'm',
                selectAll: true,
                selectSrcPort: [],
                selectDstPort: [],
                selectVlan: [3],
                outputPort: 'int0',
                outputVlan: null,
              },
            ],
            flows: ['actions=drop'],
            controllers: ['tcp:127.0.0.1:6653'],
            protocols: ['OpenFlow10', 'OpenFlow13'],
            otherConfig: { 'flow-limit': '9', hwaddr: '02:00:00:00:00:09' },
            openflowPort: 6653,
          },
        ],
        nics: [
          {
            name: 'eth0',
            speed: 2.5e9,
            bridge: 'ovs',
            queues: 4,
            rxRing: 64,
            txRing: 128,
            maxFramesPerSecond: 12_500_000,
            offloads: { txChecksum: false, rxChecksum: true, tso: false, gro: true, lro: true },
            plugged: false,
            tag: 4,
            trunks: [],
            vlanMode: null,
          },
        ],
        guests: [
          {
            name: 'vm',
            vmm: 'qemu',
            vcpus: 2,
            memory: 8 * 2 ** 20,
            app: 'io',
            haltPollNs: 50_000,
            postedInterrupts: true,
            iommu: null,
            hugepages: '4KiB',
            dpdk: { hugepages: '2MiB', mempool: 700 },
            nics: [
              {
                name: 'p0',
                bridge: 'ovs',
                backend: 'vhost-user',
                driver: 'virtio-pmd',
                mac: [2, 0, 0, 0, 0, 0xab],
                addresses: [
                  { ip: 0x0a010001, prefix: 16 },
                  { ip: 0x0a020001, prefix: 16 },
                ],
                addresses6: [{ ip: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], prefix: 64 }],
                queueSize: 100,
                queuePairs: 2,
                packed: true,
                transport: 'pci-transitional',
                vectors: 3,
                mtu: 9000,
                speed: 10_000,
                duplex: 'full',
                coalescing: null,
                ioeventfd: true,
                tx: 'bh',
                txTimer: 20_000,
                pollUs: 0,
                vhostUser: null,
                features,
                tapQueueLength: 5,
                plugged: true,
                tag: 0,
                trunks: [1],
                vlanMode: 'native-tagged',
              },
            ],
          },
        ],
      },
      expect.objectContaining({ name: 'right', guests: [] }),
    ],
    links: [
      {
        name: 'wire',
        ends: [
          { host: 'right', nic: 'eth0' },
          { host: 'left', nic: 'eth0' },
        ],
        rate: 1e9,
        latencyNs: 1500,
        loss: 0.01,
      },
    ],
  });
  expect(Object.keys(topology.costs)).toEqual(['a', 'z']);
  expect(document.epoch).toBe('2026-01-01T00:00:00.25Z');
  expect(documentOf(topology)).toEqual(document);
  expect(parsed(document).topology).toEqual(topology);
});

describe('names', () => {
  test('from the path, from the document, or the same in both', () => {
    expect(parsed({ hosts: [{}] }, { name: 'p' }).topology.name).toBe('p');
    expect(parsed({ name: 'd', hosts: [{}] }, {}).topology.name).toBe('d');
    expect(parsed({ name: 'd', hosts: [{}] }, { name: 'd' }).topology.name).toBe('d');
  });
  test('none at all, and a path that is no name', () => {
    expect(parseTopology({ hosts: [{}] })).toMatchObject({
      ok: false,
      faults: [{ pointer: '', code: 'missing-field' }],
    });
    expect(parseTopology({ hosts: [{}] }, { name: 'No Name' })).toMatchObject({
      ok: false,
      faults: [{ pointer: '', code: 'bad-name' }],
    });
  });
});

describe('equal documents', () => {
  test('what means the same is equal', () => {
    const a = parsed({ hosts: [{ guests: [{ memory: '16MiB', name: 'a' }] }] });
    const b = parsed({ seed: 1, hosts: [{ name: 'h1', guests: [{ name: 'a', memory: 16_777_216 }] }], links: [] });
    expect(equalDocuments(a.document, b.document)).toBe(true);
    expect(equalDocuments(a.document, JSON.parse(JSON.stringify(b.document)) as TopologyDocument)).toBe(true);
  });
  test('what differs is not', () => {
    const a = parsed({ hosts: [{ guests: [guest('a'), guest('b')] }] });
    for (const other of [
      { hosts: [{ guests: [guest('b'), guest('a')] }] },
      { hosts: [{ guests: [guest('a')] }] },
      { hosts: [{ guests: [guest('a'), guest('b')] }], seed: 2 },
      { hosts: [{ guests: [guest('a'), guest('b')] }], costs: { x: 1 } },
    ])
      expect(equalDocuments(a.document, parsed(other).document)).toBe(false);
  });
  test('the order of fields does not matter', () => {
    expect(equalDocuments({ seed: 1, hosts: [] }, { hosts: [], seed: 1 })).toBe(true);
    expect(equalDocuments({ hosts: [] }, { hosts: [], seed: 1 })).toBe(false);
  });
});

describe('text', () => {
  const fault = (text: string, format: 'json' | 'yaml'): object | undefined => {
    const result = parseDocumentText(text, format);
    return result.ok ? undefined : result.faults[0];
  };
  test('JSON and YAML of one document', () => {
    const json = parseDocumentText('{"hosts":[{"guests":[{"name":"no","memory":"16MiB"}]}]}', 'json');
    const yaml = parseDocumentText('# two lines\nhosts:\n- guests:\n  - {name: no, memory: 16MiB}\n', 'yaml');
    expect(yaml).toEqual(json);
    expect(yaml).toMatchObject({ ok: true, document: { hosts: [{ guests: [{ name: 'no' }] }] } });
  });
  test('times, MAC addresses and numbers are what they look like in YAML', () => {
    const yaml = 'epoch: 2026-01-01T00:00:00Z\nmac: 52:54:00:00:00:01\nseed: 7\nlatency: 10us\n';
    expect(parseDocumentText(yaml, 'yaml')).toEqual({
      ok: true,
      document: { epoch: '2026-01-01T00:00:00Z', mac: '52:54:00:00:00:01', seed: 7, latency: '10us' },
    });
  });
  test('anchors are fine in moderation', () => {
    expect(parseDocumentText('a: &x {b: 1}\nc: *x\n', 'yaml')).toEqual({
      ok: true,
      document: { a: { b: 1 }, c: { b: 1 } },
    });
  });
  test.each<[string, number, number]>([
    ['', 1, 1],
    ['{', 1, 2],
    ['{"a":1,}', 1, 8],
    ['{"a":[1,2\n, 3}', 2, 4],
    ['[1 2]', 1, 4],
    ['nul', 1, 1],
    ['{"a"\n:01}', 2, 2],
    ['[[1]]]', 1, 6],
    ['{"a":"x\ty"}', 1, 6],
    ['{"a":1}\n\n  x', 3, 3],
    ['{a: 1}', 1, 2],
    ['[,]', 1, 2],
    ['{"a":}', 1, 6],
    ['{"a" 1}', 1, 6],
    ['[1}', 1, 3],
  ])('JSON error in %j', (text, line, column) => {
    expect(() => JSON.parse(text) as unknown).toThrow();
    expect(fault(text, 'json')).toMatchObject({ pointer: '', code: 'syntax', line, column });
  });
  test.each<[string, string, number, number]>([
    ['a: [', 'syntax', 1, 5],
    ['\tx: 1', 'syntax', 1, 1],
    ['a: 1\nb: {c: 1, c: 2}', 'duplicate-key', 2, 11],
    ['--- a\n--- b', 'syntax', 2, 1],
    ['? [a]\n: 1', 'syntax', 1, 3],
    ['a: "\\x"', 'syntax', 1, 5],
  ])('YAML error in %j', (text, code, line, column) => {
    expect(fault(text, 'yaml')).toMatchObject({ pointer: '', code, line, column });
  });
  test('bombs', () => {
    let laughs = 'a0: &a0 [x,x,x,x,x,x,x,x]\n';
    for (let i = 1; i < 20; i++)
      laughs += `a${i}: &a${i} [${Array(8)
        .fill(`*a${i - 1}`)
        .join(',')}]\n`;
    expect(fault(laughs, 'yaml')).toMatchObject({
      code: 'syntax',
      detail: expect.stringContaining('aliases') as string,
    });
    expect(fault('*x', 'yaml')).toMatchObject({ code: 'syntax' });
    for (const unit of ['[', '{', '- ', 'a: ', '"', '? ', '&a ', '!t ', 'k: v\n', '[a,', '%X\n', '- a\n']) {
      const start = performance.now();
      parseDocumentText(unit.repeat(MAX_TEXT_LENGTH.yaml / unit.length), 'yaml');
      expect(performance.now() - start, JSON.stringify(unit)).toBeLessThan(5000);
    }
    expect(fault('['.repeat(100_000), 'yaml')).toMatchObject({ detail: expect.stringContaining('deep') as string });
    expect(fault('['.repeat(1_000_000), 'json')).toMatchObject({ code: 'syntax', column: 1_000_001 });
    expect(fault(' '.repeat(MAX_TEXT_LENGTH.json + 1), 'json')).toMatchObject({ code: 'too-large' });
    expect(fault(' '.repeat(MAX_TEXT_LENGTH.yaml + 1), 'yaml')).toMatchObject({ code: 'too-large' });
  });
});
