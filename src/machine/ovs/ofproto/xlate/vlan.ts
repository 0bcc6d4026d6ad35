/** VLANs of ports, as NORMAL and mirrors see them (ovs ofproto-dpif-xlate.c, struct xvlan). */
import type { Flow } from '../../flow/flow.ts';
import { VLAN_CFI } from '../../flow/flow.ts';
import {
  ETH_TYPE_VLAN_8021Q,
  ethTypeVlan,
  get16,
  put16,
  VLAN_PCP_MASK,
  VLAN_TCI,
  VLAN_TPID,
  VLAN_VID_MASK,
  VLAN2_TCI,
  VLAN2_TPID,
} from '../../flow/headers.ts';
import type { Bundle } from '../bundle.ts';
import type { XlateContext } from './context.ts';

/** One tag; all zero: none. `pcp` in its place of the TCI. */
export interface Tag {
  readonly tpid: number;
  readonly vid: number;
  readonly pcp: number;
}
/** Outer tag, inner tag. */
export type Xvlan = readonly [Tag, Tag];
const NONE: Tag = { tpid: 0, vid: 0, pcp: 0 };

/** xvlan_extract(). */
export function extractVlan(flow: Flow): Xvlan {
  const outer = tagAt(flow, VLAN_TCI, VLAN_TPID);
  return outer === NONE ? [NONE, NONE] : [outer, tagAt(flow, VLAN2_TCI, VLAN2_TPID)];
}
function tagAt(flow: Flow, tciAt: number, tpidAt: number): Tag {
  const tci = get16(flow, tciAt);
  const tpid = get16(flow, tpidAt);
  if (!ethTypeVlan(tpid) || (tci & VLAN_CFI) === 0) return NONE;
  return { tpid, vid: tci & VLAN_VID_MASK, pcp: tci & VLAN_PCP_MASK };
}
/** xvlan_put(). */
export function putVlan(flow: Flow, xvlan: Xvlan, priorityTags: 'never' | 'if-nonzero' | 'always'): void {
  putTag(flow, xvlan[0], VLAN_TCI, VLAN_TPID, priorityTags);
  putTag(flow, xvlan[1], VLAN2_TCI, VLAN2_TPID, priorityTags);
}
function putTag(flow: Flow, tag: Tag, tciAt: number, tpidAt: number, priorityTags: string): void {
  let tci = tag.vid | tag.pcp;
  if (tci !== 0 || (priorityTags === 'always' && tag.tpid !== 0)) {
    tci |= VLAN_CFI;
    put16(flow, tpidAt, tag.tpid === 0 ? ETH_TYPE_VLAN_8021Q : tag.tpid);
  } else put16(flow, tpidAt, 0);
  put16(flow, tciAt, tci);
}

function trunks(bundle: Bundle, vid: number): boolean {
  return bundle.settings.vlanMode !== 'access' && (bundle.trunks === null || bundle.trunks.has(vid));
}
function allowsCvlan(bundle: Bundle, vid: number): boolean {
  return bundle.cvlans === null || bundle.cvlans.has(vid);
}

/** Whether a frame with that VID may come in (input_vid_is_valid()). `bundle` null: it came from no port. */
export function inputVidIsValid(context: XlateContext, vid: number, bundle: Bundle | null): boolean {
  if (bundle === null) return true;
  const { settings, name } = bundle;
  switch (settings.vlanMode) {
    case 'access':
      if (vid === 0) return true;
      context.report(
        'error',
        `dropping VLAN ${vid} tagged packet received on port ${name} configured as VLAN ${settings.vlan} access port`,
      );
      return false;
    case 'dot1q-tunnel':
      if (allowsCvlan(bundle, vid)) return true;
      context.report(
        'error',
        `dropping VLAN ${vid} packet received on dot1q-tunnel port ${name} that excludes this VLAN`,
      );
      return false;
    default:
      if ((vid === 0 && settings.vlanMode !== 'trunk') || trunks(bundle, vid)) return true;
      context.report(
        'error',
        `dropping VLAN ${vid} packet received on port ${name} not configured for trunking VLAN ${vid}`,
      );
      return false;
  }
}

/** The VLAN that a frame belongs to inside the switch (xvlan_input_translate()). */
export function inputTranslate(bundle: Bundle | null, tags: Xvlan): Xvlan {
  if (bundle === null) return tags;
  const { vlanMode, vlan, qinqEthertype } = bundle.settings;
  const own: Tag = { tpid: tags[0].tpid === 0 ? ETH_TYPE_VLAN_8021Q : tags[0].tpid, vid: vlan, pcp: tags[0].pcp };
  switch (vlanMode) {
    case 'access':
      return [own, NONE];
    case 'trunk':
      return tags;
    case 'dot1q-tunnel':
      return [{ tpid: qinqEthertype, vid: vlan, pcp: 0 }, tags[0]];
    default:
      return tags[0].vid === 0 ? [own, tags[1]] : tags;
  }
}
/** The tags with which it leaves (xvlan_output_translate()). */
export function outputTranslate(bundle: Bundle, xvlan: Xvlan): Xvlan {
  switch (bundle.settings.vlanMode) {
    case 'access':
      return [NONE, NONE];
    case 'dot1q-tunnel':
      return [xvlan[1], NONE];
    case 'native-untagged':
      return xvlan[0].vid === bundle.settings.vlan ? [xvlan[1], NONE] : xvlan;
    default:
      return xvlan;
  }
}
/** xbundle_includes_vlan(). */
export function includesVlan(bundle: Bundle, xvlan: Xvlan): boolean {
  const { vlanMode, vlan } = bundle.settings;
  switch (vlanMode) {
    case 'access':
      return xvlan[0].vid === vlan && xvlan[1].vid === 0;
    case 'dot1q-tunnel':
      return xvlan[0].vid === vlan && allowsCvlan(bundle, xvlan[1].vid);
    default:
      return trunks(bundle, xvlan[0].vid);
  }
}
