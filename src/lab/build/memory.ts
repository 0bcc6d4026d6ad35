/** How much memory a world takes, and where its recorder lies in it. The check of a document asks it too, before there is a machine. */
import type { WorldLayout } from '../../engine/catalog.ts';
import { BLOCK_EVENTS, CTL_SIZE } from '../../engine/event-ring.ts';
import { KIND_STRIDE, MAX_CONTEXTS, MAX_PLACES } from '../../engine/events.ts';
import { latencyBytes } from '../../engine/latency.ts';
import {
  ArenaPlan,
  IN_FLIGHT,
  JUMBO_BYTES,
  MAX_GSO_BYTES,
  PATTERN_BYTES,
  poolBytes,
  REPLY_SLOTS,
  SLOT_BYTES,
  UPCALL_QUEUE,
} from '../../machine/memory/sizes.ts';
import { handlerThreads, pmdThreads, runningVcpus } from '../cores.ts';
import type { Bridge, Guest, GuestNic, Host, HostNic, Topology } from '../topology.ts';

/** Slots for traffic templates: one for each run that sends at the same time in one world, and as many for further queue pairs. */
export const TEMPLATE_SLOTS = 512;
/** Frames that the contexts of a host may hold in their hands, and clones under way. */
const POOL_MARGIN = 16384;
const VHOST_USER_BATCH = 4096;
/** Frames beyond a small slot (GSO, GRO) that a world holds at most; their pages cost nothing until they are touched. */
const JUMBO_SLOTS = 1024;
/** What a WebAssembly memory addresses. */
const MOST_MEMORY_BYTES = 65536 * 65536;

/**
 * What a running world may gain: places, contexts, and text that tells readers of them. Pages of this reserve cost nothing
 * until they are touched; a context that has come costs each dispatch a look, also when it has gone.
 */
const SPARE_PLACES = 128;
export const SPARE_CONTEXTS = 256;
const GROWTH_BYTES = 1 << 20;

/** What a topology's memory depends on. */
export interface MemoryNeeds extends Pick<Topology, 'eventCapacity' | 'byteCapacity'> {
  readonly hosts: readonly {
    readonly cores: number;
    readonly ovs: Pick<Host['ovs'], 'otherConfig'>;
    readonly bridges: readonly (Pick<Bridge, 'datapath' | 'pmds'> & { readonly ports: readonly unknown[] })[];
    readonly nics: readonly Pick<HostNic, 'queues' | 'rxRing' | 'txRing'>[];
    readonly guests: readonly (Pick<Guest, 'memory' | 'vcpus'> & {
      readonly nics: readonly Pick<GuestNic, 'driver' | 'queuePairs' | 'tapQueueLength'>[];
    })[];
  }[];
}

/** What lies where in a world's memory: arena offsets, and how much there is of it. */
export interface MemoryPlan {
  /** `memoryBytes`: all that the world reserves. */
  readonly layout: WorldLayout;
  /** By guest, as the needs have them. */
  readonly guestRam: ReadonlyMap<object, number>;
  /** REPLY_SLOTS slots for each queue pair. */
  readonly replySlots: number;
  readonly pattern: number;
  /** JUMBO_BYTES for each guest's NIC. */
  readonly bounces: number;
  /** MAX_GSO_BYTES for each queue pair. */
  readonly joined: number;
  readonly templates: number;
  readonly ordinals: number;
  readonly pool: number;
  readonly poolSlots: number;
  readonly jumbos: number;
}

/** Plans a world's memory; nothing is allocated. `morePlaces`: beyond those that the topology says. */
export function planMemory(topology: MemoryNeeds, morePlaces = 0): MemoryPlan {
  const plan = new ArenaPlan();
  const layout = layOut(topology, plan, morePlaces);
  const guests = topology.hosts.flatMap((host) => host.guests);
  const nics = guests.flatMap((guest) => guest.nics);
  const pairs = nics.reduce((n, nic) => n + nic.queuePairs, 0);
  const guestRam = new Map(guests.map((guest): [object, number] => [guest, plan.reserve(guest.memory, 65536)]));
  const replySlots = plan.reserve(pairs * REPLY_SLOTS * SLOT_BYTES, 4096);
  const pattern = plan.reserve(PATTERN_BYTES, 4096);
  const bounces = plan.reserve(nics.length * JUMBO_BYTES, 4096);
  const joined = plan.reserve(pairs * MAX_GSO_BYTES, 4096);
  const templates = plan.reserve(TEMPLATE_SLOTS * SLOT_BYTES, 4096);
  const slots = poolSlots(topology);
  const ordinals = plan.reserve(MAX_CONTEXTS * 4);
  const jumbos = jumboSlots(plan.bytes + poolBytes(slots));
  const pool = plan.reserve(poolBytes(slots, jumbos), 4096);
  const areas = { guestRam, replySlots, pattern, bounces, joined, templates, ordinals, pool };
  return { ...areas, poolSlots: slots, jumbos, layout: { ...layout, memoryBytes: plan.bytes } };
}

