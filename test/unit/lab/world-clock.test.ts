/** Determinism, clock, cores, and runs that overlap, are cancelled or cannot end. */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { NEVER } from '../../../src/engine/timeline.ts';
import type { RunResult, TrafficSpec } from '../../../src/lab/protocol.ts';
import { Refusal } from '../../../src/lab/traffic.ts';
import type { World } from '../../../src/lab/world.ts';
import {
  BACKENDS,
  collect,
  full,
  makeWorld,
  pairDocument,
  ping,
  pvpDocument,
  runOne,
  runOut,
  traffic,
  twoHostsDocument,
  udp,
} from './world-driver.ts';

const COUNT = full ? 50_000 : 1500;

/** What must be the same when a run is repeated: all but the wall clock and the names of runs. */
function outcome(world: World): unknown {
  const runs = world.allRuns().map(({ wall: _wall, id: _id, ...rest }: RunResult) => rest);
  const { fingerprint, events, virtualTimeSeconds, conservation } = world.status();
  return { fingerprint, events, virtualTimeSeconds, conservation, runs };
}
const documents: readonly (readonly [string, object, readonly [string, string]])[] = [
  ...BACKENDS.map((b) => [b, pairDocument(b, { guests: ['a', 'b', 'c'] }), ['a/net0', 'b/net0']] as const),
  ['vhost-net on one core', pairDocument('vhost-net', { host: { cores: 1 } }), ['a/net0', 'b/net0']],
  ['pvp', pvpDocument(), ['eth0', 'eth0']],
  ['a lossy link', twoHostsDocument('vhost-user', { loss: 0.1, latency: '1us' }), ['h1/a/net0', 'h2/a/net0']],
];
function start(world: World, [from, to]: readonly [string, string]): void {
  world.startTraffic(udp(from, to, { count: COUNT }));
  world.startTraffic(udp(from, to, { count: COUNT, flows: 50, frameSize: 900, rate: 300_000 }));
  if (from !== to) world.startTraffic(ping(to, from, { count: 10 }));
}

describe.each(documents)('same document, seed and traffic: %s', (_, document, ends) => {
  test('same outcome however it is sliced, and whoever is next to it', () => {
    const whole = makeWorld(document);
    start(whole, ends);
    runOut(whole);
    const wanted = outcome(whole);
    assert.ok(
      whole.allRuns().every((r) => r.state === 'SUCCEEDED'),
      JSON.stringify(whole.allRuns().map((r) => r.reason)),
    );

    const again = makeWorld(document);
    start(again, ends);
    runOut(again);
    assert.deepEqual(outcome(again), wanted);

    const slices = makeWorld(document);
    const neighbour = makeWorld(pairDocument('vhost-net'));
    neighbour.startTraffic(udp('a/net0', 'b/net0', { count: COUNT }));
    start(slices, ends);
    while (slices.turn(0.1) === 0) neighbour.turn(0.1);
    assert.deepEqual(outcome(slices), wanted);

    // in steps of three, published after each
    const steps = makeWorld(document);
    start(steps, ends);
    while (steps.machine.scheduler.run(NEVER, 3) !== 'idle') steps.machine.recorder.publish(steps.now);
    assert.deepEqual(outcome(steps), wanted);
  });
});

test('another seed is another run where chance plays a part, and the same where it does not', () => {
  const run = (seed: number, loss: number): [string, number] => {
    const world = makeWorld({ ...twoHostsDocument('vhost-net', { loss }), seed });
    const r = runOne(world, udp('h1/a/net0', 'h2/a/net0', { count: 2000, rate: 100_000 }));
    return [world.status().fingerprint, r.received];
  };
  const lossy = [1, 2, 3, 4].map((seed) => run(seed, 0.2));
  assert.equal(new Set(lossy.map(([f]) => f)).size, 4);
  for (const [, received] of lossy)
    assert.ok(received > 1600 - 90 && received < 1600 + 90, `${received} of 2000 with a loss of 20 %`);
  assert.deepEqual(run(1, 0.2), lossy[0]);
  assert.deepEqual(run(1, 0), run(2, 0));
});

test('a change of the document or of the traffic changes the fingerprint', () => {
  const print = (document: object, options: object): string => {
    const world = makeWorld(document);
    runOne(world, udp('a/net0', 'b/net0', { count: 50, ...options }));
    return world.status().fingerprint;
  };
  const vhost = pairDocument('vhost-net');
  const prints = [
    print(vhost, {}),
    print(vhost, { count: 51 }),
    print(vhost, { frameSize: 65 }),
    print({ ...vhost, costs: { vhost_net_tx_per_packet: 931 } }, {}),
    print(pairDocument('virtio-net'), {}),
  ];
  assert.equal(new Set(prints).size, prints.length);
});

