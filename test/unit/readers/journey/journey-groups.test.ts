import { expect, test } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { EventFilter } from '../../../../src/readers/events/event-filter.ts';
import { type GroupOptions, type GroupResult, JourneyGroups } from '../../../../src/readers/journey/journey-groups.ts';
import { groupsJson } from '../../../../src/readers/journey/journey-groups-json.ts';
import { groupsText } from '../../../../src/readers/journey/journey-groups-text.ts';
import { FakeWorld } from '../fake-world.ts';
import { floodedFrame, vhostNetFrame } from '../journeys.ts';

function group(w: FakeWorld, options: GroupOptions = {}): GroupResult {
  const scan = new JourneyGroups(w.reader, options).scan();
  for (;;) {
    const { done, value } = scan.next();
    if (done) return value;
  }
}
const told = (r: GroupResult): unknown[] => r.groups.map((g) => [g.outcome, g.count, g.firstFrame, g.slowestFrame]);

test('frames of one way are one group, with what they cost', () => {
  const w = new FakeWorld();
  for (let i = 0; i < 10; i++) vhostNetFrame(w, i * 10_000);
  const { parent, clone } = floodedFrame(w, 200_000);
  const flying = w.newFrame();
  w.event(0, 300_000, E.PACKET_BORN, 1, flying, 60, 1);
  w.event(0, 300_020, E.GUEST_XMIT, 1, flying, 60);
  w.publish();
  const all = group(w);
  expect(told(all)).toEqual([
    ['delivered', 10, 1, 1],
    ['dropped:dp.no_output', 1, parent, parent],
    ['dropped:tap.queue_full', 1, clone, clone],
    ['in flight', 1, flying, flying],
  ]);
  expect(all).toMatchObject({ frames: 13, incomplete: 0, others: {} });
  const json = groupsJson(w.catalog, all, 20);
  const [delivered, , copied, open] = json.groups;
  expect(delivered).toMatchObject({
    share: 10 / 13,
    latencyNs: { p50: 8300, p90: 8300, p99: 8300, max: 8300, mean: 8300 },
    perFrame: { processingNs: 2300, waitingNs: 6000, copies: 2, copiedBytes: 120, exits: 1, kicks: 1, interrupts: 1 },
  });
  expect(delivered!.hops[2]).toMatchObject({
    place: 'a/net0/tx0',
    event: 'virtq.avail',
    context: 'a/vcpu0',
    contextKind: 'vcpu',
    costNs: { p50: 1100 },
  });
  expect(delivered!.hops.map((hop) => hop.waitedNs.max).filter((ns) => ns > 0)).toEqual([1900, 1400, 2700]);
  expect(copied!.hops.map((hop) => hop.event)).toEqual(['packet.clone', 'dp.output', 'tap.queue_full']);
  expect(open!.latencyNs.max).toBe(20);

  const text = groupsText(json);
  expect(text).toMatch(/^13 frames on 4 ways; events 0 to \d+$/m);
  expect(text).toMatch(/^1\. 10 frames \(76\.9 %\): delivered; first 1, slowest 1$/m);
  expect(text).toMatch(/^ *1100 +1100 +a\/vcpu0 +a\/net0\/tx0 +virtq\.avail$/m);
});

test('groups that are not shown are counted together', () => {
  const w = new FakeWorld();
  for (let i = 0; i < 3; i++) vhostNetFrame(w, i * 10_000);
  floodedFrame(w, 200_000);
  w.publish();
  const json = groupsJson(w.catalog, group(w), 1);
  expect(json.groups).toHaveLength(1);
  const outcomes = { 'dropped:dp.no_output': 1, 'dropped:tap.queue_full': 1 };
  expect(json.others).toEqual({ groups: 2, count: 2, share: 0.4, outcomes });
  expect(groupsText(json)).toContain(
    '2 frames (40.0 %) went other ways: 1 dropped:dp.no_output, 1 dropped:tap.queue_full',
  );
});

