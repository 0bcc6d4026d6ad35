/** Journeys: what is recorded of single frames. */
import { Type } from 'typebox';
import { eventFilter } from './event-filter.ts';
import { closed, mapOf, name, oneOf, orNull, ref, withDefaults } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ description, examples: [example] });
const number = (description: string, example = 0) => Type.Number({ description, examples: [example] });

const contextKind = oneOf(
  ['vcpu', 'qemu', 'stratovirt', 'vhost', 'pmd', 'softirq', 'handler', 'revalidator', 'nic', 'wire', 'faults'],
  {
    description: 'What the context is.',
    examples: ['vcpu'],
  },
);
const core = orNull(Type.Integer(), { description: 'Core on its host; null for hardware.', examples: [0] });
const exits = mapOf(Type.Integer(), {
  description: 'VM exits by event name.',
  examples: [{ 'kvm.exit_ept_misconfig_kernel': 1 }],
});

const JourneyHop = name(
  closed(
    {
      time: number('Virtual time in seconds.', 0.0021),
      sinceStartNs: number("Nanoseconds since the frame's first event.", 1200),
      place: Type.String({ examples: ['a/net0/tx0'] }),
      placeType: Type.String({ examples: ['queue'] }),
      context: Type.String({ description: 'Who did it.', examples: ['a/vcpu0'] }),
      contextKind,
      core,
      event: Type.String({ examples: ['virtq.avail'] }),
      text: Type.String({ examples: ['the driver put the frame into the available ring'] }),
      version: whole('Index into `versions`; -1 = not known yet.'),
      costNs: number('Processing up to this step and charged to it.', 130),
      waitedNs: number("Time since the previous context's last work for the frame.", 0),
      copies: whole('Bytes that a host CPU copied in this step.', 0),
      exits: whole('VM exits that it caused.', 1),
      exitsByReason: exits,
      kicks: whole('Kicks that it caused.', 1),
      interrupts: whole('Interrupts that it caused.', 0),
      cache: orNull(oneOf(['emc_hit', 'megaflow_hit', 'hit', 'miss']), {
        description:
          'Which flow cache answered: exact match cache, dpcls, the flow table of the kernel datapath, or none (upcall).',
        examples: ['hit'],
      }),
      probed: orNull(Type.Integer(), {
        description: 'Masks or subtables that were probed for that; null where nothing was looked up.',
        examples: [1],
      }),
      drop: orNull(Type.String(), { description: 'Why the frame was dropped here.', examples: [null] }),
      onPath: Type.Boolean({ description: 'False for what happens to the buffer afterwards.', examples: [true] }),
      charged: Type.Array(Type.String(), {
        description: 'Events that were charged to this step.',
        examples: [['virtq.kick']],
      }),
    },
    { $id: 'JourneyHop', description: "A step of a frame's journey." },
  ),
);
const JourneyLane = name(
  closed(
    {
      context: Type.String({ examples: ['vhost-1201'] }),
      kind: contextKind,
      host: Type.String({ examples: ['h1'] }),
      core,
      visits: whole('How often the frame came to it.', 1),
      busyNs: number('Processing for the frame there.', 1638),
      waitedNs: number('How long the frame waited for it.', 6000),
    },
    { $id: 'JourneyLane', description: 'A context that had the frame.' },
  ),
);

/** The forms of a journey by the word of `?format=`, for browsers, which cannot choose `Accept`. */
export const JOURNEY_FORMATS = {
  json: 'application/json',
  text: 'text/plain',
  svg: 'image/svg+xml',
  mermaid: 'text/vnd.mermaid',
} as const;
export const JourneyQuery = closed({
  format: Type.Optional(
    oneOf(['json', 'text', 'svg', 'mermaid'], {
      description:
        'Comes before what `Accept` says. `svg`: a sequence diagram. `mermaid`: the same for pages that render it.',
      examples: ['svg'],
    }),
  ),
});

export const JourneySchema = name(
  closed(
    {
      frame: whole('Id of the frame.', 1),
      parent: orNull(Type.Integer(), {
        description: 'The frame that this is a copy or a segment of.',
        examples: [null],
      }),
      clones: Type.Array(Type.Integer(), { description: 'Copies made by flooding.', examples: [[2]] }),
      segments: Type.Array(Type.Integer(), { description: 'Frames that this one was cut into.', examples: [[]] }),
      merged: Type.Array(Type.Integer(), { description: 'Frames that became part of this one.', examples: [[]] }),
      mergedInto: orNull(Type.Integer(), { description: 'The frame that this one became part of.', examples: [null] }),
      versions: Type.Array(
        closed({
          time: number('Virtual time in seconds.', 0.0021),
          bytes: whole('Length.', 60),
          hex: orNull(Type.String(), {
            description: 'null where the bytes have been overwritten.',
            examples: ['5254'],
          }),
        }),
        { description: 'The bytes, each version once.' },
      ),
      hops: Type.Array(ref(JourneyHop)),
      lanes: Type.Array(ref(JourneyLane), {
        description: 'The contexts, in the order in which the frame came to them.',
      }),
      outcome: Type.String({
        description: '`delivered`, `consumed`, `dropped:<reason>`, `segmented`, `merged` or `in flight`.',
        examples: ['delivered'],
      }),
      dropReason: orNull(Type.String(), { description: 'The reason alone.', examples: [null] }),
      totals: closed({
        latencyNs: number('From the first event to the end.', 9000),
        processingNs: number('Of that, processing.', 5000),
        waitingNs: number('Of that, waiting.', 4000),
        copies: whole('Copies by host CPUs.', 2),
        copiedBytes: whole('Bytes they copied.', 120),
        exits: whole('VM exits.', 1),
        exitsByReason: exits,
        kicks: whole('Kicks.', 1),
        interrupts: whole('Interrupts.', 1),
      }),
    },
    { $id: 'Journey', description: 'Everything that is recorded of one frame.' },
  ),
);

