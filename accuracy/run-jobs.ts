/** Runs jobs on a few threads of this machine. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { JobResult, JobSpec } from '../src/lab/job/job.ts';

const WORKER = new URL('./job.worker.ts', import.meta.url);

/** Results by key. Fails where a job does, with what it said; `told` hears of each result. */
export async function runJobs(
  jobs: ReadonlyMap<string, JobSpec>,
  told: (key: string, result: JobResult, seconds: number) => void = () => {},
): Promise<Map<string, JobResult>> {
  const results = new Map<string, JobResult>();
  const waiting = [...jobs];
  const thread = async (): Promise<void> => {
    const worker = new Worker(WORKER);
    try {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const [key, job] = next;
        const began = performance.now();
        const result = await answer(worker, key, job);
        if (result.problem !== null)
          throw new Error(`${key}: ${result.problem.pointer ?? ''} ${result.problem.detail}`);
        results.set(key, result);
        told(key, result, (performance.now() - began) / 1000);
      }
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), jobs.size) }, thread));
  return results;
}

function answer(worker: Worker, key: string, job: JobSpec): Promise<JobResult> {
  return new Promise((resolve, reject) => {
    worker.once('message', ({ result }: { result: JobResult }) => {
      worker.removeListener('error', reject);
      resolve(result);
    });
    worker.once('error', reject);
    worker.postMessage({ key, job });
  });
}
