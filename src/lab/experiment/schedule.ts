/**
 * Which run comes next, which are not needed any more, and when an experiment is over. It knows no queue and no clock: the server
 * and the command line both drive it. Where a precision is asked for, repetitions of all combinations go forward side by side,
 * and a combination ends at the first repetition, in their order, that makes it precise enough.
 */
import type { Plan } from './plan.ts';
import { Samples } from './statistics.ts';
import { type ExperimentRunState, RUN_STATES } from './template.ts';

/** One of `count` parts of an experiment, from 0. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** Not of this shard: in no count. */
const ELSEWHERE = 255;
const PENDING = RUN_STATES.indexOf('PENDING');
const RUNNING = RUN_STATES.indexOf('RUNNING');
const NOT_NEEDED = RUN_STATES.indexOf('NOT_NEEDED');
const SKIPPED = RUN_STATES.indexOf('SKIPPED');

export class Schedule {
  private readonly plan: Plan;
  private readonly states: Uint8Array;
  private readonly counts: number[] = RUN_STATES.map(() => 0);
  /** Without a precision: the run to look at next. */
  private cursor = 1;
  private readonly precise: PreciseOrder | null;

  /** `ahead`: repetitions of a combination that may be under way beyond its minimum, before it is known whether they are needed. */
  constructor(plan: Plan, { shard, ahead = 4 }: { readonly shard?: Shard; readonly ahead?: number } = {}) {
    this.plan = plan;
    this.states = new Uint8Array(plan.runs + 1);
    for (let combination = 0; combination < plan.combinations; combination++) {
      for (let repetition = 0; repetition < plan.repetitions; repetition++) {
        const number = plan.numberOf(combination, repetition);
        if (!isOf(plan, shard, combination, number)) this.states[number] = ELSEWHERE;
        else {
          const state = plan.skipped.has(combination) ? SKIPPED : PENDING;
          this.states[number] = state;
          this.counts[state]!++;
        }
      }
    }
    const mine = (combination: number): boolean => this.states[plan.numberOf(combination, 0)] === PENDING;
    this.precise = plan.precision === null ? null : new PreciseOrder(plan, ahead, mine);
  }

  /** Workers came or went: how many repetitions are worth starting before it is known whether they are needed. */
  lookAhead(ahead: number): void {
    this.precise?.lookAhead(ahead);
  }

  /** How many runs are in a state. */
  count(state: ExperimentRunState): number {
    return this.counts[RUN_STATES.indexOf(state)]!;
  }
  /** Null: a run of another shard. */
  stateOf(number: number): ExperimentRunState | null {
    return RUN_STATES[this.states[number]!] ?? null;
  }
  get over(): boolean {
    return this.counts[PENDING] === 0 && this.counts[RUNNING] === 0;
  }

  /** The next run to start, from then on RUNNING; null where there is none, or none before another one has ended. */
  next(): number | null {
    const number = this.precise === null ? this.nextInOrder() : this.precise.next((n) => this.states[n] === PENDING);
    if (number !== null) this.set(number, RUNNING);
    return number;
  }
  private nextInOrder(): number | null {
    while (this.cursor <= this.plan.runs && this.states[this.cursor] !== PENDING) this.cursor++;
    return this.cursor > this.plan.runs ? null : this.cursor;
  }

  /**
   * A run has ended; `value` is the number that the precision is about, null where it has none. Returns the runs that are not
   * needed from now on: some may be under way, some may have ended.
   */
  ended(number: number, state: 'SUCCEEDED' | 'FAILED' | 'CANCELLED', value: number | null): number[] {
    if (this.states[number] === ELSEWHERE || this.states[number] === NOT_NEEDED) return [];
    this.set(number, RUN_STATES.indexOf(state));
    if (this.precise === null || state === 'CANCELLED') return [];
    const combination = this.plan.combinationOf(number);
    const last = this.precise.ended(combination, this.plan.repetitionOf(number), state === 'SUCCEEDED' ? value : null);
    if (last === null) return [];
    const dropped: number[] = [];
    for (let repetition = last + 1; repetition < this.plan.repetitions; repetition++) {
      const other = this.plan.numberOf(combination, repetition);
      dropped.push(other);
      this.set(other, NOT_NEEDED);
    }
    return dropped;
  }

