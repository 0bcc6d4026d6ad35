/** Habits that a test can keep: what every file of the repository has, and what none has. */
import { existsSync, readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { bareCode, filesBelow, ROOT, readText } from '../tools/source.ts';

const sources = filesBelow('src', '.ts');
const code = [...sources, ...filesBelow('test', '.ts'), ...filesBelow('grafana', '.ts')];

const TEXT = /\.(ts|cjs|mjs|js|json|ya?ml|md|html|css|lua|hex|txt)$|(^|\/)(run|Dockerfile|LICENSE|\.[a-z]+ignore)$/;
const everything = [
  ...readdirSync(ROOT, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name),
  ...['src', 'test', 'grafana', 'wireshark', 'openapi', '.ci'].flatMap((folder) => filesBelow(folder)),
].filter((path) => TEXT.test(path));

/** `file:line: what` for each match. */
function matches(path: string, text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map((match) => {
    const line = text.slice(0, match.index).split('\n').length;
    return `${path}:${line}: ${match[0].trim()}`;
  });
}

test('no file names a place that exists on one machine only', () => {
  // Character classes keep this file from finding itself.
  const patterns = [
    /(?<![\w.])\/w[o]rk\/[\w.-]*/g,
    /\.\.\/sh[a]red\//g,
    /(?<![\w.])\/r[o]ot\//g,
    // Hosts of package registries, and download addresses in the lock file.
    /\b(registry|packages|deb|ppa|proxy)\.[a-z0-9.-]+\.(org|com|net|io|dev)\b/g,
    /"res[o]lved":/g,
  ];
  expect(everything.flatMap((path) => patterns.flatMap((p) => matches(path, readText(path), p)))).toEqual([]);
});

test('nothing is left to do later in a comment', () => {
  const later = /\b(TO[D]O|FIX[M]E|XX[X])\b/g;
  expect([...code, ...filesBelow('.ci')].flatMap((path) => matches(path, readText(path), later))).toEqual([]);
});

test('every source file says first what it is for', () => {
  const silent = sources.filter(
    (path) => !/^(#!.*\n)?\s*(\/\*\*|\/\/)\s*\S/.test(readText(path).replace('/**\n *', '/**')),
  );
  expect(silent).toEqual([]);
});

test('no any, no index.ts, no utils.ts, default exports only for plugins and configuration', () => {
  expect(code.flatMap((path) => matches(path, bareCode(readText(path)), /(:|\bas|<|,|\|)\s*any\b(?!\s*:)/g))).toEqual(
    [],
  );
  expect(sources.filter((path) => /\/(index|utils?|helpers?|misc)\.ts$/.test(path))).toEqual([]);
  const below = sources.filter((path) => !path.startsWith('src/server/'));
  expect(below.flatMap((path) => matches(path, bareCode(readText(path)), /\bexport\s+default\b/g))).toEqual([]);
});

test('the machine has no case per backend: what differs is the wiring', () => {
  // The one table that builds a topology is in the lab.
  const machine = sources.filter((path) => path.startsWith('src/machine/'));
  const branch = /([!=]==?|\bcase)\s*(['"`])(virtio-net|vhost-net|vhost-user)\2/g;
  expect(machine.flatMap((path) => matches(path, readText(path), branch))).toEqual([]);
});

test('frame bytes move in one file', () => {
  // Readers and documents copy bytes too, but those are not a frame's way through the host.
  const machine = sources.filter((path) => path.startsWith('src/machine/') && !path.startsWith('src/machine/wire/'));
  // Lists of a protocol's own (what waits, ranges of sequence numbers) are no bytes of a frame.
  const movers = /(?<!\b(?:held|rangeFrom|rangeTo))\.copyWithin\s*\(/g;
  const found = machine.filter((path) => path !== 'src/machine/packet/copy.ts');
  expect(found.flatMap((path) => matches(path, bareCode(readText(path)), movers))).toEqual([]);
});

test('the files that a user looks for at the top are there', () => {
  const wanted = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'LICENSE', 'Dockerfile', 'docker-compose.yml'];
  expect(wanted.filter((name) => !existsSync(`${ROOT}/${name}`))).toEqual([]);
  expect(readText('LICENSE')).toMatch(/Apache License\s+Version 2\.0, January 2004/);
});
