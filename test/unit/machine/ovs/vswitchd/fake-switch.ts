/** A switch that only remembers what ovs-vswitchd told it. */
import { RandomStream } from '../../../../../src/engine/random.ts';
import type { BundleSettings } from '../../../../../src/machine/ovs/ofproto/bundle.ts';
import type { MirrorSettings } from '../../../../../src/machine/ovs/ofproto/mirrors.ts';
import type { PortCounters } from '../../../../../src/machine/ovs/ofproto/port.ts';
import { Database } from '../../../../../src/machine/ovs/ovsdb/database.ts';
import type { Json } from '../../../../../src/machine/ovs/ovsdb/json.ts';
import { OPEN_VSWITCH } from '../../../../../src/machine/ovs/ovsdb/schema/open-vswitch.ts';
import type { BridgeConfig, InterfaceConfig } from '../../../../../src/machine/ovs/vswitchd/config.ts';
import type {
  ControllerStatus,
  Environment,
  Netdev,
  Remotes,
  SwitchBridge,
} from '../../../../../src/machine/ovs/vswitchd/environment.ts';
import { Vswitchd } from '../../../../../src/machine/ovs/vswitchd/vswitchd.ts';
import { addBr, addPort, type Columns, delBr, delPort } from '../ovsdb/vsctl-operations.ts';

const ZERO: PortCounters = {
  rxPackets: 0,
  rxBytes: 0,
  rxDropped: 0,
  rxErrors: 0,
  txPackets: 0,
  txBytes: 0,
  txDropped: 0,
  txErrors: 0,
};

export class FakeNetdev implements Netdev {
  readonly name: string;
  readonly type: string;
  readonly dpPort = 1;
  address: Uint8Array;
  up = true;
  size = 1500;
  received = 0;
  policed: readonly number[] = [];
  closed = false;

  constructor(name: string, type: string, mac: readonly number[]) {
    this.name = name;
    this.type = type;
    this.address = Uint8Array.from(mac);
  }
  mac(): Uint8Array {
    return this.address;
  }
  setMac(mac: Uint8Array): boolean {
    this.address = mac;
    return true;
  }
  mtu(): number {
    return this.size;
  }
  setMtu(mtu: number): boolean {
    this.size = mtu;
    return true;
  }
  adminUp(): boolean {
    return true;
  }
  linkUp(): boolean {
    return this.up;
  }
  linkSpeed(): number {
    return 0;
  }
  fullDuplex(): null {
    return null;
  }
  linkResets(): number {
    return 0;
  }
  ifindex(): number {
    return 0;
  }
  counters(): PortCounters {
    return { ...ZERO, rxPackets: this.received };
  }
  status(): Record<string, string> {
    return { driver_name: 'fake' };
  }
  configure({ type, name, options }: InterfaceConfig): string | null {
    return type === 'patch' && !options.has('peer') ? `${name}: patch type requires valid 'peer' argument` : null;
  }
  police(...figures: number[]): void {
    this.policed = figures;
  }
}

export class FakeBridge implements SwitchBridge {
  readonly ports = new Map<number, Netdev>();
  readonly peers = new Map<number, string | null>();
  readonly bundles = new Map<string, BundleSettings>();
  mirrors: readonly MirrorSettings[] = [];
  macTable: readonly [number, number, readonly number[]] = [0, 0, []];
  remotes: Remotes | null = null;
  statuses: ControllerStatus[] = [];
  forwardBpdu = false;
  description: string | null = null;

  addPort(netdev: Netdev, number: number): void {
    if (this.ports.has(number)) throw new Error(`${number} is taken`);
    this.ports.set(number, netdev);
  }
  removePort(number: number): void {
    if (!this.ports.delete(number)) throw new Error(`there is no ${number}`);
  }
  setPeer(number: number, peer: string | null): void {
    this.peers.set(number, peer);
  }
  portChanged(): void {}
  setBundle(settings: BundleSettings): void {
    for (const port of settings.ports) if (!this.ports.has(port)) throw new Error(`there is no ${port}`);
    this.bundles.set(settings.name, settings);
  }
  removeBundle(name: string): void {
    this.bundles.delete(name);
  }
  setMirrors(mirrors: readonly MirrorSettings[]): void {
    this.mirrors = mirrors;
  }
  mirrorStatistics(): { packets: number; bytes: number } {
    return { packets: 3, bytes: 180 };
  }
  setMacTable(aging: number, entries: number, flood: readonly number[]): void {
    this.macTable = [aging, entries, flood];
  }
  setForwardBpdu(forward: boolean): void {
    this.forwardBpdu = forward;
  }
  setDatapathId(): void {}
  setMac(): void {}
  setDescription(text: string | null): void {
    this.description = text;
  }
  setFlowTables(): void {}
  setRemotes(remotes: Remotes): void {
    this.remotes = remotes;
  }
  controllers(): ControllerStatus[] {
    return this.statuses;
  }
}

