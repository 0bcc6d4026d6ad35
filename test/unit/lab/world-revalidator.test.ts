/**
 * Revalidators in a world: they work beside other work and up to a time that was asked for, and keep no world running. They share
 * cores with handlers, never with PMDs.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { RingReader } from '../../../src/engine/event-ring.ts';
import { DP_FLOW_DEL, DP_MISS, DP_UPCALL, SCHED_SWITCH } from '../../../src/engine/events.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { learnedState, Rehearsal } from '../../../src/lab/dry-run.ts';
import { PRESETS } from '../../../src/lab/presets.ts';
import { World } from '../../../src/lab/world.ts';
import type { OvsDatapath } from '../../../src/machine/ovs/datapath/datapath.ts';
import { OvsRevalidator } from '../../../src/machine/ovs/datapath/revalidator.ts';
import { collect, makeWorld, pairDocument, ping, runOut, type SeenEvent, traffic, udp } from './world-driver.ts';

const datapathOf = (world: World): OvsDatapath => [...world.machine.site.datapaths.values()][0]!.datapath;
function sum(world: World, kind: number): number {
  const reader = new RingReader(world.machine.arena.buffer, world.machine.catalog);
  return reader.catalog.places.reduce((n, p) => n + reader.count(p.id, kind), 0);
}
function to(world: World, seconds: number): void {
  world.clock({ state: 'RUNNING', untilSeconds: seconds });
  while (world.turn(1000) === 0);
}

describe.each(['vhost-net', 'vhost-user'] as const)('%s', (backend) => {
  test('a world that has nothing to do rests, with its flows; when time passes they go after 10 s', () => {
    const world = makeWorld(pairDocument(backend));
    traffic(world, ping('a/net0', 'b/net0', { count: 2 }));
    const datapath = datapathOf(world);
    const flows = datapath.flowCount;
    assert.ok(flows >= 2);
    runOut(world);
    const rested = world.now / 1e9;
    assert.equal(datapath.flowCount, flows, 'no time has passed');
    to(world, rested + 9);
    assert.equal(datapath.flowCount, flows);
    to(world, rested + 11);
    assert.equal(datapath.flowCount, 0);
    assert.equal(sum(world, DP_FLOW_DEL), flows);
    assert.equal(world.now / 1e9, rested + 11);
    // and come back
    const missed = sum(world, DP_MISS);
    world.clock({ state: 'RUNNING' });
    traffic(world, ping('a/net0', 'b/net0', { count: 1, id: 'again' }));
    assert.ok(sum(world, DP_MISS) > missed);
  });

  test('flows that are used stay, and what they count is credited', () => {
    const world = makeWorld(pairDocument(backend));
    traffic(world, ping('a/net0', 'b/net0', { count: 30, rate: 1 }));
    const datapath = datapathOf(world);
    assert.ok(datapath.flowCount >= 2);
    assert.ok(datapath.allFlows().some((flow) => flow.packets >= 20 && flow.pushedPackets >= 20));
    const { revalidator } = datapath;
    assert.ok(revalidator instanceof OvsRevalidator);
    assert.equal(revalidator.flowLimit >= 10_000, true);
    assert.ok(revalidator.maxFlows >= 2);
  });
});

const contextOf = (world: World, kind: string) => world.machine.catalog.contexts.find((c) => c.kind === kind)!;
function revalidatorOf(world: World): OvsRevalidator {
  const { revalidator } = datapathOf(world);
  assert.ok(revalidator instanceof OvsRevalidator);
  return revalidator;
}

describe('cores', () => {
  test('that of the kernel datapath’s revalidator is the first handler’s, and others have the cores that they had without it', () => {
    const world = makeWorld(
      pairDocument('vhost-net', { host: { ovs: { otherConfig: { 'n-handler-threads': '3' } } } }),
    );
    const handlers = world.machine.catalog.contexts.filter(({ kind }) => kind === 'handler');
    assert.equal(handlers.length, 3);
    assert.equal(contextOf(world, 'revalidator').core, handlers[0]!.core);
    const coresOf = (...kinds: string[]): number[] =>
      world.machine.catalog.contexts.filter(({ kind }) => kinds.includes(kind)).map(({ core }) => core);
    assert.deepEqual(coresOf('vcpu', 'handler', 'vhost'), [0, 1, 2, 3, 4, 5, 6]);
    assert.deepEqual(coresOf('qemu'), [6, 7]);
  });
  test.each([4, 5, 8])('that of the netdev datapath’s is no poller’s, on a host with %d cores', (cores) => {
    const document = pairDocument('vhost-user', { host: { cores } });
    const world = makeWorld(document);
    const { core } = contextOf(world, 'revalidator');
    assert.ok(core >= 0 && core < cores);
    for (const context of world.machine.catalog.contexts)
      if (context.polls) assert.notEqual(context.core, core, context.name);
    // and none comes to it
    const ovs = world.machine.ovs[0]!;
    const config = ['map', [['pmd-cpu-mask', `0x${(2 ** core).toString(16)}`]]];
    world.door(ovs).act('ovsdb transact', 'test', () =>
      ovs.db.transact([
        {
          op: 'mutate',
          table: 'Open_vSwitch',
          where: [],
          mutations: [
            ['other_config', 'delete', ['set', ['pmd-cpu-mask']]],
            ['other_config', 'insert', config],
          ],
        },
      ]),
    );
    runOut(world);
    assert.deepEqual(
      world.machine.catalog.contexts.filter((c) => c.core === core && c.kind === 'pmd').map(({ name }) => name),
      [],
    );
    const [run] = traffic(world, ping('a/net0', 'b/net0', { count: 2 }));
    assert.equal(run!.received, 2);
  });
});

/** Two NICs, and a flow that looks at ports: as many flows in the kernel datapath as there are streams. */
function manyFlows(): World {
  const { document } = PRESETS.find(({ name }) => name === 'p2p-kernel')!;
  // what is moved is matched as a whole
  const flows = [
    'udp,in_port=eth0,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],output:eth1',
    'udp,in_port=eth1,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],output:eth0',
  ];
  const hosts = document.hosts.map((h) => ({ ...h, bridges: h.bridges!.map((b) => ({ ...b, flows })) }));
  const parsed = parseTopology({ ...document, hosts }, { name: 'w' });
  assert.ok(parsed.ok);
  return new World(parsed.topology);
}
const STREAMS = 6000;
const LATE = 600;
/** Frames of 6,000 streams in 0.6 s: each brings a flow, and the handler has work when the first round comes. */
function storm(world: World): SeenEvent[] {
  const events = collect(world.machine, DP_MISS, DP_UPCALL, SCHED_SWITCH);
  world.startTraffic(udp('eth0', 'eth1', { id: 'many', count: STREAMS, rate: 10_000, flows: STREAMS }));
  return events;
}

