/**
 * Whatever clients write into a host's database, ovs-vswitchd carries out what it can, the world lives and every frame is accounted
 * for; and a world that begins with those rows stands as well.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { buildMachine } from '../../src/lab/builder.ts';
import { parseTopology } from '../../src/lab/document.ts';
import { conservation } from '../../src/lab/inspect.ts';
import type { SavedDatabases } from '../../src/lab/ovs/start.ts';
import { Refusal } from '../../src/lab/refusal.ts';
import { World } from '../../src/lab/world.ts';
import type { Database } from '../../src/machine/ovs/ovsdb/database.ts';
import type { Json, JsonObject } from '../../src/machine/ovs/ovsdb/json.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);

function worldOf(netdev: boolean, plugged: boolean, saved: SavedDatabases = {}): World {
  const backend = netdev ? { backend: 'vhost-user' } : {};
  const guest = (name: string, n: number, more: object): object => ({
    name,
    nics: [{ name: 'net0', addresses: [`10.0.0.${n}/24`], ...backend, ...more }],
  });
  const br0 = { name: 'br0', ports: [{ name: 'd0' }, { name: 'i0', type: 'internal' }] };
  const host = {
    name: 'h1',
    cores: 12,
    ovs: { dummy: plugged },
    nics: [{ name: 'eth0', bridge: 'br0' }],
    bridges: [netdev ? { ...br0, datapath: 'netdev' } : br0, { name: 'br1' }],
    guests: [guest('a', 1, {}), guest('b', 2, { plugged })],
  };
  const parsed = parseTopology({ name: 't', hosts: [host] });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  return new World(parsed.topology, buildMachine(parsed.topology, null, saved));
}

const NAMES = ['br0', 'br1', 'br2', 'a.net0', 'b.net0', 'd0', 'd1', 'i0', 'eth0', 'x/../y', 'p'.repeat(40)];
const TYPES = [
  '',
  'system',
  'internal',
  'patch',
  'dummy',
  'tap',
  'dpdk',
  'dpdkvhostuser',
  'dpdkvhostuserclient',
  'gre',
];
const name = fc.constantFrom(...NAMES);
const of = (keys: readonly string[], values: readonly string[]): fc.Arbitrary<Json> =>
  fc.tuple(fc.constantFrom(...keys), fc.constantFrom(...values)).map(([key, value]): Json => ['map', [[key, value]]]);
const options = of(['peer', 'dpdk-devargs', 'n_rxq'], ['d1', '', 'br0', '0000:03:00.0']);
const column = (columns: { readonly [name: string]: fc.Arbitrary<Json> }): fc.Arbitrary<JsonObject> =>
  fc.oneof(...Object.entries(columns).map(([key, value]) => value.map((json): JsonObject => ({ [key]: json }))));
const amount = fc.constantFrom<Json>(0, 1, 1500, 2 ** 40, 2 ** 52);

const ROWS = {
  Interface: column({
    type: fc.constantFrom<Json>(...TYPES),
    options,
    ofport_request: fc.integer({ min: 1, max: 5 }),
    mtu_request: fc.constantFrom<Json>(1, 60, 9000, 2 ** 40),
    ingress_policing_rate: amount,
    ingress_policing_burst: amount,
    ingress_policing_kpkts_rate: amount,
    mac: fc.constantFrom<Json>('zz', '02:00:00:00:00:09', 'ff:ff:ff:ff:ff:ff'),
    other_config: of(['pmd-rxq-affinity'], ['0:1,1:99999999999', ':::']),
  }),
  Port: column({
    tag: fc.nat(4095),
    vlan_mode: fc.constantFrom<Json>('dot1q-tunnel', 'native-tagged'),
    bond_mode: fc.constantFrom<Json>('balance-tcp', 'balance-slb'),
    bond_updelay: fc.constantFrom<Json>(-5, 2 ** 40),
    other_config: of(['bond-primary', 'priority-tags'], ['zz', 'always']),
  }),
  Bridge: column({
    datapath_type: fc.constantFrom<Json>('', 'netdev', 'system', 'other'),
    fail_mode: fc.constantFrom<Json>('secure', 'standalone'),
    other_config: of(
      ['mac-table-size', 'mac-aging-time', 'hwaddr', 'datapath-id'],
      ['0', '-7', '9'.repeat(400), '0x1'],
    ),
  }),
  Open_vSwitch: column({
    other_config: of(
      ['pmd-cpu-mask', 'pmd-rxq-assign', 'tx-flush-interval', 'max-idle', 'flow-limit', 'emc-insert-inv-prob'],
      ['0', '0xf', 'f'.repeat(300), '-1', 'group', '', '1'],
    ),
  }),
};
type Change = (db: Database) => Json[];
const named = (table: string, of: string): Json => (table === 'Open_vSwitch' ? [] : [['name', '==', of]]);
const update = fc.constantFrom(...(Object.keys(ROWS) as (keyof typeof ROWS)[])).chain((table) =>
  fc.tuple(name, ROWS[table]).map(
    ([which, row]): Change =>
      () => [{ op: 'update', table, where: named(table, which), row }],
  ),
);
const addPort = fc.tuple(name, name, name, fc.constantFrom(...TYPES), options).map(
  ([bridge, port, iface, type, more]): Change =>
    () => [
      { op: 'insert', table: 'Interface', 'uuid-name': 'i', row: { name: iface, type, options: more } },
      { op: 'insert', table: 'Port', 'uuid-name': 'p', row: { name: port, interfaces: ['named-uuid', 'i'] } },
      {
        op: 'mutate',
        table: 'Bridge',
        where: named('Bridge', bridge),
        mutations: [['ports', 'insert', ['named-uuid', 'p']]],
      },
    ],
);
const addBridge = fc.tuple(name, name, fc.constantFrom('', 'netdev')).map(
  ([bridge, iface, type]): Change =>
    () => [
      { op: 'insert', table: 'Interface', 'uuid-name': 'i', row: { name: iface, type: 'internal' } },
      { op: 'insert', table: 'Port', 'uuid-name': 'p', row: { name: iface, interfaces: ['named-uuid', 'i'] } },
      {
        op: 'insert',
        table: 'Bridge',
        'uuid-name': 'b',
        row: { name: bridge, ports: ['named-uuid', 'p'], datapath_type: type },
      },
      { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['bridges', 'insert', ['named-uuid', 'b']]] },
    ],
);
/** A row that is there is named by another one as well, or by it no more. */
const refer = fc
  .tuple(
    fc.constantFrom(['Bridge', 'ports', 'Port'] as const, ['Port', 'interfaces', 'Interface'] as const),
    fc.constantFrom('insert', 'delete'),
    fc.constantFrom('br0', 'br1', 'a.net0', 'd0'),
    fc.constantFrom('a.net0', 'b.net0', 'd0', 'eth0'),
  )
  .map(
    ([[table, refers, to], mutator, which, target]): Change =>
      (db) => {
        const row = db.find(to, 'name', target);
        if (row === undefined) return [];
        return [
          { op: 'mutate', table, where: named(table, which), mutations: [[refers, mutator, ['uuid', row.uuid]]] },
        ];
      },
  );
