/** Halt polling as linux virt/kvm/kvm_main.c does it (6.1): growth, shrinking, statistics. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { HaltPoll } from '../../../../src/machine/kvm/halt-poll.ts';

/** A halt of `ns`, after which it runs again `late` ns after it was woken. Returns what wake() says. */
function halt(poll: HaltPoll, ns: number, late = 0, at = 1000): number {
  poll.halt(at);
  return poll.wake(at + ns + late, at + ns, 0);
}

describe('how long it polls', () => {
  test('not at all at first; short halts let it grow from 10 us, doubling up to the limit', () => {
    const poll = new HaltPoll(50_000);
    const seen = [5_000, 15_000, 25_000, 45_000, 45_000].map((ns) => {
      halt(poll, ns);
      return poll.halt_poll_ns;
    });
    expect(seen).toEqual([10_000, 20_000, 40_000, 50_000, 50_000]);
  });
  test('a halt that the poll covered leaves it as it is', () => {
    const poll = new HaltPoll(200_000);
    halt(poll, 5_000);
    expect(halt(poll, 9_999)).toBe(9_999);
    expect(poll.halt_poll_ns).toBe(10_000);
  });
  test('a halt longer than the limit shrinks it to nothing', () => {
    const poll = new HaltPoll(20_000);
    halt(poll, 5_000);
    expect(halt(poll, 30_000)).toBe(-10_001);
    expect(poll.halt_poll_ns).toBe(0);
    expect(halt(poll, 30_000)).toBe(0);
    expect(poll.halt_poll_ns).toBe(0);
  });
  test('a limit below 10 us holds from the first', () => {
    const poll = new HaltPoll(4_000);
    halt(poll, 3_000);
    expect(poll.halt_poll_ns).toBe(4_000);
  });
});

describe('statistics', () => {
  test('attempted, successful, and the time of both', () => {
    const poll = new HaltPoll(200_000);
    halt(poll, 5_000);
    expect([poll.halt_attempted_poll, poll.didPoll]).toEqual([0, false]);
    halt(poll, 4_000);
    halt(poll, 15_000, 3_000);
    expect([poll.halt_attempted_poll, poll.halt_successful_poll, poll.halt_poll_invalid]).toEqual([2, 1, 0]);
    expect([poll.halt_poll_success_ns, poll.halt_poll_fail_ns]).toEqual([4_000, 10_000]);
  });
  test('another thread that takes the core ends the poll', () => {
    const poll = new HaltPoll(200_000);
    halt(poll, 5_000);
    poll.halt(100_000);
    expect(poll.polls(102_000, 99_999)).toBe(true);
    expect(poll.polls(102_000, 101_000)).toBe(false);
    expect(poll.wake(105_000, 102_000, 101_000)).toBe(-1_001);
    expect(poll.halt_poll_fail_ns).toBe(1_000);
  });
});

test('whatever happens: never longer than the limit, and the sums are those of the parts', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 400_000 }),
      fc.array(fc.record({ ns: fc.nat(500_000), late: fc.nat(5_000) }), { maxLength: 60 }),
      (max, halts) => {
        const poll = new HaltPoll(max);
        let at = 0;
        let success = 0;
        let fail = 0;
        for (const { ns, late } of halts) {
          const before = poll.halt_poll_ns;
          const used = halt(poll, ns, late, at);
          if (used < 0) fail += -used - 1;
          else success += used;
          expect(poll.halt_poll_ns).toBeLessThanOrEqual(max);
          expect(used >= 0).toBe(ns <= before || before === 0);
          at += ns + late + 1;
        }
        expect([poll.halt_poll_success_ns, poll.halt_poll_fail_ns]).toEqual([success, fail]);
      },
    ),
  );
});
