/**
 * A connection to a NATS server that is never given up: made when the server is there, made again when it was lost. Whoever uses it
 * is told when jobs can be passed, and each time that they can be again.
 */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import {
  connect,
  credsAuthenticator,
  type NatsConnection,
  type NodeConnectionOptions,
  type Status,
  TimeoutError,
} from '@nats-io/transport-node';
import { type NatsAddress, natsAddress } from './nats-address.ts';
import { Broker } from './nats-broker.ts';
import { type NatsFiles, NO_NATS_FILES, wantsTls } from './nats-files.ts';
import { refusalOf } from './nats-refusals.ts';

/** Between two attempts to connect, ms. */
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 5000;
/** A connection that was lost is asked for that often for so long, ms, and then as seldom as one that was never there. */
const HASTE_MS = 10_000;
/** How long a server may take to answer, ms. */
const CONNECT_MS = 5000;
/** A server that says nothing for two of these is gone, ms. */
const PING_MS = 10_000;
/** As long as there is no connection it is said again why, ms: a log that tells it once is forgotten. */
const SAY_AGAIN_MS = 60_000;
/** A connection that is not back so long after it was lost is asked why, ms. */
const ASK_WHY_MS = 5000;

export interface LinkOptions {
  readonly url: string;
  readonly files?: NatsFiles;
  readonly prefix: string;
  /** Name of the connection, for those who look at the server. */
  readonly name: string;
  /** Why there is no connection: each new reason at once, the same every `sayAgainMs`. */
  readonly trouble: (text: string) => void;
  readonly sayAgainMs?: number;
  readonly askWhyMs?: number;
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
  private readonly files: NatsFiles;
  private readonly tls: boolean;
  private nc: NatsConnection | null = null;
  private said = '';
  private saidAt = 0;
  private closed = false;
  private asking: NodeJS.Timeout | null = null;
  private lostAt = 0;
  private wake: (() => void) | null = null;
  /** Whether there is a connection now, as far as it is known. */
  up = false;

  constructor(options: LinkOptions, ends: LinkEnds) {
    this.options = options;
    this.ends = ends;
    this.address = natsAddress(options.url);
    this.files = options.files ?? NO_NATS_FILES;
    this.tls = wantsTls(this.address, this.files);
    void this.run();
  }

