/** Every action, one after the other (ovs ofproto-dpif-xlate.c, do_xlate_actions()). */
import { OFPP_IN_PORT, OFPP_UNSET } from '../../flow/actions.ts';
import type { Subfield } from '../../flow/fields.ts';
import { VLAN_CFI, W_ACTSET_OUTPUT, W_IN_PORT, W_METADATA, W_SKB_PRIORITY, W_TUN } from '../../flow/flow.ts';
import {
  dlType,
  ETH_TYPE_IP,
  ETH_TYPE_VLAN_8021Q,
  get16,
  isIpAny,
  NW_PROTO,
  NW_TTL,
  popVlan,
  pushVlan,
  put16,
  VLAN_PCP_MASK,
  VLAN_TCI,
  VLAN_TPID,
  VLAN_VID_MASK,
} from '../../flow/headers.ts';
import { copyBits, formatSubfield } from '../../flow/subfields.ts';
import { alternateHex, formatValue, numberOf } from '../../flow/text/values.ts';
import { portFrom10 } from '../../openflow/wire/codes.ts';
import { type FrozenAction, OFPR_INVALID_TTL } from '../packet-in.ts';
import { reportActionSet, writeActions } from './action-set.ts';
import { checkPktLarger, cloneActions } from './clone.ts';
import { MAX_NESTING, type XlateContext } from './context.ts';
import { conntrackAction, ctClear } from './ct.ts';
import { controllerAction, freezeUnroll } from './freeze.ts';
import { groupAction } from './groups.ts';
import { learnAction } from './learn.ts';
import { bundlePort, multipathLink } from './links.ts';
import { decMplsTtl, popMpls, pushMpls, recirculateForMpls, setMplsTtl } from './mpls.ts';
import { composeOutput } from './output.ts';
import { outputAction, outputTrunc } from './output-action.ts';
import { examineProtocol, prerequisitesOk } from './prerequisites.ts';
import { examineSubfield, readSubfield, toBytes, writeSubfield } from './subfield.ts';
import { resubmit, tableAction } from './tables.ts';

const ALL_CONTROLLER_BYTES = 0xffff;

export function doXlateActions(
  context: XlateContext,
  actions: readonly FrozenAction[],
  lastList: boolean,
  bucket: boolean,
): void {
  if (!context.step()) return;
  if (context.nesting >= MAX_NESTING) {
    context.report('error', `over ${MAX_NESTING} lists of actions within each other`);
    context.error = 'Recursion too deep';
    return;
  }
  context.nesting++;
  runList(context, actions, lastList, bucket);
  context.nesting--;
}

function runList(context: XlateContext, actions: readonly FrozenAction[], lastList: boolean, bucket: boolean): void {
  if (actions.length === 0) {
    context.report('action', 'drop');
    return;
  }
  for (let i = 0; i < actions.length; i++) {
    const action = actions[i]!;
    const last = lastList && i === actions.length - 1 && context.actionSet.length === 0;
    if (context.error !== null || !context.step()) return;
    recirculateForMpls(context, action);
    if (context.exit) {
      if (context.freezing) freezeUnroll(context, actions.slice(i));
      return;
    }
    if (context.trace !== null && action.type !== 'unroll_xlate')
      context.report('action', context.texts?.actions([action], context.bridge) ?? action.type);
    const step = execute(context, action, actions, i, last, bucket);
    if (step === 'end') return;
    // The first action that froze the pipeline keeps the rest, itself included where it said so.
    if (context.error === null && context.exit && context.freezing && context.frozenActions.length === 0) {
      const from = step === 'skip' ? i + 1 : i;
      if (action.type === 'resubmit' || action.type === 'goto_table') continue;
      freezeUnroll(context, actions.slice(from));
      return;
    }
  }
}

