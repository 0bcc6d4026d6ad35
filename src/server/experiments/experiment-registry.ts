/**
 * The experiments of a server: checked and started, followed, cancelled, removed, and taken up again after a restart. A request
 * that is refused has changed nothing.
 */
import type { ProfileBook } from '../../engine/cost-profile.ts';
import { metricOf, numbersOf } from '../../lab/experiment/metrics.ts';
import { type Plan, type PlannedRun, type PlanOptions, planExperiment } from '../../lab/experiment/plan.ts';
import { RUN_STATES } from '../../lab/experiment/template.ts';
import { engineVersion } from '../../lab/job/engine-version.ts';
import type { JobProfile, JobResult } from '../../lab/job/job.ts';
import type { SchemaFault } from '../../lab/schema-faults.ts';
import { notFound, Problem } from '../problem.ts';
import type { Limits } from '../settings.ts';
import { turn } from '../turns.ts';
import { Experiment } from './experiment.ts';
import type { ExperimentState, ExperimentStore, StoredExperiment, StoredRun } from './experiment-store.ts';
import { JobFeed, type QueueMaker, type RunOutcome } from './job-feed.ts';
import { OutcomeWriter } from './outcome-writer.ts';

/** Time that the event loop gives to this at once, ms. */
const STEP_MS = 5;
/** Runs that are read at once, and that are removed. */
const CHUNK = 500;
const REMOVED = 100;

export interface RegistryOptions {
  readonly store: ExperimentStore;
  readonly limits: Pick<Limits, 'experiments' | 'experimentRuns' | 'guests' | 'memory'>;
  readonly makeQueue: QueueMaker;
  /** Cost profiles that documents may name. */
  readonly profiles: ProfileBook;
  /** Jobs that are worked on at the same time, as far as it is known before there is a queue. */
  readonly parallel: number;
}

export class ExperimentRegistry {
  readonly store: ExperimentStore;
  private readonly options: RegistryOptions;
  private readonly byNumber = new Map<number, Experiment>();
  private readonly feed: JobFeed;
  private readonly writer: OutcomeWriter;
  /** Experiments that are being checked. */
  private checking = 0;
  private closed = false;

  constructor(options: RegistryOptions) {
    this.options = options;
    this.store = options.store;
    this.writer = new OutcomeWriter(this.store, (numbers, error) => this.lost(numbers, error));
    this.feed = new JobFeed(options.makeQueue, {
      known: (key) => this.writer.result(key) ?? this.store.result(key),
      ended: (experiment, run, outcome) => this.record(experiment, run, outcome),
      broken: (experiment, error) => this.stop(experiment, 'FAILED', `it cannot go on: ${textOf(error)}`),
    });
  }

  /** In the order in which they were made. */
  all(): Experiment[] {
    return [...this.byNumber.values()];
  }
  get(id: string): Experiment {
    const number = /^experiment-([1-9][0-9]{0,14})$/.exec(id)?.[1];
    const found = this.byNumber.get(Number(number));
    if (found === undefined) throw notFound(`There is no experiment '${id}'`);
    return found;
  }
  /** Jobs that are with the queue, and the queue where there is one. */
  get jobs(): Pick<JobFeed, 'outstanding' | 'current'> {
    return this.feed;
  }

  /** Checks every combination, then starts. Refused as a whole. */
  async create(body: unknown): Promise<Experiment> {
    const { limits } = this.options;
    if (this.byNumber.size + this.checking >= limits.experiments) {
      const detail = `This server keeps at most ${limits.experiments} experiments; delete one`;
      throw new Problem('RINGSIDE_E_TOO_MANY', detail);
    }
    const plan = this.plan(body);
    this.checking++;
    try {
      const faults = await inSlices(plan.check());
      if (faults.length > 0) throw refused(faults);
      if (this.closed) throw new Problem('RINGSIDE_E_UNAVAILABLE', 'The server stops');
      return this.start(plan);
    } finally {
      this.checking--;
    }
  }
  private plan(body: unknown): Plan {
    const { limits, profiles } = this.options;
    const planned = planExperiment(body, {
      engine: engineVersion(),
      maxRuns: limits.experimentRuns,
      maxGuests: limits.guests,
      profiles,
    });
    if (planned.ok && planned.plan.limits.memory > limits.memory) {
      const detail = `a run may take at most ${limits.memory} bytes on this server`;
      throw new Problem('RINGSIDE_E_LIMIT', detail, { errors: [{ pointer: '/limits/memory', detail }] });
    }
    if (planned.ok) return planned.plan;
    if (planned.tooMany !== undefined)
      throw new Problem('RINGSIDE_E_LIMIT', `The experiment's ${planned.tooMany}`, { errors: planned.faults });
    throw refused(planned.faults);
  }
  /** The one run of a template without axes, checked as an experiment's would be. */
  single(body: unknown): PlannedRun {
    const plan = this.plan(body);
    const made = plan.combination(0);
    if (!made.ok) throw refused(made.faults);
    return plan.run(1);
  }
  private start(plan: Plan): Experiment {
    const row = {
      created: new Date().toISOString(),
      state: 'RUNNING' as const,
      engine: plan.engine,
      template: JSON.stringify(plan.template),
      profiles: JSON.stringify([...plan.profiles.values()]),
      skipped: JSON.stringify([...plan.skipped]),
    };
    let number: number;
    try {
      number = this.store.add(row);
    } catch (error) {
      throw new Problem('RINGSIDE_E_STORAGE', `The data folder cannot be written: ${textOf(error)}`);
    }
    const experiment = new Experiment({ ...row, number, ended: null, reason: null }, plan, this.options.parallel);
    this.byNumber.set(number, experiment);
    this.feed.add(experiment);
    return experiment;
  }

