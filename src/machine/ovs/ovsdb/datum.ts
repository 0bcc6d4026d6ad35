/** Values of columns: sets and maps of atoms (RFC 7047 §5.1 <value>). A scalar is a set of one. */
import type { Atom, AtomicType, ColumnType } from './schema/types.ts';
import { ZERO_UUID } from './uuid.ts';

/** `keys` are sorted and different; `values` belong to them, one each; null: a set. Never changed once made. */
export interface Datum {
  readonly keys: readonly Atom[];
  readonly values: readonly Atom[] | null;
}

const EMPTY_SET: Datum = { keys: [], values: null };
const EMPTY_MAP: Datum = { keys: [], values: [] };
const ZERO: Readonly<Record<AtomicType, Atom>> = {
  integer: 0,
  real: 0,
  boolean: false,
  string: '',
  uuid: ZERO_UUID,
};

/** Order of two atoms of one type: numbers by size, false before true, texts by their characters. */
export function compareAtoms(a: Atom, b: Atom): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
function compareLists(a: readonly Atom[], b: readonly Atom[]): number {
  for (let i = 0; i < a.length; i++) {
    const order = compareAtoms(a[i]!, b[i]!);
    if (order !== 0) return order;
  }
  return 0;
}
/** Order of two data of one type: the shorter first, then by keys, then by values. */
export function compareData(a: Datum, b: Datum): number {
  if (a.keys.length !== b.keys.length) return a.keys.length - b.keys.length;
  return compareLists(a.keys, b.keys) || compareLists(a.values ?? [], b.values ?? []);
}
export function sameDatum(a: Datum, b: Datum): boolean {
  return a === b || compareData(a, b) === 0;
}

/** What a column holds in a row that says nothing of it. */
export function defaultDatum(type: ColumnType): Datum {
  if (type.min === 0) return type.value === null ? EMPTY_SET : EMPTY_MAP;
  return { keys: [ZERO[type.key.type]], values: type.value === null ? null : [ZERO[type.value.type]] };
}

/** Index of `key` in sorted atoms; −1: not there. */
export function findAtom(keys: readonly Atom[], key: Atom): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareAtoms(keys[middle]!, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low < keys.length && keys[low] === key ? low : -1;
}

/** A datum from unsorted atoms; null: a key is there twice. */
export function sortedDatum(keys: readonly Atom[], values: readonly Atom[] | null): Datum | null {
  const order = keys.map((_, i) => i).sort((a, b) => compareAtoms(keys[a]!, keys[b]!));
  for (let i = 1; i < order.length; i++) if (keys[order[i]!] === keys[order[i - 1]!]) return null;
  return { keys: order.map((i) => keys[i]!), values: values === null ? null : order.map((i) => values[i]!) };
}

/** Every key of `some` is in `all`; in maps with the same value. */
export function includesAll(all: Datum, some: Datum): boolean {
  for (let i = 0; i < some.keys.length; i++) if (!includesPair(all, some, i)) return false;
  return true;
}
/** No key of `some` is in `all`; in maps: none with the same value. */
export function excludesAll(all: Datum, some: Datum): boolean {
  for (let i = 0; i < some.keys.length; i++) if (includesPair(all, some, i)) return false;
  return true;
}
function includesPair(all: Datum, some: Datum, i: number): boolean {
  const at = findAtom(all.keys, some.keys[i]!);
  if (at < 0) return false;
  return all.values === null || some.values === null || all.values[at] === some.values[i];
}

function merge(a: Datum, b: Datum, keepA: (i: number) => boolean, keepB: (i: number) => boolean): Datum {
  const keys: Atom[] = [];
  const values: Atom[] = [];
  const take = (from: Datum, i: number): void => {
    keys.push(from.keys[i]!);
    if (from.values !== null) values.push(from.values[i]!);
  };
  let j = 0;
  for (let i = 0; i < a.keys.length; i++) {
    for (; j < b.keys.length && compareAtoms(b.keys[j]!, a.keys[i]!) < 0; j++) if (keepB(j)) take(b, j);
    if (keepA(i)) take(a, i);
    if (j < b.keys.length && b.keys[j] === a.keys[i]) {
      if (keepB(j)) take(b, j);
      j++;
    }
  }
  for (; j < b.keys.length; j++) if (keepB(j)) take(b, j);
  return { keys, values: a.values === null ? null : values };
}
/** What is in `a`, and what is in `b` under keys that `a` does not have (the mutation `insert`). */
export function union(a: Datum, b: Datum): Datum {
  return merge(
    a,
    b,
    () => true,
    (j) => findAtom(a.keys, b.keys[j]!) < 0,
  );
}
/** `a` without what `b` names: its keys, or in a map, where `b` is one too, its pairs (the mutation `delete`). */
export function subtract(a: Datum, b: Datum): Datum {
  const rest: Datum = { keys: [], values: a.values === null ? null : [] };
  return merge(
    a,
    rest,
    (i) => !includesPair(b, a, i),
    () => false,
  );
}
/**
 * What `update2` shows of a change in a column that may hold more than one element: the elements of just one side; of map keys
 * with another value the new pair (ovsdb-server(7), <row-update2>).
 */
export function difference(before: Datum, after: Datum): Datum {
  return merge(
    before,
    after,
    (i) => findAtom(after.keys, before.keys[i]!) < 0,
    (j) => !includesPair(before, after, j),
  );
}
