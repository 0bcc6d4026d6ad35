/** TCP over the API and the real engine: the answer is what the document says. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, startServer } from './client.ts';

afterEach(closeServers);

test.each([4, 6])('tcp over IPv%i: what came of its connections', async (family) => {
  const server = await startServer({ engine: null });
  const document = (await server.get('/v1/presets/vhost-net')).body;
  assert.equal((await server.put('/v1/topologies/t', document)).status, 201);
  const body = { kind: 'tcp', from: 'a/net0', to: 'b/net0', bytes: '300KiB', connections: 3, port: 8080, family };
  const started = await server.post('/v1/topologies/t/traffic', body);
  assert.equal(started.status, 202, started.text);
  const ended = (await server.get(`${String(started.headers['location'])}?wait=60s`)).body;
  assert.equal(ended.state, 'SUCCEEDED', ended.reason);
  const { tcp } = ended;
  assert.deepEqual([tcp.bytes, tcp.acknowledgedBytes, tcp.connections], [307_200, 307_200, 3]);
  assert.deepEqual([tcp.mismatches, tcp.retransmits, tcp.open], [0, 0, 0]);
  assert.ok(tcp.segments >= 307_200 / tcp.mss);
  assert.ok(ended.virtual.latencySeconds.p50 > 0);
});