// ---- journeys grouped by path ---------------------------------------------------------------------------------------
export const GroupsQuery = withDefaults(
  closed({
    ...eventFilter,
    run: Type.Optional(
      Type.String({ minLength: 1, maxLength: 200, description: 'Frames of this run only.', examples: ['run-1'] }),
    ),
    outcome: Type.Optional(
      Type.String({
        pattern: '^(delivered|consumed|segmented|merged|dropped(:[a-z0-9_.]{1,60})?|in-flight)$',
        description: '`delivered`, `consumed`, `dropped`, `dropped:<reason>`, `segmented`, `merged` or `in-flight`.',
        examples: ['dropped'],
      }),
    ),
    limit: Type.Integer({
      minimum: 1,
      maximum: 500,
      default: 20,
      description: 'Most groups to show; the frames of the rest are counted together.',
      examples: [20],
    }),
    format: Type.Optional(
      oneOf(['json', 'text'], { description: 'Comes before what `Accept` says.', examples: ['text'] }),
    ),
  }),
);
const quantiles = (description: string) =>
  closed(
    {
      p50: number('Median.', 938),
      p90: number('90 % take at most this.', 938),
      p99: number('99 % take at most this.', 1021),
      max: number('The longest.', 1100),
      mean: number('Mean.', 940.5),
    },
    { description: `${description} Virtual ns; quantiles of different values are at most 0.8 % off.` },
  );
const JourneyGroup = name(
  closed(
    {
      outcome: Type.String({ examples: ['delivered'] }),
      count: whole('Frames that took this way.', 1000),
      share: number('Of all frames found.', 0.998),
      examples: closed(
        { first: whole('The first one.', 3), slowest: whole('The slowest one.', 41) },
        { description: 'Ids of frames of this group.' },
      ),
      latencyNs: quantiles('From birth (of a copy: from the copying) to the end.'),
      perFrame: closed(
        {
          processingNs: number('Processing.', 2316),
          waitingNs: number('Waiting.', 17450),
          copies: number('Copies by host CPUs.', 2),
          copiedBytes: number('Bytes they copied.', 144),
          exits: number('VM exits.', 0.3),
          kicks: number('Kicks.', 0.3),
          interrupts: number('Interrupts that announced the frame.', 0.2),
        },
        { description: 'Means.' },
      ),
      hops: Type.Array(
        closed({
          place: Type.String({ examples: ['a/net0/tx0'] }),
          placeType: Type.String({ examples: ['queue'] }),
          event: Type.String({ examples: ['virtq.avail'] }),
          context: Type.String({
            description: 'Who did it, for the first frame that came this way.',
            examples: ['a/vcpu0'],
          }),
          contextKind,
          costNs: quantiles('Processing up to this step.'),
          waitedNs: quantiles('Waiting before this step.'),
        }),
        { description: 'The steps on the way.' },
      ),
    },
    { $id: 'JourneyGroup', description: 'Frames that took the same steps at the same places and ended alike.' },
  ),
);
export const JourneyGroupsSchema = name(
  closed(
    {
      frames: whole('Frames that were found.', 1002),
      groups: Type.Array(ref(JourneyGroup), { description: 'Most frames first.' }),
      others: closed(
        {
          groups: whole('Groups that are not shown.', 0),
          count: whole('Frames of those, and of ways that are too many or too long to be kept apart.', 0),
          share: number('Of all frames found.', 0),
          outcomes: mapOf(Type.Integer(), { examples: [{ delivered: 3 }] }),
        },
        { description: 'Frames that none of the groups shown holds.' },
      ),
      incomplete: whole('Frames whose beginning was overwritten; not among `frames`.', 0),
      events: closed(
        { from: whole('First event that was read.', 0), to: whole('The one after the last.', 20000) },
        { description: 'Sequence numbers.' },
      ),
    },
    { $id: 'JourneyGroups', description: 'Journeys grouped by path.' },
  ),
);
