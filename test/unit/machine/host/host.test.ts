/** Tap queues, NIC rings, lines and links: limits, times and losses. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { Context } from '../../../../src/engine/context.ts';
import * as E from '../../../../src/engine/events.ts';
import { RandomStream } from '../../../../src/engine/random.ts';
import { wireNs } from '../../../../src/machine/host/nic.ts';
import { Tap } from '../../../../src/machine/host/tap.ts';
import { TUN_F_CSUM, TUN_F_TSO4 } from '../../../../src/machine/host/tun-ioctls.ts';
import { compileActions } from '../../../../src/machine/ovs/datapath/compiled-actions.ts';
import { KernelDatapath } from '../../../../src/machine/ovs/datapath/kernel-datapath.ts';
import {
  collect,
  makeWorld,
  pairDocument,
  placeId,
  pvpDocument,
  runOne,
  twoHostsDocument,
  udp,
} from '../../lab/world-driver.ts';
import { Bare } from '../packet/bare-services.ts';
import { pattern, readFrame } from '../packet/frame-maker.ts';
import { gsoPacket } from '../packet/offload-bench.ts';

class Reader extends Context {
  roused: number[] = [];
  override get clock(): Float64Array {
    return this.times;
  }
  readonly times = new Float64Array(2);
  override rouse(): void {
    this.roused.push(this.times[1]!);
  }
  override step(): void {}
}

describe('tap', () => {
  function tap(limit: number): { bare: Bare; tap: Tap; reader: Reader } {
    const bare = new Bare(64);
    const datapath = new KernelDatapath(bare.services, 1);
    const t = new Tap(bare.services, datapath, 1, 'a.net0', { port: 2, tap: 3 }, limit, 1);
    const reader = new Reader('reader', 0, bare.services.recorder);
    t.queues[0]!.reader = reader;
    t.queues[0]!.paused = false;
    return { bare, tap: t, reader };
  }

  test('holds txqueuelen frames; the next is dropped, counted, and its packet is free again', () => {
    const { bare, tap: t } = tap(5);
    for (let i = 0; i < 8; i++) t.transmit(bare.packet(new Uint8Array(60).fill(i)), 0);
    assert.equal(t.waiting, 5);
    assert.equal(bare.services.pool.live, 5);
    const drops = bare.events.filter((e) => e.kind === E.TAP_DROP_QUEUE_FULL);
    assert.deepEqual(
      drops.map((e) => [e.frame, e.a, e.place]),
      [
        [6, 60, 3],
        [7, 60, 3],
        [8, 60, 3],
      ],
    );
    assert.deepEqual(
      bare.events.filter((e) => e.kind === E.TAP_ENQUEUE).map((e) => e.b),
      [1, 2, 3, 4, 5],
      'queue length',
    );
    for (let i = 0; i < 5; i++) assert.equal(bare.bytesOf(t.queues[0]!.dequeue(0))[0], i, 'first in, first out');
    t.transmit(bare.packet(new Uint8Array(60)), 0);
    assert.equal(t.waiting, 1);
  });

  test('its guest takes what TUNSETOFFLOAD says; the rest is done by the bridge before {net.rx.gso.1} {net.rx.csum.2}', () => {
    for (const [flags, lengths] of [
      [TUN_F_CSUM | TUN_F_TSO4, [3054]],
      [TUN_F_CSUM, [1502, 1502, 158]],
      [0, [1502, 1502, 158]],
    ] as const) {
      const { bare, tap: t } = tap(10);
      const { pool, arena } = bare.services;
      const bridge = new KernelDatapath(bare.services, 9);
      bridge.addPort(t);
      t.setOffloads(flags);
      bridge.execute(
        gsoPacket(bare, 'tcp', { version: 4, payload: pattern(3000) }, 1448),
        compileActions([{ type: 'output', port: 1 }]),
        0,
      );
      const queued = Array.from(lengths, () => t.queues[0]!.dequeue(0));
      assert.equal(t.waiting, 0);
      assert.deepEqual(
        queued.map((p) => pool.length[p]),
        lengths,
      );
      for (const p of queued) {
        assert.equal(arena.u8[pool.slot(p)], flags & TUN_F_CSUM);
        if (flags === 0) readFrame(bare.bytesOf(p));
      }
      assert.equal(bridge.debt > 0, lengths.length > 1, 'the sender pays for it');
    }
  });

  test('wakes its reader after the time that a wake-up takes, and not one that does not want to be', () => {
    const { bare, tap: t, reader } = tap(5);
    reader.times[0] = 1000;
    t.transmit(bare.packet(new Uint8Array(60)), 0);
    assert.deepEqual(reader.roused, [1000 + bare.services.ns('idle_backend_wakeup')]);
    t.queues[0]!.paused = true;
    t.transmit(bare.packet(new Uint8Array(60)), 0);
    assert.equal(reader.roused.length, 1);
    assert.equal(t.waiting, 2);
  });

  test.each([1, 10, 100])(
    'in a world: a queue of %i drops what is too much, and says so at its port',
    (tapQueueLength) => {
      // b's vhost worker is slow
      const world = makeWorld({
        ...pairDocument('vhost-net', { nic: { tapQueueLength } }),
        costs: { vhost_net_rx_per_packet: 20_000 },
      });
      const lengths = collect(world.machine, E.TAP_ENQUEUE, E.TAP_DROP_QUEUE_FULL);
      const r = runOne(world, udp('a/net0', 'b/net0', { count: 2000 }));
      assert.equal(r.state, 'SUCCEEDED');
      assert.ok(r.dropped['tap.queue_full']! > 100);
      assert.equal(r.sent, r.received + r.dropped['tap.queue_full']!);
      const queued = lengths.filter((e) => e.kind === E.TAP_ENQUEUE).map((e) => e.b);
      assert.equal(Math.max(...queued), tapQueueLength);
      assert.equal(lengths.filter((e) => e.kind === E.TAP_DROP_QUEUE_FULL).length, r.dropped['tap.queue_full']);
    },
  );
});

describe('line', () => {
  test('IEEE 802.3 arithmetic: 64 bytes with FCS take 67.2 ns at 10 Gb/s, 1518 take 1230.4', () => {
    assert.ok(Math.abs(wireNs(60, 24, 10e9) - 67.2) < 1e-9);
    assert.ok(Math.abs(wireNs(1514, 24, 10e9) - 1230.4) < 1e-9);
    assert.equal(wireNs(14, 24, 10e9), wireNs(60, 24, 10e9), 'short frames are padded on the wire');
  });

  test.each([
    ['10Gbps', 64, 67.2],
    ['25Gbps', 64, 26.88],
    ['100Gbps', 64, 6.72],
    ['1Gbps', 1518, 12_304],
  ] as const)('at %s frames of %i bytes leave every %f ns', (speed, frameSize, spacing) => {
    const world = makeWorld(pvpDocument('macswap', {}, { speed }));
    const place = placeId(world.machine, 'eth0/wire');
    const sent = collect(world.machine, E.NIC_WIRE_TX);
    const count = 2001;
    runOne(world, udp('eth0', 'eth0', { count, frameSize }));
    const times = sent.filter((e) => e.place === place).map((e) => e.time);
    assert.equal(times.length, count);
    const mean = (times.at(-1)! - times[0]!) / (count - 1);
    assert.ok(Math.abs(mean - spacing) < 0.001, `${mean} ns`);
    for (let i = 1; i < count; i++) assert.ok(Math.abs(times[i]! - times[i - 1]! - spacing) < 1, 'whole ns, no drift');
  });

  test('a paced stream keeps its rate exactly', () => {
    const world = makeWorld(pvpDocument());
    const sent = collect(world.machine, E.NIC_WIRE_TX);
    const place = placeId(world.machine, 'eth0/wire');
    runOne(world, udp('eth0', 'eth0', { count: 1001, rate: 3_000_000 }));
    const times = sent.filter((e) => e.place === place).map((e) => e.time);
    assert.ok(Math.abs((times.at(-1)! - times[0]!) / 1000 - 1e3 / 3) < 0.002);
  });

  test('two streams share a line and never go faster than it', () => {
    const world = makeWorld(pvpDocument('macswap', {}, { speed: '10Gbps' }));
    const sent = collect(world.machine, E.NIC_WIRE_TX);
    const place = placeId(world.machine, 'eth0/wire');
    world.startTraffic(udp('eth0', 'eth0', { count: 500 }));
    runOne(world, udp('eth0', 'eth0', { count: 500 }));
    const times = sent.filter((e) => e.place === place).map((e) => e.time);
    assert.ok(Math.abs((times.at(-1)! - times[0]!) / 999 - 67.2) < 0.001);
  });
});

describe('NIC rings', () => {
  test('a receive ring that nobody empties fast enough drops at its size', () => {
    for (const rxRing of [64, 256]) {
      const world = makeWorld(
        pairDocument('vhost-net', { host: { nics: [{ name: 'eth0', speed: '100Gbps', rxRing }] } }),
      );
      const taken = collect(world.machine, E.NIC_RX);
      const r = runOne(world, udp('eth0', 'a/net0', { count: 3000 }));
      assert.ok(r.dropped['nic.rx_ring_full']! > 100);
      assert.equal(Math.max(...taken.map((e) => e.b)), rxRing);
      const lost = Object.values(r.dropped).reduce((a, b) => a + b, 0);
      assert.equal(r.sent, r.received + lost - r.replicated + r.elsewhere);
    }
  });

  test('a transmit ring in front of a slow line drops at its size', () => {
    const world = makeWorld(
      pairDocument('vhost-net', { host: { nics: [{ name: 'eth0', speed: '100Mbps', txRing: 64 }] } }),
    );
    runOne(world, udp('a/net0', 'eth0', { count: 1 })); // the upcall is over
    const given = collect(world.machine, E.NIC_TX);
    const r = runOne(world, udp('a/net0', 'eth0', { count: 2000 }));
    assert.ok(r.dropped['nic.tx_ring_full']! > 100);
    assert.equal(Math.max(...given.map((e) => e.b)), 64);
    // what gets through goes at line rate: 6.72 us
    assert.ok(Math.abs(r.virtual.framesPerSecond - 1e9 / 6720) < 0.05 * (1e9 / 6720));
  });
});

describe('link', () => {
  test('takes exactly its latency, in order', () => {
    for (const latency of [0, 1, 2500, 7_000_000]) {
      const world = makeWorld(twoHostsDocument('vhost-net', { latency: `${latency}ns` }));
      const line = collect(world.machine, E.NIC_WIRE_TX, E.NIC_WIRE_RX);
      const r = runOne(world, udp('h1/a/net0', 'h2/a/net0', { count: 500, rate: 200_000 }));
      assert.equal(r.received, 500);
      const left = new Map(line.filter((e) => e.kind === E.NIC_WIRE_TX).map((e) => [e.frame, e.time]));
      const arrived = line.filter((e) => e.kind === E.NIC_WIRE_RX);
      assert.ok(arrived.length >= 500);
      for (const e of arrived) assert.equal(e.time - left.get(e.frame)!, latency);
    }
  });

  test('slower than its NICs: its own rate counts', () => {
    const world = makeWorld(twoHostsDocument('vhost-user', { rate: '1Gbps' }));
    const left = collect(world.machine, E.NIC_WIRE_TX);
    runOne(world, udp('h1/a/net0', 'h2/a/net0', { count: 400 }));
    const eth0 = placeId(world.machine, 'h1/eth0');
    const times = left
      .filter((e) => e.place === eth0)
      .map((e) => e.time)
      .slice(10);
    assert.ok(Math.abs((times.at(-1)! - times[0]!) / (times.length - 1) - 672) < 0.1);
  });

  test('loses as often as it should, the same frames for the same seed', () => {
    const lost = (seed: number, loss: number): number[] => {
      const world = makeWorld({ ...twoHostsDocument('vhost-user', { loss }), seed });
      // ARP may lose its three requests
      for (let tries = 0; tries < 20; tries++) {
        if (runOne(world, udp('h1/a/net0', 'h2/a/net0', { count: 1 })).state === 'SUCCEEDED') break;
      }
      const drops = collect(world.machine, E.LINK_DROP_LOSS);
      runOne(world, udp('h1/a/net0', 'h2/a/net0', { count: 4000, rate: 1_000_000 }));
      return drops.map((e) => e.frame);
    };
    for (const loss of [0.01, 0.25, 0.5]) {
      for (const seed of [1, 2, 3]) {
        const n = lost(seed, loss).length;
        // five standard deviations of a binomial distribution
        const sigma = Math.sqrt(4000 * loss * (1 - loss));
        assert.ok(Math.abs(n - 4000 * loss) < 5 * sigma, `seed ${seed}: ${n} of 4000 at ${loss}`);
      }
    }
    assert.deepEqual(lost(1, 0.25), lost(1, 0.25));
    assert.notDeepEqual(lost(1, 0.25), lost(2, 0.25));
    assert.deepEqual(lost(1, 0), []);
  });

  test('all or nothing at the ends of the scale', () => {
    const world = makeWorld(twoHostsDocument('vhost-net', { loss: 1 }));
    const r = runOne(world, udp('h1/a/net0', 'h2/a/net0', { count: 10 }));
    assert.equal(r.state, 'FAILED', 'not even ARP gets through');
    assert.deepEqual(world.status().conservation.dropped, { 'link.loss': 3 });
  });
});

test('random streams: even, apart from each other, and the same for the same name', () => {
  for (const consumer of ['link link1 0', 'link link1 1', 'emc br0', 'x']) {
    const stream = new RandomStream(1, consumer);
    const buckets = new Array<number>(16).fill(0);
    for (let i = 0; i < 16_000; i++) buckets[stream.next() >>> 28]!++;
    assert.ok(
      buckets.every((n) => n > 850 && n < 1150),
      `${consumer}: ${buckets}`,
    );
  }
  const draw = (seed: number, name: string): number[] => {
    const s = new RandomStream(seed, name);
    return Array.from({ length: 5 }, () => s.next());
  };
  assert.deepEqual(draw(1, 'a'), draw(1, 'a'));
  assert.equal(new Set([draw(1, 'a'), draw(2, 'a'), draw(1, 'c'), draw(0, 'a')].map((d) => d[0])).size, 4);
  const never = new RandomStream(1, 'n');
  for (let i = 0; i < 1000; i++) assert.ok(!never.chance(0) && never.chance(1));
});
