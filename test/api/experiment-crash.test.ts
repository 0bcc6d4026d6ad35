/**
 * Experiments on the server as it is shipped, with its threads: one that is killed in the middle goes on where it was, and a run that
 * takes too much memory fails alone.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, test } from 'vitest';
import { SHIPPED_PROFILES } from '../../src/engine/cost-profile.ts';
import { planExperiment } from '../../src/lab/experiment/plan.ts';
import { engineVersion } from '../../src/lab/job/engine-version.ts';
import { contentHash, type JobProblem } from '../../src/lab/job/job.ts';
import { runJob } from '../../src/lab/job/run-job.ts';
import { Ringside } from '../tools/ringside.ts';

const servers: Ringside[] = [];
afterEach(async () => {
  for (const server of servers.splice(0).reverse()) await server.stop();
});
async function start(env: Record<string, string> = {}): Promise<Ringside> {
  const server = await Ringside.start({ RINGSIDE_JOB_THREADS: '2', ...env });
  servers.push(server);
  return server;
}

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
  readonly problem: JobProblem | null;
}
interface Row {
  readonly run: number;
  readonly digest: string;
  readonly wall: number;
}

/** All pages of an experiment's runs. */
async function runsOf(server: Ringside, id: string): Promise<Run[]> {
  const runs: Run[] = [];
  let next: string | null = '';
  while (next !== null) {
    const cursor: string = next === '' ? '' : `&cursor=${next}`;
    const page = await server.json<{ items: Run[]; next: string | null }>(
      'GET',
      `/v1/experiments/${id}/runs?limit=100${cursor}`,
    );
    runs.push(...page.items);
    next = page.next;
  }
  return runs;
}
async function untilDone(server: Ringside, id: string, count: number): Promise<void> {
  for (;;) {
    const view = await server.json<View>('GET', `/v1/experiments/${id}`);
    assert.equal(view.state, 'RUNNING', view.reason ?? '');
    if (view.runs['succeeded']! >= count) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
/** What a server that is gone has left. */
function stored(folder: string): Row[] {
  const db = new DatabaseSync(join(folder, 'experiments.sqlite'), { readOnly: true });
  const rows = db.prepare('SELECT run, digest, wall FROM runs ORDER BY run').all();
  db.close();
  return rows.map((row) => ({ ...row })) as unknown as Row[];
}
async function jobsEnded(server: Ringside): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return Number(/^ringside_jobs_ended_total\{outcome="result"\} (\d+)$/m.exec(text)?.[1]);
}

test('killed in the middle, twice: every run is there once, as if nothing had happened', async () => {
  const repetitions = process.env['RINGSIDE_FULL'] === '1' ? 1000 : 40;
  const template = {
    name: 'crash',
    template: {
      topology: { preset: 'vhost-net' },
      traffic: [{ kind: 'udp', from: 'a/net0', to: 'b/net0', count: 200 }],
    },
    axes: [{ pointer: '/topology/hosts/0/guests/*/nics/*/backend', values: ['virtio-net', 'vhost-net'] }],
    repetitions,
  };
  const total = 2 * repetitions;
  let server = await start();
  const { folder } = server;
  const { id } = await server.json<View>('POST', '/v1/experiments', template);
  let before: readonly Row[] = [];
  for (const share of [0.2, 0.5]) {
    await untilDone(server, id, share * total);
    await server.crash();
    const rows = stored(folder);
    assert.ok(rows.length > 0 && rows.length < total, `${rows.length} of ${total} are stored`);
    // what was there is as it was: nothing has been run again in its place
    assert.deepEqual(
      rows.filter(({ run }) => before.some((row) => row.run === run)),
      before,
    );
    before = rows;
    server = await start({ RINGSIDE_DATA_DIR: folder });
  }
  const view = await server.json<View>('GET', `/v1/experiments/${id}?wait=120s`);
  assert.equal(view.state, 'SUCCEEDED', view.reason ?? '');
  assert.deepEqual([view.runs['total'], view.runs['succeeded'], view.runs['reused']], [total, total, 0]);
  assert.equal(await jobsEnded(server), total - before.length);

  const runs = await runsOf(server, id);
  assert.deepEqual(
    runs.map(({ run }) => run),
    Array.from({ length: total }, (_, n) => n + 1),
  );
  assert.equal(new Set(runs.map(({ key }) => key)).size, total);
  const options = { engine: engineVersion(), maxRuns: total, profiles: SHIPPED_PROFILES };
  const planned = planExperiment(template, options);
  if (!planned.ok) assert.fail('it was valid for the server');
  const sample = runs.filter((_, n) => n % Math.floor(total / 20) === 0);
  const here = sample.map(({ run }) => {
    const { key, job } = planned.plan.run(run);
    return { key, digest: contentHash(runJob(job)) };
  });
  assert.deepEqual(
    sample.map(({ key, digest }) => ({ key, digest })),
    here,
  );
  await server.stop();
  const rows = stored(folder);
  assert.equal(rows.length, total);
  assert.deepEqual(
    rows.filter(({ run }) => before.some((row) => row.run === run)),
    before,
  );
});

/** Runs of 50 connections that are tracked, and runs of 65,536, which fill the heap. */
function greedy(memory: string): object {
  const bridge = { name: 'br0', datapath: 'system', flows: ['udp,actions=ct(commit,table=1)'] };
  const guest = (name: string, address: string) => ({
    name,
    nics: [{ name: 'net0', bridge: 'br0', addresses: [address] }],
  });
  const host = { name: 'h1', bridges: [bridge], guests: [guest('a', '10.0.0.1/24'), guest('b', '10.0.0.2/24')] };
  return {
    template: {
      topology: { hosts: [host] },
      traffic: [{ kind: 'udp', from: 'a/net0', to: 'b/net0', flows: 1, count: 1 }],
    },
    axes: [{ name: 'flows', pointers: ['/traffic/0/flows', '/traffic/0/count'], values: [50, 65_536, 51] }],
    repetitions: 2,
    limits: { memory },
  };
}

test('a run that exhausts its memory fails alone, with a problem', async () => {
  const server = await start({ RINGSIDE_JOB_HEAP: '72MiB' });
  // the second does so by its own limit, the first by the heap of its thread
  for (const [memory, detail] of [
    ['4GiB', /^the heap of the run's thread is full/],
    ['180MiB', /^the run's world and its heap take \d+ bytes of memory; it may take 188743680$/],
  ] as const) {
    const { id } = await server.json<View>('POST', '/v1/experiments', greedy(memory));
    const view = await server.json<View>('GET', `/v1/experiments/${id}?wait=120s`);
    assert.deepEqual([view.state, view.reason], ['FAILED', '2 of 6 runs failed']);
    for (const { run, state, problem, digest } of await runsOf(server, id)) {
      const fails = run === 3 || run === 4;
      assert.deepEqual([state, digest === null], fails ? ['FAILED', true] : ['SUCCEEDED', false], `run ${run}`);
      assert.deepEqual(
        [problem?.code, problem?.pointer],
        fails ? ['RINGSIDE_E_LIMIT', '/limits/memory'] : [undefined, undefined],
      );
      if (fails) assert.match(problem?.detail ?? '', detail);
    }
    assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
  }
});

test('stopped in order, it goes on after the next start', async () => {
  const server = await start();
  const { folder } = server;
  const template = {
    template: {
      topology: { preset: 'vhost-net' },
      traffic: [{ kind: 'udp', from: 'a/net0', to: 'b/net0', count: 200 }],
    },
    repetitions: 60,
  };
  const { id } = await server.json<View>('POST', '/v1/experiments', template);
  await untilDone(server, id, 10);
  assert.equal(await server.terminate(), 0);
  const left = stored(folder).length;
  assert.ok(left >= 10 && left < 60, `${left} are stored`);
  const next = await start({ RINGSIDE_DATA_DIR: folder });
  const view = await next.json<View>('GET', `/v1/experiments/${id}?wait=120s`);
  assert.deepEqual([view.state, view.runs['succeeded'], view.runs['reused']], ['SUCCEEDED', 60, 0]);
  assert.equal(await jobsEnded(next), 60 - left);
});
