/**
 * The event streams: what their address takes, and every message of the WebSocket in both directions. The OpenAPI and the
 * AsyncAPI document are both made from these.
 */
import { type Static, type TSchema, Type } from 'typebox';
import { ProblemSchema } from './common.ts';
import { eventFilter } from './event-filter.ts';
import { closed, name, oneOf, orNull, ref, withDefaults } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ description, examples: [example] });
const number = (description: string, example = 0) => Type.Number({ description, examples: [example] });
const word = (description: string, example: string) => Type.String({ description, examples: [example] });
const kind = <const T extends string>(type: T) => oneOf([type], { examples: [type] });

/** Where to begin and how to be served, alike in the address and in a `subscribe` message. */
const after = (description: string) =>
  Type.Optional(Type.Integer({ minimum: -1, maximum: Number.MAX_SAFE_INTEGER, description, examples: [41] }));
const slow = Type.Optional(
  oneOf(['drop', 'block'], {
    description:
      'What happens where the client is slower than the world: `drop` counts what it misses, `block` makes virtual time wait ' +
      'for it, so that it misses nothing that was still held when it came.',
    examples: ['drop'],
  }),
);
const credit = Type.Optional(
  Type.Integer({
    minimum: 0,
    maximum: 1_000_000_000,
    description:
      'WebSocket: most events to send before the client grants more by `{"type":"credit","add":…}`. Left out: as fast as the ' +
      'client reads. Gaps and answers cost nothing.',
    examples: [10_000],
  }),
);

export const EventQuery = withDefaults(
  closed({
    ...eventFilter,
    after: after(
      'Sequence number of the last event that you have; the answer begins with the one after it. -1: from the very beginning.',
    ),
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1_000_000_000, description: 'Most events to answer.', examples: [100] }),
    ),
    follow: Type.Optional(
      Type.Boolean({
        description: 'Goes on with what is recorded from now on. Left out: true for `text/event-stream`, else false.',
        examples: [false],
      }),
    ),
    slow,
    credit,
  }),
);
export const EventHeaders = Type.Object({
  'last-event-id': Type.Optional(
    Type.String({
      pattern: '^[0-9]{0,16}$',
      description: 'What a browser sends when it comes back to a server-sent stream: `after`, and stronger than that.',
      examples: ['41'],
    }),
  ),
});

// ---- from the client ----------------------------------------------------------------------------------------------
const id = Type.Optional(
  Type.String({ maxLength: 128, description: "The client's own; the answer carries it.", examples: ['1'] }),
);
/** In no HTTP body, hence not among the named schemas of the API document. */
export const EventSubscribe = closed(
  {
    type: kind('subscribe'),
    id,
    ...eventFilter,
    after: after('Go on after this event. Left out: go on where the stream is, or where it was stopped.'),
    credit,
    slow,
  },
  { $id: 'EventSubscribe', description: 'Replaces filter, credit and `slow`; what is left out is as if never given.' },
);
export const EventUnsubscribe = closed(
  { type: kind('unsubscribe'), id },
  { $id: 'EventUnsubscribe', description: 'No more events until the next `subscribe`.' },
);
export const EventCredit = closed(
  {
    type: kind('credit'),
    id,
    add: Type.Integer({ minimum: 1, maximum: 1_000_000_000, description: 'So many events more.', examples: [1000] }),
  },
  { $id: 'EventCredit', description: 'Grants events to a subscription that was made with `credit`.' },
);
export const EventPing = closed(
  { type: kind('ping'), id },
  { $id: 'EventPing', description: 'Asks for a `pong`: where the stream and the record are.' },
);
export const CLIENT_MESSAGES: readonly TSchema[] = [EventSubscribe, EventUnsubscribe, EventCredit, EventPing];
export type SubscribeMessage = Static<typeof EventSubscribe>;
export type UnsubscribeMessage = Static<typeof EventUnsubscribe>;
export type CreditMessage = Static<typeof EventCredit>;
export type PingMessage = Static<typeof EventPing>;

