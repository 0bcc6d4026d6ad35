/** Single rules of rings that random runs do not come to. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { AnyRing } from './any-ring.ts';
import { BUFFERS, pattern, Ring, SCRATCH, USED } from './ring.ts';

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const TABLE = 0xa000;

describe('split ring', () => {
  test('WRITE on the entry that points at an indirect table has no meaning, whichever way the table goes {split.indirect.6}', () => {
    for (const flags of [INDIRECT, INDIRECT | WRITE]) {
      const out = new Ring();
      const bytes = pattern(72, 9);
      out.write(BUFFERS, bytes);
      out.descriptor(0, BUFFERS, 12, NEXT, 1, TABLE + out.ram);
      out.descriptor(1, BUFFERS + 12, 60, 0, 0, TABLE + out.ram);
      out.descriptor(4, TABLE, 32, flags, 0);
      out.offer(4);
      assert.equal(out.device.dequeue(SCRATCH, 2048), 72);
      assert.deepEqual(out.arena.u8.slice(SCRATCH, SCRATCH + 72), bytes);

      const back = new Ring();
      back.descriptor(0, BUFFERS, 12, NEXT | WRITE, 1, TABLE + back.ram);
      back.descriptor(1, BUFFERS + 12, 100, WRITE, 0, TABLE + back.ram);
      back.descriptor(4, TABLE, 32, flags, 0);
      back.offer(4);
      back.arena.u8.set(bytes.fill(0, 0, 12), SCRATCH);
      assert.equal(back.device.enqueue(SCRATCH, 72), 1);
      assert.deepEqual(back.bytes(BUFFERS + 12, 60), bytes.slice(12));
    }
  });

  test('direct entries and then one indirect: the chain goes on in the table {split.indirect.7}', () => {
    for (const direct of [1, 2, 3]) {
      const ring = new Ring();
      const bytes = pattern(100, 5);
      ring.write(BUFFERS, bytes);
      for (let i = 0; i < direct; i++) ring.descriptor(i, BUFFERS + 4 * i, 4, NEXT, i + 1);
      ring.descriptor(direct, TABLE, 32, INDIRECT, 0);
      ring.descriptor(0, BUFFERS + 4 * direct, 10, NEXT, 1, TABLE + ring.ram);
      ring.descriptor(1, BUFFERS + 4 * direct + 10, 60, 0, 0, TABLE + ring.ram);
      ring.offer(0);
      const total = 4 * direct + 70;
      assert.equal(ring.device.dequeue(SCRATCH, 2048), total);
      assert.deepEqual(ring.arena.u8.slice(SCRATCH, SCRATCH + total), bytes.slice(0, total));
    }
  });

  test('a ring that is used again begins with used.flags 0 {split.availsupp.1}', () => {
    const ring = new Ring();
    ring.device.disableKicks();
    assert.equal(ring.arena.view.getUint16(USED + ring.ram, true), 1);
    ring.driver.reset();
    assert.equal(ring.arena.view.getUint16(USED + ring.ram, true), 0);
  });

  test('a device may set a bound on the descriptors of a chain: 1024 here {split.framing.2}', () => {
    // A table of 1024 entries of one byte each is taken, one more is refused.
    for (const [entries, taken] of [
      [1024, true],
      [1025, false],
    ] as const) {
      const ring = new Ring();
      for (let i = 0; i < entries; i++) {
        ring.descriptor(i, BUFFERS + i, 1, i + 1 < entries ? NEXT : 0, i + 1, TABLE + ring.ram);
      }
      ring.descriptor(0, TABLE, 16 * entries, INDIRECT, 0);
      ring.offer(0);
      assert.equal(ring.device.dequeue(SCRATCH, 2048) === entries, taken);
    }
  });
});

describe('packed ring', () => {
  test('a notification names the slot and wrap counter of the next descriptor {packed.desc.7}', () => {
    for (const size of [1, 3, 8]) {
      const ring = new AnyRing({ packed: true, size, indirect: false });
      const { driver, device } = ring;
      let slot = 0;
      let wrap = 1;
      for (let i = 0; i < 5 * size; i++) {
        driver.add(BUFFERS, 60, 0, 0);
        driver.publish();
        if (++slot === size) {
          slot = 0;
          wrap ^= 1;
        }
        assert.equal(driver.notificationData(7), (7 | (slot << 16) | (wrap << 31)) >>> 0);
        device.available();
        device.dequeue(SCRATCH, 2048);
        device.usedChain(device.head, 0);
        driver.takeUsed();
      }
    }
  });

  test('a list that is longer than the device takes is refused {packed.sg.8}', () => {
    const ring = new AnyRing({ packed: true, size: 2048 / 16, indirect: true });
    const { view } = ring.arena;
    for (let i = 0; i < 1025; i++) {
      view.setBigUint64(TABLE + ring.ram + 16 * i, BigInt(BUFFERS + i), true);
      view.setUint32(TABLE + ring.ram + 16 * i + 8, 1, true);
      view.setUint32(TABLE + ring.ram + 16 * i + 12, 0, true);
    }
    for (const [slot, entries, taken] of [
      [0, 1024, true],
      [1, 1025, false],
    ] as const) {
      ring.writeSlot(slot, TABLE, 16 * entries, slot, INDIRECT | (1 << 7));
      assert.equal(ring.device.available(), 1);
      assert.equal(ring.device.dequeue(SCRATCH, 2048) === entries, taken);
    }
  });
});
