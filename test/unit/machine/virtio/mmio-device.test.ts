/** What the specification asks of a device on virtio-mmio (virtio 1.4 §4.2), by a driver that writes registers itself. */

import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { RandomStream } from '../../../../src/engine/random.ts';
import { type Features, featuresOf, orFeatures, VIRTIO_F_RING_RESET } from '../../../../src/machine/virtio/features.ts';
import type { VirtioMmioDevice, VirtioMmioOptions } from '../../../../src/machine/virtio/mmio-transport.ts';
import { virtio_mmio as M, VIRTIO_MMIO_CONFIG } from '../../../../src/machine/wire/virtio-mmio.ts';
import { makeMmio } from '../guest/probe/mmio-bus.ts';
import { BASIC_NET_FEATURES } from './basic-features.ts';

const OFFERED = orFeatures(BASIC_NET_FEATURES, featuresOf(VIRTIO_F_RING_RESET));
const read = (d: VirtioMmioDevice, at: number): number => d.read(at, 4);
const write = (d: VirtioMmioDevice, at: number, value: number): void => d.write(at, 4, value);

function setUp(d: VirtioMmioDevice, queue: number, size: number, at: number): void {
  write(d, M.QUEUE_SEL, queue);
  write(d, M.QUEUE_NUM, size);
  for (const [low, address] of [
    [M.QUEUE_DESC_LOW, at],
    [M.QUEUE_AVAIL_LOW, at + 0x4000],
    [M.QUEUE_USED_LOW, at + 0x8000],
  ] as const) {
    write(d, low, address);
    write(d, low + 4, 0);
  }
  write(d, M.QUEUE_READY, 1);
}
/** A device that a driver has brought to DRIVER_OK, with queues 0 and 1. */
function live(options: Partial<VirtioMmioOptions> = {}, features: Features = OFFERED): VirtioMmioDevice {
  const d = makeMmio({ offered: OFFERED, ...options });
  for (const status of [0, 1, 3]) write(d, M.STATUS, status);
  for (const [select, word] of [features.lo, features.hi].entries()) {
    write(d, M.DRIVER_FEATURES_SEL, select);
    write(d, M.DRIVER_FEATURES, word);
  }
  write(d, M.STATUS, 0xb);
  for (const queue of [0, 1]) setUp(d, queue, 256, 0x10_0000 * (queue + 1));
  write(d, M.STATUS, 0xf);
  assert.equal(read(d, M.STATUS), 0xf);
  return d;
}
const ready = (d: VirtioMmioDevice, queue: number): number => {
  write(d, M.QUEUE_SEL, queue);
  return read(d, M.QUEUE_READY);
};

test('magic value and version, in any state {mmio.dev.1} {mmio.dev.2}', () => {
  for (const d of [makeMmio(), live()]) {
    const check = (): void => assert.deepEqual([read(d, M.MAGIC_VALUE), read(d, M.VERSION)], [0x7472_6976, 2]);
    check();
    // they are read-only
    write(d, M.MAGIC_VALUE, 1);
    write(d, M.VERSION, 1);
    check();
    write(d, M.STATUS, 0);
    check();
  }
});

describe('InterruptStatus', () => {
  test('a bit stands until it is acknowledged, and that one alone goes {mmio.dev.3}', () => {
    const levels: boolean[] = [];
    const d = live({ hooks: { onIntx: (up) => levels.push(up) } });
    d.notifyQueue(0);
    d.setLinkUp(false);
    for (let i = 0; i < 3; i++) assert.equal(read(d, M.INTERRUPT_STATUS), 3);
    read(d, M.STATUS);
    write(d, M.QUEUE_NOTIFY, 0);
    assert.equal(read(d, M.INTERRUPT_STATUS), 3);
    write(d, M.INTERRUPT_ACK, 2);
    assert.equal(read(d, M.INTERRUPT_STATUS), 1);
    write(d, M.INTERRUPT_ACK, 0xffff_fffe);
    assert.equal(read(d, M.INTERRUPT_STATUS), 1);
    assert.deepEqual(levels, [true]);
    write(d, M.INTERRUPT_ACK, 1);
    assert.equal(read(d, M.INTERRUPT_STATUS), 0);
    assert.deepEqual(levels, [true, false]);
    // the next event sets it again
    d.notifyQueue(1);
    assert.equal(read(d, M.INTERRUPT_STATUS), 1);
  });

  test('only the two bits of events are ever set, whatever is written {mmio.dev.4}', () => {
    const random = new RandomStream(3, 'mmio');
    const d = live();
    let seen = 0;
    for (let i = 0; i < 5000; i++) {
      const at = 4 * random.below(0x48);
      if (at === M.STATUS) continue;
      write(d, at, random.below(0x1_0000_0000));
      if (random.below(4) === 0) d.notifyQueue(random.below(3));
      if (random.below(4) === 0) d.setLinkUp(random.below(2) === 1);
      const status = read(d, M.INTERRUPT_STATUS);
      assert.equal(status & ~3, 0);
      seen |= status;
    }
    assert.equal(seen, 3);
  });
});

