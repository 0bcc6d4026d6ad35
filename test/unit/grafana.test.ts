/** The dashboards as Grafana reads them: up to date with their sources, and complete. */
import * as units from '@grafana/grafana-foundation-sdk/units';
import { describe, expect, test } from 'vitest';
import { dashboardFiles } from '../../grafana/build.ts';
import { METRICS } from '../../src/readers/metrics/prometheus.ts';
import { ApiMetrics } from '../../src/server/api-metrics.ts';
import { EXPERIMENT_METRICS } from '../../src/server/experiments/experiment-metrics.ts';
import { natsCounts } from '../../src/server/experiments/nats-metrics.ts';
import { poolCounts } from '../../src/server/experiments/pool-metrics.ts';
import {
  chosen,
  type Dashboard,
  followed,
  labelValuesOf,
  panelsOf,
  queriesOf,
  queryVariables,
  substitute,
} from '../tools/dashboards.ts';
import { filesBelow, readText } from '../tools/source.ts';

const files = [...dashboardFiles()];
const dashboards = files.map(([, text]) => JSON.parse(text) as Dashboard);
const RINGSIDE = '$' + '{ringside}';
const DATASOURCE = { type: 'prometheus', uid: '$' + '{datasource}' };
/** Variables that Grafana brings. */
const BUILT_IN = ['__rate_interval', '__range', '__interval'];

/** Grafana shows a unit that it does not know as text behind the number. */
const UNITS: readonly unknown[] = Object.values(units);

/** Labels by name of every metric: of the worlds, then of the API and the process. */
const known = new Map<string, readonly string[]>();
for (const { name, labels, type } of METRICS) {
  const parts = (type as string) === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
  for (const part of parts) known.set(name + part, part === '_bucket' ? [...labels, 'le'] : labels);
}
const worldMetrics = new Set(known.keys());
for (const { name, labels } of EXPERIMENT_METRICS) known.set(name, labels);
const api = new ApiMetrics({
  topologies: () => 0,
  streams: () => 0,
  worldsByThread: () => [],
  captures: () => ({ states: new Map(), ended: new Map(), packets: 0, lostEvents: 0, diskBytes: 0 }),
  jobs: () => poolCounts(null),
  nats: () => natsCounts(null),
});
for (const { name, type } of await api.registry.getMetricsAsJSON()) {
  for (const part of type.toString() === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']) {
    known.set(name + part, ['method', 'route', 'code', 'thread', 'le', 'instance', 'outcome', 'state']);
  }
}

/** Its panels are about what runs in topologies; those of experiments are not. */
const ofTopologies = ({ title }: Dashboard): boolean => title !== 'Experiments';

test('the committed dashboards are what `npm run dashboards` writes', () => {
  expect(filesBelow('grafana/dashboards', '.json')).toEqual(files.map(([name]) => `grafana/dashboards/${name}`));
  for (const [name, text] of files) {
    expect(readText(`grafana/dashboards/${name}`) === text, `${name} is out of date: npm run dashboards`).toBe(true);
  }
});

test('five dashboards, each with an address of its own, linked with each other', () => {
  expect(dashboards.map(({ title }) => title).sort()).toEqual([
    'Backends compared',
    'Device and queues',
    'Experiments',
    'Open vSwitch',
    'Overview',
  ]);
  expect(new Set(dashboards.map(({ uid }) => uid)).size).toBe(dashboards.length);
  for (const { title, tags, links } of dashboards) {
    const [link] = links;
    expect(link, title).toMatchObject({ type: 'dashboards', includeVars: true, keepTime: true });
    for (const tag of link?.tags ?? []) {
      for (const other of dashboards) expect(other.tags, `${title} links to ${other.title}`).toContain(tag);
    }
    expect(tags, title).toContain('ringside');
  }
});

