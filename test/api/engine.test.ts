/** The API over the real engine: what the tests against the stub cannot show. Every answer is checked against the document. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServer, closeServers, startServer, type TestServer, temporaryFolder } from './client.ts';

afterEach(closeServers);

const RECORDER = { events: 1_048_576, bytes: '64MiB' };

async function boot(server: TestServer, preset: string, changes: object = {}, name = preset): Promise<void> {
  const document = (await server.get(`/v1/presets/${preset}`)).body;
  const created = await server.put(`/v1/topologies/${name}`, { recorder: RECORDER, ...document, ...changes });
  assert.equal(created.status, 201, created.text);
  assert.equal(created.body.state, 'RUNNING', created.text.slice(0, 300));
}
async function traffic(server: TestServer, topology: string, spec: object) {
  const started = await server.post(`/v1/topologies/${topology}/traffic`, spec);
  assert.equal(started.status, 202, started.text);
  const ended = await server.get(`${started.headers['location']}?wait=60s`);
  assert.equal(ended.body.state, 'SUCCEEDED', ended.text);
  return ended.body;
}
const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0' };

test.each(['virtio-net', 'vhost-net', 'vhost-user'])(
  '%s: traffic, and everything that can be looked at',
  async (preset) => {
    const server = await startServer({ engine: null });
    await boot(server, preset);
    const at = `/v1/topologies/${preset}`;
    const run = await traffic(server, preset, { ...udp, count: 500 });
    assert.equal(run.sent, 500);
    assert.equal(run.received + Object.values<number>(run.dropped).reduce((a, b) => a + b, 0), 500);
    assert.ok(run.virtual.framesPerSecond > 0);

    const nic = await server.get(`${at}/guests/a/nics/net0`);
    assert.ok(nic.body.status.bits.includes('DRIVER_OK'), nic.text);
    assert.ok(nic.body.features.negotiated.includes('VIRTIO_F_VERSION_1'));
    for (const queue of ['rx0', 'tx0']) {
      const shown = await server.get(`${at}/guests/a/nics/net0/queues/${queue}`);
      assert.equal(shown.body.desc.length, shown.body.size);
      const { address, length } = { address: shown.body.addresses.desc, length: 16 * shown.body.size };
      const raw = await server.get(`${at}/guests/a/memory?address=${address}&length=${length}`, {
        headers: { accept: 'application/octet-stream' },
      });
      assert.equal(`0x${raw.raw.readBigUInt64LE(0).toString(16)}`, shown.body.desc[0].addr, 'the memory says the same');
      assert.equal(shown.body.format, 'split');
      assert.equal(shown.body.desc.map((d: { raw: string }) => d.raw).join(''), raw.raw.toString('hex'));
    }
    assert.equal((await server.get(`${at}/guests/a/nics/net9`)).status, 404);
    assert.equal((await server.get(`${at}/guests/a/nics/net0/queues/tx9`)).status, 404);
    assert.equal((await server.get(`${at}/guests/a/memory?address=0x7fffffff&length=16`)).status, 400);

    const { items } = (await server.get(`${at}/bridges`)).body;
    const bridge = `${at}/bridges/${items[0].name}`;
    assert.equal((await server.get(bridge)).status, 200);
    assert.equal((await server.get(`${bridge}/ports`)).body.items.length >= 2, true);
    const { items: fdb } = (await server.get(`${bridge}/fdb`)).body;
    assert.ok(
      fdb.some((entry: { mac: string }) => entry.mac === nic.body.mac),
      JSON.stringify(fdb),
    );
    assert.ok((await server.get(`${bridge}/flows`)).body.datapath.length > 0);
    assert.equal((await server.get(`${bridge}/caches`)).status, 200);
    assert.equal((await server.get(`${at}/bridges/none`)).status, 404);

    const status = await server.get(at);
    assert.equal(status.body.conservation.holds, true, status.text);
    const journey = await server.get(`${at}/frames/${run.frames.last}`);
    assert.match(journey.body.outcome, /^(delivered|consumed|dropped:.*)$/);
    const capture = await server.get(`${at}/capture.pcapng?view=journey`);
    assert.equal(capture.raw.readUInt32LE(0), 0x0a0d0d0a);
    const events = await server.get(`${at}/events?role=delivered`);
    assert.equal(events.text.trimEnd().split('\n').length, status.body.conservation.delivered);
    assert.match(
      (await server.get('/metrics')).text,
      new RegExp(`ringside_virtual_time_seconds\\{.*topology="${preset}"`),
    );
  },
);

test('pvp: frames from the wire come back to the wire', async () => {
  const server = await startServer({ engine: null });
  await boot(server, 'pvp');
  const run = await traffic(server, 'pvp', { kind: 'udp', from: 'eth0', to: 'eth0', count: 200, rate: 100_000 });
  assert.equal(run.received, 200, JSON.stringify(run.dropped));
});

test('compare: six guests, and three runs at the same time', async () => {
  const server = await startServer({ engine: null });
  await boot(server, 'compare');
  const backends = ['virtio-net', 'vhost-net', 'vhost-user'];
  const ends = (backend: string) => ({ from: `${backend}-a/net0`, to: `${backend}-b/net0` });
  const runs = backends.map((backend) =>
    traffic(server, 'compare', { kind: 'udp', count: 500, rate: 50_000, ...ends(backend) }),
  );
  for (const run of await Promise.all(runs)) {
    assert.equal(run.received, 500, JSON.stringify(run.dropped));
    assert.equal(run.shared, true);
  }
  const { items } = (await server.get('/v1/topologies/compare/traffic')).body;
  assert.equal(items.length, 3);
});

test('two hosts with a link: names take the host in front, escaped in paths', async () => {
  const server = await startServer({ engine: null });
  const host = (n: number, guest: string) => ({
    name: `h${n}`,
    nics: [{ name: 'eth0' }],
    guests: [{ name: guest, nics: [{ name: 'net0', addresses: [`10.0.0.${n}/24`] }] }],
  });
  const document = {
    recorder: RECORDER,
    hosts: [host(1, 'a'), host(2, 'b')],
    links: [{ ends: ['h1/eth0', 'h2/eth0'], latency: '5us' }],
  };
  const created = await server.put('/v1/topologies/t1', document);
  assert.equal(created.body.state, 'RUNNING', created.text);
  const run = await traffic(server, 't1', { kind: 'ping', from: 'h1/a/net0', to: 'h2/b/net0', count: 5 });
  assert.equal(run.received, 5);
  assert.ok(run.virtual.latencySeconds.p50 > 0.00001);
  const nic = await server.get('/v1/topologies/t1/guests/h2%2Fb/nics/net0');
  assert.equal(nic.status, 200, nic.text);
  assert.equal((await server.get('/v1/topologies/t1/guests/h2%2Fb')).body.host, 'h2');
  const bridges = (await server.get('/v1/topologies/t1/bridges')).body.items;
  assert.deepEqual(
    bridges.map((b: { host: string }) => b.host),
    ['h1', 'h2'],
  );
  assert.equal((await server.get('/v1/topologies/t1/bridges/h2%2Fbr0/fdb')).body.items.length, 2);
});

test.each<readonly [what: string, body: object, pointer: string]>([
  ['identical ends', { ...udp, to: 'a/net0' }, '/to'],
  ['unknown source', { ...udp, from: 'x/net0' }, '/from'],
  ['unknown target', { ...udp, to: 'b/net9' }, '/to'],
  ['a port as target', { ...udp, to: 'br0/b.net0' }, '/to'],
  ['a generator of another driver', { ...udp, generator: 'txonly' }, '/generator'],
])('the engine refuses %s with a pointer', async (_what, body, pointer) => {
  const server = await startServer({ engine: null });
  await boot(server, 'vhost-net');
  const refused = await server.post('/v1/topologies/vhost-net/traffic', body);
  assert.equal(refused.status, 422, refused.text);
  assert.equal(refused.body.errors[0].pointer, pointer);
  assert.deepEqual((await server.get('/v1/topologies/vhost-net/traffic')).body.items, []);
});

test('same document, seed and traffic give the same fingerprint: again, after a restart, and beside another world', async () => {
  const server = await startServer({ engine: null, settings: { workers: 1 } });
  await boot(server, 'vhost-net', {}, 't1');
  /** A run is over before its last buffers have come back. */
  const settled = async (): Promise<string> => {
    while (!(await server.get('/v1/topologies/t1/clock')).body.idle);
    return (await server.get('/v1/topologies/t1')).body.fingerprint;
  };
  await traffic(server, 't1', { ...udp, count: 300 });
  const first = await settled();
  await server.post('/v1/topologies/t1/restart');
  await boot(server, 'virtio-net', {}, 'other');
  const beside = server.post('/v1/topologies/other/traffic', { ...udp, count: 100_000 });
  await traffic(server, 't1', { ...udp, count: 300 });
  await beside;
  assert.equal(await settled(), first);
});

