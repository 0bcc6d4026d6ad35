/**
 * A topology that gains places and contexts while readers are open: NICs go to another bridge and back-end under PATCH, and
 * streams, captures, metrics and journeys follow.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { BlockWalk, INTERFACE_BLOCK, PACKET_BLOCK } from '../../src/readers/capture/pcapng-blocks.ts';
import { parseExposition } from '../tools/exposition.ts';
import { type Decoded, decodePcapng } from '../unit/readers/pcapng-decoder.ts';
import { CaptureStream } from './capture-stream.ts';
import { closeServers, startServer, type TestServer } from './client.ts';
import { EventClient } from './event-client.ts';

afterEach(closeServers);

const T = '/v1/topologies/t1';
const NEW_PLACES = [
  'a/net0/virtio-net',
  'b/net0/virtio-net',
  'br2/a.net0',
  'br2/a.net0/tap',
  'br2/b.net0',
  'br2/b.net0/tap',
];

async function start(): Promise<TestServer> {
  const server = await startServer({ engine: null });
  const guests = ['a', 'b'].map((name, i) => ({
    name,
    nics: [{ name: 'net0', bridge: 'br0', addresses: [`10.0.0.${i + 1}/24`] }],
  }));
  const hosts = [{ bridges: [{ name: 'br0' }, { name: 'br2' }], guests }];
  const created = await server.put(T, { recorder: { events: 1 << 16, bytes: '4MiB' }, hosts });
  assert.equal(created.body.state, 'RUNNING', created.text);
  return server;
}
async function run(server: TestServer, count: number, kind = 'ping') {
  const { headers } = await server.post(`${T}/traffic`, { kind, from: 'a/net0', to: 'b/net0', count });
  const { body } = await server.get(`${headers['location']}?wait=60s`);
  assert.equal(body.state, 'SUCCEEDED', JSON.stringify(body));
  return body;
}
/** Both NICs go to the other bridge, served by QEMU itself. */
async function move(server: TestServer, change: object = { backend: 'virtio-net', bridge: 'br2' }): Promise<void> {
  for (const guest of ['a', 'b']) {
    const { status, text } = await server.patch(`${T}/guests/${guest}/nics/net0`, change);
    assert.equal(status, 200, text);
  }
}
async function settled(server: TestServer): Promise<void> {
  while (!(await server.get(`${T}/clock`)).body.idle) await new Promise((resolve) => setTimeout(resolve, 5));
}
const nameOf = (file: Decoded, packet: Decoded['packets'][number]): string => file.interfaces[packet.interfaceId]!.name;
/** Each row is at an interface that was described before it. */
function checkOrder(file: Uint8Array): void {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const walk = new BlockWalk(file);
  let interfaces = 0;
  while (walk.step()) {
    if (walk.type === INTERFACE_BLOCK) interfaces++;
    if (walk.type === PACKET_BLOCK) assert.ok(view.getUint32(walk.at + 8, true) < interfaces);
  }
  assert.equal(walk.end, file.length);
}

