/**
 * OpenFlow of one bridge: its connections, and what it tells them unasked (ovs ofproto/connmgr.c). Sessions that come in are
 * services; the controllers of the database are connected to, or listened for.
 *
 * DEVIATION: `controller_rate_limit` limits nothing, `connection_mode` in-band changes nothing, there is no TLS and no snooping.
 */
import { OFPP_LOCAL, OFPUTIL_FF_SEND_FLOW_REM } from '../flow/actions.ts';
import type { Ofproto, PortChange } from '../ofproto/ofproto-dpif.ts';
import { OFPR_NO_MATCH, type PacketIn } from '../ofproto/packet-in.ts';
import { OFPUTIL_PC_PORT_DOWN, OFPUTIL_PS_LINK_DOWN, OFPUTIL_PS_LIVE, type OfPort } from '../ofproto/port.ts';
import type { FlowTable } from '../ofproto/tables/flow-table.ts';
import { type Requester, type TableListener, TBL_INTERNAL } from '../ofproto/tables/flow-tables.ts';
import { sameActions } from '../ofproto/tables/references.ts';
import type { Rule } from '../ofproto/tables/rule.ts';
import type { Acceptor, Door, Peer, Session, Streams } from '../stream.ts';
import { BundleRoom } from './bundles.ts';
import { Connection, type ConnectionType } from './connection.ts';
import { Continuations } from './continuations.ts';
import { type ControllerStatus, RemoteSet, type Remotes } from './remotes.ts';
import {
  OAM_FLOW_REMOVED,
  OAM_PACKET_IN,
  OAM_PORT_STATUS,
  OAM_REQUESTFORWARD,
  OAM_ROLE_STATUS,
  OAM_TABLE_STATUS,
} from './wire/async.ts';
import { finish, message } from './wire/buffer.ts';
import {
  OFP10_VERSION,
  OFP14_VERSION,
  OFP15_VERSION,
  OFPT14_REQUESTFORWARD,
  SUPPORTED_VERSIONS,
} from './wire/codes.ts';
import { type Description, encodeRoleStatus, OFPCR12_ROLE_PRIMARY, OFPCR12_ROLE_SECONDARY } from './wire/config.ts';
import { encodeErrorReply } from './wire/errors.ts';
import { encodeFlowRemoved } from './wire/flow-stats.ts';
import type { Request } from './wire/messages.ts';
import { OFPFME_ADDED, OFPFME_MODIFIED, OFPFME_REMOVED } from './wire/monitor.ts';
import { encodePacketIn, OFPUTIL_PACKET_IN_NXT2 } from './wire/packets.ts';
import { encodePortStatus, type PhyPort } from './wire/ports.ts';
import { encodeTableStatus } from './wire/tables.ts';

/** Seconds after which a silent client over TCP is asked whether it is there (ovs bridge.c, for management sockets). */
const SERVICE_PROBE_INTERVAL = 60;
const BUNDLE_IDLE_MS = 10_000;
const REASONS: Readonly<Record<PortChange, number>> = { add: 0, delete: 1, modify: 2 };
const PROTOCOLS: Readonly<Record<string, number>> = {
  OpenFlow10: 1,
  OpenFlow11: 2,
  OpenFlow12: 3,
  OpenFlow13: 4,
  OpenFlow14: 5,
  OpenFlow15: 6,
};

