/** Memory of a driven guest is written by somebody else: its driver must not wait for ever for what the ring seems to say. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { deviceState } from '../../../src/lab/inspect.ts';
import { VIRTQ_DESC_F_AVAIL, VIRTQ_DESC_F_USED } from '../../../src/machine/wire/virtio-ring.ts';
import { makeWorld, pairDocument, runOut, udp } from './world-driver.ts';

test('a packed ring that says used where nothing is outstanding does not hold the vCPU', () => {
  const world = makeWorld(pairDocument('virtio-net', { nic: { packed: true } }));
  const nic = world.machine.guests[0]!.nics[0]!;
  const { descGpa, size } = deviceState(nic).nic.device.queues[1]!;
  const { u16 } = world.machine.arena;
  const at = (nic.guest.vm.ram + descGpa) >> 1;
  for (let i = 0; i < size; i++) u16[at + 8 * i + 7] = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
  world.startTraffic(udp('a/net0', 'b/net0', { count: 10 }));
  runOut(world);
  assert.equal(world.status().state, 'RUNNING');
});
