/** A NIC that is given another back-end while its guest runs: nothing is lost but what is counted, rings go on where they were. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { deviceState } from '../../../src/lab/inspect.ts';
import { nicMigration } from '../../../src/lab/nic-migration-state.ts';
import { Refusal } from '../../../src/lab/refusal.ts';
import type { World } from '../../../src/lab/world.ts';
import { BRIDGE, holds, migrationWorld, nicA, peerOf, ringsOf } from './migration-worlds.ts';
import { BACKENDS, type Backend, collect, full, makeWorld, runOne, runOut, udp, watch } from './world-driver.ts';

const PAIRS_OF_BACKENDS = BACKENDS.flatMap((from) => BACKENDS.filter((to) => to !== from).map((to) => ({ from, to })));
const CASES = PAIRS_OF_BACKENDS.flatMap((c) =>
  [1, 4].flatMap((pairs) =>
    (c.from === 'vhost-net' || c.to === 'vhost-net' ? [false] : [false, true]).map((packed) => ({
      ...c,
      pairs,
      packed,
    })),
  ),
);
function move(world: World, to: Backend): void {
  world.migrate(nicA(world), { backend: to, bridge: BRIDGE[to] });
  const migration = nicMigration(nicA(world))!;
  assert.equal(migration.state, 'COMPLETED');
  assert.ok(migration.downtimeSeconds! > 0);
  assert.equal(nicA(world).document.backend, to);
  assert.equal(deviceState(nicA(world)).nic.servedBy, 'backend');
}
/** Runs at most so long, ns of virtual time. */
function runFor(world: World, ns: number): void {
  world.clock({ untilSeconds: (world.now + ns) / 1e9 });
  runOut(world);
  world.clock({ state: 'RUNNING' });
}
const low = (bases: readonly (number | null)[]) => bases.map((base) => (base === null ? null : base & 0xffff));

describe.each(CASES)('$from to $to and back, packed $packed, $pairs pairs', ({ from, to, packed, pairs }) => {
  test('at rest: rings stand where they stood, and traffic goes on', () => {
    const world = migrationWorld({ backend: from, packed, pairs });
    const there = (backend: Backend) => {
      const out = runOne(world, udp('a/net0', peerOf(backend), { count: 300, rate: 100_000, flows: 8 }));
      assert.equal(out.received, 300, JSON.stringify(out.dropped));
      const back = runOne(world, udp(peerOf(backend), 'a/net0', { count: 300, rate: 100_000, flows: 8 }));
      assert.equal(back.received, 300, JSON.stringify(back.dropped));
      holds(world);
    };
    there(from);
    for (const backend of [to, from]) {
      runOut(world);
      const before = ringsOf(world);
      move(world, backend);
      const after = ringsOf(world);
      assert.deepEqual(low(after.bases), low(before.bases));
      assert.deepEqual(after.taken, before.taken);
      assert.deepEqual(after.used, before.used);
      there(backend);
      assert.ok(ringsOf(world).taken[0]! !== before.taken[0]! || pairs > 1);
    }
  });

  test('under load, in both directions: what is missing is counted, and nothing comes twice', () => {
    const world = migrationWorld({ backend: from, packed, pairs });
    runOne(world, udp('a/net0', peerOf(from), { count: 20, flows: 4 }));
    runOne(world, udp('a/net0', peerOf(from), { count: 20, flows: 4 }));
    const seen = new Map<number, number>();
    const placed = collect(world.machine, E.VIRTQ_USED);
    const count = full ? 20_000 : 4000;
    const runs = [
      world.startTraffic(udp('a/net0', peerOf(from), { count, rate: 400_000, flows: 8 })),
      world.startTraffic(udp(peerOf(from), 'a/net0', { count, rate: 400_000, flows: 8 })),
    ];
    for (const backend of [to, from, to, from]) {
      runFor(world, 900_000);
      const stood = ringsOf(world);
      move(world, backend);
      holds(world);
      for (const [i, n] of ringsOf(world).taken.entries())
        assert.ok(((n - stood.taken[i]!) & 0xffff) < 2048, 'rings go on where they were');
    }
    runOut(world);
    holds(world);
    for (const { id } of runs) {
      const run = world.run(id);
      assert.equal(run.state, 'SUCCEEDED', run.reason);
      const dropped = Object.values(run.dropped).reduce((n, d) => n + d, 0);
      assert.equal(run.received + run.elsewhere + dropped, count + run.replicated);
      assert.ok(run.received > 0);
    }
    for (const e of placed) seen.set(e.frame, (seen.get(e.frame) ?? 0) + 1);
    assert.ok(
      [...seen.values()].every((n) => n === 1),
      'a frame is placed once',
    );
    const after = runOne(world, udp(peerOf(from), 'a/net0', { count: 100, rate: 50_000 }));
    assert.equal(after.received, 100, JSON.stringify(after.dropped));
  });
});

