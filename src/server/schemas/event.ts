/** Event streams: NDJSON and the WebSocket. */
import { Type } from 'typebox';
import { ProblemSchema } from './common.ts';
import { eventFilter } from './event-filter.ts';
import { closed, name, oneOf, orNull, ref, withDefaults } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ description, examples: [example] });
const number = (description: string, example = 0) => Type.Number({ description, examples: [example] });

const sequence = (description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description, examples: [0] }));
export const EventQuery = withDefaults(
  closed({
    ...eventFilter,
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
  ...eventFilter,
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
