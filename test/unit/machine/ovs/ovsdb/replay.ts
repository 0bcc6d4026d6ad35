/**
 * Plays a recorded session against our ovsdb-server: sends what the client sent, and compares what the server answered. UUIDs of
 * rows that the session adds are ours; what others did meanwhile is done when the record shows it.
 */
import { expect } from 'vitest';
import { RandomStream } from '../../../../../src/engine/random.ts';
import type { Database } from '../../../../../src/machine/ovs/ovsdb/database.ts';
import { isObject, type Json, type JsonObject } from '../../../../../src/machine/ovs/ovsdb/json.ts';
import { OvsdbServer } from '../../../../../src/machine/ovs/ovsdb/rpc/server.ts';
import type { OvsdbSession } from '../../../../../src/machine/ovs/ovsdb/rpc/session.ts';
import type { Column, TableSchema } from '../../../../../src/machine/ovs/ovsdb/schema/types.ts';
import { datumToJson, holdsMore } from '../../../../../src/machine/ovs/ovsdb/values.ts';
import type { Door } from '../../../../../src/machine/ovs/stream.ts';

export interface Recorded {
  readonly from: 'client' | 'server';
  readonly connection?: number;
  readonly message?: JsonObject;
  readonly raw?: string;
  readonly event?: string;
}
export interface RecordedSession {
  readonly name: string;
  readonly messages: readonly Recorded[];
}

/** A door that leads nowhere: transactions run at once. */
export const OPEN_DOOR: Door = { act: (_command, _detail, run) => run(0, 0), now: () => 0 };

const ENCODER = new TextEncoder();
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;

/** A client's connection: what the server sends is in `received`. */
export class TestClient {
  readonly received: JsonObject[] = [];
  closed = false;
  queued = 0;
  /** The ticks that the session asked for, in ms. */
  readonly wakes: number[] = [];
  readonly session: OvsdbSession;

  constructor(server: OvsdbServer, name = 'tcp:127.0.0.1:40000') {
    const decoder = new TextDecoder();
    const queued = (): number => this.queued;
    this.session = server.accept({
      name,
      send: (bytes) => void this.received.push(JSON.parse(decoder.decode(bytes)) as JsonObject),
      close: () => {
        this.closed = true;
      },
      get queued() {
        return queued();
      },
      wakeIn: (ms) => void this.wakes.push(ms),
    });
  }
  raw(text: string): void {
    this.session.receive(ENCODER.encode(text));
  }
  send(message: Json): void {
    this.raw(JSON.stringify(message));
  }
  /** Sends a request and takes its reply; what came before it stays in `received`. */
  ask(method: string, ...params: Json[]): JsonObject {
    this.send({ id: 'ask', method, params });
    const at = this.received.findIndex(({ id }) => id === 'ask');
    expect(at, `${method}: no reply`).toBeGreaterThanOrEqual(0);
    return this.received.splice(at, 1)[0]!;
  }
}

/** Values that do not matter or have no order are made the same. */
function normal(json: Json): Json {
  if (Array.isArray(json)) {
    const [word, list] = json;
    if (json.length === 2 && word === 'uuid') return json;
    if (json.length === 2 && (word === 'set' || word === 'map') && Array.isArray(list)) {
      return [word, list.map(normal).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))];
    }
    return json.map(normal);
  }
  // The record says how long a schema is, and not how it goes.
  const schema = typeof json === 'string' ? /^\{"cksum":"[^"]*","name":"(\w+)"/.exec(json) : null;
  if (schema !== null) return `$elided: schema of ${schema[1]} as ONE JSON STRING, ${String(json).length} characters`;
  if (!isObject(json)) return json;
  const made: JsonObject = {};
  for (const name of Object.keys(json).sort()) {
    const value = json[name]!;
    if (name === '_version') made[name] = 'some version';
    else if (name === 'rows' && Array.isArray(value)) {
      made[name] = value.map(normal).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
    } else made[name] = normal(value);
  }
  return made;
}
/** Puts ours where the record leaves something out. */
function withoutElided(expected: Json, actual: Json | undefined): Json {
  if (isObject(expected) && '$elided' in expected) return actual ?? null;
  if (Array.isArray(expected) && Array.isArray(actual))
    return expected.map((item, i) => withoutElided(item, actual[i]));
  if (isObject(expected) && isObject(actual)) {
    return Object.fromEntries(
      Object.entries(expected).map(([name, value]) => [name, withoutElided(value, actual[name])]),
    );
  }
  return expected;
}

export class Replay {
  readonly server: OvsdbServer;
  readonly database: Database;
  now = 0;
  private readonly clients = new Map<number, TestClient>();
  /** Recorded UUID -> ours. */
  private readonly ours = new Map<string, string>();
  private stubs = 0;

