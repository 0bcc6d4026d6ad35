/**
 * What the specification asks of a device about features, status and reset, whatever transport it has: here over PCI, by a
 * driver that writes registers itself.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import {
  andFeatures,
  type Features,
  featuresOf,
  isSubset,
  minusFeatures,
  orFeatures,
  VIRTIO_F_VERSION_1,
  withoutOrphans,
} from '../../../../src/machine/virtio/features.ts';
import { QEMU_NET_DEFAULTS } from '../../../../src/machine/virtio/net/net-offers.ts';
import type { VirtioPciDevice } from '../../../../src/machine/virtio/pci-transport.ts';
import { virtio_pci_common_cfg as C } from '../../../../src/machine/wire/pci.ts';
import { MAC, makeDevice } from '../guest/probe/driver-bus.ts';

const OFFERED = withoutOrphans(orFeatures(QEMU_NET_DEFAULTS, featuresOf(VIRTIO_F_VERSION_1)));
const VERSION_1 = featuresOf(VIRTIO_F_VERSION_1);
const features = fc.record({ lo: fc.nat(0xffff_ffff), hi: fc.nat(0xffff_ffff) }, { noNullPrototype: true });

const read = (d: VirtioPciDevice, field: { offset: number; width: number }): number =>
  d.readBar(4, field.offset, field.width);
const write = (d: VirtioPciDevice, field: { offset: number; width: number }, value: number): void =>
  d.writeBar(4, field.offset, field.width, value);
/** From reset to FEATURES_OK; whether it stands. */
function negotiate(d: VirtioPciDevice, f: Features): boolean {
  for (const status of [0, 1, 3]) write(d, C.device_status, status);
  for (const [select, word] of [f.lo, f.hi].entries()) {
    write(d, C.driver_feature_select, select);
    write(d, C.driver_feature, word);
  }
  write(d, C.device_status, 0xb);
  return (read(d, C.device_status) & 8) !== 0;
}
function enableQueue(d: VirtioPciDevice, queue: number): void {
  write(d, C.queue_select, queue);
  write(d, C.queue_desc_lo, 0x1_0000 + 0x4000 * queue);
  write(d, C.queue_driver_lo, 0x1_1000 + 0x4000 * queue);
  write(d, C.queue_device_lo, 0x1_2000 + 0x4000 * queue);
  write(d, C.queue_enable, 1);
}
const notify = (d: VirtioPciDevice, queue: number): void => d.writeBar(4, 0x3000 + 4 * queue, 2, queue);

describe('features', () => {
  test('every subset whose bits have what they need is accepted, and again after a reset {core.features.10} {core.features.13}', () => {
    fc.assert(
      fc.property(fc.array(features, { minLength: 1, maxLength: 4 }), (subsets) => {
        const d = makeDevice({ offered: OFFERED });
        for (const subset of subsets) {
          const wanted = withoutOrphans(orFeatures(andFeatures(subset, OFFERED), VERSION_1));
          assert.ok(negotiate(d, wanted));
          assert.ok(negotiate(d, wanted), 'refused later');
        }
      }),
      { numRuns: 300, verbose: 1 },
    );
  });

  test('a set that is not acceptable leaves FEATURES_OK clear: bits that were not offered, or lack others {core.features.11}', () => {
    fc.assert(
      fc.property(features, (set) => {
        const d = makeDevice({ offered: OFFERED });
        const wanted = orFeatures(set, VERSION_1);
        if (!isSubset(wanted, OFFERED)) assert.ok(!negotiate(d, wanted));
      }),
      { numRuns: 300, verbose: 1 },
    );
    // Bits that need others, without them: GUEST_TSO4, GUEST_ECN, HOST_TSO4, CTRL_RX.
    for (const bit of [7, 9, 11, 18]) {
      assert.ok(!negotiate(makeDevice({ offered: OFFERED }), featuresOf(bit, VIRTIO_F_VERSION_1)), `bit ${bit}`);
    }
  });

  test('without VERSION_1 the device refuses to work {core.reserved.13}', () => {
    assert.ok(!negotiate(makeDevice({ offered: OFFERED }), minusFeatures(OFFERED, VERSION_1)));
  });

  test('every field of the configuration can be read before FEATURES_OK {core.config.6}', () => {
    const d = makeDevice({ offered: OFFERED });
    for (const status of [0, 1, 3]) {
      write(d, C.device_status, status);
      assert.deepEqual(
        [0, 1, 2, 3, 4, 5].map((i) => d.readBar(4, 0x2000 + i, 1)),
        MAC,
      );
      assert.equal(d.readBar(4, 0x2006, 2) & 1, 1, 'link up');
    }
  });
});

