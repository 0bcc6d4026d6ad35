/**
 * Jobs over a real NATS server: outcomes are those of the pool, and each is told once, whoever is killed meanwhile. Workers are
 * processes where they are killed, else in this process.
 */
import assert from 'node:assert/strict';
import { AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Objm } from '@nats-io/obj';
import { connect, type NatsConnection, nanos } from '@nats-io/transport-node';
import { afterEach } from 'vitest';
import { NatsQueue, type NatsQueueOptions } from '../../src/fleet/nats.ts';
import { BrokerNames } from '../../src/fleet/nats-broker.ts';
import type { DeadLetter } from '../../src/fleet/nats-messages.ts';
import { NatsWorker, type NatsWorkerOptions } from '../../src/fleet/nats-worker.ts';
import { ThreadPool } from '../../src/fleet/pool.ts';
import type { JobOutcome, QueuedJob } from '../../src/fleet/queue.ts';
import { engineVersion } from '../../src/lab/job/engine-version.ts';
import { contentHash } from '../../src/lab/job/job.ts';
import { runJob } from '../../src/lab/job/run-job.ts';
import { jobOf, queued, Told, udp } from '../unit/fleet/jobs.ts';
import { NatsServer, WorkerProcess } from './nats-server.ts';
import { requirePeer } from './peers.ts';

const natsTest = requirePeer('nats-server');
const STUB = new URL('../unit/fleet/stub-jobs.worker.ts', import.meta.url);
const PREFIX = 'test';
const names = new BrokerNames(PREFIX);

/** Whatever a test has started ends after it, the last first. */
const started: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of started.splice(0).reverse()) await stop();
});
async function startServer(): Promise<NatsServer> {
  const server = await NatsServer.start();
  started.push(() => server.stop());
  return server;
}
function openQueue(server: NatsServer, options: Partial<NatsQueueOptions> = {}): { queue: NatsQueue; told: Told } {
  const told = new Told();
  const queue = new NatsQueue(told, { url: server.url, prefix: PREFIX, trouble: () => {}, ...options });
  started.push(() => queue.close());
  return { queue, told };
}
function startProcess(server: NatsServer, env: Readonly<Record<string, string>> = {}): WorkerProcess {
  const worker = new WorkerProcess(server, { RINGSIDE_NATS_PREFIX: PREFIX, ...env });
  started.push(() => worker.crash());
  return worker;
}
function startWorker(server: NatsServer, options: Partial<NatsWorkerOptions> = {}): NatsWorker {
  const worker = new NatsWorker({ url: server.url, prefix: PREFIX, threads: 1, trouble: () => {}, ...options });
  started.push(() => worker.stop());
  return worker;
}
async function client(server: NatsServer): Promise<NatsConnection> {
  const nc = await connect({ servers: server.url });
  started.push(() => nc.close());
  return nc;
}

const engine = engineVersion();
const jobs = (count: number, first = 1): QueuedJob[] =>
  Array.from({ length: count }, (_, n) => queued(jobOf(first + n, { engine })));
/** A job of the stub. */
function named(name: string, limits: Partial<QueuedJob['limits']> = {}): QueuedJob {
  const job = jobOf(1, { engine });
  return queued({ ...job, document: { ...job.document, name } }, limits);
}
/** A job that takes a second or more. */
const long = (seed: number, count = 800_000): QueuedJob => queued(jobOf(seed, { engine, traffic: [udp({ count })] }));

function digestOf(outcome: JobOutcome | undefined): string {
  assert.equal(outcome?.kind, 'result');
  return outcome?.kind === 'result' ? outcome.digest : '';
}
function onceEach(told: Told, expected: readonly QueuedJob[]): void {
  assert.deepEqual(
    expected.map(({ key }) => told.outcomes.get(key)?.length),
    expected.map(() => 1),
  );
  assert.equal(told.outcomes.size, expected.length);
}
const submit = (queue: { submit(job: QueuedJob): void }, all: readonly QueuedJob[]): void => {
  for (const job of all) queue.submit(job);
};
const allTold = (told: Told, all: readonly QueuedJob[]): Promise<void> =>
  told.until(() => told.outcomes.size >= all.length);

natsTest('three worker processes come to what the pool comes to, each job told once', async () => {
  const server = await startServer();
  for (let n = 0; n < 3; n++) startProcess(server);
  const all = jobs(60);
  const { queue, told } = openQueue(server);
  submit(queue, [...all, ...all]);
  await allTold(told, all);
  onceEach(told, all);

  const here = new Told();
  const pool = new ThreadPool(here, { threads: 2 });
  started.push(() => pool.close());
  submit(pool, all);
  await allTold(here, all);
  const digests = (from: Told): string[] => all.map(({ key }) => digestOf(from.outcomes.get(key)?.[0]));
  assert.deepEqual(digests(told), digests(here));
  assert.deepEqual(queue.counts().ended, { result: 60, failed: 0, cancelled: 0 });
});

