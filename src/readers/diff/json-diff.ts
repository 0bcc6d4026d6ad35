/** Two JSON values compared: the places in which they differ. */

export interface ValueDiff {
  /** JSON Pointer (RFC 6901). */
  readonly pointer: string;
  /** Null also where there is nothing. */
  readonly left: unknown;
  readonly right: unknown;
}

/** Differences that are told. */
const MOST = 200;

/** The deepest places in which two values differ, in the order of the left one's members; at most 200. */
export function valueDiffs(left: unknown, right: unknown, pointer = '', found: ValueDiff[] = []): ValueDiff[] {
  if (found.length >= MOST || left === right) return found;
  if (!isNode(left) || !isNode(right) || Array.isArray(left) !== Array.isArray(right)) {
    if (left !== right) found.push({ pointer, left: left ?? null, right: right ?? null });
    return found;
  }
  for (const name of new Set([...Object.keys(left), ...Object.keys(right)])) {
    const part = name.replaceAll('~', '~0').replaceAll('/', '~1');
    valueDiffs(left[name], right[name], `${pointer}/${part}`, found);
  }
  return found;
}
function isNode(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
