/** Lookups in OpenFlow tables: goto_table, resubmit, OFPP_TABLE, misses (ovs ofproto-dpif.c, rule_dpif_lookup_from_table()). */
import { OFPP_IN_PORT, type OfAction } from '../../flow/actions.ts';
import { FLOW_NW_FRAG_ANY, type Flow, W_CT_ORIG, W_IN_PORT, W_NW_DST, W_NW_SRC, W_TP } from '../../flow/flow.ts';
import { dlType, ETH_TYPE_IP, isIpAny, NW_FRAG, NW_PROTO } from '../../flow/headers.ts';
import type { FrozenAction } from '../packet-in.ts';
import type { Rule } from '../tables/rule.ts';
import { TBL_INTERNAL } from '../tables/rule-store.ts';
import { MAX_ACTION_BYTES, MAX_DEPTH, MAX_RESUBMITS, MAX_STACK_BYTES, type XlateContext } from './context.ts';

/** OFPC_FRAG_NX_MATCH: fragments are matched as they are; 1 drops them. */
const FRAG_DROP = 1;
const FRAG_NX_MATCH = 3;

/** Runs actions in one of two ways: as they are, or as a clone. */
export type Runner = (context: XlateContext, actions: readonly FrozenAction[], last: boolean) => void;

/**
 * Finds the rule for the flow in `context.table`. What a table does with a miss is set in OpenFlow 1.1 and 1.2 alone, which are not
 * offered: it goes to controllers that are older than 1.3, or nowhere.
 */
export function lookupFromTable(context: XlateContext, inPort: number, mayPacketIn: boolean): Rule {
  const { flow, wc, bridge, cache } = context;
  const { tables } = bridge;
  const oldInPort = flow.w[W_IN_PORT]!;
  const oldTp = flow.w[W_TP]!;
  if ((flow.u8[NW_FRAG]! & FLOW_NW_FRAG_ANY) !== 0 && bridge.fragHandling !== FRAG_NX_MATCH) {
    if (bridge.fragHandling === FRAG_DROP) {
      cache?.add({ kind: 'table', table: tables.tables[context.table]!, matched: true });
      return bridge.internal.dropFrags;
    }
    // Transport ports are taken as not there.
    flow.w[W_TP] = 0;
  }
  flow.w[W_IN_PORT] = inPort | 0;
  const table = tables.tables[context.table]!;
  const rule = tables.lookup(context.table, flow, wc);
  cache?.add({ kind: 'table', table, matched: rule !== null });
  flow.w[W_IN_PORT] = oldInPort;
  flow.w[W_TP] = oldTp;
  if (rule !== null) return rule;
  return mayPacketIn && bridge.wantsPacketInOnMiss() ? bridge.internal.miss : bridge.internal.noPacketIn;
}

/** A line for the rule; returns where what it does is reported. */
export function reportTable(context: XlateContext, rule: Rule, table: number): void {
  if (context.trace === null) return;
  const { internal } = context.bridge;
  let text: string;
  if (rule === internal.miss) text = 'No match, and a "packet-in" is called for.';
  else if (rule === internal.noPacketIn) text = 'No match.';
  else if (rule === internal.dropFrags) text = 'Packets are IP fragments and the fragment handling mode is "drop".';
  else text = context.texts?.rule(rule, context.bridge) ?? '';
  context.trace = context.report('table', `${table.toString().padStart(2)}. ${text}`);
}

/** xlate_resubmit_resource_check(). */
export function resourceCheck(context: XlateContext): boolean {
  if (context.depth >= MAX_DEPTH) {
    context.report('error', `over max translation depth ${MAX_DEPTH}`);
    context.error = 'Recursion too deep';
  } else if (context.resubmits >= MAX_RESUBMITS) {
    context.report('error', `over ${MAX_RESUBMITS} resubmit actions`);
    context.error = 'Too many resubmits';
  } else if (context.odpBytes > MAX_ACTION_BYTES) {
    context.report('error', 'resubmits yielded over 64 kB of actions');
    context.exit = true;
  } else if (context.stackBytes >= MAX_STACK_BYTES) {
    context.report('error', 'resubmits yielded over 64 kB of stack');
    context.error = 'Stack too deep';
  } else return true;
  return false;
}

/** xlate_table_action(). */
export function tableAction(
  context: XlateContext,
  inPort: number,
  table: number,
  mayPacketIn: boolean,
  withCtOrig: boolean,
  last: boolean,
  runner: Runner | null,
): void {
  if (context.wasMpls) {
    context.triggerFreeze();
    return;
  }
  if (!resourceCheck(context)) return;
  const { trace, table: oldTable, rule: oldRule, ruleCookie: oldCookie } = context;
  context.table = table;
  if (withCtOrig) {
    if ((context.flow.w[W_CT_ORIG + 3]! & 0xff) === 0 || !isIpAny(context.flow)) {
      context.report('error', 'resubmit(ct) with non-tracked or non-IP packet!');
      context.table = oldTable;
      return;
    }
    swapTuples(context);
  }
  const rule = lookupFromTable(context, inPort, mayPacketIn);
  if (withCtOrig) swapTuples(context);
  context.cache?.add({ kind: 'rule', rule });
  reportTable(context, rule, table);
  const deepens = table <= oldTable ? 1 : 0;
  context.resubmits++;
  context.depth += deepens;
  context.rule = rule;
  context.ruleCookie = rule.cookie;
  if (runner === null) context.run(rule.actions, last, false);
  else runner(context, rule.actions, last);
  context.ruleCookie = oldCookie;
  context.rule = oldRule;
  context.depth -= deepens;
  context.trace = trace;
  context.table = oldTable;
}

/** xlate_ofpact_resubmit(). */
export function resubmit(context: XlateContext, action: Extract<OfAction, { type: 'resubmit' }>, last: boolean): void {
  const internal = context.rule !== null && context.rule.table === TBL_INTERNAL;
  const inPort = action.port === null || action.port === OFPP_IN_PORT ? context.flow.w[W_IN_PORT]! >>> 0 : action.port;
  const table = action.table === null || action.table === 255 ? context.table : action.table;
  tableAction(context, inPort, table, internal, action.ct, last, null);
}

/** tuple_swap(): addresses, ports and protocol of the connection's original direction in the place of the frame's.
 *
 * DEVIATION: the original addresses of IPv6 connections are not kept; those stay the frame's. */
function swapTuples({ flow, wc }: XlateContext): void {
  const ipv4 = dlType(flow) === ETH_TYPE_IP;
  for (const side of [flow, wc]) swapTuple(side, ipv4);
}
function swapTuple(side: Flow, ipv4: boolean): void {
  const { w, u8 } = side;
  const swap = (a: number, b: number): void => {
    const held = w[a]!;
    w[a] = w[b]!;
    w[b] = held;
  };
  const protocol = u8[NW_PROTO]!;
  u8[NW_PROTO] = u8[(W_CT_ORIG + 3) * 4]!;
  u8[(W_CT_ORIG + 3) * 4] = protocol;
  if (ipv4) {
    swap(W_NW_SRC, W_CT_ORIG);
    swap(W_NW_DST, W_CT_ORIG + 1);
  }
  swap(W_TP, W_CT_ORIG + 2);
}
