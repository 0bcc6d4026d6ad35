/**
 * vhost-user back-ends that die at random times, or after a random number of frames, under random traffic in both directions, with
 * both ring formats, several queue pairs, an IOMMU, either side listening: every descriptor is given back once, no frame is lost
 * or made without being counted, nothing stays open or mapped, and the same commands do the same.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { VIRTQ_DROP_BAD_CHAIN } from '../../src/engine/events.ts';
import type { World } from '../../src/lab/world.ts';
import { crash, crashWorld, heldBy, holds, nicOf, RingAccount } from '../unit/lab/crash-worlds.ts';
import { ping, runOne, runOut, udp, watch } from '../unit/lab/world-driver.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 200 : 15;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);

const commands = fc.record({
  nic: fc.constantFrom('a/net0', 'b/net0'),
  /** ns after the traffic's begin, or frames. */
  atNs: fc.option(fc.integer({ min: 0, max: 1_500_000 }), { nil: null }),
  frames: fc.integer({ min: 1, max: 700 }),
  times: fc.integer({ min: 1, max: 8 }),
  restartAfterNs: fc.integer({ min: 0, max: 300_000 }),
});
const links = fc.record({
  nic: fc.constantFrom('a/net0', 'b/net0'),
  atNs: fc.integer({ min: 0, max: 1_500_000 }),
  durationNs: fc.integer({ min: 0, max: 600_000 }),
});
const pauses = fc.record({
  afterNs: fc.integer({ min: 0, max: 600_000 }),
  forNs: fc.integer({ min: 0, max: 600_000 }),
});
const cases = fc.record({
  driver: fc.constantFrom('virtio-net' as const, 'virtio-pmd' as const),
  packed: fc.boolean(),
  pairs: fc.constantFrom(1, 2, 4),
  iommu: fc.constantFrom(null, null, 'strict' as const, 'passthrough' as const),
  client: fc.boolean(),
  inflight: fc.boolean(),
  rate: fc.constantFrom(0, 200_000, 3_000_000),
  /** Steps after which the back-ends forget all translations, again and again; 0: never. */
  forgets: fc.constantFrom(0, 0, 41, 307),
  faults: fc.array(commands, { minLength: 1, maxLength: 4 }),
  pulled: fc.array(links, { maxLength: 2 }),
  pauses: fc.array(pauses, { maxLength: 2 }),
});
type Case = typeof cases extends fc.Arbitrary<infer T> ? T : never;

/** Neighbours are known; with an IOMMU the first frame of each receive buffer is lost for want of a translation. */
function settle(world: World): boolean {
  for (const [from, to] of [
    ['a/net0', 'b/net0'],
    ['b/net0', 'a/net0'],
  ] as const) {
    let received = 0;
    for (let tries = 0; tries < 30 && received === 0; tries++) {
      received = runOne(world, ping(from, to, { count: 2 })).received;
      runOut(world);
    }
    if (received === 0) return false;
  }
  return true;
}

function runFor(world: World, ns: number): void {
  // a time in seconds is not exact enough for less
  if (ns < 100) return;
  world.clock({ untilSeconds: (world.now + ns) / 1e9 });
  while (world.turn(50) === 0) holds(world);
  world.clock({ state: 'RUNNING' });
}

/** A look for what was forgotten is steps of its own, so that it has to end. */
const MOST_FORGOTTEN = 200;
/** While there is traffic: what a flush of the guests' IOMMUs does, in the middle of bursts as well. Returns what ends it. */
function forget(world: World, every: number): () => void {
  if (every === 0) return () => {};
  const { scheduler, guests } = world.machine;
  const { run } = scheduler;
  let steps = 0;
  scheduler.run = (until, budget) => {
    for (let i = 0; i < budget; i++) {
      const stop = run.call(scheduler, until, 1);
      if (stop !== 'budget') return stop;
      if (++steps % every !== 0 || steps > every * MOST_FORGOTTEN) continue;
      for (let g = 0; g < guests.length; g++)
        for (const iotlb of nicOf(world, g).translation?.iotlbs ?? []) iotlb.invalidate(0, 2 ** 48, 0);
    }
    return 'budget';
  };
  return () => {
    scheduler.run = run;
  };
}

