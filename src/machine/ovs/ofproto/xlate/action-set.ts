/** The action set: what write_actions collects, executed at the pipeline's end, each kind once and in OpenFlow's order (ovs lib/ofp-actions.c, ofpacts_execute_action_set()). */
import type { OfAction } from '../../flow/actions.ts';
import { OFPP_UNSET } from '../../flow/actions.ts';
import { W_ACTSET_OUTPUT } from '../../flow/flow.ts';
import type { XlateContext } from './context.ts';

/** Kinds that act once, the last one written, in this order; then `set` kinds as they were written. */
const ONCE_FIRST = ['pop_vlan', 'pop_mpls', 'push_mpls', 'push_vlan', 'dec_ttl', 'dec_mpls_ttl'] as const;
const SETS = new Set([
  'set_field',
  'move',
  'mod_vlan_vid',
  'mod_vlan_pcp',
  'set_mpls_ttl',
  'set_nw_ttl',
  'set_tunnel',
  'set_queue',
]);
/** Of these, only the first kind that is there acts. */
const FINAL = ['group', 'output', 'resubmit', 'ct_clear', 'ct'] as const;

/** The list that an action set comes to. */
export function actionListOf(set: readonly OfAction[]): OfAction[] {
  const list: OfAction[] = [];
  const last = (type: string): OfAction | undefined => set.findLast((action) => action.type === type);
  for (const type of ONCE_FIRST) {
    const action = last(type);
    if (action !== undefined) list.push(action);
  }
  for (const action of set) if (SETS.has(action.type)) list.push(action);
  for (const type of FINAL) {
    const action = last(type);
    if (action !== undefined) return [...list, action];
  }
  // Without an output the set does nothing at all.
  return [];
}

/** xlate_write_actions__(): actset_output follows. */
export function writeActions(context: XlateContext, actions: readonly OfAction[]): void {
  if (!context.actionSetHasGroup)
    for (const action of actions) {
      if (action.type === 'output') context.flow.w[W_ACTSET_OUTPUT] = action.port | 0;
      else if (action.type === 'group') {
        context.flow.w[W_ACTSET_OUTPUT] = OFPP_UNSET | 0;
        context.actionSetHasGroup = true;
        break;
      }
    }
  context.actionSet.push(...actions);
}
export function reportActionSet(context: XlateContext, verb: string): void {
  if (context.trace === null) return;
  const list = actionListOf(context.actionSet);
  if (list.length === 0) context.report('detail', `action set ${verb} empty`);
  else context.reportActions('detail', `action set ${verb}`, list);
}

/** xlate_action_set(). */
export function executeActionSet(context: XlateContext): void {
  const list = actionListOf(context.actionSet);
  context.actionSet = [];
  if (list.length === 0) return;
  context.inActionSet = true;
  const { trace } = context;
  context.trace = context.report('table', '--. Executing action set:') ?? trace;
  context.run(list, true, false);
  context.trace = trace;
  context.inActionSet = false;
}
