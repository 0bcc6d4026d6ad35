/**
 * Where figures come from: a run's result, the metrics, the ports and caches of the bridge are counted again here from the
 * recorded events of the same run, by a reader that shares no code with them.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunResult } from '../../src/lab/protocol.ts';
import { Ringside } from '../tools/ringside.ts';
import type { FlowEvent } from './flow.ts';

let server: Ringside;
beforeAll(async () => {
  server = await Ringside.start();
});
afterAll(async () => await server.stop());

async function eventsOf(topology: string): Promise<FlowEvent[]> {
  const text = await (await fetch(`${server.url}/v1/topologies/${topology}/events`)).text();
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as FlowEvent);
}
async function run(topology: string, traffic: object): Promise<RunResult> {
  const base = `/v1/topologies/${topology}/traffic`;
  const { id } = await server.json<{ id: string }>('POST', base, traffic);
  const result = await server.json<RunResult>('GET', `${base}/${id}?wait=60s`);
  expect(result.state).toBe('SUCCEEDED');
  return result;
}
async function boot(topology: string, preset: string): Promise<void> {
  await fetch(`${server.url}/v1/topologies/${topology}`, { method: 'DELETE' });
  await server.json('PUT', `/v1/topologies/${topology}`, await server.json('GET', `/v1/presets/${preset}`));
}
async function untilIdle(topology: string): Promise<void> {
  while (!(await server.json<{ idle: boolean }>('GET', `/v1/topologies/${topology}/clock`)).idle);
}
const count = (events: readonly FlowEvent[], ...names: string[]): number =>
  events.reduce((n, e) => n + (names.includes(e.event) ? 1 : 0), 0);

/** Where the frames of a run start and where they count as received. */
const ends = [
  ['virtio-net', 'a/net0', 'b/net0', 'b/net0/rx0'],
  ['vhost-net', 'a/net0', 'b/net0', 'b/net0/rx0'],
  ['vhost-user', 'a/net0', 'b/net0', 'b/net0/rx0'],
  ['pvp', 'eth0', 'eth0', 'eth0/wire'],
] as const;
const loads = [
  { frameSize: 64, count: 300, rate: 2_000 },
  { frameSize: 256, count: 2_000, rate: 150_000 },
  { frameSize: 1518, count: 3_000, rate: 'max' },
];

