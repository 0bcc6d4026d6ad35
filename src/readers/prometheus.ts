/**
 * A scrape of worlds: which series there are, and their values as text. Which counters make up which series is worked out
 * once per world; a scrape then only adds and prints, in steps short enough for an event loop.
 *
 * Counters advance in virtual time: queries divide by the increase of ringside_virtual_time_seconds, not by wall time.
 * Every series that a world can have is there from the start, at 0. No label holds a frame, a flow or a run.
 */
import type { WorldCatalog } from '../engine/catalog.ts';
import type { RingReader } from '../engine/event-ring.ts';
import { LATENCY_BOUNDS_NS, LATENCY_BUCKETS, LATENCY_SUM } from '../engine/latency.ts';
import type { Family, MeteredWorld, Metric, Series, Source } from './prometheus-family.ts';
import { boundText, header, labelPairs, type MetricsFormat, numberText } from './prometheus-format.ts';
import { KVM_FAMILIES } from './prometheus-kvm.ts';
import { WorldNames } from './prometheus-labels.ts';
import { HOP_FAMILIES, NETWORK_FAMILIES } from './prometheus-network.ts';
import { WORLD_FAMILIES } from './prometheus-world.ts';

/** In the order of their worth: where there are too many series, the last ones are left out first. */
export const FAMILIES: readonly Family[] = [...WORLD_FAMILIES, ...NETWORK_FAMILIES, ...KVM_FAMILIES, ...HOP_FAMILIES];

const OMITTED: Metric = {
  name: 'ringside_metrics_series_omitted',
  type: 'gauge',
  help: 'Series of the topology that are left out, whole metrics at a time, because the server would have more than RINGSIDE_METRICS_MAX_SERIES.',
  labels: ['topology'],
  counterpart: '',
};
/** Every metric of a world, for the documentation. */
export const METRICS: readonly Metric[] = [...FAMILIES, OMITTED];

/** Series that are printed, or planned, in one step: about a millisecond. */
const STEP_SERIES = 2000;
/** Samples of one histogram: its buckets, sum and count. */
export const HISTOGRAM_SAMPLES = LATENCY_BUCKETS + 2;
const BUCKET_TEXT = [...LATENCY_BOUNDS_NS.map((ns) => ns / 1e9), Number.POSITIVE_INFINITY].map(
  (bound) => `le="${boundText(bound)}"} `,
);

/** A family's series in one world, flat: `elements` of series i are [ends[i - 1], ends[i]). */
export interface Plan {
  /** `{label="value",…`, without the closing brace. */
  readonly labels: readonly string[];
  readonly from: Source;
  readonly ends: Int32Array;
  readonly elements: Int32Array;
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
  let world = worldPlans.get(catalog);
  if (world === undefined) {
    world = { names: new WorldNames(catalog), plans: [] };
    worldPlans.set(catalog, world);
  }
  let plan = world.plans[f];
  if (plan === undefined) {
    plan = makePlan(FAMILIES[f]!, world.names);
    world.plans[f] = plan;
  }
  return plan;
}

function makePlan(family: Family, names: WorldNames): Plan | null {
  if (family.series === undefined) return null;
  // Places that share all labels are one series.
  const bySeries = new Map<string, number[]>();
  let from: Source = 'counters';
  for (const series of family.series(names)) {
    from = series.from;
    const labels = `{${labelPairs(family.labels, series.labels)}`;
    const known = bySeries.get(labels);
    if (known === undefined) bySeries.set(labels, [...series.elements]);
    else addTo(known, series);
  }
  const lists = [...bySeries.values()];
  let end = 0;
  const ends = Int32Array.from(lists, (list) => (end += list.length));
  return { labels: [...bySeries.keys()], from, ends, elements: Int32Array.from(lists.flat()) };
}
function addTo(elements: number[], series: Series): void {
  for (const element of series.elements) elements.push(element);
}

/** Samples of family `f` in a world. */
export function samplesOf(catalog: WorldCatalog, f: number): number {
  const plan = planOf(catalog, f);
  if (plan === null) return 1;
  return plan.labels.length * (FAMILIES[f]!.type === 'histogram' ? HISTOGRAM_SAMPLES : 1);
}

/**
 * How many families of each world are printed, in their order, so that there are at most `most` series. Each world has an
 * equal share; what small ones leave over is shared by the others. The answer depends on nothing but the worlds' sizes, so
 * a series that is there stays there.
 */
