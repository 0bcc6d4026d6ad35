/** Caches in front of the flow tables: they change what a lookup costs, never what it finds. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../../../src/engine/events.ts';
import { RandomStream } from '../../../../../src/engine/random.ts';
import type { KernelDatapath } from '../../../../../src/machine/ovs/datapath/kernel-datapath.ts';
import { MaskCache } from '../../../../../src/machine/ovs/datapath/mask-cache.ts';
import type { NetdevDatapath } from '../../../../../src/machine/ovs/datapath/netdev-datapath.ts';
import { DP_WORDS, W_IN_PORT, W_RECIRC_ID, W_TP } from '../../../../../src/machine/ovs/flow/flow.ts';
import { frame, pattern } from '../../packet/frame-maker.ts';
import { ActionBench } from './action-bench.ts';

const udp = (port: number): Uint8Array =>
  frame({ version: 4, protocol: 'udp', payload: pattern(8), ports: [port, 5000] });
const portOf = (key: Int32Array): number => ((key[W_TP]! & 0xff) << 8) | ((key[W_TP]! >>> 8) & 0xff);
/** in_port, recirc_id, and the source port but for `n` low bits. */
function maskOf(n: number): Int32Array {
  const mask = new Int32Array(DP_WORDS);
  mask[W_IN_PORT] = -1;
  mask[W_RECIRC_ID] = -1;
  const bits = (0xffff << n) & 0xffff;
  mask[W_TP] = (bits >>> 8) | ((bits & 255) << 8);
  return mask;
}
/** Flows for single ports below 100, for pairs, fours, eights of ports above. */
function bench(kind: 'system' | 'netdev'): ActionBench {
  const b = new ActionBench(kind, 4, (key) => {
    b.mask = maskOf(Math.trunc(portOf(key) / 100) % 4);
    return [{ type: 'output', port: 2 + (portOf(key) % 3) }];
  });
  return b;
}
/** Each flow leaves by the port that its first frame had found. */
function checks(b: ActionBench, frames: number, seed: number): void {
  const random = new RandomStream(seed, 'frames');
  const first = new Map<number, number>();
  for (let i = 0; i < frames; i++) {
    const port = 1 + random.below(399);
    const n = Math.trunc(port / 100) % 4;
    const flow = n * 100_000 + (port >> n);
    const [out] = b.send(1, udp(port), i / 1e6);
    const wanted = first.get(flow) ?? out!.port;
    first.set(flow, wanted);
    assert.equal(out!.port, wanted, `port ${port}`);
    b.bare.events.length = 0;
  }
}

test('kernel: the mask cache finds what the masks find, with fewer lookups', () => {
  const b = bench('system');
  checks(b, 6000, 1);
  const datapath = b.datapath as KernelDatapath;
  assert.equal(datapath.table.masks, 4);
  assert.ok(datapath.cacheHits > 500, `${datapath.cacheHits}`);
  assert.ok(datapath.masksProbed < 6000 * 3);
});

