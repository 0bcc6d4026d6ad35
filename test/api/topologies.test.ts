/** Topologies over HTTP: creation, replacement, conditions, pages, and what a restart of the server keeps. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { stringify } from 'yaml';
import { TopologyStore } from '../../src/server/store.ts';
import { closeServer, closeServers, smallDocument, startServer, temporaryFolder } from './client.ts';

afterEach(closeServers);

test('PUT creates with 201, an equal document is 200 and keeps the world, another one rebuilds it', async () => {
  const server = await startServer();
  const created = await server.put('/v1/topologies/t1', smallDocument());
  assert.equal(created.status, 201);
  assert.equal(created.headers['location'], '/v1/topologies/t1');
  assert.equal(created.body.name, 't1');
  assert.equal(created.body.state, 'RUNNING');
  assert.equal(created.body.document.hosts[0].guests[0].nics[0].queueSize, 256, 'defaults are filled in');
  const world = server.ringside.services.registry.get('t1').world;

  const equal = await server.put('/v1/topologies/t1', smallDocument({ name: 't1', seed: 1 }));
  assert.equal(equal.status, 200);
  assert.equal(equal.headers['etag'], created.headers['etag']);
  assert.equal(server.ringside.services.registry.get('t1').world, world);

  const other = await server.put('/v1/topologies/t1', smallDocument({ seed: 2 }));
  assert.equal(other.status, 200);
  assert.notEqual(other.headers['etag'], created.headers['etag']);
  assert.notEqual(server.ringside.services.registry.get('t1').world, world);
  assert.equal(other.body.document.seed, 2);
});

test('the document that GET answers is one that PUT takes without change', async () => {
  const server = await startServer();
  await server.put('/v1/topologies/t1', smallDocument());
  const got = await server.get('/v1/topologies/t1');
  const put = await server.put('/v1/topologies/t1', got.body.document);
  assert.equal(put.status, 200);
  assert.equal(put.headers['etag'], got.headers['etag']);
});

test('POST needs a name, creates once, then is 409', async () => {
  const server = await startServer();
  const nameless = await server.post('/v1/topologies', smallDocument());
  assert.equal(nameless.status, 422);
  assert.equal(nameless.body.errors[0].pointer, '/name');
  const created = await server.post('/v1/topologies', smallDocument({ name: 'p1' }));
  assert.equal(created.status, 201);
  assert.equal(created.headers['location'], '/v1/topologies/p1');
  const again = await server.post('/v1/topologies', smallDocument({ name: 'p1' }));
  assert.equal(again.status, 409);
  assert.equal(again.body.code, 'RINGSIDE_E_EXISTS');
});

test('a YAML body is the same document', async () => {
  const server = await startServer();
  const payload = stringify(smallDocument());
  const headers = { 'content-type': 'application/yaml' };
  const created = await server.request('PUT', '/v1/topologies/t1', { payload, headers });
  assert.equal(created.status, 201);
  const json = await server.put('/v1/topologies/t1', smallDocument());
  assert.equal(json.status, 200);
  assert.equal(json.headers['etag'], created.headers['etag']);
});

test('If-Match and If-None-Match decide, and a refused request changes nothing', async () => {
  const server = await startServer();
  const missing = await server.put('/v1/topologies/t1', smallDocument(), { 'if-match': '"r1"' });
  assert.equal(missing.status, 412);
  const created = await server.put('/v1/topologies/t1', smallDocument(), { 'if-none-match': '*' });
  assert.equal(created.status, 201);
  const exists = await server.put('/v1/topologies/t1', smallDocument({ seed: 9 }), { 'if-none-match': '*' });
  assert.equal(exists.status, 412);
  assert.equal(exists.body.code, 'RINGSIDE_E_PRECONDITION');
  const stale = await server.put('/v1/topologies/t1', smallDocument({ seed: 9 }), { 'if-match': '"r999"' });
  assert.equal(stale.status, 412);
  assert.equal((await server.get('/v1/topologies/t1')).body.document.seed, 1);
  const etag = String(created.headers['etag']);
  const changed = await server.put('/v1/topologies/t1', smallDocument({ seed: 9 }), { 'if-match': `"r0", ${etag}` });
  assert.equal(changed.status, 200);
  assert.equal((await server.delete('/v1/topologies/t1', { 'if-match': etag })).status, 412);
  assert.equal((await server.delete('/v1/topologies/t1', { 'if-match': '*' })).status, 204);
  assert.equal((await server.get('/v1/topologies/t1')).status, 404);
});

test('an ETag is never used again for another document of the same name', async () => {
  const server = await startServer();
  const first = await server.put('/v1/topologies/t1', smallDocument());
  await server.delete('/v1/topologies/t1');
  const second = await server.put('/v1/topologies/t1', smallDocument({ seed: 2 }));
  assert.notEqual(first.headers['etag'], second.headers['etag']);
});

test('what the engine refuses leaves the old world running', async () => {
  const server = await startServer();
  await server.put('/v1/topologies/t1', smallDocument());
  const { world } = server.ringside.services.registry.get('t1');
  const refused = await server.put('/v1/topologies/t1', smallDocument({ seed: 666 }));
  assert.equal(refused.status, 422);
  assert.equal(refused.body.errors[0].pointer, '/seed');
  assert.equal(server.ringside.services.registry.get('t1').world, world);
  assert.equal((await server.get('/v1/topologies/t1')).body.document.seed, 1);
  assert.equal((await server.put('/v1/topologies/t2', smallDocument({ seed: 666 }))).status, 422);
  assert.equal((await server.get('/v1/topologies/t2')).status, 404);
});

test('lists come in pages by name', async () => {
  const server = await startServer();
  for (const name of ['c', 'a', 'b']) await server.put(`/v1/topologies/${name}`, smallDocument());
  const first = await server.get('/v1/topologies?limit=2');
  assert.deepEqual(
    first.body.items.map((t: { name: string }) => t.name),
    ['a', 'b'],
  );
  const second = await server.get(`/v1/topologies?limit=2&cursor=${first.body.next}`);
  assert.deepEqual(
    second.body.items.map((t: { name: string }) => t.name),
    ['c'],
  );
  assert.equal(second.body.next, null);
  for (const bad of ['limit=0', 'limit=x', 'limit=1001', 'cursor=%20%20', 'nonsense=1']) {
    const answer = await server.get(`/v1/topologies?${bad}`);
    assert.equal(answer.status, 400, bad);
    assert.equal(answer.body.code, 'RINGSIDE_E_REQUEST');
  }
});

test('documents survive a restart of the server and are rebuilt; versions go on', async () => {
  const dataDir = temporaryFolder();
  const before = await startServer({ settings: { dataDir } });
  await before.put('/v1/topologies/t1', smallDocument({ seed: 5 }));
  await before.put('/v1/topologies/t2', smallDocument());
  await before.put('/v1/topologies/gone', smallDocument());
  await before.delete('/v1/topologies/gone');
  const etag = (await before.get('/v1/topologies/t1')).headers['etag'];
  await closeServer(before);

  const after = await startServer({ settings: { dataDir } });
  const list = await after.get('/v1/topologies');
  assert.deepEqual(
    list.body.items.map((t: { name: string }) => t.name),
    ['t1', 't2'],
  );
  const t1 = await after.get('/v1/topologies/t1');
  assert.equal(t1.body.state, 'RUNNING');
  assert.equal(t1.body.document.seed, 5);
  assert.equal(t1.headers['etag'], etag);
  assert.equal((await after.get('/readyz')).status, 200);
});

test('a stored document that cannot be built any more is kept and shows why', async () => {
  const dataDir = temporaryFolder();
  const store = new TopologyStore(dataDir);
  store.put('old', JSON.stringify(smallDocument({ fieldOfOldVersion: 1 })));
  store.put('refused', JSON.stringify(smallDocument({ seed: 666 })));
  store.put('t1', JSON.stringify(smallDocument()));
  store.close();
  const server = await startServer({ settings: { dataDir } });
  assert.equal((await server.get('/readyz')).status, 200);
  const states = (await server.get('/v1/topologies')).body.items.map((t: { state: string }) => t.state);
  assert.deepEqual(states, ['FAILED', 'FAILED', 'RUNNING']);
  assert.match((await server.get('/v1/topologies/refused')).body.reason, /the stub refuses/);
  assert.equal((await server.put('/v1/topologies/refused', smallDocument())).body.state, 'RUNNING');
  assert.equal((await server.delete('/v1/topologies/old')).status, 204);
});

test('a second server on the same data folder is refused', async () => {
  const dataDir = temporaryFolder();
  await startServer({ settings: { dataDir } });
  await assert.rejects(startServer({ settings: { dataDir } }), /another Ringside uses this folder/);
});

test('concurrent PUTs of one name happen one after the other', async () => {
  const server = await startServer();
  const answers = await Promise.all(
    [1, 2, 3, 4].map((seed) => server.put('/v1/topologies/t1', smallDocument({ seed }))),
  );
  assert.deepEqual(answers.map((a) => a.status).sort(), [200, 200, 200, 201]);
  const { document } = (await server.get('/v1/topologies/t1')).body;
  assert.equal(document.seed, 4);
  assert.deepEqual(
    server.ringside.services.pool.load().reduce((a, b) => a + b),
    1,
  );
});

test('every preset can be listed, read as JSON and YAML, and put', async () => {
  const server = await startServer();
  const { items } = (await server.get('/v1/presets')).body;
  assert.ok(items.length >= 5);
  for (const { name } of items) {
    const preset = await server.get(`/v1/presets/${name}`);
    const yaml = await server.get(`/v1/presets/${name}`, { headers: { accept: 'application/yaml' } });
    assert.equal(yaml.status, 200);
    const put = await server.put(`/v1/topologies/${name}`, preset.body);
    assert.equal(put.status, 201, `${name}: ${put.text}`);
    const headers = { 'content-type': 'application/yaml' };
    const again = await server.request('PUT', `/v1/topologies/${name}`, { payload: yaml.text, headers });
    assert.equal(again.status, 200, `${name} as YAML is the same document`);
    assert.equal(again.headers['etag'], put.headers['etag']);
    await server.delete(`/v1/topologies/${name}`);
  }
  assert.equal((await server.get('/v1/presets/none')).status, 404);
});
