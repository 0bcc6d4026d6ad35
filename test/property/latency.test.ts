/**
 * The latency histograms that the engine fills in wasm, against a naive account of the same events: random topologies with
 * random traffic, with frame ids that begin where all frames are measured, where groups of them stand for others, and just
 * below the wrap of their low 32 bits. And the histograms against the journeys that users see.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { RingReader } from '../../src/engine/event-ring.ts';
import * as E from '../../src/engine/events.ts';
import {
  GAUGE_UNMEASURED,
  LATENCY_BOUNDS_NS,
  LATENCY_BUCKETS,
  LATENCY_FRAME,
  LATENCY_MAX,
  LATENCY_ROWS,
  LATENCY_SUM,
  LATENCY_WORDS,
  latencyAt,
} from '../../src/engine/latency.ts';
import { parseTopology } from '../../src/lab/document.ts';
import { World } from '../../src/lab/world.ts';
import { findJourney } from '../../src/readers/journey/journey.ts';
import { makeWorld, pairDocument, runOut, udp, watch } from '../unit/lab/world-driver.ts';
import { type Command, play, type RandomTopology, topologies, traffic } from './random-worlds.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 300 : 25;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
const ALL = 65_536;

interface Histogram {
  readonly buckets: number[];
  sum: number;
  max: number;
  slowest: number;
}
/** Whether a frame is in one of the groups that are measured where not all are. */
const standsForOthers = (id: number): boolean => Math.imul(id >>> 6, 0x9e3779b1) >>> 26 === 1;
/** A first frame shortly before such a group: few of the worlds send enough to reach one by chance. */
function shortlyBefore(id: number): number {
  while (!standsForOthers(id)) id++;
  return id - 3;
}
const empty = (): Histogram => ({ buckets: new Array<number>(LATENCY_BUCKETS).fill(0), sum: 0, max: 0, slowest: 0 });

/** What the histograms should hold, by place and kind. */
class Account {
  readonly histograms = new Map<string, Histogram>();
  unmeasured = 0;
  measured = 0;
  private readonly rows = new Map<number, { frame: number; birth: number; last: number }>();
  private readonly all: boolean;

  constructor(world: World) {
    this.all = world.machine.recorder.frames < 2 ** 20;
    watch(world.machine, (e) => this.see(e.time, e.kind, e.place, e.frame >>> 0, e.a >>> 0));
  }
  private weight(frame: number): number {
    if (this.all && frame <= ALL) return 1;
    return standsForOthers(frame) ? 64 : 0;
  }
  private see(time: number, kind: number, place: number, frame: number, parent: number): void {
    const { role, hop } = E.KIND_BY_ID[kind]!;
    const weight = frame === 0 ? 0 : this.weight(frame);
    if (weight === 0) return;
    const row = this.rows.get(frame % LATENCY_ROWS);
    if (role === 'born' || role === 'cloned') {
      const from = this.rows.get(parent % LATENCY_ROWS);
      const known = role === 'cloned' && from?.frame === parent ? from : { birth: time, last: time };
      this.rows.set(frame % LATENCY_ROWS, { frame, birth: known.birth, last: known.last });
    } else if (hop !== null || role === 'delivered') {
      if (row?.frame !== frame) {
        this.unmeasured += weight;
        return;
      }
      const since = time - (role === 'delivered' ? row.birth : row.last);
      const key = `${place} ${kind}`;
      const h = this.histograms.get(key) ?? empty();
      this.histograms.set(key, h);
      const bucket = LATENCY_BOUNDS_NS.findIndex((bound) => since <= bound);
      h.buckets[bucket < 0 ? LATENCY_BUCKETS - 1 : bucket]! += weight;
      h.sum += since * weight;
      if (since > h.max) {
        h.max = since;
        h.slowest = frame;
      }
      row.last = time;
      this.measured += weight;
    }
  }

  check(reader: RingReader): void {
    for (const place of reader.catalog.places) {
      for (const kind of E.EVENT_KINDS) {
        const at = latencyAt(place.id, kind.id);
        if (at < 0) continue;
        const words = reader.histograms.subarray(at, at + LATENCY_WORDS);
        const wanted = this.histograms.get(`${place.id} ${kind.id}`) ?? empty();
        const found = {
          buckets: [...words.subarray(0, LATENCY_BUCKETS)],
          sum: words[LATENCY_SUM],
          max: words[LATENCY_MAX],
          slowest: words[LATENCY_FRAME],
        };
        assert.deepEqual(found, wanted, `${kind.name} at ${place.name}`);
      }
    }
    assert.equal(reader.gauges[GAUGE_UNMEASURED], this.unmeasured);
  }
}