export class OpenflowAgent implements Acceptor {
  declare readonly ofproto: Ofproto;
  declare readonly visibleTables: readonly FlowTable[];
  datapathId = 0n;
  description: Description = {
    manufacturer: 'Nicira, Inc.',
    hardware: 'Open vSwitch',
    software: '3.1.0',
    serial: 'None',
    datapath: 'None',
  };
  readonly connections = new Set<Connection>();
  readonly continuations = new Continuations();
  readonly bundleRoom = new BundleRoom();
  /** Wall clock, ms, as it was told last. */
  nowMs = 0;
  contextBits = 0;
  /** Primary election of OpenFlow 1.2; null: none has been held. */
  generation: bigint | null = null;
  /** Bit n: version n. */
  versions = SUPPORTED_VERSIONS;
  /** A controller has come or gone, or its role has changed: columns of the database say so. */
  onStatus: () => void = () => {};
  /** Forgets connections of a zone: NXT_CT_FLUSH_ZONE. */
  flushConntrackZone: (zone: number) => void = () => {};
  readonly remotes: RemoteSet;
  private door: Door | null = null;
  private xid = 0;
  /** The connection whose PORT_MOD is being done. */
  private source: Connection | null = null;
  /** Some connection gets a packet-in for each miss. */
  private wanted = false;
  /** Ports as controllers have been told of them. */
  private readonly told = new Map<number, PhyPort>();
  /** Flows whose FLOW_REMOVED waits for the message's end. */
  private readonly removed: { rule: Rule; reason: number; now: number }[] = [];

  constructor(ofproto: Ofproto) {
    this.ofproto = ofproto;
    this.visibleTables = ofproto.tables.tables.slice(0, TBL_INTERNAL);
    this.remotes = new RemoteSet(this);
    for (const port of ofproto.ports.values()) this.told.set(port.number, this.describe(port));
    ofproto.onPacketIn = (packet) => this.packetIn(packet);
    ofproto.wantsPacketInOnMiss = () => this.wanted;
    ofproto.controllerIsAlive = () => [...this.connections].some((one) => one.type === 'primary' && one.connected);
    ofproto.onPortStatus = (change, port) => this.portStatus(change, port);
    ofproto.tables.listeners.add(this.listener());
  }

  // ---- for the bridge's owner -----------------------------------------------------------------------------------------------
  /** The host has a network: controllers are connected to from now on. */
  connect(door: Door, streams: Streams): void {
    this.door = door;
    this.remotes.start(streams);
  }
  accept(peer: Peer): Session {
    return this.session(peer, 'service', peer.name.startsWith('unix') ? 0 : SERVICE_PROBE_INTERVAL, () => {});
  }
  session(peer: Peer, type: ConnectionType, probeInterval: number, ended: (error: string | null) => void): Connection {
    const connection = new Connection(this, peer, type, this.versions, probeInterval, ended);
    this.connections.add(connection);
    return connection;
  }
  /** Controllers, fail mode and protocols of the database, at virtual time `now`. */
  setRemotes(remotes: Remotes, now: number): void {
    const named =
      remotes.protocols.reduce((bits, name) => bits | (1 << (PROTOCOLS[name] ?? 0)), 0) & SUPPORTED_VERSIONS;
    this.versions = named === 0 ? SUPPORTED_VERSIONS : named;
    this.remotes.configure(remotes, now);
  }
  setDatapathId(id: bigint): void {
    if (this.datapathId === id) return;
    const known = this.datapathId !== 0n;
    this.datapathId = id;
    // Controllers know the bridge by it: they have to begin anew.
    if (known) this.remotes.reconnect();
  }
  /** `bridge/reconnect`. */
  reconnect(): void {
    this.remotes.reconnect();
  }
  setDescription(text: string | null): void {
    this.description = { ...this.description, datapath: text ?? 'None' };
  }
  controllers(): readonly ControllerStatus[] {
    return this.remotes.status();
  }
  /** The bridge is gone. */
  close(): void {
    this.remotes.close();
    for (const connection of [...this.connections]) connection.end(null);
  }
  /** About once a second of wall time. */
  tick(nowMs: number): void {
    this.nowMs = Math.max(this.nowMs, nowMs);
    this.remotes.tick();
    for (const connection of this.connections) {
      connection.monitors.resume();
      connection.bundles.expire(this.nowMs - BUNDLE_IDLE_MS, ({ opened }) => {
        connection.send(encodeErrorReply('OFPBFC_TIMEOUT', opened));
      });
    }
  }

