/** Values as JSON: reading them with all checks of their type, writing them, and their text in messages (lib/ovsdb-data.c). */
import type { Datum } from './datum.ts';
import { sortedDatum } from './datum.ts';
import { OvsdbError, syntaxError } from './error.ts';
import type { Json } from './json.ts';
import { isId } from './parser.ts';
import { type Atom, type AtomicType, type BaseType, type ColumnType, isOptional, isScalar } from './schema/types.ts';
import { parseUuid } from './uuid.ts';

/** UUIDs that one transaction gives names to. A name may be used before the insert that it belongs to. */
export interface Symbols {
  /** The UUID of a name; a new one at its first use. */
  uuidOf(name: string): string;
}

const UNLIMITED = 0xffffffff;
const INTEGER_LIMIT = 2 ** 63;

const violation = (details: string): OvsdbError => new OvsdbError('constraint violation', details);

function needsQuotes(text: string): boolean {
  return !/^[A-Za-z_][A-Za-z0-9_.-]*$/.test(text) || text === 'true' || text === 'false' || parseUuid(text) !== null;
}
/** An atom as messages show it. */
export function atomText(atom: Atom, type: AtomicType): string {
  return type === 'string' && needsQuotes(String(atom)) ? JSON.stringify(atom) : String(atom);
}
/** A datum as messages show it: `brx`, `[10, 20]`, `{a=b}`. */
export function datumText(datum: Datum, type: ColumnType): string {
  const { key, value } = type;
  const items = datum.keys.map((atom, i) => {
    const text = atomText(atom, key.type);
    return value === null ? text : `${text}=${atomText(datum.values![i]!, value.type)}`;
  });
  if (value !== null) return `{${items.join(', ')}}`;
  return type.max > 1 || items.length === 0 ? `[${items.join(', ')}]` : items[0]!;
}
/** A type in words: `integer`, `set of up to 4096 integers`. */
export function typeText(type: ColumnType): string {
  if (isScalar(type)) return type.key.type;
  let text = type.value === null ? 'set' : 'map';
  if (type.max === Infinity) text += type.min > 0 ? ` of ${type.min} or more` : ' of';
  else text += type.min > 0 ? ` of ${type.min} to ${type.max}` : ` of up to ${type.max}`;
  return type.value === null ? `${text} ${type.key.type}s` : `${text} (${type.key.type}, ${type.value.type}) pairs`;
}

/** Throws where `atom` is not within what `base` allows. */
export function checkAtom(atom: Atom, base: BaseType): void {
  if (base.values !== null && !base.values.includes(atom)) {
    const allowed = base.values.map((value) => atomText(value, base.type)).join(', ');
    throw violation(
      `${atomText(atom, base.type)} is not one of the allowed values (${base.values.length > 1 ? `[${allowed}]` : allowed})`,
    );
  }
  const { min, max } = base;
  if (typeof atom === 'number') {
    if ((min === null || atom >= min) && (max === null || atom <= max)) return;
    if (min !== null && max !== null) throw violation(`${atom} is not in the valid range ${min} to ${max} (inclusive)`);
    if (min !== null) throw violation(`${atom} is less than minimum allowed value ${min}`);
    throw violation(`${atom} is greater than maximum allowed value ${max}`);
  }
  if (typeof atom === 'string' && base.type === 'string' && (min !== null || max !== null)) {
    const length = [...atom].length;
    if (min !== null && length < min) {
      throw violation(`"${atom}" length ${length} is less than minimum allowed length ${min}`);
    }
    if (max !== null && length > max) {
      throw violation(`"${atom}" length ${length} is greater than maximum allowed length ${max}`);
    }
  }
}
export function checkDatum(datum: Datum, type: ColumnType): void {
  for (const key of datum.keys) checkAtom(key, type.key);
  for (const value of datum.values ?? []) checkAtom(value, type.value!);
}

const TYPE_NAMES = { string: 'string', array: 'array' } as const;
/** The second element of `[name, value]` where it is of that JSON type; null: it is something else. */
function unwrap(json: Json, name: string, type: keyof typeof TYPE_NAMES): Json | null {
  if (!Array.isArray(json) || json.length !== 2 || json[0] !== name) return null;
  const inner = json[1]!;
  return (type === 'array' ? Array.isArray(inner) : typeof inner === type) ? inner : null;
}

