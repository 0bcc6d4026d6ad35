/**
 * One bridge as the switch has it: OpenFlow ports, tables, MAC table, VLANs, bonds, mirrors (ovs ofproto/ofproto-dpif.c, struct
 * ofproto_dpif). What the database and OpenFlow want of a bridge, they ask here.
 */
import type { FlowMod, OfAction } from '../flow/actions.ts';
import { OFPM13_CONTROLLER, OFPP_CONTROLLER, OFPP_LOCAL, OFPP_MAX, OFPP_NONE, OfError } from '../flow/actions.ts';
import type { Flow } from '../flow/flow.ts';
import { W_IN_PORT } from '../flow/flow.ts';
import { ofError } from '../openflow/wire/errors.ts';
import type { Backer } from './backer.ts';
import { Bond } from './bond.ts';
import { Bundle, type BundleSettings } from './bundle.ts';
import { addInternalRules, addStandaloneRule, type InternalRules, setFailOpenRule } from './internal-rules.ts';
import { type LearnedMac, MacTable, macText } from './mac-table.ts';
import { type Mirror, type MirrorSettings, makeMirrors } from './mirrors.ts';
import type { FrozenState, PacketIn } from './packet-in.ts';
import { OfPort, type OfPortSettings } from './port.ts';
import { FlowTables } from './tables/flow-tables.ts';
import type { DatapathMeters } from './tables/meters.ts';

export interface OfprotoSettings {
  readonly name: string;
  /** 6 bytes: the bridge's address, LOCAL's too. */
  readonly mac: Uint8Array;
  /** Place of the bridge: events name it. */
  readonly place: number;
}
/** What a PACKET_OUT asks for. */
export interface PacketOut {
  readonly frame: Uint8Array;
  /** Metadata and registers of OpenFlow 1.5's match; in_port by its OpenFlow number, OFPP_NONE or OFPP_CONTROLLER for none. */
  readonly flow: Flow;
  readonly actions: readonly OfAction[];
}
/** What listens to ports: OFPT_PORT_STATUS. */
export type PortChange = 'add' | 'delete' | 'modify';

export class Ofproto {
  declare readonly backer: Backer;
  declare readonly name: string;
  declare readonly place: number;
  declare mac: Uint8Array;
  declare readonly tables: FlowTables;
  declare readonly macs: MacTable;
  /** By OpenFlow number, LOCAL included. */
  readonly ports = new Map<number, OfPort>();
  /** By Port.name; floods go in this order: LOCAL first, then by the number of the first interface. */
  bundles: ReadonlyMap<string, Bundle> = new Map();
  mirrors: readonly Mirror[] = [];
  private mirrorSettings: readonly MirrorSettings[] = [];
  forwardBpdu = false;
  /** What happens to frames while no controller is there. */
  failMode: 'standalone' | 'secure' = 'standalone';
  private hasControllers = false;
  private failOpen = false;
  /** Fragments: OFPC_FRAG_… of SET_CONFIG (0 normal, 1 drop, 3 nx-match). */
  fragHandling = 0;
  declare internal: InternalRules;
  /** OpenFlow's connections set these. */
  onPacketIn: (packet: PacketIn, now: number, contextBits: number) => void = () => {};
  onPortStatus: (change: PortChange, port: OfPort, now: number) => void = () => {};
  /** A controller of OpenFlow 1.2 or older is connected, for whom a miss is a packet-in. */
  wantsPacketInOnMiss: () => boolean = () => false;
  /** Some controller is connected: buckets that watch it live. */
  controllerIsAlive: () => boolean = () => false;

  constructor(backer: Backer, settings: OfprotoSettings, meters?: DatapathMeters) {
    this.backer = backer;
    this.name = settings.name;
    this.mac = settings.mac;
    this.place = settings.place;
    this.tables = new FlowTables(meters);
    this.macs = new MacTable(
      () => backer.touch(),
      (entry) => backer.learned(this, entry),
      () => backer.creditAll(),
    );
    this.flush(0);
  }

