/** The database as ovs-vswitchd uses it: edits, listeners, what is kept. */
import { expect, test } from 'vitest';
import { RandomStream } from '../../../../../src/engine/random.ts';
import { type Commit, Database } from '../../../../../src/machine/ovs/ovsdb/database.ts';
import type { Json, JsonObject } from '../../../../../src/machine/ovs/ovsdb/json.ts';
import { readSchema } from '../../../../../src/machine/ovs/ovsdb/schema/notation.ts';
import { OPEN_VSWITCH } from '../../../../../src/machine/ovs/ovsdb/schema/open-vswitch.ts';
import { schemaToJson } from '../../../../../src/machine/ovs/ovsdb/schema/types.ts';

const make = (seed = 1, schema = OPEN_VSWITCH): Database => new Database(schema, new RandomStream(seed, 'ovsdb'));

/** A switch with one bridge, and its rows' UUIDs. */
function withBridge(database: Database): { root: string; bridge: string; port: string; iface: string } {
  const ids = { root: '', bridge: '', port: '', iface: '' };
  const refused = database.edit((edit) => {
    ids.iface = edit.insert('Interface', { name: 'br0', type: 'internal' });
    ids.port = edit.insert('Port', { name: 'br0', interfaces: [ids.iface] });
    ids.bridge = edit.insert('Bridge', { name: 'br0', ports: [ids.port] });
    ids.root = edit.insert('Open_vSwitch', { bridges: [ids.bridge] });
  });
  expect(refused).toBeNull();
  return ids;
}

test('the schema is the one of Open vSwitch 3.1: 19 tables, 14,758 characters', () => {
  const json = schemaToJson(OPEN_VSWITCH);
  expect(json['version']).toBe('8.3.1');
  expect(Object.keys(json['tables']!)).toHaveLength(19);
  expect(JSON.stringify(json)).toHaveLength(14_758);
});

test('rows are read by column, as what they hold', () => {
  const database = make();
  const { bridge, port, iface } = withBridge(database);
  database.edit((edit) => {
    edit.update('Bridge', bridge, {
      fail_mode: 'secure',
      flood_vlans: [30, 10, 20, 10],
      other_config: { b: '2', a: '1' },
    });
    edit.update('Interface', iface, { ofport: 65534, statistics: new Map([['rx_packets', 5]]) });
  });
  const row = database.row('Bridge', bridge)!;
  expect(row.text('name')).toBe('br0');
  expect(row.texts('ports')).toEqual([port]);
  expect(row.text('fail_mode')).toBe('secure');
  expect(row.integers('flood_vlans')).toEqual([10, 20, 30]);
  expect([...row.textMap('other_config')]).toEqual([
    ['a', '1'],
    ['b', '2'],
  ]);
  expect(row.flag('stp_enable')).toBe(false);
  expect(row.textOrNull('datapath_id')).toBeNull();
  expect(database.row('Interface', iface)!.integer('ofport')).toBe(65534);
  expect(database.row('Interface', iface)!.map('statistics').get('rx_packets')).toBe(5);
  expect(database.find('Bridge', 'name', 'br0')).toBe(row);
  expect(database.find('Bridge', 'name', 'br1')).toBeUndefined();
});

