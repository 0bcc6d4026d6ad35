/**
 * The dashboards' queries against a real Prometheus that scrapes numbers chosen here: each query must give exactly what
 * its panel promises. prometheus-server.test.ts asks the same queries of the real server.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'vitest';
import { dashboardFiles } from '../../grafana/build.ts';
import { type Dashboard, expressions, substitute } from '../tools/dashboards.ts';
import { Prometheus, type Sample } from '../tools/prometheus.ts';
import { requirePeer } from './peers.ts';

const dashboards = [...dashboardFiles().values()].map((text) => JSON.parse(text) as Dashboard);
const VALUES = { topology: '.+', backend: '.+', __rate_interval: '1m', __range: '1m' };

/** What one run of 1000 frames did to the counters, by backend: made up, all different. */
interface Costs {
  readonly kernel: number;
  readonly userspace: number;
  readonly kicks: number;
  readonly kicksSuppressed: number;
  readonly interrupts: number;
  readonly interruptsSuppressed: number;
  readonly copies: number;
}
const FRAMES = 1000;
const BYTES = 60;
const VIRTUAL_SECONDS = 0.002;
const BUSY_SECONDS = 0.0015;
const DROPS = 7;
const COSTS: Readonly<Record<string, Costs>> = {
  'virtio-net': {
    kernel: 0,
    userspace: 900,
    kicks: 900,
    kicksSuppressed: 100,
    interrupts: 800,
    interruptsSuppressed: 200,
    copies: 3000,
  },
  'vhost-net': {
    kernel: 500,
    userspace: 0,
    kicks: 500,
    kicksSuppressed: 500,
    interrupts: 400,
    interruptsSuppressed: 600,
    copies: 2000,
  },
  'vhost-user': {
    kernel: 0,
    userspace: 0,
    kicks: 0,
    kicksSuppressed: 1000,
    interrupts: 0,
    interruptsSuppressed: 1000,
    copies: 2000,
  },
};

/** The metrics of a topology t after `runs` runs. */
function exposition(runs: number): string {
  const lines = [`ringside_virtual_time_seconds{topology="t"} ${0.00001 + runs * VIRTUAL_SECONDS}`];
  const put = (name: string, labels: string, perRun: number): void => {
    lines.push(`${name}{topology="t",${labels}} ${runs * perRun}`);
  };
  for (const [backend, costs] of Object.entries(COSTS)) {
    const nic = `guest="${backend}-b",nic="net0",backend="${backend}"`;
    put('ringside_received_frames_total', nic, FRAMES);
    put('ringside_received_bytes_total', nic, FRAMES * BYTES);
    put('ringside_copies_total', nic, costs.copies);
    put('ringside_copied_bytes_total', nic, costs.copies * BYTES);
    for (const [queue, share] of [
      ['tx0', 0.75],
      ['rx0', 0.25],
    ] as const) {
      put('ringside_kicks_total', `${nic},queue="${queue}"`, share * costs.kicks);
      put('ringside_kicks_suppressed_total', `${nic},queue="${queue}"`, share * costs.kicksSuppressed);
      put('ringside_interrupts_total', `${nic},queue="${queue}"`, share * costs.interrupts);
      put('ringside_interrupts_suppressed_total', `${nic},queue="${queue}"`, share * costs.interruptsSuppressed);
    }
    const vcpu = `guest="${backend}-b",vcpu="0",backend="${backend}"`;
    put('ringside_vm_exits_total', `${vcpu},reason="EPT_MISCONFIG",handled_by="kernel"`, costs.kernel);
    put('ringside_vm_exits_total', `${vcpu},reason="EPT_MISCONFIG",handled_by="userspace"`, costs.userspace);
    put('ringside_vm_exits_total', `${vcpu},reason="HLT",handled_by="kernel"`, 30);
    put(
      'ringside_context_busy_seconds_total',
      `context="${backend}-b/vcpu0",kind="vcpu",core="1",backend="${backend}"`,
      BUSY_SECONDS,
    );
  }
  put('ringside_context_busy_seconds_total', 'context="softirq-0",kind="softirq",core="0",backend=""', BUSY_SECONDS);
  put('ringside_frames_dropped_total', 'reason="tap.queue_full"', DROPS);
  put('ringside_frames_dropped_total', 'reason="link.loss"', 0);
  return `${lines.join('\n')}\n`;
}

