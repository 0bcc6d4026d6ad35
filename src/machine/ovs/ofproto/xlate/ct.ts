/** ct(): the frame goes through the connection tracker, and in a copy on to another table (ovs ofproto-dpif-xlate.c, compose_conntrack_action()). */
import type { OfAction } from '../../flow/actions.ts';
import { W_CT_LABEL, W_CT_MARK } from '../../flow/flow.ts';
import { clearConntrack } from '../../flow/headers.ts';
import { commitOdpActions } from './commit.ts';
import type { XlateContext } from './context.ts';
import { recirculateAndFork } from './freeze.ts';
import { examineSubfield, readSubfield } from './subfield.ts';

/** Fields that a recirculation restores by itself (mf_is_frozen_metadata()). */
const FROZEN = /^(metadata|tun_|reg|xreg|xxreg|in_port)/;

export function conntrackAction(context: XlateContext, action: Extract<OfAction, { type: 'ct' }>, last: boolean): void {
  const { flow, wc } = context;
  let zone: number;
  if (typeof action.zone === 'number') zone = action.zone;
  else {
    zone = Number(readSubfield(action.zone, flow));
    if (context.frozen === null || !FROZEN.test(action.zone.field.name)) examineSubfield(action.zone, wc);
  }
  const markMask = wc.w[W_CT_MARK]!;
  const labelMask = wc.w.slice(W_CT_LABEL, W_CT_LABEL + 4);
  commitOdpActions(context);
  // What exec() sets is what the tracker is to set: of the masks, only that counts here.
  wc.w[W_CT_MARK] = 0;
  wc.w.fill(0, W_CT_LABEL, W_CT_LABEL + 4);
  context.run(action.actions, last, false);
  const mask = wc.w[W_CT_MARK]! >>> 0;
  const label = wc.u8.slice(W_CT_LABEL * 4, W_CT_LABEL * 4 + 16);
  context.put({
    type: 'ct',
    commit: action.commit,
    force: action.force,
    zone,
    mark: mask === 0 ? null : { value: (flow.w[W_CT_MARK]! & mask) >>> 0, mask },
    label: label.every((bits) => bits === 0)
      ? null
      : { value: label.map((bits, i) => flow.u8[W_CT_LABEL * 4 + i]! & bits), mask: label },
    helper: action.alg,
  });
  wc.w[W_CT_MARK] = markMask;
  wc.w.set(labelMask, W_CT_LABEL);
  if (action.table !== null) {
    context.conntracked = true;
    recirculateAndFork(context, action.table, zone);
  }
  // Tracked fields are known in the copy only.
  clearConntrack(flow);
  context.report('detail', 'Sets the packet to an untracked state, and clears all the conntrack fields.');
  context.conntracked = false;
}

export function ctClear(context: XlateContext): void {
  if (!context.conntracked) return;
  context.conntracked = false;
  clearConntrack(context.flow);
  context.put({ type: 'ct_clear' });
}
