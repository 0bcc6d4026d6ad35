/** One client of ovsdb-server: its requests and what it is told (ovsdb/jsonrpc-server.c; RFC 7047 §4; ovsdb-server(7)). */
import type { Peer, Session } from '../../stream.ts';
import type { Commit, Database } from '../database.ts';
import { OvsdbError, syntaxError } from '../error.ts';
import { type Json, sortedText } from '../json.ts';
import { isId } from '../parser.ts';
import { schemaToJson } from '../schema/types.ts';
import { parseUuid, ZERO_UUID } from '../uuid.ts';
import { BadJson, JsonStream } from './framing.ts';
import type { Waiter } from './locks.ts';
import { isRequest, type Reply, type Request, readMessage } from './message.ts';
import { Monitor, type MonitorVersion } from './monitor.ts';
import type { OvsdbServer } from './server.ts';

/** Bytes that wait for a client: from here on changes are gathered, and told when it has taken some. */
const BACKLOG_BYTES = 256 * 1024;
/** Monitors, waiting transactions and locks of one client: how many in all, and of how many characters. */
const MAX_ENTRIES = 2000;
const MAX_ENTRY_CHARACTERS = 4 * 1024 * 1024;

const ENCODER = new TextEncoder();

/** A transaction with a `wait` that is not met. */
interface Waiting {
  readonly id: Json;
  readonly database: Database;
  readonly operations: readonly Json[];
  readonly created: number;
  timeout: number;
}

const MONITOR_METHODS: ReadonlyMap<string, MonitorVersion> = new Map([
  ['monitor', 1],
  ['monitor_cond', 2],
  ['monitor_cond_since', 3],
]);

/** What a request is answered; undefined: not now. */
type Answer = Json | undefined;
/** An error that is a text, not an <error>. */
class PlainError extends Error {}

export class OvsdbSession implements Session {
  readonly peer: Peer;
  private readonly server: OvsdbServer;
  private readonly stream = new JsonStream();
  private readonly monitors = new Map<string, { readonly id: Json; readonly monitor: Monitor }>();
  private readonly waiting = new Map<string, Waiting>();
  readonly locks = new Map<string, Waiter<OvsdbSession>>();
  /** Characters of the requests behind them, by what kind and key. */
  private readonly sizes = new Map<string, number>();
  private held = 0;
  private isOpen = true;
  /** Since when nothing came, by the server's clock. */
  private heard: number;
  private probing = false;
  /** Milliseconds of silence after which the client is asked whether it lives; 0: never. */
  probeInterval: number;

  constructor(server: OvsdbServer, peer: Peer, probeInterval: number) {
    this.server = server;
    this.peer = peer;
    this.probeInterval = probeInterval;
    this.heard = server.clock();
  }

  get connected(): boolean {
    return this.isOpen;
  }
  /** It was asked whether it lives, and has not answered yet. */
  get isProbing(): boolean {
    return this.probing;
  }

