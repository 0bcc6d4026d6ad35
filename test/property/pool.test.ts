/** Whatever jobs do to their threads and whenever they are cancelled or submitted again: each is told once how it ended, and how it had to. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { ThreadPool } from '../../src/fleet/pool.ts';
import { jobOf, queued, Told } from '../unit/fleet/jobs.ts';

const STUB = new URL('../unit/fleet/stub-jobs.worker.ts', import.meta.url);
const RUNS = process.env['RINGSIDE_FULL'] === '1' ? 300 : 12;

/** What jobs of a kind may come to, cancelled or not. `wait` ends when it is cancelled only, `late` has a result then. */
const ENDS = {
  done: ['result'],
  exit: ['failed'],
  throw: ['failed'],
  wait: [],
  late: ['result'],
} as const;
type Kind = keyof typeof ENDS;

const kind = fc.constantFrom<Kind>('done', 'done', 'done', 'exit', 'throw', 'wait', 'late');
const step = fc.record({
  act: fc.constantFrom('cancel', 'submit', 'turn'),
  job: fc.nat(19),
});

test('every job ends once, and as it had to', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(kind, { minLength: 1, maxLength: 20 }),
      fc.array(step, { maxLength: 30 }),
      fc.integer({ min: 1, max: 3 }),
      async (kinds, steps, threads) => {
        const told = new Told();
        const pool = new ThreadPool(told, { threads, entry: STUB, graceMs: 50 });
        const jobs = kinds.map((name, n) => {
          const job = jobOf(n);
          return queued({ ...job, document: { ...job.document, name: `${name}-${n}` } });
        });
        const cancelled = new Set<number>();
        try {
          for (const job of jobs) pool.submit(job);
          for (const { act, job } of steps) {
            const n = job % jobs.length;
            const { key } = jobs[n]!;
            if (act === 'turn') await new Promise((resolve) => setImmediate(resolve));
            else if (act === 'cancel') {
              pool.cancel([key]);
              cancelled.add(n);
            } else if (!told.outcomes.has(key)) pool.submit(jobs[n]!);
          }
          // those that wait for it, and have not ended
          for (const [n, name] of kinds.entries()) {
            if (name !== 'wait' && name !== 'late') continue;
            pool.cancel([jobs[n]!.key]);
            cancelled.add(n);
          }
          await told.until(() => told.outcomes.size === jobs.length);
          for (const [n, { key }] of jobs.entries()) {
            const outcomes = told.outcomes.get(key)!.map((outcome) => outcome.kind);
            const may: readonly string[] = [...ENDS[kinds[n]!], ...(cancelled.has(n) ? ['cancelled'] : [])];
            assert.equal(outcomes.length, 1, `${kinds[n]}: ${outcomes}`);
            assert.ok(may.includes(outcomes[0]!), `${kinds[n]}: ${outcomes}, not ${may}`);
          }
          const { waiting, out, ended } = pool.counts();
          assert.deepEqual([waiting, out, ended.result + ended.failed + ended.cancelled], [0, 0, jobs.length]);
        } finally {
          await pool.close();
        }
      },
    ),
    { numRuns: RUNS, endOnFailure: true },
  );
});
