/** The dashboards as Grafana reads them: up to date with their sources, and complete. */
import { expect, test } from 'vitest';
import { dashboardFiles } from '../../grafana/build.ts';
import { METRICS } from '../../src/readers/prometheus.ts';
import { type Dashboard, expressions, type Panel } from '../tools/dashboards.ts';
import { filesBelow, readText } from '../tools/source.ts';

const files = [...dashboardFiles()];
const dashboards = files.map(([, text]) => JSON.parse(text) as Dashboard);
const panels = (dashboard: Dashboard): Panel[] => dashboard.panels.filter((panel) => panel.type !== 'row');

test('the committed dashboards are what `npm run dashboards` writes', () => {
  expect(filesBelow('grafana/dashboards', '.json')).toEqual(files.map(([name]) => `grafana/dashboards/${name}`));
  for (const [name, text] of files) {
    expect(readText(`grafana/dashboards/${name}`) === text, `${name} is out of date: npm run dashboards`).toBe(true);
  }
});

test.each(dashboards)('$title: fixed uid, unique panel ids, nothing overlaps', (dashboard) => {
  expect(dashboard.uid).toMatch(/^ringside-[a-z-]+$/);
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
});

test.each(dashboards)(
  '$title: every panel has a description, a unit, a link and the chosen data source',
  (dashboard) => {
    const names = dashboard.templating.list.map((variable) => variable.name);
    expect(names).toEqual(expect.arrayContaining(['datasource', 'topology', 'backend']));
    for (const panel of panels(dashboard)) {
      expect(panel.description?.length ?? 0, panel.title).toBeGreaterThan(20);
      expect(panel.fieldConfig.defaults.unit, panel.title).toBeTruthy();
      expect(panel.fieldConfig.defaults.links?.length ?? 0, panel.title).toBeGreaterThan(0);
      expect(panel.datasource, panel.title).toEqual({ type: 'prometheus', uid: '$' + '{datasource}' });
      expect(panel.targets.map((target) => target.refId)).toEqual([
        ...new Set(panel.targets.map((target) => target.refId)),
      ]);
    }
  },
);

test.each(dashboards)('$title: every query divides by virtual time or by frames, never by wall time', (dashboard) => {
  for (const { panel, expression } of expressions(dashboard)) {
    expect(expression, panel.title).not.toMatch(/\b(i?rate|deriv|idelta)\s*\(/);
    const divisor = expression.split(' / ')[1] ?? '';
    expect(divisor, panel.title).toMatch(/increase\(ringside_(virtual_time_seconds|received_frames_total)\{/);
    // Only variables that the dashboard has, or that Grafana brings.
    const known = [...dashboard.templating.list.map((variable) => variable.name), '__rate_interval', '__range'];
    for (const [, name] of expression.matchAll(/\$\{?(\w+)/g)) expect(known, panel.title).toContain(name);
  }
});

test.each(dashboards)('$title: every metric and label in a query is one that the server exports', (dashboard) => {
  for (const { panel, expression } of expressions(dashboard)) {
    for (const [, name = '', selector = ''] of expression.matchAll(/(ringside_\w+)\{([^}]*)\}/g)) {
      const metric = METRICS.find((known) => known.name === name);
      expect(metric, `${panel.title}: ${name}`).toBeDefined();
      const labels = [...selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g)].map((match) => match[1]);
      expect(metric?.labels, `${panel.title}: ${name}`).toEqual(expect.arrayContaining(labels));
    }
    for (const [, by = '', name = ''] of expression.matchAll(/\bby \(([^)]*)\) \(increase\((ringside_\w+)/g)) {
      const metric = METRICS.find((known) => known.name === name);
      expect(metric?.labels, `${panel.title}: ${name}`).toEqual(expect.arrayContaining(by.split(/,\s*/)));
    }
  }
});
