/** Rows as values that do not change: a transaction that changes a row puts another one in its place. */
import { assert } from '../../../engine/assert.ts';
import type { Datum } from './datum.ts';
import { type Atom, type Column, type TableSchema, UUID_COLUMN } from './schema/types.ts';

/**
 * One row. `cells` are in the order of the table's columns. The accessors take a column's name; a name that the table does not
 * have is our own mistake.
 */
export class Row {
  declare readonly table: TableSchema;
  declare readonly uuid: string;
  /** `_version`: another one after each change. */
  declare readonly version: string;
  declare readonly cells: readonly Datum[];

  constructor(table: TableSchema, uuid: string, version: string, cells: readonly Datum[]) {
    this.table = table;
    this.uuid = uuid;
    this.version = version;
    this.cells = cells;
  }

  datum(column: string): Datum {
    const found = this.table.byName.get(column);
    assert(found !== undefined, `${this.table.name} has no column ${column}`);
    return this.cell(found);
  }
  /** The value of a column of this table. */
  cell(column: Column): Datum {
    if (column.index >= 0) return this.cells[column.index]!;
    return { keys: [column === UUID_COLUMN ? this.uuid : this.version], values: null };
  }
  /** The value of a scalar or an optional column; null: empty. */
  atom(column: string): Atom | null {
    return this.datum(column).keys[0] ?? null;
  }
  /** A text; '' where the column is empty. */
  text(column: string): string {
    return String(this.atom(column) ?? '');
  }
  textOrNull(column: string): string | null {
    const atom = this.atom(column);
    return atom === null ? null : String(atom);
  }
  /** A reference's UUID, or null. */
  ref(column: string): string | null {
    return this.textOrNull(column);
  }
  /** A number; null where the column is empty. */
  integer(column: string): number | null {
    const atom = this.atom(column);
    return atom === null ? null : Number(atom);
  }
  /** A boolean; false where the column is empty. */
  flag(column: string): boolean {
    return this.atom(column) === true;
  }
  /** Texts or UUIDs of a set, sorted. */
  texts(column: string): readonly string[] {
    return this.datum(column).keys.map(String);
  }
  integers(column: string): readonly number[] {
    return this.datum(column).keys.map(Number);
  }
  /** A map; its keys are sorted. */
  map(column: string): ReadonlyMap<Atom, Atom> {
    const { keys, values } = this.datum(column);
    return new Map(keys.map((key, i) => [key, values![i]!]));
  }
  /** A map from text to text. */
  textMap(column: string): ReadonlyMap<string, string> {
    const { keys, values } = this.datum(column);
    return new Map(keys.map((key, i) => [String(key), String(values![i]!)]));
  }
}
