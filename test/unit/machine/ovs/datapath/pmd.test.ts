/** A PMD's output batches: how long frames wait for a fuller one. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { Scheduler } from '../../../../../src/engine/scheduler.ts';
import { NETDEV_MAX_BURST, Pmd, type PmdTxq } from '../../../../../src/machine/ovs/datapath/pmd.ts';
import { Bare } from '../../packet/bare-services.ts';

class Txq implements PmdTxq {
  pending = 0;
  /** Frames of each flow's batch that are to come. */
  flows: number[] = [];
  readonly flushes: [begun: number, frames: number][] = [];
  declare private readonly stamp: Float64Array;

  constructor(stamp: Float64Array) {
    this.stamp = stamp;
  }
  oneFlow(limit: number): number {
    return Math.min(limit, this.flows.shift() ?? limit);
  }
  flushCost(): number {
    return 100;
  }
  flush(n: number): void {
    this.pending -= n;
    this.flushes.push([this.stamp[0]!, n]);
  }
  flushed(): number {
    return 0;
  }
  attach(): void {}
}

test('tx-flush-interval: a batch waits until so long after the one before it, a full one does not wait', () => {
  const { services } = new Bare(4);
  const pmd = new Pmd('pmd', 0, services);
  pmd.id = 0;
  const txq = new Txq(services.recorder.stamp);
  pmd.addTxq(txq);
  const column = (): Float64Array => new Float64Array(1);
  const scheduler = new Scheduler([pmd], services.recorder, column(), column(), 0);
  pmd.begin();
  pmd.txFlushNs = 50_000;
  scheduler.next[0] = 0;
  /** So many frames are put into the batch at a time. */
  const put = (time: number, frames: number): void => {
    scheduler.run(time, 1000);
    scheduler.now[0] = time;
    txq.pending += frames;
    pmd.look();
  };
  put(100_000, 1);
  put(110_000, 1);
  put(120_000, 2);
  put(200_000, NETDEV_MAX_BURST);
  put(210_000, NETDEV_MAX_BURST);
  put(220_000, 1);
  put(400_000, 1);
  scheduler.run(1e6, 1000);
  const grid = services.ns('pmd_idle_iteration') + 100;
  const expected: [number, number][] = [
    [100_000, 1],
    [150_000, 3],
    [200_000, NETDEV_MAX_BURST],
    [210_000, NETDEV_MAX_BURST],
    [260_000, 1],
    [400_000, 1],
  ];
  assert.deepEqual(
    txq.flushes.map(([, n]) => n),
    expected.map(([, n]) => n),
  );
  for (const [i, [time]] of expected.entries()) {
    const late = txq.flushes[i]![0] - time;
    assert.ok(late >= 0 && late <= 2 * grid, `${i}: ${late} ns`);
  }
});

test('without output batching each flow of a burst is a flush of its own', () => {
  const flushes = (outputBatching: boolean): [number, number][] => {
    const { services } = new Bare(4);
    const pmd = new Pmd('pmd', 0, services);
    pmd.id = 0;
    pmd.outputBatching = outputBatching;
    const txq = new Txq(services.recorder.stamp);
    pmd.addTxq(txq);
    const column = (): Float64Array => new Float64Array(1);
    const scheduler = new Scheduler([pmd], services.recorder, column(), column(), 0);
    pmd.begin();
    scheduler.next[0] = 0;
    txq.pending = 6;
    txq.flows = [1, 3, 2];
    scheduler.run(1e5, 1000);
    return txq.flushes;
  };
  assert.deepEqual(flushes(true), [[0, 6]]);
  assert.deepEqual(flushes(false), [
    [0, 1],
    [100, 3],
    [200, 2],
  ]);
});
