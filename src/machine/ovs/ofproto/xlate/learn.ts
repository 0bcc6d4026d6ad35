/** learn(): the flow that an action makes of a frame (ovs lib/learn.c, learn_execute()). */
import {
  type FlowMod,
  type LearnSpec,
  OFPP_FLOOD,
  OFPP_IN_PORT,
  OFPP_LOCAL,
  OFPP_NONE,
  OFPUTIL_FF_SEND_FLOW_REM,
  type OfAction,
} from '../../flow/actions.ts';
import type { Flow } from '../../flow/flow.ts';
import { Match } from '../../flow/match.ts';
import { OFPG_ANY } from '../tables/groups.ts';
import type { XlateContext } from './context.ts';
import { examineSubfield, ones, readSubfield, toBig, toBytes, writeSubfield } from './subfield.ts';

const NX_LEARN_F_SEND_FLOW_REM = 1;
const NX_LEARN_F_WRITE_RESULT = 4;
const OFPP10_MAX = 0xff00;

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
    const value = ('field' in src ? readSubfield(src, flow) : toBig(src.value)) & ones(bits);
    if (dst.kind === 'match') {
      const { field, ofs } = dst.subfield;
      field.put(
        match.flow,
        toBytes(value << BigInt(ofs), field.bytes),
        toBytes(ones(bits) << BigInt(ofs), field.bytes),
      );
      const mask = toBytes(ones(bits) << BigInt(ofs), field.bytes);
      field.put(match.mask, mask, mask);
    } else if (dst.kind === 'load') {
      const { field, ofs } = dst.subfield;
      const mask = toBytes(ones(bits) << BigInt(ofs), field.bytes);
      actions.push({
        type: 'set_field',
        field,
        value: toBytes(value << BigInt(ofs), field.bytes),
        mask: ofs === 0 && bits === field.bits ? null : mask,
        spelling: 'load',
      });
    } else {
      const port = bits <= 16 || value <= 0xffffn ? port16(Number(value & 0xffffn)) : OFPP_NONE;
      if (
        port < OFPP10_MAX ||
        port === OFPP_IN_PORT ||
        port === OFPP_FLOOD ||
        port === OFPP_LOCAL ||
        port === 0xfffffffc
      )
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
    bufferId: 0xffffffff,
    actions,
  };
}
function port16(port: number): number {
  return port >= OFPP10_MAX ? (port | 0xffff0000) >>> 0 : port;
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