function readUuid(json: Json, symbols: Symbols | null): string {
  const plain = unwrap(json, 'uuid', 'string');
  if (typeof plain === 'string') {
    const uuid = parseUuid(plain);
    if (uuid === null) throw syntaxError(json, `"${plain}" is not a valid UUID`);
    return uuid;
  }
  const named = symbols === null ? null : unwrap(json, 'named-uuid', 'string');
  if (typeof named !== 'string' || symbols === null) throw syntaxError(json, 'expected ["uuid", <string>]');
  if (!isId(named)) throw syntaxError(json, 'named-uuid string is not a valid <id>');
  return symbols.uuidOf(named);
}

/**
 * An atom from its JSON (RFC 7047 §5.1 <atom>). `symbols` null: named UUIDs are not allowed. Throws OvsdbError.
 *
 * DEVIATION: integers are numbers of 53 bits; of larger ones the real server keeps 64 bits.
 */
export function readAtom(json: Json, base: BaseType, symbols: Symbols | null): Atom {
  let atom: Atom | null = null;
  if (base.type === 'uuid') {
    atom = readUuid(json, symbols);
  } else if (base.type === 'integer') {
    if (Number.isInteger(json) && Math.abs(json as number) < INTEGER_LIMIT) atom = (json as number) + 0;
  } else if (base.type === 'real') {
    if (typeof json === 'number') atom = json;
  } else if (typeof json === base.type) {
    atom = json as Atom;
  }
  if (atom === null) throw syntaxError(json, `expected ${base.type}`);
  checkAtom(atom, base);
  return atom;
}

/** A column's value from its JSON (RFC 7047 §5.1 <value>). Throws OvsdbError. */
export function readDatum(json: Json, type: ColumnType, symbols: Symbols | null): Datum {
  const isMap = type.value !== null;
  if (!isMap && !(Array.isArray(json) && json[0] === 'set')) {
    return { keys: [readAtom(json, type.key, symbols)], values: null };
  }
  const word = isMap ? 'map' : 'set';
  const inner = unwrap(json, word, 'array');
  if (!Array.isArray(inner)) throw syntaxError(json, `expected ["${word}", <array>]`);
  const n = inner.length;
  if (n < type.min || n > type.max) {
    const max = type.max === Infinity ? UNLIMITED : type.max;
    throw type.min === 1 && type.max === 1
      ? syntaxError(json, `${word} must have exactly one member but ${n} are present`)
      : syntaxError(json, `${word} must have ${type.min} to ${max} members but ${n} are present`);
  }
  const keys: Atom[] = [];
  const values: Atom[] | null = isMap ? [] : null;
  for (const element of inner) {
    if (type.value === null) {
      keys.push(readAtom(element, type.key, symbols));
      continue;
    }
    if (!Array.isArray(element) || element.length !== 2) throw syntaxError(element, 'expected 2-element array');
    keys.push(readAtom(element[0]!, type.key, symbols));
    values!.push(readAtom(element[1]!, type.value, symbols));
  }
  const datum = sortedDatum(keys, values);
  if (datum === null)
    throw new OvsdbError('ovsdb error', isMap ? 'map contains duplicate key' : 'set contains duplicate');
  return datum;
}

const atomToJson = (atom: Atom, type: AtomicType): Json => (type === 'uuid' ? ['uuid', atom] : atom);

/** A column's value as JSON; a set of one is written as its element. */
export function datumToJson(datum: Datum, type: ColumnType): Json {
  const { key, value } = type;
  if (value !== null) {
    const pairs = datum.keys.map((k, i) => [atomToJson(k, key.type), atomToJson(datum.values![i]!, value.type)]);
    return ['map', pairs];
  }
  if (datum.keys.length === 1) return atomToJson(datum.keys[0]!, key.type);
  return ['set', datum.keys.map((k) => atomToJson(k, key.type))];
}

export const holdsMore = (type: ColumnType): boolean => !isScalar(type) && !isOptional(type);
