/** /metrics: the process, the API, and what the emulated hosts count. */
import { scrape } from '../../readers/metrics/prometheus.ts';
import type { MeteredWorld } from '../../readers/metrics/prometheus-family.ts';
import { CONTENT_TYPES, type MetricsFormat, OPENMETRICS_END } from '../../readers/metrics/prometheus-format.ts';
import { ovsMetricsText } from '../../readers/metrics/prometheus-ovs.ts';
import { ExperimentMetrics } from '../experiments/experiment-metrics.ts';
import { negotiate } from '../negotiation.ts';
import { media, problems } from '../responses.ts';
import type { App, Services } from '../services.ts';
import { pause } from '../stopping.ts';
import { sendStream, streamOf } from '../streaming.ts';
import type { TopologyRegistry } from '../topologies.ts';

const TEXT = 'text/plain';
const OPENMETRICS = 'application/openmetrics-text';

/** The worlds that there are, with what only the server knows about them. */
export function meteredWorlds(registry: TopologyRegistry): MeteredWorld[] {
  return registry
    .all()
    .flatMap(({ world, revision, reconfigurations }) =>
      world === null ? [] : [{ reader: world.counters, booted: world.booted, revision, reconfigurations }],
    );
}

/** Engines answer between two slices; one that does not for so long has no samples in this scrape. */
const ENGINE_MS = 2000;

/** What the worlds with Open vSwitch say of it. */
async function ovsSamples(registry: TopologyRegistry) {
  const asked = registry.all().map(async ({ name, world }) => {
    if (world === null || world.failed !== null) return [];
    const late = new AbortController();
    const samples = await Promise.race([
      world.call('ovsMetrics', {}).catch(() => null),
      pause(ENGINE_MS, late.signal).then(() => null),
    ]);
    late.abort();
    return samples === null ? [] : [{ topology: name, samples }];
  });
  return (await Promise.all(asked)).flat();
}

export function addMetricsRoute(app: App, { registry, experiments, metrics, settings, stopping }: Services): void {
  const ofExperiments = new ExperimentMetrics(experiments);
  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'getMetrics',
        tags: ['server'],
        summary: 'Metrics for Prometheus',
        description:
          'In the Prometheus text format, or as OpenMetrics 1.0 where that is preferred. Counters of the emulated hosts advance in virtual time: divide by the increase of `ringside_virtual_time_seconds`. docs/metrics.md lists them all.',
        response: {
          200: media('The metrics.', { [TEXT]: { type: 'string' }, [OPENMETRICS]: { type: 'string' } }),
          ...problems('RINGSIDE_E_NOT_ACCEPTABLE'),
        },
      },
    },
    (request, reply) => {
      const format = negotiate(request, [TEXT, OPENMETRICS]) === TEXT ? 'prometheus' : 'openmetrics';
      reply.type(CONTENT_TYPES[format]).header('vary', 'accept');
      return sendStream(reply, streamOf(pieces(format), stopping));
    },
  );

  /** In pieces, with turns of the event loop in between: there may be many series. */
  async function* pieces(format: MetricsFormat): AsyncGenerator<Uint8Array> {
    yield Buffer.from(await metrics.text(format));
    yield Buffer.from(await ofExperiments.text(format));
    yield* scrape(meteredWorlds(registry), { format, maxSeries: settings.limits.metricsSeries });
    yield Buffer.from(ovsMetricsText(await ovsSamples(registry), format));
    if (format === 'openmetrics') yield Buffer.from(OPENMETRICS_END);
  }
}
