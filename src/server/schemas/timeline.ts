/** The timeline of a run as JSON, and how it is asked for. */
import { Type } from 'typebox';
import { closed, mapOf, name, withDefaults } from './reference.ts';

export const TimelineSchema = name(
  closed(
    {
      topology: Type.String({ examples: ['t1'] }),
      run: Type.String({ examples: ['run-1'] }),
      epochNs: Type.String({
        pattern: '^[0-9]+$',
        description: 'What virtual time 0 is taken to be, in ns since 1970.',
        examples: ['1767225600000000000'],
      }),
      timesNs: Type.Array(Type.Number({ examples: [12_000] }), {
        description: "Virtual times of the points in ns: from the run's first frame to its end.",
      }),
      series: Type.Array(
        closed({
          name: Type.String({ description: 'As at /metrics.', examples: ['ringside_kicks_total'] }),
          labels: mapOf(Type.String(), { description: 'As at /metrics.', examples: [{ topology: 't1' }] }),
          values: Type.Array(Type.Number({ examples: [42] }), { description: 'One for each of `timesNs`.' }),
        }),
        { description: 'Those that are not 0 all the time.' },
      ),
    },
    { $id: 'Timeline', description: "What a topology's counters were while a run went on." },
  ),
);

export const TimelineQuery = withDefaults(
  closed({
    points: Type.Optional(
      Type.Integer({
        minimum: 2,
        maximum: 256,
        description: 'Points at most; without it all that are held, at most 256.',
        examples: [100],
      }),
    ),
    stretch: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1_000_000_000,
        description:
          'By how much virtual time is stretched in the timestamps of OpenMetrics. Prometheus keeps milliseconds: of points that fall into one, the last is left. With 1000000 a microsecond becomes a second.',
        examples: [1_000_000],
      }),
    ),
  }),
);