const perFrame =
  (pick: (costs: Costs) => number) =>
  (sample: Sample): number =>
    pick(COSTS[sample.labels['backend'] ?? ''] as Costs) / FRAMES;

/** By panel title, and by refId for the summary: what each sample must be. */
const EXPECTED: Readonly<Record<string, (sample: Sample) => number>> = {
  'Throughput, frames': () => FRAMES / VIRTUAL_SECONDS,
  'Throughput, bits': () => (8 * FRAMES * BYTES) / VIRTUAL_SECONDS,
  'Exits per frame, answered in the kernel': perFrame((c) => c.kernel),
  'Exits per frame, answered in userspace': perFrame((c) => c.userspace),
  'Kicks per frame': perFrame((c) => c.kicks),
  'Suppressed kicks per frame': perFrame((c) => c.kicksSuppressed),
  'Interrupts per frame': perFrame((c) => c.interrupts),
  'Suppressed interrupts per frame': perFrame((c) => c.interruptsSuppressed),
  'All exits per frame, by reason': (sample) =>
    sample.labels['reason'] === 'HLT' ? 30 / FRAMES : perFrame((c) => c.kernel + c.userspace)(sample),
  'Copies per frame': perFrame((c) => c.copies),
  'Copied bytes per frame': perFrame((c) => c.copies * BYTES),
  'CPU per context': () => BUSY_SECONDS / VIRTUAL_SECONDS,
  'Drops by reason': (sample) => (sample.labels['reason'] === 'link.loss' ? 0 : DROPS / VIRTUAL_SECONDS),
  'Per frame received, over the time range A': perFrame((c) => c.kernel),
  'Per frame received, over the time range B': perFrame((c) => c.userspace),
  'Per frame received, over the time range C': perFrame((c) => c.kicks),
  'Per frame received, over the time range D': perFrame((c) => c.kicksSuppressed),
  'Per frame received, over the time range E': perFrame((c) => c.interrupts),
  'Per frame received, over the time range F': perFrame((c) => c.copies),
  'Per frame received, over the time range G': () => FRAMES / VIRTUAL_SECONDS,
};

requirePeer('prometheus')('every panel query gives what its panel promises', async () => {
  let runs = 0;
  const target = await new Promise<Server>((resolve) => {
    const server = createServer((_request, response) => {
      response.setHeader('content-type', 'text/plain; version=0.0.4');
      response.end(exposition(runs));
    });
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
  const prometheus = await Prometheus.start(`127.0.0.1:${(target.address() as AddressInfo).port}`);
  try {
    const frames = 'ringside_received_frames_total';
    await prometheus.until(
      `count_over_time(${frames}[1m])`,
      (samples) => samples.length === 3 && samples.every((s) => s.value >= 2),
    );
    runs = 3;
    await prometheus.until(frames, (samples) => samples.every((s) => s.value === 3 * FRAMES));

    for (const { panel, refId, expression } of dashboards.flatMap(expressions)) {
      const expected = EXPECTED[panel.title] ?? EXPECTED[`${panel.title} ${refId}`];
      expect(expected, `no expectation for '${panel.title}' ${refId}`).toBeDefined();
      const samples = await prometheus.query(substitute(expression, VALUES));
      expect(samples.length, panel.title).toBeGreaterThanOrEqual(panel.title.startsWith('Drops') ? 2 : 3);
      for (const sample of samples) {
        const wanted = expected?.(sample) ?? Number.NaN;
        // Virtual time has a head start (the boot), so its increase is extrapolated a little further.
        expect(sample.value, `${panel.title} ${JSON.stringify(sample.labels)}`).toBeGreaterThanOrEqual(wanted * 0.98);
        expect(sample.value, `${panel.title} ${JSON.stringify(sample.labels)}`).toBeLessThanOrEqual(wanted * 1.02);
      }
    }

    // A selection narrows every panel that has backends.
    for (const { panel, expression } of dashboards.flatMap(expressions)) {
      const samples = await prometheus.query(substitute(expression, { ...VALUES, backend: '(vhost-net|vhost-user)' }));
      expect(
        samples.some((sample) => sample.labels['backend'] === 'virtio-net'),
        panel.title,
      ).toBe(false);
      const none = await prometheus.query(substitute(expression, { ...VALUES, topology: 'other' }));
      expect(none, panel.title).toEqual([]);
    }
  } finally {
    await prometheus.stop();
    target.close();
  }
});
