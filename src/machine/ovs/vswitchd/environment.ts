/**
 * What ovs-vswitchd finds on its host: network devices that it can open, and the switch that it configures. The lab builds it; the
 * database's side knows nothing of taps, rings and datapaths.
 */
import type { BundleSettings } from '../ofproto/bundle.ts';
import type { MirrorSettings } from '../ofproto/mirrors.ts';
import type { PortCounters } from '../ofproto/port.ts';
import type { BridgeConfig, ControllerConfig, FlowTableConfig, InterfaceConfig, OvsConfig } from './config.ts';

/** A network device that a bridge has opened (ovs struct netdev). */
export interface Netdev {
  readonly name: string;
  /** As Interface.type has it, `system` written out. */
  readonly type: string;
  /** Datapath port number; null: a patch port, which no datapath knows. */
  readonly dpPort: number | null;
  /** 6 bytes. */
  mac(): Uint8Array;
  /** False where its address is not this program's to choose. */
  setMac(mac: Uint8Array): boolean;
  mtu(): number | null;
  /** False where its MTU is not this program's to choose. */
  setMtu(mtu: number): boolean;
  adminUp(): boolean;
  linkUp(): boolean;
  /** Mbit/s; 0: it does not say. */
  linkSpeed(): number;
  /** null: it does not say. */
  fullDuplex(): boolean | null;
  linkResets(): number;
  ifindex(): number;
  counters(): PortCounters;
  /** Interface.status. */
  status(): Readonly<Record<string, string>>;
  /** Sets what `options` and `other_config` say. Returns why they cannot be, in the words of Interface.error; null: done. */
  configure(config: InterfaceConfig): string | null;
  /** kbit/s, kbit, kpkt/s, kpkt; 0: none. */
  police(rate: number, burst: number, kpktsRate: number, kpktsBurst: number): void;
}

/** Status of an active controller, for its row. */
export interface ControllerStatus {
  readonly target: string;
  readonly connected: boolean;
  readonly role: 'other' | 'master' | 'slave';
  readonly status: Readonly<Record<string, string>>;
}

/** A bridge as ovs-vswitchd drives it: ofproto, its connections, its ports in the datapath. */
export interface SwitchBridge {
  /** Where no number is asked for: `wanted`, or one that is free. */
  addPort(netdev: Netdev, number: number, peer: string | null, now: number): void;
  removePort(number: number, now: number): void;
  setPeer(number: number, peer: string | null): void;
  portChanged(number: number, netdev: Netdev, now: number): void;
  setBundle(settings: BundleSettings, now: number): void;
  removeBundle(name: string, now: number): void;
  setMirrors(mirrors: readonly MirrorSettings[], now: number): void;
  mirrorStatistics(name: string): { readonly packets: number; readonly bytes: number } | null;
  setMacTable(agingSeconds: number, entries: number, floodVlans: readonly number[], now: number): void;
  setForwardBpdu(forward: boolean): void;
  setDatapathId(id: bigint): void;
  setMac(mac: Uint8Array): void;
  setDescription(text: string | null): void;
  setFlowTables(tables: ReadonlyMap<number, FlowTableConfig>, now: number): void;
  setRemotes(remotes: Remotes, now: number): void;
  controllers(): readonly ControllerStatus[];
}
export interface Remotes {
  readonly controllers: readonly ControllerConfig[];
  readonly failMode: 'standalone' | 'secure';
  /** Names as the column has them; empty: all. */
  readonly protocols: readonly string[];
  readonly disableInBand: boolean;
}

export interface Environment {
  readonly ovsVersion: string;
  readonly ifaceTypes: readonly string[];
  readonly datapathTypes: readonly string[];
  readonly dpdk: { readonly initialized: boolean; readonly version: string };
  /** Makes a bridge without ports, or says why not. */
  addBridge(config: BridgeConfig, now: number): SwitchBridge | string;
  removeBridge(name: string, now: number): void;
  /** Opens a device for a bridge: it becomes a port of its datapath. A text: why not, as strerror() words it. */
  open(bridge: BridgeConfig, config: InterfaceConfig, now: number): Netdev | string;
  /** The bridge has no use for it any more. */
  close(netdev: Netdev, bridge: string, now: number): void;
  /** Open_vSwitch.other_config. */
  configure(config: OvsConfig, now: number): void;
  /** Bridge, ports or anything that others may look at has changed. */
  changed(): void;
}
