/**
 * What the tests of the dashboards look at: the real server, traffic on the three backends of the preset `compare`, one after
 * the other with nothing in between, and a real Prometheus that scrapes it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { dashboardFiles } from '../../grafana/build.ts';
import { type Dashboard, substitute } from '../tools/dashboards.ts';
import { Prometheus, type Sample } from '../tools/prometheus.ts';
import { Ringside } from '../tools/ringside.ts';

export const BACKENDS = ['virtio-net', 'vhost-net', 'vhost-user'] as const;
export type Backend = (typeof BACKENDS)[number];
export const FRAMES = process.env['RINGSIDE_FULL'] === '1' ? 400_000 : 100_000;
/** Runs of an experiment that is over before Prometheus looks: two combinations. */
const EARLY_REPETITIONS = 2;
export const EARLY_JOBS = 2 * EARLY_REPETITIONS;
/** Runs of an experiment that goes on while Prometheus looks. */
export const JOBS = 12;
/** All of everything, as Grafana fills it in. */
export const ALL = {
  topology: '.+',
  backend: '.+',
  guest: '.+',
  queue: '.+',
  bridge: '.+',
  experiment: '.+',
  metric: '.+',
};

export interface Run {
  readonly id: string;
  readonly state: string;
  readonly received: number;
  readonly virtual: {
    readonly durationSeconds: number;
    readonly framesPerSecond: number;
    readonly frameBitsPerSecond: number;
    readonly latencySeconds: Readonly<Record<string, number>>;
  };
  readonly perFrame: Readonly<Record<string, number>>;
  readonly exitsByReason: Readonly<Record<string, number>>;
  readonly contexts: readonly { readonly name: string; readonly busyRatio: number }[];
  readonly queues: readonly {
    readonly guest: string;
    readonly queue: string;
    readonly kicks: number;
    readonly kicksSuppressed: number;
    readonly interrupts: number;
    readonly interruptsSuppressed: number;
  }[];
}
interface Jobs {
  readonly id: string;
  readonly runs: Readonly<Record<string, number>>;
}
export interface Measured {
  readonly run: Run;
  /** Unix time at which the run had been scraped, and the window up to there in which nothing else happened. */
  readonly at_s: number;
  readonly window: string;
}
export const dashboards = [...dashboardFiles().values()].map((text) => JSON.parse(text) as Dashboard);
export const dashboard = (title: string): Dashboard => {
  const found = dashboards.find((each) => each.title === title);
  if (found === undefined) throw new Error(`no dashboard ${title}`);
  return found;
};
/** A number in a table: by panel and column. */
export function columnQuery(page: string, panel: string, column: string): string {
  const found = dashboard(page).panels.find((each) => each.title === panel);
  const names = found?.transformations?.find((each) => each.id === 'organize')?.options['renameByName'];
  const refId = Object.entries(names ?? {})
    .find(([, name]) => name === column)?.[0]
    .slice(-1);
  const target = found?.targets.find((each) => each.refId === refId);
  if (target === undefined) throw new Error(`no column ${column} in ${panel}`);
  return target.expr;
}
export function panelQuery(page: string, panel: string, refId = 'A'): string {
  const found = dashboard(page).panels.find((each) => each.title === panel);
  const target = found?.targets.find((each) => each.refId === refId);
  if (target === undefined) throw new Error(`no query ${refId} in ${panel}`);
  return target.expr;
}

const range = (from_s: number, to_s: number): string => `${Math.round(1000 * (to_s - from_s))}ms`;

export class DashboardTraffic {
  readonly server: Ringside;
  readonly measured = {} as Record<Backend, Measured>;
  /** Made once the early run is over. */
  prometheus!: Prometheus;
  /** A run that was over before Prometheus started. */
  early!: Run;
  /** Unix times around everything. */
  begin_s = 0;
  end_s = 0;

  private constructor(server: Ringside) {
    this.server = server;
  }
  static async start(): Promise<DashboardTraffic> {
    const traffic = new DashboardTraffic(await Ringside.start());
    try {
      await traffic.runAll();
    } catch (error) {
      await traffic.stop();
      throw error;
    }
    return traffic;
  }
  async stop(): Promise<void> {
    await this.prometheus?.stop();
    await this.server.stop();
  }

  /** A window that holds everything. */
  get whole(): string {
    return range(this.begin_s, this.end_s);
  }
  /** The answer to an instant query, at the end of a window that Grafana would call its range. */
  ask(
    expression: string,
    values: Readonly<Record<string, string>> = {},
    window = this.whole,
    at_s = this.end_s,
  ): Promise<Sample[]> {
    const windows = { __rate_interval: window, __range: window, __interval: window };
    return this.prometheus.query(substitute(expression, { ...ALL, ...windows, ...values }), at_s);
  }

