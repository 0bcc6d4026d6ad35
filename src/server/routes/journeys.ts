/** /v1/topologies/{t}/frames/{id}: the journey of one frame. */
import { findJourney, journeyText } from '../../readers/journey.ts';
import { negotiate } from '../negotiation.ts';
import { notFound, Problem } from '../problem.ts';
import { media, problems } from '../responses.ts';
import { FramePath } from '../schemas/common.ts';
import { JourneySchema } from '../schemas/journey.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';
import { inTurns } from '../streaming.ts';

export function addJourneyRoutes(app: App, { registry }: Services): void {
  app.get(
    '/v1/topologies/:topology/frames/:frame',
    {
      schema: {
        operationId: 'getJourney',
        tags: ['recording'],
        summary: 'Shows the journey of a frame',
        params: FramePath,
        response: {
          200: media('The journey.', { 'application/json': ref(JourneySchema), 'text/plain': { type: 'string' } }),
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
      const type = negotiate(request, ['application/json', 'text/plain']);
      const result = await inTurns(findJourney(registry.get(topology).heldWorld().openReader(), frame));
      if (result.kind === 'unknown') throw notFound(`Topology '${topology}' has no frame ${frame}`);
      if (result.kind === 'gone') {
        const detail = `Frame ${frame} has been overwritten; the oldest frame that is held is ${result.oldest}`;
        throw new Problem('RINGSIDE_E_GONE', detail, { oldestFrame: result.oldest });
      }
      if (type === 'text/plain') return reply.type('text/plain; charset=utf-8').send(journeyText(result.journey));
      return reply.type(type).send(result.journey);
    },
  );
}
