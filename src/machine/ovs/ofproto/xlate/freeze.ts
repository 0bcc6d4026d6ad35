/** Recirculation: a translation that goes on when the frame comes back, and packet-ins, which need its state, too (ovs ofproto-dpif-xlate.c, finish_freezing()). */
import type { OfAction } from '../../flow/actions.ts';
import { OFPP_IN_PORT } from '../../flow/actions.ts';
import { fieldNamed } from '../../flow/fields.ts';
import { Flow, W_IN_PORT, W_METADATA, W_REGS, W_TUN } from '../../flow/flow.ts';
import { type FrozenAction, type FrozenState, OFPR_ACTION, OFPR_EXPLICIT_MISS } from '../packet-in.ts';
import { commitOdpActions } from './commit.ts';
import type { XlateContext } from './context.ts';

const METADATA = fieldNamed('metadata');

/** frozen_metadata_from_flow(): words that a frame does not carry with it. */
export function metadataOf(flow: Flow): Flow {
  const metadata = new Flow();
  copyMetadata(flow, metadata);
  return metadata;
}
/** frozen_metadata_to_flow(). */
export function copyMetadata(from: Flow, to: Flow): void {
  to.w[W_IN_PORT] = from.w[W_IN_PORT]!;
  to.w.set(from.w.subarray(W_TUN, W_METADATA + 2), W_TUN);
  to.w.set(from.w.subarray(W_REGS, W_REGS + 16), W_REGS);
}

function stateOf(
  context: XlateContext,
  table: number,
  actions: readonly FrozenAction[],
  actionSet: readonly OfAction[],
  userdata: Uint8Array | null,
): FrozenState {
  return {
    bridge: context.bridge.name,
    table,
    flow: metadataOf(context.flow),
    stack: [...context.stack],
    mirrors: context.mirrors,
    conntracked: context.conntracked,
    wasMpls: context.wasMpls,
    actions,
    actionSet,
    userdata,
  };
}

/** finish_freezing__(): a recirculation to `table`, or a frame that waits for its controller. Returns the id. */
export function finishFreezingTo(context: XlateContext, table: number): number {
  const { pause } = context;
  const state = stateOf(
    context,
    table,
    [...context.frozenActions],
    [...context.actionSet],
    pause === null ? null : pause.userdata,
  );
  const id = context.bridge.backer.recircs.idOf(state);
  if (pause !== null) {
    if (context.sideEffects || context.pretended !== null || context.cache !== null)
      context.put({
        type: 'controller',
        cookie: {
          reason: pause.reason,
          dontSend: false,
          continuation: true,
          recircId: id,
          ruleCookie: context.ruleCookie,
          controllerId: pause.controllerId,
          maxLen: pause.maxLen,
        },
      });
  } else {
    if (context.dpHash !== null) context.put({ type: 'hash', ...context.dpHash });
    context.put({ type: 'recirc', id });
  }
  context.cancelFreeze();
  return id;
}
export function finishFreezing(context: XlateContext): void {
  commitOdpActions(context);
  finishFreezingTo(context, 0);
}
/** compose_recirculate_and_fork(): the frame also goes on in `table` when the datapath brings it back. */
export function recirculateAndFork(context: XlateContext, table: number, zone: number): void {
  context.freezing = true;
  const id = finishFreezingTo(context, table);
  if (context.trace === null) return;
  context.recircs.push({ id, zone, flow: new Flow().copyFrom(context.flow) });
  context.report(
    'detail',
    `A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table ${table}.`,
  );
}

/** Actions that may lead to a packet-in, which says its table and cookie. */
const UNROLLED = new Set(['output_reg', 'output_trunc', 'group', 'output', 'controller', 'dec_mpls_ttl', 'dec_ttl']);

/** freeze_unroll_actions(): the actions that are left are kept for later. */
export function freezeUnroll(context: XlateContext, actions: readonly FrozenAction[]): void {
  for (const action of actions) {
    switch (action.type) {
      case 'goto_table':
        context.frozenActions.push({ type: 'resubmit', port: OFPP_IN_PORT, table: action.table, ct: false });
        continue;
      case 'write_metadata':
        context.frozenActions.push({
          type: 'set_field',
          field: METADATA,
          value: bytes8(action.value),
          mask: bytes8(action.mask),
          spelling: 'set_field',
        });
        continue;
      case 'note':
      case 'conjunction':
        continue;
      case 'resubmit':
        if (action.table === null || action.table === 255) unroll(context);
        break;
      default:
        if (UNROLLED.has(action.type)) unroll(context);
    }
    context.frozenActions.push(action);
  }
}
function unroll(context: XlateContext): void {
  const { table, ruleCookie } = context;
  if (context.unrollTable === table && context.unrollCookie === ruleCookie) return;
  context.frozenActions.push({ type: 'unroll_xlate', table, cookie: ruleCookie });
  context.unrollTable = table;
  context.unrollCookie = ruleCookie;
}
function bytes8(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value);
  return bytes;
}

/** xlate_controller_action(): a datapath action that sends the frame to ovs-vswitchd, which makes a packet-in of it. `meter`: a datapath meter before it; null: none. */
export function controllerAction(
  context: XlateContext,
  maxLen: number,
  reason: number,
  controllerId: number,
  userdata: Uint8Array | null,
  meter: number | null,
): void {
  commitOdpActions(context);
  const { rule } = context;
  // The frame missed everything but a flow that matches all of them, of priority 0.
  const missed = rule !== null && rule.priority === 0 && rule.subtable.words.length === 0;
  const state = stateOf(context, context.table, [], [], userdata);
  const recircId = context.bridge.backer.recircs.idOf(state);
  const action = {
    type: 'controller',
    cookie: {
      reason: reason === OFPR_ACTION && missed ? OFPR_EXPLICIT_MISS : reason,
      dontSend: !context.sideEffects && context.pretended === null && context.cache === null,
      continuation: false,
      recircId,
      ruleCookie: context.ruleCookie,
      controllerId,
      maxLen,
    },
  } as const;
  const meterId = meter ?? context.bridge.controllerMeter();
  if (meterId === null) context.put(action);
  else
    context.put({
      type: 'sample',
      probability: 0xffffffff,
      actions: [{ type: 'meter', meter: meterId }, action],
    });
}
