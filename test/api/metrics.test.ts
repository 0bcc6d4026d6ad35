/** /metrics over HTTP: both text formats, strictly read; facts about topologies; the cap; many series in short steps. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { afterEach, test } from 'vitest';
import { type Exposition, parseExposition } from '../tools/exposition.ts';
import { closeServers, smallDocument, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const OPENMETRICS = 'application/openmetrics-text';
/** What Prometheus 2.42 sends. */
const PROMETHEUS_ACCEPT =
  'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';

async function samplesOf(server: TestServer): Promise<ReadonlyMap<string, number>> {
  return parseExposition((await server.get('/metrics')).text, 'prometheus').samples;
}

test('the format that is asked for, each by its own rules, with the same samples', async () => {
  const server = await startServer({ engine: null });
  await server.put('/v1/topologies/t1', smallDocument({ recorder: { events: 65536, bytes: '1MiB' } }));
  const run = await server.post('/v1/topologies/t1/traffic', { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 500 });
  await server.get(`${run.headers['location']}?wait=30s`);

  const classic = await server.get('/metrics');
  assert.equal(classic.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  const text = parseExposition(classic.text, 'prometheus');
  const open = await server.get('/metrics', { headers: { accept: PROMETHEUS_ACCEPT } });
  assert.equal(open.headers['content-type'], 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  const metrics = parseExposition(open.text, 'openmetrics');
  for (const accept of ['', '*/*', 'text/plain', 'text/html,*/*;q=0.8', `${OPENMETRICS};q=0.1, text/plain;q=0.2`]) {
    const answer = await server.get('/metrics', { headers: { accept } });
    assert.match(String(answer.headers['content-type']), /^text\/plain/, accept);
  }
  assert.equal((await server.get('/metrics', { headers: { accept: 'application/xml' } })).status, 406);

  // What the world counted is the same in both; the process goes on.
  for (const [series, value] of text.samples) {
    assert.ok(metrics.samples.has(series), `${series} is not there as OpenMetrics`);
    if (series.includes('topology="t1"')) assert.equal(metrics.samples.get(series), value, series);
  }
  const worldSeries = (e: Exposition) => [...e.samples.keys()].filter((series) => series.includes('topology="'));
  assert.equal(worldSeries(metrics).length, worldSeries(text).length);
  assert.equal(metrics.families.get('ringside_sent_bytes')?.type, 'counter');
  assert.equal(metrics.families.get('ringside_sent_bytes')?.unit, 'bytes');
  assert.equal(metrics.families.get('ringside_topology')?.type, 'info');
  assert.equal(metrics.families.get('process_cpu_user_seconds')?.type, 'counter');
  assert.equal(text.families.get('ringside_topology_info')?.type, 'gauge');

  const latency = 'ringside_frame_latency_seconds';
  const b = '{topology="t1",place="b/net0",guest="b",nic="net0",backend="vhost-net"';
  assert.equal(text.samples.get(`${latency}_count${b}}`), 500);
  // The slowest frame is named, in the bucket that it fell into.
  const [at, slowest] = [...metrics.exemplars].find(([series]) => series.startsWith(`${latency}_bucket${b}`))!;
  assert.ok(slowest.value <= Number(/le="([^"]+)"/.exec(at)?.[1]));
  const frame = /^\{frame="(\d+)"\}$/.exec(slowest.labels)?.[1];
  const journey = await server.get(`/v1/topologies/t1/frames/${frame}`);
  assert.equal(journey.status, 200);
});

test('facts about a topology: revision, cost profile, runs, reconfigurations, conservation', async () => {
  const server = await startServer({ engine: null });
  await server.put('/v1/topologies/t1', smallDocument({ seed: 7 }));
  const before = await samplesOf(server);
  assert.equal(before.get('ringside_topology_info{topology="t1",seed="7",revision="1"}'), 1);
  const profile = [...before.keys()].find((s) => s.startsWith('ringside_cost_profile_info'));
  assert.match(String(profile), /profile="haswell-2\.4",hash="[0-9a-f]{16}",overrides="0"/);
  assert.equal(before.get('ringside_conservation_holds{topology="t1"}'), 1);
  assert.equal(before.get('ringside_faults_total{topology="t1",kind="fault.assert"}'), 0);

  const run = await server.post('/v1/topologies/t1/traffic', { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 50 });
  await server.get(`${run.headers['location']}?wait=30s`);
  // The last frames are taken out of their ring after the run's end.
  while (!(await server.get('/v1/topologies/t1/clock')).body.idle);
  const during = await samplesOf(server);
  assert.equal(during.get('ringside_traffic_runs_started_total{topology="t1"}'), 1);
  assert.equal(during.get('ringside_traffic_runs_ended_total{topology="t1"}'), 1);
  const status = (await server.get('/v1/topologies/t1')).body;
  assert.equal(during.get('ringside_frames_in_flight{topology="t1"}'), status.conservation.inFlight);

  await server.put('/v1/topologies/t1', smallDocument({ seed: 7, costs: { upcall: 1000 } }));
  const after = await samplesOf(server);
  assert.equal(after.get('ringside_reconfigurations_total{topology="t1"}'), 1);
  assert.equal(after.get('ringside_topology_info{topology="t1",seed="7",revision="2"}'), 1);
  const custom = [...after.keys()].find((s) => s.startsWith('ringside_cost_profile_info'));
  assert.match(String(custom), /profile="haswell-2\.4".*overrides="1"/);
  assert.notEqual(/hash="(\w+)"/.exec(String(custom))?.[1], /hash="(\w+)"/.exec(String(profile))?.[1]);
});

/** Length of an answer; its pieces are thrown away, so that reading costs this thread little. */
async function bytesOf(url: string): Promise<number> {
  const [response] = (await once(get(url), 'response')) as [IncomingMessage];
  let bytes = 0;
  for await (const piece of response) bytes += (piece as Buffer).length;
  return bytes;
}

/** A topology of 180 NICs: some 24,000 series. */
function crowd(): object {
  const guests = Array.from({ length: 60 }, (_, i) => ({
    name: `guest-${i}`,
    memory: '16MiB',
    nics: ['net0', 'net1', 'net2'].map((name) => ({ name })),
  }));
  return { recorder: { events: 8192, bytes: '256KiB' }, hosts: [{ guests }] };
}

test('a hundred thousand series: in short steps, with turns for everybody else', async () => {
  const server = await startServer({ workers: 1, limits: { memory: 1e12 } } as object);
  for (let i = 0; i < 5; i++) {
    const { status, text } = await server.put(`/v1/topologies/crowd-${i}`, crowd());
    assert.equal(status, 201, text.slice(0, 500));
  }
  const address = await server.listen();
  const text = await (await fetch(`${address}/metrics`)).text();
  assert.ok(text.split('\n').length > 100_000);
  assert.match(text, /^ringside_metrics_series_omitted\{topology="crowd-0"\} 0$/m);

  // Once more, and the collector's work on that long text is done too.
  await bytesOf(`${address}/metrics`);
  // CPU time of this thread between two turns: however busy the machine is, nobody here waits longer than that.
  const blocks: number[] = [];
  let ticking = true;
  let last = process.threadCpuUsage();
  const tick = (): void => {
    const { user, system } = process.threadCpuUsage(last);
    blocks.push((user + system) / 1000);
    last = process.threadCpuUsage();
    if (ticking) setImmediate(tick);
  };
  setImmediate(tick);
  for (let i = 0; i < 3; i++) assert.ok((await bytesOf(`${address}/metrics`)) > 0.9 * text.length);
  ticking = false;
  blocks.sort((a, b) => b - a);
  console.log(`metrics: ${blocks.length} turns, the longest ${blocks.slice(0, 3).join(', ')} ms of CPU`);
  assert.ok(blocks.length > 3 * 50, `${blocks.length} turns`);
  // One turn may hold a garbage collection.
  assert.ok(blocks[1]! < 20, `${blocks[1]} ms of CPU in one turn`);
});

test('more series than the setting allows: whole metrics are left out', async () => {
  const server = await startServer({ limits: { metricsSeries: 400 } });
  await server.put('/v1/topologies/t1', smallDocument());
  await server.put('/v1/topologies/t2', smallDocument());
  const samples = await samplesOf(server);
  const ofWorlds = [...samples.keys()].filter((series) => series.includes('topology="'));
  assert.ok(ofWorlds.length <= 400);
  for (const topology of ['t1', 't2']) {
    assert.ok(samples.get(`ringside_metrics_series_omitted{topology="${topology}"}`)! > 0);
    assert.ok(samples.has(`ringside_virtual_time_seconds{topology="${topology}"}`));
  }
  assert.ok(![...samples.keys()].some((series) => series.startsWith('ringside_hop_latency_seconds')));
});