describe.each(dashboards)('$title', (dashboard) => {
  test('fixed uid, read-only, unique panel ids, nothing overlaps', () => {
    expect(dashboard.uid).toMatch(/^ringside-[a-z-]+$/);
    expect(dashboard.editable).toBe(false);
    expect(dashboard.schemaVersion).toBeGreaterThanOrEqual(36);
    const ids = dashboard.panels.map((panel) => panel.id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.every((id) => Number.isInteger(id) && id > 0)).toBe(true);
    const taken = new Map<string, string>();
    for (const { title, gridPos: g } of dashboard.panels) {
      expect(g.x + g.w, title).toBeLessThanOrEqual(24);
      for (let y = g.y; y < g.y + g.h; y++) {
        for (let x = g.x; x < g.x + g.w; x++) {
          expect(taken.get(`${x},${y}`), `${title} lies over another panel`).toBeUndefined();
          taken.set(`${x},${y}`, title);
        }
      }
    }
    const titles = panelsOf(dashboard).map((panel) => panel.title);
    expect(new Set(titles).size, 'titles').toBe(titles.length);
  });

  test('every panel has a description, a unit, a link and the chosen data source', () => {
    for (const panel of panelsOf(dashboard)) {
      expect(panel.description?.length ?? 0, panel.title).toBeGreaterThan(20);
      const others = panel.fieldConfig.overrides.flatMap(({ properties }) =>
        properties.filter(({ id }) => id === 'unit').map(({ value }) => value),
      );
      for (const unit of [panel.fieldConfig.defaults.unit, ...others]) expect(UNITS, panel.title).toContain(unit);
      expect(panel.fieldConfig.defaults.links?.length ?? 0, panel.title).toBeGreaterThan(0);
      expect(panel.datasource, panel.title).toEqual(DATASOURCE);
      const refIds = panel.targets.map((target) => target.refId);
      expect(refIds, panel.title).toEqual([...new Set(refIds)]);
      for (const target of panel.targets) {
        expect(target.datasource, panel.title).toEqual(DATASOURCE);
        expect(target.instant ?? false, panel.title).not.toBe(target.range ?? false);
      }
    }
  });

  test('every line has a name of its labels, every column of a table a name and a unit', () => {
    for (const panel of panelsOf(dashboard)) {
      if (panel.type !== 'table') {
        for (const { legendFormat = '', expr } of panel.targets) {
          expect(legendFormat, panel.title).not.toBe('');
          // A label that the query sums away would show as an empty name.
          for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
            const aggregated = /\bby \(/.test(expr);
            if (aggregated) expect(expr, `${panel.title}: ${label}`).toMatch(new RegExp(`by \\([^)]*\\b${label}\\b`));
          }
        }
        continue;
      }
      const rename = panel.transformations?.find(({ id }) => id === 'organize')?.options['renameByName'];
      const columns = rename as Readonly<Record<string, string>>;
      expect(
        panel.transformations?.map(({ id }) => id),
        panel.title,
      ).toEqual(['merge', 'organize']);
      expect(Object.keys(columns), panel.title).toEqual(panel.targets.map(({ refId }) => `Value #${refId}`));
      const united = panel.fieldConfig.overrides.map(({ matcher }) => matcher.options);
      expect(united, panel.title).toEqual(expect.arrayContaining(Object.values(columns)));
      expect(new Set(Object.values(columns)).size, panel.title).toBe(panel.targets.length);
      for (const { displayName } of panel.options?.sortBy ?? []) {
        expect(Object.values(columns), panel.title).toContain(displayName);
      }
      for (const target of panel.targets) {
        expect(target, panel.title).toMatchObject({ instant: true, format: 'table' });
        if (/last_over_time/.test(target.expr)) expect(target.expr, panel.title).toContain('$__range');
        expect(target.expr, panel.title).not.toContain('$__rate_interval');
      }
    }
  });

  test('variables: the data source, the topology, all of several values', () => {
    const names = dashboard.templating.list.map((variable) => variable.name);
    expect(names[0]).toBe('datasource');
    expect(names).toEqual(expect.arrayContaining([ofTopologies(dashboard) ? 'topology' : 'experiment', 'ringside']));
    for (const [i, variable] of queryVariables(dashboard).entries()) {
      expect(variable, variable.name).toMatchObject({
        multi: true,
        includeAll: true,
        allValue: '.+',
        datasource: DATASOURCE,
      });
      const { selector, label } = labelValuesOf(variable);
      expect(known.get(selector.replace(/\{.*/, '')), variable.name).toContain(label);
      // Each is narrowed by those before it only.
      const before = queryVariables(dashboard).slice(0, i);
      for (const [, name] of selector.matchAll(/\$(\w+)/g)) expect(before.map((each) => each.name)).toContain(name);
    }
    // What is chosen is used.
    const text = queriesOf(dashboard)
      .map(({ expression }) => expression)
      .join('\n');
    for (const { name } of queryVariables(dashboard)) expect(text, name).toContain(`=~"$${name}`);
  });

  test('every query uses variables that there are, and metrics and labels that the server exports', () => {
    const variables = [...dashboard.templating.list.map((variable) => variable.name), ...BUILT_IN];
    const marks = (ofTopologies(dashboard) ? dashboard.annotations.list : []).map(({ name, target }) => ({
      name,
      expression: target?.expr ?? '',
    }));
    for (const { name, expression } of [...queriesOf(dashboard), ...marks]) {
      for (const [, variable] of expression.matchAll(/\$\{?(\w+)/g)) expect(variables, name).toContain(variable);
      const metrics = [...expression.matchAll(/\b((?:ringside|process|nodejs)_\w+)(?:\{([^}]*)\})?/g)];
      expect(metrics.length, name).toBeGreaterThan(0);
      for (const [, metric = '', selector = ''] of metrics) {
        expect(known.has(metric), `${name}: ${metric}`).toBe(true);
        for (const [, label] of selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g)) {
          expect(known.get(metric), `${name}: ${metric}`).toContain(label);
        }
      }
      // What is summed by is a label of the metric, or of one that it is multiplied with.
      const labels = metrics.flatMap(([, metric = '']) => known.get(metric) ?? []);
      for (const [, by = ''] of expression.matchAll(/\bby \(([^)]*)\)/g)) {
        for (const label of by.split(/,\s*/)) expect(labels, name).toContain(label);
      }
    }
  });

  test('what happens in virtual time is never divided by wall time', () => {
    for (const { panel, name, expression } of queriesOf(dashboard)) {
      const metrics = [...expression.matchAll(/\bringside_\w+/g)].map(([metric]) => metric);
      if (!metrics.some((metric) => worldMetrics.has(metric))) continue;
      // The one panel whose subject is how fast the emulator is.
      if (panel.title === 'Virtual time for each second of wall time') continue;
      expect(expression, name).not.toMatch(/\b(i?rate|i?delta|deriv|increase)\s*\(/);
      const windowed = /\[\$__(rate_interval|range)\]/.test(expression);
      // Growth over a window is a number of its own in a table; in a chart the window is nobody's business.
      if (windowed && panel.type !== 'table') expect(expression, name).toMatch(/ \/ |histogram_quantile\(/);
    }
  });

  test.skipIf(!ofTopologies(dashboard))('what happened is marked: faults, reconfigurations, runs', () => {
    expect(dashboard.annotations.list.map(({ name }) => name)).toEqual([
      'Faults',
      'Reconfigurations',
      'Runs started',
      'Runs ended',
    ]);
    for (const { name, enable, datasource, titleFormat, target } of dashboard.annotations.list) {
      expect(enable, name).toBe(true);
      expect(datasource, name).toEqual(DATASOURCE);
      expect(titleFormat, name).toContain('{{topology}}');
      expect(target?.expr, name).toContain('topology=~"$topology"');
    }
    const colours = dashboard.annotations.list.map(({ iconColor }) => iconColor);
    expect(new Set(colours).size).toBe(colours.length);
  });

  test('every link is an operation of the API, with parameters that it has', () => {
    const document = JSON.parse(readText('openapi/openapi.json')) as {
      paths: Record<string, { get?: { parameters?: { name?: string; schema?: { enum?: string[] } }[] } }>;
    };
    for (const panel of panelsOf(dashboard)) {
      for (const { title, url, targetBlank } of panel.fieldConfig.defaults.links ?? []) {
        const where = `${panel.title}: ${title}: ${url}`;
        expect(targetBlank, where).toBe(true);
        expect(url.startsWith(`${RINGSIDE}/`), where).toBe(true);
        // The label of each part of a path stands where the API has a parameter of that name.
        const [path = '', query = ''] = url.slice(RINGSIDE.length).split('?');
        const template = path.replace(/\$\{__(?:field\.labels|data\.fields)\.(\w+)\}/g, '{$1}');
        const operation = document.paths[template]?.get;
        expect(operation, `${where}: GET ${template}`).toBeDefined();
        for (const [name, value] of new URLSearchParams(query)) {
          const parameter = operation?.parameters?.find((each) => each.name === name);
          expect(parameter, `${where}: ${name}`).toBeDefined();
          if (parameter?.schema?.enum !== undefined) expect(parameter.schema.enum, where).toContain(value);
        }
        // In a chart labels are the series', in a table columns.
        const source = panel.type === 'table' ? '__data.fields' : '__field.labels';
        for (const [, used] of url.matchAll(/\$\{(__\w+\.\w+)\./g)) expect(used, where).toBe(source);
      }
    }
    if (!ofTopologies(dashboard)) return;
    // From every dashboard of topologies to the journeys, the capture and the events.
    const urls = panelsOf(dashboard).flatMap(
      ({ fieldConfig }) => fieldConfig.defaults.links?.map(({ url }) => url) ?? [],
    );
    for (const part of ['/journeys', '/capture.pcapng?view=journey', '/events?']) {
      expect(
        urls.some((url) => url.includes(part)),
        part,
      ).toBe(true);
    }
  });
});

test('a backend has its colour wherever a series is one of it', () => {
  const page = dashboards.find(({ title }) => title === 'Backends compared');
  const colour = (name: string): unknown[] =>
    (page === undefined ? [] : panelsOf(page)).flatMap(({ type, fieldConfig }) =>
      type !== 'timeseries'
        ? []
        : fieldConfig.overrides
            .filter(({ matcher }) => matcher.id === 'byRegexp' && new RegExp(matcher.options.slice(1, -1)).test(name))
            .map(({ properties }) => JSON.stringify(properties)),
    );
  const [qemu, kernel, user] = ['t virtio-net', 't vhost-net', 't vhost-user'].map((name) => new Set(colour(name)));
  for (const each of [qemu, kernel, user]) expect(each?.size).toBe(1);
  expect(new Set([...(qemu ?? []), ...(kernel ?? []), ...(user ?? [])]).size).toBe(3);
  expect(colour('t virtio-net').length).toBe(
    page === undefined ? 0 : panelsOf(page).filter(({ type }) => type === 'timeseries').length,
  );
});

test('variables are filled in as Grafana does it', () => {
  expect(substitute('a{t=~"$topology"}[$__range]', { topology: chosen('x.1'), __range: '60s' })).toBe(
    'a{t=~"x\\\\.1"}[60s]',
  );
  expect(chosen('a', 'b')).toBe('(a|b)');
  expect(() => substitute('$nothing', {})).toThrow('no value for $nothing');
  const url = `${RINGSIDE}/v1/topologies/$${'{__field.labels.topology}'}/events`;
  expect(followed(url, { topology: 't' })).toBe('/v1/topologies/t/events');
  expect(followed(url, {})).toBeNull();
});
