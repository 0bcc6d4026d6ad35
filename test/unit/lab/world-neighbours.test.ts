/**
 * A neighbour that is asked for over a cable that loses frames: three questions, a second apart (linux neigh: mcast_solicit,
 * retrans_time), and what becomes of a run when none of them is answered.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import type { TrafficSpec } from '../../../src/lab/protocol.ts';
import type { World } from '../../../src/lab/world.ts';
import { collect, makeWorld, runOne, runOut, type SeenEvent, twoHostsDocument, udp } from './world-driver.ts';

const ENDS = ['h1/a/net0', 'h2/a/net0'] as const;
const transactions = { requestBytes: 1, responseBytes: 1, count: 1, outstanding: 1, thinkNs: 0 };
const KINDS: readonly (readonly [string, Partial<TrafficSpec>])[] = [
  ['tcp_stream', { kind: 'tcp_stream', bytes: 1000 }],
  ['tcp_rr', { kind: 'tcp_rr', transactions }],
  ['udp_rr', { kind: 'udp_rr', transactions }],
  ['udp', { frameSize: 80, count: 3 }],
  ['ping', { kind: 'ping', frameSize: 118, count: 3 }],
];
const CASES = KINDS.flatMap(([kind, spec]) => ([4, 6] as const).map((family) => [kind, family, spec] as const));
/** Who loses: the side that asks loses questions, the other one answers. */
const SIDES = ['h1', 'h2'] as const;

/** A world in which one host's NIC loses the first `count` frames that it sends. */
function losing(side: (typeof SIDES)[number], count: number): { world: World; lost: SeenEvent[]; left: SeenEvent[] } {
  const world = makeWorld(twoHostsDocument('vhost-net', { latency: '20us' }));
  runOut(world);
  const { random } = world.machine.hostNics.find((n) => n.host === side)!.tx.line;
  let left = count;
  random.chance = () => left-- > 0;
  return {
    world,
    lost: collect(world.machine, E.LINK_DROP_LOSS),
    left: collect(world.machine, E.NIC_WIRE_TX),
  };
}
const seconds = (events: readonly SeenEvent[], from: number): number[] => events.map((e) => (e.time - from) / 1e9);
/** Each is at or a little after the second in question. */
function near(times: readonly number[], expected: readonly number[]): void {
  assert.equal(times.length, expected.length, times.join());
  for (const [i, t] of times.entries()) assert.ok(t >= expected[i]! && t < expected[i]! + 0.001, times.join());
}

describe.each(SIDES)('%s loses', (side) => {
  test.each(CASES)('two questions or answers: the third does (%s, IPv%i)', (_, family, spec) => {
    const { world, lost } = losing(side, 2);
    const from = world.now;
    const run = runOne(world, udp(...ENDS, { family, ...spec }));
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    near(seconds(lost, from), [0, 1]);
    assert.deepEqual(Object.keys(run.dropped), []);
    assert.ok(world.status().conservation.holds);
    // the entry is there: the next run asks nobody
    const again = world.now;
    assert.equal(runOne(world, udp(...ENDS, { family, ...spec })).state, 'SUCCEEDED');
    assert.ok(world.now - again < 1e9);
  });

  test.each(CASES)('all three: the run ends after three seconds (%s, IPv%i)', (_, family, spec) => {
    const { world, lost, left } = losing(side, 3);
    const from = world.now;
    const run = runOne(world, udp(...ENDS, { family, ...spec }));
    assert.equal(run.state, 'FAILED');
    const question = family === 4 ? 'ARP for 10\\.0\\.0\\.2' : 'neighbour solicitation for fe80::';
    assert.match(run.reason!, new RegExp(`^no answer to ${question}`));
    near(seconds(lost, from), [0, 1, 2]);
    near([(world.now - from) / 1e9], [3]);
    assert.equal(run.sent, 0);
    assert.equal(left.length, side === 'h1' ? 3 : 6);
    assert.ok(world.status().conservation.holds);
    // nothing is remembered of it: a run that is started then asks again, and is answered
    assert.equal(runOne(world, udp(...ENDS, { family, ...spec })).state, 'SUCCEEDED');
    assert.equal(lost.length, 3);
  });
});
