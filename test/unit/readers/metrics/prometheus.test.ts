import { expect, test } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { LATENCY_FRAME, LATENCY_MAX, LATENCY_SUM, latencyAt } from '../../../../src/engine/latency.ts';
import { METRICS, scrape, worldMetrics } from '../../../../src/readers/metrics/prometheus.ts';
import { boundText } from '../../../../src/readers/metrics/prometheus-format.ts';
import { prepare } from '../../../../src/readers/metrics/prometheus-plan.ts';
import { lineStarts, TextWriter } from '../../../../src/readers/metrics/prometheus-text.ts';
import { parseExposition } from '../../../tools/exposition.ts';
import { FakeWorld, PLACES, place } from '../fake-world.ts';
import { floodedFrame, vhostNetFrame } from '../journeys.ts';
import { crowdedWorlds } from '../many-series.ts';

const parse = (text: string): ReadonlyMap<string, number> => parseExposition(text, 'prometheus').samples;

test('every series is there from the start, at 0', () => {
  const metrics = parse(worldMetrics([{ reader: new FakeWorld().reader }]));
  expect([...metrics].filter(([name, v]) => v !== 0 && !/capacity|_info/.test(name))).toEqual([]);
  for (const k of E.DROP_KINDS) {
    expect(metrics.get(`ringside_frames_dropped_total{topology="t1",reason="${k.name}"}`)).toBe(0);
  }
  const names = new Set([...metrics.keys()].map((s) => s.slice(0, s.indexOf('{'))));
  for (const m of METRICS) {
    // This world has no physical NIC, and no place of a VMM.
    if (/^ringside_(dma_transfers|iommu_invalidations|iommu_faults)_total$/.test(m.name)) continue;
    expect(names.has(m.type === 'histogram' ? `${m.name}_count` : m.name), m.name).toBe(true);
  }
});

test('the counters of a frame over vhost-net', () => {
  const w = new FakeWorld();
  for (let i = 0; i < 5; i++) vhostNetFrame(w, i * 10_000, 100);
  floodedFrame(w, 100_000, 100);
  w.setBusy(1, 1_500_000_000, 7);
  w.publish();
  const m = parse(worldMetrics([{ reader: w.reader }]));
  const a = 'topology="t1",guest="a",nic="net0",backend="vhost-net"';
  const b = 'topology="t1",guest="b",nic="net0",backend="vhost-net"';
  expect(m.get('ringside_virtual_time_seconds{topology="t1"}')).toBe(0.0001006);
  expect(m.get(`ringside_kicks_total{${a},queue="tx0"}`)).toBe(5);
  expect(m.get(`ringside_kicks_total{${a},queue="rx0"}`)).toBe(0);
  expect(m.get(`ringside_interrupts_total{${b},queue="rx0"}`)).toBe(5);
  expect(m.get(`ringside_sent_frames_total{${a}}`)).toBe(6);
  expect(m.get(`ringside_sent_bytes_total{${a}}`)).toBe(600);
  expect(m.get(`ringside_received_frames_total{${b}}`)).toBe(5);
  expect(m.get(`ringside_received_bytes_total{${b}}`)).toBe(500);
  expect(m.get(`ringside_copies_total{${b}}`)).toBe(5);
  expect(m.get(`ringside_copied_bytes_total{${b}}`)).toBe(500);
  const exit = 'topology="t1",guest="a",backend="vhost-net",vcpu="vcpu0",reason="EPT_MISCONFIG"';
  expect(m.get(`ringside_vm_exits_total{${exit},handled_by="kernel"}`)).toBe(5);
  expect(m.get(`ringside_vm_exits_total{${exit},handled_by="userspace"}`)).toBe(0);
  expect(m.get('ringside_frames_injected_total{topology="t1"}')).toBe(6);
  expect(m.get('ringside_frames_replicated_total{topology="t1"}')).toBe(1);
  expect(m.get('ringside_frames_dropped_total{topology="t1",reason="tap.queue_full"}')).toBe(1);
  expect(m.get(`ringside_tap_queue_drops_total{${b}}`)).toBe(1);
  expect(m.get('ringside_datapath_lookups_total{topology="t1",bridge="br0",result="hit"}')).toBe(5);
  expect(
    m.get(
      'ringside_context_busy_seconds_total{topology="t1",context="vhost-1201",kind="vhost",core="1",host="h1",guest="a",backend="vhost-net"}',
    ),
  ).toBe(1.5);
  expect(m.get('ringside_events_total{topology="t1"}')).toBe(w.events);
  // Injected and replicated frames are delivered or dropped here.
  const sum = (name: string) => [...m].reduce((n, [s, v]) => (s.startsWith(`${name}{`) ? n + v : n), 0);
  expect(sum('ringside_frames_delivered_total') + sum('ringside_frames_dropped_total')).toBe(7);
});

