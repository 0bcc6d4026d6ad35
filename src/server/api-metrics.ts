/** Metrics of the process and of the API itself. What the emulated hosts count is in readers/metrics/prometheus.ts. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { NatsCounts } from '../fleet/nats.ts';
import type { PoolCounts } from '../fleet/pool.ts';
import {
  boundText,
  header,
  labelPairs,
  type MetricsFormat,
  type MetricType,
  numberText,
} from '../readers/metrics/prometheus-format.ts';
import { CAPTURE_METRICS, type CaptureCounts } from './captures/capture-metrics.ts';
import { registerCounted } from './counted-metrics.ts';
import { type EventForm, eventTotals } from './events/event-source.ts';
import { NATS_METRICS } from './experiments/nats-metrics.ts';
import { POOL_METRICS } from './experiments/pool-metrics.ts';
import { VERSION } from './version.ts';

/** Gauges whose names end in `_total` although they are no counters: promtool objects to them. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

/** What is asked for at each scrape. */
export interface ApiCounts {
  readonly topologies: () => number;
  readonly streams: () => number;
  readonly worldsByThread: () => readonly number[];
  readonly captures: () => CaptureCounts;
  readonly jobs: () => PoolCounts;
  readonly nats: () => NatsCounts;
}

/** A metric as prom-client hands it out. */
interface CollectedMetric {
  readonly name: string;
  readonly help: string;
  readonly type: MetricType;
  readonly values: readonly {
    readonly metricName?: string;
    readonly labels: Readonly<Record<string, string | number>>;
    readonly value: number;
  }[];
}

function metricText({ name, help, type, values }: CollectedMetric, format: MetricsFormat): string {
  let out = header(format, name, name.endsWith('_info') ? 'info' : type, help);
  for (const { metricName = name, labels, value } of values) {
    // A bucket's bound comes last.
    const names = Object.keys(labels).sort((a, b) => Number(a === 'le') - Number(b === 'le'));
    const texts = names.map((label) =>
      label === 'le'
        ? boundText(labels[label] === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels[label]))
        : String(labels[label]),
    );
    const pairs = labelPairs(names, texts);
    out += `${metricName}${pairs === '' ? '' : `{${pairs}}`} ${numberText(value)}\n`;
  }
  return out;
}

export class ApiMetrics {
  readonly registry = new Registry();
  private readonly requests: Histogram<'method' | 'route' | 'code'>;

  constructor(counts: ApiCounts) {
    collectDefaultMetrics({ register: this.registry });
    for (const name of MISNAMED) this.registry.removeSingleMetric(name);
    this.requests = new Histogram({
      name: 'ringside_http_request_duration_seconds',
      help: 'Time from a request to the end of its response, streams and long polls included.',
      labelNames: ['method', 'route', 'code'],
      buckets: [0.001, 0.0025, 0.006, 0.015, 0.04, 0.1, 0.25, 0.6, 1.5, 4, 10, 30],
      registers: [this.registry],
    });
    this.gauge('ringside_topologies', 'Topologies that this server hosts.', counts.topologies);
    this.gauge('ringside_streams', 'Event streams, WebSockets and captures that are open.', counts.streams);
    this.eventCounter('sent', 'Events that clients of event streams were given.');
    this.eventCounter(
      'dropped',
      'Events that clients of event streams were too slow for, and were told that they missed.',
    );
    registerCounted(this.registry, CAPTURE_METRICS, counts.captures);
    registerCounted(this.registry, POOL_METRICS, counts.jobs);
    registerCounted(this.registry, NATS_METRICS, counts.nats);
    new Gauge({
      name: 'ringside_engine_worlds',
      help: 'Worlds by engine thread.',
      labelNames: ['thread'],
      registers: [this.registry],
      collect() {
        counts.worldsByThread().forEach((worlds, thread) => {
          this.set({ thread: String(thread) }, worlds);
        });
      },
    });
    new Gauge({
      name: 'ringside_build_info',
      help: 'Version of this server.',
      labelNames: ['version', 'node'],
      registers: [this.registry],
    }).set({ version: VERSION, node: process.versions.node }, 1);
  }

  /** All of these metrics in one of the two text formats: prom-client writes either only per registry. */
  async text(format: MetricsFormat): Promise<string> {
    const metrics = (await this.registry.getMetricsAsJSON()) as unknown as readonly CollectedMetric[];
    return metrics.map((metric) => metricText(metric, format)).join('');
  }

  observe(method: string, route: string, code: number, seconds: number): void {
    this.requests.observe({ method, route, code: String(code) }, seconds);
  }

  private eventCounter(what: 'sent' | 'dropped', help: string): void {
    new Counter({
      name: `ringside_stream_events_${what}_total`,
      help,
      labelNames: ['form'],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const form of Object.keys(eventTotals) as EventForm[]) this.inc({ form }, eventTotals[form][what]);
      },
    });
  }

  private gauge(name: string, help: string, value: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(value());
      },
    });
  }
}
