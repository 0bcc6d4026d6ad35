/** Virtual time in which traffic was under way, by backend: what the metrics divide throughput by. */
import { expect, test } from 'vitest';
import { backendsOf } from '../../../src/engine/catalog.ts';
import { RingReader } from '../../../src/engine/event-ring.ts';
import { GAUGE_TRAFFIC } from '../../../src/engine/latency.ts';
import { type TimedRun, TrafficTime } from '../../../src/lab/traffic-time.ts';
import type { World } from '../../../src/lab/world.ts';
import { BACKENDS, makeWorld, pairDocument, runOut, udp } from './world-driver.ts';

const reader = (world: World): RingReader =>
  new RingReader(world.machine.arena.buffer as SharedArrayBuffer, world.machine.catalog);
/** By backend, in ns. */
function shown(world: World): Record<string, number> {
  const { catalog, gauges } = reader(world);
  return Object.fromEntries(
    backendsOf(catalog.places).map((name, i) => [name, gauges[GAUGE_TRAFFIC + i] ?? Number.NaN]),
  );
}
const run = (firstSendNs: number, lastDeliveryNs: number, ...backends: string[]): TimedRun => ({
  backends,
  ledger: { firstSendNs, lastDeliveryNs },
});

test.each(BACKENDS)('%s: runs one after the other add up to what each says of itself', (backend) => {
  const world = makeWorld(pairDocument(backend));
  expect(shown(world)).toEqual({ [backend]: 0 });
  let sum = 0;
  for (const count of [1, 100, 700]) {
    world.startTraffic(udp('a/net0', 'b/net0', { count, rate: 100_000 }));
    runOut(world);
    sum += Math.round((world.allRuns().at(-1)?.virtual.durationSeconds ?? Number.NaN) * 1e9);
    expect(shown(world)[backend]).toBe(sum);
  }
});

test('counted while a run goes on; shared time counts once, what others had not at all', () => {
  const world = makeWorld(pairDocument('vhost-net'));
  const { machine } = world;
  const time = new TrafficTime(machine);
  const is = (ns: number): void => expect(shown(world)).toEqual({ 'vhost-net': ns });
  time.count([run(-1, -1, 'vhost-net')]);
  is(0);
  time.count([run(100, -1, 'vhost-net')]);
  is(0);
  time.count([run(100, 150, 'vhost-net')]);
  is(50);
  time.count([run(100, 150, 'vhost-net')]);
  is(50);
  // A second one began meanwhile, and stands first in the list.
  time.count([run(140, 190, 'vhost-net'), run(100, 170, 'vhost-net')]);
  is(90);
  // Nothing was under way from 190 to 1000.
  time.count([run(1000, 1010, 'vhost-net', 'vhost-net')]);
  is(100);
});
