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

/** Takes atoms, and their values, over from one datum into another. */
class Picked {
  readonly keys: Atom[] = [];
  private readonly values: Atom[] | null;
  constructor(like: Datum) {
    this.values = like.values === null ? null : [];
  }
  take(from: Datum, i: number): void {
    this.keys.push(from.keys[i]!);
    this.values?.push(from.values![i]!);
  }
  get datum(): Datum {
    return { keys: this.keys, values: this.values };
  }
}
/**
 * Walks the keys of two data in order: calls `onlyA` and `onlyB` with the index of a key that just one has, `inBoth` with both
 * indexes of a key that both have.
 */
export function walk(
  a: Datum,
  b: Datum,
  onlyA: (i: number) => void,
  onlyB: (j: number) => void,
  inBoth: (i: number, j: number) => void,
): void {
  let i = 0;
  let j = 0;
  while (i < a.keys.length && j < b.keys.length) {
    const order = compareAtoms(a.keys[i]!, b.keys[j]!);
    if (order < 0) onlyA(i++);
    else if (order > 0) onlyB(j++);
    else inBoth(i++, j++);
  }
  while (i < a.keys.length) onlyA(i++);
  while (j < b.keys.length) onlyB(j++);
}
/** What is in `a`, and what is in `b` under keys that `a` does not have (the mutation `insert`). */
export function union(a: Datum, b: Datum): Datum {
  const picked = new Picked(a);
  const takeA = (i: number): void => picked.take(a, i);
  walk(a, b, takeA, (j) => picked.take(b, j), takeA);
  return picked.datum;
}
/** `a` without what `b` names: its keys, or in a map, where `b` is one too, its pairs (the mutation `delete`). */
export function subtract(a: Datum, b: Datum): Datum {
  const picked = new Picked(a);
  walk(
    a,
    b,
    (i) => picked.take(a, i),
    () => {},
    (i, j) => {
      if (a.values !== null && b.values !== null && a.values[i] !== b.values[j]) picked.take(a, i);
    },
  );
  return picked.datum;
}
/**
 * What `update2` shows of a change in a column that may hold more than one element: the elements of just one side; of map keys
 * with another value the new pair (ovsdb-server(7), <row-update2>).
 */
export function difference(before: Datum, after: Datum): Datum {
  const picked = new Picked(before);
  walk(
    before,
    after,
    (i) => picked.take(before, i),
    (j) => picked.take(after, j),
    (i, j) => {
      if (after.values !== null && after.values[j] !== before.values![i]) picked.take(after, j);
    },
  );
  return picked.datum;
}
