/**
 * Readers against a model that remembers everything: frames go from context to context in slices that land late, are
 * copied, changed and dropped, rings are small and overwritten while they are read. No row may be wrong, out of order for
 * its frame, or lost without being counted.
 */
import fc from 'fast-check';
import { afterEach, expect, test, vi } from 'vitest';
import * as E from '../../src/engine/events.ts';
import { contextOf, placeOf } from '../../src/engine/events.ts';
import { type CaptureOptions, captureChunks } from '../../src/readers/capture/capture.ts';
import { EventCursor } from '../../src/readers/events/event-cursor.ts';
import { EventFilter } from '../../src/readers/events/event-filter.ts';
import { JsonEncoder } from '../../src/readers/events/event-json.ts';
import { findJourney } from '../../src/readers/journey/journey.ts';
import { FakeWorld, frameBytes } from '../unit/readers/fake-world.ts';
import { decodePcapng, join } from '../unit/readers/pcapng-decoder.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 500 : 40;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
const EPOCH = 1767225600000000000n;

/** Park-Miller: a stream of numbers in [0, 1) from a seed. */
function stream(from: number): () => number {
  let state = (from % 2147483646) + 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return (state - 1) / 2147483646;
  };
}

interface Row {
  readonly seq: number;
  readonly time: number;
  readonly frame: number;
  readonly place: number;
  readonly kind: number;
  readonly bytes: Uint8Array;
}
interface Waiting {
  readonly frame: number;
  /** Not to be touched before this time. */
  readonly from: number;
}

/** What each stage of a frame's way does: context, then kind and place of each sighting. */
const STAGES: readonly (readonly [context: number, steps: readonly (readonly [kind: number, place: number])[]])[] = [
  [
    0,
    [
      [E.GUEST_XMIT, 1],
      [E.VIRTQ_AVAIL, 2],
    ],
  ],
  [
    1,
    [
      [E.VIRTQ_POP, 2],
      [E.TAP_XMIT, 6],
      [E.DP_INGRESS, 8],
      [E.DP_HIT, 7],
      [E.DP_OUTPUT, 9],
      [E.TAP_ENQUEUE, 10],
    ],
  ],
  [
    2,
    [
      [E.TAP_DEQUEUE, 10],
      [E.VIRTQ_USED, 11],
    ],
  ],
  [
    3,
    [
      [E.GUEST_RX, 12],
      [E.GUEST_DELIVER, 12],
    ],
  ],
];

/** Runs the fake world slice by slice and remembers every row with its bytes. */
class Model {
  readonly world: FakeWorld;
  readonly rows: Row[] = [];
  /** Sequence numbers of a frame's events, by frame, and of its first one. */
  readonly eventsOf = new Map<number, number[]>();
  readonly parentOf = new Map<number, number>();
  private readonly bytesOf = new Map<number, Uint8Array>();
  private readonly queues: Waiting[][] = STAGES.map(() => []);
  private readonly clock = STAGES.map(() => 0);
  private landed = 0;
  private readonly random: () => number;
  private readonly frameLength: number;
  private versions = 0;

  constructor(world: FakeWorld, from: number, frameLength: number) {
    this.world = world;
    this.random = stream(from);
    this.frameLength = frameLength;
  }

  /** One slice of one context: its events begin after its last slice and land all together, after all earlier slices. */
  slice(): void {
    const stage = Math.floor(this.random() * STAGES.length);
    const [context, steps] = STAGES[stage]!;
    let time = this.clock[stage]!;
    const passed: number[] = [];
    const burst = 1 + Math.floor(this.random() * 32);
    for (let i = 0; i < burst; i++) {
      let frame: number;
      if (stage === 0) {
        frame = this.world.newFrame();
        time += Math.floor(this.random() * 50);
        this.event(context, time, E.PACKET_BORN, 1, frame);
        this.version(context, time, frame);
      } else {
        const next = this.queues[stage]!.shift();
        if (next === undefined) break;
        frame = next.frame;
        time = Math.max(time, next.from);
      }
      frame = this.walk(context, steps, frame, () => {
        time += Math.floor(this.random() * 40);
        return time;
      });
      if (frame > 0) passed.push(frame);
    }
    this.landed = Math.max(this.landed, time) + Math.floor(this.random() * 100);
    this.clock[stage] = this.landed;
    const next = this.queues[stage + 1];
    if (next !== undefined) for (const frame of passed) next.push({ frame, from: this.landed });
    this.world.publish();
  }