  private async runAll(): Promise<void> {
    const { server } = this;
    const compare = await server.json<object>('GET', '/v1/presets/compare');
    await server.json('PUT', '/v1/topologies/compare', compare);
    const other = await server.json<object>('GET', '/v1/presets/vhost-net');
    await server.json('PUT', '/v1/topologies/other-one', other);
    // As somebody does who boots a topology and sends at once: Prometheus has not come by yet.
    await server.json('PUT', '/v1/topologies/early', other);
    this.early = await this.run('early', { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 20_000, rate: 'max' });
    await server.json('POST', '/v1/experiments', {
      template: { topology: other, traffic: [{ kind: 'udp', from: 'a/net0', to: 'b/net0', count: 100 }] },
      axes: [{ pointer: '/traffic/0/frameSize', values: [64, 1518] }],
      repetitions: EARLY_REPETITIONS,
    });
    await server.json('GET', '/v1/experiments/experiment-1?wait=60s');
    this.begin_s = Date.now() / 1000 - 1;
    this.prometheus = await Prometheus.start(`127.0.0.1:${server.port}`);
    await this.scraped();
    // Neighbours are known before anything is measured: a run's own account leaves ARP out.
    for (const backend of BACKENDS) {
      await this.run('compare', { kind: 'ping', from: `${backend}-a/net0`, to: `${backend}-b/net0`, count: 1 });
    }
    for (const backend of BACKENDS) {
      const before_s = await this.scraped();
      const run = await this.run('compare', {
        kind: 'udp',
        from: `${backend}-a/net0`,
        to: `${backend}-b/net0`,
        frameSize: backend === 'vhost-user' ? 512 : 64,
        count: FRAMES,
        rate: 'max',
      });
      const at_s = await this.scraped();
      this.measured[backend] = { run, at_s, window: range(before_s - 0.5, at_s) };
    }
    // While Prometheus looks, so that what is shown of jobs has something to show.
    const { id, runs } = await server.json<Jobs>('POST', '/v1/experiments', {
      template: { topology: other, traffic: [{ kind: 'udp', from: 'a/net0', to: 'b/net0', count: 200 }] },
      repetitions: JOBS,
    });
    if (runs['total'] !== JOBS) throw new Error(`${id} has ${runs['total']} runs`);
    await server.json('GET', `/v1/experiments/${id}?wait=60s`);
    // A document that is replaced, for the marks of reconfigurations.
    await server.json('PUT', '/v1/topologies/other-one', { ...other, seed: 2 });
    await this.prometheus.until('changes(ringside_reconfigurations_total[30s])', (samples) =>
      samples.some(({ value }) => value > 0),
    );
    // A chart is asked at whole seconds from the beginning: the last of them is to see the last sample that is new.
    this.end_s = await this.scraped((await this.scraped()) + 1);
  }
  private async run(topology: string, body: Readonly<Record<string, unknown>>): Promise<Run> {
    const runs = `/v1/topologies/${topology}/traffic`;
    const { id } = await this.server.json<Run>('POST', runs, body);
    const ended = await this.server.json<Run>('GET', `${runs}/${id}?wait=60s`);
    if (ended.state !== 'SUCCEEDED') throw new Error(JSON.stringify(ended));
    return ended;
  }
  /**
   * Waits until Prometheus has scraped what the idle world stands at. A world goes on for a while after its last run, until none of its
   * timers has anything to do. Returns the time of the sample that says so, which is not before `from_s`.
   */
  private async scraped(from_s = 0): Promise<number> {
    const query = 'ringside_virtual_time_seconds{topology="compare"}';
    const end = performance.now() + 30_000;
    for (;;) {
      const text = await (await fetch(`${this.server.url}/metrics`)).text();
      const now = Number(/^ringside_virtual_time_seconds\{topology="compare"\} (.+)$/m.exec(text)?.[1]);
      const [sample] = await this.prometheus.query(query);
      if (sample?.value === now) {
        const at_s = (await this.prometheus.query(`timestamp(${query})`))[0]?.value ?? Number.NaN;
        if (!(at_s < from_s)) return at_s;
      }
      if (performance.now() > end) throw new Error(`the world stands at ${now}, Prometheus says ${sample?.value}`);
      await sleep(200);
    }
  }
}
