/**
 * UDP traffic of mixed sizes, drawn flows, bursts and durations in worlds: every kind of sender sends the same stream, and nothing of
 * it is lost or made up on the way.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import type { TrafficPattern, TrafficSpec } from '../../../src/lab/protocol.ts';
import { Refusal } from '../../../src/lab/refusal.ts';
import type { World } from '../../../src/lab/world.ts';
import { recorded } from './recorded.ts';
import { collect, makeWorld, pairDocument, pvpDocument, runOne, udp } from './world-driver.ts';

const PLAIN: TrafficPattern = { sizes: null, distribution: 'round-robin', skew: 1, spread: 'ports', burst: 1 };
const IMIX: TrafficPattern['sizes'] = [
  { size: 64, weight: 7 },
  { size: 570, weight: 4 },
  { size: 1518, weight: 1 },
];
const pattern = (change: Partial<TrafficPattern>): Pick<TrafficSpec, 'pattern'> => ({
  pattern: { ...PLAIN, ...change },
});

/** Datagrams of a run as they were made, in their order: length in memory, source address and port. */
function datagrams(world: World, id: string): { length: number; source: string; port: number }[] {
  const number = world.runNumber(id);
  const { events, bytesOf } = recorded(world, E.PACKET_BORN, E.PACKET_BYTES);
  const born = new Set(events.filter((e) => e.kind === E.PACKET_BORN && e.b === number).map((e) => e.frame));
  const made: Buffer[] = [];
  for (const event of events)
    if (event.kind === E.PACKET_BYTES && born.delete(event.frame)) made.push(Buffer.from(bytesOf(event)));
  return made.map((frame) => ({
    length: frame.length,
    source: frame.subarray(26, 30).join('.'),
    port: frame.readUInt16BE(34),
  }));
}

interface Sender {
  readonly name: string;
  readonly world: () => World;
  readonly from: string;
  readonly to: string;
  readonly spec?: Partial<TrafficSpec>;
}
const dummies = { hosts: [{ name: 'h1', nics: [{ name: 'eth0' }, { name: 'eth1' }] }] };
const SENDERS: readonly Sender[] = [
  {
    name: 'a socket',
    world: () => makeWorld(pairDocument('vhost-net')),
    from: 'a/net0',
    to: 'b/net0',
  },
  {
    name: 'pktgen',
    world: () => makeWorld(pairDocument('virtio-net')),
    from: 'a/net0',
    to: 'b/net0',
    spec: { generator: 'pktgen' },
  },
  { name: 'txonly', world: () => makeWorld(pairDocument('vhost-user')), from: 'a/net0', to: 'b/net0' },
  { name: 'a wire', world: () => makeWorld(pvpDocument()), from: 'eth0', to: 'eth0' },
  { name: 'a bridge port', world: () => makeWorld(dummies), from: 'br0/eth0', to: 'eth1' },
];

