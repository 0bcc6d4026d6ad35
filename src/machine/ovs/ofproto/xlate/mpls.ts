/**
 * Labels (ovs ofproto-dpif-xlate.c, compose_mpls_push_action() and the like; lib/flow.c flow_push_mpls(), flow_pop_mpls()).
 *
 * DEVIATION: of frames that come in one label is known, where OVS knows three: one that is not the last is popped, and what lies below
 * is seen when the frame has recirculated.
 */
import { fieldNamed } from '../../flow/fields.ts';
import {
  clearL3,
  DL_TYPE,
  dlType,
  ETH_TYPE_IPV6,
  ethTypeMpls,
  get32,
  IP_DSCP_MASK,
  isIpAny,
  MPLS_LSE,
  NW_TOS,
  NW_TTL,
  put16,
  put32,
} from '../../flow/headers.ts';
import { type FrozenAction, OFPR_INVALID_TTL } from '../packet-in.ts';
import { commitOdpActions } from './commit.ts';
import type { XlateContext } from './context.ts';
import { controllerAction } from './freeze.ts';

/** FLOW_MAX_MPLS_LABELS. */
const MAX_LABELS = 3;
const MPLS_BOS = 0x100;

export function pushMpls(context: XlateContext, ethertype: number): void {
  const { flow, wc } = context;
  const was = ethTypeMpls(dlType(flow));
  const n = was ? 1 + context.labels.length : 0;
  if (was) put32(wc, MPLS_LSE, 0xffffffff);
  if (n === 0) commitOdpActions(context);
  else if (n >= MAX_LABELS) {
    context.report(
      'error',
      `dropping packet on which an MPLS push action can't be performed as it would have more MPLS LSEs than the ${MAX_LABELS} supported.`,
    );
    context.error = 'Too many MPLS labels';
    return;
  }
  if (n > 0) {
    const top = get32(flow, MPLS_LSE);
    context.labels = [top, ...context.labels];
    put32(flow, MPLS_LSE, (top & ~MPLS_BOS) >>> 0);
  } else {
    const label = dlType(flow) === ETH_TYPE_IPV6 ? 2 : 0;
    let tc = 0;
    let ttl = 64;
    if (isIpAny(flow)) {
      tc = (flow.u8[NW_TOS]! & IP_DSCP_MASK) >> 2;
      wc.u8[NW_TOS]! |= IP_DSCP_MASK;
      wc.u8[NW_TTL] = 0xff;
      if (flow.u8[NW_TTL] !== 0) ttl = flow.u8[NW_TTL]!;
    }
    clearL3(flow);
    put32(flow, MPLS_LSE, ((label << 12) | ((tc & 7) << 9) | MPLS_BOS | ttl) >>> 0);
  }
  put16(flow, DL_TYPE, ethertype);
}

export function popMpls(context: XlateContext, ethertype: number): void {
  const { flow, wc } = context;
  if (!ethTypeMpls(dlType(flow))) return;
  const [below, ...rest] = context.labels;
  // Whether there is one below decides what comes next.
  if (below === undefined) put32(wc, MPLS_LSE, (get32(wc, MPLS_LSE) | MPLS_BOS) >>> 0);
  put32(flow, MPLS_LSE, below ?? 0);
  context.labels = rest;
  put16(flow, DL_TYPE, ethertype);
  if (!ethTypeMpls(ethertype) || below === undefined) context.wasMpls = true;
}

export function setMplsTtl({ flow, wc }: XlateContext, ttl: number): void {
  if (!ethTypeMpls(dlType(flow))) return;
  wc.u8[MPLS_LSE + 3] = 0xff;
  flow.u8[MPLS_LSE + 3] = ttl;
}
/** True: the pipeline ends here. */
export function decMplsTtl(context: XlateContext): boolean {
  const { flow, wc } = context;
  if (ethTypeMpls(dlType(flow))) {
    wc.u8[MPLS_LSE + 3] = 0xff;
    if (flow.u8[MPLS_LSE + 3]! > 1) {
      flow.u8[MPLS_LSE + 3]!--;
      return false;
    }
    controllerAction(context, 0xffff, OFPR_INVALID_TTL, 0, null, null);
  }
  context.report('warn', 'MPLS decrement TTL exception');
  return true;
}

/** Actions that need nothing of what is under a label that was popped. */
const UNTROUBLED = new Set([
  'output',
  'output_trunc',
  'enqueue',
  'output_reg',
  'mod_vlan_vid',
  'mod_vlan_pcp',
  'set_tunnel',
  'set_queue',
  'group',
  'unroll_xlate',
]);
/** Fields from there on are of layer 3 or higher (mf_is_l3_or_higher()). */
const FIRST_L3 = fieldNamed('nw_src').index;

/** recirc_for_mpls(): the frame is looked at anew before anything that needs its new headers. */
export function recirculateForMpls(context: XlateContext, action: FrozenAction): void {
  if (context.exit || !context.wasMpls || UNTROUBLED.has(action.type)) return;
  if (action.type === 'set_field' && action.field.index < FIRST_L3) return;
  context.triggerFreeze();
}
