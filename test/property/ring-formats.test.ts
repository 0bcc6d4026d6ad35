/**
 * Split and packed virtqueues against the same obvious model (lists of what was added and used), in random
 * interleavings of both sides, with every combination of the ring's features and with resets of the queue in between.
 *
 * {core.reserved.16}: with VIRTIO_F_IN_ORDER buffers are used in the order in which they were offered.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { type Chain, RING_EMPTY } from '../../src/machine/virtio/queue/device-queue.ts';
import { VIRTQ_DESC_F_WRITE } from '../../src/machine/wire/virtio-ring.ts';
import { AnyRing, TABLE_ENTRIES } from '../unit/machine/virtio/queue/any-ring.ts';
import { BUFFERS, pattern, SCRATCH } from '../unit/machine/virtio/queue/ring.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 3000 : 150;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
const SLOT = 768;
const PIECE = 256;

const config = fc
  .record({
    packed: fc.boolean(),
    size: fc.constantFrom(1, 2, 4, 8, 32),
    odd: fc.constantFrom(0, 1, 3, 5, 7),
    eventIdx: fc.boolean(),
    indirect: fc.boolean(),
    inOrder: fc.boolean(),
    // chains that went through before: positions and indices wrap in the middle of a run
    before: fc.constantFrom(0, 0, 3, 29, 65_530),
  })
  // a packed ring has any size, a split one powers of two
  .map((c) => ({ ...c, size: c.packed ? c.size + c.odd : c.size }));

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('add' as const),
      pieces: fc.array(fc.integer({ min: 8, max: PIECE }), { minLength: 1, maxLength: 6 }),
      // mostly transmit chains: only those share a used entry
      writable: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(6) }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('publish' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('take' as const), most: fc.integer({ min: 1, max: 8 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('give' as const),
      most: fc.integer({ min: 1, max: 8 }),
      backwards: fc.boolean(),
      publish: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('reclaim' as const), most: fc.integer({ min: 1, max: 8 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('device sleeps' as const, 'device polls' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'driver sleeps' as const,
        'driver sleeps longer' as const,
        'driver sleeps longer' as const,
        'driver polls' as const,
      ),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom('all home' as const, 'all home' as const, 'all home' as const, 'reset' as const),
    }),
  },
);

/** A chain as the model sees it. */
interface Posted {
  readonly tag: number;
  readonly head: number;
  readonly pieces: readonly { readonly gpa: number; readonly bytes: Uint8Array }[];
  readonly readable: number;
  readonly descriptors: number;
  written: number;
}

/** Positions in a packed ring, counted one by one: what off_wrap names. */
class Positions {
  private at = 0;
  private wrap = 1;
  private passed: number[] = [];
  private readonly size: number;
  constructor(size: number) {
    this.size = size;
  }
  pass(descriptors: number): void {
    for (let i = 0; i < descriptors; i++) {
      this.passed.push(this.at | (this.wrap << 15));
      if (++this.at === this.size) {
        this.at = 0;
        this.wrap ^= 1;
      }
    }
  }
  /** Whether the named position was passed since the last question. */
  named(offWrap: number): boolean {
    const yes = this.passed.includes(offWrap);
    this.passed = [];
    return yes;
  }
}

class Model {
  readonly ring: AnyRing;
  readonly eventIdx: boolean;
  readonly inOrder: boolean;
  readonly indirect: boolean;
  readonly pieceAt = new Int32Array(8);
  readonly pieceLength = new Int32Array(8);
  readonly chain: Chain = { head: 0, readable: [], writable: [] };
  free: number;
  tag = 0;
  added: Posted[] = []; // not visible yet
  offered: Posted[] = [];
  taken: Posted[] = [];
  put: Posted[] = []; // used, not visible yet
  used: Posted[] = [];
  deviceSleeps = false;
  driverSleeps: 'no' | 'next' | 'later' = 'no';
  available: Positions;
  usedUp: Positions;
  counted = { posted: 0, taken: 0, used: 0, reclaimed: 0 };

  constructor(c: { packed: boolean; size: number; eventIdx: boolean; indirect: boolean; inOrder: boolean }) {
    this.ring = new AnyRing(c);
    this.eventIdx = c.eventIdx;
    this.inOrder = c.inOrder;
    this.indirect = c.indirect;
    this.free = c.size;
    this.available = new Positions(c.size);
    this.usedUp = new Positions(c.size);
  }

