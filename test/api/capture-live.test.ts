/** Captures that follow their world: seen as they come, ended by whoever ends first, and never in a run's way unasked. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { INTERFACE_BLOCK, STATISTICS_BLOCK } from '../../src/readers/capture/pcapng-blocks.ts';
import { decodePcapng } from '../unit/readers/pcapng-decoder.ts';
import { CaptureStream } from './capture-stream.ts';
import { closeServer, closeServers, smallDocument, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const T = '/v1/topologies/t1';
interface Started {
  readonly server: TestServer;
  readonly url: string;
}
async function start(recorder = { events: 1 << 16, bytes: '4MiB' }): Promise<Started> {
  const server = await startServer({ engine: null });
  assert.equal((await server.put(T, smallDocument({ recorder }))).status, 201);
  return { server, url: `${await server.listen()}${T}/capture.pcapng?follow=true` };
}
/** Starts a run and returns its address. */
async function begin(server: TestServer, kind: 'ping' | 'udp', count: number): Promise<string> {
  const { headers } = await server.post(`${T}/traffic`, { kind, from: 'a/net0', to: 'b/net0', count });
  return String(headers['location']);
}
async function run(server: TestServer, kind: 'ping' | 'udp', count: number): Promise<void> {
  const { body } = await server.get(`${await begin(server, kind, count)}?wait=60s`);
  assert.equal(body.state, 'SUCCEEDED', JSON.stringify(body));
}
/** The topology once nothing is pending any more: a run's last frame has arrived before the last descriptor is back. */
async function settled(server: TestServer) {
  while (!(await server.get(`${T}/clock`)).body.idle) await new Promise((resolve) => setTimeout(resolve, 5));
  return (await server.get(T)).body;
}
/** Waits until so many streams are open. */
async function streamsOpen(server: TestServer, wanted: number): Promise<void> {
  while (server.ringside.services.streams.used !== wanted) await new Promise((resolve) => setTimeout(resolve, 5));
}
const snapshot = async (server: TestServer, query = 'view=journey'): Promise<Buffer> =>
  (await server.get(`${T}/capture.pcapng?${query}`)).raw;

test('interfaces come at once, rows as they are recorded, statistics when the topology goes', async () => {
  const { server, url } = await start();
  const stream = await CaptureStream.open(`${url}&view=journey`);
  await stream.until(() => stream.bytes.length > 0);
  const interfaces = stream.blocks(INTERFACE_BLOCK).length;
  assert.ok(interfaces > 5, 'before anything was recorded');
  assert.equal(stream.packets, 0);
  await run(server, 'ping', 2);
  const all = decodePcapng(await snapshot(server)).packets.length;
  await stream.until(() => stream.packets === all);
  await server.delete(T);
  await stream.ended;
  assert.equal(stream.blocks(STATISTICS_BLOCK).length, stream.blocks(INTERFACE_BLOCK).length);
  assert.equal(stream.dropped, 0);
  await streamsOpen(server, 0);
});

test('metrics: how many are open, what they have sent', async () => {
  const { server, url } = await start();
  const metric = async (name: string): Promise<number> => {
    const lines = (await server.get('/metrics')).text.split('\n');
    return Number(lines.find((line) => line.startsWith(`${name} `))?.slice(name.length));
  };
  const before = await metric('ringside_live_capture_bytes_total');
  const lost = await metric('ringside_live_capture_events_lost_total');
  const stream = await CaptureStream.open(`${url}&view=journey`);
  await stream.until(() => stream.bytes.length > 0);
  assert.equal(await metric('ringside_live_captures'), 1);
  await run(server, 'ping', 2);
  await server.delete(T);
  await stream.ended;
  await streamsOpen(server, 0);
  assert.equal(await metric('ringside_live_captures'), 0);
  assert.equal((await metric('ringside_live_capture_bytes_total')) - before, stream.bytes.length);
  assert.equal(await metric('ringside_live_capture_events_lost_total'), lost);
});

test('begins with what comes, or with what is held', async () => {
  const { server, url } = await start();
  await run(server, 'ping', 3);
  const held = decodePcapng(await snapshot(server)).packets;
  const now = await CaptureStream.open(`${url}&view=journey`);
  const all = await CaptureStream.open(`${url}&view=journey&from=start`);
  await all.until(() => all.packets === held.length);
  await run(server, 'ping', 1);
  const total = decodePcapng(await snapshot(server)).packets.length;
  await all.until(() => all.packets === total);
  await now.until(() => now.packets === total - held.length);
  const rows = decodePcapng(now.bytes).packets;
  assert.ok(rows.every((row) => row.time > (held.at(-1)?.time ?? 0n)));
});

test('ends after the packets or the wall time that were asked for', async () => {
  const { server, url } = await start();
  const first = await CaptureStream.open(`${url}&view=journey&packets=7`);
  const timed = await CaptureStream.open(`${url}&duration=0.05s`);
  await timed.ended;
  assert.ok(timed.response.complete);
  assert.ok(timed.blocks(STATISTICS_BLOCK).length > 0);
  await run(server, 'udp', 100);
  await first.ended;
  assert.ok(first.response.complete);
  assert.equal(first.packets, 7);
  await streamsOpen(server, 0);
});

