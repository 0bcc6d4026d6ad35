/** Dry runs over HTTP: what would happen to a frame, and that nothing does. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { PRESETS } from '../../src/lab/presets.ts';
import { closeServers, smallDocument, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const AT = '/v1/topologies/t1';
const ARP = `ffffffffffff525400000001080600010800060400015254000000010a0000010000000000000a000002${'00'.repeat(18)}`;

async function withTopology(document: unknown, limits = {}): Promise<TestServer> {
  const server = await startServer({ engine: null, limits });
  const { status, text } = await server.put(AT, document);
  assert.equal(status, 201, text);
  return server;
}

test('a frame and the copies that flooding would make of it, before any of them exists', async () => {
  const guests = ['a', 'b', 'c'].map((name, i) => ({
    name,
    nics: [{ name: 'net0', addresses: [`10.0.0.${i + 1}/24`] }],
  }));
  const server = await withTopology(smallDocument({ hosts: [{ guests }] }));
  const { status, body, text } = await server.post(`${AT}/dry-runs`, { at: 'a/net0', frame: ARP });
  assert.equal(status, 200, text);
  assert.equal(body.ended, 'idle');
  assert.equal(body.asked, 1);
  assert.deepEqual(body.notCarriedOver, []);
  const told = body.journeys.map((j: { relation: string; journey: { parent: number | null; outcome: string } }) => [
    j.relation,
    j.journey.parent,
    j.journey.outcome,
  ]);
  // to b, to c and to the bridge's own port; b is asked for and answers
  assert.deepEqual(told, [
    ['asked', null, 'consumed'],
    ['copy', 1, 'consumed'],
    ['copy', 1, 'consumed'],
    ['other', null, 'consumed'],
  ]);
  assert.equal((await server.get(`${AT}/frames/1`)).status, 404);

  const ladder = await server.post(`${AT}/dry-runs?format=text`, { at: 'a/net0', frame: ARP });
  assert.match(ladder.text, /^Dry run at .* ids count from 1/);
  assert.match(ladder.text, /^\[asked\] frame 1, 60 bytes: consumed$/m);
  assert.match(ladder.text, /^\[copy\] frame 2, 60 bytes, a copy of frame 1: consumed$/m);
});

test('the journey that it would make, drawn', async () => {
  const server = await withTopology(smallDocument());
  const at = `${AT}/dry-runs`;
  const ask = { kind: 'udp', from: 'a/net0', to: 'b/net0' };
  const svg = await server.post(`${at}?format=svg`, ask);
  assert.equal(svg.headers['content-type'], 'image/svg+xml; charset=utf-8');
  assert.match(svg.text, /<title id="title">Journey of frame 4, 60 bytes: delivered<\/title>/);
  const mermaid = await server.post(at, ask, { accept: 'text/vnd.mermaid' });
  assert.match(mermaid.text, /^sequenceDiagram\n/);
});

test('what has been learned decides: the second datagram takes the short way', async () => {
  const server = await withTopology(smallDocument());
  const ask = { kind: 'udp', from: 'a/net0', to: 'b/net0', frameSize: 200 };
  const first = (await server.post(`${AT}/dry-runs`, ask)).body;
  const asked = (body: typeof first) => body.journeys.find((j: { relation: string }) => j.relation === 'asked').journey;
  // the ARP request, its copy to the bridge's own port, the reply, the datagram
  assert.equal(first.frames, 4);
  assert.equal(first.carriedOver.fdbEntries, 0);
  assert.ok(asked(first).hops.some((hop: { cache: string | null }) => hop.cache === 'miss'));

  const { headers } = await server.post(`${AT}/traffic`, { ...ask, count: 1 });
  await server.get(`${headers['location']}?wait=30s`);
  const again = (await server.post(`${AT}/dry-runs`, ask)).body;
  assert.equal(again.frames, 1);
  assert.equal(again.carriedOver.fdbEntries, 2);
  assert.equal(again.carriedOver.neighbours, 2);
  assert.ok(asked(again).hops.some((hop: { cache: string | null }) => hop.cache === 'hit'));

  // and that is what really happens
  const run = await server.post(`${AT}/traffic`, { ...ask, count: 1 });
  const { body } = await server.get(`${run.headers['location']}?wait=30s`);
  const real = (await server.get(`${AT}/frames/${body.frames.first}`)).body;
  assert.deepEqual({ ...asked(again), frame: real.frame }, real);
});

test('nothing changes, neither at rest nor while traffic runs', async () => {
  const server = await withTopology(smallDocument());
  const state = async () => {
    const [status, metrics, fdb, queue] = await Promise.all([
      server.get(AT),
      server.get('/metrics'),
      server.get(`${AT}/bridges/br0/fdb`),
      server.get(`${AT}/guests/a/nics/net0/queues/tx0`),
    ]);
    const own = metrics.text.split('\n').filter((line) => line.includes('topology="t1"'));
    return { status: status.body, own, fdb: fdb.body, queue: queue.body };
  };
  const rest = await state();
  assert.equal((await server.post(`${AT}/dry-runs`, { kind: 'ping', from: 'a/net0', to: 'b/net0' })).status, 200);
  assert.deepEqual(await state(), rest);

  // The same traffic with and without questions: the fingerprint is the same.
  const runs = await Promise.all(
    [true, false].map(async (asking, i) => {
      const at = `/v1/topologies/twin${i}`;
      await server.put(at, smallDocument());
      const traffic = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 150_000, flows: 3 };
      const { headers } = await server.post(`${at}/traffic`, traffic);
      for (let n = 0; asking && n < 5; n++) {
        const { status, text } = await server.post(`${at}/dry-runs`, { at: 'a/net0', frame: ARP });
        assert.equal(status, 200, text);
      }
      assert.equal((await server.get(`${headers['location']}?wait=60s`)).body.state, 'SUCCEEDED');
      const { fingerprint, virtualTimeSeconds, events } = (await server.get(at)).body;
      return { fingerprint, virtualTimeSeconds, events };
    }),
  );
  assert.deepEqual(runs[0], runs[1]);
});

test('a loop does not hang it: the frame is in flight, and why is said', async () => {
  const nic = (name: string) => ({ name, bridge: 'br0', backend: 'vhost-user', driver: 'virtio-pmd' });
  const server = await withTopology({
    hosts: [
      {
        bridges: [{ name: 'br0', datapath: 'netdev' }],
        nics: [{ name: 'eth0', bridge: 'br0' }],
        guests: [{ name: 'a', app: 'io', nics: [nic('net0'), nic('net1')] }],
      },
    ],
  });
  const { status, body } = await server.post(`${AT}/dry-runs`, { at: 'eth0', frame: ARP });
  assert.equal(status, 200);
  assert.equal(body.ended, 'events');
  assert.match(body.reason, /still went on after .* a loop/);
  assert.equal(body.journeys[0].relation, 'asked');
  assert.equal(body.journeys.length, 64);
  assert.ok(body.frames > 64);
});

test('a neighbour that does not answer: said, without waiting for it', async () => {
  const server = await withTopology(
    smallDocument({
      hosts: [
        {
          bridges: [{ name: 'br0' }, { name: 'br1' }],
          guests: ['a', 'b'].map((name, i) => ({
            name,
            nics: [{ name: 'net0', bridge: `br${i}`, addresses: [`10.0.0.${i + 1}/24`] }],
          })),
        },
      ],
    }),
  );
  const { status, body } = await server.post(`${AT}/dry-runs`, { kind: 'ping', from: 'a/net0', to: 'b/net0' });
  assert.equal(status, 200);
  assert.equal(body.asked, null);
  assert.match(body.reason, /no answer to ARP for 10\.0\.0\.2/);
  assert.ok(body.durationSeconds >= 3);
  const drawn = await server.post(`${AT}/dry-runs?format=svg`, { kind: 'ping', from: 'a/net0', to: 'b/net0' });
  assert.equal(drawn.status, 409);
  assert.match(drawn.body.detail, /no answer to ARP/);
});

test('with a clock that is paced, the frame is sent now and not when something last happened', async () => {
  const server = await withTopology(smallDocument({ clock: { mode: 'real', factor: 1000 } }));
  const booted = (await server.get(`${AT}/clock`)).body.virtualTimeSeconds;
  let before = booted;
  // a timer that is late may hold it for a moment
  while (before <= booted) before = (await server.get(`${AT}/clock`)).body.virtualTimeSeconds;
  const { body } = await server.post(`${AT}/dry-runs`, { at: 'a/net0', frame: ARP });
  assert.ok(body.virtualTimeSeconds >= before);
  assert.equal(body.ended, 'idle');
});

test('bad places and frames: problems that name the field', async () => {
  const server = await withTopology(smallDocument());
  const refused = async (body: object): Promise<[number, string]> => {
    const answer = await server.post(`${AT}/dry-runs`, body);
    return [answer.status, answer.body.errors?.[0]?.pointer];
  };
  assert.deepEqual(await refused({}), [422, '/kind']);
  assert.deepEqual(await refused({ at: 'a/net0' }), [422, '/frame']);
  assert.deepEqual(await refused({ frame: ARP }), [422, '/at']);
  assert.deepEqual(await refused({ at: 'a/net0', frame: ARP, to: 'b/net0' }), [422, '/to']);
  assert.deepEqual(await refused({ at: 'a/net0', frame: 'abc' }), [422, '/frame']);
  assert.deepEqual(await refused({ at: 'nobody/net0', frame: ARP }), [422, '/at']);
  assert.deepEqual(await refused({ kind: 'udp', from: 'a/net0', to: 'nobody' }), [422, '/to']);
  assert.deepEqual(await refused({ kind: 'tcp', from: 'a/net0', to: 'b/net0' }), [422, '/kind']);
  assert.deepEqual(await refused({ kind: 'udp', from: 'a/net0', to: 'b/net0', count: 2 }), [422, '/count']);
  assert.equal((await server.post('/v1/topologies/nobody/dry-runs', { at: 'a/net0', frame: ARP })).status, 404);
  const html = await server.post(`${AT}/dry-runs`, { at: 'a/net0', frame: ARP }, { accept: 'text/html' });
  assert.equal(html.status, 406);
});

test('a twin counts as a world: no room, no dry run', async () => {
  // Two guests of 16 MiB and small rings: one such world, and no second.
  const server = await withTopology(smallDocument(), { memory: 48 * 1024 * 1024 });
  const { status, body } = await server.post(`${AT}/dry-runs`, { at: 'a/net0', frame: ARP });
  assert.equal(status, 422);
  assert.equal(body.code, 'RINGSIDE_E_LIMIT');
});

test('so many at a time; what a twin took is given back', async () => {
  // The world, and four twins of 16 + 16 + 8 + 3 MiB.
  const server = await withTopology(smallDocument(), { memory: (33 + 4 * 44) * 1024 * 1024 });
  const ask = () => server.post(`${AT}/dry-runs`, { at: 'a/net0', frame: ARP });
  for (let round = 0; round < 2; round++) {
    const statuses = (await Promise.all(Array.from({ length: 6 }, ask))).map((answer) => answer.status);
    assert.deepEqual(statuses.sort(), [200, 200, 200, 200, 429, 429]);
  }
});

test('every preset can be asked', async () => {
  const server = await startServer({ engine: null });
  for (const preset of PRESETS) {
    await server.put(`/v1/topologies/${preset.name}`, preset.document);
    const ends: Record<string, string> = {
      compare: 'vhost-net-a/net0',
      stratovirt: 'vhost-net-a/net0',
      'two-hosts': 'h1/a/net0',
    };
    const fromWire = /^(p2p|pvp|pvvp)/.test(preset.name);
    const at = fromWire ? 'eth0' : (ends[preset.name] ?? 'a/net0');
    const { status, body, text } = await server.post(`/v1/topologies/${preset.name}/dry-runs`, { at, frame: ARP });
    assert.equal(status, 200, text);
    assert.equal(body.ended, 'idle');
    await server.delete(`/v1/topologies/${preset.name}`);
  }
});
