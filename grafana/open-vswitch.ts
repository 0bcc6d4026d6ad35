/** *Open vSwitch*: how the datapaths find their flows, what that costs, and what passes their ports. */
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { CACHES, CAPTURE, DROPPED, events, FDB, FLOWS, JOURNEYS, PORTS, TOPOLOGY } from './links.ts';
import { toDashboard } from './page.ts';
import type { Chart, Table } from './panels.ts';
import { grown, perVirtualSecond, RANGE, ratio, series, virtualSeconds, WINDOW } from './queries.ts';
import { selected } from './variables.ts';

const BRIDGES = selected('topology', 'bridge');
const BY = 'topology, bridge';
const PER_BRIDGE = '{{topology}} {{bridge}}';
const BY_PORT = `${BY}, place, direction`;
const bridgeGrown = (metric: string, window: string, extra = ''): string =>
  grown(series(metric, BRIDGES, extra), BY, window);
const lookups = (window: string): string => bridgeGrown('datapath_lookups_total', window);
const share = (result: string, window: string): string =>
  ratio(bridgeGrown('datapath_lookups_total', window, `result=~"${result}"`), lookups(window));
const ports = series('frames_total', BRIDGES, 'type="port"');

const SUMMARY: Table = {
  kind: 'table',
  title: 'Bridges, over the time range',
  description:
    'One row for each bridge: its lookups, which level answered them, and what had to be asked of ofproto. A kernel datapath has one level (hit); a netdev datapath an exact match cache, then megaflows.',
  links: [FLOWS, CACHES, FDB, PORTS],
  decimals: 3,
  columns: [
    ['Lookups', lookups(RANGE), 'short'],
    ['Hit', share('hit', RANGE), 'percentunit'],
    ['EMC hit', share('emc_hit', RANGE), 'percentunit'],
    ['Megaflow hit', share('megaflow_hit', RANGE), 'percentunit'],
    ['Miss', share('miss', RANGE), 'percentunit'],
    ['Upcalls', bridgeGrown('datapath_upcalls_total', RANGE), 'short'],
    ['Flows installed', bridgeGrown('datapath_flows_installed_total', RANGE), 'short'],
    ['MACs learned', bridgeGrown('fdb_learned_total', RANGE), 'short'],
  ],
};

const LOOKUPS: readonly Chart[] = [
  {
    kind: 'chart',
    title: 'Lookups by result',
    description:
      'Flow lookups for each second of virtual time: kernel flow table hit, exact match cache hit, megaflow (dpcls) hit, miss.',
    unit: 'ops',
    stacked: true,
    queries: [
      [
        perVirtualSecond(series('datapath_lookups_total', BRIDGES), `${BY}, result`),
        '{{topology}} {{bridge}} {{result}}',
      ],
    ],
    links: [FLOWS, CACHES, events('Lookups', 'events=dp.hit,dp.emc_hit,dp.megaflow_hit,dp.miss'), JOURNEYS],
  },
  {
    kind: 'chart',
    title: 'Hit ratio',
    description: 'Share of the lookups that a cache or the flow table of the datapath answered, without an upcall.',
    unit: 'percentunit',
    max: 1,
    queries: [[share('hit|emc_hit|megaflow_hit', WINDOW), PER_BRIDGE]],
    links: [FLOWS, CACHES, events('Misses', 'events=dp.miss'), JOURNEYS],
  },
  {
    kind: 'chart',
    title: 'Hit ratio by cache level',
    description:
      'Share of the lookups that each level answered. More flows than the exact match cache holds show as megaflow hits.',
    unit: 'percentunit',
    max: 1,
    stacked: true,
    queries: [
      [
        ratio(grown(series('datapath_lookups_total', BRIDGES), `${BY}, result`, WINDOW), lookups(WINDOW), BY),
        '{{topology}} {{bridge}} {{result}}',
      ],
    ],
    links: [CACHES, FLOWS, JOURNEYS],
  },
  {
    kind: 'chart',
    title: 'Upcalls and flow installs',
    description:
      'What the slow path did for each second of virtual time: upcalls that ofproto translated, and datapath flows installed.',
    unit: 'ops',
    queries: [
      [perVirtualSecond(series('datapath_upcalls_total', BRIDGES), BY), 'upcalls {{topology}} {{bridge}}'],
      [perVirtualSecond(series('datapath_flows_installed_total', BRIDGES), BY), 'installs {{topology}} {{bridge}}'],
    ],
    links: [FLOWS, events('Upcalls and installs', 'events=dp.upcall,dp.flow_put'), JOURNEYS],
  },
  {
    kind: 'chart',
    title: 'Work of a lookup',
    description:
      'Masks that a kernel datapath probes for each lookup, and subtables that a netdev datapath probes for each megaflow hit: what many different flow shapes cost.',
    unit: 'none',
    queries: [
      [
        // Of kernel datapaths only: the others have no hits by that name.
        `${ratio(
          bridgeGrown('datapath_masks_probed_total', WINDOW),
          bridgeGrown('datapath_lookups_total', WINDOW, 'result=~"hit|miss"'),
        )} and ${bridgeGrown('datapath_lookups_total', WINDOW, 'result="hit"')} > 0`,
        'masks {{topology}} {{bridge}}',
      ],
      [
        ratio(
          bridgeGrown('datapath_subtable_lookups_total', WINDOW),
          bridgeGrown('datapath_lookups_total', WINDOW, 'result="megaflow_hit"'),
        ),
        'subtables {{topology}} {{bridge}}',
      ],
    ],
    links: [FLOWS, CACHES, JOURNEYS],
  },
  {
    kind: 'chart',
    title: 'EMC insertions',
    description:
      'Flows that entered the exact match cache for each second of virtual time: many, with few hits, means that it thrashes.',
    unit: 'ops',
    queries: [[perVirtualSecond(series('emc_insertions_total', BRIDGES), BY), PER_BRIDGE]],
    links: [CACHES, events('Insertions', 'events=dp.emc_insert'), JOURNEYS],
  },
  {
    kind: 'chart',
    title: 'MAC addresses learned',
    description: 'MAC addresses that a bridge learned, or saw moving to another port, for each second of virtual time.',
    unit: 'ops',
    queries: [[perVirtualSecond(series('fdb_learned_total', BRIDGES), BY), PER_BRIDGE]],
    links: [FDB, events('Learning', 'events=dp.fdb_learn')],
  },
  {
    kind: 'chart',
    title: 'Drops in the datapath',
    description:
      'Frames that the datapaths of a topology dropped, for each second of virtual time: no output port, upcall lost, malformed; and by vhost-user ports whose guest posted no buffers.',
    unit: 'pps',
    stacked: true,
    queries: [
      [
        perVirtualSecond(
          series('frames_dropped_total', selected('topology'), 'reason=~"dp[.].+|vhost_user[.].+"'),
          'topology, reason',
        ),
        '{{topology}} {{reason}}',
      ],
    ],
    links: [events('These drops', 'events={reason}'), DROPPED, JOURNEYS, CAPTURE],
  },
];

