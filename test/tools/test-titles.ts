/**
 * The titles of the tests in a file, read from its text: `test('…')`, `it.each(rows)('…')`, `describe.skip('…')`. Not a
 * parser of TypeScript: it finds the calls in the code without comments and texts, so what looks like a test inside a text
 * is none.
 */
import { bareCode } from './source.ts';

export interface TestTitle {
  readonly call: 'test' | 'it' | 'describe';
  /** As written, without quotes; of a sum of texts, their sum. Placeholders of `each` and `${…}` stay as they are. */
  readonly title: string;
  readonly line: number;
  /** Not the title itself, but a text in a row of `each` that the title takes in by `%s` or `$name`. */
  readonly row: boolean;
  /** The titles of the describes around it, outermost first. */
  readonly within: readonly string[];
  /** It does not run: it, or a describe around it, is a `skip`, a `todo`, or expected to fail. */
  readonly skipped: boolean;
  /** It runs only where a condition holds: `skipIf`, `runIf`. */
  readonly conditional: boolean;
}

const CLOSES: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/** Index behind the bracket that closes the one at `at`; the length of the code where none does. */
function behind(bare: string, at: number): number {
  const open: string[] = [];
  for (let i = at; i < bare.length; i++) {
    const c = bare[i]!;
    if (c in CLOSES) open.push(CLOSES[c]!);
    else if (c === open.at(-1)) {
      open.pop();
      if (open.length === 0) return i + 1;
    }
  }
  return bare.length;
}

const spaces = (bare: string, at: number): number => at + /^\s*/.exec(bare.slice(at, at + 2000))![0].length;

const unescaped = (text: string): string => text.replace(/\\(['"`\\])/g, '$1');

/** The sum of the texts that the first argument behind `at` consists of; null where it begins with something else. */
function firstText(text: string, bare: string, at: number): string | null {
  let title: string | null = null;
  for (let i = spaces(bare, at); ; ) {
    const quote = bare[i] ?? '';
    if (quote !== "'" && quote !== '"' && quote !== '`') return title;
    const end = bare.indexOf(quote, i + 1);
    title = (title ?? '') + unescaped(text.slice(i + 1, end));
    i = spaces(bare, end + 1);
    if (bare[i] !== '+') return title;
    i = spaces(bare, i + 1);
  }
}

/** The texts between two indices of the code, each with its index. */
function textsBetween(text: string, bare: string, from: number, to: number): { at: number; text: string }[] {
  const found: { at: number; text: string }[] = [];
  for (let i = from; i < to; i++) {
    const quote = bare[i]!;
    if (quote !== "'" && quote !== '"' && quote !== '`') continue;
    const end = bare.indexOf(quote, i + 1);
    if (end < 0) break;
    found.push({ at: i, text: unescaped(text.slice(i + 1, end)) });
    i = end;
  }
  return found;
}

/** The texts in the rows of `each(rows)`, whose brackets open at `at`: written there, or in a constant of that name. */
function rowTexts(text: string, bare: string, at: number): { at: number; text: string }[] {
  const end = behind(bare, at);
  const name = /^\(\s*(\w+)\s*\)$/.exec(bare.slice(at, end))?.[1];
  if (name === undefined) return textsBetween(text, bare, at, end);
  // the nearest one before: another scope may have the same name
  const constants = [...bare.slice(0, at).matchAll(new RegExp(`\\bconst\\s+${name}\\b[^=]*=\\s*(?=\\[)`, 'g'))];
  const constant = constants.at(-1);
  if (constant === undefined) return [];
  const from = constant.index + constant[0].length;
  return textsBetween(text, bare, from, behind(bare, from));
}

/** All titles of a test file's text, in order; of `each`, also the texts of the rows that the title takes in. */
export function testTitles(text: string): TestTitle[] {
  const bare = bareCode(text);
  const found: TestTitle[] = [];
  // The describes that the calls found so far have opened, with the index at which each ends.
  const open: { end: number; title: string; skipped: boolean; conditional: boolean }[] = [];
  for (const match of bare.matchAll(/(?<![\w$.])(test|it|describe)((?:\s*\.\s*\w+)*)(?:<[^;]*?>)?\s*(?=\()/g)) {
    const modifiers = (match[2] ?? '').split('.').map((name) => name.trim());
    let at = match.index + match[0].length;
    let rows: { at: number; text: string }[] = [];
    // each(rows)(title), skipIf(condition).each(rows)(title): the title is in the last of the brackets.
    while (bare[behind(bare, at)] === '(' || bare[behind(bare, at)] === '.') {
      const next = behind(bare, at);
      const more = /^((?:\s*\.\s*\w+)*)\s*(?=\()/.exec(bare.slice(next, next + 200));
      if (more === null) break;
      if (/^(each|for)$/.test(modifiers.at(-1)!)) rows = rowTexts(text, bare, at);
      modifiers.push(...(more[1] ?? '').split('.').map((name) => name.trim()));
      at = next + more[0].length;
    }
    const title = firstText(text, bare, at + 1);
    if (title === null) continue;
    while (open.length > 0 && open.at(-1)!.end <= match.index) open.pop();
    const around = open.at(-1);
    const skipped = (around?.skipped ?? false) || modifiers.some((name) => /^(skip|todo|fails)$/.test(name));
    const conditional = (around?.conditional ?? false) || modifiers.some((name) => /^(skipIf|runIf)$/.test(name));
    const call = match[1] as TestTitle['call'];
    const lineOf = (index: number): number => bare.slice(0, index).split('\n').length;
    const more = { call, within: open.map((d) => d.title), skipped, conditional };
    found.push({ ...more, title, line: lineOf(match.index), row: false });
    if (/%s|\$/.test(title)) {
      found.push(...rows.map((row) => ({ ...more, title: row.text, line: lineOf(row.at), row: true })));
    }
    if (call === 'describe') open.push({ end: behind(bare, at), title, skipped, conditional });
  }
  return found;
}