  /** A frame's steps in one context; returns the frame that goes on (a clone may), 0 where it was dropped. */
  private walk(
    context: number,
    steps: readonly (readonly [number, number])[],
    frame: number,
    tick: () => number,
  ): number {
    for (const [kind, at] of steps) {
      const chance = this.random();
      if (chance < 0.02) {
        this.event(context, tick(), E.TAP_DROP_QUEUE_FULL, at, frame);
        return 0;
      }
      if (chance < 0.04) this.version(context, tick(), frame);
      if (chance > 0.98) {
        const clone = this.world.newFrame();
        this.parentOf.set(clone, frame);
        this.bytesOf.set(clone, this.bytesOf.get(frame)!);
        this.event(context, tick(), E.PACKET_CLONE, 7, clone, frame);
        this.event(context, tick(), E.DP_DROP_NO_OUTPUT, 7, frame);
        frame = clone;
      }
      this.event(context, tick(), kind, at, frame);
    }
    return frame;
  }
  private event(context: number, time: number, kind: number, at: number, frame: number, a = this.frameLength): void {
    const bytes = this.bytesOf.get(frame);
    const info = E.KIND_BY_ID[kind]!;
    this.eventsOf.set(frame, [...(this.eventsOf.get(frame) ?? []), this.world.events]);
    if (bytes !== undefined && (info.hop !== null || info.role === 'dropped')) {
      this.rows.push({ seq: this.world.events, time, frame, place: at, kind, bytes });
    }
    this.world.event(context, time, kind, at, frame, a);
  }
  private version(context: number, time: number, frame: number): void {
    const bytes = frameBytes(frame, this.frameLength + (this.versions % 9), this.versions++);
    this.bytesOf.set(frame, bytes);
    this.eventsOf.get(frame)!.push(this.world.events);
    this.world.version(context, time, 1, frame, bytes);
  }
}

const scenario = fc.record({
  run: fc.nat(1 << 30),
  slices: fc.integer({ min: 1, max: 900 }),
  frameLength: fc.constantFrom(60, 200, 1514),
  eventCapacity: fc.constantFrom(1 << 13, 1 << 15, 1 << 17),
  byteCapacity: fc.constantFrom(1 << 15, 1 << 18, 1 << 22),
  wrapFrames: fc.nat(3000),
  wrapBytes: fc.nat(30_000),
  /** Slices that the writer makes while the reader takes a breath. */
  overtake: fc.constantFrom(0, 1, 40),
});
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never;

/** A frame's new bytes are among the events that were overwritten between two steps; its earlier ones are still held. */
const LOST_VERSION: Scenario = {
  run: 576463115,
  slices: 314,
  frameLength: 60,
  eventCapacity: 32768,
  byteCapacity: 4194304,
  wrapFrames: 0,
  wrapBytes: 0,
  overtake: 40,
};

function build(s: Scenario): Model {
  const world = new FakeWorld({
    eventCapacity: s.eventCapacity,
    byteCapacity: s.byteCapacity,
    firstFrame: Math.max(0, 2 ** 32 - s.wrapFrames),
    firstByte: 2 ** 35 - 8 * s.wrapBytes,
  });
  const model = new Model(world, s.run, s.frameLength);
  for (let i = 0; i < s.slices; i++) model.slice();
  return model;
}

/** A capture looks at the clock to end its steps, which decides what is overwritten meanwhile: a clock from the seed. */
function tick(s: Scenario): void {
  const random = stream(s.run + 2);
  const pace = random() * 3;
  let now = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => {
    now += random() * pace;
    return now;
  });
}
afterEach(() => {
  vi.restoreAllMocks();
});

function check(model: Model, s: Scenario, options: CaptureOptions, isRow: (row: Row) => boolean): void {
  const { world } = model;
  tick(s);
  const chunks: Uint8Array[] = [];
  const source = captureChunks(world.reader, options);
  chunks.push(source.next().value!);
  const head = world.events;
  const held = world.reader.tail() === 0 && world.bytes - (2 ** 35 - 8 * s.wrapBytes) < s.byteCapacity / 2;
  for (const chunk of source) {
    chunks.push(chunk);
    for (let i = 0; i < s.overtake; i++) model.slice();
  }
  const file = decodePcapng(join(chunks));
  const places = file.interfaces.map((x) => world.catalog.places.find((p) => p.name === x.name)!.id);
  const expected = model.rows.filter((r) => r.seq < head && isRow(r));
  const byKey = new Map<string, Row[]>();
  for (const r of expected) {
    const key = `${r.frame} ${r.place} ${r.time}`;
    byKey.set(key, [...(byKey.get(key) ?? []), r]);
  }
  const lastOf = new Map<bigint, bigint>();
  const written = new Array<number>(places.length).fill(0);
  let last = 0n;
  for (const p of file.packets) {
    written[p.interfaceId]!++;
    const key = `${p.packetId} ${places[p.interfaceId]} ${p.time - EPOCH}`;
    // Each row once, with the bytes that the frame had then.
    const event = / event=(\S+)/.exec(p.comments[0]!)![1];
    const candidates = byKey.get(key) ?? [];
    const at = candidates.findIndex(
      (r) => E.KIND_BY_ID[r.kind]!.name === event && Buffer.compare(r.bytes, p.data) === 0,
    );
    if (at < 0) throw new Error(`a row that never was, or with wrong bytes: ${p.comments[0]}`);
    candidates.splice(at, 1);
    if ((lastOf.get(p.packetId) ?? 0n) > p.time) throw new Error(`frame ${p.packetId} goes back in time`);
    lastOf.set(p.packetId, p.time);
    if (p.time < last) throw new Error('rows are not sorted');
    last = p.time;
  }
  for (const statistics of file.statistics) {
    const i = statistics.interfaceId;
    const all = expected.filter((r) => r.place === places[i]).length;
    expect(Number(statistics.received), file.interfaces[i]!.name).toBe(all);
    expect(Number(statistics.dropped)).toBe(all - written[i]!);
  }
  const onFile = new Set(places);
  expect(expected.filter((r) => !onFile.has(r.place))).toEqual([]);
  if (held && s.overtake === 0) expect(file.packets.length).toBe(expected.length);
}

