/** The event WebSocket over a real socket: greeting, subprotocols, filters, credit, answers, refusals, ends. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import fc from 'fast-check';
import { afterEach, test } from 'vitest';
import { WebSocket } from 'ws';
import { decodeEvents } from '../../examples/event-decoder.ts';
import { closeServer, closeServers, smallDocument, startServer, type TestServer } from './client.ts';
import { EventClient } from './event-client.ts';

afterEach(closeServers);

async function listening(limits = {}, changes = {}): Promise<{ server: TestServer; url: string }> {
  const server = await startServer({ limits });
  await server.put('/v1/topologies/t1', smallDocument(changes));
  const base = await server.listen();
  return { server, url: `${base.replace('http', 'ws')}/v1/topologies/t1/events` };
}
/** Each frame of the stub leaves five events. */
async function run(server: TestServer, count: number): Promise<void> {
  const { headers } = await server.post('/v1/topologies/t1/traffic', {
    kind: 'udp',
    from: 'a/net0',
    to: 'b/net0',
    count,
  });
  await server.get(`${headers['location']}?wait=60s`);
}
/** How an upgrade is refused. */
async function refusal(
  url: string,
  { headers = {}, protocols = [] }: { headers?: Record<string, string>; protocols?: string[] } = {},
): Promise<{ status: number; body: { code: string; errors?: { pointer: string; expected?: string }[] } }> {
  const socket = new WebSocket(url, protocols, { headers });
  socket.on('error', () => undefined);
  const [, response] = await once(socket, 'unexpected-response');
  let text = '';
  for await (const chunk of response) text += chunk;
  assert.match(response.headers['content-type'], /^application\/problem\+json/);
  return { status: response.statusCode, body: JSON.parse(text) };
}

test('hello first, then every event from now on, in order', async () => {
  const { server, url } = await listening();
  await run(server, 10);
  const client = new EventClient(url, { protocols: ['ringside.v1+json'] });
  const hello = await client.message('hello');
  assert.equal(client.messages[0], hello);
  const { type, topology, protocol, oldest, next, virtualTimeSeconds, dictionary } = hello;
  assert.deepEqual([type, topology, protocol, oldest, next], ['hello', 't1', 'ringside.v1+json', 0, 50]);
  assert.equal(virtualTimeSeconds, 10e-6);
  assert.ok(dictionary.kinds.some((kind) => kind.name === 'guest.xmit' && kind.a === 'bytes'));
  assert.deepEqual(
    dictionary.places.map((place) => place.name),
    ['a/net0', 'br0/a.net0', 'b/net0', 'br0/b.net0', 'world'],
  );
  await run(server, 20);
  await client.until(() => client.events.length === 100);
  assert.deepEqual(
    client.events.map((event) => event.seq),
    Array.from({ length: 100 }, (_, i) => 50 + i),
  );
  let at = 50;
  for (const message of client.messages.filter((m) => m.type === 'events')) {
    assert.equal(message.from, at);
    at = message.to;
  }
});

test('the subprotocol is the first known one of the offer; none is JSON; only unknown ones are refused', async () => {
  const { server, url } = await listening();
  await run(server, 10);
  const of = async (...protocols: string[]): Promise<string[]> => {
    const client = new EventClient(`${url}?after=-1`, { protocols });
    const hello = await client.message('hello');
    await client.until(() => client.events.length === 50);
    client.socket.close();
    return [client.socket.protocol, hello.protocol];
  };
  assert.deepEqual(await of(), ['', 'ringside.v1+json']);
  assert.deepEqual(await of('ringside.v1+binary'), ['ringside.v1+binary', 'ringside.v1+binary']);
  assert.deepEqual(await of('chat', 'ringside.v1+json', 'ringside.v1+binary'), [
    'ringside.v1+json',
    'ringside.v1+json',
  ]);
  const { status, body } = await refusal(url, { protocols: ['chat', 'ringside.v2+json'] });
  assert.equal(status, 400);
  assert.deepEqual(body.errors?.[0]?.pointer, 'headers/sec-websocket-protocol');
  assert.equal(body.errors?.[0]?.expected, 'ringside.v1+json or ringside.v1+binary');
});

