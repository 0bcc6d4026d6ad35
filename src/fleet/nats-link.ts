/**
 * A connection to a NATS server that is never given up: made when the server is there, made again when it was lost. Whoever uses it
 * is told when jobs can be passed, and each time that they can be again.
 */
import { connect, type NatsConnection, type NodeConnectionOptions } from '@nats-io/transport-node';
import { type NatsAddress, natsAddress } from './nats-address.ts';
import { Broker } from './nats-broker.ts';

/** Between two attempts to connect, ms. */
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 5000;
/** How long a server may take to answer, ms. */
const CONNECT_MS = 5000;
/** A server that says nothing for two of these is gone, ms. */
const PING_MS = 10_000;

export interface LinkOptions {
  readonly url: string;
  readonly prefix: string;
  /** Name of the connection, for those who look at the server. */
  readonly name: string;
  /** Told once for each new reason: why there is no connection. */
  readonly trouble: (text: string) => void;
}
export interface LinkEnds {
  /** There is a connection: subscribe. */
  readonly connected: (broker: Broker) => void | Promise<void>;
  /** The same connection is there again: what was sent meanwhile may be lost, and so may what the server knew. */
  readonly again: (broker: Broker) => void | Promise<void>;
}

export class NatsLink {
  private readonly options: LinkOptions;
  private readonly ends: LinkEnds;
  private readonly address: NatsAddress;
  private nc: NatsConnection | null = null;
  private said = '';
  private closed = false;
  private wake: (() => void) | null = null;
  /** Whether there is a connection now, as far as it is known. */
  up = false;

  constructor(options: LinkOptions, ends: LinkEnds) {
    this.options = options;
    this.ends = ends;
    this.address = natsAddress(options.url);
    void this.run();
  }

  /** Waits until what was published has been handed to the server, if there is one. */
  async flush(): Promise<void> {
    if (this.nc !== null && !this.nc.isClosed()) await this.nc.flush().catch(() => {});
  }
  async close(): Promise<void> {
    this.closed = true;
    this.wake?.();
    await this.nc?.close();
  }

  private async run(): Promise<void> {
    let wait = FIRST_RETRY_MS;
    while (!this.closed) {
      try {
        await this.hold(() => {
          wait = FIRST_RETRY_MS;
        });
      } catch (error) {
        this.trouble(error);
      }
      this.up = false;
      await this.nc?.close();
      this.nc = null;
      await this.pause(wait);
      wait = Math.min(2 * wait, LONGEST_RETRY_MS);
    }
  }
  /** Resolves when the connection is lost for good. */
  private async hold(succeeded: () => void): Promise<void> {
    const nc = await connect(this.connectOptions());
    this.nc = nc;
    if (this.closed) return;
    const broker = await Broker.open(nc, this.options.prefix);
    this.up = true;
    await this.ends.connected(broker);
    succeeded();
    this.said = '';
    void this.listen(nc, broker);
    const error = await nc.closed();
    if (error instanceof Error) throw error;
  }
  private async listen(nc: NatsConnection, broker: Broker): Promise<void> {
    for await (const { type } of nc.status()) {
      if (this.closed) return;
      if (type === 'disconnect') {
        this.up = false;
        this.trouble(new Error('the connection is lost'));
      }
      if (type === 'reconnect') await this.again(nc, broker);
    }
  }
  private async again(nc: NatsConnection, broker: Broker): Promise<void> {
    try {
      await broker.ensure();
      this.up = true;
      await this.ends.again(broker);
      this.said = '';
    } catch (error) {
      this.trouble(error);
      // Begun anew: it has said that it is there, and is not.
      if (!this.closed) await nc.close();
    }
  }

  private connectOptions(): NodeConnectionOptions {
    const { servers, tls, user, password } = this.address;
    return {
      servers: [...servers],
      name: this.options.name,
      maxReconnectAttempts: -1,
      reconnectTimeWait: FIRST_RETRY_MS,
      ignoreAuthErrorAbort: true,
      timeout: CONNECT_MS,
      pingInterval: PING_MS,
      ...(tls ? { tls: {} } : {}),
      ...(user === null ? {} : password === null ? { token: user } : { user, pass: password }),
    };
  }
  private trouble(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    if (this.closed || text === this.said) return;
    this.said = text;
    this.options.trouble(`NATS at ${this.address.servers.join(', ')}: ${text}`);
  }
  private pause(ms: number): Promise<void> {
    if (this.closed) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