test('one seed makes the same UUIDs, another makes others; what fails draws none', () => {
  const first = withBridge(make());
  expect(withBridge(make())).toEqual(first);
  expect(withBridge(make(2))).not.toEqual(first);
  const tried = make();
  const insert: Json = { op: 'insert', table: 'QoS', row: { type: 'linux-htb' } };
  tried.transact([insert, { op: 'abort' }]);
  tried.transact([insert, { op: 'insert', table: 'QoS', row: { type: 5 } }]);
  // A port that nobody has is gone at once: nothing was done.
  const interfaces: Json = ['named-uuid', 'i'];
  tried.transact([
    { op: 'insert', table: 'Interface', row: { name: 'x' }, 'uuid-name': 'i' },
    { op: 'insert', table: 'Port', row: { name: 'x', interfaces } },
  ]);
  expect(withBridge(tried)).toEqual(first);
  expect(first.root).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test('listeners are told of each commit once, of its rows, and of whether it is kept', () => {
  const database = make();
  const commits: Commit[] = [];
  const stop = database.onCommit((commit) => commits.push(commit));
  const { bridge, iface } = withBridge(database);
  expect(commits).toHaveLength(1);
  expect(commits[0]!.persistent).toBe(true);
  expect(commits[0]!.changes.map(({ table }) => table)).toEqual(['Open_vSwitch', 'Bridge', 'Port', 'Interface']);
  const before = database.row('Interface', iface)!;
  database.edit((edit) => edit.update('Interface', iface, { link_state: 'up' }));
  expect(commits[1]).toMatchObject({ persistent: false, changes: [{ table: 'Interface', uuid: iface, before }] });
  expect(database.row('Interface', iface)!.version).not.toBe(before.version);
  // Nothing changes: nobody is told.
  database.edit((edit) => edit.update('Interface', iface, { link_state: 'up' }));
  expect(commits).toHaveLength(2);
  stop();
  database.edit((edit) => edit.update('Bridge', bridge, { fail_mode: 'secure' }));
  expect(commits).toHaveLength(2);
});

test('a listener may change the database: its commit is told after the one that it was told of', () => {
  const database = make();
  const { root } = withBridge(database);
  const seen: string[] = [];
  database.onCommit(({ changes }) => {
    if (changes[0]!.after?.integer('next_cfg') === changes[0]!.after?.integer('cur_cfg')) return;
    database.edit((edit) => edit.update('Open_vSwitch', root, { cur_cfg: changes[0]!.after!.integer('next_cfg')! }));
  });
  database.onCommit(({ changes }) => {
    const row = changes[0]!.after!;
    seen.push(`${row.integer('next_cfg')} ${row.integer('cur_cfg')}`);
  });
  database.transact([{ op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '+=', 1]] }]);
  expect(seen).toEqual(['1 0', '1 1']);
});

test('an edit that breaks a rule is refused whole, and says why', () => {
  const database = make();
  const { bridge } = withBridge(database);
  const kept = JSON.stringify(database.toJson());
  const twin = database.edit((edit) => {
    edit.update('Bridge', bridge, { fail_mode: 'secure' });
    edit.insert('Open_vSwitch', {});
  });
  expect(twin).toMatchObject({ tag: 'constraint violation' });
  const wrong = database.edit((edit) => edit.update('Bridge', bridge, { fail_mode: 'open' }));
  expect(wrong?.message).toBe('open is not one of the allowed values ([secure, standalone])');
  expect(JSON.stringify(database.toJson())).toBe(kept);
});

test('what nobody references any more goes, with all that only it referenced; weak references to it go, too', () => {
  const database = make();
  const { bridge, port } = withBridge(database);
  let mirror = '';
  database.edit((edit) => {
    mirror = edit.insert('Mirror', { name: 'm', output_port: port, select_src_port: [port] });
    edit.update('Bridge', bridge, { mirrors: [mirror] });
  });
  database.edit((edit) => edit.update('Bridge', bridge, { ports: [] }));
  expect([...database.rows('Port'), ...database.rows('Interface')]).toEqual([]);
  expect(database.row('Mirror', mirror)!.ref('output_port')).toBeNull();
  expect(database.row('Mirror', mirror)!.texts('select_src_port')).toEqual([]);
});

test('a weak reference in a column that may not be empty holds the row that it names', () => {
  const schema = readSchema('S', '1.0.0', '', {
    Target: { root: true, columns: { name: 'string' } },
    Holder: { root: true, columns: { to: '->Target~ {1..*}' } },
  });
  const database = make(1, schema);
  let target = '';
  database.edit((edit) => {
    target = edit.insert('Target', { name: 't' });
    edit.insert('Holder', { to: [target] });
  });
  const refused = database.edit((edit) => edit.delete('Target', target));
  expect(refused?.message).toMatch(
    /^Deletion of 1 weak reference\(s\) to deleted \(or never-existing\) rows from column "to"/,
  );
  const empty = database.edit((edit) => void edit.insert('Holder', {}));
  expect(empty?.message).toContain('contained all-zeros UUID');
});