describe('cores', () => {
  test('contexts that share a core take turns: switches are recorded, nothing overlaps, all arrives', () => {
    for (const [backend, cores] of [
      ['virtio-net', 1],
      ['virtio-net', 2],
      ['vhost-net', 1],
      ['vhost-net', 2],
    ] as const) {
      const world = makeWorld(pairDocument(backend, { host: { cores } }));
      const switches = collect(world.machine, E.SCHED_SWITCH);
      const before = world.machine.scheduler.busy.slice();
      const t0 = world.now;
      const [fast, slow, echo] = traffic(
        world,
        udp('a/net0', 'b/net0', { count: 3000 }),
        udp('b/net0', 'a/net0', { count: 100, rate: 20_000 }),
        ping('b/net0', 'a/net0', { count: 20 }),
      );
      for (const r of [fast!, slow!, echo!]) assert.equal(r.state, 'SUCCEEDED', `${backend} on ${cores}: ${r.reason}`);
      assert.equal(echo!.received, 20);
      assert.ok(switches.length > 100);
      assert.ok(switches.every((e) => e.a < cores));
      // no core is busy for longer than time passed
      const { contexts } = world.machine.catalog;
      for (let core = 0; core < cores; core++) {
        const busy = contexts
          .filter((c) => c.core === core)
          .reduce((sum, c) => sum + world.machine.scheduler.busy[c.id]! - before[c.id]!, 0);
        assert.ok(
          busy <= world.now - t0,
          `${backend}: core ${core} of ${cores} was busy for ${busy} of ${world.now - t0} ns`,
        );
      }
    }
  });

  test('a halted vCPU leaves its core to those who have work, and gets it back for its timer', () => {
    const world = makeWorld(pairDocument('vhost-net', { host: { cores: 1 } }));
    const r = runOne(world, udp('a/net0', 'b/net0', { count: 100, rate: 10_000 }));
    assert.equal(r.received, 100);
    assert.ok(Math.abs(r.virtual.durationSeconds - 0.0099) < 0.0005, `${r.virtual.durationSeconds} s`);
    assert.ok(r.virtual.latencySeconds.p50 < 0.0002, `${r.virtual.latencySeconds.p50} s`);
  });

  test('with a core each nothing is switched', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    const switches = collect(world.machine, E.SCHED_SWITCH);
    runOne(world, udp('a/net0', 'b/net0', { count: 1000 }));
    assert.equal(switches.length, 0);
  });

  test('fewer cores make a run slower, never faster', () => {
    const rate = (cores: number): number =>
      runOne(makeWorld(pairDocument('virtio-net', { host: { cores } })), udp('a/net0', 'b/net0', { count: 3000 }))
        .virtual.framesPerSecond;
    const [one, two, eight] = [rate(1), rate(2), rate(8)];
    assert.ok(one < two && two < eight, `${one}, ${two}, ${eight} frames/s`);
  });
});