test('by filter, outcome and run; a copy belongs to the run of its parent', () => {
  const w = new FakeWorld();
  for (let i = 0; i < 5; i++) vhostNetFrame(w, i * 10_000);
  const { parent, clone } = floodedFrame(w, 200_000);
  const foreign = w.newFrame();
  w.event(0, 300_000, E.PACKET_BORN, 1, foreign, 60, 2);
  w.event(0, 300_100, E.GUEST_DROP_TX_FULL, 1, foreign, 60);
  w.publish();
  const filter = (query: object) => group(w, { filter: new EventFilter(w.catalog, query) });
  expect(told(filter({ places: 'tap-b' }))).toEqual([
    ['delivered', 5, 1, 1],
    ['dropped:tap.queue_full', 1, clone, clone],
  ]);
  expect(filter({ frame: '2-3' }).frames).toBe(2);
  expect(filter({ role: 'dropped' }).frames).toBe(3);
  expect(filter({ time: '0ns-15us' }).frames).toBe(2);
  expect(group(w, { run: 1 }).frames).toBe(7);
  expect(told(group(w, { run: 1, outcome: 'dropped' }))).toEqual([
    ['dropped:dp.no_output', 1, parent, parent],
    ['dropped:tap.queue_full', 1, clone, clone],
  ]);
  expect(told(group(w, { run: 2 }))).toEqual([['dropped:guest.tx_full', 1, foreign, foreign]]);
  expect(group(w, { outcome: 'in flight' }).frames).toBe(0);
});

test('too many different ways, and too long ones, are counted and not kept apart', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 18 });
  // 600 ways that differ in their length, then one that never ends.
  for (let i = 0; i < 600; i++) {
    const f = w.newFrame();
    w.event(0, i * 1000, E.PACKET_BORN, 1, f, 60);
    for (let bit = 0; bit < 10; bit++) w.event(0, i * 1000 + bit, i & (1 << bit) ? E.DP_HIT : E.DP_MISS, 7, f, 1);
    w.event(0, i * 1000 + 50, E.GUEST_DELIVER, 12, f, 60);
  }
  const long = w.newFrame();
  w.event(0, 700_000, E.PACKET_BORN, 1, long, 60);
  for (let i = 0; i < 5000; i++) w.event(0, 700_000 + i, E.DP_OUTPUT, 9, long, 60, 2);
  w.publish();
  const all = group(w);
  expect(all.frames).toBe(601);
  expect(all.groups).toHaveLength(512);
  expect(all.others).toEqual({ delivered: 88, 'in flight': 1 });
});

test('frames whose beginning was overwritten are counted apart', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 14 });
  for (let i = 0; i < 3000; i++) vhostNetFrame(w, i * 10_000);
  w.publish();
  const all = group(w);
  expect(all.from).toBe(w.reader.tail());
  expect(all.groups).toHaveLength(1);
  expect(all.incomplete).toBeGreaterThan(0);
  expect(all.incomplete).toBeLessThan(4);
  expect(all.groups[0]!.count).toBe(all.frames);
  expect(all.groups[0]!.firstFrame).toBe(3000 - all.frames + 1);
});

test('events that were lost in the middle: frames that were under way are counted apart', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 14 });
  const flying = Array.from({ length: 150 }, () => w.newFrame());
  for (const f of flying) w.event(0, 0, E.PACKET_BORN, 1, f, 60);
  for (let i = 0; i < 300; i++) vhostNetFrame(w, i * 10_000);
  for (const f of flying) w.event(0, 9_000_000, E.GUEST_DELIVER, 12, f, 60);
  w.publish();
  const head = w.reader.head();
  const scan = new JourneyGroups(w.reader).scan();
  scan.next();
  const read = 4096;
  for (let i = 0; i < 300; i++) vhostNetFrame(w, 10_000_000 + i * 10_000);
  w.publish();
  const hole = w.reader.tail() - read;
  expect(hole).toBeGreaterThan(2000);
  expect(w.reader.tail()).toBeLessThan(head);
  for (;;) {
    const { done, value } = scan.next();
    if (!done) continue;
    // of those that fly, and of those that lie across an edge of the hole, nobody knows all
    expect(value.to).toBe(head);
    expect(value.groups).toHaveLength(1);
    expect(value.groups[0]!.latency.max).toBe(8300);
    expect(value.incomplete).toBeGreaterThanOrEqual(150);
    expect(value.incomplete).toBeLessThan(155);
    const lost = Math.floor(hole / 26);
    expect(value.frames).toBeGreaterThan(300 - lost - 4);
    expect(value.frames).toBeLessThan(300 - lost + 4);
    break;
  }
});
