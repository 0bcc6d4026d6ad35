/**
 * A NIC that is given other back-ends at random times, a guest that is paused and a link that is pulled in between, under random
 * traffic in both directions: no frame is lost or made, none is placed twice, rings go on where they stood, and the same
 * commands do the same.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import * as E from '../../src/engine/events.ts';
import { conservation } from '../../src/lab/inspect.ts';
import { Refusal } from '../../src/lab/refusal.ts';
import type { World } from '../../src/lab/world.ts';
import { BRIDGE, migrationWorld, nicA, ringsOf } from '../unit/lab/migration-worlds.ts';
import { BACKENDS, type Backend, runOut, udp, watch } from '../unit/lab/world-driver.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 150 : 12;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);

type Command =
  | { readonly what: 'migrate'; readonly to: Backend; readonly after: number }
  | { readonly what: 'pause'; readonly guest: 'a' | 'k' | 'u'; readonly after: number; readonly ns: number }
  | { readonly what: 'link'; readonly after: number; readonly ns: number };
interface Case {
  readonly backend: Backend;
  readonly packed: boolean;
  readonly pairs: 1 | 4;
  readonly driver: 'virtio-net' | 'virtio-pmd';
  readonly rate: number;
  readonly size: number;
  readonly commands: readonly Command[];
}
const after = fc.integer({ min: 0, max: 1_500_000 });
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ what: fc.constant('migrate' as const), to: fc.constantFrom(...BACKENDS), after }),
  },
  fc.record({
    what: fc.constant('pause' as const),
    guest: fc.constantFrom('a' as const, 'k' as const, 'u' as const),
    after,
    ns: after,
  }),
  fc.record({ what: fc.constant('link' as const), after, ns: after }),
);
const cases: fc.Arbitrary<Case> = fc.record({
  backend: fc.constantFrom(...BACKENDS),
  packed: fc.boolean(),
  pairs: fc.constantFrom(1 as const, 4 as const),
  driver: fc.constantFrom('virtio-net' as const, 'virtio-pmd' as const),
  rate: fc.constantFrom(0, 50_000, 400_000, 1_000_000),
  size: fc.constantFrom(64, 512, 1500),
  commands: fc.array(command, { minLength: 1, maxLength: full ? 12 : 6 }),
});

function runFor(world: World, ns: number): void {
  world.clock({ untilSeconds: (world.now + ns) / 1e9 });
  runOut(world);
  world.clock({ state: 'RUNNING' });
}
function check(world: World): void {
  const c = conservation(world.machine);
  assert.ok(c.holds, JSON.stringify(c));
}
function obey(world: World, c: Command): void {
  runFor(world, c.after);
  const before = ringsOf(world);
  switch (c.what) {
    case 'migrate':
      try {
        world.migrate(nicA(world), { backend: c.to, bridge: BRIDGE[c.to] });
      } catch (error) {
        // packed rings and vhost-net do not go together
        assert.ok(error instanceof Refusal && /RING_PACKED/.test(error.message), String(error));
      }
      break;
    case 'pause':
      world.guestState(c.guest, 'paused');
      check(world);
      runFor(world, c.ns);
      world.guestState(c.guest, 'running');
      break;
    case 'link':
      world.link(nicA(world), false);
      check(world);
      runFor(world, c.ns);
      world.link(nicA(world), true);
      break;
  }
  check(world);
  if (c.what !== 'migrate') return;
  for (const [i, n] of ringsOf(world).taken.entries())
    assert.ok(before.taken[i]! < 0 || ((n - before.taken[i]!) & 0xffff) < 4096, `ring ${i} goes on where it stood`);
}

function play(c: Case): string {
  const packed = c.packed && c.backend !== 'vhost-net';
  const world = migrationWorld({ ...c, packed });
  runOut(world);
  const placed = new Map<number, number>();
  watch(world.machine, (e) => {
    if (e.kind === E.VIRTQ_USED) placed.set(e.frame, (placed.get(e.frame) ?? 0) + 1);
  });
  const more = { count: 1500, rate: c.rate, frameSize: c.size, flows: 8 };
  const runs = ['k/net0', 'u/net0'].flatMap((peer) => [
    world.startTraffic(udp('a/net0', peer, more)),
    world.startTraffic(udp(peer, 'a/net0', more)),
  ]);
  for (const command of c.commands) obey(world, command);
  runOut(world);
  check(world);
  for (const { id } of runs) {
    const run = world.run(id);
    // the peer is on the other bridge
    if (run.state === 'FAILED' && /no answer to ARP/.test(run.reason ?? '')) continue;
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    const dropped = Object.values(run.dropped).reduce((n, d) => n + d, 0);
    assert.equal(run.received + run.elsewhere + dropped, run.sent + run.replicated);
  }
  for (const [frame, n] of placed) assert.equal(n, 1, `frame ${frame} was placed ${n} times`);
  // and the NIC works
  const back = nicA(world).document.backend === 'vhost-user' ? 'u/net0' : 'k/net0';
  for (const [from, to] of [
    ['a/net0', back],
    [back, 'a/net0'],
  ] as const) {
    const last = world.startTraffic(udp(from, to, { count: 50, rate: 20_000 }));
    runOut(world);
    assert.equal(world.run(last.id).received, 50);
  }
  check(world);
  return world.status().fingerprint;
}

test(
  `NICs change back-ends at any time (seed ${seed})`,
  () => {
    fc.assert(
      fc.property(cases, (c) => {
        const print = play(c);
        if (full) assert.equal(play(c), print);
      }),
      { seed, numRuns: RUNS },
    );
  },
  full ? 3_600_000 : 240_000,
);
