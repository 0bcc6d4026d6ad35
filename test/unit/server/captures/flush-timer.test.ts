/** When rows that wait are written: at once in a world that rests, after a while in a slow one, never in a fast one. */
import { expect, test } from 'vitest';
import { WINDOW_NS } from '../../../../src/readers/capture/row-window.ts';
import { FlushTimer } from '../../../../src/server/captures/flush-timer.ts';

test('a world that rests: once, and again after news', () => {
  const timer = new FlushTimer(100, 0);
  timer.saw(1);
  expect(timer.due(1, true, 5)).toBe(true);
  expect(timer.due(2, true, 5)).toBe(false);
  timer.saw(3);
  expect(timer.due(3, true, 6)).toBe(true);
  expect(timer.news).toBe(3);
});

test('a fast world: rows go by themselves', () => {
  const timer = new FlushTimer(100, 0);
  for (let now = 0; now < 2000; now += 10) {
    timer.saw(now);
    // The first look has nothing to compare with; after that virtual time moves by the window in each stretch.
    const due = timer.due(now, false, (now / 100) * WINDOW_NS);
    expect(due).toBe(false);
  }
});

test('a slow world: not longer than it was said', () => {
  const timer = new FlushTimer(100, 0);
  const flushes: number[] = [];
  for (let now = 0; now < 1000; now += 10) {
    timer.saw(now);
    if (timer.due(now, false, now * 100)) flushes.push(now);
  }
  expect(flushes.length).toBeGreaterThanOrEqual(8);
  for (let i = 1; i < flushes.length; i++) expect(flushes[i]! - flushes[i - 1]!).toBeLessThanOrEqual(110);
});
