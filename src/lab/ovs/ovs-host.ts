/** ovsdb-server and ovs-vswitchd of one emulated host, put together: what clients connect to, and what follows from their wishes. */
import { RandomStream } from '../../engine/random.ts';
import type { OvsDoors } from '../../machine/ovs/doors.ts';
import type { Database } from '../../machine/ovs/ovsdb/database.ts';
import { OvsdbError } from '../../machine/ovs/ovsdb/error.ts';
import type { JsonObject } from '../../machine/ovs/ovsdb/json.ts';
import { Managers } from '../../machine/ovs/ovsdb/rpc/managers.ts';
import { OvsdbServer } from '../../machine/ovs/ovsdb/rpc/server.ts';
import {
  type Acceptor,
  type Door,
  NO_STREAMS,
  type Peer,
  type Session,
  type Streams,
} from '../../machine/ovs/stream.ts';
import { Unixctl } from '../../machine/ovs/unixctl/server.ts';
import { Vswitchd } from '../../machine/ovs/vswitchd/vswitchd.ts';
import { Refusal } from '../refusal.ts';
import type { Host } from '../topology.ts';
import { ctlHost } from './ctl-host.ts';
import { addFlows } from './document-flows.ts';
import type { HostSwitch } from './host-switch.ts';
import { insertInitialRows } from './initial-rows.ts';
import { portNames } from './openflow-requests.ts';
import { type Plugged, pluggedBy, plugRow, unplugRow } from './plug-rows.ts';

/**
 * Wall time between two refreshes of statistics for those who only listen, ms.
 * DEVIATION: `stats-update-interval` is not read; clients that ask have statistics of that moment.
 */
const REFRESH_MS = 5000;

/**
 * Runs what a timer or a socket brings. Where the world has failed in the meantime there is nobody to refuse it to, and nothing may
 * come out of it: the thread has other worlds.
 */
function unlessFailed(run: () => void): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
  }
}

export interface OvsHostOptions {
  readonly document: Host;
  /** To it, in the topology's document. */
  readonly pointer: string;
  readonly seed: number;
  readonly prefix: string;
  readonly switch: HostSwitch;
  /** Virtual time of what is going on, ns. */
  readonly clock: () => number;
  /** Changes with everything that is recorded: whether statistics can be other than they were. */
  readonly events: () => number;
  /** Cores of PMDs as a mask; null: there are none. */
  readonly pmdMask: string | null;
}

export class OvsHost implements OvsDoors {
  readonly host: string;
  readonly document: Host;
  readonly switch: HostSwitch;
  readonly db: Database;
  readonly vswitchd: Vswitchd;
  readonly ovsdb: Acceptor;
  readonly unixctl: Unixctl;
  onBridges: () => void = () => {};
  streams: Streams = NO_STREAMS;
  /** A client has changed what the document said. */
  changed = false;
  /** That, or what ovs-vswitchd remembers of it, has not been asked for since: see takePersistent(). */
  private dirty = false;
  readonly options: OvsHostOptions;
  private readonly server: OvsdbServer;
  private real: Door | null = null;
  private managers: Managers | null = null;
  private refreshedAt = -1;
  private refreshedWall = 0;
  /** Generations of bridges' OpenFlow tables when the world began. */
  private readonly began = new Map<string, number>();
  /** By what devices that are being wired differently were plugged in. */
  private readonly unplugged = new Map<string, Plugged | null>();
  /** A change of the lab's own is under way: a NIC is wired differently. */
  private wiring = false;
  private wall = 0;

  constructor(options: OvsHostOptions) {
    this.options = options;
    this.host = options.document.name;
    this.document = options.document;
    this.switch = options.switch;
    const random = new RandomStream(options.seed, `ovsdb ${options.prefix}`);
    this.server = new OvsdbServer({ random, door: this.door, clock: () => performance.now() });
    this.db = this.server.database;
    this.vswitchd = new Vswitchd(this.db, this.switch, options.clock);
    this.ovsdb = { accept: (peer) => this.accept(peer) };
    this.unixctl = new Unixctl(ctlHost(this), () => this.door);
    this.switch.onChange = () => this.onBridges();
    this.switch.onAgent = (agent) => {
      agent.onStatus = () => this.statusChanged();
      if (this.real !== null) agent.connect(this.door, this.streams);
    };
  }

  get contextBits(): number {
    return this.switch.contextBits;
  }
  get bridges(): ReadonlyMap<string, Acceptor> {
    return new Map([...this.switch.switches].map(([name, { agent }]) => [name, agent]));
  }

