/** Packets, their queues, and the account of a run, against obvious models. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { AssertionFailed } from '../../../../src/engine/assert.ts';
import { RandomStream } from '../../../../src/engine/random.ts';
import { PacketPool, PacketQueue, SLOT_BYTES } from '../../../../src/machine/packet/pool.ts';
import { RunLedger } from '../../../../src/machine/packet/run-ledger.ts';

describe('PacketPool', () => {
  test('no slot is given out twice, clones share bytes until the last is gone, whatever the order', () => {
    const pool = new PacketPool(4096, 64);
    const random = new RandomStream(1, 'pool');
    /** Packets in use, by the model: each with the slot of its bytes. */
    const live = new Map<number, number>();
    for (let i = 0; i < 50_000; i++) {
      const packets = [...live.keys()];
      const some = packets[random.below(Math.max(1, packets.length))];
      const slots = new Set(live.values());
      // a clone holds a packet number of its own beside the bytes it shares
      const taken = new Set([...live.keys(), ...slots]);
      const what = random.below(3);
      if (what === 0 && taken.size < 64) {
        const packet = pool.alloc();
        assert.ok(!taken.has(packet));
        assert.equal(pool.slot(packet), 4096 + packet * SLOT_BYTES);
        pool.length[packet] = i;
        live.set(packet, packet);
      } else if (what === 1 && some !== undefined && taken.size < 64) {
        const clone = pool.clone(some);
        assert.ok(!taken.has(clone));
        assert.equal(pool.at(clone), pool.at(some));
        assert.equal(pool.length[clone], pool.length[some]);
        live.set(clone, live.get(some)!);
      } else if (what === 2 && some !== undefined) {
        pool.release(some);
        live.delete(some);
      }
      assert.equal(pool.live, live.size);
    }
    for (const packet of live.keys()) pool.release(packet);
    assert.equal(pool.live, 0);
    // nothing leaked: all 64 can be had again
    assert.equal(new Set(Array.from({ length: 64 }, () => pool.alloc())).size, 64);
    assert.throws(() => pool.alloc(), AssertionFailed);
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
