/** Entry of the thread that runs two jobs and compares them (diff-jobs.ts). */
import { parentPort, workerData } from 'node:worker_threads';
import { RingReader } from '../engine/event-ring.ts';
import type { JobResult, JobSpec } from '../lab/job/job.ts';
import { JobExceeded, type Played, playJob } from '../lab/job/run-job.ts';
import { valueDiffs } from '../readers/diff/json-diff.ts';
import { diffRuns } from '../readers/diff/run-diff.ts';
import type { DiffAnswer, DiffRequest } from './diff-jobs.ts';

const port = parentPort;
if (port === null) throw new Error('this file is the entry of a worker thread');
/** Rings that hold the events of some ten thousand frames at least: those of jobs are small, for nobody reads them. */
const EVENTS = 1_048_576;

function play(job: JobSpec, { memory, wallSeconds }: DiffRequest['limits']): Played {
  const started = performance.now();
  const { recorder } = job.document;
  const events = Math.max(EVENTS, recorder?.events ?? 0);
  return playJob(
    { ...job, document: { ...job.document, recorder: { ...recorder, events } } },
    {
      building: (bytes) => {
        if (bytes > memory)
          throw new JobExceeded('memory', `a run's world takes ${bytes} bytes; it may take ${memory}`);
      },
      cancelled: () => {
        if (performance.now() - started > wallSeconds * 1000)
          throw new JobExceeded('time', `a run takes longer than ${wallSeconds} s`);
        return false;
      },
    },
  );
}
const readerOf = ({ world }: Played): RingReader | null =>
  world === null ? null : new RingReader(world.machine.arena.buffer, world.machine.catalog);
/** What results are compared by: a fingerprint differs with everything, and says no more. */
const figures = ({ fingerprint: _, ...result }: JobResult): object => result;

function answer({ left, right, limits }: DiffRequest): DiffAnswer {
  try {
    const one = play(left, limits);
    const other = play(right, limits);
    const readers = [readerOf(one), readerOf(other)] as const;
    const runs = readers[0] === null || readers[1] === null ? null : diffRuns(readers[0], readers[1]);
    return {
      ok: true,
      diff: {
        inputs: valueDiffs(left, right),
        outcomes: valueDiffs(figures(one.result), figures(other.result)),
        results: { left: one.result, right: other.result },
        runs,
      },
    };
  } catch (error) {
    if (error instanceof JobExceeded) return { ok: false, problem: error.problem };
    throw error;
  }
}
// Who starts this thread gives it nothing else.
port.postMessage(answer(workerData as DiffRequest));
