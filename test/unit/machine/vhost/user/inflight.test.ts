/**
 * Inflight tracking over real rings in memory: a device that takes chains and gives them back in any order and in batches, and
 * dies between any two of its stores. Its successor, from the same memory, does again what was taken and not given back, once
 * each and in the order in which it was taken.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import {
  desc_state_packed,
  desc_state_split,
  inflight_packed_region,
  inflight_split_region,
  inflightRegionBytes,
  PACKED_REGION_HEAD,
} from '../../../../../src/machine/vhost/user/inflight-area.ts';
import { InflightPacked, type PackedDescriptor } from '../../../../../src/machine/vhost/user/inflight-packed.ts';
import { InflightSplit } from '../../../../../src/machine/vhost/user/inflight-split.ts';

class Crash extends Error {}
/** Memory that the device writes to: after `left` stores it dies. */
class Mortal extends DataView<ArrayBuffer> {
  left = Number.POSITIVE_INFINITY;
  private store(): void {
    if (this.left-- <= 0) throw new Crash();
  }
  override setUint8(at: number, v: number): void {
    this.store();
    super.setUint8(at, v);
  }
  override setUint16(at: number, v: number, little?: boolean): void {
    this.store();
    super.setUint16(at, v, little);
  }
  override setUint32(at: number, v: number, little?: boolean): void {
    // a 64-bit field is one store of the real thing: its upper half is only ever 0 here
    if (at % 8 === 0 || v !== 0) this.store();
    super.setUint32(at, v, little);
  }
  override setBigUint64(at: number, v: bigint, little?: boolean): void {
    this.store();
    super.setBigUint64(at, v, little);
  }
}
const memory = (bytes: number): Mortal => new Mortal(new ArrayBuffer(bytes));

type Step =
  | { readonly kind: 'avail' }
  | { readonly kind: 'take' }
  | { readonly kind: 'give'; readonly picks: readonly number[] };
const steps = fc.array(
  fc.oneof(
    fc.constant<Step>({ kind: 'avail' }),
    fc.constant<Step>({ kind: 'take' }),
    fc.array(fc.nat(100), { minLength: 1, maxLength: 4 }).map((picks): Step => ({ kind: 'give', picks })),
  ),
  { minLength: 5, maxLength: 60, size: 'max' },
);

describe('layouts', () => {
  it('are those of the document', () => {
    assert.equal(inflight_split_region.SIZE, 16);
    assert.equal(desc_state_split.SIZE, 16);
    assert.equal(desc_state_split.next.offset, 6);
    assert.equal(desc_state_split.counter.offset, 8);
    assert.equal(inflight_split_region.used_idx.offset, 14);
    assert.equal(desc_state_packed.SIZE, 32);
    assert.equal(desc_state_packed.addr.offset, 24);
    assert.equal(inflight_packed_region.old_used_wrap_counter.offset, 21);
    assert.equal(PACKED_REGION_HEAD, 32);
    assert.equal(inflightRegionBytes(256, false), 16 + 16 * 256 + 48);
    assert.equal(inflightRegionBytes(256, true), 32 + 32 * 256 + 32);
  });
});

/** A driver and a device of a split ring; heads are reused as soon as they came back. */
class SplitWorld {
  readonly size: number;
  readonly region: Mortal;
  readonly ring: Mortal;
  /** Available ring as the driver wrote it, without end. */
  readonly avail: number[] = [];
  /** Used ring likewise; only what is below used.idx counts. */
  readonly used: number[] = [];
  free: number[];
  taken = 0;
  tracker: InflightSplit;
  /** Taken and not given back, as the device knows. */
  held: number[] = [];

  constructor(size: number) {
    this.size = size;
    this.region = memory(inflightRegionBytes(size, false));
    this.ring = memory(2);
    this.free = Array.from({ length: size }, (_, i) => i);
    this.tracker = new InflightSplit(this.region, 0, size);
  }
  get usedIdx(): number {
    return this.ring.getUint16(0, true);
  }
  dies(after: number): void {
    this.region.left = after;
    this.ring.left = Number.POSITIVE_INFINITY;
  }
  /** The driver takes back what used.idx says, and so has heads to offer again. */
  reclaim(from: number): void {
    for (let i = from; i !== this.usedIdx; i = (i + 1) & 0xffff) this.free.push(this.used[i]!);
  }
  step(s: Step): void {
    if (s.kind === 'avail') {
      const head = this.free.shift();
      if (head !== undefined) this.avail.push(head);
    } else if (s.kind === 'take') {
      const head = this.avail[this.taken];
      if (head === undefined) return;
      this.tracker.take(head);
      this.taken++;
      this.held.push(head);
    } else {
      const heads = [...new Set(s.picks.map((p) => this.held[p % this.held.length]))].filter(
        (h): h is number => h !== undefined,
      );
      if (heads.length === 0) return;
      const before = this.usedIdx;
      for (const [i, head] of heads.entries()) this.used[(before + i) & 0xffff] = head;
      this.tracker.give(heads, () => {
        this.ring.setUint16(0, before + heads.length, true);
        return before + heads.length;
      });
      this.held = this.held.filter((h) => !heads.includes(h));
      this.reclaim(before);
    }
  }
}

