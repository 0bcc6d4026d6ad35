/** /v1/topologies/{t}/events: NDJSON, server-sent events, and a WebSocket on the same path. */
import type { FastifyRequest } from 'fastify';
import { asyncapiDocument } from '../events/event-asyncapi.ts';
import { checkSubprotocols } from '../events/event-protocol.ts';
import { type Subscription, serveEvents } from '../events/event-socket.ts';
import { EventSource } from '../events/event-source.ts';
import { eventChunks, watchStall } from '../events/event-stream.ts';
import { negotiate } from '../negotiation.ts';
import { media, problems } from '../responses.ts';
import { TopologyPath } from '../schemas/common.ts';
import { EventHeaders, EventLine, EventMessage, EventQuery } from '../schemas/event.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';
import { sendStream, streamOf } from '../streaming.ts';

/** Sequence number that a stream begins with, which comes after the last one that the client has. */
const startOf = (after: number | undefined): number | undefined => (after === undefined ? undefined : after + 1);

type SocketRequest = FastifyRequest<{ Params: { topology: string }; Querystring: Subscription }>;

export function addEventRoutes(app: App, { registry, settings, stopping, streams }: Services): void {
  app.route({
    method: 'GET',
    url: '/v1/topologies/:topology/events',
    exposeHeadRoute: false,
    schema: {
      operationId: 'streamEvents',
      tags: ['recording'],
      summary: 'Streams events as NDJSON, as server-sent events or over a WebSocket',
      description:
        'Events come in the order in which they were recorded: each context in the order of its time, different contexts ' +
        'interleaved as their slices ended, so times may go back by as much as a slice (at boot: by a guest’s whole probe). ' +
        'A reader that is too slow is told what it missed by a gap with the number; who comes back with `after` gets every ' +
        'event once.\n\n' +
        'NDJSON and server-sent events begin with the oldest event that is held. Of the latter the `id` is the sequence ' +
        'number, `event: gap` is a gap and `event: end` the end; other events have no `event` field.\n\n' +
        'A WebSocket (subprotocol `ringside.v1+json`, or `ringside.v1+binary` for events in columns) begins with what is ' +
        'recorded from then on. The server sends `EventMessage`s, `hello` first; the client may send `subscribe`, ' +
        '`unsubscribe`, `credit` and `ping`. `limit` and `follow` mean nothing there. All messages and the binary layout are ' +
        'in the AsyncAPI document, `/asyncapi.json`.',
      params: TopologyPath,
      headers: EventHeaders,
      querystring: EventQuery,
      response: {
        101: { description: 'The WebSocket.', content: { 'application/json': { schema: ref(EventMessage) } } },
        200: media('Events, one a line or one a server-sent event.', {
          'application/x-ndjson': ref(EventLine),
          'application/jsonl': ref(EventLine),
          'text/event-stream': ref(EventLine),
        }),
        ...problems(
          'RINGSIDE_E_NOT_FOUND',
          'RINGSIDE_E_NOT_ACCEPTABLE',
          'RINGSIDE_E_WORLD_FAILED',
          'RINGSIDE_E_TOO_MANY',
        ),
      },
    },
    // Before the upgrade: what cannot be served is refused as a problem document.
    preHandler: async (request) => {
      if (!request.ws) return;
      const { params, query } = request as SocketRequest;
      checkSubprotocols(request.headers['sec-websocket-protocol']);
      EventSource.of(registry.get(params.topology).heldWorld()).open('message', query, startOf(query.after));
      request.raw.socket.once('close', streams.take());
    },
    handler: async (request, reply) => {
      const type = negotiate(request, ['application/x-ndjson', 'application/jsonl', 'text/event-stream']);
      const form = type === 'text/event-stream' ? 'server-sent' : 'lines';
      const { limit = Number.POSITIVE_INFINITY, follow = form === 'server-sent', slow, ...query } = request.query;
      const last = request.headers['last-event-id'];
      const world = registry.get(request.params.topology).heldWorld();
      const source = EventSource.of(world);
      const after = last === undefined || last === '' ? query.after : Number(last);
      const place = source.open(form, query, startOf(after) ?? 0);
      streams.takeFor(reply);
      const hold = slow === 'block' ? world.takeHold(Math.max(place.position, source.oldest)) : null;
      const gone = new AbortController();
      const watch = hold === null ? undefined : watchStall(source, place, () => reply.raw.destroy());
      reply.raw.once('close', () => {
        gone.abort();
        hold?.release();
        watch?.();
      });
      const chunks = eventChunks(source, place, { form, limit, follow, hold }, stopping, gone.signal);
      return sendStream(reply.type(type), streamOf(chunks, stopping));
    },
    wsHandler: async (socket, request) => {
      const { params, query } = request as SocketRequest;
      await serveEvents(socket, {
        topology: params.topology,
        world: registry.get(params.topology).heldWorld(),
        query,
        highWater: settings.limits.socketBuffer,
        stopping,
      });
    },
  });
  const asyncapi = asyncapiDocument();
  app.get(
    '/asyncapi.json',
    {
      schema: {
        operationId: 'getAsyncapi',
        tags: ['server'],
        summary: 'Shows the AsyncAPI document of the event WebSocket',
        response: { 200: media('The document.', { 'application/json': { type: 'object' } }), ...problems() },
      },
    },
    async () => asyncapi,
  );
}
