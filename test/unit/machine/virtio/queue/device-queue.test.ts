/** Chains of every shape, as the device's side takes or refuses them; suppression by the words of the specification. */
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
  RING_EMPTY,
} from '../../../../../src/machine/virtio/queue/device-queue.ts';
import { BUFFERS, pattern, RAM_END, Ring, SCRATCH } from './ring.ts';

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const TABLE = 0xa000;

/** A frame of three pieces in the ring. */
function pieces(ring: Ring, flags: number, lengths: readonly number[]): Uint8Array {
  const bytes = pattern(
    lengths.reduce((a, b) => a + b),
    3,
  );
  let at = 0;
  for (const [i, length] of lengths.entries()) {
    const last = i === lengths.length - 1;
    ring.write(BUFFERS + i * 1024 + i, bytes.subarray(at, at + length));
    ring.descriptor(i, BUFFERS + i * 1024 + i, length, flags | (last ? 0 : NEXT), i + 1);
    at += length;
  }
  ring.offer(0);
  return bytes;
}

describe('transmit chains', () => {
  test('of several descriptors are gathered in order, wherever the header ends {split.framing.1}', () => {
    for (const lengths of [
      [12, 60],
      [1, 11, 60],
      [5, 5, 5, 5],
      [0, 12, 0, 48],
      [100, 1, 1, 1],
    ]) {
      const ring = new Ring();
      const bytes = pieces(ring, 0, lengths);
      assert.equal(ring.device.peekBytes(0), bytes.length);
      assert.equal(ring.device.dequeue(SCRATCH, 2048), bytes.length);
      assert.deepEqual(ring.arena.u8.slice(SCRATCH, SCRATCH + bytes.length), bytes);
    }
  });

  test('in an indirect table are the same; also behind a direct descriptor (virtio 1.2 §2.7.5.3.2 allows it to devices)', () => {
    const ring = new Ring();
    const bytes = pattern(72, 9);
    ring.write(BUFFERS, bytes);
    ring.descriptor(0, BUFFERS, 12, NEXT, 2, TABLE + ring.ram);
    ring.descriptor(2, BUFFERS + 12, 60, 0, 0, TABLE + ring.ram);
    ring.descriptor(4, TABLE, 48, INDIRECT, 0);
    ring.offer(4);
    assert.equal(ring.device.peekBytes(0), 72);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), 72);
    assert.equal(ring.device.head, 4);
    assert.deepEqual(ring.arena.u8.slice(SCRATCH, SCRATCH + 72), bytes);
  });

  const bad: readonly [string, number, (ring: Ring) => unknown][] = [
    ['a head outside the table', CHAIN_BAD_HEAD, (r) => r.offer(8)],
    ['a next outside the table', CHAIN_BAD_HEAD, (r) => [r.descriptor(0, BUFFERS, 60, NEXT, 8), r.offer(0)]],
    ['a chain that loops', CHAIN_TOO_LONG, (r) => [r.descriptor(0, BUFFERS, 60, NEXT, 0), r.offer(0)]],
    [
      'a chain that loops over descriptors of no length',
      CHAIN_TOO_LONG,
      (r) => [r.descriptor(0, BUFFERS, 0, NEXT, 1), r.descriptor(1, BUFFERS, 0, NEXT, 0), r.offer(0)],
    ],
    ['an address behind the memory', CHAIN_BAD_ADDRESS, (r) => [r.descriptor(0, RAM_END - 59, 60, 0, 0), r.offer(0)]],
    ['an address in the hole', CHAIN_BAD_ADDRESS, (r) => [r.descriptor(0, 0x1800, 60, 0, 0), r.offer(0)]],
    ['an address across the hole', CHAIN_BAD_ADDRESS, (r) => [r.descriptor(0, 0xfff, 60, 0, 0), r.offer(0)]],
    [
      'an address of 64 bits whose low half is right',
      CHAIN_BAD_ADDRESS,
      (r) => [r.descriptor(0, (1n << 32n) + BigInt(BUFFERS), 60, 0, 0), r.offer(0)],
    ],
    ['an address that wraps', CHAIN_BAD_ADDRESS, (r) => [r.descriptor(0, (1n << 64n) - 16n, 60, 0, 0), r.offer(0)]],
    ['a length of 32 bits', CHAIN_BAD_ADDRESS, (r) => [r.descriptor(0, BUFFERS, 2 ** 32 - 1, 0, 0), r.offer(0)]],
    ['a frame that is too long', CHAIN_TOO_LONG, (r) => [r.descriptor(0, BUFFERS, 2049, 0, 0), r.offer(0)]],
    ['less than a header', CHAIN_TOO_SMALL, (r) => [r.descriptor(0, BUFFERS, 11, 0, 0), r.offer(0)]],
    [
      'less than a header in two pieces',
      CHAIN_TOO_SMALL,
      (r) => [r.descriptor(0, BUFFERS, 6, NEXT, 1), r.descriptor(1, BUFFERS, 5, 0, 0), r.offer(0)],
    ],
    [
      'a device-writable descriptor',
      CHAIN_WRONG_DIRECTION,
      (r) => [r.descriptor(0, BUFFERS, 60, WRITE, 0), r.offer(0)],
    ],
    [
      'a device-writable second descriptor',
      CHAIN_WRONG_DIRECTION,
      (r) => [r.descriptor(0, BUFFERS, 60, NEXT, 1), r.descriptor(1, BUFFERS, 60, WRITE, 0), r.offer(0)],
    ],
    [
      'an indirect table of no whole number of descriptors',
      CHAIN_BAD_INDIRECT,
      (r) => [r.descriptor(0, TABLE, 40, INDIRECT, 0), r.offer(0)],
    ],
    ['an empty indirect table', CHAIN_BAD_INDIRECT, (r) => [r.descriptor(0, TABLE, 0, INDIRECT, 0), r.offer(0)]],
    [
      'an indirect table outside the memory',
      CHAIN_BAD_INDIRECT,
      (r) => [r.descriptor(0, RAM_END - 16, 32, INDIRECT, 0), r.offer(0)],
    ],
    [
      'an indirect descriptor with NEXT',
      CHAIN_BAD_INDIRECT,
      (r) => [r.descriptor(0, TABLE, 32, INDIRECT | NEXT, 1), r.offer(0)],
    ],
    [
      'an indirect table in an indirect table',
      CHAIN_BAD_INDIRECT,
      (r) => [
        r.descriptor(0, TABLE, 32, INDIRECT, 0, TABLE + r.ram),
        r.descriptor(0, TABLE, 32, INDIRECT, 0),
        r.offer(0),
      ],
    ],
    [
      'a next outside the indirect table',
      CHAIN_BAD_HEAD,
      (r) => [
        r.descriptor(0, BUFFERS, 12, NEXT, 2, TABLE + r.ram),
        r.descriptor(0, TABLE, 32, INDIRECT, 0),
        r.offer(0),
      ],
    ],
  ];
  test.each(bad)('%s is refused, counted, and the next chain is taken', (_, code, prepare) => {
    const ring = new Ring();
    prepare(ring);
    ring.poison(0xee);
    assert.ok(ring.device.peekBytes(0) >= 0);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), code);
    assert.equal(ring.device.errors, 1);
    ring.descriptor(7, BUFFERS, 60, 0, 0);
    ring.offer(7);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), 60);
    assert.equal(ring.device.head, 7);
    assert.ok(ring.poisoned(0xee));
  });

  test('direct descriptors and then an indirect table are one chain; WRITE means nothing on the descriptor of a table {split.indirect.6} {split.indirect.7}', () => {
    for (const write of [0, WRITE]) {
      const ring = new Ring();
      const bytes = pattern(72, 4);
      ring.write(BUFFERS, bytes);
      ring.descriptor(3, BUFFERS, 5, NEXT, 6);
      ring.descriptor(6, BUFFERS + 5, 7, NEXT, 1);
      ring.descriptor(1, TABLE, 32, INDIRECT | write, 0);
      ring.descriptor(0, BUFFERS + 12, 20, NEXT, 1, TABLE + ring.ram);
      ring.descriptor(1, BUFFERS + 32, 40, 0, 0, TABLE + ring.ram);
      ring.offer(3);
      assert.equal(ring.device.dequeue(SCRATCH, 2048), 72);
      assert.equal(ring.device.head, 3);
      assert.deepEqual(ring.arena.u8.slice(SCRATCH, SCRATCH + 72), bytes);
    }
  });

  test('an indirect table where the feature was not negotiated', () => {
    const ring = new Ring({ indirect: false });
    ring.descriptor(0, BUFFERS, 60, 0, 0, TABLE + ring.ram);
    ring.descriptor(0, TABLE, 16, INDIRECT, 0);
    ring.offer(0);
    assert.equal(ring.device.dequeue(SCRATCH, 2048), CHAIN_BAD_INDIRECT);
  });

  test('an avail.idx further ahead than the ring is long breaks the queue for good', () => {
    const ring = new Ring({ size: 8 });
    ring.arena.view.setUint16(ring.avail + 2, 8, true);
    assert.equal(ring.device.available(), 8);
    ring.arena.view.setUint16(ring.avail + 2, 9, true);
    assert.equal(ring.device.available(), RING_BROKEN);
    ring.arena.view.setUint16(ring.avail + 2, 1, true);
    assert.equal(ring.device.available(), RING_BROKEN);
    assert.equal(ring.device.enqueue(SCRATCH, 72), RING_BROKEN);
  });
});