test('event streams that are open learn the names, in every form, and filters choose among them', async () => {
  const server = await start();
  const url = `${(await server.listen()).replace('http', 'ws')}${T}/events?after=-1`;
  const clients = ['ringside.v1+json', 'ringside.v1+binary'].map((p) => new EventClient(url, { protocols: [p] }));
  const ports = new EventClient(`${url}&places=br*/*&events=dp.*`);
  for (const client of [...clients, ports]) await client.message('hello');
  await run(server, 2);
  await move(server);
  await run(server, 3);
  await settled(server);
  const lines = (await server.get(`${T}/events`)).text.trimEnd().split('\n');
  const expected = lines.map((line) => JSON.parse(line));
  for (const event of expected) assert.ok(event.place !== null && event.context !== null);
  for (const client of clients) {
    await client.until(() => client.events.length >= expected.length);
    assert.deepEqual(client.events, expected);
    const gained = client.messages.filter((m) => m.type === 'names').flatMap((m) => m.places.map((p) => p.name));
    assert.deepEqual(gained.sort(), NEW_PLACES);
    client.socket.close();
  }
  const outputs = expected.filter((e) => /^br\d\//.test(e.place) && e.event.startsWith('dp.'));
  assert.ok(outputs.some((e) => e.place === 'br2/b.net0' && e.event === 'dp.output'));
  assert.ok(outputs.some((e) => e.event === 'dp.port_add') && outputs.some((e) => e.event === 'dp.port_del'));
  await ports.until(() => ports.events.length >= outputs.length);
  assert.deepEqual(ports.events, outputs);
  ports.socket.close();
});

test('a capture that follows describes interfaces when they come', async () => {
  const server = await start();
  const base = `${await server.listen()}${T}/capture.pcapng?follow=true&from=start`;
  const journey = await CaptureStream.open(`${base}&view=journey`);
  const wire = await CaptureStream.open(base);
  const points = await CaptureStream.open(`${base}&points=br*/a.net0`);
  const events = await CaptureStream.open(`${base}&view=events`);
  await run(server, 2);
  await journey.until(() => journey.packets > 0);
  await move(server);
  await run(server, 3);
  await settled(server);
  const snapshot = decodePcapng((await server.get(`${T}/capture.pcapng?view=journey`)).raw);
  await journey.until(() => journey.packets === snapshot.packets.length);
  await server.delete(T);
  for (const stream of [journey, wire, points, events]) {
    await stream.ended;
    checkOrder(stream.bytes);
  }
  const said = decodePcapng(journey.bytes);
  const late = said.interfaces.map((i) => i.name).filter((name) => NEW_PLACES.includes(name));
  assert.deepEqual(late.sort(), ['br2/a.net0', 'br2/a.net0/tap', 'br2/b.net0', 'br2/b.net0/tap']);
  const rows = (file: Decoded): string[] =>
    file.packets.map((p) => `${nameOf(file, p)} ${p.packetId} ${p.comments}`).sort();
  assert.deepEqual(rows(said), rows(snapshot));
  const names = (stream: CaptureStream): string[] => {
    const file = decodePcapng(stream.bytes);
    return [...new Set(file.packets.map((packet) => nameOf(file, packet)))].sort();
  };
  assert.deepEqual(names(wire), ['br0/a.net0', 'br0/b.net0', 'br2/a.net0', 'br2/b.net0']);
  assert.deepEqual(names(points), ['br0/a.net0', 'br2/a.net0']);
  for (const place of NEW_PLACES) assert.ok(names(events).includes(place), place);
});

test('a capture on disk follows, from file to file', async () => {
  const server = await start();
  const asked = { view: 'journey', slow: 'block', from: 'start', file: { maxPackets: 60 } };
  const { status, text, headers } = await server.post(`${T}/captures`, asked);
  assert.equal(status, 201, text);
  const address = String(headers['location']);
  await run(server, 4);
  await move(server);
  await run(server, 4);
  await settled(server);
  const snapshot = decodePcapng((await server.get(`${T}/capture.pcapng?view=journey`)).raw);
  const stopped = await server.patch(address, { state: 'STOPPED' });
  assert.equal(stopped.body.packets, snapshot.packets.length, stopped.text);
  assert.ok(stopped.body.files.length > 2);
  let packets = 0;
  const seen = new Set<string>();
  for (const { name } of stopped.body.files) {
    const { raw } = await server.get(`${address}/files/${name}`);
    checkOrder(raw);
    const file = decodePcapng(raw);
    packets += file.packets.length;
    for (const packet of file.packets) seen.add(nameOf(file, packet));
  }
  assert.equal(packets, snapshot.packets.length);
  assert.ok(seen.has('br2/b.net0/tap'));
});

test('metrics: new series begin at 0, old ones keep what they counted, none is there twice', async () => {
  const server = await start();
  await run(server, 5);
  const scrape = async () => parseExposition((await server.get('/metrics')).text, 'prometheus').samples;
  const before = await scrape();
  const at = (place: string, samples: ReadonlyMap<string, number>): number[] =>
    [...samples]
      .filter(([name]) => /^ringside_\w+_total\{/.test(name) && name.includes(`place="${place}"`))
      .map(([, n]) => n);
  const old = at('br0/b.net0', before);
  assert.ok(old.some((n) => n > 0));
  assert.deepEqual(at('br2/b.net0', before), []);
  await move(server);
  const between = await scrape();
  const first = at('br2/b.net0', between);
  assert.equal(first.length, old.length);
  // what the guests announce
  for (const n of first) assert.ok(n < 1000, `${n}`);
  await run(server, 5);
  const after = await scrape();
  const left = at('br0/b.net0', between);
  assert.deepEqual(at('br0/b.net0', after), left);
  for (const [i, n] of left.entries()) assert.ok(n >= old[i]!);
  for (const [i, n] of at('br2/b.net0', after).entries()) assert.ok(n >= first[i]!);
  assert.notDeepEqual(at('br2/b.net0', after), first);
  assert.equal(after.get('ringside_conservation_holds{topology="t1"}'), 1);
  const traffic = 'ringside_traffic_seconds_total{topology="t1",backend=';
  assert.ok(after.get(`${traffic}"virtio-net"}`)! > 0);
  assert.equal(after.get(`${traffic}"vhost-net"}`), before.get(`${traffic}"vhost-net"}`));
});

test('journeys, capture points, dry runs, timelines, runs that are under way', async () => {
  const server = await start();
  await run(server, 2);
  await move(server);
  const { frames, contexts } = await run(server, 50, 'udp');
  assert.ok(contexts.some((c: { name: string }) => c.name === 'qemu-a'));
  const journey = await server.get(`${T}/frames/${frames.first}`);
  const places = journey.body.hops.map((hop: { place: string }) => hop.place);
  assert.ok(places.includes('br2/a.net0') && places.includes('br2/b.net0/tap'), places.join(' '));
  const points = (await server.get(`${T}/points?limit=100`)).body;
  const items: { name: string; retired?: boolean; backend?: string }[] = points.items;
  assert.deepEqual(
    items.flatMap((p) => (p.retired ? [p.name] : [])),
    ['br0/a.net0/tap', 'br0/b.net0/tap', 'br0/a.net0', 'br0/b.net0'],
  );
  assert.equal(items.find((p) => p.name === 'a/net0/tx0')?.backend, 'virtio-net');
  const dry = await server.post(`${T}/dry-runs`, { kind: 'udp', from: 'a/net0', to: 'b/net0' });
  assert.equal(dry.status, 200, dry.text);
  assert.match(dry.text, /br2\/b\.net0/);
  const status = (await server.get(T)).body;
  assert.ok(status.conservation.holds);
});

test('a run that is under way goes on, and its result and timeline have both ways', async () => {
  const server = await start();
  await run(server, 1);
  const asked = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 60_000, rate: 100_000 };
  const { headers } = await server.post(`${T}/traffic`, asked);
  const address = String(headers['location']);
  while ((await server.get(address)).body.sent === 0);
  await move(server);
  const { body } = await server.get(`${address}?wait=60s`);
  assert.equal(body.state, 'SUCCEEDED', JSON.stringify(body));
  assert.equal(body.sent, 60_000);
  const names: string[] = body.contexts.map((c: { name: string }) => c.name);
  assert.ok(names.includes('qemu-b') && names.some((n) => n.startsWith('vhost-')), names.join(' '));
  const timeline = await server.get(`${address}/timeline`);
  assert.equal(timeline.status, 200, timeline.text);
  for (const place of ['br0/b.net0', 'br2/b.net0']) assert.ok(timeline.text.includes(place), place);
  assert.ok((await server.get(T)).body.conservation.holds);
});