const PMD = 'kind="pmd"';
const PMDS: readonly Chart[] = [
  {
    kind: 'chart',
    title: 'PMD busy and idle',
    description:
      'Share of virtual time in which a poll-mode thread moved packets, and the rest, in which it polled without finding any.',
    unit: 'percentunit',
    max: 1,
    queries: [
      [
        perVirtualSecond(series('context_busy_seconds_total', selected('topology'), PMD), 'topology, context'),
        'busy {{topology}} {{context}}',
      ],
      [
        `1 - ${perVirtualSecond(series('context_busy_seconds_total', selected('topology'), PMD), 'topology, context')}`,
        'idle {{topology}} {{context}}',
      ],
    ],
    links: [TOPOLOGY, events('Events of this PMD', 'contexts={context}'), JOURNEYS],
  },
  {
    kind: 'chart',
    title: 'PMD time per packet',
    description:
      'Busy virtual time of the poll-mode threads for each packet that their datapath looked up (exact match and megaflow hits): pmd-stats-show’s “avg processing cycles per packet”, in time.',
    unit: 's',
    queries: [
      [
        ratio(
          grown(series('context_busy_seconds_total', selected('topology'), PMD), 'topology', WINDOW),
          grown(
            series('datapath_lookups_total', selected('topology'), 'result=~"emc_hit|megaflow_hit"'),
            'topology',
            WINDOW,
          ),
        ),
        '{{topology}}',
      ],
    ],
    links: [TOPOLOGY, ['Costs', '/v1/costs'], JOURNEYS],
  },
  {
    kind: 'chart',
    title: 'Idle polls',
    description: 'Polls that found nothing, for each second of virtual time, by poll-mode thread.',
    unit: 'ops',
    queries: [
      [
        perVirtualSecond(series('context_idle_polls_total', selected('topology'), PMD), 'topology, context'),
        '{{topology}} {{context}}',
      ],
    ],
    links: [TOPOLOGY, events('Events of this PMD', 'contexts={context}')],
  },
  {
    kind: 'chart',
    title: 'Upcall handlers, busy',
    description: 'Share of virtual time in which the handler threads of kernel datapaths translated upcalls.',
    unit: 'percentunit',
    max: 1,
    queries: [
      [
        perVirtualSecond(
          series('context_busy_seconds_total', selected('topology'), 'kind="handler"'),
          'topology, context',
        ),
        '{{topology}} {{context}}',
      ],
    ],
    links: [TOPOLOGY, events('Events of this handler', 'contexts={context}')],
  },
];

const PORT_CHARTS: readonly Chart[] = (
  [
    ['Port ingress, frames', 'Frames that entered a bridge by a port', 'direction="in"'],
    ['Port egress, frames', 'Frames that a bridge put out by a port', 'direction="out"'],
  ] as const
).map(([title, what, direction]) => ({
  kind: 'chart',
  title,
  description: `${what}, for each second of virtual time.`,
  unit: 'pps',
  stacked: true,
  queries: [
    [
      ratio(
        grown({ ...ports, labels: `${ports.labels},${direction}` }, BY_PORT, WINDOW),
        virtualSeconds(WINDOW),
        'topology',
      ),
      '{{topology}} {{place}}',
    ],
  ],
  links: [PORTS, events('Events at this port', 'places={place}'), JOURNEYS, CAPTURE],
}));

export const openVswitch = (): Dashboard =>
  toDashboard({
    uid: 'ringside-open-vswitch',
    title: 'Open vSwitch',
    description: 'Kernel and netdev datapaths: lookups, caches, upcalls, poll-mode threads, ports.',
    tags: ['ovs'],
    variables: ['topology', 'bridge'],
    rows: [
      ['All at a glance', [SUMMARY]],
      ['Lookups and the slow path', LOOKUPS],
      ['Poll-mode threads and handlers', PMDS],
      ['Ports', PORT_CHARTS],
    ],
  });
