/** A run's timeline over HTTP: both forms, thinned out, stretched; what is not there. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { parseExposition } from '../tools/exposition.ts';
import { closeServers, smallDocument, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const JSON_FORM = { headers: { accept: 'application/json' } };

async function finishedRun(server: TestServer, spec: object = {}): Promise<string> {
  const body = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 2000, ...spec };
  const address = String((await server.post('/v1/topologies/t1/traffic', body)).headers['location']);
  assert.equal((await server.get(`${address}?wait=30s`)).body.state, 'SUCCEEDED');
  return address;
}

test('OpenMetrics with timestamps, and the same as data', async () => {
  const server = await startServer({ engine: null });
  await server.put('/v1/topologies/t1', smallDocument({ epoch: '2030-01-01T00:00:00Z' }));
  await finishedRun(server, { count: 100 });
  const before = parseExposition((await server.get('/metrics')).text, 'prometheus').samples;
  const address = await finishedRun(server);
  const run = (await server.get(address)).body;

  const data = (await server.get(`${address}/timeline`, JSON_FORM)).body;
  assert.equal(data.epochNs, String(BigInt(Date.UTC(2030, 0, 1)) * 1_000_000n));
  assert.equal(data.timesNs[0], Math.round(run.virtual.startSeconds * 1e9));
  const text = await server.get(`${address}/timeline?stretch=1000000`);
  assert.match(String(text.headers['content-type']), /^application\/openmetrics-text; version=1\.0\.0/);
  const { timed, families } = parseExposition(text.text, 'openmetrics');
  assert.equal(timed.size, data.series.length);
  assert.equal(families.get('ringside_received_frames')?.type, 'counter');

  const after = parseExposition((await server.get('/metrics')).text, 'prometheus').samples;
  for (const [series, points] of timed) {
    assert.equal(points.length, data.timesNs.length, series);
    // A vCPU wakes up before the first frame, and the run ends before its last frames have been taken out of the ring.
    if (/_total/.test(series) && !/events_total|runs|context_/.test(series)) {
      assert.ok(points[0]![1] >= before.get(series)!, series);
      assert.ok(points.at(-1)![1] <= after.get(series)!, series);
      for (const [i, [, value]] of points.entries()) assert.ok(i === 0 || value >= points[i - 1]![1], series);
    }
    for (const [i, [seconds]] of points.entries()) {
      const stretched = Date.UTC(2030, 0, 1) / 1000 + data.timesNs[i] / 1000;
      assert.ok(Math.abs(Number(seconds) - stretched) < 0.0011, `${seconds} ${stretched}`);
    }
  }
  const received = 'ringside_received_frames_total{topology="t1",guest="b",nic="net0",backend="vhost-net"}';
  const points = timed.get(received)!;
  const grown = (series: string): number => (timed.get(series)?.at(-1)?.[1] ?? 0) - (timed.get(series)?.[0]?.[1] ?? 0);
  assert.equal(grown(received), run.received);
  for (const { guest, nic, queue, kicks, kicksSuppressed, interrupts } of run.queues) {
    const labels = `{topology="t1",guest="${guest}",nic="${nic}",backend="vhost-net",queue="${queue}"}`;
    assert.equal(grown(`ringside_kicks_total${labels}`), kicks);
    assert.equal(grown(`ringside_kicks_suppressed_total${labels}`), kicksSuppressed);
    assert.equal(grown(`ringside_interrupts_total${labels}`), interrupts);
  }
  const same = data.series.find(
    (s: { name: string; labels: { guest?: string } }) =>
      s.name === 'ringside_received_frames_total' && s.labels.guest === 'b',
  );
  assert.deepEqual(
    same.values,
    points.map(([, value]) => value),
  );
  assert.deepEqual(same.labels, { topology: 't1', guest: 'b', nic: 'net0', backend: 'vhost-net' });
});

test('thinned out; without a stretch, one point a millisecond', async () => {
  const server = await startServer({ engine: null });
  await server.put('/v1/topologies/t1', smallDocument());
  const address = await finishedRun(server);
  const all = (await server.get(`${address}/timeline`, JSON_FORM)).body;
  for (const points of [2, 3, 17]) {
    const few = (await server.get(`${address}/timeline?points=${points}`, JSON_FORM)).body;
    assert.equal(few.timesNs.length, points);
    assert.equal(few.timesNs[0], all.timesNs[0]);
    assert.equal(few.timesNs.at(-1), all.timesNs.at(-1));
    assert.ok(few.timesNs.every((t: number) => all.timesNs.includes(t)));
  }
  const { timed } = parseExposition((await server.get(`${address}/timeline`)).text, 'openmetrics');
  const clock = timed.get('ringside_virtual_time_seconds{topology="t1"}')!;
  const ms = (all.timesNs.at(-1) - all.timesNs[0]) / 1e6;
  assert.ok(clock.length <= ms + 2 && clock.length >= Math.floor(ms) && clock.length < all.timesNs.length);
  assert.equal(clock.at(-1)![1], all.timesNs.at(-1) / 1e9);
});

test('refusals, and a run that has sent nothing', async () => {
  const server = await startServer({ engine: null });
  await server.put('/v1/topologies/t1', smallDocument());
  await server.put('/v1/topologies/t1/clock', { state: 'PAUSED' });
  const idle = await server.post('/v1/topologies/t1/traffic', { kind: 'udp', from: 'a/net0', to: 'b/net0' });
  const address = String(idle.headers['location']);
  assert.deepEqual((await server.get(`${address}/timeline`, JSON_FORM)).body.series, []);
  assert.equal((await server.get(`${address}/timeline`)).text, '# EOF\n');
  assert.equal((await server.get('/v1/topologies/t1/traffic/run-99/timeline')).status, 404);
  for (const query of ['points=1', 'points=257', 'points=x', 'stretch=0', 'stretch=1.5', 'other=1']) {
    const refused = await server.get(`${address}/timeline?${query}`);
    assert.equal(refused.status, 400, query);
    assert.match(JSON.stringify(refused.body.errors), new RegExp(query.split('=')[0]!));
  }
  const other = await server.get(`${address}/timeline`, { headers: { accept: 'text/html' } });
  assert.equal(other.status, 406);
});

test('a timeline that has been given up is gone, while its run is still known', async () => {
  // The stub's seed for an engine that keeps none.
  const server = await startServer();
  await server.put('/v1/topologies/t1', smallDocument({ seed: 670 }));
  const address = await finishedRun(server, { count: 10 });
  for (const accept of ['application/json', 'application/openmetrics-text']) {
    const gone = await server.get(`${address}/timeline`, { headers: { accept } });
    assert.equal(gone.status, 410);
    assert.equal(gone.body.code, 'RINGSIDE_E_GONE');
    assert.match(gone.body.detail, /run-1/);
  }
  assert.equal((await server.get('/v1/topologies/t1/traffic/run-99/timeline')).status, 404);
});