  get local(): OfPort | null {
    return this.ports.get(OFPP_LOCAL) ?? null;
  }
  portByName(name: string): OfPort | null {
    for (const port of this.ports.values()) if (port.name === name) return port;
    return null;
  }
  /** An OpenFlow number for a new port: the wish where it is free, otherwise the lowest free one; -1: there is none. */
  freeNumber(wish: number): number {
    if (wish > 0 && wish < OFPP_MAX && !this.ports.has(wish)) return wish;
    for (let number = 1; number < OFPP_MAX; number++) if (!this.ports.has(number)) return number;
    return -1;
  }

  addPort(settings: OfPortSettings, now: number): OfPort {
    const port = new OfPort(this, settings, now);
    this.ports.set(port.number, port);
    this.backer.portAdded(port);
    this.onPortStatus('add', port, now);
    return port;
  }
  removePort(number: number, now: number): void {
    const port = this.ports.get(number);
    if (port === undefined) return;
    this.ports.delete(number);
    const { bundle } = port;
    if (bundle !== null) {
      port.bundle = null;
      bundle.ports = bundle.ports.filter((other) => other !== port);
      bundle.bond?.configure(bundle.bond.settings, bundle.ports, now);
      // What the port has learned goes with it; a bond keeps it while a member is left.
      if (bundle.ports.length === 0) this.macs.flushBundle(bundle);
    }
    this.backer.portRemoved(port);
    this.onPortStatus('delete', port, now);
  }
  /** PORT_MOD: OFPUTIL_PC_… bits in `mask` become those of `config`. */
  modPort(number: number, config: number, mask: number, now: number): void {
    const port = this.ports.get(number);
    if (port === undefined) return;
    const changed = (port.config ^ config) & mask;
    if (changed === 0) return;
    port.config ^= changed;
    this.portChanged(port, now);
  }
  setLink(number: number, up: boolean, now: number): void {
    const port = this.ports.get(number);
    if (port === undefined || port.linkUp === up) return;
    port.linkUp = up;
    this.portChanged(port, now);
  }
  private portChanged(port: OfPort, now: number): void {
    port.bundle?.bond?.run(now);
    this.backer.touch();
    this.onPortStatus('modify', port, now);
  }

  /** Makes or changes the Port of that name (bundle_set()). Its interfaces are ports already; without any it goes. */
  setBundle(settings: BundleSettings, now: number = this.backer.now): Bundle {
    let bundle = this.bundles.get(settings.name);
    const ports = settings.ports.map((number) => this.ports.get(number)).filter((port) => port !== undefined);
    if (bundle === undefined) bundle = new Bundle(this, settings);
    else if (bundle.configure(settings)) this.macs.flushBundle(bundle);
    for (const port of bundle.ports) if (!ports.includes(port)) port.bundle = null;
    for (const port of ports) {
      if (port.bundle !== null && port.bundle !== bundle) {
        const { bundle: other } = port;
        other.ports = other.ports.filter((left) => left !== port);
      }
      port.bundle = bundle;
    }
    bundle.ports = ports;
    if (settings.bond === null || ports.length < 2) bundle.bond = null;
    else {
      bundle.bond ??= new Bond(bundle.name, settings.bond);
      bundle.bond.configure(settings.bond, ports, now);
    }
    this.orderBundles([...[...this.bundles.values()].filter((other) => other !== bundle), bundle]);
    return bundle;
  }
  removeBundle(name: string, _now: number = this.backer.now): void {
    const bundle = this.bundles.get(name);
    if (bundle === undefined) return;
    for (const port of bundle.ports) port.bundle = null;
    this.macs.flushBundle(bundle);
    this.orderBundles([...this.bundles.values()].filter((other) => other !== bundle));
  }
  private orderBundles(bundles: Bundle[]): void {
    // a hash's order in the real one. LOCAL comes first: so a frame that is flooded goes on as itself to a port behind which
    // somebody waits for it, and the host's stack gets a copy
    const first = ({ ports }: Bundle): number =>
      ports[0] === undefined ? Number.POSITIVE_INFINITY : ports[0].number === OFPP_LOCAL ? -1 : ports[0].number;
    bundles.sort((a, b) => first(a) - first(b));
    this.bundles = new Map(bundles.map((bundle) => [bundle.name, bundle]));
    this.setMirrors(this.mirrorSettings);
  }
  /** All mirrors of the bridge: those with the same names keep their statistics. */
  setMirrors(settings: readonly MirrorSettings[], _now: number = this.backer.now): void {
    this.mirrorSettings = settings;
    const before = this.mirrors.map(({ out }) => out);
    this.mirrors = makeMirrors(settings, this.bundles, this.mirrors);
    // An output port does no switching, so what it learned is gone (mirror_set()).
    for (const { out } of this.mirrors) if (out !== null && !before.includes(out)) this.macs.flushBundle(out);
    this.backer.touch();
  }
  get hasMirrors(): boolean {
    return this.mirrors.length > 0;
  }

