/** Translation of one frame through the bridges into datapath actions (ovs ofproto/ofproto-dpif-xlate.c, xlate_actions()). */
import type { OdpAction } from '../../datapath/odp-actions.ts';
import { OFPP_UNSET } from '../../flow/actions.ts';
import {
  DP_WORDS,
  type Flow,
  VLAN_CFI,
  W_ACTSET_OUTPUT,
  W_CONJ_ID,
  W_CT_STATE,
  W_IN_PORT,
  W_RECIRC_ID,
  W_SKB_PRIORITY,
  W_TUN,
} from '../../flow/flow.ts';
import {
  CS_TRACKED,
  clearConntrack,
  DL_TYPE,
  dlType,
  ethTypeMpls,
  ethTypeVlan,
  get16,
  isIcmp,
  isIpAny,
  laterFragment,
  MPLS_LSE,
  NW_FRAG,
  put16,
  put32,
  TP_DST,
  TP_SRC,
  VLAN_TCI,
  VLAN_TPID,
  VLAN2_TCI,
} from '../../flow/headers.ts';
import type { Ofproto } from '../ofproto-dpif.ts';
import type { FrozenAction, FrozenState } from '../packet-in.ts';
import { executeActionSet, writeActions } from './action-set.ts';
import { doXlateActions } from './actions.ts';
import type { XlateCache } from './cache.ts';
import { type TraceNode, type TraceRecirc, type TraceTexts, XlateContext, type XlateError } from './context.ts';
import { copyMetadata, finishFreezing } from './freeze.ts';
import { mayReceive, mirrorIngress } from './output.ts';
import type { PretendedMacs } from './pretended-macs.ts';
import { lookupFromTable, reportTable } from './tables.ts';

export interface TranslateIn {
  /** Where the frame came in. */
  readonly bridge: Ofproto;
  /** in_port by its OpenFlow number. */
  readonly flow: Flow;
  readonly now: number;
  readonly contextBits: number;
  /** A frame is there: MACs and flows are learned. */
  readonly sideEffects: boolean;
  /** A trace of a frame: it says what would be learned, and does nothing but note it here. */
  readonly pretended?: PretendedMacs;
  readonly cache: XlateCache | null;
  /** PACKET_OUT: these instead of a table lookup. */
  readonly actions: readonly FrozenAction[] | null;
  readonly inPacketOut: boolean;
  /** What goes on; null: a frame from a port. */
  readonly frozen: FrozenState | null;
  readonly trace: TraceNode[] | null;
  readonly texts: TraceTexts | null;
}
export interface TranslateOut {
  readonly actions: readonly OdpAction[];
  /** What was looked at; of what datapaths do not know, nothing. */
  readonly wc: Flow;
  /** The frame as it became. */
  readonly flow: Flow;
  /** Its labels below the outermost one. */
  readonly labels: readonly number[];
  readonly slow: 'action' | null;
  readonly error: XlateError | null;
  readonly recircs: readonly TraceRecirc[];
}

export function translate(input: TranslateIn): TranslateOut {
  const context = new XlateContext(input.bridge, { ...input, pretended: input.pretended ?? null, run: doXlateActions });
  context.flow.copyFrom(input.flow);
  const { flow, wc } = context;
  flow.w[W_ACTSET_OUTPUT] = OFPP_UNSET | 0;
  context.base.copyFrom(flow);
  context.base.w.fill(0, W_TUN, W_TUN + 4);
  context.skbPriority = flow.w[W_SKB_PRIORITY]!;
  beginMask(context);
  // As in the original, what ends with an error leaves its mask as it is: registers and all.
  if (run(context, input)) finishMask(context);
  const failed = context.error;
  return {
    actions: failed === null ? context.odp : [],
    wc,
    flow,
    labels: context.labels,
    slow: failed === null ? context.slow : null,
    error: failed === 'Forwarding was disabled' ? null : failed,
    recircs: context.recircs,
  };
}

