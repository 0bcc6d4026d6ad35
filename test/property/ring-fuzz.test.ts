/**
 * A driver that writes whatever it likes into descriptors, rings, indirect tables, indices and event words, also between
 * the device's look at the ring and its use, against the device's side of both ring formats. Whatever it does: no
 * exception, no endless loop, no byte changed outside the device's own words and the buffers that descriptors name, no
 * byte read outside guest memory.
 *
 * Forty million descriptor mutations for each format in `npm run soak`, a twentieth of it otherwise. A failure names its seed:
 * RINGSIDE_SEED=… runs it again.
 */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { AddressSpace } from '../../src/machine/memory/address-space.ts';
import { Arena } from '../../src/machine/memory/arena.ts';
import {
  CHAIN_MAX,
  CHAIN_TOO_SMALL,
  type Chain,
  type DeviceQueue,
  RING_BROKEN,
  RING_EMPTY,
} from '../../src/machine/virtio/queue/device-queue.ts';
import type { DriverQueue } from '../../src/machine/virtio/queue/driver-queue.ts';
import type { PackedDriverQueue } from '../../src/machine/virtio/queue/packed-driver-queue.ts';
import { makeDeviceQueue, makeDriverQueue } from '../../src/machine/virtio/queue/ring-queues.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const MUTATIONS = full ? 40_000_000 : 2_000_000;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
/** Mutations of one queue's life, and of one step of it. */
const EPISODE = 4000;
const BURST = 8;

// The arena: guard, low slot, guard (a hole in guest memory), high slot, guard, the device's scratch, guard.
const LOW = { gpa: 0, size: 0x400, at: 0x1000 };
const HIGH = { gpa: 0x1000, size: 0x8000, at: 0x2000 };
const DELTA = HIGH.at - HIGH.gpa;
const DESC = 0x1000;
const AVAIL = 0x2000;
const USED = 0x2400;
/** Four indirect tables of 32 entries. */
const TABLES = 0x3000;
const TABLE_ENTRIES = 32;
const TABLES_END = TABLES + 4 * TABLE_ENTRIES * 16;
const BUFFERS = 0x4000;
const END = HIGH.gpa + HIGH.size;
const SCRATCH = 0xb000;
const ROOM = 2048;
const BYTES = 0x1_0000;

class CountingSpace extends AddressSpace {
  steps = 0;
  override translate(address: number, length: number): number {
    this.steps++;
    return super.translate(address, length);
  }
}

/** Small, fast and repeatable: xorshift32. */
class Dice {
  private state: number;
  constructor(start: number) {
    this.state = start === 0 ? 0x9e37_79b9 : start | 0;
    for (let i = 0; i < 8; i++) this.next();
  }
  next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return x >>> 0;
  }
  below(n: number): number {
    return this.next() % n;
  }
  one(n: number): boolean {
    return this.next() % n === 0;
  }
}

const EDGE_LENGTHS = [
  0,
  1,
  9,
  10,
  11,
  12,
  13,
  16,
  20,
  32,
  512,
  513,
  520,
  2048,
  65_535,
  65_536,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32 - 16,
];
const EDGE_ADDRESSES = [
  0,
  1,
  0x3ff,
  0x400,
  0xfff,
  DESC,
  AVAIL,
  USED,
  TABLES,
  TABLES + 0x200,
  TABLES + 8,
  END - 1,
  END,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32 - 16,
];

class Fuzz {
  readonly arena = new Arena(BYTES);
  /** What memory has to look like. */
  private readonly shadow = Buffer.alloc(BYTES);
  private readonly memory: Buffer;
  private readonly ring = Buffer.alloc(16 * 16);
  private readonly space = new CountingSpace();
  private readonly chain: Chain = { head: 0, readable: [], writable: [] };
  private readonly packed: boolean;
  private dice = new Dice(1);
  private size = 8;
  private device!: DeviceQueue;
  mutations = 0;
  outcome = 0;
  /** How often an operation ended how: a fuzzer that reaches nothing finds nothing. */
  readonly reached = new Map<string, number>();

  constructor(packed: boolean) {
    this.packed = packed;
    this.space.map(LOW.gpa, LOW.size, LOW.at);
    this.space.map(HIGH.gpa, HIGH.size, HIGH.at);
    const { buffer } = this.arena;
    this.memory = Buffer.from(buffer as unknown as ArrayBuffer);
  }

