/**
 * The variables at the top of every dashboard. Names are shared, so that a link from one dashboard to the next keeps what
 * was chosen. All of them can hold several values, or all.
 */
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';

export const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

/** Label and metric that a variable takes its values from; each narrows the ones after it. */
const VALUES = {
  topology: ['Topology', 'label_values(ringside_virtual_time_seconds, topology)'],
  backend: ['Backend', 'label_values(ringside_received_frames_total{topology=~"$topology"}, backend)'],
  guest: ['Guest', 'label_values(ringside_received_frames_total{topology=~"$topology",backend=~"$backend"}, guest)'],
  queue: [
    'Queue',
    'label_values(ringside_kicks_total{topology=~"$topology",backend=~"$backend",guest=~"$guest"}, queue)',
  ],
  experiment: ['Experiment', 'label_values(ringside_experiment_progress_ratio, experiment)'],
  metric: ['Metric', 'label_values(ringside_experiment_mean{experiment=~"$experiment"}, metric)'],
  bridge: ['Bridge', 'label_values(ringside_datapath_lookups_total{topology=~"$topology"}, bridge)'],
} as const;
export type Variable = keyof typeof VALUES;

/** Matchers for what was chosen: `selected('topology', 'guest')`. */
export const selected = (...names: readonly Variable[]): string => names.map((name) => `${name}=~"$${name}"`).join(',');

function labelValues(name: Variable): dashboard.QueryVariableBuilder {
  const [label, query] = VALUES[name];
  return new dashboard.QueryVariableBuilder(name)
    .label(label)
    .datasource(DATASOURCE)
    .query({ query, refId: `values-${name}` })
    .definition(query)
    .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
    .sort(dashboard.VariableSort.NaturalAsc)
    .multi(true)
    .includeAll(true)
    .allValue('.+')
    .current({ text: 'All', value: '$__all', selected: true });
}

/** The data source, the label variables in this order, and the server's address for links. */
export function addVariables(page: dashboard.DashboardBuilder, names: readonly Variable[]): void {
  page.withVariable(
    new dashboard.DatasourceVariableBuilder('datasource')
      .label('Data source')
      .type('prometheus')
      // The one that links go through is no Prometheus (provisioning/datasources).
      .regex('/^(?!Ringside API$)/'),
  );
  for (const name of names) page.withVariable(labelValues(name));
  page.withVariable(
    new dashboard.TextBoxVariableBuilder('ringside')
      .label('Ringside')
      .description(
        'Where the links out of the panels lead: through Grafana, which adds the token, or the address of a Ringside without one, e.g. http://localhost:8080',
      )
      .defaultValue('/api/datasources/proxy/uid/ringside-api'),
  );
}
