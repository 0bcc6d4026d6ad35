/** Actions on a copy of the frame: what they rewrite is undone afterwards (ovs ofproto-dpif-xlate.c, clone_xlate_actions(), xlate_check_pkt_larger()). */
import type { OdpAction } from '../../datapath/odp-actions.ts';
import { Flow } from '../../flow/flow.ts';
import type { FrozenAction } from '../packet-in.ts';
import { executeActionSet } from './action-set.ts';
import { commitOdpActions } from './commit.ts';
import type { XlateContext } from './context.ts';
import { finishFreezing } from './freeze.ts';
import { writeSubfield } from './subfield.ts';

/** Actions whose effects a datapath cannot take back by setting fields again. */
const IRREVERSIBLE = new Set(['ct', 'meter', 'nat', 'output_trunc']);

export function cloneActions(context: XlateContext, actions: readonly FrozenAction[], last: boolean): void {
  const { actionSet, actionSetHasGroup, stack, stackBytes } = context;
  context.actionSet = [...actionSet];
  context.stack = [...stack];
  const saved = context.saveFlow();
  if (last || !actions.some((action) => IRREVERSIBLE.has(action.type))) runToTheEnd(context, actions, last);
  else {
    commitOdpActions(context);
    const restore = saveBase(context);
    const inner = branch(context, () => runToTheEnd(context, actions, true));
    if (inner.length > 0) context.put({ type: 'clone', actions: inner });
    restore();
  }
  context.actionSet = actionSet;
  context.actionSetHasGroup = actionSetHasGroup;
  context.stack = stack;
  context.stackBytes = stackBytes;
  context.restoreFlow(saved);
}

/** check_pkt_larger: the rest of the actions, once for longer frames and once for the others. */
export function checkPktLarger(
  context: XlateContext,
  action: Extract<FrozenAction, { type: 'check_pkt_larger' }>,
  remaining: readonly FrozenAction[],
): void {
  const { actionSet, actionSetHasGroup, stack, stackBytes, exit } = context;
  const saved = context.saveFlow();
  commitOdpActions(context);
  const branches = [1, 0].map((larger) => {
    context.actionSet = [...actionSet];
    context.stack = [...stack];
    const restore = saveBase(context);
    const inner = branch(context, () => {
      writeSubfield(action.dst, larger, context.flow);
      runToTheEnd(context, remaining, true);
    });
    restore();
    context.restoreFlow({ flow: new Flow().copyFrom(saved.flow), labels: [...saved.labels] });
    context.exit = false;
    return inner;
  });
  context.put({ type: 'check_pkt_len', length: action.length, greater: branches[0]!, lessEqual: branches[1]! });
  context.actionSet = actionSet;
  context.actionSetHasGroup = actionSetHasGroup;
  context.stack = stack;
  context.stackBytes = stackBytes;
  context.exit = exit;
}

function runToTheEnd(context: XlateContext, actions: readonly FrozenAction[], last: boolean): void {
  context.run(actions, last, false);
  if (!context.freezing) executeActionSet(context);
  if (context.freezing) finishFreezing(context);
}
/** Datapath actions that `run` composes, in a list of their own. */
function branch(context: XlateContext, run: () => void): OdpAction[] {
  const { odp } = context;
  context.odp = [];
  run();
  const inner = context.odp;
  context.odp = odp;
  return inner;
}
function saveBase(context: XlateContext): () => void {
  const base = context.base.w.slice();
  const baseLabels = [...context.baseLabels];
  const { wasMpls, conntracked } = context;
  return () => {
    context.base.w.set(base);
    context.baseLabels = baseLabels;
    context.wasMpls = wasMpls;
    context.conntracked = conntracked;
  };
}
