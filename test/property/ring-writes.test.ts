/**
 * Who reads and writes what of a virtqueue, and in which order, in random interleavings of both sides: every access to the
 * ring is checked before it takes effect. A single thread sees its own writes in their order, so the order here is what
 * memory barriers keep on real machines.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import type { Chain } from '../../src/machine/virtio/queue/device-queue.ts';
import { AVAIL, BUFFERS, DESC, pattern, SCRATCH, USED } from '../unit/machine/virtio/queue/ring.ts';
import {
  type Access,
  AVAILABLE,
  areaOf,
  type Outstanding,
  type Piece,
  type RingConfig,
  USED_FLAG,
  WatchedRing,
  WRITE,
} from './ring-watch.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 1500 : 100;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
const PIECE = 64;

const config = (packed: boolean): fc.Arbitrary<RingConfig> =>
  fc.record({
    packed: fc.constant(packed),
    size: packed ? fc.integer({ min: 1, max: 11 }) : fc.constantFrom(1, 2, 4, 8),
    eventIdx: fc.boolean(),
    indirect: fc.boolean(),
    inOrder: fc.boolean(),
  });
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('add' as const),
      lengths: fc.array(fc.integer({ min: 14, max: PIECE }), { minLength: 1, maxLength: 5 }),
      writable: fc.oneof(fc.constant(0), fc.nat(5)),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('publish' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('take' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('receive' as const), length: fc.integer({ min: 13, max: PIECE }) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('use' as const), backwards: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('show used' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('reclaim' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'kicks on' as const,
        'kicks off' as const,
        'interrupts on' as const,
        'interrupts off' as const,
        'interrupts later' as const,
        'spurious' as const,
      ),
    }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** Seen in all runs together: permissions that are used. */
const seen = new Set<string>();

class Watch {
  readonly ring: WatchedRing;
  readonly c: RingConfig;
  /** Added and not published; published and not taken; taken; used and not shown; shown. */
  added: Outstanding[] = [];
  offered: Outstanding[] = [];
  taken: Outstanding[] = [];
  used: { chain: Outstanding; written: number }[] = [];
  shown: Outstanding[] = [];
  /** Packed: what each slot is. Nobody touches one that the other side has. */
  readonly slots: ('free' | 'available' | 'used')[];
  private tag = 0;
  private availIdx = 0;
  private usedIdx = 0;

  constructor(c: RingConfig) {
    this.c = c;
    this.ring = new WatchedRing(c);
    this.slots = Array.from({ length: c.size }, () => 'free');
    this.ring.onAccess = (access) => this.check(access);
  }

  private get exposed(): Outstanding[] {
    return [...this.offered, ...this.taken];
  }

  private check(a: Access): void {
    const area = areaOf(this.c, a.at);
    if (a.op === 'read') this.checkRead(a, area);
    else if (area === 'buffers') this.checkBuffer(a, 'written');
    else if (area === 'descriptors' && this.c.packed) this.checkSlot(a);
    else if (a.side === 'device') {
      assert.equal(area, 'device', 'the device writes its own area only');
      if (!this.c.packed) this.checkUsedRing(a);
    } else {
      assert.notEqual(area, 'device', "the driver does not write the device's area");
      if (area === 'descriptors') {
        const slot = (a.at - DESC) >> 4;
        for (const { slots } of [...this.exposed, ...this.used.map((u) => u.chain)]) {
          assert.ok(!slots.includes(slot), 'a descriptor that the device holds');
        }
      }
      if (area === 'driver' && !this.c.packed) this.checkAvailRing(a);
    }
  }

  private checkRead(a: Access, area: ReturnType<typeof areaOf>): void {
    const { packed, eventIdx, size } = this.c;
    if (area === 'buffers') return this.checkBuffer(a, 'read');
    if (packed) {
      if (a.side === 'device' && area === 'descriptors') {
        const [slot, word] = [(a.at - DESC) >> 4, (a.at - DESC) & 15];
        // Flags are how the device finds out; anything else only of what was made available.
        if (word !== 14)
          assert.ok(this.exposed.some((o) => o.slots.includes(slot)) || this.slots[slot] === 'available');
      }
      return;
    }
    if (a.side === 'device' && area === 'driver') {
      if (!eventIdx) assert.notEqual(a.at, AVAIL + 4 + 2 * size, 'used_event without EVENT_IDX');
      else assert.notEqual(a.at, AVAIL, 'avail.flags with EVENT_IDX');
    }
    if (a.side === 'driver' && area === 'device') {
      if (!eventIdx) assert.notEqual(a.at, USED + 4 + 8 * size, 'avail_event without EVENT_IDX');
      else assert.notEqual(a.at, USED, 'used.flags with EVENT_IDX');
    }
  }

