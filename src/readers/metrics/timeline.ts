/**
 * A run's timeline as metrics: the series of /metrics, each with its value at the points of virtual time that the engine
 * has kept. As OpenMetrics with timestamps it can be made into blocks of a Prometheus (`promtool tsdb create-blocks-from
 * openmetrics`), where a run is then looked at in its own time.
 *
 * A timestamp is the world's epoch plus virtual time, times a stretch: Prometheus keeps milliseconds, and a run may be over
 * in one. Queries that divide by the increase of ringside_virtual_time_seconds are right under any stretch.
 */
import type { WorldCatalog } from '../../engine/catalog.ts';
import { KIND_STRIDE } from '../../engine/events.ts';
import { GAUGES } from '../../engine/latency.ts';
import type { BootCounts, Family, MeteredWorld, Source } from './prometheus-family.ts';
import { header, labelPairs, numberText, OPENMETRICS_END } from './prometheus-format.ts';
import { FAMILIES, type Plan, planOf } from './prometheus-plan.ts';

/** Columns as the engine hands them out: see lab/run-timeline.ts. */
export interface Timeline {
  readonly timesNs: Float64Array;
  readonly events: Float64Array;
  readonly counters: Uint32Array;
  readonly values: Float64Array;
  readonly contexts: Float64Array;
  readonly gauges: Float64Array;
}
export interface TimelineOptions {
  /** Points at most, the first and the last one among them. */
  readonly points?: number;
  /** By how much virtual time is stretched in timestamps. */
  readonly stretch?: number;
}
export interface TimelineSeries {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly values: readonly number[];
}

const NS_PER_MS = 1_000_000n;
/** Lines of one piece. */
const PIECE_LINES = 5000;
const encoder = new TextEncoder();

/** Indices of at most `most` points, evenly spread, with the first and the last one. */
function spread(points: number, most: number): number[] {
  if (points <= most) return Array.from({ length: points }, (_, i) => i);
  return Array.from({ length: most }, (_, i) => Math.round((i * (points - 1)) / (most - 1)));
}

/** The series of a family that are not 0 all the time, with a function that gives the value at a point. */
class TimelineReader {
  private readonly timeline: Timeline;
  /** Contexts that there were when the timeline was made. */
  private readonly known: number;
  /** Column of a counter's count in `values`, by place * KIND_STRIDE + kind; -1 where it was 0. */
  private readonly column: Int32Array;

  constructor(catalog: WorldCatalog, timeline: Timeline) {
    this.timeline = timeline;
    this.known = timeline.contexts.length / 2 / Math.max(1, timeline.timesNs.length);
    this.column = new Int32Array(catalog.places.length * KIND_STRIDE).fill(-1);
    for (const [i, counter] of timeline.counters.entries()) this.column[counter] = i * 2;
  }

  /** Where element `element` of a source lies at point 0, in which array, and how far apart points are. */
  private locate(from: Source, element: number): { array: Float64Array; at: number; step: number } | null {
    const { values, contexts, gauges, counters } = this.timeline;
    const n = this.known;
    switch (from) {
      case 'counters': {
        const column = this.column[element >> 1]!;
        return column < 0 ? null : { array: values, at: column + (element & 1), step: counters.length * 2 };
      }
      case 'busy':
        return element >= n ? null : { array: contexts, at: element, step: n * 2 };
      case 'idlePolls':
        return element >= n ? null : { array: contexts, at: n + element, step: n * 2 };
      case 'gauges':
        return { array: gauges, at: element, step: GAUGES };
      case 'histograms':
        return null;
    }
  }

  /** Values at these points; null where they are all 0. */
  values(plan: Plan, i: number, divisor: number, points: readonly number[]): number[] | null {
    const out = new Array<number>(points.length).fill(0);
    let seen = false;
    for (let e = i === 0 ? 0 : plan.ends[i - 1]!; e < plan.ends[i]!; e++) {
      const found = this.locate(plan.from, plan.elements[e]!);
      if (found === null) continue;
      for (const [p, point] of points.entries()) {
        const value = found.array[found.at + point * found.step]!;
        if (value !== 0) seen = true;
        out[p]! += value;
      }
    }
    return seen ? out.map((value) => value / divisor) : null;
  }
}

