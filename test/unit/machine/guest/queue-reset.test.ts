/** Where drivers put their rings, and a queue that is reset and set up anew (VIRTIO_F_RING_RESET, virtio 1.4 §2.6.1). */

import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import type { Probed } from '../../../../src/machine/guest/probe/probe-types.ts';
import { LINUX_6_1_VIRTIO_NET_FEATURES } from '../../../../src/machine/guest/probe/virtio-probe.ts';
import {
  type Features,
  featuresOf,
  minusFeatures,
  orFeatures,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
} from '../../../../src/machine/virtio/features.ts';
import type { QueueRegisters } from '../../../../src/machine/virtio/virtio-device-types.ts';
import { BASIC_NET_FEATURES } from '../virtio/basic-features.ts';
import { DRIVERS, type Lie, type Probe, probe, WANTED } from './probe/driver-bus.ts';

const PACKED = featuresOf(VIRTIO_F_RING_PACKED);
const RESET = featuresOf(VIRTIO_F_RING_RESET);
const MEMORY = 0x200_0000;

function probed(p: Probe): Probed {
  assert.equal(p.result.failed, undefined);
  return p.result as Probed;
}

describe.each(DRIVERS)('%s', (driver) => {
  test('packed rings are aligned to 16 bytes, their event areas to 4 {packed.layout.1}', () => {
    for (const size of [1, 2, 3, 5, 7, 64, 100, 255, 256, 1021, 32_768]) {
      const offered = orFeatures(BASIC_NET_FEATURES, PACKED);
      const wanted = orFeatures(WANTED[driver], PACKED);
      const { device, result } = probe(driver, { offered, wanted, queueSizes: [size, size, size] });
      if (result.failed !== undefined) {
        // DPDK wants powers of two of its own
        assert.ok(driver === 'virtio-pmd' && (size & (size - 1)) !== 0, `size ${size}: ${result.failed}`);
        continue;
      }
      const enabled = device.queues.filter((q) => q.enabled);
      assert.ok(enabled.length >= 2);
      for (const q of enabled) {
        assert.deepEqual([q.descGpa % 16, q.driverGpa % 4, q.deviceGpa % 4], [0, 0, 0], `size ${size}`);
        const areas = [
          [q.descGpa, 16 * size],
          [q.driverGpa, 4],
          [q.deviceGpa, 4],
        ] as const;
        for (const [a, bytes] of areas) {
          for (const [b] of areas) assert.ok(a === b || b < a || b >= a + bytes, 'areas lie apart');
        }
      }
    }
  });
});

