/** /v1/topologies/{t}/traffic/{id}/timeline: a run in its own, virtual time, for Prometheus or as data. */
import { CONTENT_TYPES } from '../../readers/metrics/prometheus-format.ts';
import { timelineSeries, timelineText } from '../../readers/metrics/timeline.ts';
import { negotiate } from '../negotiation.ts';
import { Problem } from '../problem.ts';
import { media, problems } from '../responses.ts';
import { RunPath } from '../schemas/common.ts';
import { ref } from '../schemas/reference.ts';
import { TimelineQuery, TimelineSchema } from '../schemas/timeline.ts';
import type { App, Services } from '../services.ts';
import { sendStream, streamOf } from '../streaming.ts';

const OPENMETRICS = 'application/openmetrics-text';
const JSON_TYPE = 'application/json';

export function addTimelineRoute(app: App, { registry, stopping }: Services): void {
  app.get(
    '/v1/topologies/:topology/traffic/:run/timeline',
    {
      schema: {
        operationId: 'getTimeline',
        tags: ['traffic'],
        summary: 'The metrics of a run over its virtual time',
        description:
          "The topology's counters at up to 256 points of virtual time, from the run's first frame to its end; what other runs did meanwhile is in them. As OpenMetrics with timestamps (the topology's epoch plus virtual time) it is ready for `promtool tsdb create-blocks-from openmetrics`. A run in progress is answered as far as it has come. The timelines of long past runs are given up.",
        params: RunPath,
        querystring: TimelineQuery,
        response: {
          200: media('The timeline.', { [OPENMETRICS]: { type: 'string' }, [JSON_TYPE]: ref(TimelineSchema) }),
          ...problems(
            'RINGSIDE_E_NOT_FOUND',
            'RINGSIDE_E_WORLD_FAILED',
            'RINGSIDE_E_NOT_ACCEPTABLE',
            'RINGSIDE_E_GONE',
          ),
        },
      },
    },
    async (request, reply) => {
      const type = negotiate(request, [OPENMETRICS, JSON_TYPE]);
      const hosted = registry.get(request.params.topology);
      const { revision, reconfigurations } = hosted;
      const world = hosted.livingWorld();
      const timeline = await world.call('timeline', { run: request.params.run });
      if (timeline === null) {
        throw new Problem('RINGSIDE_E_GONE', `The timeline of ${request.params.run} made room for those of later runs`);
      }
      const metered = { reader: world.counters, booted: world.booted, revision, reconfigurations };
      reply.header('vary', 'accept');
      if (type === OPENMETRICS) {
        reply.type(CONTENT_TYPES.openmetrics);
        return sendStream(reply, streamOf(timelineText(metered, timeline, request.query), stopping));
      }
      const { epochNs } = world.counters.catalog;
      const body = { topology: hosted.name, run: request.params.run, epochNs };
      return reply.type(JSON_TYPE).send({ ...body, ...timelineSeries(metered, timeline, request.query) });
    },
  );
}