describe('status', () => {
  test('no doorbell is heard before DRIVER_OK, and none is answered by an interrupt {core.status.5}', () => {
    const heard: number[] = [];
    const messages: number[] = [];
    const d = makeDevice({
      offered: OFFERED,
      hooks: { onNotify: (queue) => heard.push(queue), onMsi: (vector) => messages.push(vector) },
    });
    d.writeConfig(4, 2, 0x107);
    d.writeConfig(0x9a, 2, 0x8000);
    const ring = (): void => {
      for (const queue of [0, 1]) notify(d, queue);
    };
    ring();
    assert.ok(negotiate(d, OFFERED));
    for (const queue of [0, 1]) {
      write(d, C.queue_select, queue);
      write(d, C.queue_msix_vector, 1 + queue);
      d.writeBar(1, 16 * (1 + queue) + 12, 4, 0);
    }
    ring();
    for (const queue of [0, 1]) enableQueue(d, queue);
    ring();
    assert.deepEqual([heard, messages], [[], []]);
    write(d, C.device_status, 0xf);
    notify(d, 1);
    assert.deepEqual(heard, [1], 'and from then on it is');
  });

  test('a reset ends with status 0, and nothing of the queues is left until they are set up again {core.reset.1} {core.reset.2}', () => {
    const heard: number[] = [];
    const d = makeDevice({ offered: OFFERED, hooks: { onNotify: (queue) => heard.push(queue) } });
    d.writeConfig(4, 2, 0x107);
    d.writeConfig(0x9a, 2, 0x8000);
    const start = (): void => {
      assert.ok(negotiate(d, OFFERED));
      for (const queue of [0, 1]) {
        write(d, C.queue_select, queue);
        write(d, C.queue_msix_vector, 1);
        enableQueue(d, queue);
      }
      write(d, C.device_status, 0xf);
    };
    start();
    notify(d, 0);
    assert.deepEqual(heard, [0]);
    write(d, C.device_status, 0);
    assert.equal(read(d, C.device_status), 0);
    for (const queue of [0, 1]) {
      notify(d, queue);
      assert.equal(d.notifyQueue(queue), null);
      write(d, C.queue_select, queue);
      assert.equal(read(d, C.queue_enable), 0);
    }
    assert.deepEqual(heard, [0]);
    start();
    notify(d, 0);
    assert.deepEqual(heard, [0, 0]);
  });

  test('a live driver is told of DEVICE_NEEDS_RESET by a configuration change, once {core.status.8}', () => {
    for (const live of [true, false]) {
      const messages: number[] = [];
      const changes: number[] = [];
      const d = makeDevice({
        offered: OFFERED,
        hooks: { onMsi: (vector) => messages.push(vector), onConfigChange: (_, status) => changes.push(status) },
      });
      d.writeConfig(4, 2, 0x107);
      d.writeConfig(0x9a, 2, 0x8000);
      assert.ok(negotiate(d, OFFERED));
      write(d, C.config_msix_vector, 0);
      d.writeBar(1, 12, 4, 0);
      for (const queue of [0, 1]) enableQueue(d, queue);
      if (live) write(d, C.device_status, 0xf);
      // a ring that is set up where none can be, and then another
      for (const queue of [2, 2]) {
        write(d, C.queue_select, queue);
        write(d, C.queue_desc_lo, 0x1_0008);
        write(d, C.queue_enable, 1);
      }
      assert.equal(read(d, C.device_status), live ? 0x4f : 0x4b);
      assert.deepEqual(messages, live ? [0] : []);
      assert.deepEqual(changes, live ? [0x4f] : []);
      // the pin and ISR of a device without vectors
      const pin: boolean[] = [];
      const old = makeDevice({ offered: OFFERED, hooks: { onIntx: (up) => pin.push(up) } });
      old.writeConfig(4, 2, 0x107);
      assert.ok(negotiate(old, OFFERED));
      if (live) write(old, C.device_status, 0xf);
      old.needsReset();
      assert.deepEqual(pin, live ? [true] : []);
      assert.equal(old.readBar(4, 0x1000, 1) & 2, live ? 2 : 0);
    }
  });

  test('an error that only a reset cures is DEVICE_NEEDS_RESET {core.status.7}', () => {
    const d = makeDevice({ offered: OFFERED });
    assert.ok(negotiate(d, OFFERED));
    write(d, C.queue_select, 0);
    write(d, C.queue_desc_lo, 0x1_0008);
    write(d, C.queue_enable, 1);
    assert.equal(read(d, C.device_status) & 0x40, 0x40);
    write(d, C.device_status, 0);
    assert.equal(read(d, C.device_status), 0);
    assert.ok(negotiate(d, OFFERED));
  });
});
