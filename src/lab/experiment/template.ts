/**
 * Experiments as users write them: a template of a run, axes along which its fields vary, how often each combination is
 * repeated. The schema is here; what a template means is in plan.ts. One form for the API, the command line and files.
 */
import { type Static, Type } from 'typebox';
import { closed, oneOf } from '../schema-kit.ts';
import { TrafficRequest } from '../traffic-request.ts';
import { DURATION_PATTERN, SIZE_PATTERN } from '../units.ts';

/** RFC 6901, and `*` for every item of a list or member of an object. */
export const POINTER_PATTERN = '^(/([^/~]|~[01])*)+$';
const Pointer = Type.String({
  pattern: POINTER_PATTERN,
  maxLength: 400,
  description:
    'JSON Pointer (RFC 6901) into the template: below `/topology`, `/traffic` or `/measure`; a part `*` stands for every item.',
  examples: ['/topology/hosts/0/guests/*/nics/*/backend'],
});

const Axis = closed(
  {
    name: Type.Optional(
      Type.String({
        pattern: '^[A-Za-z_][A-Za-z0-9_.-]{0,62}$',
        description: "The axis's name in summaries, CSV and metrics. Default: the last part of its pointer.",
        examples: ['backend'],
      }),
    ),
    pointer: Type.Optional(Pointer),
    pointers: Type.Optional(
      Type.Array(Pointer, { minItems: 1, maxItems: 32, description: 'Several fields that get the same value.' }),
    ),
    values: Type.Optional(
      Type.Array(
        Type.Unsafe<unknown>({ description: 'Any JSON value; null removes the field.', examples: ['vhost-net'] }),
        { minItems: 1, maxItems: 100_000, description: 'What the field is set to, one after the other.' },
      ),
    ),
    cases: Type.Optional(
      Type.Unsafe<Readonly<Record<string, Readonly<Record<string, unknown>>>>>({
        type: 'object',
        minProperties: 1,
        maxProperties: 1000,
        propertyNames: { pattern: '^[^\\u0000-\\u001f]{1,64}$' },
        additionalProperties: {
          type: 'object',
          minProperties: 1,
          maxProperties: 64,
          propertyNames: { pattern: POINTER_PATTERN, maxLength: 400 },
        },
        description:
          'In place of pointers and values: cases by their names, each with all the fields that it sets, by their pointers. For what varies together, as a back-end with its bridge.',
        examples: [
          {
            kernel: { '/topology/hosts/0/bridges/0/datapath': 'system' },
            userspace: { '/topology/hosts/0/bridges/0/datapath': 'netdev' },
          },
        ],
      }),
    ),
  },
  { description: 'One thing that varies: `pointer` or `pointers` with their `values`, or `cases`.' },
);

/** What happens in a run, and where: varied by the axes, then checked. */
const Template = closed({
  topology: Type.Unsafe<Readonly<Record<string, unknown>>>({
    type: 'object',
    description: 'A topology document, or `{ preset: <name> }`.',
    examples: [{ preset: 'vhost-net' }],
  }),
  traffic: Type.Optional(
    Type.Array(Type.Unsafe<Readonly<Record<string, unknown>>>({ type: 'object' }), {
      maxItems: 64,
      description:
        'Traffic requests (TrafficRequest), each with an optional `start`: a duration after the boot, in virtual time.',
      examples: [[{ kind: 'udp', from: 'a/net0', to: 'b/net0', count: 10000 }]],
    }),
  ),
  measure: Type.Optional(
    Type.Unsafe<Readonly<Record<string, unknown>>>({
      type: 'object',
      description:
        'A measurement (Measure): a search as RFC 2544 has it, with the streams of `traffic`, whose rates and frames it says.',
      examples: [{ kind: 'rfc2544', tests: ['throughput'] }],
    }),
  ),
});

