/**
 * One database of ovsdb-server: its rows, and the transactions that change them. It knows no connections: clients come through
 * sessions, ovs-vswitchd calls it directly.
 */
import { assert } from '../../../engine/assert.ts';
import type { RandomStream } from '../../../engine/random.ts';
import { type Datum, defaultDatum, sameDatum, sortedDatum } from './datum.ts';
import { OvsdbError, syntaxError } from './error.ts';
import { type Counts, isPersistent, settle } from './integrity.ts';
import { isObject, type Json, type JsonObject } from './json.ts';
import { executeAll, NamedUuids, WaitUnmet } from './operations.ts';
import type { Row } from './row.ts';
import type { Atom, Column, DatabaseSchema, TableSchema } from './schema/types.ts';
import { Table } from './table.ts';
import { Transaction } from './transaction.ts';
import { parseUuid } from './uuid.ts';
import { checkDatum, datumToJson, readDatum } from './values.ts';

/** A column's value as code writes it: null and [] are the empty set; an object or Map is a map. */
export type Value = Atom | null | readonly Atom[] | ReadonlyMap<Atom, Atom> | Readonly<Record<string, Atom>>;
export type Values = Readonly<Record<string, Value>>;

/** What a transaction did to one row. `before` null: it is new; `after` null: it is gone. */
export interface RowChange {
  readonly table: string;
  readonly uuid: string;
  readonly before: Row | null;
  readonly after: Row | null;
}
export interface Commit {
  /** Each row at most once, in the order of the schema's tables; rows that came out as they were are not among them. */
  readonly changes: readonly RowChange[];
  /** Something changed that is kept when the server stops: some column is not ephemeral, or a row came or went. */
  readonly persistent: boolean;
  /** Who made it in code; null: it does not say, or it was a client. */
  readonly author: object | null;
}

/** A transaction in code. What it does stands when the function that got it returns. */
export interface Edit {
  /** Adds a row; columns that `values` does not name hold their default. Returns its UUID. */
  insert(table: string, values: Values): string;
  /** A row that is not there is left out. */
  update(table: string, uuid: string, values: Values): void;
  delete(table: string, uuid: string): void;
  /** As the transaction sees it. */
  row(table: string, uuid: string): Row | undefined;
}

/** Who executes a transaction, and since when. */
export interface Client {
  readonly ownsLock: (name: string) => boolean;
  /** Milliseconds since its request came; null: it does not wait. */
  readonly elapsed: number | null;
  /** Calls `apply`, which changes the rows and tells the listeners. Called only for a transaction that stands and changes something. */
  readonly enter?: (apply: () => void) => void;
}
/** Results, or how long in all a `wait` that is not met may take, in milliseconds. */
export type Outcome = { readonly results: Json[] } | { readonly timeout: number };

const NOBODY: Client = { ownsLock: () => false, elapsed: null };

function valueToDatum(value: Value, column: Column): Datum {
  if (value === null) return defaultDatum({ ...column.type, min: 0 });
  if (typeof value !== 'object') return { keys: [value], values: null };
  if (Array.isArray(value)) {
    const datum = sortedDatum([...new Set<Atom>(value)], null);
    assert(datum !== null, column.name);
    return datum;
  }
  const map = value instanceof Map ? value : new Map(Object.entries(value as Record<string, Atom>));
  const datum = sortedDatum([...map.keys()], [...map.values()]);
  assert(datum !== null, column.name);
  return datum;
}
/** The shape of a value that code wrote is our own business; its limits are the schema's. */
function readValues(table: TableSchema, values: Values): Map<string, Datum> {
  const data = new Map<string, Datum>();
  for (const [name, value] of Object.entries(values)) {
    const column = table.byName.get(name);
    assert(column !== undefined && column.index >= 0, `${table.name} has no column ${name}`);
    const datum = valueToDatum(value, column);
    const { min, max } = column.type;
    const isMap = column.type.value !== null;
    assert(isMap === (datum.values !== null), `${table.name}.${name} is ${isMap ? 'a map' : 'no map'}`);
    assert(datum.keys.length >= min && datum.keys.length <= max, `${table.name}.${name} holds ${min} to ${max}`);
    checkDatum(datum, column.type);
    data.set(name, datum);
  }
  return data;
}

