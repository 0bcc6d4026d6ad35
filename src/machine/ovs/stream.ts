/**
 * Connections of Open vSwitch's programs as bytes, without sockets: ovsdb, OpenFlow and unixctl sessions are made of these. What
 * opens real sockets is in attach/.
 */

/** The other side's end of a connection. */
export interface Peer {
  /** Bytes for it; they are copied before this returns. */
  send(bytes: Uint8Array): void;
  /** Bytes that it has not taken yet. */
  readonly queued: number;
  /** Ends the connection; what was sent before is delivered. */
  close(): void;
  /** For logs and `ovs-vsctl show`: `tcp:127.0.0.1:40122`. */
  readonly name: string;
  /** Asks for a tick() of the session in so many milliseconds, never within this call; not there: the usual ticks have to do. */
  wakeIn?(ms: number): void;
}
/** Our end. */
export interface Session {
  receive(bytes: Uint8Array): void;
  /** The connection is gone. `error`: why, where it did not just end. */
  closed(error: string | null): void;
  /** Called about once a second of wall time, `nowMs` a monotonic clock: keep-alives, inactivity probes. */
  tick?(nowMs: number): void;
}
/** What answers connections that come in. */
export interface Acceptor {
  accept(peer: Peer): Session;
}
/** Opens connections: for controllers and managers that a database row names. */
export interface Dialer {
  /** `target` in OVS's notation, `tcp:127.0.0.1:6653` or `unix:/run/x.sock`. `connected` makes the session. Returns what gives it up. */
  dial(target: string, connected: (peer: Peer) => Session, failed: (error: string) => void): () => void;
}
/** Waits for connections. */
export interface Listener {
  /**
   * `target` in OVS's notation, `ptcp:6640:127.0.0.1` (port 0 or none: a free one) or `punix:/run/db.sock`. `listening` is told
   * where: `ptcp:6640:127.0.0.1`, with the port that it has. `failed` may come more than once: it is tried again every second.
   * Returns what ends it; connections that have come stay.
   */
  listen(
    target: string,
    acceptor: Acceptor,
    listening: (target: string) => void,
    failed: (error: string) => void,
  ): () => void;
}
/** The network of a world's hosts. A world that has none (a dry run's twin, most tests) opens nothing: NO_STREAMS. */
export interface Streams extends Dialer, Listener {}
export const NO_STREAMS: Streams = {
  dial: () => () => {},
  listen: () => () => {},
};

/**
 * The way from a session into its world. `act` runs between two slices of the world, at its time, and is journalled; what it wakes
 * runs with the next turn. Reading needs no door.
 */
export interface Door {
  /** `command` and `detail` are the journal's entry; `detail` null: no entry (reads that publish). */
  act<T>(command: string, detail: string | null, run: (now: number, contextBits: number) => T): T;
  /** Virtual time, ns. */
  now(): number;
}
