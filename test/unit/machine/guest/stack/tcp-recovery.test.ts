/** What is sent again after a loss, and how much may be under way meanwhile: RFC 6582, RFC 6675 and a timeout. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { NewReno } from '../../../../../src/machine/guest/stack/tcp-congestion.ts';
import { Recovery } from '../../../../../src/machine/guest/stack/tcp-recovery.ts';

const MSS = 1000;
/** Twenty segments under way, with the window that allows them; positions begin at 1. */
function sender(sack: boolean): Recovery {
  const congestion = new NewReno();
  congestion.start(MSS);
  congestion.cwnd = 20 * MSS;
  congestion.ssthresh = 20 * MSS;
  const recovery = new Recovery(congestion);
  recovery.sack = sack;
  return recovery;
}
const at = (segment: number): number => 1 + segment * MSS;
const UNA = at(0);
const NXT = at(20);

describe('NewReno (RFC 6582)', () => {
  test('the third duplicate begins it: half the window and three segments; each further one a segment more', () => {
    const r = sender(false);
    assert.deepEqual(
      [1, 2].map(() => r.duplicate(UNA, NXT)),
      [false, false],
    );
    assert.equal(r.limitedTransmit, 2 * MSS, 'RFC 3042');
    assert.equal(r.duplicate(UNA, NXT), true);
    assert.deepEqual([r.point, r.congestion.ssthresh, r.congestion.cwnd], [NXT, 10 * MSS, 13 * MSS]);
    assert.equal(r.limitedTransmit, 0);
    for (let i = 0; i < 5; i++) assert.equal(r.duplicate(UNA, NXT), false);
    assert.equal(r.congestion.cwnd, 18 * MSS);
    assert.equal(r.pipe(UNA, NXT), 20 * MSS, 'all of it counts as under way');
  });

  test('what limited transmit has sent does not count as under way', () => {
    const r = sender(false);
    for (let i = 0; i < 3; i++) r.duplicate(UNA, at(22));
    assert.equal(r.congestion.ssthresh, 10 * MSS);
  });

  test('a partial acknowledgement: the next hole at once, the window less what has left and a segment more', () => {
    const r = sender(false);
    for (let i = 0; i < 3; i++) r.duplicate(UNA, NXT);
    assert.equal(r.advance(at(4), NXT, 4 * MSS, true, 0, 0), true);
    assert.equal(r.congestion.cwnd, (13 - 4 + 1) * MSS);
    assert.ok(r.active);
  });

  test('a full one ends it with the smaller of ssthresh and what is under way and a segment', () => {
    for (const [nxt, cwnd] of [
      [at(40), 10],
      [at(23), 4],
      [at(20), 2],
    ] as const) {
      const r = sender(false);
      for (let i = 0; i < 3; i++) r.duplicate(UNA, NXT);
      assert.equal(r.advance(NXT, nxt, 20 * MSS, true, 0, 0), false);
      assert.equal(r.congestion.cwnd, cwnd * MSS);
      assert.ok(!r.active);
    }
  });

  test('duplicates of what was sent before the last recovery begin no new one', () => {
    const r = sender(false);
    r.timeout(UNA, NXT, true);
    r.advance(NXT, at(22), 20 * MSS, true, 0, 0);
    for (let i = 0; i < 5; i++) assert.equal(r.duplicate(NXT, at(22)), false);
    r.advance(at(21), at(30), MSS, true, 0, 0);
    assert.deepEqual(
      [1, 2, 3].map(() => r.duplicate(at(21), at(30))),
      [false, false, true],
    );
  });
});

