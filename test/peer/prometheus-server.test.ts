/**
 * The whole way a number takes: the real server, traffic on the three backends of the preset `compare`, a real Prometheus
 * that scrapes it, and every query of every dashboard.
 */
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { dashboardFiles } from '../../grafana/build.ts';
import { type Dashboard, expressions, substitute } from '../tools/dashboards.ts';
import { Prometheus, type Sample } from '../tools/prometheus.ts';
import { Ringside } from '../tools/ringside.ts';
import { findProgram, requirePeer } from './peers.ts';

const BACKENDS = ['virtio-net', 'vhost-net', 'vhost-user'] as const;
const FRAMES = 20_000;
const VALUES = { topology: 'compare', backend: '.+', __rate_interval: '1m', __range: '1m' };

interface Run {
  readonly id: string;
  readonly state: string;
  readonly sent: number;
  readonly received: number;
}
const dashboards = [...dashboardFiles().values()].map((text) => JSON.parse(text) as Dashboard);

describe('metrics of a server with traffic on three backends', () => {
  let server: Ringside;
  let prometheus: Prometheus | null = null;
  const received: Record<string, number> = {};

  beforeAll(async () => {
    server = await Ringside.start();
    await server.json('PUT', '/v1/topologies/compare', await server.json('GET', '/v1/presets/compare'));
    if (findProgram('prometheus') !== null) {
      prometheus = await Prometheus.start(`127.0.0.1:${server.port}`);
      // The zeros have to be seen before the traffic, or the increase is lost.
      await prometheus.until(
        'count_over_time(ringside_virtual_time_seconds{topology="compare"}[1m])',
        (samples) => (samples[0]?.value ?? 0) >= 2,
      );
    }
    const runs: [backend: string, run: Run][] = [];
    for (const backend of BACKENDS) {
      const body = {
        kind: 'udp',
        from: `${backend}-a/net0`,
        to: `${backend}-b/net0`,
        frameSize: 64,
        count: FRAMES,
        rate: 'max',
      };
      runs.push([backend, await server.json<Run>('POST', '/v1/topologies/compare/traffic', body)]);
    }
    for (const [backend, { id }] of runs) {
      const run = await server.json<Run>('GET', `/v1/topologies/compare/traffic/${id}?wait=30s`);
      expect(run, `${backend}: ${JSON.stringify(run)}`).toMatchObject({ state: 'SUCCEEDED', sent: FRAMES });
      received[backend] = run.received;
    }
  });
  afterAll(async () => {
    await prometheus?.stop();
    await server?.stop();
  });

  requirePeer('promtool')('promtool has nothing to say about /metrics', async () => {
    const text = await (await fetch(`${server.url}/metrics`)).text();
    expect(text).toMatch(/^ringside_virtual_time_seconds\{.*topology="compare"/m);
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
    expect(`${stdout}${stderr}`).toBe('');
    expect(status).toBe(0);
  });

  requirePeer('prometheus')('every panel query gives data, and plausible numbers', async () => {
    if (prometheus === null) throw new Error('Prometheus was not started');
    const sum = 'sum by (backend) (ringside_received_frames_total{topology="compare"})';
    const counted = await prometheus.until(sum, (samples) =>
      BACKENDS.every((b) => samples.some((s) => s.labels['backend'] === b && s.value >= (received[b] ?? 0))),
    );
    expect(counted.map((sample) => sample.labels['backend']).sort()).toEqual([...BACKENDS].sort());

    const answers = new Map<string, Sample[]>();
    for (const { panel, refId, expression } of dashboards.flatMap(expressions)) {
      const samples = await prometheus.query(substitute(expression, VALUES));
      const name = panel.targets.length > 1 ? `${panel.title} ${refId}` : panel.title;
      expect(samples.length, `${name} has no data\n${expression}`).toBeGreaterThan(0);
      for (const { value, labels } of samples) {
        expect(Number.isFinite(value) && value >= 0, `${name} ${JSON.stringify(labels)} is ${value}`).toBe(true);
      }
      answers.set(name, samples);
    }
    const of = (panel: string, backend: string): number => {
      const sample = answers.get(panel)?.find((s) => s.labels['backend'] === backend);
      if (sample === undefined) throw new Error(`${panel}: no series for ${backend}`);
      return sample.value;
    };

    // Who answers a kick; frames of ARP count too, hence the margins.
    for (const kind of ['kernel', 'userspace']) {
      expect(of(`Exits per frame, answered in ${kind === 'kernel' ? 'the kernel' : kind}`, 'vhost-user')).toBe(0);
    }
    expect(of('Exits per frame, answered in the kernel', 'virtio-net')).toBeGreaterThan(0);
    expect(of('Exits per frame, answered in the kernel', 'vhost-net')).toBeGreaterThan(0);
    expect(of('Exits per frame, answered in userspace', 'vhost-net')).toBeLessThan(0.01);
    expect(of('Kicks per frame', 'vhost-user')).toBe(0);
    expect(of('Suppressed kicks per frame', 'vhost-user')).toBeGreaterThan(0);
    for (const backend of ['virtio-net', 'vhost-net']) {
      // A kick is an exit, always.
      const exits =
        of('Exits per frame, answered in the kernel', backend) + of('Exits per frame, answered in userspace', backend);
      expect(exits, backend).toBeGreaterThan(0.9 * of('Kicks per frame', backend));
      expect(of('Interrupts per frame', backend), backend).toBeGreaterThan(0);
    }

    // Every frame takes the copies of its backend, also one that is dropped at the tap: hence sent, not received.
    for (const [backend, copies] of [
      ['virtio-net', 3],
      ['vhost-net', 2],
      ['vhost-user', 2],
    ] as const) {
      const measured = of('Copies per frame', backend);
      expect(measured, `copies of ${backend}`).toBeGreaterThan(0.97 * copies);
      const lost = FRAMES / (received[backend] || 1);
      expect(measured, `copies of ${backend}`).toBeLessThan(1.03 * (copies - 1 + lost) + 0.05);
      expect(of('Copied bytes per frame', backend)).toBeGreaterThan(60 * 0.95 * copies);
      expect(of('Throughput, bits', backend) / of('Throughput, frames', backend)).toBeCloseTo(8 * 60, -1);
      expect(of('Throughput, frames', backend), backend).toBeGreaterThan(10_000);
    }
    for (const { value, labels } of answers.get('CPU per context') ?? []) {
      expect(value, JSON.stringify(labels)).toBeLessThanOrEqual(1.05);
    }
    const kinds = new Set(answers.get('CPU per context')?.map((sample) => sample.labels['kind']));
    for (const kind of ['vcpu', 'qemu', 'vhost', 'pmd']) expect(kinds).toContain(kind);
  });
});