test.each(['vhost-net', 'vhost-user'] as const)('a polling driver, from virtio-net to %s and back', (to) => {
  const world = migrationWorld({ backend: 'virtio-net', driver: 'virtio-pmd' });
  const there = (backend: Backend) => {
    assert.equal(runOne(world, udp('a/net0', peerOf(backend), { count: 200, rate: 50_000 })).received, 200);
    assert.equal(runOne(world, udp(peerOf(backend), 'a/net0', { count: 200, rate: 50_000 })).received, 200);
    holds(world);
  };
  there('virtio-net');
  for (const backend of [to, 'virtio-net'] as const) {
    move(world, backend);
    there(backend);
  }
});

describe.each(['strict', 'lazy', 'passthrough'])('behind an IOMMU, %s', (mode) => {
  // in lazy mode a vhost-user port loses each frame that comes alone: its translation has been flushed
  const all = PAIRS_OF_BACKENDS.filter(({ from, to }) => mode !== 'lazy' || ![from, to].includes('vhost-user'));
  test.each(all)('$from to $to and back, under load', ({ from, to }) => {
    const world = migrationWorld({ backend: from, guest: { iommu: { mode } } });
    const there = (backend: Backend, n: number) => {
      // the first frame that meets a buffer without a translation may be lost
      for (const [a, b] of [
        ['a/net0', peerOf(backend)],
        [peerOf(backend), 'a/net0'],
      ] as const) {
        // and so may questions for addresses be
        let run = runOne(world, udp(a, b, { count: n, rate: 20_000 }));
        for (let tries = 0; tries < 20 && run.received === 0; tries++)
          run = runOne(world, udp(a, b, { count: n, rate: 20_000 }));
        const dropped = Object.values(run.dropped).reduce((sum, d) => sum + d, 0);
        assert.ok(run.received > 0, run.reason);
        assert.equal(run.received + dropped, n, run.reason);
      }
      holds(world);
    };
    there(from, 50);
    for (const backend of [to, from]) {
      world.startTraffic(udp('a/net0', peerOf(from), { count: 500, rate: 50_000 }));
      runFor(world, 500_000);
      move(world, backend);
      runOut(world);
      holds(world);
      there(backend, 50);
    }
  });
});

test('to another bridge of the same datapath', () => {
  const world = migrationWorld({ backend: 'vhost-net' });
  runOne(world, udp('a/net0', 'k/net0', { count: 10 }));
  world.migrate(nicA(world), { bridge: 'br2' });
  assert.equal(nicA(world).document.bridge, 'br2');
  const lost = runOne(world, udp('a/net0', 'k/net0', { count: 10, rate: 10_000 }));
  assert.equal(lost.received, 0, 'nobody is there');
  world.migrate(nicA(world), { bridge: 'br0' });
  assert.equal(runOne(world, udp('a/net0', 'k/net0', { count: 10, rate: 10_000 })).received, 10);
  assert.equal(runOne(world, udp('k/net0', 'a/net0', { count: 10, rate: 10_000 })).received, 10);
  holds(world);
});

test('its events in order: stop, save, the new netdev, load, start, announcement', () => {
  const world = migrationWorld({ backend: 'vhost-net' });
  runOne(world, udp('a/net0', 'k/net0', { count: 10 }));
  const kinds = [
    E.QEMU_VM_STOP,
    E.QEMU_RING_STOP,
    E.QEMU_DEVICE_STATE,
    E.QEMU_NETDEV,
    E.QEMU_RING_START,
    E.QEMU_VM_START,
    E.VIRTIO_CONFIG_CHANGE,
  ];
  const seen = collect(world.machine, ...kinds);
  move(world, 'virtio-net');
  runOut(world);
  assert.deepEqual(
    seen.map((e) => E.KIND_BY_ID[e.kind]!.name),
    [
      'qemu.vm_stop',
      'qemu.ring_stop',
      'qemu.ring_stop',
      'qemu.device_state',
      'qemu.netdev',
      'qemu.device_state',
      'qemu.ring_start',
      'qemu.ring_start',
      'qemu.vm_start',
      'virtio.config_change',
    ],
  );
  const [saved, loaded] = seen.filter((e) => e.kind === E.QEMU_DEVICE_STATE);
  assert.deepEqual([saved!.b, loaded!.b, loaded!.a], [0, 1, saved!.a]);
  const { downtimeSeconds, phases, stateBytes } = nicMigration(nicA(world))!;
  assert.equal(stateBytes, saved!.a);
  const { announceSeconds, ...down } = phases;
  const sum = Object.values(down).reduce<number>((n, s) => n + s!, 0);
  assert.ok(Math.abs(sum - downtimeSeconds!) < 1e-9);
  assert.ok(announceSeconds! > 0);
});

