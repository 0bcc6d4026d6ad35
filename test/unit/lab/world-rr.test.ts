/** Requests and responses between guests of a world: every back-end, both protocols, what a run says of them. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import type { RunResult, TrafficSpec } from '../../../src/lab/protocol.ts';
import type { World } from '../../../src/lab/world.ts';
import { BACKENDS, makeWorld, pairDocument, runOne, runOut, twoHostsDocument, udp } from './world-driver.ts';

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
});
void runOut;
void twoHostsDocument;
