/**
 * NORMAL: an Ethernet switch with VLANs, learning, bonds and mirrors (ovs ofproto-dpif-xlate.c, xlate_normal()).
 *
 * DEVIATION: no multicast snooping. Floods go to LOCAL first, then to the others by their numbers, where OVS goes by a hash.
 */

import { isGroupMac } from '../../../wire/ethernet.ts';
import { VLAN_CFI, W_ETH_TYPE, W_IN_PORT, W_TCP_FLAGS, W_VLAN2 } from '../../flow/flow.ts';
import {
  DL_DST,
  DL_SRC,
  dlType,
  ETH_TYPE_ARP,
  ethTypeVlan,
  examine,
  get16,
  isBroadcast,
  isReserved,
  NW_DST,
  NW_PROTO,
  NW_SRC,
  put16,
  VLAN_PCP_MASK,
  VLAN_TCI,
  VLAN_VID_MASK,
  VLAN2_TCI,
} from '../../flow/headers.ts';
import { admissible, chooseMember } from '../bond.ts';
import type { Bundle } from '../bundle.ts';
import { macNumber, macText } from '../mac-table.ts';
import type { XlateContext } from './context.ts';
import { composeOutput, inputBundle } from './output.ts';
import {
  extractVlan,
  includesVlan,
  inputTranslate,
  inputVidIsValid,
  outputTranslate,
  putVlan,
  type Xvlan,
} from './vlan.ts';

const ARP_OP_REQUEST = 1;
const ARP_OP_REPLY = 2;

export function xlateNormal(context: XlateContext): void {
  const { flow, wc, bridge } = context;
  examine(wc, DL_DST, 12);
  put16(wc, VLAN_TCI, get16(wc, VLAN_TCI) | VLAN_VID_MASK | VLAN_CFI);
  const inPort = flow.w[W_IN_PORT]! >>> 0;
  const bundle = inputBundle(bridge, inPort);
  if (bundle === undefined) {
    context.report('error', `received packet on unknown port ${inPort}`);
    context.report('warn', 'no input bundle, dropping');
    return;
  }
  if (ethTypeVlan(dlType(flow)) && (get16(flow, VLAN_TCI) & VLAN_CFI) === 0) {
    context.report('warn', 'partial VLAN tag, dropping');
    return;
  }
  if (bundle !== null && bundle.mirrorOut !== 0) {
    context.report('warn', 'input port is mirror output port, dropping');
    return;
  }
  const tags = extractVlan(flow);
  if (!inputVidIsValid(context, tags[0].vid, bundle)) {
    context.report('warn', 'disallowed VLAN VID for this input port, dropping');
    return;
  }
  const xvlan = inputTranslate(bundle, tags);
  const vlan = xvlan[0].vid;
  if (bundle !== null && !isAdmissible(context, bundle, inPort, vlan)) return;

  const gratuitousArp = isGratuitousArp(context);
  const source = macNumber(flow.u8, DL_SRC);
  if (bundle !== null) {
    const news = context.sideEffects
      ? bridge.macs.update(source, vlan, gratuitousArp, bundle, context.now)
      : (context.pretended?.update(bridge.macs, source, vlan, gratuitousArp, bundle, context.now) ?? false);
    if (news) context.report('detail', `learned that ${macText(source)} is on port ${bundle.name} in VLAN ${vlan}`);
    context.cache?.add({ kind: 'normal', bridge, mac: source, vlan, bundle, gratuitousArp });
  }

  const target = macNumber(flow.u8, DL_DST);
  const learned =
    context.pretended?.lookup(bridge.macs, target, vlan) ??
    bridge.macs.lookup(target, vlan, context.now)?.bundle ??
    null;
  if (learned === null) {
    context.report('detail', 'no learned MAC for destination, flooding');
    for (const out of bridge.bundles.values())
      if (out !== bundle && includesVlan(out, xvlan) && out.floodable && out.mirrorOut === 0)
        outputNormal(context, out, xvlan);
  } else if (learned.mirrorOut !== 0) context.report('warn', 'learned port is a mirror port, dropping');
  else if (learned !== bundle) {
    context.report('detail', 'forwarding to learned port');
    outputNormal(context, learned, xvlan);
  } else context.report('detail', 'learned port is input port, dropping');
}

/** output_normal(). */
export function outputNormal(context: XlateContext, out: Bundle, xvlan: Xvlan): void {
  const { flow, wc } = context;
  if (out.settings.vlanMode === 'dot1q-tunnel' && out.cvlans !== null) put16(wc, VLAN2_TCI, 0xffff);
  let tags = outputTranslate(out, xvlan);
  if (out.settings.priorityTags !== 'never')
    tags = [{ ...tags[0], pcp: get16(flow, VLAN_TCI) & VLAN_PCP_MASK }, tags[1]];
  let port = out.ports[0];
  if (out.bond !== null) port = chooseMember(out.bond, context, tags[0].vid) ?? undefined;
  if (port === undefined) return;
  const tag = flow.w[W_ETH_TYPE]!;
  const tpid = flow.w[W_TCP_FLAGS]!;
  const inner = flow.w[W_VLAN2]!;
  putVlan(flow, tags, out.settings.priorityTags);
  composeOutput(context, port.number, false);
  flow.w[W_ETH_TYPE] = tag;
  flow.w[W_TCP_FLAGS] = tpid;
  flow.w[W_VLAN2] = inner;
}

function isAdmissible(context: XlateContext, bundle: Bundle, inPort: number, vlan: number): boolean {
  const { flow, bridge } = context;
  if (!bridge.forwardBpdu && isReserved(flow)) {
    context.report('detail', 'packet has reserved destination MAC, dropping');
    return false;
  }
  if (bundle.bond === null) return true;
  switch (admissible(bundle.bond, inPort, isGroupMac(macNumber(flow.u8, DL_DST)))) {
    case 'accept':
      return true;
    case 'drop':
      context.report('detail', 'bonding refused admissibility, dropping');
      return false;
    case 'drop-if-moved': {
      const entry = bridge.macs.lookup(macNumber(flow.u8, DL_SRC), vlan, context.now);
      if (entry === null || entry.bundle === bundle) return true;
      if (isGratuitousArp(context) && context.now >= entry.gratArpLock * 1e9) return true;
      context.report('detail', 'SLB bond thinks this packet looped back, dropping');
      return false;
    }
  }
}

/** is_gratuitous_arp(): what says so is looked at. */
function isGratuitousArp({ flow, wc }: XlateContext): boolean {
  if (dlType(flow) !== ETH_TYPE_ARP) return false;
  examine(wc, DL_DST, 6);
  if (!isBroadcast(flow)) return false;
  wc.u8[NW_PROTO] = 0xff;
  if (flow.u8[NW_PROTO] === ARP_OP_REPLY) return true;
  if (flow.u8[NW_PROTO] !== ARP_OP_REQUEST) return false;
  examine(wc, NW_SRC, 8);
  for (let i = 0; i < 4; i++) if (flow.u8[NW_SRC + i] !== flow.u8[NW_DST + i]) return false;
  return true;
}
