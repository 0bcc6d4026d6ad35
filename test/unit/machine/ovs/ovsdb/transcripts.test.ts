/** Sessions recorded with Open vSwitch 3.1.0 give the same answers here. */
import { test } from 'vitest';
import { isObject, type Json, type JsonObject } from '../../../../../src/machine/ovs/ovsdb/json.ts';
import { readText } from '../../../../tools/source.ts';
import { type RecordedSession, Replay } from './replay.ts';

const read = (name: string): readonly RecordedSession[] =>
  (JSON.parse(readText(`test/vectors/ovsdb/${name}.json`)) as { readonly sessions: readonly RecordedSession[] })
    .sessions;
const vsctl = read('vsctl');
const client = read('client');
const raw = read('raw');
const named = (name: string): RecordedSession => client.find((session) => session.name === name)!;

/** The rows that the last monitor request of a session was answered with. */
function initialRows(session: RecordedSession): JsonObject {
  const tables: JsonObject = {};
  for (const { from, message } of session.messages) {
    const result = from === 'server' ? message?.['result'] : undefined;
    const updates = Array.isArray(result) && result.length === 3 && typeof result[0] === 'boolean' ? result[2] : result;
    if (!isObject(updates) || 'Database' in updates) continue;
    for (const [table, rows] of Object.entries(updates)) {
      if (!isObject(rows)) continue;
      const known = Object.entries(rows).filter(([, row]) => isObject(row) && ('initial' in row || 'new' in row));
      if (known.length === 0) continue;
      tables[table] = Object.fromEntries(known.map(([uuid, row]) => [uuid, columnsOf(row as JsonObject)]));
    }
  }
  return tables;
}
function columnsOf(row: JsonObject): JsonObject {
  const { _version, ...columns } = (row['initial'] ?? row['new']) as JsonObject;
  return columns;
}

/** What ovs-vsctl counted from: it does not ask for next_cfg before it adds one. */
function withNextCfg(session: RecordedSession, tables: JsonObject): JsonObject {
  const counted = /"rows":\[\{"next_cfg":(\d+)/.exec(JSON.stringify(session.messages));
  const row = Object.values((tables['Open_vSwitch'] ?? {}) as JsonObject)[0];
  if (counted !== null && isObject(row)) row['next_cfg'] = Number(counted[1]) - 1;
  return tables;
}

test.each(vsctl.map((session) => [session.name, session] as const))('ovs-vsctl: %s', (_name, session) => {
  const replay = new Replay();
  replay.plant(withNextCfg(session, initialRows(session)));
  replay.play(session);
});

/** All rows, as a dump of the database shows them. */
function dumpedRows(session: RecordedSession): JsonObject {
  const request = session.messages.find(({ message }) => message?.['method'] === 'transact')!.message![
    'params'
  ] as Json[];
  const reply = session.messages.findLast(({ message }) => Array.isArray(message?.['result']))!.message![
    'result'
  ] as Json[];
  const tables: JsonObject = {};
  reply.forEach((result, i) => {
    const rows = isObject(result) ? result['rows'] : undefined;
    if (!Array.isArray(rows)) return;
    const table = String((request[i + 1] as JsonObject)['table']);
    tables[table] = Object.fromEntries(
      (rows as JsonObject[]).map(({ _uuid, _version, ...columns }) => [String((_uuid as Json[])[1]), columns]),
    );
  });
  return tables;
}

test('ovsdb-client: dump, then transactions one after the other', () => {
  const replay = new Replay();
  replay.plant(dumpedRows(named('c06-dump')));
  for (const session of client.filter(({ name }) => /^c\d\d-/.test(name))) {
    replay.play(session);
    if (session.name.startsWith('c12')) {
      // The switch has set up the new bridge.
      const where = [['name', '==', 'brx']];
      replay.change([{ op: 'update', table: 'Interface', where, row: { ofport: 65534 } }]);
    }
  }
});

const others = client.filter(({ name }) => !/^c\d\d-/.test(name));
test.each(others.map((session) => [session.name, session] as const))('other clients: %s', (name, session) => {
  const replay = new Replay();
  replay.plant(initialRows(name.startsWith('p') ? session : named('m05-monitor-all')));
  replay.play(session);
});

test('sessions written by hand, one after the other', () => {
  const replay = new Replay();
  replay.plant(initialRows(named('m05-monitor-all')));
  for (const session of raw) replay.play(session);
});
