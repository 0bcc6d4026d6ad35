/**
 * What arrives: every event once where a client comes back, exact numbers of what a slow one missed, bounded memory for one
 * that does not read, and nothing missed where virtual time waits.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fc from 'fast-check';
import { afterEach, test } from 'vitest';
import { closeServers, type ServerOptions, smallDocument, startServer, type TestServer } from './client.ts';
import { EventClient, type EventMessage } from './event-client.ts';

afterEach(closeServers);

const FORMS = ['ringside.v1+json', 'ringside.v1+binary'] as const;

async function listening(
  options: ServerOptions = {},
  recorder: object = { events: 8192, bytes: '256KiB' },
): Promise<{ server: TestServer; url: string }> {
  const server = await startServer(options);
  await server.put('/v1/topologies/t1', smallDocument({ recorder }));
  const base = await server.listen();
  return { server, url: `${base.replace('http', 'ws')}/v1/topologies/t1/events` };
}
async function start(server: TestServer, count: number): Promise<string> {
  const run = { kind: 'udp', from: 'a/net0', to: 'b/net0', count, rate: 'max' };
  const { headers, status, text } = await server.post('/v1/topologies/t1/traffic', run);
  assert.equal(status, 202, text);
  return headers['location'] ?? '';
}
async function run(server: TestServer, count: number): Promise<void> {
  await server.get(`${await start(server, count)}?wait=60s`);
}

/** Messages account for every event once, whatever the client; returns how many were missed. */
function checkAccount(messages: readonly EventMessage[], from: number, to: number): number {
  let at = from;
  let dropped = 0;
  for (const message of messages.filter((m) => m.type === 'events' || m.type === 'gap')) {
    assert.equal(message.from, at, 'nothing is left out and nothing comes twice');
    if (message.type === 'gap') {
      assert.equal(message.to - message.from, message.dropped);
      dropped += message.dropped;
    }
    at = message.to;
  }
  assert.equal(at, to);
  return dropped;
}

test('a client that is cut off at random and comes back gets every event exactly once', async () => {
  const { server, url } = await listening({}, { events: 65_536, bytes: '4MiB' });
  const total = 20_000;
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...FORMS), fc.array(fc.nat(4), { minLength: 8 }), async (protocol, cuts) => {
      // A new world counts from 0.
      await server.delete('/v1/topologies/t1');
      await server.put('/v1/topologies/t1', smallDocument({ recorder: { events: 65_536, bytes: '4MiB' } }));
      const running = run(server, total / 5);
      const seen: number[] = [];
      const messages: EventMessage[] = [];
      for (let i = 0; (messages.at(-1)?.to ?? 0) < total; i++) {
        // What counts is the last event that the client has, wherever it was cut.
        const client = new EventClient(`${url}?after=${(messages.at(-1)?.to ?? 0) - 1}`, {
          protocols: [protocol],
          onMessage: (message) => {
            if (message.type !== 'events' && message.type !== 'gap') return;
            if (client.socket.readyState !== client.socket.OPEN) return;
            messages.push(message);
            seen.push(...(message.events ?? []).map((event) => event.seq));
            if (left-- === 0 || message.to === total) client.socket.terminate();
          },
        });
        let left = cuts[i % cuts.length] ?? 0;
        await client.until(() => client.closed);
      }
      await running;
      assert.equal(checkAccount(messages, 0, total), 0);
      assert.deepEqual(
        seen,
        Array.from({ length: total }, (_, i) => i),
      );
    }),
    { numRuns: process.env['RINGSIDE_FULL'] === '1' ? 200 : 4 },
  );
});

