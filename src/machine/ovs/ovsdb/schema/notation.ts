/**
 * A short notation for schemas:
 *
 *     integer[0..4095] {0..1} eph     zero or one integer from 0 to 4095, not written to disk
 *     string{up|down}                 one of two texts
 *     ->Bridge {0..*}                 references to rows of Bridge; `->Port~`: weak ones
 *     map<string,->Queue> {0..*}      a map
 *     string imm                      does not change once the row is there
 */
import { assert } from '../../../../engine/assert.ts';
import {
  type AtomicType,
  type BaseType,
  type Column,
  type ColumnType,
  type DatabaseSchema,
  type TableSchema,
  UUID_COLUMN,
  VERSION_COLUMN,
} from './types.ts';

export interface TableNotation {
  readonly root?: boolean;
  readonly maxRows?: number;
  readonly indexes?: readonly (readonly string[])[];
  readonly columns: Readonly<Record<string, string>>;
}
export type DatabaseNotation = Readonly<Record<string, TableNotation>>;

const ATOMIC: readonly AtomicType[] = ['integer', 'real', 'boolean', 'string', 'uuid'];
const BASE = /^(?:->(\w+)(~)?|(\w+)(?:\[(-?\d*)\.\.(-?\d*)\])?(?:\{([^}]*)\})?)$/;
const TYPE = /^(.*?)(?: \{(\d)\.\.(\d+|\*)\})?$/;

function readBase(text: string): BaseType {
  const found = BASE.exec(text);
  assert(found !== null, text);
  const [, table, weak, name, low, high, values] = found;
  if (table !== undefined) {
    return { type: 'uuid', min: null, max: null, values: null, refTable: table, weak: weak !== undefined };
  }
  const type = ATOMIC.find((atomic) => atomic === name);
  assert(type !== undefined, text);
  const limit = (digits: string | undefined): number | null => (digits ? Number(digits) : null);
  return {
    type,
    min: limit(low),
    max: limit(high),
    values: values === undefined ? null : values.split('|').sort(),
    refTable: null,
    weak: false,
  };
}
function readType(text: string): ColumnType {
  const found = TYPE.exec(text);
  assert(found !== null, text);
  const [, what, low, high] = found;
  const map = /^map<((?:[^{},]|\{[^}]*\})*),(.*)>$/.exec(what!);
  return {
    key: readBase(map === null ? what! : map[1]!),
    value: map === null ? null : readBase(map[2]!),
    min: low === '0' ? 0 : 1,
    max: high === undefined ? 1 : high === '*' ? Infinity : Number(high),
  };
}
function readColumn(name: string, index: number, text: string): Column {
  const words = text.split(' ');
  const ephemeral = words.at(-1) === 'eph';
  const immutable = words.at(-1) === 'imm';
  const type = readType((ephemeral || immutable ? words.slice(0, -1) : words).join(' '));
  return { name, index, type, mutable: !immutable, ephemeral };
}

/** A schema from its notation. Where no table is a root all tables are (RFC 7047 §3.2). */
export function readSchema(name: string, version: string, cksum: string, notation: DatabaseNotation): DatabaseSchema {
  const noRoot = Object.values(notation).every((table) => table.root !== true);
  const tables = new Map<string, TableSchema>();
  for (const [table, given] of Object.entries(notation)) {
    const columns = Object.entries(given.columns).map(([column, text], index) => readColumn(column, index, text));
    const byName = new Map([UUID_COLUMN, VERSION_COLUMN, ...columns].map((column) => [column.name, column]));
    const indexes = (given.indexes ?? []).map((index) => index.map((column) => byName.get(column)!));
    const root = noRoot || given.root === true;
    tables.set(table, { name: table, columns, byName, root, maxRows: given.maxRows ?? Infinity, indexes });
  }
  return { name, version, cksum, tables };
}
