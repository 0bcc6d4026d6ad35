/**
 * Open vSwitch's side of an emulated host: its bridges and datapaths, and the network devices that it can open. Guests' taps and
 * vhost-user sockets and the host's NICs are devices that are there whether a bridge has them or not; internal, patch and dummy ones
 * come with their interface.
 */
import { RandomStream } from '../../engine/random.ts';
import { DummyPort } from '../../machine/host/dummy-port.ts';
import { InternalPort } from '../../machine/host/internal-port.ts';
import type { Policer } from '../../machine/host/policer.ts';
import type { Port } from '../../machine/host/port.ts';
import { OvsBridge } from '../../machine/ovs/datapath/bridge.ts';
import type { KernelDatapath } from '../../machine/ovs/datapath/kernel-datapath.ts';
import { NetdevDatapath } from '../../machine/ovs/datapath/netdev-datapath.ts';
import type { Backer } from '../../machine/ovs/ofproto/backer.ts';
import type { CtlDatapath } from '../../machine/ovs/unixctl/host.ts';
import type {
  BridgeConfig,
  DatapathType,
  InterfaceConfig,
  OvsConfig,
  TextMap,
} from '../../machine/ovs/vswitchd/config.ts';
import type { Environment, Netdev, SwitchBridge } from '../../machine/ovs/vswitchd/environment.ts';
import { type BridgeAgent, OfprotoBridge } from '../../machine/ovs/vswitchd/switch-bridge.ts';
import { clearHeader } from '../../machine/packet/net-header.ts';
import { FRAME_OFFSET } from '../../machine/packet/pool.ts';
import type { BridgePorts, BuiltBridge } from '../build/machine.ts';
import { FIRST_LOCAL_PORT, type HostSite, MAX_LOCAL_PORTS, type Site } from '../build/site.ts';
import { ctlPmds } from './ctl-pmds.ts';
import { type DeviceFacts, PatchNetdev, type PlaceCounters, PortNetdev } from './netdevs.ts';
import { applyOtherConfig } from './other-config.ts';

/** Places that a port, and a bridge with its LOCAL port, take. */
const PORT_PLACES = 1;
const BRIDGE_PLACES = 2;

/** A device that is there without a bridge. */
export interface Device {
  readonly name: string;
  /** Interface.type under which it can be opened. */
  readonly type: string;
  readonly datapath: DatapathType;
  readonly port: Port;
  readonly facts: DeviceFacts;
}
interface Bridge {
  readonly bridge: OvsBridge;
  readonly built: BuiltBridge;
  readonly type: DatapathType;
  ofproto: OfprotoBridge | null;
}

/** What the lab's builder has for it. */
export interface SwitchParts {
  readonly site: Site;
  readonly hostSite: HostSite;
  readonly counted: PlaceCounters;
  /** Facts about a port of a NIC that is wired to a bridge. */
  readonly factsOf: (port: Port, ifindex: number) => DeviceFacts;
  readonly makeAgent: (ofproto: OfprotoBridge['ofproto']) => BridgeAgent;
  /** The datapath of a type, made where it is not there yet, and its slow path. */
  readonly datapathOf: (
    type: DatapathType,
    bridge: string,
    place: number,
  ) => { readonly datapath: KernelDatapath | NetdevDatapath; readonly backer: Backer };
}

export class HostSwitch implements Environment {
  readonly ovsVersion = '3.1.0';
  readonly datapathTypes = ['netdev', 'system'];
  readonly ifaceTypes = ['dpdk', 'dpdkvhostuser', 'dpdkvhostuserclient', 'dummy', 'internal', 'patch', 'system', 'tap'];
  readonly dpdk: { readonly initialized: boolean; readonly version: string };
  private readonly parts: SwitchParts;
  private readonly bridges = new Map<string, Bridge>();
  readonly devices = new Map<string, Device>();
  /** Bridges of netdevs that are open. */
  private readonly own = new Map<Netdev, OvsBridge>();
  /** Ports that were closed because their device was taken away. */
  private readonly closed = new WeakSet<Port>();
  private indexes = 1;
  private dummies = 0;
  private locals = 0;
  /** Set while a world runs: ports come with events then. */
  running = false;
  /** The context on whose account things happen. */
  contextBits = 0;
  onChange: () => void = () => {};
  /** A bridge has got its OpenFlow. */
  onAgent: (agent: BridgeAgent) => void = () => {};
  private otherConfig: TextMap = new Map();

