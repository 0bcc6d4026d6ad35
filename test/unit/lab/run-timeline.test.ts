/** Timelines of runs: the same however the engine was driven, bounded, whole from the first frame to the end, and true. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { RingReader } from '../../../src/engine/event-ring.ts';
import * as E from '../../../src/engine/events.ts';
import type { TimelineData } from '../../../src/lab/protocol.ts';
import { RunTimeline, Timelines } from '../../../src/lab/run-timeline.ts';
import type { World } from '../../../src/lab/world.ts';
import { BACKENDS, makeWorld, pairDocument, runOut, traffic, udp } from './world-driver.ts';

const document = (backend: (typeof BACKENDS)[number]): object => ({
  ...pairDocument(backend),
  recorder: { events: 1 << 17, bytes: '4MiB' },
});

function timelineOf(world: World, run: string): TimelineData {
  const data = world.timeline(run);
  assert.ok(data !== null);
  return data;
}

describe.each(BACKENDS)('%s', (backend) => {
  test('is the same whatever the budgets were, and what the events say', () => {
    const worlds = [0, 1, 2].map(() => makeWorld(document(backend)));
    const [whole, pieces, steps] = worlds as [World, World, World];
    const spec = udp('a/net0', 'b/net0', { id: 'r', count: 3000 });
    for (const world of worlds) world.startTraffic(spec);
    runOut(whole);
    while (pieces.turn(0) === 0);
    while (steps.run('r').state === 'RUNNING') steps.clock({ step: 'event' });
    steps.clock({ state: 'RUNNING' });
    runOut(steps);
    const data = timelineOf(whole, 'r');
    assert.deepEqual(timelineOf(pieces, 'r'), data);
    assert.deepEqual(timelineOf(steps, 'r'), data);
    assert.equal(steps.status().fingerprint, whole.status().fingerprint);

    const result = whole.run('r');
    const points = data.timesNs.length;
    assert.ok(points > 30 && points <= 256, `${points} points`);
    assert.equal(data.timesNs[0], Math.round(result.virtual.startSeconds * 1e9));
    assert.ok(data.timesNs[points - 1]! >= (result.virtual.startSeconds + result.virtual.durationSeconds) * 1e9 - 1);
    for (let i = 1; i < points; i++) assert.ok(data.timesNs[i]! > data.timesNs[i - 1]!);

    // Each point again, from the events that had been recorded by then.
    const reader = new RingReader(whole.machine.arena.buffer, whole.machine.catalog);
    const counted = new Map<number, [count: number, sum: number]>();
    let seq = 0;
    for (let p = 0; p < points; p++) {
      while (seq < data.events[p]!) {
        const n = reader.read(seq);
        assert.ok(n > 0 && reader.block.first === seq);
        for (let i = 0; i < n && seq < data.events[p]!; i++, seq++) {
          const meta = reader.block.meta[i]!;
          const counter = E.placeOf(meta) * E.KIND_STRIDE + E.kindOf(meta);
          const [count, sum] = counted.get(counter) ?? [0, 0];
          counted.set(counter, [count + 1, sum + reader.block.a[i]!]);
        }
      }
      for (const [i, counter] of data.counters.entries()) {
        const at = (p * data.counters.length + i) * 2;
        assert.deepEqual([data.values[at], data.values[at + 1]], counted.get(counter) ?? [0, 0], `point ${p}`);
      }
    }
    assert.equal(counted.size, data.counters.length, 'every counter is there');
  });
});

test('a long run has wider points, not more', () => {
  const world = makeWorld(pairDocument('vhost-net'));
  traffic(world, udp('a/net0', 'b/net0', { id: 'slow', count: 300, rate: 100 }));
  const data = timelineOf(world, 'slow');
  const points = data.timesNs.length;
  assert.ok(points >= 100 && points <= 256, `${points} points`);
  const widths = new Set(Array.from({ length: points - 2 }, (_, i) => data.timesNs[i + 1]! - data.timesNs[i]!));
  assert.equal(widths.size, 1, 'all but the last are equally wide');
  assert.ok(data.timesNs[points - 1]! - data.timesNs[0]! > 2.9e9);
});

test('several runs at once each have one; a run that never sent has an empty one', () => {
  const world = makeWorld(pairDocument('vhost-user', { guests: ['a', 'b', 'c'] }));
  const specs = [
    udp('a/net0', 'b/net0', { id: 'x', count: 2000 }),
    udp('b/net0', 'c/net0', { id: 'y', count: 100, rate: 1e6 }),
    udp('c/net0', 'a/net0', { id: 'z', count: 500, rate: 1 }),
  ];
  for (const spec of specs) world.startTraffic(spec);
  assert.equal(timelineOf(world, 'x').timesNs.length, 0);
  while (world.run('y').state === 'RUNNING') world.turn(0);
  world.cancel('z');
  runOut(world);
  for (const id of ['x', 'y']) {
    const data = timelineOf(world, id);
    const { startSeconds } = world.run(id).virtual;
    assert.equal(data.timesNs[0], Math.round(startSeconds * 1e9), id);
    assert.ok(data.timesNs.length > 10 && data.timesNs.length <= 256, `${id}: ${data.timesNs.length} points`);
  }
  assert.throws(() => world.timeline('nobody'));
});

test('beyond a number of bytes the oldest complete ones are given up, never one that goes on', () => {
  const { machine } = makeWorld(pairDocument('vhost-net'));
  const add = (timelines: Timelines, run: string): RunTimeline => {
    const timeline = new RunTimeline(machine, 1);
    timelines.open(run, timeline);
    timeline.begin(1000);
    return timeline;
  };
  const alone = add(new Timelines(), 'alone');
  alone.end(2000);
  assert.ok(alone.bytes > 0);

  const timelines = new Timelines(2 * alone.bytes);
  add(timelines, 'long');
  for (const run of ['first', 'second', 'third']) {
    add(timelines, run);
    timelines.end(run, 2000);
  }
  assert.equal(timelines.get('first'), undefined);
  for (const run of ['long', 'second', 'third']) assert.ok(timelines.get(run) !== undefined, run);
  timelines.forget('second');
  timelines.end('long', 2000);
  assert.ok(timelines.get('third') !== undefined && timelines.get('long') !== undefined, 'there was room again');
});
