/** Virtual time waits for a reader that holds: not one event is lost in small rings, and the run is the same as without. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { RingReader } from '../../../src/engine/event-ring.ts';
import { kindOf, PACKET_BYTES } from '../../../src/engine/events.ts';
import { Hold } from '../../../src/engine/hold.ts';
import type { RunResult } from '../../../src/lab/protocol.ts';
import type { World } from '../../../src/lab/world.ts';
import { BACKENDS, makeWorld, pairDocument, runOut, udp } from './world-driver.ts';

const COUNT = 20_000;

function make(backend: (typeof BACKENDS)[number], events: number, bytes: string): { world: World; reader: RingReader } {
  const world = makeWorld(pairDocument(backend, { document: { recorder: { events, bytes } } }));
  world.startTraffic(udp('a/net0', 'b/net0', { id: 'run', count: COUNT, frameSize: 512 }));
  return { world, reader: new RingReader(world.machine.arena.buffer, world.machine.catalog) };
}
const outcome = (world: World): Omit<RunResult, 'wall'> => {
  const { wall: _, ...rest } = world.run('run');
  return rest;
};
const take = (world: World, reader: RingReader): Hold =>
  Hold.take(world.machine.arena.buffer, world.machine.catalog.layout, reader.head())!;

/** Reads at most `most` blocks; every event and every stored byte has to be there. */
function readOn(reader: RingReader, hold: Hold, from: number, most: number): number {
  const bytes = new Uint8Array(2048);
  let next = from;
  for (let i = 0; i < most; i++) {
    const n = reader.read(next);
    if (n === 0) break;
    const { first, meta, a, b } = reader.block;
    assert.equal(first, next, 'no event was overwritten');
    for (let k = 0; k < n; k++) {
      if (kindOf(meta[k]!) !== PACKET_BYTES) continue;
      assert.ok(reader.readBytes(reader.bytePosition(a[k]!), b[k]!, bytes), `bytes of event ${first + k}`);
    }
    next = first + n;
    hold.advance(next);
  }
  return next;
}

describe.each(BACKENDS)('%s', (backend) => {
  test.each([
    [1 << 14, '1MiB'],
    [1 << 17, '512KiB'],
  ])('a ring of %i events and %s, a reader slower than the world', (events, bytes) => {
    const free = make(backend, events, bytes);
    runOut(free.world);
    const turns = Math.max(free.reader.head() / events, free.reader.bytesHead() / free.reader.layout.byteCapacity);
    assert.ok(turns > 4, 'the rings turn several times');

    const { world, reader } = make(backend, events, bytes);
    let next = reader.head();
    const hold = take(world, reader);
    let waited = 0;
    while (world.turn(5) !== Number.POSITIVE_INFINITY) {
      waited += world.clock(null).waitingFor;
      next = readOn(reader, hold, next, 2);
    }
    while (next < reader.head()) next = readOn(reader, hold, next, 100);
    assert.ok(waited > 10, 'the world had to wait');
    assert.equal(reader.fingerprint(), free.reader.fingerprint());
    assert.deepEqual(outcome(world), outcome(free.world));
    assert.equal(world.clock(null).waitingFor, 0);
  });
});

test('a reader that never reads stops time until it lets go; commands are answered meanwhile', () => {
  const { world, reader } = make('vhost-net', 1 << 14, '1MiB');
  const hold = take(world, reader);
  for (let i = 0; i < 20; i++) assert.notEqual(world.turn(50), Number.POSITIVE_INFINITY);
  const stood = world.clock(null);
  assert.equal(stood.waitingFor, 1);
  assert.equal(reader.resting(), true, 'what there is, is all that there will be for now');
  assert.equal(stood.idle, false);
  for (let i = 0; i < 20; i++) world.turn(5);
  assert.equal(world.clock(null).virtualTimeSeconds, stood.virtualTimeSeconds);
  assert.equal(world.run('run').state, 'RUNNING');
  world.clock({ step: 'frame' });
  assert.equal(world.clock(null).virtualTimeSeconds, stood.virtualTimeSeconds, 'a step waits as well');
  world.clock({ state: 'RUNNING' });
  hold.release();
  assert.equal(world.turn(0), 0);
  assert.equal(reader.resting(), false);
  runOut(world);
  assert.equal(reader.resting(), true);
  assert.equal(world.run('run').state, 'SUCCEEDED');
});

test('an idle world does not wait for a reader that is behind', () => {
  const { world, reader } = make('vhost-net', 1 << 14, '1MiB');
  runOut(world);
  Hold.take(world.machine.arena.buffer, world.machine.catalog.layout, reader.tail());
  assert.equal(world.turn(5), Number.POSITIVE_INFINITY);
  assert.equal(world.clock(null).waitingFor, 0);
});
