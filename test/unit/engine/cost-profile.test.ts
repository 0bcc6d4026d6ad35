/** Cost profiles: the table by the clock, and what tells two of them apart. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import {
  clockScaled,
  costStamp,
  costsHash,
  SHIPPED_PROFILES,
  shippedProfile,
} from '../../../src/engine/cost-profile.ts';
import { COSTS, costTable, REFERENCE_GHZ } from '../../../src/engine/costs.ts';

test('the first profile is the table itself', () => {
  const { costs, rows, clockGhz, base } = shippedProfile();
  assert.deepEqual(costs, costTable({}));
  assert.deepEqual(
    rows.map((row) => row.value),
    COSTS.map((cost) => cost.default),
  );
  assert.deepEqual([clockGhz, base], [REFERENCE_GHZ, null]);
});

test('every shipped profile has a value for every cost, inside its range, and says where it is from', () => {
  assert.deepEqual([...SHIPPED_PROFILES.keys()], ['haswell-2.4', 'broadwell-2.6', 'broadwell-3.6']);
  for (const profile of SHIPPED_PROFILES.values()) {
    assert.deepEqual(Object.keys(profile.costs), Object.keys(costTable({})));
    for (const row of profile.rows) {
      assert.equal(profile.costs[row.name], row.value);
      assert.ok(row.value >= row.range[0] && row.value <= row.range[1], `${profile.name} ${row.name}`);
      assert.ok(row.source.length > 5);
    }
  }
});

test('another clock changes times of CPUs by the ratio of the clocks, to whole ns, and nothing else', () => {
  const fast = shippedProfile('broadwell-3.6');
  for (const [i, row] of fast.rows.entries()) {
    const { default: value, unit, scales, source } = COSTS[i]!;
    if (!scales) {
      assert.deepEqual([row.value, row.source], [value, source], row.name);
      continue;
    }
    const step = unit === 'ns/B' ? 1e-4 : 1;
    assert.ok(Math.abs(row.value - (value * 2.4) / 3.6) <= step / 2 + 1e-9, row.name);
    assert.match(row.source, /; times 2\.4\/3\.6 by clock$/);
    assert.notEqual(row.basis, 'published');
  }
  const fixed = COSTS.filter((cost) => !cost.scales).map((cost) => cost.name);
  assert.ok(fixed.includes('cross_core_cache_line') && fixed.includes('ethernet_overhead'));
  assert.ok(fixed.length < COSTS.length / 4);
  assert.equal(clockScaled(fast, 'back', 2.4).costs['upcall'], 60_000);
  assert.throws(() => shippedProfile('nothing'));
});

test('no cost of a CPU becomes nothing, however fast its clock is', () => {
  for (const { value, default: of } of clockScaled(shippedProfile(), 'fast', 10_000).rows)
    assert.ok(value > 0 || of === 0);
});

test('the hash tells tables apart, and no more than that', () => {
  const hashes = [...SHIPPED_PROFILES.values()].map(({ costs }) => costsHash(costs));
  assert.equal(new Set(hashes).size, hashes.length);
  assert.equal(costsHash({}), costsHash(costTable({})));
  assert.match(costsHash({}), /^[0-9a-f]{16}$/);
  const profile = shippedProfile();
  assert.deepEqual(costStamp(profile, {}), { profile: 'haswell-2.4', hash: costsHash({}), overrides: 0 });
  const changed = costStamp(profile, { upcall: 1000 });
  assert.equal(changed.overrides, 1);
  assert.equal(changed.hash, costsHash({ upcall: 1000 }));
  assert.notEqual(changed.hash, costsHash({}));
});
