/** A tap with several queues: which one a frame goes to (linux drivers/net/tun.c, tun_select_queue()). */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { Context } from '../../../../src/engine/context.ts';
import * as E from '../../../../src/engine/events.ts';
import { Tap } from '../../../../src/machine/host/tap.ts';
import { KernelDatapath } from '../../../../src/machine/ovs/datapath/kernel-datapath.ts';
import { flowHash, reciprocalScale } from '../../../../src/machine/virtio/net/flow-hash.ts';
import { Bare } from '../packet/bare-services.ts';

class Reader extends Context {
  readonly times = new Float64Array(2);
  override get clock(): Float64Array {
    return this.times;
  }
  override rouse(): void {}
  override step(): void {}
}

function tap(queues: number, limit = 100): { bare: Bare; tap: Tap } {
  const bare = new Bare(1024);
  const datapath = new KernelDatapath(bare.services, 1);
  const t = new Tap(bare.services, datapath, 1, 'a.net0', { port: 2, tap: 3 }, limit, queues);
  datapath.addPort(t);
  for (const queue of t.queues) queue.reader = new Reader('reader', 0, bare.services.recorder);
  return { bare, tap: t };
}
/** A UDP frame of flow `port`; the other way round where `back`. */
function datagram(port: number, back = false): Uint8Array {
  const bytes = new Uint8Array(60);
  bytes.set([8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0], 12);
  bytes.set(back ? [10, 0, 0, 2, 10, 0, 0, 1] : [10, 0, 0, 1, 10, 0, 0, 2], 26);
  const ports = [port, 9];
  if (back) ports.reverse();
  bytes.set([ports[0]! >> 8, ports[0]! & 255, ports[1]! >> 8, ports[1]! & 255, 0, 26], 34);
  return bytes;
}
const lengths = (t: Tap): number[] => t.queues.map((q) => q.queue.length);

describe('queues of a tap', () => {
  test('one of several in use: everything goes there', () => {
    const { bare, tap: t } = tap(4);
    for (let port = 1; port <= 50; port++) t.transmit(bare.packet(datagram(port)), 0);
    assert.deepEqual(lengths(t), [50, 0, 0, 0]);
  });

  test('all frames of a flow go to one queue, and flows that nobody knows are spread by their hash', () => {
    const { bare, tap: t } = tap(4);
    t.active = 4;
    const want = [0, 0, 0, 0];
    for (let port = 1; port <= 80; port++) {
      const frame = datagram(port);
      want[reciprocalScale(flowHash(frame, 0, frame.length), 4)]!++;
      t.transmit(bare.packet(frame), 0);
    }
    assert.deepEqual(lengths(t), want);
    assert.ok(Math.min(...want) >= 10, `spread: ${want}`);
    const before = lengths(t);
    for (let i = 0; i < 15; i++) t.transmit(bare.packet(datagram(7)), 0);
    const grown = lengths(t).map((n, q) => n - before[q]!);
    assert.deepEqual(
      grown.toSorted((a, b) => b - a),
      [15, 0, 0, 0],
    );
  });

  test('a flow comes in on the queue on which the guest last sent frames of it', () => {
    const { bare, tap: t } = tap(4);
    t.active = 4;
    for (const queue of [3, 1, 2]) {
      const before = lengths(t);
      t.queues[queue]!.receive(bare.packet(datagram(77)), 0);
      t.transmit(bare.packet(datagram(77, true)), 0);
      assert.deepEqual(
        lengths(t).map((n, q) => n - before[q]!),
        [0, 1, 2, 3].map((q) => (q === queue ? 1 : 0)),
      );
    }
    assert.equal(t.flows!.count, 1);
  });

  test('a flow of a queue that is no longer in use goes by its hash', () => {
    const { bare, tap: t } = tap(4);
    t.active = 4;
    t.queues[3]!.receive(bare.packet(datagram(77)), 0);
    t.active = 2;
    t.transmit(bare.packet(datagram(77, true)), 0);
    const frame = datagram(77, true);
    assert.equal(t.queues[reciprocalScale(flowHash(frame, 0, frame.length), 2)]!.queue.length, 1);
  });

  test('a program (RSS) chooses instead; where it has no say, the tap does', () => {
    const { bare, tap: t } = tap(4);
    t.active = 4;
    t.setSteering((u8, at) => u8[at + 35]! % 8);
    for (const port of [0, 1, 2, 3, 6]) t.transmit(bare.packet(datagram(port)), 0);
    assert.deepEqual(lengths(t), [1, 1, 2, 1], 'modulo the queues in use');
    t.queues[1]!.receive(bare.packet(datagram(77)), 0);
    assert.equal(t.flows!.count, 0, 'nothing is learned under a program');
    t.setSteering(() => -1);
    const frame = datagram(9);
    const before = lengths(t);
    t.transmit(bare.packet(frame), 0);
    const queue = reciprocalScale(flowHash(frame, 0, frame.length), 4);
    assert.equal(lengths(t)[queue], before[queue]! + 1);
    t.setSteering(null);
    t.queues[1]!.receive(bare.packet(datagram(77)), 0);
    assert.equal(t.flows!.count, 1);
  });

  test('each queue holds txqueuelen frames of its own', () => {
    const { bare, tap: t } = tap(2, 3);
    t.active = 2;
    t.setSteering((u8, at) => u8[at + 35]! & 1);
    for (let i = 0; i < 5; i++) t.transmit(bare.packet(datagram(0)), 0);
    t.transmit(bare.packet(datagram(1)), 0);
    assert.deepEqual(lengths(t), [3, 1]);
    assert.equal(bare.count(E.TAP_DROP_QUEUE_FULL), 2);
    assert.equal(t.waiting, 4);
  });
});
