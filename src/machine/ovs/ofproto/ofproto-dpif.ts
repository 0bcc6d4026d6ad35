/**
 * One bridge as the switch has it: OpenFlow ports, tables, MAC table, VLANs, bonds, mirrors (ovs ofproto/ofproto-dpif.c, struct
 * ofproto_dpif). What the database and OpenFlow want of a bridge, they ask here.
 */
import type { OfAction } from '../flow/actions.ts';
import { OFPP_LOCAL, OFPP_MAX } from '../flow/actions.ts';
import type { Flow } from '../flow/flow.ts';
import type { Backer } from './backer.ts';
import { Bundle, type BundleSettings } from './bundle.ts';
import { type LearnedMac, MacTable } from './mac-table.ts';
import type { Mirror, MirrorSettings } from './mirrors.ts';
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
  /** By Port.name. */
  readonly bundles = new Map<string, Bundle>();
  readonly mirrors: (Mirror | null)[] = [];
  forwardBpdu = false;
  /** Frames that match nothing go to controllers; false: to NORMAL (fail_mode standalone, no controller). */
  failMode: 'standalone' | 'secure' = 'standalone';
  /** Fragments: OFPC_FRAG_… of SET_CONFIG (0 normal, 1 drop, 3 nx-match). */
  fragHandling = 0;
  /** OpenFlow's connections set these. */
  onPacketIn: (packet: PacketIn, now: number, contextBits: number) => void = () => {};
  onPortStatus: (change: PortChange, port: OfPort, now: number) => void = () => {};

  constructor(backer: Backer, settings: OfprotoSettings, meters?: DatapathMeters) {
    this.backer = backer;
    this.name = settings.name;
    this.mac = settings.mac;
    this.place = settings.place;
    this.tables = new FlowTables(meters);
    this.macs = new MacTable(() => backer.touch());
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
    this.backer.touch();
    this.onPortStatus('add', port, now);
    return port;
  }
  removePort(number: number, now: number): void {
    const port = this.ports.get(number);
    if (port === undefined) return;
    this.ports.delete(number);
    this.backer.touch();
    this.onPortStatus('delete', port, now);
  }
  /** PORT_MOD: OFPUTIL_PC_… bits in `mask` become those of `config`. */
  modPort(number: number, config: number, mask: number, now: number): void {
    const port = this.ports.get(number);
    if (port === undefined) return;
    const changed = (port.config ^ config) & mask;
    if (changed === 0) return;
    port.config ^= changed;
    this.backer.touch();
    this.onPortStatus('modify', port, now);
  }
  setLink(number: number, up: boolean, now: number): void {
    const port = this.ports.get(number);
    if (port === undefined || port.linkUp === up) return;
    port.linkUp = up;
    this.backer.touch();
    this.onPortStatus('modify', port, now);
  }

  /** Makes or changes the Port of that name. Its interfaces are ports already. */
  setBundle(settings: BundleSettings): Bundle {
    const bundle = this.bundles.get(settings.name) ?? new Bundle(this, settings);
    bundle.settings = settings;
    this.bundles.set(settings.name, bundle);
    this.backer.touch();
    return bundle;
  }
  removeBundle(name: string): void {
    this.bundles.delete(name);
    this.backer.touch();
  }
  /** All mirrors of the bridge: those that are the same keep their statistics. */
  setMirrors(_mirrors: readonly MirrorSettings[]): void {
    this.backer.touch();
  }
  setFailMode(mode: 'standalone' | 'secure'): void {
    this.failMode = mode;
    this.backer.touch();
  }

  /** Executes a PACKET_OUT. Throws OfError (OFPBRC_BAD_PORT, or what its actions refuse) before anything is done. */
  packetOut(_out: PacketOut, _now: number, _contextBits: number): void {}
  /** NXT_RESUME: a paused frame goes on. Throws OfError. */
  resume(_frame: Uint8Array, _state: FrozenState, _now: number, _contextBits: number): void {}

  /** What was learned, as plain data, and the other way round: for dry runs. Ports by their Port.name. */
  learned(): LearnedMac[] {
    return [];
  }
  adopt(_entries: readonly LearnedMac[], _now: number): void {}
}
