/** The filter grammar: which events each parameter selects, what is refused and how, and that the documented examples work. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { parseDuration } from '../../../../src/lab/units.ts';
import { EventCursor } from '../../../../src/readers/events/event-cursor.ts';
import {
  durationNs,
  EventFilter,
  EventFilterError,
  type EventFilterQuery,
} from '../../../../src/readers/events/event-filter.ts';
import { type EventJson, JsonEncoder } from '../../../../src/readers/events/event-json.ts';
import { globMatches } from '../../../../src/readers/glob.ts';
import { FakeWorld } from '../fake-world.ts';
import { floodedFrame, vhostNetFrame } from '../journeys.ts';

function all(w: FakeWorld, query: EventFilterQuery = {}): EventJson[] {
  const cursor = new EventCursor(w.reader, new EventFilter(w.catalog, query), new JsonEncoder(w.catalog, 'lines'), 0);
  const out: EventJson[] = [];
  for (let batch = cursor.next(); batch !== null; batch = cursor.next()) {
    const lines = Buffer.from(batch.bytes).toString('utf8').split('\n').slice(0, -1);
    out.push(...lines.map((line) => JSON.parse(line) as EventJson));
  }
  return out;
}

test('filters: families, places, contexts, role, frame; all must match', () => {
  const w = new FakeWorld();
  const f = vhostNetFrame(w, 0);
  const { clone } = floodedFrame(w, 10_000);
  w.publish();
  const kinds = (query: EventFilterQuery) => all(w, query).map((e) => e['event']);
  expect(kinds({ events: 'dp.hit,tap.*' })).toEqual([
    'tap.xmit',
    'dp.hit',
    'tap.enqueue',
    'tap.dequeue',
    'tap.queue_full',
  ]);
  expect(kinds({ events: 'tap.*,!tap.enqueue', frame: `${f}` })).toEqual(['tap.xmit', 'tap.dequeue']);
  expect(kinds({ events: '!*.*' })).toEqual([]);
  expect(kinds({ places: 'br0/*' })).toEqual(['dp.ingress', 'dp.output', 'dp.ingress', 'dp.output']);
  expect(kinds({ contexts: 'b/vcpu0' })).toEqual(['guest.rx', 'guest.deliver']);
  expect(kinds({ role: 'dropped' })).toEqual(['dp.no_output', 'tap.queue_full']);
  expect(kinds({ role: 'dropped, delivered', frame: '1-2' })).toEqual(['guest.deliver', 'dp.no_output']);
  expect(all(w, { frame: `${clone}` }).map((e) => e['frame'])).toEqual([clone, clone, clone]);
});

/** The grammar again, as plainly as possible: names by regular expressions, ranges by their texts. */
function wanted(event: EventJson, query: EventFilterQuery): boolean {
  const listed = (text: string | undefined, name: string): boolean => {
    if (text === undefined) return true;
    const parts = text.split(',');
    let found = parts.every((part) => part.startsWith('!'));
    for (const part of parts) {
      const pattern = part
        .replace('!', '')
        .replace(/[.+?^${}()|[\]\\]/g, '\\$&')
        .replaceAll('*', '.*');
      if (new RegExp(`^${pattern}$`).test(name)) found = !part.startsWith('!');
    }
    return found;
  };
  const ranged = (text: string | undefined, value: number, scale: (end: string) => number): boolean => {
    if (text === undefined) return true;
    const [first = '', last = first] = text.split('-');
    return (first === '' || value >= scale(first)) && (last === '' || value <= scale(last));
  };
  const role = E.EVENT_KINDS.find((kind) => kind.name === event['event'])?.role ?? '';
  return (
    listed(query.events, String(event['event'])) &&
    listed(query.places, String(event['place'])) &&
    listed(query.contexts, String(event['context'])) &&
    (query.role === undefined || query.role.split(',').includes(role)) &&
    ranged(query.frame, Number(event['frame'] ?? 0), Number) &&
    ranged(query.time, Number(event['ns']), (end) => Number(end.replace('us', '')) * 1000)
  );
}

