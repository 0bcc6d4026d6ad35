/**
 * One database of ovsdb-server: its rows, and the transactions that change them. It knows no connections: clients come through
 * sessions, ovs-vswitchd calls it directly.
 */
import { assert } from '../../../engine/assert.ts';
import type { RandomStream } from '../../../engine/random.ts';
import type { OvsdbError } from './error.ts';
import type { Json, JsonObject } from './json.ts';
import type { Row } from './row.ts';
import type { Atom, DatabaseSchema } from './schema/types.ts';

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

export class Database {
  readonly schema: DatabaseSchema;

  /** `random` makes the UUIDs of rows and versions. */
  constructor(schema: DatabaseSchema, _random: RandomStream) {
    this.schema = schema;
  }

  row(_table: string, _uuid: string): Row | undefined {
    return undefined;
  }
  /** In the order in which they came. */
  rows(_table: string): Iterable<Row> {
    return [];
  }
  /** The first row whose column holds just this value. */
  find(_table: string, _column: string, _value: Atom): Row | undefined {
    return undefined;
  }

  /**
   * Runs the operations of a transaction (RFC 7047 §5.2): all, or none. Returns its results: one per operation, null after the one
   * that failed, and one more for what failed at the commit. A `wait` whose condition does not hold fails at once.
   */
  transact(_operations: readonly Json[]): Json[] {
    assert(false, 'not there yet');
  }
  /** A transaction in code. Returns why it was refused at the commit; null: it stands. */
  edit(_run: (edit: Edit) => void): OvsdbError | null {
    assert(false, 'not there yet');
  }

  /**
   * Calls `listener` after each commit that changed something. It may read, and start transactions: their commits are told after
   * this one. Returns what ends it.
   */
  onCommit(_listener: (commit: Commit) => void): () => void {
    return () => {};
  }

  /** What is kept when the server stops: `{table: {uuid: {column: value}}}`, without ephemeral columns and without defaults. */
  toJson(): JsonObject {
    return {};
  }
  /** Puts the rows of a `toJson()` in the place of all that are here, as one commit. Throws OvsdbError where they do not fit. */
  load(_rows: JsonObject): void {}
}
