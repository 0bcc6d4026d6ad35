/** /v1/experiments: what is started, followed, summed up, reused, cancelled, and taken up again after a restart. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { parseExposition } from '../tools/exposition.ts';
import {
  closeServer,
  closeServers,
  type ServerOptions,
  startServer,
  type TestServer,
  temporaryFolder,
} from './client.ts';
import { InlineQueue } from './inline-queue.ts';

afterEach(closeServers);

const BACKEND = '/topology/hosts/0/guests/*/nics/*/backend';
const FPS = '/runs/0/virtual/framesPerSecond';
const COPIES = '/runs/0/perFrame/copies';

function experiment(change: object = {}): object {
  const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 40 };
  return {
    name: 'backends',
    template: { topology: { preset: 'vhost-net' }, traffic: [udp] },
    axes: [
      { name: 'backend', pointer: BACKEND, values: ['virtio-net', 'vhost-net'] },
      { pointers: ['/traffic/0/frameSize'], values: [64, 1518] },
    ],
    repetitions: 2,
    ...change,
  };
}

interface Started {
  readonly server: TestServer;
  readonly queue: () => InlineQueue;
}
async function start(options: ServerOptions = {}, held = false): Promise<Started> {
  let made: InlineQueue | null = null;
  const server = await startServer({
    ...options,
    queue: (listener) => {
      made = new InlineQueue(listener);
      made.held = held;
      return made;
    },
  });
  return { server, queue: () => made! };
}
async function finished(server: TestServer, body: object) {
  const posted = await server.post('/v1/experiments', body);
  assert.equal(posted.status, 201, posted.text);
  return (await server.get(`${posted.headers['location']}?wait=120s`)).body;
}

test('every combination is run as often as asked for, and each run can be looked at', async () => {
  const { server, queue } = await start();
  const body = await finished(server, experiment());
  assert.equal(body.state, 'SUCCEEDED', JSON.stringify(body));
  assert.equal(body.progress, 1);
  assert.deepEqual([body.combinations, body.runs.total, body.runs.succeeded, body.etaSeconds], [4, 8, 8, null]);
  assert.equal(new Set(queue().ran).size, 8);

  const { items } = (await server.get(`/v1/experiments/${body.id}/runs?limit=3&cursor=Mw`)).body;
  assert.deepEqual(items[0].values, { backend: 'virtio-net', frameSize: 1518 });
  assert.deepEqual([items[0].run, items[0].repetition, items[0].seed, items[1].seed], [3, 1, 1, 2]);
  const run = (await server.get(`/v1/experiments/${body.id}/runs/3`)).body;
  assert.equal(run.result.runs[0].received, 40);
  assert.equal(run.metrics[FPS], run.result.runs[0].virtual.framesPerSecond);
  assert.equal(run.job.topology.hosts[0].guests[0].nics[0].backend, 'virtio-net');
  assert.equal(run.digest, items[0].digest);
  // The job of a run is all that its result depends on: it runs as an experiment of its own, to the same result.
  const { topology, traffic } = run.job;
  const again = await finished(server, { template: { topology, traffic } });
  assert.equal(again.runs.reused, 1);
  assert.equal((await server.get(`/v1/experiments/${again.id}/runs/1`)).body.digest, run.digest);
});

test('means by axis and by combination, and CSV with the same numbers', async () => {
  const { server } = await start();
  const { id } = await finished(server, experiment());
  const summary = (await server.get(`/v1/experiments/${id}/summary?metrics=${FPS},${COPIES}`)).body;
  assert.equal(summary.complete, true);
  assert.equal(summary.combinations.length, 4);
  const [backend, frameSize] = summary.axes;
  assert.deepEqual([backend.axis, frameSize.axis], ['backend', 'frameSize']);
  const [virtio, vhost] = backend.values;
  assert.deepEqual([virtio.value, vhost.value, virtio.runs], ['virtio-net', 'vhost-net', 4]);
  assert.ok(virtio.metrics[COPIES].mean > vhost.metrics[COPIES].mean);
  assert.ok(virtio.metrics[FPS].maximum >= virtio.metrics[FPS].mean);
  assert.equal(vhost.metrics[FPS].n, 4);
  assert.ok(vhost.metrics[FPS].halfWidth >= 0);

  const csv = await server.get(`/v1/experiments/${id}/results.csv?metrics=${FPS}`);
  assert.equal(csv.headers['content-type'], 'text/csv; charset=utf-8');
  const lines = csv.text.trimEnd().split('\r\n');
  assert.equal(
    lines[0],
    `run,combination,repetition,seed,state,reused,digest,wallSeconds,problem,backend,frameSize,${FPS}`,
  );
  assert.equal(lines.length, 9);
  const ofVhost = lines
    .slice(1)
    .map((line) => line.split(','))
    .filter((fields) => fields[9] === 'vhost-net');
  const mean = ofVhost.reduce((sum, fields) => sum + Number(fields[11]), 0) / ofVhost.length;
  assert.ok(Math.abs(mean / vhost.metrics[FPS].mean - 1) < 1e-9);

  const unknown = await server.get(`/v1/experiments/${id}/summary?metrics=/runs/0/nothing`);
  assert.equal(unknown.status, 400);
  assert.match(unknown.body.errors[0].detail, /no result has a number at/);
});

test('a metric that is asked for twice is told once', async () => {
  const { server } = await start();
  const { id } = await finished(server, experiment({ axes: [], repetitions: 1 }));
  const summary = await server.get(`/v1/experiments/${id}/summary?metrics=${FPS},${FPS},${COPIES}`);
  assert.deepEqual(summary.body.metrics, [FPS, COPIES]);
});

test('what measurements and runs come to is what the API document says', async () => {
  const { server } = await start();
  const document = (await server.get('/openapi.json')).body as {
    components: { schemas: Record<string, { properties: Record<string, unknown>; additionalProperties: boolean }> };
  };
  const { Rfc2544Result, JobResult, ExperimentRunDetail } = document.components.schemas;
  const text = JSON.stringify([JobResult?.properties['rfc2544'], ExperimentRunDetail?.properties['result']]);
  assert.match(text, /"#\/components\/schemas\/Rfc2544Result".*"#\/components\/schemas\/JobResult"/);
  // a field that it does not know fails the checks of this file's client
  assert.deepEqual([Rfc2544Result?.additionalProperties, JobResult?.additionalProperties], [false, false]);
  const traffic = [{ kind: 'udp', from: 'eth0', to: 'eth1' }];
  const tests = ['throughput', 'latency', 'loss', 'back-to-back'];
  const coarse = { resolution: 0.5, lossStep: 0.5, longestBurst: 16, duration: '1ms' };
  const measure = { kind: 'rfc2544', tests, frameSizes: [64, 1518], ...coarse };
  const whole = await finished(server, {
    template: { topology: { preset: 'p2p' }, traffic, measure },
    axes: [{ pointer: '/measure/maxRate', values: [1e6, 1e9] }],
  });
  assert.equal(whole.state, 'SUCCEEDED', JSON.stringify(whole));
  const { result } = (await server.get(`/v1/experiments/${whole.id}/runs/2`)).body;
  assert.deepEqual(Object.keys(result.rfc2544.sizes[1]), [
    ...['frameSize', 'maxFramesPerSecond', 'throughput', 'latency', 'loss', 'backToBack'],
  ]);
  // a mix of sizes has no one size, and a test that was not asked for is left out; without loss nothing failed
  const mix = await finished(server, {
    template: {
      topology: { preset: 'p2p' },
      traffic: [{ ...traffic[0], imix: 'simple' }],
      measure: { kind: 'rfc2544', duration: '1ms', maxRate: 100_000 },
    },
  });
  const { items } = (await server.get(`/v1/experiments/${mix.id}/results`)).body;
  const [size] = items[0].result.rfc2544.sizes;
  assert.deepEqual([size.frameSize, size.throughput.failedFramesPerSecond, size.loss], [null, null, undefined]);
  // tests in which something changes while streams send: with an answer, and where no rate passes (bursts that never fit)
  const pvp = {
    topology: { preset: 'pvp' },
    traffic: [{ kind: 'udp', from: 'eth0', to: 'eth0' }],
    measure: { kind: 'rfc2544', tests: ['recovery', 'reset'], reset: { nic: 'a/net0' }, maxFrames: 20_000, ...coarse },
  };
  const changing = await finished(server, {
    template: pvp,
    axes: [{ pointer: '/traffic/0/burst', values: [1, 2500] }],
  });
  assert.equal(changing.state, 'SUCCEEDED', JSON.stringify(changing));
  const answers = (await server.get(`/v1/experiments/${changing.id}/results`)).body.items.map(
    (item: { result: { rfc2544: { sizes: { recovery: { seconds: number }; reset: { seconds: number } }[] } } }) =>
      item.result.rfc2544.sizes[0],
  );
  assert.ok(answers[0].reset.seconds > 1e-3 && answers[0].recovery.seconds !== null, JSON.stringify(answers));
  assert.deepEqual([answers[1].recovery, answers[1].reset], [null, null]);
  const { reset: _, ...without } = pvp.measure;
  const refused = await server.post('/v1/experiments', { template: { ...pvp, measure: without } });
  assert.deepEqual([refused.status, refused.body.errors[0].pointer], [422, '/template/measure/reset']);
  // runs of connections, and one that fails
  const ends = { from: 'a/net0', to: 'b/net0' };
  for (const request of [
    { kind: 'tcp_rr', ...ends, transactions: 5 },
    { kind: 'udp_rr', ...ends, transactions: 5 },
    { kind: 'udp', ...ends, generator: 'txonly', count: 5 },
  ]) {
    const { id } = await finished(server, { template: { topology: { preset: 'vhost-user' }, traffic: [request] } });
    const run = (await server.get(`/v1/experiments/${id}/runs/1`)).body;
    assert.equal(run.result?.runs.length, 1, JSON.stringify(run));
  }
  const loop = await finished(server, {
    template: { topology: { preset: 'vhost-net' }, traffic: [{ kind: 'udp', ...ends, count: 5000 }] },
    limits: { events: 2000 },
  });
  const failed = (await server.get(`/v1/experiments/${loop.id}/runs/1`)).body;
  assert.deepEqual([failed.result.state, failed.result.conservation], ['FAILED', null]);
});

test('results as JSON and as lines of JSON', async () => {
  const { server } = await start();
  const { id } = await finished(server, experiment({ axes: [], repetitions: 3 }));
  const whole = (await server.get(`/v1/experiments/${id}/results`)).body;
  const lines = await server.get(`/v1/experiments/${id}/results`, { headers: { accept: 'application/x-ndjson' } });
  const parsed = lines.text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  assert.deepEqual(parsed, whole.items);
  assert.deepEqual(
    whole.items.map((item: { seed: number; result: { seed: number } }) => [item.seed, item.result.seed]),
    [
      [1, 1],
      [2, 2],
      [3, 3],
    ],
  );
});

test('equal jobs are run once, whichever experiment asks', async () => {
  const { server, queue } = await start({}, true);
  const first = await server.post('/v1/experiments', experiment());
  const second = await server.post('/v1/experiments', experiment({ repetitions: 3, name: 'more' }));
  queue().release();
  const one = (await server.get(`${first.headers['location']}?wait=120s`)).body;
  const two = (await server.get(`${second.headers['location']}?wait=120s`)).body;
  assert.deepEqual([one.state, two.state], ['SUCCEEDED', 'SUCCEEDED']);
  assert.equal(queue().ran.length, 12);
  assert.equal(one.runs.reused + two.runs.reused, 8);
  // What one experiment leaves behind is there for the other.
  assert.equal((await server.delete(`/v1/experiments/${one.id}`)).status, 204);
  assert.equal((await server.get(`/v1/experiments/${one.id}`)).status, 404);
  assert.equal((await server.get(`/v1/experiments/${two.id}/runs/1`)).body.result.state, 'SUCCEEDED');
  const third = await finished(server, experiment());
  assert.equal(third.runs.reused, 8);
  assert.equal(queue().ran.length, 12);
});

test('a combination ends when it is precise enough', async () => {
  const { server, queue } = await start();
  const precision = { metric: FPS, relative: 0.5, minimum: 3 };
  const body = await finished(server, experiment({ repetitions: 1000, precision }));
  assert.equal(body.state, 'SUCCEEDED');
  assert.deepEqual([body.runs.succeeded, body.runs.notNeeded], [12, 3988]);
  assert.ok(queue().ran.length < 60, `${queue().ran.length}`);
  const summary = (await server.get(`/v1/experiments/${body.id}/summary?metrics=${FPS}`)).body;
  assert.deepEqual(
    summary.combinations.map((row: { runs: number }) => row.runs),
    [3, 3, 3, 3],
  );
  const left = (await server.get(`/v1/experiments/${body.id}/runs?state=NOT_NEEDED&limit=2`)).body;
  assert.deepEqual(
    left.items.map((item: { run: number }) => item.run),
    [4, 5],
  );
});

test('a precision of a number that no result has is told of', async () => {
  const { server } = await start();
  const precision = { metric: '/runs/0/nothing', relative: 0.5, minimum: 2 };
  const body = await finished(server, experiment({ axes: [], repetitions: 3, precision }));
  assert.deepEqual([body.state, body.runs.succeeded], ['SUCCEEDED', 3]);
  assert.match(body.reason, /no result has a number at \/runs\/0\/nothing/);
});

test('a run that fails is told with its problem, and the others go on', async () => {
  const { server } = await start();
  const axes = [{ name: 'events', pointer: '/topology/recorder/events', values: [8192, 16384] }];
  const body = await finished(server, experiment({ axes, limits: { events: 300 } }));
  assert.equal(body.state, 'FAILED');
  assert.match(body.reason, /^4 of 4 runs failed$/);
  const { items } = (await server.get(`/v1/experiments/${body.id}/runs?state=FAILED`)).body;
  assert.match(items[0].problem.detail, /more than 300 events/);
  assert.deepEqual(items[0].metrics, {});
});

test('what is refused has started nothing, and says what and where', async () => {
  const { server } = await start({ limits: { experimentRuns: 1000, experiments: 2 } });
  const post = (body: object) => server.post('/v1/experiments', body);
  const many = await post(experiment({ repetitions: 250_000 }));
  assert.equal(many.status, 422);
  assert.equal(many.body.code, 'RINGSIDE_E_LIMIT');
  assert.match(many.body.detail, /1000000 runs \(4 combinations, 250000 repetitions each\) are more than the 1000 /);
  const wrong = await post(
    experiment({ axes: [{ name: 'backend', pointer: BACKEND, values: ['vhost-net', 'vhost'] }] }),
  );
  assert.equal(wrong.status, 422);
  assert.equal(wrong.body.errors[0].pointer, '/axes/0/values/1');
  assert.match(wrong.body.errors[0].detail, /axis backend, value "vhost", at \/topology\/hosts\/0/);
  assert.equal((await post({ axes: [] })).body.errors[0].pointer, '/template');
  const large = await post(experiment({ limits: { memory: '1024GiB' } }));
  assert.deepEqual([large.body.code, large.body.errors[0].pointer], ['RINGSIDE_E_LIMIT', '/limits/memory']);
  const yaml = await server.request('POST', '/v1/experiments', {
    payload: 'template: {topology: {preset: vhost-net}, traffic: [',
    headers: { 'content-type': 'application/yaml' },
  });
  assert.equal(yaml.status, 400);
  assert.deepEqual((await server.get('/v1/experiments')).body.items, []);

  await finished(server, experiment());
  await finished(server, experiment());
  const third = await post(experiment());
  assert.equal(third.status, 429);
  assert.match(third.body.detail, /at most 2 experiments/);
  assert.equal((await server.get('/v1/experiments/experiment-1/runs/9')).status, 404);
  assert.equal((await server.get('/v1/experiments/nothing')).status, 404);
});

test('a result that was taken a moment ago stays when the experiment that made it goes', async () => {
  const { server, queue } = await start();
  const one = await finished(server, experiment({ axes: [], repetitions: 1 }));
  queue().held = true;
  const second = await server.post('/v1/experiments', experiment({ axes: [], repetitions: 2 }));
  while (queue().size === 0) await new Promise(setImmediate);
  assert.equal((await server.delete(`/v1/experiments/${one.id}`)).status, 204);
  queue().release();
  const two = (await server.get(`${second.headers['location']}?wait=60s`)).body;
  assert.deepEqual([two.state, two.runs.reused], ['SUCCEEDED', 1]);
  assert.equal((await server.get(`/v1/experiments/${two.id}/runs/1`)).body.result?.state, 'SUCCEEDED');
});

test('combinations that cannot be built are listed where that is asked for', async () => {
  const { server } = await start();
  const axes = [
    { name: 'backend', pointer: BACKEND, values: ['vhost-net', 'vhost-user'] },
    { name: 'datapath', pointer: '/topology/hosts/0/bridges/0/datapath', values: ['system', 'netdev'] },
  ];
  assert.equal((await server.post('/v1/experiments', experiment({ axes }))).status, 422);
  const body = await finished(server, experiment({ axes, skipInvalid: true }));
  assert.deepEqual([body.state, body.runs.skipped, body.runs.succeeded], ['SUCCEEDED', 4, 4]);
  const skipped = (await server.get(`/v1/experiments/${body.id}/runs?state=SKIPPED`)).body.items;
  assert.deepEqual(
    skipped.map((item: { run: number }) => item.run),
    [3, 4, 5, 6],
  );
  assert.equal((await server.get(`/v1/experiments/${body.id}/runs/3`)).body.job, null);
  assert.equal(skipped[0].problem.code, 'RINGSIDE_E_VALIDATION');
  assert.match(skipped[0].problem.detail, /netdev/);
});

test('a cancelled experiment stops, and keeps what it has', async () => {
  const { server, queue } = await start({}, true);
  const { headers } = await server.post('/v1/experiments', experiment());
  const address = headers['location']!;
  const running = (await server.get(address)).body;
  assert.deepEqual([running.state, running.progress], ['RUNNING', 0]);
  const cancelled = (await server.post(`${address}/cancel`)).body;
  assert.deepEqual([cancelled.state, cancelled.runs.cancelled, cancelled.runs.running], ['CANCELLED', 8, 0]);
  assert.equal(queue().size, 0);
  assert.equal((await server.post(`${address}/cancel`)).body.state, 'CANCELLED');
  // Its runs are there for whoever asks next.
  queue().release();
  assert.equal((await finished(server, experiment())).runs.succeeded, 8);
});

test('what was running goes on after a restart, what has ended is as it was', async () => {
  const settings = { dataDir: temporaryFolder() };
  const before = await start({ settings });
  const precision = { metric: FPS, relative: 0.5, minimum: 3 };
  const done = await finished(before.server, experiment({ repetitions: 10, precision }));
  const summary = (await before.server.get(`/v1/experiments/${done.id}/summary`)).body;
  const csv = (await before.server.get(`/v1/experiments/${done.id}/results.csv`)).text;
  const posted = await before.server.post('/v1/experiments', experiment({ repetitions: 40, seed: 100 }));
  while (before.queue().ran.length < 60) await new Promise(setImmediate);
  await closeServer(before.server);

  const after = await start({ settings });
  const again = (await after.server.get(`${posted.headers['location']}?wait=120s`)).body;
  assert.deepEqual([again.state, again.runs.succeeded], ['SUCCEEDED', 160]);
  const both = [...before.queue().ran.slice(-20), ...after.queue().ran];
  assert.equal(new Set(both).size, both.length, 'a run that was stored was run again');
  assert.equal(before.queue().ran.length - 12 + after.queue().ran.length >= 160, true);
  const old = (await after.server.get(`/v1/experiments/${done.id}`)).body;
  assert.deepEqual(old, done);
  assert.deepEqual((await after.server.get(`/v1/experiments/${done.id}/summary`)).body, summary);
  assert.equal((await after.server.get(`/v1/experiments/${done.id}/results.csv`)).text, csv);
});

test('the threads of this machine come to the same results as this thread', async () => {
  const body = experiment({ repetitions: 1 });
  const { server } = await start();
  const here = await finished(server, body);
  const threads = await startServer();
  const there = await finished(threads, body);
  assert.deepEqual([here.state, there.state], ['SUCCEEDED', 'SUCCEEDED']);
  const digests = async (from: TestServer) =>
    (await from.get('/v1/experiments/experiment-1/runs')).body.items.map((item: { key: string; digest: string }) => [
      item.key,
      item.digest,
    ]);
  assert.deepEqual(await digests(threads), await digests(server));
});

test('what is nested or long without end is refused, or cut where it is shown', async () => {
  const { server } = await start();
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
  const refused = await server.request('POST', '/v1/experiments', {
    payload: JSON.stringify(experiment()).replace('"vhost-net"]', `${deep}]`),
    headers: { 'content-type': 'application/json' },
  });
  assert.equal(refused.status, 422);
  assert.match(refused.body.detail, /nested deeper than 64/);
  const document = (await server.get('/v1/presets/vhost-net')).body;
  const axes = [{ pointer: '/topology', values: [document, { preset: 'virtio-net' }] }];
  const body = await finished(server, experiment({ axes, repetitions: 1 }));
  const { items } = (await server.get(`/v1/experiments/${body.id}/runs`)).body;
  assert.equal(items[1].values.topology.preset, 'virtio-net');
  assert.match(items[0].values.topology, /^\{"hosts":.*…$/);
  const [listed] = (await server.get('/v1/experiments')).body.items;
  assert.deepEqual([listed.axes, listed.template], [[{ name: 'topology', values: 2 }], undefined]);
});

test('how far experiments are, and what their runs come to, as gauges', async () => {
  const { server } = await start();
  const { id } = await finished(server, experiment());
  const summary = (await server.get(`/v1/experiments/${id}/summary?metrics=${FPS}`)).body;
  const { samples } = parseExposition((await server.get('/metrics')).text, 'prometheus');
  const of = `experiment="${id}",name="backends"`;
  assert.equal(samples.get(`ringside_experiments{state="SUCCEEDED"}`), 1);
  assert.equal(samples.get(`ringside_experiment_runs{${of},state="SUCCEEDED"}`), 8);
  assert.equal(samples.get(`ringside_experiment_progress_ratio{${of}}`), 1);
  const [first] = summary.combinations;
  const combination = `${of},combination="backend=virtio-net, frameSize=64",metric="${FPS}"`;
  assert.equal(samples.get(`ringside_experiment_mean{${combination}}`), first.metrics[FPS].mean);
  assert.equal(samples.get(`ringside_experiment_half_width{${combination}}`), first.metrics[FPS].halfWidth);
  const value = `${of},axis="backend",value="vhost-net",metric="${FPS}"`;
  assert.equal(samples.get(`ringside_experiment_axis_mean{${value}}`), summary.axes[0].values[1].metrics[FPS].mean);
  // Values that look alike as far as a label goes are series of their own: the reader refuses a series that is there twice.
  const long = 'x'.repeat(63);
  const topology = (name: string) => ({ name, hosts: [{ nics: [{ name: 'eth0' }, { name: 'eth1' }] }] });
  const alike = await server.post('/v1/experiments', {
    template: { topology: topology('x'), traffic: [{ kind: 'udp', from: 'eth0', to: 'eth1', count: 1 }] },
    axes: [
      {
        name: 'document',
        pointer: '/topology',
        values: [topology(`${long.slice(1)}a`), topology(`${long.slice(1)}b`)],
      },
    ],
  });
  assert.equal(alike.status, 201, alike.text);
  await server.get(`${alike.headers['location']}?wait=60s`);
  parseExposition((await server.get('/metrics')).text, 'prometheus');
  // So are those whose names read as the number that tells two others apart.
  const numbered = await finished(server, {
    template: { topology: topology('x'), traffic: [{ kind: 'udp', from: 'eth0', to: 'eth1', count: 1 }] },
    axes: [
      { name: 'count', pointer: '/traffic/0/count', values: [1, 1] },
      { cases: { x: { '/traffic/0/frameSize': 64 }, 'x #3': { '/traffic/0/frameSize': 128 } } },
    ],
  });
  assert.equal(numbered.state, 'SUCCEEDED');
  parseExposition((await server.get('/metrics')).text, 'prometheus');
});
