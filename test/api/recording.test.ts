/** What was recorded, over HTTP: journeys, captures, events. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, smallDocument, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

async function serverWithTraffic(count: number, recorder = { events: 8192, bytes: '256KiB' }): Promise<TestServer> {
  const server = await startServer();
  await server.put('/v1/topologies/t1', smallDocument({ recorder }));
  await run(server, count);
  return server;
}
async function run(server: TestServer, count: number): Promise<void> {
  const spec = { kind: 'udp', from: 'a/net0', to: 'b/net0', count };
  const { headers } = await server.post('/v1/topologies/t1/traffic', spec);
  const ended = await server.get(`${headers['location']}?wait=60s`);
  assert.equal(ended.body.state, 'SUCCEEDED');
}

test('a journey as JSON and as text; an overwritten one is 410 with the oldest that is held', async () => {
  const server = await serverWithTraffic(100);
  const journey = await server.get('/v1/topologies/t1/frames/7');
  assert.equal(journey.status, 200);
  assert.equal(journey.body.outcome, 'delivered');
  const text = await server.get('/v1/topologies/t1/frames/7', { headers: { accept: 'text/plain' } });
  assert.match(text.text, /^frame 7, 64 bytes: delivered/);
  await run(server, 10_000);
  const gone = await server.get('/v1/topologies/t1/frames/7');
  assert.equal(gone.status, 410);
  assert.equal(gone.body.code, 'RINGSIDE_E_GONE');
  assert.ok(gone.body.oldestFrame > 7);
  assert.equal((await server.get(`/v1/topologies/t1/frames/${gone.body.oldestFrame}`)).status, 200);
});

test('a capture is a whole pcapng file with a name', async () => {
  const server = await serverWithTraffic(100);
  for (const view of ['wire', 'journey']) {
    const capture = await server.get(`/v1/topologies/t1/capture.pcapng?view=${view}&snaplen=32`);
    assert.equal(capture.status, 200);
    assert.equal(capture.headers['content-disposition'], `attachment; filename="t1-${view}.pcapng"`);
    assert.equal(packetsIn(capture.raw), view === 'wire' ? 100 : 200);
  }
  const point = await server.get('/v1/topologies/t1/capture.pcapng?points=a/net0');
  assert.equal(packetsIn(point.raw), 100);
});

/** Walks the blocks; fails where the file ends inside one. */
function packetsIn(file: Buffer): number {
  let packets = 0;
  let at = 0;
  while (at < file.length) {
    const length = file.readUInt32LE(at + 4);
    assert.equal(file.readUInt32LE(at + length - 4), length, 'the length at the end of a block');
    if (file.readUInt32LE(at) === 6) packets++;
    at += length;
  }
  assert.equal(at, file.length);
  return packets;
}

test('events as NDJSON: everything held, with filters, a limit, and gaps counted', async () => {
  const server = await serverWithTraffic(100);
  const lines = async (query: string): Promise<Record<string, unknown>[]> => {
    const { text, status } = await server.get(`/v1/topologies/t1/events${query}`);
    assert.equal(status, 200, text);
    assert.ok(text === '' || text.endsWith('\n'));
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  };
  const all = await lines('');
  assert.equal(all.length, 500);
  assert.deepEqual(
    all.map((event) => event['seq']),
    Array.from({ length: 500 }, (_, i) => i),
  );
  assert.equal((await lines('?events=guest.*')).length, 200);
  assert.equal((await lines('?places=a/net0&events=guest.xmit')).length, 100);
  assert.equal((await lines('?frame=5-6')).length, 10);
  assert.deepEqual(
    (await lines('?after=497')).map((event) => event['seq']),
    [498, 499],
  );
  assert.equal((await lines('?limit=3')).length, 3);
  assert.deepEqual(await lines('?after=499'), []);

  await run(server, 10_000);
  const [gap, first, ...rest] = await lines('');
  assert.equal(gap?.['type'], 'gap');
  assert.equal(gap?.['from'], 0);
  assert.equal(gap?.['to'], gap?.['dropped']);
  assert.equal(first?.['seq'], gap?.['to']);
  assert.equal(Number(gap?.['dropped']) + 1 + rest.length, 10_100 * 5);
});

test('following goes on with new events and ends with the topology', async () => {
  const server = await serverWithTraffic(10);
  const url = `${await server.listen()}/v1/topologies/t1/events?follow=true`;
  const response = await fetch(url);
  const text = response.text();
  await run(server, 10);
  await server.delete('/v1/topologies/t1');
  const lines = (await text).trimEnd().split('\n');
  assert.equal(lines.length, 100);
});

test('metrics: the process, the API, and the worlds', async () => {
  const server = await serverWithTraffic(10);
  const { text } = await server.get('/metrics');
  for (const name of [
    'process_cpu_seconds_total',
    'ringside_http_request_duration_seconds_bucket',
    'ringside_topologies 1',
    'ringside_virtual_time_seconds',
  ]) {
    assert.ok(text.includes(name), name);
  }
});
