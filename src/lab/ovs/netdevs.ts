/** Network devices of an emulated host as ovs-vswitchd sees them: what lib/netdev-*.c of Open vSwitch say of theirs. */
import { DP_INGRESS, DP_OUTPUT, DROP_KINDS, KIND_STRIDE, MAX_PLACES, PORT_DROP_POLICED } from '../../engine/events.ts';
import { Policer } from '../../machine/host/policer.ts';
import type { Port } from '../../machine/host/port.ts';
import type { PortCounters } from '../../machine/ovs/ofproto/port.ts';
import type { InterfaceConfig } from '../../machine/ovs/vswitchd/config.ts';
import type { Netdev } from '../../machine/ovs/vswitchd/environment.ts';

/** Counters of places: packets or events, and bytes. */
export interface PlaceCounters {
  count(place: number, kind: number): number;
  bytes(place: number, kind: number): number;
}
/** What a device says of itself beyond what its port does. */
export interface DeviceFacts {
  readonly mac: () => Uint8Array;
  /** null: nobody here may. */
  readonly setMac: ((mac: Uint8Array) => void) | null;
  readonly linkUp: () => boolean;
  /** Mbit/s; 0: it does not say. */
  readonly speed: number;
  readonly fullDuplex: boolean | null;
  readonly ifindex: number;
  readonly status: () => Readonly<Record<string, string>>;
  /** Why `options` cannot be; null: they can. */
  readonly configure?: (config: InterfaceConfig) => string | null;
  /** Places beside the port's where its frames are dropped. */
  readonly dropPlaces: readonly number[];
}

const DROPS = DROP_KINDS.map((kind) => kind.id).filter((kind) => kind !== PORT_DROP_POLICED);
const NO_COUNTERS: PortCounters = {
  rxPackets: 0,
  rxBytes: 0,
  rxDropped: 0,
  rxErrors: 0,
  txPackets: 0,
  txBytes: 0,
  txDropped: 0,
  txErrors: 0,
};

/** A port of a datapath. */
export class PortNetdev implements Netdev {
  declare readonly name: string;
  declare readonly type: string;
  declare readonly port: Port;
  declare private readonly facts: DeviceFacts;
  declare private readonly counted: PlaceCounters;
  declare private readonly setPolicer: (policer: Policer | null) => void;
  private policing = '0,0,0,0';
  /** What had been counted under its name when the device was made: one of the same name may have been there before. */
  declare private readonly before: PortCounters;

  constructor(
    type: string,
    port: Port,
    facts: DeviceFacts,
    counted: PlaceCounters,
    setPolicer: (policer: Policer | null) => void,
  ) {
    this.setPolicer = setPolicer;
    this.name = port.name;
    this.type = type;
    this.port = port;
    this.facts = facts;
    this.counted = counted;
    // what a guest or a NIC is behind outlives its port
    this.before = type === 'dummy' || type === 'internal' ? this.countedSoFar() : NO_COUNTERS;
  }
  get dpPort(): number {
    return this.port.number;
  }
  mac(): Uint8Array {
    return this.facts.mac();
  }
  setMac(mac: Uint8Array): boolean {
    this.facts.setMac?.(mac);
    return this.facts.setMac !== null;
  }
  mtu(): number {
    return this.port.mtu;
  }
  setMtu(mtu: number): boolean {
    this.port.mtu = mtu;
    return true;
  }
  adminUp(): boolean {
    return true;
  }
  linkUp(): boolean {
    return this.facts.linkUp();
  }
  linkSpeed(): number {
    return this.facts.speed;
  }
  fullDuplex(): boolean | null {
    return this.facts.fullDuplex;
  }
  linkResets(): number {
    return 0;
  }
  ifindex(): number {
    return this.facts.ifindex;
  }
  counters(): PortCounters {
    const now = this.countedSoFar();
    const { before } = this;
    return {
      ...now,
      rxPackets: now.rxPackets - before.rxPackets,
      rxBytes: now.rxBytes - before.rxBytes,
      txPackets: now.txPackets - before.txPackets,
      txBytes: now.txBytes - before.txBytes,
      rxDropped: now.rxDropped - before.rxDropped,
      txDropped: now.txDropped - before.txDropped,
    };
  }
  private countedSoFar(): PortCounters {
    const { counted, port } = this;
    let dropped = 0;
    let droppedBytes = 0;
    for (const place of [port.place, ...this.facts.dropPlaces])
      for (const kind of DROPS) {
        dropped += counted.count(place, kind);
        // of these kinds, `a` is the frame's length
        droppedBytes += counted.bytes(place, kind);
      }
    return {
      ...NO_COUNTERS,
      rxPackets: counted.count(port.place, DP_INGRESS),
      rxBytes: counted.bytes(port.place, DP_INGRESS),
      txPackets: counted.count(port.place, DP_OUTPUT) - dropped,
      txBytes: counted.bytes(port.place, DP_OUTPUT) - droppedBytes,
      rxDropped: counted.count(port.place, PORT_DROP_POLICED),
      txDropped: dropped,
    };
  }
  status(): Readonly<Record<string, string>> {
    return this.facts.status();
  }
  configure(config: InterfaceConfig): string | null {
    return this.facts.configure?.(config) ?? null;
  }
  police(...figures: [rate: number, burst: number, kpktsRate: number, kpktsBurst: number]): void {
    // buckets that are not touched keep what they hold
    if (this.policing === figures.join()) return;
    this.policing = figures.join();
    this.setPolicer(Policer.of(...figures));
  }
}

/** Half of a patch: no datapath knows it, ofproto counts for it (lib/netdev-vport.c). */
export class PatchNetdev implements Netdev {
  declare readonly name: string;
  readonly type = 'patch';
  readonly dpPort = null;
  declare private readonly address: Uint8Array;

  constructor(name: string, mac: Uint8Array) {
    this.name = name;
    this.address = mac;
  }
  mac(): Uint8Array {
    return this.address;
  }
  setMac(): boolean {
    return false;
  }
  mtu(): null {
    return null;
  }
  setMtu(): boolean {
    return false;
  }
  adminUp(): boolean {
    return true;
  }
  linkUp(): boolean {
    return true;
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
  /** Its OpenFlow port says more. */
  counters(): PortCounters {
    return NO_COUNTERS;
  }
  status(): Readonly<Record<string, string>> {
    return {};
  }
  /** set_patch_config(). */
  configure({ name, options }: InterfaceConfig): string | null {
    const peer = options.get('peer');
    if (peer === undefined || peer === '') return `${name}: patch type requires valid 'peer' argument`;
    return peer === name ? `${name}: patch peer must not be self` : null;
  }
  police(): void {}
}

/** Reads the counters of a world, which lie at `from` of its memory; they are of the last time that it published. */
export function placeCounters(memory: SharedArrayBuffer, from: number): PlaceCounters {
  const counters = new Float64Array(memory, from, MAX_PLACES * KIND_STRIDE * 2);
  const at = (place: number, kind: number): number => (place * KIND_STRIDE + kind) * 2;
  return {
    count: (place, kind) => counters[at(place, kind)] ?? 0,
    bytes: (place, kind) => counters[at(place, kind) + 1] ?? 0,
  };
}
