/** The wasm functions against obvious ones, the recorder's rings, eventfds. (The fold is restated in the scheduler's property test.) */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { Context } from '../../../src/engine/context.ts';
import { COSTS, costOf, costTable } from '../../../src/engine/costs.ts';
import { BLOCK_EVENTS, CTL_SIZE, RingReader } from '../../../src/engine/event-ring.ts';
import { EventFd } from '../../../src/engine/eventfd.ts';
import * as E from '../../../src/engine/events.ts';
import { latencyBytes } from '../../../src/engine/latency.ts';
import { RandomStream } from '../../../src/engine/random.ts';
import { Recorder } from '../../../src/engine/recorder.ts';
import { Inet } from '../../../src/machine/guest/stack/inet.ts';
import { AddressSpace } from '../../../src/machine/memory/address-space.ts';
import { Arena } from '../../../src/machine/memory/arena.ts';
import { ArenaPlan } from '../../../src/machine/memory/sizes.ts';
import { checksum } from '../machine/guest/stack/naive-net.ts';

const random = new RandomStream(3, 'memory');
const arena = new Arena(65_536 * 4);
for (let i = 0; i < arena.u8.length; i++) arena.u8[i] = random.next();

describe('wasm', () => {
  test('copy moves every length at every alignment, and not a byte more', () => {
    const lengths = [
      ...Array.from({ length: 300 }, (_, i) => i),
      511,
      512,
      513,
      1499,
      1500,
      1514,
      1526,
      2047,
      2048,
      9000,
    ];
    for (const length of lengths) {
      for (const [from, to] of [
        [1024, 70_000],
        [1025, 70_003],
        [1031, 70_008],
        [1039, 70_015],
      ] as const) {
        const wanted = arena.u8.slice(0, 90_000);
        wanted.copyWithin(to, from, from + length);
        arena.code.copy(to, from, length);
        if (Buffer.compare(wanted, arena.u8.slice(0, 90_000)) !== 0)
          assert.fail(`${length} bytes from ${from} to ${to}`);
      }
    }
  });

  test('sum16 is the sum of RFC 1071, for every length and an even or odd start', () => {
    for (let length = 0; length < 400; length++) {
      for (const at of [2000, 2001, 2002, 2005]) {
        const bytes = arena.u8.slice(at, at + length);
        // the complement of the checksum, in memory order
        const sum = ~checksum(bytes) & 0xffff;
        const swapped = ((sum & 0xff) << 8) | (sum >>> 8);
        assert.equal(arena.code.sum16(at, length), swapped, `${length} bytes at ${at}`);
      }
    }
    arena.u8.fill(0xff, 100_000, 165_535);
    assert.equal(arena.code.sum16(100_000, 65_534), 0xffff);
    arena.u8.fill(0, 100_000, 165_535);
    assert.equal(arena.code.sum16(100_000, 65_535), 0);
  });

  test('checksums that are made are found right, and any bit that is turned is found', () => {
    const inet = new Inet(arena);
    for (let i = 0; i < 200; i++) {
      const at = 20_000;
      inet.ipv4(at, 20 + random.below(1400), random.below(65_536), 17, random.next(), random.next());
      assert.ok(inet.valid(at, 20));
      assert.equal(checksum(arena.u8.slice(at, at + 20)), 0);
      const bit = random.below(160);
      arena.u8[at + (bit >> 3)]! ^= 1 << (bit & 7);
      assert.ok(!inet.valid(at, 20));
    }
  });
});

describe('address space', () => {
  test('translates what lies in one region whole, and nothing else', () => {
    const space = new AddressSpace();
    const regions = [
      [0, 0xa_0000, 0x1000],
      [0xc_0000, 0x10_0000, 0x20_0000],
      [0x7f00_0000_0000, 0x1000, 0x50_0000],
    ] as const;
    for (const [address, size, offset] of regions) space.map(address, size, offset);
    const interesting = regions.flatMap(([a, s]) => [a - 1, a, a + 1, a + s - 1, a + s, a + s + 1]);
    const lengths = [0, 1, 2, 4096, 0xa_0000, 2 ** 31, 2 ** 32];
    // in any order: the region of the last hit must not matter
    for (let i = 0; i < 20_000; i++) {
      const address = interesting[random.below(interesting.length)]!;
      const length = lengths[random.below(lengths.length)]!;
      const region = regions.find(([a, s]) => address >= a && address + length <= a + s);
      const got = space.translate(address, length);
      if (length > 0) assert.equal(got, region ? address - region[0] + region[2] : -1, `${address} + ${length}`);
    }
    for (const address of [2 ** 53, 2 ** 63, 2 ** 64, -1, Number.NaN]) assert.equal(space.translate(address, 16), -1);
  });
});

