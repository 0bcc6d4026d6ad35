/** Values of columns: sets and maps of atoms (RFC 7047 §5.1 <value>). A scalar is a set of one. */
import type { Atom, AtomicType, BaseType, ColumnType } from './schema/types.ts';

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
  uuid: '00000000-0000-0000-0000-000000000000',
};

/** Order of two atoms of one type: numbers by size, false before true, texts by their bytes. */
export function compareAtoms(a: Atom, b: Atom): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
export function sameAtoms(a: readonly Atom[] | null, b: readonly Atom[] | null): boolean {
  if (a === b) return true;
  if (a === null || b === null || a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
export function sameDatum(a: Datum, b: Datum): boolean {
  return a === b || (sameAtoms(a.keys, b.keys) && sameAtoms(a.values, b.values));
}

/** What a base type holds by default: an enum its first value that the default of the type is not among. */
export function defaultAtom(base: BaseType): Atom {
  return ZERO[base.type];
}
/** What a column holds in a row that says nothing of it. */
export function defaultDatum(type: ColumnType): Datum {
  if (type.min === 0) return type.value === null ? EMPTY_SET : EMPTY_MAP;
  return { keys: [defaultAtom(type.key)], values: type.value === null ? null : [defaultAtom(type.value)] };
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
