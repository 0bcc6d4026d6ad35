/** The operations of a transaction (RFC 7047 §5.2), worded as ovsdb/execution.c words its answers. */
import { readCondition } from './condition.ts';
import { compareData, type Datum, sameDatum } from './datum.ts';
import { OvsdbError, syntaxError } from './error.ts';
import { isObject, type Json, type JsonObject } from './json.ts';
import { mutatedCells, readMutations } from './mutation.ts';
import { Parser } from './parser.ts';
import type { Row } from './row.ts';
import { type Column, type TableSchema, UUID_COLUMN } from './schema/types.ts';
import type { Transaction } from './transaction.ts';
import { parseUuid } from './uuid.ts';
import { checkDatum, datumToJson, readDatum, type Symbols } from './values.ts';

/** Names that inserts give to rows, and the UUIDs behind them. */
export class NamedUuids implements Symbols {
  private readonly transaction: Transaction;
  private readonly uuids = new Map<string, string>();
  private readonly created = new Set<string>();

  constructor(transaction: Transaction) {
    this.transaction = transaction;
  }
  uuidOf(name: string): string {
    let uuid = this.uuids.get(name);
    if (uuid === undefined) {
      uuid = this.transaction.newUuid();
      this.uuids.set(name, uuid);
    }
    return uuid;
  }
  /** Says which row a name means, once. False: the name has its row. */
  create(name: string, uuid: string | null): boolean {
    if (this.created.has(name)) return false;
    this.created.add(name);
    if (uuid !== null) this.uuids.set(name, uuid);
    return true;
  }
}

/** One transaction under way. */
export interface Execution {
  readonly transaction: Transaction;
  readonly names: NamedUuids;
  /** Whether the client holds a lock. */
  readonly ownsLock: (name: string) => boolean;
  /** Milliseconds since the request came; null: nothing can wait. */
  readonly elapsed: number | null;
}
/** A `wait` whose condition does not hold, and whose time is not over. `timeout`: Infinity where it has none. */
export class WaitUnmet extends Error {
  readonly timeout: number;
  constructor(timeout: number) {
    super('wait');
    this.timeout = timeout;
  }
}

function tableOf(x: Execution, parser: Parser): TableSchema | null {
  const name = parser.text('table', 'id');
  if (parser.error !== null) return null;
  const schema = x.transaction.store.schema.tables.get(name);
  if (schema === undefined) parser.fail(`No table named ${name}.`);
  return schema ?? null;
}
/** The columns that a request names; without names all. */
export function readColumns(json: Json | undefined, table: TableSchema): readonly Column[] {
  if (json === undefined) return [...table.byName.values()];
  const wrong = 'array of distinct column names expected';
  if (!Array.isArray(json)) throw syntaxError(json, wrong);
  const columns: Column[] = [];
  for (const name of json) {
    if (typeof name !== 'string') throw syntaxError(json, wrong);
    const column = table.byName.get(name);
    if (column === undefined) throw syntaxError(json, `${name} is not a valid column name`);
    if (columns.includes(column)) throw syntaxError(json, wrong);
    columns.push(column);
  }
  return columns;
}
function readRow(json: Json, table: TableSchema, names: Symbols): Map<string, Datum> {
  if (!isObject(json)) throw syntaxError(json, 'row must be JSON object');
  const values = new Map<string, Datum>();
  for (const name of Object.keys(json)) {
    const column = table.byName.get(name);
    if (column === undefined) throw syntaxError(json, `No column ${name} in table ${table.name}.`, 'unknown column');
    values.set(name, readDatum(json[name]!, column.type, names));
  }
  return values;
}

