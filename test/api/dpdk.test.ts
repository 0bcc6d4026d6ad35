/** The DPDK program of a guest by the API: what it has, what it counts, what it changes of its ports. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const T = '/v1/topologies/t1';
const NIC = `${T}/guests/a/nics/net0`;
async function boot(nic: object = {}, guest: object = {}): Promise<TestServer> {
  const server = await startServer({ engine: null });
  const guests = ['a', 'b'].map((name, i) => ({
    name,
    nics: [{ name: 'net0', backend: 'vhost-user', driver: 'virtio-pmd', addresses: [`10.0.0.${i + 1}/24`], ...nic }],
    ...guest,
  }));
  const hosts = [{ bridges: [{ name: 'br0' }, { name: 'br1', datapath: 'netdev' }], guests }];
  const created = await server.put(T, { recorder: { events: 65_536, bytes: '4MiB' }, hosts });
  assert.equal(created.body.state, 'RUNNING', created.text);
  return server;
}

test('the program of a guest', async () => {
  const server = await boot();
  const { status, body, text } = await server.get(`${T}/guests/a/dpdk`);
  assert.equal(status, 200, text);
  assert.equal(body.app, 'stack');
  assert.equal(body.iovaMode, 'pa');
  assert.equal(body.iommu, 'noiommu');
  assert.deepEqual([body.hugepages.size, body.hugepages.pages], ['2MiB', 1]);
  assert.deepEqual(body.memsegs, [
    { virtual: '0x100000000', physical: '0x200000', iova: '0x200000', bytes: 2_097_152 },
  ]);
  assert.deepEqual(body.vfio.groups, ['/dev/vfio/noiommu-0']);
  assert.deepEqual(
    body.vfio.descriptors.map((d: { file: string }) => d.file),
    [
      '/dev/vfio/vfio',
      '/dev/vfio/noiommu-0',
      'anon_inode:[vfio-device]',
      'anon_inode:[eventfd]',
      'anon_inode:[eventfd]',
    ],
  );
  // rings of 256, and two bursts of 32
  assert.deepEqual(body.mempool, { mbufs: 576, free: 320, mbufBytes: 2048 });
  assert.deepEqual(body.lcores, [{ lcore: 0, vcpu: 'a/vcpu0', core: 6, queues: ['a/net0/rx0', 'a/net0/tx0'] }]);
});

test('statistics have DPDK’s names, and count what passed', async () => {
  const server = await boot();
  const run = await server.post(`${T}/traffic`, {
    kind: 'udp',
    from: 'a/net0',
    to: 'b/net0',
    count: 100,
    frameSize: 128,
  });
  await server.get(`${T}/traffic/${run.body.id}?wait=20s`);
  const of = async (guest: string) => (await server.get(`${T}/guests/${guest}/nics/net0/xstats`)).body.xstats;
  const [a, b] = [await of('a'), await of('b')];
  // and the ARP exchange: a request of 60 bytes that is broadcast, and its answer
  assert.equal(a.tx_good_packets, 101);
  assert.equal(a.tx_good_bytes, 100 * 124 + 60);
  assert.equal(a.tx_q0_size_65_127_packets, 100);
  assert.equal(a.tx_q0_broadcast_packets, 1);
  assert.equal(b.rx_good_packets, 101);
  assert.equal(b.rx_q0_good_bytes, a.tx_q0_good_bytes);
  assert.equal(b.rx_q0_undersize_packets, 1);
  assert.equal(b.rx_mbuf_allocation_errors, 0);
  assert.deepEqual(Object.keys(a).slice(0, 15), [
    'rx_good_packets',
    'tx_good_packets',
    'rx_good_bytes',
    'tx_good_bytes',
    'rx_missed_errors',
    'rx_errors',
    'tx_errors',
    'rx_mbuf_allocation_errors',
    'rx_q0_packets',
    'rx_q0_bytes',
    'rx_q0_errors',
    'tx_q0_packets',
    'tx_q0_bytes',
    'rx_q0_good_packets',
    'rx_q0_good_bytes',
  ]);
});

test('a port changes its filters', async () => {
  const server = await boot({ backend: 'virtio-net' });
  const first = await server.get(`${NIC}/driver`);
  assert.deepEqual(first.body, {
    guest: 'a',
    nic: 'net0',
    promiscuous: true,
    allmulticast: false,
    macAddrs: [],
    vlanFilter: [],
    failed: 0,
    done: true,
  });
  const change = { promiscuous: false, allmulticast: true, macAddrs: ['02:00:00:00:00:09'], vlanFilter: [7, 100] };
  const changed = await server.post(`${NIC}/driver`, change);
  assert.equal(changed.status, 200, changed.text);
  assert.deepEqual(changed.body, { ...first.body, ...change });
  const { filter } = (await server.get(NIC)).body.control;
  assert.deepEqual([filter.promisc, filter.allmulti, filter.vlans], [false, true, [7, 100]]);
  // virtio_mac_addr_add() sends the free entries of its table, too
  assert.equal(filter.unicast.length, 64);
  assert.deepEqual(filter.unicast.slice(0, 3), ['52:54:00:00:00:01', '02:00:00:00:00:09', '00:00:00:00:00:00']);
  const back = await server.post(`${NIC}/driver`, { macAddrs: [], vlanFilter: [100] });
  assert.deepEqual([back.body.macAddrs, back.body.vlanFilter, back.body.failed], [[], [100], 0]);
  const after = (await server.get(NIC)).body.control.filter;
  assert.deepEqual([after.unicast, after.vlans], [['52:54:00:00:00:01'], [100]]);
});

test('who has no DPDK program says so, and so does one without the feature', async () => {
  const kernel = await boot({ backend: 'vhost-net', driver: 'virtio-net' });
  for (const path of [`${T}/guests/a/dpdk`, `${NIC}/xstats`, `${NIC}/driver`]) {
    const answer = await kernel.get(path);
    assert.equal(answer.status, 409, answer.text);
    assert.match(answer.body.detail, /virtio-pmd/);
  }
  assert.equal((await kernel.post(`${NIC}/driver`, { promiscuous: true })).status, 409);
  const bare = await boot({ backend: 'virtio-net', features: { VIRTIO_NET_F_CTRL_VLAN: false } });
  const refused = await bare.post(`${NIC}/driver`, { vlanFilter: [1] });
  assert.equal(refused.status, 409, refused.text);
  assert.match(refused.body.detail, /VIRTIO_NET_F_CTRL_VLAN/);
});

test('requests that make no sense name the field', async () => {
  const server = await boot({ backend: 'virtio-net' });
  for (const [body, pointer] of [
    [{}, ''],
    [{ promiscuous: 1 }, '/promiscuous'],
    [{ macAddrs: ['1:2:3'] }, '/macAddrs/0'],
    [{ macAddrs: ['00:00:00:00:00:00'] }, '/macAddrs/0'],
    [{ vlanFilter: [4096] }, '/vlanFilter/0'],
    [{ vlan: [1] }, '/vlan'],
  ] as const) {
    const answer = await server.post(`${NIC}/driver`, body);
    assert.equal(answer.status, 422, JSON.stringify(body) + answer.text);
    assert.equal(answer.body.errors[0].pointer, pointer, answer.text);
  }
  assert.equal((await server.get(`${T}/guests/a/nics/nope/xstats`)).status, 404);
});

test('a host: hugepages with who has them, and Open vSwitch with DPDK', async () => {
  const server = await startServer({ engine: null });
  const guests = [{ name: 'a', nics: [{ name: 'net0', backend: 'vhost-user', driver: 'virtio-pmd' }] }];
  const host = {
    iommu: true,
    hugepages: { '2MiB': 100, socketMem: '128MiB' },
    bridges: [{ name: 'br0', datapath: 'netdev' }],
    nics: [{ name: 'eth0' }],
    guests,
  };
  assert.equal((await server.put(T, { recorder: { events: 65_536, bytes: '4MiB' }, hosts: [host] })).status, 201);
  const { body, text } = await server.get(`${T}/hosts/h1/dpdk`);
  const users = [
    { who: 'Open vSwitch', pages: 64 },
    { who: 'guest a', pages: 8 },
  ];
  assert.deepEqual(
    body.hugepages,
    [
      { size: '2MiB', total: 100, used: 72, free: 28, users },
      { size: '1GiB', total: 0, used: 0, free: 0, users: [] },
    ],
    text,
  );
  // each page is mapped for eth0; the pool was halved until it fitted
  assert.deepEqual([body.dpdk.iommu, body.dpdk.iovaMode, body.dpdk.dmaMaps], ['type1', 'va', 64]);
  assert.deepEqual(body.dpdk.mempools, [
    { mtu: 1500, mbufs: 32_768, mbufBytes: 2848, ring: 'MP_ovs0', ringEntries: 65_536 },
  ]);
  assert.deepEqual(body.dpdk.lcores, [{ name: 'pmd-c07', core: 7, rxqs: 2 }]);
  assert.deepEqual(body.dpdk.ports, [{ nic: 'eth0', driver: 'vfio-pci', pci: '0000:03:00.0', group: '/dev/vfio/20' }]);
  assert.equal((await server.get(`${T}/hosts/h2/dpdk`)).status, 404);
  const metrics = await server.get('/metrics');
  assert.match(metrics.text, /ringside_dpdk_heap_bytes_total\{[^}]*place="br0"[^}]*\} 134217728/);
  const short = { ...host, hugepages: { '2MiB': 70, socketMem: '128MiB' } };
  const refused = await server.put('/v1/topologies/t2', { hosts: [short] });
  assert.equal(refused.status, 422);
  assert.equal(refused.body.errors[0].code, 'not-enough-hugepages');
  assert.match(
    refused.body.errors[0].detail,
    /guest a asks for 8 pages of 2MiB .* 6 of 70 are left: Open vSwitch has 64/,
  );
});
