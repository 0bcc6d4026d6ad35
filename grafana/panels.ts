/** The kinds of panels: charts over time, tables over the time range, heatmaps, single numbers. All look alike everywhere. */
import * as common from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as table from '@grafana/grafana-foundation-sdk/table';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';
import { type Link, ofRow, ofSeries } from './links.ts';
import { DATASOURCE } from './variables.ts';

interface Described {
  readonly title: string;
  readonly description: string;
  readonly links: readonly Link[];
  /** Of 24 columns. */
  readonly width?: number;
}
/** Lines over time, one query for each kind of line. */
export interface Chart extends Described {
  readonly kind: 'chart';
  readonly unit: string;
  readonly queries: readonly (readonly [expression: string, legend: string])[];
  readonly max?: number;
  readonly stacked?: boolean;
  /** A logarithmic axis, for what spans several powers of ten. */
  readonly log?: boolean;
  /** The slowest frames of the last query's histogram are shown as points that lead to their journeys. */
  readonly exemplars?: boolean;
}
/** One row for each combination of labels, one column for each query; the queries cover the dashboard's time range. */
export interface Table extends Described {
  readonly kind: 'table';
  readonly columns: readonly (readonly [name: string, expression: string, unit: string])[];
  readonly height?: number;
  readonly decimals?: number;
  /** The column to sort by, largest first. */
  readonly sortBy?: string;
}
/** A histogram over time; the query gives its buckets. */
export interface Heatmap extends Described {
  readonly kind: 'heatmap';
  /** Of the buckets' bounds. */
  readonly unit: string;
  readonly query: string;
}
/** The latest value of one query, as a number for each series. */
export interface Stat extends Described {
  readonly kind: 'stat';
  readonly unit: string;
  readonly query: string;
  readonly legend: string;
  readonly texts?: Readonly<Record<string, readonly [text: string, colour: string]>>;
  readonly decimals?: number;
}
export type Panel = Chart | Table | Heatmap | Stat;
type PanelBuilder = timeseries.PanelBuilder | table.PanelBuilder | heatmap.PanelBuilder | stat.PanelBuilder;

/** One colour for each backend, in every panel of every dashboard. */
const COLOURS: readonly (readonly [backend: string, colour: string])[] = [
  ['virtio-net', 'orange'],
  ['vhost-net', 'blue'],
  ['vhost-user', 'green'],
];

const letter = (index: number): string => String.fromCharCode(65 + index);
const query = (index: number, expression: string): prometheus.DataqueryBuilder =>
  new prometheus.DataqueryBuilder().refId(letter(index)).datasource(DATASOURCE).expr(expression);

function chartPanel(chart: Chart): timeseries.PanelBuilder {
  const panel = new timeseries.PanelBuilder()
    .unit(chart.unit)
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
    .dataLinks(ofSeries(chart.links))
    .span(chart.width ?? 12)
    .height(8);
  if (chart.max !== undefined) panel.max(chart.max);
  if (chart.log === true) {
    const scale = new common.ScaleDistributionConfigBuilder().type(common.ScaleDistribution.Log).log(10);
    panel.scaleDistribution(scale);
  } else {
    panel.min(0);
  }
  if (chart.stacked === true) panel.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal));
  for (const [backend, colour] of COLOURS) {
    panel.overrideByRegexp(`/ ${backend}$/`, [{ id: 'color', value: { mode: 'fixed', fixedColor: colour } }]);
  }
  // Quantiles of one backend have its colour; they differ by their strokes.
  panel.overrideByRegexp('/^p90 /', [{ id: 'custom.lineStyle', value: { fill: 'dash', dash: [10, 6] } }]);
  panel.overrideByRegexp('/^p99 /', [{ id: 'custom.lineStyle', value: { fill: 'dot', dash: [2, 6] } }]);
  chart.queries.forEach(([expression, legend], index) => {
    const last = index === chart.queries.length - 1;
    panel.withTarget(
      query(index, expression)
        .range()
        .legendFormat(legend)
        .exemplar(chart.exemplars === true && last),
    );
  });
  return panel;
}

function tablePanel(spec: Table): table.PanelBuilder {
  const panel = new table.PanelBuilder()
    .unit('none')
    .decimals(spec.decimals ?? 3)
    .span(spec.width ?? 24)
    .height(spec.height ?? 7)
    // Tables of the same rows become one; its columns are called after the queries.
    .withTransformation({ id: 'merge', options: {} })
    .withTransformation({
      id: 'organize',
      options: {
        excludeByName: { Time: true },
        renameByName: Object.fromEntries(spec.columns.map(([column], index) => [`Value #${letter(index)}`, column])),
      },
    })
    .dataLinks(ofRow(spec.links));
  if (spec.sortBy !== undefined) {
    panel.sortBy([new common.TableSortByFieldStateBuilder().displayName(spec.sortBy).desc(true)]);
  }
  spec.columns.forEach(([column, expression, unit], index) => {
    panel.withTarget(query(index, expression).instant().format(prometheus.PromQueryFormat.Table));
    panel.overrideByName(column, [{ id: 'unit', value: unit }]);
  });
  return panel;
}

function heatmapPanel(spec: Heatmap): heatmap.PanelBuilder {
  return (
    new heatmap.PanelBuilder()
      .unit(spec.unit)
      .calculate(false)
      .color(
        new heatmap.HeatmapColorOptionsBuilder()
          .mode(heatmap.HeatmapColorMode.Scheme)
          .scheme('Oranges')
          .scale(heatmap.HeatmapColorScale.Exponential)
          .exponent(0.5)
          .steps(64),
      )
      .yAxis(new heatmap.YAxisConfigBuilder().unit(spec.unit).axisPlacement(common.AxisPlacement.Left))
      .cellValues(new heatmap.CellValuesBuilder().unit('percentunit'))
      .tooltip(new heatmap.HeatmapTooltipBuilder().mode(common.TooltipDisplayMode.Single).yHistogram(true))
      .showLegend()
      .dataLinks(ofSeries(spec.links))
      .span(spec.width ?? 12)
      .height(8)
      // Grafana takes the cumulative buckets apart itself.
      .withTarget(
        query(0, spec.query).range().format(prometheus.PromQueryFormat.Heatmap).legendFormat('{{le}}').exemplar(true),
      )
  );
}

function statPanel(spec: Stat): stat.PanelBuilder {
  const panel = new stat.PanelBuilder()
    .unit(spec.unit)
    .decimals(spec.decimals ?? 0)
    .graphMode(common.BigValueGraphMode.None)
    .colorMode(common.BigValueColorMode.Value)
    .textMode(common.BigValueTextMode.ValueAndName)
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']))
    .dataLinks(ofSeries(spec.links))
    .span(spec.width ?? 4)
    .height(5)
    .withTarget(query(0, spec.query).instant().legendFormat(spec.legend));
  if (spec.texts !== undefined) {
    const options = Object.entries(spec.texts).map(([value, [text, color]]) => [value, { text, color }]);
    panel.mappings([{ type: dashboard.MappingType.ValueToText, options: Object.fromEntries(options) }]);
  }
  return panel;
}

/** The panel as the SDK builds it, without its id. */
export function toPanel(spec: Panel): PanelBuilder {
  const panel =
    spec.kind === 'chart'
      ? chartPanel(spec)
      : spec.kind === 'table'
        ? tablePanel(spec)
        : spec.kind === 'heatmap'
          ? heatmapPanel(spec)
          : statPanel(spec);
  return panel.title(spec.title).description(spec.description).datasource(DATASOURCE);
}