test('a guest with two NICs: one changes its back-end, the other stops and goes on with the guest', () => {
  const nic = (name: string, backend: Backend, bridge: string, ip: string) => ({
    ...{ name, backend, bridge, driver: 'virtio-net', addresses: [ip] },
    features: { VIRTIO_F_RING_RESET: false },
  });
  const world = makeWorld({
    hosts: [
      {
        name: 'h1',
        cores: 16,
        bridges: [{ name: 'br0' }, { name: 'br1' }],
        guests: [
          {
            name: 'a',
            nics: [nic('net0', 'virtio-net', 'br0', '10.0.0.1/24'), nic('net1', 'vhost-net', 'br1', '10.1.0.1/24')],
          },
          { name: 'k', nics: [nic('net0', 'vhost-net', 'br0', '10.0.0.2/24')] },
          { name: 'l', nics: [nic('net0', 'vhost-net', 'br1', '10.1.0.2/24')] },
        ],
      },
    ],
  });
  runOne(world, udp('a/net0', 'k/net0', { count: 5 }));
  runOne(world, udp('a/net1', 'l/net0', { count: 5 }));
  const runs = (
    [
      ['a/net0', 'k/net0'],
      ['a/net1', 'l/net0'],
      ['l/net0', 'a/net1'],
    ] as const
  ).map(([from, to]) => world.startTraffic(udp(from, to, { count: 2000, rate: 200_000 })));
  for (const backend of ['vhost-net', 'virtio-net'] as const) {
    runFor(world, 2_000_000);
    world.migrate(nicA(world), { backend });
    holds(world);
  }
  runOut(world);
  holds(world);
  for (const { id } of runs) {
    const run = world.run(id);
    const dropped = Object.values(run.dropped).reduce((n, d) => n + d, 0);
    assert.equal(run.received + dropped, 2000, run.reason);
  }
  const [sent] = runs.map(({ id }) => world.run(id));
  assert.equal(sent!.received, 2000, 'what the guest has not sent is not lost');
});

test('while the clock is paused it waits, and what it takes is said afterwards', () => {
  const world = migrationWorld({ backend: 'virtio-net' });
  runOut(world);
  world.clock({ state: 'PAUSED' });
  world.migrate(nicA(world), { backend: 'vhost-net' });
  assert.deepEqual(
    [nicMigration(nicA(world))!.state, nicMigration(nicA(world))!.downtimeSeconds, nicA(world).document.backend],
    ['RUNNING', null, 'virtio-net'],
  );
  assert.throws(() => world.migrate(nicA(world), { backend: 'vhost-net' }), /is being given another back-end/);
  world.clock({ state: 'RUNNING' });
  runOut(world);
  assert.equal(nicMigration(nicA(world))!.state, 'COMPLETED');
  assert.equal(nicA(world).document.backend, 'vhost-net');
  holds(world);
});

test('the same commands at the same times do the same', () => {
  const once = () => {
    const world = migrationWorld({ backend: 'virtio-net', pairs: 4 });
    runOne(world, udp('a/net0', 'k/net0', { count: 20 }));
    world.startTraffic(udp('a/net0', 'k/net0', { count: 2000, rate: 300_000, flows: 8 }));
    for (const backend of ['vhost-net', 'virtio-net'] as const) {
      runFor(world, 700_000);
      move(world, backend);
    }
    runOut(world);
    return world.status().fingerprint;
  };
  assert.equal(once(), once());
});