test('filters select what the grammar says', () => {
  const w = new FakeWorld();
  for (let i = 0; i < 8; i++) {
    vhostNetFrame(w, i * 10_000);
    floodedFrame(w, i * 10_000 + 5000);
  }
  w.publish();
  const events = all(w);
  const list = (...names: string[]) =>
    fc
      .array(fc.tuple(fc.boolean(), fc.constantFrom(...names)), { minLength: 1, maxLength: 4 })
      .map((parts) => parts.map(([out, name]) => (out ? '!' : '') + name).join(','));
  const range = (most: number, unit: string, open: boolean) =>
    fc
      .tuple(fc.integer({ min: 1, max: most }), fc.nat(most))
      .chain(([first, more]) =>
        fc.constantFrom(
          `${first}${unit}-${first + more}${unit}`,
          ...(open ? [`${first}${unit}-`, `-${first}${unit}`] : [`${first}`]),
        ),
      );
  const query = fc.record(
    {
      events: list('*', 'guest.*', '*.hit', 'packet.born', 'tap.*', 'dp.no_output', '*t*'),
      places: list('*', 'a/*', '*net0', 'br0', 'br0/*', 'tap-b'),
      contexts: list('*', 'vhost-*', 'a/vcpu0', '*0*'),
      role: fc
        .uniqueArray(fc.constantFrom('born', 'cloned', 'delivered', 'dropped', 'none'), { minLength: 1 })
        .map((r) => r.join(',')),
      frame: range(20, '', false),
      time: range(80, 'us', true),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(query, (given) => {
      expect(all(w, given)).toEqual(events.filter((event) => wanted(event, given)));
    }),
    { numRuns: 300 },
  );
});

test('a filter that cannot match says why and what there is', () => {
  const w = new FakeWorld();
  const error = (query: EventFilterQuery): EventFilterError => {
    try {
      new EventFilter(w.catalog, query);
    } catch (e) {
      if (e instanceof EventFilterError) return e;
    }
    throw new Error('accepted');
  };
  expect(error({ events: 'guset.*' }).message).toBe('events: "guset.*" matches nothing here');
  expect(error({ events: 'guset.*' }).valid).toContain('guest.xmit');
  expect(error({ events: ' , ' }).parameter).toBe('events');
  expect(error({ places: 'nowhere' }).valid).toContain('br0/a.net0');
  expect(error({ contexts: 'x*' }).parameter).toBe('contexts');
  expect(error({ role: 'lost' }).message).toContain('born, cloned');
  for (const frame of ['0', '-1', 'x', '3-2', '1e3', '99999999999999999'])
    expect(error({ frame }).parameter).toBe('frame');
  for (const time of ['', '-', '1ms', '2ms-1ms', '1-2', '1.5ns-', '-1h', '1ms-2ms-3ms', '1e3ns-', '9999999999s-'])
    expect(error({ time }).parameter, time).toBe('time');
  expect(error({ time: '1ms' }).message).toContain('1ms-2.5ms');
});

test('time is virtual, both ends included, either may be left out', () => {
  const w = new FakeWorld();
  for (const ns of [0, 999_999, 1_000_000, 2_500_000, 2_500_001]) w.event(0, ns, E.SCHED_SLEEP, 0);
  w.publish();
  const times = (time: string) => all(w, { time }).map((e) => e['ns']);
  expect(times('1ms-2.5ms')).toEqual([1_000_000, 2_500_000]);
  expect(times('1ms-')).toEqual([1_000_000, 2_500_000, 2_500_001]);
  expect(times('-1000us')).toEqual([0, 999_999, 1_000_000]);
  expect(times('0ns-0s')).toEqual([0]);
  expect(all(w, { time: '1ms-', frame: '1' })).toEqual([]);
});

test('durations are those of topology documents', () => {
  const texts = [
    '1ns',
    '0s',
    '1.5us',
    '1.0000ns',
    '1.5ns',
    '0.000000001s',
    '0.0000000010s',
    '0.0000000001s',
    '1.',
    '.5s',
  ];
  for (const text of [
    ...texts,
    '9007199254740991ns',
    '9007199254740992ns',
    '9007199.254740991s',
    '1 s',
    '1S',
    '',
    's',
  ]) {
    const parsed = parseDuration(text);
    expect(durationNs(text), text).toBe(parsed.ok ? parsed.value : Number.NaN);
  }
});

test('everything: true only where nothing was asked for', () => {
  const w = new FakeWorld();
  expect(new EventFilter(w.catalog).everything).toBe(true);
  for (const query of [{ events: '*' }, { time: '0s-' }, { role: 'none' }])
    expect(new EventFilter(w.catalog, query).everything).toBe(false);
});

test('every example of docs/filters.md is taken', () => {
  const text = readFileSync(new URL('../../../../docs/filters.md', import.meta.url), 'utf8');
  const w = new FakeWorld();
  const examples = [...text.matchAll(/`(events|places|contexts|role|frame|time)=([^`]*)`/g)];
  expect(new Set(examples.map((match) => match[1])).size).toBe(6);
  for (const [, parameter = '', value = ''] of examples) {
    for (const part of `${parameter}=${value}`.split('&')) {
      const [key = '', example = ''] = part.split('=');
      expect(() => new EventFilter(w.catalog, { [key]: example }), part).not.toThrow();
    }
  }
});

test('patterns', () => {
  expect(globMatches('a/*', 'a/net0/tx0')).toBe(true);
  expect(globMatches('*', '')).toBe(true);
  expect(globMatches('a*b*c', 'axxbyybc')).toBe(true);
  expect(globMatches('a*b*c', 'axxbyyb')).toBe(false);
  expect(globMatches('a.c', 'abc')).toBe(false);
  expect(globMatches('a', 'ab')).toBe(false);
  expect(globMatches('*a*a*a*a*a*a*a*a*b', 'a'.repeat(2000))).toBe(false);
});
