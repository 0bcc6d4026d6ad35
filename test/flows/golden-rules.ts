/**
 * The rules that the counts of the recorded runs follow, as checks on any run: which counts are 0, which are one for each
 * frame, which fall under load, and what an option changes. Counts themselves depend on how fast guest and host run beside
 * each other, and are not compared.
 */
import type { GoldenRow, Queue, QueueCounts } from './golden-runs.ts';

/** One queue of one run. */
export interface GoldenRun {
  readonly row: GoldenRow;
  readonly queue: Queue;
  readonly counts: QueueCounts;
  /** QEMU 7.2 traces no flush of packed rings. */
  readonly flushesTraced: boolean;
}
export interface Rule {
  readonly text: string;
  /** The runs that it speaks of. */
  readonly of: (run: GoldenRun) => boolean;
  /** Whether one keeps it. `other`: the same queue and workload with another option set, where there is one. */
  readonly holds: (run: GoldenRun, other: (config: string) => QueueCounts[]) => boolean;
}

const has = (run: GoldenRun, option: string): boolean => run.row.config.includes(option);
const eventIdx = (run: GoldenRun): boolean => !has(run, 'event_idx_off');
const ioeventfd = (run: GoldenRun): boolean => !has(run, 'ioeventfd_off');
const txTimer = (run: GoldenRun): boolean => has(run, 'tx_timer');
const tx = (run: GoldenRun): boolean => run.queue === 'tx';
const paced = ({ row }: GoldenRun): boolean => row.workload.includes('paced') || row.workload.startsWith('ping');
const single = ({ row }: GoldenRun): boolean => row.frames === 1;
const load = (run: GoldenRun): boolean => !paced(run) && !single(run);
/** The option set without `event_idx=off`. */
const withEventIdx = (config: string): string => config.replace(/_?event_idx_off/, '') || 'base_split';

export const RULES: readonly Rule[] = [
  {
    text: 'Frames, chains taken and used entries are the same number: no frame takes two buffers, none is lost in the ring',
    of: () => true,
    holds: (r) => r.counts.pops === r.counts.fills && r.counts.pops === r.counts.frames,
  },
  {
    text: 'Every frame is published by itself, in both directions: batches of 1',
    of: (r) => r.flushesTraced,
    holds: (r) => r.counts.flushes === r.counts.fills,
  },
  {
    text: 'Every frame that was asked for is sent',
    of: tx,
    holds: (r) => r.counts.pops === r.row.frames,
  },
  {
    text: '`ioeventfd=off`: the device handles every doorbell by itself',
    of: (r) => !ioeventfd(r),
    holds: (r) => r.counts.notifies === r.counts.doorbells,
  },
  {
    text: 'With ioeventfd and event idx the same: the driver rings again only after the device has looked',
    of: (r) => ioeventfd(r) && eventIdx(r),
    holds: (r) => r.counts.notifies === r.counts.doorbells,
  },
  {
    text: 'With ioeventfd and `event_idx=off` doorbells merge in the eventfd: never more are handled than rung, and fewer when sending under load',
    of: (r) => ioeventfd(r) && !eventIdx(r),
    holds: (r) =>
      r.counts.notifies <= r.counts.doorbells && (!tx(r) || !load(r) || r.counts.notifies < r.counts.doorbells),
  },
  {
    text: 'The handler of the guest runs at most once for each interrupt raised: a message that is pending takes in the next',
    of: () => true,
    holds: (r) => r.counts.interrupts <= r.counts.raised,
  },
  {
    text: 'Event idx, under load: far fewer interrupts than frames (less than half as many)',
    of: (r) => eventIdx(r) && load(r),
    holds: (r) => r.counts.raised < r.counts.pops / 2,
  },
  {
    text: '`event_idx=off`, sending under load: interrupts come near one for each frame (at least half as many)',
    of: (r) => !eventIdx(r) && load(r) && tx(r),
    holds: (r) => r.counts.raised >= r.counts.pops / 2,
  },
  {
    text: 'Under load `event_idx=off` raises at least as many interrupts, and rings at least as many doorbells when sending, as event idx does',
    of: (r) => !eventIdx(r) && load(r),
    holds: (r, other) => {
      const on = other(withEventIdx(r.row.config));
      const rings = !tx(r) || r.counts.doorbells >= Math.min(...on.map((c) => c.doorbells));
      return rings && r.counts.raised >= Math.min(...on.map((c) => c.raised));
    },
  },
  {
    text: 'Under load doorbells are fewer than frames',
    of: (r) => load(r) && tx(r) && eventIdx(r),
    holds: (r) => r.counts.doorbells < r.counts.pops / 2,
  },
  {
    text: '`tx=timer`, sending under load: a doorbell for many frames, as kicks are off while the timer runs (at most one for 12 frames)',
    of: (r) => txTimer(r) && tx(r) && load(r),
    holds: (r) => r.counts.doorbells <= r.counts.pops / 12,
  },
  {
    text: 'One frame at a time (1 ms apart, or echoes): one doorbell, one handling, one chain and one interrupt for each frame sent',
    of: (r) => tx(r) && (paced(r) || single(r)),
    holds: ({ counts: c, row }) =>
      [c.pops, c.doorbells, c.notifies, c.raised, c.interrupts].every((count) => count === row.frames),
  },
  {
    text: 'One frame at a time: receiving rings no doorbell, and takes one interrupt at most for each frame',
    of: (r) => !tx(r) && (paced(r) || single(r)),
    holds: ({ counts: c }) => c.doorbells === 0 && c.notifies === 0 && c.raised <= c.pops && c.raised > 0,
  },
  {
    text: 'Receiving under load rings a doorbell only where the ring ran empty: at most one for 60 frames',
    of: (r) => !tx(r) && load(r),
    holds: ({ counts: c }) => c.doorbells <= c.pops / 60,
  },
  {
    text: 'A receive ring of 1024 entries takes 1000 frames without a doorbell',
    of: (r) => !tx(r) && r.row.config === 'rx_queue_1024' && r.row.frames === 1000,
    holds: ({ counts: c }) => c.doorbells === 0,
  },
  {
    text: 'A frame sent is one device-readable descriptor, header and data together',
    of: (r) => tx(r),
    holds: (r) => r.counts.shape === 'in=0 out=1',
  },
  {
    text: 'A receive buffer is one device-writable descriptor; with `mrg_rxbuf=off` while the guest takes large segments it is 19',
    of: (r) => !tx(r) && r.counts.shape !== '',
    holds: (r) => r.counts.shape === (r.row.config === 'mrg_rxbuf_off' ? 'in=19 out=0' : 'in=1 out=0'),
  },
];

/** Rules that our runs break, by their text, with the reason: none. */
export const DIFFERENCES: Readonly<Record<string, string>> = {};

export interface Verdict {
  readonly rule: Rule;
  readonly checked: number;
  readonly broken: readonly GoldenRun[];
}
/** Holds all rules against all runs of one origin. */
export function judgeRuns(runs: readonly GoldenRun[]): Verdict[] {
  const key = (config: string, r: GoldenRun): string =>
    [config, r.row.workload, r.row.frames, r.row.bytes, r.queue].join();
  const byKey = Map.groupBy(runs, (r) => key(r.row.config, r));
  return RULES.map((rule) => {
    const own = runs.filter(rule.of);
    const other = (run: GoldenRun) => (config: string) => (byKey.get(key(config, run)) ?? []).map((r) => r.counts);
    return { rule, checked: own.length, broken: own.filter((run) => !rule.holds(run, other(run))) };
  });
}
