/**
 * The part of *Experiments* about where runs are worked on: the threads of this machine, or the workers of a NATS server. All of it
 * happens in wall time, so here are rates of it. Of the two the one that is not in use shows 0.
 */
import type { Link } from './links.ts';
import type { Chart, Stat, Table } from './panels.ts';
import { growth, RANGE, series, WINDOW } from './queries.ts';

const ALL: Link = ['Experiments', '/v1/experiments'];
const LINKS: readonly Link[] = [ALL];
const ended = (metric: string): string => `sum by (outcome) (${growth(series(metric), RANGE)})`;
const JOB_SECONDS = `rate(ringside_job_seconds_total[${WINDOW}])`;
const JOBS_ENDED = `sum without (outcome) (rate(ringside_jobs_ended_total{outcome!="cancelled"}[${WINDOW}]))`;

export const JOBS: readonly (Stat | Table | Chart)[] = [
  {
    kind: 'stat',
    title: 'Jobs by state',
    description: 'Jobs of experiments that the threads of this machine have, and those that wait for one of them.',
    unit: 'none',
    query: 'ringside_jobs',
    legend: '{{state}}',
    links: LINKS,
    width: 6,
  },
  {
    kind: 'stat',
    title: 'NATS server',
    description: 'Whether the NATS server that holds the queue is connected. Without RINGSIDE_NATS_URL there is none.',
    unit: 'none',
    query: 'ringside_nats_connected',
    legend: 'NATS',
    texts: { '0': ['away, or none', 'text'], '1': ['connected', 'green'] },
    links: LINKS,
    width: 6,
  },
  {
    kind: 'table',
    title: 'Jobs that ended, over the time range',
    description:
      'By what they came to, since the server started or within the time range. A job has several runs behind it where runs are the same; results that are kept already are no jobs.',
    columns: [
      ['Threads here', ended('jobs_ended_total'), 'none'],
      ['NATS workers', ended('nats_jobs_ended_total'), 'none'],
    ],
    decimals: 0,
    height: 5,
    links: LINKS,
    width: 12,
  },
  {
    kind: 'chart',
    title: 'Threads',
    description:
      'Threads that jobs are run by: those at work, those that there are (they end when they are idle), and those of the workers that a NATS server knows.',
    unit: 'none',
    queries: [
      ['ringside_job_threads_busy', 'at work'],
      ['ringside_job_threads', 'there'],
      ['ringside_nats_worker_threads', 'of NATS workers'],
    ],
    links: LINKS,
  },
  {
    kind: 'chart',
    title: 'Jobs that have not ended',
    description:
      'Jobs that wait for a thread and those that have one; with NATS those that are still to be sent, and those that are there or with a worker.',
    unit: 'none',
    queries: [
      ['ringside_jobs', '{{state}}'],
      ['ringside_nats_jobs', '{{state}} (NATS)'],
    ],
    links: LINKS,
  },
  {
    kind: 'chart',
    title: 'Jobs that end',
    description: 'How many jobs come to an outcome in a second of wall time, by outcome.',
    unit: 'ops',
    queries: [
      [`rate(ringside_jobs_ended_total[${WINDOW}])`, '{{outcome}}'],
      [`rate(ringside_nats_jobs_ended_total[${WINDOW}])`, '{{outcome}} (NATS)'],
    ],
    links: LINKS,
  },
  {
    kind: 'chart',
    title: 'Seconds of a job',
    description:
      'Wall time that a job takes in a thread of this machine, mean over those that ended. A gap: none ended.',
    unit: 's',
    queries: [[`${JOB_SECONDS} / (${JOBS_ENDED} > 0)`, 'mean']],
    links: LINKS,
  },
  {
    kind: 'chart',
    title: 'Begun again',
    description:
      'Threads that a job has taken with it (out of memory, hung, crashed), after which the other jobs of its batch are run again; and jobs that were nowhere at the NATS server and were published again.',
    unit: 'none',
    queries: [
      [`increase(ringside_job_threads_lost_total[${WINDOW}])`, 'threads lost'],
      [`increase(ringside_nats_jobs_republished_total[${WINDOW}])`, 'jobs published again (NATS)'],
    ],
    links: LINKS,
    width: 24,
  },
];