  /** Waits until what was published has been handed to the server, if there is one. */
  async flush(): Promise<void> {
    if (this.nc !== null && !this.nc.isClosed()) await this.nc.flush().catch(() => {});
  }
  async close(): Promise<void> {
    this.closed = true;
    this.stopAsking();
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
      this.stopAsking();
      await this.nc?.close();
      this.nc = null;
      await this.pause(wait);
      wait = Math.min(2 * wait, LONGEST_RETRY_MS);
    }
  }
  /** Resolves when the connection is lost for good. */
  private async hold(succeeded: () => void): Promise<void> {
    const nc = await this.connect();
    this.nc = nc;
    if (this.closed) return;
    // from now on: what happens while all is made is looked at afterwards
    const status = nc.status();
    const broker = await Broker.open(nc, this.options.prefix);
    this.up = true;
    await this.ends.connected(broker);
    succeeded();
    this.said = '';
    void this.listen(status, nc, broker);
    const error = await nc.closed();
    if (error instanceof Error) throw error;
  }
  private async listen(status: AsyncIterable<Status>, nc: NatsConnection, broker: Broker): Promise<void> {
    for await (const { type } of status) {
      if (this.closed) return;
      // Each attempt to connect again that a server has refused is a `disconnect`, too, and has a `reconnect` when one succeeds.
      if (type === 'disconnect' && this.up) {
        this.up = false;
        this.lostAt = performance.now();
        this.trouble(new Error('the connection is lost'));
        this.askWhy(this.options.askWhyMs ?? ASK_WHY_MS);
      }
      if (type === 'reconnect' && !this.up) {
        this.stopAsking();
        await this.again(nc, broker);
      }
    }
  }
  /**
   * The client forgets why a server has ended the connection while it was made, and is late then. A refused certificate is told after
   * the handshake (RFC 8446 §4.4.2.4), so it is among these.
   */
  private async connect(): Promise<NatsConnection> {
    try {
      return await connect(this.connectOptions());
    } catch (error) {
      throw error instanceof TimeoutError ? ((await this.reason()) ?? error) : error;
    }
  }
  /** Why no connection can be made, as one tells that is not tried again. Null: it can. */
  private async reason(): Promise<unknown> {
    try {
      const nc = await connect({ ...this.connectOptions(), reconnect: false });
      await nc.close();
      return null;
    } catch (error) {
      return error;
    }
  }
  /** A client that tries to reach the server again does not tell why it cannot. */
  private askWhy(ms: number): void {
    this.stopAsking();
    this.asking = setTimeout(async () => {
      const reason = await this.reason();
      if (reason !== null && !this.up) this.trouble(reason);
      if (!this.up && !this.closed && this.asking !== null) this.askWhy(this.options.sayAgainMs ?? SAY_AGAIN_MS);
    }, ms);
  }
  private stopAsking(): void {
    if (this.asking !== null) clearTimeout(this.asking);
    this.asking = null;
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
    const { servers, user, password } = this.address;
    const { creds } = this.files;
    return {
      servers: [...servers],
      name: this.options.name,
      maxReconnectAttempts: -1,
      reconnectDelayHandler: () =>
        performance.now() - this.lostAt < HASTE_MS ? (1 + Math.random()) * FIRST_RETRY_MS : LONGEST_RETRY_MS,
      ignoreAuthErrorAbort: true,
      timeout: CONNECT_MS,
      pingInterval: PING_MS,
      ...(this.tls ? { tls: this.tlsOptions() } : {}),
      ...(user === null ? {} : password === null ? { token: user } : { user, pass: password }),
      // Read for each connection: they may have been renewed.
      ...(creds === null ? {} : { authenticator: credsAuthenticator(() => readFileSync(creds)) }),
    };
  }
  /** The client hands what it does not know itself to Node.js. */
  private tlsOptions(): NonNullable<NodeConnectionOptions['tls']> & {
    checkServerIdentity: (host: string, certificate: PeerCertificate) => Error | undefined;
  } {
    const { ca, cert, key } = this.files;
    return {
      ...(ca === null ? {} : { caFile: ca }),
      ...(cert === null || key === null ? {} : { certFile: cert, keyFile: key }),
      checkServerIdentity: (host, certificate) => this.wrongIdentity(host, certificate),
    };
  }
  /**
   * The client names no host where it has an address, and Node.js looks for `localhost` in the certificate then. What the certificate of an
   * address has to have is one of the addresses that were given.
   */
  private wrongIdentity(host: string, certificate: PeerCertificate): Error | undefined {
    const given = this.address.servers.map((server) => server.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1'));
    const addresses = given.filter((name) => isIP(name) !== 0);
    const names = addresses.length === 0 || given.includes(host) || host !== 'localhost' ? [host] : [];
    const faults = [...names, ...addresses].map((name) => checkServerIdentity(name, certificate));
    return faults.includes(undefined) ? undefined : faults[0];
  }
  private trouble(error: unknown): void {
    const credentials = this.address.user !== null || this.files.creds !== null;
    const text = refusalOf(error, { tls: this.tls, credentials });
    const now = performance.now();
    const again = text === this.said;
    if (this.closed || (again && now - this.saidAt < (this.options.sayAgainMs ?? SAY_AGAIN_MS))) return;
    this.said = text;
    this.saidAt = now;
    const still = again ? 'still no connection: ' : '';
    this.options.trouble(`NATS at ${this.address.servers.join(', ')}: ${still}${text}`);
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