test('examples/watch-events.ts prints every event once, however often it is cut off', async () => {
  const { server, url } = await listening({}, { events: 65_536, bytes: '4MiB' });
  const example = new URL('../../examples/watch-events.ts', import.meta.url).pathname;
  const base = url.replace('ws', 'http').replace(/\/v1.*$/, '');
  const program = spawn(process.execPath, ['--no-warnings', example, base, 't1', 'events=guest.deliver']);
  let text = '';
  program.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  const exit = once(program, 'exit');
  const { clients } = server.ringside.app.websocketServer;
  try {
    for (let i = 0; i < 3; i++) {
      while (clients.size === 0) await new Promise(setImmediate);
      await run(server, 500);
      // It knows its place once it has printed something; until then it begins with what comes.
      while (text === '') await new Promise(setImmediate);
      for (const client of clients) client.terminate();
      while (clients.size > 0) await new Promise(setImmediate);
      await run(server, 500);
    }
    while (clients.size === 0) await new Promise(setImmediate);
    await server.delete('/v1/topologies/t1');
    // It ends by itself, as the topology is no more.
    assert.deepEqual((await exit)[0], 0);
  } finally {
    program.kill();
  }
  const seqs = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line).seq);
  assert.deepEqual(
    seqs,
    Array.from({ length: 3000 }, (_, i) => 5 * i + 4),
  );
});

test.for(FORMS)('a slow reader is told exactly what it missed: %s', async (protocol) => {
  const { server, url } = await listening({ limits: { socketBuffer: 1 } });
  const client = new EventClient(url, { protocols: [protocol] });
  await client.message('hello');
  // Nothing is read from the socket until far more has been recorded than the ring, the buffers and the kernel hold.
  client.socket.pause();
  await run(server, 400_000);
  client.socket.resume();
  await client.until(() => client.messages.some((m) => m.to === 2_000_000));
  const dropped = checkAccount(client.messages, 0, 2_000_000);
  assert.ok(dropped > 0);
  for (const event of client.events) {
    assert.equal(event.frame, Math.floor(event.seq / 5) + 1, 'an event that arrives is the one that was recorded');
  }
  assert.equal(client.events.length + dropped, 2_000_000);
});

test('what clients were sent and what they missed is counted', async () => {
  const { server, url } = await listening();
  const counted = async (what: string): Promise<number> => {
    const { text } = await server.get('/metrics');
    return Number(new RegExp(`^ringside_stream_events_${what}_total\\{form="message"\\} (\\d+)$`, 'm').exec(text)?.[1]);
  };
  const [sent, dropped] = [await counted('sent'), await counted('dropped')];
  await run(server, 10_000);
  const client = new EventClient(`${url}?after=-1`);
  await client.until(() => client.messages.some((m) => m.to === 50_000));
  assert.equal((await counted('sent')) - sent, client.events.length);
  assert.equal((await counted('dropped')) - dropped, client.dropped);
  assert.equal(client.events.length + client.dropped, 50_000);
});

test('a client that does not read costs its buffer and no more', async () => {
  const socketBuffer = 256 * 1024;
  const { server, url } = await listening({ limits: { socketBuffer } }, { events: 131_072, bytes: '4MiB' });
  const client = new EventClient(url, { protocols: ['ringside.v1+binary'] });
  await client.message('hello');
  client.socket.pause();
  const [peer] = server.ringside.app.websocketServer.clients;
  assert.ok(peer);
  let most = 0;
  let frames = 0;
  // The kernel's buffers fill first, which hold some megabytes; then ours.
  while (peer.bufferedAmount <= socketBuffer) {
    await run(server, 10_000);
    frames += 10_000;
  }
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 5; i++) {
    await run(server, 100_000);
    frames += 100_000;
    most = Math.max(most, peer.bufferedAmount);
  }
  const grown = process.memoryUsage().arrayBuffers - before;
  // The mark, the batch that crossed it, and a little for the sockets themselves.
  const batch = 36 * 16_384;
  assert.ok(most <= socketBuffer + batch + 1024, `${most} bytes wait`);
  assert.ok(grown < 16 << 20, `${grown} bytes more than before`);
  client.socket.resume();
  const total = 5 * frames;
  await client.until(() => client.messages.some((m) => m.to === total));
  const dropped = checkAccount(client.messages, 0, total);
  assert.ok(dropped > 0);
  assert.equal(client.events.length + dropped, total);
});

