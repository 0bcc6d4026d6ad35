/** The database under random transactions, and its sessions under hostile bytes. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { RandomStream } from '../../src/engine/random.ts';
import { Database } from '../../src/machine/ovs/ovsdb/database.ts';
import { isObject, type Json, type JsonObject } from '../../src/machine/ovs/ovsdb/json.ts';
import type { Row } from '../../src/machine/ovs/ovsdb/row.ts';
import { BadJson, JsonStream } from '../../src/machine/ovs/ovsdb/rpc/framing.ts';
import { Monitor } from '../../src/machine/ovs/ovsdb/rpc/monitor.ts';
import { OvsdbServer } from '../../src/machine/ovs/ovsdb/rpc/server.ts';
import { OPEN_VSWITCH } from '../../src/machine/ovs/ovsdb/schema/open-vswitch.ts';
import type { Column, DatabaseSchema } from '../../src/machine/ovs/ovsdb/schema/types.ts';
import { datumToJson, holdsMore } from '../../src/machine/ovs/ovsdb/values.ts';
import { OPEN_DOOR, TestClient, undiffed } from '../unit/machine/ovs/ovsdb/replay.ts';
import { SMALL, transaction } from './ovsdb-transactions.ts';

const RUNS = process.env['RINGSIDE_FULL'] === '1' ? 2000 : 60;

/** Every rule of the schema, looked at anew. */
function checkRules(database: Database): void {
  const references = new Map<string, number>();
  for (const [name, { rows, schema }] of database.tables) {
    assert.ok(rows.size <= schema.maxRows, name);
    for (const index of schema.indexes) {
      const keys = [...rows.values()].map((row) => JSON.stringify(index.map((column) => row.cell(column))));
      assert.equal(new Set(keys).size, keys.length, `${name} index`);
    }
    for (const row of rows.values()) countReferences(database, row, references);
  }
  for (const [name, table] of database.tables) {
    const counted = [...table.rows.keys()].map((uuid): [string, number] => [
      uuid,
      references.get(`${name} ${uuid}`) ?? 0,
    ]);
    assert.deepEqual(new Map(counted.filter(([, n]) => n > 0)), table.references, name);
    if (!table.schema.root) for (const [, n] of counted) assert.ok(n > 0, `${name} garbage`);
  }
}
function countReferences(database: Database, row: Row, references: Map<string, number>): void {
  for (const column of row.table.columns) {
    const { key, value, min, max } = column.type;
    const cell = row.cell(column);
    assert.ok(cell.keys.length >= min && cell.keys.length <= max, column.name);
    for (const [base, atoms] of [
      [key, cell.keys],
      [value, cell.values],
    ] as const) {
      if (base === null || base.refTable === null) continue;
      for (const uuid of atoms!) {
        assert.ok(database.row(base.refTable, String(uuid)) !== undefined, `${row.table.name}.${column.name} dangles`);
        if (base.weak || uuid === row.uuid) continue;
        const target = `${base.refTable} ${uuid}`;
        references.set(target, (references.get(target) ?? 0) + 1);
      }
    }
  }
}

const schemas: readonly DatabaseSchema[] = [SMALL, OPEN_VSWITCH];
for (const schema of schemas) {
  test(`${schema.name}: rules are kept, failures leave no trace, what is kept comes back, the same seed does the same`, () => {
    fc.assert(
      fc.property(fc.array(transaction(schema), { minLength: 1, maxLength: 25 }), fc.nat(), (transactions, seed) => {
        const database = new Database(schema, new RandomStream(seed, 'ovsdb'));
        const twin = new Database(schema, new RandomStream(seed, 'ovsdb'));
        for (const operations of transactions) {
          const before = JSON.stringify(database.toJson());
          const results = database.transact(operations);
          assert.deepEqual(twin.transact(operations), results);
          checkRules(database);
          const failed = results.some((result) => isObject(result) && 'error' in result);
          if (failed) assert.equal(JSON.stringify(database.toJson()), before);
        }
        const other = new Database(schema, new RandomStream(seed + 1, 'ovsdb'));
        other.load(database.toJson());
        assert.deepEqual(other.toJson(), database.toJson());
        checkRules(other);
      }),
      { numRuns: RUNS },
    );
  });
}

/** What a client knows that follows `update2` notifications. */
class Follower {
  readonly rows = new Map<string, JsonObject>();
  apply(schema: DatabaseSchema, updates: JsonObject | null): void {
    for (const [table, rows] of Object.entries(updates ?? {})) {
      for (const [uuid, update] of Object.entries(rows as Record<string, JsonObject>)) {
        const key = `${table} ${uuid}`;
        const whole = update['initial'] ?? update['insert'];
        if (isObject(whole)) this.rows.set(key, { ...whole });
        else if ('delete' in update) assert.ok(this.rows.delete(key));
        else this.modify(schema, table, this.rows.get(key)!, update['modify'] as JsonObject);
      }
    }
  }
  private modify(schema: DatabaseSchema, table: string, row: JsonObject, modify: JsonObject): void {
    for (const [name, diff] of Object.entries(modify)) {
      const column = schema.tables.get(table)!.byName.get(name)!;
      // what is empty is left out of new rows
      row[name] = undiffed(column, row[name] ?? [column.type.value === null ? 'set' : 'map', []], diff);
    }
  }
}
/** A value without the order of its elements, in its long form. */
function plain({ type }: Column, json: Json): string {
  if (!holdsMore(type)) return JSON.stringify(json);
  const word = type.value === null ? 'set' : 'map';
  const list = Array.isArray(json) && json[0] === word ? (json[1] as Json[]) : [json];
  return JSON.stringify([word, list.map((element) => JSON.stringify(element)).sort()]);
}

