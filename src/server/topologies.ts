/**
 * The registry of topologies: the one place where they are made, replaced, rebuilt and removed. What it does to one name
 * happens one after the other; a request that is refused, for whatever reason, has changed nothing.
 */
import { COST_NAMES } from '../engine/costs.ts';
import { equalDocuments, parseTopology } from '../lab/document.ts';
import type { TopologyDocument } from '../lab/document-schema.ts';
import type { SavedDatabases } from '../lab/ovs/start.ts';
import type { Topology } from '../lab/topology.ts';
import { prepare } from '../readers/metrics/prometheus-plan.ts';
import type { CostProfiles } from './cost-profiles.ts';
import type { EnginePool } from './engine-pool.ts';
import { engineProblem } from './engine-problem.ts';
import { EngineFault } from './engine-thread.ts';
import { HostedTopology } from './hosted-topology.ts';
import { notFound, Problem } from './problem.ts';
import type { Limits } from './settings.ts';
import type { TopologyStore } from './store.ts';
import { turn } from './turns.ts';
import type { World } from './world.ts';

/** What a conditional request asks for; throws where the topology is not as expected. */
export type Precondition = (current: HostedTopology | undefined) => void;

export interface PutResult {
  readonly hosted: HostedTopology;
  readonly created: boolean;
}

export class TopologyRegistry {
  private readonly store: TopologyStore;
  private readonly pool: EnginePool;
  private readonly limits: Limits;
  private readonly profiles: CostProfiles;
  private readonly byName = new Map<string, HostedTopology>();
  /** The last operation on each name; the next one waits for it. */
  private readonly queues = new Map<string, Promise<unknown>>();
  /** Bytes promised to worlds that are being built. */
  private pendingBytes = 0;
  /** Cost profiles of worlds that will take the place of others, by topology. */
  private readonly pendingProfiles = new Map<string, string>();
  private restored = false;
  /** Called when a topology has been deleted, before its name can be used again. */
  onRemoved: (name: string) => Promise<void> = async () => {};

  constructor(store: TopologyStore, pool: EnginePool, limits: Limits, profiles: CostProfiles) {
    this.store = store;
    this.pool = pool;
    this.limits = limits;
    this.profiles = profiles;
    profiles.usersOf = (profile) => this.usersOf(profile);
  }

  /** True once every stored topology has been built or has failed. */
  get ready(): boolean {
    return this.restored;
  }

  /** Rebuilds what the store holds, a few at a time; a document that cannot be built is kept and shows why. */
  async restore(): Promise<void> {
    const stored = this.store.all();
    const work = stored.map((row) => {
      // Written by `persist`, from a complete document.
      const document = JSON.parse(row.document) as TopologyDocument;
      const parsed = parseTopology(document, { name: row.name, ...this.costs });
      const hosted = new HostedTopology(row.name, document, parsed.ok ? parsed.topology : null, row.revision);
      hosted.databases = this.store.databases(row.name);
      this.byName.set(row.name, hosted);
      if (!parsed.ok) {
        const faults = parsed.faults.map((fault) => `${fault.pointer}: ${fault.detail}`).join('; ');
        hosted.failure = `the stored document is not valid for this version: ${faults}`;
      }
      return hosted;
    });
    const next = work.values();
    const builder = async (): Promise<void> => {
      for (const hosted of next) {
        await this.exclusive(hosted.name, async () => {
          if (this.byName.get(hosted.name) !== hosted || hosted.topology === null || hosted.world !== null) return;
          try {
            await this.build(hosted, hosted.topology);
            await this.open(hosted);
          } catch (error) {
            // Kept, and shown with the reason: the document is the user's.
            hosted.failure = error instanceof Error ? error.message : String(error);
          }
        });
      }
    };
    await Promise.all(this.pool.load().map(() => builder()));
    this.restored = true;
  }

  get size(): number {
    return this.byName.size;
  }

  /** All topologies by name, after `after`. */
  list(after: string, limit: number): HostedTopology[] {
    return this.names()
      .filter((name) => name > after)
      .slice(0, limit)
      .map((name) => this.get(name));
  }

  all(): HostedTopology[] {
    return this.names().map((name) => this.get(name));
  }