describe.each([
  ['split', RESET],
  ['packed', orFeatures(RESET, PACKED)],
] as const)('%s: the Linux driver resets a queue', (_, more: Features) => {
  const start = (lie?: Lie) => {
    const live: { index: number; size: number; areas: number[] }[] = [];
    const gone: number[] = [];
    const notified: number[] = [];
    const hooks = {
      onQueueEnable: (q: QueueRegisters) =>
        void live.push({ index: q.index, size: q.size, areas: [q.descGpa, q.driverGpa, q.deviceGpa] }),
      onQueueReset: (q: QueueRegisters) => void gone.push(q.index),
      onNotify: (queue: number) => void notified.push(queue),
    };
    const offered = orFeatures(BASIC_NET_FEATURES, more);
    const wanted = orFeatures(LINUX_6_1_VIRTIO_NET_FEATURES, more);
    const p = probe('virtio-net', { offered, wanted, hooks, ...(lie === undefined ? {} : { lie }) });
    const { binding, queues } = probed(p);
    let next = MEMORY;
    const alloc = (bytes: number, align: number): number => {
      const at = Math.ceil(next / align) * align;
      next = at + bytes;
      return at;
    };
    const from = p.bus.log.length;
    const resize = (index: number, size: number) => binding.resizeQueue(index, size, { alloc });
    return { p, queues, live, gone, notified, resize, log: () => p.bus.log.slice(from) };
  };

  test('and goes on only when the device says that it is done {core.vqreset.3} {pci.common.23}', () => {
    let reads = 0;
    const { resize, log, gone } = start((name, value, all) => {
      const asked = all.some((a) => a.op === 'write' && a.name === 'common.queue_reset');
      return asked && name === 'common.queue_reset' && ++reads < 20 ? 1 : value;
    });
    assert.equal(typeof resize(1, 128), 'object');
    assert.deepEqual(gone, [1]);
    const accesses = log();
    const asked = accesses.findIndex((a) => a.op === 'write' && a.name === 'common.queue_reset');
    assert.equal(accesses[asked]!.value, 1);
    const done = accesses.findIndex((a, i) => i > asked && a.name === 'common.queue_reset' && a.value === 0);
    assert.ok(done - asked >= 20);
    for (const a of accesses.slice(asked + 1, done)) assert.deepEqual([a.op, a.name], ['read', 'common.queue_reset']);
    // queue_enable is looked at, too
    assert.deepEqual([accesses[done + 1]!.name, accesses[done + 1]!.value], ['common.queue_enable', 0]);
  });

  test('and gives up on a device that never finishes, without touching the queue', () => {
    const { resize, log, live } = start((name, value, all) => {
      const asked = all.some((a) => a.op === 'write' && a.name === 'common.queue_reset');
      return asked && name === 'common.queue_reset' ? 1 : value;
    });
    const before = live.length;
    assert.equal(typeof resize(1, 128), 'string');
    assert.equal(live.length, before);
    assert.ok(!log().some((a) => a.op === 'write' && /queue_(size|desc|driver|device|enable)/.test(a.name)));
  });

  test('sets it up as at first, and the device takes another size and place {core.vqreset.5} {core.vqreset.6} {pci.common.24} {pci.common.25}', () => {
    const { p, queues, live, notified, resize, log } = start();
    const { bus, device } = p;
    /** What is written for a queue, from where it is selected to where it is enabled: names in order, each once. */
    const setUp = (all: typeof bus.log, index: number): string[] => {
      let selected = -1;
      const names: string[] = [];
      for (const { op, name, value } of all) {
        if (op !== 'write' || !name.startsWith('common.queue_')) continue;
        if (name === 'common.queue_select') selected = value;
        else if (selected === index && name !== 'common.queue_reset') names.push(name);
      }
      return names;
    };
    const first = setUp(bus.log, 0);
    for (const size of [64, 16, 256]) {
      const q = resize(0, size);
      assert.ok(typeof q === 'object', String(q));
      assert.deepEqual([q.index, q.size, q.msixVector], [0, size, queues[0]!.msixVector]);
      const areas = [q.descGpa, q.driverGpa, q.deviceGpa];
      assert.ok(areas.every((at) => at >= MEMORY));
      assert.deepEqual(live.at(-1), { index: 0, size, areas });
      const registers = device.queues[0]!;
      assert.deepEqual(
        [registers.size, registers.descGpa, registers.driverGpa, registers.deviceGpa, registers.enabled],
        [size, ...areas, true],
      );
      assert.equal(registers.msixVector, queues[0]!.msixVector);
      bus.barWrite(q.notifyBar, q.notifyOffset, 2, 0);
      assert.equal(notified.at(-1), 0, 'it is heard again');
    }
    // the same registers as in the first discovery, three times
    assert.deepEqual(setUp(log(), 0), [...first, ...first, ...first]);
    // the other queues are as they were
    assert.equal(live.filter((l) => l.index !== 0).length, queues.length - 1);
  });
});

test('without RING_RESET no queue is reset', () => {
  const offered = minusFeatures(BASIC_NET_FEATURES, RESET);
  const p = probe('virtio-net', { offered, wanted: LINUX_6_1_VIRTIO_NET_FEATURES });
  assert.equal(typeof probed(p).binding.resizeQueue(0, 64, { alloc: () => MEMORY }), 'string');
  assert.equal(p.bus.writes('common.queue_reset').length, 0);
});
