/** A thread of a pool whose jobs do what their documents' names say. */
import { type Batch, type BatchOutcome, type BatchOutcomes, CANCELLED, CURRENT } from '../../../src/lab/job/batch.ts';

export function runBatch({ jobs, control }: Batch): BatchOutcomes {
  return jobs.map(({ job }, index) => {
    Atomics.store(control, CURRENT, index);
    return act(job.document.name ?? '', () => {
      while (Atomics.load(control, CANCELLED + index) === 0) Atomics.wait(control, CANCELLED + index, 0, 5);
    });
  });
}

function act(name: string, untilCancelled: () => void): BatchOutcome {
  const [what] = name.split('-');
  if (what === 'hang') for (;;);
  if (what === 'exit') process.exit(3);
  if (what === 'throw') throw new Error('a fault of ours');
  if (what === 'wait') {
    untilCancelled();
    return { kind: 'cancelled' };
  }
  if (what === 'late') untilCancelled();
  const result = {
    state: 'SUCCEEDED',
    problem: null,
    profile: { name: 'stub', hash: '' },
    seed: 1,
    fingerprint: name,
    virtualTimeSeconds: 0,
    events: 0,
    conservation: null,
    runs: [],
  } as const;
  return { kind: 'result', result, digest: name, wallSeconds: 0.001 };
}
