/**
 * docker-compose.yml as Compose itself reads it, and, where a Docker engine is running, the three services built, started,
 * asked and removed again. Without an engine that last part skips, and says so, also with CI=true: an engine cannot be
 * installed like the other peers. CONTRIBUTING.md says how to run it.
 */
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { freePort } from '../tools/free-port.ts';
import { ROOT } from '../tools/source.ts';
import { requirePeer } from './peers.ts';

interface Port {
  readonly host_ip?: string;
  readonly published?: string | number;
  readonly target?: number;
}
interface Configured {
  readonly services: Readonly<
    Record<
      string,
      { readonly ports?: readonly (string | Port)[]; readonly read_only?: boolean; readonly user?: string }
    >
  >;
  readonly volumes: Readonly<Record<string, unknown>>;
}

/** Compose 1 is a program, Compose 2 a command of docker's. */
const COMMANDS = [['docker-compose'], ['docker', 'compose']] as const;
const works = (command: readonly string[], ...args: readonly string[]): boolean =>
  spawnSync(command[0] ?? '', [...command.slice(1), ...args], { stdio: 'ignore', timeout: 20_000 }).status === 0;

function config(command: readonly string[], env: Readonly<Record<string, string>> = {}): Configured {
  const { status, stdout, stderr } = spawnSync(command[0] ?? '', [...command.slice(1), 'config'], {
    cwd: ROOT,
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  expect(`${status} ${stderr}`, command.join(' ')).toBe('0 ');
  return parse(stdout) as Configured;
}
/** Where a service is published: `address:port`. Compose 1 keeps the text, Compose 2 takes it apart. */
function published({ services }: Configured, name: string): string {
  const [port] = services[name]?.ports ?? [];
  if (typeof port === 'string') return port.split(':').slice(0, 2).join(':');
  return `${port?.host_ip}:${port?.published}`;
}

function accepts(command: readonly string[]): void {
  const plain = config(command);
  expect(Object.keys(plain.services).sort()).toEqual(['grafana', 'prometheus', 'ringside', 'token']);
  expect(Object.keys(plain.volumes).sort()).toEqual(['grafana-data', 'prometheus-data', 'ringside-data', 'token']);
  expect(['ringside', 'prometheus', 'grafana'].map((name) => published(plain, name))).toEqual([
    '127.0.0.1:8080',
    '127.0.0.1:9090',
    '127.0.0.1:3000',
  ]);
  for (const [name, { read_only, user }] of Object.entries(plain.services)) {
    expect(read_only, name).toBe(true);
    expect(user, name).not.toMatch(/^(0|root)?(:|$)/);
  }
  const elsewhere = config(command, { RINGSIDE_BIND: '0.0.0.0', GRAFANA_PORT: '3333' });
  expect(published(elsewhere, 'grafana')).toBe('0.0.0.0:3333');
  expect(published(elsewhere, 'ringside')).toBe('0.0.0.0:8080');
}

requirePeer('docker-compose')('docker-compose accepts the file, and the environment moves its ports', () => {
  accepts(COMMANDS[0]);
});
test('docker compose accepts the file as well', (context) => {
  if (!works(COMMANDS[1], 'version')) context.skip('this docker has no `compose` command');
  accepts(COMMANDS[1]);
});

requirePeer('promtool')('Prometheus accepts the configuration that it is given', () => {
  const args = ['check', 'config', '--syntax-only', 'grafana/prometheus/prometheus.yml'];
  const { status, stdout, stderr } = spawnSync('promtool', args, { cwd: ROOT, encoding: 'utf8' });
  expect(status, `${stdout}${stderr}`).toBe(0);
});

const engine = works(['docker'], 'info');
test('built and started: Ringside, Prometheus and Grafana are healthy and see each other', {
  timeout: 900_000,
}, async (context) => {
  if (!engine) context.skip('no Docker engine answers `docker info`');
  const command = [...COMMANDS].reverse().find((each) => works(each, 'version'));
  if (command === undefined) return context.skip('neither `docker compose` nor `docker-compose` is here');
  const [ringside, prometheus, grafana] = [await freePort(), await freePort(), await freePort()];
  const env = {
    ...process.env,
    RINGSIDE_PORT: String(ringside),
    PROMETHEUS_PORT: String(prometheus),
    GRAFANA_PORT: String(grafana),
  };
  const compose = (...args: readonly string[]): string => {
    const all = [...command.slice(1), '-p', `ringside-test-${process.pid}`, ...args];
    const { status, stdout, stderr } = spawnSync(command[0], all, { cwd: ROOT, encoding: 'utf8', env });
    if (status !== 0) throw new Error(`${command[0]} ${all.join(' ')}: ${stderr}\n${stdout}`);
    return stdout;
  };
  /** Asks until the answer satisfies; throws with the last one, and what the containers said. */
  const until = async <T>(url: string, enough: (answer: T) => boolean, init: RequestInit = {}): Promise<void> => {
    let last = '';
    for (const end = performance.now() + 120_000; performance.now() < end; await sleep(500)) {
      try {
        last = await (await fetch(url, init)).text();
        if (enough(JSON.parse(last) as T)) return;
      } catch (error) {
        last = String(error);
      }
    }
    throw new Error(`${url}: ${last}\n${compose('logs', '--tail=50')}`);
  };
  try {
    // Each waits for the health of the one before it, so that all are up means that all but Grafana are healthy.
    compose('up', '-d', '--build');
    const token = compose('exec', '-T', 'ringside', 'cat', '/run/ringside/token').trim();
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const api = `http://127.0.0.1:${ringside}`;
    expect((await fetch(`${api}/v1/topologies`)).status).toBe(401);
    const preset = await (await fetch(`${api}/v1/presets/compare`, { headers })).text();
    const made = await fetch(`${api}/v1/topologies/compare`, { method: 'PUT', headers, body: preset });
    expect(made.status).toBe(201);
    // Scraped with the token.
    await until<{ data: { result: unknown[] } }>(
      `http://127.0.0.1:${prometheus}/api/v1/query?query=${encodeURIComponent('ringside_topology_info{topology="compare"}')}`,
      ({ data }) => data.result.length === 1,
    );
    // Provisioned, and for looking at only.
    const page = `http://127.0.0.1:${grafana}`;
    await until<{ database: string }>(`${page}/api/health`, ({ database }) => database === 'ok');
    await until<unknown[]>(`${page}/api/search?tag=ringside`, (found) => found.length === 4);
    await until<{ meta: { provisioned: boolean; canSave: boolean } }>(
      `${page}/api/dashboards/uid/ringside-overview`,
      ({ meta }) => meta.provisioned && !meta.canSave,
    );
    // Through Grafana to Prometheus, and to the API as the dashboards' links go.
    await until<{ status: string }>(
      `${page}/api/datasources/proxy/uid/ringside-prometheus/api/v1/query?query=up`,
      ({ status }) => status === 'success',
    );
    await until<{ name: string }>(
      `${page}/api/datasources/proxy/uid/ringside-api/v1/topologies/compare`,
      ({ name }) => name === 'compare',
    );
    // What has to survive does: the document and the token.
    compose('restart', 'ringside');
    await until<{ name: string }>(`${api}/v1/topologies/compare`, ({ name }) => name === 'compare', { headers });
  } finally {
    compose('down', '-v', '--rmi', 'local');
  }
});
