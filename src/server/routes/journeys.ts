/** /v1/topologies/{t}/frames/{id}: the journey of one frame, in the form that is asked for. */
import type { FastifyRequest } from 'fastify';
import { EVENT_KINDS } from '../../engine/events.ts';
import { findJourney, type Journey } from '../../readers/journey/journey.ts';
import { JourneyGroups } from '../../readers/journey/journey-groups.ts';
import { groupsJson } from '../../readers/journey/journey-groups-json.ts';
import { groupsText } from '../../readers/journey/journey-groups-text.ts';
import { journeyMermaid } from '../../readers/journey/journey-mermaid.ts';
import { journeySvg } from '../../readers/journey/journey-svg.ts';
import { journeyText } from '../../readers/journey/journey-text.ts';
import { openFilter } from '../events/event-filter.ts';
import { negotiate } from '../negotiation.ts';
import { notFound, Problem } from '../problem.ts';
import { media, problems } from '../responses.ts';
import { FramePath, TopologyPath } from '../schemas/common.ts';
import { GroupsQuery, JOURNEY_FORMATS, JourneyGroupsSchema, JourneyQuery, JourneySchema } from '../schemas/journey.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';
import { inTurns } from '../streaming.ts';

const DROPS = EVENT_KINDS.filter((kind) => kind.role === 'dropped').map((kind) => kind.name);

type JourneyType = (typeof JOURNEY_FORMATS)[keyof typeof JOURNEY_FORMATS];

/** The media type that a request for a journey wants; `format` is the query parameter. */
export function journeyType(request: FastifyRequest, format: keyof typeof JOURNEY_FORMATS | undefined): JourneyType {
  if (format !== undefined) return JOURNEY_FORMATS[format];
  const { json, text, svg, mermaid } = JOURNEY_FORMATS;
  return negotiate(request, [json, text, svg, mermaid]);
}

/** The journey as a body of that type. */
export function journeyBody(journey: Journey, type: JourneyType): string {
  if (type === 'text/plain') return journeyText(journey);
  if (type === 'image/svg+xml') return journeySvg(journey);
  if (type === 'text/vnd.mermaid') return journeyMermaid(journey);
  return JSON.stringify(journey);
}

export function addJourneyRoutes(app: App, { registry, streams }: Services): void {
  app.get(
    '/v1/topologies/:topology/journeys',
    {
      schema: {
        operationId: 'groupJourneys',
        tags: ['recording'],
        summary: 'Groups journeys by path',
        description:
          'Reads everything that is held, once. A frame counts when one of its events matches the filter; all parameters that are given must match.',
        params: TopologyPath,
        querystring: GroupsQuery,
        response: {
          200: media('The groups, the largest first.', {
            'application/json': ref(JourneyGroupsSchema),
            'text/plain': { type: 'string' },
          }),
          ...problems(
            'RINGSIDE_E_NOT_FOUND',
            'RINGSIDE_E_NOT_ACCEPTABLE',
            'RINGSIDE_E_WORLD_FAILED',
            'RINGSIDE_E_TOO_MANY',
          ),
        },
      },
    },
    async (request, reply) => {
      const { run, outcome, limit, format } = request.query;
      const type =
        format === undefined ? negotiate(request, ['application/json', 'text/plain']) : JOURNEY_FORMATS[format];
      if (outcome !== undefined) checkReason(outcome);
      const hosted = registry.get(request.params.topology);
      const world = hosted.heldWorld();
      const reader = world.openReader();
      const groups = new JourneyGroups(reader, {
        filter: openFilter(reader.catalog, request.query),
        ...(run === undefined ? {} : { run: await hosted.livingWorld().call('runNumber', { run }) }),
        ...(outcome === undefined ? {} : { outcome: outcome.replace('-', ' ') }),
      });
      // A scan takes memory for the frames under way: it counts as a download.
      streams.takeFor(reply);
      const result = groupsJson(reader.catalog, await inTurns(groups.scan()), limit);
      return reply.type(`${type}; charset=utf-8`).send(type === 'text/plain' ? groupsText(result) : result);
    },
  );

  app.get(
    '/v1/topologies/:topology/frames/:frame',
    {
      schema: {
        operationId: 'getJourney',
        tags: ['recording'],
        summary: 'Shows the journey of a frame',
        params: FramePath,
        querystring: JourneyQuery,
        response: {
          200: media('The journey.', {
            'application/json': ref(JourneySchema),
            'text/plain': { type: 'string' },
            'image/svg+xml': { type: 'string' },
            'text/vnd.mermaid': { type: 'string' },
          }),
          ...problems(
            'RINGSIDE_E_NOT_FOUND',
            'RINGSIDE_E_NOT_ACCEPTABLE',
            'RINGSIDE_E_WORLD_FAILED',
            'RINGSIDE_E_GONE',
          ),
        },
      },
    },
    async (request, reply) => {
      const { topology, frame } = request.params;
      const type = journeyType(request, request.query.format);
      const result = await inTurns(findJourney(registry.get(topology).heldWorld().openReader(), frame));
      if (result.kind === 'unknown') throw notFound(`Topology '${topology}' has no frame ${frame}`);
      if (result.kind === 'gone') {
        const detail = `Frame ${frame} has been overwritten; the oldest frame that is held is ${result.oldest}`;
        throw new Problem('RINGSIDE_E_GONE', detail, { oldestFrame: result.oldest });
      }
      return reply.type(`${type}; charset=utf-8`).send(journeyBody(result.journey, type));
    },
  );
}

/** A reason that no event has is a typing error, not an empty answer. */
function checkReason(outcome: string): void {
  const reason = outcome.split(':')[1];
  if (reason === undefined || DROPS.includes(reason)) return;
  const detail = `${JSON.stringify(reason)} is no reason for a drop`;
  const fault = { pointer: 'querystring/outcome', detail, expected: DROPS.join(', ') };
  throw new Problem('RINGSIDE_E_REQUEST', detail, { errors: [fault] });
}
