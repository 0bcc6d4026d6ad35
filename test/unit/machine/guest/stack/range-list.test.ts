/** Lists of stretches against a set of positions. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MAX_RANGES, RangeList } from '../../../../../src/machine/guest/stack/range-list.ts';

const stretch = fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 12 })).map(([from, n]) => [from, from + n] as const);

test('adding, asking and taking do what a set of positions does', () => {
  fc.assert(
    fc.property(fc.array(stretch, { maxLength: 20 }), fc.nat(70), fc.nat(80), (stretches, position, to) => {
      const list = new RangeList();
      const set = new Set<number>();
      for (const [from, end] of stretches) {
        let news = false;
        for (let i = from; i < end; i++) {
          if (!set.has(i)) news = true;
          set.add(i);
        }
        assert.equal(list.add(from, end), news);
      }
      for (let i = 1; i < list.count; i++) assert.ok(list.rangeFrom[i]! > list.rangeTo[i - 1]!, 'they do not touch');
      const missing = Array.from({ length: Math.max(0, to - position) }, (_, i) => position + i).filter(
        (i) => !set.has(i),
      );
      assert.equal(list.missing(position, to), missing.length);
      let hole = position;
      while (set.has(hole)) hole++;
      assert.equal(list.hole(position), hole);
      assert.equal(list.indexOf(position) >= 0, set.has(position));
      assert.equal(list.highest, set.size === 0 ? 0 : Math.max(...set) + 1);
      // the next stretch above a hole
      let above = hole;
      while (above < 100 && !set.has(above)) above++;
      assert.equal(list.next(hole, 100), above);
      // what can be taken from `position` on
      let end = position;
      while (set.has(end)) end++;
      const before = list.missing(0, 100);
      assert.equal(list.take(position), end);
      assert.equal(
        list.missing(end, 100),
        Array.from({ length: 100 - end }, (_, i) => end + i).filter((i) => !set.has(i)).length,
      );
      assert.ok(list.missing(0, 100) >= before);
    }),
  );
});

test('a full list takes what joins two stretches, and nothing new', () => {
  const list = new RangeList();
  for (let i = 0; i < MAX_RANGES; i++) assert.ok(list.add(10 * i, 10 * i + 5));
  expect(list.add(10 * MAX_RANGES, 10 * MAX_RANGES + 5)).toBe(false);
  expect(list.add(5, 10)).toBe(true);
  expect(list.count).toBe(MAX_RANGES - 1);
});
