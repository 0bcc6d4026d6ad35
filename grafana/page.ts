/** What all dashboards have in common: where they stand, the links between them, and marks for what happened. */
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import { type Panel, toPanel } from './panels.ts';
import { addVariables, DATASOURCE, type Variable } from './variables.ts';

export interface Page {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly variables: readonly Variable[];
  readonly rows: readonly (readonly [title: string, panels: readonly Panel[]])[];
}

/** Carried by every dashboard; the links between them are by this tag. */
const TAG = 'ringside';

/** What is marked in every chart: counters of things that happen to a topology, the label that says which, and colour. */
const MARKS: readonly (readonly [name: string, counter: string, text: string, colour: string])[] = [
  ['Faults', 'ringside_faults_total', 'Fault in {{topology}}: {{kind}}', 'red'],
  ['Reconfigurations', 'ringside_reconfigurations_total', '{{topology}} was built anew', 'purple'],
  ['Runs started', 'ringside_traffic_runs_started_total', 'A traffic run started in {{topology}}', 'green'],
  ['Runs ended', 'ringside_traffic_runs_ended_total', 'A traffic run ended in {{topology}}', 'blue'],
];

function mark([name, counter, text, colour]: (typeof MARKS)[number]): dashboard.AnnotationQueryBuilder {
  const now = `${counter}{topology=~"$topology"}`;
  return new dashboard.AnnotationQueryBuilder()
    .name(name)
    .datasource(DATASOURCE)
    .enable(true)
    .iconColor(colour)
    .titleFormat(text)
    .tagKeys('topology,kind')
    .target(
      new prometheus.DataqueryBuilder()
        .refId('Anno')
        .datasource(DATASOURCE)
        // One mark at the step at which it grew. A counter that was not there a step ago had its first event by now.
        .expr(`${now} - (${now} offset $__interval or 0 * ${now}) > 0`)
        .interval('5s')
        .range(),
    );
}

/** The dashboard as Grafana reads it. */
export function toDashboard(page: Page): dashboard.Dashboard {
  const built = new dashboard.DashboardBuilder(page.title)
    .uid(page.uid)
    .description(page.description)
    .tags([TAG, ...page.tags])
    .timezone('browser')
    .refresh('5s')
    .time({ from: 'now-15m', to: 'now' })
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    // Provisioned from files: changes on the page could not be saved anyway.
    .readonly()
    .link(
      new dashboard.DashboardLinkBuilder('Ringside')
        .type(dashboard.DashboardLinkType.Dashboards)
        .tags([TAG])
        .includeVars(true)
        .keepTime(true),
    );
  addVariables(built, page.variables);
  // Marks are of topologies; a page without them has none.
  if (page.variables.includes('topology')) for (const each of MARKS) built.annotation(mark(each));
  let id = 0;
  for (const [title, panels] of page.rows) {
    built.withRow(new dashboard.RowBuilder(title).id(++id));
    for (const panel of panels) built.withPanel(toPanel(panel).id(++id));
  }
  return built.build();
}