test('both forms say the same, with and without a filter', async () => {
  const { server, url } = await listening();
  await run(server, 700);
  for (const [query, count] of [
    ['', 3500],
    ['&events=guest.*', 1400],
    ['&time=100us-200us&places=br0/*', 101],
  ] as const) {
    const clients = ['ringside.v1+json', 'ringside.v1+binary'].map(
      (protocol) => new EventClient(`${url}?after=-1${query}`, { protocols: [protocol] }),
    );
    const lists = await Promise.all(
      clients.map((client) => client.until(() => client.events.length >= count && client.events)),
    );
    assert.equal(lists[0]?.length, count, query);
    assert.deepEqual(lists[1], lists[0]);
    for (const client of clients) client.socket.close();
  }
});

test('the real engine: every kind of event is the same in both forms and as NDJSON', async () => {
  const server = await startServer({ engine: null });
  const preset = (await server.get('/v1/presets/compare')).body;
  await server.put('/v1/topologies/t1', preset);
  const base = await server.listen();
  for (const backend of ['virtio-net', 'vhost-net', 'vhost-user']) {
    const ends = { from: `${backend}-a/net0`, to: `${backend}-b/net0` };
    const { headers } = await server.post('/v1/topologies/t1/traffic', { kind: 'ping', ...ends, count: 5 });
    assert.equal((await server.get(`${headers['location']}?wait=60s`)).body.state, 'SUCCEEDED');
  }
  const lines = (await server.get('/v1/topologies/t1/events')).text.trimEnd().split('\n');
  const expected = lines.map((line) => JSON.parse(line));
  for (const protocol of ['ringside.v1+json', 'ringside.v1+binary']) {
    const url = `${base.replace('http', 'ws')}/v1/topologies/t1/events?after=-1`;
    const client = new EventClient(url, { protocols: [protocol] });
    await client.until(() => client.events.length >= expected.length);
    // the bytes of a message are in both forms; what they mean is said in JSON
    const told = protocol === 'ringside.v1+json' ? expected : expected.map(({ message: _, ...event }) => event);
    assert.deepEqual(client.events.slice(0, expected.length), told, protocol);
    client.socket.close();
  }
  assert.ok(new Set(expected.map((event) => event.event)).size > 50, 'many kinds');
});

test('a browser reads both forms: its own WebSocket, binary messages as array buffers', async () => {
  const { server, url } = await listening();
  await run(server, 10);
  const read = (protocol: string, eventsIn: (data: string | ArrayBuffer) => number): Promise<number> =>
    new Promise((resolve, reject) => {
      const socket = new globalThis.WebSocket(`${url}?after=-1`, protocol);
      socket.binaryType = 'arraybuffer';
      let events = 0;
      socket.onerror = () => reject(new Error('the browser could not connect'));
      socket.onmessage = ({ data }) => {
        events += eventsIn(data);
        if (events < 50) return;
        socket.close();
        resolve(events);
      };
    });
  assert.equal(await read('ringside.v1+json', (data) => JSON.parse(String(data)).events?.length ?? 0), 50);
  assert.equal(
    await read('ringside.v1+binary', (data) => (typeof data === 'string' ? 0 : decodeEvents(data).count)),
    50,
  );
});

test('filters in the address and by subscribe, and going on after a sequence number', async () => {
  const { server, url } = await listening();
  await run(server, 10);
  const client = new EventClient(`${url}?events=guest.xmit&after=24`);
  await client.until(() => client.events.length === 5);
  assert.ok(client.events.every((event) => event.event === 'guest.xmit' && event.seq > 24));
  client.say({ type: 'subscribe', id: 's1', events: 'guest.deliver', after: 39 });
  const { position, oldest, next } = await client.message('subscribed', 's1');
  assert.deepEqual([position, oldest, next], [40, 0, 50]);
  await client.until(() => client.events.length === 7);
  assert.deepEqual(
    client.events.slice(5).map((event) => event.event),
    ['guest.deliver', 'guest.deliver'],
  );
});

