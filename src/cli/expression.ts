/**
 * The language of `--assert`: a comparison of a run's numbers, as `perFrame.exitsUserspace == 0 && virtual.latencySeconds.p99 < 50us`.
 * It reads and computes, and does nothing else: no calls, no assignments, only own members of plain data.
 *
 *   or     = and  { "||" and }            compare = sum [ ("==" | "!=" | "<" | "<=" | ">" | ">=") sum ]
 *   and    = not  { "&&" not }            sum     = term { ("+" | "-") term }
 *   not    = "!" not | compare            term    = factor { ("*" | "/" | "%") factor }
 *   factor = "-" factor | "(" or ")" | number [unit] | "text" | true | false | null | path
 *   path   = name { "." name | "[" integer "]" | "[" "text" "]" }      unit = ns us ms s (to seconds) k M G
 */

import { EVENT_KINDS } from '../engine/events.ts';

export type Value = number | string | boolean | null;

/** What a name stands for; undefined: nothing. Names that are found lead into plain data. */
export type Scope = (name: string) => unknown;

/** What cannot be read, with the column from 1; or what cannot be computed. */
export class ExpressionError extends Error {}

export interface Expression {
  readonly text: string;
  /** First names of its paths. */
  readonly names: ReadonlySet<string>;
  /** Throws ExpressionError where a path leads nowhere, or values do not fit. */
  evaluate(scope: Scope): boolean;
  /** Its paths with what they lead to, for messages; those that lead nowhere are left out. */
  values(scope: Scope): readonly (readonly [path: string, value: unknown])[];
}

type Node = (scope: Scope) => unknown;
interface Path {
  readonly text: string;
  readonly node: Node;
}