export function* shares(
  catalogs: readonly WorldCatalog[],
  most: number,
): Generator<void, { readonly families: number[]; readonly omitted: number[] }> {
  const samples: number[][] = [];
  for (const catalog of catalogs) {
    const ofWorld: number[] = [];
    for (let f = 0; f < FAMILIES.length; f++) {
      const known = worldPlans.get(catalog)?.plans[f] !== undefined;
      ofWorld.push(samplesOf(catalog, f));
      // Planning takes longer than counting.
      if (!known) yield;
    }
    samples.push(ofWorld);
  }
  const totals = samples.map((ofWorld) => ofWorld.reduce((sum, n) => sum + n, 0));
  let left = most - catalogs.length;
  const families = new Array<number>(catalogs.length).fill(0);
  const bySize = totals.map((_, i) => i).sort((a, b) => totals[a]! - totals[b]! || a - b);
  for (const [rank, i] of bySize.entries()) {
    const share = Math.floor(left / (bySize.length - rank));
    let taken = 0;
    let f = 0;
    while (f < FAMILIES.length && taken + samples[i]![f]! <= share) taken += samples[i]![f++]!;
    families[i] = f;
    left -= taken;
  }
  const omitted = samples.map((ofWorld, i) => ofWorld.slice(families[i]).reduce((sum, n) => sum + n, 0));
  return { families, omitted };
}

export interface ScrapeOptions {
  readonly format?: MetricsFormat;
  /** Series at most, for all worlds together. */
  readonly maxSeries?: number;
}

/** The data-plane metrics of these worlds, a piece at a time. Pieces may be empty. */
export function* scrape(worlds: readonly MeteredWorld[], options: ScrapeOptions = {}): Generator<string, void> {
  const { format = 'prometheus', maxSeries = Number.POSITIVE_INFINITY } = options;
  const sharing = shares(
    worlds.map((w) => w.reader.catalog),
    maxSeries,
  );
  let step = sharing.next();
  for (; step.done !== true; step = sharing.next()) yield '';
  const { families, omitted } = step.value;

  let out = '';
  let printed = 0;
  for (const [f, family] of FAMILIES.entries()) {
    out += header(format, family.name, family.type, family.help);
    for (const [i, world] of worlds.entries()) {
      if (f >= families[i]!) continue;
      const plan = planOf(world.reader.catalog, f);
      if (plan === null) {
        out += computed(family, world);
        printed++;
        continue;
      }
      const most = family.type === 'histogram' ? Math.ceil(STEP_SERIES / HISTOGRAM_SAMPLES) : STEP_SERIES;
      for (let from = 0; from < plan.labels.length; from += most) {
        const to = Math.min(plan.labels.length, from + most);
        out +=
          family.type === 'histogram'
            ? histogramLines(family, plan, world.reader, from, to, format)
            : counterLines(family, plan, world.reader, from, to);
        printed += (to - from) * (family.type === 'histogram' ? HISTOGRAM_SAMPLES : 1);
        if (printed < STEP_SERIES) continue;
        yield out;
        out = '';
        printed = 0;
      }
    }
  }
  out += header(format, OMITTED.name, OMITTED.type, OMITTED.help);
  for (const [i, { reader }] of worlds.entries()) {
    out += `${OMITTED.name}{${labelPairs(OMITTED.labels, [reader.catalog.topology])}} ${omitted[i]}\n`;
  }
  yield out;
}

/** The same in one piece. */
export function worldMetrics(worlds: readonly MeteredWorld[], options: ScrapeOptions = {}): string {
  return [...scrape(worlds, options)].join('');
}

function computed(family: Family, world: MeteredWorld): string {
  const labels = [world.reader.catalog.topology, ...(family.info?.(world) ?? [])];
  return `${family.name}{${labelPairs(family.labels, labels)}} ${numberText(family.value!(world))}\n`;
}

function counterLines(family: Family, plan: Plan, reader: RingReader, from: number, to: number): string {
  const { name, divisor } = family;
  const source = reader[plan.from];
  let out = '';
  let at = from === 0 ? 0 : plan.ends[from - 1]!;
  for (let i = from; i < to; i++) {
    let sum = 0;
    for (const end = plan.ends[i]!; at < end; at++) sum += source[plan.elements[at]!]!;
    out += `${name}${plan.labels[i]!}} ${sum / divisor}\n`;
  }
  return out;
}

function histogramLines(
  family: Family,
  plan: Plan,
  reader: RingReader,
  from: number,
  to: number,
  _format: MetricsFormat,
): string {
  const { name, divisor } = family;
  const words = reader.histograms;
  let out = '';
  for (let i = from; i < to; i++) {
    const labels = plan.labels[i]!;
    const bucket = `${name}_bucket${labels},`;
    const first = i === 0 ? 0 : plan.ends[i - 1]!;
    const end = plan.ends[i]!;
    let count = 0;
    let sum = 0;
    for (let b = 0; b < LATENCY_BUCKETS; b++) {
      for (let e = first; e < end; e++) count += words[plan.elements[e]! + b]!;
      out += bucket + BUCKET_TEXT[b]! + count + '\n';
    }
    for (let e = first; e < end; e++) sum += words[plan.elements[e]! + LATENCY_SUM]!;
    out += `${name}_sum${labels}} ${sum / divisor}\n${name}_count${labels}} ${count}\n`;
  }
  return out;
}
