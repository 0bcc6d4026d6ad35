/** Patterns of traffic over HTTP: taken as the API document says, counted by bytes, refused with the field. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const udp = { kind: 'udp', from: 'eth0', to: 'eth1' };

async function wires(): Promise<TestServer> {
  const server = await startServer({ engine: null });
  const preset = await server.get('/v1/presets/p2p');
  const put = await server.put('/v1/topologies/t1', preset.body);
  assert.equal(put.status, 201, put.text);
  return server;
}

test('a mix of sizes over flows that are drawn, in bursts, for a duration', async () => {
  const server = await wires();
  const body = {
    ...udp,
    imix: 'simple',
    flows: 100,
    distribution: 'zipf',
    skew: 1.2,
    spread: 'addresses',
    rate: 400_000,
    burst: 8,
    duration: '5ms',
  };
  const started = await server.post('/v1/topologies/t1/traffic', body);
  assert.equal(started.status, 202, started.text);
  const ended = await server.get(`${started.headers['location']}?wait=30s`);
  assert.equal(ended.body.state, 'SUCCEEDED');
  assert.deepEqual([ended.body.sent, ended.body.received], [2000, 2000]);
  const { frameBitsPerSecond, framesPerSecond } = ended.body.virtual;
  const mean = (7 * 64 + 4 * 570 + 1518) / 12;
  assert.ok(Math.abs(frameBitsPerSecond / framesPerSecond / 8 / mean - 1) < 0.1);
});

test('refusals name the field', async () => {
  const server = await wires();
  const cases: [object, string][] = [
    [{ imix: 'complex' }, '/imix'],
    [{ sizes: [] }, '/sizes'],
    [{ sizes: [{ size: 63 }] }, '/sizes/0/size'],
    [{ sizes: [{ size: 64, weight: 0 }] }, '/sizes/0/weight'],
    [{ sizes: [{ size: 64, share: 1 }] }, '/sizes/0/share'],
    [{ imix: 'simple', sizes: [{ size: 64 }] }, '/sizes'],
    [{ distribution: 'normal' }, '/distribution'],
    [{ distribution: 'zipf', skew: 0 }, '/skew'],
    [{ skew: 1 }, '/skew'],
    [{ spread: 'macs' }, '/spread'],
    [{ burst: 0, rate: 5 }, '/burst'],
    [{ burst: 2 }, '/burst'],
    [{ duration: '1m' }, '/duration'],
    [{ duration: '0s' }, '/duration'],
  ];
  for (const [fields, pointer] of cases) {
    const { status, body } = await server.post('/v1/topologies/t1/traffic', { ...udp, ...fields });
    assert.equal(status, 422, JSON.stringify(fields));
    const places = (body.errors ?? []).map((e: { pointer: string }) => e.pointer);
    assert.ok(places.includes(pointer), `${JSON.stringify(fields)}: ${JSON.stringify(body)}`);
  }
});
