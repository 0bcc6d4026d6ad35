/** Congestion windows against the arithmetic of RFC 5681 and RFC 9438. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import {
  type Congestion,
  Cubic,
  makeCongestion,
  NewReno,
} from '../../../../../src/machine/guest/stack/tcp-congestion.ts';

const MSS = 1000;
const RTT = 0.1e9;

function begun<T extends Congestion>(congestion: T): T {
  congestion.start(MSS);
  return congestion;
}
/** A round trip in which the whole window is acknowledged, segment by segment. */
function roundTrip(c: Congestion, now: number): void {
  const segments = Math.floor(c.cwnd / MSS);
  for (let i = 0; i < segments; i++) c.acked(MSS, now + (i * RTT) / segments, RTT);
}
const near = (actual: number, expected: number, relative = 1e-9): void =>
  assert.ok(Math.abs(actual - expected) <= relative * Math.abs(expected), `${actual}, expected ${expected}`);

describe.each(['newreno', 'cubic'] as const)('%s', (name) => {
  test('RFC 6928: begins with ten segments; slow start doubles the window each round trip', () => {
    const c = begun(makeCongestion(name));
    assert.equal(c.cwnd, 10 * MSS);
    for (const segments of [20, 40, 80]) {
      roundTrip(c, 0);
      assert.equal(c.cwnd, segments * MSS);
    }
  });

  test('one acknowledgement of many segments counts for all of them, up to ssthresh', () => {
    const c = begun(makeCongestion(name));
    c.acked(10 * MSS, 0, RTT);
    assert.equal(c.cwnd, 20 * MSS);
    c.ssthresh = 25 * MSS;
    c.acked(5 * MSS, 0, RTT);
    assert.equal(c.cwnd, 25 * MSS);
    assert.ok(!c.slowStart);
  });

  test('a timeout leaves one segment, and a second one in a row leaves ssthresh as it is (RFC 5681 §3.1)', () => {
    const c = begun(makeCongestion(name));
    c.cwnd = 100 * MSS;
    c.timedOut(80 * MSS, true);
    assert.equal(c.cwnd, MSS);
    const { ssthresh } = c;
    near(ssthresh, (name === 'newreno' ? 0.5 : 0.7) * 80 * MSS);
    c.timedOut(MSS, false);
    assert.deepEqual([c.cwnd, c.ssthresh], [MSS, ssthresh]);
    assert.ok(c.slowStart);
  });

  test('ssthresh is two segments at least', () => {
    const c = begun(makeCongestion(name));
    c.lost(MSS);
    assert.equal(c.ssthresh, 2 * MSS);
  });

  test('after an idle time the window is that of the beginning, where it was larger (RFC 5681 §4.1)', () => {
    const c = begun(makeCongestion(name));
    c.cwnd = 64 * MSS;
    c.restart();
    assert.equal(c.cwnd, 10 * MSS);
    c.cwnd = 3 * MSS;
    c.restart();
    assert.equal(c.cwnd, 3 * MSS);
  });
});

describe('NewReno', () => {
  test('ssthresh is half of what was under way (equation 4)', () => {
    const c = begun(new NewReno());
    c.cwnd = 90 * MSS;
    c.lost(60 * MSS);
    assert.equal(c.ssthresh, 30 * MSS);
    assert.equal(c.cwnd, 90 * MSS, 'the window is the business of the recovery');
  });

  test('congestion avoidance: one segment more each round trip, however the acknowledgements come', () => {
    for (const step of [1, 2, 5]) {
      const c = begun(new NewReno());
      c.cwnd = 20 * MSS;
      c.ssthresh = 20 * MSS;
      for (let trip = 0; trip < 5; trip++)
        for (let i = 0; i < 20 + trip; i += step) c.acked(Math.min(step, 20 + trip - i) * MSS, 0, RTT);
      assert.equal(c.cwnd, 25 * MSS);
    }
  });
});

