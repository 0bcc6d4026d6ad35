/**
 * Where the Open vSwitch of a world's hosts can be reached: listeners are opened for each database, control socket and bridge, and
 * follow the bridges that come and go.
 */
import type { OvsDoors } from '../machine/ovs/doors.ts';
import type { Acceptor, Door, Streams } from '../machine/ovs/stream.ts';
import type { Topology } from './topology.ts';

/** `target` is as clients take it: `tcp:127.0.0.1:6640` or `unix:…/db.sock`, the plain path for ovs-appctl. */
export interface Endpoint {
  readonly host: string;
  readonly bridge?: string;
  readonly protocol: 'ovsdb' | 'openflow' | 'unixctl';
  readonly target: string;
  /** Why it is not there; it is tried again every second. */
  readonly error?: string;
}
/** Streams of one host, and the folder with its sockets. */
export interface HostNetwork extends Streams {
  readonly folder: string;
  /** Ends all of it; settles when its ports are free. */
  close(): Promise<void>;
}
/** Makes the network of a host. `onTick`: called about once a second, with a monotonic clock in ms. */
export type MakeNetwork = (topology: string, host: string, onTick: (nowMs: number) => void) => HostNetwork;

/** A place to listen, and what came of it. */
interface Listening {
  readonly endpoint: { -readonly [K in keyof Endpoint]: Endpoint[K] };
  readonly end: () => void;
}

class HostEndpoints {
  private readonly doors: OvsDoors;
  private readonly topology: Topology;
  private readonly network: HostNetwork;
  private readonly settled: () => void;
  private readonly own: Listening[];
  private readonly bridges = new Map<string, { readonly acceptor: Acceptor; readonly listening: Listening[] }>();
  /** Listeners that have not been heard of. */
  private pending = 0;

  constructor(topology: Topology, doors: OvsDoors, door: Door, make: MakeNetwork, settled: () => void) {
    this.topology = topology;
    this.doors = doors;
    this.settled = settled;
    this.network = make(topology.name, doors.host, (nowMs) => doors.tick(nowMs));
    const { ovsdbPort } = topology.hosts.find((h) => h.name === doors.host)!.ovs;
    const { host } = doors;
    const ovsdb = { host, protocol: 'ovsdb' } as const;
    this.own = [
      this.listen(ovsdb, `ptcp:${ovsdbPort ?? 0}`, doors.ovsdb),
      this.listen(ovsdb, 'db.sock', doors.ovsdb),
      this.listen({ host, protocol: 'unixctl' }, 'ovs-vswitchd.ctl', doors.unixctl),
    ];
    doors.onBridges = () => this.follow();
    this.follow();
    doors.connect(door, this.network);
  }

  get list(): Endpoint[] {
    return [...this.own, ...[...this.bridges.values()].flatMap(({ listening }) => listening)].map((l) => l.endpoint);
  }
  get ready(): boolean {
    return this.pending === 0;
  }
  close(): Promise<void> {
    this.doors.onBridges = () => {};
    return this.network.close();
  }

  /** Listeners for the bridges that there are, and no others. */
  private follow(): void {
    const { host, bridges } = this.doors;
    for (const [name, { acceptor, listening }] of this.bridges) {
      if (bridges.get(name) === acceptor) continue;
      for (const { end } of listening) end();
      this.bridges.delete(name);
    }
    const documents = this.topology.hosts.find((h) => h.name === host)!.bridges;
    for (const [name, acceptor] of bridges) {
      if (this.bridges.has(name)) continue;
      const port = documents.find((b) => b.name === name)?.openflowPort ?? 0;
      const endpoint = { host, bridge: name, protocol: 'openflow' } as const;
      const listening = [
        this.listen(endpoint, `ptcp:${port}`, acceptor),
        this.listen(endpoint, `${name}.mgmt`, acceptor),
      ];
      this.bridges.set(name, { acceptor, listening });
    }
  }

  /** `at`: `ptcp:…`, or the name of a socket in the host's folder. */
  private listen(of: Omit<Endpoint, 'target' | 'error'>, at: string, acceptor: Acceptor): Listening {
    const path = at.startsWith('ptcp:') ? null : `${this.network.folder}/${at}`;
    const endpoint: Listening['endpoint'] = { ...of, target: this.shown(of, path ?? at) };
    this.pending++;
    let heard = false;
    const hear = (): void => {
      if (heard) return;
      heard = true;
      if (--this.pending === 0) this.settled();
    };
    const end = this.network.listen(
      path === null ? at : `punix:${path}`,
      acceptor,
      (target) => {
        endpoint.target = this.shown(of, path ?? target);
        delete endpoint.error;
        hear();
      },
      (error) => {
        endpoint.error = error;
        hear();
      },
    );
    return { endpoint, end };
  }

  private shown({ protocol }: Pick<Endpoint, 'protocol'>, at: string): string {
    if (!at.startsWith('ptcp:')) return protocol === 'unixctl' ? at : `unix:${at}`;
    const [, port = '', ...host] = at.split(':');
    return `tcp:${host.length === 0 ? '127.0.0.1' : host.join(':')}:${port}`;
  }
}

/** All of a world. */
export class Endpoints {
  private readonly hosts: readonly HostEndpoints[];
  /** Settles when each listener is there, or has failed for the first time. */
  readonly ready: Promise<void>;

  /** `door`: the way into the world for the sessions of a host. */
  constructor(topology: Topology, hosts: readonly OvsDoors[], door: (of: OvsDoors) => Door, make: MakeNetwork) {
    let resolve = (): void => {};
    this.ready = new Promise<void>((done) => {
      resolve = done;
    });
    const settled = (): void => {
      if (this.hosts?.every((h) => h.ready)) resolve();
    };
    this.hosts = hosts.map((of) => new HostEndpoints(topology, of, door(of), make, settled));
    settled();
  }

  get list(): Endpoint[] {
    return this.hosts.flatMap((h) => h.list);
  }
  /** Settles when all ports are free again. */
  async close(): Promise<void> {
    await Promise.all(this.hosts.map((h) => h.close()));
  }
}