/** Jumbo slots of a world that takes `bytes` without them: fewer where its guests leave too little room. */
function jumboSlots(bytes: number): number {
  const room = Math.floor((MOST_MEMORY_BYTES - 2 * 65536 - bytes) / poolBytes(0, 1));
  return Math.max(0, Math.min(JUMBO_SLOTS, room));
}

/** Control block, event ring, byte ring, counters. `morePlaces`: beyond those that the topology says. */
function layOut(topology: MemoryNeeds, plan: ArenaPlan, morePlaces = 0): Omit<WorldLayout, 'memoryBytes'> {
  const { eventCapacity, byteCapacity } = topology;
  const placeRoom = Math.min(MAX_PLACES, mostPlaces(topology) + morePlaces + SPARE_PLACES);
  return {
    control: plan.reserve(CTL_SIZE),
    eventCapacity,
    eventTime: plan.reserve(eventCapacity * 8, 4096),
    // one after the other: the recorder writes these four through one view
    eventMeta: plan.reserve(eventCapacity * 4, 4096),
    eventFrame: plan.reserve(eventCapacity * 4, 4096),
    eventA: plan.reserve(eventCapacity * 4, 4096),
    eventB: plan.reserve(eventCapacity * 4, 4096),
    blockFrame: plan.reserve((eventCapacity / BLOCK_EVENTS) * 8),
    blockBytes: plan.reserve((eventCapacity / BLOCK_EVENTS) * 8),
    byteRing: plan.reserve(byteCapacity, 4096),
    byteCapacity,
    counters: plan.reserve(MAX_PLACES * KIND_STRIDE * 16, 4096),
    busy: plan.reserve(MAX_CONTEXTS * 8),
    idlePolls: plan.reserve(MAX_CONTEXTS * 8),
    latency: plan.reserve(latencyBytes(placeRoom), 4096),
    placeRoom,
    contextRoom: MAX_CONTEXTS,
    growth: plan.reserve(GROWTH_BYTES, 4096),
    growthBytes: GROWTH_BYTES,
  };
}

/**
 * At least as many as the places that will be made: one of a guest, five of its NIC and two of each queue pair, three of a host's, two
 * of a bridge and one of each of its own ports.
 */
export function mostPlaces(topology: MemoryNeeds): number {
  const places = topology.hosts.map((host) => {
    const nics = host.guests.flatMap((guest) => guest.nics).reduce((n, nic) => n + 5 + 2 * nic.queuePairs, 0);
    const vcpus = host.guests.reduce((n, guest) => n + runningVcpus(guest), 0);
    const bridges = host.bridges.reduce((n, bridge) => n + 2 + bridge.ports.length, 0);
    return vcpus + host.guests.length + nics + bridges + 3 * host.nics.length;
  });
  return 1 + places.reduce((sum, n) => sum + n, 0);
}

/** More packets than all queues of all hosts can hold together. */
function poolSlots(topology: MemoryNeeds): number {
  let n = POOL_MARGIN;
  for (const host of topology.hosts) {
    n += (host.bridges.length + handlerThreads(host) - 1) * UPCALL_QUEUE;
    const pmds = Math.max(1, pmdThreads(host.bridges));
    for (const nic of host.nics) n += (1 + pmds) * IN_FLIGHT + nic.queues * nic.rxRing + nic.txRing;
    const userspace = host.bridges.some((b) => b.datapath === 'netdev') ? VHOST_USER_BATCH * pmds : 0;
    for (const guest of host.guests) {
      // whichever it has: it may get the other
      for (const nic of guest.nics) n += Math.max(userspace, nic.queuePairs * nic.tapQueueLength);
    }
  }
  return n;
}
