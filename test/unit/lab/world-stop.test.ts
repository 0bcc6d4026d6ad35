/** A guest that QEMU stops and lets go on under traffic, and a link that goes down and up. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { conservation, deviceState } from '../../../src/lab/inspect.ts';
import { nicLink } from '../../../src/lab/qemu-commands.ts';
import type { World } from '../../../src/lab/world.ts';
import { scenario, unhex } from '../machine/vhost/user/golden.ts';
import {
  BACKENDS,
  type Backend,
  collect,
  makeWorld,
  pairDocument,
  runOne,
  runOut,
  udp,
  watch,
} from './world-driver.ts';

const nicOf = (world: World, guest: number) => world.machine.guests[guest]!.nics[0]!;
const vmmOf = (world: World, guest: number) => nicOf(world, guest).setup.vmm;

function worldOf(backend: Backend, packed: boolean, pairs = 1): World {
  const multi = pairs > 1 ? { queuePairs: pairs } : {};
  const host = backend === 'vhost-user' ? {} : { cores: 16 };
  const guests = ['a', 'b'].map((name, i) => ({
    name,
    vcpus: pairs,
    nics: [{ name: 'net0', backend, driver: 'virtio-net', packed, addresses: [`10.0.0.${i + 1}/24`], ...multi }],
  }));
  return makeWorld(pairDocument(backend, { host: { ...host, guests } }));
}
/** Runs at most so long, ns of virtual time. */
function runFor(world: World, ns: number): void {
  world.clock({ untilSeconds: (world.now + ns) / 1e9 });
  runOut(world);
  world.clock({ state: 'RUNNING' });
}

const CASES = BACKENDS.flatMap((backend) =>
  (backend === 'vhost-net' ? [false] : [false, true]).map((packed) => ({ backend, packed })),
);

describe.each(CASES)('$backend, packed $packed', ({ backend, packed }) => {
  test.each([0, 1])('guest %i is stopped in the middle of a run, and goes on where it was', (which) => {
    const world = worldOf(backend, packed);
    runOne(world, udp('a/net0', 'b/net0', { count: 5 }));
    const kinds = [E.QEMU_VM_STOP, E.QEMU_RING_STOP, E.QEMU_RING_START, E.QEMU_VM_START];
    const seen = collect(world.machine, ...kinds);
    const run = world.startTraffic(udp('a/net0', 'b/net0', { count: 3000, rate: 400_000 }));
    runFor(world, 1_000_000);
    const name = which === 0 ? 'a' : 'b';
    assert.deepEqual(world.guestState(name, 'paused'), { guest: name, state: 'paused', done: true });
    assert.equal(deviceState(nicOf(world, which)).nic.servedBy, null);
    const at = world.now;
    runFor(world, 500_000);
    assert.ok(world.now >= at);
    assert.equal(world.run(run.id).state, 'RUNNING', 'nobody gives the run up');
    assert.ok(conservation(world.machine).holds);
    world.guestState(name, 'running');
    assert.equal(deviceState(nicOf(world, which)).nic.servedBy, 'backend');
    runOut(world);
    const result = world.run(run.id);
    const dropped = Object.values(result.dropped).reduce((n, d) => n + d, 0);
    assert.equal(result.received + dropped, 3000);
    if (which === 0) assert.equal(dropped, 0, 'what the guest has not sent is not lost');
    assert.ok(conservation(world.machine).holds);
    const ofKind = (kind: number) => seen.filter((e) => e.kind === kind);
    assert.equal(ofKind(E.QEMU_VM_STOP).length, 1);
    assert.equal(ofKind(E.QEMU_VM_START).length, 1);
    const stood = ofKind(E.QEMU_RING_STOP).map((e) => [e.a, e.b]);
    assert.equal(stood.length, 2);
    assert.deepEqual(
      ofKind(E.QEMU_RING_START).map((e) => e.a),
      stood.map(([queue]) => queue),
    );
    assert.equal(runOne(world, udp('b/net0', 'a/net0', { count: 50 })).received, 50);
  });

  test('the base that the rings are handed over with is where they stood', () => {
    const world = worldOf(backend, packed);
    runOne(world, udp('a/net0', 'b/net0', { count: 700, rate: 100_000 }));
    const { nic } = deviceState(nicOf(world, 0));
    const before = nic.positions();
    const device = (q: number) => nicOf(world, 0).wiring.pairs[0]!.pair.ring(q === 0 ? 'rx' : 'tx')!;
    const counts = [0, 1].map((q) => device(q).last_avail_idx);
    world.guestState('a', 'paused');
    const stood = nic.positions();
    const low = (base: number | null) => base! & 0xffff;
    assert.deepEqual(stood.map(low), before.map(low));
    if (backend === 'virtio-net') assert.deepEqual(stood, before);
    world.guestState('a', 'running');
    assert.deepEqual(nic.positions(), before);
    assert.deepEqual(
      [0, 1].map((q) => device(q).last_avail_idx),
      counts,
    );
    assert.ok(counts[1]! >= 700);
    assert.equal(runOne(world, udp('a/net0', 'b/net0', { count: 700, rate: 100_000 })).received, 700);
  });

  test('a link that is down: the driver knows, nothing passes, everything is counted', () => {
    const world = worldOf(backend, packed);
    runOne(world, udp('a/net0', 'b/net0', { count: 5 }));
    const state = world.link(nicOf(world, 1), false);
    runOut(world);
    const servedBy = backend === 'virtio-net' ? 'backend' : 'userspace';
    assert.deepEqual(state, { guest: 'b', nic: 'net0', up: false, servedBy });
    assert.equal(nicOf(world, 1).nic.link!.up, false);
    const lost = runOne(world, udp('a/net0', 'b/net0', { count: 40, rate: 50_000 }));
    assert.equal(lost.received, 0);
    const reason = backend === 'vhost-user' ? 'vhost_user.rx_full' : 'virtio_net.link_down';
    assert.deepEqual(lost.dropped, { [reason]: 40 });
    // what the guest sends is QEMU's to drop, whatever the back-end is
    const sent = runOne(world, udp('b/net0', 'a/net0', { count: 40, rate: 50_000 }));
    assert.deepEqual(sent.dropped, { 'virtio_net.link_down': 40 });
    assert.ok(conservation(world.machine).holds);
    world.link(nicOf(world, 1), true);
    runOut(world);
    assert.equal(nicLink(nicOf(world, 1)).servedBy, 'backend');
    assert.equal(nicOf(world, 1).nic.link!.up, true);
    assert.equal(runOne(world, udp('a/net0', 'b/net0', { count: 40, rate: 50_000 })).received, 40);
    assert.equal(runOne(world, udp('b/net0', 'a/net0', { count: 40, rate: 50_000 })).received, 40);
    assert.ok(conservation(world.machine).holds);
  });
});

