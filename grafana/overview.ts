/** *Overview*: are the emulated hosts well, what do they carry, and is the server that runs them well. */
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { CAPTURE, DROPPED, events, JOURNEYS, RUNS, TOPOLOGY } from './links.ts';
import { toDashboard } from './page.ts';
import type { Chart, Stat, Table } from './panels.ts';
import { grown, perVirtualSecond, ratio, receivedBits, series, virtualSeconds, WINDOW } from './queries.ts';
import { selected } from './variables.ts';

const OF_TOPOLOGY = selected('topology');
const PER_TOPOLOGY = '{{topology}}';
const LINKS = [TOPOLOGY, RUNS, JOURNEYS, CAPTURE];
const gauge = (metric: string): string => `ringside_${metric}{${OF_TOPOLOGY}}`;
/** The server's own counters advance in wall time: these, and no others, may be seen as rates. */
const rate = (metric: string, by: string): string => `sum by (${by}) (rate(${metric}[${WINDOW}]))`;

const NOW: readonly Stat[] = [
  {
    kind: 'stat',
    title: 'Topologies',
    description: 'Topologies that this server hosts, whether their worlds run or not.',
    unit: 'none',
    query: 'ringside_topologies',
    legend: 'topologies',
    links: [['Topologies', '/v1/topologies']],
  },
  {
    kind: 'stat',
    title: 'Virtual time',
    description: 'How long each emulated host has run, by its own clock. It stands still while there is nothing to do.',
    unit: 's',
    decimals: 3,
    query: gauge('virtual_time_seconds'),
    legend: PER_TOPOLOGY,
    links: [TOPOLOGY, ['Clock', '/v1/topologies/{topology}/clock']],
    width: 5,
  },
  {
    kind: 'stat',
    title: 'Conservation',
    description:
      'Every frame that entered, was replicated or cut from a longer one has been delivered, consumed, dropped, cut or merged itself, or is still under way. Anything else would be an error of Ringside.',
    unit: 'none',
    query: gauge('conservation_holds'),
    legend: PER_TOPOLOGY,
    texts: { '1': ['holds', 'green'], '0': ['broken', 'red'] },
    links: [TOPOLOGY, JOURNEYS],
    width: 5,
  },
  {
    kind: 'stat',
    title: 'Frames in flight',
    description: 'Frames that have been born and have not ended yet, by topology.',
    unit: 'short',
    query: gauge('frames_in_flight'),
    legend: PER_TOPOLOGY,
    links: LINKS,
    width: 5,
  },
  {
    kind: 'stat',
    title: 'Runs in progress',
    description: 'Traffic runs that have started and not ended, by topology.',
    unit: 'none',
    query: `${gauge('traffic_runs_started_total')} - ${gauge('traffic_runs_ended_total')}`,
    legend: PER_TOPOLOGY,
    links: [RUNS],
    width: 5,
  },
];

/** A gauge with the facts about its topology as further labels. */
const FACTS = 'topology, seed, revision, profile, hash, overrides';
const withFacts = (metric: string): string =>
  `sum by (${FACTS}) (${gauge(metric)} * on (topology) group_left (seed, revision) ${gauge('topology_info')}` +
  ` * on (topology) group_left (profile, hash, overrides) ${gauge('cost_profile_info')})`;
const WHAT_RUNS: Table = {
  kind: 'table',
  title: 'What runs',
  description:
    'One row for each topology: its seed and the revision of its document, and the cost profile that its virtual times are computed from. Numbers of two topologies compare only where the hash of the costs is the same.',
  links: [TOPOLOGY, ['Costs', '/v1/costs'], RUNS],
  decimals: 3,
  height: 5,
  columns: [
    ['Virtual time', withFacts('virtual_time_seconds'), 's'],
    ['Events recorded', withFacts('events_total'), 'short'],
    ['Runs started', withFacts('traffic_runs_started_total'), 'none'],
    ['Built anew', withFacts('reconfigurations_total'), 'none'],
  ],
};

