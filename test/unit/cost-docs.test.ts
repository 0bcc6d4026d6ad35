/** docs/costs.md is what the table and the profiles say. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseCostProfile } from '../../src/lab/cost-profile-document.ts';
import { COSTS_FILE, costsDocument } from '../tools/cost-docs.ts';

test('docs/costs.md is up to date: npm run costs', () => {
  expect(readFileSync(COSTS_FILE, 'utf8')).toBe(costsDocument());
});

test('the profile that it shows is one', () => {
  const printed = /cost-profiles\/(\S+) .*-d '(\{[\s\S]*?\n\})'/.exec(costsDocument());
  expect(parseCostProfile(JSON.parse(printed?.[2] ?? ''), printed?.[1])).toMatchObject({ ok: true });
});
