/** The receive side of a NIC: rings that RSS fills, and a limit of frames per second. */
import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { RandomStream } from '../../../../src/engine/random.ts';
import { Scheduler } from '../../../../src/engine/scheduler.ts';
import { NEVER } from '../../../../src/engine/timeline.ts';
import { NicTx } from '../../../../src/machine/host/nic.ts';
import { NicRx } from '../../../../src/machine/host/nic-rx.ts';
import { Bare } from '../packet/bare-services.ts';
import { frame, pattern } from '../packet/frame-maker.ts';

const datagram = (sourcePort: number): Uint8Array =>
  frame({ version: 4, protocol: 'udp', payload: pattern(18), ports: [sourcePort, 5000] });
/** 60 bytes, FCS, preamble and gap at 10 Gbit/s. */
const SLOT_NS = 67.2;

/** A cable: whatever is sent arrives, and lies in the rings. */
function cable(options: { queues?: number; ring?: number; txLimit?: number; rxLimit?: number }) {
  const { queues = 1, ring = 4096, txLimit = 0, rxLimit = 0 } = options;
  const bare = new Bare(32_768);
  const tx = new NicTx('tx', bare.services, 10e9, 16_384, txLimit);
  const rx = new NicRx('rx', bare.services, ring, false, queues, rxLimit);
  const arrived = rx.queues.map(() => 0);
  for (const queue of rx.queues) queue.reader = { frameArrived: () => arrived[queue.index]!++ };
  tx.line = { to: rx, latencyNs: 0, loss: 0, random: new RandomStream(1, 'line'), rate: 0 };
  const contexts = [tx, rx];
  for (const [i, c] of contexts.entries()) {
    c.id = i;
    c.place = 10 + i;
    c.begin();
  }
  const scheduler = new Scheduler(contexts, bare.services.recorder, new Float64Array(4), new Float64Array(4), 0);
  const send = (ports: readonly number[]): void => {
    for (const port of ports) tx.send(bare.packet(datagram(port)), 0);
    scheduler.run(NEVER, 1e6);
  };
  const times = (kind: number): number[] => bare.events.filter((e) => e.kind === kind).map((e) => e.time);
  return { bare, rx, arrived, send, times };
}
const ports = (n: number): number[] => Array.from({ length: n }, (_, i) => 1024 + i);

describe('receive rings', () => {
  it('RSS spreads flows evenly, and keeps each in one ring', () => {
    const { rx, arrived, send } = cable({ queues: 4 });
    send(ports(1000));
    assert.equal(
      arrived.reduce((a, b) => a + b),
      1000,
    );
    for (const n of arrived) assert.ok(n > 150 && n < 350, `${arrived}`);
    assert.equal(rx.used, 1000);
    assert.equal(rx.waiting, 1000);
    const before = [...arrived];
    send(new Array<number>(50).fill(1024));
    assert.deepEqual(
      arrived.map((n, i) => n - before[i]!).sort((a, b) => a - b),
      [0, 0, 0, 50],
    );
  });
  it('one that is full drops its own frames only', () => {
    const { arrived, send, bare } = cable({ queues: 4, ring: 64 });
    send(new Array<number>(100).fill(1024));
    assert.equal(Math.max(...arrived), 64);
    assert.equal(bare.count(E.NIC_DROP_RX_RING_FULL), 36);
    send(ports(40));
    assert.ok(arrived.filter((n) => n > 0).length > 1);
  });
  it('taking a frame frees its descriptors', () => {
    const { rx, send } = cable({});
    send([1024, 1025]);
    rx.queues[0]!.take(0);
    assert.equal(rx.used, 1);
    assert.equal(rx.queues[0]!.ring.length, 1);
  });
});

describe('frames per second', () => {
  it('without a limit the line alone counts', () => {
    const { send, times } = cable({});
    send(ports(1000));
    assert.equal(times(E.NIC_WIRE_TX).at(-1), Math.ceil(1000 * SLOT_NS));
  });
  it('a sender sends no more, and long frames take their time on the line as before', () => {
    const { send, times } = cable({ txLimit: 5_000_000 });
    send(ports(1000));
    assert.deepEqual(times(E.NIC_WIRE_TX).slice(0, 4), [200, 400, 600, 800]);
    const free = cable({ txLimit: 100_000_000 });
    free.send(ports(1000));
    assert.equal(free.times(E.NIC_WIRE_TX).at(-1), Math.ceil(1000 * SLOT_NS));
  });
  it('a receiver takes no more: frames wait in its buffer, the first not at all', () => {
    const { send, times, rx } = cable({ rxLimit: 5_000_000 });
    send(ports(100));
    const came = times(E.NIC_WIRE_RX);
    assert.equal(came[0], Math.ceil(SLOT_NS));
    assert.deepEqual(
      came.slice(1, 5).map((t, i) => t - came[i]!),
      [200, 200, 200, 200],
    );
    assert.equal(rx.used, 100);
  });
  it('and drops what its buffer of 512 KiB has no room for', () => {
    const { send, bare, rx } = cable({ rxLimit: 1_000_000, ring: 16_384 });
    send(ports(12_000));
    const dropped = bare.count(E.NIC_DROP_RX_FIFO);
    // what came in 12,000 line times, and as many as the buffer holds: 8192 frames of 64 bytes
    const expected = 12_000 - (12_000 * SLOT_NS) / 1000 - 8192;
    assert.ok(Math.abs(dropped - expected) < 20, `${dropped} against ${expected}`);
    assert.equal(rx.used + dropped, 12_000);
  });
});