const TRAFFIC: readonly Chart[] = [
  {
    kind: 'chart',
    title: 'Throughput, frames',
    description:
      'Frames that guests sent and that were placed in their receive rings, for each second of virtual time.',
    unit: 'pps',
    queries: [
      [perVirtualSecond(series('sent_frames_total', OF_TOPOLOGY), 'topology'), '{{topology}} sent'],
      [perVirtualSecond(series('received_frames_total', OF_TOPOLOGY), 'topology'), '{{topology}} received'],
    ],
    links: LINKS,
  },
  {
    kind: 'chart',
    title: 'Throughput, bits',
    description: 'Bits of the frames placed in receive rings, with FCS, for each second of virtual time.',
    unit: 'bps',
    queries: [[ratio(receivedBits(OF_TOPOLOGY, 'topology', WINDOW), virtualSeconds(WINDOW)), PER_TOPOLOGY]],
    links: LINKS,
  },
  {
    kind: 'chart',
    title: 'Exits per frame',
    description: 'VM exits of all reasons for each frame placed in a receive ring, by who handled them.',
    unit: 'none',
    queries: [
      [
        ratio(
          grown(series('vm_exits_total', OF_TOPOLOGY), 'topology, handled_by', WINDOW),
          grown(series('received_frames_total', OF_TOPOLOGY), 'topology', WINDOW),
          'topology',
        ),
        '{{topology}} {{handled_by}}',
      ],
    ],
    links: [...LINKS, events('Exits', 'events=kvm.exit_*')],
  },
  {
    kind: 'chart',
    title: 'Drops by reason',
    description: 'Frames dropped for each second of virtual time, by the reason that was recorded.',
    unit: 'pps',
    stacked: true,
    queries: [
      [perVirtualSecond(series('frames_dropped_total', OF_TOPOLOGY), 'topology, reason'), '{{topology}} {{reason}}'],
    ],
    links: [events('These drops', 'events={reason}'), DROPPED, JOURNEYS, CAPTURE],
  },
  {
    kind: 'chart',
    title: 'Where frames ended',
    description:
      'Share of the frames, replicated ones and segments included, that were delivered, consumed by a protocol of a guest (ARP, ICMP echo), dropped, cut into segments, or merged into others.',
    unit: 'percentunit',
    queries: (
      [
        ['frames_delivered_total', 'delivered'],
        ['frames_consumed_total', 'consumed'],
        ['frames_dropped_total', 'dropped'],
        ['frames_segmented_total', 'segmented'],
        ['frames_merged_total', 'merged'],
      ] as const
    ).map(([metric, what]) => [
      ratio(
        grown(series(metric, OF_TOPOLOGY), 'topology', WINDOW),
        `${grown(series('frames_injected_total', OF_TOPOLOGY), 'topology', WINDOW)} + ` +
          `${grown(series('frames_replicated_total', OF_TOPOLOGY), 'topology', WINDOW)} + ` +
          grown(series('frames_segments_total', OF_TOPOLOGY), 'topology', WINDOW),
      ),
      `{{topology}} ${what}`,
    ]),
    links: [...LINKS, DROPPED],
  },
  {
    kind: 'chart',
    title: 'Frames in flight, over time',
    description: 'Frames that have been born and have not ended yet. Where no run is in progress it should be 0.',
    unit: 'short',
    queries: [[gauge('frames_in_flight'), PER_TOPOLOGY]],
    links: LINKS,
  },
];

const EMULATOR: readonly Chart[] = [
  {
    kind: 'chart',
    title: 'Virtual time for each second of wall time',
    description:
      'How far virtual time advances in one second of the reader’s own: 1 is real time. The one place where the two clocks meet; it measures the emulator, not what is emulated.',
    unit: 'none',
    queries: [[`deriv(ringside_virtual_time_seconds{${OF_TOPOLOGY}}[${WINDOW}])`, PER_TOPOLOGY]],
    links: [['Clock', '/v1/topologies/{topology}/clock'], TOPOLOGY],
  },
  {
    kind: 'chart',
    title: 'Recorder: events that can no longer be read',
    description:
      'Share of all recorded events that newer ones have overwritten, and how full the ring is. Counters are exact all the same; captures and journeys reach back as far as the ring does.',
    unit: 'percentunit',
    max: 1,
    queries: [
      [ratio(gauge('event_ring_overwritten_events_total'), gauge('events_total')), '{{topology}} overwritten, of all'],
      [ratio(gauge('event_ring_events'), gauge('event_ring_capacity_events')), '{{topology}} ring filled'],
    ],
    links: [JOURNEYS, CAPTURE],
  },
];

