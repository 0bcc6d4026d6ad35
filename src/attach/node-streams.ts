/**
 * Real listeners and connections for the sessions of one world, in the thread that runs it: what comes in is handled between two
 * turns of the world. Who may reach them is settled here: TCP listens on one address only, sockets lie in one folder only.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { dirname, resolve, sep } from 'node:path';
import type { Acceptor, Peer, Session, Streams } from '../machine/ovs/stream.ts';
import { Connection } from './connection.ts';
import { errorText } from './errors.ts';
import { parseTarget, ptcpTarget, type Target, tcpTarget } from './targets.ts';

/** Connections that one listener has at a time; what comes beyond is closed. */
export const MAX_CONNECTIONS = 512;
/** A name in sockaddr_un has so many bytes before its end (linux include/uapi/linux/un.h UNIX_PATH_MAX). */
export const MAX_PATH_BYTES = 107;
const TICK_MS = 1000;

export interface StreamOptions {
  /** Address that TCP listens on. */
  readonly address: string;
  /** Sockets lie in this folder, and are looked for in it; relative paths begin here. */
  readonly folder: string;
}

/** A listener that is asked for; it comes and goes with what the machine allows. */
interface Door {
  readonly target: string;
  readonly acceptor: Acceptor;
  readonly listening: (target: string) => void;
  readonly failed: (error: string) => void;
  server: Server | null;
  /** It is there, or is being tried. */
  up: boolean;
  connections: number;
}

export class NodeStreams implements Streams {
  private readonly options: StreamOptions;
  private readonly connections = new Set<Connection>();
  private readonly doors = new Set<Door>();
  private readonly dialing = new Set<Socket>();
  /** Called about once a second of wall time, with a monotonic clock in ms. */
  private readonly onTick: (nowMs: number) => void;
  private readonly timer: NodeJS.Timeout;
  private unixPeers = 0;

  constructor(options: StreamOptions, onTick: (nowMs: number) => void = () => {}) {
    this.options = options;
    this.onTick = onTick;
    this.timer = setInterval(() => this.tick(), TICK_MS);
    this.timer.unref();
  }

  /** Connections there are now. */
  get open(): number {
    return this.connections.size;
  }

  listen(
    target: string,
    acceptor: Acceptor,
    listening: (target: string) => void,
    failed: (error: string) => void,
  ): () => void {
    const door: Door = { target, acceptor, listening, failed, server: null, up: false, connections: 0 };
    this.doors.add(door);
    this.tryToListen(door);
    return () => {
      this.doors.delete(door);
      door.server?.close();
      door.server = null;
    };
  }

  dial(target: string, connected: (peer: Peer) => Session, failed: (error: string) => void): () => void {
    const parsed = this.allowed(target, false);
    if (typeof parsed === 'string') return later(() => failed(parsed));
    if (parsed.kind === 'tcp' && parsed.port === null) return later(() => failed(`${target}: no port`));
    const socket =
      parsed.kind === 'tcp'
        ? createConnection({ host: parsed.host, port: parsed.port! })
        : createConnection({ path: parsed.path });
    this.dialing.add(socket);
    let gaveUp = false;
    const onError = (error: unknown): void => {
      this.dialing.delete(socket);
      socket.destroy();
      if (!gaveUp) failed(errorText(error));
    };
    socket.once('error', onError);
    socket.once('connect', () => {
      this.dialing.delete(socket);
      socket.removeListener('error', onError);
      this.take(socket, target, connected);
    });
    return () => {
      if (!this.dialing.delete(socket)) return;
      gaveUp = true;
      socket.destroy();
    };
  }

  /** Ends all of it. Sessions are told; settles when the sockets are gone. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    const servers = [...this.doors].flatMap(({ server }) => server ?? []);
    this.doors.clear();
    const closed = servers.map((server) => new Promise<void>((done) => server.close(() => done())));
    for (const socket of this.dialing) socket.destroy();
    this.dialing.clear();
    for (const connection of this.connections) connection.destroy(null);
    await Promise.all(closed);
  }

  private tick(): void {
    const nowMs = performance.now();
    for (const door of this.doors) if (!door.up) this.tryToListen(door);
    for (const connection of this.connections) connection.tick(nowMs);
    this.onTick(nowMs);
  }

  private tryToListen(door: Door): void {
    const target = this.allowed(door.target, true);
    if (typeof target === 'string') {
      door.up = true; // it will not get better
      later(() => door.failed(target));
      return;
    }
    const server = createServer((socket) => this.arrived(door, target, socket));
    door.server = server;
    door.up = true;
    const fail = (error: unknown): void => {
      door.up = false;
      door.server = null;
      if (this.doors.has(door)) door.failed(errorText(error));
    };
    server.once('error', fail);
    server.once('listening', () => {
      server.removeListener('error', fail);
      server.on('error', () => {}); // of a connection that could not be taken
      if (!this.doors.has(door)) {
        server.close();
        return;
      }
      const at = server.address();
      const where = at !== null && typeof at === 'object' ? ptcpTarget(at.address, at.port) : door.target;
      door.listening(where);
    });
    if (target.kind === 'tcp') {
      server.listen({ host: target.host, port: target.port ?? 0 });
      return;
    }
    try {
      mkdirSync(dirname(target.path), { recursive: true, mode: 0o700 });
      // The folder is ours: what is there is of a server that has died.
      rmSync(target.path, { force: true });
      server.listen({ path: target.path });
    } catch (error) {
      later(() => fail(error));
    }
  }

  private arrived(door: Door, target: Target, socket: Socket): void {
    if (door.connections >= MAX_CONNECTIONS || !this.doors.has(door)) {
      socket.destroy();
      return;
    }
    const name =
      target.kind === 'tcp'
        ? tcpTarget(socket.remoteAddress ?? 'unknown', socket.remotePort ?? 0)
        : `unix#${++this.unixPeers}`;
    door.connections++;
    this.take(
      socket,
      name,
      (peer) => door.acceptor.accept(peer),
      () => door.connections--,
    );
  }

  private take(socket: Socket, name: string, make: (peer: Peer) => Session, ended: () => void = () => {}): void {
    const connection = new Connection(socket, name, () => {
      this.connections.delete(connection);
      ended();
    });
    this.connections.add(connection);
    connection.begin(make);
  }

  /** A target as it may be used, or why not. */
  private allowed(text: string, passive: boolean): Target | string {
    const target = parseTarget(text);
    if (typeof target === 'string') return target;
    if (target.passive !== passive) return `${text}: expected ${passive ? 'ptcp: or punix:' : 'tcp: or unix:'}`;
    if (target.kind === 'tcp') {
      if (!passive) return target;
      const { address } = this.options;
      if (target.host === '' || target.host === address) return { ...target, host: address };
      return `${target.host}: this server listens on ${address} only (RINGSIDE_OVS_HOST)`;
    }
    const { folder } = this.options;
    const path = resolve(folder, target.path);
    if (!path.startsWith(folder + sep)) return `${path}: sockets are in ${folder} only`;
    const bytes = Buffer.byteLength(path);
    if (bytes > MAX_PATH_BYTES)
      return `${path}: a socket's path has at most ${MAX_PATH_BYTES} bytes, this one ${bytes}`;
    return { ...target, path };
  }
}

/** Nobody is called back before the call returns. Returns what stops it. */
function later(run: () => void): () => void {
  const immediate = setImmediate(run);
  return () => clearImmediate(immediate);
}