  /** The way into the world; while it is built there is none yet, and none is needed. */
  readonly door: Door = {
    act: (command, detail, run) =>
      this.real === null ? run(this.options.clock(), this.contextBits) : this.real.act(command, detail, run),
    now: () => this.real?.now() ?? this.options.clock(),
  };

  /**
   * The world's devices are there: the database gets its rows, the document's or those of `saved` (takePersistent() of an earlier
   * world of this document), and ovs-vswitchd carries them out.
   */
  start(saved: JsonObject | null): void {
    this.restore(saved);
    this.vswitchd.start();
    this.addFlows();
    this.db.onCommit(({ persistent, author }) => {
      if (!persistent) return;
      if (author !== this.vswitchd && !this.wiring) this.changed = true;
      this.dirty = true;
    });
    this.switch.prune();
    this.switch.running = true;
    for (const [name, { ofproto }] of this.switch.switches) this.began.set(name, ofproto.tables.generation);
    this.switch.onAttach = (bridge, device) => {
      const was = this.unplugged.get(device.name) ?? null;
      this.rewired(() => plugRow(this.db, bridge, device, was));
    };
    this.switch.onDetach = (device) => {
      this.unplugged.set(device.name, pluggedBy(this.db, device.name));
      this.rewired(() => unplugRow(this.db, device.name));
    };
  }
  /** Throws Refusal where one of the document's is none. */
  private addFlows(): void {
    for (const [i, { name, flows }] of this.document.bridges.entries()) {
      const ofproto = this.switch.switches.get(name)?.ofproto;
      const fault = ofproto === undefined ? null : addFlows(ofproto.tables, flows, portNames(ofproto));
      // the ports of a database that clients have changed may be others
      if (fault === null || this.changed) continue;
      const field = `${this.options.pointer}/bridges/${i}/flows/${fault.index}`;
      throw new Refusal('INVALID', `${fault.why}; expected a flow in the syntax of ovs-ofctl`, field);
    }
  }
  /** A bridge whose OpenFlow tables clients have changed; null: there is none. */
  get bridgeWithOtherFlows(): string | null {
    for (const [name, { ofproto }] of this.switch.switches)
      if (this.began.get(name) !== ofproto.tables.generation) return name;
    return null;
  }
  private restore(saved: JsonObject | null): void {
    if (saved !== null) {
      try {
        this.db.load(saved);
        this.changed = true;
        return;
      } catch (error) {
        // of a version whose schema was another one: the document counts
        if (!(error instanceof OvsdbError)) throw error;
      }
    }
    insertInitialRows(this.db, this.document, this.options.pmdMask);
  }
  private rewired(change: () => void): void {
    this.wiring = true;
    try {
      change();
    } finally {
      this.wiring = false;
    }
  }

  /** What is to be kept of the database, where that has changed since the last time; null: nothing. */
  takePersistent(): JsonObject | null {
    if (!this.changed || !this.dirty) return null;
    this.dirty = false;
    return this.db.toJson();
  }

  connect(door: Door, streams: Streams): void {
    this.real = door;
    this.streams = {
      dial: (target, connected, failed) =>
        streams.dial(target, connected, (error) => unlessFailed(() => failed(error))),
      listen: (target, acceptor, listening, failed) =>
        streams.listen(
          target,
          acceptor,
          (at) => unlessFailed(() => listening(at)),
          (error) => unlessFailed(() => failed(error)),
        ),
    };
    this.managers = new Managers(this.server, this.streams);
    for (const { agent } of this.switch.switches.values()) agent.connect(this.door, this.streams);
  }
  tick(nowMs: number): void {
    unlessFailed(() => {
      this.wall = nowMs;
      this.managers?.tick();
      for (const { agent } of this.switch.switches.values()) agent.tick(nowMs);
      if (nowMs < this.refreshedWall + REFRESH_MS || this.server.sessionCount === 0) return;
      this.refresh();
    });
  }

  private statusChanged(): void {
    if (this.vswitchd.busy) return;
    unlessFailed(() => this.door.act('ovsdb status', null, () => this.vswitchd.refreshStatus()));
  }
  /** Clients read statistics as they are when they ask. */
  private accept(peer: Peer): Session {
    const session = this.server.accept(peer);
    return {
      receive: (bytes) => {
        this.refresh();
        session.receive(bytes);
      },
      closed: (error) => session.closed(error),
      tick: (nowMs) => session.tick?.(nowMs),
    };
  }
  private refresh(): void {
    const events = this.options.events();
    if (events === this.refreshedAt) return;
    this.refreshedAt = events;
    this.refreshedWall = this.wall;
    this.door.act('ovsdb status', null, () => {
      this.vswitchd.refreshStatus();
      this.vswitchd.refreshStatistics();
    });
  }
}
