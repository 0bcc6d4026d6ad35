/**
 * Random but well-formed use of the real engine over the API: no world fails, every run ends, and the conservation
 * equation holds at any moment.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { afterEach, test } from 'vitest';
import { closeServers, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const RUNS = process.env['RINGSIDE_FULL'] === undefined ? 6 : 150;

interface Step {
  readonly what: string;
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  readonly path: string;
  readonly body?: object;
}

/** Ends that send, pairs that traffic can go between, and the generators of the drivers. */
function shape(preset: string): { ends: string[]; pairs: (readonly [string, string])[]; generators: string[] } {
  if (preset === 'pvp')
    return { ends: ['eth0', 'a/net0', 'br0/eth0', 'br0/a.net0'], pairs: [['eth0', 'eth0']], generators: [] };
  const pairs = [
    ['a/net0', 'b/net0'],
    ['b/net0', 'a/net0'],
    ['br0/a.net0', 'b/net0'],
  ] as const;
  const generators = preset === 'vhost-user' ? ['txonly'] : ['socket', 'pktgen'];
  return { ends: ['a/net0', 'b/net0', 'br0/a.net0', 'br0/b.net0'], pairs: [...pairs], generators };
}

/** Frames of random bytes; some of them begin with addresses and a type that somebody listens to. */
const frame = fc
  .tuple(
    fc.constantFrom(
      '',
      'ffffffffffff5254000000010806',
      '5254000000025254000000010800',
      '5254000000015254000000020800',
      '0180c2000000525400000001',
    ),
    fc.uint8Array({ minLength: 14, maxLength: 200 }),
  )
  .map(([start, bytes]) => start + Buffer.from(bytes).toString('hex'));

function steps(preset: string): fc.Arbitrary<Step[]> {
  const { ends, pairs, generators } = shape(preset);
  const end = fc.constantFrom(...ends);
  const request = fc.record(
    {
      frameSize: fc.constantFrom(64, 65, 128, 1000, 1517, 1518),
      count: fc.constantFrom(1, 2, 33, 300, 3000),
      rate: fc.constantFrom<string | number>('max', 1, 1000, '100000/s', 1e9),
      flows: fc.constantFrom(1, 7, 65536),
      ...(generators.length === 0 ? {} : { generator: fc.constantFrom(...generators) }),
    },
    { requiredKeys: [] },
  );
  const wellFormed = fc.tuple(fc.constantFrom('udp', 'ping'), fc.constantFrom(...pairs), request);
  const traffic = fc
    .oneof(
      { weight: 5, arbitrary: wellFormed.map(([kind, [from, to], rest]) => ({ kind, from, to, ...rest })) },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constantFrom('udp', 'ping'),
          from: end,
          to: end,
          generator: fc.constantFrom('socket', 'pktgen', 'txonly'),
        }),
      },
    )
    .map((body): Step => ({ what: 'traffic', method: 'POST', path: '/traffic', body }));
  const frames = fc
    .record({ at: end, frames: fc.array(frame, { minLength: 1, maxLength: 40 }) })
    .map((body): Step => ({ what: 'frames', method: 'POST', path: '/frames', body }));
  const clock = fc
    .oneof(
      fc.constantFrom<object>(
        { state: 'PAUSED' },
        { state: 'RUNNING' },
        { step: 'event' },
        { step: 'frame' },
        { mode: 'work' },
      ),
      fc.record({ until: fc.double({ min: 0, max: 0.1, noNaN: true }) }),
      fc.record({ mode: fc.constant('real'), factor: fc.constantFrom(0.5, 1, 1000) }),
    )
    .map((body): Step => ({ what: 'clock', method: 'PUT', path: '/clock', body }));
  const cancel = fc.nat(8).map((n): Step => ({ what: 'cancel', method: 'DELETE', path: `/traffic/run-${n + 1}` }));
  const look = fc
    .oneof(
      fc.constantFrom(
        '',
        '/traffic',
        '/guests/a/nics/net0',
        '/guests/a/nics/net0/queues/tx0',
        '/bridges/br0',
        '/capture.pcapng?view=journey',
        '/events?limit=100',
        '/journeys?limit=3',
        '/journeys?outcome=dropped&format=text',
      ),
      fc.nat(300).map((id) => `/frames/${id + 1}`),
      fc.nat(300).map((id) => `/frames/${id + 1}?format=svg`),
      fc
        .tuple(fc.nat(17_000_000), fc.integer({ min: 1, max: 5000 }))
        .map(([a, n]) => `/guests/a/memory?address=${a}&length=${n}`),
    )
    .map((path): Step => ({ what: 'look', method: 'GET', path }));
  const dry = fc
    .oneof(
      fc.record({ at: end, frame }),
      wellFormed.map(([kind, [from, to]]) => ({ kind, from, to })),
    )
    .map((body): Step => ({ what: 'dry run', method: 'POST', path: '/dry-runs', body }));
  const some = fc.oneof({ weight: 3, arbitrary: traffic }, { weight: 2, arbitrary: frames }, clock, cancel, look, dry);
  return fc.array(some, { minLength: 3, maxLength: 25 });
}

async function holds(server: TestServer): Promise<void> {
  const { body } = await server.get('/v1/topologies/t1');
  assert.notEqual(body.state, 'FAILED', body.reason);
  assert.equal(body.conservation.holds, true, JSON.stringify(body.conservation));
}

test.each(['virtio-net', 'vhost-net', 'vhost-user', 'pvp'])('%s: whatever is asked of it', async (preset) => {
  const server = await startServer({ engine: null });
  const document = (await server.get(`/v1/presets/${preset}`)).body;
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 1000 }), steps(preset), async (seed, list) => {
      await server.put('/v1/topologies/t1', { ...document, seed, recorder: { events: 65_536, bytes: '1MiB' } });
      for (const { method, path, body } of list) {
        const answer = await server.request(method, `/v1/topologies/t1${path}`, body === undefined ? {} : { body });
        assert.ok(answer.status < 500, answer.text);
        await holds(server);
      }
      await server.put('/v1/topologies/t1/clock', { mode: 'work', state: 'RUNNING' });
      for (const run of (await server.get('/v1/topologies/t1/traffic')).body.items) {
        const ended = await server.get(`/v1/topologies/t1/traffic/${run.id}?wait=60s`);
        assert.ok(['SUCCEEDED', 'CANCELLED', 'FAILED'].includes(ended.body.state), ended.text);
      }
      await holds(server);
      await server.delete('/v1/topologies/t1');
    }),
    { numRuns: RUNS, endOnFailure: false },
  );
});
