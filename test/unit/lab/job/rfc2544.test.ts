/** The searches against devices of which the answer is known. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import {
  backToBack,
  lossCurve,
  lossRatio,
  passes,
  type Trial,
  throughputSearch,
} from '../../../../src/lab/job/rfc2544.ts';

/** A device that takes `capacity` frames per second, holds `buffer` frames, and drops the others. */
function device(capacity: number, buffer: number, seconds = 0.02): (rate: number) => Trial {
  return (rate) => {
    const sent = Math.max(2, Math.round(rate * seconds));
    const took = sent / rate;
    const received = Math.min(sent, Math.floor(capacity * took) + buffer);
    return { sent, received, offeredRate: rate, receivedRate: Math.min(rate, capacity) };
  };
}

test('throughput: never above what the device can, and no further below than asked', () => {
  const near = fc.tuple(
    fc.double({ min: 1e-4, max: 2, noNaN: true }),
    fc.nat(4096),
    fc.constantFrom(0.001, 0.01, 0.05),
  );
  fc.assert(
    fc.property(near, ([share, buffer, resolution]) => {
      const max = 37_202_380;
      const capacity = max * share;
      const found = throughputSearch(device(capacity, buffer), { max, loss: 0, resolution });
      if (share >= 1) assert.equal(found.framesPerSecond, max);
      else {
        // within the tolerance of `passes`, which is the resolution
        assert.ok(found.framesPerSecond <= (capacity / (1 - resolution)) * 1.000001, `${found.framesPerSecond}`);
        assert.ok(found.framesPerSecond >= capacity * (1 - 2 * resolution), `${found.framesPerSecond} of ${capacity}`);
        assert.ok(found.best !== null && found.failedFramesPerSecond! > found.framesPerSecond);
      }
      assert.ok(found.trials <= 25, `${found.trials} trials`);
    }),
  );
});

test('throughput: a device that collapses under overload has the rate before the collapse', () => {
  const collapsing = (rate: number): Trial => {
    const receivedRate = rate <= 400_000 ? rate : Math.max(10_000, 800_000 - rate);
    return { sent: 10_000, received: Math.floor((10_000 * receivedRate) / rate), offeredRate: rate, receivedRate };
  };
  const found = throughputSearch(collapsing, { max: 14_880_952, loss: 0, resolution: 0.01 });
  assert.ok(found.framesPerSecond > 392_000 && found.framesPerSecond <= 400_000, `${found.framesPerSecond}`);
});

test('throughput: a device that passes nothing has none', () => {
  const dead = (rate: number): Trial => ({ sent: 100, received: 0, offeredRate: rate, receivedRate: 0 });
  const none = throughputSearch(dead, { max: 1e6, loss: 0, resolution: 0.01 });
  assert.deepEqual([none.framesPerSecond, none.best], [0, null]);
  assert.ok(none.trials < 10, `${none.trials} trials`);
  const drops = (rate: number): Trial => ({ sent: 100, received: 99, offeredRate: rate, receivedRate: rate });
  assert.equal(throughputSearch(drops, { max: 1e6, loss: 0, resolution: 0.01 }).framesPerSecond, 0);
  assert.equal(throughputSearch(drops, { max: 1e6, loss: 0.01, resolution: 0.01 }).framesPerSecond, 1e6);
});

test('a trial whose queue grows all the time does not pass, though nothing is lost', () => {
  const lossless: Trial = { sent: 1000, received: 1000, offeredRate: 1e6, receivedRate: 0.9e6 };
  assert.equal(passes(lossless, { loss: 0, resolution: 0.01 }), false);
  assert.equal(passes({ ...lossless, receivedRate: 0.996e6 }, { loss: 0, resolution: 0.01 }), true);
  assert.equal(lossRatio({ ...lossless, received: 900 }), 0.1);
});

test('loss: from the highest rate down until two rates lose nothing', () => {
  const points = lossCurve(device(5.5e6, 0), { max: 1e7, step: 0.1 });
  assert.deepEqual(
    points.map((p) => [p.share, Math.round(lossRatio(p.trial) * 1000) / 1000]),
    [
      [1, 0.45],
      [0.9, 0.389],
      [0.8, 0.313],
      [0.7, 0.214],
      [0.6, 0.083],
      [0.5, 0],
      [0.4, 0],
    ],
  );
  assert.equal(lossCurve(device(1, 0), { max: 1e7, step: 0.25 }).length, 4);
});

test('back-to-back: the longest burst that comes out whole', () => {
  const holds =
    (most: number) =>
    (n: number): Trial => ({ sent: n, received: Math.min(n, most), offeredRate: 1, receivedRate: 1 });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 200_000 }), (n) => {
      const found = backToBack(holds(n), { most: 100_000, resolution: 0 });
      assert.deepEqual([found.frames, found.atLeast], n >= 100_000 ? [100_000, true] : [n, false]);
    }),
  );
  assert.deepEqual(backToBack(holds(5), { most: 1, resolution: 0 }), { frames: 1, atLeast: true, trials: 1 });
});
