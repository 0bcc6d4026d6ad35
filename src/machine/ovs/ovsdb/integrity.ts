/**
 * What a transaction has to keep at its end (RFC 7047 §3.2, §5.2): references to rows that are there, rows of non-root tables only
 * while they are referenced, table sizes, unique indexes. Order and wording as in ovsdb/transaction.c.
 */
import { compareData, type Datum, findAtom, sameDatum, walk } from './datum.ts';
import { OvsdbError } from './error.ts';
import { Row } from './row.ts';
import type { Atom, BaseType, Column, TableSchema } from './schema/types.ts';
import { indexKey } from './table.ts';
import type { Touched, Transaction } from './transaction.ts';
import { ZERO_UUID } from './uuid.ts';
import { datumText } from './values.ts';

const isStrong = (base: BaseType | null): base is BaseType => base !== null && base.refTable !== null && !base.weak;
const isWeak = (base: BaseType | null): base is BaseType => base !== null && base.refTable !== null && base.weak;

/** Changes of reference counts that a transaction brings: table -> UUID -> sum. */
export class Counts {
  private readonly transaction: Transaction;
  readonly deltas = new Map<string, Map<string, number>>();

  constructor(transaction: Transaction) {
    this.transaction = transaction;
  }

  of(table: string, uuid: string): number {
    return (this.transaction.table(table).references.get(uuid) ?? 0) + (this.deltas.get(table)?.get(uuid) ?? 0);
  }
  add(table: string, uuid: string, delta: number): void {
    let rows = this.deltas.get(table);
    if (rows === undefined) {
      rows = new Map();
      this.deltas.set(table, rows);
    }
    rows.set(uuid, (rows.get(uuid) ?? 0) + delta);
  }
}

/** A column with strong references, and which of its atoms are some: keys, values or both. */
interface Strong {
  readonly column: Column;
  readonly keys: string | null;
  readonly values: string | null;
}
const STRONG = new WeakMap<TableSchema, readonly Strong[]>();
function strongColumns(table: TableSchema): readonly Strong[] {
  let strong = STRONG.get(table);
  if (strong === undefined) {
    strong = table.columns
      .map((column): Strong => {
        const { key, value } = column.type;
        return {
          column,
          keys: isStrong(key) ? key.refTable : null,
          values: isStrong(value) ? value.refTable : null,
        };
      })
      .filter(({ keys, values }) => keys !== null || values !== null);
    STRONG.set(table, strong);
  }
  return strong;
}
type EachReference = (table: string, uuid: string, column: Column) => void;

/**
 * Calls `gone` with every strong reference that a row had and does not have any more, and `come` with those that it did not have.
 * A reference to the row itself does not count.
 *
 * DEVIATION: the real server takes a row of another table that has the same UUID for the row itself, and lets the reference dangle.
 */
function changedReferences(before: Row | null, after: Row | null, gone: EachReference, come: EachReference): void {
  const row = (after ?? before)!;
  for (const { column, keys, values } of strongColumns(row.table)) {
    const was = before?.cell(column) ?? NOTHING;
    const is = after?.cell(column) ?? NOTHING;
    if (was === is) continue;
    const tell = (each: EachReference, table: string | null, uuid: Atom | undefined): void => {
      if (table !== null && (uuid !== row.uuid || table !== row.table.name)) each(table, String(uuid), column);
    };
    walk(
      was,
      is,
      (i) => {
        tell(gone, keys, was.keys[i]);
        tell(gone, values, was.values?.[i]);
      },
      (j) => {
        tell(come, keys, is.keys[j]);
        tell(come, values, is.values?.[j]);
      },
      (i, j) => {
        if (was.values?.[i] === is.values?.[j]) return;
        tell(gone, values, was.values?.[i]);
        tell(come, values, is.values?.[j]);
      },
    );
  }
}
const NOTHING: Datum = { keys: [], values: null };
const IGNORE = (): void => {};

function* allTouched(transaction: Transaction): Generator<Touched> {
  for (const rows of transaction.touched.values()) yield* rows.values();
}

/** Forgets rows that came and went. */
function dropGone(transaction: Transaction): void {
  for (const rows of transaction.touched.values()) {
    for (const [uuid, { before, after }] of rows) if (before === null && after === null) rows.delete(uuid);
  }
}
/** Forgets rows that came out as they were. */
function dropUnchanged(transaction: Transaction): void {
  dropGone(transaction);
  for (const rows of transaction.touched.values()) {
    for (const [uuid, { before, after }] of rows) {
      const same =
        before !== null && after !== null && before.cells.every((cell, i) => sameDatum(cell, after.cells[i]!));
      if (same) rows.delete(uuid);
    }
  }
}

