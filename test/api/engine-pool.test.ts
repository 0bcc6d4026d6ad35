/** Worlds on engine threads: placement, a thread that dies, a world that fails, and what is left untouched. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, smallDocument, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const endless = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 1_000_000_000, rate: 1000 };

function worldOf(server: TestServer, name: string) {
  const { world } = server.ringside.services.registry.get(name);
  assert.ok(world);
  return world;
}

test('two topologies are placed on two threads, and deleting one in the middle of a run leaves the other', async () => {
  const server = await startServer();
  await server.put('/v1/topologies/t1', smallDocument());
  await server.put('/v1/topologies/t2', smallDocument());
  assert.deepEqual(server.ringside.services.pool.load(), [1, 1]);
  assert.notEqual(worldOf(server, 't1').thread, worldOf(server, 't2').thread);
  await server.post('/v1/topologies/t1/traffic', endless);
  const run = await server.post('/v1/topologies/t2/traffic', { ...endless, count: 200 });
  assert.equal((await server.delete('/v1/topologies/t1')).status, 204);
  const ended = await server.get(`${run.headers['location']}?wait=30s`);
  assert.equal(ended.body.state, 'SUCCEEDED');
  assert.equal(ended.body.sent, 200);
  assert.deepEqual(server.ringside.services.pool.load(), [0, 1]);
});

test('a killed thread fails its worlds with the reason, and only those; restart and PUT rebuild them', async () => {
  const server = await startServer();
  for (const name of ['t1', 't2', 't3']) await server.put(`/v1/topologies/${name}`, smallDocument());
  const run = await server.post('/v1/topologies/t1/traffic', endless);
  const waiting = server.get(`${run.headers['location']}?wait=60s`);
  await server.get('/v1/topologies/t1/clock');
  await server.ringside.services.pool.killThreadOf(worldOf(server, 't1'));
  assert.equal((await waiting).status, 409);

  const failed = await server.get('/v1/topologies/t1');
  assert.equal(failed.body.state, 'FAILED');
  assert.match(failed.body.reason, /engine thread ended/);
  assert.equal((await server.get('/v1/topologies/t3')).body.state, 'FAILED', 'it shared the thread');
  assert.equal((await server.get('/v1/topologies/t2')).body.state, 'RUNNING');
  const refused = await server.post('/v1/topologies/t1/traffic', endless);
  assert.equal(refused.status, 409);
  assert.equal(refused.body.code, 'RINGSIDE_E_WORLD_FAILED');
  assert.equal(
    (await server.get('/v1/topologies/t1/capture.pcapng')).status,
    200,
    'what it recorded can still be read',
  );
  assert.equal((await server.get('/metrics')).status, 200);
  assert.deepEqual(
    (await server.get('/v1/topologies')).body.items.map((t: { state: string }) => t.state),
    ['FAILED', 'RUNNING', 'FAILED'],
  );

  const restarted = await server.post('/v1/topologies/t1/restart');
  assert.equal(restarted.status, 200);
  assert.equal(restarted.body.state, 'RUNNING');
  const put = await server.put('/v1/topologies/t3', smallDocument());
  assert.equal(put.status, 200);
  assert.equal(put.body.state, 'RUNNING', 'an equal document rebuilds a failed world');
  assert.equal((await server.post('/v1/topologies/t1/traffic', endless)).status, 202);
});

test('a failed assertion fails its world alone', async () => {
  const server = await startServer({ settings: { workers: 1 } });
  await server.put('/v1/topologies/t1', smallDocument({ seed: 667 }));
  await server.put('/v1/topologies/t2', smallDocument());
  assert.equal((await server.post('/v1/topologies/t1/traffic', endless)).status, 409);
  const failed = await server.get('/v1/topologies/t1');
  assert.equal(failed.body.state, 'FAILED');
  assert.match(failed.body.reason, /assertion failed/);
  assert.equal((await server.get('/v1/topologies/t2')).body.state, 'RUNNING');
  assert.equal((await server.delete('/v1/topologies/t1')).status, 204);
});

test('a thread that dies while it builds a world leaves a failed topology and a pool that goes on', async () => {
  const server = await startServer({ settings: { workers: 1 } });
  await server.put('/v1/topologies/t1', smallDocument());
  const created = await server.put('/v1/topologies/t2', smallDocument({ seed: 668 }));
  assert.equal(created.status, 201);
  assert.equal(created.body.state, 'FAILED');
  assert.equal((await server.get('/v1/topologies/t1')).body.state, 'FAILED');
  assert.equal((await server.get('/v1/topologies/t2/clock')).status, 409);
  assert.equal((await server.put('/v1/topologies/t2', smallDocument())).body.state, 'RUNNING');
  assert.equal((await server.post('/v1/topologies/t1/restart')).body.state, 'RUNNING');
});

test('a thread that hangs is given up, and its worlds with it', async () => {
  const server = await startServer({ silenceMs: 300 });
  await server.put('/v1/topologies/t1', smallDocument({ seed: 669 }));
  const answer = await server.post('/v1/topologies/t1/traffic', endless);
  assert.equal(answer.status, 409);
  assert.match((await server.get('/v1/topologies/t1')).body.reason, /did not answer for 0.3 s/);
});

test('restart begins a world anew: no runs, the same fingerprint as at first', async () => {
  const server = await startServer();
  const created = await server.put('/v1/topologies/t1', smallDocument());
  const first = await server.post('/v1/topologies/t1/traffic', { ...endless, count: 10, rate: 'max' });
  await server.get(`${first.headers['location']}?wait=30s`);
  const restarted = await server.post('/v1/topologies/t1/restart');
  assert.equal(restarted.body.fingerprint, created.body.fingerprint);
  assert.equal(restarted.headers['etag'], created.headers['etag'], 'the document is the same');
  assert.deepEqual((await server.get('/v1/topologies/t1/traffic')).body.items, []);
  assert.equal((await server.get(String(first.headers['location']))).status, 404);
  const second = await server.post('/v1/topologies/t1/traffic', endless);
  assert.notEqual(second.body.id, first.body.id);
});
