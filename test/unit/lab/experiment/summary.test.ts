/** Summaries against the means computed by hand, and CSV as RFC 4180 has it. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { csvHeader, csvLine } from '../../../../src/lab/experiment/csv.ts';
import { headlines, metricOf, numbersOf } from '../../../../src/lab/experiment/metrics.ts';
import { type Plan, planExperiment } from '../../../../src/lab/experiment/plan.ts';
import { type CombinationSummary, Summary } from '../../../../src/lab/experiment/summary.ts';
import type { JobResult } from '../../../../src/lab/job/job.ts';

function planOf(...axes: readonly (readonly unknown[])[]): Plan {
  const fields = ['count', 'frameSize', 'flows'];
  const result = planExperiment(
    {
      template: { topology: { preset: 'vhost-net' }, traffic: [{ kind: 'udp', from: 'a/net0', to: 'b/net0' }] },
      axes: axes.map((values, i) => ({ pointer: `/traffic/0/${fields[i]}`, values })),
      repetitions: 3,
    },
    { engine: 'test', maxRuns: 1e6 },
  );
  assert.ok(result.ok);
  return result.plan;
}

test('means by axis and combination are those of the runs', () => {
  const sample = fc.option(fc.double({ min: -1000, max: 1000, noNaN: true }), { nil: Number.NaN, freq: 6 });
  fc.assert(
    fc.property(fc.array(sample, { minLength: 18, maxLength: 18 }), (values) => {
      const plan = planOf([1, 2, 3], [64, 128]);
      const rows: CombinationSummary[] = [];
      const summary = new Summary(plan, ['/x'], 0.95, (row) => rows.push(row));
      for (const [i, value] of values.entries()) summary.add(plan.combinationOf(i + 1), [value]);
      const axes = summary.axes();
      const mean = (list: readonly number[]): number => list.reduce((sum, value) => sum + value, 0) / list.length;
      const near = (a: number | undefined, b: number): void =>
        assert.ok(Number.isNaN(b) ? a === undefined : Math.abs(a! - b) < 1e-9, `${a} ${b}`);
      const means = Array.from({ length: 6 }, (_, c) =>
        mean(values.slice(3 * c, 3 * c + 3).filter((value) => !Number.isNaN(value))),
      );
      for (const [c, { metrics, combination }] of rows.entries()) {
        assert.equal(combination, c);
        near(metrics['/x']?.mean, means[c]!);
      }
      const of = (combinations: readonly number[]): number =>
        mean(combinations.map((c) => means[c]!).filter((value) => !Number.isNaN(value)));
      near(axes[0]!.values[1]!.metrics['/x']?.mean, of([2, 3]));
      near(axes[1]!.values[0]!.metrics['/x']?.mean, of([0, 2, 4]));
      assert.equal(axes[1]!.values[0]!.runs, 9);
    }),
  );
});

test('values without runs take next to nothing', () => {
  const plan = planOf(Array.from({ length: 20_000 }, (_, i) => i + 1));
  const before = process.memoryUsage().heapUsed;
  const metrics = Array.from({ length: 100 }, (_, i) => `/x${i}`);
  const summary = new Summary(plan, metrics, 0.95, () => {});
  summary.add(
    7,
    metrics.map(() => 3),
  );
  const { values } = summary.axes()[0]!;
  assert.ok(process.memoryUsage().heapUsed - before < 100 * 2 ** 20);
  assert.equal(values.length, 20_000);
  assert.deepEqual([values[6]?.runs, values[7]?.runs, values[7]?.metrics['/x99']?.mean], [0, 1, 3]);
});

test('a line has its fields in quotes where they need them', () => {
  const plan = planOf([1, 2]);
  assert.equal(
    csvHeader(plan, ['/runs/0/x', '/a,b']),
    'run,combination,repetition,seed,state,reused,digest,wallSeconds,problem,count,/runs/0/x,"/a,b"\r\n',
  );
  const row = { state: 'FAILED', reused: false, digest: null, wallSeconds: 0.25, problem: 'no "x",\nno y' } as const;
  assert.equal(
    csvLine(plan, { ...row, number: 5, metrics: [1.5, Number.NaN] }, 2),
    '5,2,2,2,FAILED,false,,0.25,"no ""x"",\nno y",2,1.5,\r\n',
  );
});

test('numbers of a result by their pointers', () => {
  const result = {
    events: 7,
    seed: 3,
    runs: [{ sent: 5, virtual: { framesPerSecond: 1e6 }, queues: [{ kicks: 1 }], dropped: { 'a/b': 2 }, state: 'x' }],
  } as unknown as JobResult;
  assert.deepEqual(
    [...numbersOf(result)],
    [
      ['/events', 7],
      ['/runs/0/sent', 5],
      ['/runs/0/virtual/framesPerSecond', 1e6],
      ['/runs/0/dropped/a~1b', 2],
    ],
  );
  assert.equal(metricOf(result, '/runs/0/queues/0/kicks'), 1);
  assert.equal(metricOf(result, '/runs/0/state'), null);
  assert.equal(metricOf(result, '/runs/1/sent'), null);
  assert.deepEqual(headlines([...numbersOf(result).keys()]), ['/runs/0/sent', '/runs/0/virtual/framesPerSecond']);
});
