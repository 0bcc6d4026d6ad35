/** vhost-user back-ends that die and come back: nothing stays behind, every descriptor returns once, frames are accounted for. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { connectionOf } from '../../../src/lab/devices/reconnect.ts';
import type { World } from '../../../src/lab/world.ts';
import { scenario } from '../machine/vhost/user/golden.ts';
import { crash, crashWorld, heldBy, holds, nicOf, RingAccount } from './crash-worlds.ts';
import { collect, full, makeWorld, pairDocument, ping, runOne, runOut, udp } from './world-driver.ts';

const nicA = (world: World) => nicOf(world);

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

/** What both sides said on the socket, as `F`/`B` and the request. */
const said = (world: World) => {
  const place = nicA(world).wiring.backendPlace;
  const events = collect(world.machine, E.VHOST_USER_REQUEST, E.VHOST_USER_REPLY);
  return () =>
    events.filter((e) => e.place === place).map((e) => `${e.kind === E.VHOST_USER_REQUEST ? 'F' : 'B'} ${e.a}`);
};

describe.each([
  ['qemu_server', { mode: 'server' }],
  ['reconnect_client', { mode: 'client', reconnectMs: 1000 }],
] as const)('QEMU as %s', (recorded, vhostUser) => {
  test('says after the reconnection what it was recorded to say, without any doing of the driver', () => {
    const golden = scenario(recorded);
    const [first, last] = golden.phase('backend_restarted');
    const expected = golden
      .between(first, last)
      .filter((m) => m.channel === 'main')
      .map((m) => `${m.from} ${Buffer.from(m.hex, 'hex').readUInt32LE(0)}`);
    const world = crashWorld({ vhostUser });
    assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 3 })).received, 3);
    const status = collect(world.machine, E.VIRTIO_STATUS);
    const seen = said(world);
    const { id } = world.fault(crash());
    runOut(world);
    const fault = world.faults.get(id);
    assert.equal(fault.state, 'ENDED', JSON.stringify(fault));
    assert.deepEqual(seen(), expected);
    assert.equal(status.length, 0);
    const { noticedNs, restartedNs, recoveredNs } = fault.last!;
    const from = vhostUser.mode === 'server' ? restartedNs! : noticedNs! + 1e9;
    assert.ok(recoveredNs! >= from && recoveredNs! < from + 200_000, `${recoveredNs} after ${from}`);
    assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 3 })).received, 3);
  });
});

test('QEMU that connects and does not try again: the NIC stays without a back-end, and the fault says so', () => {
  const world = crashWorld({ vhostUser: { mode: 'client', reconnectMs: 0 } });
  runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
  const { id } = world.fault(crash());
  runOut(world);
  assert.equal(world.faults.get(id).state, 'ENDED');
  assert.match(world.faults.get(id).reason!, /does not try again/);
  assert.equal(nicA(world).servedBy, null);
});

test('several crashes, several faults: the dead cannot die', () => {
  const world = crashWorld();
  runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
  const now = Math.ceil(world.now);
  const first = world.fault(crash({ atNs: now + 1000, restartAfterNs: 500_000 }));
  const second = world.fault(crash({ atNs: now + 100_000 }));
  runOut(world);
  assert.equal(world.faults.get(first.id).strikes, 1);
  assert.equal(world.faults.get(second.id).strikes, 0);
  assert.equal(world.faults.get(second.id).missed, 1);
  assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 3 })).received, 3);
});

test('the driver resets the device, and the guest pauses, while there is no back-end', () => {
  const world = crashWorld();
  runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
  const { id } = world.fault(crash({ restartAfterNs: null }));
  runOut(world);
  world.guestState('a', 'paused');
  world.endFault(id);
  runOut(world);
  assert.equal(nicA(world).servedBy, null, 'no back-end runs while the guest does not');
  world.guestState('a', 'running');
  assert.equal(nicA(world).servedBy, 'backend');
  assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 3 })).received, 3);
  holds(world);
});

describe.each([false, true])('vIOMMU, reconnection and multiqueue at once, packed %s', (packed) => {
  test.each(['server', 'client'])(
    'QEMU as %s: conservation under load',
    (mode) => {
      // 10,000 frames between crashes in the long run
      const everyFrames = full ? 10_000 : 1000;
      const count = full ? 400_000 : 8000;
      const vhostUser = mode === 'client' ? { mode, reconnectMs: 1 } : { mode };
      const world = crashWorld({ packed, pairs: 4, iommu: 'passthrough', vhostUser });
      for (let i = 0; i < 5; i++) {
        runOne(world, ping('a/net0', 'b/net0', { count: 3, flows: 4 }));
        runOne(world, ping('b/net0', 'a/net0', { count: 3, flows: 4 }));
      }
      runOut(world);
      const before = heldBy(world);
      const rings = new RingAccount(world);
      const faults = ['a/net0', 'b/net0'].map((nic) =>
        world.fault(crash({ nic, everyFrames, restartAfterNs: 300_000 })),
      );
      const runs = [
        world.startTraffic(udp('a/net0', 'b/net0', { count, rate: 1_500_000, flows: 16 })),
        world.startTraffic(udp('b/net0', 'a/net0', { count, rate: 1_500_000, flows: 16 })),
      ];
      while (world.turn(20) === 0) holds(world);
      for (const { id } of runs) {
        const run = world.run(id);
        assert.equal(run.state, 'SUCCEEDED', run.reason);
        const dropped = Object.values(run.dropped).reduce((n, d) => n + d, 0);
        assert.equal(run.received + run.elsewhere + dropped, count + run.replicated + run.duplicated);
        assert.ok(run.received > 0);
      }
      for (const { id } of faults) {
        assert.ok(world.faults.get(id).strikes >= 3, JSON.stringify(world.faults.get(id)));
        world.endFault(id);
      }
      runOut(world);
      for (const { id } of faults) assert.equal(world.faults.get(id).state, 'ENDED');
      holds(world);
      rings.atRest();
      assert.ok(rings.returned > 0);
      assert.deepEqual(heldBy(world), before);
    },
    900_000,
  );
});
