/** Ingress policing of a port. */
import { expect, test } from 'vitest';
import { Policer } from '../../../../src/machine/host/policer.ts';

/** Frames of `bytes` that pass, one each `gap` ns from `from` on. */
function passed(policer: Policer, n: number, bytes: number, gap: number, from = 0): number {
  let count = 0;
  for (let i = 0; i < n; i++) if (policer.passes(bytes, from + i * gap)) count++;
  return count;
}

test('no rate, no policer', () => {
  expect(Policer.of(0, 80, 0, 5)).toBeNull();
});
test('bits: the burst at once, then the rate', () => {
  const policer = Policer.of(1000, 80, 0, 0)!;
  // 80 kbit are ten frames of 1000 bytes
  expect(passed(policer, 20, 1000, 0)).toBe(10);
  // 8 ms for each frame at 1000 kbit/s
  expect(passed(policer, 100, 1000, 8e6, 8e6)).toBe(100);
  expect(passed(policer, 100, 1000, 4e6, 1e9)).toBeLessThanOrEqual(61);
});
test('packets, whatever their length; the default burst is 16 kpkt', () => {
  expect(passed(Policer.of(0, 0, 1, 2)!, 3000, 9000, 0)).toBe(2000);
  expect(passed(Policer.of(0, 0, 1, 0)!, 20_000, 60, 0)).toBe(16_000);
});
test('both: what one of them refuses takes nothing from the other', () => {
  const policer = Policer.of(1000, 8, 1, 1)!;
  expect(passed(policer, 10, 1000, 0)).toBe(1);
  // tokens for small ones are there, as far as the bits go: 8000 less 8000
  expect(policer.passes(60, 0)).toBe(false);
  expect(policer.passes(60, 480_000)).toBe(true);
});
