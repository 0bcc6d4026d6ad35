/** Writes docs/metrics.md from the tables of the metrics: `npm run metrics-docs`. A unit test holds the file to them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { METRICS } from '../../src/readers/metrics/prometheus.ts';
import type { Metric } from '../../src/readers/metrics/prometheus-family.ts';
import { unitOf } from '../../src/readers/metrics/prometheus-format.ts';
import { OVS_METRICS } from '../../src/readers/metrics/prometheus-ovs.ts';
import { CAPTURE_METRICS } from '../../src/server/captures/capture-metrics.ts';
import { EXPERIMENT_METRICS } from '../../src/server/experiments/experiment-metrics.ts';
import { NATS_METRICS } from '../../src/server/experiments/nats-metrics.ts';
import { POOL_METRICS } from '../../src/server/experiments/pool-metrics.ts';
import { ROOT } from './source.ts';

export const METRICS_FILE = join(ROOT, 'docs/metrics.md');

const cell = (text: string): string => text.replaceAll('|', '\\|');
const row = (m: Metric): string =>
  `| \`${m.name}\` | ${m.type} | ${unitOf(m.name)} | ${m.labels.map((l) => `\`${l}\``).join(' ')} | ${cell(m.help)} | ${cell(m.counterpart)} |`;

export function metricsDocument(): string {
  return `# Metrics

Written by \`npm run metrics-docs\` from the tables in \`src/readers/metrics/prometheus-*.ts\`. The metrics of the process and of the API
(\`nodejs_*\`, \`process_*\`, \`ringside_http_*\`, \`ringside_build_info\` and a few gauges) are at \`/metrics\` too.

- \`/metrics\` answers in the Prometheus text format, or as OpenMetrics 1.0 where \`Accept\` prefers it; then each latency
  histogram names its slowest frame in an exemplar.
- Counters advance in **virtual time**: divide an increase by the increase of \`ringside_virtual_time_seconds\`, or by frames,
  never by wall time. Every series is there from the start, at 0.
- No label holds a frame, a flow or a run. With more series than \`RINGSIDE_METRICS_MAX_SERIES\` whole metrics are left out,
  the last ones of this table first, every topology with an equal share; \`ringside_metrics_series_omitted\` says how many.
- The latency histograms hold each of a world's first 65,536 frames; of later ones every 64th group of 64 neighbours (by a hash
  of the id), each frame of which counts 64 times. Their buckets are powers of two from 64 ns to 4.3 s.
- \`GET /v1/topologies/{topology}/traffic/{run}/timeline\` has these counters over the virtual time of one run, as OpenMetrics
  with timestamps. \`?stretch=1000000\` makes a microsecond a second, as Prometheus keeps only milliseconds:

  \`\`\`sh
  curl -sS 'localhost:8080/v1/topologies/demo/traffic/run-1/timeline?stretch=1000000' -o run-1.om
  promtool tsdb create-blocks-from openmetrics run-1.om data/
  \`\`\`

The last column says what real systems call the same thing, or what comes nearest. What they count and the emulation does not
(size bins, IOTLB hits, rate limiters) has no metric here.

| name | type | unit | labels | meaning | elsewhere |
| --- | --- | --- | --- | --- | --- |
${METRICS.map(row).join('\n')}

## Open vSwitch by its own terms

The engines are asked for these at each scrape: they are what ovs-appctl shows of threads and datapaths. \`core\` is \`main\` for threads
that are no PMDs. \`dpif-netdev/pmd-stats-clear\` and \`fdb/stats-clear\` set some of them back to 0.

| name | type | unit | labels | meaning | elsewhere |
| --- | --- | --- | --- | --- | --- |
${OVS_METRICS.map(row).join('\n')}

## Captures

Of the whole server: these count what was written and lost in wall time, and start at 0 with the process.

| name | type | unit | labels | meaning |
| --- | --- | --- | --- | --- |
${CAPTURE_METRICS.map((m) => row(m).replace(/ {2}\|$/, '')).join('\n')}

## Experiments

Of the newest 20 experiments; results of the first 100 combinations of each, by the metrics that summaries show first, 10,000 samples
together. Results are summed up at a scrape, at most every five seconds; between two runs they stand still.

| name | type | unit | labels | meaning |
| --- | --- | --- | --- | --- |
${EXPERIMENT_METRICS.map((m) => row(m).replace(/ {2}\|$/, '')).join('\n')}

## Threads of experiments' runs

Of the pool of this machine, in wall time and from the start of the process. Where a NATS server has the queue they are 0.

| name | type | unit | labels | meaning |
| --- | --- | --- | --- | --- |
${POOL_METRICS.map((m) => row(m).replace(/ {2}\|$/, '')).join('\n')}

## Jobs at a NATS server

Of this server's queue (docs/scale-out.md), from the start of the process. Where the threads of this machine have the jobs they are 0.

| name | type | unit | labels | meaning |
| --- | --- | --- | --- | --- |
${NATS_METRICS.map((m) => row(m).replace(/ {2}\|$/, '')).join('\n')}
`;
}

if (process.argv[1] === import.meta.filename) writeFileSync(METRICS_FILE, metricsDocument());
