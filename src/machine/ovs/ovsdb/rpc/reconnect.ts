/** A connection that is made again when it breaks, with back-off (lib/reconnect.c). */
import type { Dialer, Peer, Session } from '../../stream.ts';

/** Milliseconds of lib/reconnect.h: the first wait, and what it doubles to unless a row says otherwise. */
export const MIN_BACKOFF_MS = 1000;
export const DEFAULT_MAX_BACKOFF_MS = 8000;

export type ReconnectState = 'BACKOFF' | 'CONNECTING' | 'ACTIVE';

export class Reconnect {
  maxBackoff = DEFAULT_MAX_BACKOFF_MS;
  state: ReconnectState = 'BACKOFF';
  /** Why the last connection ended or was not made; null: it is not known, or there was none. */
  lastError: string | null = null;
  /** By the clock; null: never. */
  lastConnected: number | null = null;
  lastDisconnected: number | null = null;
  private readonly dialer: Dialer;
  private readonly target: string;
  private readonly clock: () => number;
  private readonly connected: (peer: Peer) => Session;
  private backoff = 0;
  private since: number;
  private giveUp: (() => void) | null = null;
  private peer: Peer | null = null;
  private ended = false;

  /** `connected` makes the session of each connection. The first is tried at once. */
  constructor(dialer: Dialer, target: string, clock: () => number, connected: (peer: Peer) => Session) {
    this.dialer = dialer;
    this.target = target;
    this.clock = clock;
    this.connected = connected;
    this.since = clock();
    this.connect();
  }

  private enter(state: ReconnectState): void {
    this.state = state;
    this.since = this.clock();
  }
  private connect(): void {
    this.enter('CONNECTING');
    this.giveUp = this.dialer.dial(
      this.target,
      (peer) => this.carry(peer),
      (error) => this.lost(error),
    );
  }
  private carry(peer: Peer): Session {
    this.giveUp = null;
    this.peer = peer;
    this.lastConnected = this.clock();
    this.enter('ACTIVE');
    const session = this.connected(peer);
    return {
      receive: (bytes) => session.receive(bytes),
      tick: (nowMs) => session.tick?.(nowMs),
      closed: (error) => {
        session.closed(error);
        if (this.peer === peer) this.lost(error ?? 'End of file');
      },
    };
  }
  private lost(error: string): void {
    if (this.ended) return;
    this.giveUp = null;
    this.lastError = error;
    const now = this.clock();
    if (this.peer !== null) this.lastDisconnected = now;
    // What held longer than the wait before it begins anew.
    const held = this.peer !== null && now - this.since >= this.backoff;
    this.peer = null;
    this.backoff = held ? MIN_BACKOFF_MS : Math.min(Math.max(this.backoff * 2, MIN_BACKOFF_MS), this.maxBackoff);
    this.enter('BACKOFF');
  }
  /** About once a second. */
  tick(): void {
    if (this.ended) return;
    const waited = this.clock() - this.since;
    if (this.state === 'BACKOFF' && waited >= this.backoff) {
      this.connect();
    } else if (this.state === 'CONNECTING' && waited >= Math.max(MIN_BACKOFF_MS, this.backoff)) {
      this.giveUp?.();
      this.lost('Connection timed out');
    }
  }
  /** Ends the connection, and makes no other. */
  end(): void {
    this.ended = true;
    this.giveUp?.();
    this.peer?.close();
    this.peer = null;
  }
}
