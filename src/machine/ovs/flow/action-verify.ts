/**
 * Rules for lists of actions that need no match: order of instructions, what may be nested in what (ovs lib/ofp-actions.c
 * ofpacts_verify()).
 */
import type { OfAction } from './actions.ts';
import type { Field } from './fields.ts';

export interface ActionProblem {
  readonly error:
    | 'OFPBAC_UNSUPPORTED_ORDER'
    | 'OFPBAC_BAD_TYPE'
    | 'OFPBIC_UNSUP_INST'
    | 'OFPBAC_BAD_SET_ARGUMENT'
    | 'OFPBAC_BAD_ARGUMENT'
    | 'NXBAC_BAD_CONJUNCTION';
  /** What ovs-ofctl says. */
  readonly text: string;
}

const NAMES = ['meter', 'apply_actions', 'clear_actions', 'write_actions', 'write_metadata', 'goto_table'] as const;
const METER = 0;
const APPLY_ACTIONS = 1;
const OFP15_VERSION = 6;

/** Which instruction an action belongs to, in the order in which OpenFlow does them. */
function instructionOf(action: OfAction, version: number): number {
  switch (action.type) {
    case 'meter':
      return version >= OFP15_VERSION ? APPLY_ACTIONS : METER;
    case 'clear_actions':
      return 2;
    case 'write_actions':
      return 3;
    case 'write_metadata':
      return 4;
    case 'goto_table':
      return 5;
    default:
      return APPLY_ACTIONS;
  }
}

const PRINTED: Partial<Readonly<Record<OfAction['type'], string>>> = {
  push: 'push',
  pop: 'pop',
  group: 'group',
  set_field: 'set_field',
  output_trunc: 'output_trunc',
};

function nested(action: OfAction, outer: 'ct' | 'clone' | 'write_actions' | null): ActionProblem | null {
  const field: Field | null =
    action.type === 'set_field' ? action.field : action.type === 'move' ? action.dst.field : null;
  const ofCt = field !== null && (field.name === 'ct_mark' || field.name === 'ct_label');
  if (ofCt && outer !== 'ct') {
    return { error: 'OFPBAC_BAD_SET_ARGUMENT', text: 'cannot set CT fields outside of ct action' };
  }
  if (action.type === 'nat') {
    return outer === 'ct'
      ? null
      : { error: 'OFPBAC_BAD_SET_ARGUMENT', text: 'Cannot have NAT action outside of "ct" action' };
  }
  const name = PRINTED[action.type] ?? action.type;
  const unsupported: ActionProblem = {
    error: 'OFPBAC_BAD_ARGUMENT',
    text: `${outer} action doesn't support nested action ${name}`,
  };
  if (outer === 'ct') {
    if (field === null) return unsupported;
    if (!ofCt) {
      return {
        error: 'OFPBAC_BAD_ARGUMENT',
        text: `ct action doesn't support nested modification of ${field.name}`,
      };
    }
  }
  return outer !== null && action.type === 'meter' ? unsupported : null;
}

/** What is wrong with a list; null: nothing. `allowed`: whether instructions other than apply_actions may be there. */
export function verifyActions(
  actions: readonly OfAction[],
  allowed: 'instructions' | 'actions',
  outer: 'ct' | 'clone' | 'write_actions' | null = null,
  version = 2,
): ActionProblem | null {
  let instruction = METER;
  for (const [i, action] of actions.entries()) {
    if (action.type === 'conjunction') {
      const other = actions.find(({ type }) => type !== 'conjunction' && type !== 'note');
      if (other === undefined) return null;
      return {
        error: 'NXBAC_BAD_CONJUNCTION',
        text: `"conjunction" actions may be used along with "note" but not any other kind of action (such as the "${other.type}" action used here)`,
      };
    }
    const inside = nested(action, outer);
    if (inside !== null) return inside;
    const next = instructionOf(action, version);
    if (i > 0 && (instruction === APPLY_ACTIONS ? next < instruction : next <= instruction)) {
      const [name, nextName] = [NAMES[instruction], NAMES[next]];
      const text =
        next === instruction
          ? `duplicate ${name} instruction not allowed, for OpenFlow 1.1+ compatibility`
          : `invalid instruction ordering: ${nextName} must appear before ${name}, for OpenFlow 1.1+ compatibility`;
      return { error: 'OFPBAC_UNSUPPORTED_ORDER', text };
    }
    if (allowed === 'actions' && next !== APPLY_ACTIONS && next !== METER) {
      return { error: 'OFPBIC_UNSUP_INST', text: `${NAMES[next]} instruction not allowed here` };
    }
    instruction = next;
  }
  return null;
}
