/** Journeys: what is recorded of single frames. */
import { Type } from 'typebox';
import { closed, mapOf, name, oneOf, orNull, ref } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ description, examples: [example] });
const number = (description: string, example = 0) => Type.Number({ description, examples: [example] });

const contextKind = oneOf(['vcpu', 'qemu', 'vhost', 'pmd', 'softirq', 'handler', 'nic', 'wire'], {
  description: 'What the context is.',
  examples: ['vcpu'],
});
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
      parent: orNull(Type.Integer(), { description: 'The frame that this is a copy of.', examples: [null] }),
      clones: Type.Array(Type.Integer(), { description: 'Copies made by flooding.', examples: [[2]] }),
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
        description: '`delivered`, `consumed`, `dropped:<reason>` or `in flight`.',
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