  add(lengths: readonly number[], writable: number): void {
    const { ring } = this;
    const { driver } = ring;
    const n = lengths.length;
    const descriptors = this.indirect && n > 1 && n <= TABLE_ENTRIES ? 1 : n;
    assert.equal(driver.roomFor(n), descriptors <= this.free);
    if (descriptors > this.free) return;
    const readable = Math.max(0, n - writable);
    const tag = ++this.tag;
    const base = BUFFERS + driver.nextHead * 6 * PIECE;
    const pieces = lengths.map((length, i) => ({ gpa: base + i * PIECE, bytes: pattern(length, tag + i) }));
    for (const [i, p] of pieces.entries()) {
      this.pieceAt[i] = p.gpa;
      this.pieceLength[i] = p.bytes.length;
      ring.write(p.gpa, p.bytes);
    }
    let head: number;
    if (n === 1) head = driver.add(pieces[0]!.gpa, lengths[0]!, readable === 1 ? 0 : VIRTQ_DESC_F_WRITE, tag);
    else if (n === 2 && readable === 2 && this.free >= 2 && tag % 2 === 0)
      head = driver.addSplit(pieces[0]!.gpa, lengths[0]!, pieces[1]!.gpa, lengths[1]!, tag);
    else head = driver.addChain(this.pieceAt, this.pieceLength, readable, n - readable, tag);
    assert.equal(driver.bufferOf[head], base);
    assert.equal(driver.frameOf[head], tag);
    this.free -= descriptors;
    assert.equal(driver.num_free, this.free);
    this.available.pass(descriptors);
    this.counted.posted++;
    this.added.push({ tag, head, pieces, readable, descriptors, written: 0 });
  }

  publish(): void {
    const { driver, device } = this.ring;
    const before = this.offered.length;
    assert.equal(device.available(), before, 'what is not published is not seen');
    driver.publish();
    this.offered.push(...this.added);
    this.added = [];
    const named = device.availEvent;
    const kick = driver.kickWanted();
    if (this.ring.packed && this.eventIdx && this.ring.arena.view.getUint16(this.ring.used + 2, true) === 2)
      assert.equal(kick, this.available.named(named), 'kick exactly for the named descriptor');
    else this.available.named(0);
    if (this.deviceSleeps && this.offered.length > 0) assert.ok(kick, 'the device sleeps and is not woken');
    if (kick) this.deviceSleeps = false;
  }

  take(most: number): void {
    const { device, arena, ram } = this.ring;
    assert.equal(device.available(), this.offered.length);
    for (let i = 0; i < most && this.offered.length > 0; i++) {
      const next = this.offered.shift()!;
      assert.equal(device.peekHead(0), next.head);
      const bytes = next.pieces.reduce((n, p) => n + p.bytes.length, 0);
      if (next.readable === next.pieces.length && bytes >= 12) {
        assert.equal(device.peekBytes(0), bytes);
        assert.equal(device.dequeue(SCRATCH, 2048), bytes);
        assert.ok(Buffer.concat(next.pieces.map((p) => p.bytes)).equals(arena.u8.subarray(SCRATCH, SCRATCH + bytes)));
      } else {
        assert.equal(device.takeChain(this.chain), 1);
        assert.equal(this.chain.head, next.head);
        const segments = next.pieces.map((p) => ({ at: ram + p.gpa, length: p.bytes.length }));
        assert.deepEqual(this.chain.readable, segments.slice(0, next.readable));
        assert.deepEqual(this.chain.writable, segments.slice(next.readable));
      }
      assert.equal(device.head, next.head);
      this.counted.taken++;
      this.taken.push(next);
    }
    assert.equal(device.last_avail_idx, this.counted.taken & 0xffff);
  }