test('posted receive buffers and how often the index was published; nothing is said about transmit queues', () => {
  const w = new FakeWorld();
  w.event(0, 100, E.VIRTQ_AVAIL_IDX, 3, 0, 256, 256);
  w.event(0, 200, E.VIRTQ_AVAIL_IDX, 3, 0, 64, 320);
  w.publish();
  const m = parse(worldMetrics([{ reader: w.reader }]));
  const a = 'topology="t1",guest="a",nic="net0",backend="vhost-net"';
  expect(m.get(`ringside_avail_batches_total{${a},queue="rx0"}`)).toBe(2);
  expect(m.get(`ringside_receive_buffers_posted_total{${a},queue="rx0"}`)).toBe(320);
  expect(m.has(`ringside_avail_batches_total{${a},queue="tx0"}`)).toBe(false);
});

test('labels are escaped, and guests of one name on two hosts stay apart', () => {
  const places = [
    ...PLACES,
    place(16, 'h2/a/net0', 'driver', 10, { host: 'h2', guest: 'a', nic: 'net0', backend: 'virtio-net' }),
    place(17, 'wei"rd\\', 'bridge', 60, { bridge: 'wei"rd\\' }),
  ];
  const m = parse(worldMetrics([{ reader: new FakeWorld({ places }).reader }]));
  expect(m.has('ringside_sent_frames_total{topology="t1",guest="h1/a",nic="net0",backend="vhost-net"}')).toBe(true);
  expect(m.has('ringside_sent_frames_total{topology="t1",guest="h2/a",nic="net0",backend="virtio-net"}')).toBe(true);
  expect(m.has('ringside_datapath_upcalls_total{topology="t1",bridge="wei\\"rd\\\\"}')).toBe(true);
});

test('names and labels keep to the conventions', () => {
  for (const m of METRICS) {
    expect(m.name).toMatch(/^ringside_[a-z_]+$/);
    expect(m.name.endsWith('_total')).toBe(m.type === 'counter');
    expect(m.help).toMatch(/^[A-Z].*\.$/);
    for (const label of m.labels) expect(['frame', 'flow', 'run']).not.toContain(label);
  }
});

test('a hundred thousand series come in small pieces, the same each time', () => {
  const worlds = crowdedWorlds();
  let lines = 0;
  const sizes: number[] = [];
  for (const piece of scrape(worlds)) {
    const ends = piece.reduce((n, byte) => n + (byte === 10 ? 1 : 0), 0);
    sizes.push(ends);
    lines += ends;
  }
  expect(lines).toBeGreaterThan(100_000);
  expect(Math.max(...sizes)).toBeLessThan(3000);
  expect(Buffer.concat([...scrape(worlds)]).equals(Buffer.concat([...scrape(worlds)]))).toBe(true);
});

test('what is prepared ahead is all that a scrape would have to work out, in small steps', () => {
  const { reader } = crowdedWorlds()[0]!;
  const planned = (): number => [...scrape([{ reader }])].filter((piece) => piece.length === 0).length;
  const cold = crowdedWorlds()[0]!;
  const text = worldMetrics([cold]);
  // Nothing beyond the cap is prepared; the rest is, when somebody wants it.
  const some = [...prepare(reader.catalog, 1000)].length;
  expect(planned()).toBeGreaterThan(0);
  expect([...prepare(reader.catalog)].length).toBeGreaterThan(0);
  expect(planned()).toBe(0);
  expect([...prepare(crowdedWorlds()[0]!.reader.catalog)].length).toBeGreaterThan(some);
  expect(worldMetrics([{ reader }])).toBe(text);
});

test('as OpenMetrics: families without their suffix, units, the slowest frame of each histogram', () => {
  const w = new FakeWorld({ firstFrame: 5 * 2 ** 32 });
  const frame = w.newFrame();
  const at = latencyAt(12, E.GUEST_DELIVER);
  const words = w.reader.histograms;
  words[at + 3] = 1;
  words[at + 5] = 64;
  words[at + LATENCY_SUM] = 500 + 64 * 2000;
  words[at + LATENCY_MAX] = 2000;
  words[at + LATENCY_FRAME] = frame % 2 ** 32;
  w.publish();
  const text = worldMetrics([{ reader: w.reader, revision: 3 }], { format: 'openmetrics' });
  const { families, samples, exemplars } = parseExposition(text, 'openmetrics');
  expect(families.get('ringside_context_busy_seconds')).toMatchObject({ type: 'counter', unit: 'seconds' });
  expect(families.get('ringside_topology')?.type).toBe('info');
  expect(samples.get('ringside_topology_info{topology="t1",seed="1",revision="3"}')).toBe(1);
  const b = 'topology="t1",place="b/net0",guest="b",nic="net0",backend="vhost-net"';
  const name = 'ringside_frame_latency_seconds';
  expect(samples.get(`${name}_bucket{${b},le="5.12e-07"}`)).toBe(1);
  expect(samples.get(`${name}_bucket{${b},le="2.048e-06"}`)).toBe(65);
  expect(samples.get(`${name}_sum{${b}}`)).toBe(0.0001285);
  expect(samples.get(`${name}_count{${b}}`)).toBe(65);
  expect([...exemplars]).toEqual([
    [`${name}_bucket{${b},le="2.048e-06"}`, { labels: `{frame="${frame}"}`, value: 0.000002 }],
  ]);
  // The other format has the same samples, and no exemplar.
  const classic = parseExposition(worldMetrics([{ reader: w.reader, revision: 3 }]), 'prometheus');
  expect(classic.samples).toEqual(samples);
  expect(classic.exemplars.size).toBe(0);
});

