/**
 * What congestion control comes to in the long run: with one segment lost of every 1/p, the mean window is that of the formulas
 * in RFC 9438 §5.1 (derived for just such a loss) and of Mathis et al. 1997.
 */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { Link, type Packet, payloadOf, tcpOf } from './tcp-link.ts';

const MSS = 1448;

/** Mean window in segments, once the first losses are over; `early`: the first of all, so that slow start ends near the mean. */
function meanWindow(
  congestion: 'newreno' | 'cubic',
  sack: boolean,
  every: number,
  rttSeconds: number,
  losses: number,
  early: number,
): number {
  const delay = (rttSeconds * 1e9) / 2;
  const bytes = every * MSS * (losses + 1);
  const free = { a: 0, b: 0 };
  let highest = 0;
  let count = 0;
  const link: Link = new Link({
    bytes,
    tcp: { congestion, sack, buffer: 16 << 20 },
    fate: (p: Packet) => {
      free[p.from] = Math.max(free[p.from], p.at) + 10;
      if (p.from === 'a' && payloadOf(p) > 0) {
        // of what is sent for the first time, each `every`-th segment
        const end = (tcpOf(p).readInt32BE(4) - link.a.block.iss + payloadOf(p)) >>> 0;
        if (end > highest) {
          highest = end;
          if (++count === early || (count > early && (count - early) % every === 0)) return [];
        }
      }
      return [free[p.from] - p.at + delay];
    },
  }).open();
  // three losses of warming up
  while (link.a.block.una < 3 * every * MSS) link.run(link.now + rttSeconds * 1e9);
  const from = { at: link.now, una: link.a.block.una };
  while (link.a.block.una < every * MSS * losses) link.run(link.now + rttSeconds * 1e9);
  const rate = (link.a.block.una - from.una) / MSS / ((link.now - from.at) / 1e9);
  assert.equal(link.a.block.timeouts, 0);
  return rate * rttSeconds;
}
const near = (actual: number, expected: number, relative: number): void =>
  assert.ok(Math.abs(actual / expected - 1) < relative, `${actual} segments, expected ${expected}`);

test.each([true, false])('NewReno, SACK %s: sqrt(3 / 2p)', (sack) => {
  near(meanWindow('newreno', sack, 1000, 0.05, 12, 60), Math.sqrt(1.5 * 1000), 0.1);
});

test('CUBIC on a short path: as much as Reno (RFC 9438 figure 8, its region for Reno)', () => {
  near(meanWindow('cubic', true, 1000, 0.005, 12, 60), Math.sqrt(1.5 * 1000), 0.15);
});

test('CUBIC on a long path: 1.054 (RTT / p)^0.75 (RFC 9438 figure 7)', () => {
  near(meanWindow('cubic', true, 10_000, 0.2, 10, 500), 1.054 * (0.2 * 10_000) ** 0.75, 0.1);
});
