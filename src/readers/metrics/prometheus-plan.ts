/**
 * Which counters make up which series of a world, and the text that precedes each value: worked out once per world, in
 * steps short enough for an event loop. `prepare` does all of it ahead of the first scrape.
 */
import type { WorldCatalog } from '../../engine/catalog.ts';
import { LATENCY_BOUNDS_NS, LATENCY_BUCKETS } from '../../engine/latency.ts';
import { DPDK_FAMILIES } from './prometheus-dpdk.ts';
import type { Family, Source } from './prometheus-family.ts';
import { boundText, labelPairs } from './prometheus-format.ts';
import { IOMMU_FAMILIES } from './prometheus-iommu.ts';
import { KVM_FAMILIES } from './prometheus-kvm.ts';
import { WorldNames } from './prometheus-labels.ts';
import { HOP_FAMILIES, NETWORK_FAMILIES } from './prometheus-network.ts';
import { type LineStarts, lineStarts } from './prometheus-text.ts';
import { WORLD_FAMILIES } from './prometheus-world.ts';

/** In the order of their worth: where there are too many series, the last ones are left out first. */
export const FAMILIES: readonly Family[] = [
  ...WORLD_FAMILIES,
  ...NETWORK_FAMILIES,
  ...KVM_FAMILIES,
  ...IOMMU_FAMILIES,
  ...DPDK_FAMILIES,
  ...HOP_FAMILIES,
];

/** Samples of one step: less than a millisecond, some more when their text is made for the first time. */
export const STEP_SAMPLES = 1000;
/** Series of one step of planning: a millisecond, some more before the code is warm. */
const STEP_SERIES = 250;
/** Samples of one histogram: its buckets, sum and count. */
const HISTOGRAM_SAMPLES = LATENCY_BUCKETS + 2;
const BUCKET_TEXT = [...LATENCY_BOUNDS_NS.map((ns) => ns / 1e9), Number.POSITIVE_INFINITY].map(
  (bound) => `le="${boundText(bound)}"} `,
);
/** Series of one step. */
export const seriesPerStep = (family: Family): number => Math.ceil(STEP_SAMPLES / samplesPerSeries(family));
export const samplesPerSeries = (family: Family): number => (family.type === 'histogram' ? HISTOGRAM_SAMPLES : 1);

/** A family's series in one world, flat: `elements` of series i are [ends[i - 1], ends[i]). */
export interface Plan {
  /** `{label="value",…`, without the closing brace. */
  readonly labels: readonly string[];
  readonly from: Source;
  readonly ends: Int32Array;
  readonly elements: Int32Array;
  /** Starts of lines by step, made when they are first printed. */
  readonly lines: LineStarts[];
}
interface WorldPlan {
  readonly names: WorldNames;
  /** By family, made when it is first needed; null for computed ones. */
  readonly plans: (Plan | null | undefined)[];
}
/** Plans for as long as a world's catalog is held. */
const worldPlans = new WeakMap<WorldCatalog, WorldPlan>();

/** The series of family `f` in a world; null where its one value is computed. */
export function planOf(catalog: WorldCatalog, f: number): Plan | null {
  const plan = worldPlans.get(catalog)?.plans[f];
  if (plan !== undefined) return plan;
  const work = planning(catalog, f);
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}

/** The same in steps. */
export function* planning(catalog: WorldCatalog, f: number): Generator<void, Plan | null> {
  let world = worldPlans.get(catalog);
  if (world === undefined) {
    world = { names: new WorldNames(catalog), plans: [] };
    worldPlans.set(catalog, world);
  }
  if (world.plans[f] === undefined) {
    const plan = yield* makePlan(FAMILIES[f]!, world.names);
    // Somebody else may have been here between two steps.
    world.plans[f] ??= plan;
    yield;
  }
  return world.plans[f] ?? null;
}

function* makePlan(family: Family, names: WorldNames): Generator<void, Plan | null> {
  if (family.series === undefined) return null;
  // Places that share all labels are one series.
  const bySeries = new Map<string, number[]>();
  let from: Source = 'counters';
  let seen = 0;
  for (const series of family.series(names)) {
    from = series.from;
    const labels = `{${labelPairs(family.labels, series.labels)}`;
    let elements = bySeries.get(labels);
    if (elements === undefined) {
      elements = [];
      bySeries.set(labels, elements);
    }
    for (const element of series.elements) elements.push(element);
    if (++seen % STEP_SERIES === 0) yield;
  }
  const lists = [...bySeries.values()];
  let end = 0;
  const ends = Int32Array.from(lists, (list) => (end += list.length));
  const elements = new Int32Array(end);
  for (const [i, list] of lists.entries()) elements.set(list, i === 0 ? 0 : ends[i - 1]!);
  return { labels: [...bySeries.keys()], from, ends, elements, lines: [] };
}

/** Samples of family `f` in a world. */
export function* samplesOf(catalog: WorldCatalog, f: number): Generator<void, number> {
  const plan = yield* planning(catalog, f);
  if (plan === null) return 1;
  return plan.labels.length * samplesPerSeries(FAMILIES[f]!);
}

/**
 * Works out all that scrapes of a world need, in steps, so that its first scrape is as fast as later ones. `most`: series
 * at which it stops, as no scrape would print more.
 */
export function* prepare(catalog: WorldCatalog, most = Number.POSITIVE_INFINITY): Generator<void, void> {
  let samples = 0;
  for (const [f, family] of FAMILIES.entries()) {
    samples += yield* samplesOf(catalog, f);
    if (samples > most) return;
    const plan = planOf(catalog, f);
    if (plan === null) continue;
    const series = seriesPerStep(family);
    for (let first = 0; first < plan.labels.length; first += series) {
      linesOf(family, plan, first, Math.min(plan.labels.length, first + series));
      yield;
    }
  }
}

/** What precedes the values of series [first, end), which are one step. */
export function linesOf(family: Family, plan: Plan, first: number, end: number): LineStarts {
  const step = first / seriesPerStep(family);
  let starts = plan.lines[step];
  if (starts === undefined) {
    const { name } = family;
    const labels = plan.labels.slice(first, end);
    starts = lineStarts(
      family.type === 'histogram'
        ? labels.flatMap((l) => [
            ...BUCKET_TEXT.map((le) => `${name}_bucket${l},${le}`),
            `${name}_sum${l}} `,
            `${name}_count${l}} `,
          ])
        : labels.map((l) => `${name}${l}} `),
    );
    plan.lines[step] = starts;
  }
  return starts;
}