  cancel(id: string): Experiment {
    const experiment = this.get(id);
    if (experiment.schedule === null) return experiment;
    experiment.schedule.cancel();
    this.stop(experiment, 'CANCELLED', null);
    return experiment;
  }
  async remove(id: string): Promise<void> {
    const experiment = this.get(id);
    if (experiment.schedule !== null) this.cancel(id);
    try {
      this.store.condemn(experiment.number);
    } catch (error) {
      throw new Problem('RINGSIDE_E_STORAGE', `The data folder cannot be written: ${textOf(error)}`);
    }
    this.byNumber.delete(experiment.number);
    await this.clear(experiment.number);
  }
  private async clear(number: number): Promise<void> {
    for (let more = true; more && !this.closed; ) {
      // Others may have taken its results a moment ago: the store is to know before it removes them.
      this.writer.flush();
      more = this.store.deleteSome(number, REMOVED);
      if (more) await turn();
    }
  }

  /** What runs goes on after the next start. */
  async close(): Promise<void> {
    this.closed = true;
    await this.feed.close();
    this.writer.flush();
    this.store.close();
  }

  // ---- outcomes -----------------------------------------------------------------------------------------------------
  private record(experiment: Experiment, run: PlannedRun, outcome: RunOutcome): void {
    const { schedule, plan } = experiment;
    if (schedule === null) return;
    const result = outcome.kind === 'result' ? outcome.result : null;
    const problem = outcome.kind === 'result' ? outcome.result.problem : outcome.problem;
    const state = result?.state === 'SUCCEEDED' ? 'SUCCEEDED' : 'FAILED';
    const reused = outcome.kind === 'result' && outcome.reused;
    const wallSeconds = outcome.kind === 'result' ? outcome.stored.wallSeconds : outcome.wallSeconds;
    const { values, grown } = experiment.row(result === null || state === 'FAILED' ? new Map() : numbersOf(result));
    const stored: StoredRun = {
      run: run.number,
      state: RUN_STATES.indexOf(state),
      reused,
      key: run.key,
      digest: outcome.kind === 'result' ? outcome.stored.digest : null,
      wallSeconds,
      problem: problem === null ? null : JSON.stringify(problem),
      metrics: values,
    };
    this.writer.add({
      experiment: experiment.number,
      run: stored,
      result: outcome.kind === 'result' && !reused ? outcome.stored : null,
      metrics: grown ? experiment.metrics : null,
    });
    if (reused) experiment.reused++;
    else {
      experiment.fresh++;
      experiment.wallSeconds += wallSeconds;
    }
    experiment.version++;
    const value = plan.precision === null || result === null ? null : metricOf(result, plan.precision.metric);
    if (value !== null) experiment.measured = true;
    this.feed.drop(experiment, schedule.ended(run.number, state, value));
    this.finishIfOver(experiment);
  }
  private finishIfOver(experiment: Experiment): void {
    if (experiment.schedule?.over !== true) return;
    const failed = experiment.count('FAILED');
    this.stop(experiment, failed === 0 ? 'SUCCEEDED' : 'FAILED', reasonOf(experiment, failed));
  }
  private stop(experiment: Experiment, state: ExperimentState, reason: string | null): void {
    if (experiment.schedule === null) return;
    experiment.schedule.cancel();
    this.feed.remove(experiment);
    this.writer.flush();
    // Writing what was left may have ended it.
    if (experiment.schedule === null) return;
    experiment.finish(state, reason);
    try {
      this.store.end(experiment.number, state, reason, experiment.ended ?? '', experiment.allStates());
    } catch (error) {
      console.error(`the end of ${experiment.id} could not be stored:`, error);
    }
  }
  private lost(numbers: readonly number[], error: unknown): void {
    console.error('outcomes of runs could not be stored:', error);
    for (const number of numbers) {
      const experiment = this.byNumber.get(number);
      if (experiment !== undefined) this.stop(experiment, 'FAILED', `its runs cannot be stored: ${textOf(error)}`);
    }
  }

