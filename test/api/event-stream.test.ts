/** Events over HTTP: NDJSON and server-sent events, their media types, where they begin, go on and end. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, smallDocument, startServer, type TestServer } from './client.ts';
import { checkEventMessage, EventClient, type EventMessage, type EventObject } from './event-client.ts';

afterEach(closeServers);

const SSE = { accept: 'text/event-stream' };

async function serverWithTraffic(
  count: number,
  engine?: null,
  recorder: object = { events: 8192, bytes: '256KiB' },
): Promise<TestServer> {
  const server = await startServer(engine === null ? { engine } : {});
  await server.put('/v1/topologies/t1', smallDocument({ recorder }));
  if (count > 0) await run(server, count);
  return server;
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

interface ServerSent {
  readonly id: string | undefined;
  readonly event: string;
  readonly data: string | undefined;
}
/** The stream as a browser reads it: https://html.spec.whatwg.org, "interpreting an event stream". */
function parse(text: string): { blocks: ServerSent[]; retry: string | undefined; lastId: string } {
  let retry: string | undefined;
  let lastId = '';
  const blocks: ServerSent[] = [];
  for (const block of text.split('\n\n').slice(0, -1)) {
    const fields = new Map<string, string>();
    for (const line of block.split('\n')) {
      if (line.startsWith(':')) continue;
      const [, key = '', value = ''] = /^([a-z]+): (.*)$/.exec(line) ?? assert.fail(`not a field: ${line}`);
      fields.set(key, value);
    }
    retry ??= fields.get('retry');
    lastId = fields.get('id') ?? lastId;
    const data = fields.get('data');
    if (data !== undefined) blocks.push({ id: fields.get('id'), event: fields.get('event') ?? 'message', data });
  }
  return { blocks, retry, lastId };
}
function dataOf(block: ServerSent | undefined): EventMessage & EventObject {
  return JSON.parse(block?.data ?? assert.fail('no data'));
}

test('server-sent events: ids are sequence numbers, and the end is an event', async () => {
  const server = await serverWithTraffic(10);
  const answer = await server.get('/v1/topologies/t1/events?follow=false', { headers: SSE });
  assert.equal(answer.headers['content-type'], 'text/event-stream');
  assert.equal(answer.headers['cache-control'], 'no-store');
  const { blocks, retry } = parse(answer.text);
  assert.equal(retry, '1000');
  assert.deepEqual(
    blocks.slice(0, -1).map(({ id, event, data }) => [id, event, JSON.parse(data ?? '').seq]),
    Array.from({ length: 50 }, (_, i) => [String(i), 'message', i]),
  );
  const lines = (await server.get('/v1/topologies/t1/events')).text.trimEnd().split('\n');
  assert.deepEqual(
    blocks.slice(0, -1).map((block) => block.data),
    lines,
  );
  const end = blocks.at(-1);
  assert.equal(end?.event, 'end');
  checkEventMessage(dataOf(end));
  assert.equal(dataOf(end).position, 50);
});

test('server-sent events: Last-Event-ID goes on after it, and is stronger than `after`', async () => {
  const server = await serverWithTraffic(10);
  const ids = async (query: string, last?: string): Promise<(string | undefined)[]> => {
    const headers = last === undefined ? SSE : { ...SSE, 'last-event-id': last };
    const answer = await server.get(`/v1/topologies/t1/events?follow=false${query}`, { headers });
    assert.equal(answer.status, 200, answer.text);
    return parse(answer.text)
      .blocks.slice(0, -1)
      .map((block) => block.id);
  };
  assert.deepEqual(await ids('', '46'), ['47', '48', '49']);
  assert.deepEqual(await ids('&after=10', '46'), ['47', '48', '49']);
  assert.deepEqual(await ids('&after=48', ''), ['49']);
  assert.deepEqual(await ids('', '49'), []);
  assert.deepEqual(await ids('&limit=2&events=guest.deliver', '20'), ['24', '29']);
  for (const bad of ['x', '-1', '1.5']) {
    const answer = await server.get('/v1/topologies/t1/events', { headers: { ...SSE, 'last-event-id': bad } });
    assert.equal(answer.status, 400, bad);
    assert.match(answer.body.errors[0].pointer, /last-event-id/);
  }
  // A world that was rebuilt has not come so far yet: going on silently would hide all that it does.
  const beyond = await server.get('/v1/topologies/t1/events', { headers: { ...SSE, 'last-event-id': '50' } });
  assert.equal(beyond.status, 400);
  assert.equal(beyond.body.errors[0].pointer, 'querystring/after');
});

