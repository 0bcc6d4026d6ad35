/** All recorded rows beside all runs of ours, at the costs of the table and with a slow guest. */

import type { GoldenRun } from './golden-rules.ts';
import { GOLDEN, type GoldenRow, OPTIONS, type Queue, type QueueCounts, runGolden, SLOW_GUEST } from './golden-runs.ts';

const QUEUES: readonly Queue[] = ['tx', 'rx'];

/** A row and the counts of our runs of it; `own` is null where the option set has none. */
export interface Compared {
  readonly row: GoldenRow;
  readonly own: Readonly<Record<Queue, QueueCounts>> | null;
  readonly slow: Readonly<Record<Queue, QueueCounts>> | null;
}
export function compareAll(): Compared[] {
  return GOLDEN.map((row) => {
    const option = OPTIONS[row.config];
    if (option === undefined) return { row, own: null, slow: null };
    return { row, own: runGolden(row), slow: runGolden(row, { ...option, costs: SLOW_GUEST }) };
  });
}

/** What the rules judge: the recorded repetitions, or our runs. */
export function recordedRuns(): GoldenRun[] {
  return GOLDEN.flatMap((row) =>
    QUEUES.flatMap((queue) =>
      (row[queue] ?? []).map((counts) => ({ row, queue, counts, flushesTraced: !row.config.startsWith('packed') })),
    ),
  );
}
export function ownRuns(compared: readonly Compared[], which: 'own' | 'slow'): GoldenRun[] {
  return compared.flatMap((c) =>
    QUEUES.flatMap((queue) => {
      const counts = c[which]?.[queue];
      const spoken = c.row[queue] !== undefined && counts !== undefined;
      return spoken ? [{ row: c.row, queue, counts, flushesTraced: true }] : [];
    }),
  );
}
