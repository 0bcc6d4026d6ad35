/** A bridge as ovs-vswitchd drives it: its ports in the datapath, its ofproto, and what speaks OpenFlow for it. */
import type { Port } from '../../host/port.ts';
import type { OvsBridge } from '../datapath/bridge.ts';
import { parseSubfield } from '../flow/subfields.ts';
import type { BundleSettings } from '../ofproto/bundle.ts';
import type { MirrorSettings } from '../ofproto/mirrors.ts';
import type { Ofproto } from '../ofproto/ofproto-dpif.ts';
import type { TableSettings } from '../ofproto/tables/flow-table.ts';
import type { Acceptor, Door, Streams } from '../stream.ts';
import type { FlowTableConfig } from './config.ts';
import type { ControllerStatus, Netdev, Remotes, SwitchBridge } from './environment.ts';

/** OpenFlow of one bridge: sessions that come in, and controllers that it connects to. */
export interface BridgeAgent extends Acceptor {
  setRemotes(remotes: Remotes, now: number): void;
  setDatapathId(id: bigint): void;
  /** other_config:dp-desc; null: none. */
  setDescription(text: string | null): void;
  controllers(): readonly ControllerStatus[];
  /** There is a network now: controllers are dialled, passive ones listened on. */
  connect(door: Door, streams: Streams): void;
  contextBits: number;
  /** Told when a controller has come or gone, or its role has changed. */
  onStatus: () => void;
  /** NXT_CT_FLUSH_ZONE: the bridge's datapath forgets the connections of a zone. */
  flushConntrackZone: (zone: number) => void;
  /** `bridge/reconnect`: connections to controllers end, and are made anew. */
  reconnect(): void;
  /** About once a second of wall time. */
  tick(nowMs: number): void;
  /** The bridge is gone: all connections end. */
  close(): void;
}

export class OfprotoBridge implements SwitchBridge {
  declare readonly bridge: OvsBridge;
  declare readonly ofproto: Ofproto;
  declare readonly agent: BridgeAgent;
  /** What is behind datapath ports. */
  declare private readonly portOf: (netdev: Netdev) => Port | null;

  constructor(bridge: OvsBridge, ofproto: Ofproto, agent: BridgeAgent, portOf: (netdev: Netdev) => Port | null) {
    this.bridge = bridge;
    this.ofproto = ofproto;
    this.agent = agent;
    this.portOf = portOf;
  }

  addPort(netdev: Netdev, number: number, peer: string | null, now: number): void {
    const mtu = netdev.mtu();
    this.ofproto.addPort(
      {
        name: netdev.name,
        number,
        dpPort: netdev.dpPort,
        type: netdev.type,
        mac: netdev.mac(),
        peer,
        linkUp: netdev.linkUp(),
        ...(mtu === null ? {} : { mtu }),
        ...(this.portOf(netdev) === null ? {} : { counters: () => netdev.counters() }),
      },
      now,
    );
  }
  removePort(number: number, now: number): void {
    this.ofproto.removePort(number, now);
  }
  setPeer(number: number, peer: string | null): void {
    const port = this.ofproto.ports.get(number);
    if (port === undefined || port.peer === peer) return;
    port.peer = peer;
    this.ofproto.backer.touch();
  }
  portChanged(number: number, netdev: Netdev, now: number): void {
    const port = this.ofproto.ports.get(number);
    if (port === undefined) return;
    port.mac = netdev.mac();
    port.mtu = netdev.mtu() ?? port.mtu;
    this.ofproto.setLink(number, netdev.linkUp(), now);
  }
  setBundle(settings: BundleSettings, now: number): void {
    this.ofproto.setBundle(settings, now);
  }
  removeBundle(name: string, now: number): void {
    this.ofproto.removeBundle(name, now);
  }
  setMirrors(mirrors: readonly MirrorSettings[], now: number): void {
    this.ofproto.setMirrors(mirrors, now);
  }
  mirrorStatistics(name: string): { readonly packets: number; readonly bytes: number } | null {
    return this.ofproto.mirrors.find((mirror) => mirror?.settings.name === name) ?? null;
  }
  setMacTable(agingSeconds: number, entries: number, floodVlans: readonly number[], now: number): void {
    this.ofproto.macs.configure(agingSeconds, entries, floodVlans, now);
  }
  setForwardBpdu(forward: boolean): void {
    if (this.ofproto.forwardBpdu === forward) return;
    this.ofproto.forwardBpdu = forward;
    this.ofproto.backer.touch();
  }
  setDatapathId(id: bigint): void {
    this.agent.setDatapathId(id);
  }
  setMac(mac: Uint8Array): void {
    this.ofproto.mac = mac;
  }
  setDescription(text: string | null): void {
    this.agent.setDescription(text);
  }
  /** bridge_configure_tables(): tables without a row are as they are by default. */
  setFlowTables(tables: ReadonlyMap<number, FlowTableConfig>, now: number): void {
    for (const number of new Set([...this.configured, ...tables.keys()])) {
      if (number >= this.ofproto.tables.tables.length) continue;
      this.ofproto.tables.configure(number, tableSettings(tables.get(number)), now);
    }
    this.configured = [...tables.keys()];
  }
  /** Tables that have had a row. */
  private configured: readonly number[] = [];
  setRemotes(remotes: Remotes, now: number): void {
    this.agent.setRemotes(remotes, now);
  }
  controllers(): readonly ControllerStatus[] {
    return this.agent.controllers();
  }
}

function tableSettings(config: FlowTableConfig | undefined): TableSettings {
  if (config === undefined) return { name: '', flowLimit: null, evicts: false, groups: [], prefixes: null };
  const groups = config.groups.flatMap((text) => {
    try {
      return parseSubfield(text);
    } catch {
      // ovs-vswitchd says so in its log and goes on
      return [];
    }
  });
  return {
    name: config.name,
    flowLimit: config.flowLimit,
    evicts: config.overflowPolicy === 'evict',
    groups,
    prefixes: config.prefixes.length === 0 ? null : config.prefixes,
  };
}
