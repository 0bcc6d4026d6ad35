/** Traffic runs over HTTP: started, waited for, cancelled, limited; raw frames and replays make runs as well. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, smallDocument, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0' };
/** A run that does not end by itself. */
const endless = { ...udp, count: 1_000_000_000, rate: 200 };

async function serverWithTopology(limits = {}): Promise<TestServer> {
  const server = await startServer({ limits });
  await server.put('/v1/topologies/t1', smallDocument());
  return server;
}

test('a run is answered with 202 and its address, and waited for', async () => {
  const server = await serverWithTopology();
  const started = await server.post('/v1/topologies/t1/traffic', { ...udp, count: 20_000, rate: 'max' });
  assert.equal(started.status, 202);
  const address = String(started.headers['location']);
  assert.equal(address, `/v1/topologies/t1/traffic/${started.body.id}`);
  const ended = await server.get(`${address}?wait=30s`);
  assert.equal(ended.body.state, 'SUCCEEDED');
  assert.equal(ended.body.sent, 20_000);
  const list = await server.get('/v1/topologies/t1/traffic');
  assert.deepEqual(
    list.body.items.map((run: { id: string }) => run.id),
    [started.body.id],
  );
});

test('a long poll ends when the time is up, when the run is cancelled, and when the topology goes', async () => {
  const server = await serverWithTopology();
  const address = String((await server.post('/v1/topologies/t1/traffic', endless)).headers['location']);
  const begun = performance.now();
  assert.equal((await server.get(`${address}?wait=0.05`)).body.state, 'RUNNING');
  assert.ok(performance.now() - begun >= 45);

  const waiting = server.get(`${address}?wait=60s`);
  assert.equal((await server.delete(address)).body.state, 'CANCELLED');
  assert.equal((await waiting).body.state, 'CANCELLED');
  assert.equal((await server.delete(address)).body.state, 'CANCELLED', 'cancelling again changes nothing');

  const other = String((await server.post('/v1/topologies/t1/traffic', endless)).headers['location']);
  assert.notEqual(other, address);
  const orphan = server.get(`${other}?wait=60s`);
  await server.get(other);
  await server.delete('/v1/topologies/t1');
  assert.ok([404, 409].includes((await orphan).status));
});

test('runs in progress are limited; an ended run makes room', async () => {
  const server = await serverWithTopology({ runs: 2 });
  const first = await server.post('/v1/topologies/t1/traffic', endless);
  await server.post('/v1/topologies/t1/traffic', endless);
  const refused = await server.post('/v1/topologies/t1/traffic', endless);
  assert.equal(refused.status, 429);
  assert.equal(refused.headers['retry-after'], '1');
  await server.delete(String(first.headers['location']));
  assert.equal((await server.post('/v1/topologies/t1/traffic', endless)).status, 202);
});

test('every form of a rate is taken', async () => {
  const server = await serverWithTopology();
  for (const rate of ['max', 10000, 0.5, '10000/s', '0.5/s']) {
    const started = await server.post('/v1/topologies/t1/traffic', { ...udp, count: 1, rate });
    assert.equal(started.status, 202, `${rate}: ${started.text}`);
  }
});

test('raw frames and replays answer like a traffic run', async () => {
  const server = await serverWithTopology();
  const frames = await server.post('/v1/topologies/t1/frames', {
    at: 'a/net0',
    frames: ['00'.repeat(60), 'FF'.repeat(1514)],
  });
  assert.equal(frames.status, 202, frames.text);
  assert.equal((await server.get(`${frames.headers['location']}?wait=30s`)).body.sent, 2);

  const headers = { 'content-type': 'application/vnd.tcpdump.pcap' };
  const url = '/v1/topologies/t1/replays?at=a/net0&speed=max';
  const replay = await server.request('POST', url, { payload: pcap([60, 2000, 100]), headers });
  assert.equal(replay.status, 202, replay.text);
  assert.equal(replay.body.kind, 'replay');
  assert.equal(replay.body.capture.frames, 2);
  assert.equal(replay.body.capture.skipped.tooLong, 1);
  assert.equal((await server.get(`${replay.headers['location']}?wait=30s`)).body.sent, 2);
  const unknown = await server.request('POST', '/v1/topologies/t1/replays?at=x', { payload: pcap([60]), headers });
  assert.equal(unknown.status, 400);
  assert.equal(unknown.body.errors[0].pointer, 'querystring/at');
});

