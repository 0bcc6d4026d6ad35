/** Limits are settings, and what exceeds them is told as a problem. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, smallDocument, startServer } from './client.ts';

afterEach(closeServers);

test('topologies', async () => {
  const server = await startServer({ limits: { topologies: 2 } });
  await server.put('/v1/topologies/t1', smallDocument());
  await server.put('/v1/topologies/t2', smallDocument());
  const refused = await server.put('/v1/topologies/t3', smallDocument());
  assert.equal(refused.status, 429);
  assert.equal(refused.body.code, 'RINGSIDE_E_TOO_MANY');
  assert.equal((await server.put('/v1/topologies/t2', smallDocument({ seed: 3 }))).status, 200, 'replacing is no more');
  await server.delete('/v1/topologies/t1');
  assert.equal((await server.put('/v1/topologies/t3', smallDocument())).status, 201);
});

test('guests of a topology', async () => {
  const server = await startServer({ limits: { guests: 1 } });
  const refused = await server.put('/v1/topologies/t1', smallDocument());
  assert.equal(refused.status, 422);
});

test('memory of all worlds together, replaced ones not counted twice', async () => {
  const MiB = 1024 * 1024;
  const server = await startServer({ limits: { memory: 40 * MiB } });
  assert.equal((await server.put('/v1/topologies/t1', smallDocument())).status, 201);
  const refused = await server.put('/v1/topologies/t2', smallDocument());
  assert.equal(refused.status, 422);
  assert.equal(refused.body.code, 'RINGSIDE_E_LIMIT');
  assert.equal((await server.put('/v1/topologies/t1', smallDocument({ seed: 2 }))).status, 200);
  assert.equal((await server.get('/v1/topologies/t2')).status, 404);
});

test('bodies and captures', async () => {
  const server = await startServer({ limits: { body: 2000, capture: 4000 } });
  await server.put('/v1/topologies/t1', smallDocument());
  const headers = { 'content-type': 'application/x-pcapng' };
  const body = await server.request('PUT', '/v1/topologies/t1', {
    payload: ' '.repeat(2001),
    headers: { 'content-type': 'application/json' },
  });
  assert.equal(body.status, 413);
  assert.equal(body.body.code, 'RINGSIDE_E_TOO_LARGE');
  const capture = await server.request('POST', '/v1/topologies/t1/replays?at=a/net0', {
    payload: Buffer.alloc(4001),
    headers,
  });
  assert.equal(capture.status, 413);
  const fits = await server.request('POST', '/v1/topologies/t1/replays?at=a/net0', {
    payload: Buffer.alloc(3000),
    headers,
  });
  assert.equal(fits.status, 422, 'read, and found to be no capture');
});

test('streams', async () => {
  const server = await startServer({ limits: { streams: 1 } });
  await server.put('/v1/topologies/t1', smallDocument());
  const url = `${await server.listen()}/v1/topologies/t1/events`;
  const end = new AbortController();
  const following = await fetch(`${url}?follow=true`, { signal: end.signal });
  assert.equal(following.status, 200);
  assert.equal((await server.get('/v1/topologies/t1/capture.pcapng')).status, 429);
  end.abort();
  while (server.ringside.services.streams.used > 0) await new Promise((resolve) => setImmediate(resolve));
  assert.equal((await server.get('/v1/topologies/t1/capture.pcapng')).status, 200);
  assert.equal(server.ringside.services.streams.used, 0);
});
