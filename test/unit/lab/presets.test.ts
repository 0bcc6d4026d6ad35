import { describe, expect, test } from 'vitest';
import { costTable } from '../../../src/engine/costs.ts';
import { equalDocuments, parseTopology } from '../../../src/lab/document.ts';
import { engineVersion } from '../../../src/lab/job/engine-version.ts';
import { runJob } from '../../../src/lab/job/run-job.ts';
import { PRESETS } from '../../../src/lab/presets.ts';
import type { Topology } from '../../../src/lab/topology.ts';

function topology(name: string): Topology {
  const preset = PRESETS.find((p) => p.name === name);
  const parsed = parseTopology(preset?.document, { name: 't' });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  return parsed.topology;
}

test('the list', () => {
  expect(PRESETS.map((p) => p.name)).toEqual([
    'virtio-net',
    'vhost-net',
    'vhost-user',
    'compare',
    'pvp',
    'pvp-kernel',
    'pvvp',
    'pvvp-kernel',
    'p2p',
    'p2p-kernel',
    'viommu',
    'stratovirt',
    'two-hosts',
  ]);
});

describe.each(PRESETS.map((p) => p.name))('%s', (name) => {
  test('is valid under any name, and its complete form is too and means the same', () => {
    const preset = PRESETS.find((p) => p.name === name);
    const first = parseTopology(preset?.document, { name: 'any' });
    if (!first.ok) throw new Error(JSON.stringify(first.faults));
    const second = parseTopology(first.document, { name: 'any' });
    if (!second.ok) throw new Error(JSON.stringify(second.faults));
    expect(second.topology).toEqual(first.topology);
    expect(equalDocuments(first.document, second.document)).toBe(true);
  });
  test('is plain JSON', () => {
    const preset = PRESETS.find((p) => p.name === name);
    expect(JSON.parse(JSON.stringify(preset?.document))).toEqual(preset?.document);
    expect(preset?.summary).not.toBe('');
  });
});

test.each([
  ['virtio-net', 'system', 'virtio-net'],
  ['vhost-net', 'system', 'virtio-net'],
  ['vhost-user', 'netdev', 'virtio-pmd'],
])('%s: guests a and b', (name, datapath, driver) => {
  const [host] = topology(name).hosts;
  expect(host?.bridges.map((b) => b.datapath)).toEqual([datapath]);
  expect(
    host?.guests.map((g) => [g.name, ...g.nics.map((n) => [n.name, n.backend, n.driver, n.addresses, n.mac])]),
  ).toEqual([
    ['a', ['net0', name, driver, [{ ip: 0x0a000001, prefix: 24 }], [0x52, 0x54, 0, 0, 0, 1]]],
    ['b', ['net0', name, driver, [{ ip: 0x0a000002, prefix: 24 }], [0x52, 0x54, 0, 0, 0, 2]]],
  ]);
});
test('compare: six guests in their order, on one host with both datapaths', () => {
  const { hosts } = topology('compare');
  expect(hosts).toHaveLength(1);
  const [host] = hosts;
  expect(host?.bridges.map((b) => b.datapath)).toEqual(['system', 'netdev']);
  expect(host?.cores).toBe(16);
  expect(host?.guests.map((g) => g.name)).toEqual([
    'virtio-net-a',
    'virtio-net-b',
    'vhost-net-a',
    'vhost-net-b',
    'vhost-user-a',
    'vhost-user-b',
  ]);
  for (const guest of host?.guests ?? []) expect(guest.name.startsWith(guest.nics[0]?.backend ?? '?')).toBe(true);
});
test('pvp: a NIC and a forwarding guest on a netdev bridge', () => {
  const [host] = topology('pvp').hosts;
  expect(host?.nics.map((n) => [n.name, n.bridge, n.speed])).toEqual([['eth0', 'br0', 25e9]]);
  expect(host?.guests.map((g) => [g.name, g.app, g.nics[0]?.driver])).toEqual([['a', 'macswap', 'virtio-pmd']]);
});
test('pvp-kernel: the same guest behind a vhost worker and a kernel bridge', () => {
  const [host] = topology('pvp-kernel').hosts;
  expect(host?.bridges.map((b) => b.datapath)).toEqual(['system']);
  expect(host?.guests.map((g) => [g.app, g.nics[0]?.backend, g.nics[0]?.driver])).toEqual([
    ['macswap', 'vhost-net', 'virtio-pmd'],
  ]);
});
/** Frames that arrive, of 64 that a tester sends slowly, and those that end elsewhere. */
function arrived(preset: string, from: string, to: string): [number, number] {
  const { document } = PRESETS.find((p) => p.name === preset)!;
  const { runs } = runJob({
    engine: engineVersion(),
    document,
    profile: { name: 'default', costs: costTable({}) },
    traffic: [{ kind: 'udp', from, to, count: 64, rate: 10_000 }],
    maxEvents: 1_000_000,
  });
  return [runs[0]!.received, runs[0]!.elsewhere];
}
test.each(['p2p', 'p2p-kernel', 'pvvp', 'pvvp-kernel'])(
  '%s: every frame goes from wire to wire, both ways, and nowhere else',
  (name) => {
    expect(arrived(name, 'eth0', 'eth1')).toEqual([64, 0]);
    expect(arrived(name, 'eth1', 'eth0')).toEqual([64, 0]);
  },
);
test.each(['pvp', 'pvp-kernel'])('%s: every frame comes back', (name) => {
  expect(arrived(name, 'eth0', 'eth0')[0]).toBe(64);
});
test('stratovirt: two microVMs for each backend', () => {
  const [host] = topology('stratovirt').hosts;
  expect(host?.guests.map((g) => [g.vmm, ...g.nics.map((n) => `${n.backend} ${n.transport} ${n.driver}`)])).toEqual(
    ['virtio-net', 'vhost-net', 'vhost-user'].flatMap((backend) =>
      [1, 2].map(() => ['stratovirt', `${backend} mmio virtio-net`]),
    ),
  );
});
test('two-hosts: a guest on each, a bridge of each kind, a cable', () => {
  const { hosts, links } = topology('two-hosts');
  expect(hosts.map((h) => [h.name, h.bridges[0]?.datapath, h.nics[0]?.name, h.guests[0]?.name])).toEqual([
    ['h1', 'system', 'eth0', 'a'],
    ['h2', 'linux', 'eth0', 'b'],
  ]);
  expect(links.map((l) => [l.name, ...l.ends.map((e) => `${e.host}/${e.nic}`), l.rate])).toEqual([
    ['cable', 'h1/eth0', 'h2/eth0', 25e9],
  ]);
});