describe('CUBIC', () => {
  const C = 0.4;
  const BETA = 0.7;

  /** At the end of a recovery from a loss at `window` segments. */
  function lostAt(window: number): Cubic {
    const c = begun(new Cubic());
    c.cwnd = window * MSS;
    c.lost(window * MSS);
    c.cwnd = c.ssthresh;
    return c;
  }

  test('§4.6: the window falls to 0.7 of what it was', () => {
    const c = lostAt(1000);
    near(c.cwnd, 700 * MSS);
    near(c.ssthresh, 700 * MSS);
  });

  test('§4.2: it is back after K = cbrt(W_max (1 - beta) / C) seconds, and follows C (t - K)^3 + W_max on the way', () => {
    const window = 1000;
    const c = lostAt(window);
    const k = Math.cbrt((window * (1 - BETA)) / C);
    for (let now = 0; now < 2 * k * 1e9; now += RTT) {
      roundTrip(c, now);
      const t = (now + RTT) / 1e9;
      // a round trip behind its target at most
      const at = (x: number): number => C * (x - k) ** 3 + window;
      assert.ok(c.cwnd / MSS <= at(t + RTT / 1e9) + 1, `${t}: ${c.cwnd / MSS} above ${at(t + RTT / 1e9)}`);
      assert.ok(c.cwnd / MSS >= at(t - RTT / 1e9) - 5, `${t}: ${c.cwnd / MSS} below ${at(t - RTT / 1e9)}`);
    }
  });

  test('§4.3: on a short path with a small window it is no slower than Reno would be', () => {
    const rtt = 1e6;
    const c = lostAt(20);
    const from = c.cwnd / MSS;
    let w = from;
    let acked = 0;
    for (let trip = 0; trip < 20; trip++) {
      const segments = Math.floor(c.cwnd / MSS);
      for (let i = 0; i < segments; i++) {
        // alpha is 3 (1 - beta) / (1 + beta) until the window is what it was before the loss, then 1
        w += (w >= 20 ? 1 : (3 * (1 - BETA)) / (1 + BETA)) / (c.cwnd / MSS);
        c.acked(MSS, trip * rtt + (i * rtt) / segments, rtt);
        acked++;
      }
    }
    assert.ok(acked > 0 && c.cwnd / MSS > from + 5);
    near(c.cwnd / MSS, w, 1e-6);
  });

  test('§4.4: never more than half a window more in a round trip', () => {
    const c = lostAt(10);
    // long after the plateau
    c.acked(MSS, 0, RTT);
    const before = c.cwnd;
    c.acked(before, 3600e9, RTT);
    assert.ok(c.cwnd <= 1.5 * before + 1);
    assert.ok(c.cwnd > before);
  });

  test('§4.7: a loss below the last maximum gives bandwidth up: W_max is (1 + beta) / 2 of the window', () => {
    const c = lostAt(1000);
    // at once again, at 700
    c.lost(700 * MSS);
    c.cwnd = c.ssthresh;
    const maximum = (700 * (1 + BETA)) / 2;
    const k = Math.cbrt((maximum - 490) / C);
    c.acked(MSS, 0, RTT);
    for (let now = RTT; now < k * 1e9 - RTT; now += RTT) roundTrip(c, now);
    // at K the window is W_max, and hardly grows
    assert.ok(c.cwnd / MSS < maximum + 1 && c.cwnd / MSS > 0.97 * maximum, String(c.cwnd / MSS));
  });

  test('§4.8: after a timeout it grows from one segment to ssthresh; from there by C t^3, as if that had been W_max', () => {
    const c = begun(new Cubic());
    c.cwnd = 1000 * MSS;
    c.timedOut(1000 * MSS, true);
    near(c.ssthresh, 700 * MSS);
    while (c.slowStart) c.acked(MSS, 0, RTT);
    near(c.cwnd, 700 * MSS, 1e-3);
    const from = c.cwnd / MSS;
    const seconds = 8;
    for (let now = 0; now < seconds * 1e9; now += RTT) roundTrip(c, now);
    const grown = c.cwnd / MSS - from;
    assert.ok(grown > C * (seconds - 0.2) ** 3 - 2 && grown < C * (seconds + 0.2) ** 3 + 2, String(grown));
  });
});
