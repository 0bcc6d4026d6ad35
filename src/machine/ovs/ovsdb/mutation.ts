/** Mutations of a row's columns (RFC 7047 §5.1 <mutation>). */
import { type Datum, sortedDatum, subtract, union } from './datum.ts';
import { OvsdbError, syntaxError } from './error.ts';
import type { Json } from './json.ts';
import type { Row } from './row.ts';
import type { BaseType, Column, ColumnType, TableSchema } from './schema/types.ts';
import { isScalar } from './schema/types.ts';
import { checkAtom, readDatum, type Symbols, typeText } from './values.ts';

const MUTATORS = ['+=', '-=', '*=', '/=', '%=', 'insert', 'delete'] as const;
type Mutator = (typeof MUTATORS)[number];
export interface Mutation {
  readonly column: Column;
  readonly mutator: Mutator;
  readonly argument: Datum;
}

const INTEGER_MAX = 2 ** 63;
const isInsertOrDelete = (mutator: Mutator): boolean => mutator === 'insert' || mutator === 'delete';

function mayApply(mutator: Mutator, type: ColumnType): boolean {
  // A scalar is no set: a set may hold another number of elements than one.
  if (isInsertOrDelete(mutator)) return type.value !== null || !isScalar(type);
  if (type.value !== null) return false;
  return type.key.type === 'integer' || (type.key.type === 'real' && mutator !== '%=');
}
function readArgument(json: Json, mutator: Mutator, type: ColumnType, symbols: Symbols | null): Datum {
  if (!isInsertOrDelete(mutator)) {
    const key: BaseType = { ...type.key, min: null, max: null, values: null };
    return readDatum(json, { key, value: null, min: 1, max: 1 }, symbols);
  }
  if (mutator === 'insert') return readDatum(json, { ...type, min: 0 }, symbols);
  const pairs: ColumnType = { ...type, min: 0, max: Infinity };
  if (type.value === null) return readDatum(json, pairs, symbols);
  // A map loses pairs, or whatever stands under keys. What is neither is told as if keys were meant.
  try {
    return readDatum(json, pairs, symbols);
  } catch (error) {
    if (!(error instanceof OvsdbError)) throw error;
    return readDatum(json, { ...pairs, value: null }, symbols);
  }
}

function readMutation(table: TableSchema, json: Json, symbols: Symbols | null): Mutation {
  if (!Array.isArray(json) || json.length !== 3) throw syntaxError(json, 'Parse error in mutation.');
  const [name, word, argument] = json;
  if (typeof name !== 'string' || typeof word !== 'string') throw syntaxError(json, 'Parse error in mutation.');
  const column = table.byName.get(name);
  if (column === undefined) throw syntaxError(json, `No column ${name} in table ${table.name}.`, 'unknown column');
  if (!column.mutable) {
    throw syntaxError(json, `Cannot mutate immutable column ${name} in table ${table.name}.`, 'constraint violation');
  }
  const mutator = MUTATORS.find((known) => known === word);
  if (mutator === undefined) throw new OvsdbError('unknown mutator', `No mutator named ${word}.`);
  if (!mayApply(mutator, column.type)) {
    throw syntaxError(
      json,
      `Type mismatch: "${word}" operator may not be applied to column ${name} of type ${typeText(column.type)}.`,
    );
  }
  return { column, mutator, argument: readArgument(argument!, mutator, column.type, symbols) };
}
/** Throws OvsdbError. */
export function readMutations(table: TableSchema, json: readonly Json[], symbols: Symbols | null): Mutation[] {
  return json.map((mutation) => readMutation(table, mutation, symbols));
}

function calculate(mutator: Mutator, a: number, b: number, base: BaseType): number {
  if ((mutator === '/=' || mutator === '%=') && b === 0) throw new OvsdbError('domain error', 'Division by zero.');
  let result: number;
  if (mutator === '+=') result = a + b;
  else if (mutator === '-=') result = a - b;
  else if (mutator === '*=') result = a * b;
  else if (mutator === '%=') result = a % b;
  else result = base.type === 'integer' ? Math.trunc(a / b) : a / b;
  const limit = base.type === 'integer' ? INTEGER_MAX : Infinity;
  if (Number.isNaN(result) || Math.abs(result) >= limit) {
    throw new OvsdbError('range error', `Result of "${mutator}" operation is out of range.`);
  }
  // There is no negative zero in the database.
  return result + 0;
}
function mutate(cell: Datum, { column, mutator, argument }: Mutation): Datum {
  const { type } = column;
  if (isInsertOrDelete(mutator)) {
    const result = mutator === 'insert' ? union(cell, argument) : subtract(cell, argument);
    const n = result.keys.length;
    if (n >= type.min && n <= type.max) return result;
    throw new OvsdbError('constraint violation', `Attempted to store ${n} elements in ${typeText(type)}.`);
  }
  const operand = Number(argument.keys[0]);
  const keys = cell.keys.map((key) => calculate(mutator, Number(key), operand, type.key));
  for (const key of keys) checkAtom(key, type.key);
  const result = sortedDatum(keys, null);
  if (result !== null) return result;
  throw new OvsdbError('constraint violation', `Result of "${mutator}" operation contains duplicates.`);
}

/** The row's cells after the mutations, in their order. Throws OvsdbError. */
export function mutatedCells(row: Row, mutations: readonly Mutation[]): Datum[] {
  const cells = [...row.cells];
  for (const mutation of mutations) {
    const { index } = mutation.column;
    cells[index] = mutate(cells[index]!, mutation);
  }
  return cells;
}
