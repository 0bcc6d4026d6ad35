/**
 * Dry runs on random worlds that have seen random traffic and are at rest: the frame then really does what the dry run said,
 * event by event, whatever the costs, cores and rings are.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { RingReader } from '../../src/engine/event-ring.ts';
import { parseTopology } from '../../src/lab/document.ts';
import { learnedState, Rehearsal } from '../../src/lab/dry-run.ts';
import { Ends } from '../../src/lab/ends.ts';
import type { FramesSpec, RehearsalResult } from '../../src/lab/protocol.ts';
import { World } from '../../src/lab/world.ts';
import { findJourney, type Journey } from '../../src/readers/journey/journey.ts';
import { isIdle, play, type RandomTopology, runOut, topologies, traffic } from './random-worlds.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 200 : 10;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);

function build(document: RandomTopology): World {
  const parsed = parseTopology({ ...document, recorder: { events: 1 << 18, bytes: '8MiB' } }, { name: 't' });
  assert.ok(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.faults));
  return new World(parsed.topology);
}
function rehearse(world: World, spec: FramesSpec): RehearsalResult {
  const rehearsal = new Rehearsal(world.machine.topology, structuredClone(learnedState(world.machine)), spec);
  for (;;) {
    const result = rehearsal.turn(1000);
    if (result !== null) return result;
  }
}
function journeyOf(reader: RingReader, frame: number, first: number): object {
  const search = findJourney(reader, frame);
  for (;;) {
    const { done, value } = search.next();
    if (!done) continue;
    assert.equal(value.kind, 'found');
    const { journey } = value as { journey: Journey };
    const ids = [journey.parent ?? first, ...journey.clones].map((id) => id - first);
    return {
      ...journey,
      frame: frame - first,
      parent: null,
      clones: ids,
    };
  }
}

/** Fields of contexts that say nothing while nothing is under way: what the last slice was about, or where a ring begins. */
const SCRATCH: Readonly<Record<string, readonly string[]>> = {
  every: ['count', 'begun', 'passing'],
  NicRx: ['phase', 'arrivalHead'],
  // counted again from the first sender when the next one comes
  Injector: ['turn'],
  LinuxVcpu: ['turn'],
  // past those who have done: `turns` says whose turn it really is
  PmdVcpu: ['turn'],
  // what it shows of its work so far
  Pmd: ['bursts', 'txBatches', 'txPackets', 'debtNs', 'polling'],
  OvsRevalidator: [
    ...['began', 'maxFlows', 'averageFlows', 'dumpDurationMs'],
    ...['at', 'translates', 'counted', 'countedAt'],
  ],
};
/** The numbers and flags that each context remembers, and its timer, by its name and theirs. */
function memoryOf(world: World): object {
  const facts = world.machine.scheduler.contexts.flatMap((context) => {
    const { name: kind } = context.constructor;
    const scratch = [...SCRATCH['every']!, ...(SCRATCH[kind] ?? [])];
    const timer = world.machine.scheduler.standing().timers[context.id]!;
    return Object.entries({ ...context, turns: context.turns.join(' '), timer })
      .filter(([field, value]) => ['number', 'boolean', 'string'].includes(typeof value) && !scratch.includes(field))
      .map(([field, value]) => [`${kind} ${context.name}: ${field}`, value]);
  });
  return Object.fromEntries(facts);
}

test('contexts of the twin remember what those of a world at rest do', () => {
  fc.assert(
    fc.property(topologies, traffic, fc.nat(1000), (document, commands, n) => {
      const world = build(document);
      play(world, document, commands);
      if (!isIdle(world) || world.failed !== null) return;
      world.clock({ state: 'RUNNING' });
      const ends = new Ends(world.machine).names.filter((e) => !/(^|\/)eth0$/.test(e) || document.links.length === 0);
      const bytes = new Uint8Array(60).fill(255, 0, 6);
      const at = ends[n % ends.length]!;
      const spec: FramesSpec = { id: 'f', kind: 'frames', at, bytes, lengths: Uint32Array.of(60), times: null };
      const rehearsal = new Rehearsal(world.machine.topology, structuredClone(learnedState(world.machine)), spec);
      world.startFrames(spec);
      assert.deepEqual(memoryOf(Reflect.get(rehearsal, 'world') as World), memoryOf(world));
    }),
    { numRuns: full ? 500 : 25, seed },
  );
});

const frame = fc.record({
  at: fc.nat(1000),
  to: fc.constantFrom('ffffffffffff', '525400000001', '525400000002', '525400000003', '0180c2000000'),
  from: fc.constantFrom('525400000001', '525400000002', '020000000077'),
  bytes: fc.uint8Array({ minLength: 48, maxLength: 120 }),
});

test(
  'a world at rest does what the dry run said',
  () => {
    let compared = 0;
    fc.assert(
      fc.property(
        topologies,
        traffic,
        fc.array(frame, { minLength: 1, maxLength: 3 }),
        (document, commands, frames) => {
          const world = build(document);
          play(world, document, commands);
          for (const [i, f] of frames.entries()) {
            if (!isIdle(world) || world.failed !== null) return; // a loop: never at rest
            world.clock({ state: 'RUNNING' });
            const ends = new Ends(world.machine).names.filter(
              (n) => !/(^|\/)eth0$/.test(n) || document.links.length === 0,
            );
            const bytes = new Uint8Array(Buffer.concat([Buffer.from(f.to + f.from, 'hex'), f.bytes]));
            const at = ends[f.at % ends.length]!;
            const spec: FramesSpec = {
              ...{ id: `f${i}`, kind: 'frames', at, bytes, lengths: Uint32Array.of(bytes.length), times: null },
            };
            const told = rehearse(world, spec);
            const born = world.machine.recorder.frames;
            world.startFrames(spec);
            runOut(world);
            if (told.ended !== 'idle') return;
            assert.ok(isIdle(world));
            const made = world.machine.recorder.frames - born;
            assert.equal(told.frames, made);
            compared++;
            const twin = new RingReader(told.memory, told.catalog);
            const real = new RingReader(world.machine.arena.buffer, world.machine.catalog);
            for (let id = 1; id <= made; id++)
              assert.deepEqual(
                journeyOf(twin, id, 0),
                journeyOf(real, born + id, born),
                `${at}, frame ${id} of ${made}`,
              );
          }
        },
      ),
      { numRuns: RUNS, seed },
    );
    assert.ok(compared >= RUNS / 2, `${compared} frames compared`);
  },
  full ? 600_000 : 60_000,
);
