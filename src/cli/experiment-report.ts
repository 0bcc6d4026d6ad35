/** What a whole experiment came to: `results.csv`, `summary.json`, and a table for people. */
import { join } from 'node:path';
import { csvHeader, csvLine } from '../lab/experiment/csv.ts';
import { headlines, numbersOf } from '../lab/experiment/metrics.ts';
import type { Plan } from '../lab/experiment/plan.ts';
import type { Schedule } from '../lab/experiment/schedule.ts';
import { type AxisSummary, type CombinationSummary, Summary } from '../lab/experiment/summary.ts';
import type { JobResult } from '../lab/job/job.ts';
import { writeText } from './files.ts';
import type { RunFile } from './run-file.ts';

/** Combinations in the summary file. */
const MOST_COMBINATIONS = 10_000;
const CONFIDENCE = 0.95;
/** Failed runs that are told to people. */
const MOST_PROBLEMS = 10;

export interface Report {
  readonly csv: string;
  readonly summary: object;
  /** For people. */
  readonly text: string;
}

/** `runs` in their order. */
export function reportOf(plan: Plan, schedule: Schedule, runs: RunFile, experiment: string): Report {
  const names = metricNames(runs);
  const shown = headlines(names);
  const confidence = plan.precision?.confidence ?? CONFIDENCE;
  const combinations: CombinationSummary[] = [];
  const summary = new Summary(plan, shown, confidence, (row) => {
    if (combinations.length < MOST_COMBINATIONS) combinations.push({ ...row, combination: row.combination + 1 });
  });
  const csv = [csvHeader(plan, names)];
  const problems: string[] = [];
  for (const place of runs.places) {
    const { run, state, digest, wallSeconds, problem, result } = runs.line(place);
    const numbers = valuesOf(result);
    const metrics = names.map((name) => numbers.get(name) ?? Number.NaN);
    csv.push(
      csvLine(
        plan,
        { number: run, state, reused: false, digest, wallSeconds, problem: problem?.detail ?? null, metrics },
        names.length,
      ),
    );
    if (problem !== null && problems.length < MOST_PROBLEMS)
      problems.push(`run ${run}: ${problem.code} ${problem.pointer ?? ''}: ${problem.detail}`);
    if (state === 'SUCCEEDED')
      summary.add(
        plan.combinationOf(run),
        shown.map((name) => numbers.get(name) ?? Number.NaN),
      );
  }
  const axes = summary.axes();
  const counts = countsOf(schedule);
  return {
    csv: csv.join(''),
    summary: { experiment, engine: plan.engine, runs: counts, confidence, metrics: shown, axes, combinations },
    text: [...problems, ...(problems.length > 0 ? [''] : []), ...tables(axes, combinations, shown)].join('\n'),
  };
}

export function writeReport(folder: string, report: Report): void {
  writeText(join(folder, 'results.csv'), report.csv);
  writeText(join(folder, 'summary.json'), `${JSON.stringify(report.summary, null, 2)}\n`);
}

function metricNames(runs: RunFile): string[] {
  const names = new Set<string>();
  for (const place of runs.places) for (const name of valuesOf(runs.line(place).result).keys()) names.add(name);
  return [...names];
}
const NONE: ReadonlyMap<string, number> = new Map();
const valuesOf = (result: JobResult | null): ReadonlyMap<string, number> =>
  result === null ? NONE : numbersOf(result);

function countsOf(schedule: Schedule): Readonly<Record<string, number>> {
  return {
    succeeded: schedule.count('SUCCEEDED'),
    failed: schedule.count('FAILED'),
    notNeeded: schedule.count('NOT_NEEDED'),
    skipped: schedule.count('SKIPPED'),
  };
}
export function countsText(schedule: Schedule): string {
  const { succeeded, failed, notNeeded, skipped } = countsOf(schedule);
  const more = [
    ...(notNeeded === 0 ? [] : [`${notNeeded} not needed`]),
    ...(skipped === 0 ? [] : [`${skipped} skipped`]),
  ];
  return [`${succeeded} ${succeeded === 1 ? 'run' : 'runs'} succeeded`, `${failed} failed`, ...more].join(', ');
}

/** What a terminal has room for: endings of metrics, the first ones that there are. */
const COLUMNS = [
  'framesPerSecond',
  'transactionsPerSecond',
  'tcp/bitsPerSecond',
  'latencySeconds/p50',
  'latencySeconds/p99',
  'perFrame/exitsKernel',
  'perFrame/exitsUserspace',
] as const;
const MOST_COLUMNS = 5;
function tables(
  axes: readonly AxisSummary[],
  combinations: readonly CombinationSummary[],
  shown: readonly string[],
): string[] {
  const columns = COLUMNS.flatMap((end) => shown.find((name) => name.endsWith(`/${end}`)) ?? []).slice(0, MOST_COLUMNS);
  const text = (metrics: CombinationSummary['metrics']): string[] =>
    columns.map((name) => {
      const found = metrics[name];
      if (found === undefined) return '-';
      return `${short(found.mean)}${found.halfWidth === null ? '' : ` ±${short(found.halfWidth)}`}`;
    });
  const rows = axes.flatMap(({ axis, values }) =>
    values.map(({ value, runs, metrics }) => [
      axis,
      JSON.stringify(value).slice(0, 40),
      String(runs),
      ...text(metrics),
    ]),
  );
  const all =
    axes.length === 0 ? combinations.map(({ runs, metrics }) => ['all', '', String(runs), ...text(metrics)]) : rows;
  if (all.length === 0) return [];
  return [
    ...aligned([
      ['axis', 'value', 'runs', ...columns.map((name) => name.replace(/^\/(runs\/\d+\/)?(virtual\/)?/, ''))],
      ...all,
    ]),
  ];
}
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd(),
  );
}
function short(value: number): string {
  return value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e7)
    ? String(Number(value.toPrecision(5)))
    : value.toExponential(3);
}
