/** Output to ports: what forbids it, patch ports into other bridges, mirrors (ovs ofproto-dpif-xlate.c, compose_output_action()). */
import { OFPP_CONTROLLER, OFPP_LOCAL, OFPP_NONE, OFPP_UNSET } from '../../flow/actions.ts';
import { VLAN_CFI, W_ACTSET_OUTPUT, W_IN_PORT, W_METADATA, W_REGS, W_TUN } from '../../flow/flow.ts';
import {
  clearConntrack,
  DL_DST,
  get16,
  get32,
  isReserved,
  put16,
  VLAN_TCI,
  VLAN_VID_MASK,
} from '../../flow/headers.ts';
import type { Bundle } from '../bundle.ts';
import type { Ofproto } from '../ofproto-dpif.ts';
import {
  OFPUTIL_PC_NO_FLOOD,
  OFPUTIL_PC_NO_FWD,
  OFPUTIL_PC_NO_RECV,
  OFPUTIL_PC_NO_RECV_STP,
  type OfPort,
} from '../port.ts';
import { executeActionSet } from './action-set.ts';
import { cloneActions } from './clone.ts';
import { commitOdpActions } from './commit.ts';
import type { XlateContext } from './context.ts';
import { finishFreezing } from './freeze.ts';
import { outputNormal } from './normal.ts';
import { tableAction } from './tables.ts';
import { extractVlan, includesVlan, inputTranslate, inputVidIsValid } from './vlan.ts';

/** 01:80:c2:00:00:00: BPDUs of spanning trees. */
export function isStp(context: XlateContext): boolean {
  return get32(context.flow, DL_DST) === 0x0180c200 && get16(context.flow, DL_DST + 4) === 0;
}

/** The input bundle of a port number; undefined: there is none; null: the frame came from no port (ofpp_none_bundle). */
export function inputBundle(bridge: Ofproto, inPort: number): Bundle | null | undefined {
  const port = bridge.ports.get(inPort);
  if (port?.bundle) return port.bundle;
  return inPort === OFPP_CONTROLLER || inPort === OFPP_NONE ? null : undefined;
}

export function mayReceive(context: XlateContext, port: OfPort): boolean {
  if ((port.config & (isStp(context) ? OFPUTIL_PC_NO_RECV_STP : OFPUTIL_PC_NO_RECV)) !== 0) return false;
  return port.stpLearns;
}

function prerequisites(context: XlateContext, port: OfPort | undefined, checkStp: boolean): port is OfPort {
  if (port === undefined) {
    context.report('warn', 'Nonexistent output port');
    return false;
  }
  if ((port.config & OFPUTIL_PC_NO_FWD) !== 0) {
    context.report('detail', 'OFPPC_NO_FWD set, skipping output');
    return false;
  }
  if (context.mirrorSnaplen !== 0 && port.dpPort === null) {
    context.report('warn', 'Mirror truncate to ODPP_NONE, skipping output');
    return false;
  }
  const from = context.bridge.ports.get(context.flow.w[W_IN_PORT]! >>> 0);
  if (from?.bundle?.settings.protected && port.bundle?.settings.protected) {
    context.report('warn', 'Flow is between protected ports, skipping output.');
    return false;
  }
  if (checkStp && port.stp !== 'disabled' && !isStp(context) && !port.stpForwards) {
    context.report('warn', 'STP not in forwarding state, skipping output');
    return false;
  }
  return true;
}

/** compose_output_action__(). */
export function composeOutput(
  context: XlateContext,
  number: number,
  last: boolean,
  checkStp = true,
  truncate = false,
): void {
  const port = context.bridge.ports.get(number);
  if (!prerequisites(context, port, checkStp)) return;
  if (port.dpPort === null) {
    if (truncate) context.report('error', 'Cannot truncate output to patch port');
    const peer = context.bridge.backer.peerOf(port);
    if (peer === null) context.report('warn', 'Nonexistent output port');
    else patchOutput(context, port, peer, last);
    return;
  }
  commitOdpActions(context);
  if (context.mirrorSnaplen > 0 && context.mirrorSnaplen < 0xffff)
    context.put({ type: 'trunc', maxLen: context.mirrorSnaplen });
  context.put({ type: 'output', port: port.dpPort });
  if (port.bundle !== null && context.bridge.hasMirrors) mirrorPacket(context, port.bundle, port.bundle.dstMirrors);
}

