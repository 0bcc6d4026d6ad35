/** Packets, their queues, and the account of a run, against obvious models. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { AssertionFailed } from '../../../../src/engine/assert.ts';
import { GUEST_DROP_MALFORMED } from '../../../../src/engine/events.ts';
import { RandomStream } from '../../../../src/engine/random.ts';
import {
  JUMBO_BYTES,
  PacketPool,
  PacketQueue,
  SLOT_BYTES,
  SLOT_HEADROOM,
} from '../../../../src/machine/packet/pool.ts';
import { RunLedger } from '../../../../src/machine/packet/run-ledger.ts';
import { Bare } from './bare-services.ts';

describe('PacketPool', () => {
  /** Small and jumbo slots of the pool under test. */
  const SMALL = 64;
  const JUMBO = 8;

  test('no slot is given out twice, clones share bytes until the last is gone, whatever the order', () => {
    const pool = new PacketPool(4096, SMALL, JUMBO);
    const random = new RandomStream(1, 'pool');
    /** Packets in use, by the model: each with the row that its bytes belong to. */
    const live = new Map<number, number>();
    /** Where each row's slot was seen. */
    const slots = new Map<number, number>();
    for (let i = 0; i < 50_000; i++) {
      const packets = [...live.keys()];
      const some = packets[random.below(Math.max(1, packets.length))];
      // a clone holds a packet number of its own beside the bytes it shares
      const taken = new Set([...live.keys(), ...live.values()]);
      const smallTaken = [...taken].filter((p) => p < SMALL).length;
      const what = random.below(4);
      if (what === 0 && smallTaken < SMALL) {
        const packet = pool.alloc(1 + random.below(SLOT_BYTES));
        assert.ok(packet < SMALL && !taken.has(packet));
        assert.equal(pool.room(packet), SLOT_BYTES);
        slots.set(packet, pool.slot(packet));
        pool.length[packet] = i;
        live.set(packet, packet);
      } else if (what === 1) {
        const packet = pool.alloc(SLOT_BYTES + 1 + random.below(JUMBO_BYTES - SLOT_BYTES));
        assert.equal(packet < 0, taken.size - smallTaken === JUMBO, 'refused exactly when there is none');
        if (packet < 0) continue;
        assert.ok(packet >= SMALL && !taken.has(packet));
        assert.equal(pool.room(packet), JUMBO_BYTES);
        slots.set(packet, pool.slot(packet));
        pool.length[packet] = i;
        live.set(packet, packet);
      } else if (what === 2 && some !== undefined && smallTaken < SMALL) {
        const clone = pool.clone(some);
        assert.ok(!taken.has(clone));
        assert.equal(pool.at(clone), pool.at(some));
        assert.equal(pool.length[clone], pool.length[some]);
        assert.equal(pool.room(clone), pool.room(some));
        live.set(clone, live.get(some)!);
      } else if (what === 3 && some !== undefined) {
        pool.release(some);
        live.delete(some);
      }
      assert.equal(pool.live, live.size);
      for (const [packet, data] of live) {
        assert.equal(pool.slot(packet), slots.get(data));
        assert.equal(pool.shared(packet), [...live.values()].filter((d) => d === data).length > 1);
      }
    }
    for (const packet of live.keys()) pool.release(packet);
    assert.equal(pool.live, 0);
    // nothing leaked: all can be had again, and no two overlap, headroom included
    const all = [
      ...Array.from({ length: SMALL }, () => pool.alloc()),
      ...Array.from({ length: JUMBO }, () => pool.alloc(JUMBO_BYTES)),
    ];
    assert.equal(pool.alloc(JUMBO_BYTES), -1);
    assert.throws(() => pool.alloc(), AssertionFailed);
    const ranges = all
      .map((p) => [pool.slot(p) - SLOT_HEADROOM, pool.slot(p) + pool.room(p)] as const)
      .sort((a, b) => a[0] - b[0]);
    let end = 4096;
    for (const [from, to] of ranges) {
      assert.ok(from >= end);
      end = to;
    }
    assert.ok(end <= 4096 + PacketPool.bytes(SMALL, JUMBO));
    for (const p of all) assert.equal(pool.slot(p) % 64, 0);
  });

  test('a frame that no slot holds is refused', () => {
    const pool = new PacketPool(4096, 4, 4);
    assert.equal(pool.alloc(JUMBO_BYTES + 1), -1);
    assert.equal(pool.live, 0);
  });
});

