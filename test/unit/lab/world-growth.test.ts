/** A NIC of a running world changes its back-end and its bridge under traffic: nothing is lost without being counted. */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import { RingReader } from '../../../src/engine/event-ring.ts';
import { DP_PORT_DEL, PORT_DROP_REMOVED, placeOf } from '../../../src/engine/events.ts';
import { rewire, rewireFault } from '../../../src/lab/build/rewire.ts';
import { learnedState, Rehearsal } from '../../../src/lab/dry-run.ts';
import { deviceState, findNic, fingerprint } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import { KernelDatapath } from '../../../src/machine/ovs/datapath/kernel-datapath.ts';
import { switchOver } from './rewiring.ts';
import { makeWorld, ping, runOut, traffic, udp } from './world-driver.ts';

const COUNT = 4000;
const RATE = 400_000;

/** What drivers accept of vhost-user, the other back-ends offer as well. */
function document(seed: number, backend = 'vhost-net', bridge = 'br0', costs = {}): object {
  const guests = ['a', 'b'].map((name, i) => ({
    name,
    nics: [{ name: 'net0', backend, bridge, addresses: [`10.0.0.${i + 1}/24`] }],
  }));
  const bridges = [
    { name: 'br0', datapath: 'system' },
    { name: 'br1', datapath: 'netdev' },
  ];
  return { seed, recorder: { events: 1 << 18, bytes: '8MiB' }, costs, hosts: [{ name: 'h1', bridges, guests }] };
}

const to = (world: World, seconds: number): void => {
  world.clock({ untilSeconds: seconds });
  runOut(world);
};
const holds = (world: World): void => {
  const { conservation } = world.status();
  assert.ok(conservation.holds, JSON.stringify(conservation));
  assert.equal(world.failed, null);
};

/** Traffic from a to b, and both change over: to the other bridge, there to userspace of QEMU, and back. */
function changes(seed: number, costs = {}): World {
  const world = makeWorld(document(seed, 'vhost-user', 'br1', costs));
  world.startTraffic(udp('a/net0', 'b/net0', { id: 'run', count: COUNT, rate: RATE }));
  const start = world.now / 1e9;
  to(world, start + 0.002);
  switchOver(world, 'a', 'vhost-net', 'br0');
  holds(world);
  to(world, start + 0.0021);
  switchOver(world, 'b', 'vhost-net', 'br0');
  holds(world);
  to(world, start + 0.004);
  switchOver(world, 'a', 'virtio-net', 'br0');
  holds(world);
  to(world, start + 0.006);
  switchOver(world, 'b', 'vhost-user', 'br1');
  switchOver(world, 'a', 'vhost-user', 'br1');
  holds(world);
  world.clock({ state: 'RUNNING' });
  runOut(world);
  return world;
}

