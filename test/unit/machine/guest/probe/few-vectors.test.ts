/** Interrupts of a device that has fewer vectors than queues, or none: what the Linux driver makes of it (virtio 1.4 §4.1.5.1.2). */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { probe } from './driver-bus.ts';

describe('the Linux driver', () => {
  test('a vector each, then one for all queues, then the pin {pci.msix.14}', () => {
    const NO_VECTOR = 0xffff;
    for (const [vectors, wanted] of [
      [4, [1, 2]],
      [3, [1, 2]],
      [2, [1, 1]],
      [1, [NO_VECTOR, NO_VECTOR]],
      [0, [NO_VECTOR, NO_VECTOR]],
    ] as const) {
      const { result, bus } = probe('virtio-net', { vectors });
      assert.ok(result.failed === undefined, result.failed);
      assert.deepEqual(
        result.queues.slice(0, 2).map((q) => q.msixVector),
        wanted,
        `${vectors} vectors`,
      );
      assert.equal(bus.writes('common.device_status').at(-1), 0xf);
    }
    // a device that has vectors and refuses them
    const refused = probe('virtio-net', { lie: (name, value) => (name.endsWith('msix_vector') ? NO_VECTOR : value) });
    assert.ok(refused.result.failed === undefined, refused.result.failed);
    for (const q of refused.result.queues) assert.equal(q.msixVector, NO_VECTOR);
  });

  test('at the pin one interrupt may be a changed configuration and used buffers: it is asked once, and answers both {pci.msix.17}', () => {
    const { result, device, bus } = probe('virtio-net', { vectors: 0 });
    assert.ok(result.failed === undefined);
    device.notifyQueue(0);
    device.setLinkUp(false);
    const from = bus.log.length;
    assert.equal(result.binding.takeInterrupt(), 3);
    assert.deepEqual(
      bus.log.slice(from).map((a) => `${a.op} ${a.name}`),
      ['read isr'],
    );
    assert.equal(result.binding.readStatusField() & 1, 0);
    assert.equal(result.binding.takeInterrupt(), 0, 'and the next is another one');
  });
});
