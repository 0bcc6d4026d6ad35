/** The binary form: the published example decoder reads from it what the JSON form says, whatever the filter and the gaps. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { contextOf, decodeEvents, kindOf, placeOf } from '../../../../examples/event-decoder.ts';
import * as E from '../../../../src/engine/events.ts';
import {
  BINARY_COLUMNS,
  BINARY_EVENTS,
  BINARY_HEADER,
  BinaryEncoder,
  HEADER_BYTES,
} from '../../../../src/readers/events/event-binary.ts';
import { NAME_A, NAME_B } from '../../../../src/readers/events/event-columns.ts';
import { type EventBatch, EventCursor } from '../../../../src/readers/events/event-cursor.ts';
import { EventFilter, type EventFilterQuery } from '../../../../src/readers/events/event-filter.ts';
import { type EventJson, JsonEncoder } from '../../../../src/readers/events/event-json.ts';
import { FakeWorld } from '../fake-world.ts';
import { floodedFrame, vhostNetFrame } from '../journeys.ts';

const encoder = new BinaryEncoder();

/** A message as the objects that the JSON form has. */
function objectsOf(w: FakeWorld, bytes: Uint8Array): EventJson[] {
  const columns = decodeEvents(bytes);
  return Array.from({ length: columns.count }, (_, i) => {
    const meta = columns.meta[i]!;
    const kind = kindOf(meta);
    const event: Record<string, number | string | null> = {
      seq: columns.from + (columns.seq === null ? i : columns.seq[i]!),
      time: columns.time[i]! / 1e9,
      ns: columns.time[i]!,
      event: E.KIND_BY_ID[kind]!.name,
      place: w.catalog.places[placeOf(meta)]!.name,
      context: w.catalog.contexts[contextOf(meta)]!.name,
      frame: columns.frame[i] === 0 ? null : columns.frame[i]!,
    };
    if (NAME_A[kind]) event[NAME_A[kind]] = columns.a[i]!;
    if (NAME_B[kind]) event[NAME_B[kind]] = columns.b[i]!;
    return event;
  });
}
function batches(w: FakeWorld, query: EventFilterQuery, most?: number): EventBatch[] {
  const cursor = new EventCursor(w.reader, new EventFilter(w.catalog, query), encoder, 0);
  const out: EventBatch[] = [];
  for (let batch = cursor.next(most); batch !== null; batch = cursor.next(most)) out.push(batch);
  return out;
}
function json(w: FakeWorld, query: EventFilterQuery): EventJson[] {
  const cursor = new EventCursor(w.reader, new EventFilter(w.catalog, query), new JsonEncoder(w.catalog, 'lines'), 0);
  const out: EventJson[] = [];
  for (let batch = cursor.next(); batch !== null; batch = cursor.next()) {
    const lines = Buffer.from(batch.bytes).toString('utf8').split('\n').slice(0, -1);
    out.push(...lines.map((line) => JSON.parse(line) as EventJson));
  }
  return out;
}

test('the layout, byte for byte', () => {
  const w = new FakeWorld();
  w.event(1, 2.5e6, E.GUEST_XMIT, 2, w.newFrame(), 60, 0xfffffff0);
  w.event(0, 3e6, E.SCHED_SLEEP, 0);
  w.event(3, 4e6, E.SCHED_SLEEP, 15);
  w.publish();
  const hex = (query: EventFilterQuery): string[] => {
    const text = Buffer.from(batches(w, query)[0]!.bytes).toString('hex');
    return text.match(/.{1,16}/g) ?? [];
  };
  expect(hex({ frame: '1' })).toEqual([
    '5253454201012000', // RSEB, version 1, events, header of 32 bytes
    '0000000000000000', // from 0
    '0300000000000000', // to 3
    '0100000001000000', // one event, with a column seq
    '00000000d0124341', // 2.5e6 ns
    '000000000000f03f', // frame 1
    '0000000000004e40', // a: 60 bytes
    '0000000000000000', // seq 0, filled up
    '0102100000000000', // kind 1, place 2, context 1
    'f0ffffff00000000', // b
  ]);
  // Without a filter there is no column seq, and an odd number of 32-bit elements is filled up.
  expect(hex({})[3]).toBe('0300000000000000');
  expect(hex({}).length).toBe(4 + 3 * 3 + 2 * 2);
  expect(HEADER_BYTES).toBe(32);
  expect(BINARY_COLUMNS.map((column) => column.name)).toEqual(['time', 'frame', 'a', 'seq', 'meta', 'b']);
});

test('says what the JSON form says', () => {
  const query = fc.constantFrom<EventFilterQuery>(
    {},
    { events: 'packet.*,guest.*' },
    { role: 'dropped' },
    { places: 'br0*' },
    { time: '3us-40us' },
  );
  fc.assert(
    fc.property(query, fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 1, max: 5000 }), (filter, most, rounds) => {
      const w = new FakeWorld({ firstFrame: 2 ** 32 - 3, firstByte: 2 ** 36, eventCapacity: 1 << 14 });
      for (let i = 0; i < rounds; i += 20) {
        vhostNetFrame(w, i * 1000);
        floodedFrame(w, i * 1000 + 500);
      }
      w.publish();
      const found = batches(w, filter, most);
      let next = 0;
      for (const batch of found) {
        expect(batch.from).toBe(next);
        expect(batch.events).toBeLessThanOrEqual(most);
        if (batch.events > 0) {
          const columns = decodeEvents(batch.bytes);
          expect([columns.from, columns.to, columns.count]).toEqual([
            batch.from + batch.dropped,
            batch.to,
            batch.events,
          ]);
        }
        next = batch.to;
      }
      expect(next).toBe(w.events);
      expect(found.flatMap((batch) => (batch.events === 0 ? [] : objectsOf(w, batch.bytes)))).toEqual(json(w, filter));
    }),
    { numRuns: 30 },
  );
});

test('a message at any place in memory is read', () => {
  const w = new FakeWorld();
  vhostNetFrame(w, 0);
  w.publish();
  const [{ bytes } = { bytes: new Uint8Array() }] = batches(w, { role: 'none' });
  const shifted = Buffer.alloc(bytes.length + 3);
  shifted.set(bytes, 3);
  for (const view of [shifted.subarray(3), Uint8Array.prototype.subarray.call(shifted, 3)])
    expect(objectsOf(w, view)).toEqual(objectsOf(w, bytes));
  expect(() => decodeEvents(new Uint8Array(32))).toThrow('not a message');
});

test('a message holds so many events at most', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 17 });
  for (let i = 0; i < 3 * BINARY_EVENTS; i++) w.event(0, i, E.SCHED_SLEEP, 0);
  w.publish();
  const counts = batches(w, {}, 1_000_000).map((batch) => batch.events);
  expect(Math.max(...counts)).toBe(BINARY_EVENTS);
  expect(counts.reduce((sum, n) => sum + n)).toBe(3 * BINARY_EVENTS);
});

test('docs/events.md has the layout as it is', () => {
  const text = readFileSync(new URL('../../../../docs/events.md', import.meta.url), 'utf8');
  const rows = [
    ...BINARY_HEADER.map((field) => `| \`${field.name}\` | ${field.bytes} | ${field.text} |`),
    ...BINARY_COLUMNS.map((column) => `| \`${column.name}\` | ${column.type} | ${column.text} |`),
  ];
  const found = text.split('\n').filter((line) => /^\| `\w+` \| (\d|f64|u32)/.test(line));
  expect(found).toEqual(rows);
});
