import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { valueDiffs } from '../../../../src/readers/diff/json-diff.ts';

test('the deepest places in which two values differ', () => {
  const left = { a: [1, { b: 2 }], 'x/y~': true, gone: 1, same: [1] };
  const right = { a: [1, { b: 3 }, 4], 'x/y~': false, same: [1], list: [] };
  assert.deepEqual(valueDiffs(left, right), [
    { pointer: '/a/1/b', left: 2, right: 3 },
    { pointer: '/a/2', left: null, right: 4 },
    { pointer: '/x~1y~0', left: true, right: false },
    { pointer: '/gone', left: 1, right: null },
    { pointer: '/list', left: null, right: [] },
  ]);
  assert.deepEqual(valueDiffs([], {}), [{ pointer: '', left: [], right: {} }]);
});

test('nothing differs from itself, and at most 200 places are told', () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => assert.deepEqual(valueDiffs(value, structuredClone(value)), [])));
  const numbers = Array.from({ length: 1000 }, (_, i) => i);
  assert.equal(valueDiffs(numbers, numbers.toReversed()).length, 200);
});