function countReferences(transaction: Transaction, counts: Counts): void {
  for (const { before, after } of [...allTouched(transaction)]) {
    changedReferences(
      before,
      after,
      (table, uuid) => counts.add(table, uuid, -1),
      (table, uuid, column) => {
        const there = transaction.touched.get(table)?.has(uuid) === true || transaction.table(table).rows.has(uuid);
        if (!there) {
          throw new OvsdbError(
            'referential integrity violation',
            `Table ${after!.table.name} column ${column.name} row ${after!.uuid} references nonexistent row ${uuid} in table ${table}.`,
          );
        }
        counts.add(table, uuid, 1);
      },
    );
  }
  for (const { before, after } of allTouched(transaction)) {
    if (before === null || after !== null) continue;
    const left = counts.of(before.table.name, before.uuid);
    if (left > 0) {
      throw new OvsdbError(
        'referential integrity violation',
        `cannot delete ${before.table.name} row ${before.uuid} because of ${left} remaining reference(s)`,
      );
    }
  }
}

function isGarbage(transaction: Transaction, counts: Counts, table: string, uuid: string): boolean {
  return !transaction.table(table).schema.root && counts.of(table, uuid) === 0;
}
/** Rows of non-root tables that nobody references go, and with them what only they referenced. */
function collectGarbage(transaction: Transaction, counts: Counts): void {
  const queue: [string, string][] = [];
  for (const [table, rows] of transaction.touched) for (const uuid of rows.keys()) queue.push([table, uuid]);
  for (const [table, rows] of counts.deltas) for (const uuid of rows.keys()) queue.push([table, uuid]);
  for (const [table, uuid] of queue) {
    if (!isGarbage(transaction, counts, table, uuid)) continue;
    const touched = transaction.touch(table, uuid);
    if (touched === undefined || touched.after === null) continue;
    const row = touched.after;
    touched.after = null;
    const drop = (target: string, other: string): void => {
      counts.add(target, other, -1);
      queue.push([target, other]);
    };
    changedReferences(row, null, drop, IGNORE);
  }
}

function checkSizes(transaction: Transaction): void {
  for (const [name, touched] of transaction.touched) {
    const table = transaction.table(name);
    let n = table.rows.size;
    for (const { before, after } of touched.values()) n += (after === null ? 0 : 1) - (before === null ? 0 : 1);
    if (n > table.schema.maxRows) {
      throw new OvsdbError(
        'constraint violation',
        `transaction causes "${name}" table to contain ${n} rows, greater than the schema-defined limit of ${table.schema.maxRows} row(s)`,
      );
    }
  }
}

/** A set or map without the pairs whose weak reference points nowhere. */
function withoutDangling(transaction: Transaction, cell: Datum, { key, value }: Column['type']): Datum {
  const keep = (i: number): boolean => {
    if (isWeak(key) && transaction.row(key.refTable!, String(cell.keys[i])) === undefined) return false;
    return !(isWeak(value) && transaction.row(value.refTable!, String(cell.values![i])) === undefined);
  };
  const kept = cell.keys.map((_, i) => i).filter(keep);
  if (kept.length === cell.keys.length) return cell;
  const values = cell.values === null ? null : kept.map((i) => cell.values![i]!);
  return { keys: kept.map((i) => cell.keys[i]!), values };
}
function dropDangling(transaction: Transaction, row: Row, weak: readonly Column[]): void {
  const cells = [...row.cells];
  for (const column of weak) {
    const cell = withoutDangling(transaction, cells[column.index]!, column.type);
    const lost = cells[column.index]!.keys.length - cell.keys.length;
    if (lost > 0 && cell.keys.length < column.type.min) {
      throw emptied(transaction, row, column, lost);
    }
    cells[column.index] = cell;
  }
  transaction.modify(row, cells);
}
function emptied(transaction: Transaction, row: Row, column: Column, lost: number): OvsdbError {
  const isNew = transaction.touched.get(row.table.name)?.get(row.uuid)?.before === null;
  const where = `"${column.name}" in "${row.table.name}" row ${row.uuid}`;
  if (isNew && findAtom(row.cell(column).keys, ZERO_UUID) >= 0) {
    return new OvsdbError(
      'constraint violation',
      `Weak reference column ${where} (inserted within this transaction) contained all-zeros UUID (probably as the default value for this column) but deleting this value caused a constraint volation because this column is not allowed to be empty.`,
    );
  }
  const fresh = isNew ? '(inserted within this transaction) ' : '';
  return new OvsdbError(
    'constraint violation',
    `Deletion of ${lost} weak reference(s) to deleted (or never-existing) rows from column ${where} ${fresh}caused this column to become empty, but constraints on this column disallow an empty column.`,
  );
}
/** Weak references to rows that are not there are taken out of all rows that hold one. */
function assessWeakReferences(transaction: Transaction): void {
  const gone = new Set<string>();
  for (const { before, after } of allTouched(transaction)) {
    if (before !== null && after === null) gone.add(before.table.name);
  }
  for (const schema of transaction.store.schema.tables.values()) {
    const weak = schema.columns.filter(({ type }) => isWeak(type.key) || isWeak(type.value));
    if (weak.length === 0) continue;
    const targetGone = weak.some(
      ({ type }) => gone.has(type.key.refTable ?? '') || gone.has(type.value?.refTable ?? ''),
    );
    if (targetGone) {
      for (const row of [...transaction.rows(schema.name)]) dropDangling(transaction, row, weak);
    } else {
      for (const { after } of [...(transaction.touched.get(schema.name)?.values() ?? [])]) {
        if (after !== null) dropDangling(transaction, after, weak);
      }
    }
  }
}

