/** Whatever arrives, the answer is never a fault of the server's own, and the server lives on. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import fc from 'fast-check';
import type { InjectOptions } from 'fastify';
import { afterEach, test } from 'vitest';
import { closeServers, smallDocument, startServer } from './client.ts';

afterEach(closeServers);

const RUNS = process.env['RINGSIDE_FULL'] === undefined ? 400 : 20_000;

const segment = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      't1',
      'a',
      'net0',
      'tx0',
      'br0',
      'run-1',
      '1',
      '0',
      '..',
      '%00',
      '%',
      '%2F',
      '__proto__',
      'constructor',
    ),
  },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 20 }).map(encodeURIComponent) },
);
const path = fc
  .tuple(
    fc.constantFrom(
      '/v1/topologies/$',
      '/v1/topologies/$/clock',
      '/v1/topologies/$/traffic',
      '/v1/topologies/$/traffic/$',
      '/v1/topologies/$/frames',
      '/v1/topologies/$/frames/$',
      '/v1/topologies/$/journeys',
      '/v1/topologies/$/dry-runs',
      '/v1/topologies/$/replays',
      '/v1/topologies/$/restart',
      '/v1/topologies/$/events',
      '/v1/topologies/$/capture.pcapng',
      '/v1/topologies/$/guests/$',
      '/v1/topologies/$/guests/$/memory',
      '/v1/topologies/$/guests/$/nics/$',
      '/v1/topologies/$/guests/$/nics/$/queues/$',
      '/v1/topologies/$/bridges/$',
      '/v1/topologies/$/bridges/$/flows',
      '/v1/topologies',
      '/v1/presets/$',
      '/docs/$',
      '/$/$',
    ),
    fc.array(segment, { minLength: 4, maxLength: 4 }),
    fc.option(
      fc.dictionary(
        fc.constantFrom(
          'limit',
          'cursor',
          'wait',
          'at',
          'speed',
          'view',
          'points',
          'snaplen',
          'after',
          'events',
          'places',
          'frame',
          'role',
          'address',
          'length',
          'x',
        ),
        fc.oneof(
          fc.string({ unit: 'binary', maxLength: 30 }),
          fc.constantFrom('1', '-1', '1e99', '*', '!*', 'a/net0', '0x0', '', 'NaN', '0-0'),
        ),
        { maxKeys: 4 },
      ),
      { nil: undefined },
    ),
  )
  .map(([template, parts, query]) => {
    let i = 0;
    const filled = template.replace(/\$/g, () => parts[i++] ?? '');
    return query === undefined ? filled : `${filled}?${new URLSearchParams(query)}`;
  });

const NAMES = [
  'name',
  'kind',
  'from',
  'to',
  'at',
  'frames',
  'count',
  'rate',
  'frameSize',
  'state',
  'step',
  'until',
  'hosts',
  'guests',
  'nics',
  'seed',
  'memory',
  'costs',
  '__proto__',
  'toString',
];
const { value } = fc.letrec<{ value: unknown; leaf: unknown }>((tie) => ({
  leaf: fc.oneof(
    fc.constantFrom<unknown>(
      null,
      true,
      0,
      -1,
      1e308,
      2 ** 53,
      '',
      'max',
      'a/net0',
      'b/net0',
      'udp',
      '16MiB',
      'br0',
      'PAUSED',
      [],
      {},
    ),
    fc.string({ maxLength: 12 }),
    fc.double(),
  ),
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    tie('leaf'),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom(...NAMES), tie('value'), { maxKeys: 5 }),
  ),
}));
const body = fc.oneof(
  fc.tuple(
    fc.constantFrom('application/json', 'application/yaml'),
    value.map((v) => JSON.stringify(v)),
  ),
  fc.tuple(
    fc.constantFrom(
      'application/json',
      'application/yaml',
      'application/x-pcapng',
      'application/vnd.tcpdump.pcap',
      'text/plain',
      'x',
      '',
      'multipart/form-data',
    ),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  ),
);
const headers = fc.dictionary(
  fc.constantFrom('accept', 'if-match', 'if-none-match', 'authorization', 'expect', 'range'),
  fc.constantFrom(
    '',
    '*',
    '"r1"',
    ',,,',
    'text/plain;q=9',
    'application/json;q=0',
    'Bearer',
    '*/*',
    'bytes=0-1',
    '100-continue',
  ),
  { maxKeys: 3 },
);

test('random requests: 2xx or a problem document of 4xx', async () => {
  const server = await startServer();
  const request = fc.tuple(
    fc.constantFrom('GET', 'HEAD', 'PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS'),
    path,
    headers,
    body,
  );
  await fc.assert(
    fc.asyncProperty(request, async ([method, url, extra, [type, payload]]) => {
      await server.put('/v1/topologies/t1', smallDocument());
      const bodied = method === 'GET' || method === 'HEAD' ? {} : { payload };
      // A stream that follows, or a long poll, ends when its client goes: here there is none that goes.
      const address = url.replace(/wait=\d+/, 'wait=0');
      const inject = {
        method,
        url: address,
        headers: { ...extra, host: 'localhost', 'content-type': type },
        ...bodied,
      } as InjectOptions;
      const response = await server.ringside.app.inject(inject);
      assert.ok(response.statusCode < 500, `${method} ${url}: ${response.statusCode} ${response.payload}`);
      if (response.statusCode >= 400 && method !== 'HEAD' && !url.startsWith('/docs')) {
        assert.match(String(response.headers['content-type']), /^application\/problem\+json/, `${method} ${url}`);
        assert.match(response.json().code, /^RINGSIDE_E_/);
      }
    }),
    { numRuns: RUNS },
  );
  assert.equal((await server.get('/readyz')).status, 200);
});

test.each([
  ['no HTTP at all', 'GARBAGE\r\n\r\n', 400],
  ['TLS', Buffer.from('16030100010000', 'hex'), 400],
  ['a header without end', `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(100_000)}`, 431],
  ['HTTP/1.0 without a host', 'GET /v1/version HTTP/1.0\r\n\r\n', 421],
  ['HTTP/1.1 without a host', 'GET /v1/version HTTP/1.1\r\n\r\n', 400],
  [
    'two lengths',
    'POST /v1/topologies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
    400,
  ],
  [
    'length and chunks',
    'POST /v1/topologies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    400,
  ],
  ['a bad escape', 'GET /v1/topologies/%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', 400],
  [
    'a length of everything',
    'POST /v1/topologies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9999999999999\r\n\r\n',
    413,
  ],
  [
    'another protocol',
    'GET /v1/version HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n',
    200,
  ],
])('on the wire: %s', async (_what, bytes, status) => {
  const server = await startServer();
  const { port } = new URL(await server.listen());
  const socket = connect(Number(port), '127.0.0.1');
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk.toString('latin1');
    if (answer.includes('\r\n\r\n')) socket.end();
  });
  socket.on('error', () => undefined);
  socket.write(bytes);
  await once(socket, 'close');
  assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `));
  assert.equal((await server.get('/readyz')).status, 200);
});