function insert(x: Execution, parser: Parser): JsonObject {
  const table = tableOf(x, parser);
  const given = parser.optional('uuid', 'string');
  const name = parser.optional('uuid-name', 'id');
  const row = parser.object('row');
  parser.check();
  let uuid: string | null = null;
  if (typeof given === 'string') {
    uuid = parseUuid(given);
    if (uuid === null) throw syntaxError(given, 'bad uuid');
    if (!x.transaction.mayInsert(table!.name, uuid)) {
      throw syntaxError(
        given,
        'This UUID would duplicate a UUID already present within the table or deleted within the same transaction.',
        'duplicate uuid',
      );
    }
  }
  if (typeof name === 'string') {
    if (!x.names.create(name, uuid)) {
      throw syntaxError(name, 'This "uuid-name" appeared on an earlier "insert" operation.', 'duplicate uuid-name');
    }
    uuid = x.names.uuidOf(name);
  }
  uuid ??= x.transaction.newUuid();
  const inserted = x.transaction.insert(table!.name, uuid, readRow(row, table!, x.names));
  // Defaults may break rules, too. What holds more than one element was read, and so checked.
  for (const column of table!.columns) {
    const cell = inserted.cell(column);
    if (cell.keys.length === 1) checkDatum(cell, column.type);
  }
  return { uuid: ['uuid', uuid] };
}

function rowToJson(row: Row, columns: readonly Column[]): JsonObject {
  const json: JsonObject = {};
  for (const column of columns) json[column.name] = datumToJson(row.cell(column), column.type);
  return json;
}
function sameIn(a: Row, b: Row, columns: readonly Column[]): boolean {
  return columns.every((column) => sameDatum(a.cell(column), b.cell(column)));
}
/** Rows that differ in these columns; of those that do not the first. */
function distinct(rows: readonly Row[], columns: readonly Column[]): readonly Row[] {
  if (columns.includes(UUID_COLUMN)) return rows;
  const seen = new Set<string>();
  return rows.filter((row) => {
    const key = JSON.stringify(columns.map((column) => [row.cell(column).keys, row.cell(column).values]));
    return !seen.has(key) && seen.add(key);
  });
}
function select(x: Execution, parser: Parser): JsonObject {
  const table = tableOf(x, parser);
  const where = parser.array('where');
  const wanted = parser.optional('columns', 'array');
  const order = parser.optional('sort', 'array');
  parser.check();
  const condition = readCondition(table!, where, x.names);
  const columns = readColumns(wanted, table!);
  const sort = order === undefined ? [] : readColumns(order, table!);
  const rows = [...distinct(x.transaction.select(table!.name, condition), columns)];
  if (sort.length > 0) {
    rows.sort((a, b) => {
      for (const column of sort) {
        const by = compareData(a.cell(column), b.cell(column));
        if (by !== 0) return by;
      }
      return 0;
    });
  }
  return { rows: rows.map((row) => rowToJson(row, columns)) };
}

function update(x: Execution, parser: Parser): JsonObject {
  const table = tableOf(x, parser);
  const where = parser.array('where');
  const json = parser.object('row');
  parser.check();
  const values = readRow(json, table!, x.names);
  for (const name of values.keys()) {
    if (!table!.byName.get(name)!.mutable) {
      throw syntaxError(
        parser.whole,
        `Cannot update immutable column ${name} in table ${table!.name}.`,
        'constraint violation',
      );
    }
  }
  const rows = x.transaction.select(table!.name, readCondition(table!, where, x.names));
  for (const row of rows) {
    const cells = table!.columns.map((column) => values.get(column.name) ?? row.cell(column));
    x.transaction.modify(row, cells);
  }
  return { count: rows.length };
}
function mutate(x: Execution, parser: Parser): JsonObject {
  const table = tableOf(x, parser);
  const where = parser.array('where');
  const json = parser.array('mutations');
  parser.check();
  const mutations = readMutations(table!, json, x.names);
  const rows = x.transaction.select(table!.name, readCondition(table!, where, x.names));
  for (const row of rows) x.transaction.modify(row, mutatedCells(row, mutations));
  return { count: rows.length };
}
function remove(x: Execution, parser: Parser): JsonObject {
  const where = parser.array('where');
  const table = tableOf(x, parser);
  parser.check();
  const rows = x.transaction.select(table!.name, readCondition(table!, where, x.names));
  for (const row of rows) x.transaction.delete(row);
  return { count: rows.length };
}