  /** Buffers belong to the device while it has taken them: it reads readable ones and writes writable ones. */
  private checkBuffer(a: Access, what: 'read' | 'written'): void {
    assert.equal(a.side, 'device');
    const within = (p: Piece): boolean => a.at >= p.gpa && a.at < p.gpa + p.length;
    const ranges = this.exposed.flatMap((o) =>
      what === 'read' ? o.pieces.slice(0, o.readable) : o.pieces.slice(o.readable),
    );
    assert.ok(ranges.some(within), `${what} at ${a.at.toString(16)}, where nothing is to be ${what}`);
  }

  private checkAvailRing({ at, value }: Access): void {
    const { ring, c } = this;
    if (at === AVAIL) {
      assert.ok(value === 0 || (value === 1 && !c.eventIdx), `avail.flags ${value}`);
      if (value === 1) seen.add('avail.flags 1');
    }
    if (at === AVAIL + 4 + 2 * c.size) seen.add('used_event');
    if (at !== AVAIL + 2) return;
    const moved = (value - this.availIdx) & 0xffff;
    assert.ok(moved <= c.size, 'avail.idx goes back');
    assert.equal(moved, this.added.length);
    for (const [i, chain] of this.added.entries()) {
      const head = ring.u16(AVAIL + 4 + 2 * ((this.availIdx + i) % c.size));
      assert.equal(head, chain.head, 'the entry is there before the index');
      this.same(chain, ring.chainAt(head));
    }
    this.availIdx = value;
  }

  private checkUsedRing({ at, value }: Access): void {
    const { ring, c } = this;
    if (at === USED) {
      assert.ok(value === 0 || (value === 1 && !c.eventIdx), `used.flags ${value}`);
      if (value === 1) seen.add('used.flags 1');
    }
    if (at === USED + 4 + 8 * c.size) seen.add('avail_event');
    if (at !== USED + 2) return;
    assert.equal((value - this.usedIdx) & 0xffff, this.used.length);
    if (!c.inOrder) {
      for (const [i, { chain, written }] of this.used.entries()) {
        const element = USED + 4 + 8 * ((this.usedIdx + i) % c.size);
        assert.deepEqual([ring.u32(element), ring.u32(element + 4)], [chain.head, written], 'before the index');
      }
    }
    for (const { chain, written } of this.used) this.filled(chain, written);
    this.usedIdx = value;
  }

  /** At least so many bytes lie in the first writable buffers. */
  private filled(chain: Outstanding, written: number): void {
    let left = written;
    for (const p of chain.pieces.slice(chain.readable)) {
      const n = Math.min(left, p.length);
      const bytes = this.ring.bytes(p.gpa, n);
      const isNumBuffers = (i: number): boolean => written - left + i === 10 || written - left + i === 11;
      assert.ok(
        bytes.every((b, i) => b === 0xda || isNumBuffers(i)),
        'used before it was written',
      );
      left -= n;
    }
  }

  /** Packed: a slot has one owner at a time, and its flags change hands last. */
  private checkSlot(a: Access): void {
    const slot = (a.at - DESC) >> 4;
    const state = this.slots[slot]!;
    if (a.side === 'driver') {
      assert.notEqual(state, 'available', 'a descriptor that the device holds');
      this.slots[slot] = 'free';
      if (((a.at - DESC) & 15) !== 14) return;
      // AVAIL and USED differ: from now on it is the device's.
      const available = ((a.value & AVAILABLE) !== 0) !== ((a.value & USED_FLAG) !== 0);
      assert.ok(available);
      const first = this.added.find((o) => o.slots[0] === slot);
      if (first !== undefined) {
        // The first of a chain: everything else of it, and the chains before, are complete.
        this.same(first, this.ring.chainAt(slot, a.value));
        for (const other of first.slots.slice(1)) assert.equal(this.slots[other], 'available');
      }
      this.slots[slot] = 'available';
      return;
    }
    const owner = [...this.taken, ...this.used.map((u) => u.chain)];
    assert.ok(state === 'available', 'a descriptor that is not the device’s');
    assert.ok(owner.length > 0);
    if (((a.at - DESC) & 15) === 14) this.slots[slot] = 'used';
  }

