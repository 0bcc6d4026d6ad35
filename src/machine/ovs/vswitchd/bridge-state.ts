/** One bridge as ovs-vswitchd keeps it: what it has opened, and how that follows the database (ovs vswitchd/bridge.c). */

import { OFPP_LOCAL } from '../flow/actions.ts';
import { parseMac } from '../flow/text/addresses.ts';
import type { BundleSettings, VlanMode } from '../ofproto/bundle.ts';
import { MAC_DEFAULT_MAX, MAC_ENTRY_DEFAULT_IDLE_TIME, macNumber } from '../ofproto/mac-table.ts';
import type { MirrorSettings } from '../ofproto/mirrors.ts';
import type { BridgeConfig, InterfaceConfig, MirrorConfig, PortConfig } from './config.ts';
import type { Environment, Netdev, SwitchBridge } from './environment.ts';
import { macOfUuid, mayRepresent } from './mac-address.ts';
import { OfportNumbers } from './ofport-numbers.ts';
import { flagIn, integerIn, parseDatapathId } from './smap.ts';

/** An interface that is open. */
export interface Interface {
  config: InterfaceConfig;
  port: PortConfig;
  readonly netdev: Netdev;
  ofport: number;
}
type Wanted = { readonly port: PortConfig; readonly config: InterfaceConfig };

export class BridgeState {
  declare config: BridgeConfig;
  declare readonly ofproto: SwitchBridge;
  declare private readonly environment: Environment;
  /** By name. */
  readonly interfaces = new Map<string, Interface>();
  /** Why interfaces are not open, by name. */
  readonly errors = new Map<string, string>();
  private readonly numbers = new OfportNumbers();
  /** Names of Port rows that the switch knows. */
  private bundles = new Set<string>();
  mac: Uint8Array = new Uint8Array(6);
  datapathId = 0n;

  constructor(environment: Environment, config: BridgeConfig, ofproto: SwitchBridge) {
    this.environment = environment;
    this.config = config;
    this.ofproto = ofproto;
  }

  /** Its LOCAL port is there whether the database names it or not (bridge_collect_wanted_ports()). */
  private wanted(): Map<string, Wanted> {
    const wanted = new Map<string, Wanted>();
    for (const port of this.config.ports) {
      for (const config of port.interfaces) {
        const type = config.name === this.config.name ? 'internal' : config.type;
        wanted.set(config.name, { port, config: { ...config, type } });
      }
    }
    const { name } = this.config;
    if (!wanted.has(name)) wanted.set(name, { port: syntheticPort(name), config: syntheticInterface(name) });
    return wanted;
  }

  // ---- interfaces -----------------------------------------------------------------------------------------------------
  /** Closes what is not wanted any more, or is wanted differently (bridge_del_ports()). */
  shed(config: BridgeConfig, now: number): void {
    this.config = config;
    const wanted = this.wanted();
    for (const [name, open] of this.interfaces) {
      const want = wanted.get(name);
      if (want === undefined || want.config.type !== open.config.type) this.close(name, now);
    }
    const ports = new Set([...wanted.values()].map(({ port }) => port.name));
    for (const name of this.bundles) {
      if (ports.has(name)) continue;
      this.ofproto.removeBundle(name, now);
      this.bundles.delete(name);
    }
    this.renumber(wanted, now);
  }
  /** Those that ask for another number than they have give theirs up, and so does who has it without having asked for it. */
  private renumber(wanted: ReadonlyMap<string, Wanted>, now: number): void {
    for (const [name, open] of this.interfaces) {
      const request = wanted.get(name)?.config.ofportRequest ?? null;
      if (request === null || open.ofport === request || open.ofport === OFPP_LOCAL) continue;
      const victim = [...this.interfaces.entries()].find(([, other]) => other.ofport === request);
      if (victim !== undefined) {
        if (wanted.get(victim[0])?.config.ofportRequest === request) continue;
        this.close(victim[0], now);
      }
      this.close(name, now);
    }
  }
  private close(name: string, now: number): void {
    const open = this.interfaces.get(name);
    if (open === undefined) return;
    this.interfaces.delete(name);
    this.ofproto.removePort(open.ofport, now);
    if (open.ofport !== OFPP_LOCAL) this.numbers.giveBack(open.ofport, now);
    this.environment.close(open.netdev, this.config.name, now);
  }
  closeAll(now: number): void {
    for (const name of this.bundles) this.ofproto.removeBundle(name, now);
    for (const name of [...this.interfaces.keys()]) this.close(name, now);
  }

