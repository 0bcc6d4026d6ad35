/** Experiments: what was asked for, how far they are, and what their runs came to. */
import { Type } from 'typebox';
import { RunStateSchema, ExperimentTemplate as template } from '../../lab/experiment/template.ts';
import { JobProblemSchema, JobResultSchema } from './job-result.ts';
import { Measure } from './measure.ts';
import { closed, mapOf, name, oneOf, orNull, pageOf, ref, withDefaults } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ minimum: 0, description, examples: [example] });
const number = (description: string, example = 0) => Type.Number({ description, examples: [example] });

export const ExperimentTemplate = name(template);

export const ExperimentPath = closed({
  experiment: Type.String({ minLength: 1, maxLength: 64, examples: ['experiment-1'] }),
});
export const ExperimentRunPath = closed({
  ...ExperimentPath.properties,
  run: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Number of the run.', examples: [1] }),
});

const counts = {
  total: whole('All of them.', 30),
  pending: whole('Not started.'),
  running: whole('With a worker, or with the queue.'),
  succeeded: whole('With a result.', 30),
  failed: whole('Without a result, or with one that says that traffic failed.'),
  cancelled: whole('Stopped or never started.'),
  notNeeded: whole('Their combination was precise enough without them.'),
  skipped: whole('Of combinations that cannot be built.'),
  reused: whole('Results that were there before: of equal jobs.'),
};

const common = {
  id: Type.String({ examples: ['experiment-1'] }),
  name: Type.String({ examples: ['backends'] }),
  state: oneOf(['RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED'], {
    description: '`SUCCEEDED`: every run that is needed has. `FAILED`: some have not, see `reason`.',
    examples: ['SUCCEEDED'],
  }),
  reason: orNull(Type.String(), { description: 'Why it failed, or what had no effect.', examples: [null] }),
  created: Type.String({ examples: ['2026-01-01T00:00:00.000Z'] }),
  ended: orNull(Type.String(), { examples: [null] }),
  engine: Type.String({
    description: 'Version of the sources that its runs are computed with.',
    examples: ['0.1.0+0123456789abcdef'],
  }),
  combinations: whole('Combinations of the axes.', 6),
  repetitions: whole('Most runs of each.', 5),
  runs: closed(counts),
  progress: number('Share of the runs that are over, 0 to 1.', 1),
  etaSeconds: orNull(Type.Number(), {
    description: 'Wall seconds until the end, if runs go on as they did; null where that is not known.',
    examples: [null],
  }),
  busySeconds: number('Wall seconds that workers have spent on its runs.', 0.6),
};
const axisName = Type.String({ examples: ['backend'] });
export const ExperimentSchema = name(
  closed(
    {
      ...common,
      axes: Type.Array(
        closed({
          name: axisName,
          values: Type.Array(Type.Unsafe<unknown>({}), { examples: [['virtio-net', 'vhost-net']] }),
        }),
      ),
      template: ref(ExperimentTemplate),
    },
    { $id: 'Experiment', description: 'An experiment and how far it is.' },
  ),
);
const ListedExperiment = name(
  closed(
    { ...common, axes: Type.Array(closed({ name: axisName, values: whole('Values of the axis.', 2) })) },
    { $id: 'ListedExperiment', description: 'An experiment in a list: without its template.' },
  ),
);
export const ExperimentPage = pageOf(ListedExperiment, 'ExperimentPage');

