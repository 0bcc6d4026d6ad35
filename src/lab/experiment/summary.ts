/**
 * What the runs of an experiment come to: for each combination, and for each value of each axis over all combinations that have
 * it. Runs come in the order of their numbers, so that one combination at a time is held, and the sums do not depend on which
 * run was faster.
 */
import { indicesOf } from './axes.ts';
import type { Plan } from './plan.ts';
import { Samples, type Statistic, Strata, statisticOf } from './statistics.ts';

export type Statistics = Readonly<Record<string, Statistic>>;
export interface AxisSummary {
  readonly axis: string;
  readonly values: readonly { readonly value: unknown; readonly runs: number; readonly metrics: Statistics }[];
}
export interface CombinationSummary {
  readonly combination: number;
  readonly values: Readonly<Record<string, unknown>>;
  readonly runs: number;
  readonly metrics: Statistics;
}

export class Summary {
  private readonly plan: Plan;
  private readonly metrics: readonly string[];
  private readonly confidence: number;
  /** By axis and value, where a value has runs: an axis may have very many. */
  private readonly groups: (Group | undefined)[][];
  private readonly each: (row: CombinationSummary) => void;
  private current = -1;
  private runs = 0;
  private readonly samples: Samples[];

  /** `each` is called when a combination's last run has been added. */
  constructor(plan: Plan, metrics: readonly string[], confidence: number, each: (row: CombinationSummary) => void) {
    this.plan = plan;
    this.metrics = metrics;
    this.confidence = confidence;
    this.each = each;
    this.samples = metrics.map(() => new Samples());
    this.groups = plan.axes.map(() => []);
  }

  /** A run that succeeded: its metrics in the summary's order, NaN where it has none. In ascending order of combinations. */
  add(combination: number, values: ArrayLike<number>): void {
    if (combination !== this.current) this.close();
    this.current = combination;
    this.runs++;
    for (let i = 0; i < this.samples.length; i++) {
      const value = values[i];
      if (value !== undefined && Number.isFinite(value)) this.samples[i]!.add(value);
    }
  }
  private close(): void {
    if (this.current < 0) return;
    const { axes } = this.plan;
    const indices = indicesOf(axes, this.current);
    const values = this.plan.shownValues(this.current);
    for (const [i, index] of indices.entries()) {
      const groups = this.groups[i]!;
      groups[index] ??= new Group(this.metrics.length);
      groups[index].add(this.runs, this.samples);
    }
    this.each({
      combination: this.current,
      values,
      runs: this.runs,
      metrics: named(this.metrics, (i) =>
        this.samples[i]!.n === 0 ? null : statisticOf(this.samples[i]!, this.confidence),
      ),
    });
    for (const samples of this.samples) samples.clear();
    this.runs = 0;
    this.current = -1;
  }

  /** When all runs have been added. */
  axes(): AxisSummary[] {
    this.close();
    return this.plan.axes.map(({ name, values }, i) => ({
      axis: name,
      values: values.map((value, j) => {
        const group = this.groups[i]![j];
        if (group === undefined) return { value, runs: 0, metrics: {} };
        const metrics = named(this.metrics, (m) => group.strata[m]!.statistic(this.confidence));
        return { value, runs: group.runs, metrics };
      }),
    }));
  }
}

class Group {
  runs = 0;
  readonly strata: readonly Strata[];
  constructor(metrics: number) {
    this.strata = Array.from({ length: metrics }, () => new Strata());
  }
  add(runs: number, samples: readonly Samples[]): void {
    this.runs += runs;
    for (const [i, one] of samples.entries()) this.strata[i]!.add(one);
  }
}

function named(metrics: readonly string[], of: (index: number) => Statistic | null): Statistics {
  const entries = metrics.map((name, i): [string, Statistic | null] => [name, of(i)]);
  return Object.fromEntries(entries.filter((entry): entry is [string, Statistic] => entry[1] !== null));
}
