/** docs/metrics.md is what the tables say. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { METRICS_FILE, metricsDocument } from '../tools/metrics-docs.ts';

test('docs/metrics.md is up to date: npm run metrics-docs', () => {
  expect(readFileSync(METRICS_FILE, 'utf8')).toBe(metricsDocument());
});
