/**
 * Experiments for Prometheus: how far they are, and what their runs come to as gauges. A label holds a combination or a value of
 * an axis, never a run, and there is a bound on how many are shown: the newest experiments come first.
 */
import { valueText } from '../../lab/experiment/axes.ts';
import type { Statistic } from '../../lab/experiment/statistics.ts';
import { type ExperimentRunState, RUN_STATES } from '../../lab/experiment/template.ts';
import type { Metric } from '../../readers/metrics/prometheus-family.ts';
import { header, labelPairs, type MetricsFormat, numberText } from '../../readers/metrics/prometheus-format.ts';
import type { Experiment } from './experiment.ts';
import type { ExperimentRegistry } from './experiment-registry.ts';
import { summaryView } from './experiment-view.ts';

/** Experiments whose results are shown, combinations of each, and samples of all of them. */
const EXPERIMENTS = 20;
const COMBINATIONS = 100;
const SAMPLES = 10_000;
/** Results are summed up again at most this often, ms. */
const AGE_MS = 5000;
const CONFIDENCE = 0.95;

const OF = ['experiment', 'name'] as const;
const metric = (name: string, help: string, labels: readonly string[]): Metric => ({
  name: `ringside_${name}`,
  type: name.endsWith('_total') ? 'counter' : 'gauge',
  help,
  labels,
  counterpart: '',
});

const EXPERIMENTS_BY_STATE = metric('experiments', 'Experiments that the server keeps, by state.', ['state']);
const RUNS = metric('experiment_runs', 'Runs of an experiment, by state.', [...OF, 'state']);
const PROGRESS = metric('experiment_progress_ratio', 'Share of the runs that are over.', OF);
const ETA = metric('experiment_eta_seconds', 'Wall time until the end, if runs go on as they did.', OF);
const MEAN = metric(
  'experiment_mean',
  'Mean over the runs of a combination; `metric` is the JSON Pointer of the number in the result.',
  [...OF, 'combination', 'metric'],
);
const HALF = metric('experiment_half_width', "Half of that mean's 95 % confidence interval.", [
  ...OF,
  'combination',
  'metric',
]);
const AXIS_MEAN = metric('experiment_axis_mean', 'Mean over all combinations that have a value of an axis.', [
  ...OF,
  'axis',
  'value',
  'metric',
]);
const AXIS_HALF = metric('experiment_axis_half_width', "Half of that mean's 95 % confidence interval.", [
  ...OF,
  'axis',
  'value',
  'metric',
]);
const OMITTED = metric('experiment_samples_omitted', 'Samples of results that the bound on their number left out.', []);

export const EXPERIMENT_METRICS: readonly Metric[] = [
  EXPERIMENTS_BY_STATE,
  RUNS,
  PROGRESS,
  ETA,
  MEAN,
  HALF,
  AXIS_MEAN,
  AXIS_HALF,
  OMITTED,
];

interface Sample {
  readonly labels: readonly string[];
  readonly value: number;
}
type Summed = Awaited<ReturnType<typeof summaryView>>;
interface Kept {
  readonly version: number;
  readonly at: number;
  readonly summed: Summed;
}

export class ExperimentMetrics {
  private readonly registry: ExperimentRegistry;
  private readonly kept = new Map<Experiment, Kept>();

  constructor(registry: ExperimentRegistry) {
    this.registry = registry;
  }

  /** All of EXPERIMENT_METRICS as text. Sums are made in turns of the event loop. */
  async text(format: MetricsFormat): Promise<string> {
    const all = this.registry.all();
    const samples = new Map<Metric, Sample[]>(EXPERIMENT_METRICS.map((one) => [one, []]));
    const add = (one: Metric, labels: readonly string[], value: number): void => {
      samples.get(one)!.push({ labels, value });
    };
    for (const state of ['RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED'])
      add(EXPERIMENTS_BY_STATE, [state], all.filter((experiment) => experiment.state === state).length);
    const shown = all.slice(-EXPERIMENTS).reverse();
    for (const experiment of shown) this.progress(experiment, add);
    await this.results(shown, add);
    const known = new Set(all);
    for (const experiment of this.kept.keys()) if (!known.has(experiment)) this.kept.delete(experiment);
    return EXPERIMENT_METRICS.map((one) => familyText(one, samples.get(one)!, format)).join('');
  }

  private progress(experiment: Experiment, add: (one: Metric, labels: readonly string[], value: number) => void): void {
    const of = [experiment.id, experiment.name];
    let open = 0;
    for (const state of RUN_STATES) {
      const runs = experiment.count(state as ExperimentRunState);
      add(RUNS, [...of, state], runs);
      if (state === 'PENDING' || state === 'RUNNING') open += runs;
    }
    add(PROGRESS, of, 1 - open / experiment.plan.runs);
    const eta = experiment.eta();
    if (eta !== null) add(ETA, of, eta);
  }

  private async results(
    shown: readonly Experiment[],
    add: (one: Metric, labels: readonly string[], value: number) => void,
  ): Promise<void> {
    let left = SAMPLES;
    let omitted = 0;
    const put = (
      mean: Metric,
      half: Metric,
      labels: readonly string[],
      { mean: value, halfWidth }: Statistic,
    ): void => {
      const wanted = halfWidth === null ? 1 : 2;
      if (left < wanted) {
        omitted += wanted;
        return;
      }
      left -= wanted;
      add(mean, labels, value);
      if (halfWidth !== null) add(half, labels, halfWidth);
    };
    for (const experiment of shown) {
      const of = [experiment.id, experiment.name];
      const { axes, combinations } = await this.sum(experiment);
      const taken = new Set<string>();
      for (const { combination, values, metrics } of combinations) {
        const named = Object.entries(values).map(([axis, value]) => `${axis}=${valueText(value, 60, true)}`);
        const label = unlike(taken, named.length === 0 ? String(combination) : named.join(', '), combination);
        for (const [name, statistic] of Object.entries(metrics)) put(MEAN, HALF, [...of, label, name], statistic);
      }
      for (const { axis, values } of axes) {
        const texts = new Set<string>();
        for (const [i, { value, metrics }] of values.slice(0, COMBINATIONS).entries()) {
          const labels = [...of, axis, unlike(texts, valueText(value, 60, true), i + 1)];
          for (const [name, statistic] of Object.entries(metrics))
            put(AXIS_MEAN, AXIS_HALF, [...labels, name], statistic);
        }
      }
    }
    add(OMITTED, [], omitted);
  }
  private async sum(experiment: Experiment): Promise<Summed> {
    const kept = this.kept.get(experiment);
    const { version } = experiment;
    if (kept !== undefined && (kept.version === version || performance.now() - kept.at < AGE_MS)) return kept.summed;
    const summed = await summaryView(experiment, this.registry.store, { confidence: CONFIDENCE, limit: COMBINATIONS });
    this.kept.set(experiment, { version, at: performance.now(), summed });
    return summed;
  }
}

/** Long values may be equal as far as a label shows them: a series is there once. */
function unlike(taken: Set<string>, text: string, number: number): string {
  let label = text;
  while (taken.has(label)) label += ` #${number}`;
  taken.add(label);
  return label;
}

function familyText({ name, type, help, labels }: Metric, samples: readonly Sample[], format: MetricsFormat): string {
  let text = header(format, name, type, help);
  for (const sample of samples) {
    const pairs = labelPairs(labels, sample.labels);
    text += `${name}${pairs === '' ? '' : `{${pairs}}`} ${numberText(sample.value)}\n`;
  }
  return text;
}