  constructor(parts: SwitchParts) {
    this.parts = parts;
    const netdev = parts.hostSite.host.bridges.some((b) => b.datapath === 'netdev');
    this.dpdk = { initialized: netdev, version: netdev ? 'DPDK 22.11.1' : 'none' };
  }

  // ---- bridges --------------------------------------------------------------------------------------------------------
  /** Makes a bridge; ovs-vswitchd takes it up when its database names it. */
  build(name: string, type: DatapathType, userspaceTso: boolean): BuiltBridge {
    const { site, hostSite } = this.parts;
    const { host, prefix } = hostSite;
    const full = prefix + name;
    const place = site.places.add({
      name: full,
      type: 'bridge',
      description: `bridge ${full}, ${type} datapath: flow caches, upcalls, MAC learning`,
      host: host.name,
      bridge: full,
    });
    const { datapath } = this.parts.datapathOf(type, name, place);
    applyOtherConfig(this.otherConfig, datapath);
    const bridge = new OvsBridge(full, place, datapath);
    const built: BuiltBridge = {
      host: host.name,
      name,
      datapath: type,
      bridge: datapath,
      attach: this.attachment(name, full),
      ovs: bridge,
      place,
      ports: () => [...bridge.ports.values()],
      userspaceTso,
    };
    this.bridges.set(name, { bridge, built, type, ofproto: null });
    site.bridges.push(built);
    return built;
  }
  addBridge({ name, datapathType }: BridgeConfig, _now: number): SwitchBridge | string {
    const { site, hostSite, makeAgent } = this.parts;
    const { host } = hostSite;
    const built = this.bridges.get(name);
    // the document's, which a database that clients have changed has with another type
    if (built !== undefined && built.type !== datapathType) this.removeBridge(name);
    if (!this.bridges.has(name)) {
      if (site.bridges.some((b) => b.host === host.name && b.name === name)) return 'File exists';
      if (this.running && site.lacks(BRIDGE_PLACES, 1) !== null) return 'No space left on device';
      this.build(name, datapathType, false);
    }
    const known = this.bridges.get(name)!;
    const { datapath, backer } = this.parts.datapathOf(datapathType, name, known.bridge.place);
    const ofproto = backer.addBridge({ name, mac: new Uint8Array(6), place: known.bridge.place });
    const agent = makeAgent(ofproto);
    agent.contextBits = this.contextBits;
    agent.flushConntrackZone = (zone) => datapath.conntrack.flush(zone);
    this.onAgent(agent);
    known.ofproto = new OfprotoBridge(known.bridge, ofproto, agent, (netdev) =>
      netdev instanceof PortNetdev ? netdev.port : null,
    );
    return known.ofproto;
  }
  removeBridge(name: string): void {
    const known = this.bridges.get(name);
    if (known === undefined) return;
    const { site } = this.parts;
    this.bridges.delete(name);
    known.ofproto?.agent.close();
    this.parts.datapathOf(known.type, name, known.bridge.place).backer.removeBridge(name);
    site.bridges.splice(site.bridges.indexOf(known.built), 1);
    site.places.retire(known.bridge.place);
  }
  /** Bridges of the document that the database does not name go. */
  prune(): void {
    for (const [name, { ofproto }] of this.bridges) if (ofproto === null) this.removeBridge(name);
  }
  /** By name, those that ovs-vswitchd has taken up. */
  get switches(): ReadonlyMap<string, OfprotoBridge> {
    const found = new Map<string, OfprotoBridge>();
    for (const [name, { ofproto }] of this.bridges) if (ofproto !== null) found.set(name, ofproto);
    return found;
  }

  // ---- devices --------------------------------------------------------------------------------------------------------
  /** How NICs of the host and of guests come to a bridge: they become devices, which the database plugs in. */
  onAttach: (bridge: string, device: Device) => void = () => {};
  onDetach: (device: Device) => void = () => {};
  private attachment(bridge: string, name: string): BridgePorts {
    const add = (port: Port): void => {
      const type = port.type === 'tap' ? 'system' : port.type;
      const datapath = type === 'system' ? 'system' : 'netdev';
      const device: Device = { name: port.name, type, datapath, port, facts: this.parts.factsOf(port, ++this.indexes) };
      this.devices.set(port.name, device);
      this.bridges.get(bridge)!.bridge.datapath.holdPort(port);
      this.onAttach(bridge, device);
    };
    return {
      name,
      addPort: add,
      plugPort: add,
      removePort: (number, contextBits) => {
        const type = this.bridges.get(bridge)?.type;
        const device = [...this.devices.values()].find((d) => d.datapath === type && d.port.number === number);
        if (device !== undefined) this.detach(device.port, contextBits);
      },
    };
  }
  /** The device behind a port is taken away, whichever bridge has it. False: it is none of this switch's. */
  detach(port: Port, contextBits: number): boolean {
    const device = this.devices.get(port.name);
    if (device?.port !== port) return false;
    this.devices.delete(device.name);
    this.onDetach(device);
    // no row of the database had it
    if (!this.closed.delete(port)) port.close(contextBits);
    return true;
  }

