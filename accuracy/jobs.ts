/** Jobs of scenarios: one for each different thing that is asked. */
import { clockScaled, type ProfileSheet, shippedProfile } from '../src/engine/cost-profile.ts';
import { contentHash, type JobSpec } from '../src/lab/job/job.ts';
import type { Ask } from './scenario.ts';

/** More than any of the scenarios has; one that loops ends here. */
const MAX_EVENTS = 1_000_000_000;

/** The cost table's defaults at a clock: nothing else of a processor is known. */
export function profileAt(clockGhz: number): ProfileSheet {
  const table = shippedProfile();
  return clockGhz === table.clockGhz ? table : clockScaled(table, `clock-${clockGhz}`, clockGhz);
}

/** Predictions do not say which engine made them: their file changes when they do, and not with every line of the sources. */
export function jobOf(ask: Ask, clockGhz: number): JobSpec {
  const { name, costs } = profileAt(clockGhz);
  return {
    engine: 'this one',
    document: ask.document,
    profile: { name, costs },
    traffic: ask.traffic,
    ...(ask.measure === undefined ? {} : { measure: ask.measure }),
    maxEvents: MAX_EVENTS,
  };
}

/** All jobs by their keys, each once. */
export function jobsByKey(
  all: readonly { readonly clockGhz: number; readonly asks: readonly Ask[] }[],
): Map<string, JobSpec> {
  const jobs = all.flatMap(({ clockGhz, asks }) => asks.map((ask) => jobOf(ask, clockGhz)));
  return new Map(jobs.map((job) => [contentHash(job), job]));
}