natsTest('a worker that is killed: another comes to the same result', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server);
  const env = { RINGSIDE_NATS_ACK_WAIT: '1' };
  const first = startProcess(server, env);
  const job = long(1);
  queue.submit(job);
  await told.hasBegun(job);
  await first.crash();
  startProcess(server, env);
  assert.equal(digestOf(await told.outcome(job)), contentHash(runJob(job.job)));
  onceEach(told, [job]);
  assert.equal(told.begun.length, 2);
});

natsTest('workers that are killed in the middle of many jobs: every job once', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server);
  const env = { RINGSIDE_NATS_ACK_WAIT: '1' };
  const all = jobs(80);
  const workers = [1, 2, 3].map(() => startProcess(server, env));
  submit(queue, all);
  for (const [n, worker] of workers.entries()) {
    await told.until(() => told.outcomes.size > 10 * n);
    await worker.crash();
    startProcess(server, env);
  }
  await allTold(told, all);
  onceEach(told, all);
  for (const job of all) assert.equal(digestOf(told.outcomes.get(job.key)?.[0]), contentHash(runJob(job.job)));
});

natsTest('the broker is killed in the middle and started again: every job once', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server, { reconcileMs: 500 });
  const env = { RINGSIDE_NATS_ACK_WAIT: '1' };
  const workers = [1, 2, 3].map(() => startProcess(server, env));
  const all = jobs(80);
  submit(queue, all);
  for (const share of [10, 30]) {
    await told.until(() => told.outcomes.size >= share);
    await server.crash();
    await server.restart();
  }
  await allTold(told, all);
  onceEach(told, all);
  for (const job of all) assert.equal(digestOf(told.outcomes.get(job.key)?.[0]), contentHash(runJob(job.job)));
  // they have waited for it
  assert.deepEqual(
    workers.map((worker) => worker.alive),
    [true, true, true],
  );
});

natsTest('a broker that comes back without its disk: what is missing is published again', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server, { reconcileMs: 200 });
  const all = jobs(10);
  submit(queue, all);
  await until(() => queue.counts().sent === 10);
  await server.crash();
  server.wipe();
  await server.restart();
  startWorker(server);
  await allTold(told, all);
  onceEach(told, all);
  assert.equal(queue.counts().republished, 10);
});

natsTest('whoever submits again finds what was done meanwhile', async () => {
  const server = await startServer();
  const first = openQueue(server);
  const worker = startWorker(server);
  const all = jobs(30);
  submit(first.queue, all);
  await first.told.until(() => first.told.outcomes.size >= 5);
  await first.queue.close();
  const { queue, told } = openQueue(server);
  submit(queue, all);
  await allTold(told, all);
  onceEach(told, all);
  assert.equal(worker.ended, 30);
});

natsTest('a job that takes longer than the ack wait stays with its worker', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server);
  for (let n = 0; n < 2; n++) startWorker(server, { ackWaitMs: 1000 });
  const job = long(1, 3_000_000);
  queue.submit(job);
  const outcome = await told.outcome(job);
  assert.ok(outcome.kind === 'result' && outcome.wallSeconds > 1.25, JSON.stringify(outcome).slice(0, 300));
  assert.equal(told.begun.length, 1);
});

natsTest('a worker that is ended hands its jobs over at once', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server);
  const first = startProcess(server);
  const all = [long(1), ...jobs(5, 2)];
  queue.submit(all[0]!);
  await told.hasBegun(all[0]!);
  submit(queue, all);
  assert.equal(await first.stop(), 0);
  // the ack wait is a minute
  const begun = performance.now();
  startWorker(server);
  await allTold(told, all);
  onceEach(told, all);
  assert.ok(performance.now() - begun < 50_000);
});

natsTest('cancelled: what waits is taken away, what runs is stopped; submitted again it is run again', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server);
  const worker = startWorker(server);
  const endless = (seed: number): QueuedJob =>
    queued(jobOf(seed, { engine, traffic: [udp({ count: 1_000_000_000 })] }));
  const [runs, waits] = [endless(1), endless(2)];
  const [done] = jobs(1, 3);
  submit(queue, [runs, waits]);
  await told.until(() => told.begun.length === 1);
  queue.cancel([runs.key, waits.key, 'nobody']);
  onceEach(told, [runs, waits]);
  assert.deepEqual(told.outcomes.get(waits.key), [{ kind: 'cancelled' }]);
  // The thread is free again and nothing else waits for it, else this one would never come to it.
  queue.submit(done!);
  digestOf(await told.outcome(done!));
  const before = told.begun.length;
  queue.submit(runs);
  await told.until(() => told.begun.length > before);
  assert.equal(told.begun.at(-1), runs.key);
  queue.cancel([runs.key]);
  assert.equal(told.outcomes.get(runs.key)?.length, 2);
  assert.equal(worker.ended, 1);
});