test('server-sent events: a gap is an event with its number, whose id nobody is told of twice', async () => {
  const server = await serverWithTraffic(10_000);
  const { blocks } = parse((await server.get('/v1/topologies/t1/events?follow=false', { headers: SSE })).text);
  const [gap, first] = blocks;
  assert.equal(gap?.event, 'gap');
  checkEventMessage(dataOf(gap));
  const { from, to, dropped } = dataOf(gap);
  assert.deepEqual([from, to - from, gap?.id], [0, dropped, String(to - 1)]);
  assert.equal(dataOf(first).seq, to);
  assert.equal(dropped + blocks.length - 2, 50_000);
});

test('server-sent events follow by themselves, and a cut stream goes on without loss', async () => {
  const server = await serverWithTraffic(10);
  const url = `${await server.listen()}/v1/topologies/t1/events`;
  let lastId = '';
  const seqs: number[] = [];
  for (let cut = 0; cut < 5; cut++) {
    const stop = new AbortController();
    const response = await fetch(url, {
      headers: { ...SSE, ...(lastId === '' ? {} : { 'last-event-id': lastId }) },
      signal: stop.signal,
    });
    await run(server, 10);
    let text = '';
    const wanted = 50 * (cut + 2);
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk, { stream: true });
      if (text.includes(`\nid: ${wanted - 7}\n`)) break;
    }
    stop.abort();
    // Blocks that are not whole are thrown away, as a browser does.
    const parsed = parse(text.slice(0, text.lastIndexOf('\n\n') + 2));
    lastId = parsed.lastId;
    seqs.push(...parsed.blocks.map((block) => dataOf(block).seq));
  }
  assert.deepEqual(
    seqs,
    Array.from({ length: seqs.length }, (_, i) => i),
  );
  assert.ok(seqs.length >= 290);
});

test('server-sent events: the end of a topology is told', async () => {
  const server = await serverWithTraffic(10);
  const response = await fetch(`${await server.listen()}/v1/topologies/t1/events`, { headers: SSE });
  await run(server, 10);
  await server.delete('/v1/topologies/t1');
  const { blocks } = parse(await response.text());
  assert.equal(blocks.length, 101);
  assert.match(dataOf(blocks.at(-1)).reason, /deleted/);
});

test('the media type decides: NDJSON unless asked otherwise, nothing else', async () => {
  const server = await serverWithTraffic(1);
  const typeOf = async (accept?: string): Promise<string | undefined> => {
    const headers = accept === undefined ? {} : { accept };
    return (await server.get('/v1/topologies/t1/events?follow=false', { headers })).headers['content-type'];
  };
  assert.equal(await typeOf(), 'application/x-ndjson');
  assert.equal(await typeOf('*/*'), 'application/x-ndjson');
  assert.equal(await typeOf('application/jsonl'), 'application/jsonl');
  assert.equal(await typeOf('text/event-stream, */*;q=0.1'), 'text/event-stream');
  assert.match((await typeOf('image/png')) ?? '', /problem/);
});

test('a filter of virtual time, and -1 for everything from the beginning', async () => {
  const server = await serverWithTraffic(10);
  const lines = async (query: string): Promise<EventObject[]> => {
    const { text } = await server.get(`/v1/topologies/t1/events?${query}`);
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  };
  assert.equal((await lines('time=2us-4us')).length, 15);
  assert.equal((await lines('time=9us-')).length, 10);
  assert.equal((await lines('time=-1.5us&events=guest.*')).length, 2);
  assert.equal((await lines('after=-1')).length, 50);
  const { status, body } = await server.get('/v1/topologies/t1/events?time=2us');
  assert.equal(status, 400);
  assert.equal(body.errors[0].pointer, 'querystring/time');
});

test('slow=block over HTTP: nothing is missed however small the ring, and who goes lets go', async () => {
  const server = await serverWithTraffic(0, null, { events: 32_768, bytes: '1MiB' });
  const base = `${await server.listen()}/v1/topologies/t1/events`;
  const begin = (await server.get('/v1/topologies/t1/clock')).body.events;
  const stop = new AbortController();
  const response = await fetch(`${base}?slow=block&follow=true&after=${begin - 1}`, { signal: stop.signal });
  const running = run(server, 10_000);
  let [next, lines, rest] = [begin, 0, ''];
  const end = 3 * 32_768 + begin;
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = parts.pop() ?? '';
    for (const line of parts) {
      const event = JSON.parse(line) as EventObject;
      assert.equal(event.seq, next++, line.slice(0, 100));
      lines++;
    }
    if (next >= end) break;
  }
  assert.ok(lines >= 3 * 32_768);
  stop.abort();
  await running;
});

test('the WebSocket and NDJSON say the same', async () => {
  const server = await serverWithTraffic(20);
  const base = await server.listen();
  const client = new EventClient(`${base.replace('http', 'ws')}/v1/topologies/t1/events?after=-1`);
  await client.until(() => client.events.length === 100);
  const { text } = await server.get('/v1/topologies/t1/events');
  const lines = text.trimEnd().split('\n');
  assert.deepEqual(
    client.events,
    lines.map((line) => JSON.parse(line)),
  );
});
