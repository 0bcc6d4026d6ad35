/** A measurement as `ringside run` prints it: what did not come to an end is said, and is no 'none'. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { rfc2544Text } from '../../../src/cli/rfc2544-text.ts';

const recovery = (seconds: number | null) => ({
  ...{ overloadFramesPerSecond: 2e6, reducedFramesPerSecond: 1e6, overloadLossRatio: 0.1, lostAfterwards: 7, seconds },
});
const text = (size: object): string =>
  rfc2544Text({ sizes: [{ frameSize: 64, maxFramesPerSecond: 3e6, ...size }], trials: 3 }).join('\n');

test('recovery and reset, with an end and without one', () => {
  assert.match(text({ recovery: recovery(12e-6) }), /10.* % lost: last loss 12.* us after it was halved, 7 lost$/);
  assert.match(text({ recovery: recovery(null) }), /10.* % lost: losses until the end$/);
  const reset = { framesPerSecond: 2e6, lostFrames: 2000 };
  assert.match(text({ reset: { ...reset, seconds: 1e-3 } }), /reset: 1000.* us, 2000 frames lost$/);
  assert.match(text({ reset: { ...reset, seconds: null } }), /reset: no frame came back, 2000 frames lost$/);
  // no rate passed: there is nothing to tell
  assert.equal(text({ recovery: null, reset: null }).split('\n').length, 2);
});
