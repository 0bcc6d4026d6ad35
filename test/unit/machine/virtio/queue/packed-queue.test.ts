/** Packed chains of every shape, as the device takes or refuses them; drivers and devices that change their minds. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import {
  CHAIN_BAD_ADDRESS,
  CHAIN_BAD_HEAD,
  CHAIN_BAD_INDIRECT,
  CHAIN_TOO_LONG,
  CHAIN_TOO_SMALL,
  CHAIN_WRONG_DIRECTION,
  RING_BROKEN,
} from '../../../../../src/machine/virtio/queue/device-queue.ts';
import {
  PVIRTQ_DESC_ALIGN,
  PVIRTQ_EVENT_ALIGN,
  pvirtq_desc,
  pvirtq_event_suppress,
} from '../../../../../src/machine/wire/virtio-ring.ts';
import { AnyRing } from './any-ring.ts';
import { BUFFERS, pattern, RAM_END, SCRATCH } from './ring.ts';

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const AVAIL = 0x80;
const USED = 0x8000;
const TABLE = 0xa000;

const ringOf = (options: { size?: number; indirect?: boolean; eventIdx?: boolean } = {}): AnyRing =>
  new AnyRing({ packed: true, ...options });

test('the structures are as long and as aligned as the specification has them', () => {
  assert.deepEqual(
    [pvirtq_desc.SIZE, pvirtq_desc.len.offset, pvirtq_desc.id.offset, pvirtq_desc.flags.offset],
    [16, 8, 12, 14],
  );
  assert.deepEqual([pvirtq_event_suppress.SIZE, pvirtq_event_suppress.flags.offset], [4, 2]);
  assert.deepEqual([PVIRTQ_DESC_ALIGN, PVIRTQ_EVENT_ALIGN], [16, 4]);
});

describe('transmit chains', () => {
  test('a list is gathered in ring order, also over the end of the ring; its id is the last one’s {packed.sg.7}', () => {
    const ring = ringOf({ size: 3 });
    const bytes = pattern(72, 9);
    ring.write(BUFFERS, bytes);
    // two chains before, so that the list begins in the last slot
    for (let i = 0; i < 2; i++) ring.writeSlot(i, BUFFERS, 20, i, AVAIL);
    assert.equal(ring.device.available(), 2);
    for (let i = 0; i < 2; i++) {
      ring.device.dequeue(SCRATCH, 2048);
      ring.device.usedChain(i, 0);
    }
    ring.writeSlot(0, BUFFERS + 5, 7, 77, USED | NEXT);
    ring.writeSlot(1, BUFFERS + 12, 60, 2, USED);
    ring.writeSlot(2, BUFFERS, 5, 99, AVAIL | NEXT);
    assert.equal(ring.device.available(), 1);
    assert.deepEqual([ring.device.peekHead(0), ring.device.peekBytes(0)], [2, 72]);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), 72);
    assert.equal(ring.device.head, 2);
    assert.deepEqual(ring.arena.u8.slice(SCRATCH, SCRATCH + 72), bytes);
    ring.device.usedChain(2, 0);
    // used where the list began, with the device's wrap counter, and the next one behind the list's end
    assert.deepEqual([ring.slot(2).id, ring.slot(2).flags], [2, AVAIL | USED]);
    ring.writeSlot(2, BUFFERS, 20, 0, USED);
    ring.device.available();
    ring.device.dequeue(SCRATCH, 2048);
    ring.device.usedChain(0, 0);
    assert.deepEqual([ring.slot(2).id, ring.slot(2).flags], [0, 0]);
  });

  test('in a table: every flag but WRITE and every id is ignored (virtio 1.2 §2.8.7)', () => {
    const ring = ringOf();
    const bytes = pattern(72, 3);
    ring.write(BUFFERS, bytes);
    ring.writeSlot(0, BUFFERS, 12, 99, INDIRECT | USED, TABLE + ring.ram);
    ring.writeSlot(1, BUFFERS + 12, 60, 5, NEXT | AVAIL, TABLE + ring.ram);
    ring.writeSlot(0, TABLE, 32, 4, INDIRECT | WRITE | AVAIL);
    assert.equal(ring.device.available(), 1);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), 72);
    assert.equal(ring.device.head, 4);
    assert.deepEqual(ring.arena.u8.slice(SCRATCH, SCRATCH + 72), bytes);
  });

  const bad: readonly [string, number, (ring: AnyRing) => unknown][] = [
    ['an address behind the memory', CHAIN_BAD_ADDRESS, (r) => r.writeSlot(0, RAM_END - 59, 60, 3, AVAIL)],
    ['an address of 64 bits', CHAIN_BAD_ADDRESS, (r) => r.writeSlot(0, (1n << 32n) + BigInt(BUFFERS), 60, 3, AVAIL)],
    ['an address that wraps', CHAIN_BAD_ADDRESS, (r) => r.writeSlot(0, (1n << 64n) - 16n, 60, 3, AVAIL)],
    ['a frame that is too long', CHAIN_TOO_LONG, (r) => r.writeSlot(0, BUFFERS, 2049, 3, AVAIL)],
    ['less than a header', CHAIN_TOO_SMALL, (r) => r.writeSlot(0, BUFFERS, 11, 3, AVAIL)],
    ['a device-writable descriptor', CHAIN_WRONG_DIRECTION, (r) => r.writeSlot(0, BUFFERS, 60, 3, AVAIL | WRITE)],
    ['a table of no whole number', CHAIN_BAD_INDIRECT, (r) => r.writeSlot(0, TABLE, 40, 3, AVAIL | INDIRECT)],
    ['an empty table', CHAIN_BAD_INDIRECT, (r) => r.writeSlot(0, TABLE, 0, 3, AVAIL | INDIRECT)],
    ['a table outside the memory', CHAIN_BAD_INDIRECT, (r) => r.writeSlot(0, RAM_END - 16, 32, 3, AVAIL | INDIRECT)],
    ['a table of too many', CHAIN_TOO_LONG, (r) => r.writeSlot(0, TABLE, 16 * 1025, 3, AVAIL | INDIRECT)],
  ];
  test.each(bad)('%s is refused, counted and given back; the next chain is taken', (_, code, prepare) => {
    const ring = ringOf();
    prepare(ring);
    ring.poison(0xee);
    assert.equal(ring.device.available(), 1);
    assert.ok(ring.device.peekBytes(0) >= 0);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), code);
    assert.deepEqual([ring.device.head, ring.device.errors], [3, 1]);
    ring.device.usedChain(3, 0);
    assert.deepEqual([ring.slot(0).id, ring.slot(0).len, ring.slot(0).flags], [3, 0, AVAIL | USED]);
    ring.writeSlot(1, BUFFERS, 60, 0, AVAIL);
    assert.equal(ring.device.available(), 1);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), 60);
    assert.ok(ring.poisoned(0xee));
  });

  test('a table in a list is refused; a table where the feature was not negotiated too', () => {
    const ring = ringOf();
    ring.writeSlot(0, BUFFERS, 12, 3, AVAIL | NEXT);
    ring.writeSlot(1, TABLE, 32, 3, AVAIL | INDIRECT);
    ring.device.available();
    assert.equal(ring.device.dequeue(SCRATCH, 2048), CHAIN_BAD_INDIRECT);
    const without = ringOf({ indirect: false });
    without.writeSlot(0, TABLE, 32, 3, AVAIL | INDIRECT);
    without.device.available();
    assert.equal(without.device.dequeue(SCRATCH, 2048), CHAIN_BAD_INDIRECT);
  });

  test('ids that cannot be, or that the device holds already, are refused', () => {
    const ring = ringOf();
    ring.writeSlot(0, BUFFERS, 60, 8, AVAIL);
    ring.writeSlot(1, BUFFERS, 60, 2, AVAIL);
    ring.writeSlot(2, BUFFERS, 60, 2, AVAIL);
    ring.writeSlot(3, BUFFERS, 60, 1, AVAIL);
    assert.equal(ring.device.available(), 4);
    const results = [0, 1, 2, 3].map(() => [ring.device.dequeue(SCRATCH, 2048), ring.device.head]);
    assert.deepEqual(results, [
      [CHAIN_BAD_HEAD, 8],
      [60, 2],
      [CHAIN_BAD_HEAD, 8],
      [60, 1],
    ]);
  });

  test('a list that does not end breaks the ring until it is reset {packed.sg.8}', () => {
    const ring = ringOf({ size: 4 });
    for (let i = 0; i < 4; i++) ring.writeSlot(i, BUFFERS, 60, i, AVAIL | NEXT);
    assert.equal(ring.device.available(), RING_BROKEN);
    ring.writeSlot(3, BUFFERS, 60, 3, AVAIL);
    assert.equal(ring.device.available(), RING_BROKEN);
    assert.equal(ring.device.enqueue(SCRATCH, 72), RING_BROKEN);
    ring.device.reset();
    assert.equal(ring.device.available(), 1);
  });
});

test('no more is taken than the ring holds until something is given back', () => {
  const ring = ringOf({ size: 4 });
  for (let i = 0; i < 4; i++) ring.writeSlot(i, BUFFERS, 60, i, AVAIL);
  assert.equal(ring.device.available(), 4);
  for (let i = 0; i < 4; i++) {
    assert.equal(ring.device.dequeue(SCRATCH, 2048), 60);
    ring.device.putUsed(ring.device.head, 0);
  }
  // given back but not visible yet; a driver that does not wait for it offers all four again, as lists and alone
  for (const flags of [USED, USED | NEXT]) {
    for (let i = 0; i < 4; i++) ring.writeSlot(i, BUFFERS, 30, i, i % 2 === 0 ? flags : USED);
    assert.equal(ring.device.available(), 0);
    ring.device.dequeue(SCRATCH, 2048);
    assert.equal(ring.device.last_avail_idx, 4);
  }
});

describe('what changes between the look and the use', () => {
  test('a descriptor that is taken back is not used; what the ring says now counts {packed.desc.3}', () => {
    const ring = ringOf();
    ring.writeSlot(0, BUFFERS, 60, 0, AVAIL);
    ring.writeSlot(1, BUFFERS, 60, 1, AVAIL);
    assert.equal(ring.device.available(), 2);
    ring.writeSlot(0, BUFFERS, 60, 0, 0);
    ring.poison(0xee);
    const before = ring.guest();
    assert.equal(ring.device.dequeue(SCRATCH, 2048), CHAIN_BAD_HEAD);
    assert.equal(ring.device.head, 8);
    assert.deepEqual(ring.guest(), before);
    assert.equal(ring.device.available(), 0);
    assert.equal(ring.device.last_avail_idx, 0);
  });

  test('a list that has become longer or shorter is taken as it is now', () => {
    const ring = ringOf();
    ring.writeSlot(0, BUFFERS, 30, 0, AVAIL | NEXT);
    ring.writeSlot(1, BUFFERS, 30, 0, AVAIL);
    ring.writeSlot(2, BUFFERS, 40, 1, AVAIL);
    assert.equal(ring.device.available(), 2);
    ring.writeSlot(0, BUFFERS, 30, 5, AVAIL);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), 30);
    assert.equal(ring.device.head, 5);
    assert.equal(ring.device.available(), 2, 'the rest is looked at again');
    ring.writeSlot(1, BUFFERS, 30, 0, AVAIL | NEXT);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), 70);
    assert.equal(ring.device.head, 1);
    assert.equal(ring.device.available(), 0);
  });

  test('an address that becomes bad, a length that becomes long', () => {
    const ring = ringOf();
    for (let i = 0; i < 2; i++) ring.writeSlot(i, BUFFERS, 60, i, AVAIL);
    ring.device.available();
    assert.equal(ring.device.peekBytes(0), 60);
    ring.writeSlot(0, RAM_END - 1, 60, 0, AVAIL);
    ring.writeSlot(1, BUFFERS, 2 ** 31, 1, AVAIL);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), CHAIN_BAD_ADDRESS);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), CHAIN_BAD_ADDRESS);
  });
});

describe('notifications', () => {
  test('flags ENABLE and DISABLE, for either side; off_wrap is not looked at', () => {
    const ring = ringOf();
    const { driver, device, arena } = ring;
    arena.view.setUint16(ring.avail, 0x1234, true);
    arena.view.setUint16(ring.used, 0x1234, true);
    assert.ok(driver.kickWanted() && device.interruptWanted());
    device.disableKicks();
    driver.disableInterrupts();
    assert.ok(!driver.kickWanted() && !device.interruptWanted());
    assert.deepEqual([arena.view.getUint16(ring.used + 2, true), arena.view.getUint16(ring.avail + 2, true)], [1, 1]);
    device.enableKicks(0);
    driver.enableInterrupts();
    assert.ok(driver.kickWanted() && device.interruptWanted());
    // DESC means nothing without VIRTIO_RING_F_EVENT_IDX: it does not silence the device
    arena.view.setUint16(ring.avail + 2, 2, true);
    assert.ok(device.interruptWanted());
  });

  test('DESC: exactly when the named descriptor goes through, a lap later included', () => {
    const ring = ringOf({ size: 5, eventIdx: true });
    const { driver, device, arena } = ring;
    device.interruptWanted(); // the first question is always answered with yes
    const rows: [number, boolean, boolean][] = [];
    for (const [event, chains] of [
      [0x8001, 2],
      [0x8001, 2],
      [0x8004, 1],
      [0x0000, 1],
      [0x8001, 3],
      [0x0004, 1],
      [0x8002, 2],
    ] as const) {
      arena.view.setUint32(ring.avail, event | 0x2_0000, true);
      arena.view.setUint32(ring.used, event | 0x2_0000, true);
      for (let i = 0; i < chains; i++) driver.add(BUFFERS, 60, 0, 0);
      driver.publish();
      const kick = driver.kickWanted();
      for (let i = device.available(); i > 0; i--) {
        device.dequeue(SCRATCH, 2048);
        device.putUsed(device.head, 0);
      }
      device.publishUsed();
      rows.push([event, kick, device.interruptWanted()]);
      while (driver.usedReady() > 0) driver.takeUsed();
    }
    assert.deepEqual(rows, [
      [0x8001, true, true],
      [0x8001, false, false],
      [0x8004, true, true],
      [0x0000, true, true],
      [0x8001, false, false],
      [0x0004, true, true],
      [0x8002, false, false],
    ]);
  });
});

describe('a hostile device', () => {
  test('an id that is not outstanding, or was used already, breaks the ring for the driver; a reset returns its buffers', () => {
    for (const id of [1, 7, 8, 0xffff]) {
      const ring = ringOf();
      const { driver } = ring;
      driver.add(BUFFERS, 60, 0, 7);
      driver.add(BUFFERS, 60, 0, 7);
      driver.publish();
      ring.writeSlot(0, 0, 0, 1, AVAIL | USED);
      ring.writeSlot(1, 0, 0, id, AVAIL | USED);
      assert.ok(driver.usedReady() >= 1);
      assert.equal(driver.takeUsed(), 1);
      assert.equal(driver.takeUsed(), -1);
      assert.deepEqual([driver.usedReady(), driver.num_free], [0, 7]);
      assert.equal(driver.takeUsed(), -1);
      assert.equal(driver.detachUnused(), 0);
      driver.reset();
      assert.deepEqual([driver.usedReady(), driver.num_free], [0, 8]);
    }
  });
});