  episode(start: number, guard: number): void {
    const { arena } = this;
    this.dice = new Dice(start);
    this.outcome = 0;
    arena.u8.fill(guard);
    arena.u8.fill(0, LOW.at, LOW.at + LOW.size);
    arena.u8.fill(0, HIGH.at, HIGH.at + HIGH.size);
    arena.u8.fill(0, SCRATCH, SCRATCH + ROOM + 64);
    const d = this.dice;
    this.size = this.packed ? 1 + d.below(16) : 1 << d.below(5);
    this.device = makeDeviceQueue(arena, arena.code.copy, {
      packed: this.packed,
      size: this.size,
      desc: DESC + DELTA,
      avail: AVAIL + DELTA,
      used: USED + DELTA,
      eventIdx: d.one(2),
      mrgRxbuf: d.one(2),
      indirect: !d.one(4),
      inOrder: d.one(3),
      headerBytes: ([10, 12, 20] as const)[d.below(3)]!,
      space: this.space,
      frameOf: new Int32Array(this.size),
    });
    for (let i = 0; i < this.size; i++) this.mutate();
    this.memory.copy(this.shadow);
    for (const end = this.mutations + EPISODE; this.mutations < end; ) this.step();
  }

  private step(): void {
    const d = this.dice;
    for (let i = 0; i < BURST; i++) this.mutate();
    this.words();
    this.memory.copy(this.shadow, HIGH.at, HIGH.at, HIGH.at + HIGH.size);
    const { device } = this;
    this.space.steps = 0;
    const n = device.available();
    assert.ok(n === RING_BROKEN || (n >= 0 && n <= this.size), `available() is ${n}`);
    this.note(n);
    if (n === RING_BROKEN || d.one(256)) {
      this.count(n === RING_BROKEN ? 'broken' : 'reset');
      device.reset();
      return;
    }
    for (let i = 0; i < n && i < 3; i++) {
      this.note(device.peekHead(i));
      const bytes = device.peekBytes(i);
      assert.ok(bytes >= 0);
      this.note(bytes);
    }
    // the driver writes between the look and the use
    if (d.one(4)) {
      this.mutate();
      this.memory.copy(this.shadow, HIGH.at, HIGH.at, HIGH.at + HIGH.size);
    }
    const what = d.below(4);
    if (what === 0 && n > 0) this.dequeue();
    else if (what === 1 && n > 0) this.takeChain();
    else this.enqueue();
    // what is given back may wait, and more be taken meanwhile
    if (!d.one(3)) device.publishUsed();
    this.note(device.interruptWanted() ? 1 : 0);
    if (d.one(2)) device.enableKicks((device.last_avail_idx + d.below(3)) & 0xffff);
    else device.disableKicks();
    assert.ok(this.space.steps <= (this.size + 4) * (CHAIN_MAX + 1), `${this.space.steps} steps`);
    this.untouched();
  }

  private dequeue(): void {
    const { device } = this;
    const bytes = device.dequeue(SCRATCH + 32, ROOM);
    this.note(bytes);
    this.count(bytes < 0 ? `dequeue ${bytes}` : 'dequeue');
    assert.ok((bytes < 0 && bytes >= CHAIN_TOO_SMALL) || (bytes >= 12 && bytes <= ROOM), `dequeue() is ${bytes}`);
    if (bytes > 0) {
      for (let i = 0; i < bytes; i += 4) this.note(this.arena.u32[(SCRATCH + 32 + i) >> 2]!);
      // a header of 20 bytes may use 8 before the packet
      this.memory.copy(this.shadow, SCRATCH + 24, SCRATCH + 24, SCRATCH + 32 + bytes);
    }
    this.giveBack();
  }
  private takeChain(): void {
    const { device, chain } = this;
    const result = device.takeChain(chain);
    this.note(result);
    this.count(`takeChain ${result}`);
    assert.ok(
      result === 1 || result === RING_BROKEN || (result < 0 && result >= CHAIN_TOO_SMALL),
      `takeChain() is ${result}`,
    );
    if (result === 1) {
      for (const { at, length } of [...chain.readable, ...chain.writable]) {
        const inside = (slot: { at: number; size: number }): boolean =>
          at >= slot.at && at + length <= slot.at + slot.size;
        assert.ok(inside(LOW) || inside(HIGH), `a segment of ${length} at ${at}`);
      }
    }
    this.giveBack();
  }
  private giveBack(): void {
    if (this.device.head < this.size && !this.dice.one(64)) this.device.putUsed(this.device.head, this.dice.below(3));
  }
  private enqueue(): void {
    const result = this.device.enqueue(SCRATCH + 32, 13 + this.dice.below(600));
    this.note(result);
    this.count(result > 0 ? `enqueue ${Math.min(result, 2)}` : `enqueue ${result}`);
    const refused = result < 0 && result >= CHAIN_TOO_SMALL;
    assert.ok(
      result > 0 ? result <= this.size : refused || result === RING_EMPTY || result === RING_BROKEN,
      `enqueue() is ${result}`,
    );
  }

