/**
 * Experiments of many short runs, as JSON lines: what a server with its queue, its storage and its API reaches of what bare
 * threads do with the same jobs (bare-jobs.ts, before and after), and how fast the API answers meanwhile.
 * `node test/bench/experiments.ts [runs] [threads] [frames of a run]`.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Ringside } from '../tools/ringside.ts';

const [runs = 10_000, threads = availableParallelism(), frames = 1500] = process.argv.slice(2).map(Number);
/** Of the rate of bare threads. */
const SHARE = 0.85;
/** Of /readyz at the 99th percentile. */
const READY_MS = 50;
/** Jobs of each bare thread: first ones that are not measured, and those that are. */
const FIRST = 60;
const MEASURED = Math.max(100, Math.min(1000, Math.round(runs / threads / 4)));

interface Bare {
  readonly jobsPerSecond: number;
  readonly cpuMsPerJob: number;
}
interface ExperimentView {
  readonly state: string;
  readonly runs: Readonly<Record<string, number>>;
}

const print = (row: object): void => console.log(JSON.stringify(row));
const rounded = (n: number, digits = 3): number => Number(n.toFixed(digits));
const template = {
  name: 'bench',
  template: {
    topology: { preset: 'vhost-net' },
    traffic: [{ kind: 'udp', from: 'a/net0', to: 'b/net0', count: frames, rate: 'max' }],
  },
  repetitions: runs,
};

function bare(file: string): Bare {
  const args = ['--no-warnings', join(import.meta.dirname, 'bare-jobs.ts'), file, threads, MEASURED, FIRST].map(String);
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Bare;
}

/** Latencies of /readyz, ms, asked every 50 ms over one connection until `over`. */
async function ready(url: string, over: () => boolean): Promise<number[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const latencies: number[] = [];
  while (!over()) {
    const asked = performance.now();
    await new Promise<void>((resolve, reject) => {
      get(`${url}/readyz`, { agent }, (response) => {
        response.resume().once('end', resolve);
        if (response.statusCode !== 200) reject(new Error(`/readyz answers ${response.statusCode}`));
      }).once('error', reject);
    });
    latencies.push(performance.now() - asked);
    await sleep(50);
  }
  agent.destroy();
  return latencies.sort((a, b) => a - b);
}

async function cpuSeconds(server: Ringside): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return Number(/^process_cpu_seconds_total (\S+)/m.exec(text)?.[1]);
}

/** The experiment through a server; all from the request on, its threads' start included. */
async function served(): Promise<Bare & { readonly latencies: readonly number[] }> {
  const server = await Ringside.start({ RINGSIDE_JOB_THREADS: String(threads) });
  try {
    const started = performance.now();
    const cpu = await cpuSeconds(server);
    const { id } = await server.json<{ id: string }>('POST', '/v1/experiments', template);
    let over = false;
    const polled = ready(server.url, () => over);
    let view: ExperimentView;
    do view = await server.json<ExperimentView>('GET', `/v1/experiments/${id}?wait=10s`);
    while (view.state === 'RUNNING');
    const seconds = (performance.now() - started) / 1000;
    over = true;
    if (view.state !== 'SUCCEEDED') throw new Error(JSON.stringify(view));
    const cpuMsPerJob = (1000 * ((await cpuSeconds(server)) - cpu)) / runs;
    return { jobsPerSecond: runs / seconds, cpuMsPerJob, latencies: await polled };
  } finally {
    await server.stop();
  }
}

const folder = mkdtempSync(join(tmpdir(), 'ringside-bench-'));
try {
  const file = join(folder, 'template.json');
  writeFileSync(file, JSON.stringify(template));
  const before = bare(file);
  print({ bench: 'jobs of bare threads', threads, ...before });
  const { latencies, ...server } = await served();
  print({ bench: 'runs of an experiment', threads, runs, ...server });
  const after = bare(file);
  print({ bench: 'jobs of bare threads', threads, ...after });
  const share = (2 * server.jobsPerSecond) / (before.jobsPerSecond + after.jobsPerSecond);
  // on machines that others use too
  const byCpuTime = (before.cpuMsPerJob + after.cpuMsPerJob) / 2 / server.cpuMsPerJob;
  const judge = (reached: boolean): string => (reached ? 'reached' : 'missed');
  print({
    floor: 'experiments against bare threads',
    runs,
    msPerRun: rounded((1000 * threads) / before.jobsPerSecond, 1),
    wanted: SHARE,
    share: rounded(share),
    verdict: judge(share >= SHARE),
    shareByCpuTime: rounded(byCpuTime),
    verdictByCpuTime: judge(byCpuTime >= SHARE),
  });
  const at = (q: number): number =>
    rounded(latencies[Math.min(latencies.length - 1, Math.floor(q * latencies.length))] ?? 0, 1);
  const readyMs = { asked: latencies.length, p50: at(0.5), p99: at(0.99), max: at(1) };
  print({
    floor: '/readyz while experiments run',
    wantedMs: READY_MS,
    readyMs,
    verdict: judge(readyMs.p99 < READY_MS),
  });
} finally {
  rmSync(folder, { recursive: true });
}
