/**
 * The AsyncAPI document of the event WebSocket, from the same schemas that check its messages: what the OpenAPI document
 * cannot say (who may send what when, what answers what, the binary layout). Committed as asyncapi/asyncapi.json.
 */
import type { TSchema } from 'typebox';
import { BINARY_COLUMNS, BINARY_HEADER, FLAG_SEQ } from '../../readers/events/event-binary.ts';
import { TopologyPath } from '../schemas/common.ts';
import { CLIENT_MESSAGES, EventQuery, SERVER_MESSAGES } from '../schemas/event.ts';
import { namedSchemas } from '../schemas/reference.ts';
import { VERSION } from '../version.ts';
import { SUBPROTOCOLS } from './event-protocol.ts';

type Json = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const CHANNEL = { $ref: '#/channels/events' };
const inChannel = (message: string): Json => ({ $ref: `#/channels/events/messages/${message}` });
const idOf = (schema: TSchema): string => (schema as { $id?: string }).$id ?? '';

/** Each message of a client: what it is for, and what answers it. */
const REQUESTS: readonly (readonly [
  operation: string,
  message: string,
  summary: string,
  answers: readonly string[],
])[] = [
  ['receiveSubscribe', 'EventSubscribe', 'A client chooses events, a place to begin, credit', ['EventSubscribed']],
  ['receiveUnsubscribe', 'EventUnsubscribe', 'A client wants no more events for now', ['EventUnsubscribed']],
  ['receiveCredit', 'EventCredit', 'A client grants more events', []],
  ['receivePing', 'EventPing', 'A client asks where the stream is', ['EventPong']],
];
/** What the server sends on its own account. */
const SENT = ['EventHello', 'EventNames', 'EventList', 'EventBlock', 'Gap', 'EventEnd'];

export function asyncapiDocument(): Json {
  const messages = [...SERVER_MESSAGES, ...CLIENT_MESSAGES];
  const schemas = schemasFor(messages);
  const names = [...messages.map(idOf), 'EventBlock'];
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Ringside events',
      version: VERSION,
      description:
        'What an emulated host records, live over a WebSocket: one topology per socket, the filter grammar and the ' +
        'sequence numbers of the HTTP API. The same events come as NDJSON and as server-sent events from the same address: ' +
        'see the OpenAPI document, `/openapi.json`.',
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    defaultContentType: 'application/json',
    servers: {
      local: {
        host: '127.0.0.1:8080',
        protocol: 'ws',
        description: 'A server on this machine, at its default port.',
        security: [{ $ref: '#/components/securitySchemes/token' }],
      },
    },
    channels: {
      events: {
        address: '/v1/topologies/{topology}/events',
        title: 'Events of a topology',
        description:
          'Begins with `hello`, then with what is recorded from then on, or after `after`. Parameters of the address are a ' +
          'first `subscribe`. A client that is too slow misses events, which a `gap` counts, unless it asked for `slow=block`.',
        servers: [{ $ref: '#/servers/local' }],
        parameters: { topology: parameterOf(TopologyPath.properties.topology) },
        messages: Object.fromEntries(names.map((name) => [name, { $ref: `#/components/messages/${name}` }])),
        bindings: {
          ws: {
            method: 'GET',
            query: socketQuery(),
            headers: {
              type: 'object',
              properties: {
                'Sec-WebSocket-Protocol': {
                  type: 'string',
                  enum: SUBPROTOCOLS,
                  description:
                    'The first one offered that is known is taken, and JSON where none is offered. With the second, lists of ' +
                    'events come in columns (`EventBlock`); everything else is JSON text as well.',
                },
              },
            },
            bindingVersion: '0.1.0',
          },
        },
      },
    },
    operations: {
      sendEvents: {
        action: 'send',
        channel: CHANNEL,
        title: 'The stream',
        summary: '`hello` first, `end` last; between them events and gaps, in order',
        messages: SENT.map(inChannel),
      },
      ...Object.fromEntries(
        REQUESTS.map(([operation, message, summary, answers]) => [
          operation,
          {
            action: 'receive',
            channel: CHANNEL,
            summary,
            messages: [inChannel(message)],
            reply: { channel: CHANNEL, messages: [...answers, 'EventError'].map(inChannel) },
          },
        ]),
      ),
    },
    components: {
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'Only where the server was started with a token.' },
      },
      messages: Object.fromEntries([
        ...messages.map((schema) => [idOf(schema), messageOf(schema, schemas)] as const),
        ['EventBlock', binaryMessage()],
      ]),
      schemas,
    },
  };
}

