/** TCP, and IPv6, between guests of a world: every back-end, both families, loss, cancelling, what a run says of it. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import type { RunResult, TrafficSpec } from '../../../src/lab/protocol.ts';
import { Refusal } from '../../../src/lab/refusal.ts';
import type { World } from '../../../src/lab/world.ts';
import {
  BACKENDS,
  collect,
  makeWorld,
  pairDocument,
  ping,
  pvpDocument,
  runOne,
  runOut,
  stepThrough,
  traffic,
  twoHostsDocument,
  udp,
} from './world-driver.ts';

const tcp = (from: string, to: string, options: Partial<TrafficSpec> = {}): TrafficSpec =>
  udp(from, to, { kind: 'tcp', ...options });

function good(world: World, run: RunResult, bytes: number): void {
  assert.equal(run.state, 'SUCCEEDED', run.reason);
  const { tcp } = run;
  assert.ok(tcp);
  assert.deepEqual([tcp.bytes, tcp.acknowledgedBytes, tcp.mismatches, tcp.open], [bytes, bytes, 0, 0]);
  assert.ok(world.status().conservation.holds);
}

describe.each(BACKENDS)('%s', (backend) => {
  test.each([4, 6] as const)('a stream over IPv%i arrives; both sides close; frames are accounted for', (family) => {
    for (const connections of [1, 5]) {
      const world = makeWorld(pairDocument(backend));
      const states = collect(world.machine, E.TCP_STATE);
      const run = runOne(world, tcp('a/net0', 'b/net0', { bytes: 1_000_003, connections, family }));
      good(world, run, 1_000_003);
      assert.equal(run.tcp!.connections, connections);
      assert.equal(run.tcp!.retransmits, 0);
      assert.ok(run.tcp!.segments >= 1_000_003 / 1460);
      assert.ok(run.tcp!.bitsPerSecond > 1e8);
      assert.ok(run.virtual.latencySeconds.max > 0);
      // LISTEN, SYN_RECV, ESTABLISHED, CLOSE_WAIT, LAST_ACK, CLOSE at the server; the client's five
      assert.equal(states.length, 11 * connections);
      assert.equal(run.dropped['guest.tcp_out_of_window'], undefined);
    }
  });

  test('nothing to send is a handshake and two FINs', () => {
    const world = makeWorld(pairDocument(backend));
    const run = runOne(world, tcp('a/net0', 'b/net0', { bytes: 0 }));
    good(world, run, 0);
    assert.equal(run.tcp!.packets, 0);
    assert.ok(run.sent >= 4 && run.sent <= 7);
  });

  test('echo and datagrams over IPv6, link-local where the document has no address', () => {
    const world = makeWorld(pairDocument(backend));
    const [echo, datagrams] = traffic(
      world,
      ping('a/net0', 'b/net0', { family: 6, count: 20 }),
      udp('a/net0', 'b/net0', { family: 6, frameSize: 80, flows: 3 }),
    );
    assert.deepEqual([echo!.state, echo!.received], ['SUCCEEDED', 20]);
    assert.deepEqual([datagrams!.state, datagrams!.received], ['SUCCEEDED', 100]);
    assert.ok(world.status().conservation.holds);
  });

  test('for a while instead of a number of bytes', () => {
    const world = makeWorld(pairDocument(backend));
    const run = runOne(world, tcp('a/net0', 'b/net0', { durationSeconds: 0.002 }));
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    assert.ok(run.tcp!.bytes > 50_000);
    assert.equal(run.tcp!.acknowledgedBytes, run.tcp!.bytes);
    assert.ok(run.virtual.durationSeconds >= 0.002 && run.virtual.durationSeconds < 0.2);
  });

  test('cancelled: nothing more is sent, and the world comes to rest', () => {
    const world = makeWorld(pairDocument(backend));
    const spec = tcp('a/net0', 'b/net0', { bytes: 10_000_000 });
    world.startTraffic(spec);
    world.machine.scheduler.run(world.now + 1_000_000, 1_000_000);
    world.cancel(spec.id);
    runOut(world);
    const run = world.run(spec.id);
    assert.equal(run.state, 'CANCELLED');
    assert.ok(run.tcp!.bytes < 10_000_000);
    assert.ok(world.status().conservation.holds);
    good(world, runOne(world, tcp('a/net0', 'b/net0', { bytes: 5000 })), 5000);
  });

  test('over a cable that loses frames: sent again, nothing missing, nothing wrong', () => {
    const world = makeWorld(twoHostsDocument(backend, { loss: 0.02, latency: '20us' }));
    const run = runOne(world, tcp('h1/a/net0', 'h2/a/net0', { bytes: 300_000, connections: 2 }));
    good(world, run, 300_000);
    assert.ok(run.tcp!.retransmits > 0);
    assert.ok(run.dropped['link.loss']! > 0);
  });
});

test('both directions and several kinds of traffic at once', () => {
  const world = makeWorld(pairDocument('vhost-net'));
  const [there, back, echo] = traffic(
    world,
    tcp('a/net0', 'b/net0', { bytes: 400_000, connections: 3 }),
    tcp('b/net0', 'a/net0', { bytes: 400_000, family: 6 }),
    ping('a/net0', 'b/net0', { count: 5 }),
  );
  good(world, there!, 400_000);
  good(world, back!, 400_000);
  assert.equal(echo!.received, 5);
});

test('the same seed, the same run', () => {
  const prints = [1, 2].map(() => {
    const world = makeWorld(pairDocument('vhost-net'));
    const spec = { ...tcp('a/net0', 'b/net0', { bytes: 200_000, connections: 3 }), id: 'same' };
    runOne(world, spec);
    return world.status().fingerprint;
  });
  assert.equal(prints[0], prints[1]);
});

test('no way between the ends: the run fails and says which question had no answer', () => {
  const bridges = [{ name: 'br0' }, { name: 'br1' }];
  const guests = ['a', 'b'].map((name, i) => ({
    name,
    nics: [{ name: 'net0', backend: 'vhost-net', bridge: `br${i}`, addresses: [`10.0.0.${i + 1}/24`] }],
  }));
  const world = makeWorld({ hosts: [{ name: 'h1', bridges, guests }] });
  const run = runOne(world, tcp('a/net0', 'b/net0', { family: 6 }));
  assert.equal(run.state, 'FAILED');
  assert.match(run.reason!, /neighbour solicitation for fe80::5054:ff:fe00:2:/);
  assert.equal(run.tcp, undefined);
});

test('addresses of the document are used where they are of one subnet', () => {
  const nic = (n: number): object => ({ name: 'net0', backend: 'vhost-net', addresses: [`fd00::${n}/64`] });
  const guests = ['a', 'b'].map((name, i) => ({ name, nics: [nic(i + 1)] }));
  const world = makeWorld({ hosts: [{ name: 'h1', bridges: [{ name: 'br0' }], guests }] });
  const run = runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
  assert.equal(run.received, 3);
  assert.deepEqual(
    world.machine.guests[0]!.stack.learnedNeighbours().map(([ip]) => ip),
    ['253.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2'],
  );
});

test.each([
  ['a generator', tcp('a/net0', 'b/net0', { generator: 'pktgen' }), '/generator'],
  ['an end without a stack', tcp('a/net0', 'br0/b.net0'), '/to'],
])('refused: %s', (_, spec, field) => {
  const world = makeWorld(pairDocument('vhost-net'));
  assert.throws(
    () => world.startTraffic(spec),
    (e) => e instanceof Refusal && e.error.code === 'INVALID' && e.error.field === field,
  );
});
test('refused: a wire end, and a guest that forwards', () => {
  const world = makeWorld(pvpDocument());
  for (const spec of [tcp('eth0', 'a/net0'), tcp('a/net0', 'eth0')]) {
    assert.throws(() => world.startTraffic(spec), Refusal);
  }
});

test.each([true, false])('whether SACK was negotiated (asked: %s) is not told before it was', (sack) => {
  const world = makeWorld(pairDocument('vhost-net'));
  runOut(world);
  const spec = tcp('a/net0', 'b/net0', { bytes: 1000, connections: 2, sack });
  world.startTraffic(spec);
  const told: (boolean | null | undefined)[] = [];
  let established = 0;
  const states = collect(world.machine, E.TCP_STATE);
  stepThrough(world, () => {
    const now = world.run(spec.id).tcp?.sack;
    if (told.at(-1) !== now || told.length === 0) told.push(now);
    if (now === null) established = states.length;
  });
  // no connections yet; their SYNs are under way; the first answer has come
  assert.deepEqual(told, [undefined, null, sack]);
  assert.ok(established > 0, 'SYNs had been sent by then');
});
