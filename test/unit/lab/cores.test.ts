/** Which cores threads get. */
import { expect, test } from 'vitest';
import { Cores } from '../../../src/lab/cores.ts';

test('pollers have cores of their own from the highest down, others share what is left, the least loaded first', () => {
  const cores = new Cores(8, 4);
  expect([cores.exclusive(), cores.exclusive()]).toEqual([11, 10]);
  expect([cores.shared(), cores.shared(), cores.shared()]).toEqual([8, 9, 8]);
  expect(cores.least()).toBe(9);
  expect(cores.local(9)).toBe(1);
});
test('a thread in the background takes the last idle core, and nobody’s turn', () => {
  const cores = new Cores(0, 6);
  cores.exclusive();
  cores.shared();
  // 1 to 4 are idle
  expect(cores.least()).toBe(1);
  expect(cores.background()).toBe(4);
  expect([cores.shared(), cores.shared(), cores.shared()]).toEqual([1, 2, 3]);
  expect(new Cores(0, 1).background()).toBe(0);
});
test('with no idle core it takes the least loaded, never a poller’s', () => {
  const cores = new Cores(4, 3);
  cores.exclusive();
  for (let i = 0; i < 3; i++) cores.shared();
  expect(cores.background()).toBe(5);
});
test('no poller takes its core, also when those that shared it have left', () => {
  const cores = new Cores(0, 3);
  expect(cores.background()).toBe(2);
  expect(cores.take(2)).toBeNull();
  expect([cores.shared(), cores.shared(), cores.shared()]).toEqual([0, 1, 2]);
  cores.leave(2);
  expect(cores.take(2)).toBeNull();
  cores.leave(1);
  expect(cores.take(1)).toBe(1);
});
