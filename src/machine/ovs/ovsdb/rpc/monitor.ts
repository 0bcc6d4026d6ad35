/** Monitors: what a client is told of rows and columns that it asked for (RFC 7047 §4.1.5, ovsdb-server(7) monitor_cond). */
import { type Condition, readCondition, someHolds } from '../condition.ts';
import type { Commit, Database } from '../database.ts';
import { defaultDatum, difference, sameDatum } from '../datum.ts';
import { syntaxError } from '../error.ts';
import { isObject, type Json, type JsonObject } from '../json.ts';
import { Parser } from '../parser.ts';
import type { Row } from '../row.ts';
import { type Column, type TableSchema, UUID_COLUMN } from '../schema/types.ts';
import { datumToJson, holdsMore } from '../values.ts';

const INITIAL = 1;
const INSERT = 2;
const DELETE = 4;
const MODIFY = 8;
const SELECTS = [
  ['initial', INITIAL],
  ['insert', INSERT],
  ['delete', DELETE],
  ['modify', MODIFY],
] as const;
const ALL = INITIAL | INSERT | DELETE | MODIFY;

/** 1: `monitor`, `update`; 2: `monitor_cond`, `update2`; 3: `monitor_cond_since`, `update3`. */
export type MonitorVersion = 1 | 2 | 3;

interface Monitored {
  readonly column: Column;
  readonly select: number;
}
interface MonitoredTable {
  readonly schema: TableSchema;
  /** What some part of the request wants to be told of. */
  select: number;
  readonly columns: Monitored[];
  condition: Condition | null;
}
/** Rows that changed since the client was told last. */
interface Change {
  readonly before: Row | null;
  after: Row | null;
}

function readSelect(json: Json | undefined, table: string): number {
  if (json === undefined) return ALL;
  const parser = new Parser(json, `table ${table} select`);
  let select = 0;
  for (const [name, bit] of SELECTS) if (parser.optional(name, 'boolean') !== false) select |= bit;
  parser.finish();
  return select;
}

export class Monitor {
  readonly database: Database;
  readonly version: MonitorVersion;
  private readonly tables = new Map<string, MonitoredTable>();
  private readonly changes = new Map<string, Map<string, Change>>();

  /** `requests`: <monitor-requests>. Throws OvsdbError. */
  constructor(database: Database, version: MonitorVersion, requests: Json) {
    this.database = database;
    this.version = version;
    if (!isObject(requests)) throw syntaxError(requests, 'monitor-requests must be object');
    for (const name of Object.keys(requests)) {
      const schema = database.schema.tables.get(name);
      if (schema === undefined) throw syntaxError(undefined, `no table named ${name}`);
      const table: MonitoredTable = { schema, select: 0, columns: [], condition: null };
      this.tables.set(name, table);
      const request = requests[name]!;
      for (const one of Array.isArray(request) ? request : [request]) this.readRequest(table, one);
    }
  }
  private readRequest(table: MonitoredTable, json: Json): void {
    const { schema } = table;
    const parser = new Parser(json, `table ${schema.name}`);
    const where = this.version === 1 ? undefined : parser.optional('where', 'array');
    const names = parser.optional('columns', 'array');
    const selectJson = parser.optional('select', 'object');
    parser.finish();
    const select = readSelect(selectJson, schema.name);
    table.select |= select;
    for (const column of this.readColumns(names, schema)) {
      if (table.columns.some((known) => known.column === column)) {
        throw syntaxError(names, `column ${column.name} mentioned more than once`);
      }
      table.columns.push({ column, select });
    }
    if (this.version !== 1) table.condition ??= readCondition(schema, Array.isArray(where) ? where : [], null);
  }
  private readColumns(names: Json | undefined, schema: TableSchema): Column[] {
    if (!Array.isArray(names)) return [...schema.byName.values()].filter((column) => column !== UUID_COLUMN);
    return names.map((name) => {
      if (typeof name !== 'string') throw syntaxError(names, 'array of column names expected');
      const column = schema.byName.get(name);
      if (column === undefined) throw syntaxError(names, `${name} is not a valid column name`);
      return column;
    });
  }

  /** All rows, as the reply to the request shows them. */
  initial(): JsonObject {
    const json: JsonObject = {};
    for (const [name, table] of this.tables) {
      if ((table.select & INITIAL) === 0) continue;
      for (const row of this.database.rows(name)) {
        if (table.condition !== null && !someHolds(table.condition, row)) continue;
        put(json, name, row.uuid, this.rowUpdate(table, INITIAL, null, row));
      }
    }
    return json;
  }

