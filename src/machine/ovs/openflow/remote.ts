/** A controller that the bridge connects to: attempts, back-off, probes (ovs lib/rconn.c). Times are of the wall clock. */
import type { Peer, Streams } from '../stream.ts';
import type { OpenflowAgent } from './agent.ts';
import type { Connection, ConnectionType } from './connection.ts';
import { type ControllerStatus, probeSeconds, type RemoteSettings } from './remotes.ts';
import { OFPCR12_ROLE_PRIMARY, OFPCR12_ROLE_SECONDARY } from './wire/config.ts';

const MIN_BACKOFF = 1000;
const DEFAULT_MAX_BACKOFF = 8000;

type State = 'VOID' | 'BACKOFF' | 'CONNECTING' | 'ACTIVE';

export class Remote {
  declare private readonly agent: OpenflowAgent;
  declare readonly type: ConnectionType;
  private settings: RemoteSettings;
  private state: State = 'VOID';
  private enteredAt = 0;
  private backoff = 0;
  /** A connection that lasts until then begins the next series of attempts anew. */
  private backoffDeadline = -Infinity;
  private connection: Connection | null = null;
  private giveUp: () => void = () => {};
  private streams: Streams | null = null;
  private closed = false;
  private lastConnected: number | null = null;
  private lastDisconnected: number | null = null;
  private lastError: string | null = null;
  private lastAdmitted: number;

  constructor(agent: OpenflowAgent, settings: RemoteSettings, type: ConnectionType) {
    this.agent = agent;
    this.settings = settings;
    this.type = type;
    this.lastAdmitted = agent.nowMs;
  }

  get probeInterval(): number {
    return this.settings.target.startsWith('unix:') ? 0 : probeSeconds(this.settings);
  }
  private get maxBackoff(): number {
    const { maxBackoff } = this.settings;
    return maxBackoff === null ? DEFAULT_MAX_BACKOFF : Math.max(MIN_BACKOFF, Math.floor(maxBackoff / 1000) * 1000);
  }
  /** Whole seconds since the controller has last had the bridge in its hands; 0: it has. */
  get failureSeconds(): number {
    const { connection, agent } = this;
    const stays = connection?.connected === true && (connection.admitted || agent.nowMs - this.enteredAt > 30_000);
    if (stays) this.lastAdmitted = agent.nowMs;
    return Math.floor((agent.nowMs - this.lastAdmitted) / 1000);
  }

  start(streams: Streams): void {
    this.streams = streams;
    this.lastAdmitted = this.agent.nowMs;
    this.dial();
  }
  configure(settings: RemoteSettings): void {
    this.settings = settings;
    this.backoff = Math.min(this.backoff, this.maxBackoff);
    if (this.connection !== null) this.connection.probeInterval = this.probeInterval;
  }

  private enter(state: State): void {
    this.state = state;
    this.enteredAt = this.agent.nowMs;
    this.agent.onStatus();
  }
  private dial(): void {
    const { agent, streams } = this;
    if (streams === null || this.closed) return;
    this.backoffDeadline = agent.nowMs + this.backoff;
    this.enter('CONNECTING');
    let over = false;
    this.giveUp = streams.dial(
      this.settings.target,
      (peer) => {
        over = true;
        return this.connected(peer);
      },
      (error) => {
        if (over || this.closed) return;
        over = true;
        this.failed(error);
      },
    );
  }
  private connected(peer: Peer): Connection {
    const { agent } = this;
    this.lastConnected = agent.nowMs;
    const connection = agent.session(peer, this.type, this.probeInterval, (error) => this.ended(error));
    connection.asyncMessages = this.settings.enableAsyncMessages;
    this.connection = connection;
    this.enter('ACTIVE');
    return connection;
  }
  private failed(error: string): void {
    this.lastError = error;
    // An attempt that failed does not begin a new series.
    this.backoffDeadline = Infinity;
    this.disconnect();
  }
  private ended(error: string | null): void {
    this.connection = null;
    if (this.closed) return;
    this.lastDisconnected = this.agent.nowMs;
    this.lastError = error ?? 'End of file';
    this.disconnect();
  }
  private disconnect(): void {
    const { nowMs } = this.agent;
    if (nowMs >= this.backoffDeadline || this.backoff === 0) this.backoff = MIN_BACKOFF;
    else if (this.backoff < this.maxBackoff / 2) this.backoff = Math.max(MIN_BACKOFF, 2 * this.backoff);
    else this.backoff = this.maxBackoff;
    this.backoffDeadline = nowMs + this.backoff;
    this.enter('BACKOFF');
  }

  tick(): void {
    const waited = this.agent.nowMs - this.enteredAt;
    if (this.state === 'BACKOFF' && waited >= this.backoff) this.dial();
    else if (this.state === 'CONNECTING' && waited >= Math.max(MIN_BACKOFF, this.backoff)) {
      this.giveUp();
      this.failed('Connection timed out');
    }
  }
  /** Begins anew: the controller has to learn what has changed. */
  reconnect(): void {
    this.connection?.end(null);
  }
  close(): void {
    this.closed = true;
    this.giveUp();
    this.connection?.end(null);
    this.connection = null;
    this.enter('VOID');
  }

  status(): ControllerStatus {
    const { connection, agent } = this;
    const seconds = (since: number): string => `${Math.floor((agent.nowMs - since) / 1000)}`;
    const role = connection?.role;
    return {
      target: this.settings.target,
      connected: connection?.connected ?? false,
      role: role === OFPCR12_ROLE_PRIMARY ? 'master' : role === OFPCR12_ROLE_SECONDARY ? 'slave' : 'other',
      status: {
        ...(this.lastError === null ? {} : { last_error: this.lastError }),
        ...(this.lastConnected === null ? {} : { sec_since_connect: seconds(this.lastConnected) }),
        ...(this.lastDisconnected === null ? {} : { sec_since_disconnect: seconds(this.lastDisconnected) }),
        state: this.state === 'ACTIVE' && connection?.idle === true ? 'IDLE' : this.state,
      },
    };
  }
}
