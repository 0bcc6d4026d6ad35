/** Revalidators in a world: they work beside other work and up to a time that was asked for, and keep no world running. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { RingReader } from '../../../src/engine/event-ring.ts';
import { DP_FLOW_DEL, DP_MISS } from '../../../src/engine/events.ts';
import type { World } from '../../../src/lab/world.ts';
import type { OvsDatapath } from '../../../src/machine/ovs/datapath/datapath.ts';
import { OvsRevalidator } from '../../../src/machine/ovs/datapath/revalidator.ts';
import { makeWorld, pairDocument, ping, runOut, traffic } from './world-driver.ts';

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