const HTTP = 'ringside_http_request_duration_seconds';
const API: readonly Chart[] = [
  {
    kind: 'chart',
    title: 'Requests by route',
    description: 'Requests that the API answered for each second of wall time, by route and method.',
    unit: 'reqps',
    queries: [[rate(`${HTTP}_count`, 'method, route'), '{{method}} {{route}}']],
    links: [['Version', '/v1/version']],
  },
  {
    kind: 'chart',
    title: 'Answers by status',
    description: 'Answers of the API for each second of wall time, by status code. 4xx are the clients’, 5xx are ours.',
    unit: 'reqps',
    stacked: true,
    queries: [[rate(`${HTTP}_count`, 'code'), '{{code}}']],
    links: [['Version', '/v1/version']],
  },
  {
    kind: 'chart',
    title: 'Latency of requests',
    description:
      'Wall time from a request to the end of its answer: median and 99th percentile. Streams and long polls (?wait=, ?follow=) are among them.',
    unit: 's',
    queries: ([0.5, 0.99] as const).map((q) => [
      `histogram_quantile(${q}, ${rate(`${HTTP}_bucket`, 'le')})`,
      `p${100 * q}`,
    ]),
    links: [['Version', '/v1/version']],
  },
  {
    kind: 'chart',
    title: 'Event loop lag',
    description:
      'How late the API thread’s timers fire: a computation there would stall every client. 99th percentile and maximum since the scrape before.',
    unit: 's',
    queries: [
      ['nodejs_eventloop_lag_p99_seconds', 'p99'],
      ['nodejs_eventloop_lag_max_seconds', 'max'],
    ],
    links: [['Version', '/v1/version']],
  },
  {
    kind: 'chart',
    title: 'Streams and worlds',
    description: 'Open event streams, WebSockets and downloads; and worlds by engine thread.',
    unit: 'none',
    queries: [
      ['ringside_streams', 'streams'],
      ['ringside_engine_worlds', 'worlds of thread {{thread}}'],
    ],
    links: [['Topologies', '/v1/topologies']],
  },
  {
    kind: 'chart',
    title: 'Series left out of /metrics',
    description: 'Series that the cap RINGSIDE_METRICS_MAX_SERIES left out of the last scrape. Should be 0.',
    unit: 'short',
    queries: [['ringside_metrics_series_omitted', 'omitted']],
    links: [['Metrics', '/metrics']],
  },
  {
    kind: 'chart',
    title: 'CPU of the server',
    description: 'Cores that the server’s process keeps busy: one for the API, one for each engine thread with work.',
    unit: 'none',
    queries: [
      [rate('process_cpu_user_seconds_total', 'instance'), 'user {{instance}}'],
      [rate('process_cpu_system_seconds_total', 'instance'), 'system {{instance}}'],
    ],
    stacked: true,
    links: [['Version', '/v1/version']],
  },
  {
    kind: 'chart',
    title: 'Memory of the server',
    description: 'Resident memory of the process: the worlds’ guest memory and rings as far as touched, and the heap.',
    unit: 'bytes',
    queries: [
      ['process_resident_memory_bytes', 'resident {{instance}}'],
      ['nodejs_heap_size_used_bytes', 'heap {{instance}}'],
    ],
    links: [['Topologies', '/v1/topologies']],
  },
];

export const overview = (): Dashboard =>
  toDashboard({
    uid: 'ringside-overview',
    title: 'Overview',
    description: 'The emulated hosts of a Ringside, what they carry, and the server itself.',
    tags: ['api'],
    variables: ['topology'],
    rows: [
      ['Now', [...NOW, WHAT_RUNS]],
      ['Traffic, in virtual time', TRAFFIC],
      ['The emulator', EMULATOR],
      ['The API, in wall time', API],
    ],
  });
