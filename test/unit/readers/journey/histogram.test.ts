import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Histogram } from '../../../../src/readers/journey/histogram.ts';

test('quantiles beside sorted values: exact when small or all the same, else within 0.8 %', () => {
  const value = fc.oneof(
    fc.integer({ min: 0, max: 300 }),
    fc.integer({ min: 0, max: 100_000 }),
    fc.integer({ min: 0, max: 2 ** 36 }),
    fc.constantFrom(255, 256, 511, 512, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 48),
  );
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 300 }), (values) => {
      const histogram = new Histogram();
      for (const v of values) histogram.add(v);
      const sorted = values.toSorted((x, y) => x - y);
      expect(histogram.count).toBe(values.length);
      expect(histogram.sum).toBe(values.reduce((sum, v) => sum + v, 0));
      expect(histogram.quantile(1)).toBe(sorted.at(-1));
      for (const q of [0.01, 0.5, 0.9, 0.99]) {
        const exact = sorted[Math.ceil(q * values.length) - 1]!;
        const told = histogram.quantile(q);
        if (exact < 256) expect(told).toBe(exact);
        else expect(Math.abs(told - exact) / exact).toBeLessThan(0.008);
      }
    }),
  );
});

test('a value that is the only one of its step is told exactly, whatever its size', () => {
  const histogram = new Histogram();
  for (let i = 0; i < 1000; i++) histogram.add(i % 10 === 0 ? 84_266 : 1_234_567_891);
  expect(histogram.quantile(0.05)).toBe(84_266);
  expect(histogram.quantile(0.5)).toBe(1_234_567_891);
});

test('nothing in it', () => {
  expect(new Histogram().quantiles()).toEqual({ p50: 0, p90: 0, p99: 0, max: 0, mean: 0 });
});
