/**
 * What can be checked of the containers and the provisioning without an engine that runs them. The image's content is
 * tried out as well: a server started from exactly what the Dockerfile copies, as nobody, with nothing to write but its data.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { dashboardFiles } from '../../grafana/build.ts';
import { Child } from '../tools/child.ts';
import { freePort } from '../tools/free-port.ts';
import { ROOT, readText } from '../tools/source.ts';

interface Service {
  readonly build?: string;
  readonly image?: string;
  readonly user?: string;
  readonly command?: readonly string[];
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly tmpfs?: readonly string[];
  readonly mem_limit?: string;
  readonly restart?: string;
  readonly healthcheck?: { readonly disable?: boolean; readonly test?: readonly string[] };
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
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
  readonly datasources: readonly {
    readonly uid: string;
    readonly url: string;
    readonly type: string;
    readonly editable: boolean;
    readonly isDefault?: boolean;
    readonly secureJsonData?: Readonly<Record<string, string>>;
  }[];
}
interface Providers {
  readonly providers: readonly {
    readonly disableDeletion: boolean;
    readonly allowUiUpdates: boolean;
    readonly options: { readonly path: string };
  }[];
}

const compose = parse(readText('docker-compose.yml'), { merge: true }) as Compose;
const packageFile = JSON.parse(readText('package.json')) as {
  readonly version: string;
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
};
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

test('compose: every volume and dependency exists, published ports are of this machine unless somebody says otherwise', () => {
  const published = new Set<string>();
  for (const [name, { volumes = [], ports = [], depends_on = {}, build, image }] of Object.entries(compose.services)) {
    for (const volume of volumes) {
      const source = volume.split(':')[0] ?? '';
      if (source.startsWith('.')) expect(existsSync(join(ROOT, source)), `${name}: ${source}`).toBe(true);
      else expect(Object.keys(compose.volumes), name).toContain(source);
    }
    for (const port of ports) {
      expect(port, name).toMatch(/^\$\{RINGSIDE_BIND:-127\.0\.0\.1\}:\$\{[A-Z]+_PORT:-\d+\}:\d+$/);
      expect(published.has(port), `${port} twice`).toBe(false);
      published.add(port);
    }
    for (const [other, { condition }] of Object.entries(depends_on)) {
      expect(Object.keys(compose.services), name).toContain(other);
      // To wait for health needs a health check; to wait for an end needs one.
      if (condition === 'service_healthy') expect(service(other).healthcheck?.test, `${name}: ${other}`).toBeDefined();
      else expect([condition, service(other).restart], name).toEqual(['service_completed_successfully', 'no']);
    }
    // A full version, never `latest`; ours is the package's.
    expect(image, name).toMatch(/:v?\d+\.\d+\.\d+$/);
    if (build !== undefined) expect(image, name).toBe(`ringside:${packageFile.version}`);
  }
  expect(published.size).toBe(3);
});

test('compose: no service is root, has capabilities, or can write to anything but its volumes and /tmp', () => {
  for (const [name, each] of Object.entries(compose.services)) {
    expect(each.user, name).toMatch(/^(node|[1-9]\d*:\d+)$/);
    expect(each, name).toMatchObject({
      read_only: true,
      cap_drop: ['ALL'],
      security_opt: ['no-new-privileges:true'],
      tmpfs: ['/tmp'],
    });
    expect(each.restart, name).toBe(name === 'token' ? 'no' : 'unless-stopped');
    if (name !== 'token') expect(each.healthcheck?.test?.[0], name).toBe('CMD');
  }
});

test('compose: Ringside, Prometheus and the links of the dashboards use the same generated token', () => {
  const file = service('ringside').environment?.['RINGSIDE_TOKEN_FILE'] ?? '';
  const prometheus = parse(readText('grafana/prometheus/prometheus.yml')) as PrometheusFile;
  const [scrape] = prometheus.scrape_configs;
  expect(scrape?.authorization?.credentials_file).toBe(file);
  expect(scrape?.static_configs[0]?.targets).toEqual(['ringside:8080']);
  const { datasources } = parse(readText('grafana/provisioning/datasources/prometheus.yaml')) as Datasources;
  const api = datasources.find(({ uid }) => uid === 'ringside-api');
  expect(api?.secureJsonData?.['httpHeaderValue1']).toBe(`Bearer $__file{${file}}`);
  const source = mounted('ringside', file);
  expect(source).not.toBeNull();
  for (const name of ['prometheus', 'grafana', 'token']) expect(mounted(name, file), name).toBe(source);
  expect(JSON.stringify(compose.services['token'])).toContain(file);
  // Only the one that makes it may write it.
  const volume = source?.split('/')[0];
  for (const name of ['ringside', 'prometheus', 'grafana']) {
    expect(
      service(name).volumes?.find((each) => each.startsWith(`${volume}:`)),
      name,
    ).toMatch(/:ro$/);
  }
});

test('compose: worlds are refused before the container runs out of memory', () => {
  const fallback = (text = ''): number => {
    const [, amount = '', unit = ''] = /:-(\d+)(g|GiB)\}$/.exec(text) ?? [];
    expect(unit, text).not.toBe('');
    return Number(amount);
  };
  const { environment, mem_limit } = service('ringside');
  expect(fallback(environment?.['RINGSIDE_MAX_MEMORY'])).toBeLessThan(fallback(mem_limit));
  for (const name of ['prometheus', 'grafana']) expect(service(name).mem_limit, name).toMatch(/^\d+g$/);
});

test('compose: the token is made once', () => {
  const [shell = '', ...args] = service('token').command ?? [];
  const folder = mkdtempSync(join(tmpdir(), 'ringside-token-'));
  try {
    const make = (): string => {
      const moved = args.map((arg) => arg.replaceAll('/run/ringside', folder));
      const path = [dirname(process.execPath), process.env['PATH'] ?? ''].join(delimiter);
      const { status, stderr } = spawnSync(shell, moved, { encoding: 'utf8', env: { PATH: path } });
      expect(`${status} ${stderr}`).toBe('0 ');
      return readFileSync(join(folder, 'token'), 'utf8');
    };
    const token = make();
    expect(token).toMatch(/^[0-9a-f]{48}$/);
    expect(make()).toBe(token);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('compose: Prometheus and Grafana find their files, and nothing of them can be edited on the page', () => {
  expect(mounted('prometheus', '/etc/prometheus/prometheus.yml')).toBe('./grafana/prometheus/prometheus.yml');
  const [provider] = (parse(readText('grafana/provisioning/dashboards/ringside.yaml')) as Providers).providers;
  expect(provider).toMatchObject({ disableDeletion: true, allowUiUpdates: false });
  const folder = mounted('grafana', provider?.options.path ?? '');
  expect(folder).toBe('./grafana/dashboards');
  expect(statSync(join(ROOT, folder ?? '')).isDirectory()).toBe(true);
  const home = service('grafana').environment?.['GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH'] ?? '';
  expect(existsSync(join(ROOT, mounted('grafana', home) ?? 'nowhere'))).toBe(true);
  for (const kind of ['datasources', 'dashboards']) {
    expect(mounted('grafana', `/etc/grafana/provisioning/${kind}`)).toBe(`./grafana/provisioning/${kind}`);
  }
  const { datasources } = parse(readText('grafana/provisioning/datasources/prometheus.yaml')) as Datasources;
  expect(datasources.map(({ editable }) => editable)).toEqual([false, false]);
  expect(datasources.find(({ isDefault }) => isDefault)).toMatchObject({
    type: 'prometheus',
    uid: 'ringside-prometheus',
  });
  for (const { url } of datasources) expect(Object.keys(compose.services)).toContain(new URL(url).hostname);
  // Links go through a data source that there is.
  for (const [name, text] of dashboardFiles()) {
    const { templating } = JSON.parse(text) as { templating: { list: { name: string; query?: string }[] } };
    const address = templating.list.find((variable) => variable.name === 'ringside')?.query ?? '';
    expect(
      datasources.map(({ uid }) => `/api/datasources/proxy/uid/${uid}`),
      name,
    ).toContain(address);
  }
});

const lines = readText('Dockerfile').split('\n');
/** What the image holds beside its packages: paths of this folder. */
const copied = lines
  .filter((line) => line.startsWith('COPY ') && !line.includes('--from='))
  .flatMap((line) => line.split(/\s+/).slice(1, -1));