export class Database {
  readonly schema: DatabaseSchema;
  readonly tables: ReadonlyMap<string, Table>;
  readonly random: RandomStream;
  private readonly listeners = new Set<(commit: Commit) => void>();
  /** Commits that were not told yet: a listener may make the next one. */
  private readonly untold: Commit[] = [];
  private telling = false;

  /** `random` makes the UUIDs of rows and versions. */
  constructor(schema: DatabaseSchema, random: RandomStream) {
    this.schema = schema;
    this.random = random;
    this.tables = new Map([...schema.tables.values()].map((table) => [table.name, new Table(table)]));
  }

  private table(name: string): Table {
    const table = this.tables.get(name);
    assert(table !== undefined, `${this.schema.name} has no table ${name}`);
    return table;
  }
  row(table: string, uuid: string): Row | undefined {
    return this.table(table).rows.get(uuid);
  }
  /** In the order in which they came. */
  rows(table: string): Iterable<Row> {
    return this.table(table).rows.values();
  }
  /** The first row whose column holds just this value. */
  find(table: string, column: string, value: Atom): Row | undefined {
    for (const row of this.rows(table)) {
      const { keys } = row.datum(column);
      if (keys.length === 1 && keys[0] === value) return row;
    }
    return undefined;
  }

  /**
   * Runs the operations of a transaction (RFC 7047 §5.2): all, or none. Returns its results: one per operation, null after the one
   * that failed, and one more for what failed at the commit. A `wait` whose condition does not hold fails at once.
   */
  transact(operations: readonly Json[]): Json[] {
    const outcome = this.execute(operations, NOBODY);
    assert('results' in outcome, 'who does not wait has results');
    return outcome.results;
  }
  /** The same for a client, which may hold locks and wait. */
  execute(operations: readonly Json[], client: Client): Outcome {
    const transaction = new Transaction(this);
    const names = new NamedUuids(transaction);
    const { ownsLock, elapsed, enter } = client;
    // Who changes nothing draws nothing: UUIDs depend on what was done, not on what was tried.
    const { position } = this.random;
    try {
      const { results, failed } = executeAll({ transaction, names, ownsLock, elapsed }, operations);
      const done = failed ? null : this.commit(transaction, enter);
      if (done instanceof OvsdbError) results.push(done.toJson());
      if (done !== true) this.random.moveTo(position);
      return { results };
    } catch (error) {
      if (!(error instanceof WaitUnmet)) throw error;
      this.random.moveTo(position);
      return { timeout: error.timeout };
    }
  }
  /** A transaction in code, `author`'s. Returns why it was refused; null: it stands. */
  edit(run: (edit: Edit) => void, author: object | null = null): OvsdbError | null {
    const transaction = new Transaction(this);
    try {
      run({
        insert: (table, values) => {
          const uuid = transaction.newUuid();
          transaction.insert(table, uuid, readValues(this.table(table).schema, values));
          return uuid;
        },
        update: (table, uuid, values) => {
          const row = transaction.row(table, uuid);
          if (row === undefined) return;
          const data = readValues(row.table, values);
          transaction.modify(
            row,
            row.table.columns.map((column) => data.get(column.name) ?? row.cell(column)),
          );
        },
        delete: (table, uuid) => {
          const row = transaction.row(table, uuid);
          if (row !== undefined) transaction.delete(row);
        },
        row: (table, uuid) => transaction.row(table, uuid),
      });
    } catch (error) {
      if (error instanceof OvsdbError) return error;
      throw error;
    }
    const done = this.commit(transaction, undefined, author);
    return done instanceof OvsdbError ? done : null;
  }