test('rows that swap the values of an index do not collide', () => {
  const schema = readSchema('S', '1.0.0', '', { T: { root: true, indexes: [['n']], columns: { n: 'integer' } } });
  const database = make(1, schema);
  database.transact([
    { op: 'insert', table: 'T', row: { n: 1 } },
    { op: 'insert', table: 'T', row: { n: 2 } },
  ]);
  const swap = database.transact([
    {
      op: 'mutate',
      table: 'T',
      where: [],
      mutations: [
        ['n', '*=', -1],
        ['n', '+=', 3],
      ],
    },
  ]);
  expect(swap).toEqual([{ count: 2 }]);
  const again = database.transact([{ op: 'insert', table: 'T', row: { n: 1 } }]);
  expect(JSON.stringify(again)).toContain('identical values (1) for index on column \\"n\\"');
});

test('what is kept has no ephemeral columns, and makes the same rows again', () => {
  const database = make();
  const { iface } = withBridge(database);
  database.edit((edit) => edit.update('Interface', iface, { link_state: 'up', ofport: 65534, options: { a: 'b' } }));
  const kept = database.toJson();
  expect(kept['Interface']).toEqual({
    [iface]: { name: 'br0', type: 'internal', ofport: 65534, options: ['map', [['a', 'b']]] },
  });
  const other = make(7);
  withBridge(other);
  const commits: Commit[] = [];
  other.onCommit((commit) => commits.push(commit));
  other.load(JSON.parse(JSON.stringify(kept)) as JsonObject);
  expect(other.toJson()).toEqual(kept);
  expect(commits).toHaveLength(1);
  expect(other.row('Interface', iface)!.textOrNull('link_state')).toBeNull();
  // References are counted anew: what belongs to a port goes with it.
  other.transact([{ op: 'update', table: 'Bridge', where: [], row: { ports: ['set', []] } }]);
  expect([...other.rows('Interface')]).toEqual([]);
});

test('what is added to loaded rows takes none of their UUIDs, though the seed is the same', () => {
  const database = make();
  const first = withBridge(database);
  const other = make();
  other.load(database.toJson());
  const refused = other.edit((edit) => {
    const iface = edit.insert('Interface', { name: 'p' });
    const port = edit.insert('Port', { name: 'p', interfaces: [iface] });
    edit.update('Bridge', first.bridge, { ports: [first.port, port] });
  });
  expect(refused).toBeNull();
  expect([...other.rows('Interface')].map((row) => row.text('name')).sort()).toEqual(['br0', 'p']);
  expect([...other.rows('Open_vSwitch')]).toHaveLength(1);
});

test.each<[string, Json]>([
  ['no object', 5],
  ['an unknown table', { Nope: {} }],
  ['an unknown column', { Bridge: { '00000000-0000-4000-8000-000000000001': { nope: 1 } } }],
  ['no UUID', { Bridge: { x: { name: 'a' } } }],
  ['a wrong value', { Open_vSwitch: { '00000000-0000-4000-8000-000000000001': { cur_cfg: 'x' } } }],
  [
    'a reference to nothing',
    {
      Open_vSwitch: {
        '00000000-0000-4000-8000-000000000001': { bridges: ['uuid', '00000000-0000-4000-8000-000000000002'] },
      },
    },
  ],
])('rows to load that do not fit are refused: %s', (_what, json) => {
  const database = make();
  withBridge(database);
  const kept = JSON.stringify(database.toJson());
  expect(() => database.load(json)).toThrow();
  expect(JSON.stringify(database.toJson())).toBe(kept);
});

test('a transaction that is not made by a client does not wait', () => {
  const results = make().transact([
    { op: 'wait', table: 'Bridge', where: [], columns: ['name'], until: '!=', rows: [] },
    { op: 'comment', comment: 'never' },
  ]);
  expect(results).toEqual([{ details: '"where" clause test failed', error: 'timed out' }, null]);
});
