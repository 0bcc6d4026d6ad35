/** /v1/topologies/{t}/points: where a topology can be captured. */
import type { Place } from '../../engine/catalog.ts';
import { hopPlaces } from '../../readers/place-kinds.ts';
import { pageOfList } from '../pages.ts';
import { media, problems } from '../responses.ts';
import { PageQuery, TopologyPath } from '../schemas/common.ts';
import { CapturePointPage } from '../schemas/point.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';

export function addPointRoutes(app: App, { registry }: Services): void {
  app.get(
    '/v1/topologies/:topology/points',
    {
      schema: {
        operationId: 'listCapturePoints',
        tags: ['recording'],
        summary: 'Lists the hops that can be captured at',
        description:
          'In the order of a capture’s interfaces. Places where frames have been dropped are among them as soon as that has happened.',
        params: TopologyPath,
        querystring: PageQuery,
        response: {
          200: media('A page of capture points.', { 'application/json': ref(CapturePointPage) }),
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED'),
        },
      },
    },
    async (request) => {
      const world = registry.get(request.params.topology).heldWorld();
      return pageOfList(hopPlaces(world.counters, true).map(pointOf), request.query);
    },
  );
}

function pointOf({ id: _, order: __, queueIndex: ___, retired, ...point }: Place) {
  return retired === true ? { ...point, retired } : point;
}
