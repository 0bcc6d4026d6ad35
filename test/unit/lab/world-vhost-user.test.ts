/** Worlds with vhost-user: what is said on the socket, who listens, what both processes have open. */
import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { buildMachine } from '../../../src/lab/builder.ts';
import { VhostUserConnection } from '../../../src/lab/devices/netdev/vhost-user-connection.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { deviceState, findNic } from '../../../src/lab/inspect.ts';
import { World } from '../../../src/lab/world.ts';
import { VhostUserFrontend } from '../../../src/machine/vhost/user/frontend.ts';
import * as R from '../../../src/machine/wire/vhost-user-requests.ts';
import { scenario } from '../machine/vhost/user/golden.ts';
import { BRIDGE, migrationWorld, nicA } from './migration-worlds.ts';
import { collect, makeWorld, pairDocument, runOne, runOut, type SeenEvent, udp } from './world-driver.ts';

const LINUX = { driver: 'virtio-net' };
function boot(nic: object, ...kinds: number[]): { world: World; events: SeenEvent[] } {
  const document = pairDocument('vhost-user', { guests: ['a'], nic });
  const parsed = parseTopology({ recorder: { events: 1 << 16, bytes: '4MiB' }, ...document }, { name: 't' });
  assert.ok(parsed.ok);
  const machine = buildMachine(parsed.topology);
  const events = collect(machine, ...kinds);
  const world = new World(parsed.topology, machine);
  runOut(world);
  return { world, events };
}
function connectionOf(world: World, guest = 'a'): VhostUserConnection {
  const { backend } = deviceState(findNic(world.machine, guest, 'net0')).nic;
  assert.ok(backend instanceof VhostUserConnection);
  return backend;
}
/** Requests of QEMU in a recording, from the connection to DRIVER_OK. */
const recorded = (name: string): number[] =>
  scenario(name)
    .between(0, scenario(name).phase('virtio_net_probed')[1])
    .filter((m) => m.from === 'F')
    .map((m) => Number.parseInt(m.hex.slice(0, 2), 16));

describe('a world says what QEMU says', () => {
  it.each([
    ['plain', {}],
    ['mtu', { mtu: 1450 }],
    ['packed', { packed: true }],
    ['transitional', { transport: 'pci-transitional' }],
    ['queues2', { queuePairs: 2 }],
  ])('%s, from the connection to DRIVER_OK', (name, nic) => {
    const { events } = boot({ ...LINUX, ...nic }, E.VHOST_USER_REQUEST);
    assert.deepEqual(
      events.map((e) => e.a),
      recorded(name),
    );
  });
});

