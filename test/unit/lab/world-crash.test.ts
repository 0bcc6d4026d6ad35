/** vhost-user back-ends that die and come back: nothing stays behind, every descriptor returns once, frames are accounted for. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { connectionOf } from '../../../src/lab/devices/netdev/reconnect.ts';
import type { World } from '../../../src/lab/world.ts';
import { scenario } from '../machine/vhost/user/golden.ts';
import { connection, crash, crashWorld, heldBy, holds, nicOf, RingAccount } from './crash-worlds.ts';
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
  test.each([
    ['server', 'strict'],
    ['server', 'passthrough'],
    ['client', 'passthrough'],
  ] as const)('QEMU as %s, IOMMU %s: conservation under load', { timeout: 900_000 }, (mode, iommu) => {
    // 10,000 frames between crashes in the long run
    const everyFrames = full ? 10_000 : 1000;
    const count = !full ? 8000 : iommu === 'strict' ? 60_000 : 400_000;
    const vhostUser = mode === 'client' ? { mode, reconnectMs: 1 } : { mode };
    const world = crashWorld({ packed, pairs: 4, iommu, vhostUser });
    for (let i = 0; i < 5; i++) {
      runOne(world, ping('a/net0', 'b/net0', { count: 3, flows: 4 }));
      runOne(world, ping('b/net0', 'a/net0', { count: 3, flows: 4 }));
    }
    runOut(world);
    const before = heldBy(world);
    const rings = new RingAccount(world);
    const faults = ['a/net0', 'b/net0'].map((nic) => world.fault(crash({ nic, everyFrames, restartAfterNs: 300_000 })));
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
  });
});

describe('in the middle of a burst', () => {
  /** A burst of eight frames of a's, and the times of its frames in an undisturbed world. */
  const burst = (strikeAt: number | null) => {
    const world = makeWorld(pairDocument('vhost-user'));
    runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
    const events = collect(world.machine, E.DP_INGRESS, E.PACKET_DUPLICATE, E.VHOST_USER_DROP_CRASH, E.VIRTQ_POP);
    if (strikeAt !== null) world.fault(crash({ atNs: strikeAt, restartAfterNs: 50_000 }));
    const run = runOne(world, udp('a/net0', 'b/net0', { count: 8, rate: 0 }));
    holds(world);
    return { events, run, world };
  };
  const undisturbed = burst(null).events;
  const ingress = undisturbed.filter((e) => e.kind === E.DP_INGRESS).slice(0, 8);
  const pops = undisturbed.filter((e) => e.kind === E.VIRTQ_POP).slice(0, 8);

  test.each([1, 3, 5])('%i frames have been handed on, the next one is being looked at', (n) => {
    // between the pop of the next frame and the time at which it is handed on
    const at = pops[n]!.time + 1;
    assert.ok(ingress.length === 8 && ingress[n]!.time > at, 'a burst of eight');
    const { events, run } = burst(Math.ceil(at));
    const begun = events.findIndex((e) => e.kind === E.VHOST_USER_DROP_CRASH);
    const lost = events[begun]!;
    const before = events.slice(0, begun);
    const handedOn = before.filter((e) => e.kind === E.DP_INGRESS);
    const again = events.filter((e) => e.kind === E.PACKET_DUPLICATE);
    assert.ok(handedOn.length >= n, `${handedOn.length} of ${n}`);
    assert.deepEqual(
      again.map((e) => e.a),
      [...handedOn.slice(-again.length + 1).map((e) => e.frame), lost.frame],
      'what was taken is sent again, in its order',
    );
    assert.equal(run.duplicated, again.length);
    assert.equal(run.dropped['vhost_user.backend_crash'], 1);
    assert.equal(run.received, 8 - 1 + again.length);
  });

  test.each([false, true])(
    'chains whose translations have gone just before wait for the next back-end, packed %s',
    (packed) => {
      const world = crashWorld({ iommu: 'passthrough', packed });
      runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
      runOut(world);
      const { wiring } = world.machine.guests[0]!.nics[0]!;
      assert.ok(wiring.kind === 'vhost-user');
      const rxq = wiring.port.rxqs[0]!;
      const pmd = wiring.pmds[0]!;
      const events = collect(world.machine, E.VIRTQ_DROP_BAD_CHAIN, E.VIRTQ_ERROR, E.PACKET_DUPLICATE);
      const rings = new RingAccount(world);
      const { scheduler } = world.machine;
      const step = scheduler.run.bind(scheduler);
      let taken = 0;
      scheduler.run = (until, budget) => {
        for (let i = 0; i < budget; i++) {
          const stop = step(until, 1);
          if (stop !== 'budget') return stop;
          const burst = pmd.underWay(rxq);
          if (taken > 0 || burst === null || burst.count < 8) continue;
          taken = burst.count;
          for (const iotlb of nicA(world).translation!.iotlbs) iotlb.invalidate(0, 2 ** 48, 0);
          // in the middle of what would have been done with them
          world.fault(crash({ atNs: Math.floor((burst.begun + scheduler.next[pmd.id]!) / 2), restartAfterNs: 50_000 }));
        }
        return 'budget';
      };
      const run = runOne(world, udp('a/net0', 'b/net0', { count: 200, generator: 'pktgen' }));
      runOut(world);
      assert.ok(taken >= 8, `a burst of ${taken}`);
      assert.deepEqual(events, []);
      assert.equal(run.received + (run.dropped['vhost_user.iotlb_miss'] ?? 0), 200, JSON.stringify(run.dropped));
      rings.atRest();
      holds(world);
    },
  );
});

