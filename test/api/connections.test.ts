/** Streams and transactions over HTTP: taken as the API document says, answered as it says, refused with the field. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const ends = { from: 'a/net0', to: 'b/net0' };

async function pair(preset: string): Promise<TestServer> {
  const server = await startServer({ engine: null });
  const put = await server.put('/v1/topologies/t1', (await server.get(`/v1/presets/${preset}`)).body);
  assert.equal(put.status, 201, put.text);
  return server;
}
async function ended(server: TestServer, body: object) {
  const started = await server.post('/v1/topologies/t1/traffic', { ...ends, ...body });
  assert.equal(started.status, 202, started.text);
  const answer = await server.get(`${started.headers['location']}?wait=60s`);
  assert.equal(answer.body.state, 'SUCCEEDED', answer.body.reason);
  return answer.body;
}

test.each(['vhost-net', 'vhost-user'])('transactions over TCP and UDP, %s', async (preset) => {
  const server = await pair(preset);
  for (const kind of ['tcp_rr', 'udp_rr']) {
    const run = await ended(server, {
      kind,
      requestBytes: 64,
      responseBytes: '1KiB',
      transactions: 200,
      connections: 2,
      outstanding: 3,
      thinkTime: '5us',
    });
    assert.equal(run.kind, kind);
    const { transactions } = run;
    assert.deepEqual(
      [transactions.completed, transactions.lost, transactions.connections, transactions.outstanding],
      [200, 0, 2, 3],
    );
    assert.deepEqual([transactions.requestBytes, transactions.responseBytes], [64, 1024]);
    assert.ok(transactions.perSecond > 1000 && transactions.latencySeconds.p50 > 1e-6);
    assert.equal('tcp' in run, kind === 'tcp_rr');
  }
});

test('a stream with what was asked for: congestion control, no SACK, small buffers', async () => {
  const server = await pair('vhost-net');
  const wide = await ended(server, { kind: 'tcp_stream', bytes: '2MiB' });
  const narrow = await ended(server, {
    kind: 'tcp_stream',
    bytes: '2MiB',
    congestion: 'newreno',
    sack: false,
    window: '16KiB',
  });
  assert.deepEqual([wide.kind, wide.tcp.congestion, wide.tcp.sack], ['tcp_stream', 'cubic', true]);
  assert.deepEqual([narrow.tcp.congestion, narrow.tcp.sack], ['newreno', false]);
  assert.ok(narrow.tcp.bitsPerSecond < 0.5 * wide.tcp.bitsPerSecond);
  const [sender] = wide.tcp.senders;
  assert.ok(sender.cwndBytes > 14_480 && sender.ssthreshBytes === null && sender.smoothedRoundTripSeconds > 1e-6);
});

test('refusals name the field', async () => {
  const server = await pair('vhost-net');
  const cases: [object, string][] = [
    [{ kind: 'tcp', congestion: 'bbr' }, '/congestion'],
    [{ kind: 'tcp', sack: 1 }, '/sack'],
    [{ kind: 'tcp', window: 100 }, '/window'],
    [{ kind: 'tcp', window: '1KiB' }, '/window'],
    [{ kind: 'tcp', transactions: 10 }, '/transactions'],
    [{ kind: 'tcp_rr', bytes: 10 }, '/bytes'],
    [{ kind: 'tcp_rr', requestBytes: 0 }, '/requestBytes'],
    [{ kind: 'tcp_rr', transactions: 0 }, '/transactions'],
    [{ kind: 'tcp_rr', outstanding: 65 }, '/outstanding'],
    [{ kind: 'tcp_rr', thinkTime: 5 }, '/thinkTime'],
    [{ kind: 'tcp_rr', transactions: 5, duration: '1ms' }, '/transactions'],
    [{ kind: 'udp_rr', responseBytes: 1473 }, '/responseBytes'],
    [{ kind: 'udp_rr', sack: true }, '/sack'],
    [{ kind: 'udp_rr', generator: 'pktgen' }, '/generator'],
    [{ kind: 'udp_rr', from: 'br0/b.net0' }, '/from'],
    [{ kind: 'udp', requestBytes: 5 }, '/requestBytes'],
  ];
  for (const [fields, pointer] of cases) {
    const { status, body } = await server.post('/v1/topologies/t1/traffic', { ...ends, ...fields });
    assert.equal(status, 422, JSON.stringify([fields, body]));
    assert.equal(body.errors[0].pointer, pointer, JSON.stringify([fields, body]));
  }
});