  /** Notes what a commit changed. */
  note(commit: Commit): void {
    for (const { table, uuid, before, after } of commit.changes) {
      if (!this.tables.has(table)) continue;
      let rows = this.changes.get(table);
      if (rows === undefined) {
        rows = new Map();
        this.changes.set(table, rows);
      }
      const known = rows.get(uuid);
      if (known === undefined) rows.set(uuid, { before, after });
      else if (known.before === null && after === null) rows.delete(uuid);
      else known.after = after;
    }
  }
  /** What was noted, as an update shows it; null: nothing that the client would see. */
  takeUpdate(): JsonObject | null {
    if (this.changes.size === 0) return null;
    const json: JsonObject = {};
    for (const [name, rows] of this.changes) {
      const table = this.tables.get(name)!;
      for (const [uuid, { before, after }] of rows) put(json, name, uuid, this.changeUpdate(table, before, after));
    }
    this.changes.clear();
    return Object.keys(json).length > 0 ? json : null;
  }
  private changeUpdate(table: MonitoredTable, before: Row | null, after: Row | null): JsonObject | null {
    const { condition } = table;
    const was = before !== null && (condition === null || someHolds(condition, before));
    const is = after !== null && (condition === null || someHolds(condition, after));
    if (!was && !is) return null;
    return this.rowUpdate(table, was ? (is ? MODIFY : DELETE) : INSERT, before, after);
  }

  /** A row's <row-update> or <row-update2>; null: the client does not want it. */
  private rowUpdate(table: MonitoredTable, type: number, before: Row | null, after: Row | null): JsonObject | null {
    if ((table.select & type) === 0) return null;
    const { columns } = table;
    const changed = columns.map(
      ({ column }) => type !== MODIFY || !sameDatum(before!.cell(column), after!.cell(column)),
    );
    if (type === MODIFY && !changed.includes(true)) return null;
    const wanted = columns.map(({ select }) => (select & type) !== 0);
    const pick = (row: Row, use: (i: number) => boolean): JsonObject => {
      const json: JsonObject = {};
      columns.forEach(({ column }, i) => {
        if (wanted[i] && use(i)) json[column.name] = datumToJson(row.cell(column), column.type);
      });
      return json;
    };
    if (this.version === 1) {
      return {
        ...(type === INITIAL || type === INSERT ? {} : { old: pick(before!, (i) => type === DELETE || changed[i]!) }),
        ...(type === DELETE ? {} : { new: pick(after!, () => true) }),
      };
    }
    if (type === DELETE) return { delete: null };
    if (type !== MODIFY) {
      const isSet = (i: number): boolean => {
        const { column } = columns[i]!;
        return !sameDatum(after!.cell(column), defaultDatum(column.type));
      };
      return { [type === INITIAL ? 'initial' : 'insert']: pick(after!, isSet) };
    }
    const modify: JsonObject = {};
    columns.forEach(({ column }, i) => {
      if (!wanted[i] || !changed[i]) return;
      const cell = after!.cell(column);
      const shown = holdsMore(column.type) ? difference(before!.cell(column), cell) : cell;
      modify[column.name] = datumToJson(shown, column.type);
    });
    return { modify };
  }

  /**
   * Other conditions: `requests` is the third parameter of `monitor_cond_change`. Returns the rows that come and go by it; null:
   * none. What was noted before is taken first. Throws OvsdbError.
   */
  changeConditions(requests: Json): JsonObject | null {
    if (!isObject(requests)) throw syntaxError(undefined, 'monitor-cond-change-requests must be object');
    const conditions = new Map<MonitoredTable, Condition>();
    for (const name of Object.keys(requests)) {
      if (!this.database.schema.tables.has(name)) throw syntaxError(undefined, `no table named ${name}`);
      const table = this.tables.get(name);
      if (table === undefined) throw syntaxError(undefined, `no table named ${name} in monitor session`);
      const list = requests[name]!;
      if (!Array.isArray(list)) throw syntaxError(undefined, `table ${name} no monitor-cond-change JSON array`);
      for (const one of list) {
        const parser = new Parser(one, `table ${name}`);
        const columns = parser.optional('columns', 'array');
        const where = parser.optional('where', 'array');
        parser.finish();
        if (columns !== undefined) throw syntaxError(one, 'changing columns is unsupported');
        if (table.condition === null) continue;
        conditions.set(table, readCondition(table.schema, Array.isArray(where) ? where : [], null));
      }
    }
    const json: JsonObject = {};
    for (const [table, next] of conditions) {
      const last = table.condition!;
      table.condition = next;
      for (const row of this.database.rows(table.schema.name)) {
        const was = someHolds(last, row);
        const is = someHolds(next, row);
        if (was === is) continue;
        put(json, table.schema.name, row.uuid, this.rowUpdate(table, is ? INSERT : DELETE, row, row));
      }
    }
    return Object.keys(json).length > 0 ? json : null;
  }
}

function put(json: JsonObject, table: string, uuid: string, update: JsonObject | null): void {
  if (update === null) return;
  const rows = json[table];
  if (isObject(rows)) rows[uuid] = update;
  else json[table] = { [uuid]: update };
}
