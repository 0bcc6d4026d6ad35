/** Two runs compared. */
import { Type } from 'typebox';
import { ExperimentTemplate } from '../../lab/experiment/template.ts';
import { closed, name, oneOf, orNull, ref, withDefaults } from './reference.ts';

const number = (description: string, example = 0) => Type.Number({ description, examples: [example] });

const Side = name(
  closed(
    {
      experiment: Type.Optional(
        Type.String({ description: 'An experiment of this server.', examples: ['experiment-1'] }),
      ),
      run: Type.Optional(Type.Integer({ minimum: 1, description: 'Number of its run.', examples: [1] })),
      template: Type.Optional(ExperimentTemplate.properties.template),
      seed: Type.Optional(
        Type.Integer({
          minimum: 0,
          maximum: 0xffffffff,
          description: "The template's seed. Default 1.",
          examples: [1],
        }),
      ),
    },
    {
      $id: 'DiffSide',
      description: 'A run: one of an experiment (`experiment` and `run`), or a template of one (`template`, `seed`).',
      examples: [{ experiment: 'experiment-1', run: 1 }],
    },
  ),
);
const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 1000 };
export const DiffRequest = name(
  closed(
    { left: ref(Side), right: ref(Side) },
    {
      $id: 'DiffRequest',
      description: 'The two runs to compare. Both are run again, which is why it takes as long as they do.',
      examples: [
        {
          left: { template: { topology: { preset: 'virtio-net' }, traffic: [udp] } },
          right: { template: { topology: { preset: 'vhost-net' }, traffic: [udp] } },
        },
      ],
    },
  ),
);
export const DiffQuery = withDefaults(
  closed({
    format: oneOf(['json', 'text'], {
      default: 'json',
      description: '`text`: a page for people.',
      examples: ['text'],
    }),
  }),
);

const Value = name(
  closed(
    {
      pointer: Type.String({ description: 'JSON Pointer.', examples: ['/document/hosts/0/guests/0/nics/0/backend'] }),
      left: Type.Unsafe<unknown>({ description: 'Null also where there is nothing.' }),
      right: Type.Unsafe<unknown>({}),
    },
    { $id: 'ValueDiff', description: 'A place in which the two differ.' },
  ),
);
const Event = name(
  closed(
    {
      sequence: number('Its number in the run.', 4711),
      time: number('Virtual time, seconds.', 0.0021),
      event: Type.String({ examples: ['virtq.kick'] }),
      place: Type.String({ examples: ['h1/a/net0/tx0'] }),
      context: Type.String({ description: 'Who did it.', examples: ['vcpu-a-0'] }),
      frame: number('Frame id; 0 = of no frame.', 1),
      a: number('First value of the event.'),
      b: number('Second value of the event.'),
    },
    { $id: 'DiffEvent', description: 'An event of one of the runs.' },
  ),
);
const Divergence = name(
  closed(
    {
      differs: oneOf(['order', 'time', 'values'], {
        description:
          '`order`: something else happens, or to another frame. `time`: the same at another time. `values`: with other values.',
        examples: ['time'],
      }),
      left: orNull(ref(Event), { description: 'Null where the run has ended.' }),
      right: orNull(ref(Event)),
      before: Type.Array(ref(Event), { description: 'The events before it, which are the same in both.' }),
    },
    { $id: 'Divergence', description: 'The first event in which two runs part.' },
  ),
);
const change = oneOf(['appeared', 'gone', 'changed'], {
  description: '`appeared`: in the right run only. `gone`: in the left one only.',
  examples: ['changed'],
});
const HopSide = orNull(
  closed({
    perFrame: number('How often for each delivered frame.', 1),
    costNs: number('Processing of a delivered frame, ns.', 930),
    waitedNs: number('Waiting of a delivered frame, ns.', 4500),
  }),
);
const Hop = name(
  closed(
    {
      place: Type.String({ examples: ['h1/a/net0/tx0'] }),
      event: Type.String({ examples: ['packet.copy'] }),
      change,
      left: HopSide,
      right: HopSide,
      deltaNs: number('Right less left, ns for each delivered frame.', 100),
    },
    { $id: 'HopDiff', description: 'A step of frames at a place.' },
  ),
);
const Count = name(
  closed(
    {
      name: Type.String({ description: 'Event.', examples: ['kvm.exit_ept_misconfig_kernel'] }),
      change,
      left: number('For each delivered frame.', 1),
      right: number('For each delivered frame.'),
    },
    { $id: 'CountDiff', description: 'How often something happened.' },
  ),
);
const Result = Type.Unsafe<object>({ type: 'object', description: 'The result, as the run of an experiment has it.' });
export const DiffSchema = name(
  closed(
    {
      inputs: Type.Array(ref(Value), { description: 'What went in: documents, costs, traffic. At most 200.' }),
      outcomes: Type.Array(ref(Value), { description: 'Figures of the results. At most 200.' }),
      runs: orNull(
        closed({
          frames: closed({ left: number('Delivered frames.', 1000), right: number('Delivered frames.', 1000) }),
          boot: orNull(ref(Divergence), {
            description: 'Until traffic began; null: both booted alike, or, without `complete`, not known.',
          }),
          traffic: orNull(ref(Divergence), {
            description: 'From then on; null: the same, to the last value, or, without `complete`, not known.',
          }),
          hops: Type.Array(ref(Hop), { description: 'Hops that differ, the largest difference of time first.' }),
          exits: Type.Array(ref(Count), { description: 'VM exits that differ.' }),
          copies: Type.Array(ref(Count), { description: 'Copies that differ.' }),
          events: Type.Array(ref(Count), { description: 'Other events that differ.' }),
          complete: Type.Boolean({
            description:
              'False where a ring has lost its oldest events (`recorder.events` of the document): then figures are of what is left, and where the two part first is not known.',
            examples: [true],
          }),
        }),
        { description: 'Null where a run could not be built; its result says why.' },
      ),
      results: closed({ left: Result, right: Result }),
    },
    { $id: 'Diff', description: 'Two runs compared.' },
  ),
);
