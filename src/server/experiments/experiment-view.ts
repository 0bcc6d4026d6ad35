/** Experiments and their runs as the API answers them. */
import { csvHeader, csvLine } from '../../lab/experiment/csv.ts';
import { headlines } from '../../lab/experiment/metrics.ts';
import { type CombinationSummary, Summary } from '../../lab/experiment/summary.ts';
import type { ExperimentRunState } from '../../lab/experiment/template.ts';
import type { JobProblem } from '../../lab/job/job.ts';
import { Problem } from '../problem.ts';
import { turn } from '../turns.ts';
import type { Experiment } from './experiment.ts';
import type { ExperimentStore, StoredRun } from './experiment-store.ts';

/** Runs that are looked at between two turns of the event loop. */
const CHUNK = 100;

/** Without its template, which may be long. */
export function listedView(experiment: Experiment) {
  const { template: _, axes, ...more } = experimentView(experiment);
  return { ...more, axes: axes.map(({ name, values }) => ({ name, values: values.length })) };
}

export function experimentView(experiment: Experiment) {
  const { plan } = experiment;
  const of = (state: ExperimentRunState): number => experiment.count(state);
  const total = plan.runs;
  const open = of('PENDING') + of('RUNNING');
  return {
    id: experiment.id,
    name: experiment.name,
    state: experiment.state,
    reason: experiment.reason,
    created: experiment.created,
    ended: experiment.ended,
    engine: plan.engine,
    axes: plan.axes.map(({ name, values }) => ({ name, values: [...values] })),
    combinations: plan.combinations,
    repetitions: plan.repetitions,
    runs: {
      total,
      pending: of('PENDING'),
      running: of('RUNNING'),
      succeeded: of('SUCCEEDED'),
      failed: of('FAILED'),
      cancelled: of('CANCELLED'),
      notNeeded: of('NOT_NEEDED'),
      skipped: of('SKIPPED'),
      reused: experiment.reused,
    },
    progress: (total - open) / total,
    etaSeconds: experiment.eta(),
    busySeconds: experiment.wallSeconds,
    template: plan.template,
  };
}

/** `stored`: null where the run has not ended. */
export function runView(experiment: Experiment, run: number, stored: StoredRun | null) {
  const { plan } = experiment;
  const combination = plan.combinationOf(run);
  const repetition = plan.repetitionOf(run);
  const metrics: Record<string, number> = {};
  for (const [i, value] of stored?.metrics.entries() ?? [])
    if (Number.isFinite(value)) metrics[experiment.metrics[i]!] = value;
  return {
    run,
    combination: combination + 1,
    values: plan.shownValues(combination),
    repetition: repetition + 1,
    seed: plan.seed + repetition,
    state: experiment.stateOf(run),
    reused: stored?.reused ?? false,
    key: stored?.key ?? null,
    digest: stored?.digest ?? null,
    wallSeconds: stored?.wallSeconds ?? null,
    problem: problemOf(experiment, run, stored),
    metrics,
  };
}

/** Why a run has no result, or what failed in it; of a combination that is left out, why it cannot be built. */
function problemOf(experiment: Experiment, run: number, stored: StoredRun | null): JobProblem | null {
  if (stored !== null) return stored.problem === null ? null : (JSON.parse(stored.problem) as JobProblem);
  if (experiment.stateOf(run) !== 'SKIPPED') return null;
  const made = experiment.plan.combination(experiment.plan.combinationOf(run));
  const fault = made.ok ? undefined : made.faults[0];
  if (fault === undefined) return null;
  return { code: 'RINGSIDE_E_VALIDATION', detail: fault.detail, pointer: fault.pointer };
}

/** A run with its job and its result, as far as there are. */
export function runDetail(experiment: Experiment, run: number, store: ExperimentStore) {
  const stored = store.run(experiment.number, run);
  const result = stored === null ? null : store.result(stored.key);
  const made = experiment.plan.combination(experiment.plan.combinationOf(run));
  const planned = made.ok ? experiment.plan.run(run) : null;
  let job = null;
  if (planned !== null) {
    const { document, ...more } = planned.job;
    job = { ...more, topology: document, traffic: [...more.traffic] };
  }
  return {
    ...runView(experiment, run, stored),
    key: stored?.key ?? planned?.key ?? null,
    job,
    result: result === null ? null : (JSON.parse(result.result) as object),
  };
}

