/**
 * Where virtual times come from, read off the sources: every cost is looked up by one fixed name of the table, never by the name of
 * a back-end, a guest or a point, nothing else spends time, and no row of the table is unused.
 */
import { expect, test } from 'vitest';
import { COSTS } from '../../src/engine/costs.ts';
import { bareCode, filesBelow, readText } from '../tools/source.ts';

interface Lookup {
  readonly path: string;
  readonly line: number;
  /** What is between the parentheses. */
  readonly argument: string;
  /** The statement up to the lookup, and what follows on its line. */
  readonly statement: string;
  /** Conditions of the blocks that it is in, innermost first. */
  readonly conditions: readonly string[];
}

const LOOKUP = /\b(?:(?:services|this|costs?|s)\.)+(?:ns|per256|figure)\(|\bcostOf\(/g;

function lookupsIn(path: string, text: string = readText(path)): Lookup[] {
  const bare = bareCode(text);
  return [...bare.matchAll(LOOKUP)].flatMap((match) => {
    const open = match.index + match[0].length;
    const close = bare.indexOf(')', open);
    const argument = text.slice(open, close).replace(/^costs, /, '');
    const begin = Math.max(...[';', '{', '}'].map((end) => bare.lastIndexOf(end, match.index)));
    const statement = text.slice(begin + 1, bare.indexOf('\n', close));
    const conditions = conditionsAt(bare, text, match.index);
    return [{ path, line: bare.slice(0, open).split('\n').length, argument, statement, conditions }];
  });
}
/** What stands before each open brace, where it is an if or a switch. */
function conditionsAt(bare: string, text: string, at: number): string[] {
  const found: string[] = [];
  let depth = 0;
  for (let i = at; i >= 0; i--) {
    if (bare[i] === '}') depth++;
    if (bare[i] !== '{' || depth-- > 0) continue;
    depth = 0;
    const begin = Math.max(...[';', '{', '}'].map((end) => bare.lastIndexOf(end, i - 1)));
    const header = text.slice(begin + 1, i);
    if (/^\s*(else\s+)?(if|switch)\b/.test(bare.slice(begin + 1, i))) found.push(header);
  }
  return found;
}
const told = ({ path, line, argument }: Lookup): string => `${path}:${line} (${argument})`;

const sources = [...filesBelow('src/machine', '.ts'), ...filesBelow('src/lab', '.ts')];
/** Defines the three ways to look up. */
const DEFINITION = 'src/machine/services.ts';
const lookups = sources.filter((path) => path !== DEFINITION).flatMap((path) => lookupsIn(path));
const FIXED = /^'([a-z0-9_]+)'$/;
const BACKEND = /virtio-net|vhost-net|vhost-user|\bbackend\b|\bpreset\b/;

test('every lookup has one name of the table, written out', () => {
  expect(lookups.length).toBeGreaterThan(80);
  const known = new Set(COSTS.map((cost) => cost.name));
  expect(lookups.filter(({ argument }) => !known.has(FIXED.exec(argument)?.[1] ?? '')).map(told)).toEqual([]);
});

test('no lookup is decided by the name of a back-end', () => {
  const decided = ({ statement, conditions }: Lookup): boolean =>
    [statement, ...conditions].some((t) => BACKEND.test(t));
  expect(lookups.filter(decided).map(told)).toEqual([]);
  expect(COSTS.filter((cost) => /virtio-net|vhost-net|vhost-user/.test(cost.name))).toEqual([]);
});

/** Rows that no context is charged for, with the reason. */
const NOT_CHARGED: Readonly<Record<string, string>> = {
  vm_exit_direct: 'a vCPU that halts has nothing else to do meanwhile; its way back in is part of halted_vcpu_wakeup',
};

test('every row of the table is looked up by somebody', () => {
  const used = new Set(lookups.map(({ argument }) => FIXED.exec(argument)?.[1]));
  expect(COSTS.map((cost) => cost.name).filter((name) => !used.has(name))).toEqual(Object.keys(NOT_CHARGED));
});

test('each profile is the table: no file but the table and the profiles has costs by name', () => {
  const names = COSTS.map((cost) => cost.name);
  const own = ['src/engine/costs.ts', 'src/engine/cost-profile.ts'];
  const assigned = [...sources, ...filesBelow('src/engine', '.ts')].flatMap((path) => {
    if (own.includes(path)) return [];
    return [...readText(path).matchAll(/(\w+)'?\]?\s*[:=]\s*\d/g)].flatMap(([, name = '']) =>
      names.includes(name) ? [`${path} ${name}`] : [],
    );
  });
  expect(assigned).toEqual([]);
});

test('nobody owes or takes a number of ns that is written in the code', () => {
  const literal =
    /\b(?:owe|busy|spend)\(\s*\d|\b(?:cost|ns|latency|delay)\s*\+=\s*[1-9]|\b\w*[cC]ost\s*(?::|=)\s*[1-9]\d*\b/;
  const wrong = filesBelow('src/machine', '.ts').flatMap((path) =>
    bareCode(readText(path))
      .split('\n')
      .flatMap((line, i) => (literal.test(line) ? [`${path}:${i + 1} ${line.trim()}`] : [])),
  );
  expect(wrong).toEqual([]);
});

test('the reader of lookups sees what it is there for', () => {
  const source = (argument: string, before = ''): string =>
    `const a = 1;\n${before}this.x = services.ns(${argument});\n`;
  const one = (text: string): Lookup => lookupsIn('x.ts', text)[0]!;
  expect(one(source("'upcall'")).argument).toBe("'upcall'");
  expect(FIXED.test(one(source("kernel ? 'a' : 'b'")).argument)).toBe(false);
  expect(FIXED.test(one(source('name')).argument)).toBe(false);
  expect(BACKEND.test(one(source("'upcall'", "if (nic.backend === 'x') ")).statement)).toBe(true);
  expect(BACKEND.test(one(source("'upcall'")).statement)).toBe(false);
  const nested = `function f() {\n  if (nic.backend === 'x') {\n    const b = { c: 1 };\n    for (;;) {\n      ${source("'upcall'")}\n}}}`;
  expect(one(nested).conditions.map((text) => text.trim())).toEqual(["if (nic.backend === 'x')"]);
  expect(lookupsIn('x.ts', "const c = costOf(costs, 'upcall');\n")[0]?.argument).toBe("'upcall'");
});
