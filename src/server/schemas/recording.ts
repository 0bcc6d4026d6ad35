/** What was recorded: journeys, captures, events. */
import { Type } from 'typebox';
import { commaNames } from './comma-names.ts';
import { ProblemSchema } from './common.ts';
import { closed, mapOf, name, oneOf, orNull, ref, withDefaults } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ description, examples: [example] });
const number = (description: string, example = 0) => Type.Number({ description, examples: [example] });

const JourneyHop = name(
  closed(
    {
      time: number('Virtual time in seconds.', 0.0021),
      sinceStartNs: number("Nanoseconds since the frame's first event.", 1200),
      place: Type.String({ examples: ['a/net0/tx0'] }),
      placeType: Type.String({ examples: ['queue'] }),
      context: Type.String({ description: 'Who did it.', examples: ['a/vcpu0'] }),
      event: Type.String({ examples: ['virtq.avail'] }),
      text: Type.String({ examples: ['the driver put the frame into the available ring'] }),
      version: whole('Index into `versions`; -1 = not known yet.'),
      costNs: number('Processing up to this step and charged to it.', 130),
      waitedNs: number("Time since the previous context's last work for the frame.", 0),
      copies: whole('Bytes that a host CPU copied in this step.', 0),
      exits: whole('VM exits that it caused.', 1),
      kicks: whole('Kicks that it caused.', 1),
      interrupts: whole('Interrupts that it caused.', 0),
      cache: orNull(Type.String(), { description: 'Which flow cache answered.', examples: [null] }),
      onPath: Type.Boolean({ description: 'False for what happens to the buffer afterwards.', examples: [true] }),
      charged: Type.Array(Type.String(), {
        description: 'Events that were charged to this step.',
        examples: [['virtq.kick']],
      }),
    },
    { $id: 'JourneyHop', description: "A step of a frame's journey." },
  ),
);
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
      outcome: Type.String({
        description: '`delivered`, `consumed`, `dropped:<reason>` or `in flight`.',
        examples: ['delivered'],
      }),
      totals: closed({
        latencyNs: number('From the first event to the end.', 9000),
        processingNs: number('Of that, processing.', 5000),
        waitingNs: number('Of that, waiting.', 4000),
        copies: whole('Copies by host CPUs.', 2),
        copiedBytes: whole('Bytes they copied.', 120),
        exits: whole('VM exits.', 1),
        exitsByReason: mapOf(Type.Integer(), { examples: [{ 'kvm.exit_ept_misconfig_kernel': 1 }] }),
        kicks: whole('Kicks.', 1),
        interrupts: whole('Interrupts.', 1),
      }),
    },
    { $id: 'Journey', description: 'Everything that is recorded of one frame.' },
  ),
);

export const CaptureQuery = withDefaults(
  closed({
    view: oneOf(['wire', 'journey'], {
      default: 'wire',
      description: '`wire`: frames as they enter a bridge. `journey`: every hop of every frame.',
      examples: ['journey'],
    }),
    points: Type.Optional(
      commaNames('Hops to capture at: names, or patterns with `*`, comma-separated.', 'a/net0/tx0,br0/*'),
    ),
    snaplen: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 262144, description: 'Bytes kept of each frame; 0 = all.', examples: [128] }),
    ),
  }),
);

const filter = {
  events: Type.Optional(commaNames('Event names, `*` for any characters, a leading `!` takes out.', 'guest.*,dp.miss')),
  places: Type.Optional(commaNames('Place names, same rules.', 'a/*,br0')),
  contexts: Type.Optional(commaNames('Context names, same rules.', 'vhost-*')),
  role: Type.Optional(commaNames('born, cloned, delivered, consumed, dropped, none.', 'dropped')),
  frame: Type.Optional(Type.String({ maxLength: 40, description: 'A frame id, or a range.', examples: ['17-40'] })),
};
const sequence = (description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description, examples: [0] }));
export const EventQuery = withDefaults(
  closed({
    ...filter,
    after: sequence('Sequence number of the last event that you have; the answer begins with the one after it.'),
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1_000_000_000, description: 'Most events to answer.', examples: [100] }),
    ),
    follow: Type.Boolean({
      default: false,
      description: 'Goes on with what is recorded from now on.',
      examples: [false],
    }),
  }),
);

/** What a WebSocket client may say: it changes the filter. Told in words by the operation, no HTTP body has it. */
export const Subscribe = closed({
  type: oneOf(['subscribe']),
  ...filter,
  after: sequence('Go on after this event; left out: go on where the stream is.'),
});

const Gap = name(
  closed(
    {
      type: oneOf(['gap'], { examples: ['gap'] }),
      from: whole('Sequence number of the first event that was missed.', 0),
      to: whole('Sequence number of the event after the last one that was missed.', 2048),
      dropped: whole('How many were missed, whether they would have matched the filter or not.', 2048),
    },
    { $id: 'Gap', description: 'Events that were overwritten before they could be sent.' },
  ),
);
const Event = name(
  Type.Object(
    {
      seq: whole('Sequence number.', 0),
      time: number('Virtual time in seconds.', 0.0021),
      ns: number('The same in nanoseconds.', 2100000),
      event: Type.String({ examples: ['virtq.kick'] }),
      place: orNull(Type.String(), { examples: ['a/net0/tx0'] }),
      context: orNull(Type.String(), { examples: ['a/vcpu0'] }),
      frame: orNull(Type.Integer(), { examples: [1] }),
    },
    { $id: 'Event', description: 'A recorded event; further fields depend on its kind.' },
  ),
);
/** Sent on the WebSocket; a line of NDJSON is an event or a gap. */
export const EventMessage = name(
  Type.Unsafe<object>({
    $id: 'EventMessage',
    description: 'A message of the event WebSocket.',
    anyOf: [
      closed({
        type: oneOf(['hello'], { examples: ['hello'] }),
        topology: Type.String({ examples: ['t1'] }),
        oldest: whole('Oldest event that is held.', 0),
        next: whole('Sequence number that the next event will have.', 1200),
      }),
      closed({
        type: oneOf(['events'], { examples: ['events'] }),
        from: whole('First sequence number that this message accounts for.', 0),
        to: whole('The one after the last.', 1000),
        events: Type.Array(ref(Event)),
      }),
      ref(Gap),
      closed({
        type: oneOf(['error'], { examples: ['error'] }),
        problem: ref(ProblemSchema),
      }),
      closed({
        type: oneOf(['end'], { examples: ['end'] }),
        reason: Type.String({ examples: ['the topology was deleted'] }),
      }),
    ],
  }),
);
export const EventLine = name(
  Type.Unsafe<object>({ $id: 'EventLine', description: 'A line of NDJSON.', anyOf: [ref(Event), ref(Gap)] }),
);