  private same(chain: Outstanding, read: ReturnType<WatchedRing['chainAt']>): void {
    assert.deepEqual(read.pieces, chain.pieces);
    assert.equal(read.readable, chain.readable);
    if (this.c.packed) assert.equal(read.id, chain.head);
    // no more descriptors than pieces
    assert.ok(read.slots.length <= chain.pieces.length);
  }

  // ---- steps ----------------------------------------------------------------------------------------------------
  private nextSlot = 0;
  /** Packed: where the next used descriptor is; a chain frees as many slots from there on as it had. */
  private usedSlot = 0;
  step(s: Step): void {
    const { ring, c } = this;
    const { driver, device } = ring;
    switch (s.do) {
      case 'add': {
        const n = s.lengths.length;
        if (!driver.roomFor(n)) return;
        const readable = Math.max(0, n - s.writable);
        const tag = ++this.tag % 32;
        const pieces = s.lengths.map((length, i) => ({ gpa: BUFFERS + (tag * 5 + i) * PIECE, length }));
        // The driver reuses memory that it has back only.
        const busy = [...this.added, ...this.exposed, ...this.used.map((u) => u.chain), ...this.shown];
        if (busy.some((o) => o.pieces.some((p) => p.gpa === pieces[0]!.gpa))) return;
        for (const [i, p] of pieces.entries()) ring.write(p.gpa, pattern(p.length, tag + i));
        const count = driver.descriptorsFor(n);
        const slots = Array.from({ length: count }, (_, i) => (this.nextSlot + i) % c.size);
        const wanted: Outstanding = { head: driver.nextHead, pieces, readable, slots: c.packed ? slots : [] };
        this.added.push(wanted);
        const [gpas, lengths] = [Int32Array.from(pieces, (p) => p.gpa), Int32Array.from(pieces, (p) => p.length)];
        ring.as('driver', () => {
          if (n === 1) driver.add(pieces[0]!.gpa, pieces[0]!.length, readable === 1 ? 0 : WRITE, tag);
          else driver.addChain(gpas, lengths, readable, n - readable, tag);
        });
        this.nextSlot = (this.nextSlot + count) % c.size;
        if (!c.packed) this.added[this.added.length - 1] = { ...wanted, slots: ring.chainAt(wanted.head).slots };
        return;
      }
      case 'publish': {
        ring.as('driver', () => driver.publish());
        this.offered.push(...this.added);
        this.added = [];
        ring.as('driver', () => driver.kickWanted());
        // The decision is made from memory, after the index (or the flags) went out.
        const word = c.packed ? USED + 2 : c.eventIdx ? USED + 4 + 8 * c.size : USED;
        assert.ok(
          ring.log.some((a) => a.op === 'read' && a.at === word),
          'the other side’s word is read for every kick',
        );
        return;
      }
      case 'take': {
        const chain: Chain = { head: 0, readable: [], writable: [] };
        const next = this.offered[0];
        const allReadable = next !== undefined && next.readable === next.pieces.length;
        const result = ring.as('device', () => {
          if (device.available() === 0) return 0;
          return allReadable ? device.dequeue(SCRATCH, 2048) : device.takeChain(chain);
        });
        assert.equal(result > 0, next !== undefined);
        if (next === undefined) return;
        this.offered.shift();
        this.taken.push(next);
        return;
      }
      case 'receive': {
        const next = this.offered[0];
        const room = next?.pieces.reduce((sum, p) => sum + p.length, 0) ?? 0;
        if (next === undefined || next.readable > 0 || room < s.length) return;
        if (c.inOrder && this.taken.length > 0) return;
        ring.arena.u8.fill(0xda, SCRATCH, SCRATCH + s.length);
        // num_buffers is the device's to write: the frame has what it will be
        ring.arena.u8.set([1, 0], SCRATCH + 10);
        assert.equal(
          ring.as('device', () => device.enqueue(SCRATCH, s.length)),
          1,
        );
        this.offered.shift();
        this.used.push({ chain: next, written: s.length });
        return;
      }
      case 'use': {
        const chain = s.backwards && !c.inOrder ? this.taken.at(-1) : this.taken[0];
        if (chain === undefined) return;
        const written = chain.pieces.slice(chain.readable).reduce((sum, p) => sum + p.length, 0);
        for (const p of chain.pieces.slice(chain.readable)) ring.write(p.gpa, new Uint8Array(p.length).fill(0xda));
        this.taken.splice(this.taken.indexOf(chain), 1);
        this.used.push({ chain, written });
        ring.as('device', () => device.putUsed(chain.head, written));
        return;
      }
      case 'show used':
        ring.as('device', () => device.publishUsed());
        this.shown.push(...this.used.map((u) => u.chain));
        this.used = [];
        ring.as('device', () => device.interruptWanted());
        return;
      case 'reclaim': {
        const next = this.shown.shift();
        if (next === undefined) return;
        assert.equal(
          ring.as('driver', () => driver.takeUsed()),
          next.head,
        );
        for (const _ of next.slots) {
          if (!c.packed) break;
          this.slots[this.usedSlot] = 'free';
          this.usedSlot = (this.usedSlot + 1) % c.size;
        }
        return;
      }
      case 'kicks on':
        return ring.as('device', () => device.enableKicks(device.last_avail_idx));
      case 'kicks off':
        return ring.as('device', () => device.disableKicks());
      case 'interrupts on':
        ring.as('driver', () => driver.enableInterrupts());
        return;
      case 'interrupts off':
        return ring.as('driver', () => driver.disableInterrupts());
      case 'interrupts later':
        ring.as('driver', () => driver.enableInterruptsDelayed());
        return;
      case 'spurious':
        // A notification with nothing new: each side looks and finds what it knew.
        for (let i = 0; i < 2; i++) {
          assert.equal(
            ring.as('device', () => device.available()),
            this.offered.length,
          );
          assert.equal(
            ring.as('driver', () => driver.usedReady()),
            this.shown.length,
          );
        }
        return;
    }
  }
}