test('a reset clears InterruptStatus and QueueReady of every queue {mmio.dev.5}', () => {
  const d = live();
  d.notifyQueue(0);
  d.setLinkUp(false);
  assert.deepEqual([read(d, M.INTERRUPT_STATUS), ready(d, 0), ready(d, 1)], [3, 1, 1]);
  write(d, M.STATUS, 0);
  assert.equal(read(d, M.STATUS), 0);
  assert.deepEqual([read(d, M.INTERRUPT_STATUS), ready(d, 0), ready(d, 1), ready(d, 2)], [0, 0, 0, 0]);
  assert.equal(d.asserted, false);
});

test('ConfigGeneration is another one after each change, so that a torn read is seen {mmio.dev.6}', () => {
  const d = live();
  let up = true;
  for (let i = 0; i < 600; i++) {
    const before = read(d, M.CONFIG_GENERATION);
    const first = d.read(VIRTIO_MMIO_CONFIG + 6, 1);
    assert.equal(read(d, M.CONFIG_GENERATION), before, 'reading changes nothing');
    up = !up;
    d.setLinkUp(up);
    assert.notEqual(d.read(VIRTIO_MMIO_CONFIG + 6, 1), first);
    assert.notEqual(read(d, M.CONFIG_GENERATION), before);
  }
});

test('a queue that is not ready is not looked at: no notification is heard, none is sent, and its back-end has let go {mmio.dev.7}', () => {
  const heard: number[] = [];
  const gone: number[] = [];
  const levels: boolean[] = [];
  const hooks = {
    onNotify: (queue: number) => void heard.push(queue),
    onQueueReset: (q: { index: number }) => void gone.push(q.index),
    onIntx: (up: boolean) => void levels.push(up),
  };
  const d = live({ hooks });
  write(d, M.QUEUE_NOTIFY, 1);
  write(d, M.QUEUE_NOTIFY, 2);
  assert.deepEqual(heard, [1], 'queue 2 was never ready');
  write(d, M.QUEUE_SEL, 1);
  write(d, M.QUEUE_READY, 0);
  assert.equal(read(d, M.QUEUE_READY), 0);
  assert.deepEqual(gone, [1]);
  write(d, M.QUEUE_NOTIFY, 1);
  d.notifyQueue(1);
  assert.deepEqual([heard, levels], [[1], []]);
  // the other one goes on
  write(d, M.QUEUE_NOTIFY, 0);
  d.notifyQueue(0);
  assert.deepEqual([heard, levels], [[1, 0], [true]]);
});

describe('QueueReset', () => {
  test('1 resets the queue: 1 while that runs, then QueueReset and QueueReady are 0, and the registers as at first {mmio.dev.9}', () => {
    const during: number[][] = [];
    const d: VirtioMmioDevice = live({
      hooks: {
        onQueueReset: (q) => {
          during.push([q.index, read(d, M.QUEUE_RESET), read(d, M.QUEUE_READY)]);
        },
      },
    });
    write(d, M.QUEUE_SEL, 1);
    write(d, M.QUEUE_RESET, 1);
    assert.deepEqual(during, [[1, 1, 0]]);
    assert.deepEqual([read(d, M.QUEUE_RESET), read(d, M.QUEUE_READY)], [0, 0]);
    const q = d.queues[1]!;
    assert.deepEqual([q.size, q.descGpa, q.driverGpa, q.deviceGpa], [256, 0, 0, 0]);
    assert.equal(ready(d, 0), 1, 'the other one goes on');
  });

  test('0 after a reset of the device, and once the queue is ready again, with another ring {mmio.dev.8}', () => {
    const d = live();
    write(d, M.QUEUE_SEL, 0);
    write(d, M.QUEUE_RESET, 1);
    setUp(d, 0, 64, 0x80_0000);
    assert.deepEqual([read(d, M.QUEUE_RESET), read(d, M.QUEUE_READY)], [0, 1]);
    assert.deepEqual([d.queues[0]!.size, d.queues[0]!.descGpa], [64, 0x80_0000]);
    write(d, M.QUEUE_RESET, 1);
    write(d, M.STATUS, 0);
    for (const queue of [0, 1, 2]) {
      write(d, M.QUEUE_SEL, queue);
      assert.equal(read(d, M.QUEUE_RESET), 0);
    }
  });

  test('without RING_RESET nothing happens', () => {
    const d = live({}, BASIC_NET_FEATURES);
    write(d, M.QUEUE_SEL, 1);
    write(d, M.QUEUE_RESET, 1);
    assert.deepEqual([read(d, M.QUEUE_RESET), read(d, M.QUEUE_READY)], [0, 1]);
  });
});
