/**
 * Imports point to lower floors only (ARCHITECTURE.md, "Floors"), and the two floors that must be deterministic touch
 * nothing of the machine they run on. Each failure names the edge: file, line, what it imports, and why not.
 */
import { expect, test } from 'vitest';
import { bareCode, filesBelow, type Import, importsOf, readText } from '../tools/source.ts';

const FLOORS = ['engine', 'machine', 'attach', 'lab', 'readers', 'fleet', 'server', 'cli'] as const;
type Floor = (typeof FLOORS)[number];

/** What the readers and the server may know of the engine: the tables and the layout that the shared memory is read by. */
const ENGINE_TABLES = ['events', 'catalog', 'event-ring', 'hold', 'costs', 'cost-profile'].map(
  (name) => `src/engine/${name}.ts`,
);

/** Why one floor may not import a file of another; null where it may. */
function refusal(from: Floor, to: Floor, target: string): string | null {
  if (FLOORS.indexOf(to) > FLOORS.indexOf(from)) return `${to} is above ${from}`;
  if (from === to) return null;
  if (from === 'readers') {
    if (to === 'engine' || target.startsWith('src/machine/wire/')) return null;
    return 'readers know the engine and machine/wire only';
  }
  if (from === 'server') {
    if (to === 'machine') return 'the server reaches worlds through messages only';
    if (to === 'engine' && !ENGINE_TABLES.includes(target)) {
      return `of the engine the server knows ${ENGINE_TABLES.join(', ')} only`;
    }
  }
  return null;
}

const floorOf = (path: string): Floor | null => FLOORS.find((floor) => path.startsWith(`src/${floor}/`)) ?? null;
const edge = (i: Import): string => `${i.from}:${i.line} imports ${i.specifier}`;

/** The edges of one file that break a rule, each with its reason. */
function wrongEdges(path: string, text?: string): string[] {
  const from = floorOf(path);
  if (from === null) return [`${path}: not on a floor; floors are ${FLOORS.join(', ')}`];
  const wrong: string[] = [];
  for (const i of importsOf(path, text)) {
    if (i.target === null) {
      const deterministic = from === 'engine' || from === 'machine';
      if (deterministic) wrong.push(`${edge(i)}: ${from} imports nothing from outside, neither node: nor packages`);
      continue;
    }
    // The version comes from package.json.
    if ((from === 'server' || from === 'lab') && i.target === 'package.json') continue;
    if (!i.target.startsWith('src/')) {
      wrong.push(`${edge(i)}: outside src`);
      continue;
    }
    const to = floorOf(i.target);
    const why = to === null ? `not on a floor` : refusal(from, to, i.target);
    if (why !== null) wrong.push(`${edge(i)}: ${why}`);
  }
  return wrong;
}

const sources = filesBelow('src', '.ts');

test('imports point to lower floors only', () => {
  expect(sources.flatMap((path) => wrongEdges(path))).toEqual([]);
});

/** Of the machine, what only states numbers or reads a text, and imports nothing: it brings no more along. */
const LEAVES = ['src/machine/memory/sizes.ts', 'src/machine/ovs/vswitchd/smap.ts'];

test('no file of the API thread loads the machine', () => {
  // Direct edges are checked above; this follows the imports that remain at run time, e.g. through the lab.
  const seen = new Map<string, string>();
  const queue = sources.filter((path) => floorOf(path) === 'server');
  for (const path of queue) seen.set(path, path);
  for (let path = queue.shift(); path !== undefined; path = queue.shift()) {
    for (const i of importsOf(path)) {
      if (i.typeOnly || i.target === null || seen.has(i.target) || !sources.includes(i.target)) continue;
      seen.set(i.target, `${seen.get(path)} -> ${i.target}`);
      queue.push(i.target);
    }
  }
  // Entry points of other threads are named by URL, so they are not followed.
  const light = (path: string): boolean => path.startsWith('src/machine/wire/') || LEAVES.includes(path);
  const machine = [...seen].filter(([path]) => floorOf(path) === 'machine' && !light(path));
  expect(LEAVES.flatMap((path) => importsOf(path))).toEqual([]);
  expect(machine.map(([, way]) => way)).toEqual([]);
});

const FORBIDDEN: readonly (readonly [RegExp, string])[] = [
  [/\b(async|await)\b/g, 'work is driven by the scheduler, never by promises'],
  [/\bPromise\b/g, 'work is driven by the scheduler, never by promises'],
  [/\bDate\b|\bperformance\b/g, 'time comes from the scheduler'],
  [/\bMath\s*\.\s*random\b|\bcrypto\b/g, 'randomness comes from seeded streams'],
  [/\b(setTimeout|setInterval|setImmediate|queueMicrotask)\b/g, 'time comes from the scheduler'],
  [/\bconsole\b/g, 'what happens is recorded as events'],
  [/\bprocess\b(?!\s*[(:?])|\bglobalThis\b|\bfetch\s*\(/g, 'a world knows nothing of the machine that it runs on'],
];

/** Uses of the outside world in one file of a deterministic floor. */
function outsideWorld(path: string, text: string): string[] {
  const code = bareCode(text);
  return FORBIDDEN.flatMap(([pattern, why]) =>
    [...code.matchAll(pattern)].map((match) => {
      const line = code.slice(0, match.index).split('\n').length;
      return `${path}:${line} uses ${match[0].trim()}: ${why}`;
    }),
  );
}

test('engine and machine do not touch the outside world', () => {
  const deterministic = sources.filter((path) => floorOf(path) === 'engine' || floorOf(path) === 'machine');
  expect(deterministic.flatMap((path) => outsideWorld(path, readText(path)))).toEqual([]);
});

test('the rules find what they are for', () => {
  const engine = [
    "import { world } from '../lab/world.ts';",
    "import { readFileSync } from 'node:fs';",
    "import { costs } from './costs.ts';",
    "// import { x } from '../server/x.ts';",
    'const text = `import $' + "{a + '}'} from`; // Date",
  ].join('\n');
  expect(wrongEdges('src/engine/a.ts', engine)).toEqual([
    'src/engine/a.ts:1 imports ../lab/world.ts: lab is above engine',
    'src/engine/a.ts:2 imports node:fs: engine imports nothing from outside, neither node: nor packages',
  ]);
  const reader = [
    "import type {\n  A,\n  B,\n} from '../machine/virtio/split-queue.ts';",
    "export * from '../lab/protocol.ts';",
    "import { le16 } from '../machine/wire/struct.ts';",
    "import { readEvents } from '../engine/event-ring.ts';",
  ].join('\n');
  expect(wrongEdges('src/readers/a.ts', reader)).toEqual([
    'src/readers/a.ts:1 imports ../machine/virtio/split-queue.ts: readers know the engine and machine/wire only',
    'src/readers/a.ts:5 imports ../lab/protocol.ts: readers know the engine and machine/wire only',
  ]);
  const server = [
    "import { Scheduler } from '../engine/scheduler.ts';",
    "const v = await import('../machine/kvm/vm.ts');",
    "import { EVENT_KINDS } from '../engine/events.ts';",
  ].join('\n');
  expect(wrongEdges('src/server/a.ts', server).map((text) => text.split(':')[1])).toEqual([
    '1 imports ../engine/scheduler.ts',
    '2 imports ../machine/kvm/vm.ts',
  ]);
  expect(outsideWorld('src/machine/a.ts', "const a = 'Date'; /* await */\nconst t = Date.now();")).toEqual([
    'src/machine/a.ts:2 uses Date: time comes from the scheduler',
  ]);
});