test('who follows the updates knows what stands, however many commits one update gathers', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(transaction(SMALL), fc.boolean()), { minLength: 1, maxLength: 40 }),
      fc.constantFrom<Json[]>(
        [],
        [
          ['name', '==', 'a'],
          ['name', '==', ''],
        ],
      ),
      (steps, where) => {
        const database = new Database(SMALL, new RandomStream(1, 'ovsdb'));
        const request = { Root: [{ where }], Leaf: [{ where }] };
        const monitor = new Monitor(database, 2, request);
        database.onCommit((commit) => monitor.note(commit));
        const follower = new Follower();
        follower.apply(SMALL, monitor.initial());
        for (const [operations, flush] of steps) {
          database.transact(operations);
          if (!flush) continue;
          follower.apply(SMALL, monitor.takeUpdate());
          const fresh = new Follower();
          fresh.apply(SMALL, new Monitor(database, 2, request).initial());
          assert.deepEqual([...follower.rows.keys()].sort(), [...fresh.rows.keys()].sort());
          for (const key of fresh.rows.keys()) {
            const [table, uuid] = key.split(' ') as [string, string];
            const row = database.row(table, uuid)!;
            for (const [name, value] of Object.entries(follower.rows.get(key)!)) {
              const column = row.table.byName.get(name)!;
              assert.equal(
                plain(column, value),
                plain(column, datumToJson(row.cell(column), column.type)),
                `${key} ${name}`,
              );
            }
          }
        }
      },
    ),
    { numRuns: RUNS },
  );
});

/**
 * Names of members without escapes: JSON.parse() of V8 takes a name of one escaped character for a backslash once it has parsed
 * a backslash as a name (nodejs/node#63785), and what is looked at here is where a text ends.
 */
const noEscapes = (value: unknown): boolean => !/"(?:[^"\\]|\\.)*\\.(?:[^"\\]|\\.)*":/.test(JSON.stringify(value));

test('messages come out of a stream as they went in, however it is cut', () => {
  const message = fc.oneof(fc.array(fc.jsonValue()), fc.dictionary(fc.string(), fc.jsonValue())).filter(noEscapes);
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), fc.array(fc.nat(30)), (messages, cuts) => {
      const bytes = new TextEncoder().encode(messages.map((message) => JSON.stringify(message)).join(' '));
      const stream = new JsonStream();
      const found: Json[] = [];
      let at = 0;
      const feed = (end: number): void => {
        stream.feed(bytes.subarray(at, end), (json) => {
          found.push(json);
          return true;
        });
        at = end;
      };
      try {
        for (const cut of cuts) feed(Math.min(at + cut, bytes.length));
        feed(bytes.length);
      } catch (error) {
        // Characters that Open vSwitch does not take either.
        if (!(error instanceof BadJson)) throw error;
        assert.match(JSON.stringify(messages), /\\u(0000|d[89a-f])/i);
        return;
      }
      assert.deepEqual(JSON.stringify(found), JSON.stringify(messages));
    }),
    { numRuns: RUNS * 5 },
  );
});

/** Requests that begin well. */
const almost: fc.Arbitrary<Json> = fc.record({
  id: fc.oneof(fc.nat(3), fc.jsonValue()) as fc.Arbitrary<Json>,
  method: fc.oneof(
    {
      weight: 9,
      arbitrary: fc.constantFrom(
        'transact',
        'monitor',
        'monitor_cond',
        'monitor_cond_since',
        'monitor_cond_change',
        'monitor_cancel',
        'lock',
        'steal',
        'unlock',
        'cancel',
        'get_schema',
        'convert',
        'set_db_change_aware',
        'echo',
      ),
    },
    { weight: 1, arbitrary: fc.string() },
  ),
  params: fc
    .tuple(
      fc.constantFrom<Json>('Open_vSwitch', '_Server', 'm', 7),
      fc.array(
        fc.oneof(
          transaction(OPEN_VSWITCH).map((list) => list[0]!),
          fc.jsonValue(),
          fc.constantFrom<Json>(
            'm',
            {},
            { Bridge: {} },
            { Bridge: [{ where: [], columns: ['name'] }] },
            '00000000-0000-0000-0000-000000000000',
          ),
        ),
        { maxLength: 3 },
      ),
    )
    .map(([first, rest]) => [first, ...rest]) as fc.Arbitrary<Json>,
});

test('whatever a client sends, nothing is thrown, and the next client is served', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(almost, fc.jsonValue() as fc.Arbitrary<Json>), { maxLength: 12 }),
      fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { maxLength: 3 }),
      (messages, flips) => {
        const server = new OvsdbServer({ random: new RandomStream(1, 'ovsdb'), door: OPEN_DOOR, clock: () => 0 });
        const hostile = new TestClient(server);
        const bytes = new TextEncoder().encode(messages.map((message) => JSON.stringify(message)).join(''));
        hostile.session.receive(bytes);
        const bent = bytes.slice();
        for (const [at, value] of flips) if (bent.length > 0) bent[at % bent.length] = value;
        const second = new TestClient(server);
        second.session.receive(bent);
        second.session.closed('reset');
        const next = new TestClient(server);
        assert.deepEqual(next.ask('list_dbs')['result'], ['Open_vSwitch', '_Server']);
        assert.equal(server.sessionCount, 1 + (hostile.closed ? 0 : 1));
      },
    ),
    { numRuns: RUNS * 5 },
  );
});
