/** /v1/topologies/{t}/frames/{id}: the journey of one frame, in the form that is asked for. */
import type { FastifyRequest } from 'fastify';
import { findJourney, type Journey } from '../../readers/journey.ts';
import { journeyMermaid } from '../../readers/journey-mermaid.ts';
import { journeySvg } from '../../readers/journey-svg.ts';
import { journeyText } from '../../readers/journey-text.ts';
import { negotiate } from '../negotiation.ts';
import { notFound, Problem } from '../problem.ts';
import { media, problems } from '../responses.ts';
import { FramePath } from '../schemas/common.ts';
import { JOURNEY_FORMATS, JourneyQuery, JourneySchema } from '../schemas/journey.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';
import { inTurns } from '../streaming.ts';

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

export function addJourneyRoutes(app: App, { registry }: Services): void {
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