/** Devices by name with their addresses; others are not there, unless the switch makes them itself. */
export class FakeSwitch implements Environment {
  readonly ovsVersion = '3.1.0';
  readonly ifaceTypes = ['internal', 'patch', 'system'];
  readonly datapathTypes = ['netdev', 'system'];
  readonly dpdk = { initialized: false, version: 'none' };
  readonly bridges = new Map<string, FakeBridge>();
  readonly opened: FakeNetdev[] = [];
  readonly devices: ReadonlyMap<string, readonly number[]>;
  readonly db = new Database(OPEN_VSWITCH, new RandomStream(1, 'fake switch'));
  readonly daemon: Vswitchd;
  now = 0;
  changes = 0;

  constructor(devices: Readonly<Record<string, readonly number[]>> = {}) {
    this.devices = new Map(Object.entries(devices));
    this.daemon = new Vswitchd(this.db, this, () => this.now);
    this.db.edit((edit) => void edit.insert('Open_vSwitch', {}));
    this.daemon.start();
  }
  addBridge({ name }: BridgeConfig): SwitchBridge {
    const bridge = new FakeBridge();
    this.bridges.set(name, bridge);
    return bridge;
  }
  removeBridge(name: string): void {
    if (!this.bridges.delete(name)) throw new Error(`there is no ${name}`);
  }
  open(_bridge: BridgeConfig, { name, type }: InterfaceConfig): Netdev | string {
    const mac = this.devices.get(name) ?? (type === 'internal' || type === 'patch' ? [2, 0, 0, 0, 0, 1] : null);
    if (mac === null) return type === 'system' ? 'No such device' : 'Address family not supported by protocol';
    const netdev = new FakeNetdev(name, type, mac);
    this.opened.push(netdev);
    return netdev;
  }
  close(netdev: Netdev): void {
    (netdev as FakeNetdev).closed = true;
  }
  configure(): void {}
  changed(): void {
    this.changes++;
  }

  /** The open device of that name. */
  netdev(name: string): FakeNetdev {
    const found = this.opened.find((n) => n.name === name && !n.closed);
    if (found === undefined) throw new Error(`${name} is not open`);
    return found;
  }
  bridge(name = 'br0'): FakeBridge {
    return this.bridges.get(name)!;
  }

  // ---- what ovs-vsctl would do ------------------------------------------------------------------------------------------
  /** Operations, and next_cfg as `ovs-vsctl` raises it. Returns that. */
  transact(...operations: Json[]): number {
    const bump = {
      op: 'mutate',
      table: 'Open_vSwitch',
      where: [],
      mutations: [['next_cfg', '+=', 1]],
    };
    const results = this.db.transact([...operations, bump]);
    for (const result of results)
      if (typeof result === 'object' && result !== null && 'error' in result) throw new Error(JSON.stringify(result));
    return [...this.db.rows('Open_vSwitch')][0]!.integer('next_cfg')!;
  }
  addBr(name: string, columns: Columns = {}): number {
    return this.transact(...addBr(name, columns));
  }
  delBr(name: string): number {
    return this.transact(...delBr(this.db, name));
  }
  addPort(bridge: string, name: string, port: Columns = {}, iface: Columns = {}): number {
    return this.transact(...addPort(bridge, name, port, iface));
  }
  delPort(bridge: string, name: string): number {
    return this.transact(...delPort(this.db, bridge, name));
  }
  set(table: string, name: string, row: Columns): number {
    return this.transact({ op: 'update', table, where: [['name', '==', name]], row });
  }
  get(table: string, name: string): NonNullable<ReturnType<Database['find']>> {
    const row = this.db.find(table, 'name', name);
    if (row === undefined) throw new Error(`there is no ${table} ${name}`);
    return row;
  }
  get curCfg(): number {
    return [...this.db.rows('Open_vSwitch')][0]!.integer('cur_cfg')!;
  }
}