describe('recorder', () => {
  function make(): { recorder: Recorder; reader: RingReader; arena: Arena; source: number } {
    const plan = new ArenaPlan();
    const eventCapacity = 4 * BLOCK_EVENTS;
    const byteCapacity = 65_536;
    const rings = {
      control: plan.reserve(CTL_SIZE),
      eventCapacity,
      eventTime: plan.reserve(eventCapacity * 8),
      eventMeta: plan.reserve(eventCapacity * 4),
      eventFrame: plan.reserve(eventCapacity * 4),
      eventA: plan.reserve(eventCapacity * 4),
      eventB: plan.reserve(eventCapacity * 4),
      blockFrame: plan.reserve(4 * 8),
      blockBytes: plan.reserve(4 * 8),
      byteRing: plan.reserve(byteCapacity),
      byteCapacity,
      counters: plan.reserve(8 * E.KIND_STRIDE * 16),
      busy: plan.reserve(64),
      idlePolls: plan.reserve(64),
      latency: plan.reserve(latencyBytes(8)),
      placeRoom: 8,
      contextRoom: 8,
      growth: plan.reserve(64),
      growthBytes: 64,
    };
    const ordinals = plan.reserve(64);
    const source = plan.reserve(4096);
    const memory = new Arena(plan.bytes);
    const layout = { ...rings, memoryBytes: plan.bytes };
    const recorder = new Recorder(memory.buffer, layout, memory.code, ordinals);
    const places = Array.from({ length: 8 }, (_, id) => ({
      id,
      name: `p${id}`,
      type: 'queue' as const,
      description: '',
      order: 0,
    }));
    const contexts = [{ id: 0, name: 'c', kind: 'vcpu' as const, core: 0, host: 'h', polls: false }];
    const costStamp = { profile: 'haswell-2.4', hash: '0', overrides: 0 };
    const catalog = { topology: 't', seed: 1, epochNs: '0', places, contexts, layout, costs: {}, costStamp };
    return { recorder, reader: new RingReader(memory.buffer, catalog), arena: memory, source };
  }

  test('events are counted, summed and read back, whatever the blocks they are published in', () => {
    for (const every of [1, 7, BLOCK_EVENTS - 1, BLOCK_EVENTS, BLOCK_EVENTS + 1]) {
      const { recorder, reader } = make();
      let sum = 0;
      for (let i = 0; i < 3 * BLOCK_EVENTS; i++) {
        recorder.stamp[0] = i * 10;
        recorder.event(E.metaOf(E.PACKET_COPY, 3, 0), i + 1, i % 1000, i);
        recorder.frames = i + 1;
        sum += i % 1000;
        if (i % every === every - 1) recorder.publish(i * 10);
      }
      recorder.publish(1e9);
      assert.equal(reader.head(), 3 * BLOCK_EVENTS);
      assert.equal(recorder.events, 3 * BLOCK_EVENTS);
      assert.equal(reader.count(3, E.PACKET_COPY), 3 * BLOCK_EVENTS);
      assert.equal(reader.sum(3, E.PACKET_COPY), sum);
      assert.equal(reader.virtualTimeNs(), 1e9);
      for (let next = reader.tail(); next < reader.head(); ) {
        const n = reader.read(next);
        for (let i = 0; i < n; i++)
          assert.deepEqual(
            [reader.block.time[i], reader.block.frame[i], reader.block.b[i]],
            [(next + i) * 10, next + i + 1, next + i],
          );
        next += n;
      }
    }
  });

  test('a slice longer than the ring is published from within, and what it writes over is not read any more', () => {
    const { recorder, reader } = make();
    const capacity = reader.layout.eventCapacity;
    const record = (): void => recorder.event(E.metaOf(E.PACKET_COPY, 3, 0), 0, 1, recorder.events);
    // the slice begins at a block and within one
    for (const published of [capacity, 5 * capacity + 100]) {
      while (recorder.events < published) {
        record();
        if (recorder.due) recorder.publish(0);
      }
      recorder.publish(0);
      while (recorder.events < published + 3 * capacity) {
        record();
        if (recorder.events % 37 !== 0) continue;
        assert.ok(reader.head() > recorder.events - 2 * BLOCK_EVENTS, 'whole blocks are published');
        const n = reader.read(0);
        const { first, b } = reader.block;
        assert.ok(first + n <= reader.head());
        for (let i = 0; i < n; i++)
          assert.equal(b[i], first + i, `${recorder.events - published} events into the slice`);
      }
      recorder.publish(0);
      assert.equal(reader.head(), recorder.events);
      assert.equal(reader.count(3, E.PACKET_COPY), recorder.events, 'every event is counted');
    }
  });

  test('the fingerprint depends on every column, and not on the blocks', () => {
    const print = (change: (i: number) => number[], every: number): string => {
      const { recorder, reader } = make();
      for (let i = 0; i < 100; i++) {
        const [time, kind, frame, a, b] = change(i);
        recorder.stamp[0] = time!;
        recorder.event(E.metaOf(kind!, 3, 0), frame!, a!, b!);
        if (i % every === 0) recorder.publish(0);
      }
      recorder.publish(0);
      return reader.fingerprint();
    };
    const plain = (i: number): number[] => [i, 1 + (i % 5), i, i * 3, i * 5];
    const prints = [print(plain, 1000)];
    assert.equal(print(plain, 1), prints[0]);
    for (let column = 0; column < 5; column++)
      prints.push(print((i) => plain(i).map((v, c) => (c === column && i === 50 ? v + 1 : v)), 1000));
    // of one context the order counts
    prints.push(print((i) => plain(i === 10 ? 11 : i === 11 ? 10 : i), 1000));
    assert.equal(new Set(prints).size, prints.length);
  });

  test('the byte ring keeps frames whole over its end, aligned to 8', () => {
    const { recorder, reader, arena: memory, source } = make();
    let before = -8;
    for (let i = 0; i < 500; i++) {
      const length = 14 + ((i * 37) % 1500);
      memory.u8.fill(i, source, source + length);
      const position = recorder.bytes(source, length) * 8;
      assert.ok(position > before && position % 8 === 0);
      assert.ok((position % 65_536) + length <= 65_536, 'in one piece');
      recorder.publish(0);
      const back = new Uint8Array(length);
      assert.ok(reader.readBytes(position, length, back));
      assert.ok(back.every((b) => b === (i & 0xff)));
      before = position;
    }
    assert.equal(reader.readBytes(0, 14, new Uint8Array(14)), false, 'overwritten long ago');
  });
});

