/** Requests and responses between guests of a world: every back-end, both protocols, what a run says of them. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import type { RunResult, TrafficSpec } from '../../../src/lab/protocol.ts';
import { Refusal } from '../../../src/lab/refusal.ts';
import type { World } from '../../../src/lab/world.ts';
import { BACKENDS, collect, makeWorld, pairDocument, runOne, runOut, twoHostsDocument, udp } from './world-driver.ts';

const KINDS = ['tcp_rr', 'udp_rr'] as const;
type Terms = NonNullable<TrafficSpec['transactions']>;

function rr(kind: (typeof KINDS)[number], terms: Partial<Terms> = {}, options: Partial<TrafficSpec> = {}): TrafficSpec {
  const transactions = { requestBytes: 1, responseBytes: 1, count: 100, outstanding: 1, thinkNs: 0, ...terms };
  return udp('a/net0', 'b/net0', { kind, transactions, ...options });
}
function good(world: World, run: RunResult, completed: number): NonNullable<RunResult['transactions']> {
  assert.equal(run.state, 'SUCCEEDED', run.reason);
  const { transactions } = run;
  assert.ok(transactions);
  assert.deepEqual([transactions.completed, transactions.lost], [completed, 0]);
  assert.equal(run.tcp?.mismatches ?? 0, 0);
  assert.ok(world.status().conservation.holds);
  return transactions;
}

describe.each(KINDS)('%s', (kind) => {
  test.each(BACKENDS)('%s: one at a time, the rate is the inverse of the mean', (backend) => {
    const world = makeWorld(pairDocument(backend));
    const run = runOne(world, rr(kind));
    const { perSecond, latencySeconds } = good(world, run, 100);
    assert.ok(Math.abs(perSecond * latencySeconds.mean - 1) < 1e-6);
    assert.ok(latencySeconds.p50 <= latencySeconds.p90 && latencySeconds.p90 <= latencySeconds.p99);
    assert.ok(latencySeconds.p99 <= latencySeconds.max && latencySeconds.mean <= latencySeconds.max);
    // UDP: two frames a transaction, and nothing else
    if (kind === 'udp_rr') assert.deepEqual([run.sent, run.received], [200, 200]);
    else assert.ok(run.sent >= 200 && run.sent <= 200 + 50);
  });

  test('a woken thread: its wake-up, its read and its send are on the way of every transaction', () => {
    const mean = (costs: object): number => {
      const world = makeWorld(pairDocument('vhost-net', { document: { costs } }));
      return good(world, runOne(world, rr(kind)), 100).latencySeconds.mean * 1e9;
    };
    const base = mean({});
    // twice each: at the server and at the client
    assert.equal(Math.round(mean({ guest_recvmsg: 1650 }) - base), 2000);
    assert.equal(Math.round(mean({ thread_context_switch: 2100 }) - base), 2000);
    // the interrupts are handled meanwhile, so that some of it is hidden
    assert.ok(mean({ guest_udp_send: 1600 }) - base > 1000);
  });

  test('events: who is woken, and what is read', () => {
    for (const backend of ['vhost-net', 'vhost-user'] as const) {
      const world = makeWorld(pairDocument(backend));
      const woken = collect(world.machine, E.GUEST_APP_WAKE);
      const read = collect(world.machine, E.GUEST_APP_READ);
      good(world, runOne(world, rr(kind, { requestBytes: 5, responseBytes: 7, count: 10 })), 10);
      assert.equal(woken.length, backend === 'vhost-net' ? 20 : 0);
      assert.deepEqual(
        read.map((e) => e.a),
        Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? 5 : 7)),
      );
      assert.equal(read[0]!.b, 5001);
    }
  });

  test('a program that polls needs no wake-up', () => {
    const mean = (costs: object): number => {
      const world = makeWorld(pairDocument('vhost-user', { document: { costs } }));
      return good(world, runOne(world, rr(kind)), 100).latencySeconds.p50;
    };
    assert.equal(mean({ guest_recvmsg: 1050, thread_context_switch: 2000 }), mean({}));
  });

  test('long messages arrive whole, both ways, over both families', () => {
    for (const family of [4, 6] as const) {
      for (const [requestBytes, responseBytes] of [
        [1000, 1],
        [1, 1400],
        [1400, 1400],
      ] as const) {
        const world = makeWorld(pairDocument('vhost-net'));
        const run = runOne(world, rr(kind, { requestBytes, responseBytes, count: 30 }, { family }));
        good(world, run, 30);
        if (run.tcp) assert.equal(run.tcp.bytes, 30 * requestBytes);
      }
    }
  });

  test('several connections share the transactions, and are faster than one', () => {
    const rate = (connections: number, outstanding = 1): number => {
      const world = makeWorld(pairDocument('vhost-net'));
      const run = runOne(world, rr(kind, { count: 400, outstanding }, { connections }));
      const { perSecond, connections: said } = good(world, run, 400);
      assert.equal(said, connections);
      return perSecond;
    };
    const one = rate(1);
    assert.ok(rate(4) > 2 * one);
    assert.ok(rate(1, 4) > 2 * one);
  });

  test('think time: the rate falls, the latency does not rise', () => {
    const world = makeWorld(pairDocument('vhost-net', { nic: { backend: 'vhost-net' } }));
    const { perSecond, latencySeconds } = good(world, runOne(world, rr(kind, { thinkNs: 1_000_000 })), 100);
    assert.ok(Math.abs(perSecond / (1 / (latencySeconds.mean + 0.001)) - 1) < 0.02, String(perSecond));
  });

  test('for a while instead of a number', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    const run = runOne(world, rr(kind, { count: null }, { durationSeconds: 0.005, connections: 2 }));
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    const { completed, perSecond, lost } = run.transactions!;
    assert.ok(completed > 50 && lost === 0);
    assert.ok(Math.abs(completed / perSecond - 0.005) < 0.0002);
  });

  test('cancelled: nothing more is sent, the world comes to rest, and the ports are free', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    const spec = rr(kind, { count: 100_000 });
    world.startTraffic(spec);
    for (let i = 0; i < 1000 && (world.run(spec.id).transactions?.completed ?? 0) < 20; i++) {
      world.machine.scheduler.run(world.now + 1_000_000, 1_000_000);
    }
    world.cancel(spec.id);
    runOut(world);
    const run = world.run(spec.id);
    assert.equal(run.state, 'CANCELLED');
    assert.ok(run.transactions!.completed >= 20 && run.transactions!.completed < 1000);
    assert.ok(world.status().conservation.holds);
    good(world, runOne(world, rr(kind)), 100);
  });

  test('several queue pairs: each connection on its own vCPUs', () => {
    const world = makeWorld(pairDocument('vhost-net', { nic: { queuePairs: 4 } }));
    const run = runOne(world, rr(kind, { count: 400 }, { connections: 4 }));
    good(world, run, 400);
    const busy = run.contexts.filter((c) => /vcpu/.test(c.name) && c.busyRatio > 0.01);
    assert.ok(busy.length > 2, JSON.stringify(run.contexts));
  });

  test('the same seed, the same run', () => {
    const prints = [1, 2].map(() => {
      const world = makeWorld(pairDocument('vhost-net'));
      runOne(world, { ...rr(kind, {}, { connections: 3 }), id: 'same' });
      return world.status().fingerprint;
    });
    assert.equal(prints[0], prints[1]);
  });

  test('a cable that loses frames', () => {
    const world = makeWorld(twoHostsDocument('vhost-net', { loss: 0.05, latency: '20us' }));
    const spec = { ...rr(kind, { count: 300 }, { connections: 4 }), from: 'h1/a/net0', to: 'h2/a/net0' };
    const run = runOne(world, spec);
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    const { completed, lost, latencySeconds } = run.transactions!;
    assert.equal(completed + lost, 300);
    assert.ok(run.dropped['link.loss']! > 0);
    if (kind === 'udp_rr') {
      // each loss takes a request or its response, and the client goes on after a second
      assert.equal(lost, run.dropped['link.loss']);
      assert.ok(latencySeconds.max < 0.001);
    } else {
      assert.equal(lost, 0);
      assert.ok(run.tcp!.timeouts > 0 && latencySeconds.max > 0.2);
    }
    assert.ok(world.status().conservation.holds);
  });
});

test('messages that are no single datagram are refused, with the field', () => {
  for (const family of [4, 6] as const) {
    const most = 1500 - 8 - (family === 4 ? 20 : 40);
    for (const field of ['requestBytes', 'responseBytes'] as const) {
      const world = makeWorld(pairDocument('vhost-net'));
      assert.throws(
        () => world.startTraffic(rr('udp_rr', { [field]: most + 1 }, { family })),
        (e) => e instanceof Refusal && e.error.field === `/${field}` && e.message.includes(String(most)),
      );
      good(world, runOne(world, rr('udp_rr', { [field]: most, count: 3 }, { family })), 3);
    }
  }
});

test('the discard port answers nobody: refused for UDP', () => {
  const world = makeWorld(pairDocument('vhost-net'));
  assert.throws(
    () => world.startTraffic(rr('udp_rr', {}, { port: 9 })),
    (e) => e instanceof Refusal && e.error.field === '/port',
  );
  good(world, runOne(world, rr('tcp_rr', {}, { port: 9 })), 100);
});

test('a stream of messages larger than the socket buffers', () => {
  const world = makeWorld(pairDocument('vhost-net'));
  const run = runOne(
    world,
    rr('tcp_rr', { requestBytes: 300_000, responseBytes: 1 << 20, count: 5 }, { window: 16_384 }),
  );
  good(world, run, 5);
  assert.equal(run.tcp!.bytes, 5 * 300_000);
});

test('reading: an application that is slow closes the window, and the stream keeps its pace', () => {
  const rate = (costs: object): number => {
    const world = makeWorld(pairDocument('vhost-net', { document: { costs } }));
    const run = runOne(world, udp('a/net0', 'b/net0', { kind: 'tcp', bytes: 5_000_000 }));
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    assert.equal(run.tcp!.retransmits, 0);
    return run.tcp!.bitsPerSecond;
  };
  const fast = rate({});
  // what it reads is copied; what is sent and what vhost moves is as well
  assert.ok(rate({ copy_per_byte_kernel: 0.3 }) < 0.8 * fast);
  // beyond what the vhost workers take, the reader sets the pace
  assert.ok(rate({ guest_recvmsg: 3050, thread_context_switch: 4000 }) < 0.9 * fast);
});

describe('local ports of clients', () => {
  const MANY = 1024;
  const start = (world: World, id: string, connections: number, change: Partial<TrafficSpec> = {}): void => {
    world.startTraffic(rr('udp_rr', { count: connections }, { id, connections, ...change }));
  };
  const refused = (work: () => void, expected: RegExp): void =>
    assert.throws(work, ({ error }: Refusal) => {
      assert.deepEqual([error.code, error.field], ['CONFLICT', '/connections']);
      assert.match(error.message, expected);
      return true;
    });

  test('those of runs in progress are not given out again; where there are too few the run is refused', () => {
    const world = makeWorld(pairDocument('vhost-net', { guests: ['a', 'b', 'c'] }));
    runOut(world);
    for (let i = 0; i < 27; i++) start(world, `r${i}`, MANY);
    const before = world.allRuns().length;
    refused(
      () => start(world, 'one-more', MANY),
      /^runs in progress have 27648 of the 28232 local ports of a, and no 1024/,
    );
    assert.equal(world.allRuns().length, before);
    start(world, 'rest', 28_232 - 27 * MANY);
    refused(() => start(world, 'none', 1), /28232 of the 28232/);
    // another guest has another address
    start(world, 'other', MANY, { from: 'c/net0' });
    // a gap in the middle is found again, by those that fit
    world.cancel('r3');
    refused(() => start(world, 'large', MANY + 1), /27208 of the 28232/);
    start(world, 'gap', MANY);
    refused(() => start(world, 'full', 1), /28232 of the 28232/);
  });

  test('they begin again at the first one, past those of a run that is still there', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    runOut(world);
    const think = { thinkNs: 3600e9 };
    world.startTraffic(rr('tcp_rr', think, { id: 'long', connections: 3 }));
    for (let i = 0; i < 27; i++) {
      start(world, `r${i}`, MANY);
      world.cancel(`r${i}`);
    }
    // 32768 to 32770 are the long one's
    world.startTraffic(rr('tcp_rr', { count: 700 }, { id: 'again', connections: 700 }));
    while (world.run('again').state === 'RUNNING') world.turn(5);
    const { state, reason, tcp } = world.run('again');
    assert.deepEqual([state, reason], ['SUCCEEDED', undefined]);
    assert.equal(tcp?.senders[0]?.localPort, 32_768 + 3);
    assert.equal(world.run('long').state, 'RUNNING');
  });
});
