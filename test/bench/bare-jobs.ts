/**
 * What a machine can do of an experiment's jobs: bare threads that run them back to back, without queue, storage or API. Started by
 * experiments.ts with a template in a file, and the number of threads, jobs and first runs (which are not measured) of each.
 */
import { readFileSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { SHIPPED_PROFILES } from '../../src/engine/cost-profile.ts';
import { collectGarbage } from '../../src/lab/collect-garbage.ts';
import { tuneEngine } from '../../src/lab/engine-flags.ts';
import { planExperiment } from '../../src/lab/experiment/plan.ts';
import { giveWay } from '../../src/lab/job/give-way.ts';
import type { JobSpec } from '../../src/lab/job/job.ts';
import { runJob } from '../../src/lab/job/run-job.ts';

/** Worlds that end before garbage is collected, as in src/lab/job/job.worker.ts. */
const WORLDS_KEPT = 32;

interface Work {
  readonly jobs: readonly JobSpec[];
  readonly first: number;
}

if (isMainThread) await main();
else work(workerData as Work);

async function main(): Promise<void> {
  const [file = '', threads, jobs, first] = process.argv.slice(2);
  const template = JSON.parse(readFileSync(file, 'utf8')) as unknown;
  const planned = planExperiment(template, { engine: 'bench', maxRuns: 1e6, profiles: SHIPPED_PROFILES });
  if (!planned.ok) throw new Error(JSON.stringify(planned.faults));
  tuneEngine();
  const each = Number(first) + Number(jobs);
  const workers = Array.from({ length: Number(threads) }, (_, thread) => {
    const mine = Array.from(
      { length: each },
      (_, n) => planned.plan.run(1 + ((thread * each + n) % planned.plan.runs)).job,
    );
    return new Worker(new URL(import.meta.url), { workerData: { jobs: mine, first: Number(first) } satisfies Work });
  });
  // both have done their first jobs before either is measured
  await Promise.all(workers.map(said));
  const started = performance.now();
  const cpu = process.cpuUsage();
  for (const worker of workers) worker.postMessage('go');
  await Promise.all(workers.map(said));
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const count = Number(jobs) * workers.length;
  console.log(JSON.stringify({ jobsPerSecond: count / seconds, cpuMsPerJob: (user + system) / 1000 / count }));
  await Promise.all(workers.map((worker) => worker.terminate()));
}
function said(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
}

function work({ jobs, first }: Work): void {
  giveWay();
  const run = (some: readonly JobSpec[]): void => {
    for (const [n, job] of some.entries()) {
      const result = runJob(job);
      if (result.state !== 'SUCCEEDED') throw new Error(result.problem?.detail);
      if (n % WORLDS_KEPT === 0) collectGarbage();
    }
    parentPort?.postMessage('done');
  };
  run(jobs.slice(0, first));
  parentPort?.once('message', () => run(jobs.slice(first)));
}