describe('the socket', () => {
  it('QEMU listens and the switch connects, or the other way round', () => {
    const sides = (nic: object): [number, number][] => {
      const { events } = boot({ ...LINUX, ...nic }, E.VHOST_USER_LISTEN, E.VHOST_USER_CONNECT, E.VHOST_USER_REQUEST);
      assert.equal(events[2]!.kind, E.VHOST_USER_REQUEST, 'nothing is said before');
      return events.slice(0, 2).map((e) => [e.kind, e.a]);
    };
    const server = [
      [E.VHOST_USER_LISTEN, 0],
      [E.VHOST_USER_CONNECT, 1],
    ];
    const client = [
      [E.VHOST_USER_LISTEN, 1],
      [E.VHOST_USER_CONNECT, 0],
    ];
    assert.deepEqual(sides({}), server);
    assert.deepEqual(sides({ vhostUser: { mode: 'server' } }), server);
    assert.deepEqual(sides({ vhostUser: { mode: 'client' } }), client);
    const { world } = boot({ vhostUser: { mode: 'client' } });
    assert.equal(connectionOf(world).backend.closed, false);
    const { wiring } = findNic(world.machine, 'a', 'net0');
    assert.ok(wiring.kind === 'vhost-user' && wiring.port.type === 'dpdkvhostuser');
  });
  it("the switch has the rings' descriptors, guest memory is mapped once, and all of it goes with the connection", () => {
    const { world } = boot(LINUX);
    const connection = connectionOf(world);
    const { process, vm } = findNic(world.machine, 'a', 'net0').setup.vmm;
    const ram = process.fds.file(connection.ramFd)!;
    const slots = connection.session.regions.length;
    assert.equal(connection.mappings.count, slots);
    // the socket, the second channel, kick, call and err of two rings, and one for each region
    assert.equal(connection.table.open, 2 + 3 * 2 + slots);
    assert.equal(ram.references, 1 + 2 * slots);
    const mapped = connection.session.regions.reduce((n, r) => n + r.memory_size, 0);
    assert.equal(mapped, vm.ramBytes - 0x2_0000, 'all but the window of the VGA');
    const before = process.fds.open;
    connection.disconnect();
    assert.equal(connection.table.open, 0);
    assert.equal(connection.mappings.count, 0);
    assert.equal(ram.references, 1);
    assert.equal(connection.frontend.closed, true);
    assert.equal(process.fds.open, before - 2, "QEMU's ends of both channels");
  });
  it('inflight: offered, and the memory for it shared before the rings', () => {
    const { world, events } = boot({ ...LINUX, vhostUser: { inflight: true } }, E.VHOST_USER_REQUEST);
    const said = events.map((e) => e.a);
    const at = said.indexOf(R.VHOST_USER_GET_INFLIGHT_FD);
    assert.deepEqual(said.slice(at - 1, at + 3), [
      R.VHOST_USER_SET_MEM_TABLE,
      R.VHOST_USER_GET_INFLIGHT_FD,
      R.VHOST_USER_SET_INFLIGHT_FD,
      R.VHOST_USER_SET_VRING_NUM,
    ]);
    assert.ok(connectionOf(world).backend.memory.splitTracker(0) !== null);
    const { events: without } = boot(LINUX, E.VHOST_USER_REQUEST);
    assert.ok(without.every((e) => e.a !== R.VHOST_USER_GET_INFLIGHT_FD));
  });
  it.each([{}, { mode: 'client' }, { inflight: true }])('frames go both ways with %j', (vhostUser) => {
    const world = makeWorld(pairDocument('vhost-user', { nic: { vhostUser } }));
    const result = runOne(world, udp('a/net0', 'b/net0', { count: 200 }));
    assert.equal(result.received, 200);
  });
});

describe('the dirty log', () => {
  it.each([
    ['split', {}],
    ['packed', { packed: true }],
  ])('%s: pages of used entries and of buffers that the switch filled are marked, others are not', (_, nic) => {
    const world = makeWorld(pairDocument('vhost-user', { nic: { ...LINUX, ...nic } }));
    runOne(world, udp('a/net0', 'b/net0', { count: 10 }));
    const connection = connectionOf(world, 'b');
    const { machine } = world;
    const vm = findNic(machine, 'b', 'net0').setup.vmm.vm;
    assert.ok(connection.frontend instanceof VhostUserFrontend);
    const log = connection.frontend.startLog();
    assert.ok(typeof log !== 'number');
    const before = machine.arena.u8.slice(vm.ram, vm.ram + vm.ramBytes);
    runOne(world, udp('a/net0', 'b/net0', { count: 50, frameSize: 900 }));
    const ring = connection.session.vrings[0]!;
    const touched = new Set<number>();
    for (let i = 0; i < before.length; i++) if (machine.arena.u8[vm.ram + i] !== before[i]) touched.add(i >> 12);
    const dirty = new Set(
      [...log].flatMap((b, i) => [0, 1, 2, 3, 4, 5, 6, 7].filter((n) => (b >> n) & 1).map((n) => 8 * i + n)),
    );
    const written = packed(nic) ? ring.desc_user_addr : ring.used_user_addr;
    assert.ok(dirty.has((written - connection.session.regions[0]!.userspace_addr) >> 12), 'the used ring');
    assert.ok(dirty.size > 5, 'buffers');
    // what is in a frame is in a page that is marked; pages that only the driver wrote need not be
    const frames = [...touched].filter((page) => filled(before, machine.arena.u8.subarray(vm.ram), page));
    assert.ok(frames.length > 5);
    for (const page of frames) assert.ok(dirty.has(page), `page ${page}`);
    assert.ok(dirty.size < 200, 'not everything');

    assert.equal(connection.frontend.stopLog(), 0);
    const stopped = log.slice();
    runOne(world, udp('a/net0', 'b/net0', { count: 20 }));
    assert.deepEqual(log, stopped);
  });
  const packed = (nic: object): boolean => 'packed' in nic;
  /** More than half of a page is new: frames, and not some words of the driver's. */
  function filled(before: Uint8Array, now: Uint8Array, page: number): boolean {
    let changed = 0;
    for (let i = page << 12; i < (page + 1) << 12; i++) if (before[i] !== now[i]) changed++;
    return changed > 600;
  }
});

