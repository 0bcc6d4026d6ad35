/** Journeys over HTTP, on the real engine: of one frame in each form, and grouped by path. */
import assert from 'node:assert/strict';
import { afterAll, beforeAll, test } from 'vitest';
import { closeServers, smallDocument, startServer, type TestServer } from './client.ts';

const AT = '/v1/topologies/t1';
let server: TestServer;
beforeAll(async () => {
  server = await startServer({ engine: null });
  const { status, text } = await server.put(AT, smallDocument({ recorder: { events: 262_144, bytes: '16MiB' } }));
  assert.equal(status, 201, text);
  await run({ kind: 'ping', from: 'a/net0', to: 'b/net0', count: 3 });
  await run({ kind: 'udp', from: 'a/net0', to: 'b/net0', count: 500 });
  await run({ kind: 'udp', from: 'b/net0', to: 'a/net0', count: 20 });
});
afterAll(closeServers);

async function run(body: object): Promise<void> {
  const { headers } = await server.post(`${AT}/traffic`, body);
  const ended = await server.get(`${headers['location']}?wait=60s`);
  assert.equal(ended.body.state, 'SUCCEEDED');
}

test('a journey in each form, by Accept and by ?format=', async () => {
  const forms = [
    ['json', 'application/json', /^\{"frame":1,/],
    ['text', 'text/plain', /^frame 1, 60 bytes: consumed\n/],
    ['svg', 'image/svg+xml', /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/],
    ['mermaid', 'text/vnd.mermaid', /^sequenceDiagram\n/],
  ] as const;
  for (const [format, type, looks] of forms) {
    const byAccept = await server.get(`${AT}/frames/1`, { headers: { accept: type } });
    assert.equal(byAccept.headers['content-type'], `${type}; charset=utf-8`);
    assert.match(byAccept.text, looks);
    // a browser's Accept does not stand in the way
    const accept = 'text/html,application/xhtml+xml,*/*;q=0.8';
    const byFormat = await server.get(`${AT}/frames/1?format=${format}`, { headers: { accept } });
    assert.equal(byFormat.headers['content-type'], byAccept.headers['content-type']);
    assert.equal(byFormat.text, byAccept.text);
  }
  assert.equal((await server.get(`${AT}/frames/1?format=png`)).status, 400);
  assert.equal((await server.get(`${AT}/frames/1`, { headers: { accept: 'image/png' } })).status, 406);
});

test('lanes account for all of the latency', async () => {
  for (const frame of [1, 2, 3, 40, 500]) {
    const { body } = await server.get(`${AT}/frames/${frame}`);
    const sum = (field: string): number =>
      body.lanes.reduce((n: number, lane: Record<string, number>) => n + (lane[field] ?? 0), 0);
    assert.equal(sum('busyNs'), body.totals.processingNs);
    assert.equal(sum('waitedNs'), body.totals.waitingNs);
    assert.equal(sum('busyNs') + sum('waitedNs'), body.totals.latencyNs);
  }
});

test('groups: all frames, their shares, and examples that took that way', async () => {
  const { status, body } = await server.get(`${AT}/journeys`);
  assert.equal(status, 200);
  // ARP twice with a copy for the host, three requests and answers, 520 datagrams
  assert.equal(body.frames, 529);
  assert.equal(body.incomplete, 0);
  const counts: number[] = body.groups.map((group: { count: number }) => group.count);
  assert.equal(
    counts.reduce((n, count) => n + count, body.others.count),
    529,
  );
  assert.deepEqual(
    counts,
    counts.toSorted((x, y) => y - x),
  );
  for (const group of body.groups) {
    for (const id of [group.examples.first, group.examples.slowest]) {
      const { body: journey } = await server.get(`${AT}/frames/${id}`);
      const way = (hops: { place: string; event: string }[]) => hops.map((hop) => `${hop.place} ${hop.event}`);
      const onPath = journey.hops.filter((hop: { onPath: boolean }) => hop.onPath);
      assert.deepEqual(way(onPath), way(group.hops));
      assert.equal(journey.outcome, group.outcome);
      if (id === group.examples.slowest) assert.equal(journey.totals.latencyNs, group.latencyNs.max);
    }
  }
});

test('groups of a run, of an outcome, of a place, of frames; the rest together', async () => {
  const frames = async (query: string): Promise<number> => (await server.get(`${AT}/journeys?${query}`)).body.frames;
  assert.equal(await frames('run=run-2'), 500);
  assert.equal(await frames('run=run-3'), 20);
  assert.equal(await frames('outcome=consumed'), 6);
  assert.equal(await frames('outcome=dropped'), 0);
  assert.equal(await frames('outcome=in-flight'), 0);
  assert.equal(await frames('frame=17-40'), 24);
  assert.equal(await frames('places=b/net0&role=born'), 1 + 3 + 20);
  assert.equal(await frames('run=run-2&frame=17-40'), 24);
  const { body } = await server.get(`${AT}/journeys?limit=1`);
  assert.equal(body.groups.length, 1);
  assert.equal(body.others.count + body.groups[0].count, 529);
});

test('groups as text', async () => {
  const { text, headers } = await server.get(`${AT}/journeys?run=run-3&format=text`);
  assert.equal(headers['content-type'], 'text/plain; charset=utf-8');
  assert.match(text, /^20 frames on \d+ ways?; events 0 to \d+\n/);
  assert.match(text, /^1\. \d+ frames \([\d.]+ %\): delivered; first \d+, slowest \d+$/m);
});

test('groups while the ring is written over: whole frames only, the rest counted', async () => {
  const at = '/v1/topologies/busy';
  await server.put(at, smallDocument());
  const traffic = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 400_000 };
  const { headers } = await server.post(`${at}/traffic`, traffic);
  let [frames, incomplete] = [0, 0];
  for (let i = 0; i < 15; i++) {
    const { body } = await server.get(`${at}/journeys`);
    const counts: number[] = body.groups.map((group: { count: number }) => group.count);
    assert.equal(
      counts.reduce((n, count) => n + count, body.others.count),
      body.frames,
    );
    for (const group of body.groups) assert.match(group.hops[0].event, /^packet\.(born|clone)$/);
    frames += body.frames;
    incomplete += body.incomplete;
  }
  assert.ok(frames > 100 && incomplete > 0, `${frames} frames, ${incomplete} incomplete`);
  await server.delete(headers['location'] ?? '');
  await server.delete(at);
});

test('parameters that mean nothing are named', async () => {
  for (const [query, pointer] of [
    ['run=run-99', 'querystring/run'],
    ['places=nowhere', 'querystring/places'],
    ['outcome=eaten', 'querystring/outcome'],
    ['outcome=dropped:tap.ful', 'querystring/outcome'],
    ['limit=0', 'querystring/limit'],
    ['frame=9-3', 'querystring/frame'],
    ['format=svg', 'querystring/format'],
  ] as const) {
    const { status, body } = await server.get(`${AT}/journeys?${query}`);
    assert.equal(status, 400, query);
    assert.equal(body.errors[0].pointer.replace('/querystring', 'querystring'), pointer);
  }
  assert.equal((await server.get('/v1/topologies/none/journeys')).status, 404);
});
