/**
 * From a topology to a world: memory is planned and allocated, hosts are built one after the other, then the cables between
 * them. What is built is in build/: guests with their back-ends, bridges and NICs.
 */
import { assert } from '../engine/assert.ts';
import { RETIRED } from '../engine/context.ts';
import { costStamp } from '../engine/cost-profile.ts';
import { costOf, costTable } from '../engine/costs.ts';
import { DeepIdle } from '../engine/deep-idle.ts';
import { MAX_CONTEXTS } from '../engine/events.ts';
import { CatalogGrowth } from '../engine/growth.ts';
import { Recorder } from '../engine/recorder.ts';
import { Scheduler } from '../engine/scheduler.ts';
import { BytePattern } from '../machine/guest/stack/byte-pattern.ts';
import { Injector } from '../machine/host/injector.ts';
import { TunNamespace } from '../machine/host/tun-interface.ts';
import { Arena } from '../machine/memory/arena.ts';
import { MAX_GSO_BYTES, REPLY_SLOTS } from '../machine/memory/sizes.ts';
import { Pmd } from '../machine/ovs/datapath/pmd.ts';
import { Frames } from '../machine/packet/frames.ts';
import { JUMBO_BYTES, PacketPool, SLOT_BYTES } from '../machine/packet/pool.ts';
import { Services } from '../machine/services.ts';
import { buildGuest } from './build/guests.ts';
import { startHostDpdk } from './build/host-dpdk.ts';
import type { Machine } from './build/machine.ts';
import { mostPlaces, planMemory, SPARE_CONTEXTS } from './build/memory.ts';
import { buildBridges, buildHostNics, buildLinks } from './build/network.ts';
import { type HostSite, type PortNumbers, pollerCores, Site } from './build/site.ts';
import { Cores } from './cores.ts';
import { type SavedDatabases, savedPlaces, startSwitches } from './ovs/start.ts';
import type { Topology } from './topology.ts';

/**
 * Builds the world. `ports`: numbers that ports shall have. `saved`: databases that take the place of what the document says.
 * Throws AssertionFailed where the document's validation has left a hole.
 */
export function buildMachine(
  topology: Topology,
  ports: PortNumbers | null = null,
  saved: SavedDatabases = {},
): Machine {
  const morePlaces = savedPlaces(saved);
  const plan = planMemory(topology, morePlaces);
  const { layout, guestRam, templates } = plan;
  let { replySlots, bounces, joined } = plan;
  const arena = new Arena(layout.memoryBytes);
  const recorder = new Recorder(arena.buffer, layout, arena.code, plan.ordinals);
  const frames = new Frames(recorder);
  const pool = new PacketPool(plan.pool, plan.poolSlots, plan.jumbos);
  const costs = costTable(topology.costs, topology.costProfile.costs);
  const services = new Services(arena, recorder, frames, pool, costs);
  const pattern = new BytePattern(services, plan.pattern);
  const site = new Site(topology, services, layout, ports);
  const injectors = new Map<string, Injector>();

  site.places.add({ name: 'world', type: 'world', description: 'the topology itself: traffic runs and faults' });
  let firstCore = 0;
  const later: (() => void)[] = [];
  for (const host of topology.hosts) {
    const cores = new Cores(firstCore, host.cores);
    firstCore += host.cores;
    const prefix = topology.hosts.length > 1 ? `${host.name}/` : '';
    const pollers = pollerCores(host, cores);
    const hostSite: HostSite = { host, prefix, cores, tuns: new TunNamespace(), ovs: null, threads: null, pollers };
    site.hosts.set(host.name, hostSite);
    for (const guest of host.guests) {
      const memory = { ram: guestRam.get(guest)!, replySlots, bounces, joined };
      later.push(buildGuest(site, hostSite, guest, memory, pattern));
      const own = guest.nics.reduce((n, { queuePairs }) => n + queuePairs, 0);
      replySlots += own * REPLY_SLOTS * SLOT_BYTES;
      joined += own * MAX_GSO_BYTES;
      bounces += guest.nics.length * JUMBO_BYTES;
    }
    buildBridges(site, hostSite);
    buildHostNics(site, hostSite);
    const injector = new Injector(`${prefix}inject`, services);
    site.enter(injector, 0, { kind: 'wire', core: -1, host: host.name, polls: false });
    injectors.set(host.name, injector);
  }
  for (const wireNics of later) wireNics();
  buildLinks(site);
  const ovs = startSwitches(site, saved);
  site.beginAll();
  assert(site.places.list.length <= mostPlaces(topology) + morePlaces, 'there is a histogram for each place');
  const hostDpdks = [...site.hosts.values()].flatMap((hostSite) => startHostDpdk(site, hostSite) ?? []);

  const { contexts } = site.contexts;
  const room = Math.min(MAX_CONTEXTS, contexts.length + SPARE_CONTEXTS);
  const scheduler = new Scheduler(
    contexts,
    recorder,
    new Float64Array(arena.buffer, layout.busy, room),
    new Float64Array(arena.buffer, layout.idlePolls, room),
    Math.round(costOf(costs, 'thread_context_switch')),
    room,
    new DeepIdle(room, Math.round(costOf(costs, 'deep_idle_after')), Math.round(costOf(costs, 'deep_idle_exit'))),
  );
  site.open(scheduler, new CatalogGrowth(arena.buffer, layout));
  for (const c of contexts) if (c instanceof Pmd && c.phase !== RETIRED) scheduler.next[c.id] = 0;
  for (const { vcpu } of site.guests) scheduler.next[vcpu.id] = 0;
  return {
    topology,
    site,
    arena,
    services,
    recorder,
    frames,
    pool,
    scheduler,
    guests: site.guests,
    bridges: site.bridges,
    hostNics: site.hostNics,
    hostDpdks,
    pmds: site.pmds,
    ovs,
    injectors,
    templates,
    catalog: {
      topology: topology.name,
      seed: topology.seed,
      epochNs: topology.epochNs,
      places: site.places.list,
      contexts: site.contexts.infos,
      layout,
      costs,
      costStamp: costStamp(topology.costProfile, topology.costs),
    },
  };
}
