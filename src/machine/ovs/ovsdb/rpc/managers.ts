/**
 * The remotes that Manager rows name (`ovs-vsctl set-manager`): ovsdb-server connects to `tcp:` and `unix:` targets, and listens
 * at `ptcp:` and `punix:` ones (ovsdb-server(1) --remote=db:Open_vSwitch,Open_vSwitch,manager_options). Their state is written back.
 */
import type { Streams } from '../../stream.ts';
import type { Values } from '../database.ts';
import type { Row } from '../row.ts';
import { DEFAULT_MAX_BACKOFF_MS, Reconnect } from './reconnect.ts';
import { DEFAULT_PROBE_MS, type OvsdbServer } from './server.ts';
import type { OvsdbSession } from './session.ts';

/** How often states are written to the rows (ovsdb/ovsdb-server.c STATUS: 2.5 s). */
const STATUS_MS = 2500;

type Status = Record<string, string>;
interface Remote {
  configure(row: Row): void;
  tick(): void;
  state(): { readonly connected: boolean; readonly status: Status };
  end(): void;
}

function probeOf(row: Row, target: string): number {
  return row.integer('inactivity_probe') ?? (target.includes('unix:') ? 0 : DEFAULT_PROBE_MS);
}
function lockStatus(session: OvsdbSession, server: OvsdbServer): Status {
  const groups: Record<'locks_held' | 'locks_waiting' | 'locks_lost', string[]> = {
    locks_held: [],
    locks_waiting: [],
    locks_lost: [],
  };
  for (const waiter of session.locks.values()) {
    const group = server.locks.isOwner(waiter) ? 'locks_held' : waiter.stealing ? 'locks_lost' : 'locks_waiting';
    groups[group].push(waiter.name);
  }
  return Object.fromEntries(
    Object.entries(groups)
      .filter(([, names]) => names.length > 0)
      .map(([key, names]) => [key, names.join(' ')]),
  );
}

class ActiveRemote implements Remote {
  private readonly server: OvsdbServer;
  private readonly target: string;
  private readonly reconnect: Reconnect;
  private session: OvsdbSession | null = null;
  private probe = DEFAULT_PROBE_MS;

  constructor(server: OvsdbServer, streams: Streams, target: string) {
    this.server = server;
    this.target = target;
    this.reconnect = new Reconnect(streams, target, server.clock, (peer) => {
      this.session = server.begin(peer, this.probe);
      return this.session;
    });
  }
  configure(row: Row): void {
    this.probe = probeOf(row, this.target);
    if (this.session !== null) this.session.probeInterval = this.probe;
    this.reconnect.maxBackoff = row.integer('max_backoff') ?? DEFAULT_MAX_BACKOFF_MS;
  }
  tick(): void {
    this.reconnect.tick();
  }
  state(): { readonly connected: boolean; readonly status: Status } {
    const { state, lastError, lastConnected, lastDisconnected } = this.reconnect;
    const connected = state === 'ACTIVE';
    const status: Status = { state: connected && this.session?.isProbing === true ? 'IDLE' : state };
    const seconds = (at: number): string => String(Math.floor((this.server.clock() - at) / 1000));
    if (lastConnected !== null) status['sec_since_connect'] = seconds(lastConnected);
    if (lastDisconnected !== null) status['sec_since_disconnect'] = seconds(lastDisconnected);
    if (lastError !== null) status['last_error'] = lastError;
    if (connected && this.session !== null) Object.assign(status, lockStatus(this.session, this.server));
    return { connected, status };
  }
  end(): void {
    this.reconnect.end();
  }
}

class PassiveRemote implements Remote {
  private readonly stop: () => void;
  private readonly sessions = new Set<OvsdbSession>();
  private readonly target: string;
  private probe = DEFAULT_PROBE_MS;
  private port: string | null = null;
  private lastError: string | null = null;

  constructor(server: OvsdbServer, streams: Streams, target: string) {
    this.target = target;
    this.stop = streams.listen(
      target,
      {
        accept: (peer) => {
          const session = server.begin(peer, this.probe);
          this.sessions.add(session);
          return session;
        },
      },
      (at) => {
        this.lastError = null;
        this.port = at.startsWith('ptcp:') ? at.split(':')[1]! : null;
      },
      (error) => {
        this.lastError = error;
      },
    );
  }
  configure(row: Row): void {
    this.probe = probeOf(row, this.target);
    for (const session of this.sessions) session.probeInterval = this.probe;
  }
  tick(): void {
    for (const session of this.sessions) if (!session.connected) this.sessions.delete(session);
  }
  state(): { readonly connected: boolean; readonly status: Status } {
    this.tick();
    const n = this.sessions.size;
    // ovsdb-server leaves the times of a passive remote 0
    const status: Status = { sec_since_connect: '0', sec_since_disconnect: '0' };
    if (this.lastError !== null) status['last_error'] = this.lastError;
    if (n > 1) status['n_connections'] = String(n);
    if (this.port !== null) status['bound_port'] = this.port;
    return { connected: n > 0, status };
  }
  end(): void {
    this.stop();
    for (const session of this.sessions) session.close();
  }
}

export class Managers {
  private readonly server: OvsdbServer;
  private readonly streams: Streams;
  private readonly remotes = new Map<string, Remote>();
  private readonly stopListening: () => void;
  private written: number;

  /** Follows the rows from now on. */
  constructor(server: OvsdbServer, streams: Streams) {
    this.server = server;
    this.streams = streams;
    this.written = server.clock();
    this.stopListening = server.database.onCommit(({ changes }) => {
      if (changes.some(({ table }) => table === 'Manager' || table === 'Open_vSwitch')) this.follow();
    });
    this.follow();
  }

  private follow(): void {
    const rows = new Map<string, Row>();
    for (const row of this.server.database.rows('Manager')) rows.set(row.text('target'), row);
    for (const [target, remote] of this.remotes) {
      if (rows.has(target)) continue;
      this.remotes.delete(target);
      remote.end();
    }
    for (const [target, row] of rows) {
      let remote = this.remotes.get(target);
      if (remote === undefined) {
        const isPassive = /^p(tcp|unix|ssl):/.test(target);
        remote = isPassive
          ? new PassiveRemote(this.server, this.streams, target)
          : new ActiveRemote(this.server, this.streams, target);
        this.remotes.set(target, remote);
      }
      remote.configure(row);
    }
  }

  /** About once a second of wall time. */
  tick(): void {
    if (this.remotes.size === 0) return;
    for (const remote of this.remotes.values()) remote.tick();
    if (this.server.clock() - this.written < STATUS_MS) return;
    this.written = this.server.clock();
    this.server.write((edit) => {
      for (const row of [...this.server.database.rows('Manager')]) {
        const remote = this.remotes.get(row.text('target'));
        if (remote === undefined) continue;
        const { connected, status } = remote.state();
        const values: Values = { is_connected: connected, status };
        edit.update('Manager', row.uuid, values);
      }
    });
  }

  /** Ends all of them. */
  end(): void {
    this.stopListening();
    for (const remote of this.remotes.values()) remote.end();
    this.remotes.clear();
  }
}
