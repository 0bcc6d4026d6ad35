/** Experiments as the command line reads them: a template in a file, users' cost profiles beside it, and every combination checked. */
import { type ProfileSheet, SHIPPED_PROFILES } from '../engine/cost-profile.ts';
import { type CostProfileDocument, parseCostProfile } from '../lab/cost-profile-document.ts';
import { combinationText } from '../lab/experiment/axes.ts';
import { type Plan, planExperiment } from '../lab/experiment/plan.ts';
import type { Shard } from '../lab/experiment/schedule.ts';
import { contentHash } from '../lab/job/job.ts';
import { badDocument, CliError } from './cli-error.ts';
import { readDocument } from './files.ts';
import type { RunFileHeader } from './run-file.ts';

export interface PlannedExperiment {
  readonly plan: Plan;
  /** contentHash() of template, profiles and engine. */
  readonly hash: string;
  readonly profiles: readonly CostProfileDocument[];
}

/** `what` is named in messages. Nothing is run where one combination has a fault. `profiles` have been checked by readProfiles(). */
export function planned(
  what: string,
  template: unknown,
  profiles: readonly CostProfileDocument[],
  { engine, maxRuns }: { readonly engine: string; readonly maxRuns: number },
): PlannedExperiment {
  const book = new Map<string, ProfileSheet>(SHIPPED_PROFILES);
  for (const document of profiles) {
    const parsed = parseCostProfile(document, undefined, book, true);
    if (!parsed.ok) throw badDocument(`${what}, cost profile`, parsed.faults);
    book.set(parsed.sheet.name, parsed.sheet);
  }
  const result = planExperiment(template, { engine, maxRuns, profiles: book });
  if (!result.ok) throw badDocument(what, result.faults);
  const { plan } = result;
  const check = plan.check();
  let step = check.next();
  while (step.done !== true) step = check.next();
  if (step.value.length > 0) throw badDocument(what, step.value);
  return { plan, profiles, hash: contentHash({ template, profiles, engine }) };
}

/** Combinations that are left out, with the first reason of each; the rest by their number. */
export function skippedText(plan: Plan): string[] {
  const lines = [...plan.skipped].slice(0, TOLD).map((combination) => {
    const made = plan.combination(combination);
    const why = made.ok ? '' : `: ${made.faults[0]?.detail ?? ''}`;
    return `skipped: ${combinationText(plan.axes, combination)}${why}`;
  });
  const more = plan.skipped.size - TOLD;
  return more > 0 ? [...lines, `skipped: ${more} more combinations`] : lines;
}
/** Skipped combinations that are told one by one. */
const TOLD = 20;

/** Files with cost profiles that documents may name; one may be built on those before it. */
export function readProfiles(paths: readonly string[]): CostProfileDocument[] {
  const book = new Map<string, ProfileSheet>(SHIPPED_PROFILES);
  return paths.map((path) => {
    const parsed = parseCostProfile(readDocument(path), undefined, book);
    if (!parsed.ok) throw badDocument(path, parsed.faults);
    book.set(parsed.sheet.name, parsed.sheet);
    return parsed.document;
  });
}

export function headerOf({ plan, hash, profiles }: PlannedExperiment, shard: Shard): RunFileHeader {
  return { ringside: 'experiment', engine: plan.engine, experiment: hash, shard, template: plan.template, profiles };
}

/**
 * `i/n`, i from 0 to n - 1. `n` alone takes i from JOB_COMPLETION_INDEX, as Kubernetes gives it to the pods of an indexed Job.
 */
export function readShard(text: string | undefined, env: Readonly<Record<string, string | undefined>>): Shard {
  if (text === undefined) return { index: 0, count: 1 };
  const expected = 'expected i/n with i from 0 to n - 1, or n and i in JOB_COMPLETION_INDEX';
  const [, given, of] = /^(?:(\d{1,6})\/)?(\d{1,6})$/.exec(text) ?? [];
  const own = given ?? env['JOB_COMPLETION_INDEX'];
  if (of === undefined || own === undefined || !/^\d{1,6}$/.test(own))
    throw new CliError(`--shard ${text}: ${expected}`);
  const [index, count] = [Number(own), Number(of)];
  if (index < count) return { index, count };
  throw new CliError(`--shard ${text}: part ${index} of ${count} is none; ${expected}`);
}
export const fileName = ({ index, count }: Shard): string => `runs-${index}-of-${count}.ndjson`;
