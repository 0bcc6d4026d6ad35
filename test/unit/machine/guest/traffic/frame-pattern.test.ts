/** Lengths and flows of streams: ratios are kept, and a frame has the same ones however the stream is sent. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { RandomStream } from '../../../../../src/engine/random.ts';
import {
  type FlowDistribution,
  FlowPicker,
  FrameSizes,
  flowWeight,
} from '../../../../../src/machine/guest/traffic/frame-pattern.ts';

const random = (seed = 1): RandomStream => new RandomStream(seed, 'test');
const IMIX = [
  { length: 60, weight: 7 },
  { length: 566, weight: 4 },
  { length: 1514, weight: 1 },
];

test('sizes: each comes as often as its weight says, exactly, over a table', () => {
  const sizes = new FrameSizes(IMIX, random());
  const counts = [0, 0, 0];
  const frames = 12 * 341;
  for (let i = 0; i < frames; i++) counts[sizes.indexOf(i)]!++;
  assert.deepEqual(counts, [7 * 341, 4 * 341, 341]);
  for (let i = 0; i < 50; i++) assert.equal(sizes.indexOf(i), sizes.indexOf(i + frames));
  assert.equal(sizes.bytesOf(0, frames), 341 * (7 * 60 + 4 * 566 + 1514));
  assert.equal(sizes.bytesOf(5, 1), IMIX[sizes.indexOf(5)]!.length);
});

test('sizes: the order is the seed’s, and is no turn: twelve flows that take turns have frames of every size', () => {
  const sizes = new FrameSizes(IMIX, random());
  const same = new FrameSizes(IMIX, random());
  const other = new FrameSizes(IMIX, random(2));
  const order = (s: FrameSizes): number[] => Array.from({ length: 200 }, (_, i) => s.indexOf(i));
  assert.deepEqual(order(sizes), order(same));
  assert.notDeepEqual(order(sizes), order(other));
  for (let flow = 0; flow < 12; flow++) {
    const seen = new Set(Array.from({ length: 300 }, (_, i) => sizes.indexOf(flow + 12 * i)));
    assert.equal(seen.size, 3, `flow ${flow}`);
  }
});

const frames = 200_000;
function shares(distribution: FlowDistribution, flows: number): number[] {
  const picker = new FlowPicker(distribution, flows, random());
  const counts = new Array<number>(flows).fill(0);
  for (let i = 0; i < frames; i++) counts[picker.flowOf(i)]!++;
  return counts.map((n) => n / frames);
}
/** Five standard deviations of a share that is drawn so often. */
const tolerance = (share: number): number => 5 * Math.sqrt((share * (1 - share)) / frames);

test('flows: drawn as the distribution says', () => {
  const distributions: FlowDistribution[] = [
    { kind: 'uniform' },
    { kind: 'zipf', skew: 1 },
    { kind: 'zipf', skew: 0.5 },
    { kind: 'zipf', skew: 2.5 },
  ];
  for (const distribution of distributions) {
    for (const flows of [2, 7, 64]) {
      const total = Array.from({ length: flows }, (_, i) => flowWeight(distribution, i)).reduce((a, b) => a + b);
      for (const [i, share] of shares(distribution, flows).entries()) {
        const expected = flowWeight(distribution, i) / total;
        assert.ok(
          Math.abs(share - expected) <= tolerance(expected),
          `${JSON.stringify(distribution)} of ${flows}: flow ${i} has ${share}, expected ${expected}`,
        );
      }
    }
  }
});

test('flows: all numbers are in range, and a frame has the same flow each time', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 65_536 }),
      fc.double({ min: 0.01, max: 10, noNaN: true }),
      fc.nat(0x3fffffff),
      (flows, skew, from) => {
        const picker = new FlowPicker({ kind: 'zipf', skew }, flows, random());
        const again = new FlowPicker({ kind: 'zipf', skew }, flows, random());
        for (let i = from; i < from + 50; i++) {
          const flow = picker.flowOf(i);
          assert.ok(flow >= 0 && flow < flows && Number.isInteger(flow), `${flow} of ${flows}`);
          assert.equal(again.flowOf(i), flow);
        }
      },
    ),
    { numRuns: 30 },
  );
});

test('flows: frames that follow each other are of flows that do not', () => {
  const picker = new FlowPicker({ kind: 'uniform' }, 2, random());
  let changes = 0;
  for (let i = 0; i < 10_000; i++) if (picker.flowOf(i) !== picker.flowOf(i + 1)) changes++;
  assert.ok(changes > 4700 && changes < 5300, `${changes} changes`);
});
