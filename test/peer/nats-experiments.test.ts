/**
 * Experiments over a real NATS server, with the API server and three workers as processes: results are those of the threads of one
 * machine, and every run is there once, whichever of the processes are killed meanwhile.
 */
import assert from 'node:assert/strict';
import { afterEach } from 'vitest';
import { Ringside } from '../tools/ringside.ts';
import { NatsServer, WorkerProcess } from './nats-server.ts';
import { requirePeer } from './peers.ts';

const natsTest = requirePeer('nats-server');
const FULL = process.env['RINGSIDE_FULL'] === '1';
const REPETITIONS = FULL ? 500 : 40;
const TOTAL = 2 * REPETITIONS;
const TEMPLATE = {
  name: 'backends',
  template: {
    topology: { preset: 'vhost-net' },
    traffic: [{ kind: 'udp', from: 'a/net0', to: 'b/net0', count: 200 }],
  },
  axes: [{ pointer: '/topology/hosts/0/guests/*/nics/*/backend', values: ['virtio-net', 'vhost-net'] }],
  repetitions: REPETITIONS,
};
/** A worker that dies costs no more than this, s. */
const ACK_WAIT = { RINGSIDE_NATS_ACK_WAIT: '1' };

interface View {
  readonly id: string;
  readonly state: string;
  readonly reason: string | null;
  readonly runs: Readonly<Record<string, number>>;
}
interface Run {
  readonly run: number;
  readonly state: string;
  readonly key: string;
  readonly digest: string | null;
}

/** Whatever a test has started ends after it, the last first. */
const started: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of started.splice(0).reverse()) await stop();
});
async function startBroker(): Promise<NatsServer> {
  const broker = await NatsServer.start();
  started.push(() => broker.stop());
  return broker;
}
async function startServer(env: Readonly<Record<string, string>>): Promise<Ringside> {
  const server = await Ringside.start(env);
  started.push(() => server.stop());
  return server;
}
function startWorkers(broker: NatsServer, count: number): WorkerProcess[] {
  return Array.from({ length: count }, () => {
    const worker = new WorkerProcess(broker, ACK_WAIT);
    started.push(() => worker.crash());
    return worker;
  });
}

const start = (server: Ringside): Promise<View> => server.json<View>('POST', '/v1/experiments', TEMPLATE);
async function finished(server: Ringside, { id }: View): Promise<View> {
  let view: View;
  do view = await server.json<View>('GET', `/v1/experiments/${id}?wait=60s`);
  while (view.state === 'RUNNING');
  assert.equal(view.state, 'SUCCEEDED', `${JSON.stringify(view)}\n${server.output}`);
  return view;
}
async function untilDone(server: Ringside, { id }: View, count: number): Promise<void> {
  for (;;) {
    const view = await server.json<View>('GET', `/v1/experiments/${id}`);
    assert.equal(view.state, 'RUNNING', view.reason ?? '');
    if (view.runs['succeeded']! >= count) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
/** All runs of an experiment: number, key and digest. */
async function digests(server: Ringside, { id }: View): Promise<readonly (readonly [number, string, string | null])[]> {
  const all: Run[] = [];
  for (let next: string | null = ''; next !== null; ) {
    const cursor: string = next === '' ? '' : `&cursor=${next}`;
    const address = `/v1/experiments/${id}/runs?limit=100${cursor}`;
    const page: { items: Run[]; next: string | null } = await server.json('GET', address);
    all.push(...page.items);
    next = page.next;
  }
  return all.map(({ run, key, digest }) => [run, key, digest]);
}

natsTest('an experiment has the same results on three workers as on the threads of one machine', async () => {
  const alone = await startServer({ RINGSIDE_JOB_THREADS: '2' });
  const expected = await digests(alone, await finished(alone, await start(alone)));
  assert.equal(expected.length, TOTAL);
  await alone.stop();

  const broker = await startBroker();
  const server = await startServer({ RINGSIDE_NATS_URL: broker.url });
  const workers = startWorkers(broker, 3);
  const view = await finished(server, await start(server));
  assert.deepEqual([view.runs['total'], view.runs['succeeded'], view.runs['reused']], [TOTAL, TOTAL, 0]);
  assert.deepEqual(await digests(server, view), expected);
  // All of them had their share.
  for (const worker of workers) {
    assert.equal(await worker.stop(), 0);
    assert.match(worker.output, /has ended after [1-9]\d* jobs/);
  }
});

/** What is killed, one after the other, while the experiment goes on. */
const VICTIMS: readonly ('worker' | 'broker' | 'server')[] = FULL
  ? ['server', 'worker', 'broker', 'worker', 'server', 'broker', 'broker', 'worker', 'server']
  : ['worker', 'broker', 'server'];

natsTest('workers, the broker and the API server are killed: every run is there once', async () => {
  const broker = await startBroker();
  const env = { RINGSIDE_NATS_URL: broker.url };
  let server = await startServer(env);
  const { folder } = server;
  const workers = startWorkers(broker, 3);
  const experiment = await start(server);
  for (const [n, victim] of VICTIMS.entries()) {
    await untilDone(server, experiment, ((n + 0.5) / (VICTIMS.length + 1)) * TOTAL);
    if (victim === 'worker') {
      await workers.shift()!.crash();
      workers.push(...startWorkers(broker, 1));
    } else if (victim === 'broker') {
      await broker.crash();
      await broker.restart();
    } else {
      await server.crash();
      server = await startServer({ ...env, RINGSIDE_DATA_DIR: folder });
    }
  }
  const view = await finished(server, experiment);
  assert.deepEqual([view.runs['total'], view.runs['succeeded'], view.runs['reused']], [TOTAL, TOTAL, 0]);

  const all = await digests(server, view);
  assert.deepEqual(
    all.map(([run]) => run),
    Array.from({ length: TOTAL }, (_, n) => n + 1),
  );
  assert.equal(new Set(all.map(([, key]) => key)).size, TOTAL);
  await server.stop();
  const alone = await startServer({ RINGSIDE_JOB_THREADS: '2' });
  assert.deepEqual(all, await digests(alone, await finished(alone, await start(alone))));
});