test('a client that asks and does not read the answers is cut off', async () => {
  const { server, url } = await listening({ limits: { socketBuffer: 1 } });
  const client = new EventClient(url);
  await client.message('hello');
  client.socket.pause();
  const [peer] = server.ringside.app.websocketServer.clients;
  assert.ok(peer);
  let most = 0;
  while (peer.readyState === peer.OPEN) {
    for (let i = 0; i < 2000; i++) client.say({ type: 'subscribe', events: 'no.such' });
    await new Promise(setImmediate);
    most = Math.max(most, peer.bufferedAmount);
  }
  assert.ok(most < 4 << 20, `${most} bytes wait`);
  assert.equal((await server.get('/livez')).status, 200);
});

test.for(FORMS)('slow=block: virtual time waits for the client, which misses nothing: %s', async (protocol) => {
  const { server, url } = await listening(
    { engine: null, limits: { socketBuffer: 1 } },
    { events: 32_768, bytes: '1MiB' },
  );
  const client = new EventClient(`${url}?slow=block&credit=0`, { protocols: [protocol] });
  const { next } = await client.message('hello');
  const location = await start(server, 10_000);
  // Without credit the run cannot end: it records many times what the ring holds.
  const waiting = async (): Promise<number> => (await server.get('/v1/topologies/t1/clock')).body.waitingFor;
  while ((await waiting()) === 0) await new Promise(setImmediate);
  assert.equal((await server.get(location)).body.state, 'RUNNING');
  client.say({ type: 'credit', add: 1_000_000_000 });
  const { body } = await server.get(`${location}?wait=60s`);
  assert.equal(body.state, 'SUCCEEDED');
  // Where the run has ended, the last buffers are still on their way back.
  const clock = async () => (await server.get('/v1/topologies/t1/clock')).body;
  while (!(await clock()).idle) await new Promise(setImmediate);
  const end = (await clock()).events;
  assert.ok(end - next > 4 * 32_768);
  await client.until(() => client.messages.some((m) => m.to === end));
  assert.equal(checkAccount(client.messages, next, end), 0);
  assert.equal(client.events.length, end - next);
});

test('slow=block: who leaves, unsubscribes or drops no longer makes time wait', async () => {
  const { server, url } = await listening({ engine: null }, { events: 32_768, bytes: '1MiB' });
  const leave: ((client: EventClient) => void)[] = [
    (client) => client.socket.terminate(),
    (client) => client.say({ type: 'unsubscribe' }),
    (client) => client.say({ type: 'subscribe', credit: 0 }),
  ];
  for (const go of leave) {
    const client = new EventClient(url);
    await client.message('hello');
    client.say({ type: 'subscribe', id: 's', slow: 'block', credit: 0 });
    await client.message('subscribed', 's');
    const location = await start(server, 10_000);
    while ((await server.get('/v1/topologies/t1/clock')).body.waitingFor === 0) await new Promise(setImmediate);
    go(client);
    assert.equal((await server.get(`${location}?wait=60s`)).body.state, 'SUCCEEDED');
    client.socket.terminate();
  }
});

test('slow=block: at most so many clients, the next one is refused and the stream stays as it was', async () => {
  const { url } = await listening();
  const holders = Array.from({ length: 16 }, () => new EventClient(`${url}?slow=block`));
  for (const holder of holders) {
    await holder.message('hello');
    await holder.ping('p');
  }
  const client = new EventClient(url);
  await client.message('hello');
  client.say({ type: 'subscribe', id: 'b', slow: 'block' });
  assert.equal((await client.message('error', 'b')).problem.code, 'RINGSIDE_E_TOO_MANY');
  await client.ping('p');
  const refused = new EventClient(`${url}?slow=block`);
  assert.equal((await refused.message('error')).problem.code, 'RINGSIDE_E_TOO_MANY');
  await refused.until(() => refused.closed);
  holders[0]?.socket.close();
  await holders[0]?.until(() => holders[0]?.closed);
  // The server learns a moment later that it has gone.
  for (let i = 0; !client.messages.some((m) => m.type === 'subscribed'); i++) {
    client.say({ type: 'subscribe', id: `c${i}`, slow: 'block' });
    await client.until(() => client.messages.find((m) => m.id === `c${i}`));
  }
});