test('PacketQueue is a bounded queue that can take back its first', () => {
  for (const limit of [1, 2, 3, 7, 8, 1000]) {
    const queue = new PacketQueue(limit);
    const model: number[] = [];
    const random = new RandomStream(limit, 'queue');
    for (let i = 0; i < 5000; i++) {
      const what = random.below(5);
      if (what < 2 && !queue.full) {
        queue.push(i);
        model.push(i);
      } else if (what < 4 && model.length > 0) {
        assert.equal(queue.shift(), model.shift());
      } else if (model.length < limit) {
        queue.unshift(-1 - i);
        model.unshift(-1 - i);
      }
      assert.equal(queue.length, model.length);
      assert.equal(queue.full, model.length >= limit);
      for (let j = 0; j < Math.min(3, model.length); j++) assert.equal(queue.peek(j), model[j]);
    }
  }
});

test('oneFlow() puts batches of one flow one after the other, in their order, and counts the first', () => {
  const ROWS = 64;
  const random = new RandomStream(3, 'flows');
  for (let round = 0; round < 300; round++) {
    const pool = new PacketPool(4096, ROWS);
    const queue = new PacketQueue(ROWS);
    // what was there before makes the ring wrap
    for (let i = random.below(ROWS); i > 0; i--) {
      queue.push(0);
      queue.shift();
    }
    const packets = Array.from({ length: 1 + random.below(40) }, (_, i) => i);
    for (const packet of packets) {
      pool.flowBatch[packet] = 1 + random.below(6);
      queue.push(packet);
    }
    const batches = Map.groupBy(packets, (packet) => pool.flowBatch[packet]!);
    for (const number of [...batches.keys()].sort((a, b) => a - b)) {
      const expected = batches.get(number)!;
      while (expected.length > 0) {
        const n = queue.oneFlow(pool, 5);
        assert.equal(n, Math.min(5, expected.length));
        for (let i = 0; i < n; i++) assert.equal(queue.shift(), expected.shift());
      }
    }
    assert.equal(queue.length, 0);
  }
});

describe('RunLedger', () => {
  test('quantiles are within 1.6 % of the sorted samples', () => {
    const random = new RandomStream(5, 'latency');
    const shapes: (() => number)[] = [
      () => random.below(100),
      () => 50_000 + random.below(1000),
      () => Math.floor(2 ** (random.below(40_000) / 1000)),
      () => (random.below(10) === 0 ? 1_000_000_000 + random.below(1e6) : 3000 + random.below(100)),
    ];
    for (const sample of shapes) {
      const ledger = new RunLedger(1, 0, 0);
      const all = Array.from({ length: 20_000 }, sample);
      for (const ns of all) ledger.addLatency(ns);
      all.sort((a, b) => a - b);
      for (const q of [0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1]) {
        const exact = all[Math.ceil(q * all.length) - 1]!;
        const got = ledger.quantile(q);
        assert.ok(got >= exact && got <= Math.max(exact + 1, exact * 1.016), `${q}: ${got}, exactly ${exact}`);
      }
      assert.equal(ledger.maxLatency, all.at(-1));
    }
  });

  test('of one sample every quantile is that sample; of none it is 0', () => {
    for (const ns of [0, 1, 63, 64, 127, 128, 129, 1000, 65_537, 2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 3e9, 1e12]) {
      const ledger = new RunLedger(1, 0, 0);
      assert.equal(ledger.quantile(0.5), 0);
      ledger.addLatency(ns);
      for (const q of [0.01, 0.5, 1]) assert.equal(ledger.quantile(q), ns);
    }
  });
});

test('a run’s last drop is the latest, also where slices land in another order', () => {
  const { services, scratch } = new Bare(4);
  const { frames, recorder } = services;
  const ledger = frames.openRun(1, 0);
  const born = [1, 2].map(() => frames.born(0, scratch, 60, ledger.index));
  for (const [i, time] of [2000, 1500].entries()) {
    recorder.stamp[0] = time;
    frames.dropped(born[i]!, GUEST_DROP_MALFORMED);
  }
  assert.equal(ledger.dropped[GUEST_DROP_MALFORMED], 2);
  assert.equal(ledger.lastDropNs, 2000);
});