/** Runs that have ended, in ascending order, some at a time; the event loop turns in between. */
export async function* endedRuns(experiment: Experiment, store: ExperimentStore): AsyncGenerator<readonly StoredRun[]> {
  for (let first = 1; ; ) {
    const rows = store.runs(experiment.number, first, CHUNK);
    yield rows;
    if (rows.length < CHUNK) return;
    first = rows.at(-1)!.run + 1;
    await turn();
  }
}

/** The metrics that were asked for, or the usual ones; places in the rows' values. */
function chosen(
  experiment: Experiment,
  wanted: string | undefined,
  usual: readonly string[],
): { names: string[]; places: number[] } {
  const known = experiment.metrics;
  const names = wanted === undefined ? [...usual] : [...new Set(wanted.split(',').filter((name) => name !== ''))];
  const places = names.map((name) => known.indexOf(name));
  const missing = names[places.indexOf(-1)];
  if (missing !== undefined && known.length > 0) {
    const expected = `some of ${known.slice(0, 12).join(', ')}${known.length > 12 ? ` and ${known.length - 12} more` : ''}`;
    throw new Problem('RINGSIDE_E_REQUEST', `no result has a number at ${missing}`, {
      errors: [{ pointer: 'querystring/metrics', detail: `no result has a number at ${missing}`, expected }],
    });
  }
  return { names, places };
}

export async function summaryView(
  experiment: Experiment,
  store: ExperimentStore,
  query: { readonly metrics?: string; readonly confidence: number; readonly limit: number },
) {
  const { names, places } = chosen(experiment, query.metrics, headlines(experiment.metrics));
  const combinations: CombinationSummary[] = [];
  const summary = new Summary(experiment.plan, names, query.confidence, (row) => {
    if (combinations.length < query.limit) combinations.push({ ...row, combination: row.combination + 1 });
  });
  const complete = experiment.schedule === null;
  for await (const rows of endedRuns(experiment, store)) {
    for (const { run, metrics } of rows)
      if (experiment.stateOf(run) === 'SUCCEEDED')
        summary.add(
          experiment.plan.combinationOf(run),
          places.map((place) => metrics[place] ?? Number.NaN),
        );
  }
  const axes = summary.axes();
  return { experiment: experiment.id, confidence: query.confidence, complete, metrics: names, axes, combinations };
}

/** One line for each run that has ended. */
export function csvOf(
  experiment: Experiment,
  store: ExperimentStore,
  wanted: string | undefined,
): AsyncGenerator<Uint8Array> {
  const { names, places } = chosen(experiment, wanted, experiment.metrics);
  async function* lines(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(csvHeader(experiment.plan, names));
    for await (const rows of endedRuns(experiment, store)) {
      const text = rows.map((row) => {
        const problem = row.problem === null ? null : (JSON.parse(row.problem) as { detail: string }).detail;
        const metrics = places.map((place) => row.metrics[place] ?? Number.NaN);
        const { run, digest, reused, wallSeconds } = row;
        const state = experiment.stateOf(run);
        return csvLine(
          experiment.plan,
          { number: run, state, reused, digest, wallSeconds, problem, metrics },
          names.length,
        );
      });
      yield Buffer.from(text.join(''));
    }
  }
  return lines();
}

/** One JSON text for each run that has ended: the run with its result. */
export async function* resultLines(experiment: Experiment, store: ExperimentStore): AsyncGenerator<string[]> {
  for await (const rows of endedRuns(experiment, store)) {
    yield rows.map((row) => {
      const { metrics: _, ...run } = runView(experiment, row.run, row);
      // The result's text is put in as it is stored: it is the text that the digest is of, but for the order of members.
      return `${JSON.stringify(run).slice(0, -1)},"result":${store.result(row.key)?.result ?? 'null'}}`;
    });
  }
}
