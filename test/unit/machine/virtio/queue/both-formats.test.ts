/** Rules that both ring formats keep, shown on short sequences; random ones are in test/property/ring-formats.test.ts. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { AddressSpace } from '../../../../../src/machine/memory/address-space.ts';
import { Arena } from '../../../../../src/machine/memory/arena.ts';
import { CHAIN_WRONG_DIRECTION, type Chain } from '../../../../../src/machine/virtio/queue/device-queue.ts';
import { makeDeviceQueue, makeDriverQueue } from '../../../../../src/machine/virtio/queue/ring-queues.ts';
import { describeRing, ringPlace, ringPositions } from '../../../../../src/machine/virtio/queue/ring-view.ts';
import { VIRTQ_DESC_F_WRITE } from '../../../../../src/machine/wire/virtio-ring.ts';
import { AnyRing } from './any-ring.ts';
import { BUFFERS, pattern, SCRATCH } from './ring.ts';

const formats = [
  ['split', false],
  ['packed', true],
] as const;
const chain = (): Chain => ({ head: 0, readable: [], writable: [] });

/** A ring of any size in a memory that is as large as it has to be; buffers at BUFFERS. */
class BigRing {
  readonly arena = new Arena(24 * 65536);
  readonly device;
  readonly driver;
  constructor(packed: boolean, size: number) {
    const space = new AddressSpace();
    space.map(BUFFERS, 4096, BUFFERS);
    const desc = 0x2_0000;
    const avail = desc + 16 * size;
    const used = Math.ceil((avail + 6 + 2 * size) / 64) * 64;
    const common = { packed, size, eventIdx: true, frameOf: new Int32Array(size) };
    const areas = { desc, avail, used, mrgRxbuf: true, indirect: true, space };
    this.device = makeDeviceQueue(this.arena, this.arena.code.copy, { ...common, ...areas });
    const gpas = { descGpa: desc, driverGpa: avail, deviceGpa: used, ram: 0, indirectGpa: 0 };
    this.driver = makeDriverQueue(this.arena, { ...common, ...gpas });
  }
}