  open(bridge: BridgeConfig, config: InterfaceConfig, _now: number): Netdev | string {
    const known = this.bridges.get(bridge.name)!;
    const { name } = config;
    if (config.type === 'patch') return new PatchNetdev(name, this.randomMac(name));
    // a client may name an interface in two bridges
    for (const netdev of this.own.keys()) if (netdev.name === name) return 'File exists';
    const device = this.devices.get(name);
    const type = config.type === 'tap' && device !== undefined ? 'system' : config.type;
    if (device !== undefined && device.type === type) return this.plugDevice(known, device);
    if (!this.ifaceTypes.includes(config.type)) return 'Address family not supported by protocol';
    if (config.type.startsWith('dpdk') && known.type !== 'netdev') return 'Address family not supported by protocol';
    if (config.type === 'dpdk') return 'No such device';
    if (config.type === 'system' && !this.parts.hostSite.host.ovs.dummy) return 'No such device';
    if (this.running && this.parts.site.lacks(PORT_PLACES, 0) !== null) return 'No space left on device';
    return this.make(known, config);
  }
  private plugDevice(known: Bridge, device: Device): Netdev | string {
    if (device.datapath !== known.type) return 'Operation not supported';
    const { port } = device;
    const before = this.parts.site.places.list[port.place]!;
    if (before.bridge !== known.bridge.name) port.place = this.portPlace(known, port.name, port.number, before);
    this.plug(known.bridge, port);
    return this.opened(known.bridge, this.netdev(known, device.type, port, device.facts));
  }
  /** An internal or dummy port, or a vhost-user socket that nobody is behind. */
  private make(known: Bridge, { name, type }: InterfaceConfig): Netdev {
    const { site } = this.parts;
    const { bridge } = known;
    const local = type === 'internal' && bridge.name === this.parts.hostSite.prefix + name;
    const number =
      local && this.locals < MAX_LOCAL_PORTS ? FIRST_LOCAL_PORT + this.locals++ : site.portNumber(bridge.name, name);
    const place = this.portPlace(known, name, number, undefined);
    const { services } = site;
    const inside = type === 'internal' || type === 'tap';
    const port = inside
      ? new InternalPort(services, number, name, place)
      : new DummyPort(services, number, name, place, type === 'system' ? 'dummy' : type);
    let mac = inside ? this.randomMac(name) : this.dummyMac();
    const facts: DeviceFacts = {
      mac: () => mac,
      setMac: (next) => {
        mac = next;
      },
      linkUp: () => !type.startsWith('dpdk'),
      speed: 0,
      fullDuplex: null,
      ifindex: inside ? ++this.indexes : 0,
      status: () => (type.startsWith('dpdk') ? { mode: 'client', status: 'disconnected' } : {}),
      dropPlaces: [],
    };
    this.plug(bridge, port);
    return this.opened(bridge, this.netdev(known, type, port, facts));
  }
  private netdev(of: Bridge, type: string, port: Port, facts: DeviceFacts): PortNetdev {
    const police = (policer: Policer | null): void => of.bridge.datapath.setPolicer(port.number, policer);
    const netdev = new PortNetdev(type, port, facts, this.parts.counted, police);
    port.onLink = () => {
      const known = this.parts.site.datapaths.get(`${this.parts.hostSite.host.name} ${of.type}`);
      const found = known?.backer.portOf(port.number) ?? null;
      const now = this.parts.site.services.recorder.stamp[0]!;
      if (found === null || found.linkUp === netdev.linkUp()) return;
      found.ofproto.setLink(found.number, netdev.linkUp(), now);
      if (this.running) known?.datapath.changed(now, this.contextBits);
    };
    return netdev;
  }
  private opened(bridge: OvsBridge, netdev: Netdev): Netdev {
    this.own.set(netdev, bridge);
    return netdev;
  }
  close(netdev: Netdev, _bridge: string, _now: number): void {
    const bridge = this.own.get(netdev);
    this.own.delete(netdev);
    if (bridge === undefined || !(netdev instanceof PortNetdev)) return;
    const { port } = netdev;
    port.bridge = null;
    port.onLink = () => {};
    bridge.datapath.setPolicer(port.number, null);
    if (this.devices.get(port.name)?.port === port) {
      bridge.removePort(port.number, this.contextBits, false);
      return;
    }
    bridge.removePort(port.number, this.contextBits);
    this.closed.add(port);
    this.parts.site.places.retire(port.place);
  }
  private plug(bridge: OvsBridge, port: Port): void {
    port.bridge = bridge.name;
    if (this.running) bridge.plugPort(port, this.contextBits);
    else bridge.addPort(port);
  }
  /** Where a port's events are recorded: it goes by its bridge. */
  private portPlace(known: Bridge, name: string, number: number, of: object | undefined): number {
    const { site, hostSite } = this.parts;
    const bridge = known.bridge.name;
    return site.places.add({
      host: hostSite.host.name,
      ...of,
      name: `${bridge}/${name}`,
      type: 'port',
      description: `port ${number} of bridge ${bridge}: ${name}`,
      bridge,
      port: name,
    });
  }
  private randomMac(name: string): Uint8Array {
    const { site, hostSite } = this.parts;
    const random = new RandomStream(site.topology.seed, `mac ${hostSite.prefix}${name}`);
    const [a, b] = [random.next(), random.next()];
    return Uint8Array.of((a & 0xfc) | 2, a >>> 8, a >>> 16, a >>> 24, b, b >>> 8);
  }
  /** netdev_dummy_construct(): numbered from aa:55:aa:55:00:01 on. */
  private dummyMac(): Uint8Array {
    const n = ++this.dummies;
    return Uint8Array.of(0xaa, 0x55, 0xaa, 0x55, n >>> 8, n);
  }

