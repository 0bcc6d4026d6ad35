/**
 * What is wrong with a topology document: faults with a pointer and a stable code, and the close matches that they suggest.
 */

export type FaultCode =
  | 'syntax'
  | 'duplicate-key'
  | 'too-large'
  | 'too-many-faults'
  | 'wrong-type'
  | 'unknown-field'
  | 'missing-field'
  | 'unknown-value'
  | 'out-of-range'
  | 'not-power-of-two'
  | 'not-page-aligned'
  | 'too-many'
  | 'too-few'
  | 'bad-name'
  | 'bad-size'
  | 'bad-rate'
  | 'bad-duration'
  | 'bad-mac'
  | 'bad-address'
  | 'bad-time'
  | 'name-mismatch'
  | 'reserved-name'
  | 'duplicate-name'
  | 'duplicate-mac'
  | 'duplicate-address'
  | 'unknown-bridge'
  | 'wrong-datapath'
  | 'unknown-end'
  | 'same-end'
  | 'end-in-use'
  | 'wrong-backend'
  | 'wrong-driver'
  | 'wrong-transport'
  | 'wrong-vmm'
  | 'wrong-feature'
  | 'mixed-drivers'
  | 'memory-too-small'
  | 'memory-too-large'
  | 'not-enough-cores'
  | 'not-enough-hugepages'
  | 'unsupported'
  | 'unknown-profile'
  | 'unknown-cost';

export interface Fault {
  /** RFC 6901, of what is wrong or, where that is absent, of the nearest thing around it that is there. */
  readonly pointer: string;
  /** Stable. */
  readonly code: FaultCode;
  /** What is wrong, one sentence without a full stop. */
  readonly detail: string;
  readonly expected?: string;
  /** Where the text itself could not be read; both from 1. */
  readonly line?: number;
  readonly column?: number;
}

/** More faults than a person reads; a list of that length ends with `too-many-faults`. */
export const MAX_FAULTS = 100;

export class Faults {
  readonly list: Fault[] = [];
  private readonly root: unknown;

  constructor(root: unknown) {
    this.root = root;
  }
  get full(): boolean {
    return this.list.length > MAX_FAULTS;
  }
  add(pointer: string, code: FaultCode, detail: string, expected?: string): void {
    if (this.full) return;
    if (this.list.length === MAX_FAULTS) {
      this.list.push({
        pointer: '',
        code: 'too-many-faults',
        detail: `only the first ${MAX_FAULTS} faults are listed`,
      });
      return;
    }
    const at = this.nearest(pointer);
    this.list.push(expected === undefined ? { pointer: at, code, detail } : { pointer: at, code, detail, expected });
  }
  /** The longest part of the pointer that leads to something in the document. */
  private nearest(pointer: string): string {
    let value = this.root;
    let reached = '';
    for (const token of pointer.split('/').slice(1)) {
      const key = token.replaceAll('~1', '/').replaceAll('~0', '~');
      if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return reached;
      value = (value as Record<string, unknown>)[key];
      reached += '/' + token;
    }
    return reached;
  }
}
export function child(pointer: string, key: string | number): string {
  return `${pointer}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

// ---- close matches ----------------------------------------------------------------------------------------------
/** Edits (insert, delete, replace, swap neighbours) from one word to the other. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, (before[j - 2] ?? 0) + 1);
      row.push(best);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
/** Up to three of `known` that `word` may have been meant as, nearest first. */
export function closeMatches(word: string, known: Iterable<string>): string[] {
  if (word.length > 64) return [];
  const wanted = word.toLowerCase();
  const most = Math.max(1, Math.floor(word.length / 3));
  const near: { name: string; edits: number }[] = [];
  for (const name of known) {
    if (Math.abs(name.length - word.length) > most && !name.toLowerCase().startsWith(wanted)) continue;
    const edits = name.toLowerCase().startsWith(wanted) ? 0.5 : distance(wanted, name.toLowerCase());
    if (edits <= most) near.push({ name, edits });
  }
  near.sort((a, b) => a.edits - b.edits || (a.name < b.name ? -1 : 1));
  return near.slice(0, 3).map((n) => n.name);
}
function quoted(names: Iterable<string>, most = 12): string {
  const all = [...names];
  const shown = all.slice(0, most).map((n) => JSON.stringify(n));
  return shown.join(', ') + (all.length > most ? ` and ${all.length - most} more` : '');
}
export function oneOf(names: Iterable<string>): string {
  const all = [...names];
  return all.length === 1 ? quoted(all) : `one of ${quoted(all)}`;
}
export function suggestion(word: string, known: Iterable<string>): string | undefined {
  const near = closeMatches(word, known);
  return near.length === 0 ? undefined : oneOf(near);
}