describe('runs', () => {
  test('overlapping runs say so, others do not', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    const alone = runOne(world, udp('a/net0', 'b/net0'));
    const both = traffic(world, udp('a/net0', 'b/net0'), udp('b/net0', 'a/net0'));
    const later = runOne(world, udp('a/net0', 'b/net0'));
    expect([alone, ...both, later].map((r) => r.shared)).toEqual([false, true, true, false]);
    expect([alone, ...both, later].map((r) => r.received)).toEqual([100, 100, 100, 100]);
  });

  test('a cancelled run stops; what it has sent still ends, and is conserved', () => {
    for (const backend of BACKENDS) {
      for (const kind of ['udp', 'ping'] as const) {
        const world = makeWorld(pairDocument(backend));
        const spec = udp('a/net0', 'b/net0', { kind, frameSize: 98, count: 1_000_000 });
        world.startTraffic(spec);
        world.clock({ untilSeconds: world.now / 1e9 + 0.002 });
        runOut(world);
        assert.equal(world.clock(null).state, 'PAUSED');
        const cancelled = world.cancel(spec.id);
        assert.equal(cancelled.state, 'CANCELLED');
        assert.ok(cancelled.sent > 0 && cancelled.sent < 1_000_000);
        world.clock({ state: 'RUNNING' });
        runOut(world);
        assert.deepEqual(world.cancel(spec.id).state, 'CANCELLED', 'cancelling twice changes nothing');
        const { conservation } = world.status();
        assert.ok(conservation.holds);
        assert.equal(conservation.inFlight, 0);
        assert.equal(world.clock(null).idle, true);
        assert.equal(runOne(world, udp('b/net0', 'a/net0')).received, 100, 'the world goes on');
      }
    }
  });

  test.each([...BACKENDS, 'pvp'] as const)(
    '%s: a run may be cancelled at any moment, also in the middle of a slice',
    (name) => {
      const [from, to] = name === 'pvp' ? ['eth0', 'eth0'] : ['a/net0', 'b/net0'];
      const kinds: Partial<TrafficSpec>[] = [{}];
      if (name !== 'pvp') kinds.push({ kind: 'ping', frameSize: 98 });
      if (name === 'virtio-net' || name === 'vhost-net') kinds.push({ generator: 'pktgen' });
      for (const kind of kinds) {
        for (let events = 1; events < 100; events += full ? 1 : 9) {
          const world = makeWorld(name === 'pvp' ? pvpDocument() : pairDocument(name));
          if (name !== 'pvp') runOne(world, ping(from!, to!, { count: 1 }));
          const spec = udp(from!, to!, { count: 100_000, ...kind });
          world.startTraffic(spec);
          for (let i = 0; i < events; i++) world.clock({ step: 'event' });
          world.cancel(spec.id);
          world.clock({ state: 'RUNNING' });
          runOut(world);
          assert.ok(world.run(spec.id).sent < 100_000);
          const { conservation } = world.status();
          assert.deepEqual(
            [conservation.holds, conservation.inFlight, world.clock(null).idle, world.failed],
            [true, 0, true, null],
          );
          assert.equal(runOne(world, udp(from!, to!, { count: 50, rate: 1_000_000 })).received, 50);
        }
      }
    },
  );

  test('a run that is cancelled before its first frame has sent nothing', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    const spec = udp('a/net0', 'b/net0');
    world.startTraffic(spec);
    assert.equal(world.cancel(spec.id).state, 'CANCELLED');
    runOut(world);
    assert.equal(world.run(spec.id).sent, 0);
    assert.ok(world.status().conservation.holds);
  });

  test('an end that no bridge connects: FAILED, with the address that did not answer', () => {
    const document = pairDocument('vhost-net', { host: { bridges: [{ name: 'br0' }, { name: 'br1' }] } });
    const guests = (document as { hosts: { guests: { nics: object[] }[] }[] }).hosts[0]!.guests;
    guests[1]!.nics[0] = { ...guests[1]!.nics[0], bridge: 'br1' };
    const world = makeWorld(document);
    const [one, two] = traffic(world, udp('a/net0', 'b/net0'), ping('b/net0', 'a/net0'));
    expect(one).toMatchObject({ state: 'FAILED', sent: 0, received: 0 });
    expect(one!.reason).toContain('10.0.0.2');
    expect(two!.reason).toContain('10.0.0.1');
    // three requests, a second apart
    expect(world.now / 1e9).toBeGreaterThan(2.9);
    expect(world.now / 1e9).toBeLessThan(3.2);
    expect(world.status().conservation).toMatchObject({ injected: 6, holds: true, inFlight: 0 });
  });

  test('a run whose frames nobody takes fails with its reason', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    // a forwarding guest would never be asked; here the reader of b's tap goes away
    const tap = world.machine.guests[1]!.nics[0]!.wiring;
    assert.ok(tap.kind === 'vhost-net');
    runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
    tap.tap.queues[0]!.paused = true;
    const r = runOne(world, udp('a/net0', 'b/net0', { count: 50 }));
    expect(r).toMatchObject({ state: 'FAILED', sent: 50, received: 0 });
    expect(r.reason).toContain('50 frames are in queues');
    expect(world.status().conservation).toMatchObject({ holds: true, inFlight: 50 });
  });

  test('echo requests that are lost time out: the run ends and says how many came back', () => {
    const world = makeWorld(twoHostsDocument('vhost-net', { loss: 0.3 }));
    for (const rate of [0, 100]) {
      let r = runOne(world, ping('h1/a/net0', 'h2/a/net0', { count: 60, rate }));
      // ARP itself may have lost its three requests
      if (r.state === 'FAILED') r = runOne(world, ping('h1/a/net0', 'h2/a/net0', { count: 60, rate }));
      expect(r).toMatchObject({ state: 'SUCCEEDED', sent: 60 });
      // 0.7 * 0.7 of 60
      expect(r.received).toBeGreaterThan(12);
      expect(r.received).toBeLessThan(48);
    }
    expect(world.status().conservation).toMatchObject({ holds: true, inFlight: 0 });
  });

  test('frames that are long under way keep their account while hundreds of thousands of others come and go', () => {
    const document = twoHostsDocument('vhost-user', { latency: '150ms' }) as {
      hosts: { cores?: number; guests: object[] }[];
    };
    const c = { name: 'net0', backend: 'vhost-user', driver: 'virtio-pmd', addresses: ['10.0.0.9/24'] };
    document.hosts[0]!.guests.push({ name: 'c', nics: [c] });
    const world = makeWorld(document);
    runOne(world, ping('h1/a/net0', 'h2/a/net0', { count: 1 }));
    runOne(world, ping('h1/c/net0', 'h1/a/net0', { count: 1 }));
    const slow = udp('h1/a/net0', 'h2/a/net0', { count: 5 });
    const echo = ping('h1/a/net0', 'h2/a/net0', { count: 2 });
    const runs = traffic(world, slow, echo, udp('h1/c/net0', 'h1/a/net0', { count: 600_000 }));
    expect(runs.map((r) => [r.state, r.received])).toEqual([
      ['SUCCEEDED', 5],
      ['SUCCEEDED', 2],
      ['SUCCEEDED', 600_000],
    ]);
    expect(runs[0]!.virtual.latencySeconds.p50).toBeGreaterThan(0.149);
  });

  test('what cannot be run is refused with its field and leaves nothing behind', () => {
    const world = makeWorld(pairDocument('vhost-net', { host: { nics: [{ name: 'eth0' }] } }));
    const before = world.status();
    const refused: [object, string][] = [
      [{ from: 'x/net0' }, '/from'],
      [{ to: 'x/net0' }, '/to'],
      [{ to: 'a/net0' }, '/to'],
      [{ to: 'br0/a.net0' }, '/to'],
      [{ frameSize: 63 }, '/frameSize'],
      [{ frameSize: 1519 }, '/frameSize'],
      [{ generator: 'txonly' }, '/generator'],
      [{ from: 'eth0', generator: 'socket' }, '/generator'],
      [{ kind: 'ping', from: 'eth0' }, '/from'],
      [{ kind: 'ping', generator: 'socket' }, '/generator'],
    ];
    for (const [fields, field] of refused) {
      try {
        world.startTraffic(udp('a/net0', 'b/net0', fields));
        assert.fail(`${JSON.stringify(fields)} was taken`);
      } catch (error) {
        assert.ok(error instanceof Refusal, String(error));
        assert.equal(error.error.field, field, JSON.stringify(fields));
      }
    }
    runOut(world);
    assert.deepEqual(world.status(), before);
  });

  test('runs without a name are not found', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    assert.throws(() => world.run('nobody'), Refusal);
    assert.throws(() => world.cancel('nobody'), Refusal);
  });
});