  constructor() {
    this.server = new OvsdbServer({ random: new RandomStream(1, 'ovsdb'), door: OPEN_DOOR, clock: () => this.now });
    this.database = this.server.database;
  }

  private client(connection = 0): TestClient {
    let client = this.clients.get(connection);
    if (client === undefined) {
      client = new TestClient(this.server);
      this.clients.set(connection, client);
    }
    return client;
  }
  private translate<T extends Json>(json: T): T {
    return JSON.parse(JSON.stringify(json).replace(UUID, (uuid) => this.ours.get(uuid) ?? uuid)) as T;
  }

  /** Rows as they stood when a session began, of which only some columns are known: `{table: {uuid: {column: value}}}`. */
  plant(tables: JsonObject): void {
    const rows = new Map<string, { readonly schema: TableSchema; readonly row: JsonObject }>();
    for (const [name, list] of Object.entries(tables)) {
      const schema = this.database.schema.tables.get(name)!;
      for (const [uuid, row] of Object.entries(list as JsonObject))
        rows.set(uuid, { schema, row: { ...(row as JsonObject) } });
    }
    const referenced = new Set<string>();
    for (const { schema, row } of [...rows.values()]) this.complete(schema, row, rows, referenced);
    for (const [uuid, { schema }] of rows) {
      // Who refers to it is not known, but somebody does.
      if (!schema.root && !referenced.has(uuid)) this.database.tables.get(schema.name)!.references.set(uuid, 1);
    }
    this.change([...rows].map(([uuid, { schema, row }]) => ({ op: 'insert', table: schema.name, uuid, row })));
  }
  private stub(table: string, rows: Map<string, { readonly schema: TableSchema; readonly row: JsonObject }>): string {
    // Better one that is known than one that a monitor would show.
    for (const [known, { schema }] of rows) if (schema.name === table) return known;
    const uuid = `00000000-0000-4000-8000-${String(++this.stubs).padStart(12, '0')}`;
    rows.set(uuid, { schema: this.database.schema.tables.get(table)!, row: {} });
    return uuid;
  }
  /** Gives a row what it must have. */
  private complete(
    schema: TableSchema,
    row: JsonObject,
    rows: Map<string, { readonly schema: TableSchema; readonly row: JsonObject }>,
    referenced: Set<string>,
  ): void {
    if (schema.byName.has('name') && row['name'] === undefined) row['name'] = `stub${++this.stubs}`;
    if (schema.name === 'Manager' && row['target'] === undefined) row['target'] = `stub${++this.stubs}`;
    for (const column of schema.columns) {
      for (const base of [column.type.key, column.type.value]) {
        const table = base?.refTable;
        if (table === undefined || table === null || base!.weak) continue;
        if (row[column.name] === undefined && column.type.min === 1)
          row[column.name] = ['uuid', this.stub(table, rows)];
        for (const [uuid] of JSON.stringify(row[column.name] ?? null).matchAll(UUID)) {
          referenced.add(uuid);
          if (!rows.has(uuid)) rows.set(uuid, { schema: this.database.schema.tables.get(table)!, row: {} });
          const target = rows.get(uuid)!;
          if (target.row['name'] === undefined) this.complete(target.schema, target.row, rows, referenced);
        }
      }
    }
  }
  /** Somebody else's transaction; it must stand. */
  change(operations: Json[]): void {
    const results = this.database.transact(operations);
    expect(results.filter((result) => isObject(result) && 'error' in result)).toEqual([]);
  }

  /** What somebody else did, as an update of the record shows it. */
  private meanwhile(update: JsonObject): void {
    const params = update['params'] as Json[];
    const tables = params.at(-1) as JsonObject;
    const operations: Json[] = [];
    for (const [table, rows] of Object.entries(tables)) {
      for (const [uuid, change] of Object.entries(rows as JsonObject)) {
        operations.push(...this.meanwhileRow(table, uuid, change as JsonObject));
      }
    }
    this.change(operations);
  }
  private meanwhileRow(name: string, uuid: string, change: JsonObject): Json[] {
    const table = this.database.tables.get(name)!;
    const where = [['_uuid', '==', ['uuid', uuid]]];
    const row = table.rows.get(uuid);
    const added = change['insert'] ?? (change['old'] === undefined ? change['new'] : undefined);
    if (added !== undefined) {
      const rows = new Map<string, { readonly schema: TableSchema; readonly row: JsonObject }>();
      const made = { ...(added as JsonObject) };
      rows.set(uuid, { schema: table.schema, row: made });
      this.complete(table.schema, made, rows, new Set());
      table.references.set(uuid, 1);
      return [...rows].map(([id, { schema, row: values }]) => ({
        op: 'insert',
        table: schema.name,
        uuid: id,
        row: values,
      }));
    }
    if (Object.hasOwn(change, 'delete') || (change['new'] === undefined) === Object.hasOwn(change, 'old')) {
      table.references.delete(uuid);
      return [{ op: 'delete', table: name, where }];
    }
    const values: JsonObject = {};
    const diff = change['modify'] as JsonObject | undefined;
    for (const [column, value] of Object.entries(diff ?? (change['new'] as JsonObject))) {
      const found = table.schema.byName.get(column)!;
      if (!found.mutable) continue;
      values[column] = diff === undefined ? value : undiffed(found, datumToJson(row!.cell(found), found.type), value);
    }
    return [{ op: 'update', table: name, where, row: values }];
  }

