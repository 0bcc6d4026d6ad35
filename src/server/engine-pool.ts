/**
 * The engine threads and which world lives on which. A thread is started when the first world is placed on it, a world
 * goes to the thread with the fewest; when a thread dies, its worlds fail with the reason and the next world that is
 * placed there gets a fresh thread.
 */
import { rmSync } from 'node:fs';
import { collectGarbage } from '../lab/collect-garbage.ts';
import { tuneEngine } from '../lab/engine-flags.ts';
import type { SavedDatabases } from '../lab/ovs/start.ts';
import type { DryRunSpec, EngineAnswers } from '../lab/protocol.ts';
import type { Topology } from '../lab/topology.ts';
import { EngineThread, type Notice } from './engine-thread.ts';
import { World } from './world.ts';

/** Wall time between the deletion of a world and the collection of its memory. */
const COLLECT_AFTER_MS = 1000;

/** Where Open vSwitch's clients reach the hosts. */
export interface DoorOptions {
  /** Folder of the sockets of all topologies; it is the pool's, and is removed when it stops. */
  readonly folder: string;
  /** Address that TCP listens on. */
  readonly address: string;
}

interface Slot {
  thread: EngineThread | null;
  readonly worlds: Map<number, World>;
  /** Worlds being created here: they count as load. */
  creating: number;
}

export class EnginePool {
  private readonly slots: Slot[];
  private readonly entry: URL;
  private nextWorld = 1;
  private readonly silenceMs: number | undefined;
  private stopped = false;
  private collection: NodeJS.Timeout | null = null;

  private readonly doors: DoorOptions;

  /** `silenceMs`: how long a thread may be silent before it is given up; left out = the default. */
  constructor(size: number, entry: URL, doors: DoorOptions, silenceMs?: number) {
    this.entry = entry;
    this.doors = doors;
    this.silenceMs = silenceMs;
    tuneEngine();
    this.slots = Array.from({ length: size }, () => ({ thread: null, worlds: new Map(), creating: 0 }));
  }

  /** Builds a world, with `databases` in place of what its document says; rejects with the engine's refusal. */
  async create(topology: Topology, databases: SavedDatabases = {}): Promise<World> {
    const slot = this.leastLoaded();
    const thread = this.threadOf(slot);
    const id = this.nextWorld++;
    slot.creating++;
    try {
      const created = await thread.call({ op: 'create', world: id, topology, databases });
      const world = new World(id, thread, created);
      if (thread.alive) slot.worlds.set(id, world);
      else world.fail('the engine thread ended while the world was built');
      return world;
    } finally {
      slot.creating--;
    }
  }

  /**
   * Opens the doors of its hosts' Open vSwitch: once the world that had them before is gone, so that it may have the same ports.
   * Never rejects: what could not be opened is said in its status.
   */
  async open(world: World): Promise<void> {
    const { folder, address } = this.doors;
    if (world.thread.alive) await world.call('open', { folder, address }).catch(() => undefined);
  }

  /** Tries a frame out in a twin of a world, on the thread with the fewest; rejects with the engine's refusal. */
  async rehearse(
    world: World,
    topology: Topology,
    learned: EngineAnswers['learned'],
    spec: DryRunSpec,
  ): Promise<EngineAnswers['rehearse']> {
    const slot = this.leastLoaded();
    slot.creating++;
    try {
      return await this.threadOf(slot).call({ op: 'rehearse', world: world.id, topology, learned, spec });
    } finally {
      slot.creating--;
      // the twin itself: the engine has dropped it
      this.collectLater();
    }
  }

  /** Deletes a world; what was asked of it meanwhile is refused by the engine. Never rejects: a dead thread has no worlds. */
  async delete(world: World): Promise<void> {
    world.close();
    for (const slot of this.slots) slot.worlds.delete(world.id);
    if (world.thread.alive) await world.thread.call({ op: 'delete', world: world.id }).catch(() => undefined);
    this.collectLater();
  }

  /** Streams that still read a deleted world end first; several deletions are one collection. */
  private collectLater(): void {
    if (this.collection !== null) return;
    this.collection = setTimeout(() => {
      this.collection = null;
      collectGarbage();
    }, COLLECT_AFTER_MS).unref();
  }

  /** Number of worlds by thread slot, for metrics and tests. */
  load(): number[] {
    return this.slots.map((slot) => slot.worlds.size);
  }

  /** Kills the thread that a world lives on, as a crash would. For tests. */
  async killThreadOf(world: World): Promise<void> {
    await world.thread.kill();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.slots.map((slot) => slot.thread?.stop()));
    rmSync(this.doors.folder, { recursive: true, force: true });
  }

  private leastLoaded(): Slot {
    let best = this.slots[0]!;
    for (const slot of this.slots) {
      if (slot.worlds.size + slot.creating < best.worlds.size + best.creating) best = slot;
    }
    return best;
  }

  private threadOf(slot: Slot): EngineThread {
    if (this.stopped) throw new Error('the engine pool has been stopped');
    if (slot.thread?.alive) return slot.thread;
    const thread: EngineThread = new EngineThread(
      this.entry,
      (notice) => noticeWorld(slot, notice),
      (reason) => {
        if (slot.thread === thread) slot.thread = null;
        for (const world of slot.worlds.values()) world.fail(reason);
        slot.worlds.clear();
      },
      this.silenceMs,
    );
    slot.thread = thread;
    return thread;
  }
}

function noticeWorld(slot: Slot, notice: Notice): void {
  const world = slot.worlds.get(notice.world);
  if (world === undefined) return;
  if (notice.type === 'run') world.events.emit('run', notice.result);
  else if (notice.type === 'databases') world.events.emit('databases', notice.databases);
  else if (notice.type === 'failed') world.fail(notice.reason);
}
