/** Upcall handlers of a kernel datapath: several share the flows that are new. */
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { PRESETS } from '../../../src/lab/presets.ts';
import { World } from '../../../src/lab/world.ts';
import { collect, runOne, udp } from './world-driver.ts';

/** Two NICs, and flows that look at ports: many flows in the datapath for as many streams. */
function world(handlers: number | null): World {
  const { document } = PRESETS.find(({ name }) => name === 'p2p-kernel')!;
  const flows = [
    'udp,tp_dst=9,tp_src=7777,actions=drop',
    'in_port=eth0,actions=output:eth1',
    'priority=0,actions=drop',
  ];
  const ovs = handlers === null ? {} : { ovs: { otherConfig: { 'n-handler-threads': String(handlers) } } };
  const hosts = document.hosts.map((h) => ({
    ...h,
    ...ovs,
    cores: 8,
    bridges: h.bridges!.map((b) => ({ ...b, flows })),
  }));
  const parsed = parseTopology({ ...document, hosts }, { name: 'w' });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  return new World(parsed.topology);
}
/** 300 streams, one frame each, at once: how long until the last has been through its upcall, and who did how many. */
function storm(handlers: number | null) {
  const w = world(handlers);
  const upcalls = collect(w.machine, E.DP_UPCALL);
  const run = runOne(w, udp('eth0', 'eth1', { count: 300, rate: 1_000_000, flows: 300 }));
  expect(run).toMatchObject({ received: 300, dropped: {} });
  const byThread = new Map<number, number>();
  for (const { context } of upcalls) byThread.set(context, (byThread.get(context) ?? 0) + 1);
  const names = [...byThread.keys()].map((id) => w.machine.scheduler.contexts[id]!.name).sort();
  return { names, upcalls: upcalls.length, counts: [...byThread.values()], ms: run.virtual.durationSeconds * 1000 };
}

describe('n-handler-threads', () => {
  test('not given: one handler takes all', () => {
    const { names, upcalls } = storm(null);
    expect(names).toEqual(['handler-br0']);
    expect(upcalls).toBeGreaterThan(50);
  });
  test('four share what is new, by flow, and are done in a fraction of the time', () => {
    const [one, four] = [storm(1), storm(4)];
    expect(four.names).toEqual(['handler-br0', 'handler-br0-1', 'handler-br0-2', 'handler-br0-3']);
    for (const n of four.counts) expect(n).toBeGreaterThan(5);
    expect(four.ms).toBeLessThan(0.5 * one.ms);
  });
  test('more than cores are as many as cores, and fewer than one is one', () => {
    const handlers = (n: number): number =>
      world(n).machine.scheduler.contexts.filter(({ name }) => name.startsWith('handler-')).length;
    expect([handlers(100), handlers(0)]).toEqual([8, 1]);
  });
});
