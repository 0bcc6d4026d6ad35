/** Conditions of operations and monitors (RFC 7047 §5.1 <condition>): clauses over columns, all of which must hold. */
import { type Datum, excludesAll, includesAll, sameDatum } from './datum.ts';
import { OvsdbError, syntaxError } from './error.ts';
import type { Json } from './json.ts';
import type { Row } from './row.ts';
import { type Column, type ColumnType, isOptional, isScalar, type TableSchema, UUID_COLUMN } from './schema/types.ts';
import { readDatum, type Symbols, typeText } from './values.ts';

const FUNCTIONS = ['==', '!=', '<', '<=', '>', '>=', 'includes', 'excludes'] as const;
type Relation = (typeof FUNCTIONS)[number];

/** `true` and `false` may stand in the place of a clause. */
type Clause = boolean | { readonly column: Column; readonly relation: Relation; readonly argument: Datum };
export type Condition = readonly Clause[];

/** The type that a clause's argument has: wider than the column's where a part of it is compared. */
function argumentType(json: Json, relation: Relation, column: Column): ColumnType {
  const { type } = column;
  switch (relation) {
    case '<':
    case '<=':
    case '>':
    case '>=':
      if ((isScalar(type) || isOptional(type)) && (type.key.type === 'integer' || type.key.type === 'real')) {
        return { ...type, min: 1 };
      }
      throw syntaxError(
        json,
        `Type mismatch: "${relation}" operator may not be applied to column ${column.name} of type ${typeText(type)}.`,
      );
    case 'excludes':
      return isScalar(type) ? type : { ...type, min: 0, max: Infinity };
    case 'includes':
      return isScalar(type) ? type : { ...type, min: 0 };
    default:
      return type;
  }
}
function readClause(table: TableSchema, json: Json, symbols: Symbols | null): Clause {
  if (typeof json === 'boolean') return json;
  if (!Array.isArray(json) || json.length !== 3) throw syntaxError(json, 'Parse error in condition.');
  const [name, word, argument] = json;
  if (typeof name !== 'string' || typeof word !== 'string') throw syntaxError(json, 'Parse error in condition.');
  const column = table.byName.get(name);
  if (column === undefined) throw syntaxError(json, `No column ${name} in table ${table.name}.`, 'unknown column');
  const relation = FUNCTIONS.find((known) => known === word);
  if (relation === undefined) throw new OvsdbError('unknown function', `No function named ${word}.`);
  const type = argumentType(json, relation, column);
  return { column, relation, argument: readDatum(argument!, type, symbols) };
}
/** Throws OvsdbError. */
export function readCondition(table: TableSchema, json: readonly Json[], symbols: Symbols | null): Condition {
  return json.map((clause) => readClause(table, clause, symbols));
}

function holds(relation: Relation, cell: Datum, argument: Datum): boolean {
  switch (relation) {
    case '==':
      return sameDatum(cell, argument);
    case '!=':
      return !sameDatum(cell, argument);
    case 'includes':
      return includesAll(cell, argument);
    case 'excludes':
      return excludesAll(cell, argument);
    default: {
      // An empty optional column compares false.
      const value = cell.keys[0];
      const limit = argument.keys[0]!;
      if (value === undefined) return false;
      if (relation === '<') return value < limit;
      if (relation === '<=') return value <= limit;
      return relation === '>' ? value > limit : value >= limit;
    }
  }
}
function clauseHolds(clause: Clause, row: Row): boolean {
  if (typeof clause === 'boolean') return clause;
  return holds(clause.relation, row.cell(clause.column), clause.argument);
}
/** All clauses hold: what an operation selects. */
export function everyHolds(condition: Condition, row: Row): boolean {
  return condition.every((clause) => clauseHolds(clause, row));
}
/** Some clause holds, or there is none: what a monitor selects (ovsdb-server(7), monitor_cond). */
export function someHolds(condition: Condition, row: Row): boolean {
  return condition.length === 0 || condition.some((clause) => clauseHolds(clause, row));
}
/** The UUID that a condition asks for by `_uuid ==`; null: it asks for none. */
export function soughtUuid(condition: Condition): string | null {
  for (const clause of condition) {
    if (typeof clause === 'object' && clause.column === UUID_COLUMN && clause.relation === '==') {
      return String(clause.argument.keys[0]);
    }
  }
  return null;
}
