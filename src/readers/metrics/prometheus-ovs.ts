/**
 * Metrics of Open vSwitch by its own terms: what ovs-appctl shows by thread and datapath, and no event tells. The engine is asked for
 * them at each scrape.
 */
import type { Metric } from './prometheus-family.ts';
import { header, labelPairs, type MetricsFormat, numberText } from './prometheus-format.ts';

/** A value of one of OVS_METRICS, by its name; labels in the metric's order, without the topology's. */
export interface OvsSample {
  readonly name: string;
  readonly labels: readonly string[];
  readonly value: number;
}

const PMD = ['topology', 'host', 'core'] as const;
const DATAPATH = ['topology', 'host', 'datapath'] as const;
const BRIDGE = ['topology', 'host', 'bridge'] as const;
const STATS = '`ovs-appctl dpif-netdev/pmd-stats-show`';
const PERF = '`ovs-appctl dpif-netdev/pmd-perf-show`';

const metric = (
  name: string,
  help: string,
  labels: readonly string[],
  counterpart: string,
  type: Metric['type'] = name.endsWith('_total') ? 'counter' : 'gauge',
): Metric => ({ name, type, help, labels, counterpart });

/** `core` is `main` for threads that are no PMDs. */
export const OVS_METRICS: readonly Metric[] = [
  metric('ovs_pmd_rx_packets_total', 'Packets that a thread has received.', PMD, `\`packets received\` of ${STATS}`),
  metric(
    'ovs_pmd_recirculations_total',
    'Packets that came back for another pass.',
    PMD,
    `\`packet recirculations\` of ${STATS}`,
  ),
  metric(
    'ovs_pmd_hits_total',
    'Lookups that a cache answered: emc, smc, megaflow; phwol and simple_match are never used.',
    [...PMD, 'cache'],
    `\`emc hits\`, \`smc hits\`, \`megaflow hits\` of ${STATS}`,
  ),
  metric('ovs_pmd_mfex_opt_hits_total', 'Always 0.', PMD, `\`mfex opt hits\` of ${STATS}`),
  metric(
    'ovs_pmd_subtable_lookups_total',
    'Subtables that were asked for megaflow hits.',
    PMD,
    `\`avg. subtable lookups per megaflow hit\` of ${STATS}, times the hits`,
  ),
  metric(
    'ovs_pmd_upcalls_total',
    'Misses, by whether a translation came of them.',
    [...PMD, 'result'],
    `\`miss with success upcall\`, \`miss with failed upcall\` of ${STATS}`,
  ),
  metric('ovs_pmd_tx_packets_total', 'Packets that left in batches.', PMD, `\`Tx packets\` of ${PERF}`),
  metric('ovs_pmd_tx_batches_total', 'Batches that were flushed.', PMD, `\`Tx batches\` of ${PERF}`),
  metric(
    'ovs_pmd_cycles_total',
    'Virtual nanoseconds with and without work.',
    [...PMD, 'state'],
    `\`idle cycles\`, \`processing cycles\` of ${STATS}`,
  ),
  metric(
    'ovs_pmd_iterations_total',
    'Turns of the poll loop: busy, idle; it never sleeps.',
    [...PMD, 'state'],
    `\`busy iterations\`, \`idle iterations\`, \`sleep iterations\` of ${PERF}`,
  ),
  metric('ovs_pmd_tsc_cycles_total', 'Virtual nanoseconds.', PMD, `\`Used TSC cycles\` of ${PERF}`),
  metric('ovs_pmd_sleep_microseconds_total', 'Always 0.', PMD, `\`Sleep time (us)\` of ${PERF}`),
  metric(
    'ovs_pmd_upcall_microseconds_total',
    'Virtual time beyond that of bursts: subtables and upcalls.',
    PMD,
    `\`us/upcall\` of ${PERF}, times the upcalls`,
  ),
  metric(
    'ovs_pmd_rxq_usage_ratio',
    "Share of its PMD's time that a receive queue has taken.",
    [...PMD, 'port', 'queue'],
    '`pmd usage` of `ovs-appctl dpif-netdev/pmd-rxq-show`, over all time',
  ),
  metric(
    'ovs_dp_lookups_total',
    'Lookups of a datapath: hit, missed, lost.',
    [...DATAPATH, 'result'],
    '`lookups` of `ovs-appctl dpctl/show`',
  ),
  metric('ovs_dp_flows', 'Flows of a datapath.', DATAPATH, '`flows` of `ovs-appctl dpctl/show`'),
  metric(
    'ovs_upcall_flows',
    'Datapath flows as the revalidators saw them: current, average, max.',
    [...DATAPATH, 'stat'],
    '`flows` of `ovs-appctl upcall/show`',
  ),
  metric('ovs_upcall_flow_limit', 'Datapath flows that there may be.', DATAPATH, '`limit` of `ovs-appctl upcall/show`'),
  metric(
    'ovs_revalidator_dump_duration_seconds',
    'How long the last look at all flows took.',
    DATAPATH,
    '`dump duration` of `ovs-appctl upcall/show`',
  ),
  metric('ovs_fdb_entries', 'Entries of a MAC table.', BRIDGE, '`ovs-appctl fdb/stats-show`'),
  metric(
    'ovs_fdb_events_total',
    'What happened to entries: learned, expired, evicted, moved.',
    [...BRIDGE, 'event'],
    '`ovs-appctl fdb/stats-show`',
  ),
];

/** All of them as text; topologies come with what their engines said. */
export function ovsMetricsText(
  worlds: readonly { readonly topology: string; readonly samples: readonly OvsSample[] }[],
  format: MetricsFormat,
): string {
  const byName = new Map<string, string[]>(OVS_METRICS.map(({ name }) => [name, []]));
  const labelsOf = new Map(OVS_METRICS.map(({ name, labels }) => [name, labels]));
  for (const { topology, samples } of worlds) {
    for (const { name, labels, value } of samples) {
      const pairs = labelPairs(labelsOf.get(name) ?? [], [topology, ...labels]);
      byName.get(name)?.push(`${name}{${pairs}} ${numberText(value)}\n`);
    }
  }
  return OVS_METRICS.map(({ name, type, help }) => header(format, name, type, help) + byName.get(name)!.join('')).join(
    '',
  );
}