test('inflight tracking: the area outlives the back-end, and is given to the next one', () => {
  const world = crashWorld({ vhostUser: { mode: 'server', inflight: true } });
  assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 3 })).received, 3);
  const before = heldBy(world);
  const requests = collect(world.machine, E.VHOST_USER_REQUEST);
  world.fault(crash());
  runOut(world);
  // VHOST_USER_GET_INFLIGHT_FD is asked for once, SET_INFLIGHT_FD said again
  assert.equal(requests.filter((e) => e.a === 31).length, 0);
  assert.equal(requests.filter((e) => e.a === 32).length, 1);
  assert.deepEqual(heldBy(world), before);
  assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 3 })).received, 3);
});

test('a NIC that is given another back-end while its old one is dead', () => {
  const features = {
    VIRTIO_F_RING_RESET: false,
    VIRTIO_NET_F_CSUM: false,
    VIRTIO_NET_F_HOST_TSO4: false,
    VIRTIO_NET_F_HOST_TSO6: false,
    VIRTIO_NET_F_HOST_ECN: false,
    VIRTIO_NET_F_HOST_UFO: false,
  };
  const guest = (name: string, i: number, nic: object) => ({
    name,
    nics: [{ name: 'net0', driver: 'virtio-net', addresses: [`10.0.0.${i}/24`], features, ...nic }],
  });
  const world = makeWorld({
    hosts: [
      {
        name: 'h1',
        cores: 32,
        bridges: [{ name: 'br0' }, { name: 'br1', datapath: 'netdev' }],
        guests: [
          guest('a', 1, { backend: 'vhost-user', bridge: 'br1' }),
          guest('k', 2, { backend: 'vhost-net', bridge: 'br0' }),
        ],
      },
    ],
  });
  const counting = world.fault(crash({ everyFrames: 1_000_000 }));
  const dead = world.fault(crash({ restartAfterNs: 10_000_000 }));
  world.clock({ untilSeconds: (world.now + 1_000_000) / 1e9 });
  runOut(world);
  world.clock({ state: 'RUNNING' });
  assert.equal(connection(world).connected, false);
  world.migrate(world.machine.guests[0]!.nics[0]!, { backend: 'vhost-net', bridge: 'br0' });
  runOut(world);
  for (const { id } of [counting, dead]) {
    assert.equal(world.faults.get(id).state, 'ENDED', JSON.stringify(world.faults.get(id)));
    assert.match(world.faults.get(id).reason!, /another back-end/);
  }
  holds(world);
  world.link(world.machine.guests[0]!.nics[0]!, true);
  assert.equal(runOne(world, ping('a/net0', 'k/net0', { count: 3 })).received, 3);
});

test('a guest of StratoVirt: its front-end is not taken through that', () => {
  const nic = { name: 'net0', backend: 'vhost-user', driver: 'virtio-net', addresses: ['10.0.0.1/24'] };
  const guests = [{ name: 'a', vmm: 'stratovirt', nics: [nic] }];
  const world = makeWorld({ hosts: [{ name: 'h1', bridges: [{ name: 'br0', datapath: 'netdev' }], guests }] });
  assert.throws(() => world.fault(crash()), /StratoVirt/);
});

describe.each([true, false])('notifications, event idx %s', (eventIdx) => {
  // with event idx the other side has not moved its event word, and so nobody notifies it again
  const pair = (): World =>
    makeWorld(pairDocument('vhost-net', { nic: { features: { VIRTIO_RING_F_EVENT_IDX: eventIdx } } }));
  test('a kick that is lost: the frame waits for the next one', () => {
    const world = pair();
    runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
    const { id } = world.fault({ kind: 'lost_kick', nic: 'a/net0', atNs: null, queue: 'tx0', count: 1 });
    const seen = collect(world.machine, E.FAULT_KICK_LOST, E.GUEST_DELIVER);
    assert.equal(runOne(world, udp('a/net0', 'b/net0', { count: 1 })).state, 'FAILED');
    assert.deepEqual(
      seen.map((e) => e.kind),
      [E.FAULT_KICK_LOST],
    );
    assert.equal(world.faults.get(id).state, 'ENDED');
    holds(world);
    runOne(world, udp('a/net0', 'b/net0', { count: 1 }));
    assert.equal(seen.length, eventIdx ? 1 : 3);
    holds(world);
  });
  test('an interrupt that is lost: both frames come with the next one', () => {
    const world = pair();
    runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
    world.fault({ kind: 'lost_interrupt', nic: 'b/net0', atNs: null, queue: 'rx0', count: 1 });
    const seen = collect(world.machine, E.FAULT_INTERRUPT_LOST, E.GUEST_DELIVER);
    runOne(world, udp('a/net0', 'b/net0', { count: 1 }));
    assert.deepEqual(
      seen.map((e) => e.kind),
      [E.FAULT_INTERRUPT_LOST],
    );
    runOne(world, udp('a/net0', 'b/net0', { count: 1 }));
    assert.equal(seen.length, eventIdx ? 1 : 3);
    holds(world);
  });
});