  /** Opens what is wanted and not open, those with a number of their own first (bridge_add_ports()). */
  open(now: number): void {
    const wanted = [...this.wanted().values()];
    this.errors.clear();
    for (const requested of [true, false])
      for (const want of wanted) {
        const open = this.interfaces.get(want.config.name);
        if (open !== undefined) {
          open.config = want.config;
          open.port = want.port;
        } else if ((want.config.ofportRequest !== null) === requested) this.create(want, now);
      }
  }
  private create({ port, config }: Wanted, now: number): void {
    const { environment, ofproto } = this;
    const refuse = (error: string): void => void this.errors.set(config.name, error);
    const netdev = environment.open(this.config, config, now);
    if (typeof netdev === 'string') return refuse(`could not open network device ${config.name} (${netdev})`);
    const fault = netdev.configure(config);
    if (fault !== null) {
      environment.close(netdev, this.config.name, now);
      return refuse(fault);
    }
    const local = config.name === this.config.name;
    const had = config.ofportRequest ?? config.ofport;
    const ofport = local ? OFPP_LOCAL : this.numbers.take(had !== null && had > 0 ? had : null, now);
    if (ofport === null) {
      environment.close(netdev, this.config.name, now);
      return refuse(`could not add network device ${config.name} to ofproto (File too large)`);
    }
    ofproto.addPort(netdev, ofport, peerOf(config), now);
    this.interfaces.set(config.name, { config, port, netdev, ofport });
  }

  // ---- everything else ------------------------------------------------------------------------------------------------
  configure(now: number): void {
    const { ofproto, config } = this;
    const { otherConfig } = config;
    for (const open of this.interfaces.values()) this.configureInterface(open, now);
    this.pickAddress();
    ofproto.setMac(this.mac);
    ofproto.setDatapathId(this.datapathId);
    for (const open of this.interfaces.values()) ofproto.portChanged(open.ofport, open.netdev, now);
    this.configurePorts(now);
    ofproto.setMirrors(this.mirrors(), now);
    ofproto.setForwardBpdu(flagIn(otherConfig, 'forward-bpdu', false));
    const aging = integerIn(otherConfig, 'mac-aging-time', 0) || MAC_ENTRY_DEFAULT_IDLE_TIME;
    const size = integerIn(otherConfig, 'mac-table-size', 0) || MAC_DEFAULT_MAX;
    ofproto.setMacTable(aging, size, config.floodVlans, now);
    ofproto.setDescription(otherConfig.get('dp-desc') ?? null);
    ofproto.setFlowTables(config.flowTables, now);
    const { controllers, failMode, protocols } = config;
    const disableInBand = flagIn(otherConfig, 'disable-in-band', false);
    ofproto.setRemotes({ controllers, failMode, protocols, disableInBand }, now);
  }
  private configureInterface({ config, netdev, ofport }: Interface, now: number): void {
    const { policing } = config;
    netdev.configure(config);
    this.ofproto.setPeer(ofport, peerOf(config));
    netdev.police(policing.rate, policing.burst, policing.kpktsRate, policing.kpktsBurst);
    if (config.mtuRequest !== null) netdev.setMtu(config.mtuRequest);
    const mac = parseMac(config.mac ?? '');
    if (config.type === 'internal' && mac !== null && ofport !== OFPP_LOCAL && (mac[0]! & 1) === 0) netdev.setMac(mac);
    this.ofproto.portChanged(ofport, netdev, now);
  }

  /** bridge_pick_local_hw_addr(), find_local_hw_addr(), bridge_pick_datapath_id(). */
  private pickAddress(): void {
    const { config } = this;
    const set = parseMac(config.otherConfig.get('hwaddr') ?? '');
    const own = set !== null && (set[0]! & 1) === 0 && set.some((byte) => byte !== 0) ? set : null;
    this.mac = own ?? this.leastAddress() ?? macOfUuid(config.uuid);
    this.interfaces.get(config.name)?.netdev.setMac(this.mac);
    this.datapathId = parseDatapathId(config.otherConfig.get('datapath-id')) ?? BigInt(macNumber(this.mac, 0));
  }
  private leastAddress(): Uint8Array | null {
    const outputs = new Set(this.config.mirrors.map((mirror) => mirror.outputPort));
    let least: Uint8Array | null = null;
    for (const port of this.config.ports) {
      if (outputs.has(port.uuid)) continue;
      const [first] = port.interfaces.map(({ name }) => name).sort();
      const open = first === undefined ? undefined : this.interfaces.get(first);
      if (open === undefined || open.ofport === OFPP_LOCAL) continue;
      const mac = open.netdev.mac();
      if (mayRepresent(mac) && (least === null || macNumber(mac, 0) < macNumber(least, 0))) least = mac;
    }
    return least;
  }