  // ---- for connections --------------------------------------------------------------------------------------------------------
  nextXid(): number {
    return ++this.xid >>> 0;
  }
  now(): number {
    return this.door?.now() ?? 0;
  }
  /** Does what changes the world through its door. */
  act(detail: string | null, run: (now: number, contextBits: number) => void): void {
    if (this.door === null) run(0, this.contextBits);
    else this.door.act('openflow', detail, run);
  }
  negotiated(connection: Connection): void {
    this.missesChanged();
    this.statusOf(connection);
  }
  forget(connection: Connection): void {
    this.connections.delete(connection);
    this.missesChanged();
    this.statusOf(connection);
  }
  /** Controller rows tell of controllers alone. */
  private statusOf(connection: Connection): void {
    if (connection.type === 'primary') this.onStatus();
  }
  /** Who wants packet-ins of misses has changed: translations depend on it. */
  missesChanged(): void {
    let wanted = false;
    for (const connection of this.connections) {
      if (connection.wantsMisses && connection.receives(OAM_PACKET_IN, OFPR_NO_MATCH)) wanted = true;
    }
    if (this.wanted === wanted) return;
    this.wanted = wanted;
    this.ofproto.backer.touch();
  }
  /** LOCAL first, then by number. */
  portList(): OfPort[] {
    const place = ({ number }: OfPort): number => (number === OFPP_LOCAL ? -1 : number);
    return [...this.ofproto.ports.values()].sort((a, b) => place(a) - place(b));
  }
  ports(): PhyPort[] {
    return this.portList().map((port) => this.describe(port));
  }
  /** A port that OpenFlow has taken down has no link either. */
  describe({ number, mac, name, config, state }: OfPort): PhyPort {
    const down = (config & OFPUTIL_PC_PORT_DOWN) !== 0;
    return { number, mac, name, config, state: down ? (state | OFPUTIL_PS_LINK_DOWN) & ~OFPUTIL_PS_LIVE : state };
  }
  /** Does something whose PORT_STATUS its asker does not get (before OpenFlow 1.5). */
  changedBy(connection: Connection, run: () => void): void {
    this.source = connection;
    try {
      run();
    } finally {
      this.source = null;
    }
  }
  /** False: the election is older than the last one. */
  elect(generation: bigint): boolean {
    if (this.generation !== null && BigInt.asIntN(64, generation - this.generation) < 0n) return false;
    this.generation = generation;
    return true;
  }
  setRole(connection: Connection, role: number): void {
    if (role !== connection.role && role === OFPCR12_ROLE_PRIMARY) {
      for (const other of this.connections) {
        if (other.role !== OFPCR12_ROLE_PRIMARY) continue;
        other.role = OFPCR12_ROLE_SECONDARY;
        // OFPCRR_PRIMARY_REQUEST
        if (other.roleStatus && other.receives(OAM_ROLE_STATUS, 0))
          other.send(encodeRoleStatus(other.version, OFPCR12_ROLE_SECONDARY, 0, this.generation));
      }
    }
    connection.role = role;
    this.statusOf(connection);
  }
  /** OFPT_REQUESTFORWARD: others hear of a GROUP_MOD (reason 0) or a METER_MOD (1). */
  forward(from: Connection, request: Request, reason: number): void {
    for (const other of this.connections) {
      if (other === from || other.version < OFP14_VERSION || other.version !== request.version) continue;
      if (!other.receives(OAM_REQUESTFORWARD, reason)) continue;
      other.send(finish(message(other.version, OFPT14_REQUESTFORWARD, 0).raw(request.bytes)));
    }
  }
  /** A message has been done: what it changed is told. */
  flushUpdates(): void {
    for (const connection of this.connections) connection.monitors.flush();
    if (this.removed.length === 0) return;
    for (const { rule, reason, now } of this.removed.splice(0)) this.flowRemoved(rule, reason, now);
  }

