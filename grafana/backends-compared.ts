/**
 * The dashboard *Backends compared*: what one frame costs on each backend, and what a virtual second carries.
 *
 * Prometheus scrapes in wall time, a run happens in virtual time, so a rate over wall time says nothing about the emulated
 * host. Every query here divides one increase by another of the same window: by the frames received, or by
 * `ringside_virtual_time_seconds`. Where the divisor did not advance there is nothing to show, and nothing is shown.
 */
import * as common from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import * as table from '@grafana/grafana-foundation-sdk/table';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';

const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };
const SELECTION = 'topology=~"$topology",backend=~"$backend"';
/** Contexts that serve no single backend (softirq, NIC) have no such label and are wanted too. */
const CONTEXTS = 'topology=~"$topology",backend=~"$backend|"';
/** The exits that device access causes; HLT and the rest are counted by reason beside them. */
const DEVICE_EXITS = 'reason=~"EPT_MISCONFIG|IO_INSTRUCTION"';
const BY = 'topology, backend';

const increase = (metric: string, labels: string, window: string, by = BY): string =>
  `sum by (${by}) (increase(${metric}{${labels}}[${window}]))`;
const selected = (extra: string): string => (extra === '' ? SELECTION : `${SELECTION},${extra}`);

/** Increase of a counter for each frame received by the same backend. */
const perFrame = (metric: string, extra = '', window = '$__rate_interval'): string =>
  `${increase(metric, selected(extra), window)} / (${increase('ringside_received_frames_total', SELECTION, window)} > 0)`;

/** The same with one more label to tell apart, e.g. the reason of an exit. */
const perFrameBy = (metric: string, label: string): string =>
  `${increase(metric, SELECTION, '$__rate_interval', `${BY}, ${label}`)} / on (${BY}) group_left () ` +
  `(${increase('ringside_received_frames_total', SELECTION, '$__rate_interval')} > 0)`;

/** Increase for each second of virtual time. */
const perVirtualSecond = (metric: string, labels: string, by = BY, window = '$__rate_interval'): string =>
  `${increase(metric, labels, window, by)} / on (topology) group_left () ` +
  `(max by (topology) (increase(ringside_virtual_time_seconds{topology=~"$topology"}[${window}])) > 0)`;

interface Chart {
  readonly title: string;
  readonly description: string;
  readonly unit: string;
  readonly queries: readonly (readonly [expression: string, legend: string])[];
  readonly max?: number;
  readonly stacked?: boolean;
}

const PER_BACKEND = '{{topology}} {{backend}}';

const NOTIFICATIONS: readonly Chart[] = [
  {
    title: 'Exits per frame, answered in the kernel',
    description:
      'VM exits that device access causes and that an ioeventfd answers in the kernel, for each frame received. The vCPU goes on at once; QEMU never sees them.',
    unit: 'none',
    queries: [[perFrame('ringside_vm_exits_total', `handled_by="kernel",${DEVICE_EXITS}`), PER_BACKEND]],
  },
  {
    title: 'Exits per frame, answered in userspace',
    description:
      'VM exits that device access causes and that QEMU has to answer, for each frame received. Without ioeventfd every kick is one.',
    unit: 'none',
    queries: [[perFrame('ringside_vm_exits_total', `handled_by="userspace",${DEVICE_EXITS}`), PER_BACKEND]],
  },
  {
    title: 'Kicks per frame',
    description: 'Available buffer notifications that the driver sent, all queues of the NIC, for each frame received.',
    unit: 'none',
    queries: [[perFrame('ringside_kicks_total'), PER_BACKEND]],
  },
  {
    title: 'Suppressed kicks per frame',
    description:
      'Available buffer notifications that the driver left out because the ring said so: VRING_USED_F_NO_NOTIFY, or avail_event not passed.',
    unit: 'none',
    queries: [[perFrame('ringside_kicks_suppressed_total'), PER_BACKEND]],
  },
  {
    title: 'Interrupts per frame',
    description: 'Used buffer notifications that the device signalled, all queues of the NIC, for each frame received.',
    unit: 'none',
    queries: [[perFrame('ringside_interrupts_total'), PER_BACKEND]],
  },
  {
    title: 'Suppressed interrupts per frame',
    description:
      'Used buffer notifications that the device left out because the ring said so: VRING_AVAIL_F_NO_INTERRUPT, or used_event not passed.',
    unit: 'none',
    queries: [[perFrame('ringside_interrupts_suppressed_total'), PER_BACKEND]],
  },
  {
    title: 'All exits per frame, by reason',
    description: 'Every VM exit for each frame received, HLT and external interrupts included.',
    unit: 'none',
    queries: [[perFrameBy('ringside_vm_exits_total', 'reason'), '{{topology}} {{backend}} {{reason}}']],
  },
];