describe('a migration', () => {
  it('begins with the log, as QEMU was recorded to say', () => {
    const world = migrationWorld({ backend: 'vhost-user' });
    runOut(world);
    const { process } = nicA(world).setup.vmm;
    const connection = connectionOf(world);
    const events = collect(world.machine, E.VHOST_USER_REQUEST);
    world.migrate(nicA(world), { backend: 'vhost-net', bridge: BRIDGE['vhost-net'] });
    runOut(world);
    const [first, last] = scenario('plain').phase('migrate');
    const want = scenario('plain')
      .between(first, last)
      .filter((m) => m.from === 'F')
      .map((m) => Number.parseInt(m.hex.slice(0, 2), 16));
    assert.deepEqual(
      events.slice(0, want.length).map((e) => e.a),
      want,
    );
    assert.equal(world.status().conservation.holds, true);
    assert.equal(connection.table.open, 0, 'the switch has let go of the port');
    assert.equal(connection.mappings.count, 0);
    assert.ok(connection.frontend.closed);
    const opened = process.fds.open;
    for (const to of ['vhost-user', 'vhost-net'] as const) {
      world.migrate(nicA(world), { backend: to, bridge: BRIDGE[to] });
      runOut(world);
    }
    assert.equal(process.fds.open, opened, 'QEMU has as much open as the last time');
  });
});

describe('the field of the document', () => {
  const faults = (backend: 'vhost-net' | 'vhost-user', vhostUser: object, guest: object = {}): string[] => {
    const document = pairDocument(backend, { guests: ['a'], nic: { vhostUser, driver: 'virtio-net' } }) as {
      hosts: { guests: object[] }[];
    };
    Object.assign(document.hosts[0]!.guests[0]!, guest);
    const parsed = parseTopology(document, { name: 't' });
    return parsed.ok ? [] : parsed.faults.map(({ pointer, code }) => `${pointer.replace(/.*nics\/0\//, '')} ${code}`);
  };
  it('is of vhost-user only, and has defaults', () => {
    assert.deepEqual(faults('vhost-user', {}), []);
    assert.deepEqual(faults('vhost-net', {}), ['vhostUser wrong-backend']);
    assert.deepEqual(faults('vhost-user', { mode: 'both' }), ['vhostUser/mode unknown-value']);
    assert.deepEqual(faults('vhost-user', { reconnectMs: -1 }), ['vhostUser/reconnectMs out-of-range']);
    assert.deepEqual(faults('vhost-user', { inflight: 1 }), ['vhostUser/inflight wrong-type']);
    const parsed = parseTopology(pairDocument('vhost-user', { guests: ['a'], nic: { vhostUser: {} } }), { name: 't' });
    assert.ok(parsed.ok);
    const whole = { mode: 'server', reconnectMs: 1000, inflight: false };
    assert.deepEqual(parsed.topology.hosts[0]!.guests[0]!.nics[0]!.vhostUser, whole);
    assert.deepEqual(parsed.document.hosts[0]!.guests![0]!.nics![0]!.vhostUser, whole);
  });
});