test('Dockerfile: the Node that package.json pins, runs as nobody special, answers for its health', () => {
  const bases = lines.filter((line) => line.startsWith('FROM ')).map((line) => line.split(' ')[1]);
  expect(new Set(bases)).toEqual(new Set([`node:${packageFile.dependencies['node']}-bookworm-slim`]));
  for (const path of copied) expect(existsSync(join(ROOT, path)), path).toBe(true);
  expect(lines.lastIndexOf('USER node')).toBeGreaterThan(lines.findLastIndex((line) => line.startsWith('RUN ')));
  expect(lines.indexOf('USER node')).toBeLessThan(lines.findIndex((line) => line.startsWith('CMD ')));
  expect(lines.some((line) => line.startsWith('HEALTHCHECK '))).toBe(true);
  const command = JSON.parse(lines.find((line) => line.startsWith('CMD '))?.slice(4) ?? '[]') as string[];
  expect(command).toEqual(['node', 'src/server/main.ts']);
  // npm start runs the same file, so the two cannot drift.
  expect(packageFile.scripts['start']).toContain(command[1]);
});

test('.dockerignore: the builder is sent what the Dockerfile copies, and no more', () => {
  const rules = readText('.dockerignore')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  expect(rules[0]).toBe('*');
  expect(
    rules
      .slice(1)
      .map((line) => line.replace(/^!/, ''))
      .sort(),
  ).toEqual([...new Set(copied)].sort());
});