test('what a client says wrongly is answered with a problem and its id, and the stream goes on', async () => {
  const { server, url } = await listening();
  const client = new EventClient(url);
  await client.message('hello');
  for (const [text, pointer] of [
    ['not JSON', undefined],
    ['[]', '/type'],
    ['null', '/type'],
    ['{"id":"q","type":"dance"}', '/type'],
    ['{"id":"q","type":"hasOwnProperty"}', '/type'],
    ['{"id":"q","type":"subscribe","colour":"red"}', '/colour'],
    ['{"id":"q","type":"subscribe","events":"none.*"}', '/events'],
    ['{"id":"q","type":"subscribe","time":"1ms"}', '/time'],
    ['{"id":"q","type":"subscribe","after":12}', '/after'],
    ['{"id":"q","type":"subscribe","after":-2}', '/after'],
    ['{"id":"q","type":"subscribe","slow":"never"}', '/slow'],
    ['{"id":"q","type":"credit"}', '/add'],
    ['{"id":"q","type":"credit","add":0}', '/add'],
    ['{"id":"q","type":"credit","add":5}', undefined],
    ['{"id":"q","type":"ping","payload":1}', '/payload'],
  ] as const) {
    const before = client.messages.length;
    client.socket.send(text);
    const answer = await client.until(() => client.messages[before]);
    assert.equal(answer.type, 'error', text);
    assert.equal(answer.id, text.includes('"q"') ? 'q' : undefined);
    assert.match(answer.problem.code, /^RINGSIDE_E_/);
    assert.equal(answer.problem.errors?.[0]?.pointer, pointer, text);
  }
  client.socket.send(Buffer.from([0, 255, 128]));
  await client.until(() => client.messages.filter((m) => m.type === 'error').length === 16);
  await run(server, 1);
  await client.until(() => client.events.length === 5);
});

test('whatever a client says, it is answered and the stream goes on', async () => {
  const { server, url } = await listening();
  await run(server, 10);
  const client = new EventClient(url);
  await client.message('hello');
  const text = fc.oneof(
    fc.string({ maxLength: 20 }),
    fc.constantFrom('*', 'guest.*', '!*', '1-2', '1ms-', 'block', 'drop'),
  );
  const value = fc.oneof(text, fc.integer({ min: -3, max: 60 }), fc.jsonValue({ maxDepth: 2 }));
  const keys = ['events', 'places', 'contexts', 'role', 'frame', 'time', 'after', 'credit', 'slow', 'add'];
  const message = fc.record({
    type: fc.oneof(fc.constantFrom('subscribe', 'unsubscribe', 'credit', 'ping'), value),
    fields: fc.dictionary(fc.constantFrom(...keys), value, { maxKeys: 3 }),
  });
  let n = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(message, { maxLength: 20 }), async (messages) => {
      for (const { type, fields } of messages) client.say({ type, id: 'x', ...fields });
      // Its answer comes after all others.
      await client.ping(`p${n++}`);
    }),
    { numRuns: 60 },
  );
  for (const { type, problem } of client.messages) {
    if (type === 'error') assert.notEqual(problem.code, 'RINGSIDE_E_INTERNAL', problem.detail);
  }
  client.say({ type: 'subscribe', id: 'last', events: 'guest.deliver' });
  await client.message('subscribed', 'last');
  const before = client.events.length;
  await run(server, 10);
  await client.until(() => client.events.length >= before + 10);
});

test('a message that is too long ends the connection and nothing else', async () => {
  const { server, url } = await listening();
  const client = new EventClient(url);
  await client.message('hello');
  client.socket.send('x'.repeat(65_537));
  assert.equal((await client.until(() => client.closed)).code, 1009);
  assert.equal((await server.get('/livez')).status, 200);
});