natsTest('a job that ends its workers is given up: a dead letter, and an outcome', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server);
  const poison = named('wait');
  queue.submit(poison);
  for (let n = 1; n <= 2; n++) {
    const worker = startWorker(server, { entry: STUB, maxDeliver: 2 });
    await told.until(() => told.begun.length === n);
    await worker.stop();
  }
  startWorker(server, { entry: STUB, maxDeliver: 2 });
  const outcome = await told.outcome(poison);
  assert.equal(outcome.kind === 'failed' ? outcome.problem.code : '', 'RINGSIDE_E_INTERNAL');
  const letter = await deadLetter(server, poison.key);
  assert.equal(letter.reason, 'it has been given to workers 2 times, and none has come to an outcome');
  assert.deepEqual([letter.deliveries, letter.job], [3, poison]);
});

natsTest('what is no job is a dead letter; others go on', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server);
  const worker = startWorker(server);
  const [job] = jobs(1);
  queue.submit(job!);
  await told.outcome(job!);
  const nc = await client(server);
  const bad: Record<string, string> = {
    text: 'no JSON',
    shape: JSON.stringify({ ...job, job: { ...job!.job, traffic: [{ kind: 'udp', from: 'a/net0' }] } }),
    hash: JSON.stringify({ ...job, job: { ...job!.job, maxEvents: 7 } }),
  };
  for (const [name, text] of Object.entries(bad))
    await jetstream(nc).publish(names.engineJobs(worker.engine).replace('*', name), text);
  const [next] = jobs(1, 2);
  queue.submit(next!);
  digestOf(await told.outcome(next!));
  assert.equal((await deadLetter(server, 'text')).reason, 'the job cannot be read: it is not JSON');
  assert.match((await deadLetter(server, 'shape')).reason, /^the job cannot be read: \/job\/traffic\/0/);
  assert.equal((await deadLetter(server, 'hash')).reason, 'the job cannot be read: /key is not the hash of /job');
});

natsTest('a job that took too long is not a result for those who give it more time', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server);
  startWorker(server);
  const { job } = long(3);
  queue.submit(queued(job, { wallSeconds: 0.1 }));
  const hasty = await told.outcome(queued(job));
  assert.equal(hasty.kind === 'failed' ? hasty.problem.pointer : '', '/limits/time');
  queue.submit(queued(job));
  await told.until(() => told.outcomes.get(contentHash(job))?.length === 2);
  assert.equal(told.outcomes.get(contentHash(job))?.[1]?.kind, 'result');
});

natsTest('a job of another engine is left alone', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server);
  const other = queued(jobOf(1, { engine: `${engine}-other` }));
  const all = jobs(3);
  submit(queue, [other, ...all]);
  startWorker(server);
  await allTold(told, all);
  onceEach(told, all);
  assert.deepEqual([queue.counts().sent, told.begun.includes(other.key)], [1, false]);
});

natsTest('an outcome that is damaged is made again', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server);
  const worker = startWorker(server);
  const [job, first] = jobs(2);
  queue.submit(first!);
  await told.outcome(first!);
  const store = await new Objm(await client(server)).open(names.outcomes);
  const text = new TextDecoder().decode((await store.getBlob(first!.key)) ?? new Uint8Array());
  await store.putBlob(
    { name: job!.key },
    new TextEncoder().encode(text.replace('"virtualTimeSeconds":', '"virtualTimeSeconds":1')),
  );
  queue.submit(job!);
  assert.equal(digestOf(await told.outcome(job!)), contentHash(runJob(job!.job)));
  assert.equal(worker.ended, 2);
});

natsTest('a job that is larger than a message fails and says so', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server);
  const job = jobOf(1, { engine });
  const large = queued({ ...job, document: { ...job.document, name: 'x'.repeat(1_100_000) } });
  queue.submit(large);
  const outcome = await told.outcome(large);
  assert.match(
    outcome.kind === 'failed' ? outcome.problem.detail : '',
    /the NATS server takes 1048576 \(max_payload\)$/,
  );
});

natsTest('workers and queues that are there before their server wait for it', async () => {
  const server = await startServer();
  await server.crash();
  const said: string[] = [];
  const trouble = (text: string): void => void said.push(text);
  const { queue, told } = openQueue(server, { trouble });
  startWorker(server, { trouble });
  const all = jobs(3);
  submit(queue, all);
  await until(() => said.length >= 2);
  await server.restart();
  await allTold(told, all);
  onceEach(told, all);
  assert.match(said[0] ?? '', /^NATS at 127\.0\.0\.1:\d+: .*connect/i);
  assert.equal(queue.parallel, 1);
});