  get(name: string): HostedTopology {
    const hosted = this.byName.get(name);
    if (hosted === undefined) throw notFound(`There is no topology '${name}'`);
    return hosted;
  }

  /**
   * Creates or replaces. An equal document changes nothing, unless the world has failed or clients have changed its databases: then
   * it is rebuilt, and is what the document says.
   */
  put(name: string, document: unknown, precondition: Precondition): Promise<PutResult> {
    return this.exclusive(name, async () => {
      const current = this.byName.get(name);
      precondition(current);
      const { topology, document: full } = this.parse(name, document);
      if (current === undefined) return { hosted: await this.createNew(name, full, topology), created: true };
      const changed = Object.keys(current.databases).length > 0;
      if (changed || !equalDocuments(current.document, full) || current.failed !== null)
        await this.replace(current, full, topology);
      return { hosted: current, created: false };
    });
  }

  remove(name: string, precondition: Precondition): Promise<void> {
    return this.exclusive(name, async () => {
      const hosted = this.get(name);
      precondition(hosted);
      stored(() => this.store.delete(name));
      this.byName.delete(name);
      if (hosted.world !== null) await this.pool.delete(hosted.world);
      await this.onRemoved(name);
    });
  }

  /** A new world from the document, its seed and its hosts' databases; the old one and its traffic are gone. */
  restart(name: string): Promise<HostedTopology> {
    return this.exclusive(name, async () => {
      const hosted = this.get(name);
      if (hosted.topology === null) throw new Problem('RINGSIDE_E_WORLD_FAILED', hosted.failure ?? 'no valid document');
      await this.replace(hosted, hosted.document, hosted.topology, false);
      return hosted;
    });
  }

  /** What documents may say about costs. */
  private get costs() {
    return { knownCosts: COST_NAMES, profiles: this.profiles.book };
  }

  /** Topologies that name a cost profile, or shall be what names it. */
  private usersOf(profile: string): string[] {
    return this.names().filter(
      (name) => this.pendingProfiles.get(name) === profile || this.byName.get(name)?.document.costProfile === profile,
    );
  }

  private names(): string[] {
    return [...this.byName.keys()].sort((a, b) => (a < b ? -1 : 1));
  }

  private parse(name: string, document: unknown): { topology: Topology; document: TopologyDocument } {
    const limits = { maxGuests: this.limits.guests };
    const parsed = parseTopology(document, { name, limits, ...this.costs });
    if (parsed.ok) return parsed;
    const { length } = parsed.faults;
    // what QEMU itself refuses to be asked for is a bad request, not a bad value
    const code = parsed.faults.some((f) => f.code === 'unsupported') ? 'RINGSIDE_E_REQUEST' : 'RINGSIDE_E_VALIDATION';
    throw new Problem(code, `The topology document has ${length} fault${length === 1 ? '' : 's'}`, {
      errors: parsed.faults,
    });
  }

  private async createNew(name: string, document: TopologyDocument, topology: Topology): Promise<HostedTopology> {
    if (this.byName.size >= this.limits.topologies) {
      throw new Problem('RINGSIDE_E_TOO_MANY', `This server hosts at most ${this.limits.topologies} topologies`);
    }
    this.checkMemory(topology, undefined);
    const hosted = new HostedTopology(name, document, topology, 0);
    this.byName.set(name, hosted);
    try {
      await this.build(hosted, topology);
      hosted.revision = this.persist(name, document);
      await this.open(hosted);
      return hosted;
    } catch (error) {
      this.byName.delete(name);
      if (hosted.world !== null) await this.pool.delete(hosted.world);
      throw error;
    }
  }

  /** Builds the new world first: where that is refused, the old one runs on. */
  private async replace(
    hosted: HostedTopology,
    document: TopologyDocument,
    topology: Topology,
    persist = true,
  ): Promise<void> {
    this.checkMemory(topology, hosted);
    const next = new HostedTopology(hosted.name, document, topology, hosted.revision);
    if (!persist) next.databases = hosted.databases;
    this.pendingProfiles.set(hosted.name, topology.costProfile.name);
    try {
      await this.build(next, topology);
    } finally {
      this.pendingProfiles.delete(hosted.name);
    }
    if (persist) {
      try {
        next.revision = this.persist(hosted.name, document);
      } catch (error) {
        if (next.world !== null) await this.pool.delete(next.world);
        throw error;
      }
    }
    const old = hosted.world;
    hosted.document = document;
    hosted.topology = topology;
    hosted.revision = next.revision;
    // where the document stays, what has come of them while the new world was built stays as well
    if (persist) hosted.databases = {};
    hosted.world = next.world;
    hosted.failure = next.failure;
    hosted.reconfigurations++;
    hosted.activeRuns.clear();
    if (old !== null) await this.pool.delete(old);
    await this.open(hosted);
  }
  private async open({ world }: HostedTopology): Promise<void> {
    if (world !== null) await this.pool.open(world);
  }