describe('netdev', () => {
  test('the signature match cache finds what dpcls finds, and is asked before it', () => {
    const b = bench('netdev');
    const datapath = b.datapath as NetdevDatapath;
    datapath.smcEnabled = true;
    datapath.emcInsertInvProb = 0;
    checks(b, 4000, 2);
    assert.equal(datapath.emcHits, 0);
    assert.ok(datapath.smcHits > 2000, `${datapath.smcHits}`);
    assert.equal(datapath.smcHits + datapath.megaflowHits + datapath.missWithSuccessUpcall, 4000);
    datapath.smcEnabled = false;
    b.send(1, udp(5));
    assert.equal(b.bare.count(E.DP_SMC_HIT), 0);
  });

  test('with emc-insert-inv-prob 1 every flow is cached with its second frame', () => {
    const b = bench('netdev');
    const datapath = b.datapath as NetdevDatapath;
    datapath.emcInsertInvProb = 1;
    for (let i = 0; i < 4; i++) b.send(1, udp(7));
    assert.deepEqual([datapath.missWithSuccessUpcall, datapath.megaflowHits, datapath.emcHits], [1, 1, 2]);
  });

  test('a frame that an action sends to ovs-vswitchd has hit its flow, and is no miss', () => {
    const b = bench('netdev');
    b.slow = 'action';
    const datapath = b.datapath as NetdevDatapath;
    for (let i = 0; i < 4; i++) b.send(1, udp(7));
    assert.equal(b.asked.length, 4);
    const { packetsReceived, missWithSuccessUpcall, missWithFailedUpcall, megaflowHits, emcHits } = datapath;
    assert.deepEqual([packetsReceived, missWithSuccessUpcall, missWithFailedUpcall], [4, 1, 0]);
    assert.equal(megaflowHits + emcHits, 3);
  });

  test('a removed flow is in no cache any more', () => {
    const b = bench('netdev');
    const datapath = b.datapath as NetdevDatapath;
    datapath.emcInsertInvProb = 1;
    datapath.smcEnabled = true;
    for (let i = 0; i < 4; i++) b.send(1, udp(7));
    datapath.flush(0);
    assert.equal(datapath.flowCount, 0);
    b.send(1, udp(7));
    assert.equal(datapath.missWithSuccessUpcall, 2);
  });

  test('each PMD has flows, caches and counters of its own; others share those of the main thread', () => {
    const b = bench('netdev');
    const datapath = b.datapath as NetdevDatapath;
    for (const id of [5, 6]) datapath.addPmd({ id, txFlushNs: 0, look: () => {} });
    const process = (context: number): void => datapath.process(b.bare.packet(udp(9), 1), context << 20);
    for (const context of [5, 6, 5, 6, 5, 1, 2]) process(context);
    const counts = datapath.states.map((s) => [s.packetsReceived, s.missWithSuccessUpcall, s.flowCount]);
    assert.deepEqual(counts, [
      [2, 1, 1],
      [3, 1, 1],
      [2, 1, 1],
    ]);
    assert.equal(datapath.packetsReceived, 7);
    assert.equal(datapath.flowCount, 3);
    datapath.states[1]!.clear();
    assert.equal(datapath.packetsReceived, 4);
  });

  test('what it has learned makes another one the same', () => {
    const b = bench('netdev');
    const source = b.datapath as NetdevDatapath;
    source.smcEnabled = true;
    checks(b, 3000, 3);
    const again = bench('netdev');
    const copy = again.datapath as NetdevDatapath;
    copy.smcEnabled = true;
    copy.adopt(structuredClone(source.learned()));
    assert.equal(copy.flowCount, source.flowCount);
    assert.equal(copy.emcEntries, source.emcEntries);
    assert.deepEqual(copy.learned(), source.learned());
    assert.ok(copy.learned().pmds[0]!.smc.length > 10);
    const hits = (): number[] => [source, copy].map(({ smcHits, emcHits }) => smcHits + emcHits);
    const before = hits();
    checks(b, 1000, 4);
    checks(again, 1000, 4);
    const after = hits();
    assert.equal(after[1]! - before[1]!, after[0]! - before[0]!);
  });
});

test('a mask cache keeps a hash in one of four places, and forgets one for each that is new there', () => {
  const cache = new MaskCache();
  const random = new RandomStream(9, 'hashes');
  const known = new Map<number, number>();
  let found = 0;
  for (let i = 0; i < 2000; i++) {
    const hash = (random.below(400) + 1) * 0x01000193;
    const place = cache.find(hash | 0);
    if (place >= 0) {
      assert.equal(place, known.get(hash | 0));
      found++;
    } else {
      known.set(hash | 0, i % 7);
      cache.note(hash | 0, i % 7);
    }
  }
  assert.ok(found > 200 && found < 1600, `${found} found of 2000`);
});
