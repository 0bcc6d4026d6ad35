/** Student's t against published tables, and means over combinations. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { Samples, Strata, studentT } from '../../../../src/lab/experiment/statistics.ts';

test("Student's t is that of the tables", () => {
  // NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, critical values; two-sided.
  const table: readonly (readonly [confidence: number, freedom: number, t: number])[] = [
    [0.95, 1, 12.706],
    [0.95, 2, 4.303],
    [0.95, 4, 2.776],
    [0.95, 10, 2.228],
    [0.95, 30, 2.042],
    [0.95, 100, 1.984],
    [0.9, 3, 2.353],
    [0.99, 1, 63.657],
    [0.99, 5, 4.032],
    [0.998, 20, 3.552],
    [0.95, 1e9, 1.96],
  ];
  for (const [confidence, freedom, t] of table)
    assert.ok(
      Math.abs(studentT(confidence, freedom) - t) < 0.0006,
      `${confidence} ${freedom}: ${studentT(confidence, freedom)}`,
    );
});

const samplesOf = (...values: number[]): Samples => {
  const samples = new Samples();
  for (const value of values) samples.add(value);
  return samples;
};

test('a mean knows how well it is known', () => {
  const samples = samplesOf(2, 4, 4, 4, 5, 5, 7, 9);
  assert.equal(samples.mean, 5);
  assert.ok(Math.abs(samples.variance - 32 / 7) < 1e-12);
  assert.ok(Math.abs(samples.halfWidth(0.95)! - 2.3646 * Math.sqrt(32 / 7 / 8)) < 1e-3);
  assert.equal(samplesOf(3).halfWidth(0.95), null);
});

test('that combinations differ is no uncertainty of their mean', () => {
  const strata = new Strata();
  strata.add(samplesOf(100, 100, 100));
  strata.add(samplesOf(900, 900, 900));
  assert.deepEqual(strata.statistic(0.95), {
    n: 6,
    mean: 500,
    standardDeviation: Math.sqrt(2 * 400 * 400),
    minimum: 100,
    maximum: 900,
    halfWidth: 0,
  });
  strata.add(samplesOf(500));
  assert.equal(strata.statistic(0.95)?.halfWidth, null);
});

test('one combination alone has the interval of its samples', () => {
  const samples = samplesOf(1, 2, 4);
  const strata = new Strata();
  strata.add(samples);
  assert.ok(Math.abs(strata.statistic(0.9)!.halfWidth! - samples.halfWidth(0.9)!) < 1e-9);
});