test(`captures of all hops are exact, sorted and account for every loss (seed ${seed})`, () => {
  fc.assert(
    fc.property(scenario, (s) => check(build(s), s, { view: 'journey' }, () => true)),
    { seed, numRuns: RUNS, examples: [[LOST_VERSION]] },
  );
});

test(`captures of the wire are exact, sorted and account for every loss (seed ${seed})`, () => {
  fc.assert(
    fc.property(scenario, (s) => check(build(s), s, { view: 'wire' }, (r) => r.kind === E.DP_INGRESS)),
    { seed, numRuns: RUNS },
  );
});

test(`a journey is whole or gone, and gone only if it was overwritten (seed ${seed})`, () => {
  fc.assert(
    fc.property(scenario, (s) => {
      const model = build(s);
      const { reader } = model.world;
      const frames = [...model.eventsOf.keys()];
      const choose = stream(s.run + 1);
      for (let i = 0; i < 20; i++) {
        const frame = frames[Math.floor(choose() * frames.length)];
        if (frame === undefined) return;
        const search = findJourney(reader, frame);
        let step = search.next();
        while (!step.done) step = search.next();
        const result = step.value;
        const events = model.eventsOf.get(frame)!;
        if (result.kind !== 'found') {
          expect(result.kind).toBe('gone');
          expect(events[0]!).toBeLessThan(reader.tail());
          continue;
        }
        expect(events[0]!).toBeGreaterThanOrEqual(reader.tail());
        const { journey } = result;
        // What was stored with a row's context is charged to a step; all others are steps.
        const recorded = journey.hops.reduce((n, h) => n + 1 + h.charged.length, 0);
        expect(recorded).toBe(events.length);
        expect(journey.parent).toBe(model.parentOf.get(frame) ?? null);
        const path = journey.hops.filter((h) => h.onPath);
        const sum = path.reduce((n, h) => n + h.costNs + h.waitedNs, 0);
        expect(sum).toBe(journey.totals.processingNs + journey.totals.waitingNs);
        for (let k = 1; k < path.length; k++)
          expect(path[k]!.sinceStartNs).toBeGreaterThanOrEqual(path[k - 1]!.sinceStartNs);
      }
    }),
    { seed, numRuns: RUNS },
  );
});

test(`an event stream misses nothing without saying so (seed ${seed})`, () => {
  fc.assert(
    fc.property(scenario, fc.integer({ min: 1, max: 5000 }), (s, most) => {
      const model = build(s);
      const { reader } = model.world;
      const cursor = new EventCursor(
        reader,
        new EventFilter(reader.catalog, { events: 'guest.*' }),
        new JsonEncoder(reader.catalog, 'lines'),
        0,
      );
      let next = 0;
      let accounted = 0;
      const head = model.world.events;
      const got: number[] = [];
      while (next < head) {
        const batch = cursor.next(most);
        if (batch === null) break;
        expect(batch.from).toBe(next);
        next = batch.to;
        accounted += batch.dropped;
        expect(batch.events).toBeLessThanOrEqual(most);
        for (const line of Buffer.from(batch.bytes).toString().split('\n').slice(0, -1)) {
          got.push((JSON.parse(line) as { seq: number }).seq);
        }
        for (let i = 0; i < s.overtake; i++) model.slice();
      }
      expect(new Set(got).size).toBe(got.length);
      const wanted = model.rows.filter((r) => E.KIND_BY_ID[r.kind]!.name.startsWith('guest.') && r.seq < next);
      const seen = new Set(got);
      const missing = wanted.filter((r) => !seen.has(r.seq)).length;
      expect(missing).toBeLessThanOrEqual(accounted);
      if (accounted === 0) expect(missing).toBe(0);
    }),
    { seed, numRuns: RUNS },
  );
});

test('meta words hold what they are given', () => {
  fc.assert(
    fc.property(fc.nat(127), fc.nat(4095), fc.nat(4095), (k, p, c) => {
      const meta = E.metaOf(k, p, c);
      return E.kindOf(meta) === k && placeOf(meta) === p && contextOf(meta) === c;
    }),
    { seed },
  );
});
