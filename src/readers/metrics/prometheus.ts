/**
 * A scrape of worlds: the values of their series as text. Which counters make up which series is worked out once per world
 * (prometheus-plan.ts); a scrape then only adds and prints, in steps short enough for an event loop.
 *
 * Counters advance in virtual time: queries divide by the increase of ringside_virtual_time_seconds, not by wall time.
 * Every series that a world can have is there from the start, at 0. No label holds a frame, a flow or a run.
 */
import type { WorldCatalog } from '../../engine/catalog.ts';
import { type RingReader, restore } from '../../engine/event-ring.ts';
import { LATENCY_BOUNDS_NS, LATENCY_BUCKETS, LATENCY_FRAME, LATENCY_MAX, LATENCY_SUM } from '../../engine/latency.ts';
import type { Family, MeteredWorld, Metric } from './prometheus-family.ts';
import { header, labelPairs, type MetricsFormat, numberText, OPENMETRICS_END } from './prometheus-format.ts';
import {
  FAMILIES,
  linesOf,
  type Plan,
  planOf,
  STEP_SAMPLES,
  samplesOf,
  samplesPerSeries,
  seriesPerStep,
} from './prometheus-plan.ts';
import { TextWriter } from './prometheus-text.ts';

const OMITTED: Metric = {
  name: 'ringside_metrics_series_omitted',
  type: 'gauge',
  help: 'Series of the topology that are left out, whole metrics at a time, because the server would have more than RINGSIDE_METRICS_MAX_SERIES.',
  labels: ['topology'],
  counterpart: '',
};
/** Every metric of a world, for the documentation. */
export const METRICS: readonly Metric[] = [...FAMILIES, OMITTED];

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
      ofWorld.push(yield* samplesOf(catalog, f));
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
export function* scrape(worlds: readonly MeteredWorld[], options: ScrapeOptions = {}): Generator<Uint8Array, void> {
  const { format = 'prometheus', maxSeries = Number.POSITIVE_INFINITY } = options;
  const sharing = shares(
    worlds.map((w) => w.reader.catalog),
    maxSeries,
  );
  let step = sharing.next();
  for (; step.done !== true; step = sharing.next()) yield NOTHING;
  const { families, omitted } = step.value;

  const out = new TextWriter();
  let printed = 0;
  for (const [f, family] of FAMILIES.entries()) {
    out.text(header(format, family.name, family.type, family.help));
    for (const [i, world] of worlds.entries()) {
      if (f >= families[i]!) continue;
      const plan = planOf(world.reader.catalog, f);
      if (plan === null) {
        out.text(computed(family, world));
        printed++;
        continue;
      }
      const series = seriesPerStep(family);
      for (let first = 0; first < plan.labels.length; first += series) {
        const end = Math.min(plan.labels.length, first + series);
        if (family.type === 'histogram') histogramLines(out, family, plan, world.reader, first, end, format);
        else counterLines(out, family, plan, world, first, end);
        printed += (end - first) * samplesPerSeries(family);
        if (printed < STEP_SAMPLES) continue;
        yield out.take();
        printed = 0;
      }
    }
  }
  out.text(header(format, OMITTED.name, OMITTED.type, OMITTED.help));
  for (const [i, { reader }] of worlds.entries()) {
    out.text(`${OMITTED.name}{${labelPairs(OMITTED.labels, [reader.catalog.topology])}} ${omitted[i]}\n`);
  }
  yield out.take();
}
const NOTHING = new Uint8Array(0);

/** The same in one piece, with the end that OpenMetrics wants. */
export function worldMetrics(worlds: readonly MeteredWorld[], options: ScrapeOptions = {}): string {
  const decoder = new TextDecoder();
  let out = '';
  for (const piece of scrape(worlds, options)) out += decoder.decode(piece, { stream: true });
  return options.format === 'openmetrics' ? out + OPENMETRICS_END : out;
}

function computed(family: Family, world: MeteredWorld): string {
  const labels = [world.reader.catalog.topology, ...(family.info?.(world) ?? [])];
  return `${family.name}{${labelPairs(family.labels, labels)}} ${numberText(family.value!(world))}\n`;
}

function counterLines(
  out: TextWriter,
  family: Family,
  plan: Plan,
  { reader, booted }: MeteredWorld,
  first: number,
  end: number,
): void {
  // Who does not know where a world began says that it began at 0.
  const source =
    family.atBoot === true
      ? (booted?.[plan.from as 'counters' | 'busy'] ?? new Float64Array(reader[plan.from].length))
      : reader[plan.from];
  const lines = linesOf(family, plan, first, end);
  let at = first === 0 ? 0 : plan.ends[first - 1]!;
  for (let i = first; i < end; i++) {
    let sum = 0;
    for (const last = plan.ends[i]!; at < last; at++) sum += source[plan.elements[at]!] ?? 0;
    out.line(lines, i - first, sum / family.divisor);
  }
}

function histogramLines(
  out: TextWriter,
  family: Family,
  plan: Plan,
  reader: RingReader,
  first: number,
  end: number,
  format: MetricsFormat,
): void {
  const words = reader.histograms;
  const { elements, ends } = plan;
  const lines = linesOf(family, plan, first, end);
  let line = 0;
  for (let i = first; i < end; i++) {
    const from = i === 0 ? 0 : ends[i - 1]!;
    const to = ends[i]!;
    const slowest = format === 'openmetrics' ? slowestOf(words, elements, from, to) : -1;
    let count = 0;
    let sum = 0;
    for (let e = from; e < to; e++) sum += words[elements[e]! + LATENCY_SUM]!;
    for (let b = 0; b < LATENCY_BUCKETS; b++) {
      for (let e = from; e < to; e++) count += words[elements[e]! + b]!;
      if (slowest >= 0 && b === bucketOf(words[slowest + LATENCY_MAX]!)) {
        out.lineWith(lines, line++, count, exemplar(reader, slowest, family.divisor));
      } else out.line(lines, line++, count);
    }
    out.line(lines, line++, sum / family.divisor);
    out.line(lines, line++, count);
  }
}

/** First word of the histogram with the highest value; -1 where all are empty. */
function slowestOf(words: Float64Array, elements: Int32Array, from: number, to: number): number {
  let slowest = -1;
  let max = 0;
  for (let e = from; e < to; e++) {
    const value = words[elements[e]! + LATENCY_MAX]!;
    if (value > max) {
      max = value;
      slowest = elements[e]!;
    }
  }
  return slowest;
}
function bucketOf(ns: number): number {
  const bucket = LATENCY_BOUNDS_NS.findIndex((bound) => ns <= bound);
  return bucket < 0 ? LATENCY_BUCKETS - 1 : bucket;
}
/** The slowest frame, whose journey says why; its id as the API has it. */
function exemplar(reader: RingReader, at: number, divisor: number): string {
  const frame = restore(reader.histograms[at + LATENCY_FRAME]!, reader.framesHead());
  return ` # {frame="${frame}"} ${reader.histograms[at + LATENCY_MAX]! / divisor}\n`;
}
