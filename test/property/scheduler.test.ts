/**
 * The scheduler against the slow and obvious one of reference-scheduler.ts, on random topologies with random traffic: every
 * event, in order, all five columns; idle polls, busy times, results of runs, fingerprints. Steps of contexts are the same
 * code in both, so this proves the scheduler (run-ahead, parked pollers, shared cores, ties), not the machine.
 *
 * The fold in wasm (fingerprint, counters) is restated in BigInt here and compared on the same runs.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { contextOf, KIND_BY_ID, KIND_STRIDE, kindOf, metaOf, placeOf } from '../../src/engine/events.ts';
import type { Scheduler } from '../../src/engine/scheduler.ts';
import { MIX } from '../../src/engine/wasm.ts';
import type { Machine } from '../../src/lab/build/machine.ts';
import { buildMachine } from '../../src/lab/builder.ts';
import { parseTopology } from '../../src/lab/document.ts';
import { World } from '../../src/lab/world.ts';
import { switchOver } from '../unit/lab/rewiring.ts';
import { type Command, play, type RandomTopology, topologies, traffic } from './random-worlds.ts';
import { ReferenceScheduler } from './reference-scheduler.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = Number(process.env['RINGSIDE_RUNS'] ?? (full ? 400 : 50));
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
/** Longest list of events that is folded again in BigInt, which takes some µs each. */
const FOLDED = 15_000;

/** The same machine, with the reference in the scheduler's place. Nothing has run yet. */
function withReference(machine: Machine): { machine: Machine; reference: ReferenceScheduler } {
  const fast = machine.scheduler;
  const switchCost = Math.round(machine.catalog.costs['thread_context_switch']!);
  const reference = new ReferenceScheduler(
    fast.contexts,
    machine.recorder,
    fast.busy,
    fast.idlePolls,
    switchCost,
    fast.next.length,
    fast.idle,
  );
  reference.next.set(fast.next);
  machine.site.contexts.scheduler = reference as unknown as Scheduler;
  return { machine: { ...machine, scheduler: reference as unknown as Scheduler }, reference };
}

interface Columns {
  readonly count: number;
  readonly held: number;
  readonly time: Float64Array;
  readonly meta: Uint32Array;
  readonly frame: Uint32Array;
  readonly a: Uint32Array;
  readonly b: Uint32Array;
}
function columns(machine: Machine): Columns {
  const l = machine.catalog.layout;
  const { buffer } = machine.arena;
  const count = machine.recorder.events;
  const held = Math.min(count, l.eventCapacity);
  return {
    count,
    held,
    time: new Float64Array(buffer, l.eventTime, l.eventCapacity),
    meta: new Uint32Array(buffer, l.eventMeta, l.eventCapacity),
    frame: new Uint32Array(buffer, l.eventFrame, l.eventCapacity),
    a: new Uint32Array(buffer, l.eventA, l.eventCapacity),
    b: new Uint32Array(buffer, l.eventB, l.eventCapacity),
  };
}
function eventText(machine: Machine, c: Columns, i: number): string {
  const meta = c.meta[i]!;
  const context = machine.catalog.contexts[contextOf(meta)]?.name;
  const place = machine.catalog.places[placeOf(meta)]?.name;
  return `${c.time[i]} ${context} ${KIND_BY_ID[kindOf(meta)]?.name} at ${place} frame ${c.frame[i]} a ${c.a[i]} b ${c.b[i]}`;
}
/** Compares event by event; a text says where they part, with the events before. */
function difference(fast: Machine, slow: Machine): string | null {
  const x = columns(fast);
  const y = columns(slow);
  const n = Math.max(x.held, y.held);
  for (let i = 0; i < n; i++) {
    if (
      x.time[i] === y.time[i] &&
      x.meta[i] === y.meta[i] &&
      x.frame[i] === y.frame[i] &&
      x.a[i] === y.a[i] &&
      x.b[i] === y.b[i] &&
      i < Math.min(x.held, y.held)
    )
      continue;
    const lines = [`event ${i} of ${x.count} and ${y.count}`];
    for (let j = Math.max(0, i - 12); j < i; j++) lines.push(`   both      ${eventText(fast, x, j)}`);
    for (let j = i; j < i + 3; j++)
      lines.push(`   scheduler ${eventText(fast, x, j)}`, `   reference ${eventText(slow, y, j)}`);
    return lines.join('\n');
  }
  return x.count === y.count ? null : `${x.count} and ${y.count} events`;
}