const MOST_LENGTH = 2000;
const MOST_DEPTH = 50;
/** Powers of ten that units stand for: times become seconds, as results have them. */
const UNITS: Readonly<Record<string, number>> = { ns: -9, us: -6, ms: -3, s: 0, k: 3, M: 6, G: 9 };
const TOKEN =
  /\s*(?:(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(ns|us|ms|s|k|M|G)?(?![\w.])|([A-Za-z_$][\w$]*)|"((?:[^"\\]|\\["\\])*)"|'((?:[^'\\]|\\['\\])*)'|(\|\||&&|[=!<>]=|[-+*/%<>!().[\]]))/y;

/** By its digits, not by a product: `20us` is the number that 20,000 ns in seconds is. */
function scaled(number: string, power: number): number {
  const [digits = '', exponent = '0'] = number.split(/e/i);
  return Number(`${digits}e${Number(exponent) + power}`);
}

interface Token {
  readonly kind: 'number' | 'name' | 'text' | 'mark' | 'end';
  readonly text: string;
  readonly value: number;
  /** From 1. */
  readonly column: number;
}

function tokensOf(text: string): Token[] {
  if (text.length > MOST_LENGTH)
    throw new ExpressionError(`an expression of ${text.length} characters is too long: at most ${MOST_LENGTH}`);
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  for (;;) {
    const from = TOKEN.lastIndex;
    const rest = text.slice(from);
    if (rest.trim() === '') break;
    const column = from + rest.length - rest.trimStart().length + 1;
    const m = TOKEN.exec(text);
    if (m === null)
      throw new ExpressionError(`column ${column}: '${text.slice(column - 1, column + 11)}' is not understood`);
    const [, number, unit, name, double, single, mark] = m;
    const quoted = double ?? single;
    if (number !== undefined)
      tokens.push({ kind: 'number', text: m[0].trim(), value: scaled(number, UNITS[unit ?? 's'] ?? 0), column });
    else if (name !== undefined) tokens.push({ kind: 'name', text: name, value: 0, column });
    else if (quoted !== undefined)
      tokens.push({ kind: 'text', text: quoted.replace(/\\(.)/g, '$1'), value: 0, column });
    else tokens.push({ kind: 'mark', text: mark ?? '', value: 0, column });
  }
  tokens.push({ kind: 'end', text: 'the end', value: 0, column: text.length + 1 });
  return tokens;
}

/** Throws ExpressionError where the text is no expression. */
export function parseExpression(text: string): Expression {
  const parser = new Parser(tokensOf(text));
  const node = parser.whole();
  const names = new Set(parser.paths.map((path) => /^[\w$]+/.exec(path.text)![0]));
  return {
    text,
    names,
    evaluate: (scope) => {
      const value = node(scope);
      if (typeof value === 'boolean') return value;
      throw new ExpressionError(`'${text}' is ${shown(value)}, not true or false`);
    },
    values: (scope) => parser.paths.flatMap((path) => seen(path, scope)),
  };
}

function seen(path: Path, scope: Scope): [string, unknown][] {
  try {
    return [[path.text, path.node(scope)]];
  } catch (error) {
    if (error instanceof ExpressionError) return [];
    throw error;
  }
}

class Parser {
  readonly paths: Path[] = [];
  private readonly tokens: readonly Token[];
  private at = 0;
  private depth = 0;

  constructor(tokens: readonly Token[]) {
    this.tokens = tokens;
  }

  whole(): Node {
    const node = this.or();
    if (this.token.kind !== 'end') throw this.unexpected('an operator');
    return node;
  }

  private get token(): Token {
    return this.tokens[this.at]!;
  }
  private take(...marks: string[]): string | null {
    const { kind, text } = this.token;
    if (kind !== 'mark' || !marks.includes(text)) return null;
    this.at++;
    return text;
  }
  private unexpected(expected: string): ExpressionError {
    const { kind, text, column } = this.token;
    return new ExpressionError(
      `column ${column}: ${kind === 'end' ? text : `'${text}'`} where ${expected} is expected`,
    );
  }
  private deeper<T>(read: () => T): T {
    if (++this.depth > MOST_DEPTH) throw new ExpressionError(`column ${this.token.column}: this is nested too deeply`);
    const value = read();
    this.depth--;
    return value;
  }

  private or(): Node {
    let left = this.and();
    while (this.take('||') !== null) left = logical(left, this.and(), true);
    return left;
  }
  private and(): Node {
    let left = this.not();
    while (this.take('&&') !== null) left = logical(left, this.not(), false);
    return left;
  }
  private not(): Node {
    if (this.take('!') === null) return this.compare();
    const operand = this.deeper(() => this.not());
    return (scope) => !truth(operand(scope));
  }
  private compare(): Node {
    const left = this.sum();
    const mark = this.take('==', '!=', '<', '<=', '>', '>=');
    if (mark === null) return left;
    const right = this.sum();
    if (mark === '==') return (scope) => scalar(left(scope)) === scalar(right(scope));
    if (mark === '!=') return (scope) => scalar(left(scope)) !== scalar(right(scope));
    const holds = ORDER[mark]!;
    return (scope) => holds(number(left(scope)), number(right(scope)));
  }
  private sum(): Node {
    let left = this.term();
    for (let mark = this.take('+', '-'); mark !== null; mark = this.take('+', '-'))
      left = computed(mark, left, this.term());
    return left;
  }
  private term(): Node {
    let left = this.factor();
    for (let mark = this.take('*', '/', '%'); mark !== null; mark = this.take('*', '/', '%'))
      left = computed(mark, left, this.factor());
    return left;
  }
  private factor(): Node {
    if (this.take('-') !== null) {
      const operand = this.deeper(() => this.factor());
      return (scope) => -number(operand(scope));
    }
    if (this.take('(') !== null) {
      const inner = this.deeper(() => this.or());
      if (this.take(')') === null) throw this.unexpected("')'");
      return inner;
    }
    const { kind, text, value } = this.token;
    if (kind === 'mark' || kind === 'end') throw this.unexpected('a value');
    this.at++;
    if (kind === 'number') return () => value;
    if (kind === 'text') return () => text;
    if (Object.hasOwn(WORDS, text)) return () => WORDS[text as keyof typeof WORDS];
    return this.path(text);
  }
  private path(first: string): Node {
    const keys: (string | number)[] = [];
    let text = first;
    for (let mark = this.take('.', '['); mark !== null; mark = this.take('.', '[')) {
      const key = this.token;
      if (mark === '.') {
        if (key.kind !== 'name') throw this.unexpected('a name');
        keys.push(key.text);
        text += `.${key.text}`;
      } else {
        const index = key.kind === 'number' && /^\d+$/.test(key.text);
        if (!index && key.kind !== 'text') throw this.unexpected('an index or a text');
        keys.push(index ? key.value : key.text);
        text += `[${index ? key.text : JSON.stringify(key.text)}]`;
      }
      this.at++;
      if (mark === '[' && this.take(']') === null) throw this.unexpected("']'");
    }
    const node: Node = (scope) => followed(scope, first, keys);
    this.paths.push({ text, node });
    return node;
  }
}

const WORDS = { true: true, false: false, null: null } as const;
const ORDER: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  '<': (a, b) => a < b,
  '<=': (a, b) => a <= b,
  '>': (a, b) => a > b,
  '>=': (a, b) => a >= b,
};

