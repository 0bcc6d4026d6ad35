/** Files of runs: what is read back, and what becomes of a file that was cut off anywhere. */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { CliError } from '../../../src/cli/cli-error.ts';
import { readShard } from '../../../src/cli/experiment-plan.ts';
import { RunFile, type RunFileHeader, type RunLine } from '../../../src/cli/run-file.ts';

let folder = '';
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});
function path(): string {
  folder = mkdtempSync(join(tmpdir(), 'ringside-runs-'));
  return join(folder, 'runs-0-of-2.ndjson');
}

const header: RunFileHeader = {
  ringside: 'experiment',
  engine: 'e',
  experiment: 'abc',
  shard: { index: 0, count: 2 },
  template: { name: 'ü€😀' },
  profiles: [],
};
const line = (run: number): RunLine => {
  const problem = { code: 'C', detail: `größer als ${'ß'.repeat(run)}` };
  return {
    run,
    key: `k${run}`,
    seed: run,
    state: 'FAILED',
    digest: `d${run}`,
    wallSeconds: 0.5,
    problem,
    result: null,
  };
};

test('lines are found again, in order and by their places', () => {
  const file = RunFile.create(path(), header);
  for (const run of [5, 3, 9]) file.append(line(run));
  file.close();
  const read = RunFile.read(join(folder, 'runs-0-of-2.ndjson'));
  expect(read.header).toEqual(header);
  expect(read.places.map(({ run, key, digest }) => [run, key, digest])).toEqual([
    [5, 'k5', 'd5'],
    [3, 'k3', 'd3'],
    [9, 'k9', 'd9'],
  ]);
  expect(read.line(read.places[2]!)).toEqual(line(9));
  read.close();
});

test('a file that was cut off at any byte goes on behind its last whole line', () => {
  const at = path();
  const file = RunFile.create(at, header);
  for (const run of [1, 2, 3]) file.append(line(run));
  file.close();
  const whole = readFileSync(at);
  const ends = [...whole.keys()].filter((i) => whole[i] === 10).map((i) => i + 1);
  for (let cut = 0; cut <= whole.length; cut++) {
    writeFileSync(at, whole);
    truncateSync(at, cut);
    const again = RunFile.continue(at, header);
    expect(again.places.length).toBe(Math.max(0, ends.filter((end) => end <= cut).length - 1));
    again.append(line(7));
    again.close();
    const read = RunFile.read(at);
    expect(read.line(read.places.at(-1)!)).toEqual(line(7));
    read.close();
  }
});

test('a file of another experiment, or of another part, is left alone', () => {
  const at = path();
  RunFile.create(at, header).close();
  const before = readFileSync(at);
  for (const other of [
    { ...header, experiment: 'abd' },
    { ...header, shard: { index: 1, count: 2 } },
  ])
    expect(() => RunFile.continue(at, other)).toThrow(/holds another experiment, or another part/);
  expect(readFileSync(at)).toEqual(before);
  for (const text of ['something else\n', '{"ringside":"experiment"}\n']) {
    writeFileSync(at, text);
    expect(() => RunFile.read(at)).toThrow(CliError);
    expect(() => RunFile.continue(at, header)).toThrow(/holds another experiment/);
    expect(readFileSync(at, 'utf8')).toBe(text);
  }
});

test('parts are numbered from 0; an indexed Job says which', () => {
  expect(readShard(undefined, {})).toEqual({ index: 0, count: 1 });
  expect(readShard('2/3', { JOB_COMPLETION_INDEX: '0' })).toEqual({ index: 2, count: 3 });
  expect(readShard('3', { JOB_COMPLETION_INDEX: '1' })).toEqual({ index: 1, count: 3 });
  for (const [text, env] of [
    ['3/3', {}],
    ['3', {}],
    ['a/b', {}],
    ['1/0', {}],
    ['0', { JOB_COMPLETION_INDEX: '0' }],
    ['2', { JOB_COMPLETION_INDEX: 'x' }],
    ['-1/3', {}],
  ] as const)
    expect(() => readShard(text, env), text).toThrow(CliError);
});