describe.each(formats)('%s', (_, packed) => {
  test('VIRTIO_F_IN_ORDER: transmit chains of a burst share one used entry, which names the last; the driver takes back all {core.reserved.16}', () => {
    const { driver, device, ...ring } = new AnyRing({ packed, inOrder: true });
    for (let i = 0; i < 5; i++) assert.equal(driver.add(BUFFERS + 64 * i, 60, 0, 10 + i), i);
    driver.publish();
    for (let i = 0; i < 5; i++) {
      assert.equal(device.available(), 5 - i);
      assert.equal(device.dequeue(SCRATCH, 2048), 60);
    }
    for (let i = 0; i < 5; i++) device.putUsed(i, 0);
    assert.equal(driver.usedReady(), 0);
    device.publishUsed();
    const view = ring.arena.view;
    // one entry was written: where the first chain's would be, with the last one's id
    if (packed) {
      const id = (i: number): number => view.getUint16(ring.desc + 16 * i + 12, true);
      const used = (i: number): boolean => view.getUint16(ring.desc + 16 * i + 14, true) === 0x8080;
      assert.deepEqual([id(0), used(0), used(1), used(4)], [4, true, false, false]);
    } else {
      assert.equal(view.getUint16(ring.used + 2, true), 5);
      assert.deepEqual(
        [0, 1, 2].map((i) => view.getUint32(ring.used + 4 + 8 * i, true)),
        [4, 0, 0],
      );
    }
    assert.equal(driver.usedReady(), 5);
    for (let i = 0; i < 5; i++) assert.equal(driver.takeUsed(), i);
    assert.equal(driver.num_free, 8);
  });

  test('VIRTIO_F_IN_ORDER: buffers that a device skips count as written completely, the named one as it says', () => {
    const ring = new AnyRing({ packed, inOrder: true });
    const { driver, arena } = ring;
    for (let i = 0; i < 3; i++) driver.add(BUFFERS + 256 * i, 100 + i, VIRTQ_DESC_F_WRITE, 0);
    driver.publish();
    // a device of its own: one entry for three buffers
    if (packed) ring.writeSlot(0, 0, 77, 2, 0x8082);
    else {
      arena.view.setUint32(ring.used + 4, 2, true);
      arena.view.setUint32(ring.used + 8, 77, true);
      arena.view.setUint16(ring.used + 2, 3, true);
    }
    assert.equal(driver.usedReady(), 3);
    const lengths = [0, 1, 2].map((i) => {
      assert.equal(driver.peekUsed(0), i);
      assert.equal(driver.takeUsed(), i);
      return driver.usedLength;
    });
    assert.deepEqual(lengths, [100, 101, 77]);
    assert.equal(driver.usedReady(), 0);
  });

  test('VIRTIO_F_IN_ORDER: a batch that is half taken keeps its length, and what is left of it counts as waiting', () => {
    const { driver, device } = new AnyRing({ packed, inOrder: true, size: 4, eventIdx: true });
    const post = (n: number): void => {
      for (let i = 0; i < n; i++) driver.add(BUFFERS, 60, 0, 0);
      driver.publish();
    };
    const use = (n: number, written: number): void => {
      assert.ok(device.available() >= n);
      const heads = Array.from({ length: n }, () => {
        device.dequeue(SCRATCH, 2048);
        return device.head;
      });
      for (const head of heads) device.putUsed(head, written);
      device.publishUsed();
    };
    driver.disableInterrupts();
    post(4);
    use(2, 0);
    assert.equal(driver.takeUsed(), 0);
    assert.equal(driver.usedReady(), 1);
    // split: the index of the event is still ahead; packed: any used chain that waits
    assert.equal(driver.enableInterruptsDelayed(), !packed);
    // the slot of the batch's entry is written again before its last chain is taken
    post(1);
    use(3, 9);
    assert.deepEqual([driver.takeUsed(), driver.usedLength], [1, 0]);
    for (const head of [2, 3, 0]) assert.deepEqual([driver.takeUsed(), driver.usedLength], [head, 9]);
    assert.equal(driver.num_free, 4);
  });

  test('after a reset of the queue the device has nothing to give back or to say; both begin anew {core.vqreset.1} {core.vqreset.2}', () => {
    const ring = new AnyRing({ packed, eventIdx: true });
    const { driver, device } = ring;
    for (let i = 0; i < 3; i++) driver.add(BUFFERS, 60, 0, 0);
    driver.publish();
    assert.equal(device.available(), 3);
    device.dequeue(SCRATCH, 2048);
    device.putUsed(device.head, 0);
    device.dequeue(SCRATCH, 2048);
    device.reset();
    const before = ring.guest();
    device.publishUsed();
    assert.deepEqual(ring.guest(), before, 'nothing is written');
    const heads = new Set<number>();
    for (let h = driver.detachUnused(); h >= 0; h = driver.detachUnused()) heads.add(h);
    assert.deepEqual(heads, new Set([0, 1, 2]));
    driver.reset();
    assert.ok(ring.bytes(ring.desc - ring.ram, 128).every((b) => b === 0));
    assert.deepEqual([driver.num_free, driver.usedReady(), device.available()], [8, 0, 0]);
    assert.equal(driver.add(BUFFERS, 60, 0, 0), 0);
    driver.publish();
    assert.equal(device.available(), 1);
    assert.equal(device.dequeue(SCRATCH, 2048), 60);
    device.usedChain(device.head, 0);
    assert.equal(driver.takeUsed(), 0);
  });

  test('a ring that is used again begins with kicks and interrupts wanted', () => {
    const ring = new AnyRing({ packed });
    ring.device.disableKicks();
    ring.driver.disableInterrupts();
    ring.device.reset();
    ring.driver.reset();
    assert.ok(ring.driver.kickWanted() && ring.device.interruptWanted());
  });

  test('a kick with nothing new: the device finds nothing {split.availsupp.12}', () => {
    const { driver, device } = new AnyRing({ packed });
    assert.equal(device.available(), 0);
    assert.equal(device.takeChain(chain()), 0);
    driver.add(BUFFERS, 60, 0, 0);
    driver.publish();
    assert.equal(device.takeChain(chain()), 1);
    for (let i = 0; i < 3; i++) assert.equal(device.takeChain(chain()), 0);
    assert.equal(device.last_avail_idx, 1);
    assert.equal(device.errors, 0);
  });

  test('a device-writable buffer is not transmitted from, and comes back {split.desc.2} {packed.desc.2}', () => {
    const ring = new AnyRing({ packed });
    ring.write(BUFFERS, pattern(60, 1));
    ring.arena.u8.fill(0x55, SCRATCH, SCRATCH + 64);
    ring.driver.add(BUFFERS, 60, VIRTQ_DESC_F_WRITE, 0);
    ring.driver.publish();
    assert.equal(ring.device.available(), 1);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), CHAIN_WRONG_DIRECTION);
    assert.ok(ring.arena.u8.subarray(SCRATCH, SCRATCH + 64).every((b) => b === 0x55));
    ring.device.usedChain(ring.device.head, 0);
    assert.equal(ring.driver.takeUsed(), 0);
    assert.equal(ring.driver.usedLength, 0);
  });

  test.each(packed ? [1, 3, 1000, 32_767, 32_768] : [1, 2, 1024, 32_768])('a queue of %i', (size) => {
    const ring = new BigRing(packed, size);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < size; i++) ring.driver.add(BUFFERS, 60, 0, i);
      assert.equal(ring.driver.num_free, 0);
      ring.driver.publish();
      assert.ok(ring.driver.kickWanted());
      assert.equal(ring.device.available(), size);
      for (let i = 0; i < size; i++) {
        assert.equal(ring.device.dequeue(16, 128), 60);
        ring.device.putUsed(ring.device.head, 0);
      }
      ring.device.publishUsed();
      assert.ok(ring.device.interruptWanted());
      assert.equal(ring.driver.usedReady(), size);
      for (let i = 0; i < size; i++) assert.ok(ring.driver.takeUsed() >= 0);
      ring.driver.enableInterrupts();
      ring.device.enableKicks(ring.device.last_avail_idx);
    }
    assert.equal(ring.driver.num_free, size);
  });

  test('requests: a chain is what the driver may read and what the device may write, in order', () => {
    const ring = new AnyRing({ packed, indirect: false });
    const { driver, device } = ring;
    ring.write(BUFFERS, Uint8Array.of(4, 0, 1, 0));
    driver.addChain(Int32Array.of(BUFFERS, BUFFERS + 2, BUFFERS + 16), Int32Array.of(2, 2, 1), 2, 1, 0);
    driver.publish();
    const c = chain();
    assert.equal(device.takeChain(c), 1);
    const at = BUFFERS + ring.ram;
    const readable = [
      { at, length: 2 },
      { at: at + 2, length: 2 },
    ];
    assert.deepEqual(c, { head: 0, readable, writable: [{ at: at + 16, length: 1 }] });
    device.usedChain(c.head, 1);
    assert.equal(driver.takeUsed(), 0);
    assert.deepEqual([driver.usedLength, driver.num_free], [1, 8]);
  });

  test.each([false, true])('described: what is wanted now follows from the words (event idx %s)', (eventIdx) => {
    const ring = new AnyRing({ packed, eventIdx, size: 4 });
    const { driver, device } = ring;
    const wanted = (): unknown => {
      const { suppression } = describeRing(ring.arena.view, ringPlace(device), ringPositions(device));
      return [suppression.kicksWanted, suppression.interruptsWanted];
    };
    for (let i = 0; i < 11; i++) {
      driver.disableInterrupts();
      driver.enableInterrupts();
      device.enableKicks(device.last_avail_idx);
      assert.deepEqual(wanted(), [true, true]);
      device.disableKicks();
      if (packed || !eventIdx) assert.deepEqual(wanted(), [false, true]);
      driver.add(BUFFERS, 60, 0, 0);
      driver.publish();
      device.available();
      device.dequeue(SCRATCH, 2048);
      device.usedChain(device.head, 0);
      driver.disableInterrupts();
      if (packed || !eventIdx) assert.deepEqual(wanted(), [false, false]);
      assert.equal(driver.takeUsed(), 0);
    }
  });
});

test('VIRTIO_F_NOTIFICATION_DATA: split names the available index, packed the next slot and its wrap counter {packed.desc.7}', () => {
  const split = new AnyRing({ packed: false });
  const packed = new AnyRing({ packed: true, size: 5 });
  const send = ({ driver, device }: AnyRing): void => {
    driver.add(BUFFERS, 60, 0, 0);
    driver.publish();
    device.available();
    device.dequeue(SCRATCH, 2048);
    device.usedChain(device.head, 0);
    driver.takeUsed();
  };
  // before anything: index 0; slot 0 with wrap counter 1
  assert.deepEqual([split.driver.notificationData(7), packed.driver.notificationData(7)], [7, 0x8000_0007]);
  const seen: number[] = [];
  for (let i = 0; i < 6; i++) {
    send(packed);
    seen.push(packed.driver.notificationData(1));
  }
  assert.deepEqual(seen, [0x8001_0001, 0x8002_0001, 0x8003_0001, 0x8004_0001, 0x0000_0001, 0x0001_0001]);
  for (let i = 0; i < 0x8002; i++) send(split);
  assert.equal(split.driver.notificationData(3), 0x8002_0003);
});
