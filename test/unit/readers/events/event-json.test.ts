import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RingReader } from '../../../../src/engine/event-ring.ts';
import * as E from '../../../../src/engine/events.ts';
import { EventCursor } from '../../../../src/readers/events/event-cursor.ts';
import { EventFilter, type EventFilterQuery } from '../../../../src/readers/events/event-filter.ts';
import { type EventJson, eventObject, JsonEncoder } from '../../../../src/readers/events/event-json.ts';
import { FakeWorld } from '../fake-world.ts';
import { floodedFrame, vhostNetFrame } from '../journeys.ts';

function lines(bytes: Uint8Array): EventJson[] {
  const text = Buffer.from(bytes).toString('utf8');
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as EventJson);
}
function all(w: FakeWorld, query: EventFilterQuery = {}): EventJson[] {
  const cursor = new EventCursor(w.reader, new EventFilter(w.catalog, query), new JsonEncoder(w.catalog, 'lines'), 0);
  const out: EventJson[] = [];
  for (let batch = cursor.next(); batch !== null; batch = cursor.next()) out.push(...lines(batch.bytes));
  return out;
}

test('a line is the event with its columns by name', () => {
  const w = new FakeWorld({ firstFrame: 2 ** 32 - 1, firstByte: 2 ** 36 });
  vhostNetFrame(w, 1_234_567_891_000);
  floodedFrame(w, 1_234_567_991_000);
  w.publish();
  const events = all(w);
  expect(events[0]).toEqual({
    seq: 0,
    time: 1234.567891,
    ns: 1234567891000,
    event: 'packet.born',
    place: 'a/net0',
    context: 'a/vcpu0',
    frame: 2 ** 32 + 1,
    bytes: 60,
    run: 1,
  });
  expect(events[1]).toMatchObject({ event: 'packet.bytes', position: 2 ** 36, bytes: 60 });
  expect(events[6]).toMatchObject({ event: 'sched.wake', frame: null, place: 'vhost-1201' });
  expect(events.find((e) => e['event'] === 'packet.clone')).toMatchObject({
    parentFrame: 2 ** 32 + 2,
    frame: 2 ** 32 + 3,
  });
});

test('vhost-user messages are decoded, each by its channel', () => {
  const w = new FakeWorld();
  const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
  w.version(1, 1000, 1, 0, bytes('080000000900000008000000' + '0100000000010000'), E.VHOST_USER_MESSAGE);
  w.version(1, 2000, 1, 0, bytes('010000000100000000000000'), E.VHOST_USER_MESSAGE);
  const miss = '0060ebff00000000' + '00'.repeat(16) + '0101' + '00'.repeat(6);
  w.version(1, 3000, 1, 0, bytes(`010000000100000020000000${miss}`), E.VHOST_USER_BACKEND_MESSAGE);
  w.publish();
  const events = all(w);
  expect(events.map((e) => e['message'])).toEqual([
    {
      name: 'VHOST_USER_SET_VRING_NUM',
      request: 8,
      reply: false,
      needReply: true,
      payload: { index: 1, num: 256 },
    },
    { name: 'VHOST_USER_GET_FEATURES', request: 1, reply: false, needReply: false, payload: {} },
    {
      name: 'VHOST_USER_BACKEND_IOTLB_MSG',
      request: 1,
      reply: false,
      needReply: false,
      payload: {
        iova: '0xffeb6000',
        size: '0x0',
        uaddr: '0x0',
        perm: 1,
        type: 1,
        type_name: 'MISS',
        perm_name: 'RO',
      },
    },
  ]);
  const count = w.reader.read(0);
  expect(Array.from({ length: count }, (_, i) => eventObject(w.reader, w.reader.block, i))).toEqual(events);
});

test('lines and objects say the same', () => {
  const w = new FakeWorld();
  for (const kind of E.EVENT_KINDS)
    w.event(kind.id % 4, kind.id * 1e6 + 1, kind.id, kind.id % 16, kind.id, 1, 2 ** 32 - 1);
  w.frames = 256;
  w.bytes = 64;
  w.publish();
  const count = w.reader.read(0);
  const objects = Array.from({ length: count }, (_, i) => eventObject(w.reader, w.reader.block, i));
  expect(all(w)).toEqual(objects);
  const bytesEvents = objects.map((o) => Object.keys(o).length);
  expect(Math.min(...bytesEvents)).toBe(7);
});