/** The families that a timeline has, with their series: labels as text, and values. */
function* familySeries(
  world: MeteredWorld,
  timeline: Timeline,
  points: readonly number[],
): Generator<{ family: Family; series: (readonly [labels: string, values: number[]])[] }> {
  if (points.length === 0) return;
  const { catalog } = world.reader;
  const reader = new TimelineReader(catalog, timeline);
  for (const [f, family] of FAMILIES.entries()) {
    const plan = planOf(catalog, f);
    const series: (readonly [string, number[]])[] = [];
    if (plan === null) {
      const values = computed(family, world, timeline, points);
      const labels = [catalog.topology, ...(family.info?.(world) ?? [])];
      if (values !== null) series.push([`{${labelPairs(family.labels, labels)}`, values]);
    } else {
      for (const [i, labels] of plan.labels.entries()) {
        const values =
          family.atBoot === true
            ? constant(plan, i, world.booted, points.length, family.divisor)
            : reader.values(plan, i, family.divisor, points);
        if (values !== null) series.push([labels, values]);
      }
    }
    if (series.length > 0) yield { family, series };
  }
}

/** What was counted when the world had booted is the same at all points. */
function constant(
  plan: Plan,
  i: number,
  booted: BootCounts | undefined,
  points: number,
  divisor: number,
): number[] | null {
  const source = plan.from === 'counters' || plan.from === 'busy' ? booted?.[plan.from] : undefined;
  if (source === undefined) return null;
  let sum = 0;
  for (let e = i === 0 ? 0 : plan.ends[i - 1]!; e < plan.ends[i]!; e++) sum += source[plan.elements[e]!] ?? 0;
  return sum === 0 ? null : new Array<number>(points).fill(sum / divisor);
}

/** Those of the computed metrics that a timeline can say. */
function computed(
  { name, type }: Family,
  { booted }: MeteredWorld,
  timeline: Timeline,
  points: readonly number[],
): number[] | null {
  if (name === 'ringside_boot_virtual_time_seconds') return points.map(() => (booted?.virtualTimeNs ?? 0) / 1e9);
  if (type === 'info') return points.map(() => 1);
  if (name === 'ringside_virtual_time_seconds') return points.map((p) => timeline.timesNs[p]! / 1e9);
  if (name === 'ringside_events_total') return points.map((p) => timeline.events[p]!);
  return null;
}

/**
 * OpenMetrics with timestamps, a piece at a time. Prometheus would refuse two samples of a series within a millisecond: of
 * such points the last one stays.
 */
export function* timelineText(
  world: MeteredWorld,
  timeline: Timeline,
  { points: most = Number.POSITIVE_INFINITY, stretch = 1 }: TimelineOptions = {},
): Generator<Uint8Array> {
  const { epochNs } = world.reader.catalog;
  const ms = (point: number): bigint =>
    (BigInt(epochNs) + BigInt(Math.floor(timeline.timesNs[point]! * stretch))) / NS_PER_MS;
  const apart = Array.from(timeline.timesNs, (_, i) => i).filter(
    (i) => i === timeline.timesNs.length - 1 || ms(i) < ms(i + 1),
  );
  const points = spread(apart.length, most).map((i) => apart[i]!);
  const stamps = points.map((point) => {
    const t = ms(point);
    return ` ${t / 1000n}.${String(t % 1000n).padStart(3, '0')}\n`;
  });
  let out = '';
  let lines = 0;
  for (const { family, series } of familySeries(world, timeline, points)) {
    out += header('openmetrics', family.name, family.type, family.help);
    for (const [labels, values] of series) {
      const start = `${family.name}${labels}} `;
      for (const [i, value] of values.entries()) out += start + numberText(value) + stamps[i]!;
      lines += values.length;
      if (lines < PIECE_LINES) continue;
      yield encoder.encode(out);
      out = '';
      lines = 0;
    }
  }
  yield encoder.encode(out + OPENMETRICS_END);
}

/** The same as data: exact times in ns, and the values of each series at them. */
export function timelineSeries(
  world: MeteredWorld,
  timeline: Timeline,
  { points: most = Number.POSITIVE_INFINITY }: TimelineOptions = {},
): { readonly timesNs: readonly number[]; readonly series: readonly TimelineSeries[] } {
  const points = spread(timeline.timesNs.length, most);
  const series: TimelineSeries[] = [];
  for (const found of familySeries(world, timeline, points)) {
    for (const [labels, values] of found.series) {
      series.push({ name: found.family.name, labels: labelsOf(labels), values });
    }
  }
  return { timesNs: points.map((p) => timeline.timesNs[p]!), series };
}

/** The pairs of a label text as prometheus.ts makes it, `{a="b",c="d"`. */
function labelsOf(text: string): Record<string, string> {
  const unescaped = (value: string): string => value.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
  return Object.fromEntries(
    [...text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, name = '', value = '']) => [name, unescaped(value)]),
  );
}
