/** Runs jobs in a thread of `npm run accuracy`, one after the other as they are sent. */
import { parentPort } from 'node:worker_threads';
import { collectGarbage } from '../src/lab/collect-garbage.ts';
import type { JobSpec } from '../src/lab/job/job.ts';
import { runJob } from '../src/lab/job/run-job.ts';

parentPort!.on('message', ({ key, job }: { key: string; job: JobSpec }) => {
  const result = runJob(job);
  collectGarbage();
  parentPort!.postMessage({ key, result });
});