// ---- the fold, restated -----------------------------------------------------------------------------------------
const U64 = (1n << 64n) - 1n;
function foldAgain(c: Columns, contexts: number, places: number): { fingerprint: string; counters: Float64Array } {
  const bits = new BigUint64Array(1);
  const double = new Float64Array(bits.buffer);
  const ordinals = new Array<bigint>(contexts).fill(0n);
  const counters = new Float64Array(places * KIND_STRIDE * 2);
  const pair = (low: number, high: number): bigint => BigInt(low) | (BigInt(high) << 32n);
  let sum = 0n;
  for (let i = 0; i < c.count; i++) {
    const meta = c.meta[i]!;
    double[0] = c.time[i]!;
    const ordinal = ordinals[contextOf(meta)]!++;
    let mixed = ((bits[0]! * MIX.time) & U64) ^ ((pair(meta, c.frame[i]!) * MIX.metaFrame) & U64);
    mixed = (mixed + pair(c.a[i]!, c.b[i]!) * MIX.ab + ordinal * MIX.ordinal) & U64;
    mixed = ((mixed ^ (mixed >> 29n)) * MIX.final) & U64;
    sum = (sum + (mixed ^ (mixed >> 32n))) & U64;
    const at = (placeOf(meta) * KIND_STRIDE + kindOf(meta)) * 2;
    counters[at]!++;
    counters[at + 1]! += c.a[i]!;
  }
  return { fingerprint: sum.toString(16).padStart(16, '0'), counters };
}
function checkFold(machine: Machine, fingerprint: string): void {
  const places = machine.catalog.places.length;
  const again = foldAgain(columns(machine), machine.catalog.contexts.length, places);
  expect(fingerprint).toBe(again.fingerprint);
  const counters = new Float64Array(machine.arena.buffer, machine.catalog.layout.counters, places * KIND_STRIDE * 2);
  for (let i = 0; i < counters.length; i++) {
    if (counters[i] !== again.counters[i]) expect.fail(`counter ${i}: ${counters[i]}, restated ${again.counters[i]}`);
  }
}

// ---- the comparison ---------------------------------------------------------------------------------------------
const met = { cases: 0, events: 0, folded: 0, steps: 0, referenceSteps: 0, idlePolls: 0, overwritten: 0, changes: 0 };

/** A NIC that changes over: which one, and whether to the netdev bridge, or to QEMU's own data path. */
const change = fc.record({ nic: fc.nat(1000), userspace: fc.boolean(), qemu: fc.boolean() });
/** A number of them, one whenever the world stands still: contexts, ports and places come and go. */
const changes = fc.oneof(fc.constant([]), fc.array(change, { maxLength: 8 }));
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

function changing(world: World, wanted: readonly Change[]): () => void {
  const left = [...wanted];
  return () => {
    const next = left.shift();
    const nics = world.machine.guests.flatMap((g) =>
      g.nics.map((n) => ({ guest: g.document.name, host: g.host.name, n })),
    );
    if (next === undefined || world.failed !== null) return;
    const { guest, host, n } = nics[next.nic % nics.length]!;
    const backend = next.userspace ? 'vhost-user' : next.qemu ? 'virtio-net' : 'vhost-net';
    switchOver(world, `${host}/${guest}`, backend, next.userspace ? 'br1' : 'br0', n.document.name);
    met.changes++;
  };
}

function compare(document: RandomTopology, commands: readonly Command[], wanted: readonly Change[]): void {
  const parsed = parseTopology({ ...document, recorder: { events: 1 << 17, bytes: '1MiB' } }, { name: 't' });
  if (!parsed.ok) expect.fail(JSON.stringify(parsed.faults));
  const fast = new World(parsed.topology);
  const { machine, reference } = withReference(buildMachine(parsed.topology));
  const slow = new World(parsed.topology, machine);

  const results = play(fast, document, commands, changing(fast, wanted));
  const expected = play(slow, document, commands, changing(slow, wanted));
  const found = difference(fast.machine, slow.machine);
  if (found !== null) expect.fail(`they part at ${found}\n${fast.failed ?? ''}\n${slow.failed ?? ''}`);
  expect(results).toEqual(expected);
  expect(reference.unannounced).toEqual([]);
  expect(fast.failed, 'no assertion').toBeNull();
  expect({ ...fast.status(), journal: [] }).toEqual({ ...slow.status(), journal: [] });
  expect(fast.status().conservation.holds, JSON.stringify(fast.status().conservation)).toBe(true);
  expect([...fast.machine.scheduler.busy], 'busy').toEqual([...slow.machine.scheduler.busy]);
  expect([...fast.machine.scheduler.idlePolls], 'idle polls').toEqual([...slow.machine.scheduler.idlePolls]);
  expect(fast.machine.scheduler.earliest()).toBe(slow.machine.scheduler.earliest());

  met.cases++;
  met.events += fast.machine.recorder.events;
  met.steps += fast.machine.scheduler.steps;
  met.referenceSteps += reference.steps;
  for (const n of fast.machine.scheduler.idlePolls) met.idlePolls += n;
  if (fast.machine.recorder.events > 1 << 17) met.overwritten++;
  if (fast.machine.recorder.events <= FOLDED) {
    checkFold(fast.machine, fast.status().fingerprint);
    met.folded++;
  }
}

test('agrees with the reference, event by event', () => {
  console.log(`scheduler: seed ${seed}, ${RUNS} cases`);
  try {
    fc.assert(fc.property(topologies, traffic, changes, compare), {
      numRuns: RUNS,
      seed,
      endOnFailure: process.env['RINGSIDE_SHRINK'] !== '1',
    });
  } finally {
    console.log(`scheduler: ${JSON.stringify(met)}`);
  }
  expect(met.folded, 'runs whose fold was restated').toBeGreaterThan(0);
});

test('meta words hold what is put into them', () => {
  fc.assert(
    fc.property(fc.nat(255), fc.nat(4095), fc.nat(4095), (kind, place, context) => {
      const meta = metaOf(kind, place, context);
      expect([kindOf(meta), placeOf(meta), contextOf(meta)]).toEqual([kind, place, context]);
    }),
    { seed },
  );
});
