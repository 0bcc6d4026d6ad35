/** Random transactions for databases of any schema: mostly sound, over few names and UUIDs, so that they meet. */
import fc from 'fast-check';
import type { Json, JsonObject } from '../../src/machine/ovs/ovsdb/json.ts';
import { readSchema } from '../../src/machine/ovs/ovsdb/schema/notation.ts';
import type {
  BaseType,
  Column,
  ColumnType,
  DatabaseSchema,
  TableSchema,
} from '../../src/machine/ovs/ovsdb/schema/types.ts';

/** A schema with one of each kind: what Open_vSwitch does not use is here. */
export const SMALL = readSchema('Small', '1.0.0', '1 1', {
  Root: {
    root: true,
    maxRows: 3,
    indexes: [['name'], ['number', 'flag']],
    columns: {
      name: 'string imm',
      number: 'integer[-2..5]',
      flag: 'boolean',
      ratio: 'real {0..1}',
      kids: '->Leaf {0..*}',
      byNumber: 'map<integer[0..9],->Leaf> {0..*}',
      friends: '->Root~ {0..*}',
      numbers: 'integer {0..3}',
      words: 'map<string,string> {0..*}',
      seen: 'integer eph',
    },
  },
  Leaf: {
    indexes: [['name']],
    columns: {
      name: 'string',
      kind: 'string{red|green|blue} {0..1}',
      next: '->Leaf {0..1}',
      anchor: '->Root~ {0..*}',
      weights: 'map<->Root~,integer> {0..*}',
    },
  },
  Anchored: {
    root: true,
    columns: { to: '->Root~ {0..*}', size: 'integer {1..2}' },
  },
});

/** A UUID of few, another for each table: the real server confuses rows that share one. */
export function uuidOf(table: string, i: number): string {
  let hash = 0;
  for (const character of table) hash = (Math.imul(hash, 31) + character.charCodeAt(0)) & 0xffff;
  return `00000000-${hash.toString(16).padStart(4, '0')}-4000-8000-00000000000${i.toString(16)}`;
}
const reference = (table: string): fc.Arbitrary<Json> => fc.nat(9).map((i): Json => ['uuid', uuidOf(table, i)]);
const word = fc.constantFrom('a', 'b', 'c', '', 'ä', 'true', 'red', 'x y');

function atom(base: BaseType): fc.Arbitrary<Json> {
  switch (base.type) {
    case 'integer': {
      const low = base.min === null ? -3 : base.min;
      return fc.oneof(
        { weight: 30, arbitrary: fc.integer({ min: low, max: Math.min(base.max ?? low + 9, low + 9) }) },
        { weight: 1, arbitrary: fc.constantFrom(-4, 7, 70_000) },
      );
    }
    case 'real':
      return fc.constantFrom(0, 1.5, -2, 0.1);
    case 'boolean':
      return fc.boolean();
    case 'uuid':
      return reference(base.refTable!);
    default:
      return base.values === null ? word : fc.oneof({ weight: 30, arbitrary: fc.constantFrom(...base.values) }, word);
  }
}
const odd: fc.Arbitrary<Json> = fc.constantFrom<Json[]>(
  null,
  5,
  'x',
  true,
  [],
  ['set'],
  ['set', 3],
  ['set', [1, 1]],
  [
    'map',
    [
      ['a', 'b'],
      ['a', 'c'],
    ],
  ],
  ['map', [['a']]],
  ['uuid', 'nonsense'],
  ['uuid', uuidOf('Root', 1)],
  {},
  ['named-uuid', 'a-b'],
);
function sound(type: ColumnType): fc.Arbitrary<Json> {
  const { key, value } = type;
  if (value !== null) {
    return fc
      .uniqueArray(fc.tuple(atom(key), atom(value)), { maxLength: 3, selector: ([k]) => JSON.stringify(k) })
      .map((pairs): Json => ['map', pairs]);
  }
  if (type.max === 1 && type.min === 1) return atom(key);
  const set = fc
    .uniqueArray(atom(key), {
      minLength: type.min,
      maxLength: Math.min(type.max, 4),
      selector: (k) => JSON.stringify(k),
    })
    .map((keys): Json => ['set', keys]);
  return fc.oneof(atom(key), set);
}
const columnValue = (type: ColumnType): fc.Arbitrary<Json> =>
  fc.oneof({ weight: 150, arbitrary: sound(type) }, { weight: 1, arbitrary: odd });

const columnName = (table: TableSchema): fc.Arbitrary<Column> => fc.constantFrom(...table.columns);

