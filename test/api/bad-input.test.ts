/** What the API refuses: always a problem document of 4xx with its place, and never a change. */
import assert from 'node:assert/strict';
import { afterAll, beforeAll, beforeEach, test } from 'vitest';
import { closeServers, smallDocument, startServer, type TestServer } from './client.ts';

// One server for all: what is refused changes nothing, which the next test would notice.
let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
beforeEach(async () => {
  await server.put('/v1/topologies/t1', smallDocument());
});
afterAll(closeServers);

const json = { 'content-type': 'application/json' };

/** A document with something changed in guest a's NIC, in guest a, or at the top. */
function withNic(change: object): object {
  return withGuest({ nics: [{ name: 'net0', ...change }] });
}
function withGuest(change: object): object {
  return { hosts: [{ guests: [{ name: 'a', ...change }] }] };
}

const twoNics = (a: object, b: object) =>
  withGuest({
    nics: [
      { name: 'net0', ...a },
      { name: 'net1', ...b },
    ],
  });

const DOCUMENTS: readonly (readonly [what: string, document: unknown, pointer: string])[] = [
  ['no object', [], ''],
  ['null', 'null', ''],
  ['unknown field at the top', smallDocument({ sead: 1 }), '/sead'],
  ['unknown field deep inside', withNic({ queuesize: 256 }), '/hosts/0/guests/0/nics/0/queuesize'],
  ['prototype as a field', JSON.parse('{"hosts":[{}],"__proto__":{"x":1}}'), '/__proto__'],
  ['wrong type', smallDocument({ seed: '1' }), '/seed'],
  ['wrong unit', withGuest({ memory: '16MB' }), '/hosts/0/guests/0/memory'],
  ['queue size not a power of two', withNic({ queueSize: 100 }), '/hosts/0/guests/0/nics/0/queueSize'],
  ['queue size out of range', withNic({ queueSize: 65536 }), '/hosts/0/guests/0/nics/0/queueSize'],
  [
    'memory too small for the rings',
    withGuest({ memory: '1MiB', nics: [{ name: 'net0', queueSize: 1024 }] }),
    '/hosts/0/guests/0/memory',
  ],
  ['memory too large', withGuest({ memory: '900GiB' }), '/hosts/0/guests/0/memory'],
  ['duplicate guest', { hosts: [{ guests: [{ name: 'a' }, { name: 'a' }] }] }, '/hosts/0/guests/1/name'],
  [
    'duplicate MAC',
    twoNics({ mac: '52:54:00:00:00:01' }, { mac: '52:54:00:00:00:01' }),
    '/hosts/0/guests/0/nics/1/mac',
  ],
  [
    'duplicate IP',
    twoNics({ addresses: ['10.0.0.1/24'] }, { addresses: ['10.0.0.1/24'] }),
    '/hosts/0/guests/0/nics/1/addresses/0',
  ],
  ['multicast MAC', withNic({ mac: '01:00:5e:00:00:01' }), '/hosts/0/guests/0/nics/0/mac'],
  ['unknown backend', withNic({ backend: 'vhost-vdpa' }), '/hosts/0/guests/0/nics/0/backend'],
  ['unknown bridge', withNic({ bridge: 'br9' }), '/hosts/0/guests/0/nics/0/bridge'],
  ['no hosts', {}, ''],
  ['another name', smallDocument({ name: 't2' }), '/name'],
  ['unknown cost', smallDocument({ costs: { warp: 1 } }), '/costs/warp'],
];

test.each(DOCUMENTS)('topology document: %s', async (_what, document, pointer) => {
  const before = (await server.get('/v1/topologies/t1')).headers['etag'];
  const payload = typeof document === 'string' ? document : JSON.stringify(document);
  const answer = await server.request('PUT', '/v1/topologies/t1', { payload, headers: json });
  assert.equal(answer.status, 422, answer.text);
  assert.equal(answer.body.code, 'RINGSIDE_E_VALIDATION');
  const pointers = answer.body.errors.map((error: { pointer: string }) => error.pointer);
  assert.ok(pointers.includes(pointer), `${pointer} is not among ${JSON.stringify(answer.body.errors)}`);
  assert.equal((await server.get('/v1/topologies/t1')).headers['etag'], before);
});

test('all faults of a document are told at once', async () => {
  const document = { seed: -1, sead: 1, hosts: [{ guests: [{ name: 'A' }, { name: 'b', memory: '3 elephants' }] }] };
  const { body } = await server.put('/v1/topologies/t1', document);
  const pointers = body.errors.map((error: { pointer: string }) => error.pointer);
  for (const pointer of ['/seed', '/sead', '/hosts/0/guests/0/name', '/hosts/0/guests/1/memory']) {
    assert.ok(pointers.includes(pointer), pointer);
  }
});