const run = (packed: boolean): void =>
  fc.assert(
    fc.property(config(packed), fc.array(step, { maxLength: 150, size: 'max' }), (c, steps) => {
      const watch = new Watch(c);
      for (const s of steps) watch.step(s);
    }),
    { seed, numRuns: RUNS },
  );

// Every run checks all of it; the titles say what.
describe(`split ring, every access in its order (seed ${seed})`, () => {
  test('the device writes nothing but its own area and writable buffers, and reads no writable ones {split.desc.1} {split.desc.2} {split.desc.3}', () =>
    run(false));
  test('a used element and the bytes that it speaks of are there before the index {split.used.1} {split.used.2}', () =>
    run(false));
  test('chains: readable first, no more descriptors than pieces, no loop, in order where that was negotiated {split.framing.3} {split.framing.4} {split.desc.4} {split.desc.5}', () =>
    run(false));
  test('indirect tables: with the feature only, flat, whole, not behind NEXT {split.indirect.1} {split.indirect.2} {split.indirect.3} {split.indirect.4} {split.indirect.5}', () =>
    run(false));
  test('chains and entries are complete before the index moves, which never goes back {split.avail.1} {split.avail.2}', () =>
    run(false));
  test('the driver reads the word of the device for every kick, after the index went out {split.avail.3}', () =>
    run(false));
  test('the driver leaves alone what it exposed and has not got back {core.cleanup.1}', () => run(false));
  test('flags are 0 or 1, and 0 with event idx; nobody reads the word that was not negotiated {split.usedsupp.1} {split.usedsupp.3} {split.usedsupp.6} {split.usedsupp.9} {split.availsupp.2} {split.availsupp.5} {split.availsupp.8} {split.availsupp.10}', () =>
    run(false));
  test('both sides ask for none, or for later: flags of 1, event words that move {split.usedsupp.2} {split.usedsupp.4} {split.availsupp.9} {split.availsupp.11}', () => {
    seen.clear();
    run(false);
    assert.deepEqual([...seen].sort(), ['avail.flags 1', 'avail_event', 'used.flags 1', 'used_event']);
  });
  test('a notification that brings nothing new changes nothing {split.usedsupp.5} {split.availsupp.12}', () =>
    run(false));
});

describe(`packed ring, every access in its order (seed ${seed})`, () => {
  test('the device writes nothing but its own area, descriptors that it holds, and writable buffers {packed.desc.1} {packed.desc.2}', () =>
    run(true));
  test('a descriptor is used once it is available, and its owner alone writes it, flags last {packed.desc.3} {packed.desc.4} {packed.desc.5} {packed.desc.6}', () =>
    run(true));
  test('lists: whole before the first of them, no longer than the ring, readable first {packed.sg.1} {packed.sg.2} {packed.sg.3} {packed.sg.4} {packed.sg.5} {packed.sg.6} {packed.flags.1}', () =>
    run(true));
  test('indirect tables: with the feature only, with no flag but WRITE, not in a list {packed.indirect.1} {packed.indirect.2} {packed.indirect.3} {packed.indirect.4}', () =>
    run(true));
  test('the driver reads the event area of the device for every kick, after the flags went out {packed.flags.2}', () =>
    run(true));
});
