/** vhost-user back-ends that die and come back: nothing stays behind, every descriptor returns once, frames are accounted for. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { connectionOf } from '../../../src/lab/devices/reconnect.ts';
import type { FaultSpec } from '../../../src/lab/faults/fault-types.ts';
import { conservation, deviceState } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import { makeWorld, pairDocument, ping, runOne, runOut, udp } from './world-driver.ts';

type Crash = Extract<FaultSpec, { kind: 'backend_crash' }>;
const crash = (more: Partial<Crash> = {}): Crash => ({
  kind: 'backend_crash',
  nic: 'a/net0',
  atNs: null,
  everyFrames: null,
  times: null,
  restartAfterNs: 1_000_000,
  ...more,
});
const holds = (world: World): void => {
  const c = conservation(world.machine);
  assert.ok(c.holds, JSON.stringify(c));
};
const nicA = (world: World) => deviceState(world.machine.guests[0]!.nics[0]!).nic;

describe.each(['virtio-pmd', 'virtio-net'])('driver %s', (driver) => {
  const pair = (more: object = {}): World => makeWorld(pairDocument('vhost-user', { nic: { driver, ...more } }));

  test('at rest: the back-end dies, is there again, and a ping is answered', () => {
    const world = pair();
    assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 3 })).received, 3);
    const connection = connectionOf(nicA(world))!;
    const open = connection.table.open;
    const maps = connection.mappings.count;
    const { id } = world.fault(crash());
    world.clock({ untilSeconds: (world.now + 500_000) / 1e9 });
    runOut(world);
    assert.equal(world.faults.get(id).state, 'ACTIVE');
    assert.equal(connection.table.open, 0);
    assert.equal(connection.mappings.count, 0);
    assert.ok(connection.frontend.closed);
    assert.equal(nicA(world).device.netConfig.linkUp, false);
    assert.equal(nicA(world).servedBy, null);
    world.clock({ state: 'RUNNING' });
    runOut(world);
    assert.equal(world.faults.get(id).state, 'ENDED', JSON.stringify(world.faults.get(id)));
    assert.equal(nicA(world).device.netConfig.linkUp, true);
    assert.equal(nicA(world).servedBy, 'backend');
    assert.equal(connection.table.open, open);
    assert.equal(connection.mappings.count, maps);
    holds(world);
    const after = runOne(world, ping('a/net0', 'b/net0', { count: 5 }));
    assert.equal(after.received, 5, JSON.stringify(after));
    assert.equal(runOne(world, ping('b/net0', 'a/net0', { count: 5 })).received, 5);
    holds(world);
  });

  test('under load, every 1,000 frames, both directions', () => {
    const world = pair();
    runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
    const { id } = world.fault(crash({ everyFrames: 1000, restartAfterNs: 200_000 }));
    const runs = [
      world.startTraffic(udp('a/net0', 'b/net0', { count: 20_000, rate: 2_000_000, flows: 8 })),
      world.startTraffic(udp('b/net0', 'a/net0', { count: 20_000, rate: 2_000_000, flows: 8 })),
    ];
    runOut(world);
    const fault = world.faults.get(id);
    holds(world);
    assert.ok(fault.strikes > 3);
    assert.ok(fault.dropped > 0 && fault.duplicated > 0);
    for (const { id: of } of runs) {
      const run = world.run(of);
      const dropped = Object.values(run.dropped).reduce((n, d) => n + d, 0);
      assert.equal(run.received + run.elsewhere + dropped, 20_000 + run.replicated + run.duplicated);
    }
    world.endFault(id);
    runOut(world);
    assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 5 })).received, 5);
  });
});
