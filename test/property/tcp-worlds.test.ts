/** TCP and transactions between guests of two hosts over cables that lose frames: everything arrives, everything is accounted for. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { LINK_DROP_LOSS } from '../../src/engine/events.ts';
import type { RunResult } from '../../src/lab/protocol.ts';
import type { World } from '../../src/lab/world.ts';
import {
  BACKENDS,
  collect,
  full,
  makeWorld,
  runOne,
  type SeenEvent,
  twoHostsDocument,
  udp,
} from '../unit/lab/world-driver.ts';

const numRuns = full ? 150 : 12;
const ends = ['h1/a/net0', 'h2/a/net0'] as const;

const world = fc.record({
  seed: fc.integer({ min: 1, max: 1_000_000 }),
  backend: fc.constantFrom(...BACKENDS),
  loss: fc.double({ min: 0, max: 0.1, noNaN: true }),
  family: fc.constantFrom(4 as const, 6 as const),
});
const make = (w: { seed: number; backend: (typeof BACKENDS)[number]; loss: number }) =>
  makeWorld({ ...twoHostsDocument(w.backend, { loss: w.loss, latency: '50us' }), seed: w.seed });

/**
 * Nothing came of the run: the cable has lost each of the three questions for the server's address or its answer. The connect() of
 * Linux fails with EHOSTUNREACH then. Every other failure is a failure of the test.
 */
function unresolved(built: World, run: RunResult, lost: readonly SeenEvent[], family: 4 | 6): boolean {
  if (run.state === 'SUCCEEDED') return false;
  assert.equal(run.state, 'FAILED');
  const question =
    family === 4 ? /^no answer to ARP for 10\.0\.0\.2: / : /^no answer to neighbour solicitation for fe80::/;
  assert.match(run.reason!, question);
  assert.equal(run.sent, 0);
  assert.deepEqual(
    lost.map((e) => Math.floor(e.time / 1e9)),
    [0, 1, 2],
  );
  assert.equal(Math.floor(built.now / 1e9), 3);
  assert.ok(built.status().conservation.holds);
  return true;
}

test('streams: every byte arrives, whatever is lost and however it is repaired', () => {
  fc.assert(
    fc.property(
      world,
      fc.record({
        bytes: fc.nat(300_000),
        connections: fc.integer({ min: 1, max: 3 }),
        congestion: fc.constantFrom('newreno' as const, 'cubic' as const),
        sack: fc.boolean(),
        window: fc.constantFrom(4096, 65_536, 1 << 20),
      }),
      (w, stream) => {
        const built = make(w);
        const lost = collect(built.machine, LINK_DROP_LOSS);
        const run = runOne(built, udp(...ends, { kind: 'tcp_stream', family: w.family, ...stream }));
        if (unresolved(built, run, lost, w.family)) return;
        assert.equal(run.state, 'SUCCEEDED', run.reason);
        const tcp = run.tcp!;
        assert.deepEqual(
          [tcp.bytes, tcp.acknowledgedBytes, tcp.mismatches, tcp.open],
          [stream.bytes, stream.bytes, 0, 0],
        );
        assert.deepEqual([tcp.congestion, tcp.sack], [stream.congestion, stream.sack]);
        for (const sender of tcp.senders) {
          assert.ok(sender.cwndBytes >= tcp.mss);
          // timeouts of the handshake leave it as it is
          if (sender.ssthreshBytes !== null) assert.ok(sender.fastRecoveries + sender.timeouts > 0);
          if (sender.fastRecoveries > 0) assert.ok(sender.ssthreshBytes !== null);
        }
        // nothing is sent again that was not lost: but its acknowledgement may have been
        assert.equal(tcp.retransmits > 0 && (run.dropped['link.loss'] ?? 0) === 0, false);
        assert.ok(built.status().conservation.holds);
      },
    ),
    { numRuns },
  );
});

test('transactions: each is completed, or lost (UDP)', () => {
  fc.assert(
    fc.property(
      world,
      fc.constantFrom('tcp_rr' as const, 'udp_rr' as const),
      fc.record({
        requestBytes: fc.integer({ min: 1, max: 1400 }),
        responseBytes: fc.integer({ min: 1, max: 1400 }),
        count: fc.integer({ min: 1, max: 60 }),
        outstanding: fc.integer({ min: 1, max: 5 }),
        thinkNs: fc.constantFrom(0, 100_000),
      }),
      fc.integer({ min: 1, max: 4 }),
      (w, kind, transactions, connections) => {
        const built = make(w);
        const losses = collect(built.machine, LINK_DROP_LOSS);
        const run = runOne(built, udp(...ends, { kind, family: w.family, transactions, connections }));
        if (unresolved(built, run, losses, w.family)) return;
        assert.equal(run.state, 'SUCCEEDED', run.reason);
        const { completed, lost, latencySeconds } = run.transactions!;
        assert.equal(completed + lost, transactions.count);
        const dropped = run.dropped['link.loss'] ?? 0;
        if (kind === 'tcp_rr') assert.equal(lost, 0);
        else {
          assert.ok(lost <= dropped, `${lost} of ${dropped}`);
          // a response is that of its own request, whichever was lost
          assert.ok(latencySeconds.max < 0.01, String(latencySeconds.max));
        }
        if (completed > 0) assert.ok(latencySeconds.p50 >= 100e-6 && latencySeconds.max >= latencySeconds.p99);
        assert.ok(built.status().conservation.holds);
      },
    ),
    { numRuns },
  );
});