const readerOf = (world: World): RingReader => new RingReader(world.machine.arena.buffer, world.machine.catalog);

test('histograms are what the events say', () => {
  const met = { measured: 0, weighted: 0 };
  const check = (document: RandomTopology, commands: readonly Command[], firstFrame: number): void => {
    const parsed = parseTopology({ ...document, recorder: { events: 1 << 14, bytes: '1MiB' } }, { name: 't' });
    assert.ok(parsed.ok);
    const world = new World(parsed.topology);
    world.machine.recorder.frames = firstFrame;
    const account = new Account(world);
    play(world, document, commands);
    account.check(readerOf(world));
    if (firstFrame === 0) met.measured += account.measured;
    else met.weighted += account.measured;
  };
  const some = [ALL - 100, 2 ** 20 + 3, 2 ** 32 - 200, 7 * 2 ** 32 - 100];
  const soon = [2 ** 20 + 3, 7 * 2 ** 32].map(shortlyBefore);
  const later = fc.constantFrom(...some, ...soon);
  // each world from its first frame on, and from one of those on
  const both = (document: RandomTopology, commands: readonly Command[], firstFrame: number): void => {
    check(document, commands, 0);
    check(document, commands, firstFrame);
  };
  fc.assert(fc.property(topologies, traffic, later, both), { numRuns: Math.ceil(RUNS / 2), seed });
  console.log(`latency: seed ${seed}, ${JSON.stringify(met)}`);
  assert.ok(met.measured > 0 && met.weighted > 0, JSON.stringify(met));
});

test('a frame whose row is needed by another one is counted as not measured, and not as that other one', () => {
  const world = makeWorld(pairDocument('vhost-user'));
  const { frames, recorder, templates } = world.machine;
  // The first two measured ones, 65,536 times something apart.
  let id = 2 ** 20 + 1;
  while (!standsForOthers(id)) id++;
  let later = id + LATENCY_ROWS;
  while (!standsForOthers(later)) later += LATENCY_ROWS;
  recorder.frames = id - 1;
  const account = new Account(world);
  const base = E.metaOf(0, 1, 0);
  recorder.stamp[0] = 1000;
  assert.equal(frames.born(base, templates, 60, 0), id);
  recorder.frames = later - 1;
  recorder.stamp[0] = 2000;
  assert.equal(frames.born(base, templates, 60, 0), later);
  recorder.stamp[0] = 3000;
  recorder.event(base | E.GUEST_XMIT, id, 60, 0);
  recorder.event(base | E.GUEST_XMIT, later, 60, 0);
  recorder.publish(3000);
  assert.deepEqual([account.unmeasured, account.measured], [64, 64]);
  account.check(readerOf(world));
});

test('histograms are what journeys say', () => {
  const world = makeWorld(pairDocument('vhost-net'));
  world.startTraffic(udp('a/net0', 'b/net0', { count: 200, frameSize: 200 }));
  runOut(world);
  const reader = readerOf(world);
  const hops = new Map<string, number[]>();
  const births: number[] = [];
  for (let frame = 1; frame <= reader.framesHead(); frame++) {
    const search = findJourney(reader, frame);
    let step = search.next();
    while (step.done !== true) step = search.next();
    const result = step.value;
    assert.equal(result.kind, 'found');
    if (result.kind !== 'found' || result.journey.parent !== null) continue;
    let last = 0;
    for (const hop of result.journey.hops) {
      const kind = E.EVENT_KINDS.find((k) => k.name === hop.event)!;
      if (kind.role === 'delivered') births.push(hop.sinceStartNs);
      if (kind.hop === null) continue;
      const key = `${hop.place} ${kind.name}`;
      hops.set(key, [...(hops.get(key) ?? []), hop.sinceStartNs - last]);
      last = hop.sinceStartNs;
    }
  }
  assert.equal(births.length, 200);
  const sum = (list: readonly number[]): number => list.reduce((n, v) => n + v, 0);
  const { places } = reader.catalog;
  for (const [key, list] of hops) {
    const [name, kind] = key.split(' ');
    const at = latencyAt(places.find((p) => p.name === name)!.id, E.EVENT_KINDS.find((k) => k.name === kind)!.id);
    // Copies of a flooded frame are left out above, and are few.
    const count = sum([...reader.histograms.subarray(at, at + LATENCY_BUCKETS)]);
    assert.ok(count >= list.length && count <= list.length + 4, key);
    if (count === list.length) assert.equal(reader.histograms[at + LATENCY_SUM], sum(list), key);
  }
  const delivered = latencyAt(places.find((p) => p.name === 'b/net0')!.id, E.GUEST_DELIVER);
  assert.equal(reader.histograms[delivered + LATENCY_SUM], sum(births));
});
