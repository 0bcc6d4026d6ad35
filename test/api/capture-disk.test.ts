/** Captures on disk over HTTP: what is written is what was recorded, limits hold, and nothing is left behind. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, test } from 'vitest';
import { captureChunks } from '../../src/readers/capture/capture.ts';
import { BlockWalk, PACKET_BLOCK } from '../../src/readers/capture/pcapng-blocks.ts';
import { decodePcapng } from '../unit/readers/pcapng-decoder.ts';
import {
  closeServer,
  closeServers,
  type ServerOptions,
  smallDocument,
  startServer,
  type TestServer,
  temporaryFolder,
} from './client.ts';

afterEach(closeServers);

const T = '/v1/topologies/t1';
const C = `${T}/captures`;
const RECORDER = { events: 1 << 16, bytes: '4MiB' };

async function start(recorder: object = RECORDER, options: ServerOptions = {}): Promise<TestServer> {
  const server = await startServer({ engine: null, ...options });
  assert.equal((await server.put(T, smallDocument({ recorder }))).status, 201);
  return server;
}
async function run(server: TestServer, count: number, kind = 'udp'): Promise<void> {
  const { headers } = await server.post(`${T}/traffic`, { kind, from: 'a/net0', to: 'b/net0', count });
  const { body } = await server.get(`${headers['location']}?wait=60s`);
  assert.equal(body.state, 'SUCCEEDED', JSON.stringify(body));
}
/** The topology once nothing is pending any more: a run's last frame has arrived before the last descriptor is back. */
async function settled(server: TestServer) {
  while (!(await server.get(`${T}/clock`)).body.idle) await new Promise((resolve) => setTimeout(resolve, 5));
  return (await server.get(T)).body;
}
/** Starts a capture and returns its address. */
async function capture(server: TestServer, body: object): Promise<string> {
  const answer = await server.post(C, body);
  assert.equal(answer.status, 201, answer.text);
  return String(answer.headers['location']);
}
const ENDED = ['STOPPED', 'FAILED', 'INTERRUPTED'];
async function ended(server: TestServer, address: string) {
  for (;;) {
    const { body } = await server.get(address);
    if (ENDED.includes(body.state)) return body;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
async function stop(server: TestServer, address: string) {
  const { status, body } = await server.patch(address, { state: 'STOPPED' });
  assert.equal(status, 200);
  return body;
}
const download = async (server: TestServer, address: string): Promise<Buffer> =>
  (await server.get(`${address}/capture.pcapng`)).raw;
/** Packet blocks as text, in an order that does not depend on when rows were flushed. */
function rows(file: Uint8Array): string[] {
  const walk = new BlockWalk(file);
  const out: string[] = [];
  while (walk.step()) {
    if (walk.type === PACKET_BLOCK) out.push(Buffer.from(file.subarray(walk.at, walk.end)).toString('hex'));
  }
  assert.equal(walk.end, file.length, 'whole blocks only');
  return out.sort();
}
/** A metric of captures. */
async function metric(server: TestServer, series: string): Promise<number> {
  const found = (await server.get('/metrics')).text.split('\n').find((line) => line.startsWith(`${series} `));
  return Number(found?.slice(series.length));
}

test('metrics: states, rows written, reasons of the end', async () => {
  const server = await start();
  const done = await capture(server, { name: 'done', view: 'journey', slow: 'block' });
  await capture(server, { name: 'gone', view: 'journey', slow: 'block' });
  await run(server, 100);
  await settled(server);
  assert.equal(await metric(server, 'ringside_captures{state="RECORDING"}'), 2);
  const { packets } = await stop(server, done);
  assert.ok(packets > 100);
  assert.equal((await server.delete(`${C}/gone`)).status, 204);
  assert.equal(await metric(server, 'ringside_captures{state="RECORDING"}'), 0);
  assert.equal(await metric(server, 'ringside_captures{state="STOPPED"}'), 1);
  assert.equal(await metric(server, 'ringside_captures_ended_total{reason="REQUESTED"}'), 1);
  assert.equal(await metric(server, 'ringside_captures_ended_total{reason="DELETED"}'), 1);
  assert.equal(await metric(server, 'ringside_captures_ended_total{reason="ERROR"}'), 0);
  const written = await metric(server, 'ringside_capture_packets_written_total');
  assert.ok(written >= packets && written <= 2 * packets, `${written} of ${packets}`);
  assert.equal(await metric(server, 'ringside_capture_events_lost_total'), 0);
  assert.ok((await metric(server, 'ringside_capture_disk_bytes')) > 0);
});

/** The rows that a reader in this process finds between two events. */
function rowsBetween(server: TestServer, view: 'journey' | 'events', fromEvent: number, toEvent?: number): string[] {
  const reader = server.ringside.services.registry.get('t1').heldWorld().openReader();
  const range = toEvent === undefined ? { fromEvent } : { fromEvent, toEvent };
  return rows(Buffer.concat([...captureChunks(reader, { view, ...range })]));
}

test('what was recorded is on disk, row by row; defaults are shown; stopping twice is stopping', async () => {
  const server = await start();
  await run(server, 5, 'ping');
  const answer = await server.post(C, { view: 'journey', from: 'start', slow: 'block' });
  assert.equal(answer.status, 201);
  assert.equal(answer.headers['location'], `${C}/capture-1`);
  assert.equal(answer.body.state, 'RECORDING');
  assert.equal(answer.body.stop.packets, null);
  await run(server, 2000);
  await settled(server);
  const stopped = await stop(server, `${C}/capture-1`);
  assert.equal(stopped.state, 'STOPPED');
  assert.equal(stopped.end.reason, 'REQUESTED');
  assert.deepEqual(stopped.lost, { events: 0, packets: 0 });
  assert.deepEqual(await stop(server, `${C}/capture-1`), stopped);
  const file = await download(server, `${C}/capture-1`);
  const expected = rows((await server.get(`${T}/capture.pcapng?view=journey`)).raw);
  assert.ok(expected.length > 10_000);
  assert.deepEqual(rows(file), expected);
  assert.equal(stopped.packets, expected.length);
  assert.equal(stopped.bytes, file.length);
  assert.deepEqual((await server.get(`${C}/capture-1/files`)).body.items, stopped.files);
  assert.deepEqual((await server.get(C)).body.items, [stopped]);
});

test('in a small ring slow=block loses nothing, and the run is the one that it is without a capture', async () => {
  const small = { events: 1 << 14, bytes: '1MiB' };
  const free = await start(small);
  await run(free, 10_000);
  const server = await start(small);
  const address = await capture(server, { view: 'events', slow: 'block', from: 'start', snaplen: 32 });
  await run(server, 10_000);
  const body = await settled(server);
  const expected = await settled(free);
  const stopped = await stop(server, address);
  assert.equal(body.fingerprint, expected.fingerprint);
  assert.deepEqual(stopped.lost, { events: 0, packets: 0 });
  assert.equal(stopped.packets, body.events, 'every event is a row');
  assert.ok(body.events > 4 * small.events);
});

test('with slow=drop what was lost is counted', async () => {
  const server = await start({ events: 1 << 13, bytes: '256KiB' });
  const address = await capture(server, { view: 'events' });
  await run(server, 30_000);
  const { events } = await settled(server);
  const stopped = await stop(server, address);
  assert.ok(stopped.packets < events);
  const all = stopped.packets + stopped.lost.events + stopped.lost.packets;
  assert.ok(all <= events && all > 30_000 * 10, `${all} of ${events}`);
});

test('files in a ring: the newest are kept, each is whole, all of them are one section', async () => {
  const server = await start();
  const address = await capture(server, {
    name: 'ring',
    view: 'journey',
    slow: 'block',
    file: { maxPackets: 500, maxFiles: 3, ring: true },
  });
  assert.equal(address, `${C}/ring`);
  await run(server, 1000);
  const stopped = await stop(server, address);
  assert.equal(stopped.files.length, 3);
  assert.ok(stopped.removedFiles > 10);
  const parts: string[] = [];
  for (const file of stopped.files) {
    const { raw, headers } = await server.get(`${address}/files/${file.name}`);
    assert.equal(raw.length, file.bytes);
    assert.equal(headers['accept-ranges'], 'bytes');
    assert.equal(headers['content-disposition'], `attachment; filename="t1-ring-${file.name}"`);
    const decoded = decodePcapng(raw);
    assert.equal(decoded.packets.length, file.packets);
    const ids = decoded.packets.map((p) => Number(p.packetId));
    assert.equal(Math.max(...ids), file.lastFrame);
    parts.push(...rows(raw));
  }
  assert.deepEqual(rows(await download(server, address)), parts.sort());
  const bounded = await capture(server, { view: 'journey', from: 'start', file: { maxPackets: 100, maxFiles: 2 } });
  const full = await ended(server, bounded);
  assert.equal(full.end.reason, 'FILES');
  assert.equal(full.packets, 200);
});

test('ends by itself: packets, bytes, virtual time, wall time, when nothing happens', async () => {
  const server = await start();
  const cases: [object, string][] = [
    [{ packets: 321 }, 'PACKETS'],
    [{ bytes: 20_000 }, 'BYTES'],
    [{ durationSeconds: 0.0005 }, 'DURATION'],
    [{ wallSeconds: 0.05 }, 'WALL_TIME'],
    [{ idleSeconds: 0.3 }, 'IDLE'],
  ];
  const addresses: string[] = [];
  const began = (await server.get(`${T}/clock`)).body.virtualTimeSeconds;
  for (const [condition] of cases) addresses.push(await capture(server, { view: 'journey', stop: condition }));
  await run(server, 1000);
  for (const [i, [, reason]] of cases.entries()) {
    const body = await ended(server, addresses[i] ?? '');
    assert.equal(body.end.reason, reason);
    if (reason === 'PACKETS') assert.equal(body.packets, 321);
    if (reason === 'BYTES') assert.ok(body.bytes <= 20_000 && body.bytes > 19_000);
    if (reason === 'DURATION') assert.ok(body.files[0].endSeconds <= began + 0.0005 && body.packets > 100);
    if (reason === 'IDLE') assert.ok(body.packets > 7000);
  }
});

describe('triggers', () => {
  test('view=events: exactly the events around the first that matches', async () => {
    const server = await start();
    await run(server, 300);
    const events = (await server.get(`${T}/events?events=guest.deliver&limit=1`)).text;
    const { seq } = JSON.parse(events.trim());
    const address = await capture(server, {
      view: 'events',
      from: 'start',
      trigger: { on: { events: 'guest.deliver' }, before: 40, after: 25 },
    });
    const body = await ended(server, address);
    assert.equal(body.end.reason, 'TRIGGER');
    assert.equal(body.triggered.event, seq);
    assert.equal(body.packets, 65);
    const file = await download(server, address);
    const seqs = decodePcapng(file).packets.map((p) => Number(/ seq=(\d+)/.exec(p.comments[0] ?? '')?.[1]));
    assert.deepEqual(
      seqs.sort((a, b) => a - b),
      Array.from({ length: 65 }, (_, i) => seq - 40 + i),
    );
    assert.deepEqual(rows(file), rowsBetween(server, 'events', seq - 40, seq + 25));
  });

  test('view=journey, before it happens: waits, then writes the rows of just these events', async () => {
    const server = await start();
    await run(server, 2, 'ping');
    const address = await capture(server, {
      view: 'journey',
      slow: 'block',
      trigger: { on: { role: 'delivered', places: 'b/*' }, before: 500, after: 300 },
    });
    assert.equal((await server.get(address)).body.state, 'WAITING');
    assert.equal((await server.get(`${address}/capture.pcapng`)).status, 404);
    await run(server, 200);
    const body = await ended(server, address);
    assert.equal(body.end.reason, 'TRIGGER');
    const at = body.triggered.event;
    const expected = rowsBetween(server, 'journey', at - 500, at + 300);
    assert.ok(expected.length > 50 && body.packets === expected.length);
    assert.deepEqual(rows(await download(server, address)), expected);
  });

  test('the first drop by a reason, in a ring that turns; stopped while it waits there is no file', async () => {
    const server = await start({ events: 1 << 15, bytes: '1MiB' });
    const on = { role: 'dropped', events: 'guest.no_socket' };
    const waiting = await capture(server, { view: 'events', slow: 'block', trigger: { on, before: 100 } });
    await run(server, 5000);
    assert.equal((await server.get(waiting)).body.state, 'WAITING');
    const stopped = await stop(server, waiting);
    assert.deepEqual([stopped.files, stopped.triggered, stopped.lost.events], [[], null, 0]);
  });
});

test('rows of a frame: while it is written, and after', async () => {
  const server = await start();
  const address = await capture(server, { view: 'journey', slow: 'block' });
  await run(server, 3000);
  const reader = rowsOfFrame((await server.get(`${T}/capture.pcapng?view=journey&frame=1500`)).raw);
  for (;;) {
    const { body, status } = await server.get(`${address}/frames/1500`);
    if (status === 200 && body.hops.length === reader.length) break;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await stop(server, address);
  const { body } = await server.get(`${address}/frames/1500`);
  assert.deepEqual(
    body.hops.map((hop: { place: string; ns: number }) => `${hop.place} ${hop.ns}`),
    reader,
  );
  assert.equal((await server.get(`${address}/frames/999999`)).status, 404);
  assert.equal((await server.get(`${address}/frames/0`)).status, 400);
});
function rowsOfFrame(file: Buffer): string[] {
  return decodePcapng(file).packets.map((p) => {
    const [, place, ns] = / hop=(\S+) .* ns=(\d+) /.exec(`${p.comments[0]} `) ?? [];
    return `${place} ${ns}`;
  });
}

test('a part of a file', async () => {
  const server = await start();
  const address = await capture(server, { view: 'journey', stop: { packets: 50 } });
  await run(server, 50);
  const { files } = await ended(server, address);
  const url = `${address}/files/${files[0].name}`;
  const whole = (await server.get(url)).raw;
  const part = async (range: string) => await server.get(url, { headers: { range } });
  for (const [range, from, to] of [
    ['bytes=0-3', 0, 4],
    ['bytes=100-', 100, whole.length],
    ['bytes=-7', whole.length - 7, whole.length],
    ['bytes=5-99999999', 5, whole.length],
  ] as const) {
    const answer = await part(range);
    assert.equal(answer.status, 206, range);
    assert.deepEqual(answer.raw, whole.subarray(from, to));
    assert.equal(answer.headers['content-range'], `bytes ${from}-${to - 1}/${whole.length}`);
  }
  for (const range of ['bytes=5-2', 'lines=1-2', 'bytes=1-2,4-5', 'bytes=-'])
    assert.equal((await part(range)).status, 200);
  const outside = await part(`bytes=${whole.length}-`);
  assert.equal(outside.status, 416);
  assert.equal(outside.headers['content-range'], `bytes */${whole.length}`);
});

test('requests that cannot be: each names the field', async () => {
  const server = await start();
  const cases: [object, string][] = [
    [{ view: 'all' }, '/view'],
    [{ colour: 1 }, '/colour'],
    [{ points: ['nowhere'] }, '/points'],
    [{ points: [] }, '/points'],
    [{ filter: { events: 'nothing.*' } }, '/filter/events'],
    [{ filter: { kind: 'x' } }, '/filter/kind'],
    [{ file: { maxBytes: 5 } }, '/file/maxBytes'],
    [{ file: { ring: true } }, '/file/ring'],
    [{ stop: { packets: 0 } }, '/stop/packets'],
    [{ trigger: {} }, '/trigger/on'],
    [{ trigger: { on: {} } }, '/trigger/on'],
    [{ trigger: { on: { role: 'lost' } } }, '/trigger/on/role'],
    [{ trigger: { on: { role: 'dropped' }, before: 1 << 16 } }, '/trigger/before'],
    [{ name: '../up' }, '/name'],
    [{ name: 'capture-7' }, '/name'],
  ];
  for (const [body, pointer] of cases) {
    const answer = await server.post(C, body);
    assert.equal(answer.status, 422, JSON.stringify(body));
    assert.ok(
      answer.body.errors.some((e: { pointer: string }) => e.pointer === pointer),
      `${JSON.stringify(body)}: ${answer.text}`,
    );
  }
  // Fields that may be null as well say what is wrong with the value, and say it once.
  for (const [body, pointer, detail] of [
    [{ stop: { packets: 0 } }, '/stop/packets', 'must be >= 1'],
    [{ trigger: { on: { role: 'dropped' }, after: 0 } }, '/trigger/after', 'must be >= 1'],
    [{ file: { maxFiles: 'many' } }, '/file/maxFiles', 'must be integer'],
  ] as const) {
    const { errors } = (await server.post(C, body)).body;
    assert.deepEqual([errors.length, errors[0].pointer, errors[0].detail], [1, pointer, detail]);
  }
  const named = (await server.post(C, { name: 'First Drop' })).body.errors[0];
  assert.match(named.expected, /lower-case/);
  assert.equal((await server.get(C)).body.items.length, 0);
  await capture(server, { name: 'one' });
  assert.equal((await server.post(C, { name: 'one' })).body.code, 'RINGSIDE_E_EXISTS');
  assert.equal((await server.post('/v1/topologies/none/captures', {})).status, 404);
  for (const path of ['two', 'two/files', 'two/capture.pcapng', 'one/files/00009.pcapng', 'one/frames/5'])
    assert.equal((await server.get(`${C}/${path}`)).status, 404, path);
  for (const file of ['..%2f..%2fringside.sqlite', '00001.pcapng.idx'])
    assert.equal((await server.get(`${C}/one/files/${file}`)).status, 404);
  assert.equal((await server.patch(`${C}/one`, { state: 'RECORDING' })).status, 422);
  assert.equal((await server.patch(`${C}/two`, { state: 'STOPPED' })).status, 404);
  assert.equal((await server.delete(`${C}/two`)).status, 404);
});

test('limits: captures at a time, bytes of all of them; what is deleted makes room', async () => {
  const server = await start(RECORDER, { limits: { captures: 2, captureDisk: 300_000 } });
  const first = await capture(server, { view: 'journey' });
  await capture(server, { view: 'wire' });
  assert.equal((await server.post(C, {})).body.code, 'RINGSIDE_E_TOO_MANY');
  await run(server, 2000);
  const full = await ended(server, first);
  assert.equal(full.end.reason, 'DISK_LIMIT');
  assert.ok(full.bytes <= 300_000);
  assert.equal(rows(await download(server, first)).length, full.packets);
  assert.equal((await server.delete(first)).status, 204);
  const next = await capture(server, { view: 'journey', from: 'start', stop: { packets: 100 } });
  assert.equal((await ended(server, next)).end.reason, 'PACKETS');
});

test('after a restart everything is there; a topology takes its captures with it, a rebuild keeps them', async () => {
  const dataDir = temporaryFolder();
  const server = await start(RECORDER, { settings: { dataDir } });
  const address = await capture(server, { view: 'journey', stop: { packets: 300 }, file: { maxPackets: 100 } });
  await capture(server, { name: 'running', view: 'journey' });
  await run(server, 500);
  const before = await ended(server, address);
  const file = await download(server, address);
  while ((await server.get(`${C}/running`)).body.packets < 3000)
    await new Promise((resolve) => setTimeout(resolve, 10));
  await closeServer(server);

  const again = await startServer({ engine: null, settings: { dataDir } });
  assert.deepEqual((await again.get(address)).body, before);
  assert.deepEqual(await download(again, address), file);
  const running = (await again.get(`${C}/running`)).body;
  assert.equal(running.state, 'STOPPED');
  assert.equal(running.end.reason, 'SERVER_STOPPED');
  assert.equal(rows(await download(again, `${C}/running`)).length, running.packets);
  assert.ok(running.packets >= 3000);
  const third = await capture(again, { view: 'journey' });
  assert.equal(third, `${C}/capture-3`);
  await run(again, 10);
  await again.post(`${T}/restart`);
  const rebuilt = await ended(again, third);
  assert.equal(rebuilt.end.reason, 'WORLD_ENDED');
  assert.ok(rebuilt.packets > 50);
  assert.ok(existsSync(join(dataDir, 'captures', 't1', 'capture-3')));
  await capture(again, { view: 'journey' });
  await again.delete(T);
  assert.deepEqual(readdirSync(join(dataDir, 'captures')), []);
  await again.put(T, smallDocument());
  assert.deepEqual((await again.get(C)).body.items, []);
});

test('nothing is left open: descriptors, threads, holds', async () => {
  const server = await start();
  const descriptors = (): number => readdirSync('/proc/self/fd').length;
  const threads = (): number => readdirSync('/proc/self/task').length;
  const once = async (): Promise<void> => {
    const address = await capture(server, { view: 'journey', slow: 'block', file: { maxPackets: 50 } });
    await run(server, 50);
    await stop(server, address);
    await download(server, address);
    await server.get(`${address}/frames/10`);
    await server.delete(address);
  };
  await once();
  const before = { descriptors: descriptors(), threads: threads() };
  for (let i = 0; i < 5; i++) await once();
  assert.ok(descriptors() <= before.descriptors, `${descriptors()} of ${before.descriptors}`);
  assert.ok(threads() <= before.threads, `${threads()} of ${before.threads}`);
  const world = server.ringside.services.registry.get('t1').livingWorld();
  const holds = Array.from({ length: 16 }, () => world.takeHold());
  for (const hold of holds) hold.release();
  assert.equal(server.ringside.services.captures.writing, 0);
});