describe('a split ring', () => {
  it('a crash between any two stores: what was taken and not used comes again, once, in order', () => {
    fc.assert(
      fc.property(fc.constantFrom(2, 4, 8), steps, fc.nat(150), fc.nat(40), (size, life, first, second) => {
        const w = new SplitWorld(size);
        for (const limit of [first, second]) {
          w.dies(limit);
          let usedBefore = w.usedIdx;
          try {
            for (const s of life) {
              usedBefore = w.usedIdx;
              w.step(s);
            }
          } catch (e) {
            if (!(e instanceof Crash)) throw e;
            // the driver has seen a batch that was published before the device died
            if (w.usedIdx !== usedBefore) w.reclaim(usedBefore);
          }
          w.dies(Number.POSITIVE_INFINITY);
          // every head that the driver has made available and not got back, oldest first, of which the device began `taken`
          const used = w.used.slice(0, w.usedIdx);
          const open = [...w.avail];
          for (const h of used) open.splice(open.indexOf(h), 1);
          w.tracker = new InflightSplit(w.region, 0, size);
          const again = w.tracker.reconnect(w.usedIdx);
          assert.deepEqual(again, open.slice(0, again.length), 'once each, in the order in which they were taken');
          // it was taken if its entry says so; the store that says it is the last of a take
          const takenBefore = w.taken - used.length;
          assert.ok(
            again.length === takenBefore || again.length === takenBefore + 1,
            `${again.length} of ${takenBefore}`,
          );
          w.held = [...again];
          w.taken = w.usedIdx + again.length;
          assert.equal(w.tracker.outstanding, again.length);
        }
        // the successor gives all of it back: nothing is left, nothing twice
        while (w.held.length > 0) w.step({ kind: 'give', picks: [0] });
        while (w.taken < w.avail.length) {
          w.step({ kind: 'take' });
          w.step({ kind: 'give', picks: [0] });
        }
        assert.deepEqual([...w.used].sort(), [...w.avail].sort());
        assert.deepEqual(new InflightSplit(w.region, 0, size).reconnect(w.usedIdx), []);
      }),
      { numRuns: 2000, verbose: 1 },
    );
  });
});

/** The same of a packed ring; chains have one to three descriptors, and ids that come back. */
class PackedWorld {
  readonly size: number;
  readonly region: Mortal;
  /** By position without wrapping: who wrote the descriptor last. */
  readonly usedAt = new Map<number, number>();
  /** Chains that the driver made available, in order: id and descriptors. */
  readonly avail: { readonly id: number; readonly slots: number; readonly descriptors: PackedDescriptor[] }[] = [];
  tracker: InflightPacked;
  taken = 0;
  held: { id: number; entry: number; slots: number }[] = [];
  readonly done: number[] = [];
  /** Free positions of the ring. */
  private room: number;
  private nextId = 0;
  /** Position of the next used descriptor, without wrapping, as the driver looks for it. */
  usedPosition = 0;
  private writes = 0;
  limit = Number.POSITIVE_INFINITY;

