/** A queue that the driver enables after DRIVER_OK: QEMU's own data path and vhost-net take it up, vhost-user with the next start. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { conservation } from '../../../src/lab/inspect.ts';
import { BareDriver, bareWorld } from './bare-driver.ts';
import { BACKENDS, collect } from './world-driver.ts';

const REST = [0x4008af10, 0x4008af12, 0x4028af11, 0x4008af20, 0x4008af21, 0x4008af30];

describe.each(BACKENDS)('%s', (backend) => {
  test('a transmit queue that comes late', () => {
    const driver = new BareDriver(bareWorld(backend));
    driver.negotiate();
    driver.place(0, driver.areas(0));
    driver.status(15);
    const ioctls = collect(driver.world.machine, E.VHOST_IOCTL);
    const sent = collect(driver.world.machine, E.DP_INGRESS);
    driver.place(1, driver.areas(1));
    // the ring alone: VRING_NUM, _BASE, _ADDR, _KICK, _CALL, and the tap (qemu vhost_net_virtqueue_restart())
    assert.deepEqual(
      ioctls.map((e) => e.a),
      backend === 'vhost-net' ? REST : [],
    );
    driver.give(1, [driver.arp()]);
    if (backend === 'vhost-user') {
      assert.equal(sent.length, 0, 'the back-end has not been told of the ring');
      driver.world.guestState('a', 'paused');
      driver.world.guestState('a', 'running');
      driver.kick(1);
    }
    assert.ok(sent.length >= 1);
    assert.equal(driver.usedIdx(1), 1);
    assert.ok(conservation(driver.world.machine).holds);
  });
});