const Precision = closed(
  {
    metric: Type.String({
      pattern: POINTER_PATTERN,
      maxLength: 400,
      description: 'JSON Pointer of a number in the result.',
      examples: ['/runs/0/virtual/framesPerSecond'],
    }),
    relative: Type.Number({
      exclusiveMinimum: 0,
      maximum: 1,
      description: 'Half of the confidence interval over the mean.',
      examples: [0.02],
    }),
    confidence: Type.Optional(
      Type.Number({ minimum: 0.5, maximum: 0.9999, default: 0.95, description: 'Level of confidence.' }),
    ),
    minimum: Type.Optional(
      Type.Integer({
        minimum: 2,
        maximum: 1_000_000,
        default: 3,
        description: 'Repetitions before a combination ends.',
      }),
    ),
  },
  {
    description:
      'A combination ends when the mean of `metric` is known to this precision: the repetitions that are left are not needed. Decided in the order of the repetitions, so that it does not depend on which was faster.',
  },
);

const RunLimits = closed(
  {
    memory: Type.Optional(
      Type.Unsafe<string | number>({
        anyOf: [
          { type: 'string', pattern: SIZE_PATTERN, maxLength: 32 },
          { type: 'integer', minimum: 1 },
        ],
        default: '512MiB',
        description: "Memory of a run's world and heap.",
      }),
    ),
    time: Type.Optional(
      Type.String({ pattern: DURATION_PATTERN, maxLength: 32, default: '60s', description: 'Wall time of a run.' }),
    ),
    events: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1e12, default: 100_000_000, description: 'Virtual events of a run.' }),
    ),
  },
  { description: 'What one run may take. A run that takes more fails alone.' },
);

export const ExperimentTemplate = closed(
  {
    name: Type.Optional(
      Type.String({
        pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
        description: 'For people, and the label of its metrics; several experiments may have one name.',
        examples: ['queue-sizes'],
      }),
    ),
    template: Template,
    axes: Type.Optional(
      Type.Array(Axis, {
        maxItems: 16,
        description: 'All combinations of their values are run. None: one combination.',
      }),
    ),
    repetitions: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1_000_000_000,
        default: 1,
        description: 'Runs of each combination, with the seeds `seed`, `seed` + 1 and so on.',
        examples: [5],
      }),
    ),
    seed: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 0xffffffff, default: 1, description: 'Seed of the first repetition.' }),
    ),
    precision: Type.Optional(Precision),
    limits: Type.Optional(RunLimits),
    skipInvalid: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'Leave out combinations that cannot be built, and list them, in place of refusing the experiment.',
      }),
    ),
  },
  {
    $id: 'ExperimentTemplate',
    description: 'A template of a run, the axes along which it varies, and how often each combination is repeated.',
    examples: [
      {
        name: 'backends',
        template: {
          topology: { preset: 'vhost-net' },
          traffic: [{ kind: 'udp', from: 'a/net0', to: 'b/net0', count: 1000 }],
        },
        axes: [
          {
            name: 'backend',
            pointer: '/topology/hosts/0/guests/*/nics/*/backend',
            values: ['virtio-net', 'vhost-net'],
          },
          { pointers: ['/traffic/0/frameSize'], values: [64, 1518] },
        ],
        repetitions: 3,
      },
    ],
  },
);
export type ExperimentTemplateBody = Static<typeof ExperimentTemplate>;
export type AxisBody = Static<typeof Axis>;

/** A traffic request of a template, once the axes have been applied. */
export const JobTrafficRequest = closed({
  ...TrafficRequest.properties,
  start: Type.Optional(Type.String({ pattern: DURATION_PATTERN, maxLength: 32 })),
});

/** States of an experiment's runs. */
export const RUN_STATES = ['PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'NOT_NEEDED', 'SKIPPED'] as const;
export type ExperimentRunState = (typeof RUN_STATES)[number];
export const RunStateSchema = oneOf(RUN_STATES, {
  description:
    '`NOT_NEEDED`: its combination was precise enough without it. `SKIPPED`: its combination cannot be built (`skipInvalid`).',
  examples: ['SUCCEEDED'],
});