  /** Runs that have not ended become CANCELLED; returns those that were under way. */
  cancel(): number[] {
    const running: number[] = [];
    for (let number = 1; number <= this.plan.runs; number++) {
      if (this.states[number] === RUNNING) running.push(number);
      if (this.states[number] === RUNNING || this.states[number] === PENDING)
        this.set(number, RUN_STATES.indexOf('CANCELLED'));
    }
    return running;
  }

  private set(number: number, state: number): void {
    this.counts[this.states[number]!]!--;
    this.states[number] = state;
    this.counts[state]!++;
  }
}

/** Whole combinations stay together where their repetitions decide when they end. */
function isOf(plan: Plan, shard: Shard | undefined, combination: number, number: number): boolean {
  if (shard === undefined) return true;
  return (plan.precision === null ? number - 1 : combination) % shard.count === shard.index;
}

/** One combination on its way to its precision. */
interface Progress {
  next: number;
  /** Repetitions from the first on that have ended. */
  done: number;
  /** What ended before an earlier one did. */
  readonly early: Map<number, number | null>;
  readonly samples: Samples;
  decided: boolean;
  /** It waits for a repetition to end. */
  waiting: boolean;
}

class PreciseOrder {
  private readonly plan: Plan;
  private most = 0;
  private readonly progress = new Map<number, Progress>();
  /** Combinations that may start a repetition, in turn. */
  private ready: number[] = [];
  private turn = 0;

  constructor(plan: Plan, ahead: number, mine: (combination: number) => boolean) {
    this.plan = plan;
    this.lookAhead(ahead);
    for (let combination = 0; combination < plan.combinations; combination++)
      if (mine(combination)) this.ready.push(combination);
  }

  lookAhead(ahead: number): void {
    this.most = (this.plan.precision?.minimum ?? 1) + ahead;
  }

  next(pending: (number: number) => boolean): number | null {
    while (this.turn < this.ready.length) {
      const combination = this.ready[this.turn++]!;
      const progress = this.of(combination);
      const number = this.take(combination, progress, pending);
      if (number === null) {
        progress.waiting = true;
        continue;
      }
      this.ready.push(combination);
      if (this.turn > 4096) {
        this.ready = this.ready.slice(this.turn);
        this.turn = 0;
      }
      return number;
    }
    return null;
  }
  private take(combination: number, progress: Progress, pending: (number: number) => boolean): number | null {
    const { repetitions } = this.plan;
    while (!progress.decided && progress.next < repetitions && progress.next < progress.done + this.most) {
      const number = this.plan.numberOf(combination, progress.next++);
      if (pending(number)) return number;
    }
    return null;
  }

  /** The last repetition that is needed, when that is known now. */
  ended(combination: number, repetition: number, value: number | null): number | null {
    const progress = this.of(combination);
    if (progress.decided) return null;
    progress.early.set(repetition, value);
    for (let next = progress.early.get(progress.done); next !== undefined; next = progress.early.get(progress.done)) {
      progress.early.delete(progress.done);
      progress.done++;
      if (next === null) continue;
      progress.samples.add(next);
      if (!this.isPrecise(progress.samples)) continue;
      progress.decided = true;
      return progress.done - 1;
    }
    if (progress.waiting) {
      progress.waiting = false;
      this.ready.push(combination);
    }
    return null;
  }
  private isPrecise(samples: Samples): boolean {
    const { relative, confidence, minimum } = this.plan.precision!;
    if (samples.n < minimum) return false;
    const half = samples.halfWidth(confidence);
    return half !== null && half <= relative * Math.abs(samples.mean);
  }
  private of(combination: number): Progress {
    let progress = this.progress.get(combination);
    if (progress === undefined) {
      progress = { next: 0, done: 0, early: new Map(), samples: new Samples(), decided: false, waiting: false };
      this.progress.set(combination, progress);
    }
    return progress;
  }
}
