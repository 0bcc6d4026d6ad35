/**
 * The controllers of a bridge as its database rows name them, and what the bridge does without one (ovs ofproto/connmgr.c, struct
 * ofservice; ofproto/fail-open.c).
 */
import type { Acceptor, Peer, Session, Streams } from '../stream.ts';
import type { OpenflowAgent } from './agent.ts';
import type { ConnectionType } from './connection.ts';
import { Remote } from './remote.ts';

/** A Controller row. */
export interface RemoteSettings {
  readonly target: string;
  /** ms; null: 8000. */
  readonly maxBackoff: number | null;
  /** ms; null: 5000, 0: none. */
  readonly inactivityProbe: number | null;
  readonly enableAsyncMessages: boolean;
  /** `primary` or `service`; null: primary where the bridge connects, service where it listens. */
  readonly type: string | null;
}
export interface Remotes {
  readonly controllers: readonly RemoteSettings[];
  readonly failMode: 'standalone' | 'secure';
  /** Bridge.protocols; empty: all. */
  readonly protocols: readonly string[];
}
/** Columns of a Controller row. */
export interface ControllerStatus {
  readonly target: string;
  readonly connected: boolean;
  readonly role: 'other' | 'master' | 'slave';
  readonly status: Readonly<Record<string, string>>;
}

export class RemoteSet {
  declare private readonly agent: OpenflowAgent;
  private streams: Streams | null = null;
  /** By target: those that the bridge connects to, and those that it listens for. */
  private readonly remotes = new Map<string, Remote>();
  private readonly listeners = new Map<string, { settings: RemoteSettings; end: () => void }>();
  private versions = 0;
  private failedOpen = false;

  constructor(agent: OpenflowAgent) {
    this.agent = agent;
  }

  start(streams: Streams): void {
    this.streams = streams;
    for (const remote of this.remotes.values()) remote.start(streams);
    for (const listener of this.listeners.values()) this.listen(listener);
  }

  /** Whether someone is to tell the bridge what to do. */
  private get hasControllers(): boolean {
    if ([...this.remotes.values()].some((remote) => remote.type === 'primary')) return true;
    return [...this.listeners.values()].some(({ settings }) => settings.type === 'primary');
  }

  configure(wanted: Remotes, now: number): void {
    const other = this.versions !== 0 && this.versions !== this.agent.versions;
    this.versions = this.agent.versions;
    const targets = new Map(wanted.controllers.map((settings) => [settings.target, settings]));
    for (const [target, remote] of this.remotes) {
      const settings = targets.get(target);
      if (settings !== undefined && typeOf(settings) === remote.type && !other) continue;
      remote.close();
      this.remotes.delete(target);
    }
    for (const [target, { end }] of this.listeners) {
      if (targets.has(target)) continue;
      end();
      this.listeners.delete(target);
    }
    for (const settings of targets.values()) this.add(settings);
    // A bridge that gets its first controller, or loses its last one, forgets its flows; a mode counts without controllers.
    const { ofproto } = this.agent;
    ofproto.setControllers(this.hasControllers, now);
    ofproto.setFailMode(wanted.failMode, now);
    if (this.failedOpen && (!this.hasControllers || wanted.failMode === 'secure')) this.recover(now);
  }

  private add(settings: RemoteSettings): void {
    const { target } = settings;
    if (target.startsWith('ptcp:') || target.startsWith('punix:')) {
      const known = this.listeners.get(target);
      if (known !== undefined) {
        known.settings = settings;
        return;
      }
      const listener = { settings, end: (): void => {} };
      this.listeners.set(target, listener);
      this.listen(listener);
      return;
    }
    const known = this.remotes.get(target);
    if (known !== undefined) known.configure(settings);
    else {
      const remote = new Remote(this.agent, settings, typeOf(settings));
      this.remotes.set(target, remote);
      if (this.streams !== null) remote.start(this.streams);
    }
  }
  private listen(listener: { settings: RemoteSettings; end: () => void }): void {
    const { target } = listener.settings;
    const acceptor: Acceptor = {
      accept: (peer: Peer): Session => {
        const { settings } = listener;
        const probe = target.startsWith('punix:') ? 0 : probeSeconds(settings);
        return this.agent.session(peer, typeOf(settings), probe, () => {});
      },
    };
    listener.end =
      this.streams?.listen(
        target,
        acceptor,
        () => {},
        () => {},
      ) ?? ((): void => {});
  }

  status(): readonly ControllerStatus[] {
    return [...this.remotes.values()].map((remote) => remote.status());
  }
  reconnect(): void {
    for (const remote of this.remotes.values()) remote.reconnect();
  }
  close(): void {
    for (const remote of this.remotes.values()) remote.close();
    for (const { end } of this.listeners.values()) end();
    this.remotes.clear();
    this.listeners.clear();
  }

  tick(): void {
    for (const remote of this.remotes.values()) remote.tick();
    this.failOpen();
  }

  // ---- without a controller -------------------------------------------------------------------------------------------------
  /** Every controller has had time for a probe, its answer, and a reconnection: without any of them the bridge acts by itself. */
  private failOpen(): void {
    const primaries = [...this.remotes.values()].filter((remote) => remote.type === 'primary');
    if (this.agent.ofproto.failMode !== 'standalone' || primaries.length === 0) return;
    const failed = Math.min(...primaries.map((remote) => remote.failureSeconds));
    if (this.failedOpen) {
      if (failed === 0) this.agent.act(`${this.agent.ofproto.name}: a controller is back`, (now) => this.recover(now));
      return;
    }
    const trigger = 3 * Math.max(...primaries.map((remote) => remote.probeInterval));
    if (failed === 0 || failed < trigger) return;
    this.agent.act(`${this.agent.ofproto.name}: no controller for ${failed} s, failing open`, (now) => {
      this.failedOpen = true;
      this.agent.ofproto.setFailOpen(true, now);
      this.agent.ofproto.flush(now);
    });
  }
  private recover(now: number): void {
    this.failedOpen = false;
    this.agent.ofproto.setFailOpen(false, now);
  }
}

function typeOf({ target, type }: RemoteSettings): ConnectionType {
  if (type === 'primary' || type === 'service') return type;
  return target.startsWith('p') ? 'service' : 'primary';
}
/** Seconds between probes: at least 5, or none. */
export function probeSeconds({ inactivityProbe }: RemoteSettings): number {
  if (inactivityProbe === null) return 5;
  return inactivityProbe === 0 ? 0 : Math.max(5, Math.floor(inactivityProbe / 1000));
}
