/** What of a host's Open vSwitch others connect to. */
import type { Acceptor, Door, Streams } from './stream.ts';
import type { Unixctl } from './unixctl/server.ts';

/** ovsdb-server and ovs-vswitchd of one host, as the ways into them see it. */
export interface OvsDoors {
  /** The host's name. */
  readonly host: string;
  /** Bits of the context under which it is recorded what is done for those who connect. */
  readonly contextBits: number;
  /** Sessions of its database. */
  readonly ovsdb: Acceptor;
  /** Control socket of ovs-vswitchd. */
  readonly unixctl: Unixctl;
  /** OpenFlow sessions of its bridges as they are now, by the bridge's name. */
  readonly bridges: ReadonlyMap<string, Acceptor>;
  /** Called when bridges have come or gone; set by whoever listens for them. */
  onBridges: () => void;
  /**
   * The host has got a network, and a way into its world: what its rows name is connected to and listened on from now on. Not
   * called for a world that has no network.
   */
  connect(door: Door, streams: Streams): void;
  /** About once a second of wall time, `nowMs` a monotonic clock: connections that are tried again. */
  tick(nowMs: number): void;
}
