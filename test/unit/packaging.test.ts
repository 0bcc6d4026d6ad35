/** What can be checked of the containers and the provisioning without an engine that runs them. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT, readText } from '../tools/source.ts';

interface Service {
  readonly build?: string;
  readonly image?: string;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly depends_on?: readonly string[] | Readonly<Record<string, unknown>>;
}
interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}
interface PrometheusFile {
  readonly scrape_configs: readonly {
    readonly authorization?: { readonly credentials_file?: string };
    readonly static_configs: readonly { readonly targets: readonly string[] }[];
  }[];
}
interface Datasources {
  readonly datasources: readonly { readonly uid: string; readonly url: string; readonly type: string }[];
}
interface Providers {
  readonly providers: readonly { readonly options: { readonly path: string } }[];
}

const compose = parse(readText('docker-compose.yml')) as Compose;
const service = (name: string): Service => {
  const found = compose.services[name];
  if (found === undefined) throw new Error(`docker-compose.yml has no service ${name}`);
  return found;
};
/** Where a path inside a service's container comes from on the host; null where no volume covers it. */
function mounted(name: string, path: string): string | null {
  for (const volume of service(name).volumes ?? []) {
    const [source = '', target = ''] = volume.split(':');
    if (path === target || path.startsWith(`${target}/`)) return source + path.slice(target.length);
  }
  return null;
}

test('compose: every volume and dependency exists, every published port is of this machine only', () => {
  for (const [name, { volumes = [], ports = [], depends_on = [], build, image }] of Object.entries(compose.services)) {
    expect(build ?? image, name).toBeTruthy();
    for (const volume of volumes) {
      const source = volume.split(':')[0] ?? '';
      if (source.startsWith('.')) expect(existsSync(join(ROOT, source)), `${name}: ${source}`).toBe(true);
      else expect(Object.keys(compose.volumes), name).toContain(source);
    }
    for (const port of ports) expect(port, name).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    for (const other of Array.isArray(depends_on) ? depends_on : Object.keys(depends_on)) {
      expect(Object.keys(compose.services), name).toContain(other);
    }
    // A tag, never `latest`.
    if (image !== undefined) expect(image).toMatch(/:v?\d+\.\d+\.\d+$/);
  }
});

test('compose: Ringside and Prometheus read the same generated token', () => {
  const file = service('ringside').environment?.['RINGSIDE_TOKEN_FILE'] ?? '';
  const prometheus = parse(readText('grafana/prometheus/prometheus.yml')) as PrometheusFile;
  const [scrape] = prometheus.scrape_configs;
  expect(scrape?.authorization?.credentials_file).toBe(file);
  expect(scrape?.static_configs[0]?.targets).toEqual(['ringside:8080']);
  const source = mounted('ringside', file);
  expect(source).not.toBeNull();
  expect(mounted('prometheus', file)).toBe(source);
  expect(mounted('token', file)).toBe(source);
  expect(JSON.stringify(compose.services['token'])).toContain(file);
});

test('compose: Prometheus and Grafana find their files', () => {
  expect(mounted('prometheus', '/etc/prometheus/prometheus.yml')).toBe('./grafana/prometheus/prometheus.yml');
  const [provider] = (parse(readText('grafana/provisioning/dashboards/ringside.yaml')) as Providers).providers;
  const folder = mounted('grafana', provider?.options.path ?? '');
  expect(folder).toBe('./grafana/dashboards');
  expect(statSync(join(ROOT, folder ?? '')).isDirectory()).toBe(true);
  const home = service('grafana').environment?.['GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH'] ?? '';
  expect(existsSync(join(ROOT, mounted('grafana', home) ?? 'nowhere'))).toBe(true);
  for (const kind of ['datasources', 'dashboards']) {
    expect(mounted('grafana', `/etc/grafana/provisioning/${kind}`)).toBe(`./grafana/provisioning/${kind}`);
  }
  const [source] = (parse(readText('grafana/provisioning/datasources/prometheus.yaml')) as Datasources).datasources;
  expect(source).toMatchObject({ type: 'prometheus', uid: 'ringside-prometheus' });
  const url = new URL(source?.url ?? '');
  expect(Object.keys(compose.services)).toContain(url.hostname);
});

test('Dockerfile: copies what exists, runs as nobody special, answers for its health', () => {
  const lines = readText('Dockerfile').split('\n');
  const from = lines.filter((line) => line.startsWith('FROM '));
  expect(from).toEqual(['FROM node:24-slim']);
  for (const line of lines.filter((text) => text.startsWith('COPY '))) {
    const sources = line.split(/\s+/).slice(1, -1);
    for (const path of sources) expect(existsSync(join(ROOT, path)), path).toBe(true);
  }
  expect(lines.indexOf('USER node')).toBeGreaterThan(0);
  expect(lines.indexOf('USER node')).toBeLessThan(lines.findIndex((line) => line.startsWith('CMD ')));
  expect(lines.some((line) => line.startsWith('HEALTHCHECK '))).toBe(true);
  const command = JSON.parse(lines.find((line) => line.startsWith('CMD '))?.slice(4) ?? '[]') as string[];
  expect(command).toEqual(['node', 'src/server/main.ts']);
  // npm start runs the same file, so the two cannot drift.
  const start = (JSON.parse(readText('package.json')) as { scripts: Record<string, string> }).scripts['start'];
  expect(start).toContain(command[1]);
});