test('eventfd: many signals before a read are one count and one wake-up each asks for (linux fs/eventfd.c)', () => {
  class Waiter extends Context {
    roused = 0;
    override rouse(): void {
      this.roused++;
    }
    override step(): void {}
  }
  const fd = new EventFd(7, 'kick');
  fd.signal();
  assert.equal(fd.read(), 1);
  const waiter = new Waiter('w', 0, undefined as unknown as Recorder);
  fd.waiter = waiter;
  for (let i = 0; i < 5; i++) fd.signal();
  assert.equal(waiter.roused, 5);
  assert.equal(fd.read(), 5);
  assert.equal(fd.read(), 0);
});

test('costs: every entry has its source and lies in its range; overrides win, unknown names are our mistake', () => {
  for (const c of COSTS) {
    assert.ok(c.default >= c.range[0] && c.default <= c.range[1], c.name);
    assert.ok(c.source.length > 5 && c.text.length > 5, c.name);
  }
  assert.equal(new Set(COSTS.map((c) => c.name)).size, COSTS.length);
  const table = costTable({ upcall: 5 });
  assert.equal(costOf(table, 'upcall'), 5);
  assert.throws(() => costOf(table, 'nothing'));
});

test('event kinds: ids and names are unique and fit their fields', () => {
  assert.equal(new Set(E.EVENT_KINDS.map((k) => k.id)).size, E.EVENT_KINDS.length);
  assert.equal(new Set(E.EVENT_KINDS.map((k) => k.name)).size, E.EVENT_KINDS.length);
  for (const k of E.EVENT_KINDS) {
    assert.ok(k.id > 0 && k.id < E.KIND_STRIDE, k.name);
    assert.match(k.name, /^[a-z_]+\.[a-z_]+$/);
    assert.equal(E.KIND_BY_ID[k.id], k);
  }
  assert.ok(E.DROP_KINDS.every((k) => k.text.startsWith('dropped: ')));
});
