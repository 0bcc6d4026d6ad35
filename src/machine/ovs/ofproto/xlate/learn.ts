/** learn(): the flow that an action makes of a frame (ovs lib/learn.c, learn_execute()). */
import {
  type FlowMod,
  type LearnSpec,
  OFP_NO_BUFFER,
  OFPG_ANY,
  OFPP_ALL,
  OFPP_FLOOD,
  OFPP_IN_PORT,
  OFPP_LOCAL,
  OFPP_NONE,
  OFPUTIL_FF_SEND_FLOW_REM,
  type OfAction,
} from '../../flow/actions.ts';
import type { Flow } from '../../flow/flow.ts';
import { Match } from '../../flow/match.ts';
import { subfieldMask } from '../../flow/subfields.ts';
import { NX_LEARN_F_SEND_FLOW_REM, NX_LEARN_F_WRITE_RESULT } from '../../flow/text/learn-text.ts';
import { numberOf } from '../../flow/text/values.ts';
import { OFPP10_MAX, portFrom10 } from '../../openflow/wire/codes.ts';
import type { XlateContext } from './context.ts';
import { examineSubfield, placed, readSubfield, writeSubfield } from './subfield.ts';

/** What the frame's fields are looked at for. */
export function maskLearned(spec: LearnSpec, wc: Flow): void {
  for (const { src } of spec.specs) if ('field' in src) examineSubfield(src, wc);
}

export function learnedFlow(spec: LearnSpec, flow: Flow): FlowMod {
  const match = new Match();
  const actions: OfAction[] = [];
  if (spec.finIdleTimeout !== 0 || spec.finHardTimeout !== 0)
    actions.push({ type: 'fin_timeout', idle: spec.finIdleTimeout, hard: spec.finHardTimeout });
  for (const { bits, src, dst } of spec.specs) {
    const value = BigInt.asUintN(bits, 'field' in src ? readSubfield(src, flow) : numberOf(src.value));
    if (dst.kind === 'match') {
      const { field } = dst.subfield;
      const mask = subfieldMask(dst.subfield);
      field.put(match.flow, placed(dst.subfield, value), mask);
      field.put(match.mask, mask, mask);
    } else if (dst.kind === 'load') {
      const { field, ofs } = dst.subfield;
      actions.push({
        type: 'set_field',
        field,
        value: placed(dst.subfield, value),
        mask: ofs === 0 && bits === field.bits ? null : subfieldMask(dst.subfield),
        spelling: 'load',
      });
    } else {
      const port = bits <= 16 || value <= 0xffffn ? portFrom10(Number(value & 0xffffn)) : OFPP_NONE;
      if (port < OFPP10_MAX || port === OFPP_IN_PORT || port === OFPP_FLOOD || port === OFPP_LOCAL || port === OFPP_ALL)
        actions.push({ type: 'output', port, maxLen: 0 });
    }
  }
  return {
    command: 'modify_strict',
    table: spec.table,
    priority: spec.priority,
    match,
    cookie: spec.cookie,
    cookieMask: 0n,
    modifyCookie: spec.cookie !== 0xffffffffffffffffn,
    idleTimeout: spec.idleTimeout,
    hardTimeout: spec.hardTimeout,
    importance: 0,
    flags: (spec.flags & NX_LEARN_F_SEND_FLOW_REM) !== 0 ? OFPUTIL_FF_SEND_FLOW_REM : 0,
    outPort: OFPP_NONE,
    outGroup: OFPG_ANY,
    bufferId: OFP_NO_BUFFER,
    actions,
  };
}

/** xlate_learn_action(). */
export function learnAction(context: XlateContext, spec: LearnSpec): void {
  maskLearned(spec, context.wc);
  if (!context.sideEffects && context.pretended === null && context.cache === null) {
    context.report('warn', 'suppressing side effects, so learn action ignored');
    return;
  }
  const mod = learnedFlow(spec, context.flow);
  if (context.trace !== null) context.report('detail', context.texts?.learned(mod) ?? '');
  const success = !context.sideEffects || context.bridge.learn(mod, spec.limit, context.now);
  if ((spec.flags & NX_LEARN_F_WRITE_RESULT) !== 0 && spec.resultDst !== null) {
    examineSubfield(spec.resultDst, context.wc);
    writeSubfield(spec.resultDst, success ? 1 : 0, context.flow);
  }
  if (success) context.cache?.add({ kind: 'learn', bridge: context.bridge, mod, limit: spec.limit });
  else context.report('detail', 'Limit exceeded, learn failed');
}