describe('clock', () => {
  test('paused, nothing moves; on, it goes on where it was', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    world.startTraffic(udp('a/net0', 'b/net0', { count: 500 }));
    assert.equal(world.clock({ state: 'PAUSED' }).state, 'PAUSED');
    const { events, virtualTimeSeconds } = world.status();
    assert.equal(world.turn(50), NEVER);
    assert.deepEqual(
      [world.status().events, world.status().virtualTimeSeconds, world.status().state],
      [events, virtualTimeSeconds, 'PAUSED'],
    );
    world.clock({ state: 'RUNNING' });
    runOut(world);
    assert.equal(world.allRuns()[0]!.received, 500);
    const other = makeWorld(pairDocument('vhost-net'));
    runOne(other, udp('a/net0', 'b/net0', { count: 500 }));
    assert.equal(world.status().fingerprint, other.status().fingerprint, 'a pause is no event');
  });

  test('step event and step frame go just so far, and to the same end', () => {
    const world = makeWorld(pairDocument('vhost-user'));
    world.startTraffic(udp('a/net0', 'b/net0', { count: 400 }));
    let last = world.status();
    for (let i = 0; i < 10; i++) {
      const state = world.clock({ step: 'event' });
      assert.equal(state.state, 'PAUSED');
      assert.ok(state.events > last.events);
      last = world.status();
    }
    const ended = (): number => {
      const c = world.status().conservation;
      return c.delivered + c.consumed + Object.values(c.dropped).reduce((n, d) => n + d, 0);
    };
    for (let i = 0; i < 3; i++) {
      const before = ended();
      world.clock({ step: 'frame' });
      assert.ok(ended() > before);
    }
    for (let i = 0; i < 20_000 && !world.clock(null).idle; i++) world.clock({ step: 'event' });
    assert.equal(world.clock(null).idle, true);
    world.clock({ step: 'frame' }); // nothing is left: returns
    world.clock({ state: 'RUNNING' });
    runOut(world);
    const other = makeWorld(pairDocument('vhost-user'));
    runOne(other, udp('a/net0', 'b/net0', { count: 400 }));
    assert.equal(world.allRuns()[0]!.state, 'SUCCEEDED');
    assert.equal(world.status().fingerprint, other.status().fingerprint);
  });

  test('until is off once the clock is told otherwise', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    world.startTraffic(ping('a/net0', 'b/net0', { count: 20, rate: 1000 }));
    world.clock({ untilSeconds: 0.005 });
    world.clock({ state: 'RUNNING' });
    runOut(world);
    assert.equal(world.clock(null).state, 'RUNNING');
    assert.equal(world.allRuns()[0]!.state, 'SUCCEEDED');
  });

  test('until: runs so far and pauses there, whether work is left or not', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
    const t0 = Math.ceil(world.now / 1e6) * 1e6;
    world.startTraffic(udp('a/net0', 'b/net0', { count: 100, rate: 10_000 }));
    for (let ms = 1; ms <= 3; ms++) {
      world.clock({ untilSeconds: (t0 + ms * 1e6) / 1e9 });
      assert.equal(world.status().state, 'RUNNING');
      runOut(world);
      const state = world.clock(null);
      assert.equal(state.state, 'PAUSED');
      assert.equal(state.virtualTimeSeconds, (t0 + ms * 1e6) / 1e9);
      const { sent } = world.allRuns().at(-1)!;
      assert.ok(Math.abs(sent - 10 * ms) <= 10, `${sent} sent after ${ms} ms`);
    }
    world.clock({ untilSeconds: 100 });
    runOut(world);
    assert.equal(world.clock(null).state, 'PAUSED');
    assert.equal(world.allRuns().at(-1)!.received, 100);
    assert.throws(() => world.clock({ untilSeconds: 0 }), Refusal);
    assert.throws(() => world.clock({ untilSeconds: 200, step: 'event' }), Refusal);
  });

  test('real: virtual time keeps to the wall clock, times the factor', () => {
    // before the world's own clock starts, which is somewhere in here
    const wall = performance.now();
    const world = makeWorld({ ...pairDocument('vhost-net'), clock: { mode: 'real', factor: 2 } });
    const from = world.now;
    assert.equal(world.clock(null).deterministic, false);
    world.startTraffic(udp('a/net0', 'b/net0', { count: 50, rate: 250 }));
    for (let i = 0; i < 100_000; i++) {
      const wait = world.turn(5);
      // timers of the switch go on for ever
      if (wait === NEVER || world.allRuns()[0]!.state === 'SUCCEEDED') break;
      assert.ok(world.now - from <= (performance.now() - wall) * 2e6 + 1e6, 'virtual time ran ahead of the wall clock');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.min(wait, 20));
    }
    const took = performance.now() - wall;
    const run = world.allRuns()[0]!;
    assert.equal(run.received, 50);
    // 49 gaps of 4 ms: 196 ms of virtual time, 98 of wall time
    assert.ok(Math.abs(run.virtual.durationSeconds - 0.196) < 0.002);
    assert.ok(took > 95 && took < 3000, `${took} ms`);
    // and to `work`, where it takes no time at all
    world.clock({ mode: 'work' });
    assert.equal(runOne(world, udp('a/net0', 'b/net0', { count: 50, rate: 250 })).received, 50);
    assert.equal(world.clock(null).deterministic, true);
  });

  test('a failed assertion fails its world and its runs, and only them', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    const other = makeWorld(pairDocument('vhost-net'));
    other.startTraffic(udp('a/net0', 'b/net0', { count: 300 }));
    world.startTraffic(udp('a/net0', 'b/net0', { count: 300 }));
    const { pool } = world.machine;
    while (pool.live < pool.capacity) pool.alloc();
    runOut(world);
    const status = world.status();
    assert.equal(status.state, 'FAILED');
    assert.match(status.reason!, /packet pool/);
    assert.equal(world.allRuns()[0]!.state, 'FAILED');
    assert.throws(() => world.startTraffic(udp('a/net0', 'b/net0')), Refusal);
    assert.throws(() => world.clock({ state: 'RUNNING' }), Refusal);
    runOut(other);
    assert.equal(other.allRuns()[0]!.received, 300);
  });
});
