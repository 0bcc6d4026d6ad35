/** /metrics: the process, the API, and what the emulated hosts count. */
import { worldMetrics } from '../../readers/prometheus.ts';
import { media, problems } from '../responses.ts';
import type { App, Services } from '../services.ts';

export function addMetricsRoute(app: App, { registry, metrics }: Services): void {
  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'getMetrics',
        tags: ['server'],
        summary: 'Metrics in the Prometheus text format',
        description:
          'Counters of the emulated hosts advance in virtual time: divide by the increase of `ringside_virtual_time_seconds`.',
        response: { 200: media('The metrics.', { 'text/plain': { type: 'string' } }), ...problems() },
      },
    },
    async (_request, reply) => {
      const worlds = registry
        .all()
        .flatMap(({ world, revision, reconfigurations }) =>
          world === null ? [] : [{ reader: world.counters, revision, reconfigurations }],
        );
      const text = (await metrics.registry.metrics()) + worldMetrics(worlds);
      return reply.type(metrics.registry.contentType).send(text);
    },
  );
}