  give(most: number, backwards: boolean, publish: boolean): void {
    const { device } = this.ring;
    for (let i = 0; i < most && this.taken.length > 0; i++) {
      const chain = backwards && !this.inOrder ? this.taken.pop()! : this.taken.shift()!;
      const room = chain.pieces.slice(chain.readable).reduce((n, p) => n + p.bytes.length, 0);
      // in order, a chain that shares its used entry counts as written completely
      chain.written = room;
      device.putUsed(chain.head, chain.written);
      this.usedUp.pass(chain.descriptors);
      this.counted.used++;
      this.put.push(chain);
    }
    if (!publish) return;
    const { driver } = this.ring;
    assert.equal(driver.usedReady(), this.used.length, 'what is not published is not seen');
    device.publishUsed();
    assert.equal(device.used_idx, this.counted.used & 0xffff);
    this.used.push(...this.put);
    this.put = [];
    const flags = this.ring.arena.view.getUint16(this.ring.avail + 2, true);
    const named = device.usedEvent;
    const interrupt = device.interruptWanted();
    if (this.ring.packed && this.eventIdx && flags === 2)
      assert.equal(interrupt, this.usedUp.named(named), 'interrupt exactly for the named descriptor');
    else this.usedUp.named(0);
    const late = this.used.length > 0 && this.taken.length + this.offered.length + this.added.length === 0;
    if (this.driverSleeps === 'next' && this.used.length > 0) assert.ok(interrupt, 'the driver is not woken');
    if (this.driverSleeps === 'later' && late) assert.ok(interrupt, 'the driver is not woken though all is used');
    if (interrupt) this.driverSleeps = 'no';
  }

  reclaim(most: number): void {
    const { driver } = this.ring;
    assert.equal(driver.usedReady(), this.used.length);
    for (let i = 0; i < most && this.used.length > 0; i++) {
      const chain = this.used.shift()!;
      assert.equal(driver.peekUsed(0), chain.head);
      assert.equal(driver.takeUsed(), chain.head, 'comes back once, in the order of use');
      assert.equal(driver.usedLength, chain.written);
      this.free += chain.descriptors;
      this.counted.reclaimed++;
    }
    assert.equal(driver.num_free, this.free);
    assert.equal(driver.last_used_idx, this.counted.reclaimed & 0xffff);
  }

  deviceSleep(): void {
    const { device } = this.ring;
    device.enableKicks(device.last_avail_idx);
    // the re-check after enabling
    this.deviceSleeps = device.available() === 0;
  }
  driverSleep(later: boolean): void {
    const { driver } = this.ring;
    if (!later) {
      driver.enableInterrupts();
      this.driverSleeps = driver.usedReady() === 0 ? 'next' : 'no';
    } else this.driverSleeps = driver.enableInterruptsDelayed() ? 'later' : 'no';
  }

  /** The device resets the queue; the driver takes its buffers back, and both begin anew. */
  reset(): void {
    const { device, driver } = this.ring;
    device.reset();
    const held = [...this.added, ...this.offered, ...this.taken, ...this.put, ...this.used].map((p) => p.head);
    const back: number[] = [];
    for (let head = driver.detachUnused(); head >= 0; head = driver.detachUnused()) back.push(head);
    assert.deepEqual(
      back.sort((a, b) => a - b),
      held.sort((a, b) => a - b),
      'every outstanding buffer comes back once',
    );
    driver.reset();
    this.added = [];
    this.offered = [];
    this.taken = [];
    this.put = [];
    this.used = [];
    this.free = this.ring.size;
    this.deviceSleeps = false;
    this.driverSleeps = 'no';
    this.available = new Positions(this.ring.size);
    this.usedUp = new Positions(this.ring.size);
    this.counted = { posted: 0, taken: 0, used: 0, reclaimed: 0 };
    device.interruptWanted();
    assert.equal(device.available(), 0);
    assert.equal(driver.usedReady(), 0);
  }

  /** Everything that was added is taken, used, and taken back; somebody who sleeps is woken on the way. */
  home(): void {
    this.publish();
    this.take(1000);
    this.give(1000, false, true);
    this.reclaim(1000);
  }