  /** Nothing changed but the device's words and the buffers that device-writable descriptors name. */
  private untouched(): void {
    const { memory, shadow } = this;
    // the descriptors as they were before the device wrote into a packed ring
    shadow.copy(this.ring, 0, DESC + DELTA, DESC + DELTA + 16 * this.size);
    if (this.packed) this.allow(DESC + DELTA, 16 * this.size);
    this.allow(USED + DELTA, this.packed ? 4 : 6 + 8 * this.size);
    if (memory.compare(shadow) === 0) return;
    const ranges: [number, number][] = [];
    for (let i = 0; i < this.size; i++) this.named(this.ring, 16 * i, false, ranges);
    // a buffer over the ring or its tables: the frame itself may have named other buffers, anywhere in guest memory
    const over = ranges.some(([at, length]) => at < TABLES_END + DELTA && at + length > DESC + DELTA);
    if (over) ranges.push([LOW.at, LOW.size], [HIGH.at, HIGH.size]);
    for (const [at, length] of ranges) this.allow(at, length);
    assert.equal(memory.compare(shadow), 0, 'a byte was written that no descriptor names');
  }
  /** The ranges that a descriptor names as device-writable, itself or through its table. */
  private named(from: Buffer, at: number, inTable: boolean, ranges: [number, number][]): void {
    const address = from.readUInt32LE(at + 4) * 2 ** 32 + from.readUInt32LE(at);
    const length = from.readUInt32LE(at + 8);
    const flags = from.readUInt16LE(at + (this.packed ? 14 : 12));
    const low = address + length <= LOW.size;
    if (!low && (address < HIGH.gpa || address + length > END)) return;
    const place = low ? LOW.at + address : address + DELTA;
    if (!inTable && (flags & 4) !== 0) {
      if (place % 16 !== 0) return;
      // the tables as they were, too
      for (let i = 0; i + 16 <= length; i += 16) this.named(this.shadow, place + i, true, ranges);
    } else if ((flags & 2) !== 0) ranges.push([place, length]);
  }
  private allow(at: number, length: number): void {
    this.memory.copy(this.shadow, at, at, at + length);
  }

  /** Changes one field of one descriptor, in the ring or in an indirect table. */
  private mutate(): void {
    const d = this.dice;
    const { view } = this.arena;
    this.mutations++;
    const inTable = d.one(3);
    const at = DELTA + (inTable ? TABLES + 16 * d.below(4 * TABLE_ENTRIES) : DESC + 16 * d.below(this.size));
    const field = d.below(8);
    if (field < 3) {
      // mostly buffers of their own, some tables, some nonsense
      const kind = d.below(8);
      const address =
        kind < 5
          ? BUFFERS + d.below(END - BUFFERS - 520)
          : kind === 5
            ? TABLES + 0x200 * d.below(4)
            : kind === 6
              ? EDGE_ADDRESSES[d.below(EDGE_ADDRESSES.length)]!
              : d.next();
      view.setUint32(at, address, true);
      view.setUint32(at + 4, d.one(32) ? d.next() : 0, true);
    } else if (field < 5) {
      const kind = d.below(8);
      view.setUint32(
        at + 8,
        kind < 5
          ? d.below(520)
          : kind === 5
            ? 16 * d.below(TABLE_ENTRIES)
            : kind === 6
              ? EDGE_LENGTHS[d.below(EDGE_LENGTHS.length)]!
              : d.next(),
        true,
      );
    } else if (field < 7) {
      const shape = d.one(16) ? d.below(65_536) : [0, 2, 2, 0, 1, 3, 4, 6][d.below(8)]!;
      if (this.packed) view.setUint16(at + 14, d.one(16) ? shape : (shape & 7) | (d.one(2) ? 0x80 : 0x8000), true);
      else view.setUint16(at + 12, shape, true);
    } else
      view.setUint16(
        at + (this.packed ? 12 : 14),
        d.one(8) ? d.below(65_536) : d.below(inTable ? TABLE_ENTRIES : this.size),
        true,
      );
  }