const removeBridge = name.map(
  (which): Change =>
    (db) => {
      const row = db.find('Bridge', 'name', which);
      if (row === undefined) return [];
      return [
        { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['bridges', 'delete', ['uuid', row.uuid]]] },
      ];
    },
);
const change = fc.oneof(addPort, addBridge, update, refer, refer, removeBridge);

function settle(world: World): void {
  for (let i = 0; i < 1000 && world.turn(50) === 0; i++);
  expect(world.failed).toBeNull();
  expect(conservation(world.machine).holds).toBe(true);
}
/** The lab takes a device away and brings another one, if the bridge that it was on is still one that can have it. */
function rewire(world: World, i: number): void {
  const nic = world.machine.guests[i % 2]!.nics[0]!;
  const backend = nic.document.backend === 'vhost-net' ? 'virtio-net' : 'vhost-net';
  try {
    world.migrate(nic, { backend, bridge: 'br0' });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
  }
  expect(world.failed).toBeNull();
}
const ping = { kind: 'ping', from: 'a/net0', to: 'b/net0', frameSize: 98, count: 1, rate: 0, flows: 1 } as const;

test('worlds outlive what is written into their databases', () => {
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.boolean(),
      fc.array(change, { minLength: 5, maxLength: 40 }),
      (netdev, plugged, list) => {
        const world = worldOf(netdev, plugged);
        const [ovs] = world.machine.ovs;
        for (const [i, make] of list.entries()) {
          const operations = make(ovs!.db);
          world.door(ovs!).act('ovsdb transact', 'test', () => ovs!.db.transact(operations));
          expect(world.failed).toBeNull();
          if (i % 5 === 4) rewire(world, i);
          if (i % 10 !== 9) continue;
          world.startTraffic({ ...ping, id: `run-${i}`, generator: null });
          settle(world);
          world.status();
        }
        ovs!.vswitchd.refreshStatistics();
        settle(worldOf(netdev, plugged, { h1: ovs!.db.toJson() }));
      },
    ),
    { seed, numRuns: full ? 2000 : 60 },
  );
});