test('a slow reader is told exactly what it missed', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 14 });
  const cursor = new EventCursor(w.reader, new EventFilter(w.catalog), new JsonEncoder(w.catalog, 'lines'), 0);
  let next = 0;
  let read = 0;
  let dropped = 0;
  for (let round = 0; round < 30; round++) {
    for (let i = 0; i < 137 * (round + 1); i++) vhostNetFrame(w, i * 1000);
    w.publish();
    const batch = cursor.next(3000)!;
    expect(batch.from).toBe(next);
    expect(batch.to - batch.from).toBe(batch.dropped + batch.events);
    const got = lines(batch.bytes);
    expect(got.map((e) => e['seq'])).toEqual(
      Array.from({ length: batch.events }, (_, i) => batch.from + batch.dropped + i),
    );
    next = batch.to;
    read += batch.events;
    dropped += batch.dropped;
  }
  expect(read + dropped).toBe(next);
  expect(dropped).toBeGreaterThan(0);
  expect(cursor.behind()).toBe(w.events - next);
});

test('what is recorded while a batch is made is neither counted twice nor left out', () => {
  const amounts = fc.array(fc.nat(40_000), { minLength: 1, maxLength: 40 });
  const filters = fc.constantFrom<EventFilterQuery>({}, { events: 'sched.sleep' });
  fc.assert(
    fc.property(amounts, filters, fc.integer({ min: 1, max: 5000 }), (script, query, most) => {
      const w = new FakeWorld({ eventCapacity: 1 << 13 });
      const record = (count: number): void => {
        for (let i = 0; i < count; i++) w.event(0, w.events, w.events % 3 === 0 ? E.SCHED_WAKE : E.SCHED_SLEEP, 0);
        w.publish();
      };
      let at = 0;
      // The engine's thread goes on whenever the reader has looked how far it is.
      class Overtaken extends RingReader {
        override head(): number {
          const head = super.head();
          record(script[at++] ?? 0);
          return head;
        }
      }
      record(5000);
      const reader = new Overtaken(w.reader.counters.buffer as SharedArrayBuffer, w.catalog);
      const cursor = new EventCursor(reader, new EventFilter(w.catalog, query), new JsonEncoder(w.catalog, 'lines'), 0);
      let next = 0;
      for (let batch = cursor.next(most); batch !== null; batch = cursor.next(most)) {
        expect(batch.from).toBe(next);
        const held = Array.from({ length: batch.to - next - batch.dropped }, (_, i) => next + batch.dropped + i);
        const wanted = query.events === undefined ? held : held.filter((seq) => seq % 3 !== 0);
        expect(batch.events).toBe(wanted.length);
        const got = lines(batch.bytes);
        expect(got.map((e) => e['seq'])).toEqual(wanted);
        expect(got.map((e) => e['ns'])).toEqual(wanted);
        expect(batch.to).toBeGreaterThan(next);
        next = batch.to;
      }
      expect(next).toBe(w.events);
    }),
    { numRuns: 50 },
  );
});

test('a cursor without a start begins now; batches end at maxEvents, maxBytes and by work', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 18 });
  for (let i = 0; i < 50_000; i++) w.event(0, i, E.SCHED_SLEEP, 0);
  w.publish();
  expect(new EventCursor(w.reader, new EventFilter(w.catalog), new JsonEncoder(w.catalog, 'lines')).next()).toBeNull();
  const none = new EventCursor(
    w.reader,
    new EventFilter(w.catalog, { events: 'dp.miss' }),
    new JsonEncoder(w.catalog, 'lines'),
    0,
  );
  const first = none.next()!;
  expect(first).toMatchObject({ from: 0, events: 0, dropped: 0 });
  expect(first.to).toBeLessThan(20_000);
  const some = new EventCursor(w.reader, new EventFilter(w.catalog), new JsonEncoder(w.catalog, 'lines'), 0);
  expect(some.next(10)).toMatchObject({ from: 0, to: 10, events: 10 });
  expect(some.next(10_000, 1000)!.bytes.length).toBeLessThan(1300);
});