function logical(left: Node, right: Node, decides: boolean): Node {
  return (scope) => (truth(left(scope)) === decides ? decides : truth(right(scope)));
}
function computed(mark: string, left: Node, right: Node): Node {
  return (scope) => {
    const a = number(left(scope));
    const b = number(right(scope));
    if (mark === '+') return a + b;
    if (mark === '-') return a - b;
    if (mark === '*') return a * b;
    if (b === 0) throw new ExpressionError(`${a} ${mark} 0 is no number`);
    return mark === '/' ? a / b : a % b;
  };
}

/** Own members of objects, items and `length` of lists. */
function followed(scope: Scope, first: string, keys: readonly (string | number)[]): unknown {
  let value = scope(first);
  let way = first;
  if (value === undefined) throw new ExpressionError(`there is no '${first}' in the result`);
  for (const key of keys) {
    const next: unknown = member(value, key) ?? absentCount(way, key);
    if (next === undefined) {
      const known = typeof value === 'object' && value !== null ? Object.keys(value).slice(0, 12) : [];
      const has = Array.isArray(value) ? `${value.length} items` : known.length > 0 ? known.join(', ') : 'no members';
      throw new ExpressionError(`there is no '${key}' in ${way}: it has ${has}`);
    }
    way += typeof key === 'number' ? `[${key}]` : `.${key}`;
    value = next;
  }
  return value;
}
function member(value: unknown, key: string | number): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  if (Array.isArray(value))
    return key === 'length' ? value.length : typeof key === 'number' ? (value[key] as unknown) : undefined;
  return Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined;
}

const DROPS: ReadonlySet<string> = new Set(
  EVENT_KINDS.filter((kind) => kind.role === 'dropped').map((kind) => kind.name),
);
/** Reasons for which nothing was dropped are left out of a result. */
function absentCount(way: string, key: string | number): 0 | undefined {
  return /(^|\.)dropped$/.test(way) && DROPS.has(String(key)) ? 0 : undefined;
}

function number(value: unknown): number {
  if (typeof value === 'number') return value;
  throw new ExpressionError(`${shown(value)} is no number`);
}
function truth(value: unknown): boolean {
  if (typeof value === 'boolean') return value;
  throw new ExpressionError(`${shown(value)} is not true or false`);
}
function scalar(value: unknown): Value {
  if (value === null || typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean')
    return value;
  throw new ExpressionError(`${shown(value)} cannot be compared`);
}
function shown(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return typeof value === 'object' && value !== null ? 'an object' : JSON.stringify(value);
}