function pcap(lengths: readonly number[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65535, 16);
  header.writeUInt32LE(1, 20);
  const records = lengths.map((length, i) => {
    const record = Buffer.alloc(16 + length);
    record.writeUInt32LE(i, 0);
    record.writeUInt32LE(length, 8);
    record.writeUInt32LE(length, 12);
    return record;
  });
  return Buffer.concat([header, ...records]);
}

test('the clock is shown and paused; the command is in the journal', async () => {
  const server = await serverWithTopology();
  assert.equal((await server.get('/v1/topologies/t1/clock')).body.state, 'RUNNING');
  assert.equal((await server.put('/v1/topologies/t1/clock', { state: 'PAUSED' })).body.state, 'PAUSED');
  assert.equal((await server.get('/v1/topologies/t1')).body.state, 'PAUSED');
});

test('guests are listed and their memory is read as JSON and as bytes', async () => {
  const server = await serverWithTopology();
  const guests = await server.get('/v1/topologies/t1/guests');
  assert.deepEqual(
    guests.body.items.map((guest: { name: string }) => guest.name),
    ['a', 'b'],
  );
  const memory = await server.get('/v1/topologies/t1/guests/a/memory?address=0x1000&length=4');
  assert.deepEqual(memory.body, { guest: 'a', address: '0x1000', length: 4, hex: 'a5a5a5a5' });
  const raw = await server.get('/v1/topologies/t1/guests/a/memory?address=4096&length=4', {
    headers: { accept: 'application/octet-stream' },
  });
  assert.deepEqual([...raw.raw], [0xa5, 0xa5, 0xa5, 0xa5]);
  const neither = await server.get('/v1/topologies/t1/guests/a/memory?address=0&length=1', {
    headers: { accept: 'image/png' },
  });
  assert.equal(neither.status, 406);
  const outside = await server.get('/v1/topologies/t1/guests/a/memory?address=0x7fffffff&length=16');
  assert.equal(outside.status, 400);
  assert.equal(outside.body.errors[0].pointer, 'querystring/address');
});

test('tcp: bytes as a size or a number, or a duration, connections, port and family', async () => {
  const server = await serverWithTopology();
  const tcp = { kind: 'tcp', from: 'a/net0', to: 'b/net0' };
  for (const body of [
    tcp,
    { ...tcp, bytes: '100KiB', connections: 2, port: 8080, family: 6 },
    { ...tcp, bytes: 0, family: 4 },
    { ...tcp, duration: '500us' },
  ]) {
    const started = await server.post('/v1/topologies/t1/traffic', body);
    assert.equal(started.status, 202, started.text);
    assert.equal(started.body.kind, 'tcp');
  }
});

test('fields that are of another kind of traffic are refused by name', async () => {
  const server = await serverWithTopology();
  const tcp = { kind: 'tcp', from: 'a/net0', to: 'b/net0' };
  for (const [body, field] of [
    [{ ...tcp, rate: 10 }, '/rate'],
    [{ ...tcp, count: 10 }, '/count'],
    [{ ...tcp, frameSize: 65 }, '/frameSize'],
    [{ ...tcp, generator: 'socket' }, '/generator'],
    [{ ...tcp, flows: 2 }, '/flows'],
    [{ ...tcp, bytes: 1, duration: '1ms' }, '/duration'],
    [{ ...tcp, duration: '0s' }, '/duration'],
    [{ ...tcp, duration: '2000000s' }, '/duration'],
    [{ ...tcp, bytes: '10000GiB' }, '/bytes'],
    [{ ...tcp, family: 5 }, '/family'],
    [{ ...udp, bytes: 10 }, '/bytes'],
    [{ ...udp, connections: 1 }, '/connections'],
    [{ ...udp, kind: 'ping', port: 9 }, '/port'],
  ] as const) {
    const refused = await server.post('/v1/topologies/t1/traffic', body);
    assert.equal(refused.status, 422, `${JSON.stringify(body)}: ${refused.text}`);
    assert.ok(refused.text.includes(`"${field}"`), refused.text);
  }
});