test('nothing of the old netdev is left open', () => {
  const world = migrationWorld({ backend: 'virtio-net', pairs: 4 });
  runOut(world);
  const { fds } = nicA(world).setup.vmm.process;
  const open = new Map<Backend, number>();
  for (let round = 0; round < 3; round++) {
    for (const backend of ['vhost-net', 'vhost-user', 'virtio-net'] as const) {
      move(world, backend);
      runOut(world);
      // the file behind guest RAM is opened for the first vhost-user back-end, and is the guest's
      if (round === 0) continue;
      assert.equal(fds.open, open.get(backend) ?? fds.open, `${backend}, round ${round}`);
      open.set(backend, fds.open);
    }
  }
});

test.each(BACKENDS)('where the driver does not announce itself, a RARP does: to %s', (to) => {
  const from = to === 'virtio-net' ? 'vhost-net' : 'virtio-net';
  const world = migrationWorld({ backend: from, features: { VIRTIO_NET_F_GUEST_ANNOUNCE: false } });
  runOut(world);
  const { machine } = world;
  const born: string[] = [];
  watch(machine, (e) => {
    if (e.kind !== E.PACKET_BYTES || e.b !== 60) return;
    const at = machine.catalog.layout.byteRing + 8 * (e.a >>> 0);
    born.push(Buffer.from(machine.arena.u8.slice(at, at + 60)).toString('hex'));
  });
  const outputs = collect(machine, E.DP_OUTPUT);
  move(world, to);
  runOut(world);
  const mac = nicA(world)
    .document.mac.map((b) => b.toString(16).padStart(2, '0'))
    .join('');
  const rarp = born.filter((hex) => hex.slice(24, 28) === '8035');
  assert.deepEqual(rarp, [`ffffffffffff${mac}80350001080006040003${mac}00000000${mac}`.padEnd(120, '0')]);
  assert.equal(outputs.length, 2, 'the only other port gets it, and LOCAL');
  holds(world);
  // and whenever it is asked for
  world.announce(nicA(world));
  runOut(world);
  assert.equal(born.filter((hex) => hex.slice(24, 28) === '8035').length, 2);
  holds(world);
});

describe('refused, and nothing has changed', () => {
  const refused = (world: World, change: { backend?: Backend; bridge?: string }, field: string, text: RegExp) => {
    const before = world.status().fingerprint;
    assert.throws(
      () => world.migrate(nicA(world), change),
      (error) => error instanceof Refusal && error.error.field === field && text.test(error.message),
    );
    assert.equal(world.status().fingerprint, before);
    assert.equal(nicMigration(nicA(world)), null);
  };
  test('packed rings to vhost-net', () => {
    const world = migrationWorld({ backend: 'virtio-net', packed: true });
    refused(world, { backend: 'vhost-net' }, '/backend', /VIRTIO_F_RING_PACKED \(the vhost-net kernel module/);
  });
  test('offloads to Open vSwitch without userspace TSO', () => {
    const world = migrationWorld({ backend: 'virtio-net', features: { VIRTIO_NET_F_CSUM: true } });
    refused(world, { backend: 'vhost-user', bridge: 'br1' }, '/backend', /VIRTIO_NET_F_CSUM \(OVS disables it/);
  });
  test('resets of single rings to vhost-net', () => {
    const world = migrationWorld({ backend: 'virtio-net', features: { VIRTIO_F_RING_RESET: true } });
    refused(world, { backend: 'vhost-net' }, '/backend', /VIRTIO_F_RING_RESET/);
  });
  test('a back-end on a bridge of the other datapath, or on none', () => {
    const world = migrationWorld({ backend: 'virtio-net' });
    refused(world, { backend: 'vhost-user' }, '/bridge', /netdev/);
    refused(world, { bridge: 'br1' }, '/bridge', /netdev/);
    refused(world, { bridge: 'br9' }, '/bridge', /no bridge br9/);
  });
  test('a NIC without a driver, one without ioeventfd, and a guest that is paused', () => {
    refused(
      migrationWorld({ backend: 'virtio-net', nic: { driver: 'none' } }),
      { backend: 'vhost-net' },
      '/backend',
      /driver/,
    );
    refused(
      migrationWorld({ backend: 'virtio-net', nic: { ioeventfd: false } }),
      { backend: 'vhost-net' },
      '/backend',
      /ioeventfd/,
    );
    const world = migrationWorld({ backend: 'virtio-net' });
    world.guestState('a', 'paused');
    refused(world, { backend: 'vhost-net' }, '/backend', /paused/);
  });
});