describe('a NIC that changes its back-end', () => {
  test('under traffic: all frames are accounted for, and it goes on', () => {
    const world = changes(1);
    holds(world);
    const run = world.run('run');
    assert.equal(run.sent, COUNT);
    const dropped = Object.values(run.dropped).reduce((n, d) => n + d, 0);
    const { conservation } = world.status();
    assert.equal(conservation.inFlight, 0);
    assert.ok(run.received > COUNT / 2, `${run.received} of ${COUNT}: ${JSON.stringify(run)}`);
    assert.ok(run.received + dropped + run.elsewhere >= COUNT);
    const [after] = traffic(world, ping('b/net0', 'a/net0', { count: 5 }));
    assert.equal(after!.received, 5);
    holds(world);
  });

  test('the same world and commands give the same run', () => {
    assert.equal(fingerprint(changes(2).machine), fingerprint(changes(2).machine));
  });

  test('a reader follows, whenever it began: every place and context of an event has its name', () => {
    const world = makeWorld(document(3));
    const { machine } = world;
    const early = new RingReader(machine.arena.buffer, structuredClone(machine.catalog));
    const known = early.catalog.places.length;
    world.startTraffic(udp('a/net0', 'b/net0', { id: 'run', count: 1000, rate: RATE }));
    const start = world.now / 1e9;
    to(world, start + 0.001);
    switchOver(world, 'a', 'virtio-net', 'br0');
    to(world, start + 0.0015);
    const middle = new RingReader(machine.arena.buffer, structuredClone(machine.catalog));
    switchOver(world, 'a', 'vhost-user', 'br1');
    to(world, start + 0.002);
    switchOver(world, 'a', 'vhost-net', 'br0');
    runOut(world);
    const late = new RingReader(machine.arena.buffer, structuredClone(machine.catalog));
    for (const reader of [early, middle, late]) {
      assert.deepEqual(reader.catalog.places, machine.catalog.places);
      assert.deepEqual(reader.catalog.contexts, machine.catalog.contexts);
    }
    assert.ok(known < machine.catalog.places.length);
    let next = 0;
    for (let n = early.read(next); n > 0; n = early.read(next)) {
      for (let i = 0; i < n; i++) assert.ok(early.catalog.places[placeOf(early.block.meta[i]!)]);
      next = early.block.first + n;
    }
    const names = machine.catalog.places.map((p) => p.name);
    assert.equal(new Set(names).size, names.length, 'no name is there twice');
    const retired = machine.catalog.places.filter((p) => p.retired).map((p) => p.name);
    assert.deepEqual(retired.sort(), ['a/net0/vhost-user', 'a/net0/virtio-net', 'br1/a.net0']);
    const workers = machine.catalog.contexts.filter((c) => c.kind === 'vhost');
    assert.deepEqual(
      workers.map((c) => c.retired === true),
      [true, false, false],
    );
  });

  test('frames that wait at the old port are dropped, its addresses and flows are forgotten', () => {
    const world = makeWorld(document(4, 'vhost-net', 'br0', { vhost_net_rx_per_packet: 20_000 }));
    traffic(world, ping('a/net0', 'b/net0', { count: 1 }));
    world.startTraffic(udp('a/net0', 'b/net0', { id: 'run', count: 2000, generator: 'pktgen' }));
    to(world, world.now / 1e9 + 0.001);
    const { tap } = findNic(world.machine, 'b', 'net0').wiring as { tap: { waiting: number; number: number } };
    const { waiting } = tap;
    assert.ok(waiting > 0, 'the load is higher than the worker is fast');
    const { bridge } = world.machine.bridges[0]!;
    switchOver(world, 'b', 'vhost-user', 'br1');
    holds(world);
    assert.ok(!bridge.ports.has(tap.number));
    assert.ok(bridge instanceof KernelDatapath);
    const known = learnedState(world.machine).bridges[0]!.fdb;
    assert.ok(known.every((entry) => entry.port !== tap.number));
    world.clock({ state: 'RUNNING' });
    runOut(world);
    const reader = new RingReader(world.machine.arena.buffer, world.machine.catalog);
    const sum = (kind: number): number => reader.catalog.places.reduce((n, p) => n + reader.count(p.id, kind), 0);
    assert.ok(sum(PORT_DROP_REMOVED) >= waiting);
    assert.equal(sum(DP_PORT_DEL), 1);
    assert.equal(world.run('run').dropped['port.removed'], sum(PORT_DROP_REMOVED));
    holds(world);
  });

  test('a run whose last frames go with a port has ended, also where nothing happens any more', () => {
    const world = makeWorld(document(9, 'vhost-net', 'br0', { vhost_net_rx_per_packet: 1_000_000 }));
    traffic(world, ping('a/net0', 'b/net0', { count: 1 }));
    world.startTraffic(udp('a/net0', 'b/net0', { id: 'run', count: 50, generator: 'pktgen' }));
    to(world, world.now / 1e9 + 0.0009);
    assert.equal(world.run('run').sent, 50);
    const b = findNic(world.machine, 'b', 'net0');
    deviceState(b).nic.suspend();
    rewire(world.machine, b, { ...b.document, backend: 'vhost-user', bridge: 'br1' });
    world.clock({ state: 'RUNNING' });
    runOut(world);
    const run = world.run('run');
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    assert.equal(run.dropped['port.removed'], 50);
    holds(world);
  });

  test('frames that are put in at a port that goes are dropped from then on; traffic begins at the ports that there are', () => {
    const world = makeWorld(document(8));
    world.startTraffic(udp('br0/a.net0', 'b/net0', { id: 'run', count: 100, rate: 100_000 }));
    const start = world.now / 1e9;
    to(world, start + 0.0005);
    switchOver(world, 'a', 'vhost-user', 'br1');
    world.clock({ state: 'RUNNING' });
    runOut(world);
    const run = world.run('run');
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    assert.equal(run.sent, 100);
    assert.ok(run.received >= 45 && run.received <= 55, `${run.received}`);
    assert.equal(run.dropped['port.removed'], 100 - run.received);
    holds(world);
    expect(() => world.startTraffic(udp('br0/a.net0', 'b/net0'))).toThrow(/br1\/a\.net0/);
    const [inside] = traffic(world, udp('br1/a.net0', 'a/net0', { count: 3 }));
    assert.equal(inside!.sent, 3);
    holds(world);
  });

  test('what cannot be wired is refused with the reason, and nothing has changed', () => {
    const world = makeWorld(document(5));
    const { machine } = world;
    const nic = findNic(machine, 'a', 'net0');
    const fault = (fields: object): string =>
      JSON.stringify(rewireFault(machine, nic, { ...nic.document, ...fields })?.error);
    expect(fault({ bridge: 'br9' })).toMatch(/no bridge br9.*\/bridge/);
    expect(fault({ bridge: 'br1' })).toMatch(/vhost-net needs a bridge of the kernel.*\/bridge/);
    expect(fault({ backend: 'vhost-user' })).toMatch(/needs a bridge with datapath netdev.*\/bridge/);
    expect(fault({ queuePairs: 2 })).toMatch(/1 queue pairs.*\/queuePairs/);
    assert.equal(rewireFault(machine, nic, { ...nic.document, backend: 'virtio-net' }), null);
  });

  test('a world grows until its reserve is used up, then it says so', () => {
    const world = makeWorld(document(6));
    const { machine } = world;
    let turns = 0;
    const backend = (): 'virtio-net' | 'vhost-net' => (turns % 2 === 0 ? 'virtio-net' : 'vhost-net');
    for (; turns < 2000; turns++) {
      const nic = findNic(machine, 'a', 'net0');
      if (rewireFault(machine, nic, { ...nic.document, backend: backend() }) !== null) break;
      switchOver(world, 'a', backend(), 'br0');
    }
    assert.ok(turns >= 400 && turns < 2000, `${turns} changes`);
    expect(() => switchOver(world, 'a', backend(), 'br0')).toThrow(/the running world cannot grow: no room for/);
    runOut(world);
    holds(world);
  });

  test('a dry run does what the world then does', () => {
    // the twin's threads have other cores, so that switches of these cannot be compared
    const world = changes(7, { thread_context_switch: 0 });
    for (const [id, from, to, guest] of [
      ['one', 'a/net0', 'b/net0', 'a'],
      ['two', 'b/net0', 'a/net0', 'b'],
      ['three', 'a/net0', 'b/net0', 'a'],
    ] as const) {
      // alone on its bridge, then both, then one in QEMU's own data path
      switchOver(world, guest, id === 'three' ? 'virtio-net' : 'vhost-net', 'br0');
      runOut(world);
      traffic(world, ping('a/net0', 'b/net0', { count: 1 }));
      const spec = { ...udp(from, to, { id, count: 1 }), kind: 'udp' as const };
      const rehearsal = new Rehearsal(world.machine.topology, structuredClone(learnedState(world.machine)), spec);
      let said = rehearsal.turn(50);
      while (said === null) said = rehearsal.turn(50);
      assert.equal(said.ended, 'idle');
      assert.ok(said.run.received + said.run.elsewhere + Object.keys(said.run.dropped).length > 0);
      const [done] = traffic(world, spec);
      assert.deepEqual(
        { ...said.run, wall: 0, contexts: 0 },
        { ...done, wall: 0, contexts: 0, frames: said.run.frames },
      );
      assert.equal(said.endNs, world.now);
    }
  });
});
