/** An OpenFlow port of a bridge (ovs ofproto-provider.h struct ofport, ofproto-dpif.c struct ofport_dpif). */
import type { Bundle } from './bundle.ts';
import type { Ofproto } from './ofproto-dpif.ts';

/** Configuration bits (ovs enum ofputil_port_config). */
export const OFPUTIL_PC_PORT_DOWN = 1;
export const OFPUTIL_PC_NO_STP = 2;
export const OFPUTIL_PC_NO_RECV = 4;
export const OFPUTIL_PC_NO_RECV_STP = 8;
export const OFPUTIL_PC_NO_FLOOD = 16;
export const OFPUTIL_PC_NO_FWD = 32;
export const OFPUTIL_PC_NO_PACKET_IN = 64;
/** State bits (ovs enum ofputil_port_state). */
export const OFPUTIL_PS_LINK_DOWN = 1;
export const OFPUTIL_PS_BLOCKED = 2;
export const OFPUTIL_PS_LIVE = 4;

/** lib/stp.h: what a port may do while a spanning tree forms. */
export type StpState = 'disabled' | 'listening' | 'learning' | 'forwarding' | 'blocking';

/** Counters of an interface, as OFPMP_PORT_STATS and Interface.statistics have them. */
export interface PortCounters {
  readonly rxPackets: number;
  readonly rxBytes: number;
  readonly rxDropped: number;
  readonly rxErrors: number;
  readonly txPackets: number;
  readonly txBytes: number;
  readonly txDropped: number;
  readonly txErrors: number;
}

export interface OfPortSettings {
  readonly name: string;
  /** OpenFlow number; OFPP_LOCAL for the bridge's own port. */
  readonly number: number;
  /** Datapath port number; null: a patch port. */
  readonly dpPort: number | null;
  /** Interface.type; `internal` for LOCAL. */
  readonly type: string;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  /** options:peer of a patch port. */
  readonly peer: string | null;
  readonly config?: number;
  readonly linkUp?: boolean;
  readonly mtu?: number;
  readonly counters?: () => PortCounters;
}

export class OfPort {
  declare readonly ofproto: Ofproto;
  declare readonly name: string;
  declare readonly number: number;
  declare readonly dpPort: number | null;
  declare readonly type: string;
  declare mac: Uint8Array;
  /** Set through Ofproto.setPeer(). */
  declare peer: string | null;
  /** OFPUTIL_PC_… bits: set through Ofproto.modPort(). */
  declare config: number;
  /** Set through Ofproto.setLink(). */
  declare linkUp: boolean;
  declare mtu: number;
  declare counters: () => PortCounters;
  stp: StpState = 'disabled';
  /** The Port of the database that it belongs to; null until Ofproto.setBundle() names it. */
  bundle: Bundle | null = null;
  /** What a patch port has carried: translations credit it. */
  patchRxPackets = 0;
  patchRxBytes = 0;
  patchTxPackets = 0;
  patchTxBytes = 0;
  /** When it was added, ns: OFPMP_PORT_STATS says how long ago. */
  declare readonly created: number;

  constructor(ofproto: Ofproto, settings: OfPortSettings, now: number) {
    this.ofproto = ofproto;
    this.name = settings.name;
    this.number = settings.number;
    this.dpPort = settings.dpPort;
    this.type = settings.type;
    this.mac = settings.mac;
    this.peer = settings.peer;
    this.config = settings.config ?? 0;
    this.linkUp = settings.linkUp ?? true;
    this.mtu = settings.mtu ?? 1500;
    this.counters = settings.counters ?? (() => this.patchCounters());
    this.created = now;
  }

  /** Carries frames: its link is up and nobody has taken it down. */
  get mayEnable(): boolean {
    return this.linkUp && (this.config & OFPUTIL_PC_PORT_DOWN) === 0;
  }
  /** OFPUTIL_PS_… bits. */
  get state(): number {
    return (this.linkUp ? 0 : OFPUTIL_PS_LINK_DOWN) | (this.mayEnable ? OFPUTIL_PS_LIVE : 0);
  }
  get stpForwards(): boolean {
    return this.stp === 'disabled' || this.stp === 'forwarding';
  }
  get stpLearns(): boolean {
    return this.stpForwards || this.stp === 'learning';
  }

  private patchCounters(): PortCounters {
    return {
      rxPackets: this.patchRxPackets,
      rxBytes: this.patchRxBytes,
      rxDropped: 0,
      rxErrors: 0,
      txPackets: this.patchTxPackets,
      txBytes: this.patchTxBytes,
      txDropped: 0,
      txErrors: 0,
    };
  }
}