describe('receive chains', () => {
  test('of several descriptors are filled in order, and num_buffers is 1, wherever the header ends', () => {
    for (const lengths of [
      [12, 100],
      [1, 9, 100],
      [10, 1, 100],
      [11, 100],
      [5, 5, 5, 5, 80],
      [0, 200],
    ]) {
      const ring = new Ring();
      pieces(ring, WRITE, lengths);
      const bytes = pattern(72, 5).fill(0, 0, 12);
      ring.arena.u8.set(bytes, SCRATCH);
      assert.equal(ring.device.enqueue(SCRATCH, 72), 1);
      assert.deepEqual(ring.usedEntry(0), { id: 0, len: 72 });
      const got = new Uint8Array(lengths.reduce((a, b) => a + b));
      let at = 0;
      for (const [i, length] of lengths.entries()) {
        got.set(ring.bytes(BUFFERS + i * 1024 + i, length), at);
        at += length;
      }
      bytes[10] = 1;
      assert.deepEqual(got.slice(0, 72), bytes, lengths.join());
    }
  });

  test('a header over several merged buffers has their number too', () => {
    const ring = new Ring();
    // the first buffer must hold the header (virtio 1.2 §5.1.6.3.1); in two segments it may
    ring.descriptor(0, BUFFERS, 10, WRITE | NEXT, 1);
    ring.descriptor(1, BUFFERS + 100, 20, WRITE, 0);
    ring.descriptor(2, BUFFERS + 200, 1000, WRITE, 0);
    ring.offer(0);
    ring.offer(2);
    ring.arena.u8.fill(0, SCRATCH, SCRATCH + 200);
    assert.equal(ring.device.enqueue(SCRATCH, 72), 2);
    assert.deepEqual(
      [ring.usedEntry(0), ring.usedEntry(1)],
      [
        { id: 0, len: 30 },
        { id: 2, len: 42 },
      ],
    );
    assert.deepEqual([...ring.bytes(BUFFERS + 100, 2)], [2, 0]);
  });

  test('a readable descriptor, or one outside the memory: the buffer comes back with length 0 {split.desc.1}', () => {
    for (const prepare of [
      (r: Ring) => r.descriptor(0, BUFFERS, 1024, 0, 0),
      (r: Ring) => r.descriptor(0, RAM_END - 1000, 1024, WRITE, 0),
      (r: Ring) => r.descriptor(0, TABLE, 24, INDIRECT, 0),
    ]) {
      const ring = new Ring();
      prepare(ring);
      ring.offer(0);
      ring.poison(0xee);
      const before = ring.guest();
      assert.ok(ring.device.enqueue(SCRATCH, 72) < 0);
      assert.deepEqual(ring.usedEntry(0), { id: 0, len: 0 });
      assert.equal(ring.device.used_idx, 1);
      const after = ring.guest();
      // but for the used entry, which is zeros, nothing was written
      assert.deepEqual(after, before);
      assert.ok(ring.poisoned(0xee));
    }
  });

  test('without VIRTIO_NET_F_MRG_RXBUF a frame has one buffer or none', () => {
    const ring = new Ring({ mrgRxbuf: false });
    ring.descriptor(0, BUFFERS, 60, WRITE, 0);
    ring.descriptor(1, BUFFERS + 1024, 1024, WRITE, 0);
    ring.offer(0);
    ring.offer(1);
    assert.equal(ring.device.enqueue(SCRATCH, 72), CHAIN_TOO_SMALL);
    assert.equal(ring.device.enqueue(SCRATCH, 72), 1);
    assert.deepEqual(
      [ring.usedEntry(0), ring.usedEntry(1)],
      [
        { id: 0, len: 0 },
        { id: 1, len: 72 },
      ],
    );
    assert.equal(ring.device.enqueue(SCRATCH, 72), RING_EMPTY);
  });
});