describe.each(ends)('%s', (preset, from, to, end) => {
  test.each(loads)('the result of a run: %o', async (load) => {
    await boot('figures', preset);
    // What the first frame of all has to wait for (ARP, upcalls) is no part of it.
    await run('figures', { kind: 'udp', from, to, count: 2, rate: 1000 });
    await untilIdle('figures');
    const result = await run('figures', { kind: 'udp', from, to, ...load });
    await untilIdle('figures');
    const events = await eventsOf('figures');

    const { first, last } = result.frames;
    const born = new Map<number, number>();
    const arrived = new Map<number, number>();
    let dropped = 0;
    for (const e of events) {
      if (e.frame === null || e.frame < first || e.frame > last) continue;
      if (e.event === 'packet.born') born.set(e.frame, e.ns);
      if (e.event === 'virtq.used' || e.event === 'wire.deliver') if (e.place === end) arrived.set(e.frame, e.ns);
      if (e.event in result.dropped) dropped++;
    }
    expect(result.sent).toBe(born.size);
    expect(result.received).toBe(arrived.size);
    expect(result.received + dropped).toBe(result.sent);
    expect(Object.values(result.dropped).reduce((n, d) => n + d, 0)).toBe(dropped);

    const begin = Math.min(...born.values());
    const until = Math.max(...arrived.values());
    const seconds = (until - begin) / 1e9;
    const { virtual } = result;
    expect(virtual.durationSeconds).toBeCloseTo(seconds, 9);
    expect(virtual.framesPerSecond).toBeCloseTo(arrived.size / seconds, 3);
    expect(virtual.frameBitsPerSecond).toBeCloseTo((8 * load.frameSize * arrived.size) / seconds, 0);
    expect(virtual.lineBitsPerSecond).toBeCloseTo((8 * (load.frameSize + 20) * arrived.size) / seconds, 0);

    const latencies = [...arrived].map(([frame, ns]) => ns - born.get(frame)!).sort((x, y) => x - y);
    const exact = (percent: number): number => latencies[Math.ceil((latencies.length * percent) / 100) - 1]!;
    for (const [name, percent] of [
      ['p50', 50],
      ['p90', 90],
      ['p99', 99],
    ] as const) {
      // Kept in classes: never too small, at most a few per cent too large.
      const shown = virtual.latencySeconds[name] * 1e9;
      expect(shown, name).toBeGreaterThanOrEqual(exact(percent) - 1);
      expect(shown, name).toBeLessThanOrEqual(Math.min(exact(percent) * 1.04 + 1, exact(100) + 1));
    }
    expect(virtual.latencySeconds.max * 1e9).toBeCloseTo(exact(100), 3);

    // From the first sending to the last delivery.
    const during = events.filter((e) => e.ns >= begin && e.ns <= until);
    const per = (...names: string[]): number => count(during, ...names) / arrived.size;
    const own = result.perFrame;
    // What happens in the last instant may lie on either side of the end.
    const slack = 5 / arrived.size;
    const near = (shown: number, counted: number, what: string): void => {
      expect(Math.abs(shown - counted), `${what}: shown ${shown}, counted ${counted}`).toBeLessThanOrEqual(slack);
    };
    near(own.kicks, per('virtq.kick'), 'kicks');
    near(own.kicksSuppressed, per('virtq.kick_suppressed'), 'kicksSuppressed');
    near(own.interrupts, per('virtq.interrupt'), 'interrupts');
    near(own.interruptsSuppressed, per('virtq.interrupt_suppressed'), 'interruptsSuppressed');
    near(own.exitsKernel, per('kvm.exit_ept_misconfig_kernel'), 'exitsKernel');
    near(own.exitsUserspace, per('kvm.exit_ept_misconfig_user', 'kvm.exit_io_user'), 'exitsUserspace');
    near(own.copies, per('packet.copy'), 'copies');
    near(own.syscalls, per('sched.syscall'), 'syscalls');
    near(own.wakeups, per('sched.wake', 'kvm.entry'), 'wakeups');
    near(own.dmaTransfers, per('packet.dma'), 'dmaTransfers');
    expect(Math.abs((result.exitsByReason['HLT'] ?? 0) - count(during, 'kvm.exit_hlt'))).toBeLessThanOrEqual(5);
    for (const context of result.contexts) {
      expect(context.busyRatio, context.name).toBeGreaterThanOrEqual(0);
      expect(context.busyRatio, context.name).toBeLessThanOrEqual(1.001);
    }
  });

  test('counters: metrics, ports and caches of the bridge', async () => {
    await boot('counters', preset);
    await run('counters', { kind: 'udp', from, to, count: 500, rate: 'max', frameSize: 128 });
    if (preset !== 'pvp') await run('counters', { kind: 'ping', from, to, count: 5 });
    await untilIdle('counters');
    const events = await eventsOf('counters');
    const text = await (await fetch(`${server.url}/metrics`)).text();
    const metric = (name: string, ...labels: string[]): number =>
      text
        .split('\n')
        .filter(
          (l) => l.startsWith(`${name}{`) && ['topology="counters"', ...labels].every((label) => l.includes(label)),
        )
        .reduce((n, l) => n + Number(l.slice(l.lastIndexOf(' ') + 1)), 0);
    const at = (place: string, ...names: string[]): number =>
      count(
        events.filter((e) => e.place === place),
        ...names,
      );

    expect(metric('ringside_events_total')).toBe(events.length);
    expect(metric('ringside_frames_injected_total')).toBe(count(events, 'packet.born'));
    expect(metric('ringside_kicks_total')).toBe(count(events, 'virtq.kick'));
    expect(metric('ringside_kicks_suppressed_total')).toBe(count(events, 'virtq.kick_suppressed'));
    expect(metric('ringside_interrupts_total')).toBe(count(events, 'virtq.interrupt'));
    expect(metric('ringside_interrupts_suppressed_total')).toBe(count(events, 'virtq.interrupt_suppressed'));
    expect(metric('ringside_copies_total')).toBe(count(events, 'packet.copy'));
    expect(metric('ringside_copied_bytes_total')).toBe(
      events.reduce((n, e) => n + (e.event === 'packet.copy' ? Number(e['bytes']) : 0), 0),
    );
    expect(metric('ringside_syscalls_total')).toBe(count(events, 'sched.syscall'));
    expect(metric('ringside_context_wakeups_total')).toBe(count(events, 'sched.wake', 'kvm.entry'));
    expect(metric('ringside_vm_exits_total', 'reason="HLT"')).toBe(count(events, 'kvm.exit_hlt'));
    expect(metric('ringside_vm_exits_total', 'reason="EPT_MISCONFIG"', 'handled_by="kernel"')).toBe(
      count(events, 'kvm.exit_ept_misconfig_kernel'),
    );
    expect(metric('ringside_vm_exits_total', 'handled_by="userspace"')).toBe(
      count(events, 'kvm.exit_ept_misconfig_user', 'kvm.exit_io_user'),
    );
    const drops = events.filter((e) => DROPS.test(e.event));
    expect(metric('ringside_frames_dropped_total')).toBe(drops.length);

    interface Bridge {
      ports: { name: string; rxPackets: number; txPackets: number; rxBytes: number; txBytes: number }[];
      fdb: { port: string; mac: string }[];
      datapathFlows: { packets: number }[];
      flows: { packets: number }[];
      caches: Record<string, number>;
    }
    const bridge = await server.json<Bridge>('GET', '/v1/topologies/counters/bridges/br0');
    for (const port of bridge.ports) {
      const place = `br0/${port.name}`;
      const bytes = (name: string): number =>
        events.reduce((n, e) => n + (e.event === name && e.place === place ? Number(e['bytes']) : 0), 0);
      expect([port.rxPackets, port.rxBytes], place).toEqual([at(place, 'dp.ingress'), bytes('dp.ingress')]);
      expect([port.txPackets, port.txBytes], place).toEqual([at(place, 'dp.output'), bytes('dp.output')]);
    }
    expect(bridge.fdb.length).toBe(count(events, 'dp.fdb_learn'));
    expect(bridge.datapathFlows.length).toBe(count(events, 'dp.flow_put'));
    const ingress = count(events, 'dp.ingress');
    expect(bridge.flows.reduce((n, flow) => n + flow.packets, 0)).toBe(ingress);
    const lookups = count(events, 'dp.hit', 'dp.emc_hit', 'dp.megaflow_hit', 'dp.miss');
    expect(lookups).toBe(ingress);
    expect(metric('ringside_datapath_lookups_total')).toBe(lookups);
    expect(metric('ringside_datapath_lookups_total', 'result="miss"')).toBe(count(events, 'dp.miss'));
    if (bridge.caches['lookups hit'] !== undefined) {
      expect(bridge.caches['lookups hit']).toBe(count(events, 'dp.hit'));
      expect(bridge.caches['lookups missed']).toBe(count(events, 'dp.miss'));
    } else {
      expect(bridge.caches['emc hits']).toBe(count(events, 'dp.emc_hit'));
      expect(bridge.caches['megaflow hits']).toBe(count(events, 'dp.megaflow_hit'));
    }
  });
});

/** Kinds that end a frame as dropped. */
const DROPS =
  /^(guest\.(other_host|no_socket|bad_checksum|malformed|tx_full|unreachable)|virtq\.bad_chain|tap\.queue_full|dp\.(no_output|upcall_lost|malformed)|vhost_user\.rx_full|nic\.[rt]x_ring_full|link\.loss)$/;