test('credit: no event more than was granted, counted in events', async () => {
  for (const protocol of ['ringside.v1+json', 'ringside.v1+binary']) {
    const { server, url } = await listening();
    const client = new EventClient(`${url}?credit=7&after=-1`, { protocols: [protocol] });
    await run(server, 100);
    await client.until(() => client.events.length === 7);
    const pong = await client.ping('p1');
    assert.deepEqual([client.events.length, pong.credit, pong.position, pong.next], [7, 0, 7, 500]);
    client.say({ type: 'credit', add: 10 });
    client.say({ type: 'credit', add: 20 });
    await client.until(() => client.events.length === 37);
    await client.ping('p2');
    assert.equal(client.events.length, 37);
    // With a filter only what is sent costs.
    client.say({ type: 'subscribe', id: 's', events: 'guest.deliver', credit: 3 });
    await client.message('subscribed', 's');
    await client.until(() => client.events.length === 40);
    const { credit, position } = await client.ping('p3');
    assert.deepEqual([credit, position], [0, 54]);
    assert.deepEqual(
      client.events.slice(37).map((event) => event.seq),
      [39, 44, 49],
    );
    client.say({ type: 'subscribe' });
    await client.until(() => client.events.at(-1)?.seq === 499);
    assert.equal((await client.ping('p4')).credit, undefined);
    await closeServer(server);
  }
});

test('what is lost while there is no credit is told with its number', async () => {
  const { server, url } = await listening();
  const client = new EventClient(`${url}?credit=0`);
  await client.message('hello');
  await run(server, 100_000);
  await client.ping('p');
  assert.equal(client.messages.length, 2);
  client.say({ type: 'credit', add: 1_000_000 });
  await client.until(() => client.events.at(-1)?.seq === 499_999);
  assert.equal(client.gaps.length, 1);
  assert.equal(client.dropped + client.events.length, 500_000);
  assert.equal(client.events[0]?.seq, client.dropped);
});

test('unsubscribe stops the events; subscribe goes on where they stopped', async () => {
  const { server, url } = await listening();
  const client = new EventClient(url);
  await client.message('hello');
  await run(server, 10);
  await client.until(() => client.events.length === 50);
  client.say({ type: 'unsubscribe', id: 'u' });
  assert.equal((await client.message('unsubscribed', 'u')).position, 50);
  await run(server, 10);
  assert.equal((await client.ping('p')).next, 100);
  assert.equal(client.events.length, 50);
  client.say({ type: 'subscribe' });
  await client.until(() => client.events.length === 100);
  assert.equal(client.events[50]?.seq, 50);
});

test('an upgrade that is refused is a problem document', async () => {
  const { url } = await listening();
  const statusOf = async (...of: Parameters<typeof refusal>): Promise<number> => (await refusal(...of)).status;
  assert.equal(await statusOf(url.replace('t1', 'none')), 404);
  assert.equal(await statusOf(`${url}?events=no.such`), 400);
  assert.equal(await statusOf(`${url}?after=0`), 400);
  assert.equal(await statusOf(`${url}?slow=sometimes`), 400);
  assert.equal(await statusOf(url, { headers: { origin: 'http://evil.example' } }), 403);
  assert.equal(await statusOf(url, { headers: { host: 'evil.example' } }), 421);
});

test('the stream ends with the topology, after its last event', async () => {
  const { server, url } = await listening();
  const client = new EventClient(url);
  await client.message('hello');
  await run(server, 100);
  await server.delete('/v1/topologies/t1');
  const end = await client.message('end');
  assert.match(end.reason, /deleted/);
  assert.deepEqual([end.position, end.next, client.events.length], [500, 500, 500]);
  assert.equal((await client.until(() => client.closed)).code, 1000);
});

test('a world that fails says why', async () => {
  const { server, url } = await listening({}, { seed: 667 });
  const client = new EventClient(url);
  await client.message('hello');
  await server.post('/v1/topologies/t1/traffic', { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 1 });
  assert.match((await client.message('end')).reason, /assertion failed/);
  // Its record can still be read.
  const late = new EventClient(`${url}?after=-1`);
  assert.match((await late.message('end')).reason, /assertion failed/);
});

test('a server that stops says so', async () => {
  const { server, url } = await listening();
  const client = new EventClient(url);
  await client.message('hello');
  await closeServer(server);
  assert.equal((await client.until(() => client.closed)).code, 1001);
});

test('the limit of streams holds for WebSockets, and who leaves makes room', async () => {
  const { server, url } = await listening({ streams: 1 });
  const first = new EventClient(url);
  await first.message('hello');
  assert.equal((await refusal(url)).status, 429);
  first.socket.terminate();
  await first.until(() => first.closed);
  // The server learns of it a moment later.
  while (server.ringside.services.streams.used > 0) await new Promise(setImmediate);
  await new EventClient(url).message('hello');
});