const BODIES: readonly (readonly [what: string, type: string, payload: string | Buffer, status: number])[] = [
  ['broken JSON', 'application/json', '{"hosts":[', 400],
  ['empty JSON', 'application/json', '', 400],
  ['broken YAML', 'application/yaml', 'hosts: [', 400],
  ['deep JSON', 'application/json', '['.repeat(400_000), 400],
  ['deep YAML', 'application/yaml', '['.repeat(400_000), 400],
  ['alias bomb', 'application/yaml', bomb(), 400],
  ['not UTF-8', 'application/json', Buffer.from([0xff, 0xfe, 0x00, 0x80]), 400],
  ['10 MB of junk', 'application/json', Buffer.alloc(10_000_000, 0x5b), 413],
  ['10 MB of junk as YAML', 'application/yaml', Buffer.alloc(10_000_000, 0x2d), 413],
  ['another media type', 'text/plain', 'hosts', 415],
  ['a form', 'application/x-www-form-urlencoded', 'a=b', 415],
];

function bomb(): string {
  const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x]'];
  for (let i = 1; i < 10; i++)
    lines.push(
      `a${i}: &a${i} [${Array(9)
        .fill(`*a${i - 1}`)
        .join(', ')}]`,
    );
  return lines.join('\n');
}

test.each(BODIES)('topology body: %s', async (_what, type, payload, status) => {
  for (const [method, url] of [
    ['PUT', '/v1/topologies/t1'],
    ['POST', '/v1/topologies'],
  ] as const) {
    const answer = await server.request(method, url, { payload, headers: { 'content-type': type } });
    assert.equal(answer.status, status, answer.text);
  }
  assert.equal((await server.get('/v1/topologies')).body.items.length, 1);
  assert.equal((await server.get('/v1/topologies/t1')).body.document.seed, 1);
});

const TRAFFIC: readonly (readonly [what: string, body: unknown, pointer: string])[] = [
  ['nothing', {}, '/kind'],
  ['unknown field', { kind: 'udp', from: 'a/net0', to: 'b/net0', size: 64 }, '/size'],
  ['unknown kind', { kind: 'sctp', from: 'a/net0', to: 'b/net0' }, '/kind'],
  ['identical ends', { kind: 'udp', from: 'a/net0', to: 'a/net0' }, '/to'],
  ['unknown source', { kind: 'udp', from: 'x/net0', to: 'b/net0' }, '/from'],
  ['unknown target', { kind: 'udp', from: 'a/net0', to: 'x/net0' }, '/to'],
  ['frame under 64 bytes', { kind: 'udp', from: 'a/net0', to: 'b/net0', frameSize: 63 }, '/frameSize'],
  ['frame over MTU plus header', { kind: 'udp', from: 'a/net0', to: 'b/net0', frameSize: 1519 }, '/frameSize'],
  ['half a frame', { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 0.5 }, '/count'],
  ['count as text', { kind: 'udp', from: 'a/net0', to: 'b/net0', count: '5' }, '/count'],
  ['no frames', { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 0 }, '/count'],
  ['rate with a wrong unit', { kind: 'udp', from: 'a/net0', to: 'b/net0', rate: '10kpps' }, '/rate'],
  ['negative rate', { kind: 'udp', from: 'a/net0', to: 'b/net0', rate: -1 }, '/rate'],
  ['rate of nothing', { kind: 'udp', from: 'a/net0', to: 'b/net0', rate: '0/s' }, '/rate'],
  ['endless rate', { kind: 'udp', from: 'a/net0', to: 'b/net0', rate: '9999999999/s' }, '/rate'],
  ['unknown generator', { kind: 'udp', from: 'a/net0', to: 'b/net0', generator: 'iperf' }, '/generator'],
];

test.each(TRAFFIC)('traffic: %s', async (_what, body, pointer) => {
  const answer = await server.post('/v1/topologies/t1/traffic', body);
  assert.equal(answer.status, 422, answer.text);
  const pointers = answer.body.errors.map((error: { pointer: string }) => error.pointer);
  assert.ok(pointers.includes(pointer), `${pointer} is not among ${JSON.stringify(answer.body.errors)}`);
  assert.deepEqual((await server.get('/v1/topologies/t1/traffic')).body.items, []);
});

test.each([
  ['odd number of digits', '5'],
  ['no hexadecimal', 'zz'.repeat(60)],
  ['too short', '00'.repeat(13)],
  ['too long', '00'.repeat(1515)],
])('raw frames: %s', async (_what, frame) => {
  const answer = await server.post('/v1/topologies/t1/frames', { at: 'a/net0', frames: ['00'.repeat(60), frame] });
  assert.equal(answer.status, 422);
  assert.equal(answer.body.errors[0].pointer, '/frames/1');
});

const PCAP = { 'content-type': 'application/vnd.tcpdump.pcap' };
const HEADER = Buffer.from('d4c3b2a1020004000000000000000000ffff000001000000', 'hex');