natsTest(
  'a worker that was stopped for longer than the ack wait: its job is done elsewhere, and told once',
  async () => {
    const server = await startServer();
    const { queue, told } = openQueue(server);
    const env = { RINGSIDE_NATS_ACK_WAIT: '1' };
    const first = startProcess(server, env);
    const all = [long(1), ...jobs(1, 2)];
    queue.submit(all[0]!);
    await told.hasBegun(all[0]!);
    first.signal('SIGSTOP');
    const second = startProcess(server, env);
    digestOf(await told.outcome(all[0]!));
    assert.equal(told.begun.length, 2);
    await second.crash();
    first.signal('SIGCONT');
    // It ends the run that nobody needs any more, and takes the next.
    queue.submit(all[1]!);
    digestOf(await told.outcome(all[1]!));
    onceEach(told, all);
  },
);

natsTest('two servers that ask for the same jobs are both told; what one takes away the other gets', async () => {
  const server = await startServer();
  const [one, other] = [openQueue(server, { reconcileMs: 200 }), openQueue(server, { reconcileMs: 200 })];
  const all = jobs(10);
  submit(one.queue, all);
  submit(other.queue, all);
  await until(() => one.queue.counts().sent === 10 && other.queue.counts().sent === 10);
  one.queue.cancel(all.slice(0, 5).map(({ key }) => key));
  startWorker(server);
  await Promise.all([allTold(one.told, all), allTold(other.told, all)]);
  for (const { told } of [one, other]) onceEach(told, all);
  assert.deepEqual(one.queue.counts().ended, { result: 5, failed: 0, cancelled: 5 });
  assert.deepEqual(other.queue.counts().ended, { result: 10, failed: 0, cancelled: 0 });
});

natsTest('a job that the broker has and gives to nobody is published again', async () => {
  const server = await startServer();
  const { queue, told } = openQueue(server, { reconcileMs: 200 });
  const [job] = jobs(1);
  queue.submit(job!);
  await until(() => queue.counts().sent === 1);
  // Somebody takes it and says nothing, by a consumer that gives a message once.
  const nc = await client(server);
  const jsm = await jetstreamManager(nc);
  const name = names.consumer(engine);
  await jsm.consumers.add(names.jobs, {
    durable_name: name,
    filter_subject: names.engineJobs(engine),
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(100),
    max_deliver: 1,
  });
  const consumer = await jetstream(nc).consumers.get(names.jobs, name);
  const first = await consumer.next();
  const second = await consumer.next();
  assert.ok(first !== null && second !== null && second.seq > first.seq);
  assert.deepEqual([second.info.deliveryCount, queue.counts().republished], [1, 1]);
  // Nor is it lost where somebody throws it away.
  second.term();
  startWorker(server);
  digestOf(await told.outcome(job!));
  onceEach(told, [job!]);
});

natsTest('jobs that no worker is there for: it is said, once', async () => {
  const server = await startServer();
  const said: string[] = [];
  const { queue } = openQueue(server, { reconcileMs: 20, trouble: (text) => void said.push(text) });
  submit(queue, jobs(1));
  await until(() => said.length > 0);
  assert.deepEqual(said, [`jobs wait: no worker of engine ${engine} has reported`]);
  const worker = startWorker(server);
  await until(() => queue.counts().workers === 1);
  await worker.stop();
  await until(() => queue.counts().workers === 0);
});

natsTest('a server that asks who they are', async () => {
  const server = await NatsServer.start({ user: 'ringside', pass: 'p@ss' });
  started.push(() => server.stop());
  const address = server.url.replace('p@ss', encodeURIComponent('p@ss'));
  const said: string[] = [];
  openQueue(server, { url: address.replace('ringside', 'nobody'), trouble: (text) => void said.push(text) });
  const { queue, told } = openQueue(server, { url: address });
  startWorker(server, { url: address });
  const all = jobs(2);
  submit(queue, all);
  await allTold(told, all);
  await until(() => said.length > 0);
  assert.match(said[0] ?? '', /Authorization Violation/);
});

async function deadLetter(server: NatsServer, key: string): Promise<DeadLetter> {
  const jsm = await jetstreamManager(await client(server));
  const message = await jsm.streams.getMessage(names.dead, { last_by_subj: names.deadLetter(key) });
  assert.ok(message, `no dead letter for ${key}`);
  return message.json<DeadLetter>();
}
/** Looks again on every turn of the event loop. */
async function until(met: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await met())) await new Promise((resolve) => setTimeout(resolve, 10));
}