// ---- from the server ----------------------------------------------------------------------------------------------
const heads = {
  oldest: whole('Oldest event that is held.', 0),
  next: whole('Sequence number that the next event will have.', 1200),
  virtualTimeSeconds: number('Virtual time up to which the world has run.', 0.0021),
};
const position = whole('Sequence number that the stream goes on with.', 42);
const entry = { id: whole('As in the column `meta` of the binary form.', 22) };
const placeNames = Type.Array(
  closed({ ...entry, name: word('Name of the place.', 'a/net0/tx0'), type: word('Its kind.', 'queue') }),
);
const contextNames = Type.Array(
  closed({ ...entry, name: word('Name of the context.', 'a/vcpu0'), kind: word('Its kind.', 'vcpu') }),
);
const Dictionary = name(
  closed(
    {
      kinds: Type.Array(
        closed({
          ...entry,
          name: word('Name of the kind.', 'virtq.kick'),
          role: oneOf(['born', 'cloned', 'delivered', 'consumed', 'dropped', 'replaced', 'none'], {
            examples: ['none'],
          }),
          a: word("Name of the kind's first value; empty where it has none.", 'queue'),
          b: word('The same of the second.', 'availIdx'),
          text: word('What happened.', 'the driver wrote the notify register'),
        }),
      ),
      places: placeNames,
      contexts: contextNames,
    },
    { $id: 'EventDictionary', description: 'What the numbers of events mean, and the names that filters take.' },
  ),
);
const EventHello = name(
  closed(
    {
      type: kind('hello'),
      protocol: oneOf(['ringside.v1+json', 'ringside.v1+binary'], { examples: ['ringside.v1+json'] }),
      server: word('Version of the server.', '0.1.0'),
      topology: word('Name of the topology.', 't1'),
      ...heads,
      limits: closed({
        batchEvents: whole('Most events of one message.', 1000),
        batchBytes: orNull(Type.Integer(), {
          description: 'About the most bytes of one message; null where the number of events alone bounds it.',
          examples: [262_144],
        }),
        bufferBytes: whole('Bytes that wait for a slow client before it begins to miss events.', 4_194_304),
        messageBytes: whole('Most bytes of a message of the client.', 65_536),
        pingSeconds: number('How often the server pings.', 20),
        stallSeconds: number('After how long without a sign of life it ends the connection.', 60),
      }),
      dictionary: ref(Dictionary),
    },
    { $id: 'EventHello', description: 'The first message.' },
  ),
);
const EventNames = name(
  closed(
    { type: kind('names'), places: placeNames, contexts: contextNames },
    {
      $id: 'EventNames',
      description:
        'What the topology has gained since `hello`, or since the last such message: comes before the first event that needs it.',
    },
  ),
);
const Gap = name(
  closed(
    {
      type: kind('gap'),
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
    {
      $id: 'Event',
      description:
        'A recorded event; further fields depend on its kind. With a vhost-user message comes `message`: its name, flags and fields.',
    },
  ),
);
const EventList = name(
  closed(
    {
      type: kind('events'),
      from: whole('First sequence number that this message accounts for.', 0),
      events: Type.Array(ref(Event)),
      to: whole('The one after the last.', 1000),
    },
    { $id: 'EventList', description: 'Events in the order in which they were recorded.' },
  ),
);
const EventSubscribed = name(
  closed(
    { type: kind('subscribed'), id, position, ...heads },
    { $id: 'EventSubscribed', description: 'The answer to `subscribe`: what follows is what was asked for.' },
  ),
);
const EventUnsubscribed = name(
  closed(
    { type: kind('unsubscribed'), id, position },
    { $id: 'EventUnsubscribed', description: 'The answer to `unsubscribe`: no events follow.' },
  ),
);
const EventPong = name(
  closed(
    {
      type: kind('pong'),
      id,
      credit: Type.Optional(whole('Events that may still be sent; left out without credit.', 1000)),
      position,
      ...heads,
    },
    { $id: 'EventPong', description: 'The answer to `ping`.' },
  ),
);
const EventError = name(
  closed(
    { type: kind('error'), id, problem: ref(ProblemSchema) },
    { $id: 'EventError', description: "What is wrong with a client's message. The stream goes on as it was." },
  ),
);
const EventEnd = name(
  closed(
    {
      type: kind('end'),
      reason: Type.String({ examples: ['the topology was deleted or rebuilt'] }),
      position,
      next: heads.next,
    },
    {
      $id: 'EventEnd',
      description: 'The last message. Where `position` is less than `next`, so many events were not sent.',
    },
  ),
);

export const SERVER_MESSAGES: readonly TSchema[] = [
  EventHello,
  EventNames,
  EventList,
  Gap,
  EventSubscribed,
  EventUnsubscribed,
  EventPong,
  EventError,
  EventEnd,
];
/** Sent on the WebSocket; a line of NDJSON is an event or a gap. */
export const EventMessage = name(
  Type.Unsafe<object>({
    $id: 'EventMessage',
    description: 'A message of the event WebSocket.',
    anyOf: SERVER_MESSAGES.map((message) => ref(message)),
  }),
);
export const EventLine = name(
  Type.Unsafe<object>({ $id: 'EventLine', description: 'A line of NDJSON.', anyOf: [ref(Event), ref(Gap)] }),
);