  // ---- what happens in the bridge -----------------------------------------------------------------------------------------------
  private packetIn(packet: PacketIn): void {
    for (const connection of this.connections) {
      if (connection.controllerId !== packet.controllerId) continue;
      if (!connection.receives(OAM_PACKET_IN, packet.reason)) continue;
      const format = connection.packetInFormat;
      const { continuation } = packet;
      const kept =
        continuation !== null && format === OFPUTIL_PACKET_IN_NXT2 ? this.continuations.keep(continuation) : null;
      connection.sendPacketIn(encodePacketIn(connection.version, format, packet, kept));
    }
  }

  private portStatus(change: PortChange, port: OfPort): void {
    const { number } = port;
    const fresh = this.describe(port);
    const old = this.told.get(number) ?? null;
    if (change === 'delete') this.told.delete(number);
    else this.told.set(number, fresh);
    if (change === 'add' && (fresh.state & OFPUTIL_PS_LIVE) !== 0) {
      // A port is not live at once: it is told of as it comes, and again as it becomes so.
      const coming = { ...fresh, state: fresh.state & ~OFPUTIL_PS_LIVE };
      this.tellPort(REASONS.add, coming, null);
      this.tellPort(REASONS.modify, fresh, coming);
    } else this.tellPort(REASONS[change], fresh, change === 'modify' ? old : null);
  }
  private tellPort(reason: number, port: PhyPort, old: PhyPort | null): void {
    for (const connection of this.connections) {
      const { version } = connection;
      if (!connection.receives(OAM_PORT_STATUS, reason)) continue;
      if (connection === this.source && version < OFP15_VERSION) continue;
      const bytes = encodePortStatus(version, reason, port);
      // What the version cannot say is no change.
      if (old !== null && same(bytes, encodePortStatus(version, reason, old))) continue;
      connection.send(bytes);
    }
  }

  private listener(): TableListener {
    const xidOf = (connection: Connection, requester: Requester | null): number | null =>
      requester?.connection === connection ? requester.xid : null;
    const report = (event: number, rule: Rule, reason: number, old: Rule | null, requester: Requester | null): void => {
      if (rule.hidden) return;
      for (const connection of this.connections) {
        if (connection.monitors.size === 0) continue;
        connection.monitors.report(event, rule, reason, old, xidOf(connection, requester));
        // Changes that a message asks for are told together, when it is done.
        if (requester === null) connection.monitors.flush();
      }
    };
    return {
      ruleAdded: (rule, requester) => report(OFPFME_ADDED, rule, 0, null, requester),
      ruleReplaced: (rule, old, event, requester) => {
        const changed = old.cookie !== rule.cookie || !sameActions(old.actions, rule.actions);
        if (event === 'added') report(OFPFME_ADDED, rule, 0, old, requester);
        else if (changed) report(OFPFME_MODIFIED, rule, 0, old, requester);
      },
      ruleRemoved: (rule, reason, requester, now) => {
        report(OFPFME_REMOVED, rule, reason, null, requester);
        if (rule.hidden || (rule.flags & OFPUTIL_FF_SEND_FLOW_REM) === 0) return;
        // Monitors hear of it first.
        if (requester === null) this.flowRemoved(rule, reason, now);
        else this.removed.push({ rule, reason, now });
      },
      tableStatus: (table, reason) => {
        for (const connection of this.connections) {
          if (connection.version >= OFP14_VERSION && connection.receives(OAM_TABLE_STATUS, reason))
            connection.send(encodeTableStatus(connection.version, table, reason));
        }
      },
    };
  }
  private flowRemoved(rule: Rule, reason: number, now: number): void {
    for (const connection of this.connections) {
      const { version, nxm } = connection;
      if (!connection.receives(OAM_FLOW_REMOVED, reason)) continue;
      connection.send(encodeFlowRemoved(version, version === OFP10_VERSION && nxm, rule, reason, now));
    }
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