  /** Plays a session to its end. */
  play(session: RecordedSession): void {
    this.clients.clear();
    session.messages.forEach((recorded, i) => {
      const client = this.client(recorded.connection);
      const where = `${session.name}, message ${i}`;
      if (recorded.from === 'client') {
        if (recorded.message !== undefined) {
          client.send(this.translate(recorded.message));
          this.learn(client, session.messages.slice(i + 1), recorded.message['id'] ?? null);
        } else if (recorded.raw !== undefined) client.raw(recorded.raw);
        else client.session.closed(null);
      } else if (recorded.message !== undefined) {
        this.compare(client, recorded.message, where);
      } else if (client.session.connected || client.closed) {
        expect(client.closed, where).toBe(true);
      }
    });
    for (const client of this.clients.values())
      expect(client.received, `${session.name}: more than recorded`).toEqual([]);
  }
  /** Pairs the UUIDs of rows that a request added. */
  private learn(client: TestClient, later: readonly Recorded[], id: Json): void {
    const isReply = (message: JsonObject | undefined): boolean =>
      message !== undefined && JSON.stringify(message['id']) === JSON.stringify(id) && Array.isArray(message['result']);
    const expected = later.find(({ message }) => isReply(message))?.message?.['result'] as Json[] | undefined;
    const actual = client.received.find(isReply)?.['result'] as Json[] | undefined;
    expected?.forEach((result, i) => {
      const ours = actual?.[i];
      if (!isObject(result) || !isObject(ours) || !Array.isArray(result['uuid']) || !Array.isArray(ours['uuid']))
        return;
      this.ours.set(String(result['uuid'][1]), String(ours['uuid'][1]));
    });
  }
  /** Pairs the UUIDs of the rows that tell of databases. */
  private learnServer(message: JsonObject): void {
    if (typeof message['result'] === 'string') this.ours.set(message['result'], this.server.id);
    const text = JSON.stringify(message);
    if (!text.includes('standalone')) return;
    for (const row of this.server.databases.get('_Server')!.rows('Database')) {
      const name = row.text('name');
      const keyed = new RegExp(`"([0-9a-f-]{36})":\\{"(?:initial|new)":\\{[^}]*"name":"${name}"`).exec(text);
      const listed = new RegExp(`\\{[^}]*"name":"${name}"[^}]*"_uuid":\\["uuid","([0-9a-f-]{36})"`).exec(text);
      const recorded = keyed?.[1] ?? listed?.[1];
      if (recorded !== undefined) this.ours.set(recorded, row.uuid);
    }
  }
  private compare(client: TestClient, message: JsonObject, where: string): void {
    this.learnServer(message);
    const translated = this.translate(message);
    const isUpdate = typeof message['method'] === 'string' && message['method'].startsWith('update');
    if (client.received.length === 0 && isUpdate) this.meanwhile(translated);
    if (message['id'] === 'echo') {
      this.now += 5000;
      client.session.tick(this.now);
    }
    const late = /timed out after (\d+) ms/.exec(JSON.stringify(message));
    if (late !== null) {
      expect(client.received).toEqual([]);
      this.now += Number(late[1]);
      client.session.tick(this.now);
    }
    const actual = client.received.shift();
    expect(actual, `${where}: nothing came`).toBeDefined();
    expect(normal(actual!), where).toEqual(normal(withoutElided(translated, actual)));
  }
}

/** The value that a difference leads to: sets and maps in their long forms (ovsdb-server(7), <row-update2>). */
export function undiffed(column: Column, before: Json, diff: Json): Json {
  if (!holdsMore(column.type)) return diff;
  const word = column.type.value === null ? 'set' : 'map';
  const elements = (json: Json): Json[] => (Array.isArray(json) && json[0] === word ? (json[1] as Json[]) : [json]);
  const made = new Map(elements(before).map((element) => [keyOf(word, element), element]));
  for (const element of elements(diff)) {
    const key = keyOf(word, element);
    if (JSON.stringify(made.get(key)) === JSON.stringify(element)) made.delete(key);
    else made.set(key, element);
  }
  return [word, [...made.values()]];
}
const keyOf = (word: string, element: Json): string =>
  JSON.stringify(word === 'map' ? (element as Json[])[0] : element);
