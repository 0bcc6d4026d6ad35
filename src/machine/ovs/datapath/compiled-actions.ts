/** Actions of a datapath flow in the form in which frames meet them: most flows only output, and for those there is a plain list. */
import type { ControllerCookie, CtAction, OdpAction, SetKey } from './odp-actions.ts';

export const OP_OUTPUT = 0;
export const OP_TRUNC = 1;
export const OP_PUSH_VLAN = 2;
export const OP_POP_VLAN = 3;
export const OP_PUSH_MPLS = 4;
export const OP_POP_MPLS = 5;
export const OP_SET = 6;
export const OP_RECIRC = 7;
export const OP_HASH = 8;
export const OP_CT = 9;
export const OP_CT_CLEAR = 10;
export const OP_METER = 11;
export const OP_CONTROLLER = 12;
export const OP_SLOW_PATH = 13;
export const OP_CLONE = 14;
export const OP_SAMPLE = 15;
export const OP_CHECK_PKT_LEN = 16;
export const OP_DROP = 17;

/** One action; what `a` and `b` are depends on it. All have one shape. */
export interface Op {
  readonly code: number;
  readonly a: number;
  readonly b: number;
  readonly set: SetKey | null;
  readonly ct: CtAction | null;
  readonly cookie: ControllerCookie | null;
  /** Of clone and sample; of check_pkt_len for frames that are not longer. */
  readonly inner: readonly Op[] | null;
  /** Of check_pkt_len for longer ones. */
  readonly other: readonly Op[] | null;
}
export interface CompiledActions {
  /** Where outputs are all that there is: the ports. Empty: the frame is dropped. */
  readonly outputs: Int32Array;
  /** null where `outputs` says it all. */
  readonly ops: readonly Op[] | null;
}

const NO_OUTPUTS = new Int32Array(0);

/** Flows with a single output share one, by port: thousands of them use the same memory then. */
const SINGLE: CompiledActions[] = [];
function single(port: number): CompiledActions {
  const known = SINGLE[port];
  if (known !== undefined) return known;
  const made = { outputs: Int32Array.of(port), ops: null };
  if (port < 1024) SINGLE[port] = made;
  return made;
}

export function compileActions(actions: readonly OdpAction[]): CompiledActions {
  const only = actions.length === 1 ? actions[0]! : null;
  if (only?.type === 'output') return single(only.port);
  if (actions.every((action) => action.type === 'output'))
    return { outputs: Int32Array.from(actions, (action) => action.port), ops: null };
  return { outputs: NO_OUTPUTS, ops: compile(actions) };
}

function compile(actions: readonly OdpAction[]): Op[] {
  return actions.map(opOf);
}
function opOf(action: OdpAction): Op {
  switch (action.type) {
    case 'output':
      return op(OP_OUTPUT, action.port);
    case 'trunc':
      return op(OP_TRUNC, action.maxLen);
    case 'push_vlan':
      return op(OP_PUSH_VLAN, action.tpid, (action.pcp << 13) | action.vid);
    case 'pop_vlan':
      return op(OP_POP_VLAN);
    case 'push_mpls':
      return op(OP_PUSH_MPLS, action.lse, action.ethertype);
    case 'pop_mpls':
      return op(OP_POP_MPLS, action.ethertype);
    case 'set':
      return op(OP_SET, 0, 0, { set: action.key });
    case 'recirc':
      return op(OP_RECIRC, action.id);
    case 'hash':
      return op(OP_HASH, action.algorithm === 'l4' ? 0 : 1, action.basis);
    case 'ct':
      return op(OP_CT, action.zone, 0, { ct: action });
    case 'ct_clear':
      return op(OP_CT_CLEAR);
    case 'meter':
      return op(OP_METER, action.meter);
    case 'controller':
      return op(OP_CONTROLLER, 0, 0, { cookie: action.cookie });
    case 'slow_path':
      return op(OP_SLOW_PATH);
    case 'clone':
      return op(OP_CLONE, 0, 0, { inner: compile(action.actions) });
    case 'sample':
      return op(OP_SAMPLE, action.probability, 0, { inner: compile(action.actions) });
    case 'check_pkt_len':
      return op(OP_CHECK_PKT_LEN, action.length, 0, {
        inner: compile(action.lessEqual),
        other: compile(action.greater),
      });
    case 'drop':
      return op(OP_DROP, action.reason);
  }
}
function op(code: number, a = 0, b = 0, more: Partial<Pick<Op, 'set' | 'ct' | 'cookie' | 'inner' | 'other'>> = {}): Op {
  return { code, a, b, set: null, ct: null, cookie: null, inner: null, other: null, ...more };
}

/** True where two lists of actions are the same (ofpbuf_equal() of a revalidated flow's). */
export function sameActions(a: readonly OdpAction[], b: readonly OdpAction[]): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  return a.every((x, i) => {
    const y = b[i]!;
    if (x.type === 'output' && y.type === 'output') return x.port === y.port;
    return x.type === y.type && JSON.stringify(x, plain) === JSON.stringify(y, plain);
  });
}
const plain = (_: string, value: unknown): unknown =>
  typeof value === 'bigint' ? value.toString() : value instanceof Uint8Array ? Array.from(value) : value;
