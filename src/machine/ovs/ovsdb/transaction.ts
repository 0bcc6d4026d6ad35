/**
 * A transaction's view of a database: the rows as they stand, with its own changes over them. Nothing is changed until commit()
 * has found all rules of the schema kept (ovsdb/transaction.c); a transaction that is dropped leaves no trace.
 */
import { assert } from '../../../engine/assert.ts';
import type { RandomStream } from '../../../engine/random.ts';
import { type Condition, everyHolds, soughtUuid } from './condition.ts';
import { type Datum, defaultDatum, sameDatum } from './datum.ts';
import { Row } from './row.ts';
import type { DatabaseSchema } from './schema/types.ts';
import type { Table } from './table.ts';
import { randomUuid, ZERO_UUID } from './uuid.ts';

/** A row that a transaction touches. */
export interface Touched {
  readonly before: Row | null;
  after: Row | null;
}

/** What transactions work on. */
export interface Store {
  readonly schema: DatabaseSchema;
  readonly tables: ReadonlyMap<string, Table>;
  /** Makes the UUIDs of rows and versions. */
  readonly random: RandomStream;
}

export class Transaction {
  readonly store: Store;
  /** Table -> UUID -> row. */
  readonly touched = new Map<string, Map<string, Touched>>();

  constructor(store: Store) {
    this.store = store;
  }

  /** For a row: none that there is. Rows that were loaded were drawn from such a stream, too, maybe from this one. */
  newUuid(): string {
    for (;;) {
      const uuid = randomUuid(this.store.random);
      if (!this.isUsed(uuid)) return uuid;
    }
  }
  private isUsed(uuid: string): boolean {
    for (const table of this.store.tables.values()) if (table.rows.has(uuid)) return true;
    for (const rows of this.touched.values()) if (rows.has(uuid)) return true;
    return false;
  }
  table(name: string): Table {
    const table = this.store.tables.get(name);
    assert(table !== undefined, `${this.store.schema.name} has no table ${name}`);
    return table;
  }
  private touchedOf(table: string): Map<string, Touched> {
    let rows = this.touched.get(table);
    if (rows === undefined) {
      rows = new Map();
      this.touched.set(table, rows);
    }
    return rows;
  }
  /** The entry of a row, so that it may change; undefined: there is no such row. */
  touch(table: string, uuid: string): Touched | undefined {
    const rows = this.touchedOf(table);
    const known = rows.get(uuid);
    if (known !== undefined) return known;
    const row = this.table(table).rows.get(uuid);
    if (row === undefined) return undefined;
    const touched = { before: row, after: row };
    rows.set(uuid, touched);
    return touched;
  }

  row(table: string, uuid: string): Row | undefined {
    const touched = this.touched.get(table)?.get(uuid);
    if (touched !== undefined) return touched.after ?? undefined;
    return this.table(table).rows.get(uuid);
  }
  *rows(table: string): Generator<Row> {
    const { rows } = this.table(table);
    const touched = this.touched.get(table);
    if (touched === undefined) {
      yield* rows.values();
      return;
    }
    for (const row of rows.values()) {
      const here = touched.get(row.uuid);
      if (here === undefined) yield row;
      else if (here.after !== null) yield here.after;
    }
    for (const { before, after } of touched.values()) if (before === null && after !== null) yield after;
  }
  /** The rows for which a condition holds, as they are before anything is done with them. */
  select(table: string, condition: Condition): Row[] {
    const uuid = soughtUuid(condition);
    if (uuid !== null) {
      const row = this.row(table, uuid);
      return row !== undefined && everyHolds(condition, row) ? [row] : [];
    }
    const found: Row[] = [];
    for (const row of this.rows(table)) if (everyHolds(condition, row)) found.push(row);
    return found;
  }

  /** `uuid` may be that of a row which is there, or was until this transaction deleted it: then it is refused. */
  mayInsert(table: string, uuid: string): boolean {
    return this.touched.get(table)?.has(uuid) !== true && !this.table(table).rows.has(uuid);
  }
  /** A row that belongs to nothing: to compare with. */
  detached(table: string, values: ReadonlyMap<string, Datum>, uuid: string | null = null, version = ZERO_UUID): Row {
    const { schema } = this.table(table);
    const cells = schema.columns.map((column) => values.get(column.name) ?? defaultDatum(column.type));
    return new Row(schema, uuid ?? String(values.get('_uuid')?.keys[0] ?? ZERO_UUID), version, cells);
  }
  /** Adds a row. `values`: its cells by column; the others hold their default. */
  insert(table: string, uuid: string, values: ReadonlyMap<string, Datum>): Row {
    const row = this.detached(table, values, uuid, this.newUuid());
    this.touchedOf(table).set(uuid, { before: null, after: row });
    return row;
  }
  /** Puts a row where one with its UUID may have been deleted by this transaction. */
  restore(table: string, uuid: string, values: ReadonlyMap<string, Datum>): void {
    const touched = this.touch(table, uuid);
    if (touched === undefined) this.insert(table, uuid, values);
    else touched.after = this.detached(table, values, uuid, this.newUuid());
  }
  /** Gives a row other cells. Where all of them are what they were nothing happens. */
  modify(row: Row, cells: readonly Datum[]): void {
    if (cells.every((cell, i) => sameDatum(cell, row.cells[i]!))) return;
    const touched = this.touch(row.table.name, row.uuid);
    assert(touched !== undefined && touched.after !== null, 'a row that is modified is there');
    touched.after = new Row(row.table, row.uuid, row.version, cells);
  }
  delete(row: Row): void {
    const touched = this.touch(row.table.name, row.uuid);
    assert(touched !== undefined, 'a row that is deleted is there');
    touched.after = null;
  }
}
