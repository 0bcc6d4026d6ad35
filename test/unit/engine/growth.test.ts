/** A catalog that grows in shared memory: readers follow, in whatever order they begin; the reserve has an end. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { DP_INGRESS, GUEST_XMIT } from '../../../src/engine/events.ts';
import { EventFilter } from '../../../src/readers/events/event-filter.ts';
import { JsonEncoder } from '../../../src/readers/events/event-json.ts';
import { worldMetrics } from '../../../src/readers/metrics/prometheus.ts';
import { CONTEXTS, FakeWorld, PLACES, place } from '../readers/fake-world.ts';

const NEXT = PLACES.length;
const NAME = 'br9/ä "x"';
const NEW = place(NEXT, NAME, 'port', 50, { bridge: 'br9', port: 'x' });
const CONTEXT = { id: CONTEXTS.length, name: 'vhost-1203', kind: 'vhost', core: 4, host: 'h1', polls: false } as const;

test('what is new is there as soon as it is said, and an entry can say something else later', () => {
  const w = new FakeWorld();
  const { reader } = w;
  const before = reader.catalog;
  assert.equal(before.places.length, NEXT);
  assert.ok(w.growth.place(NEXT, NEW));
  assert.ok(w.growth.context(CONTEXT.id, CONTEXT));
  assert.deepEqual(reader.catalog.places[NEXT], NEW);
  assert.deepEqual(reader.catalog.contexts[CONTEXT.id], CONTEXT);
  assert.notEqual(reader.catalog, before, 'another object, so that others see that something is new');
  assert.equal(reader.catalog.places, before.places, 'the same list, grown');
  assert.equal(reader.catalog, reader.catalog, 'and the same object as long as nothing is');
  w.growth.place(NEXT, { retired: true });
  w.growth.place(1, { backend: 'vhost-user' });
  assert.deepEqual(reader.catalog.places[NEXT], { ...NEW, retired: true });
  assert.equal(reader.catalog.places[1]!.backend, 'vhost-user');
  assert.equal(w.catalog.places.length, NEXT, 'the catalog that the reader was made with is as it was');
});

test('lines are whole or refused: what does not fit leaves no trace', () => {
  const w = new FakeWorld();
  let n = 0;
  while (w.growth.place(NEXT, { ...NEW, description: 'd'.repeat(1000 + n) })) n++;
  const last = structuredClone(w.reader.catalog.places[NEXT]);
  assert.ok(n >= 10 && w.growth.room < 1500, `${n} lines`);
  assert.equal(last!.description.length, 1000 + n - 1);
  assert.ok(w.growth.place(NEXT, { retired: true }), 'a short one still fits');
  assert.deepEqual(w.reader.catalog.places[NEXT], { ...last, retired: true });
});

test('encoders, filters and metrics that were made before follow', () => {
  const w = new FakeWorld();
  const { reader } = w;
  const encoder = new JsonEncoder(reader.catalog, 'lines');
  const filters = {
    all: new EventFilter(reader.catalog),
    ports: new EventFilter(reader.catalog, { places: 'br*/*' }),
    rest: new EventFilter(reader.catalog, { places: '!br*/*' }),
    workers: new EventFilter(reader.catalog, { contexts: 'vhost-*' }),
  };
  w.event(0, 10, GUEST_XMIT, 1, 0, 60);
  assert.ok(!worldMetrics([{ reader }]).includes('vhost-1203'));
  w.growth.place(NEXT, NEW);
  w.growth.context(CONTEXT.id, CONTEXT);
  w.event(CONTEXT.id, 20, DP_INGRESS, NEXT, 0, 60, 9);
  w.publish();
  assert.equal(reader.read(0), 2);
  encoder.begin(0);
  encoder.add(reader, Uint16Array.of(0, 1), 2, 65536);
  const lines = Buffer.from(encoder.take(2)).toString('utf8').trimEnd().split('\n');
  const [, second] = lines.map((line) => JSON.parse(line));
  assert.equal(second.place, NAME);
  assert.equal(second.context, 'vhost-1203');
  const { meta } = reader.block;
  const chosen = Object.entries(filters).map(([name, f]) => [name, [0, 1].filter((i) => f.matches(meta[i]!, 0, 0))]);
  assert.deepEqual(Object.fromEntries(chosen), { all: [0, 1], ports: [1], rest: [0], workers: [1] });
  const text = worldMetrics([{ reader }]);
  assert.ok(text.includes('vhost-1203') && text.includes('place="br9/ä \\"x\\""'));
  assert.ok(!text.includes('NaN'));
});