  private configurePorts(now: number): void {
    const members = new Map<PortConfig, number[]>();
    for (const { port, ofport } of this.interfaces.values()) members.set(port, [...(members.get(port) ?? []), ofport]);
    const named = new Set<string>();
    for (const [port, ofports] of members) {
      named.add(port.name);
      this.ofproto.setBundle(bundleOf(port, ofports), now);
    }
    for (const name of this.bundles) if (!named.has(name)) this.ofproto.removeBundle(name, now);
    this.bundles = named;
  }

  private mirrors(): MirrorSettings[] {
    const names = new Map(this.config.ports.filter((p) => this.bundles.has(p.name)).map((p) => [p.uuid, p.name]));
    return this.config.mirrors.flatMap((mirror) => mirrorOf(mirror, names) ?? []);
  }
}

/** mirror_configure(); null: it says no output that there is. */
function mirrorOf(mirror: MirrorConfig, names: ReadonlyMap<string, string>): MirrorSettings | null {
  const output = mirror.outputPort === null ? null : (names.get(mirror.outputPort) ?? null);
  if (mirror.outputPort !== null ? output === null : mirror.outputVlan === null) return null;
  const ports = (uuids: readonly string[]): string[] => uuids.flatMap((uuid) => names.get(uuid) ?? []);
  return {
    name: mirror.uuid,
    selectAll: mirror.selectAll,
    selectSrcPorts: ports(mirror.srcPorts),
    selectDstPorts: ports(mirror.dstPorts),
    selectVlans: mirror.vlans,
    outputPort: output,
    outputVlan: mirror.outputPort === null ? mirror.outputVlan : null,
    snaplen: mirror.snaplen ?? 0,
  };
}

/** port_configure(), port_configure_bond(). */
function bundleOf(port: PortConfig, ports: readonly number[]): BundleSettings {
  const { otherConfig } = port;
  const implicit: VlanMode = port.tag === null ? 'trunk' : 'access';
  const tags = otherConfig.get('priority-tags');
  const mode = port.bondMode;
  return {
    name: port.name,
    ports,
    vlanMode: port.vlanMode ?? implicit,
    vlan: port.tag ?? -1,
    trunks: port.trunks.length === 0 ? null : port.trunks,
    cvlans: port.cvlans.length === 0 ? null : port.cvlans,
    qinqEthertype: otherConfig.get('qinq-ethtype') === '802.1q' ? 0x8100 : 0x88a8,
    priorityTags: tags === 'if-nonzero' || tags === 'true' ? 'if-nonzero' : tags === 'always' ? 'always' : 'never',
    protected: port.protected,
    bond:
      ports.length < 2
        ? null
        : {
            mode: mode === 'balance-slb' || mode === 'balance-tcp' ? mode : 'active-backup',
            primary: otherConfig.get('bond-primary') ?? null,
            upDelay: Math.max(0, port.bondUpdelay),
            downDelay: Math.max(0, port.bondDowndelay),
          },
  };
}
const peerOf = (config: InterfaceConfig): string | null =>
  config.type === 'patch' ? (config.options.get('peer') ?? null) : null;

const NOTHING: ReadonlyMap<string, string> = new Map();
function syntheticInterface(name: string): InterfaceConfig {
  return {
    uuid: '',
    name,
    type: 'internal',
    options: NOTHING,
    otherConfig: NOTHING,
    ofport: null,
    ofportRequest: null,
    mtuRequest: null,
    mac: null,
    policing: { rate: 0, burst: 0, kpktsRate: 0, kpktsBurst: 0 },
  };
}
function syntheticPort(name: string): PortConfig {
  return {
    uuid: '',
    name,
    interfaces: [],
    vlanMode: null,
    tag: null,
    trunks: [],
    cvlans: [],
    bondMode: null,
    bondUpdelay: 0,
    bondDowndelay: 0,
    otherConfig: NOTHING,
    protected: false,
  };
}