function clause(table: TableSchema): fc.Arbitrary<Json> {
  const relation = fc.constantFrom('==', '!=', 'includes', 'excludes', '<', '>=', '??');
  const free = fc
    .tuple(columnName(table), relation)
    .chain(([column, word]) => columnValue(column.type).map((value): Json => [column.name, word, value]));
  return fc.oneof(
    { weight: 4, arbitrary: reference(table.name).map((uuid): Json => ['_uuid', '==', uuid]) },
    { weight: 4, arbitrary: free },
    { weight: 1, arbitrary: fc.boolean() },
  );
}
export const whereOf = (table: TableSchema): fc.Arbitrary<Json[]> => fc.array(clause(table), { maxLength: 2 });

function row(
  table: TableSchema,
  sizes: { readonly minLength: number; readonly maxLength: number },
): fc.Arbitrary<JsonObject> {
  return fc
    .uniqueArray(columnName(table), { ...sizes, selector: ({ name }) => name })
    .chain((columns) =>
      fc.tuple(
        ...columns.map((column) => columnValue(column.type).map((value): [string, Json] => [column.name, value])),
      ),
    )
    .map((entries) => Object.fromEntries(entries));
}
function mutation(table: TableSchema): fc.Arbitrary<Json> {
  const arithmetic = ['+=', '-=', '*=', '/=', '%='];
  const mutator = ({ type }: Column): fc.Arbitrary<string> => {
    const isNumber = type.value === null && (type.key.type === 'integer' || type.key.type === 'real');
    const some = isNumber ? arithmetic : ['insert', 'delete'];
    return fc.oneof(
      { weight: 20, arbitrary: fc.constantFrom(...some) },
      { weight: 1, arbitrary: fc.constantFrom(...arithmetic, 'insert', 'delete', '??') },
    );
  };
  return columnName(table)
    .chain((column) => fc.tuple(fc.constant(column), mutator(column)))
    .chain(([column, word]) =>
      columnValue({ ...column.type, min: 0 }).map((value): Json => [column.name, word, value]),
    );
}
function operation(table: TableSchema): fc.Arbitrary<JsonObject> {
  const base = fc.constant({ table: table.name });
  const where = whereOf(table);
  const someColumns = fc
    .uniqueArray(columnName(table), { minLength: 1, maxLength: 3, selector: ({ name }) => name })
    .map((columns) => ['_uuid', ...columns.map(({ name }) => name)]);
  const insert = fc
    .record({
      op: fc.constant('insert'),
      uuid: fc.nat(9).map((i) => uuidOf(table.name, i)),
      row: row(table, { minLength: 1, maxLength: 5 }),
    })
    .map((op): JsonObject => op);
  return fc
    .tuple(
      base,
      fc.oneof(
        { weight: 5, arbitrary: insert },
        {
          weight: 3,
          arbitrary: fc.record({ op: fc.constant('update'), where, row: row(table, { minLength: 1, maxLength: 1 }) }),
        },
        {
          weight: 3,
          arbitrary: fc.record({
            op: fc.constant('mutate'),
            where,
            mutations: fc.array(mutation(table), { maxLength: 2 }),
          }),
        },
        { weight: 2, arbitrary: fc.record({ op: fc.constant('delete'), where }) },
        { weight: 2, arbitrary: fc.record({ op: fc.constant('select'), where, columns: someColumns }) },
        {
          weight: 1,
          arbitrary: fc.record({
            op: fc.constant('wait'),
            where,
            columns: someColumns,
            until: fc.constantFrom('==', '!='),
            rows: fc.array(row(table, { minLength: 0, maxLength: 1 }), { maxLength: 1 }),
            timeout: fc.constant(0),
          }),
        },
        {
          weight: 1,
          arbitrary: fc.constantFrom<JsonObject>(
            { op: 'frob' },
            { op: 'select' },
            { op: 'delete', where: [], more: 1 },
          ),
        },
      ),
    )
    .map(([first, second]): JsonObject => ({ ...first, ...(second as JsonObject) }));
}

/** The operations of one transaction. */
export function transaction(schema: DatabaseSchema): fc.Arbitrary<JsonObject[]> {
  const tables = [...schema.tables.values()];
  const one = fc.constantFrom(...tables).chain(operation);
  const other = fc.constantFrom<JsonObject[]>(
    { op: 'comment', comment: 'x' },
    { op: 'abort' },
    { op: 'assert', lock: 'l' },
  );
  return fc.array(fc.oneof({ weight: 30, arbitrary: one }, { weight: 1, arbitrary: other }), {
    minLength: 1,
    maxLength: 4,
  });
}
