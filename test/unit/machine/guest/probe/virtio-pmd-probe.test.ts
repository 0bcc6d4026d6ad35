import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import type { PciAccess } from '../../../../../src/machine/guest/probe/probe-types.ts';
import { probeVirtioPmd } from '../../../../../src/machine/guest/probe/virtio-pmd-probe.ts';
import { firmwareInit, SEABIOS_Q35_ASSIGNMENT } from '../../../../../src/machine/guest/probe/virtio-probe.ts';
import {
  featureNames,
  hasFeature,
  NO_FEATURES,
  VIRTIO_RING_F_EVENT_IDX,
} from '../../../../../src/machine/virtio/features.ts';
import { VirtioPciDevice } from '../../../../../src/machine/virtio/pci-transport.ts';
import { BASIC_NET_FEATURES } from '../../virtio/basic-features.ts';

const MAC = [0x52, 0x54, 0, 0, 0, 1];
function probe(alloc: () => number, wanted?: typeof NO_FEATURES) {
  const log: string[] = [];
  const device = new VirtioPciDevice({
    mac: MAC,
    offered: BASIC_NET_FEATURES,
    queueSizes: [256, 256],
    hooks: {
      onReset: () => log.push('reset'),
      onStatus: (s) => log.push(`status ${s}`),
      onQueueEnable: (q) => log.push(`enable ${q.index}`),
    },
  });
  const bus: PciAccess = {
    cfgRead: (o, w) => device.readConfig(o, w),
    cfgWrite: (o, w, v) => device.writeConfig(o, w, v),
    barRead: (b, o, w) => device.readBar(b, o, w),
    barWrite: (b, o, w, v) => device.writeBar(b, o, w, v),
  };
  firmwareInit(bus, SEABIOS_Q35_ASSIGNMENT);
  return { device, log, result: probeVirtioPmd(bus, { alloc }, wanted) };
}

describe('DPDK virtio PMD probe', () => {
  it('reaches DRIVER_OK without event index and without interrupts, rings on pages', () => {
    let next = 0x100000;
    const { device, log, result } = probe(() => {
      next += 0x4000;
      return next;
    });
    assert.ok(result.failed === undefined);
    assert.equal(result.status, 0xf);
    assert.deepEqual(result.mac, MAC);
    assert.equal(hasFeature(result.features, VIRTIO_RING_F_EVENT_IDX), false);
    assert.deepEqual(featureNames(result.features), [
      'VIRTIO_NET_F_MAC',
      'VIRTIO_NET_F_MRG_RXBUF',
      'VIRTIO_NET_F_STATUS',
      'VIRTIO_RING_F_INDIRECT_DESC',
      'VIRTIO_F_VERSION_1',
    ]);
    assert.deepEqual(log, ['reset', 'status 1', 'status 3', 'status 11', 'enable 0', 'enable 1', 'status 15']);
    assert.equal(device.refused, 0);
    assert.equal(device.msixEnabled, false);
    // As in the recorded virtio-user handshake: avail after the table, used on the next page.
    const q = result.queues[0]!;
    assert.deepEqual([q.driverGpa - q.descGpa, q.deviceGpa - q.descGpa, q.notifyOffset], [0x1000, 0x2000, 0x3000]);
    assert.equal(device.queues[1]!.deviceGpa, result.queues[1]!.deviceGpa);
  });
  it('fails with a reason', () => {
    assert.deepEqual(probe(() => -1).result, { failed: 'queue 0: no memory for a ring of 256', status: 0x8b });
    assert.equal(probe(() => 0x1000, NO_FEATURES).result.status, 0x83);
  });
});