describe('notifications', () => {
  test('flags: no kick while NO_NOTIFY is set, no interrupt while NO_INTERRUPT is (virtio 1.2 §2.7.7.1, §2.7.9.1) {split.usedsupp.7} {split.usedsupp.8} {split.availsupp.3} {split.availsupp.4}', () => {
    const { driver, device } = new Ring();
    assert.ok(driver.kickWanted() && device.interruptWanted());
    device.disableKicks();
    driver.disableInterrupts();
    assert.ok(!driver.kickWanted() && !device.interruptWanted());
    device.enableKicks(0);
    driver.enableInterrupts();
    assert.ok(driver.kickWanted() && device.interruptWanted());
  });

  test('event idx: exactly when the named entry goes through, flags are not looked at {split.usedsupp.9} {split.usedsupp.10} {split.usedsupp.11} {split.availsupp.5} {split.availsupp.6} {split.availsupp.7}', () => {
    const ring = new Ring({ eventIdx: true, size: 8 });
    const { driver, device, arena } = ring;
    arena.view.setUint16(ring.used, 1, true); // a flag that must not count
    arena.view.setUint16(ring.avail, 1, true);
    device.interruptWanted(); // the first question has no old index
    device.enableKicks(2);
    arena.u16[driver.layout.usedEvent] = 3;
    const kicks: boolean[] = [];
    const interrupts: boolean[] = [];
    for (let i = 0; i < 6; i++) {
      driver.add(BUFFERS, 60, 0, 0);
      driver.publish();
      kicks.push(driver.kickWanted());
      device.dequeue(SCRATCH, 2048);
      device.putUsed(device.head, 0);
      device.publishUsed();
      interrupts.push(device.interruptWanted());
    }
    assert.deepEqual(kicks, [false, false, true, false, false, false]);
    assert.deepEqual(interrupts, [false, false, false, true, false, false]);
  });

  test('event idx: the first used buffer is always signalled, whatever used_event says (linux drivers/vhost/vhost.c, vhost_notify)', () => {
    const ring = new Ring({ eventIdx: true });
    ring.arena.u16[ring.driver.layout.usedEvent] = 1000;
    ring.device.putUsed(0, 0);
    ring.device.publishUsed();
    assert.ok(ring.device.interruptWanted());
    assert.ok(!ring.device.interruptWanted());
  });

  test('an event word that nobody moves asks once in 65,536 entries', () => {
    const { driver, device } = new Ring({ eventIdx: true, size: 8 });
    let kicks = 0;
    for (let i = 0; i < 200_000; i++) {
      driver.add(BUFFERS, 60, 0, 0);
      driver.publish();
      if (driver.kickWanted()) kicks++;
      device.dequeue(SCRATCH, 2048);
      device.putUsed(device.head, 0);
      device.publishUsed();
      driver.takeUsed();
    }
    assert.equal(kicks, 4); // entries 0, 65536, 131072 and 196608
  });
});

describe('a hostile device', () => {
  test('a used.idx that is impossible gives nothing; an id outside the table is skipped', () => {
    const ring = new Ring({ size: 8 });
    const { driver, arena } = ring;
    driver.add(BUFFERS, 60, 0, 7);
    driver.publish();
    arena.view.setUint16(ring.used + 2, 9, true);
    assert.equal(driver.usedReady(), 0);
    arena.view.setUint16(ring.used + 2, 1, true);
    arena.view.setUint32(ring.used + 4, 8, true);
    assert.equal(driver.usedReady(), 1);
    assert.equal(driver.takeUsed(), -1);
    assert.equal(driver.num_free, 7);
    // an id that is not outstanding, a second time, or a negative one
    driver.add(BUFFERS, 60, 0, 8);
    for (const [i, id] of [1, 1, 5, 2 ** 32 - 1].entries()) {
      arena.view.setUint16(ring.used + 2, 2 + i, true);
      arena.view.setUint32(ring.used + 4 + 8 * (1 + i), id, true);
      assert.equal(driver.takeUsed(), i === 0 ? 1 : -1);
    }
    assert.equal(driver.num_free, 7);
  });
});
