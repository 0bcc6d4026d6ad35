/** Worlds whose guests ask for packed virtqueues: negotiated where the back-end has them, and nothing else changes. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { deviceState } from '../../../src/lab/inspect.ts';
import { hasFeature, VIRTIO_F_RING_PACKED } from '../../../src/machine/virtio/features.ts';
import { BACKENDS, makeWorld, pairDocument, ping, runOne, udp } from './world-driver.ts';

for (const driver of ['virtio-net', 'virtio-pmd'] as const) {
  test.each(BACKENDS)(`packed rings, ${driver}, %s`, (backend) => {
    for (const features of [{}, { VIRTIO_RING_F_EVENT_IDX: false }, { VIRTIO_NET_F_MRG_RXBUF: false }]) {
      const world = makeWorld(pairDocument(backend, { nic: { packed: true, driver, features } }));
      const answered = runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
      assert.equal(answered.received, 3);
      // more frames than the ring has entries: both wrap counters turn
      const r = runOne(world, udp('a/net0', 'b/net0', { count: 1500 }));
      assert.equal(r.sent, 1500);
      assert.equal(r.received + Object.values(r.dropped).reduce((n, d) => n + d, 0), 1500);
      assert.ok(r.received > 0);
      const { device } = deviceState(world.machine.guests[0]!.nics[0]!).nic;
      // the kernel's vhost has no packed rings
      assert.equal(hasFeature(device.driverFeatures, VIRTIO_F_RING_PACKED), backend !== 'vhost-net');
      assert.equal(world.failed, null);
    }
  });
}