test.each([
  ['empty', Buffer.alloc(0)],
  ['junk', Buffer.alloc(10_000_000, 0xa5)],
  ['only a header', HEADER],
  ['truncated record', Buffer.concat([HEADER, Buffer.from('0000000000000000ffff0000ffff0000', 'hex')])],
  ['record of 4 GiB', Buffer.concat([HEADER, Buffer.from('0000000000000000ffffffffffffffff00', 'hex')])],
  ['pcapng with a hostile length', Buffer.from('0a0d0d0affffffff4d3c2b1a01000000', 'hex')],
])('replay: %s', async (_what, payload) => {
  const answer = await server.request('POST', '/v1/topologies/t1/replays?at=a/net0', { payload, headers: PCAP });
  assert.ok(answer.status === 422 || answer.status === 400, answer.text);
  assert.deepEqual((await server.get('/v1/topologies/t1/traffic')).body.items, []);
});

test('a replay needs an end, a known speed and a capture as its body', async () => {
  const at = (query: string, headers: Record<string, string> = PCAP) =>
    server.request('POST', `/v1/topologies/t1/replays${query}`, { payload: HEADER, headers });
  assert.equal((await at('')).body.errors[0].pointer, 'querystring/at');
  assert.equal((await at('?at=a/net0&speed=warp')).body.errors[0].pointer, 'querystring/speed');
  assert.equal((await at('?at=a/net0', json)).status, 415);
});

test.each([
  '/v1/nothing',
  '/v1/topologies/none',
  '/v1/topologies/none/clock',
  '/v1/topologies/t1/guests/none',
  '/v1/topologies/t1/traffic/none',
  '/v1/topologies/t1/frames/1',
  '/v1/topologies/t1/frames/9007199254740991',
])('GET %s is 404', async (url) => {
  assert.equal((await server.get(url)).status, 404);
});

test.each([
  '/v1/topologies/T1',
  '/v1/topologies/%00',
  '/v1/topologies/%F0%28',
  '/v1/topologies/t1/frames/zero',
  '/v1/topologies/t1/frames/0',
  '/v1/topologies/t1/frames/-1',
  '/v1/topologies/t1/frames/99999999999999999999',
  '/v1/topologies/t1/guests/a/memory',
  '/v1/topologies/t1/guests/a/memory?address=0x0',
  '/v1/topologies/t1/guests/a/memory?address=-1&length=1',
  '/v1/topologies/t1/guests/a/memory?address=0xffffffffffffffff&length=1',
  '/v1/topologies/t1/guests/a/memory?address=0&length=0',
  '/v1/topologies/t1/guests/a/memory?address=0&length=999999999',
  '/v1/topologies/t1/capture.pcapng?view=all',
  '/v1/topologies/t1/capture.pcapng?points=none',
  '/v1/topologies/t1/capture.pcapng?snaplen=-1',
  '/v1/topologies/t1/events?events=no.such',
  '/v1/topologies/t1/events?frame=x',
  '/v1/topologies/t1/events?after=-2',
  '/v1/topologies/t1/events?limit=0',
  '/v1/topologies/t1/events?colour=red',
  '/v1/topologies/t1/traffic/run-1?wait=forever',
])('GET %s is 400', async (url) => {
  const answer = await server.ringside.app.inject({ url, headers: { host: 'localhost' } });
  assert.equal(answer.statusCode, 400, answer.payload);
  assert.match(String(answer.headers['content-type']), /^application\/problem\+json/);
  assert.equal(answer.json().code, 'RINGSIDE_E_REQUEST');
});

test('a method that a resource does not have is 405 with those that it has', async () => {
  const answer = await server.ringside.app.inject({
    method: 'PATCH',
    url: '/v1/topologies/t1',
    headers: { host: 'localhost' },
  });
  assert.equal(answer.statusCode, 405);
  assert.equal(answer.headers['allow'], 'GET, HEAD, PUT, DELETE');
  assert.equal(answer.json().code, 'RINGSIDE_E_METHOD');
});

test('the clock refuses what contradicts itself', async () => {
  const bodies: readonly (readonly [object, string])[] = [
    [{}, ''],
    [{ state: 'STOPPED' }, '/state'],
    [{ step: 'year' }, '/step'],
    [{ state: 'RUNNING', step: 'event' }, '/step'],
    [{ until: -1 }, '/until'],
    [{ factor: 0 }, '/factor'],
    [{ speed: 2 }, '/speed'],
  ];
  for (const [body, pointer] of bodies) {
    const answer = await server.put('/v1/topologies/t1/clock', body);
    assert.equal(answer.status, 422, JSON.stringify(body));
    assert.equal(answer.body.errors[0].pointer, pointer);
  }
});

test('a body of very many unknown fields is answered with a readable number of faults', async () => {
  const body = Object.fromEntries(Array.from({ length: 60_000 }, (_, i) => [`f${i}`, i]));
  const answer = await server.post('/v1/topologies/t1/traffic', body);
  assert.equal(answer.status, 422);
  assert.ok(answer.body.errors.length <= 100);
});