test('numbers and bounds as both formats have them', () => {
  const bounds: readonly (readonly [number, string])[] = [
    [6.4e-8, '6.4e-08'],
    [1.28e-7, '1.28e-07'],
    [0.000065536, '6.5536e-05'],
    [0.000131072, '0.000131072'],
    [1, '1.0'],
    [0.25, '0.25'],
    [4.294967296, '4.294967296'],
    [Number.POSITIVE_INFINITY, '+Inf'],
  ];
  for (const [bound, text] of bounds) expect(boundText(bound)).toBe(text);
  const out = new TextWriter();
  const values = [0, 7, 10, 99, 100, 999_999_999, 1e9, 2 ** 32, 2 ** 53 - 1, 1e21, 0.5, 1.5e-9, -3, 123456.789];
  const starts = lineStarts(values.map((_, i) => `n${i} `));
  for (const [i, value] of values.entries()) out.line(starts, i, value);
  const lines = new TextDecoder().decode(out.take()).trimEnd().split('\n');
  expect(lines).toEqual(values.map((value, i) => `n${i} ${value}`));
  // Names that are not ASCII, and more than a buffer holds.
  const odd = lineStarts(['ä ', 'x'.repeat(1 << 19), 'ö ']);
  for (let i = 0; i < 3; i++) out.line(odd, i, i);
  expect(new TextDecoder().decode(out.take())).toBe(`ä 0\n${'x'.repeat(1 << 19)}1\nö 2\n`);
});

test('beyond the cap whole metrics are left out, each world has its share, and what is missing is counted', () => {
  const small = new FakeWorld().reader;
  const places = Array.from({ length: 40 }, (_, i) =>
    place(i, `g${i}/net0`, 'driver', 20, { guest: `g${i}`, nic: 'net0', backend: 'vhost-net' }),
  );
  const big = new FakeWorld({ places, contexts: [], topology: 't2' }).reader;
  const worlds = [{ reader: big }, { reader: small }];
  const all = parse(worldMetrics(worlds));
  for (const maxSeries of [40, 200, 1500, all.size - 1, all.size, 1_000_000]) {
    const text = worldMetrics(worlds, { maxSeries });
    const metrics = parse(text);
    expect(metrics.size).toBeLessThanOrEqual(maxSeries);
    for (const [name, value] of metrics) if (!name.includes('omitted')) expect(all.get(name), name).toBe(value);
    for (const topology of ['t1', 't2']) {
      const of = (m: ReadonlyMap<string, number>) => [...m.keys()].filter((s) => s.includes(`topology="${topology}"`));
      const omitted = metrics.get(`ringside_metrics_series_omitted{topology="${topology}"}`)!;
      expect(of(metrics).length + omitted).toBe(of(all).length);
      // Whole metrics: a name is there with all its series or with none.
      const names = (series: readonly string[]) => new Map(series.map((s) => [s.slice(0, s.indexOf('{')), 0]));
      for (const name of names(of(metrics)).keys()) {
        const count = (m: ReadonlyMap<string, number>) => of(m).filter((s) => s.startsWith(`${name}{`)).length;
        expect(count(metrics), name).toBe(count(all));
      }
    }
    // The clock comes first.
    expect(metrics.has('ringside_virtual_time_seconds{topology="t1"}')).toBe(maxSeries >= 2);
  }
  expect(parse(worldMetrics(worlds, { maxSeries: all.size })).size).toBe(all.size);
  // The small one is whole as long as its share suffices.
  const half = parse(worldMetrics(worlds, { maxSeries: 3000 }));
  expect(half.get('ringside_metrics_series_omitted{topology="t1"}')).toBe(0);
  expect(half.get('ringside_metrics_series_omitted{topology="t2"}')).toBeGreaterThan(0);
});
