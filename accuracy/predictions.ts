/** Runs all scenarios and shapes. What they predict is kept in predicted.json, from which the page is written. */
import { contentHash, type JobResult } from '../src/lab/job/job.ts';
import { jobOf, jobsByKey } from './jobs.ts';
import { runJobs } from './run-jobs.ts';
import type { Ask } from './scenario.ts';
import { SCENARIOS } from './scenarios.ts';
import { SHAPES } from './shapes.ts';

/** By id: points in their published unit, shapes in theirs. */
export interface Predictions {
  readonly points: Readonly<Record<string, number>>;
  readonly shapes: Readonly<Record<string, number>>;
}

/** Digits that are kept: more than any source has. */
const DIGITS = 6;
const kept = (value: number): number => Number(value.toPrecision(DIGITS));

/** Deterministic: the same sources predict the same. */
export async function predict(told?: (key: string, result: JobResult, seconds: number) => void): Promise<Predictions> {
  const results = await runJobs(jobsByKey([...SCENARIOS, ...SHAPES]), told);
  const of = ({ asks, clockGhz }: { readonly asks: readonly Ask[]; readonly clockGhz: number }): JobResult[] =>
    asks.map((ask) => results.get(contentHash(jobOf(ask, clockGhz)))!);
  const points: Record<string, number> = {};
  for (const scenario of SCENARIOS) points[scenario.id] = kept(scenario.value(of(scenario)));
  const shapes: Record<string, number> = {};
  for (const shape of SHAPES) {
    const made = (shape.points ?? []).map((id) => points[id]!);
    shapes[shape.id] = kept(shape.value(of(shape), made));
  }
  return { points, shapes };
}