const THROUGHPUT: readonly Chart[] = [
  {
    title: 'Throughput, frames',
    description:
      'Frames placed in receive rings for each second of virtual time: what the emulated host would carry. Backends of one topology share its virtual time, so compare runs that go on at once, or one run in each window.',
    unit: 'pps',
    queries: [[perVirtualSecond('ringside_received_frames_total', SELECTION), PER_BACKEND]],
  },
  {
    title: 'Throughput, bits',
    description: 'Bits of the frames placed in receive rings, without FCS, for each second of virtual time.',
    unit: 'bps',
    queries: [[`8 * ${perVirtualSecond('ringside_received_bytes_total', SELECTION)}`, PER_BACKEND]],
  },
];

const WORK: readonly Chart[] = [
  {
    title: 'Copies per frame',
    description:
      'Copies of a frame made by host CPUs between two guests, for each frame received. The guests’ own copies and a NIC’s DMA are not among them.',
    unit: 'none',
    queries: [[perFrame('ringside_copies_total'), PER_BACKEND]],
  },
  {
    title: 'Copied bytes per frame',
    description: 'Bytes that host CPUs copied, for each frame received.',
    unit: 'decbytes',
    queries: [[perFrame('ringside_copied_bytes_total'), PER_BACKEND]],
  },
  {
    title: 'CPU per context',
    description:
      'Share of virtual time in which a context (vCPU, QEMU main loop, vhost worker, PMD, softirq) had work. A PMD’s idle polls are not work: its core is taken all the time all the same.',
    unit: 'percentunit',
    max: 1,
    queries: [
      [
        perVirtualSecond('ringside_context_busy_seconds_total', CONTEXTS, 'topology, context, kind'),
        '{{topology}} {{context}}',
      ],
    ],
  },
  {
    title: 'Drops by reason',
    description: 'Frames dropped for each second of virtual time, by the reason that was recorded.',
    unit: 'pps',
    stacked: true,
    queries: [
      [
        perVirtualSecond('ringside_frames_dropped_total', 'topology=~"$topology"', 'topology, reason'),
        '{{topology}} {{reason}}',
      ],
    ],
  },
];

/** One row for each backend, over the time range of the dashboard. */
const SUMMARY: readonly (readonly [column: string, expression: string, unit: string])[] = [
  ['Exits, kernel', perFrame('ringside_vm_exits_total', `handled_by="kernel",${DEVICE_EXITS}`, '$__range'), 'none'],
  [
    'Exits, userspace',
    perFrame('ringside_vm_exits_total', `handled_by="userspace",${DEVICE_EXITS}`, '$__range'),
    'none',
  ],
  ['Kicks', perFrame('ringside_kicks_total', '', '$__range'), 'none'],
  ['Kicks suppressed', perFrame('ringside_kicks_suppressed_total', '', '$__range'), 'none'],
  ['Interrupts', perFrame('ringside_interrupts_total', '', '$__range'), 'none'],
  ['Copies', perFrame('ringside_copies_total', '', '$__range'), 'none'],
  ['Frames per virtual second', perVirtualSecond('ringside_received_frames_total', SELECTION, BY, '$__range'), 'pps'],
];

const query = (refId: string, expression: string): prometheus.DataqueryBuilder =>
  new prometheus.DataqueryBuilder().refId(refId).datasource(DATASOURCE).expr(expression);
const letter = (index: number): string => String.fromCharCode(65 + index);

const COLOURS: readonly (readonly [backend: string, colour: string])[] = [
  ['virtio-net', 'orange'],
  ['vhost-net', 'blue'],
  ['vhost-user', 'green'],
];

function links(): dashboard.DashboardLinkBuilder[] {
  const to = (title: string, path: string): dashboard.DashboardLinkBuilder =>
    new dashboard.DashboardLinkBuilder(title).url(`\${ringside}${path}`).targetBlank(true);
  return [
    to('Topology', '/v1/topologies/${__field.labels.topology}'),
    to('Traffic runs', '/v1/topologies/${__field.labels.topology}/traffic'),
    to('Capture (pcapng)', '/v1/topologies/${__field.labels.topology}/capture.pcapng?view=journey'),
  ];
}