  // ---- after a restart ----------------------------------------------------------------------------------------------
  /** Takes up what was running; runs that were stored are not run again. */
  async restore(): Promise<void> {
    if (this.closed) return;
    for (const number of this.store.condemned()) await this.clear(number);
    if (this.closed) return;
    for (const row of this.store.all()) {
      const experiment = this.restored(row);
      if (experiment === null) continue;
      this.byNumber.set(row.number, experiment);
      experiment.setMetrics(this.store.metrics(row.number));
      await this.takeUp(experiment);
      if (this.closed) return;
    }
  }
  private restored(row: StoredExperiment): Experiment | null {
    const book: ProfileBook = new Map((JSON.parse(row.profiles) as JobProfile[]).map((p) => [p.name, p]));
    const options: PlanOptions = {
      engine: row.engine,
      maxRuns: Number.MAX_SAFE_INTEGER,
      maxGuests: this.options.limits.guests,
      profiles: book,
    };
    const planned = planExperiment(JSON.parse(row.template), options);
    if (!planned.ok) {
      console.error(`the stored experiment-${row.number} is not valid for this version: ${planned.faults[0]?.detail}`);
      return null;
    }
    for (const combination of JSON.parse(row.skipped) as number[]) planned.plan.skipped.add(combination);
    return new Experiment(row, planned.plan, this.options.parallel);
  }
  private async takeUp(experiment: Experiment): Promise<void> {
    const { plan, number } = experiment;
    if (experiment.schedule === null) experiment.setStates(this.store.states(number) ?? new Uint8Array(plan.runs + 1));
    for (let first = 1; ; ) {
      const rows = this.store.runs(number, first, CHUNK);
      for (const row of rows) this.restoreRun(experiment, row);
      if (rows.length < CHUNK) break;
      first = rows.at(-1)!.run + 1;
      await turn();
      if (this.closed) return;
    }
    if (experiment.schedule === null) return;
    if (plan.engine !== engineVersion()) {
      const reason = `it was begun by engine ${plan.engine}, this is ${engineVersion()}: results would not compare`;
      this.stop(experiment, 'FAILED', reason);
      return;
    }
    this.finishIfOver(experiment);
    if (experiment.schedule !== null) this.feed.add(experiment);
  }
  private restoreRun(experiment: Experiment, row: StoredRun): void {
    if (row.reused) experiment.reused++;
    else experiment.wallSeconds += row.wallSeconds;
    const { schedule, plan } = experiment;
    if (schedule === null) return;
    const succeeded = RUN_STATES[row.state] === 'SUCCEEDED';
    let value: number | null = null;
    if (plan.precision !== null && succeeded) {
      const stored = this.store.result(row.key);
      if (stored !== null) value = metricOf(JSON.parse(stored.result) as JobResult, plan.precision.metric);
    }
    if (value !== null) experiment.measured = true;
    schedule.ended(row.run, succeeded ? 'SUCCEEDED' : 'FAILED', value);
  }
}

/** What is to be said at an experiment's end. */
function reasonOf({ plan, measured }: Experiment, failed: number): string | null {
  const reasons = [];
  if (failed > 0) reasons.push(`${failed} of ${plan.runs} runs failed`);
  if (plan.precision !== null && !measured)
    reasons.push(`no result has a number at ${plan.precision.metric}: the precision had no effect`);
  return reasons.length === 0 ? null : reasons.join('; ');
}
function refused(faults: readonly SchemaFault[]): Problem {
  const detail = `The experiment has ${faults.length} fault${faults.length === 1 ? '' : 's'}: ${faults[0]?.detail ?? ''}`;
  return new Problem('RINGSIDE_E_VALIDATION', detail, { errors: faults });
}

/** Runs a generator to its result, some milliseconds at a time. */
async function inSlices<T>(work: Generator<unknown, T>): Promise<T> {
  for (let until = performance.now() + STEP_MS; ; ) {
    const step = work.next();
    if (step.done === true) return step.value;
    if (performance.now() < until) continue;
    await turn();
    until = performance.now() + STEP_MS;
  }
}
function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
