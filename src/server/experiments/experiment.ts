/** One experiment while the server knows it: its plan, its schedule while it runs, and what is told about it. */
import type { Plan } from '../../lab/experiment/plan.ts';
import { Schedule } from '../../lab/experiment/schedule.ts';
import { type ExperimentRunState, RUN_STATES } from '../../lab/experiment/template.ts';
import type { ExperimentState, StoredExperiment } from './experiment-store.ts';

export class Experiment {
  readonly number: number;
  readonly created: string;
  readonly plan: Plan;
  state: ExperimentState;
  reason: string | null;
  ended: string | null;
  /** While it runs. */
  schedule: Schedule | null;
  /** Of an experiment that has ended: the states of its runs, by their numbers. */
  private states: Uint8Array | null = null;
  private counts: readonly number[] = [];
  /** Runs that are with the queue, and their keys. */
  readonly inFlight = new Map<number, string>();
  /** Names of the metrics, in the order of the runs' values; grows. */
  metrics: readonly string[] = [];
  /** Changes whenever a run ends. */
  version = 0;
  reused = 0;
  /** A run has had the number that the precision is about. */
  measured = false;
  /** Wall time that its runs took, seconds. */
  wallSeconds = 0;
  /** Since it was started or resumed: when that was (performance.now()), and how many runs have ended since without a result that was there. */
  readonly since = performance.now();
  fresh = 0;
  private readonly indices = new Map<string, number>();
  private readonly waiters = new Set<() => void>();

  constructor(stored: StoredExperiment, plan: Plan, parallel: number) {
    this.number = stored.number;
    this.created = stored.created;
    this.plan = plan;
    this.state = stored.state;
    this.reason = stored.reason;
    this.ended = stored.ended;
    this.schedule = stored.state === 'RUNNING' ? new Schedule(plan, { ahead: parallel }) : null;
  }

  get id(): string {
    return `experiment-${this.number}`;
  }
  get name(): string {
    return this.plan.template.name ?? this.id;
  }

  setMetrics(names: readonly string[]): void {
    this.metrics = names;
    for (const [i, name] of names.entries()) this.indices.set(name, i);
  }
  /** A run's numbers in the experiment's order; `grown`: it has brought new ones. */
  row(numbers: ReadonlyMap<string, number>): { readonly values: Float64Array; readonly grown: boolean } {
    const added = [...numbers.keys()].filter((name) => !this.indices.has(name));
    if (added.length > 0) this.setMetrics([...this.metrics, ...added]);
    const values = new Float64Array(this.metrics.length).fill(Number.NaN);
    for (const [name, value] of numbers) values[this.indices.get(name)!] = value;
    return { values, grown: added.length > 0 };
  }

  /** What the states of its runs were when it ended. */
  setStates(states: Uint8Array): void {
    this.states = states;
    const counts = RUN_STATES.map(() => 0);
    for (let run = 1; run < states.length; run++) counts[states[run]!]!++;
    this.counts = counts;
  }
  count(state: ExperimentRunState): number {
    return this.schedule?.count(state) ?? this.counts[RUN_STATES.indexOf(state)] ?? 0;
  }
  stateOf(run: number): ExperimentRunState {
    const state = this.schedule === null ? RUN_STATES[this.states?.[run] ?? 0] : this.schedule.stateOf(run);
    return state ?? 'PENDING';
  }
  /** Of every run, by its number. */
  allStates(): Uint8Array<ArrayBuffer> {
    const states = new Uint8Array(this.plan.runs + 1);
    for (let run = 1; run <= this.plan.runs; run++) states[run] = RUN_STATES.indexOf(this.stateOf(run));
    return states;
  }

  /** Wall seconds until it is over if runs go on as they did; null: not known. */
  eta(): number | null {
    if (this.schedule === null) return null;
    const left = this.schedule.count('PENDING') + this.schedule.count('RUNNING');
    if (left === 0) return 0;
    if (this.fresh === 0) return null;
    return (left * (performance.now() - this.since)) / 1000 / this.fresh;
  }

  /** Resolves when it is over, or `ms` have passed, or a signal is aborted. */
  over(ms: number, ...signals: AbortSignal[]): Promise<void> {
    if (this.schedule === null || ms <= 0 || signals.some((signal) => signal.aborted)) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.waiters.delete(done);
        for (const signal of signals) signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.waiters.add(done);
      for (const signal of signals) signal.addEventListener('abort', done, { once: true });
    });
  }
  /** It runs no more. */
  finish(state: ExperimentState, reason: string | null): void {
    this.setStates(this.allStates());
    this.schedule = null;
    this.state = state;
    this.reason = reason;
    this.ended = new Date().toISOString();
    this.version++;
    for (const waiter of [...this.waiters]) waiter();
  }
}