test('the clock: paused, stepped, run until, and on', async () => {
  const server = await startServer({ engine: null });
  await boot(server, 'vhost-net', {}, 't1');
  const clock = '/v1/topologies/t1/clock';
  assert.equal((await server.put(clock, { state: 'PAUSED' })).body.state, 'PAUSED');
  const started = await server.post('/v1/topologies/t1/traffic', { ...udp, count: 50 });
  const before = (await server.get(clock)).body;
  assert.equal((await server.get('/v1/topologies/t1')).body.state, 'PAUSED');
  const event = (await server.put(clock, { step: 'event' })).body;
  assert.ok(event.events > before.events);
  const frame = (await server.put(clock, { step: 'frame' })).body;
  assert.ok(frame.virtualTimeSeconds >= event.virtualTimeSeconds);
  assert.equal(frame.state, 'PAUSED');
  const past = await server.put(clock, { until: 0 });
  assert.equal(past.status, 422);
  assert.equal(past.body.errors[0].pointer, '/until');
  assert.equal((await server.put(clock, { state: 'RUNNING' })).body.state, 'RUNNING');
  assert.equal((await server.get(`${started.headers['location']}?wait=30s`)).body.state, 'SUCCEEDED');
});

test('raw frames and a replay of a capture of our own', async () => {
  const server = await startServer({ engine: null });
  await boot(server, 'vhost-net', {}, 't1');
  const frame = `ffffffffffff5254000000010806${'00'.repeat(46)}`;
  const frames = await server.post('/v1/topologies/t1/frames', { at: 'a/net0', frames: [frame, frame] });
  assert.equal(frames.status, 202, frames.text);
  assert.equal((await server.get(`${frames.headers['location']}?wait=30s`)).body.sent, 2);
  const unknown = await server.post('/v1/topologies/t1/frames', { at: 'nowhere', frames: [frame] });
  assert.equal(unknown.status, 422);
  assert.equal(unknown.body.errors[0].pointer, '/at');

  await traffic(server, 't1', { ...udp, count: 20 });
  const capture = await server.get('/v1/topologies/t1/capture.pcapng');
  for (const speed of ['original', 'max']) {
    const replay = await server.request('POST', `/v1/topologies/t1/replays?at=a/net0&speed=${speed}`, {
      payload: capture.raw,
      headers: { 'content-type': 'application/x-pcapng' },
    });
    assert.equal(replay.status, 202, replay.text);
    const ended = await server.get(`${replay.headers['location']}?wait=30s`);
    assert.equal(ended.body.state, 'SUCCEEDED', ended.text);
    assert.equal(ended.body.sent, replay.body.capture.frames);
  }
});

