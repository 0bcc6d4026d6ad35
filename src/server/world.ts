/**
 * A running world as the API holds it: where to send requests for it, how to read its rings, and whether it still lives.
 * Made by the engine pool; a rebuilt topology gets a new one.
 */
import { EventEmitter } from 'node:events';
import type { WorldCatalog } from '../engine/catalog.ts';
import { HOLDS, RingReader } from '../engine/event-ring.ts';
import { Hold } from '../engine/hold.ts';
import type { SavedDatabases } from '../lab/ovs/start.ts';
import type { EngineAnswers, EngineRequest, RunResult } from '../lab/protocol.ts';
import { type BootCounts, bootCounts } from '../readers/metrics/prometheus-family.ts';
import { EngineFault, type EngineThread } from './engine-thread.ts';
import { Problem } from './problem.ts';

type WorldRequest<Op> = Omit<Extract<EngineRequest, { op: Op }>, 'world' | 'op'>;

interface WorldEvents {
  /** A traffic run ended. */
  run: [result: RunResult];
  /** Clients have changed databases of its hosts: what is to be kept, by host. */
  databases: [databases: SavedDatabases];
  /** The world failed or was deleted: nobody needs to wait for anything any more. */
  end: [];
}

export class World {
  readonly id: number;
  readonly thread: EngineThread;
  readonly events = new EventEmitter<WorldEvents>();
  private readonly memory: SharedArrayBuffer;
  /** As it was when the world had been built. */
  private readonly built: WorldCatalog;
  private failure: string | null = null;
  private deleted = false;
  /** Shared by everything that only looks at counters and control words; not for `read`, whose block is one caller's. */
  readonly counters: RingReader;
  /** What had been counted when the world had booted: nothing has been sent to it before. */
  readonly booted: BootCounts;

  constructor(id: number, thread: EngineThread, created: EngineAnswers['create']) {
    this.id = id;
    this.thread = thread;
    this.memory = created.memory;
    this.built = created.catalog;
    this.counters = this.openReader();
    this.booted = bootCounts(this.counters);
    this.events.setMaxListeners(0);
  }

  /** A reader of its own for a stream or a download. */
  openReader(): RingReader {
    return new RingReader(this.memory, this.built);
  }

  /** What the numbers of events mean, as it stands now: a running world gains places and contexts. */
  get catalog(): WorldCatalog {
    return this.counters.catalog;
  }
  /** What another thread needs to read the rings. */
  get shared(): { readonly memory: SharedArrayBuffer; readonly catalog: WorldCatalog } {
    return { memory: this.memory, catalog: this.catalog };
  }

  /**
   * From now on virtual time waits for a reader that has read everything before event `seq`, until it is released.
   * Throws RINGSIDE_E_TOO_MANY where all holds of this world are taken.
   */
  takeHold(seq = this.counters.head()): Hold {
    const hold = Hold.take(this.memory, this.built.layout, seq);
    if (hold !== null) return hold;
    throw new Problem('RINGSIDE_E_TOO_MANY', `At most ${HOLDS} readers of one topology may make virtual time wait`, {
      headers: { 'retry-after': '5' },
    });
  }

  /** Why the world is dead; null while it runs. */
  get failed(): string | null {
    return this.failure;
  }
  /** True when no further event will come. */
  get over(): boolean {
    return this.failure !== null || this.deleted;
  }

  async call<Op extends EngineRequest['op']>(
    op: Op,
    request: WorldRequest<Op>,
    transfer: ArrayBuffer[] = [],
  ): Promise<EngineAnswers[Op]> {
    if (this.failure !== null) throw new EngineFault('FAILED', this.failure);
    const whole = { op, world: this.id, ...request } as unknown as Extract<EngineRequest, { op: Op }>;
    return (await this.thread.call(whole, transfer)) as EngineAnswers[Op];
  }

  fail(reason: string): void {
    if (this.over) return;
    this.failure = reason;
    this.events.emit('end');
  }

  /** Ends the world for its listeners; the pool tells the engine. */
  close(): void {
    if (this.deleted) return;
    this.deleted = true;
    this.events.emit('end');
  }
}
