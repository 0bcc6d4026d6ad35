/**
 * Journeys grouped by path beside the journeys of the single frames, on random worlds: the same frames, the same paths, and
 * sums that are the same to the ns.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { RingReader } from '../../src/engine/event-ring.ts';
import * as E from '../../src/engine/events.ts';
import { parseTopology } from '../../src/lab/document.ts';
import { World } from '../../src/lab/world.ts';
import { findJourney, type Journey } from '../../src/readers/journey/journey.ts';
import { type GroupResult, JourneyGroups } from '../../src/readers/journey/journey-groups.ts';
import { play, type RandomTopology, topologies, traffic } from './random-worlds.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 100 : 12;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);

function build(document: RandomTopology, events: number): World {
  const parsed = parseTopology({ ...document, recorder: { events, bytes: '4MiB' } }, { name: 't' });
  assert.ok(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.faults));
  return new World(parsed.topology);
}
function result<T>(steps: Generator<void, T, undefined>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}
function journeyOf(reader: RingReader, frame: number): Journey | null {
  const found = result(findJourney(reader, frame));
  return found.kind === 'found' ? found.journey : null;
}

interface Sum {
  count: number;
  latency: number;
  processing: number;
  waiting: number;
  copies: number;
  copiedBytes: number;
  exits: number;
  kicks: number;
  interrupts: number;
  costs: number[];
  waits: number[];
}
/** Groups made of single journeys: by path and outcome. */
function grouped(journeys: readonly Journey[]): Map<string, Sum> {
  const groups = new Map<string, Sum>();
  for (const j of journeys) {
    const steps = j.hops.filter((hop) => hop.onPath);
    const key = [j.outcome, ...steps.map((hop) => `${hop.place} ${hop.event}`)].join('\n');
    const sum = groups.get(key) ?? {
      ...{ count: 0, latency: 0, processing: 0, waiting: 0, copies: 0, copiedBytes: 0, exits: 0, kicks: 0 },
      ...{ interrupts: 0, costs: steps.map(() => 0), waits: steps.map(() => 0) },
    };
    groups.set(key, sum);
    sum.count++;
    sum.latency += j.totals.latencyNs;
    sum.processing += j.totals.processingNs;
    sum.waiting += j.totals.waitingNs;
    sum.copies += j.totals.copies;
    sum.copiedBytes += j.totals.copiedBytes;
    sum.exits += j.totals.exits;
    sum.kicks += j.totals.kicks;
    sum.interrupts += j.totals.interrupts;
    for (const [i, hop] of steps.entries()) {
      sum.costs[i]! += hop.costNs;
      sum.waits[i]! += hop.waitedNs;
    }
  }
  return groups;
}
function sums(world: World, { groups }: GroupResult): Map<string, Sum> {
  const { places } = world.machine.catalog;
  return new Map(
    groups.map((g) => {
      const steps = g.hops.map(
        (hop) => `${places[E.placeOf(hop.step)]!.name} ${E.KIND_BY_ID[E.kindOf(hop.step)]!.name}`,
      );
      const { count, copies, copiedBytes, exits, kicks, interrupts } = g;
      const sum: Sum = {
        ...{ count, copies, copiedBytes, exits, kicks, interrupts },
        latency: g.latency.sum,
        processing: g.processingNs,
        waiting: g.waitingNs,
        costs: g.hops.map((hop) => hop.cost.sum),
        waits: g.hops.map((hop) => hop.waited.sum),
      };
      return [[g.outcome, ...steps].join('\n'), sum] as const;
    }),
  );
}
const sorted = (groups: ReadonlyMap<string, Sum>): unknown[] => [...groups].sort(([a], [b]) => (a < b ? -1 : 1));

test(
  'group sums are the sums of single journeys',
  () => {
    let compared = 0;
    fc.assert(
      fc.property(topologies, traffic, (document, commands) => {
        const world = build(document, 1 << 19);
        play(world, document, commands);
        const reader = new RingReader(world.machine.arena.buffer, world.machine.catalog);
        // a loop of floods may go on until more has happened than the ring holds: what is lost then is the next test's
        if (reader.tail() > 0) return;
        const all = result(new JourneyGroups(reader).scan());
        assert.equal(all.incomplete, 0);
        assert.equal(all.frames, reader.framesHead());
        const left = Object.values(all.others).reduce((n, x) => n + x, 0);
        assert.equal(
          all.groups.reduce((n, g) => n + g.count, left),
          all.frames,
        );
        // loops: too many ways, or too long ones; generations of copies, each of which looks for its bytes in all before it
        if (left > 0 || all.frames > 1000) return;
        const ids = Array.from({ length: all.frames }, (_, i) => i + 1);
        const journeys = ids.map((id) => journeyOf(reader, id)!);
        assert.deepEqual(sorted(sums(world, all)), sorted(grouped(journeys)));
        compared += journeys.length;
        for (const g of all.groups) {
          const slowest = journeys[g.slowestFrame - 1]!;
          assert.equal(slowest.totals.latencyNs, g.latency.max);
          assert.equal(journeys[g.firstFrame - 1]!.outcome, g.outcome);
        }
      }),
      { numRuns: RUNS, seed },
    );
    assert.ok(compared >= RUNS, `${compared} journeys compared`);
  },
  full ? 600_000 : 60_000,
);

test(
  'what was overwritten is counted apart: every frame that left a trace is counted once',
  () => {
    fc.assert(
      fc.property(topologies, traffic, (document, commands) => {
        const world = build(document, 1 << 14);
        play(world, document, commands);
        const reader = new RingReader(world.machine.arena.buffer, world.machine.catalog);
        const seen = new Set<number>();
        const whole = new Set<number>();
        for (let next = reader.tail(); next < reader.head(); ) {
          const count = reader.read(next);
          for (let i = 0; i < count; i++) {
            const frame = reader.block.frame[i]!;
            if (frame === 0) continue;
            const kind = E.kindOf(reader.block.meta[i]!);
            if (!seen.has(frame) && (kind === E.PACKET_BORN || kind === E.PACKET_CLONE)) whole.add(frame);
            seen.add(frame);
          }
          next = reader.block.first + count;
        }
        const all = result(new JourneyGroups(reader).scan());
        assert.equal(all.frames, whole.size);
        assert.equal(all.incomplete, seen.size - whole.size);
      }),
      { numRuns: RUNS, seed },
    );
  },
  full ? 600_000 : 60_000,
);
