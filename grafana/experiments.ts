/** *Experiments*: how far they are, and what their combinations come to. */
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { JOBS } from './experiment-jobs.ts';
import type { Link } from './links.ts';
import { toDashboard } from './page.ts';
import type { Chart, Stat, Table } from './panels.ts';
import { selected } from './variables.ts';

const EXPERIMENT = selected('experiment');
const RESULT = selected('experiment', 'metric');
const OF_EXPERIMENT = '/v1/experiments/{experiment}';
const ALL: Link = ['Experiments', '/v1/experiments'];
const LINKS: readonly Link[] = [
  ['Experiment', OF_EXPERIMENT],
  ['Summary', `${OF_EXPERIMENT}/summary`],
  ['All runs (CSV)', `${OF_EXPERIMENT}/results.csv`],
];
const BY = 'experiment, name';
const runs = (matcher: string): string => `sum by (${BY}) (ringside_experiment_runs{${EXPERIMENT},${matcher}})`;
const COMBINATION = '{{metric}} {{combination}} ({{name}})';

const PROGRESS: readonly (Stat | Table | Chart)[] = [
  {
    kind: 'stat',
    title: 'Experiments',
    description: 'Experiments that the server keeps, by state.',
    unit: 'none',
    query: 'ringside_experiments',
    legend: '{{state}}',
    links: [ALL],
    width: 8,
  },
  {
    kind: 'stat',
    title: 'Progress',
    description: 'Share of the runs that are over; runs that are not needed are.',
    unit: 'percentunit',
    query: `ringside_experiment_progress_ratio{${EXPERIMENT}}`,
    legend: '{{name}} ({{experiment}})',
    links: LINKS,
    width: 16,
  },
  {
    kind: 'table',
    title: 'Runs by state',
    description:
      'Runs of each experiment. Not needed: their combination was precise enough without them. Skipped: it cannot be built.',
    columns: [
      ['Pending', runs('state="PENDING"'), 'none'],
      ['Running', runs('state="RUNNING"'), 'none'],
      ['Succeeded', runs('state="SUCCEEDED"'), 'none'],
      ['Failed', runs('state="FAILED"'), 'none'],
      ['Cancelled', runs('state="CANCELLED"'), 'none'],
      ['Not needed', runs('state="NOT_NEEDED"'), 'none'],
      ['Skipped', runs('state="SKIPPED"'), 'none'],
    ],
    decimals: 0,
    links: LINKS,
    width: 12,
  },
  {
    kind: 'chart',
    title: 'Runs that are over',
    description: 'How many runs have ended, over wall time: the slope is how fast the workers are.',
    unit: 'none',
    queries: [[runs('state!~"PENDING|RUNNING"'), '{{name}} ({{experiment}})']],
    links: LINKS,
  },
];

const RESULTS: readonly (Table | Chart)[] = [
  {
    kind: 'table',
    title: 'By combination',
    description:
      'Means over the runs of each combination, and half of their 95 % confidence intervals. A metric is the JSON Pointer of a number in the result.',
    columns: [
      ['Mean', `ringside_experiment_mean{${RESULT}}`, 'short'],
      ['± (95 %)', `ringside_experiment_half_width{${RESULT}}`, 'short'],
    ],
    height: 12,
    links: LINKS,
  },
  {
    kind: 'table',
    title: 'By axis',
    description:
      'For each value of an axis the mean over all combinations that have it, and half of its 95 % confidence interval.',
    columns: [
      ['Mean', `ringside_experiment_axis_mean{${RESULT}}`, 'short'],
      ['± (95 %)', `ringside_experiment_axis_half_width{${RESULT}}`, 'short'],
    ],
    height: 12,
    links: LINKS,
  },
  {
    kind: 'chart',
    title: 'Means as runs come in',
    description:
      'The mean of each combination over wall time: it settles as repetitions come in. Choose a metric above.',
    unit: 'short',
    queries: [[`ringside_experiment_mean{${RESULT}}`, COMBINATION]],
    links: LINKS,
    width: 24,
  },
];

export const experiments = (): Dashboard =>
  toDashboard({
    uid: 'ringside-experiments',
    title: 'Experiments',
    description: 'How far experiments are, and what their combinations come to.',
    tags: ['experiments'],
    variables: ['experiment', 'metric'],
    rows: [
      ['Progress, in wall time', PROGRESS],
      ['Results', RESULTS],
      ['Where runs are worked on, in wall time', JOBS],
    ],
  });