/** `a`, `a and b`, `a, b, and c` */
function enumeration(words: readonly string[]): string {
  if (words.length < 3) return words.join(' and ');
  return `${words.slice(0, -1).join(', ')}, and ${words.at(-1)}`;
}
const indexText = (row: Row, index: readonly Column[]): string =>
  enumeration(index.map((column) => datumText(row.cell(column), column.type)));
const columnsText = (index: readonly Column[]): string =>
  `column${index.length > 1 ? 's' : ''} ${enumeration(index.map((column) => `"${column.name}"`))}`;
function historyText(transaction: Transaction, row: Row, index: readonly Column[]): string {
  const touched = transaction.touched.get(row.table.name)?.get(row.uuid);
  if (touched === undefined)
    return 'existed in the database before this transaction and was not modified by the transaction.';
  const { before } = touched;
  if (before === null) return 'was inserted by this transaction.';
  if (index.every((column) => sameDatum(before.cell(column), row.cell(column)))) {
    return "existed in the database before this transaction, which modified some of the row's columns but not any columns in this index.";
  }
  return `had the following index values before the transaction: ${indexText(before, index)}.`;
}
function compareRows(a: Row, b: Row): number {
  for (const column of a.table.columns) {
    const order = compareData(a.cell(column), b.cell(column));
    if (order !== 0) return order;
  }
  return 0;
}
function duplicate(transaction: Transaction, a: Row, b: Row, index: readonly Column[]): OvsdbError {
  const [first, second] = compareRows(a, b) < 0 ? [b, a] : [a, b];
  const history = (row: Row): string => `row, with UUID ${row.uuid}, ${historyText(transaction, row, index)}`;
  return new OvsdbError(
    'constraint violation',
    `Transaction causes multiple rows in "${a.table.name}" table to have identical values (${indexText(first, index)}) for index on ${columnsText(index)}.  First ${history(first)}  Second ${history(second)}`,
  );
}
function checkIndexes(transaction: Transaction): void {
  for (const [name, touched] of transaction.touched) {
    const table = transaction.table(name);
    table.schema.indexes.forEach((index, i) => {
      const seen = new Map<string, Row>();
      for (const { after } of touched.values()) {
        if (after === null) continue;
        const key = indexKey(after, index);
        const standing = table.indexes[i]!.get(key);
        const other = seen.get(key) ?? (standing !== undefined && !touched.has(standing.uuid) ? standing : undefined);
        if (other !== undefined) throw duplicate(transaction, other, after, index);
        seen.set(key, after);
      }
    });
  }
}

/**
 * Brings a transaction to the state that its commit would leave. Returns the changes of reference counts. Throws OvsdbError where
 * a rule of the schema is broken.
 */
export function settle(transaction: Transaction): Counts {
  const counts = new Counts(transaction);
  dropUnchanged(transaction);
  countReferences(transaction, counts);
  collectGarbage(transaction, counts);
  checkSizes(transaction);
  assessWeakReferences(transaction);
  checkIndexes(transaction);
  // What only lost a weak reference that it had just been given has another version all the same.
  dropGone(transaction);
  for (const touched of allTouched(transaction)) {
    const { before, after } = touched;
    if (before === null || after === null) continue;
    touched.after = new Row(after.table, after.uuid, transaction.newUuid(), after.cells);
  }
  return counts;
}

/** Whether a change is one of a column that is kept when the server stops. */
export function isPersistent(schema: TableSchema, before: Row | null, after: Row | null): boolean {
  if (before === null || after === null) return true;
  return schema.columns.some((column) => !column.ephemeral && !sameDatum(before.cell(column), after.cell(column)));
}
