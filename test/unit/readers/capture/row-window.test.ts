/** The window against a sort: rows of many contexts, each in its own order, come out in the order of their times. */
import { expect, test } from 'vitest';
import { ROW_NUMBERS, RowWindow } from '../../../../src/readers/capture/row-window.ts';

test.each([1, 2, 3, 4, 5, 7, 8, 9, 17])('%i contexts: every row comes out once, the earliest first', (contexts) => {
  const window = new RowWindow(256);
  const clocks = Array.from({ length: contexts }, () => 0);
  const wanted: number[] = [];
  let state = contexts;
  for (let i = 0; i < 250; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const context = (state >>> 8) % contexts;
    clocks[context] = clocks[context]! + ((state >>> 16) % 50);
    window.insert(clocks[context]!, context);
    wanted.push(clocks[context]!);
  }
  const found: number[] = [];
  while (window.count > 0) {
    found.push(window.numbers[window.ready(0, true) * ROW_NUMBERS]!);
    window.remove();
  }
  expect(found).toEqual(wanted.sort((x, y) => x - y));
});