describe('SACK (RFC 6675)', () => {
  const learn = (r: Recovery, ...segments: number[]): void => {
    for (const s of segments) assert.ok(r.learn(at(s), at(s + 1)));
    r.judge(UNA, NXT);
  };

  test('IsLost(): three stretches above, or more than two segments of bytes', () => {
    const r = sender(true);
    learn(r, 2);
    assert.equal(r.duplicate(UNA, NXT), false);
    learn(r, 4);
    assert.equal(r.duplicate(UNA, NXT), false);
    learn(r, 6);
    assert.equal(r.duplicate(UNA, NXT), true);
    // 0 and 1 have three stretches above them; 3 has two
    assert.equal(r.lost(UNA), at(0));
    r.sentAgain(at(0), at(1), NXT);
    assert.equal(r.lost(UNA), at(1));
    r.sentAgain(at(1), at(2), NXT);
    assert.equal(r.lost(UNA), -1);
    assert.equal(r.doubtful(UNA), at(3));
    // one more byte than two segments above: 5 is lost as well
    learn(r, 7, 8);
    assert.equal(r.lost(UNA), at(3));
  });

  test('many segments in one block are enough, without three duplicates', () => {
    const r = sender(true);
    r.learn(at(3), at(6));
    r.judge(UNA, NXT);
    assert.equal(r.duplicate(UNA, NXT), true);
    assert.equal(r.lost(UNA), at(0));
  });

  test('SetPipe(): neither what has arrived nor what is lost, but what was sent again', () => {
    const r = sender(true);
    assert.equal(r.pipe(UNA, NXT), 20 * MSS);
    learn(r, 2, 4, 6);
    r.duplicate(UNA, NXT);
    // lost: 0, 1, 3, 5 lie below the third stretch from above only as far as 2: 0 and 1
    assert.equal(r.pipe(UNA, NXT), (20 - 3 - 2) * MSS);
    r.sentAgain(at(0), at(1), NXT);
    assert.equal(r.pipe(UNA, NXT), (20 - 3 - 2 + 1) * MSS);
    assert.equal(r.congestion.ssthresh, 10 * MSS);
  });

  test('acknowledged meanwhile: what was sent again counts no more; the end leaves the window at ssthresh', () => {
    const r = sender(true);
    learn(r, 2, 4, 6);
    r.duplicate(UNA, NXT);
    r.sentAgain(at(1), at(2), NXT);
    assert.equal(r.advance(at(3), NXT, 3 * MSS, true, 0, 0), false);
    assert.equal(r.pipe(at(3), NXT), (17 - 2) * MSS);
    r.advance(NXT, NXT, 17 * MSS, true, 0, 0);
    assert.ok(!r.active);
    assert.deepEqual([r.congestion.cwnd, r.pipe(NXT, at(22))], [10 * MSS, 2 * MSS]);
  });

  /** Acknowledges segment by segment, and sends what the window lets out; returns how much after each. */
  function paced(r: Recovery, arrive: readonly number[]): number[] {
    let nxt = NXT;
    return arrive.map((segment) => {
      r.learn(at(segment), at(segment + 1));
      r.judge(UNA, nxt);
      r.duplicate(UNA, nxt);
      r.reduce(UNA, nxt);
      let sent = 0;
      while (r.congestion.cwnd - r.pipe(UNA, nxt) >= MSS) {
        const lost = r.lost(UNA);
        if (lost >= 0) r.sentAgain(lost, lost + MSS, nxt);
        else {
          nxt += MSS;
          r.sent(MSS);
        }
        sent++;
      }
      return sent;
    });
  }
  const sum = (list: readonly number[]): number => list.reduce((n, x) => n + x, 0);

  test('PRR: while half of the window leaves the network, half as much is sent; then as much as arrives (RFC 6937)', () => {
    const r = sender(true);
    const sent = paced(
      r,
      Array.from({ length: 19 }, (_, i) => i + 1),
    );
    // the third acknowledgement begins it, with the retransmission
    assert.deepEqual(sent.slice(0, 3), [1, 1, 1]);
    for (let i = 4; i < 19; i++) {
      const since = sum(sent.slice(2, i));
      assert.ok(Math.abs(since - (i - 3) / 2) <= 1.5, `${since} after ${i - 3}`);
    }
    // what is under way has come down to ssthresh
    assert.ok(Math.abs(r.congestion.cwnd - 10 * MSS) <= MSS, String(r.congestion.cwnd));
  });

  test('PRR: after heavy losses no burst: what has arrived and one segment more', () => {
    const r = sender(true);
    // 0 to 14 are lost
    const sent = paced(r, [15, 16, 17, 18, 19]);
    assert.ok(Math.max(...sent) <= 2, String(sent));
    assert.ok(sum(sent) >= 4 && sum(sent) <= 8, String(sent));
  });

  test('sent again and lost again: found when three segments that were sent after it have arrived', () => {
    const r = sender(true);
    learn(r, 1, 2, 3);
    assert.ok(r.duplicate(UNA, NXT));
    r.sentAgain(at(0), at(1), NXT);
    // everything that was under way arrives, and two of what was sent after that
    r.learn(at(4), at(22));
    r.judge(UNA, at(30));
    assert.equal(r.lost(UNA), -1);
    r.learn(at(22), at(23));
    r.judge(UNA, at(30));
    assert.equal(r.lost(UNA), at(0));
    r.sentAgain(at(0), at(1), at(30));
    r.learn(at(23), at(30));
    r.judge(UNA, at(33));
    assert.equal(r.lost(UNA), -1, 'the second time counts from there');
  });

  test('rule 4: the last segment once, where nothing else can be sent', () => {
    const r = sender(true);
    r.learn(at(1), at(19));
    r.judge(UNA, NXT);
    r.duplicate(UNA, NXT);
    r.sentAgain(at(0), at(1), NXT);
    assert.deepEqual([r.lost(UNA), r.doubtful(UNA)], [-1, -1]);
    assert.equal(r.rescue(UNA, NXT), at(19));
    r.rescued();
    assert.equal(r.rescue(UNA, NXT), -1);
  });
});

describe.each([false, true])('a timeout, SACK %s', (sack) => {
  test('one segment at first; everything that is not there is sent again as the window grows', () => {
    const r = sender(sack);
    if (sack) r.learn(at(3), at(5));
    r.timeout(UNA, NXT, true);
    assert.deepEqual([r.congestion.cwnd, r.congestion.ssthresh], [MSS, 10 * MSS]);
    assert.equal(r.pipe(UNA, NXT), 0);
    const order: number[] = [];
    for (let next = r.lost(UNA); next >= 0 && order.length < 30; next = r.lost(UNA)) {
      order.push((next - 1) / MSS);
      r.sentAgain(next, next + MSS, NXT);
    }
    const all = Array.from({ length: 20 }, (_, i) => i);
    assert.deepEqual(order, sack ? all.filter((i) => i !== 3 && i !== 4) : all);
    assert.equal(r.pipe(UNA, NXT), order.length * MSS);
    // slow start with what is acknowledged
    r.advance(at(2), NXT, 2 * MSS, false, 0, 0);
    assert.equal(r.congestion.cwnd, 3 * MSS);
    r.advance(NXT, NXT, 18 * MSS, false, 0, 0);
    assert.ok(!r.active);
  });
});

test('a receiver that has thrown away what it said to have is sent all of it (RFC 2018 §8)', () => {
  const r = sender(true);
  r.learn(at(0), at(5));
  r.learn(at(8), at(9));
  r.timeout(UNA, NXT, true);
  assert.equal(r.lost(UNA), at(0));
  r.sentAgain(at(7), at(8), NXT);
  assert.equal(r.lost(UNA), at(8));
});