/** patch_port_output(): the frame comes in at the other bridge, as if by that port. */
function patchOutput(context: XlateContext, from: OfPort, into: OfPort, last: boolean): void {
  const { flow, wc } = context;
  const saved = context.saveFlow();
  const tunnelMask = wc.w.slice(W_TUN, W_METADATA);
  const { conntracked, wasMpls, stack, stackBytes, actionSet, actionSetHasGroup, trace, mirrors, bridge } = context;
  const { table, rule, ruleCookie } = context;
  context.stack = [];
  context.stackBytes = 0;
  context.actionSet = [];
  context.actionSetHasGroup = false;
  flow.w[W_IN_PORT] = into.number | 0;
  flow.w.fill(0, W_TUN, W_METADATA + 2);
  flow.w.fill(0, W_REGS, W_REGS + 16);
  flow.w[W_ACTSET_OUTPUT] = OFPP_UNSET | 0;
  wc.w.fill(0, W_TUN, W_METADATA);
  context.conntracked = false;
  clearConntrack(flow);
  const other = into.ofproto !== bridge;
  context.trace = context.report('bridge', `bridge("${into.ofproto.name}")`) ?? trace;
  if (other) context.mirrors = 0;
  context.bridge = into.ofproto;

  if (mayReceive(context, into)) {
    if (into.stpForwards) {
      tableAction(context, flow.w[W_IN_PORT]! >>> 0, 0, true, false, last, cloneActions);
      if (!context.freezing) executeActionSet(context);
      if (context.freezing) finishFreezing(context);
    } else {
      // NORMAL may learn, but nothing leaves.
      const { odp, mirrors: before } = context;
      const base = context.base.w.slice();
      const baseLabels = [...context.baseLabels];
      context.odp = [];
      tableAction(context, flow.w[W_IN_PORT]! >>> 0, 0, true, false, last, cloneActions);
      context.mirrors = before;
      context.base.w.set(base);
      context.baseLabels = baseLabels;
      context.odp = odp;
      context.cancelFreeze();
    }
  }

  context.trace = trace;
  if (other) context.mirrors = mirrors;
  context.restoreFlow(saved);
  context.bridge = bridge;
  context.actionSet = actionSet;
  context.actionSetHasGroup = actionSetHasGroup;
  context.stack = stack;
  context.stackBytes = stackBytes;
  wc.w.set(tunnelMask, W_TUN);
  context.wasMpls = wasMpls;
  context.conntracked = conntracked;
  context.table = table;
  context.rule = rule;
  context.ruleCookie = ruleCookie;
  // Whatever ended the other bridge's pipeline ends there.
  context.exit = false;
  context.error = null;
  context.cache?.add({ kind: 'patch', out: from, into });
}

/** mirror_packet(): copies for those of `candidates` that select the frame's VLAN. */
function mirrorPacket(context: XlateContext, bundle: Bundle, candidates: number): void {
  const { bridge } = context;
  const tags = extractVlan(context.flow);
  if (!inputVidIsValid(context, tags[0].vid, bundle)) return;
  const xvlan = inputTranslate(bundle, tags);
  for (let bit = 0; bit < bridge.mirrors.length; bit++) {
    const mirror = bridge.mirrors[bit];
    // Looked at anew each time: a copy may have been mirrored itself.
    if (!mirror || (candidates & ~context.mirrors & (1 << bit)) === 0) continue;
    if (mirror.vlans !== null) {
      put16(context.wc, VLAN_TCI, get16(context.wc, VLAN_TCI) | VLAN_CFI | VLAN_VID_MASK);
      if (!mirror.vlans.has(xvlan[0].vid)) continue;
    }
    context.mirrors |= mirror.dupMirrors;
    context.mirrorSnaplen = mirror.settings.snaplen;
    if (mirror.out !== null) outputNormal(context, mirror.out, xvlan);
    else {
      const vid = mirror.settings.outputVlan ?? 0;
      if (xvlan[0].vid !== vid && !isReserved(context.flow)) {
        const copy = [{ ...xvlan[0], vid }, xvlan[1]] as const;
        for (const other of bridge.bundles.values())
          if (includesVlan(other, copy) && other.mirrorOut === 0) outputNormal(context, other, copy);
      }
    }
    context.mirrorSnaplen = 0;
    context.cache?.add({ kind: 'mirror', mirror });
  }
}
/** mirror_ingress_packet(). */
export function mirrorIngress(context: XlateContext): void {
  if (!context.bridge.hasMirrors) return;
  const bundle = inputBundle(context.bridge, context.flow.w[W_IN_PORT]! >>> 0);
  if (bundle) mirrorPacket(context, bundle, bundle.srcMirrors);
}

/** FLOOD and ALL: LOCAL first, then the others by their numbers. `all`: no-flood and spanning trees do not count. */
export function floodPackets(context: XlateContext, all: boolean, last: boolean): void {
  const inPort = context.flow.w[W_IN_PORT]! >>> 0;
  const ports = [...context.bridge.ports.values()]
    .filter((port) => port.number !== inPort && (all || (port.config & OFPUTIL_PC_NO_FLOOD) === 0))
    // LOCAL first, as NORMAL floods
    .sort((a, b) => (a.number === OFPP_LOCAL ? -1 : b.number === OFPP_LOCAL ? 1 : a.number - b.number));
  ports.forEach((port, i) => {
    composeOutput(context, port.number, last && i === ports.length - 1, !all);
  });
}