  receive(bytes: Uint8Array): void {
    this.heard = this.server.clock();
    this.probing = false;
    try {
      this.stream.feed(bytes, (json) => {
        if (this.isOpen) this.server.during(() => this.take(readMessage(json)));
        return this.isOpen;
      });
      if (!this.server.mayHold(this.stream.held)) this.close();
    } catch (error) {
      if (!(error instanceof BadJson)) throw error;
      this.close();
    }
  }
  /** Bytes of a message that is not complete. */
  get unread(): number {
    return this.stream.held;
  }
  /** Takes account of something that is kept for the client. Throws OvsdbError where that is too much. */
  private keep(key: string, request: Json): void {
    const size = JSON.stringify(request).length;
    if (this.sizes.size >= MAX_ENTRIES || this.held + size > MAX_ENTRY_CHARACTERS) {
      throw new OvsdbError('resources exhausted', 'too many monitors, waiting transactions and locks');
    }
    if (!this.server.mayKeep(this.held, size)) {
      throw new OvsdbError('resources exhausted', 'too many monitors, waiting transactions and locks of all clients');
    }
    this.sizes.set(key, size);
    this.held += size;
  }
  /** Characters of what is kept for it. */
  get kept(): number {
    return this.held;
  }
  private release(key: string): void {
    this.held -= this.sizes.get(key) ?? 0;
    this.sizes.delete(key);
  }
  closed(_error: string | null): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.monitors.clear();
    this.waiting.clear();
    for (const waiter of [...this.locks.values()]) this.leave(waiter);
    this.server.left(this);
  }
  /** Ends the connection from our side. */
  close(): void {
    if (!this.isOpen) return;
    this.closed(null);
    this.peer.close();
  }
  tick(_nowMs: number): void {
    const silent = this.server.clock() - this.heard;
    if (this.probeInterval > 0 && silent >= this.probeInterval * (this.probing ? 2 : 1)) {
      if (this.probing) {
        this.close();
        return;
      }
      this.probing = true;
      this.send({ id: 'echo', method: 'echo', params: [] });
    }
    this.flush();
    this.server.during(() => this.retry(null));
  }
  /** A database has changed where no client's transaction may run now: it is tried at the next tick. */
  retrySoon(): void {
    if (this.waiting.size > 0) this.peer.wakeIn?.(0);
  }
  private send(message: Json): void {
    if (this.isOpen) this.peer.send(ENCODER.encode(JSON.stringify(message)));
  }
  private reply(id: Json, result: Json): void {
    this.flush();
    this.send({ id, result, error: null });
  }
  private fail(id: Json, error: Json): void {
    this.flush();
    this.send({ id, error });
  }

  private take(message: Request | Reply): void {
    if (!isRequest(message)) {
      // Nobody asked, but for the echo.
      if (message.id !== 'echo') this.close();
      return;
    }
    const { id, method, params } = message;
    if (id === null) {
      if (method === 'cancel' && params.length === 1) this.forget(sortedText(params[0]!));
      return;
    }
    try {
      const answer = this.answer(message);
      if (answer !== undefined) this.reply(id, answer);
    } catch (error) {
      if (error instanceof OvsdbError) this.fail(id, error.toJson());
      else if (error instanceof PlainError) this.fail(id, error.message);
      else throw error;
    }
  }
  private answer(request: Request): Answer {
    const { method, params } = request;
    const version = MONITOR_METHODS.get(method);
    if (version !== undefined) return this.monitor(request, version);
    switch (method) {
      case 'echo':
        return params;
      case 'list_dbs':
        return [...this.server.databases.keys()];
      case 'get_schema':
        return schemaToJson(this.database(request).schema);
      case 'get_server_id':
        return this.server.id;
      case 'set_db_change_aware':
        // No database comes or goes while the server runs.
        if (params.length === 1 && typeof params[0] === 'boolean') return {};
        throw syntaxError(params, `${method}: true or false parameter expected`);
      case 'transact':
        return this.transact(request);
      case 'monitor_cond_change':
        return this.changeMonitor(params);
      case 'monitor_cancel':
        if (params.length !== 1) throw new PlainError('invalid parameters');
        if (!this.monitors.delete(sortedText(params[0]!))) throw new PlainError('unknown monitor');
        this.release(`monitor ${sortedText(params[0]!)}`);
        return {};
      case 'lock':
      case 'steal':
        return this.lock(request);
      case 'unlock':
        return this.unlock(request);
      case 'convert':
        // DEVIATION: the real server converts a database to another schema, and so erases it, for any client that asks.
        this.database(request);
        throw new OvsdbError('not allowed', 'convert operation not allowed: the schema of this server is fixed');
      default:
        throw new PlainError('unknown method');
    }
  }
  private database({ method, params }: Request): Database {
    const name = params[0];
    if (typeof name !== 'string') {
      throw syntaxError(params, `${method} request params must begin with <db-name>`);
    }
    const database = this.server.databases.get(name);
    if (database !== undefined) return database;
    throw syntaxError(params, `${method} request specifies unknown database ${name}`, 'unknown database');
  }

  private transact(request: Request): Answer {
    const { id, params } = request;
    const database = this.database(request);
    const key = sortedText(id);
    if (this.waiting.has(key)) throw syntaxError(params, 'transact: duplicate request ID');
    const created = this.server.clock();
    const waiting: Waiting = { id, database, operations: params.slice(1), created, timeout: Infinity };
    const results = this.execute(waiting, 0);
    if (results !== null) return results;
    this.keep(`wait ${key}`, [id, params]);
    this.waiting.set(key, waiting);
    if (waiting.timeout < Infinity) this.peer.wakeIn?.(waiting.timeout);
    return undefined;
  }
  private execute(waiting: Waiting, elapsed: number): Json[] | null {
    const { database, operations } = waiting;
    const ownsLock = (name: string): boolean => this.server.locks.isOwner(this.locks.get(name));
    const outcome = database.execute(operations, { ownsLock, elapsed, enter: this.server.enter(operations) });
    if ('results' in outcome) return outcome.results;
    waiting.timeout = outcome.timeout;
    return null;
  }
  private forget(key: string): void {
    if (this.waiting.delete(key)) this.release(`wait ${key}`);
  }
  /** Tries waiting transactions again: those of a database that has changed, and those whose time is over. */
  retry(changed: ReadonlySet<Database> | null): void {
    if (this.waiting.size === 0) return;
    const now = this.server.clock();
    for (const [key, waiting] of [...this.waiting]) {
      const elapsed = Math.round(now - waiting.created);
      if (changed?.has(waiting.database) !== true && elapsed < waiting.timeout) continue;
      const results = this.execute(waiting, elapsed);
      if (results === null) continue;
      this.forget(key);
      this.reply(waiting.id, results);
    }
  }

  private monitor(request: Request, version: MonitorVersion): Answer {
    const { params } = request;
    const database = this.database(request);
    if (version === 1 ? params.length < 3 : params.length !== version + 1)
      throw syntaxError(params, 'invalid parameters');
    const id = params[1]!;
    const key = sortedText(id);
    if (this.monitors.has(key)) throw syntaxError(id, 'duplicate monitor ID');
    const monitor = new Monitor(database, version, params[2]!);
    if (version === 3) {
      const last = params[3]!;
      if (typeof last !== 'string') throw syntaxError(last, 'last-txn-id must be string');
      if (parseUuid(last) === null) throw syntaxError(last, 'last-txn-id must be UUID format.');
    }
    this.keep(`monitor ${key}`, params);
    this.monitors.set(key, { id, monitor });
    // A standalone server numbers no transactions: a client that comes back gets all rows again.
    return version === 3 ? [false, ZERO_UUID, monitor.initial()] : monitor.initial();
  }
  private changeMonitor(params: Json[]): Answer {
    if (params.length !== 3) throw syntaxError(params, 'invalid parameters');
    const [id, newId, requests] = params as [Json, Json, Json];
    const key = sortedText(id);
    const newKey = sortedText(newId);
    const known = this.monitors.get(key);
    if (known === undefined) throw syntaxError(id, 'unknown monitor session');
    if (key !== newKey && this.monitors.has(newKey)) throw syntaxError(newId, 'duplicate monitor ID');
    this.tell(known.id, known.monitor, known.monitor.takeUpdate());
    // There must be room for the new one beside the old one.
    this.keep('change', params);
    let update: Json;
    try {
      update = known.monitor.changeConditions(requests);
    } finally {
      this.release('change');
    }
    this.release(`monitor ${key}`);
    this.keep(`monitor ${newKey}`, params);
    this.monitors.delete(key);
    this.monitors.set(newKey, { id: newId, monitor: known.monitor });
    this.tell(newId, known.monitor, update);
    return {};
  }
  private tell(id: Json, { version }: Monitor, update: Json): void {
    if (update === null) return;
    const method = version === 1 ? 'update' : `update${version}`;
    const params = version === 3 ? [id, ZERO_UUID, update] : [id, update];
    this.send({ id: null, method, params });
  }
  note(database: Database, commit: Commit): void {
    for (const { monitor } of this.monitors.values()) if (monitor.database === database) monitor.note(commit);
  }
  /** Tells the client what its monitors have noted, if it takes what it is sent. */
  flush(): void {
    if (this.peer.queued > BACKLOG_BYTES) return;
    for (const { id, monitor } of this.monitors.values()) this.tell(id, monitor, monitor.takeUpdate());
  }

  private lockName({ method, params }: Request): string {
    const [name] = params;
    if (params.length === 1 && typeof name === 'string' && isId(name)) return name;
    throw syntaxError(params, `${method} request params must be <id>`);
  }
  private lock(request: Request): Answer {
    const name = this.lockName(request);
    if (this.locks.has(name)) throw syntaxError(request.params, `must issue "unlock" before new "${request.method}"`);
    this.keep(`lock ${name}`, name);
    const { locks } = this.server;
    const { waiter, victim } = locks.join(this, name, request.method === 'steal');
    this.locks.set(name, waiter);
    victim?.notifyLock('stolen', name);
    return { locked: locks.isOwner(waiter) };
  }
  private unlock(request: Request): Answer {
    const name = this.lockName(request);
    const waiter = this.locks.get(name);
    if (waiter === undefined) {
      throw syntaxError(request.params, `${request.method}: "unlock" without "lock" or "steal"`);
    }
    this.leave(waiter);
    return {};
  }
  private leave(waiter: Waiter<OvsdbSession>): void {
    this.locks.delete(waiter.name);
    this.release(`lock ${waiter.name}`);
    const { locks } = this.server;
    const wasOwner = locks.isOwner(waiter);
    const owner = locks.leave(waiter);
    // DEVIATION: the real server says `locked` again to an owner when somebody behind it leaves.
    if (wasOwner) owner?.notifyLock('locked', waiter.name);
  }
  notifyLock(method: 'locked' | 'stolen', name: string): void {
    this.flush();
    this.send({ id: null, method, params: [name] });
  }
}
