/**
 * The building site of one world: what everything that is built is entered into, and the numbers that are given out. It stays
 * when the world runs: what comes then is entered in the same way (open()). The
 * order of entries is the order of places and contexts in the catalog, and so part of what a run's fingerprint depends on.
 */
import type { Context } from '../../engine/context.ts';
import type { CatalogGrowth } from '../../engine/growth.ts';
import type { Scheduler } from '../../engine/scheduler.ts';
import type { Forwarder } from '../../machine/bridge/forwarder.ts';
import type { TunNamespace } from '../../machine/host/tun-interface.ts';
import type { KernelDatapath } from '../../machine/ovs/datapath/kernel-datapath.ts';
import type { NetdevDatapath } from '../../machine/ovs/datapath/netdev-datapath.ts';
import type { Pmd } from '../../machine/ovs/datapath/pmd.ts';
import type { Backer } from '../../machine/ovs/ofproto/backer.ts';
import type { Services } from '../../machine/services.ts';
import { type Cores, pmdThreads, runningVcpus } from '../cores.ts';
import type { HostSwitch } from '../ovs/host-switch.ts';
import type { PmdThreads } from '../ovs/pmd-threads.ts';
import { ContextList, Places } from '../places.ts';
import type { Host, Topology } from '../topology.ts';
import type { BuiltBridge, BuiltGuest, BuiltHostNic } from './machine.ts';

/** Datapath ports from here on are bridges' own (LOCAL), as the dummy datapath numbers them; others have numbers before and behind. */
export const FIRST_LOCAL_PORT = 100;
export const MAX_LOCAL_PORTS = 100;
/** More than a line about a place or a context takes. */
const LINE_BYTES = 1024;

/** A datapath of a host, and the slow path of its bridges. */
export interface OvsDatapathSite {
  readonly datapath: KernelDatapath | NetdevDatapath;
  readonly backer: Backer;
}
/** A host of the world: while it is built, and for what comes to it later. */
export interface HostSite {
  readonly host: Host;
  /** In front of all names: the host's, where there are several. */
  readonly prefix: string;
  readonly cores: Cores;
  /** Its tun and tap interfaces. */
  readonly tuns: TunNamespace;
  /** Its Open vSwitch; null where it has no bridge of it. */
  ovs: HostSwitch | null;
  /** PMD threads of its netdev datapath; null where it has no bridge of Open vSwitch. */
  threads: PmdThreads | null;
  /** Cores of the PMDs (`pmd`), and of the vCPUs of each guest that polls (`vcpu <guest>`). */
  readonly pollers: ReadonlyMap<string, readonly number[]>;
}

/** Numbers of ports by bridge (with its host's prefix) and name: a world that ports came to and left has other ones than a new one. */
export type PortNumbers = ReadonlyMap<string, ReadonlyMap<string, number>>;

export class Site {
  readonly topology: Topology;
  readonly services: Services;
  readonly places = new Places();
  readonly contexts = new ContextList();
  readonly guests: BuiltGuest[] = [];
  readonly bridges: BuiltBridge[] = [];
  readonly hostNics: BuiltHostNic[] = [];
  readonly pmds: Pmd[] = [];
  private readonly begin: { begin(): void }[] = [];
  private readonly portNumbers = new Map<Forwarder, number>();
  /** Datapaths of Open vSwitch by host and type (`h1 netdev`). */
  readonly datapaths = new Map<string, OvsDatapathSite>();
  /** Told when places, contexts or the wiring of a NIC have changed in a running world. */
  readonly onGrowth = new Set<() => void>();
  /** Hosts by name, with their cores. */
  readonly hosts = new Map<string, HostSite>();
  private readonly ports: PortNumbers | null;
  /** Places at most. */
  private readonly placeRoom: number;
  /** Where its counters lie in the world's memory. */
  readonly counters: number;
  private fds = 10;
  private pids = 1200;

  /** `ports`: numbers that ports shall have. */
  constructor(
    topology: Topology,
    services: Services,
    layout: { readonly placeRoom: number; readonly counters: number },
    ports: PortNumbers | null = null,
  ) {
    this.ports = ports;
    this.counters = layout.counters;
    this.topology = topology;
    this.placeRoom = layout.placeRoom;
    this.services = services;
  }

  /** Enters a context; it begins when all is built, in a running world at once. */
  enter(context: Context & { begin(): void }, place: number, info: Parameters<ContextList['add']>[2]): void {
    this.contexts.add(context, place, info);
    if (this.contexts.scheduler === null) this.begin.push(context);
    else context.begin();
  }
  /** The world has been built: what is entered from now on, its scheduler takes in and its readers are told of. */
  open(scheduler: Scheduler, growth: CatalogGrowth): void {
    this.places.growth = growth;
    this.contexts.growth = growth;
    this.contexts.scheduler = scheduler;
  }
  /** Something has come or gone that others may have to follow; called by whoever made it. */
  grew(): void {
    for (const listener of this.onGrowth) listener();
  }
  /** Why a running world has no room for so many more places and contexts, of lines as they are; null where it has. */
  lacks(places: number, contexts: number): string | null {
    const { growth } = this.places;
    const { scheduler } = this.contexts;
    if (growth === null || scheduler === null) return 'the world is not built yet';
    if (this.places.list.length + places > this.placeRoom) return `no room for ${places} more places`;
    if (contexts > scheduler.room) return `no room for ${contexts} more contexts`;
    if ((2 * places + contexts) * LINE_BYTES > growth.room) return 'no room for a longer catalog';
    return null;
  }
  /** All is built. */
  beginAll(): void {
    for (const context of this.begin) context.begin();
  }

  bridge(host: Host, name: string): BuiltBridge {
    return this.bridges.find((b) => b.host === host.name && b.name === name)!;
  }
  pmdsOf({ prefix }: HostSite): Pmd[] {
    return this.pmds.filter((p) => p.name.startsWith(prefix));
  }
  /** The number of a bridge's port `name`: the next one, or the one that it has in the world that this is the twin of. */
  portNumber(bridge: string, name: string): number {
    const given = this.ports?.get(bridge)?.get(name);
    // numbers are the datapath's, which several bridges may share
    const { bridge: datapath } = this.bridges.find((b) => b.attach.name === bridge)!;
    const last = this.portNumbers.get(datapath) ?? 0;
    const n = given ?? (last + 1 === FIRST_LOCAL_PORT ? FIRST_LOCAL_PORT + MAX_LOCAL_PORTS : last + 1);
    this.portNumbers.set(datapath, Math.max(n, last));
    return n;
  }
  nextFd(): number {
    return this.fds++;
  }
  nextPid(): number {
    return ++this.pids;
  }
}

/** Cores of the PMDs, and of the vCPUs of each guest that polls. */
export function pollerCores(host: Host, cores: Cores): HostSite['pollers'] {
  const take = (n: number): number[] => Array.from({ length: n }, () => cores.exclusive());
  const map = new Map([['pmd', take(pmdThreads(host.bridges))]]);
  for (const guest of host.guests) {
    if (guest.nics.some((n) => n.driver === 'virtio-pmd')) map.set(`vcpu ${guest.name}`, take(runningVcpus(guest)));
  }
  return map;
}