  /** Indices, ring entries and event words. */
  private words(): void {
    const d = this.dice;
    const { view } = this.arena;
    if (this.packed) {
      // mostly something is available at the device's place
      const at = this.device.standing().packed!;
      for (let i = d.below(4); i > 0; i--) {
        const slot = (at.avail + i - 1) % this.size;
        const wrap = at.avail + i - 1 < this.size ? at.availWrap : 1 - at.availWrap;
        const flags = DESC + DELTA + 16 * slot + 14;
        view.setUint16(flags, (view.getUint16(flags, true) & 0x7f7f) | (wrap === 1 ? 0x80 : 0x8000), true);
      }
      if (d.one(2)) view.setUint16(AVAIL + DELTA + 2 * d.below(2), d.one(2) ? d.below(4) : d.below(65_536), true);
      // what the device reads back nowhere, but a driver may write it
      if (d.one(8)) view.setUint32(USED + DELTA, d.next(), true);
      return;
    }
    for (let i = 0; i < 2; i++) {
      const head = d.one(16) ? d.below(65_536) : d.below(this.size);
      view.setUint16(AVAIL + DELTA + 4 + 2 * d.below(this.size), head, true);
    }
    const idx = d.one(64) ? d.below(65_536) : this.device.last_avail_idx + d.below(this.size + 1);
    view.setUint16(AVAIL + DELTA + 2, idx & 0xffff, true);
    if (d.one(4)) view.setUint16(AVAIL + DELTA, d.below(65_536), true);
    if (d.one(4)) view.setUint16(AVAIL + DELTA + 4 + 2 * this.size, d.below(65_536), true);
    if (d.one(8)) view.setUint16(USED + DELTA + 2 * d.below(3), d.below(65_536), true);
  }

  private note(n: number): void {
    this.outcome = (Math.imul(this.outcome, 31) + n) | 0;
  }
  private count(what: string): void {
    this.reached.set(what, (this.reached.get(what) ?? 0) + 1);
  }
}

function hostileDriver(packed: boolean): void {
  const fuzz = new Fuzz(packed);
  const began = performance.now();
  for (let e = 0; fuzz.mutations < MUTATIONS; e++) {
    const start = (seed + Math.imul(e, 0x9e37_79b1)) | 0;
    try {
      fuzz.episode(start, 0xee);
      // the same again with other bytes around guest memory: whatever depends on those was read outside
      if (e % 8 === 0) {
        const { outcome } = fuzz;
        fuzz.episode(start, 0x31);
        assert.equal(fuzz.outcome, outcome, 'something was read outside guest memory');
      }
    } catch (error) {
      throw new Error(`seed ${seed}, episode ${e} (${start}): ${error instanceof Error ? error.message : error}`, {
        cause: error,
      });
    }
  }
  const seconds = (performance.now() - began) / 1000;
  const { reached } = fuzz;
  if (full)
    console.log(
      `${packed ? 'packed' : 'split'}: ${(fuzz.mutations / seconds / 1e6).toFixed(2)} million mutations a second`,
      Object.fromEntries([...reached].sort()),
    );
  for (const outcome of [
    'broken',
    'dequeue',
    'dequeue -1',
    'dequeue -2',
    'dequeue -3',
    'dequeue -4',
    'dequeue -5',
    'dequeue -6',
    'takeChain 1',
    'takeChain -4',
    'enqueue 1',
    'enqueue 2',
    'enqueue -2',
    'enqueue -16',
  ])
    assert.ok((reached.get(outcome) ?? 0) > 0, `${outcome} was never reached`);
}

test(`a hostile driver on a split ring: ${MUTATIONS} descriptor mutations (seed ${seed}) {split.desc.1} {split.desc.3} {split.framing.2} {split.availsupp.12}`, () => {
  hostileDriver(false);
});
test(`a hostile driver on a packed ring: ${MUTATIONS} descriptor mutations (seed ${seed}) {packed.desc.1} {packed.sg.8}`, () => {
  hostileDriver(true);
});

