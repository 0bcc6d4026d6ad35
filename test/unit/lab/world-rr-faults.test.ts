/** Transactions while back-ends die, guests pause and NICs change their back-end: each is completed, or known to be lost. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import type { RunResult, TrafficSpec } from '../../../src/lab/protocol.ts';
import type { World } from '../../../src/lab/world.ts';
import { crash, crashWorld } from './crash-worlds.ts';
import { BRIDGE, migrationWorld, nicA, peerOf } from './migration-worlds.ts';
import { BACKENDS, makeWorld, pairDocument, runOut, udp } from './world-driver.ts';

const KINDS = ['tcp_rr', 'udp_rr'] as const;
function rr(kind: (typeof KINDS)[number], to: string, count: number): TrafficSpec {
  const transactions = { requestBytes: 64, responseBytes: 200, count, outstanding: 2, thinkNs: 0 };
  return udp('a/net0', to, { kind, transactions, connections: 2 });
}
function ended(world: World, id: string, count: number): NonNullable<RunResult['transactions']> {
  runOut(world);
  const run = world.run(id);
  assert.equal(run.state, 'SUCCEEDED', run.reason);
  const { transactions } = run;
  assert.equal(transactions!.completed + transactions!.lost, count);
  if (run.tcp) assert.deepEqual([run.tcp.mismatches, run.tcp.bytes, transactions!.lost], [0, 64 * count, 0]);
  assert.ok(world.status().conservation.holds);
  return transactions!;
}
/** Runs at most so long, ns of virtual time. */
function runFor(world: World, ns: number): void {
  world.clock({ untilSeconds: (world.now + ns) / 1e9 });
  runOut(world);
  world.clock({ state: 'RUNNING' });
}

describe.each(KINDS)('%s', (kind) => {
  test.each(['virtio-net', 'virtio-pmd'] as const)('the back-end of a %s guest dies again and again', (driver) => {
    const world = crashWorld({ driver });
    const { id: fault } = world.fault(crash({ everyFrames: 150, times: 5, restartAfterNs: 300_000 }));
    const { id } = world.startTraffic(rr(kind, 'b/net0', 800));
    ended(world, id, 800);
    assert.equal(world.faults.get(fault).strikes, 5);
  });

  test.each(BACKENDS)('%s: either guest is stopped for a while', (backend) => {
    const world = makeWorld(pairDocument(backend));
    const { id } = world.startTraffic(rr(kind, 'b/net0', 400));
    for (const name of ['a', 'b']) {
      runFor(world, 1_500_000);
      const before = world.run(id).transactions?.completed ?? 0;
      world.guestState(name, 'paused');
      runFor(world, 700_000);
      const meanwhile = (world.run(id).transactions?.completed ?? 0) - before;
      // stopping takes qemu_vm_stop, and what was on its way arrives
      assert.ok(meanwhile <= 15, `${before}, then ${meanwhile}`);
      world.guestState(name, 'running');
    }
    assert.equal(ended(world, id, 400).lost, 0);
  });

  test('the NIC goes from back-end to back-end', () => {
    const world = migrationWorld({ backend: 'virtio-net' });
    const { id } = world.startTraffic(rr(kind, peerOf('virtio-net'), 300));
    runFor(world, 3_000_000);
    for (const to of ['vhost-net', 'virtio-net'] as const) {
      world.migrate(nicA(world), { backend: to, bridge: BRIDGE[to] });
      runFor(world, 1_000_000);
    }
    ended(world, id, 300);
  });
});
