/**
 * `pollUs`: a vhost worker that looks at its rings for a while before it sleeps (linux vhost_net_busy_poll()). What it finds
 * while it looks needs no kick, so no exit, and nobody waits for a worker to wake up.
 */
import { describe, expect, test } from 'vitest';
import { makeWorld, pairDocument, ping, runOne, udp } from './world-driver.ts';

const world = (pollUs: number) => makeWorld(pairDocument('vhost-net', { nic: { pollUs } }));
type Result = ReturnType<typeof runOne>;
/** The same run on a world whose workers sleep at once, and on one whose workers poll for 200 us. */
function both(run: Parameters<typeof runOne>[1]): [sleeps: Result, polls: Result] {
  const of = (pollUs: number): Result => {
    const w = world(pollUs);
    runOne(w, ping('a/net0', 'b/net0', { count: 3 }));
    return runOne(w, run);
  };
  return [of(0), of(200)];
}

describe('a vhost worker with poll-us', () => {
  test('finds frames that come before its time is over: no kicks, no exits', () => {
    const [sleeps, polls] = both(udp('a/net0', 'b/net0', { count: 300, rate: 50_000 }));
    expect([sleeps.received, polls.received]).toEqual([300, 300]);
    expect(sleeps.perFrame.exitsKernel).toBeGreaterThan(0.9);
    expect(polls.perFrame.exitsKernel).toBeLessThan(0.05);
  });
  test('answers sooner, and its core is busy meanwhile', () => {
    const [sleeps, polls] = both(ping('a/net0', 'b/net0', { count: 300, rate: 10_000 }));
    expect(polls.virtual.latencySeconds.p50).toBeLessThan(sleeps.virtual.latencySeconds.p50);
    const busy = (r: Result): number =>
      r.contexts.filter((c) => c.name.startsWith('vhost-')).reduce((n, c) => n + c.busyRatio, 0);
    expect(busy(polls)).toBeGreaterThan(5 * busy(sleeps));
    // the direction that it does not poll for keeps its notifications on, as Linux does with event idx
    expect(polls.perFrame.kicks).toBe(sleeps.perFrame.kicks);
  });
  test('sleeps when its time is over: a world without frames comes to an end', () => {
    const w = world(1000);
    const r = runOne(w, udp('a/net0', 'b/net0', { count: 64 }));
    expect(r).toMatchObject({ state: 'SUCCEEDED', received: 64, dropped: {} });
    // slower than it polls: every frame has its kick, as without
    const slow = runOne(w, udp('a/net0', 'b/net0', { count: 20, rate: 200 }));
    expect(slow.perFrame.kicks).toBeGreaterThanOrEqual(1);
  });
});
