/**
 * One topology of the registry: its document, what it was normalised to, and the world that runs it (or why none does).
 */
import type { TopologyDocument } from '../lab/document-schema.ts';
import type { SavedDatabases } from '../lab/ovs/start.ts';
import type { Conservation, WorldStatus } from '../lab/protocol.ts';
import type { Topology } from '../lab/topology.ts';
import { EngineFault } from './engine-thread.ts';
import { Problem } from './problem.ts';
import type { World } from './world.ts';

export interface TopologyStatus {
  readonly state: WorldStatus['state'];
  readonly reason: string | null;
  readonly virtualTimeSeconds: number;
  readonly fingerprint: string;
  readonly events: number;
  /** null where no engine can say it: the world is being built, or its thread died. */
  readonly conservation: Conservation | null;
  readonly endpoints: WorldStatus['endpoints'];
  readonly journal: WorldStatus['journal'];
  /** The document that would make what stands now; null: there is none. */
  readonly effective: TopologyDocument | null;
}

export class HostedTopology {
  readonly name: string;
  /** As the user sent it, with every default filled in. */
  document: TopologyDocument;
  /** null where a stored document is no longer valid. */
  topology: Topology | null;
  revision: number;
  world: World | null = null;
  /** Why no world could be built. */
  failure: string | null = null;
  /** What clients have made of its hosts' databases, by host; empty: the document's. Restored with it, gone when it is replaced. */
  databases: SavedDatabases = {};
  /** Runs that have been started and have not ended, over all worlds of this topology; ids are never used twice. */
  readonly activeRuns = new Set<string>();
  /** How often the world was built anew since the server started. */
  reconfigurations = 0;
  private lastRun = 0;

  constructor(name: string, document: TopologyDocument, topology: Topology | null, revision: number) {
    this.name = name;
    this.document = document;
    this.topology = topology;
    this.revision = revision;
  }

  get etag(): string {
    return `"r${this.revision}"`;
  }
  get failed(): string | null {
    return this.failure ?? this.world?.failed ?? null;
  }

  nextRunId(): string {
    return `run-${++this.lastRun}`;
  }

  /** The world, for a request that needs a living one. */
  livingWorld(): World {
    const reason = this.failed;
    if (reason !== null) {
      throw new Problem('RINGSIDE_E_WORLD_FAILED', `${reason}; POST /v1/topologies/${this.name}/restart rebuilds it`);
    }
    return this.heldWorld();
  }

  /** The world, for a request that only reads its rings: a failed one will do as long as its memory is there. */
  heldWorld(): World {
    if (this.world !== null) return this.world;
    if (this.failure !== null) throw new Problem('RINGSIDE_E_WORLD_FAILED', this.failure);
    throw new Problem('RINGSIDE_E_CONFLICT', 'The topology is still being created', {
      headers: { 'retry-after': '1' },
    });
  }

  async status(): Promise<TopologyStatus> {
    const world = this.world;
    if (world !== null && world.failed === null) {
      try {
        const { reason, effective, ...status } = await world.call('status', {});
        return { ...status, reason: reason ?? null, effective: effective === undefined ? this.document : effective };
      } catch (error) {
        if (!(error instanceof EngineFault)) throw error;
        // The thread died, or the world was replaced, while we asked: answer what can be known without it.
      }
    }
    return {
      state: this.failed === null ? 'CREATING' : 'FAILED',
      reason: this.failed,
      virtualTimeSeconds: world === null ? 0 : world.counters.virtualTimeNs() / 1e9,
      fingerprint: world === null ? '0'.repeat(16) : world.counters.fingerprint(),
      events: world === null ? 0 : world.counters.head(),
      conservation: null,
      endpoints: [],
      effective: this.document,
      journal: [],
    };
  }
}