  /** Sends chains through the whole ring until its positions and indices are where a long run would have them. */
  warmUp(chains: number): void {
    const { driver, device } = this.ring;
    for (let i = 0; i < chains; i++) {
      driver.add(BUFFERS, 12, 0, 0);
      driver.publish();
      device.available();
      device.dequeue(SCRATCH, 64);
      device.usedChain(device.head, 0);
      driver.takeUsed();
      this.available.pass(1);
      this.usedUp.pass(1);
      if ((i & 1023) === 0) {
        this.available.named(0);
        this.usedUp.named(0);
      }
    }
    driver.kickWanted();
    device.interruptWanted();
    this.available.named(0);
    this.usedUp.named(0);
    this.counted = { posted: chains, taken: chains, used: chains, reclaimed: chains };
  }
}

describe('split and packed rings agree with one model', () => {
  test(`chains come out in order, once, and come back once; sleepers are woken; resets return all (seed ${seed}) {core.reserved.16} {packed.layout.2} {packed.layout.3} {packed.sg.7} {core.vqreset.2} {core.cleanup.2} {core.vqreset.4} {split.framing.1}`, () => {
    fc.assert(
      fc.property(config, fc.array(step, { maxLength: 200, size: 'max' }), ({ before, ...c }, steps) => {
        const m = new Model(c);
        m.warmUp(before);
        m.ring.poison(0xee);
        for (const s of steps) {
          if (s.do === 'add') m.add(s.pieces, s.writable);
          else if (s.do === 'publish') m.publish();
          else if (s.do === 'take') m.take(s.most);
          else if (s.do === 'give') m.give(s.most, s.backwards, s.publish);
          else if (s.do === 'reclaim') m.reclaim(s.most);
          else if (s.do === 'device sleeps') m.deviceSleep();
          else if (s.do === 'driver sleeps') m.driverSleep(false);
          else if (s.do === 'driver sleeps longer') m.driverSleep(true);
          else if (s.do === 'device polls') {
            m.ring.device.disableKicks();
            m.deviceSleeps = false;
          } else if (s.do === 'driver polls') {
            m.ring.driver.disableInterrupts();
            m.driverSleeps = 'no';
          } else if (s.do === 'reset') m.reset();
          else m.home();
        }
        m.home();
        assert.equal(m.ring.driver.num_free, m.ring.size);
        assert.ok(m.ring.poisoned(0xee));
      }),
      { seed, numRuns: RUNS * 3 },
    );
  });

  const round = fc.record({
    post: fc.array(fc.integer({ min: 21, max: SLOT }), { maxLength: 8 }),
    frames: fc.array(fc.integer({ min: 1, max: 1514 }), { maxLength: 4 }),
    cut: fc.boolean(),
    shift: fc.nat(3),
  });
  test(`received frames fill as many buffers as they need, or none, with headers of every length (seed ${seed})`, () => {
    fc.assert(
      fc.property(
        config,
        fc.record({ mrgRxbuf: fc.boolean(), headerBytes: fc.constantFrom(10, 12, 20) }),
        fc.array(round, { maxLength: 20 }),
        ({ before, ...c }, { mrgRxbuf, headerBytes }, rounds) => {
          // without num_buffers in the header there is no merging
          const merges = mrgRxbuf && headerBytes > 10;
          const m = new Model(c);
          const ring = new AnyRing({ ...c, mrgRxbuf: merges, headerBytes });
          const { driver, device, arena } = ring;
          ring.poison(0xee);
          let posted: { head: number; pieces: { gpa: number; length: number }[]; length: number }[] = [];
          let tag = 0;
          for (const { post, frames, cut, shift } of rounds) {
            for (const length of post) {
              const base = BUFFERS + driver.nextHead * (SLOT + 8) + shift;
              const n = cut ? 3 : 1;
              if (!driver.roomFor(n)) break;
              // the header may end within any piece
              const lengths = cut ? [7, 9, length - 16] : [length];
              const pieces: { gpa: number; length: number }[] = [];
              let at = base;
              for (const [i, l] of lengths.entries()) {
                pieces.push({ gpa: at, length: l });
                m.pieceAt[i] = at;
                m.pieceLength[i] = l;
                at += l;
              }
              ring.write(base, new Uint8Array(length).fill(0xdd));
              const head = cut
                ? driver.addChain(m.pieceAt, m.pieceLength, 0, 3, 0)
                : driver.add(base, length, VIRTQ_DESC_F_WRITE, 0);
              posted.push({ head, pieces, length });
            }
            driver.publish();
            for (const length of frames) {
              const frame = pattern(length, ++tag);
              // as a host packet: struct virtio_net_hdr_v1 and the frame; bytes around it stay as they are
              const packet = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, ...frame]);
              arena.u8.fill(0xa5, SCRATCH, SCRATCH + 64);
              arena.u8.set(packet, SCRATCH + 64);
              device.hash_value = 0x89ab_cdef;
              device.hash_report = 3;
              const guestBytes = headerBytes + length;
              let room = 0;
              let needed = 0;
              while (needed < posted.length && room < guestBytes) room += posted[needed++]!.length;
              const available = device.available();
              assert.equal(available, posted.length);
              const result = device.enqueue(SCRATCH + 64, 12 + length);
              assert.deepEqual(arena.u8.slice(SCRATCH + 64, SCRATCH + 64 + packet.length), packet);
              assert.ok(arena.u8.subarray(SCRATCH, SCRATCH + 64).every((b) => b === 0xa5));
              if (posted.length === 0 || (merges && room < guestBytes)) {
                assert.equal(result, RING_EMPTY);
                assert.equal(device.available(), available, 'nothing was taken');
                for (const b of posted)
                  for (const p of b.pieces) ring.write(p.gpa, new Uint8Array(p.length).fill(0xdd));
                continue;
              }
              device.publishUsed();
              if (!merges && posted[0]!.length < guestBytes) {
                assert.ok(result < 0 && result !== RING_EMPTY);
                assert.equal(driver.usedReady(), 1);
                assert.equal(driver.takeUsed(), posted.shift()!.head);
                assert.equal(driver.usedLength, 0, 'a buffer that is too small comes back empty');
                continue;
              }
              assert.equal(result, needed);
              assert.equal(driver.usedReady(), needed);
              const got: number[] = [];
              for (let i = 0; i < needed; i++) {
                const buffer = posted.shift()!;
                if (i === 0) assert.equal(device.head, buffer.head);
                assert.equal(driver.takeUsed(), buffer.head);
                assert.equal(driver.usedLength, Math.min(buffer.length, guestBytes - got.length));
                const bytes = buffer.pieces.flatMap((p) => [...ring.bytes(p.gpa, p.length)]);
                got.push(...bytes.slice(0, driver.usedLength));
                assert.ok(
                  bytes.slice(driver.usedLength).every((b) => b === 0xdd),
                  'nothing behind the frame is written',
                );
              }
              const header = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
              if (headerBytes > 10) header.push(needed, 0);
              if (headerBytes > 12) header.push(0xef, 0xcd, 0xab, 0x89, 3, 0, 0, 0);
              assert.deepEqual(got, [...header, ...frame]);
            }
          }
          posted = [];
          assert.ok(ring.poisoned(0xee));
        },
      ),
      { seed, numRuns: RUNS * 2 },
    );
  });

  test(`transmitted frames arrive as host packets, whatever header the guest writes (seed ${seed})`, () => {
    fc.assert(
      fc.property(
        config,
        fc.constantFrom(10 as const, 12 as const, 20 as const),
        fc.array(fc.integer({ min: 1, max: 1514 }), { maxLength: 20 }),
        ({ before, ...c }, headerBytes, frames) => {
          const { driver, device, arena, ...ring } = new AnyRing({ ...c, headerBytes });
          for (const [tag, length] of frames.entries()) {
            const frame = pattern(length, tag);
            const bytes = Uint8Array.from([...pattern(headerBytes, tag + 1), ...frame]);
            arena.u8.set(bytes, ring.ram + BUFFERS);
            driver.add(BUFFERS, bytes.length, 0, 0);
            driver.publish();
            assert.equal(device.available(), 1);
            assert.equal(device.dequeue(SCRATCH + 64, 12 + length), 12 + length);
            const header = bytes.slice(0, 10);
            const wanted = headerBytes === 12 ? [...bytes.slice(0, 12)] : [...header, 0, 0];
            assert.deepEqual([...arena.u8.slice(SCRATCH + 64, SCRATCH + 76 + length)], [...wanted, ...frame]);
            device.usedChain(device.head, 0);
            assert.ok(driver.takeUsed() >= 0);
          }
        },
      ),
      { seed, numRuns: RUNS },
    );
  });
});