describe.each(SENDERS.map((s) => [s.name, s] as const))('%s', (_, { world: make, from, to, spec }) => {
  const send = (options: Partial<TrafficSpec>) => {
    const world = make();
    const run = runOne(world, udp(from, to, { rate: 200_000, ...spec, ...options }));
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    assert.ok(world.status().conservation.holds);
    return { run, world, frames: datagrams(world, run.id) };
  };

  test('a mix of sizes arrives as it is sent, in the order of the seed', () => {
    const { run, frames } = send({ count: 300, ...pattern({ sizes: IMIX }) });
    assert.equal(run.received, 300);
    assert.equal(frames.length, 300);
    const bytes = frames.reduce((sum, f) => sum + f.length + 4, 0);
    assert.ok(Math.abs((run.virtual.frameBitsPerSecond * run.virtual.durationSeconds) / 8 / bytes - 1) < 1e-9);
    for (const { size, weight } of IMIX!) {
      const share = frames.filter((f) => f.length === size - 4).length / 300;
      assert.ok(Math.abs(share - weight / 12) < 0.12, `${size}: ${share}`);
    }
    assert.deepEqual(send({ count: 300, ...pattern({ sizes: IMIX }) }).frames, frames);
  });

  test('flows are drawn: the first of Zipf’s has most', () => {
    const { frames } = send({ count: 400, flows: 16, ...pattern({ distribution: 'zipf' }) });
    const counts = Array.from({ length: 16 }, (_, i) => frames.filter((f) => f.port === 49152 + i).length);
    assert.equal(
      counts.reduce((a, b) => a + b),
      400,
    );
    assert.equal(Math.max(...counts), counts[0]);
    // 1 / H(16) = 0.296
    assert.ok(counts[0]! > 80 && counts[0]! < 160, `${counts.join(' ')}`);
  });

  test('as fast as it can, for a duration', () => {
    const { run } = send({ rate: 0, count: 1e9, durationSeconds: 0.0005 });
    assert.ok(run.sent > 50, `${run.sent}`);
    const lasted = run.virtual.durationSeconds;
    assert.ok(lasted > 0.00045 && lasted < 0.004, `${lasted}`);
  });

  test('a duration at a rate is a number of frames', () => {
    assert.equal(send({ rate: 100_000, count: 1e9, durationSeconds: 0.001 }).run.sent, 100);
    assert.equal(send({ rate: 100_000, count: 1e9, durationSeconds: 0.000001 }).run.sent, 1);
  });

  test('bursts come back to back, at the same mean rate', () => {
    const times = (burst: number): number[] => {
      const world = make();
      const born = collect(world.machine, E.PACKET_BORN);
      const options = { rate: 50_000, count: 64, ...pattern({ burst }) };
      const run = runOne(world, udp(from, to, { ...spec, ...options }));
      assert.equal(run.received, 64);
      return born.filter((e) => e.b === world.runNumber(run.id)).map((e) => e.time);
    };
    const even = times(1);
    const burst = times(16);
    assert.equal(even.length, 64);
    assert.equal(burst.length, 64);
    for (let i = 0; i < 4; i++) {
      const first = burst[16 * i]! - burst[0]!;
      // the first one may wait for a thread that wakes up
      assert.ok(Math.abs(first - i * 320_000) < 20_000, `burst ${i} after ${first} ns`);
      assert.ok(burst[16 * i + 15]! - burst[16 * i]! < 60_000, 'back to back');
    }
    assert.ok(Math.abs(even[63]! - even[0]! - 63 * 20_000) < 20_000);
  });
});

test('flows by address: from wires, ports, pktgen and txonly; a socket has one address', () => {
  const spec = { flows: 4, rate: 200_000, count: 40, ...pattern({ spread: 'addresses' }) };
  const world = makeWorld(pvpDocument());
  const run = runOne(world, udp('eth0', 'eth0', spec));
  assert.equal(run.received, 40);
  const wire = datagrams(world, run.id);
  assert.deepEqual(
    new Set(wire.map((f) => f.source)),
    new Set(['198.18.0.1', '198.18.0.2', '198.18.0.3', '198.18.0.4']),
  );
  assert.deepEqual(new Set(wire.map((f) => f.port)), new Set([49152]));
  const pair = makeWorld(pairDocument('vhost-net'));
  assert.equal(runOne(pair, udp('a/net0', 'b/net0', { ...spec, generator: 'pktgen' })).received, 40);
  assert.throws(
    () => pair.startTraffic(udp('a/net0', 'b/net0', spec)),
    (e) => e instanceof Refusal && e.error.field === '/spread',
  );
});

test('several queue pairs: each flow stays with its pair, and shares of frames follow the distribution', () => {
  const nic = { queuePairs: 2 };
  const world = makeWorld(pairDocument('vhost-net', { nic }));
  const spec = { flows: 8, count: 600, rate: 100_000, ...pattern({ distribution: 'zipf', sizes: IMIX }) };
  const run = runOne(world, udp('a/net0', 'b/net0', spec));
  assert.equal(run.received, 600);
  const frames = datagrams(world, run.id);
  const even = frames.filter((f) => (f.port - 49152) % 2 === 0).length;
  // (1 + 1/3 + 1/5 + 1/7) of H(8)
  assert.equal(even, Math.floor((600 * (1 + 1 / 3 + 1 / 5 + 1 / 7)) / 2.717857142857143) + 1);
});

test('several queue pairs, and a duration with fewer frames than pairs: as many send as there are frames', () => {
  const world = makeWorld(pairDocument('vhost-net', { nic: { queuePairs: 4 } }));
  const spec = { flows: 4, rate: 1000, count: 1e9, durationSeconds: 0.002 };
  assert.equal(runOne(world, udp('a/net0', 'b/net0', spec)).received, 2);
});

test('a size that no datagram fits in is refused', () => {
  const world = makeWorld(pairDocument('vhost-net'));
  const small = { family: 6 as const, ...pattern({ sizes: [{ size: 64, weight: 1 }] }) };
  assert.throws(
    () => world.startTraffic(udp('a/net0', 'b/net0', small)),
    (e) => e instanceof Refusal && e.error.field === '/sizes',
  );
});
