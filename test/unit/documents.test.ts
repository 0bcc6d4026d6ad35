/** What the documents claim and a test can check. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { deviationsIn, withDeviations } from '../tools/deviations.ts';
import { filesBelow, ROOT, readText } from '../tools/source.ts';

const documents = ['README.md', 'CONTRIBUTING.md', 'ARCHITECTURE.md'];

test('ARCHITECTURE.md lists the deviations that the sources confess', () => {
  expect(withDeviations() === readText('ARCHITECTURE.md'), 'out of date: npm run deviations').toBe(true);
});

test('a deviation is read to the end of its sentence block', () => {
  const text =
    '/**\n * What it does.\n * DEVIATION: real ones\n * differ.\n *\n * More. */\n// DEVIATION: short,\n// two lines\ncode();\n';
  expect(deviationsIn(text)).toEqual(['real ones differ.', 'short, two lines']);
});

test('the README names every setting that the server reads, and no other', () => {
  const settings = readText('src/server/settings.ts') + readText('src/fleet/nats-files.ts');
  const read = new Set([...settings.matchAll(/'(HOST|PORT|RINGSIDE_[A-Z_]+)'/g)].map((match) => match[1]));
  const table = new Set([...readText('README.md').matchAll(/^\| `([A-Z_]+)` \|/gm)].map((match) => match[1]));
  expect([...table].sort()).toEqual([...read].sort());
});

test('every npm script that a document names exists', () => {
  const { scripts } = JSON.parse(readText('package.json')) as { scripts: Record<string, string> };
  for (const path of [...documents, '.ci/run', ...filesBelow('src', '.ts'), ...filesBelow('test', '.ts')]) {
    for (const [, name = ''] of readText(path).matchAll(/\bnpm run ([a-z][a-z:-]*)/g)) {
      expect(Object.keys(scripts), `${path} names npm run ${name}`).toContain(name);
    }
  }
});

test('every link between the documents leads somewhere', () => {
  for (const path of documents) {
    for (const [, target = ''] of readText(path).matchAll(/\]\((?!https?:)([^)#]+)/g)) {
      expect(existsSync(join(ROOT, target)), `${path} links to ${target}`).toBe(true);
    }
  }
});

test('every folder of the map in ARCHITECTURE.md exists', () => {
  const map = /```text\n(src\/server[\s\S]*?)```/.exec(readText('ARCHITECTURE.md'))?.[1] ?? '';
  let floor = '';
  for (const line of map.split('\n')) {
    const [, indent = '', name = ''] = /^( *)([\w/]+\/) {2}/.exec(line) ?? [];
    if (name === '') continue;
    if (indent === '') floor = name;
    const path = indent === '' ? name : floor + name;
    expect(existsSync(join(ROOT, path)), path).toBe(true);
  }
});