/** False: it ended with an error that leaves at once. */
function run(context: XlateContext, input: TranslateIn): boolean {
  const { flow } = context;
  const { frozen } = input;
  let actions = input.actions;
  context.trace = context.report('bridge', `bridge("${context.bridge.name}")`) ?? context.trace;
  if (frozen !== null) {
    if (!thaw(context, frozen)) return false;
    if (frozen.actions.length > 0) actions = frozen.actions;
  } else if (flow.w[W_RECIRC_ID] !== 0) {
    const id = (flow.w[W_RECIRC_ID]! >>> 0).toString(16);
    context.report('error', `Recirculation context not found for ID ${id}`);
    context.error = 'No recirculation context';
    return false;
  } else if ((flow.w[W_CT_STATE]! & CS_TRACKED) !== 0) context.conntracked = true;

  const inPort = input.bridge.ports.get(context.base.w[W_IN_PORT]! >>> 0);
  if (actions === null) {
    const rule = lookupFromTable(context, flow.w[W_IN_PORT]! >>> 0, true);
    context.rule = rule;
    context.cache?.add({ kind: 'rule', rule });
    reportTable(context, rule, context.table);
  }
  if (inPort?.bundle && inPort.bundle.mirrorOut !== 0) {
    const { name } = inPort.bundle;
    context.report('error', `dropping packet received on port ${name}, which is reserved exclusively for mirroring`);
    return true;
  }
  if (inPort !== undefined && !mayReceive(context, inPort)) return true;
  if (actions === null && context.rule !== null) {
    actions = context.rule.actions;
    context.ruleCookie = context.rule.cookie;
  }
  mirrorIngress(context);
  doXlateActions(context, actions ?? [], true, false);
  if (context.error !== null) return false;
  // NORMAL and learn() have seen the frame, but the port does not forward yet.
  if (inPort !== undefined && !inPort.stpForwards) {
    context.odp = [];
    context.cancelFreeze();
    context.actionSet = [];
    context.error = 'Forwarding was disabled';
  }
  if (!context.freezing) executeActionSet(context);
  if (context.freezing) finishFreezing(context);
  return true;
}

/** The pipeline as it was left. False: it cannot go on. */
function thaw(context: XlateContext, state: FrozenState): boolean {
  const { trace } = context;
  context.trace = context.report('thaw', 'thaw') ?? trace;
  const bridge = context.bridge.backer.bridges.get(state.bridge);
  if (bridge === undefined) {
    context.report('error', 'Frozen bridge no longer exists.');
    context.error = 'Invalid OpenFlow bridge';
    return false;
  }
  context.bridge = bridge;
  context.table = state.table;
  context.report('thaw', `Resuming from table ${state.table}`);
  context.conntracked = state.conntracked;
  if (!state.conntracked) clearConntrack(context.flow);
  copyMetadata(state.flow, context.flow);
  for (const value of state.stack) {
    context.stack.push(value);
    context.stackBytes += value.length + 1;
  }
  context.mirrors = state.mirrors;
  if (state.actionSet.length > 0) {
    context.reportActions('thaw', 'Restoring action set', state.actionSet);
    context.flow.w[W_ACTSET_OUTPUT] = OFPP_UNSET | 0;
    writeActions(context, state.actionSet);
  }
  const known = state.actions.filter((action) => action.type !== 'unroll_xlate');
  if (state.actions.length > 0) context.reportActions('thaw', 'Restoring actions', known);
  context.trace = trace;
  return true;
}

/** What every datapath flow matches: xlate_wc_init(). */
function beginMask({ wc, flow }: XlateContext): void {
  wc.w[W_IN_PORT] = -1;
  put16(wc, DL_TYPE, 0xffff);
  if (isIpAny(flow)) wc.u8[NW_FRAG] = 0xff;
  wc.w[W_RECIRC_ID] = -1;
}

/** xlate_wc_finish(): nothing that the frame does not have, nothing that datapaths do not know. */
function finishMask({ wc, flow, upcalled }: XlateContext): void {
  wc.w.fill(0, DP_WORDS);
  wc.w[W_CONJ_ID] = 0;
  if (isIcmp(flow)) {
    put16(wc, TP_SRC, get16(wc, TP_SRC) & 0xff);
    put16(wc, TP_DST, get16(wc, TP_DST) & 0xff);
  }
  if (laterFragment(flow)) put32(wc, TP_SRC, 0);
  for (const at of [VLAN_TCI, VLAN2_TCI]) if (get16(wc, at) !== 0) put16(wc, at, get16(wc, at) | VLAN_CFI);
  if (!ethTypeMpls(dlType(upcalled))) put32(wc, MPLS_LSE, 0);
  if (!ethTypeVlan(get16(upcalled, VLAN_TPID))) {
    put16(wc, VLAN_TCI, 0);
    put16(wc, VLAN_TPID, 0);
  }
  put32(wc, VLAN2_TCI, 0);
}
