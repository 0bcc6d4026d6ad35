/** JSON Pointers (RFC 6901) with `*` for every item: what axes set in a template, and what metrics read from results. */

export type Pointed = { readonly ok: true; readonly value: unknown } | { readonly ok: false };

/** The parts of a pointer, unescaped. The text has been checked against POINTER_PATTERN. */
export function pointerParts(pointer: string): string[] {
  if (pointer === '') return [];
  return pointer
    .slice(1)
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}
export function pointerOf(parts: readonly (string | number)[]): string {
  return parts.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const INDEX = /^(0|[1-9][0-9]{0,8})$/;

/** What stands at a pointer without `*`. */
export function valueAt(root: unknown, pointer: string): Pointed {
  let value = root;
  for (const part of pointerParts(pointer)) {
    if (Array.isArray(value)) {
      if (!INDEX.test(part) || Number(part) >= value.length) return { ok: false };
      value = value[Number(part)] as unknown;
    } else if (isObject(value) && Object.hasOwn(value, part)) value = value[part];
    else return { ok: false };
  }
  return { ok: true, value };
}

/** What may still be set: a `*` multiplies, and one behind another does so without end. */
export interface Room {
  /** Characters of JSON. */
  left: number;
}
/** What a place takes beside its value. */
const PLACE = 64;
interface Setting {
  readonly value: unknown;
  readonly size: number;
  readonly places: string[];
  readonly room: Room;
}

/**
 * Sets a value at every place that a pointer leads to; null removes a member. Objects on the way that are not there are made,
 * items of lists are not. `root` is changed, and `room` is used up. Returns the places, or the reason why there is none.
 */
export function setAt(
  root: unknown,
  pointer: string,
  value: unknown,
  room: Room = { left: Number.POSITIVE_INFINITY },
): { places: string[] } | { problem: string } {
  const parts = pointerParts(pointer);
  if (parts.includes('__proto__')) return { problem: `${pointer} leads nowhere` };
  const places: string[] = [];
  const size = PLACE + (JSON.stringify(value)?.length ?? 0);
  const problem = setBelow(root, parts, 0, [], { value, size, places, room });
  if (problem !== null) return { problem };
  return places.length > 0 ? { places } : { problem: `${pointer} leads nowhere: there is no item for *` };
}

function setBelow(
  node: unknown,
  parts: readonly string[],
  depth: number,
  way: readonly string[],
  setting: Setting,
): string | null {
  const part = parts[depth]!;
  const last = depth === parts.length - 1;
  if (part === '*') {
    if (!Array.isArray(node) && !isObject(node)) return `${pointerOf(way)} has no items for *`;
    for (const key of Object.keys(node)) {
      const problem = setBelow(node, parts.with(depth, key), depth, way, setting);
      if (problem !== null) return problem;
    }
    return null;
  }
  if (Array.isArray(node)) {
    if (!INDEX.test(part) || Number(part) >= node.length)
      return `${pointerOf([...way, part])} is not an item: the list has ${node.length}`;
  } else if (!isObject(node)) return `${pointerOf(way)} is neither a list nor an object`;
  const at = node as Record<string, unknown>;
  if (last) {
    const { value, size, places, room } = setting;
    room.left -= size;
    if (room.left < 0) return `${pointerOf(parts.slice(0, depth))} has too many places for a value of this size`;
    // Each place has a value of its own: a later axis may change a part of one.
    if (value === null && !Array.isArray(node)) delete at[part];
    else at[part] = structuredClone(value);
    places.push(pointerOf([...way, part]));
    return null;
  }
  if (!Object.hasOwn(at, part)) at[part] = {};
  return setBelow(at[part], parts, depth + 1, [...way, part], setting);
}
