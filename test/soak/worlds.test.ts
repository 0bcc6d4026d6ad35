/**
 * Worlds of all kinds for as long as there is time: random topologies, random traffic, costs from nothing to far too much,
 * and guests that write rubbish into their own rings. No assertion of the emulator may fail, nothing may go back in time, and
 * wherever a world stands still every frame is accounted for.
 */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { KIND_STRIDE, VIRTQ_ERROR } from '../../src/engine/events.ts';
import { parseTopology } from '../../src/lab/document.ts';
import { World } from '../../src/lab/world.ts';
import type { SplitDriverQueue } from '../../src/machine/virtio/queue/split-driver-queue.ts';
import { play, type RandomTopology, runOut, topologies, traffic } from '../property/random-worlds.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
const SECONDS = Number(process.env['RINGSIDE_SECONDS'] ?? (full ? 45 : 6));
/** As many cases as fit into the time. */
const options = {
  seed,
  numRuns: 1_000_000,
  interruptAfterTimeLimit: SECONDS * 1000,
  markInterruptAsFailure: false,
  endOnFailure: true,
};

function worldOf(document: RandomTopology): World {
  const parsed = parseTopology({ ...document, recorder: { events: 1 << 14, bytes: '256KiB' } }, { name: 't' });
  if (!parsed.ok) expect.fail(JSON.stringify(parsed.faults));
  return new World(parsed.topology);
}

/** Chains and indices that devices have refused. */
function refusals(world: World): number {
  world.status();
  const { arena, catalog } = world.machine;
  const counters = new Float64Array(arena.buffer, catalog.layout.counters, catalog.places.length * KIND_STRIDE * 2);
  return catalog.places.reduce((n, p) => n + counters[(p.id * KIND_STRIDE + VIRTQ_ERROR) * 2]!, 0);
}

test('every frame is accounted for, whatever the topology', () => {
  const met = { seed, cases: 0, stops: 0, events: 0, injected: 0, delivered: 0, dropped: new Set<string>() };
  const property = fc.property(topologies, traffic, (document, commands) => {
    const world = worldOf(document);
    let before = world.now;
    play(world, document, commands, () => {
      expect(world.failed).toBeNull();
      expect(world.now).toBeGreaterThanOrEqual(before);
      before = world.now;
      const { conservation } = world.status();
      expect(conservation.holds, JSON.stringify(conservation)).toBe(true);
      met.stops++;
    });
    const { conservation, events } = world.status();
    met.cases++;
    met.events += events;
    met.injected += conservation.injected;
    met.delivered += conservation.delivered;
    for (const reason of Object.keys(conservation.dropped)) met.dropped.add(reason);
  });
  fc.assert(property, options);
  console.log(`soak: ${JSON.stringify({ ...met, dropped: [...met.dropped] })}`);
  expect(met.cases).toBeGreaterThan(0);
});

test('a guest that writes rubbish into its rings harms nobody but itself', () => {
  const met = { seed, cases: 0, written: 0, refused: 0 };
  const rubbish = fc.array(fc.tuple(fc.nat(0xffff), fc.nat(0xffffffff), fc.nat(7)), { minLength: 1, maxLength: 30 });
  const property = fc.property(topologies, traffic, rubbish, (document, commands, writes) => {
    const world = worldOf(document);
    const { arena, guests } = world.machine;
    let at = 0;
    // the driver's part of the rings: descriptor table and available ring
    const scribble = (): void => {
      expect(world.failed).toBeNull();
      const [where, value, choice] = writes[at++ % writes.length]!;
      const nic = guests[0]!.nics[0]!;
      if (!nic.nic.up) return;
      const { layout } = (choice & 1 ? nic.nic.pairs[0]!.rx : nic.nic.pairs[0]!.tx) as SplitDriverQueue;
      if (choice & 2) arena.u16[layout.availRing + (where % layout.size)] = value;
      else if (choice & 4) arena.view.setUint32(layout.desc + (where % (layout.size * 4)) * 4, value, true);
      else arena.u16[layout.availIdx] = value;
      met.written++;
    };
    play(world, document, commands, scribble);
    scribble();
    runOut(world);
    expect(world.failed).toBeNull();
    met.cases++;
    met.refused += refusals(world);
  });
  fc.assert(property, options);
  console.log(`soak: ${JSON.stringify(met)}`);
  expect(met.refused).toBeGreaterThan(0);
});
