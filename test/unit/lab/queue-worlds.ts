/** Worlds whose NICs have several queue pairs, for tests. */
import assert from 'node:assert/strict';
import type { RunResult, TrafficSpec } from '../../../src/lab/protocol.ts';
import type { World } from '../../../src/lab/world.ts';
import { type Backend, makeWorld, type SeenEvent, udp } from './world-driver.ts';

export interface Options {
  readonly nic?: object;
  readonly guest?: object;
  readonly pmds?: number;
  readonly document?: object;
}
/** Two guests on one bridge, with as many cores as all their threads want. */
export function document(
  backend: Backend,
  { nic, guest, pmds = 1, document }: Options,
  nics: readonly object[],
): object {
  const bridge = backend === 'vhost-user' ? { name: 'br0', datapath: 'netdev', pmds } : { name: 'br0' };
  const guests = ['a', 'b'].map((name, i) => ({
    name,
    ...guest,
    nics: [{ name: 'net0', backend, queuePairs: 4, addresses: [`10.0.0.${i + 1}/24`], ...nic }],
  }));
  return { hosts: [{ name: 'h1', cores: 32, bridges: [bridge], guests, nics }], ...document };
}
export const world4 = (backend: Backend, options: Options = {}, nics: readonly object[] = []): World =>
  makeWorld(document(backend, options, nics));
export const flows = (options: Partial<TrafficSpec> = {}): TrafficSpec =>
  udp('a/net0', 'b/net0', { count: 2000, flows: 64, ...options });
/** Queues (`rx0` …) of a guest's NIC that saw events of these kinds. */
export function queuesOf(world: World, guest: string, events: readonly SeenEvent[]): string[] {
  const { places } = world.machine.catalog;
  const names = events.map((e) => places[e.place]!.name).filter((name) => name.startsWith(`${guest}/net0/`));
  return [...new Set(names)].map((name) => name.split('/')[2]!).sort();
}
export const contextOf = (world: World, e: SeenEvent): string => world.machine.catalog.contexts[e.context]!.name;
export function settled(run: RunResult): void {
  assert.equal(run.state, 'SUCCEEDED', run.reason);
  assert.equal(run.received + Object.values(run.dropped).reduce((n, d) => n + d, 0), run.sent);
  assert.ok(run.received > 0);
}