  /** Returns why it was refused, or whether it changed anything. */
  private commit(
    transaction: Transaction,
    enter: (apply: () => void) => void = (apply) => apply(),
    author: object | null = null,
  ): OvsdbError | boolean {
    let counts: Counts;
    try {
      counts = settle(transaction);
    } catch (error) {
      if (error instanceof OvsdbError) return error;
      throw error;
    }
    if ([...transaction.touched.values()].every((rows) => rows.size === 0)) return false;
    enter(() => this.apply(transaction, counts, author));
    return true;
  }
  private apply(transaction: Transaction, counts: Counts, author: object | null): void {
    const changes: RowChange[] = [];
    let persistent = false;
    for (const [name, table] of this.tables) {
      const rows = [...(transaction.touched.get(name)?.values() ?? [])];
      if (rows.length === 0) continue;
      table.apply(rows);
      for (const { before, after } of rows) {
        changes.push({ table: name, uuid: (after ?? before)!.uuid, before, after });
        persistent ||= isPersistent(table.schema, before, after);
      }
    }
    for (const [name, deltas] of counts.deltas) {
      const { references } = this.table(name);
      for (const [uuid, delta] of deltas) {
        const count = (references.get(uuid) ?? 0) + delta;
        if (count === 0) references.delete(uuid);
        else references.set(uuid, count);
      }
    }
    this.tell({ changes, persistent, author });
  }
  private tell(commit: Commit): void {
    this.untold.push(commit);
    if (this.telling) return;
    this.telling = true;
    try {
      for (let next = this.untold.shift(); next !== undefined; next = this.untold.shift()) {
        for (const listener of [...this.listeners]) listener(next);
      }
    } finally {
      this.telling = false;
    }
  }

  /**
   * Calls `listener` after each commit that changed something. It may read, and start transactions: their commits are told after
   * this one. Returns what ends it.
   */
  onCommit(listener: (commit: Commit) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** What is kept when the server stops: `{table: {uuid: {column: value}}}`, without ephemeral columns and without defaults. */
  toJson(): JsonObject {
    const json: JsonObject = {};
    for (const [name, table] of this.tables) {
      const rows: JsonObject = {};
      for (const row of table.rows.values()) {
        const values: JsonObject = {};
        for (const column of table.schema.columns) {
          const cell = row.cell(column);
          if (column.ephemeral || sameDatum(cell, defaultDatum(column.type))) continue;
          values[column.name] = datumToJson(cell, column.type);
        }
        rows[row.uuid] = values;
      }
      if (table.rows.size > 0) json[name] = rows;
    }
    return json;
  }
  /** Puts the rows of a `toJson()` in the place of all that are here, as one commit. Throws OvsdbError where they do not fit. */
  load(json: Json): void {
    const transaction = new Transaction(this);
    for (const [name, table] of this.tables)
      for (const row of table.rows.values()) transaction.delete(transaction.row(name, row.uuid)!);
    if (!isObject(json)) throw syntaxError(json, 'tables expected');
    for (const [name, rows] of Object.entries(json)) {
      const table = this.tables.get(name);
      if (table === undefined) throw syntaxError(undefined, `No table named ${name}.`);
      if (!isObject(rows)) throw syntaxError(rows, 'rows expected');
      for (const [text, values] of Object.entries(rows)) this.loadRow(transaction, table.schema, text, values);
    }
    const done = this.commit(transaction);
    if (done instanceof OvsdbError) throw done;
  }
  private loadRow(transaction: Transaction, table: TableSchema, text: string, values: Json): void {
    const uuid = parseUuid(text);
    if (uuid === null || !isObject(values)) throw syntaxError(values, `${text}: a row expected`);
    const data = new Map<string, Datum>();
    for (const [name, value] of Object.entries(values)) {
      const column = table.byName.get(name);
      if (column === undefined)
        throw syntaxError(values, `No column ${name} in table ${table.name}.`, 'unknown column');
      data.set(name, readDatum(value, column.type, null));
    }
    transaction.restore(table.name, uuid, data);
  }
}