  /** fail_mode; without controllers the tables begin anew (connmgr_set_fail_mode()). */
  setFailMode(mode: 'standalone' | 'secure', now: number = this.backer.now): void {
    if (mode === this.failMode) return;
    this.failMode = mode;
    if (!this.hasControllers) this.flush(now);
    this.backer.touch();
  }
  /** The database names controllers, or none any more: the tables begin anew (connmgr_set_controllers()). */
  setControllers(some: boolean, now: number): void {
    if (some === this.hasControllers) return;
    this.hasControllers = some;
    if (!some) this.failOpen = false;
    this.flush(now);
  }
  /** No controller answers, and the bridge is standalone: it switches by itself until one is back (fail-open.c). */
  setFailOpen(open: boolean, now: number): void {
    if (open === this.failOpen) return;
    this.failOpen = open;
    setFailOpenRule(this.tables, open, now);
    this.backer.touch();
  }
  /** Removes all flows and groups; what the switch has for itself comes back (ofproto_flush__()). */
  flush(now: number): void {
    this.tables.clear();
    this.internal = addInternalRules(this.tables, now);
    if (this.failOpen) setFailOpenRule(this.tables, true, now);
    if (!this.hasControllers && this.failMode === 'standalone') addStandaloneRule(this.tables, now);
  }
  /** Datapath meter that packet-ins go through, OFPM_CONTROLLER; null: none. */
  controllerMeter(): number | null {
    return this.tables.meters.get(OFPM13_CONTROLLER)?.provider ?? null;
  }

  /** learn(): false where a limit or the tables refuse it. */
  learn(mod: FlowMod, limit: number, now: number): boolean {
    try {
      return this.tables.learn(mod, limit, now) !== null;
    } catch (error) {
      if (error instanceof OfError) return false;
      throw error;
    }
  }

  /** Executes a PACKET_OUT. Throws OfError (OFPBRC_BAD_PORT, OFPBRC_BAD_PACKET) before anything is done. */
  packetOut(out: PacketOut, now: number, contextBits: number): void {
    const inPort = out.flow.w[W_IN_PORT]! >>> 0;
    if (inPort >= OFPP_MAX && inPort !== OFPP_LOCAL && inPort !== OFPP_NONE && inPort !== OFPP_CONTROLLER)
      throw ofError('OFPBRC_BAD_PORT');
    if (out.frame.length < 14) throw ofError('OFPBRC_BAD_PACKET');
    this.backer.packetOut(this, out, now, contextBits);
  }
  /** NXT_RESUME: a paused frame goes on. Throws OfError. */
  resume(frame: Uint8Array, state: FrozenState, now: number, contextBits: number): void {
    if (frame.length < 14) throw ofError('OFPBRC_BAD_PACKET');
    this.backer.resume(this, frame, state, now, contextBits);
  }

  /** What was learned, as plain data, and the other way round: for dry runs. Ports by their Port.name. */
  learned(): LearnedMac[] {
    return Array.from(this.macs.entries(Number.NEGATIVE_INFINITY), ({ mac, vlan, bundle, expires }) => ({
      mac: macText(mac),
      vlan,
      port: bundle.name,
      expires,
    }));
  }
  adopt(entries: readonly LearnedMac[], now: number): void {
    for (const { mac, vlan, port, expires } of entries) {
      const bundle = this.bundles.get(port);
      if (bundle !== undefined)
        this.macs.adopt(Number.parseInt(mac.replaceAll(':', ''), 16), vlan, bundle, expires, now);
    }
  }
}
