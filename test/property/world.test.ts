/**
 * Random topologies with random traffic, looked at after every single step: no frame is lost or made, every frame arrives
 * as it was sent, times never go back along its way, queues keep their limits, cores are in one place at a time, and every
 * notification is what the ring's words ask for.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import * as E from '../../src/engine/events.ts';
import { parseTopology } from '../../src/lab/document.ts';
import { World } from '../../src/lab/world.ts';
import { DMAR_BASE, DMAR_IQT_REG } from '../../src/machine/wire/vtd.ts';
import { FrameBytes } from '../unit/lab/frame-bytes.ts';
import { FrameAccount, watch } from '../unit/lab/world-driver.ts';
import { type Command, isIdle, play, type RandomTopology, topologies, traffic } from './random-worlds.ts';

const IQT = DMAR_BASE + DMAR_IQT_REG;

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 600 : 30;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);

function build(document: RandomTopology): World {
  const parsed = parseTopology({ ...document, recorder: { events: 1 << 16, bytes: '4MiB' } }, { name: 't' });
  assert.ok(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.faults));
  return new World(parsed.topology);
}

/** Looks at each event as it is recorded. */
function invariants(world: World, document: RandomTopology): () => void {
  const { machine } = world;
  const { places } = machine.catalog;
  const limits = new Map<number, number>();
  const eventIdx = new Set<number>();
  for (const [h, host] of document.hosts.entries()) {
    const prefix = document.hosts.length > 1 ? `${host.name}/` : '';
    for (const g of host.guests) {
      for (const n of g.nics) {
        const tap = places.find((p) => p.name === `${prefix}${n.bridge}/${g.name}.${n.name}/tap`);
        if (tap) limits.set(tap.id, n.tapQueueLength);
        // DPDK's driver does not negotiate event idx
        if (n.driver !== 'virtio-net' || n.features['VIRTIO_RING_F_EVENT_IDX'] === false) continue;
        const queues = places.filter((p) => p.type === 'queue' && p.name.startsWith(`${prefix}${g.name}/${n.name}/`));
        for (const q of queues) eventIdx.add(q.id);
      }
    }
    limits.set(
      places.find((p) => p.name === `${prefix}eth0`)!.id,
      Math.max(host.nics[0]!.rxRing, host.nics[0]!.txRing),
    );
    assert.ok(h < 2);
  }
  const last = new Map<number, number>();
  const asked = new Map<number, number>();
  let kicks = 0;
  let exits = 0;
  watch(machine, (e) => {
    // what is on a frame's way; kicks and returned buffers are beside it
    const kind = E.KIND_BY_ID[e.kind]!;
    if (e.frame !== 0 && (kind.hop !== null || kind.role !== 'none' || e.kind === E.PACKET_COPY)) {
      const before = last.get(e.frame) ?? 0;
      if (e.time < before) assert.fail(`${kind.name} of frame ${e.frame} at ${e.time}, after something at ${before}`);
      last.set(e.frame, e.time);
    }
    if (e.time > world.now) assert.fail(`${kind.name} at ${e.time}, which is after now, ${world.now}`);
    switch (e.kind) {
      case E.VIRTQ_KICK:
        kicks++;
        break;
      case E.KVM_EXIT_MMIO_KERNEL:
      case E.KVM_EXIT_MMIO_USER:
        // the registers of an IOMMU are no doorbells
        if (e.a !== IQT) exits++;
        break;
      case E.VIRTQ_DROP_BAD_CHAIN:
        assert.fail(`${places[e.place]!.name}: a chain of an honest driver is bad (${e.a})`);
        break;
      case E.TAP_ENQUEUE:
      case E.NIC_RX:
      case E.NIC_TX:
        assert.ok(e.b >= 1 && e.b <= limits.get(e.place)!, `${places[e.place]!.name} holds ${e.b}`);
        break;
      case E.VIRTQ_INTERRUPT:
      case E.VIRTQ_INTERRUPT_SUPPRESSED: {
        if (!eventIdx.has(e.place)) break;
        const old = asked.get(e.place);
        asked.set(e.place, e.b);
        if (old === undefined) break;
        const crossed = ((e.b - e.a - 1) & 0xffff) < ((e.b - old) & 0xffff);
        assert.equal(
          e.kind === E.VIRTQ_INTERRUPT,
          crossed,
          `${places[e.place]!.name}: used_event ${e.a}, used_idx ${old} to ${e.b}`,
        );
        break;
      }
    }
  });
  return () => assert.equal(kicks, exits, 'a kick is an exit');
}

function check(document: RandomTopology, commands: readonly Command[]): void {
  const world = build(document);
  const { scheduler, pool } = world.machine;
  const account = new FrameAccount(world);
  const noise = document.hosts.some((h) => h.guests.some((g) => g.app !== 'stack'));
  if (!noise) new FrameBytes(world);
  const settled = invariants(world, document);
  const run = scheduler.run.bind(scheduler);
  scheduler.run = (until, budget) => {
    for (let i = 0; i < budget; i++) {
      const stop = run(until, 1);
      if (stop !== 'budget') return stop;
      account.check();
    }
    return 'budget';
  };
  const busy = scheduler.busy.slice();
  const from = world.now;
  const runs = play(world, document, commands);
  assert.equal(world.failed, null);
  settled();
  const { contexts } = world.machine.catalog;
  for (const { host, core } of contexts) {
    if (core < 0) continue;
    const sum = contexts.reduce(
      (n, c) => (c.host === host && c.core === core ? n + scheduler.busy[c.id]! - busy[c.id]! : n),
      0,
    );
    // a slice that has been taken is paid for before it ends
    const ahead = contexts.reduce(
      (n, c) =>
        c.host === host && c.core === core && Number.isFinite(scheduler.next[c.id]!)
          ? Math.max(n, scheduler.next[c.id]! - world.now)
          : n,
      0,
    );
    assert.ok(
      sum <= world.now - from + ahead + 1,
      `core ${core} of ${host} was busy for ${sum} of ${world.now - from} ns`,
    );
  }
  if (!isIdle(world)) return;
  const states = (runs as { state: string }[]).map((r) => r.state);
  assert.ok(!states.includes('RUNNING'), states.join());
  if (!states.includes('FAILED')) {
    assert.equal(account.inFlight, 0);
    assert.equal(pool.live, 0);
  }
}

test(`random worlds, after every step (seed ${seed})`, () => {
  fc.assert(fc.property(topologies, traffic, check), { seed, numRuns: RUNS, endOnFailure: true });
});

test(`random worlds end the same however they are sliced (seed ${seed})`, () => {
  fc.assert(
    fc.property(topologies, traffic, fc.integer({ min: 1, max: 50 }), (document, commands, budget) => {
      const outcome = (slices: boolean): unknown => {
        const world = build(document);
        const { scheduler } = world.machine;
        if (slices) {
          const run = scheduler.run.bind(scheduler);
          scheduler.run = (until, most) => run(until, Math.min(budget, most));
        }
        const runs = play(world, document, commands);
        const { journal: _journal, ...status } = world.status();
        return { runs, status };
      };
      assert.deepEqual(outcome(true), outcome(false));
    }),
    { seed, numRuns: Math.ceil(RUNS / 2), endOnFailure: true },
  );
});
