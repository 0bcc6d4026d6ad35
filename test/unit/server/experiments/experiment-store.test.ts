/** Runs and results as they are kept: once each, over a restart, and for as long as somebody has them. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, test } from 'vitest';
import { ExperimentStore, type StoredRun } from '../../../../src/server/experiments/experiment-store.ts';
import { OutcomeWriter } from '../../../../src/server/experiments/outcome-writer.ts';
import { StoreError } from '../../../../src/server/store.ts';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});
function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'ringside-test-'));
  folders.push(made);
  return made;
}
const row = { created: 'now', state: 'RUNNING', engine: 'e', template: '{}', profiles: '[]', skipped: '[]' } as const;
const run = (number: number, key: string, more: Partial<StoredRun> = {}): StoredRun => ({
  run: number,
  state: 2,
  reused: false,
  key,
  digest: `digest of ${key}`,
  wallSeconds: 0.5,
  problem: null,
  metrics: Float64Array.of(1.5, Number.NaN, 3),
  ...more,
});
const result = { digest: 'd', result: '{"x":1}', wallSeconds: 0.5 };

test('what was written is there after a restart, each run once', () => {
  const at = folder();
  const first = new ExperimentStore(at);
  const number = first.add(row);
  first.putMetrics(number, ['/a', '/b', '/c']);
  first.putRun(number, run(2, 'k2'));
  first.putRun(number, run(1, 'k1', { problem: '{"code":"x"}' }));
  first.putRun(number, run(2, 'other'));
  first.putResult('k2', result);
  first.end(number, 'FAILED', 'why', 'then', Uint8Array.of(0, 2, 3));
  assert.throws(() => new ExperimentStore(at), StoreError);
  first.close();

  const second = new ExperimentStore(at);
  assert.deepEqual({ ...second.all()[0]! }, { ...row, number, state: 'FAILED', reason: 'why', ended: 'then' });
  assert.deepEqual(second.runs(number, 1, 10), [run(1, 'k1', { problem: '{"code":"x"}' }), run(2, 'k2')]);
  assert.deepEqual(second.runs(number, 2, 10), [run(2, 'k2')]);
  assert.equal(second.run(number, 3), null);
  assert.deepEqual(second.metrics(number), ['/a', '/b', '/c']);
  assert.deepEqual([...second.states(number)!], [0, 2, 3]);
  assert.deepEqual(second.result('k2'), result);
  assert.equal(second.add(row), number + 1);
  second.close();
});

test('a result stays as long as a run has it', () => {
  const store = new ExperimentStore(null);
  const [one, two] = [store.add(row), store.add(row)];
  for (const key of ['shared', 'own']) store.putResult(key, result);
  store.condemn(one);
  assert.deepEqual(store.condemned(), [one]);
  for (let i = 1; i <= 5; i++) store.putRun(one, run(i, i === 1 ? 'shared' : 'own'));
  store.putRun(two, run(1, 'shared'));
  assert.equal(store.deleteSome(one, 2), true);
  assert.notEqual(store.result('own'), null);
  while (store.deleteSome(one, 2));
  assert.equal(store.result('own'), null);
  assert.notEqual(store.result('shared'), null);
  assert.deepEqual(
    store.all().map(({ number }) => number),
    [two],
  );
  store.close();
});

test('outcomes are written together; one that cannot be is told of, and those with it', () => {
  const store = new ExperimentStore(null);
  const number = store.add(row);
  const failed: number[] = [];
  const writer = new OutcomeWriter(store, (numbers) => failed.push(...numbers));
  writer.add({ experiment: number, run: run(1, 'k1'), result, metrics: ['/a'] });
  assert.deepEqual(writer.result('k1'), result, 'what waits is known');
  assert.equal(store.run(number, 1), null);
  writer.flush();
  assert.deepEqual(store.run(number, 1), run(1, 'k1'));
  assert.deepEqual(failed, []);
  writer.add({ experiment: number, run: run(2, 'k2'), result: null, metrics: null });
  writer.add({ experiment: 7, run: run(1, 'k3', { state: 'no number' as never }), result: null, metrics: null });
  writer.flush();
  assert.deepEqual(failed, [number, 7]);
  assert.equal(store.run(number, 2), null);
  store.close();
});
