/** Schemas: databases, tables, columns and their types (RFC 7047 §3.2), and their JSON. */
import type { Json, JsonObject } from '../json.ts';

export type AtomicType = 'integer' | 'real' | 'boolean' | 'string' | 'uuid';
/** One value. UUIDs are lower-case text. */
export type Atom = number | boolean | string;

export interface BaseType {
  readonly type: AtomicType;
  /** Limits of a number; for strings of the length in characters. */
  readonly min: number | null;
  readonly max: number | null;
  /** The allowed values, sorted; null: any. */
  readonly values: readonly Atom[] | null;
  /** For uuid: the table whose rows are meant. */
  readonly refTable: string | null;
  readonly weak: boolean;
}
export interface ColumnType {
  readonly key: BaseType;
  /** null: a set (or a scalar); otherwise a map. */
  readonly value: BaseType | null;
  readonly min: 0 | 1;
  /** Infinity: unlimited. */
  readonly max: number;
}
export interface Column {
  readonly name: string;
  /** Its place in a row's cells. */
  readonly index: number;
  readonly type: ColumnType;
  readonly mutable: boolean;
  /** Not kept when the server stops. */
  readonly ephemeral: boolean;
}
const UUID_TYPE: ColumnType = {
  key: { type: 'uuid', min: null, max: null, values: null, refTable: null, weak: false },
  value: null,
  min: 1,
  max: 1,
};
/** The two columns that each table has; a row keeps them outside its cells. */
export const UUID_COLUMN: Column = { name: '_uuid', index: -1, type: UUID_TYPE, mutable: false, ephemeral: false };
export const VERSION_COLUMN: Column = { ...UUID_COLUMN, name: '_version', index: -2, ephemeral: true };

export interface TableSchema {
  readonly name: string;
  /** In the order of the schema; `_uuid` and `_version` are not among them. */
  readonly columns: readonly Column[];
  /** `_uuid` and `_version`, too. */
  readonly byName: ReadonlyMap<string, Column>;
  /** Rows stand without being referenced. */
  readonly root: boolean;
  readonly maxRows: number;
  /** Sets of columns whose values no two rows may share. */
  readonly indexes: readonly (readonly Column[])[];
}
export interface DatabaseSchema {
  readonly name: string;
  readonly version: string;
  readonly cksum: string;
  readonly tables: ReadonlyMap<string, TableSchema>;
}

export const isScalar = (type: ColumnType): boolean => type.value === null && type.min === 1 && type.max === 1;
/** Zero or one value. */
export const isOptional = (type: ColumnType): boolean => type.min === 0 && type.max === 1;

function baseToJson(base: BaseType): Json {
  const json: JsonObject = { type: base.type };
  if (base.values !== null) json['enum'] = ['set', [...base.values]];
  if (base.type === 'integer') {
    if (base.min !== null) json['minInteger'] = base.min;
    if (base.max !== null) json['maxInteger'] = base.max;
  }
  if (base.type === 'string') {
    if (base.min !== null) json['minLength'] = base.min;
    if (base.max !== null) json['maxLength'] = base.max;
  }
  if (base.refTable !== null) {
    json['refTable'] = base.refTable;
    if (base.weak) json['refType'] = 'weak';
  }
  return Object.keys(json).length === 1 ? base.type : json;
}
function columnToJson(column: Column): Json {
  const { key, value, min, max } = column.type;
  const json: JsonObject = {};
  const simple = isScalar(column.type) ? baseToJson(key) : null;
  if (typeof simple === 'string') {
    json['type'] = simple;
  } else {
    const type: JsonObject = { key: baseToJson(key) };
    if (value !== null) type['value'] = baseToJson(value);
    if (min !== 1) type['min'] = min;
    if (max !== 1) type['max'] = max === Infinity ? 'unlimited' : max;
    json['type'] = type;
  }
  if (!column.mutable) json['mutable'] = false;
  if (column.ephemeral) json['ephemeral'] = true;
  return json;
}

/** The schema as `get_schema` answers it (RFC 7047 §3.2 <database-schema>). */
export function schemaToJson(schema: DatabaseSchema): JsonObject {
  // Where no table is a root, all are (RFC 7047 §3.2), and none says so.
  const someRoot = [...schema.tables.values()].some((table) => !table.root);
  const tables: JsonObject = {};
  for (const table of schema.tables.values()) {
    const columns: JsonObject = {};
    for (const column of table.columns) columns[column.name] = columnToJson(column);
    const json: JsonObject = { columns };
    if (table.root && someRoot) json['isRoot'] = true;
    if (table.maxRows !== Infinity) json['maxRows'] = table.maxRows;
    if (table.indexes.length > 0) json['indexes'] = table.indexes.map((index) => index.map((column) => column.name));
    tables[table.name] = json;
  }
  return { cksum: schema.cksum, name: schema.name, version: schema.version, tables };
}