function wait(x: Execution, parser: Parser): JsonObject {
  const timeout = parser.optional('timeout', 'integer');
  const where = parser.array('where');
  const wanted = parser.optional('columns', 'array');
  const until = parser.text('until', 'string');
  const json = parser.array('rows');
  const table = tableOf(x, parser);
  parser.check();
  const condition = readCondition(table!, where, x.names);
  const columns = readColumns(wanted, table!);
  if (typeof timeout === 'number' && timeout < 0) throw syntaxError(timeout, 'timeout must be nonnegative');
  if (until !== '==' && until !== '!=') throw syntaxError(until, '"until" must be "==" or "!="');
  const expected = distinct(
    json.map((row) => x.transaction.detached(table!.name, readRow(row, table!, x.names))),
    columns,
  );
  const actual = distinct(x.transaction.select(table!.name, condition), columns);
  const equal =
    actual.length === expected.length && actual.every((row) => expected.some((other) => sameIn(row, other, columns)));
  if (equal === (until === '==')) return {};
  const limit = typeof timeout === 'number' ? timeout : Infinity;
  if (x.elapsed !== null && x.elapsed < limit) throw new WaitUnmet(limit);
  throw new OvsdbError(
    'timed out',
    x.elapsed ? `"wait" timed out after ${x.elapsed} ms` : '"where" clause test failed',
  );
}

function commit(_x: Execution, parser: Parser): JsonObject {
  // Every commit is as durable as the next: the database is kept by whoever listens.
  parser.optional('durable', 'boolean');
  return {};
}
function abort(): JsonObject {
  throw new OvsdbError('aborted', 'aborted by request');
}
function comment(_x: Execution, parser: Parser): JsonObject {
  parser.text('comment', 'string');
  return {};
}
function assertLock(x: Execution, parser: Parser): JsonObject {
  const lock = parser.text('lock', 'id');
  if (parser.error === null && !x.ownsLock(lock)) throw new OvsdbError('not owner', `Asserted lock ${lock} not held.`);
  return {};
}

const OPERATIONS: ReadonlyMap<string, (x: Execution, parser: Parser) => JsonObject> = new Map([
  ['assert', assertLock],
  ['comment', comment],
  ['commit', commit],
  ['abort', abort],
  ['delete', remove],
  ['insert', insert],
  ['mutate', mutate],
  ['select', select],
  ['update', update],
  ['wait', wait],
]);
const READ_ONLY = new Set(['abort', 'assert', 'comment', 'select', 'wait']);

function executeOne(x: Execution, operation: Json, at: string): JsonObject {
  const parser = new Parser(operation, `ovsdb operation ${at}`);
  const name = parser.text('op', 'id');
  const run = OPERATIONS.get(name);
  let result: JsonObject = {};
  let failure: unknown = null;
  if (parser.error === null) {
    if (run === undefined) parser.fail(`No operation "${name}"`);
    else {
      try {
        result = run(x, parser);
      } catch (error) {
        failure = error;
      }
    }
  }
  // What is wrong with the request's form comes before what is wrong with its content.
  parser.finish();
  if (failure !== null) throw failure;
  const { schema } = x.transaction.store;
  if (schema.name.startsWith('_') && !READ_ONLY.has(name)) {
    throw new OvsdbError('not allowed', `${name} operation not allowed on table in reserved database ${schema.name}`);
  }
  return result;
}

/**
 * Executes operations in order. Returns a result for each; null after one that failed, and then the transaction is to be dropped
 * (`failed`). Throws WaitUnmet.
 */
export function executeAll(x: Execution, operations: readonly Json[]): { results: Json[]; failed: boolean } {
  const results: Json[] = [];
  for (const [i, operation] of operations.entries()) {
    try {
      results.push(executeOne(x, operation, `${i + 1} of ${operations.length}`));
    } catch (error) {
      if (!(error instanceof OvsdbError)) throw error;
      results.push(error.toJson());
      while (results.length < operations.length) results.push(null);
      return { results, failed: true };
    }
  }
  return { results, failed: false };
}