test('what happens on a core that both have does not depend on how a world is stepped', () => {
  const whole = manyFlows();
  const events = storm(whole);
  runOut(whole);
  to(whole, 1.2);
  const { id } = contextOf(whole, 'revalidator');
  const rounds = events.filter(({ kind, context }) => kind === SCHED_SWITCH && context === id);
  assert.ok(rounds.length > 3, 'it had the core, and gave it up within rounds');
  assert.ok(revalidatorOf(whole).maxFlows > 4000);
  const bits = manyFlows();
  const same = storm(bits);
  // paused at odd times, in the middle of rounds as well
  for (let i = 1; i <= 300; i++) to(bits, 0.4999 + i * 0.000_007);
  to(bits, 1.2);
  assert.deepEqual(same, events);
  assert.equal(bits.run('many').received, STREAMS);
  assert.equal(whole.run('many').received, STREAMS);
});

test('the twin of a dry run has the flow limit and the next round of its world', () => {
  const world = manyFlows();
  storm(world);
  runOut(world);
  to(world, 0.9);
  const revalidator = revalidatorOf(world);
  revalidator.flowLimit = 4321;
  const spec = udp('eth0', 'eth1', { count: LATE, rate: 10_000, flows: LATE });
  const { scheduler } = world.machine;
  const timer = scheduler.standing().timers[revalidator.id]!;
  assert.ok(timer > world.now && timer <= world.now + 500e6);
  const rehearsal = new Rehearsal(world.machine.topology, structuredClone(learnedState(world.machine)), spec);
  const twin = Reflect.get(rehearsal, 'world') as World;
  assert.equal(revalidatorOf(twin).flowLimit, 4321);
  assert.equal(twin.machine.scheduler.standing().timers[revalidatorOf(twin).id], timer);
});

test('what a dry run’s twin took over is no change: no round for it holds its upcalls up', () => {
  const world = manyFlows();
  storm(world);
  runOut(world);
  to(world, 0.9);
  const spec = udp('eth1', 'eth0', { id: 'back', count: 20, rate: 20_000, flows: 20 });
  const rehearsal = new Rehearsal(world.machine.topology, structuredClone(learnedState(world.machine)), spec);
  const twin = Reflect.get(rehearsal, 'world') as World;
  assert.ok(datapathOf(world).flowCount > 128);
  assert.equal(datapathOf(twin).flowCount, datapathOf(world).flowCount);
  const upcalls = [world, twin].map(({ machine }) => collect(machine, DP_UPCALL));
  world.clock({ state: 'RUNNING' });
  world.startTraffic(spec);
  runOut(world);
  while (rehearsal.turn(1000) === null);
  const [there, here] = upcalls.map((events) => events.map(({ time }) => time));
  assert.equal(there!.length, 20);
  assert.deepEqual(here, there);
});
