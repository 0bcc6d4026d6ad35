/**
 * ovsdb-server of one host: its databases, the sessions of its clients, and their locks. It opens nothing: connections come
 * through accept(), whoever makes them.
 */
import type { RandomStream } from '../../../../engine/random.ts';
import type { Acceptor, Door, Peer } from '../../stream.ts';
import { type Commit, Database, type Edit } from '../database.ts';
import type { Json } from '../json.ts';
import { OPEN_VSWITCH } from '../schema/open-vswitch.ts';
import { SERVER } from '../schema/server.ts';
import { schemaToJson } from '../schema/types.ts';
import { randomUuid } from '../uuid.ts';
import { Locks } from './locks.ts';
import { OvsdbSession } from './session.ts';

/** Silence after which a client over TCP is asked whether it lives; over a unix socket the kernel knows (lib/reconnect.c). */
export const DEFAULT_PROBE_MS = 5000;

/** Bytes of messages that are not complete: so many one client may always have, and so many all together. */
const FREE_BYTES = 64 * 1024;
const ALL_BYTES = 128 * 1024 * 1024;
/** Characters of what is kept for clients (monitors, waiting transactions, locks), likewise. */
const FREE_CHARACTERS = 64 * 1024;
const ALL_CHARACTERS = 32 * 1024 * 1024;

export interface OvsdbServerOptions {
  /** Makes all UUIDs. */
  readonly random: RandomStream;
  /** The way into the world that the database belongs to. */
  readonly door: Door;
  /** Wall time, monotonic, in ms: for timeouts of `wait` and inactivity probes. */
  readonly clock: () => number;
}

export class OvsdbServer implements Acceptor {
  /** What ovs-vswitchd and its clients share. */
  readonly database: Database;
  readonly databases: ReadonlyMap<string, Database>;
  readonly id: string;
  readonly locks = new Locks<OvsdbSession>();
  readonly clock: () => number;
  private readonly door: Door;
  private readonly sessions = new Set<OvsdbSession>();
  /** Databases that have changed since waiting transactions were tried. */
  private readonly changed = new Set<Database>();
  private depth = 0;

  constructor({ random, door, clock }: OvsdbServerOptions) {
    this.door = door;
    this.clock = clock;
    this.id = randomUuid(random);
    this.database = new Database(OPEN_VSWITCH, random);
    const server = new Database(SERVER, random);
    this.databases = new Map([this.database, server].map((database) => [database.schema.name, database]));
    server.edit((edit) => {
      for (const { schema } of this.databases.values()) {
        const text = JSON.stringify(schemaToJson(schema));
        edit.insert('Database', {
          name: schema.name,
          model: 'standalone',
          connected: true,
          leader: true,
          schema: text,
        });
      }
    });
    for (const database of this.databases.values()) database.onCommit((commit) => this.committed(database, commit));
  }

  /** Clients that are connected. */
  get sessionCount(): number {
    return this.sessions.size;
  }
  accept(peer: Peer): OvsdbSession {
    return this.begin(peer, peer.name.startsWith('unix') ? 0 : DEFAULT_PROBE_MS);
  }
  /** A session with its own keep-alive; 0: none. */
  begin(peer: Peer, probeInterval: number): OvsdbSession {
    const session = new OvsdbSession(this, peer, probeInterval);
    this.sessions.add(session);
    return session;
  }
  /** Whether a client may go on with a message of which it has sent so many bytes. */
  mayHold(bytes: number): boolean {
    if (bytes <= FREE_BYTES) return true;
    let all = 0;
    for (const session of this.sessions) all += session.unread;
    return all <= ALL_BYTES;
  }
  /**
   * Whether so many characters more may be kept for a client that has `own` already. What it is refused is refused to the newest:
   * what others have stays.
   *
   * DEVIATION: Open vSwitch keeps what clients ask for as long as there is memory, and is ended where there is none.
   */
  mayKeep(own: number, more: number): boolean {
    if (own + more <= FREE_CHARACTERS) return true;
    let all = more;
    for (const session of this.sessions) all += session.kept;
    return all <= ALL_CHARACTERS;
  }
  /** A session has ended. */
  left(session: OvsdbSession): void {
    this.sessions.delete(session);
  }

  /** How a client's transaction enters the world; transactions that change nothing do not. */
  enter(operations: readonly Json[]): (apply: () => void) => void {
    return (apply) => this.door.act('ovsdb transact', JSON.stringify(operations), apply);
  }

  /** A transaction of the server itself, from outside the world: not of anybody's doing, so the journal does not have it. */
  write(run: (edit: Edit) => void): void {
    this.during(() => this.door.act('ovsdb status', null, () => void this.database.edit(run)));
  }
  /** Runs what a client asks for; transactions that wait for what it changed are tried after it. */
  during(run: () => void): void {
    this.depth++;
    try {
      run();
    } finally {
      this.depth--;
      if (this.depth === 0) this.retryWaiting();
    }
  }
  private committed(database: Database, commit: Commit): void {
    for (const session of this.sessions) {
      session.note(database, commit);
      session.flush();
    }
    this.changed.add(database);
    // A commit of the switch comes out of the world: nothing enters it from here.
    if (this.depth === 0) for (const session of this.sessions) session.retrySoon();
  }
  private retryWaiting(): void {
    while (this.changed.size > 0) {
      const changed = new Set(this.changed);
      this.changed.clear();
      this.depth++;
      try {
        for (const session of [...this.sessions]) session.retry(changed);
      } finally {
        this.depth--;
      }
    }
  }
}