  /** Datapaths that there are, by type. */
  datapaths(): CtlDatapath[] {
    const { site, hostSite, datapathOf } = this.parts;
    return (['netdev', 'system'] as const).flatMap((type) => {
      if (!site.datapaths.has(`${hostSite.host.name} ${type}`)) return [];
      const made = datapathOf(type, '', 0);
      const { datapath } = made;
      return [{ ...made, pmds: datapath instanceof NetdevDatapath ? ctlPmds(site, hostSite, datapath) : [] }];
    });
  }
  /** How often an event was recorded at its bridges. */
  eventCount(kind: number): number {
    let sum = 0;
    for (const { bridge } of this.bridges.values()) sum += this.parts.counted.count(bridge.place, kind);
    return sum;
  }
  /** A port of any of its bridges. */
  portNamed(name: string): Port | null {
    for (const { bridge } of this.bridges.values())
      for (const port of bridge.ports.values()) if (port.name === name) return port;
    return null;
  }
  /** A frame comes in by a port, now. */
  receive(port: Port, frame: Uint8Array, now: number, contextBits: number): void {
    const { pool, arena, recorder, frames } = this.parts.site.services;
    const known = [...this.bridges.values()].find(({ bridge }) => bridge.ports.get(port.number) === port);
    const packet = known === undefined ? -1 : pool.alloc(FRAME_OFFSET + frame.length);
    if (known === undefined || packet < 0) return;
    const { datapath } = known.bridge;
    clearHeader(arena.u32, pool.slot(packet));
    arena.u8.set(frame, pool.at(packet));
    recorder.stamp[0] = now;
    pool.length[packet] = frame.length;
    pool.inPort[packet] = port.number;
    pool.frame[packet] = frames.born((port.place << 8) | contextBits, pool.at(packet), frame.length, 0);
    datapath.ingress(packet, contextBits);
    datapath.process(packet, contextBits);
    datapath.debt = 0;
    for (const pmd of this.parts.site.pmdsOf(this.parts.hostSite)) pmd.look();
  }

  configure({ otherConfig, bridges }: OvsConfig): void {
    this.otherConfig = otherConfig;
    for (const { datapath } of this.datapaths()) applyOtherConfig(otherConfig, datapath);
    const interfaces = bridges.flatMap(({ ports }) => ports.flatMap((port) => port.interfaces));
    this.parts.hostSite.threads?.configure(otherConfig, interfaces);
  }
  rebalance(): void {
    this.parts.hostSite.threads?.deal();
  }
  /** Things happen on the account of another context from now on. */
  actAs(contextBits: number): void {
    this.contextBits = contextBits;
    for (const { ofproto } of this.bridges.values()) if (ofproto !== null) ofproto.agent.contextBits = contextBits;
  }
  changed(): void {
    // Ports that have come are ends of traffic, those that have gone are none.
    if (this.running) this.parts.site.grew();
    this.onChange();
  }
}