/** Folders of the packages that `npm ci --omit=dev` would install at the top: what package-lock.json does not call dev only. */
function productionPackages(): string[] {
  const { packages } = JSON.parse(readText('package-lock.json')) as { packages: Record<string, { dev?: boolean }> };
  return Object.entries(packages)
    .filter(([path, { dev }]) => /^node_modules\/(@[^/]+\/)?[^/]+$/.test(path) && dev !== true)
    .map(([path]) => path)
    .filter((path) => existsSync(join(ROOT, path)));
}
/** Whether every user may go into these folders. */
const reachable = (path: string): boolean =>
  (statSync(path).mode & 0o001) !== 0 && (dirname(path) === path || reachable(dirname(path)));
/** Nobody but root may write below `folder`; everybody may read. */
function lock(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) lock(path);
    else if (entry.isFile()) chmodSync(path, statSync(path).mode & 0o111 ? 0o555 : 0o444);
  }
  chmodSync(folder, 0o555);
}
function unlock(folder: string): void {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) unlock(join(folder, entry.name));
  }
}

test('the content of the image is a whole server, which writes to its data folder only', async () => {
  const image = mkdtempSync(join(tmpdir(), 'ringside-image-'));
  const data = mkdtempSync(join(tmpdir(), 'ringside-data-'));
  // As another user, where this one may choose and that one could reach the packages.
  const root = process.getuid?.() === 0 && reachable(dirname(process.execPath)) && reachable(tmpdir());
  const nobody = 65534;
  let server: Child | null = null;
  try {
    for (const path of copied) cpSync(join(ROOT, path), join(image, path), { recursive: true });
    // What src/ asks for is looked up here; what a package asks for, beside the package.
    for (const path of productionPackages()) {
      mkdirSync(dirname(join(image, path)), { recursive: true });
      symlinkSync(join(ROOT, path), join(image, path));
    }
    lock(image);
    if (root) chownSync(data, nobody, nobody);
    const port = await freePort();
    const token = 'only-for-this-test-0123456789';
    server = new Child(process.execPath, ['src/server/main.ts'], {
      cwd: image,
      env: {
        NODE_ENV: 'production',
        HOST: '0.0.0.0',
        PORT: String(port),
        RINGSIDE_DATA_DIR: data,
        RINGSIDE_TOKEN: token,
      },
      ...(root ? { uid: nobody, gid: nobody } : {}),
    });
    const url = `http://127.0.0.1:${port}`;
    await server.until(async () => (await fetch(`${url}/readyz`)).ok, 'ready');
    const headers = { authorization: `Bearer ${token}` };
    expect((await fetch(`${url}/v1/presets`)).status).toBe(401);
    const preset = await (await fetch(`${url}/v1/presets/vhost-net`, { headers })).text();
    const made = await fetch(`${url}/v1/topologies/t`, {
      method: 'PUT',
      headers: { ...headers, 'content-type': 'application/json' },
      body: preset,
    });
    expect(made.status).toBe(201);
    // Everything that lies in a file of the repository, or comes from a package, is there.
    const document = (await (await fetch(`${url}/openapi.json`, { headers })).json()) as {
      paths: Record<string, object>;
    };
    const files = Object.keys(document.paths).filter((path) => /^\/v1\/wireshark\/|^\/asyncapi/.test(path));
    for (const path of ['/docs', '/metrics', '/v1/topologies/t', '/v1/topologies/t/guests/a', ...files]) {
      const response = await fetch(url + path, { headers });
      await response.arrayBuffer();
      expect(response.status, path).toBe(200);
    }
    expect(files.length).toBeGreaterThan(1);
    expect(readdirSync(data).length).toBeGreaterThan(0);
    // The command that the Dockerfile asks about its health.
    const health = /^\s*CMD (\[.+\])$/m.exec(lines.find((line) => line.includes('CMD ["node", "-e"')) ?? '');
    const [, ...check] = JSON.parse(health?.[1] ?? '[]') as string[];
    expect(spawnSync(process.execPath, check, { env: { PORT: String(port) } }).status).toBe(0);
  } finally {
    await server?.stop();
    unlock(image);
    rmSync(image, { recursive: true, force: true });
    rmSync(data, { recursive: true, force: true });
  }
  expect(server?.output).not.toMatch(/EACCES|EROFS|ERR_MODULE_NOT_FOUND/);
});