/** `end`: the list ends here; `skip`: a freeze goes on behind this action; otherwise with it. */
function execute(
  context: XlateContext,
  action: FrozenAction,
  actions: readonly FrozenAction[],
  index: number,
  last: boolean,
  bucket: boolean,
): 'end' | 'skip' | null {
  const { flow, wc } = context;
  switch (action.type) {
    case 'output':
      outputAction(context, action.port, action.maxLen, true, last, false, bucket);
      return null;
    case 'output_trunc':
      outputTrunc(context, action.port, action.maxLen, last, bucket);
      return null;
    case 'output_reg': {
      const port = readSubfield(action.src, flow);
      if (port <= 0xffffn) {
        context.report('detail', `output port is ${port}`);
        examineSubfield(action.src, wc);
        outputAction(context, portFrom10(Number(port)), action.maxLen, false, last, false, bucket);
      } else context.report('warn', `output port ${port} is out of range`);
      return null;
    }
    case 'controller':
      if (action.pause) {
        context.pause = action;
        context.triggerFreeze();
        return 'skip';
      }
      controllerAction(
        context,
        action.maxLen,
        action.reason,
        action.controllerId,
        action.userdata,
        action.meterId === 0 ? null : (context.bridge.tables.meters.get(action.meterId)?.provider ?? null),
      );
      return null;
    case 'enqueue': {
      wc.w[W_SKB_PRIORITY] = -1;
      const inPort = flow.w[W_IN_PORT]! >>> 0;
      const port = action.port === OFPP_IN_PORT ? inPort : action.port;
      if (port === inPort && action.port !== OFPP_IN_PORT) return null;
      const priority = flow.w[W_SKB_PRIORITY]!;
      flow.w[W_SKB_PRIORITY] = context.bridge.backer.queuePriority(action.queue) | 0;
      composeOutput(context, port, last);
      flow.w[W_SKB_PRIORITY] = priority;
      return null;
    }
    case 'bundle': {
      const port = bundlePort(context, action);
      if (action.dst !== null) {
        load(context, action.dst, port & 0xffff);
        reportSubfield(context, action.dst);
      } else outputAction(context, port, 0, false, last, false, bucket);
      return null;
    }
    case 'multipath':
      load(context, action.dst, multipathLink(context, action));
      reportSubfield(context, action.dst);
      return null;
    case 'set_field': {
      const { field, value } = action;
      const mask = action.mask ?? field.valid;
      if (prerequisitesOk(field, flow, wc)) {
        examineProtocol(field, flow, wc);
        field.put(wc, mask, mask);
        field.setMasked(flow, value, mask);
      } else context.report('warn', `unmet prerequisites for ${field.name}, set_field ignored`);
      return null;
    }
    case 'move':
      move(context, action.src, action.dst);
      reportSubfield(context, action.dst);
      return null;
    case 'push': {
      examineSubfield(action.src, wc);
      const bytes = toBytes(readSubfield(action.src, flow), Math.ceil(action.src.bits / 8));
      context.stack.push(bytes);
      context.stackBytes += bytes.length + 1;
      return null;
    }
    case 'pop': {
      const bytes = context.stack.pop();
      if (bytes === undefined) {
        context.report('error', 'stack underflow');
        return null;
      }
      context.stackBytes -= bytes.length + 1;
      load(context, action.dst, numberOf(bytes));
      reportSubfield(context, action.dst);
      return null;
    }
    case 'mod_vlan_vid':
      setTag(context, VLAN_VID_MASK, action.vid);
      return null;
    case 'mod_vlan_pcp':
      setTag(context, VLAN_PCP_MASK, action.pcp << 13);
      return null;
    case 'pop_vlan':
      popVlan(flow, wc);
      return null;
    case 'push_vlan':
      pushVlan(flow, wc, action.ethertype, VLAN_CFI);
      return null;
    case 'push_mpls':
      pushMpls(context, action.ethertype);
      return null;
    case 'pop_mpls':
      popMpls(context, action.ethertype);
      return null;
    case 'set_mpls_ttl':
      setMplsTtl(context, action.ttl);
      return null;
    case 'dec_mpls_ttl':
      return decMplsTtl(context) ? 'end' : null;
    case 'dec_ttl':
      wc.u8[NW_TTL] = 0xff;
      wc.u8[NW_PROTO] = 0xff;
      return decTtl(context, action.controllers) ? 'end' : null;
    case 'set_nw_ttl':
      if (isIpAny(flow)) {
        wc.u8[NW_PROTO] = 0xff;
        wc.u8[NW_TTL] = 0xff;
        flow.u8[NW_TTL] = action.ttl;
      }
      return null;
    case 'set_queue':
      wc.w[W_SKB_PRIORITY] = -1;
      flow.w[W_SKB_PRIORITY] = context.bridge.backer.queuePriority(action.queue) | 0;
      return null;
    case 'pop_queue':
      wc.w[W_SKB_PRIORITY] = -1;
      if (flow.w[W_SKB_PRIORITY] !== context.skbPriority) {
        flow.w[W_SKB_PRIORITY] = context.skbPriority;
        context.report('detail', `queue = ${alternateHex(context.skbPriority >>> 0)}`);
      }
      return null;
    case 'set_tunnel':
      flow.w[W_TUN] = Number(action.id >> 32n) | 0;
      flow.w[W_TUN + 1] = Number(action.id & 0xffffffffn) | 0;
      return null;
    case 'group':
      return groupAction(context, action.group, last) ? 'end' : null;
    case 'resubmit':
      resubmit(context, action, last);
      return null;
    case 'goto_table':
      tableAction(context, flow.w[W_IN_PORT]! >>> 0, action.table, true, false, last, null);
      return null;
    case 'learn':
      learnAction(context, action.spec);
      return null;
    case 'conjunction':
      context.report('error', 'executing no-op conjunction action');
      return null;
    case 'ct':
      conntrackAction(context, action, last);
      return null;
    case 'ct_clear':
      ctClear(context);
      return null;
    case 'exit':
      context.exit = true;
      return null;
    case 'unroll_xlate':
      context.table = action.table;
      context.ruleCookie = action.cookie;
      context.report('thaw', `restored state: table=${action.table}, cookie=${alternateHex(action.cookie)}`);
      return null;
    case 'fin_timeout':
      wc.u8[NW_PROTO] = 0xff;
      if (context.rule !== null)
        context.cache?.add({
          kind: 'fin_timeout',
          bridge: context.bridge,
          rule: context.rule,
          idle: action.idle,
          hard: action.hard,
        });
      return null;
    case 'clone':
      cloneActions(context, action.actions, last);
      return null;
    case 'check_pkt_larger':
      checkPktLarger(context, action, actions.slice(index + 1));
      return 'end';
    case 'delete_field':
      context.report('detail', `delete ${action.field.name}`);
      return null;
    case 'meter': {
      const meter = context.bridge.tables.meters.get(action.meter);
      if (meter) context.put({ type: 'meter', meter: meter.provider });
      return null;
    }
    case 'clear_actions':
      reportActionSet(context, 'was');
      context.actionSet = [];
      flow.w[W_ACTSET_OUTPUT] = OFPP_UNSET | 0;
      context.actionSetHasGroup = false;
      return null;
    case 'write_actions':
      writeActions(context, action.actions);
      reportActionSet(context, 'is');
      return null;
    case 'write_metadata': {
      const high = Number(action.mask >> 32n) | 0;
      const low = Number(action.mask & 0xffffffffn) | 0;
      flow.w[W_METADATA] = (flow.w[W_METADATA]! & ~high) | (Number(action.value >> 32n) & high);
      flow.w[W_METADATA + 1] = (flow.w[W_METADATA + 1]! & ~low) | (Number(action.value & 0xffffffffn) & low);
      return null;
    }
    // Nobody collects samples; a note says something to people only; NAT is refused where flows are added.
    case 'sample':
    case 'note':
    case 'nat':
      return null;
  }
}