// ---- the other way round: a device that writes whatever it likes ------------------------------------------------------
/** One life of a driver's queue beside such a device. Returns how many buffers came back. */
function hostileDevice(packed: boolean, start: number): number {
  const d = new Dice(start);
  const arena = new Arena(BYTES);
  const memory = Buffer.from(arena.buffer as unknown as ArrayBuffer);
  const shadow = Buffer.alloc(BYTES);
  const size = packed ? 1 + d.below(16) : 1 << d.below(5);
  arena.u8.fill(0xee);
  arena.u8.fill(0, DESC + DELTA, BUFFERS + DELTA);
  const inOrder = d.one(3);
  const driver: DriverQueue = makeDriverQueue(arena, {
    packed,
    size,
    inOrder,
    eventIdx: d.one(2),
    descGpa: DESC,
    driverGpa: AVAIL,
    deviceGpa: USED,
    ram: DELTA,
    indirectGpa: d.one(2) ? TABLES : 0,
    indirectEntries: 4,
    frameOf: new Int32Array(size),
  });
  const outstanding = new Set<number>();
  const gpas = new Int32Array(6).fill(BUFFERS);
  const lengths = new Int32Array(6).fill(64);
  let came = 0;
  // the device's own words in any state, and ids that may even be right
  const scribble = (): void => {
    const view = arena.view;
    const ids = [...outstanding];
    const id = d.one(4) || ids.length === 0 ? d.next() : ids[d.below(ids.length)]!;
    if (packed) {
      const at = DESC + DELTA + 16 * d.below(size);
      view.setUint16(at + 12, id & 0xffff, true);
      view.setUint32(at + 8, d.next(), true);
      view.setUint16(at + 14, d.one(4) ? d.below(65_536) : d.one(2) ? 0x8080 : 0, true);
      view.setUint32(USED + DELTA, d.next(), true);
    } else {
      view.setUint32(USED + DELTA + 4 + 8 * d.below(size), d.one(8) ? -id : id, true);
      view.setUint32(USED + DELTA + 8 + 8 * d.below(size), d.next(), true);
      view.setUint16(USED + DELTA + 2, d.one(8) ? d.below(65_536) : driver.last_used_idx + d.below(size + 2), true);
      view.setUint16(USED + DELTA, d.below(65_536), true);
      view.setUint16(USED + DELTA + 4 + 8 * size, d.below(65_536), true);
    }
    memory.copy(shadow);
  };
  for (let step = 0; step < 400; step++) {
    const n = 1 + d.below(6);
    if (driver.roomFor(n)) {
      const readable = d.below(n + 1);
      const head = driver.addChain(gpas, lengths, readable, n - readable, 0);
      assert.ok(!outstanding.has(head), 'a head that the device still holds is not given out again');
      outstanding.add(head);
      driver.publish();
      driver.kickWanted();
    }
    memory.copy(shadow);
    scribble();
    const ready = driver.usedReady();
    assert.ok(ready >= 0 && ready <= size + 1, `usedReady() is ${ready}`);
    for (let i = 0; i < ready; i++) {
      driver.peekUsed(i % size);
      if (d.one(4)) scribble();
      const marks = packed
        ? arena.view.getUint16(DESC + DELTA + 16 * (driver as PackedDriverQueue).positions.used + 14, true) & 0x8080
        : 0;
      const head = driver.takeUsed();
      if (head < 0) continue;
      assert.ok(!packed || inOrder || marks === 0 || marks === 0x8080, 'taken from a descriptor that is not used');
      assert.ok(outstanding.delete(head), `buffer ${head} came back though the device did not hold it`);
      came++;
    }
    assert.ok(driver.num_free >= 0 && driver.num_free <= size, `num_free is ${driver.num_free}`);
    if (outstanding.size === 0) assert.equal(driver.num_free, size);
    assert.equal(memory.compare(shadow), 0, 'taking back writes nothing');
    const asks = d.below(3);
    if (asks === 0) driver.enableInterrupts();
    else if (asks === 1) driver.enableInterruptsDelayed();
    else driver.disableInterrupts();
    if (!d.one(32)) continue;
    // the way out of a broken ring: reset, and every buffer comes back exactly once
    for (let head = driver.detachUnused(); head >= 0; head = driver.detachUnused()) assert.ok(outstanding.delete(head));
    assert.equal(outstanding.size, 0);
    driver.reset();
    assert.equal(driver.num_free, size);
  }
  assert.ok(arena.u8.subarray(0, DESC + DELTA).every((b) => b === 0xee));
  assert.ok(arena.u8.subarray(BUFFERS + DELTA).every((b) => b === 0xee));
  return came;
}

for (const packed of [false, true]) {
  test(`a hostile device on a ${packed ? 'packed' : 'split'} ring: no buffer comes back that it did not hold (seed ${seed})`, () => {
    let came = 0;
    for (let e = 0; e < (full ? 2000 : 100); e++) {
      const start = (seed + Math.imul(e, 0x9e37_79b1)) | 0;
      try {
        came += hostileDevice(packed, start);
      } catch (error) {
        throw new Error(`seed ${seed}, episode ${e}: ${error instanceof Error ? error.message : error}`, {
          cause: error,
        });
      }
    }
    assert.ok(came > 100, 'some buffers do come back');
  });
}