/** Requests of the front-end in a phase of a recorded conversation, and those whose bytes carry a base. */
function recorded(name: string, phase: string): number[] {
  const golden = scenario(name);
  return golden
    .between(...golden.phase(phase))
    .filter((m) => m.from === 'F')
    .map((m) => unhex(m.hex)[0]!);
}
test.each([
  ['plain', false],
  ['packed', true],
] as const)('vhost-user is stopped and started by the messages of QEMU 7.2, as recorded: %s', (name, packed) => {
  const world = worldOf('vhost-user', packed);
  runOne(world, udp('a/net0', 'b/net0', { count: 7 }));
  const { machine } = world;
  const requests: number[] = [];
  const place = nicOf(world, 0).wiring.backendPlace;
  watch(machine, (e) => {
    if (e.kind === E.VHOST_USER_REQUEST && e.place === place) requests.push(e.a);
  });
  const sent = (): number[] => requests.splice(0);
  world.guestState('a', 'paused');
  assert.deepEqual(sent(), recorded(name, 'qmp_stop'));
  world.guestState('a', 'running');
  assert.deepEqual(sent(), recorded(name, 'qmp_cont'));
  if (name !== 'plain') return;
  world.link(nicOf(world, 0), false);
  assert.deepEqual(sent(), recorded(name, 'qmp_set_link_off'));
  world.link(nicOf(world, 0), true);
  assert.deepEqual(sent(), recorded(name, 'qmp_set_link_on'));
});

test('what QEMU is asked for is done when the clock goes on', () => {
  const world = worldOf('vhost-net', false);
  runOut(world);
  world.clock({ state: 'PAUSED' });
  assert.deepEqual(world.guestState('a', 'paused'), { guest: 'a', state: 'paused', done: false });
  world.clock({ state: 'RUNNING' });
  runOut(world);
  assert.ok(vmmOf(world, 0).paused);
});

test('vhost-net that does not start: the main loop carries the frames, and hands them back at the next start', () => {
  const world = worldOf('vhost-net', false);
  runOut(world);
  const seen = collect(world.machine, E.QEMU_VHOST_FALLBACK);
  const { backend } = deviceState(nicOf(world, 0)).nic;
  assert.ok(backend.kind === 'vhost-net');
  const { carrier } = backend.frontend;
  const ioctl = carrier.ioctl.bind(carrier);
  let refuse = false;
  carrier.ioctl = (request, payload) => (refuse && (request & 0xff) === 0x30 ? -22 : ioctl(request, payload));
  world.guestState('a', 'paused');
  refuse = true;
  world.guestState('a', 'running');
  assert.deepEqual(
    seen.map((e) => e.a),
    [22],
  );
  assert.equal(deviceState(nicOf(world, 0)).nic.servedBy, 'userspace');
  const slow = runOne(world, udp('a/net0', 'b/net0', { count: 200, rate: 100_000 }));
  assert.equal(slow.received, 200);
  assert.ok(slow.perFrame.syscalls >= 1, 'a system call for each frame');
  assert.equal(runOne(world, udp('b/net0', 'a/net0', { count: 200, rate: 100_000 })).received, 200);
  refuse = false;
  world.guestState('a', 'paused');
  world.guestState('a', 'running');
  assert.equal(deviceState(nicOf(world, 0)).nic.servedBy, 'backend');
  const fast = runOne(world, udp('a/net0', 'b/net0', { count: 200, rate: 100_000 }));
  assert.equal(fast.received, 200);
  assert.equal(fast.perFrame.syscalls, 0);
  assert.ok(conservation(world.machine).holds);
});