test('two topologies run on two threads; one is deleted in the middle of a run, one thread is killed', async () => {
  const server = await startServer({ engine: null });
  for (const name of ['t1', 't2']) await boot(server, 'vhost-net', {}, name);
  await server.post('/v1/topologies/t1/traffic', { ...udp, count: 100_000_000 });
  const run = await server.post('/v1/topologies/t2/traffic', { ...udp, count: 20_000 });
  assert.equal((await server.delete('/v1/topologies/t1')).status, 204);
  assert.equal((await server.get(`${run.headers['location']}?wait=60s`)).body.state, 'SUCCEEDED');

  await boot(server, 'vhost-net', {}, 't3');
  const { pool, registry } = server.ringside.services;
  const { world } = registry.get('t2');
  assert.ok(world);
  await pool.killThreadOf(world);
  const failed = await server.get('/v1/topologies/t2');
  assert.equal(failed.body.state, 'FAILED');
  assert.match(failed.body.reason, /engine thread ended/);
  assert.equal((await server.get('/v1/topologies/t3')).body.state, 'RUNNING');
  assert.equal((await server.post('/v1/topologies/t2/restart')).body.state, 'RUNNING');
  await traffic(server, 't2', { ...udp, count: 100 });
});

test('a restart of the server rebuilds the worlds, without their traffic', async () => {
  const dataDir = temporaryFolder();
  const before = await startServer({ engine: null, settings: { dataDir } });
  await boot(before, 'vhost-user', {}, 't1');
  const booted = (await before.get('/v1/topologies/t1')).body;
  await traffic(before, 't1', { ...udp, count: 10 });
  await closeServer(before);
  const after = await startServer({ engine: null, settings: { dataDir } });
  const rebuilt = (await after.get('/v1/topologies/t1')).body;
  assert.equal(rebuilt.fingerprint, booted.fingerprint);
  assert.equal(rebuilt.events, booted.events);
  assert.deepEqual(rebuilt.document, booted.document);
});