function run({ forgets, faults, pulled, pauses, client, inflight, rate, ...of }: Case): {
  world: World;
  fingerprint: string;
} {
  const vhostUser = { mode: client ? 'client' : 'server', reconnectMs: 1, inflight };
  const iommu = of.driver === 'virtio-pmd' ? null : of.iommu;
  const world = crashWorld({ ...of, iommu, vhostUser });
  settle(world);
  runOut(world);
  const before = heldBy(world);
  const rings = new RingAccount(world);
  watch(world.machine, ({ kind }) =>
    assert.notEqual(kind, VIRTQ_DROP_BAD_CHAIN, 'chains of an honest driver are good'),
  );
  const counting = new Set<string>();
  const ids: string[] = [];
  for (const { nic, atNs, frames, times, restartAfterNs } of faults) {
    const counts = atNs === null && !counting.has(nic);
    if (counts) counting.add(nic);
    const when = counts ? { everyFrames: frames, times } : { atNs: Math.floor(world.now) + (atNs ?? frames) };
    ids.push(world.fault(crash({ nic, restartAfterNs, ...when })).id);
  }
  for (const { nic, atNs, durationNs } of pulled)
    ids.push(world.fault({ kind: 'link_down', nic, atNs: Math.floor(world.now) + atNs, durationNs }).id);
  const count = full ? 3000 : 1200;
  const remember = forget(world, forgets);
  const runs = [
    world.startTraffic(udp('a/net0', 'b/net0', { count, rate, flows: 8 })),
    world.startTraffic(udp('b/net0', 'a/net0', { count, rate, flows: 8 })),
  ];
  for (const { afterNs, forNs } of pauses) {
    runFor(world, afterNs);
    world.guestState('a', 'paused');
    runFor(world, forNs);
    world.guestState('a', 'running');
  }
  while (world.turn(50) === 0) holds(world);
  assert.equal(world.failed, null, world.failed ?? '');
  holds(world);
  for (const id of ids) {
    world.endFault(id);
    runOut(world);
    assert.equal(world.faults.get(id).state, 'ENDED', JSON.stringify(world.faults.get(id)));
    assert.match(world.faults.get(id).reason ?? '', /^(the link was down)?$/);
  }
  for (const { id } of runs) {
    const r = world.run(id);
    assert.equal(r.state, 'SUCCEEDED', r.reason);
    const dropped = Object.values(r.dropped).reduce((n, d) => n + d, 0);
    assert.equal(r.received + r.elsewhere + dropped, count + r.replicated + r.duplicated);
  }
  rings.atRest();
  remember();
  holds(world);
  assert.deepEqual(heldBy(world), before);
  const sent = settle(world);
  assert.ok(sent, 'frames go both ways as before');
  rings.atRest();
  return { world, fingerprint: world.status().fingerprint };
}

/** A cable is plugged when the back-end has died and QEMU has not found out: the rings wait for the next one. */
const FOUND: Case = {
  driver: 'virtio-net',
  packed: false,
  pairs: 1,
  iommu: null,
  client: false,
  inflight: false,
  rate: 0,
  forgets: 0,
  faults: [
    { nic: 'a/net0', atNs: 175_147, frames: 1, times: 1, restartAfterNs: 0 },
    { nic: 'a/net0', atNs: null, frames: 1, times: 1, restartAfterNs: 0 },
  ],
  pulled: [{ nic: 'a/net0', atNs: 92_017, durationNs: 0 }],
  pauses: [],
};
/** The back-end dies again before it has found the rings that were handed to it: they stand where they stood. */
const UNREACHED: Case = {
  driver: 'virtio-net',
  packed: false,
  pairs: 4,
  iommu: 'strict',
  client: false,
  inflight: false,
  rate: 0,
  forgets: 0,
  faults: [
    { nic: 'a/net0', atNs: 1_136_600, frames: 1, times: 1, restartAfterNs: 0 },
    { nic: 'a/net0', atNs: 341_456, frames: 1, times: 1, restartAfterNs: 255_491 },
  ],
  pulled: [
    { nic: 'a/net0', atNs: 0, durationNs: 206_191 },
    { nic: 'b/net0', atNs: 329_227, durationNs: 336_856 },
  ],
  pauses: [],
};
test('a back-end dies at any time', () => {
  fc.assert(
    fc.property(cases, (c) => {
      run(c);
    }),
    { numRuns: RUNS, seed, examples: [[FOUND], [UNREACHED]], interruptAfterTimeLimit: full ? 500_000 : 60_000 },
  );
}, 600_000);

test('the same commands do the same', () => {
  const c: Case = {
    driver: 'virtio-net',
    packed: true,
    pairs: 2,
    iommu: 'strict',
    client: true,
    inflight: false,
    rate: 3_000_000,
    forgets: 41,
    pulled: [{ nic: 'b/net0', atNs: 100_000, durationNs: 200_000 }],
    pauses: [{ afterNs: 50_000, forNs: 100_000 }],
    faults: [
      { nic: 'a/net0', atNs: null, frames: 333, times: 3, restartAfterNs: 100_000 },
      { nic: 'b/net0', atNs: 250_000, frames: 1, times: 1, restartAfterNs: 0 },
    ],
  };
  assert.equal(run(c).fingerprint, run(c).fingerprint);
});
