/**
 * A part of an experiment on the threads of this machine, without any service: runs go to the pool in the order of the schedule,
 * and into a file as they end. What is in that file already is not run again, so the same command goes on after a crash.
 */
import { renameSync, rmSync } from 'node:fs';
import { ThreadPool } from '../fleet/pool.ts';
import type { JobOutcome, JobQueue } from '../fleet/queue.ts';
import { metricOf } from '../lab/experiment/metrics.ts';
import type { Plan } from '../lab/experiment/plan.ts';
import { Schedule } from '../lab/experiment/schedule.ts';
import { RunFile, type RunFileHeader, type RunLine, type RunPlace } from './run-file.ts';

/** Jobs that are with the pool: enough for its batches, few enough to be small. */
const WINDOW = 512;

/** A run that has ended, by the file that its line is in. */
export interface EndedRun {
  readonly file: RunFile;
  readonly place: RunPlace;
}

export class LocalRuns {
  readonly schedule: Schedule;
  /** By the number of the run; several runs may have one line, where their jobs are equal. */
  readonly ended = new Map<number, EndedRun>();
  /** Results that were there. */
  reused = 0;
  private readonly plan: Plan;
  private readonly file: RunFile;
  private readonly queue: JobQueue;
  private readonly known: Map<string, EndedRun>;
  /** Numbers by the key of a job that is with the pool. */
  private readonly waiting = new Map<string, number[]>();
  private readonly done: {
    readonly promise: Promise<void>;
    readonly resolve: () => void;
    readonly reject: (error: unknown) => void;
  };

  /** `known`: results that are there, by the keys of their jobs. */
  constructor(plan: Plan, file: RunFile, known: Map<string, EndedRun>, threads: number) {
    this.plan = plan;
    this.file = file;
    this.known = known;
    this.schedule = new Schedule(plan, { shard: file.header.shard, ahead: 2 * threads });
    this.done = Promise.withResolvers<void>();
    const ended = (key: string, outcome: JobOutcome): void => {
      try {
        this.take(key, outcome);
      } catch (error) {
        this.done.reject(error);
      }
    };
    this.queue = new ThreadPool({ started: () => {}, ended }, { threads });
  }

  /** Resolves when every run of the part has ended. */
  async run(): Promise<void> {
    this.fill();
    try {
      await this.done.promise;
    } finally {
      await this.queue.close();
    }
  }
  /** Ends at once; what has ended is in the file. */
  async stop(): Promise<void> {
    await this.queue.close();
  }

  private fill(): void {
    while (this.waiting.size < WINDOW) {
      const number = this.schedule.next();
      if (number === null) break;
      const { key, job } = this.plan.run(number);
      const known = this.known.get(key);
      const others = this.waiting.get(key);
      if (known !== undefined) {
        this.reused++;
        this.end(number, known);
      } else if (others !== undefined) others.push(number);
      else {
        this.waiting.set(key, [number]);
        this.queue.submit({ key, job, limits: this.plan.limits });
      }
    }
    if (this.schedule.over) this.done.resolve();
  }

  private take(key: string, outcome: JobOutcome): void {
    const numbers = this.waiting.get(key) ?? [];
    this.waiting.delete(key);
    if (outcome.kind === 'cancelled') for (const number of numbers) this.schedule.ended(number, 'CANCELLED', null);
    else {
      const [first = 0] = numbers;
      const place = this.file.append(this.lineOf(first, key, outcome));
      const ended = { file: this.file, place };
      if (outcome.kind === 'result') this.known.set(key, ended);
      for (const number of numbers) this.end(number, ended);
    }
    this.fill();
  }

  private lineOf(run: number, key: string, outcome: Exclude<JobOutcome, { kind: 'cancelled' }>): RunLine {
    const seed = this.plan.seed + this.plan.repetitionOf(run);
    const { wallSeconds } = outcome;
    if (outcome.kind === 'failed')
      return { run, key, seed, state: 'FAILED', digest: null, wallSeconds, problem: outcome.problem, result: null };
    const { result, digest } = outcome;
    const { state, problem } = result;
    return { run, key, seed, state, digest, wallSeconds, problem, result };
  }

  private end(number: number, ended: EndedRun): void {
    this.ended.set(number, ended);
    for (const dropped of endInSchedule(this.plan, this.schedule, number, ended)) {
      for (const [key, numbers] of this.waiting) {
        if (!numbers.includes(dropped)) continue;
        if (numbers.every((other) => this.schedule.stateOf(other) === 'NOT_NEEDED')) this.queue.cancel([key]);
      }
    }
  }
}

/** Tells the schedule what a run came to; the runs that are not needed any more. */
export function endInSchedule(plan: Plan, schedule: Schedule, number: number, { file, place }: EndedRun): number[] {
  const { precision } = plan;
  const result = precision === null ? null : file.line(place).result;
  const value = result === null || precision === null ? null : metricOf(result, precision.metric);
  return schedule.ended(number, place.state, value);
}

/** Writes the runs that count in their order, under `path`, once all of it is there. */
export function writeOrdered(
  path: string,
  header: RunFileHeader,
  plan: Plan,
  schedule: Schedule,
  ended: ReadonlyMap<number, EndedRun>,
): RunFile {
  const temporary = `${path}.new`;
  rmSync(temporary, { force: true });
  const file = RunFile.create(temporary, header);
  for (let number = 1; number <= plan.runs; number++) {
    const found = ended.get(number);
    const state = schedule.stateOf(number);
    if (found === undefined || (state !== 'SUCCEEDED' && state !== 'FAILED')) continue;
    const line = found.file.line(found.place);
    file.append({ ...line, run: number, seed: plan.seed + plan.repetitionOf(number) });
  }
  renameSync(temporary, path);
  return file;
}
