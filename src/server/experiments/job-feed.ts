/**
 * Between the experiments that run and the queue of jobs: takes the next run of each experiment in turn, gives its job to the
 * queue unless its result is known, and hands outcomes back. Equal jobs of several experiments are one job of the queue. The
 * queue holds a bounded number of jobs, however many there are.
 */
import type { JobOutcome, JobQueue, QueueListener } from '../../fleet/queue.ts';
import type { PlannedRun } from '../../lab/experiment/plan.ts';
import type { JobResult } from '../../lab/job/job.ts';
import { turn } from '../turns.ts';
import type { Experiment } from './experiment.ts';
import type { StoredResult } from './experiment-store.ts';

/** Makes the queue; called when the first job is there. */
export type QueueMaker = (listener: QueueListener) => JobQueue | Promise<JobQueue>;

/** Jobs that the queue holds for each that may be worked on, and at least. */
const AHEAD = 32;
const LEAST_AHEAD = 128;
/** Time that the event loop gives to this at once, ms. */
const STEP_MS = 4;

/** What a run came to. */
export type RunOutcome =
  | { readonly kind: 'result'; readonly result: JobResult; readonly stored: StoredResult; readonly reused: boolean }
  | Extract<JobOutcome, { readonly kind: 'failed' }>;

interface Waiting {
  readonly experiment: Experiment;
  readonly run: PlannedRun;
}

export interface FeedEnds {
  /** A result that is there already. */
  readonly known: (key: string) => StoredResult | null;
  readonly ended: (experiment: Experiment, run: PlannedRun, outcome: RunOutcome) => void;
  /** A run cannot even be asked for: our own mistake, or a queue that cannot be made. */
  readonly broken: (experiment: Experiment, error: unknown) => void;
}

export class JobFeed implements QueueListener {
  private readonly make: QueueMaker;
  private readonly ends: FeedEnds;
  private readonly live = new Set<Experiment>();
  private readonly waiting = new Map<string, Waiting[]>();
  private made: Promise<JobQueue> | null = null;
  private queue: JobQueue | null = null;
  private feeding = false;
  private closed = false;

  constructor(make: QueueMaker, ends: FeedEnds) {
    this.make = make;
    this.ends = ends;
  }

  /** Jobs that are with the queue. */
  get outstanding(): number {
    return this.waiting.size;
  }
  /** Null before there was anything to run. */
  get current(): JobQueue | null {
    return this.queue;
  }
  add(experiment: Experiment): void {
    this.live.add(experiment);
    void this.feed();
  }
  /** Its jobs are stopped, unless others wait for them, too. */
  remove(experiment: Experiment): void {
    this.live.delete(experiment);
    this.drop(experiment, [...experiment.inFlight.keys()]);
  }
  /** Runs of an experiment that nobody needs any more. */
  drop(experiment: Experiment, runs: readonly number[]): void {
    const keys: string[] = [];
    for (const run of runs) {
      const key = experiment.inFlight.get(run);
      if (key === undefined) continue;
      experiment.inFlight.delete(run);
      const others = this.waiting.get(key)?.filter((w) => w.experiment !== experiment || w.run.number !== run) ?? [];
      if (others.length > 0) this.waiting.set(key, others);
      else {
        this.waiting.delete(key);
        keys.push(key);
      }
    }
    if (keys.length > 0) this.queue?.cancel(keys);
    void this.feed();
  }
  async close(): Promise<void> {
    this.closed = true;
    const queue = await this.made?.catch(() => null);
    await queue?.close();
  }

  // ---- the queue's listener -----------------------------------------------------------------------------------------
  started(): void {}
  ended(key: string, outcome: JobOutcome): void {
    if (this.closed) return;
    const waiting = this.waiting.get(key) ?? [];
    const [first] = waiting;
    if (first === undefined) return;
    if (outcome.kind === 'cancelled') {
      // Nobody waited for it then; somebody does now.
      this.submit(first.run, first.experiment);
      return;
    }
    this.waiting.delete(key);
    for (const { experiment, run } of waiting) experiment.inFlight.delete(run.number);
    if (outcome.kind === 'failed') for (const { experiment, run } of waiting) this.ends.ended(experiment, run, outcome);
    else {
      const { result, digest, wallSeconds } = outcome;
      const stored = { digest, result: JSON.stringify(result), wallSeconds };
      for (const { experiment, run } of waiting)
        this.ends.ended(experiment, run, { kind: 'result', result, stored, reused: run !== first.run });
    }
    void this.feed();
  }

  // ---- feeding ------------------------------------------------------------------------------------------------------
  private async feed(): Promise<void> {
    if (this.feeding || this.closed || this.live.size === 0) return;
    this.feeding = true;
    try {
      this.made ??= Promise.resolve(this.make(this));
      this.queue = await this.made;
      const { parallel } = this.queue;
      const most = Math.max(LEAST_AHEAD, AHEAD * parallel);
      for (const { schedule, plan } of this.live) schedule?.lookAhead(Math.ceil((2 * parallel) / plan.combinations));
      let until = performance.now() + STEP_MS;
      while (!this.closed && this.waiting.size < most && this.round()) {
        if (performance.now() < until) continue;
        await turn();
        until = performance.now() + STEP_MS;
      }
    } catch (error) {
      this.made = null;
      for (const experiment of [...this.live]) this.ends.broken(experiment, error);
    } finally {
      this.feeding = false;
    }
  }
  /** A run of each experiment that has one. */
  private round(): boolean {
    let any = false;
    for (const experiment of this.live) {
      const number = experiment.schedule?.next() ?? null;
      if (number === null) continue;
      any = true;
      try {
        this.begin(experiment, experiment.plan.run(number));
      } catch (error) {
        this.ends.broken(experiment, error);
      }
    }
    return any;
  }
  private begin(experiment: Experiment, run: PlannedRun): void {
    const known = this.ends.known(run.key);
    if (known !== null) {
      const result = JSON.parse(known.result) as JobResult;
      this.ends.ended(experiment, run, { kind: 'result', result, stored: known, reused: true });
      return;
    }
    experiment.inFlight.set(run.number, run.key);
    const waiting = this.waiting.get(run.key);
    if (waiting !== undefined) waiting.push({ experiment, run });
    else {
      this.waiting.set(run.key, [{ experiment, run }]);
      this.submit(run, experiment);
    }
  }
  private submit({ key, job }: PlannedRun, { plan }: Experiment): void {
    this.queue?.submit({ key, job, limits: plan.limits });
  }
}
