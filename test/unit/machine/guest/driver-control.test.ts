import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import {
  featuresOf,
  hasFeature,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_MAC,
} from '../../../../src/machine/virtio/features.ts';
import { VIRTIO_CONFIG_S_FEATURES_OK } from '../../../../src/machine/virtio/status.ts';
import { DRIVERS, probe, WANTED } from './probe/driver-bus.ts';

describe('features of a control queue that is not offered', () => {
  for (const driver of DRIVERS) {
    it(`are not negotiated: ${driver} {net.config.27} {net.config.28}`, () => {
      for (const bit of [VIRTIO_NET_F_HASH_REPORT, VIRTIO_NET_F_CTRL_RX_EXTRA]) {
        const offered = featuresOf(VIRTIO_F_VERSION_1, VIRTIO_NET_F_MAC, bit);
        const wanted = { ...WANTED[driver] };
        const { device, result } = probe(driver, { offered, wanted });
        if (result.failed !== undefined)
          assert.equal(device.status & VIRTIO_CONFIG_S_FEATURES_OK, 0, 'given up before');
        else assert.ok(!hasFeature(result.features, bit));
        const { result: whole } = probe(driver, {
          offered: featuresOf(VIRTIO_F_VERSION_1, VIRTIO_NET_F_MAC, VIRTIO_NET_F_CTRL_VQ, bit),
          wanted,
        });
        assert.equal(whole.failed, undefined);
        if (whole.failed === undefined) assert.equal(hasFeature(whole.features, bit), hasFeature(wanted, bit));
      }
    });
  }
});
