/**
 * The two sides of a split virtqueue against an obvious model (lists of what was added and used), in random
 * interleavings; and the device's side against a driver that writes whatever it likes.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RING_BROKEN, RING_EMPTY } from '../../src/machine/virtio/queue/device-queue.ts';
import { VIRTQ_DESC_F_WRITE, vring_need_event } from '../../src/machine/wire/virtio-ring.ts';
import {
  BUFFERS,
  namedEntryPublished,
  pattern,
  RAM_END,
  Ring,
  SCRATCH,
  SCRATCH_BYTES,
} from '../unit/machine/virtio/queue/ring.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 3000 : 150;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
const SLOT = 512;

// ---- transmit: driver and device against lists ------------------------------------------------------------------
interface Added {
  readonly head: number;
  readonly bytes: Uint8Array;
  readonly descriptors: number;
}
const sides = fc.record({
  size: fc.constantFrom(2, 4, 8, 32),
  eventIdx: fc.boolean(),
  indirect: fc.boolean(),
  // entries that went through before: the indices wrap in the middle of a run
  before: fc.constantFrom(0, 0, 5, 65_500, 65_530, 131_060),
});
const step = fc.oneof(
  fc.record({ do: fc.constant('add' as const), length: fc.integer({ min: 12, max: SLOT }), split: fc.boolean() }),
  fc.record({ do: fc.constant('publish' as const) }),
  fc.record({ do: fc.constant('kick?' as const) }),
  fc.record({ do: fc.constant('take' as const), most: fc.integer({ min: 1, max: 8 }) }),
  fc.record({ do: fc.constant('give' as const), most: fc.integer({ min: 1, max: 8 }), backwards: fc.boolean() }),
  fc.record({ do: fc.constant('interrupt?' as const) }),
  fc.record({ do: fc.constant('reclaim' as const), most: fc.integer({ min: 1, max: 8 }) }),
  fc.record({ do: fc.constantFrom('kicks on' as const, 'kicks off' as const) }),
  fc.record({ do: fc.constantFrom('interrupts on' as const, 'interrupts off' as const, 'interrupts later' as const) }),
);

test(`transmit: what was added comes out, once, in order, and comes back (seed ${seed})`, () => {
  fc.assert(
    fc.property(sides, fc.array(step, { maxLength: 200 }), ({ size, eventIdx, indirect, before }, steps) => {
      const ring = new Ring({ size, eventIdx, indirect });
      const { driver, device, arena } = ring;
      for (let i = 0; i < before; i++) {
        driver.add(BUFFERS, 12, 0, 0);
        driver.publish();
        device.dequeue(SCRATCH, 64);
        device.putUsed(device.head, 0);
        device.publishUsed();
        driver.takeUsed();
      }
      driver.kickWanted();
      device.interruptWanted();
      ring.poison(0xee);

      const index = before & 0xffff;
      const added: Added[] = [];
      let published = 0;
      const taken: Added[] = [];
      let popped = 0;
      const given: Added[] = [];
      let reclaimed = 0;
      let tag = 0;
      let askedKick = index;
      let askedInterrupt = index;
      // what the flag words say; with event idx the event words do
      let noNotify = false;
      let noInterrupt = false;
      let availEvent = arena.u16[device.layout.availEvent]!;
      let usedEvent = arena.u16[device.layout.usedEvent]!;
      const modulo = (n: number): number => (index + n) & 0xffff;
      let free = size;

      for (const s of steps) {
        if (s.do === 'add') {
          const descriptors = s.split && !indirect ? 2 : 1;
          if (free < (s.split ? 2 : 1)) continue; // addSplit() asks for two, also where it then takes one
          const bytes = pattern(s.length, ++tag);
          const gpa = BUFFERS + driver.nextHead * SLOT;
          const far = BUFFERS + 0x6000 + driver.nextHead * SLOT;
          let head: number;
          if (s.split) {
            ring.write(gpa, bytes.subarray(0, 12));
            ring.write(far, bytes.subarray(12));
            head = driver.addSplit(gpa, 12, far, s.length - 12, tag);
          } else {
            ring.write(gpa, bytes);
            head = driver.add(gpa, s.length, 0, tag);
          }
          assert.equal(driver.bufferOf[head], gpa);
          free -= descriptors;
          added.push({ head, bytes, descriptors });
        } else if (s.do === 'publish') {
          driver.publish();
          published = added.length;
        } else if (s.do === 'kick?') {
          // a driver asks when it has published
          driver.publish();
          published = added.length;
          const wanted: boolean = eventIdx ? namedEntryPublished(availEvent, modulo(published), askedKick) : !noNotify;
          assert.equal(driver.kickWanted(), wanted, 'kick');
          askedKick = modulo(published);
        } else if (s.do === 'take') {
          assert.equal(device.available(), published - popped);
          for (let i = 0; i < s.most && popped < published; i++) {
            const next = added[popped++]!;
            assert.equal(device.peekHead(0), next.head);
            assert.equal(device.peekBytes(0), next.bytes.length);
            assert.equal(device.dequeue(SCRATCH, SCRATCH_BYTES), next.bytes.length);
            assert.equal(device.head, next.head);
            assert.deepEqual(arena.u8.slice(SCRATCH, SCRATCH + next.bytes.length), next.bytes);
            taken.push(next);
          }
        } else if (s.do === 'give') {
          // a device may use chains out of order (virtio 1.2 §2.7.8)
          for (let i = 0; i < s.most && taken.length > 0; i++) {
            const chain = s.backwards ? taken.pop()! : taken.shift()!;
            device.putUsed(chain.head, i);
            given.push(chain);
          }
          device.publishUsed();
        } else if (s.do === 'interrupt?') {
          device.publishUsed();
          const wanted: boolean = eventIdx
            ? namedEntryPublished(usedEvent, modulo(given.length), askedInterrupt)
            : !noInterrupt;
          assert.equal(device.interruptWanted(), wanted, 'interrupt');
          askedInterrupt = modulo(given.length);
        } else if (s.do === 'reclaim') {
          const ready = (arena.u16[device.layout.usedIdx]! - modulo(reclaimed)) & 0xffff;
          assert.equal(driver.usedReady(), ready);
          for (let i = 0; i < Math.min(s.most, ready); i++) {
            const chain = given[reclaimed++]!;
            assert.equal(driver.peekUsed(0), chain.head);
            assert.equal(driver.takeUsed(), chain.head);
            free += chain.descriptors;
          }
          assert.equal(driver.num_free, free);
        } else if (s.do === 'kicks on') {
          device.enableKicks(device.last_avail_idx);
          noNotify = false;
          if (eventIdx) availEvent = modulo(popped);
        } else if (s.do === 'kicks off') {
          device.disableKicks();
          noNotify = true;
        } else if (s.do === 'interrupts on') {
          assert.equal(driver.enableInterrupts(), modulo(reclaimed));
          noInterrupt = false;
          if (eventIdx) usedEvent = modulo(reclaimed);
        } else if (s.do === 'interrupts off') {
          driver.disableInterrupts();
          noInterrupt = true;
          if (eventIdx) usedEvent = 0;
        } else {
          // three quarters of what is outstanding
          const later = ((added.length - reclaimed) * 3) >> 2;
          const waiting = (arena.u16[device.layout.usedIdx]! - modulo(reclaimed)) & 0xffff;
          assert.equal(driver.enableInterruptsDelayed(), waiting <= later);
          noInterrupt = false;
          if (eventIdx) usedEvent = modulo(reclaimed + later);
        }
      }
      // flags and event words are where the specification has them, and only one of the two is used
      assert.equal(arena.view.getUint16(ring.used, true), !eventIdx && noNotify ? 1 : 0);
      assert.equal(arena.view.getUint16(ring.avail, true), !eventIdx && noInterrupt ? 1 : 0);
      if (eventIdx) {
        assert.equal(arena.view.getUint16(ring.avail + 4 + 2 * size, true), usedEvent);
        assert.equal(arena.view.getUint16(ring.used + 4 + 8 * size, true), availEvent);
      }
      assert.ok(ring.poisoned(0xee));
    }),
    { seed, numRuns: RUNS },
  );
});

// ---- receive: frames into buffers, merged over several -----------------------------------------------------------
test(`receive: frames fill as many buffers as they need, or none (seed ${seed}) {net.rx.mrg.1} {net.rx.mrg.2} {net.rx.mrg.3} {net.rx.mrg.4} {net.rx.setup.6} {net.rx.setup.7}`, () => {
  const round = fc.record({
    post: fc.array(fc.integer({ min: 13, max: SLOT }), { maxLength: 8 }),
    frames: fc.array(fc.integer({ min: 13, max: 1526 }), { maxLength: 4 }),
    // addresses need not be even
    shift: fc.nat(3),
  });
  fc.assert(
    fc.property(
      fc.constantFrom(4, 16, 32),
      fc.boolean(),
      fc.array(round, { maxLength: 30 }),
      (size, mrgRxbuf, rounds) => {
        const ring = new Ring({ size, mrgRxbuf });
        const { driver, device, arena } = ring;
        ring.poison(0xee);
        const posted: { gpa: number; length: number }[] = [];
        let tag = 0;
        for (const { post, frames, shift } of rounds) {
          for (const length of post) {
            if (driver.num_free === 0) break;
            const gpa = BUFFERS + driver.nextHead * (SLOT + 8) + shift;
            ring.write(gpa, new Uint8Array(length).fill(0xdd));
            driver.add(gpa, length, VIRTQ_DESC_F_WRITE, 0);
            posted.push({ gpa, length });
          }
          driver.publish();
          for (const length of frames) {
            const bytes = pattern(length, ++tag);
            bytes.fill(0, 0, 12);
            arena.u8.set(bytes, SCRATCH);
            const before = device.used_idx;
            const available = device.available();
            assert.equal(available, posted.length);
            // the model: buffers in order until the frame has room
            let room = 0;
            let needed = 0;
            while (needed < posted.length && room < length) room += posted[needed++]!.length;
            const shown = arena.view.getUint16(ring.used + 2, true);
            const result = device.enqueue(SCRATCH, length);
            assert.equal(
              arena.view.getUint16(ring.used + 2, true),
              shown,
              'the buffers of a frame are published together',
            );
            if (posted.length === 0 || (mrgRxbuf && room < length)) {
              assert.equal(result, RING_EMPTY);
              assert.equal(device.used_idx, before);
              assert.equal(device.available(), available, 'nothing was taken');
              // what lies in buffers that are not used is nobody's
              for (const b of posted) ring.write(b.gpa, new Uint8Array(b.length).fill(0xdd));
              continue;
            }
            if (!mrgRxbuf && posted[0]!.length < length) {
              assert.ok(result < 0 && result !== RING_EMPTY);
              assert.deepEqual({ ...ring.usedEntry(before) }.len, 0, 'a buffer that is too small comes back empty');
              posted.shift();
              continue;
            }
            assert.equal(result, needed);
            const got = new Uint8Array(length);
            let at = 0;
            for (let i = 0; i < needed; i++) {
              const buffer = posted.shift()!;
              const entry = ring.usedEntry(before + i);
              assert.equal(driver.bufferOf[entry.id], buffer.gpa);
              assert.equal(entry.len, Math.min(buffer.length, length - at), 'each buffer is full, but for the last');
              got.set(ring.bytes(buffer.gpa, entry.len), at);
              const rest = ring.bytes(buffer.gpa + entry.len, buffer.length - entry.len);
              assert.ok(
                rest.every((b) => b === 0xdd),
                'nothing behind the frame is written',
              );
              at += entry.len;
            }
            bytes[10] = needed; // num_buffers, virtio 1.2 §5.1.6.4
            assert.deepEqual(got, bytes);
          }
          device.publishUsed();
          for (let n = driver.usedReady(); n > 0; n--) assert.ok(driver.takeUsed() >= 0);
          assert.equal(driver.num_free, size - posted.length);
        }
        assert.ok(ring.poisoned(0xee));
      },
    ),
    { seed, numRuns: RUNS },
  );
});

// ---- notification arithmetic --------------------------------------------------------------------------------------
test(`vring_need_event is what the specification says in words (seed ${seed})`, () => {
  fc.assert(
    fc.property(
      fc.nat(65_535),
      fc.nat(65_535),
      fc.nat(1200),
      fc.integer({ min: -1300, max: 1300 }),
      (event, old, n, near) => {
        const now = (old + n) & 0xffff;
        for (const e of [event, (old + near) & 0xffff]) {
          expect(vring_need_event(e, now, old)).toBe(namedEntryPublished(e, now, old));
        }
      },
    ),
    { seed, numRuns: RUNS * 10 },
  );
});

// ---- a hostile driver -----------------------------------------------------------------------------------------------
const address = fc.oneof(
  fc.integer({ min: BUFFERS, max: RAM_END }).map(BigInt),
  fc.constantFrom(
    0n,
    1n,
    0xfffn,
    0x1000n,
    0x2fffn,
    0x3000n,
    0xa000n,
    0xa010n,
    BigInt(RAM_END) - 1n,
    BigInt(RAM_END),
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 32n,
    2n ** 53n,
    2n ** 63n,
    2n ** 64n - 1n,
    2n ** 64n - 16n,
  ),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
const length = fc.oneof(
  fc.integer({ min: 0, max: 2048 }),
  fc.constantFrom(0, 1, 11, 12, 13, 16, 32, 48, 0x1000, 0x1001, 65_535, 65_536, 2 ** 31, 2 ** 32 - 1, 2 ** 32 - 16),
);
const descriptor = fc.record({
  index: fc.nat(40),
  indirect: fc.boolean(),
  address,
  length,
  flags: fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7), fc.nat(65_535)),
  next: fc.oneof(fc.nat(9), fc.nat(65_535)),
});
const attack = fc.oneof(
  fc.record({ do: fc.constant('descriptor' as const), descriptor }),
  fc.record({ do: fc.constant('offer' as const), head: fc.oneof(fc.nat(8), fc.nat(65_535)) }),
  fc.record({ do: fc.constant('word' as const), at: fc.nat(0x5000), value: fc.nat(65_535) }),
  fc.record({ do: fc.constant('dequeue' as const) }),
  fc.record({ do: fc.constant('enqueue' as const), length: fc.integer({ min: 13, max: 1526 }) }),
  fc.record({ do: fc.constant('publish' as const) }),
);
const INDIRECT_AT = 0xa000;

test(`a hostile driver: no exception, no endless loop, nothing read or written outside guest memory (seed ${seed})`, () => {
  fc.assert(
    fc.property(
      fc.record({ eventIdx: fc.boolean(), mrgRxbuf: fc.boolean(), indirect: fc.boolean() }),
      fc.array(attack, { minLength: 10, maxLength: 150 }),
      (options, attacks) => {
        // the same twice, with other bytes around guest memory: whatever depends on those was read outside
        const outcomes = [0xee, 0x31].map((value) => {
          const ring = new Ring({ size: 8, ...options });
          const { device, arena } = ring;
          ring.poison(value);
          const out: unknown[] = [];
          for (const a of attacks) {
            arena.u8.fill(0x55, SCRATCH, SCRATCH + SCRATCH_BYTES);
            if (a.do === 'descriptor') {
              const d = a.descriptor;
              if (d.indirect) ring.descriptor(d.index, d.address, d.length, d.flags, d.next, INDIRECT_AT + ring.ram);
              else ring.descriptor(d.index % 8, d.address, d.length, d.flags, d.next);
            } else if (a.do === 'offer') ring.offer(a.head);
            else if (a.do === 'word') arena.view.setUint16(ring.desc + a.at, a.value, true);
            else if (a.do === 'publish') {
              device.publishUsed();
              out.push(device.interruptWanted());
              device.enableKicks(device.last_avail_idx);
              device.disableKicks();
            } else {
              const n = device.available();
              assert.ok(n === RING_BROKEN || (n >= 0 && n <= 8));
              out.push(n, device.peekHead(0), device.peekBytes(0));
              if (n <= 0) continue;
              if (a.do === 'dequeue') {
                const bytes = device.dequeue(SCRATCH, 2048);
                assert.ok(bytes < 0 || (bytes >= 12 && bytes <= 2048));
                out.push(bytes, arena.u8.slice(SCRATCH, SCRATCH + 2048));
                assert.ok(arena.u8.subarray(SCRATCH + 2048, SCRATCH + SCRATCH_BYTES).every((b) => b === 0x55));
                if (device.head < 8) device.putUsed(device.head, 0);
              } else out.push(device.enqueue(SCRATCH, a.length));
            }
          }
          assert.ok(ring.poisoned(value), 'written outside guest memory');
          return { out, guest: ring.guest() };
        });
        assert.deepEqual(outcomes[0], outcomes[1], 'read outside guest memory');
      },
    ),
    { seed, numRuns: RUNS * 2 },
  );
});
