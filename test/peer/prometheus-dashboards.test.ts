/**
 * The whole way a number takes: the real server, traffic on the three backends of the preset `compare`, a real Prometheus
 * that scrapes it, and every query of every dashboard with Grafana's variables filled in. What they show for a run has to be
 * what the run says of itself; links have to lead somewhere.
 */
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { parse } from 'yaml';
import { dashboardFiles } from '../../grafana/build.ts';
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
import { Prometheus, type Sample } from '../tools/prometheus.ts';
import { Ringside } from '../tools/ringside.ts';
import { readText } from '../tools/source.ts';
import { findProgram, requirePeer } from './peers.ts';

const BACKENDS = ['virtio-net', 'vhost-net', 'vhost-user'] as const;
type Backend = (typeof BACKENDS)[number];
const FRAMES = process.env['RINGSIDE_FULL'] === '1' ? 400_000 : 100_000;
/** All of everything, as Grafana fills it in. */
const ALL = { topology: '.+', backend: '.+', guest: '.+', queue: '.+', bridge: '.+' };

interface Run {
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
interface Measured {
  readonly run: Run;
  /** Unix time at which the run had been scraped, and the window up to there in which nothing else happened. */
  readonly at_s: number;
  readonly window: string;
}
const dashboards = [...dashboardFiles().values()].map((text) => JSON.parse(text) as Dashboard);
const dashboard = (title: string): Dashboard => {
  const found = dashboards.find((each) => each.title === title);
  if (found === undefined) throw new Error(`no dashboard ${title}`);
  return found;
};
/** A number in a table: by panel and column. */
function columnQuery(page: string, panel: string, column: string): string {
  const found = dashboard(page).panels.find((each) => each.title === panel);
  const names = found?.transformations?.find((each) => each.id === 'organize')?.options['renameByName'];
  const refId = Object.entries(names ?? {})
    .find(([, name]) => name === column)?.[0]
    .slice(-1);
  const target = found?.targets.find((each) => each.refId === refId);
  if (target === undefined) throw new Error(`no column ${column} in ${panel}`);
  return target.expr;
}
function panelQuery(page: string, panel: string, refId = 'A'): string {
  const found = dashboard(page).panels.find((each) => each.title === panel);
  const target = found?.targets.find((each) => each.refId === refId);
  if (target === undefined) throw new Error(`no query ${refId} in ${panel}`);
  return target.expr;
}

describe.runIf(findProgram('prometheus') !== null || process.env['CI'] === 'true')('dashboards', () => {
  let server: Ringside;
  let prometheus: Prometheus;
  const measured = {} as Record<Backend, Measured>;
  /** A run that was over before Prometheus started. */
  let early: Run;
  /** Unix times around everything. */
  let begin_s = 0;
  let end_s = 0;

  /** Waits until Prometheus has scraped what the idle world now stands at. Returns the time of the sample that says so. */
  async function scraped(): Promise<number> {
    const query = 'ringside_virtual_time_seconds{topology="compare"}';
    const text = await (await fetch(`${server.url}/metrics`)).text();
    const now = Number(/^ringside_virtual_time_seconds\{topology="compare"\} (.+)$/m.exec(text)?.[1]);
    await prometheus.until(query, (samples) => samples[0]?.value === now);
    return (await prometheus.query(`timestamp(${query})`))[0]?.value ?? Number.NaN;
  }
  async function run(topology: string, body: Readonly<Record<string, unknown>>): Promise<Run> {
    const { id } = await server.json<Run>('POST', `/v1/topologies/${topology}/traffic`, body);
    const ended = await server.json<Run>('GET', `/v1/topologies/${topology}/traffic/${id}?wait=60s`);
    expect(ended, JSON.stringify(ended)).toMatchObject({ state: 'SUCCEEDED' });
    return ended;
  }
  /** The answer to an instant query, at the end of a window that Grafana would call its range. */
  const ask = (expression: string, window: string, at_s: number, values = {}): Promise<Sample[]> =>
    prometheus.query(
      substitute(expression, { ...ALL, __rate_interval: window, __range: window, __interval: window, ...values }),
      at_s,
    );

  beforeAll(async () => {
    server = await Ringside.start();
    const compare = await server.json<object>('GET', '/v1/presets/compare');
    await server.json('PUT', '/v1/topologies/compare', compare);
    const other = await server.json<object>('GET', '/v1/presets/vhost-net');
    await server.json('PUT', '/v1/topologies/other-one', other);
    // As somebody does who boots a topology and sends at once: Prometheus has not come by yet.
    await server.json('PUT', '/v1/topologies/early', other);
    early = await run('early', { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 20_000, rate: 'max' });
    begin_s = Date.now() / 1000 - 1;
    prometheus = await Prometheus.start(`127.0.0.1:${server.port}`);
    await scraped();
    // Neighbours are known before anything is measured: a run's own account leaves ARP out.
    for (const backend of BACKENDS) {
      await run('compare', { kind: 'ping', from: `${backend}-a/net0`, to: `${backend}-b/net0`, count: 1 });
    }
    for (const backend of BACKENDS) {
      const before_s = await scraped();
      const ended = await run('compare', {
        kind: 'udp',
        from: `${backend}-a/net0`,
        to: `${backend}-b/net0`,
        frameSize: backend === 'vhost-user' ? 512 : 64,
        count: FRAMES,
        rate: 'max',
      });
      const at_s = await scraped();
      measured[backend] = { run: ended, at_s, window: `${Math.round(1000 * (at_s - before_s + 0.5))}ms` };
    }
    // A document that is replaced, for the marks of reconfigurations.
    await server.json('PUT', '/v1/topologies/other-one', { ...other, seed: 2 });
    await prometheus.until('changes(ringside_reconfigurations_total[30s])', (samples) =>
      samples.some(({ value }) => value > 0),
    );
    end_s = await scraped();
  }, 120_000);
  afterAll(async () => {
    await prometheus?.stop();
    await server?.stop();
  });
  const peer = requirePeer('prometheus');

  describe.each(BACKENDS)('a run on %s: what is shown is what the run says, within 1 %', (backend) => {
    /** Within 1 %, or a few events where they are few. */
    function near(shown: number, said: number, frames: number, what: string): void {
      expect(Math.abs(shown - said), `${what}: shown ${shown}, the run says ${said}`).toBeLessThanOrEqual(
        Math.max(0.01 * said, 3 / frames),
      );
    }
    const of = async (expression: string, more: Readonly<Record<string, string>> = {}): Promise<number> => {
      const { window, at_s } = measured[backend];
      const samples = await ask(expression, window, at_s, { topology: 'compare' });
      const wanted = samples.filter(({ labels }) =>
        Object.entries({ backend, ...more }).every(([name, value]) => labels[name] === value),
      );
      expect(wanted.length, `no series for ${backend}\n${expression}`).toBeGreaterThan(0);
      return wanted.reduce((sum, { value }) => sum + value, 0);
    };
    const PAGE = 'Backends compared';

    peer('per frame', async () => {
      const { run: said } = measured[backend];
      for (const [panel, column, key] of [
        ['Exits per frame, answered in the kernel', 'Exits, kernel', 'exitsKernel'],
        ['Exits per frame, answered in userspace', 'Exits, userspace', 'exitsUserspace'],
        ['Kicks per frame', 'Kicks', 'kicks'],
        ['Suppressed kicks per frame', 'Kicks suppressed', 'kicksSuppressed'],
        ['Interrupts per frame', 'Interrupts', 'interrupts'],
        ['Suppressed interrupts per frame', 'Interrupts suppressed', 'interruptsSuppressed'],
        ['Copies per frame', 'Copies', 'copies'],
        ['System calls per frame', 'System calls', 'syscalls'],
      ] as const) {
        const value = said.perFrame[key] ?? Number.NaN;
        near(await of(panelQuery(PAGE, panel)), value, said.received, panel);
        near(
          await of(columnQuery(PAGE, 'Per frame received, over the time range', column)),
          value,
          said.received,
          column,
        );
      }
      for (const [column, key] of [
        ['Copied bytes', 'copiedBytes'],
        ['Wake-ups', 'wakeups'],
      ] as const) {
        const shown = await of(columnQuery(PAGE, 'Per frame received, over the time range', column));
        near(shown, said.perFrame[key] ?? Number.NaN, said.received, column);
      }
      for (const [reason, exits] of Object.entries(said.exitsByReason)) {
        const panel = 'All exits per frame, by reason and by who handled them';
        near(await of(panelQuery(PAGE, panel), { reason }), exits / said.received, said.received, reason);
      }
    });

    peer('per gigabit', async () => {
      const { run: said } = measured[backend];
      const gigabits = (said.virtual.frameBitsPerSecond * said.virtual.durationSeconds) / 1e9;
      const per = (key: string): number => ((said.perFrame[key] ?? Number.NaN) * said.received) / gigabits;
      for (const [column, value] of [
        ['Exits, kernel', per('exitsKernel')],
        ['Exits, userspace', per('exitsUserspace')],
        ['Kicks', per('kicks')],
        ['Interrupts', per('interrupts')],
        ['Copies', per('copies')],
        ['Copied bytes', per('copiedBytes')],
        ['System calls', per('syscalls')],
      ] as const) {
        const shown = await of(columnQuery(PAGE, 'Per gigabit received, over the time range', column));
        near(shown, value, gigabits, column);
      }
      near(await of(panelQuery(PAGE, 'Copied bytes per gigabit')), per('copiedBytes'), gigabits, 'Copied bytes');
      near(
        await of(panelQuery(PAGE, 'Device exits per gigabit')),
        per('exitsKernel') + per('exitsUserspace'),
        gigabits,
        'Device exits',
      );
    });

    peer('throughput and latency', async () => {
      const { virtual, received } = measured[backend].run;
      const table = 'Throughput and latency, over the time range';
      expect(await of(columnQuery(PAGE, table, 'Frames'))).toBe(received);
      for (const [panel, column, value] of [
        ['Throughput, frames', 'Frames per virtual second', virtual.framesPerSecond],
        ['Throughput, bits', 'Bits per virtual second', virtual.frameBitsPerSecond],
      ] as const) {
        near(await of(panelQuery(PAGE, panel)), value, 1, panel);
        near(await of(columnQuery(PAGE, table, column)), value, 1, column);
      }
      for (const [column, refId] of [
        ['p50', 'A'],
        ['p90', 'B'],
        ['p99', 'C'],
      ] as const) {
        const said = virtual.latencySeconds[column] ?? Number.NaN;
        for (const expression of [
          panelQuery(PAGE, 'Latency of a frame', refId),
          columnQuery(PAGE, table, `Latency ${column}`),
        ]) {
          const shown = await of(expression);
          // Of one bucket, whose bounds are a factor of two apart.
          expect(shown / said, `${column}: shown ${shown}, the run says ${said}`).toBeGreaterThan(0.5);
          expect(shown / said, `${column}: shown ${shown}, the run says ${said}`).toBeLessThan(2);
        }
      }
    });

    peer('queues', async () => {
      const page = 'Device and queues';
      const table = 'Queues, over the time range';
      const { run: said } = measured[backend];
      expect(said.queues.length).toBe(4);
      for (const { guest, queue, kicks, kicksSuppressed, interrupts, interruptsSuppressed } of said.queues) {
        const column = (name: string): Promise<number> => of(columnQuery(page, table, name), { guest, queue });
        near(await column('Kicks'), kicks, 1, `${guest} ${queue} kicks`);
        near(await column('Interrupts'), interrupts, 1, `${guest} ${queue} interrupts`);
        const where = `${guest} ${queue}`;
        const carried = (guest.endsWith('-a') ? 'tx0' : 'rx0') === queue;
        if (carried) near(await column('Frames'), said.received, said.received, where);
        if (kicks + kicksSuppressed > 0) {
          near(await column('Kicks suppressed'), kicksSuppressed / (kicks + kicksSuppressed), said.received, where);
        }
        if (interrupts + interruptsSuppressed > 0) {
          const share = interruptsSuppressed / (interrupts + interruptsSuppressed);
          near(await column('Interrupts suppressed'), share, said.received, where);
        }
        if (carried && kicks > 0) near(await column('Frames per kick'), said.received / kicks, 1, where);
        if (carried && interrupts > 0) near(await column('Frames per interrupt'), said.received / interrupts, 1, where);
      }
    });

    peer('lookups and ports', async () => {
      const page = 'Open vSwitch';
      const { run: said, window, at_s } = measured[backend];
      const bridge = backend === 'vhost-user' ? 'br1' : 'br0';
      const shown = async (expression: string, wanted: Readonly<Record<string, string>>): Promise<number> => {
        const samples = await ask(expression, window, at_s, { topology: 'compare' });
        const found = samples.filter(({ labels }) => Object.entries(wanted).every(([key, is]) => labels[key] === is));
        expect(found.length, `${JSON.stringify(wanted)}\n${expression}`).toBeGreaterThan(0);
        return found.reduce((sum, { value }) => sum + value, 0);
      };
      const column = (name: string): Promise<number> =>
        shown(columnQuery(page, 'Bridges, over the time range', name), { bridge });
      // Each frame is looked up once, and found or not.
      near(await column('Lookups'), FRAMES, 1, 'lookups');
      const [hit, emc, megaflow, miss] = [
        await column('Hit'),
        await column('EMC hit'),
        await column('Megaflow hit'),
        await column('Miss'),
      ];
      expect(hit + emc + megaflow + miss).toBeCloseTo(1, 6);
      expect(bridge === 'br0' ? hit : emc + megaflow).toBeGreaterThan(0.99);
      near(await shown(panelQuery(page, 'Hit ratio'), { bridge }), 1 - miss, FRAMES, 'hit ratio');
      // Virtual time is the run's, but for what passes before its first frame and after its last one.
      const seconds = said.virtual.durationSeconds;
      for (const [panel, end] of [
        ['Port ingress, frames', 'a'],
        ['Port egress, frames', 'b'],
      ] as const) {
        const perSecond = await shown(panelQuery(page, panel), { place: `${bridge}/${backend}-${end}.net0` });
        near(perSecond, FRAMES / seconds, 1, panel);
      }
      if (backend !== 'vhost-user') return;
      const pmd = said.contexts.find(({ name }) => name.startsWith('pmd-'));
      const busy = await shown(panelQuery(page, 'PMD busy and idle'), { context: pmd?.name ?? 'no PMD' });
      expect(Math.abs(busy - (pmd?.busyRatio ?? Number.NaN))).toBeLessThan(0.01);
      const idle = await shown(panelQuery(page, 'PMD busy and idle', 'B'), { context: pmd?.name ?? 'no PMD' });
      expect(busy + idle).toBeCloseTo(1, 9);
      const perPacket = await shown(panelQuery(page, 'PMD time per packet'), {});
      expect(perPacket / (((pmd?.busyRatio ?? Number.NaN) * seconds) / FRAMES)).toBeCloseTo(1, 1);
    });

    peer('overview', async () => {
      const { run: said, window, at_s } = measured[backend];
      const shown = async (panel: string, refId = 'A'): Promise<Sample[]> =>
        ask(panelQuery('Overview', panel, refId), window, at_s, { topology: 'compare' });
      const all = (samples: Sample[]): number => samples.reduce((sum, { value }) => sum + value, 0);
      const exits = Object.values(said.exitsByReason).reduce((sum, n) => sum + n, 0);
      near(all(await shown('Exits per frame')), exits / said.received, said.received, 'exits');
      near(all(await shown('Throughput, frames', 'A')), said.virtual.framesPerSecond, 1, 'sent');
      near(all(await shown('Throughput, frames', 'B')), said.virtual.framesPerSecond, 1, 'received');
      near(all(await shown('Throughput, bits')), said.virtual.frameBitsPerSecond, 1, 'bits');
      expect(all(await shown('Where frames ended', 'A'))).toBe(1);
      expect((await shown('Conservation')).map(({ value }) => value)).toEqual([1]);
      expect((await shown('Frames in flight')).map(({ value }) => value)).toEqual([0]);
      expect((await shown('Runs in progress')).map(({ value }) => value)).toEqual([0]);
    });

    peer('CPU', async () => {
      const { run: said, window, at_s } = measured[backend];
      const shown = await ask(panelQuery(PAGE, 'CPU per context'), window, at_s, { topology: 'compare' });
      expect(said.contexts.length).toBeGreaterThan(1);
      for (const { name, busyRatio } of said.contexts) {
        const sample = shown.find(({ labels }) => labels['context'] === name);
        expect(Math.abs((sample?.value ?? -1) - busyRatio), `${name}: ${sample?.value}, ${busyRatio}`).toBeLessThan(
          0.01,
        );
      }
      const busy = said.contexts.reduce((sum, { busyRatio }) => sum + busyRatio, 0) * said.virtual.durationSeconds;
      const perFrame = await of(panelQuery(PAGE, 'CPU time per frame'));
      expect(perFrame / (busy / said.received)).toBeGreaterThan(0.99);
      expect(perFrame / (busy / said.received)).toBeLessThan(1.01);
    });
  });

  peer('a range that holds all runs: each backend as its own run says', async () => {
    const window = `${Math.round(1000 * (end_s - begin_s))}ms`;
    for (const backend of BACKENDS) {
      const { run: said } = measured[backend];
      for (const [table, column, value] of [
        ['Per frame received, over the time range', 'Copies', said.perFrame['copies']],
        ['Per frame received, over the time range', 'Interrupts', said.perFrame['interrupts']],
        ['Throughput and latency, over the time range', 'Frames per virtual second', said.virtual.framesPerSecond],
        ['Throughput and latency, over the time range', 'Bits per virtual second', said.virtual.frameBitsPerSecond],
      ] as const) {
        const samples = await ask(columnQuery('Backends compared', table, column), window, end_s);
        const shown = samples.find(({ labels }) => labels['backend'] === backend && labels['topology'] === 'compare');
        const off = Math.abs((shown?.value ?? Number.NaN) - (value ?? Number.NaN));
        expect(off, `${backend} ${column}: ${shown?.value}, ${value}`).toBeLessThanOrEqual(
          Math.max(0.01 * (value ?? 0), 3 / FRAMES),
        );
      }
    }
  });

  peer('a run that was over before the first scrape is shown all the same', async () => {
    const window = `${Math.round(1000 * (end_s - begin_s))}ms`;
    const shown = async (table: string, column: string): Promise<number> => {
      const samples = await ask(columnQuery('Backends compared', table, column), window, end_s, { topology: 'early' });
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
    const busy = await ask(panelQuery('Backends compared', 'CPU per context'), window, end_s, { topology: 'early' });
    for (const { name, busyRatio } of early.contexts) {
      const sample = busy.find(({ labels }) => labels['context'] === name);
      expect(Math.abs((sample?.value ?? -1) - busyRatio), `${name}: ${sample?.value}, ${busyRatio}`).toBeLessThan(0.02);
    }
  });

  peer('every panel query returns data, over the range and as a chart would ask it', async () => {
    const window = `${Math.round(1000 * (end_s - begin_s))}ms`;
    for (const { target, expression, name } of dashboards.flatMap(queriesOf)) {
      const whole = await ask(expression, window, end_s);
      const finite = whole.filter(({ value }) => Number.isFinite(value));
      expect(finite.length, `${name} has no data\n${expression}`).toBeGreaterThan(0);
      for (const { value, labels } of finite)
        expect(value, `${name} ${JSON.stringify(labels)}`).toBeGreaterThanOrEqual(0);
      if (target.instant === true) continue;
      const values = { ...ALL, __rate_interval: '4s', __interval: '1s', __range: window };
      const points = await prometheus.queryRange(substitute(expression, values), begin_s, end_s, 1);
      expect(
        points.some(({ value }) => Number.isFinite(value)),
        `${name} has no points\n${expression}`,
      ).toBe(true);
    }
  });

  peer('what did not occur is shown as 0, not left out', async () => {
    const window = `${Math.round(1000 * (end_s - begin_s))}ms`;
    for (const [page, panel, least] of [
      ['Overview', 'Drops by reason', 10],
      ['Backends compared', 'Drops by reason', 10],
      ['Open vSwitch', 'Drops in the datapath', 3],
      ['Device and queues', 'Drops at taps', 4],
      ['Device and queues', 'Receive queue empty', 12],
    ] as const) {
      const samples = await ask(panelQuery(page, panel), window, end_s, { topology: 'compare' });
      expect(samples.length, `${page}: ${panel}`).toBeGreaterThanOrEqual(least);
      expect(
        samples.some(({ value }) => value === 0),
        `${page}: ${panel}`,
      ).toBe(true);
    }
  });

  peer('a selection narrows what is shown', async () => {
    const window = `${Math.round(1000 * (end_s - begin_s))}ms`;
    for (const { expression, name } of dashboards.flatMap(queriesOf)) {
      if (!expression.includes('$topology')) continue;
      const none = await ask(expression, window, end_s, { topology: chosen('nowhere') });
      expect(none, name).toEqual([]);
      const one = await ask(expression, window, end_s, { topology: chosen('compare') });
      expect(
        one.filter(({ labels }) => (labels['topology'] ?? 'compare') !== 'compare'),
        name,
      ).toEqual([]);
      if (!expression.includes('$backend')) continue;
      const two = await ask(expression, window, end_s, { backend: chosen('vhost-net', 'vhost-user') });
      expect(two.length, name).toBeGreaterThan(0);
      expect(
        two.filter(({ labels }) => labels['backend'] === 'virtio-net'),
        name,
      ).toEqual([]);
    }
    for (const { expression, name } of queriesOf(dashboard('Device and queues'))) {
      if (!expression.includes('$guest')) continue;
      const some = await ask(expression, window, end_s, { guest: chosen('vhost-net-b') });
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
    };
    for (const page of dashboards) {
      for (const variable of queryVariables(page)) {
        const { selector, label } = labelValuesOf(variable);
        const values = await prometheus.labelValues(
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
      marks.set(name, await prometheus.queryRange(expression, begin_s, end_s + 2, 2));
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
    const window = `${Math.round(1000 * (end_s - begin_s))}ms`;
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
      const values = { ...ALL, topology: chosen('early'), __rate_interval: window, __interval: window };
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
    const window = `${Math.round(1000 * (end_s - begin_s))}ms`;
    const urls = new Map<string, string>();
    for (const page of dashboards) {
      for (const panel of panelsOf(page)) {
        const samples = (await Promise.all(panel.targets.map(({ expr }) => ask(expr, window, end_s)))).flat();
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
