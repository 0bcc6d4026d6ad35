/** What a topology says of Open vSwitch: what its database holds when a host starts. See topology.ts. */

export type VlanMode = 'access' | 'trunk' | 'native-tagged' | 'native-untagged' | 'dot1q-tunnel';
export type OfProtocol = 'OpenFlow10' | 'OpenFlow11' | 'OpenFlow12' | 'OpenFlow13' | 'OpenFlow14' | 'OpenFlow15';

/** VLAN columns of a Port row. */
export interface PortVlan {
  readonly tag: number | null;
  readonly trunks: readonly number[];
  readonly vlanMode: VlanMode | null;
}
/** A port that is no NIC's: an internal one, one that frames are put in and read at, or half of a patch. */
export interface BridgePort extends PortVlan {
  readonly name: string;
  readonly type: 'internal' | 'dummy' | 'patch';
  /** `options:peer` of a patch port; else null. */
  readonly peer: string | null;
  /** `ofport_request`; null: whatever is free. */
  readonly ofport: number | null;
}
/** Interfaces under one Port row. */
export interface Bond extends PortVlan {
  readonly name: string;
  /** Interfaces: names of NICs' ports, or of `ports` of the bridge. */
  readonly interfaces: readonly string[];
  readonly mode: 'active-backup' | 'balance-slb' | null;
}
export interface Mirror {
  readonly name: string;
  readonly selectAll: boolean;
  readonly selectSrcPort: readonly string[];
  readonly selectDstPort: readonly string[];
  readonly selectVlan: readonly number[];
  readonly outputPort: string | null;
  readonly outputVlan: number | null;
}
/** What a bridge of Open vSwitch has beside its ports for NICs. */
export interface OvsBridge {
  /** null: the column is empty, which is `standalone`. */
  readonly failMode: 'standalone' | 'secure' | null;
  readonly ports: readonly BridgePort[];
  readonly bonds: readonly Bond[];
  readonly mirrors: readonly Mirror[];
  /** Flows as `ovs-ofctl add-flow` takes them; they are there when the world begins. */
  readonly flows: readonly string[];
  /** Targets, `tcp:127.0.0.1:6653`. */
  readonly controllers: readonly string[];
  /** Empty: the ones that Open vSwitch has by default. */
  readonly protocols: readonly OfProtocol[];
  /** `other_config` beyond `macTableSize` and `macAgingTime`. */
  readonly otherConfig: Readonly<Record<string, string>>;
  /** TCP port of its OpenFlow sessions; null: one that is free. */
  readonly openflowPort: number | null;
}
/** Open vSwitch of a host. */
export interface OvsHostOptions {
  /** TCP port of its database; null: one that is free. */
  readonly ovsdbPort: number | null;
  /** `other_config` of the row of Open_vSwitch. */
  readonly otherConfig: Readonly<Record<string, string>>;
  /** Devices that are not there are dummy ones (`ovs-vswitchd --enable-dummy=system`). */
  readonly dummy: boolean;
  /** False: PMDs send the frames of each flow of a burst by themselves, as before 2.9. */
  readonly outputBatching: boolean;
}

export const NO_VLAN: PortVlan = { tag: null, trunks: [], vlanMode: null };
/** A bridge whose document says nothing of all that. */
export const PLAIN_OVS_BRIDGE: OvsBridge = {
  failMode: null,
  ports: [],
  bonds: [],
  mirrors: [],
  flows: [],
  controllers: [],
  protocols: [],
  otherConfig: {},
  openflowPort: null,
};