const run = {
  run: whole('Its number, from 1.', 1),
  combination: whole('Number of its combination, from 1.', 1),
  values: mapOf(Type.Unsafe<unknown>({}), {
    description: 'The value of each axis; of a long one, as a document, the beginning of its text.',
    examples: [{ backend: 'vhost-net', frameSize: 64 }],
  }),
  repetition: whole('From 1.', 1),
  seed: whole('Seed of its random streams.', 1),
  state: RunStateSchema,
  reused: Type.Boolean({ description: 'The result was there before.', examples: [false] }),
  key: orNull(Type.String(), {
    description: 'Hash of the job (document, profile, traffic, seed, engine): equal jobs have equal results.',
    examples: [null],
  }),
  digest: orNull(Type.String(), { description: 'Hash of the result.', examples: [null] }),
  wallSeconds: orNull(Type.Number(), { description: 'What it took.', examples: [0.02] }),
  problem: orNull(JobProblemSchema, { description: 'Why it has no result, or what failed in it.' }),
};
export const ExperimentRunSchema = name(
  closed(
    {
      ...run,
      metrics: mapOf(Type.Number(), {
        description: 'Numbers of the result by their JSON Pointers.',
        examples: [{ '/runs/0/virtual/framesPerSecond': 400000 }],
      }),
    },
    { $id: 'ExperimentRun', description: 'A run of an experiment.' },
  ),
);
export const ExperimentRunPage = pageOf(ExperimentRunSchema, 'ExperimentRunPage');
export const ExperimentRunDetail = name(
  closed(
    {
      ...ExperimentRunSchema.properties,
      job: orNull(
        closed({
          engine: Type.String(),
          topology: Type.Unsafe<object>({ type: 'object', description: 'The document, with the seed.' }),
          profile: Type.Unsafe<object>({ type: 'object', description: 'The costs that it was computed with.' }),
          traffic: Type.Array(Type.Unsafe<object>({ type: 'object' })),
          measure: Type.Optional(ref(Measure)),
          maxEvents: Type.Integer(),
        }),
        { description: 'All that the result depends on; null of a combination that cannot be built.' },
      ),
      result: orNull(ref(JobResultSchema), { description: 'What it came to; null: nothing yet.' }),
    },
    { $id: 'ExperimentRunDetail', description: 'A run of an experiment with its job and its result.' },
  ),
);

export const ExperimentResults = name(
  closed(
    {
      items: Type.Array(
        closed({ ...run, result: orNull(ref(JobResultSchema), { description: 'null: it came to none.' }) }),
      ),
    },
    { $id: 'ExperimentResults', description: 'Runs of an experiment that have ended, with their results.' },
  ),
);

const Statistic = name(
  closed(
    {
      n: whole('Runs.', 5),
      mean: number('Mean; over several combinations that of their means.', 400000),
      standardDeviation: number('Of the runs; over several combinations of their means.', 1200),
      minimum: number('Lowest.', 398000),
      maximum: number('Highest.', 402000),
      halfWidth: orNull(Type.Number(), {
        description:
          "Half of the mean's confidence interval (Student's t); null with fewer than two runs of a combination. That combinations differ does not widen it.",
        examples: [1490],
      }),
    },
    { $id: 'Statistic', description: 'A mean and how well it is known.' },
  ),
);
const statistics = mapOf(ref(Statistic), { description: 'By metric.' });
export const ExperimentSummary = name(
  closed(
    {
      experiment: Type.String({ examples: ['experiment-1'] }),
      confidence: number('Level of confidence.', 0.95),
      complete: Type.Boolean({ description: 'No more runs will come.', examples: [true] }),
      metrics: Type.Array(Type.String(), { examples: [['/runs/0/virtual/framesPerSecond']] }),
      axes: Type.Array(
        closed({
          axis: Type.String({ examples: ['backend'] }),
          values: Type.Array(
            closed({ value: Type.Unsafe<unknown>({}), runs: whole('Runs with a result.', 15), metrics: statistics }),
          ),
        }),
        { description: 'By axis and value, over all combinations that have it.' },
      ),
      combinations: Type.Array(
        closed({
          combination: whole('Its number, from 1.', 1),
          values: run.values,
          runs: whole('Runs with a result.', 5),
          metrics: statistics,
        }),
        { description: 'The first combinations that have results; as many as `limit` says.' },
      ),
    },
    { $id: 'ExperimentSummary', description: 'Means over the runs that succeeded.' },
  ),
);
const Metrics = Type.Optional(
  Type.String({
    maxLength: 4000,
    description:
      'Metrics, separated by commas: JSON Pointers into the result, as `metrics` of a run has them. Default: the usual ones.',
    examples: ['/runs/0/virtual/framesPerSecond,/runs/0/perFrame/exitsKernel'],
  }),
);
export const SummaryQuery = withDefaults(
  closed({
    metrics: Metrics,
    confidence: Type.Number({ minimum: 0.5, maximum: 0.9999, default: 0.95, description: 'Level of confidence.' }),
    limit: Type.Integer({ minimum: 0, maximum: 10_000, default: 1000, description: 'Most combinations to answer.' }),
  }),
);
export const CsvQuery = closed({ metrics: Metrics });
export const RunsQuery = withDefaults(
  closed({
    limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100, description: 'Most items to answer.' }),
    cursor: Type.Optional(Type.String({ maxLength: 400, description: '`next` of the page before.' })),
    state: Type.Optional(RunStateSchema),
  }),
);