  constructor(size: number) {
    this.size = size;
    this.room = size;
    this.region = memory(inflightRegionBytes(size, true));
    this.tracker = new InflightPacked(this.region, 0, size);
  }
  dies(after: number): void {
    this.region.left = after;
    this.limit = after;
    this.writes = 0;
  }
  private ringStore(): void {
    if (this.writes++ > this.limit) throw new Crash();
  }
  offer(slots: number): void {
    if (slots > this.room) return;
    this.room -= slots;
    const id = this.nextId++;
    const descriptors = Array.from({ length: slots }, (_, i) => ({
      addr: 0x1000 * id + 16 * i,
      len: 100 + i,
      id: id & 0xffff,
      flags: i < slots - 1 ? 1 : 0,
    }));
    this.avail.push({ id, slots, descriptors });
  }
  take(): void {
    const chain = this.avail[this.taken];
    if (chain === undefined) return;
    const entry = this.tracker.take(chain.descriptors);
    this.taken++;
    this.held.push({ id: chain.id, entry, slots: chain.slots });
  }
  give(picks: readonly number[]): void {
    const batch = [...new Set(picks.map((p) => this.held[p % this.held.length]))].filter((c) => c !== undefined);
    if (batch.length === 0) return;
    this.tracker.give(
      batch.map((c) => c.entry),
      ({ idx, wrap }) => {
        assert.deepEqual([idx, wrap], this.positionOf(this.usedPosition));
        // the first one's flags are written last: the driver sees all or nothing
        let at = this.usedPosition + batch[0]!.slots;
        const pending: [number, number][] = [];
        for (const c of batch.slice(1)) {
          this.ringStore();
          pending.push([at, c.id]);
          at += c.slots;
        }
        this.ringStore();
        this.usedAt.set(this.usedPosition, batch[0]!.id);
        for (const [position, id] of pending) this.usedAt.set(position, id);
      },
    );
    this.held = this.held.filter((c) => !batch.includes(c));
    this.driverLooks();
  }
  /** idx and wrap counter of a position. */
  positionOf(position: number): [number, number] {
    return [position % this.size, Math.floor(position / this.size) % 2 === 0 ? 1 : 0];
  }
  /** The driver takes back what is used, in the order of the ring. */
  driverLooks(): void {
    for (let id = this.usedAt.get(this.usedPosition); id !== undefined; id = this.usedAt.get(this.usedPosition)) {
      const { slots } = this.avail.find((c) => c.id === id)!;
      this.done.push(id);
      this.usedPosition += slots;
      this.room += slots;
    }
  }
}

describe('a packed ring', () => {
  const life = fc.array(
    fc.oneof(
      fc.integer({ min: 1, max: 3 }).map((slots) => ({ kind: 'offer' as const, slots })),
      fc.constant({ kind: 'take' as const }),
      fc.array(fc.nat(100), { minLength: 1, maxLength: 3 }).map((picks) => ({ kind: 'give' as const, picks })),
    ),
    { minLength: 5, maxLength: 60, size: 'max' },
  );
  it('a crash between any two stores: what was taken and not used comes again, once, in order, with its descriptors', () => {
    fc.assert(
      fc.property(fc.constantFrom(4, 7, 8), life, fc.nat(400), fc.nat(200), (size, acts, first, second) => {
        const w = new PackedWorld(size);
        for (const limit of [first, second]) {
          w.dies(limit);
          try {
            for (const a of acts) {
              if (a.kind === 'offer') w.offer(a.slots);
              else if (a.kind === 'take') w.take();
              else w.give(a.picks);
            }
          } catch (e) {
            if (!(e instanceof Crash)) throw e;
          }
          w.dies(Number.POSITIVE_INFINITY);
          const seenBefore = w.usedPosition;
          w.tracker = new InflightPacked(w.region, 0, size);
          const again = w.tracker.reconnect(({ idx, wrap }) => {
            const mine = w.positionOf(seenBefore);
            return mine[0] === idx && mine[1] === wrap && w.usedAt.has(seenBefore);
          });
          w.driverLooks();
          const open = w.avail.filter((c) => !w.done.includes(c.id));
          const ids = again.map((c) => c.descriptors[0]!.id);
          assert.deepEqual(
            ids,
            open.slice(0, ids.length).map((c) => c.id),
          );
          for (const [i, c] of again.entries()) assert.deepEqual(c.descriptors, open[i]!.descriptors);
          const takenBefore = w.taken - w.done.length;
          assert.ok(ids.length === takenBefore || ids.length === takenBefore + 1, `${ids.length} of ${takenBefore}`);
          w.taken = w.done.length + ids.length;
          w.held = again.map((c, i) => ({ id: ids[i]!, entry: c.entry, slots: c.descriptors.length }));
          assert.deepEqual(Object.values(w.tracker.position()), w.positionOf(w.usedPosition));
        }
        while (w.held.length > 0) w.give([0]);
        while (w.taken < w.avail.length) {
          w.take();
          w.give([0]);
        }
        assert.deepEqual(
          [...w.done].sort((a, b) => a - b),
          w.avail.map((c) => c.id),
        );
        assert.deepEqual(
          new InflightPacked(w.region, 0, size).reconnect(() => false),
          [],
        );
      }),
      { numRuns: 2000, verbose: 1 },
    );
  });
});