function load(context: XlateContext, dst: Subfield, value: number | bigint): void {
  examineSubfield(dst, context.wc);
  writeSubfield(dst, value, context.flow);
}
/** mf_subfield_copy(). */
function move(context: XlateContext, src: Subfield, dst: Subfield): void {
  const { flow, wc } = context;
  if (!prerequisitesOk(dst.field, flow, wc) || !prerequisitesOk(src.field, flow, wc)) return;
  examineSubfield(src, wc);
  if (!dst.field.name.startsWith('tun_')) examineSubfield(dst, wc);
  const value = dst.field.get(flow);
  copyBits(src.field.get(flow), src.ofs, value, dst.ofs, src.bits);
  dst.field.set(flow, value);
}
/** xlate_report_subfield(). */
function reportSubfield(context: XlateContext, subfield: Subfield): void {
  if (context.trace === null) return;
  const { field, ofs, bits } = subfield;
  const value =
    ofs === 0 && bits >= field.bits
      ? formatValue(field, field.get(context.flow), null, null)
      : `0x${readSubfield(subfield, context.flow).toString(16)}`;
  context.report('detail', `${formatSubfield(subfield)} is now ${value}`);
}

/** Part of the outer tag; a frame without one gets one. */
function setTag({ flow, wc }: XlateContext, bits: number, value: number): void {
  put16(wc, VLAN_TCI, get16(wc, VLAN_TCI) | bits | VLAN_CFI);
  if (get16(flow, VLAN_TPID) === 0) put16(flow, VLAN_TPID, ETH_TYPE_VLAN_8021Q);
  put16(flow, VLAN_TCI, (get16(flow, VLAN_TCI) & ~bits) | value | VLAN_CFI);
}

/** compose_dec_ttl(). True: the time is over, and so is the pipeline. */
function decTtl(context: XlateContext, controllers: readonly number[]): boolean {
  const { flow } = context;
  if (!isIpAny(flow)) return false;
  if (flow.u8[NW_TTL]! > 1) {
    flow.u8[NW_TTL]!--;
    return false;
  }
  for (const id of controllers.length === 0 ? [0] : controllers)
    controllerAction(context, ALL_CONTROLLER_BYTES, OFPR_INVALID_TTL, id, null, null);
  context.report('warn', `IPv${dlType(flow) === ETH_TYPE_IP ? 4 : 6} decrement TTL exception`);
  return true;
}
