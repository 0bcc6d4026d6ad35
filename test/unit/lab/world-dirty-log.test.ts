/**
 * The dirty log while a migration begins: with vhost-net the workers mark each page that they write, in memory of QEMU's. Whoever
 * copies the guest's memory by it misses nothing.
 */
import { expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { DirtyBits } from '../../../src/machine/vhost/dirty-bits.ts';
import {
  VHOST_SET_FEATURES,
  VHOST_SET_LOG_BASE,
  VHOST_SET_VRING_ADDR,
} from '../../../src/machine/vhost/kernel/vhost-net.ts';
import { migrationWorld } from './migration-worlds.ts';
import { collect, makeWorld, pairDocument, ping, runOne, runOut, udp } from './world-driver.ts';

const COUNT = 300;

test.each([1, 2])('every byte that a worker writes lies in a page that is marked (%i queue pairs)', (queuePairs) => {
  const world = makeWorld(pairDocument('vhost-net', { nic: { queuePairs } }));
  runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
  runOut(world);
  const { machine } = world;
  const { vm, nics } = machine.guests.find((g) => g.name === 'b')!;
  const device = nics[0]!.setup.states[0]!.nic;
  const bits = device.startLog();
  expect(bits).not.toBe(null);
  const log = new DirtyBits(bits!);
  expect(log.covers).toBeGreaterThanOrEqual(vm.ramBytes);
  const ram = (): Uint8Array => machine.arena.u8.slice(vm.ram, vm.ram + vm.ramBytes);
  const before = ram();
  runOne(world, udp('a/net0', 'b/net0', { count: COUNT, flows: 8, frameSize: 1000 }));
  const after = ram();
  const changed = (gpa: number, length: number): boolean =>
    after.subarray(gpa, gpa + length).some((byte, i) => byte !== before[gpa + i]);
  const view = new DataView(after.buffer);
  let buffers = 0;
  for (const queue of device.device.queues.slice(0, 2 * queuePairs)) {
    if (!queue.enabled) continue;
    const used = 6 + 8 * queue.size;
    if (changed(queue.deviceGpa, used)) expect(log.isDirty(queue.deviceGpa)).toBe(true);
    if ((queue.index & 1) === 1) continue;
    for (let i = 0; i < queue.size; i++) {
      const gpa = Number(view.getBigUint64(queue.descGpa + 16 * i, true));
      const length = view.getUint32(queue.descGpa + 16 * i + 8, true);
      if (!changed(gpa, length)) continue;
      buffers++;
      expect(log.isDirty(gpa)).toBe(true);
      expect(log.isDirty(gpa + length - 1)).toBe(true);
    }
  }
  expect(buffers).toBeGreaterThan(100);
  // and what nobody wrote is not marked
  expect(log.isDirty(vm.ramBytes - 1)).toBe(false);
});

test('a NIC that leaves vhost-net has its log first, as QEMU begins a migration', () => {
  const world = migrationWorld({ backend: 'vhost-net' });
  runOne(world, udp('a/net0', 'k/net0', { count: 20 }));
  const ioctls = collect(world.machine, E.VHOST_IOCTL);
  world.migrate(world.machine.guests[0]!.nics[0]!, { backend: 'virtio-net', bridge: 'br0' });
  const seen = ioctls.map(({ a }) => a >>> 0);
  expect(seen.slice(0, 4)).toEqual([
    VHOST_SET_LOG_BASE,
    VHOST_SET_FEATURES,
    VHOST_SET_VRING_ADDR,
    VHOST_SET_VRING_ADDR,
  ]);
  expect(runOne(world, udp('k/net0', 'a/net0', { count: 100, rate: 50_000 })).received).toBe(100);
});
