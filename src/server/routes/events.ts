/** /v1/topologies/{t}/events: NDJSON, and a WebSocket on the same path. */
import type { FastifyRequest } from 'fastify';
import { serveEvents } from '../event-socket.ts';
import { type EventRequest, eventLines, openCursor } from '../event-stream.ts';
import { media, problems } from '../responses.ts';
import { TopologyPath } from '../schemas/common.ts';
import { EventLine, EventMessage, EventQuery, Subscribe } from '../schemas/event.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';
import { sendStream, streamOf } from '../streaming.ts';
import { bodyValidator } from '../validation.ts';

export function addEventRoutes(app: App, { registry, settings, stopping, streams }: Services): void {
  const checkSubscribe = bodyValidator<EventRequest>(Subscribe);
  app.route({
    method: 'GET',
    url: '/v1/topologies/:topology/events',
    exposeHeadRoute: false,
    schema: {
      operationId: 'streamEvents',
      tags: ['recording'],
      summary: 'Streams events as NDJSON or over a WebSocket',
      description:
        'Events come in the order in which they were recorded: each context in the order of its time, different contexts ' +
        'interleaved as their slices ended, so times may go back by as much as a slice (at boot: by a guest’s whole probe). ' +
        'As a WebSocket (subprotocol `ringside.v1+json`) the server sends `EventMessage`s, beginning with `hello` and, ' +
        'without `after`, with what is recorded from then on. The client may change its filter by sending ' +
        '`{"type":"subscribe"}` with `events`, `places`, `contexts`, `role`, `frame` and `after`, which mean what the ' +
        'parameters mean. A reader that is too slow is told what it missed by a gap. `limit` and `follow` are for ' +
        'NDJSON only, which begins with the oldest event that is held.',
      params: TopologyPath,
      querystring: EventQuery,
      response: {
        101: { description: 'The WebSocket.', content: { 'application/json': { schema: ref(EventMessage) } } },
        200: media('Events, one a line.', { 'application/x-ndjson': ref(EventLine) }),
        ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED', 'RINGSIDE_E_TOO_MANY'),
      },
    },
    // Before the upgrade: what cannot be served is refused as a problem document.
    preHandler: async (request) => {
      const { params, query } = request as FastifyRequest<{ Params: { topology: string }; Querystring: EventRequest }>;
      openCursor(registry.get(params.topology).heldWorld(), query);
      if (request.ws) request.raw.socket.once('close', streams.take());
    },
    handler: async (request, reply) => {
      const world = registry.get(request.params.topology).heldWorld();
      const { limit = Number.POSITIVE_INFINITY, follow } = request.query;
      const cursor = openCursor(world, request.query, 0);
      streams.takeFor(reply);
      const gone = new AbortController();
      reply.raw.once('close', () => gone.abort());
      const lines = eventLines(world, cursor, { limit, follow }, stopping, gone.signal);
      return sendStream(reply.type('application/x-ndjson'), streamOf(lines, stopping));
    },
    wsHandler: async (socket, request) => {
      const { params, query } = request as FastifyRequest<{ Params: { topology: string }; Querystring: EventRequest }>;
      await serveEvents(socket, {
        topology: params.topology,
        world: registry.get(params.topology).heldWorld(),
        query,
        highWater: settings.limits.socketBuffer,
        stopping,
        parse: (text) => checkSubscribe(JSON.parse(text)),
      });
    },
  });
}