export function asyncapiText(): string {
  return `${JSON.stringify(asyncapiDocument(), null, 2)}\n`;
}

// ---- schemas ------------------------------------------------------------------------------------------------------
/** The messages and all that they refer to, by name. */
function schemasFor(messages: readonly TSchema[]): Record<string, unknown> {
  const known = new Map([...namedSchemas(), ...messages].map((schema) => [idOf(schema), schema]));
  const found = new Map<string, unknown>();
  const visit = (name: string): void => {
    if (found.has(name)) return;
    found.set(name, null);
    found.set(name, portable(known.get(name), visit));
  };
  for (const message of messages) visit(idOf(message));
  return Object.fromEntries([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** A schema as a document holds it: references lead to the components, and only they have names. */
function portable(schema: unknown, refer: (name: string) => void): unknown {
  if (Array.isArray(schema)) return schema.map((entry) => portable(entry, refer));
  if (!isObject(schema)) return schema;
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(schema)) {
    if (key === '$id') continue;
    if (key === '$ref') {
      const name = String(value).replace(/#$/, '');
      refer(name);
      out[key] = `#/components/schemas/${name}`;
    } else out[key] = portable(value, refer);
  }
  return out;
}

/** `limit` and `follow` are for the other forms. */
function socketQuery(): unknown {
  const query = portable(EventQuery, () => undefined) as { properties: Json };
  const { limit: _limit, follow: _follow, ...properties } = query.properties;
  return { ...query, properties };
}

function parameterOf(schema: TSchema): Json {
  const { description, examples } = schema as { description?: string; examples?: readonly string[] };
  return { description, examples };
}

// ---- messages -----------------------------------------------------------------------------------------------------
function messageOf(schema: TSchema, schemas: Json): Json {
  const { description, properties } = schema as { description?: string; properties: Json };
  const type = (properties['type'] as { enum: readonly string[] }).enum[0];
  return {
    name: type,
    title: type,
    summary: description,
    contentType: 'application/json',
    ...('id' in properties ? { correlationId: { location: '$message.payload#/id' } } : {}),
    payload: { $ref: `#/components/schemas/${idOf(schema)}` },
    examples: [{ payload: example({ $ref: `#/components/schemas/${idOf(schema)}` }, schemas) }],
  };
}

function binaryMessage(): Json {
  return {
    name: 'events',
    title: 'events in columns',
    summary:
      'Events as one array for each column, in the subprotocol `ringside.v1+binary` in the place of `EventList`.',
    contentType: 'application/octet-stream',
    payload: {
      type: 'string',
      format: 'binary',
      description:
        'A header, then the columns in order, each of `count` elements and filled with zeros to a multiple of 8 bytes. All ' +
        'numbers are little-endian, all columns lie at multiples of 8 from the beginning. Ids are explained by the ' +
        '`dictionary` of `hello`.',
    },
    'x-header': BINARY_HEADER,
    'x-columns': BINARY_COLUMNS,
    'x-flags': [{ name: 'seq', value: FLAG_SEQ }],
  };
}

/** A value that a schema takes, made of the examples of its fields. */
function example(schema: unknown, schemas: Json): unknown {
  if (!isObject(schema)) return null;
  if (typeof schema['$ref'] === 'string') return example(schemas[schema['$ref'].split('/').at(-1) ?? ''], schemas);
  if (Array.isArray(schema['examples'])) return schema['examples'][0];
  if (Array.isArray(schema['anyOf'])) return example(schema['anyOf'][0], schemas);
  if (Array.isArray(schema['enum'])) return schema['enum'][0];
  if (schema['type'] === 'array') return [example(schema['items'], schemas)];
  if (!isObject(schema['properties'])) return null;
  return Object.fromEntries(Object.entries(schema['properties']).map(([key, value]) => [key, example(value, schemas)]));
}
