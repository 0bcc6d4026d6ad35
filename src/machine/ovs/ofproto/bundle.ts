/** A Port of the database in the switch: one OpenFlow port with its VLANs, or several as a bond (ovs ofproto-dpif.c struct ofbundle). */
import type { Bond, BondSettings } from './bond.ts';
import type { Ofproto } from './ofproto-dpif.ts';
import { OFPUTIL_PC_NO_FLOOD, type OfPort } from './port.ts';

export type VlanMode = 'access' | 'trunk' | 'native-tagged' | 'native-untagged' | 'dot1q-tunnel';

export interface BundleSettings {
  /** Port.name. */
  readonly name: string;
  /** OpenFlow numbers. */
  readonly ports: readonly number[];
  readonly vlanMode: VlanMode;
  /** Port.tag: the access VLAN, native VLAN or outer VLAN; -1: none. */
  readonly vlan: number;
  /** Port.trunks; null: all. */
  readonly trunks: readonly number[] | null;
  /** Port.cvlans; null: all. */
  readonly cvlans: readonly number[] | null;
  /** TPID of a tunnel's outer tag: other_config:qinq-ethtype, 0x88a8 or 0x8100. */
  readonly qinqEthertype: number;
  /** other_config:priority-tags. */
  readonly priorityTags: 'never' | 'if-nonzero' | 'always';
  /** Port.protected. */
  readonly protected: boolean;
  /** null: one interface. */
  readonly bond: BondSettings | null;
}

export const TRUNK_OF_ALL: Omit<BundleSettings, 'name' | 'ports'> = {
  vlanMode: 'trunk',
  vlan: -1,
  trunks: null,
  cvlans: null,
  qinqEthertype: 0x88a8,
  priorityTags: 'never',
  protected: false,
  bond: null,
};

export class Bundle {
  declare readonly ofproto: Ofproto;
  declare readonly name: string;
  declare settings: BundleSettings;
  ports: OfPort[] = [];
  bond: Bond | null = null;
  /** Bits of mirrors: that take what comes in here, what goes out here, and whose output port this is. */
  srcMirrors = 0;
  dstMirrors = 0;
  mirrorOut = 0;
  /** VLANs that it trunks, and inner ones that it lets through; null: all. */
  trunks: ReadonlySet<number> | null = null;
  cvlans: ReadonlySet<number> | null = null;

  constructor(ofproto: Ofproto, settings: BundleSettings) {
    this.ofproto = ofproto;
    this.name = settings.name;
    this.settings = settings;
    this.configure(settings);
  }

  /** Takes settings over. True where its VLANs changed, so that what was learned means nothing any more (bundle_set()). */
  configure(settings: BundleSettings): boolean {
    const { settings: old } = this;
    const { vlanMode } = settings;
    const vlan = vlanMode === 'trunk' ? -1 : settings.vlan >= 0 && settings.vlan <= 4095 ? settings.vlan : 0;
    this.settings = { ...settings, vlan };
    let { trunks } = settings;
    if (vlanMode === 'access' || vlanMode === 'dot1q-tunnel') trunks = null;
    else if (vlanMode !== 'trunk' && vlan !== 0)
      // The native VLAN is trunked, VLAN 0 is not.
      trunks = [vlan, ...(trunks ?? ALL_VLANS)].filter((vid) => vid !== 0);
    this.trunks = trunks === null ? null : new Set(trunks);
    this.cvlans = vlanMode === 'dot1q-tunnel' && settings.cvlans !== null ? new Set(settings.cvlans) : null;
    return (
      old.vlanMode !== vlanMode ||
      old.vlan !== vlan ||
      old.priorityTags !== settings.priorityTags ||
      old.qinqEthertype !== settings.qinqEthertype ||
      `${old.trunks}` !== `${settings.trunks}` ||
      `${old.cvlans}` !== `${settings.cvlans}`
    );
  }

  /** Flooded to: none of its ports says no-flood, its spanning tree forwards. */
  get floodable(): boolean {
    return this.ports.every((port) => (port.config & OFPUTIL_PC_NO_FLOOD) === 0 && port.stpForwards);
  }
}

const ALL_VLANS = Array.from({ length: 4096 }, (_, vid) => vid);
