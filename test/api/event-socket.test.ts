/** The event WebSocket over a real socket: hello, batches, filters, gaps for a slow reader, ends. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach, test } from 'vitest';
import { WebSocket } from 'ws';
import { closeServers, smallDocument, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

interface Message {
  readonly type: string;
  readonly topology: string;
  readonly protocol: string;
  readonly from: number;
  readonly to: number;
  readonly dropped: number;
  readonly oldest: number;
  readonly next: number;
  readonly reason: string;
  readonly events: readonly { readonly seq: number; readonly event: string; readonly frame: number }[];
  readonly problem: { readonly code: string };
}

/** A client that keeps its messages and can wait for one. */
class Client {
  readonly socket: WebSocket;
  readonly messages: Message[] = [];
  private changed = Promise.withResolvers<void>();
  closed: { code: number } | null = null;

  constructor(url: string, options: { headers?: Record<string, string>; protocol?: string } = {}) {
    this.socket = new WebSocket(url, options.protocol === undefined ? [] : [options.protocol], {
      headers: options.headers ?? {},
    });
    this.socket.on('message', (data) => {
      this.messages.push(JSON.parse(String(data)) as Message);
      this.wake();
    });
    this.socket.on('close', (code) => {
      this.closed = { code };
      this.wake();
    });
    this.socket.on('error', () => undefined);
  }
  private wake(): void {
    this.changed.resolve();
    this.changed = Promise.withResolvers();
  }
  async until<T>(found: () => T | undefined | null | false): Promise<T> {
    for (;;) {
      const value = found();
      if (value) return value;
      await this.changed.promise;
    }
  }
  get events(): Message['events'] {
    return this.messages.flatMap((m) => (m.type === 'events' ? m.events : []));
  }
}

async function listening(limits = {}): Promise<{ server: TestServer; url: string }> {
  const server = await startServer({ limits });
  await server.put('/v1/topologies/t1', smallDocument());
  const base = await server.listen();
  return { server, url: `${base.replace('http', 'ws')}/v1/topologies/t1/events` };
}
async function run(server: TestServer, count: number): Promise<void> {
  const { headers } = await server.post('/v1/topologies/t1/traffic', {
    kind: 'udp',
    from: 'a/net0',
    to: 'b/net0',
    count,
  });
  await server.get(`${headers['location']}?wait=60s`);
}

test('hello first, then every event from now on, in order', async () => {
  const { server, url } = await listening();
  await run(server, 10);
  const client = new Client(url, { protocol: 'ringside.v1+json' });
  const hello = await client.until(() => client.messages[0]);
  const { type, topology, protocol, oldest, next } = hello;
  assert.deepEqual([type, topology, protocol, oldest, next], ['hello', 't1', 'ringside.v1+json', 0, 50]);
  assert.equal(client.socket.protocol, 'ringside.v1+json');
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

test('filters in the address and by subscribe, and resuming after a sequence number', async () => {
  const { server, url } = await listening();
  await run(server, 10);
  const client = new Client(`${url}?events=guest.xmit&after=24`);
  await client.until(() => client.events.length === 5);
  assert.ok(client.events.every((event) => event.event === 'guest.xmit' && event.seq > 24));
  client.socket.send(JSON.stringify({ type: 'subscribe', events: 'guest.deliver', after: 39 }));
  await client.until(() => client.events.length === 7);
  assert.deepEqual(
    client.events.slice(5).map((event) => event.event),
    ['guest.deliver', 'guest.deliver'],
  );
});

test('what a client says wrongly is answered with a problem, and the stream goes on', async () => {
  const { server, url } = await listening();
  const client = new Client(url);
  await client.until(() => client.messages[0]);
  for (const text of [
    'not JSON',
    '[]',
    '{"type":"dance"}',
    '{"type":"subscribe","colour":"red"}',
    '{"type":"subscribe","events":"none.*"}',
  ]) {
    const before = client.messages.length;
    client.socket.send(text);
    const answer = await client.until(() => client.messages[before]);
    assert.equal(answer.type, 'error', text);
    assert.match(answer.problem.code, /^RINGSIDE_E_/);
  }
  await run(server, 1);
  await client.until(() => client.events.length === 5);
});

test('a slow reader is told exactly what it missed', async () => {
  const { server, url } = await listening({ socketBuffer: 1 });
  const client = new Client(url);
  await client.until(() => client.messages[0]);
  // Nothing is read from the socket until far more has been recorded than the ring, the buffers and the kernel hold.
  client.socket.pause();
  await run(server, 400_000);
  client.socket.resume();
  await client.until(() => client.messages.some((m) => m.to === 2_000_000));
  const gaps = client.messages.filter((m) => m.type === 'gap');
  assert.ok(gaps.length > 0);
  let at = 0;
  for (const message of client.messages.slice(1)) {
    assert.equal(message.from, at, 'nothing is left out and nothing comes twice');
    if (message.type === 'gap') assert.equal(message.to - message.from, message.dropped);
    at = message.to;
  }
  for (const event of client.events) {
    assert.equal(event.frame, Math.floor(event.seq / 5) + 1, 'an event that arrives is the one that was recorded');
  }
  const dropped = gaps.reduce((sum, gap) => sum + gap.dropped, 0);
  assert.equal(client.events.length + dropped, 2_000_000);
});

test('an upgrade that is refused is a problem document', async () => {
  const { url } = await listening();
  const statusOf = async (address: string, headers: Record<string, string> = {}): Promise<number | undefined> => {
    const socket = new WebSocket(address, { headers });
    socket.on('error', () => undefined);
    const [, response] = await once(socket, 'unexpected-response');

    return (response as { statusCode?: number }).statusCode;
  };
  assert.equal(await statusOf(url.replace('t1', 'none')), 404);
  assert.equal(await statusOf(`${url}?events=no.such`), 400);
  assert.equal(await statusOf(url, { origin: 'http://evil.example' }), 403);
  assert.equal(await statusOf(url, { host: 'evil.example' }), 421);
});

test('the stream ends with the topology', async () => {
  const { server, url } = await listening();
  const client = new Client(url);
  await client.until(() => client.messages[0]);
  await server.delete('/v1/topologies/t1');
  const end = await client.until(() => client.messages.find((m) => m.type === 'end'));
  assert.match(end.reason, /deleted/);
  assert.equal((await client.until(() => client.closed)).code, 1000);
});

test('the limit of streams holds for WebSockets', async () => {
  const { url } = await listening({ streams: 1 });
  const first = new Client(url);
  await first.until(() => first.messages[0]);
  const second = new WebSocket(url);
  second.on('error', () => undefined);
  const [, response] = await once(second, 'unexpected-response');
  assert.equal((response as { statusCode?: number }).statusCode, 429);
});