test('a filter, points and events are followed as well', async () => {
  const { server, url } = await start();
  const drops = await CaptureStream.open(`${url}&view=events&events=guest.deliver&packets=20`);
  const port = await CaptureStream.open(`${url}&points=br0/a.net0&packets=20`);
  await run(server, 'udp', 50);
  await Promise.all([drops.ended, port.ended]);
  assert.equal(drops.packets, 20);
  assert.ok(decodePcapng(drops.bytes).packets.every((row) => row.comments[0]?.includes(' event=guest.deliver ')));
  assert.deepEqual(
    decodePcapng(port.bytes).interfaces.map((i) => i.name),
    ['br0/a.net0'],
  );
});

test('a client that goes frees its stream and lets the world go on', async () => {
  const { server, url } = await start({ events: 1 << 14, bytes: '1MiB' });
  const blocking = await CaptureStream.open(`${url}&view=journey&slow=block`, false);
  const address = await begin(server, 'udp', 50_000);
  const clock = async () => (await server.get(`${T}/clock`)).body;
  // Until the buffers on the way to the client are full.
  let stood = await clock();
  for (let same = 0; same < 10; ) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    const now = await clock();
    same = now.waitingFor === 1 && now.virtualTimeSeconds === stood.virtualTimeSeconds ? same + 1 : 0;
    stood = now;
  }
  assert.equal((await server.get(address)).body.state, 'RUNNING');
  // Everything else is answered meanwhile, and time stands.
  assert.equal((await server.get(T)).body.state, 'RUNNING');
  assert.equal((await server.get(`${T}/guests/a/nics/net0`)).status, 200);
  assert.equal((await clock()).virtualTimeSeconds, stood.virtualTimeSeconds);
  blocking.close();
  assert.equal((await server.get(`${address}?wait=60s`)).body.state, 'SUCCEEDED');
  assert.equal((await clock()).waitingFor, 0);
  await streamsOpen(server, 0);
});

test('with slow=block a small ring loses nothing, and the run is the one that it is without', async () => {
  const recorder = { events: 1 << 14, bytes: '1MiB' };
  const free = await start(recorder);
  await run(free.server, 'udp', 5000);
  const expected = await settled(free.server);
  const { server, url } = await start(recorder);
  const stream = await CaptureStream.open(`${url}&view=journey&slow=block`);
  await run(server, 'udp', 5000);
  const body = await settled(server);
  assert.equal(body.fingerprint, expected.fingerprint);
  assert.equal(body.events, expected.events);
  await server.delete(T);
  await stream.ended;
  assert.equal(stream.dropped, 0);
  const frames = new Map<bigint, number>();
  const { packets, statistics } = decodePcapng(stream.bytes);
  for (const row of packets) frames.set(row.packetId, (frames.get(row.packetId) ?? 0) + 1);
  assert.ok(frames.size >= 5000);
  assert.equal(
    packets.length,
    statistics.reduce((sum, s) => sum + Number(s.received), 0),
  );
});

test('with slow=drop a client that does not read is in nobody’s way; what it lost is counted', async () => {
  const { server, url } = await start({ events: 1 << 14, bytes: '1MiB' });
  const lazy = await CaptureStream.open(`${url}&view=journey`, false);
  await run(server, 'udp', 20_000);
  assert.equal((await server.get(`${T}/clock`)).body.waitingFor, 0);
  lazy.resume();
  await lazy.until(() => lazy.packets > 0);
  await server.delete(T);
  await lazy.ended;
  const { packets, statistics } = decodePcapng(lazy.bytes);
  assert.ok(packets.length < 20_000 * 8);
  const comment = statistics.at(-1)?.comments[0] ?? '';
  const lost = Number(/^(\d+) events were overwritten/.exec(comment)?.[1]);
  assert.ok(lost > 50_000, comment);
});

test('a rebuilt topology and a server that stops end their streams on a whole block', async () => {
  const { server, url } = await start();
  const rebuilt = await CaptureStream.open(`${url}&view=journey`);
  await run(server, 'udp', 10);
  await server.post(`${T}/restart`);
  await rebuilt.ended;
  assert.ok(rebuilt.response.complete && rebuilt.packets > 0);
  const stopped = await CaptureStream.open(`${url}&view=journey`);
  await stopped.until(() => stopped.bytes.length > 0);
  await closeServer(server);
  await stopped.ended;
  assert.ok(stopped.blocks(INTERFACE_BLOCK).length > 5);
});

test('what only makes sense for a capture that follows is refused without', async () => {
  const { server } = await start();
  for (const query of ['slow=block', 'from=now', 'duration=1s', 'packets=5']) {
    const answer = await server.get(`${T}/capture.pcapng?${query}`);
    assert.equal(answer.status, 400, query);
    assert.equal(answer.body.errors[0].pointer, `querystring/${query.split('=')[0]}`);
  }
  for (const query of [
    'slow=maybe',
    'from=yesterday',
    'duration=soon',
    'packets=0',
    'events=nothing.*',
    'points=zz',
    'points=',
  ]) {
    const answer = await server.get(`${T}/capture.pcapng?follow=true&${query}`);
    assert.equal(answer.status, 400, query);
    assert.equal(answer.body.code, 'RINGSIDE_E_REQUEST');
    assert.equal(answer.body.errors[0].pointer, `querystring/${query.split('=')[0]}`);
  }
});

test('sixteen readers may make time wait; the next one is refused', async () => {
  const { server, url } = await start();
  const open = await Promise.all(Array.from({ length: 16 }, () => CaptureStream.open(`${url}&slow=block`)));
  const refused = await server.get(`${T}/capture.pcapng?follow=true&slow=block`);
  assert.equal(refused.status, 429);
  for (const stream of open) stream.close();
  await streamsOpen(server, 0);
  const again = await CaptureStream.open(`${url}&slow=block&duration=0.01`);
  await again.ended;
});
