/** A ring that changes hands: another device queue goes on at the base that the last one left (VHOST_GET_VRING_BASE). */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { type DeviceQueue, PACKED_BASE } from '../../../../../src/machine/virtio/queue/device-queue.ts';
import { makeDeviceQueue } from '../../../../../src/machine/virtio/queue/ring-queues.ts';
import { VIRTQ_DESC_F_WRITE } from '../../../../../src/machine/wire/virtio-ring.ts';
import { AnyRing, type AnyRingOptions } from './any-ring.ts';
import { BUFFERS, SCRATCH } from './ring.ts';

const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);

/** Another device's end of the same ring, from `base` on. */
function successor(ring: AnyRing, before: DeviceQueue, options: AnyRingOptions, base = before.base): DeviceQueue {
  const device = makeDeviceQueue(ring.arena, ring.arena.code.copy, {
    packed: ring.packed,
    size: ring.size,
    desc: ring.desc,
    avail: ring.avail,
    used: ring.used,
    eventIdx: options.eventIdx === true,
    inOrder: options.inOrder === true,
    mrgRxbuf: true,
    indirect: true,
    space: ring.space,
    frameOf: before.frameOf,
  });
  device.succeed(before);
  device.resume(base);
  return device;
}

describe.each([
  ['split', false],
  ['packed', true],
] as const)('%s', (_, packed) => {
  test('a ring that nobody has used stands at its beginning', () => {
    const { device } = new AnyRing({ packed });
    assert.equal(device.base, packed ? PACKED_BASE : 0);
  });

  test(`transmit and receive chains come once and in order, whoever takes them, over the wrap (seed ${seed})`, () => {
    const options = fc.record({
      size: fc.constantFrom(2, 4, 8, ...(packed ? [3, 7] : [])),
      eventIdx: fc.boolean(),
      inOrder: fc.boolean(),
    });
    const step = fc.oneof(
      fc.record({ what: fc.constant('add' as const), n: fc.integer({ min: 1, max: 3 }) }),
      fc.record({ what: fc.constant('take' as const), n: fc.integer({ min: 1, max: 3 }) }),
      fc.record({ what: fc.constant('hand' as const), n: fc.constant(0) }),
    );
    const receives = fc.boolean();
    fc.assert(
      fc.property(options, receives, fc.array(step, { maxLength: 120 }), (o, receive, steps) => {
        const ring = new AnyRing({ packed, ...o });
        let { device } = ring;
        const { driver } = ring;
        let added = 0;
        let taken = 0;
        let back = 0;
        const reclaim = (): void => {
          while (driver.usedReady() > 0) {
            driver.takeUsed();
            back++;
          }
        };
        for (const { what, n } of steps) {
          if (what === 'add') {
            for (let i = 0; i < n && driver.num_free > 0; i++) {
              ring.arena.u8[ring.ram + BUFFERS + 64 * (added % 32) + 12] = added & 0xff;
              driver.add(BUFFERS + 64 * (added % 32), 60, receive ? VIRTQ_DESC_F_WRITE : 0, 1 + added);
              added++;
            }
            driver.publish();
          } else if (what === 'take') {
            for (let i = 0; i < n && device.available() > 0; i++) {
              if (receive) assert.equal(device.enqueue(SCRATCH + ring.ram, 40), 1);
              else {
                assert.equal(device.dequeue(SCRATCH + ring.ram, 2048), 60);
                assert.equal(ring.arena.u8[ring.ram + SCRATCH + 12], taken & 0xff, 'in order');
                device.putUsed(device.head, 0);
              }
              taken++;
            }
            device.publishUsed();
            reclaim();
          } else {
            const before = { taken: device.last_avail_idx, used: device.used_idx, base: device.base };
            device = successor(ring, device, { packed, ...o });
            assert.deepEqual({ taken: device.last_avail_idx, used: device.used_idx, base: device.base }, before);
            assert.equal(device.available(), added - taken);
          }
        }
        while (device.available() > 0) {
          if (receive) device.enqueue(SCRATCH + ring.ram, 40);
          else {
            device.dequeue(SCRATCH + ring.ram, 2048);
            device.putUsed(device.head, 0);
          }
          taken++;
          device = ((): DeviceQueue => {
            device.publishUsed();
            return successor(ring, device, { packed, ...o });
          })();
        }
        reclaim();
        assert.deepEqual([taken, back], [added, added]);
      }),
      { seed, numRuns: 300 },
    );
  });

  test('the first notification after a hand-over is sent, for nobody knows what the last one was', () => {
    const ring = new AnyRing({ packed, eventIdx: true });
    const { driver, device } = ring;
    driver.add(BUFFERS, 60, 0, 1);
    driver.publish();
    device.dequeue(SCRATCH + ring.ram, 2048);
    device.usedChain(device.head, 0);
    device.interruptWanted();
    const next = successor(ring, device, { packed, eventIdx: true });
    assert.equal(next.interruptWanted(), true);
  });

  test('a ring that the driver broke is broken for the next one, too', () => {
    const ring = new AnyRing({ packed });
    ring.device.broken = true;
    ring.device.reported = true;
    const next = successor(ring, ring.device, { packed });
    assert.equal(next.broken && next.reported, true);
    assert.ok(next.available() < 0);
  });
});

test('packed: the base has slot and wrap counter of both ends (qemu virtio_queue_packed_get_last_avail_idx())', () => {
  const ring = new AnyRing({ packed: true, size: 4 });
  const { driver, device } = ring;
  const bases: string[] = [];
  for (let i = 0; i < 6; i++) {
    driver.add(BUFFERS, 60, 0, 1 + i);
    driver.publish();
    assert.equal(device.available(), 1);
    device.dequeue(SCRATCH + ring.ram, 2048);
    bases.push(device.base.toString(16));
    device.usedChain(device.head, 0);
    bases.push(device.base.toString(16));
    driver.takeUsed();
  }
  assert.deepEqual(bases, [
    ...['80008001', '80018001', '80018002', '80028002', '80028003', '80038003'],
    ...['80030000', '0', '1', '10001', '10002', '20002'],
  ]);
});