function chartPanel(id: number, chart: Chart): timeseries.PanelBuilder {
  const panel = new timeseries.PanelBuilder()
    .id(id)
    .title(chart.title)
    .description(chart.description)
    .datasource(DATASOURCE)
    .unit(chart.unit)
    .min(0)
    .lineWidth(2)
    .fillOpacity(chart.stacked === true ? 30 : 10)
    .showPoints(common.VisibilityMode.Auto)
    // A world without traffic stands still in virtual time: a gap, not a line across it.
    .spanNulls(false)
    .legend(
      new common.VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(common.LegendDisplayMode.Table)
        .placement(common.LegendPlacement.Bottom)
        .calcs(['lastNotNull', 'max'])
        // Reasons and contexts without any are listed too: last.
        .sortBy('Max')
        .sortDesc(true),
    )
    .tooltip(
      new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi).sort(common.SortOrder.Descending),
    )
    .dataLinks(links())
    .span(12)
    .height(8);
  if (chart.max !== undefined) panel.max(chart.max);
  if (chart.stacked === true) {
    panel.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal));
  }
  for (const [backend, colour] of COLOURS) {
    panel.overrideByRegexp(`/ ${backend}$/`, [{ id: 'color', value: { mode: 'fixed', fixedColor: colour } }]);
  }
  chart.queries.forEach(([expression, legend], index) => {
    panel.withTarget(query(letter(index), expression).range().legendFormat(legend));
  });
  return panel;
}

function summaryPanel(id: number): table.PanelBuilder {
  const panel = new table.PanelBuilder()
    .id(id)
    .title('Per frame received, over the time range')
    .description(
      'One row for each backend: what a received frame cost on average over the time range of the dashboard, and how many of them a second of virtual time carried.',
    )
    .datasource(DATASOURCE)
    .unit('none')
    .decimals(3)
    .span(24)
    .height(7)
    .withTransformation({ id: 'merge', options: {} })
    .withTransformation({
      id: 'organize',
      options: {
        excludeByName: { Time: true },
        renameByName: Object.fromEntries(SUMMARY.map(([column], index) => [`Value #${letter(index)}`, column])),
      },
    })
    .dataLinks([
      new dashboard.DashboardLinkBuilder('Topology')
        .url('${ringside}/v1/topologies/${__data.fields.topology}')
        .targetBlank(true),
    ]);
  SUMMARY.forEach(([column, expression, unit], index) => {
    panel.withTarget(query(letter(index), expression).instant().format(prometheus.PromQueryFormat.Table));
    panel.overrideByName(column, [{ id: 'unit', value: unit }]);
  });
  return panel;
}

const labelVariable = (name: string, label: string, values: string): dashboard.QueryVariableBuilder =>
  new dashboard.QueryVariableBuilder(name)
    .label(label)
    .datasource(DATASOURCE)
    .query({ query: values, refId: `values-${name}` })
    .definition(values)
    .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
    .sort(dashboard.VariableSort.AlphabeticalAsc)
    .multi(true)
    .includeAll(true)
    .allValue('.+')
    .current({ text: 'All', value: '$__all', selected: true });

/** The dashboard as Grafana reads it. */
export function backendsCompared(): dashboard.Dashboard {
  const page = new dashboard.DashboardBuilder('Backends compared')
    .uid('ringside-backends-compared')
    .description('virtio-net in QEMU, vhost-net and vhost-user side by side. All rates are in virtual time.')
    .tags(['ringside', 'virtio', 'vhost'])
    .timezone('browser')
    .refresh('5s')
    .time({ from: 'now-15m', to: 'now' })
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .withVariable(new dashboard.DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'))
    .withVariable(labelVariable('topology', 'Topology', 'label_values(ringside_virtual_time_seconds, topology)'))
    .withVariable(
      labelVariable(
        'backend',
        'Backend',
        'label_values(ringside_received_frames_total{topology=~"$topology"}, backend)',
      ),
    )
    .withVariable(
      new dashboard.TextBoxVariableBuilder('ringside')
        .label('Ringside')
        .description('Address of the Ringside server, for the links out of the panels')
        .defaultValue('http://localhost:8080'),
    );

  let id = 0;
  const row = (title: string): void => {
    page.withRow(new dashboard.RowBuilder(title).id(++id));
  };
  row('All at a glance');
  page.withPanel(summaryPanel(++id));
  for (const [title, charts] of [
    ['Throughput in virtual time', THROUGHPUT],
    ['Notifications: exits, kicks, interrupts', NOTIFICATIONS],
    ['Work: copies, CPU, drops', WORK],
  ] as const) {
    row(title);
    for (const chart of charts) page.withPanel(chartPanel(++id, chart));
  }
  return page.build();
}
