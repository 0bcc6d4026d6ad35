/**
 * The whole way a number takes: the real server, traffic on the three backends of the preset `compare`, a real Prometheus
 * that scrapes it, and every query of every dashboard with Grafana's variables filled in. What they show for a run has to be
 * what the run says of itself; links have to lead somewhere.
 */
import { afterAll, describe, expect } from 'vitest';
import { parse } from 'yaml';
import {
  chosen,
  followed,
  labelValuesOf,
  panelsOf,
  queriesOf,
  queryVariables,
  substitute,
} from '../tools/dashboards.ts';
import type { Sample } from '../tools/prometheus.ts';
import { readText } from '../tools/source.ts';
import { describeRuns } from './dashboard-runs.ts';
import {
  ALL,
  BACKENDS,
  columnQuery,
  DashboardTraffic,
  dashboard,
  dashboards,
  EARLY_JOBS,
  FRAMES,
  JOBS,
  panelQuery,
} from './dashboard-traffic.ts';
import { requirePeer } from './peers.ts';

const peer = requirePeer('prometheus');

describe('dashboards', () => {
  let traffic: DashboardTraffic;
  peer.beforeAll(async () => {
    traffic = await DashboardTraffic.start();
  }, 120_000);
  afterAll(async () => {
    await traffic?.stop();
  });

  describeRuns(peer, () => traffic);

  peer('a range that holds all runs: each backend as its own run says', async () => {
    for (const backend of BACKENDS) {
      const { run: said } = traffic.measured[backend];
      for (const [table, column, value] of [
        ['Per frame received, over the time range', 'Copies', said.perFrame['copies']],
        ['Per frame received, over the time range', 'Interrupts', said.perFrame['interrupts']],
        ['Throughput and latency, over the time range', 'Frames per virtual second', said.virtual.framesPerSecond],
        ['Throughput and latency, over the time range', 'Bits per virtual second', said.virtual.frameBitsPerSecond],
      ] as const) {
        const samples = await traffic.ask(columnQuery('Backends compared', table, column));
        const shown = samples.find(({ labels }) => labels['backend'] === backend && labels['topology'] === 'compare');
        const off = Math.abs((shown?.value ?? Number.NaN) - (value ?? Number.NaN));
        expect(off, `${backend} ${column}: ${shown?.value}, ${value}`).toBeLessThanOrEqual(
          Math.max(0.01 * (value ?? 0), 3 / FRAMES),
        );
      }
    }
  });

  peer('a run that was over before the first scrape is shown all the same', async () => {
    const { prometheus, early } = traffic;
    const shown = async (table: string, column: string): Promise<number> => {
      const samples = await traffic.ask(columnQuery('Backends compared', table, column), {
        topology: 'early',
      });
      expect(samples.length, column).toBe(1);
      return samples[0]?.value ?? Number.NaN;
    };
    for (const [column, key] of [
      ['Exits, kernel', 'exitsKernel'],
      ['Exits, userspace', 'exitsUserspace'],
      ['Kicks', 'kicks'],
      ['Interrupts', 'interrupts'],
      ['Copies', 'copies'],
    ] as const) {
      const said = early.perFrame[key] ?? Number.NaN;
      const value = await shown('Per frame received, over the time range', column);
      // The two neighbours have asked for each other's address, too.
      const few = 10 / early.received;
      expect(Math.abs(value - said), `${column}: ${value}, ${said}`).toBeLessThanOrEqual(Math.max(0.01 * said, few));
    }
    const throughput = await shown('Throughput and latency, over the time range', 'Frames per virtual second');
    expect(throughput / early.virtual.framesPerSecond).toBeCloseTo(1, 2);
    // Booting is no part of what is shown, but can be seen.
    const [boot] = await prometheus.query('sum(ringside_boot_vm_exits{topology="early",handled_by="userspace"})');
    expect(boot?.value).toBeGreaterThan(100);
    const busy = await traffic.ask(panelQuery('Backends compared', 'CPU per context'), {
      topology: 'early',
    });
    for (const { name, busyRatio } of early.contexts) {
      const sample = busy.find(({ labels }) => labels['context'] === name);
      expect(Math.abs((sample?.value ?? -1) - busyRatio), `${name}: ${sample?.value}, ${busyRatio}`).toBeLessThan(0.02);
    }
  });

  peer('jobs of experiments: as many as there were, and what they took', async () => {
    const ask = async (expression: string, wanted: Readonly<Record<string, string>>): Promise<number> => {
      const samples = await traffic.ask(expression);
      const found = samples.filter(({ labels }) => Object.entries(wanted).every(([name, is]) => labels[name] === is));
      expect(found.length, expression).toBe(1);
      return found[0]?.value ?? Number.NaN;
    };
    const table = (column: string): string =>
      columnQuery('Experiments', 'Jobs that ended, over the time range', column);
    expect(await ask(table('Threads here'), { outcome: 'result' })).toBe(EARLY_JOBS + JOBS);
    for (const outcome of ['failed', 'cancelled']) expect(await ask(table('Threads here'), { outcome })).toBe(0);
    expect(await ask(table('NATS workers'), { outcome: 'result' })).toBe(0);
    const metrics = await (await fetch(`${traffic.server.url}/metrics`)).text();
    const told = (name: string): number => Number(new RegExp(`^${name} (.+)$`, 'm').exec(metrics)?.[1]);
    const all = told('ringside_job_seconds_total') / told('ringside_jobs_ended_total\\{outcome="result"\\}');
    // Those before Prometheus looked began with a cold thread.
    const mean = await ask(panelQuery('Experiments', 'Seconds of a job'), {});
    expect(mean).toBeGreaterThan(all / 20);
    expect(mean).toBeLessThan(all * 2);
    expect(await ask(panelQuery('Experiments', 'Threads'), {})).toBe(0);
    expect(await ask(panelQuery('Experiments', 'Jobs by state'), { state: 'waiting' })).toBe(0);
  });

  peer('every panel query returns data, over the range and as a chart would ask it', async () => {
    const { whole, begin_s, end_s, prometheus } = traffic;
    for (const { target, expression, name } of dashboards.flatMap(queriesOf)) {
      const all = await traffic.ask(expression);
      const finite = all.filter(({ value }) => Number.isFinite(value));
      expect(finite.length, `${name} has no data\n${expression}`).toBeGreaterThan(0);
      for (const { value, labels } of finite)
        expect(value, `${name} ${JSON.stringify(labels)}`).toBeGreaterThanOrEqual(0);
      if (target.instant === true) continue;
      const values = { ...ALL, __rate_interval: '4s', __interval: '1s', __range: whole };
      const points = await prometheus.queryRange(substitute(expression, values), begin_s, end_s, 1);
      expect(
        points.some(({ value }) => Number.isFinite(value)),
        `${name} has no points\n${expression}`,
      ).toBe(true);
    }
  });

  peer('what did not occur is shown as 0, not left out', async () => {
    for (const [page, panel, least] of [
      ['Overview', 'Drops by reason', 10],
      ['Backends compared', 'Drops by reason', 10],
      ['Open vSwitch', 'Drops in the datapath', 3],
      ['Device and queues', 'Drops at taps', 4],
      ['Device and queues', 'Receive queue empty', 12],
    ] as const) {
      const samples = await traffic.ask(panelQuery(page, panel), { topology: 'compare' });
      expect(samples.length, `${page}: ${panel}`).toBeGreaterThanOrEqual(least);
      expect(
        samples.some(({ value }) => value === 0),
        `${page}: ${panel}`,
      ).toBe(true);
    }
  });

  peer('a selection narrows what is shown', async () => {
    for (const { expression, name } of dashboards.flatMap(queriesOf)) {
      if (!expression.includes('$topology')) continue;
      const none = await traffic.ask(expression, { topology: chosen('nowhere') });
      expect(none, name).toEqual([]);
      const one = await traffic.ask(expression, { topology: chosen('compare') });
      expect(one.length, name).toBeGreaterThan(0);
      expect(
        one.filter(({ labels }) => (labels['topology'] ?? 'compare') !== 'compare'),
        name,
      ).toEqual([]);
      if (!expression.includes('$backend')) continue;
      const two = await traffic.ask(expression, { backend: chosen('vhost-net', 'vhost-user') });
      expect(two.length, name).toBeGreaterThan(0);
      expect(
        two.filter(({ labels }) => labels['backend'] === 'virtio-net'),
        name,
      ).toEqual([]);
    }
    for (const { expression, name } of queriesOf(dashboard('Device and queues'))) {
      if (!expression.includes('$guest')) continue;
      const some = await traffic.ask(expression, { guest: chosen('vhost-net-b') });
      expect(some.length, name).toBeGreaterThan(0);
      expect(
        some.filter(({ labels }) => (labels['guest'] ?? 'vhost-net-b') !== 'vhost-net-b'),
        name,
      ).toEqual([]);
    }
  });

  peer('every variable has the values that there are', async () => {
    const expected: Readonly<Record<string, readonly string[]>> = {
      topology: ['compare', 'other-one'],
      backend: ['vhost-net', 'vhost-user', 'virtio-net'],
      guest: BACKENDS.flatMap((backend) => [`${backend}-a`, `${backend}-b`]),
      queue: ['rx0', 'tx0'],
      bridge: ['br0', 'br1'],
      experiment: ['experiment-1'],
      metric: ['/runs/0/virtual/framesPerSecond'],
    };
    for (const page of dashboards) {
      for (const variable of queryVariables(page)) {
        const { selector, label } = labelValuesOf(variable);
        const values = await traffic.prometheus.labelValues(
          label,
          substitute(selector, { ...ALL, topology: 'compare|other-one' }),
        );
        expect(values, `${page.title}: ${variable.name}`).toEqual(
          expect.arrayContaining([...(expected[variable.name] ?? ['unexpected variable'])]),
        );
      }
    }
  });

  peer('what happened is marked', async () => {
    const marks = new Map<string, Sample[]>();
    for (const { name, target } of dashboards[0]?.annotations.list ?? []) {
      const expression = substitute(target?.expr ?? '', { ...ALL, __interval: '2s' });
      marks.set(name, await traffic.prometheus.queryRange(expression, traffic.begin_s, traffic.end_s + 2, 2));
    }
    const total = (name: string): number => (marks.get(name) ?? []).reduce((sum, { value }) => sum + value, 0);
    // Three pings, three floods and the early run, each marked once; and the document that was replaced.
    expect(total('Runs started')).toBe(7);
    expect(total('Runs ended')).toBe(7);
    expect(marks.get('Reconfigurations')?.map(({ labels }) => labels['topology'])).toEqual(['other-one']);
    // Nothing went wrong.
    expect(marks.get('Faults')).toEqual([]);
  });

  peer('the slowest frames are points in the charts of latency, and lead to their journeys', async () => {
    const { whole, begin_s, end_s, prometheus, server } = traffic;
    const marked = dashboards.flatMap(queriesOf).filter(({ target }) => target.exemplar === true);
    expect(marked.map(({ panel }) => panel.title)).toEqual([
      'Latency of a frame',
      'Latency of frames',
      'Latency by hop, 99th percentile',
    ]);
    const { datasources } = parse(readText('grafana/provisioning/datasources/prometheus.yaml')) as {
      datasources: { jsonData: { exemplarTraceIdDestinations?: { name: string; url: string }[] } }[];
    };
    const [link] = datasources[0]?.jsonData.exemplarTraceIdDestinations ?? [];
    for (const { expression, name } of marked) {
      const values = { ...ALL, topology: chosen('early'), __rate_interval: whole, __interval: whole };
      const found = await prometheus.exemplars(substitute(expression, values), begin_s, end_s);
      expect(found.length, name).toBeGreaterThan(0);
      const [labels = {}] = found;
      const url = link?.url.replaceAll('$$', '$').replace('$' + '{__value.raw}', labels[link.name] ?? 'none');
      const path = followed(url ?? '', labels)?.replace(/^\/api\/datasources\/proxy\/uid\/ringside-api/, '');
      const journey = await server.json<{ frame: number }>('GET', path ?? '');
      expect(String(journey.frame), `${name}: ${path}`).toBe(labels['frame']);
    }
  });

  peer('every link leads somewhere', async () => {
    const { server } = traffic;
    const urls = new Map<string, string>();
    for (const page of dashboards) {
      for (const panel of panelsOf(page)) {
        const samples = (await Promise.all(panel.targets.map(({ expr }) => traffic.ask(expr)))).flat();
        for (const { url, title } of panel.fieldConfig.defaults.links ?? []) {
          const filled = samples.map(({ labels }) => followed(url, labels));
          const first = filled.find((each) => each !== null && !each.includes('//'));
          expect(first, `${page.title} / ${panel.title}: ${title} needs a label that no series has`).toBeTruthy();
          urls.set(first ?? '', `${page.title} / ${panel.title}: ${title}`);
        }
      }
    }
    expect(urls.size).toBeGreaterThan(20);
    for (const [path, where] of urls) {
      const response = await fetch(server.url + path);
      await response.body?.cancel();
      expect(response.status, `${where}: ${path}`).toBe(200);
    }
  });
});