  /** Gives the topology a world, or the reason why it has none; throws where the engine refuses the topology itself. */
  private async build(hosted: HostedTopology, topology: Topology): Promise<void> {
    const bytes = worldBytes(topology);
    this.pendingBytes += bytes;
    try {
      const world: World = await this.pool.create(topology, hosted.databases);
      world.events.on('run', (result) => hosted.activeRuns.delete(result.id));
      world.events.on('databases', (databases) => this.keep(hosted.name, world, databases));
      hosted.world = world;
      hosted.failure = null;
      void this.prepareMetrics(world);
    } catch (error) {
      if (!(error instanceof EngineFault)) throw error;
      if (error.code === 'INVALID' || error.code === 'CONFLICT') throw engineProblem(error);
      hosted.failure = error.message;
    } finally {
      this.pendingBytes -= bytes;
    }
  }

  /** Clients of a world have changed databases: that outlives the server. What cannot be written is kept until it stops. */
  private keep(name: string, world: World, databases: SavedDatabases): void {
    const hosted = this.byName.get(name);
    if (hosted?.world !== world) return;
    hosted.databases = { ...hosted.databases, ...databases };
    for (const [host, rows] of Object.entries(databases)) {
      try {
        this.store.putDatabase(name, host, rows);
      } catch (error) {
        console.error(`the database of ${name}/${host} could not be stored:`, error);
      }
    }
  }

  /** So that the first scrape of a large world is as fast as later ones; other requests go between the steps. */
  private async prepareMetrics(world: World): Promise<void> {
    const work = prepare(world.shared.catalog, this.limits.metricsSeries);
    do await turn();
    while (!world.over && work.next().done !== true);
  }

  private persist(name: string, document: TopologyDocument): number {
    return stored(() => this.store.put(name, JSON.stringify(document)));
  }

  private checkMemory(topology: Topology, replaced: HostedTopology | undefined): void {
    let reserved = this.pendingBytes + worldBytes(topology);
    for (const hosted of this.byName.values()) {
      if (hosted !== replaced && hosted.world !== null && hosted.topology !== null)
        reserved += worldBytes(hosted.topology);
    }
    if (reserved > this.limits.memory) {
      throw limit(
        '/hosts',
        `All worlds together would reserve ${reserved} bytes, this server allows ${this.limits.memory}`,
      );
    }
  }

  /** Counts a world that is no topology's, as a dry run's twin; refused where there is no room. Returns how to give it back. */
  reserve(topology: Topology): () => void {
    this.checkMemory(topology, undefined);
    const bytes = worldBytes(topology);
    this.pendingBytes += bytes;
    return () => {
      this.pendingBytes -= bytes;
    };
  }

  private exclusive<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.queues.get(name) ?? Promise.resolve();
    const result = before.then(work, work);
    this.queues.set(name, result);
    const forget = (): void => {
      if (this.queues.get(name) === result) this.queues.delete(name);
    };
    result.then(forget, forget);
    return result;
  }
}

/** What a world reserves: guests' memory, byte ring, event ring (24 bytes an event). */
function worldBytes(topology: Topology): number {
  const guests = topology.hosts.flatMap((host) => host.guests).reduce((sum, guest) => sum + guest.memory, 0);
  return guests + topology.byteCapacity + topology.eventCapacity * 24;
}

function limit(pointer: string, detail: string): Problem {
  return new Problem('RINGSIDE_E_LIMIT', detail, { errors: [{ pointer, detail }] });
}

function stored<T>(write: () => T): T {
  try {
    return write();
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    throw new Problem('RINGSIDE_E_STORAGE', `The data folder cannot be written, nothing was changed: ${cause}`);
  }
}
