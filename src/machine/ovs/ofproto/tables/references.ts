/** What lists of actions name: groups, meters, ports, clauses of conjunctions (ovs lib/ofp-actions.c, OFPACT_FOR_EACH_FLATTENED). */
import type { LearnSpec, OfAction } from '../../flow/actions.ts';
import { OFPG_ANY, OFPP_CONTROLLER, OFPP_NONE } from '../../flow/actions.ts';
import { NX_LEARN_F_DELETE_LEARNED } from '../../flow/text/learn-text.ts';
import type { Conjunction } from './rule.ts';

/** Calls `see` for each action, those in write_actions, clone and ct as well. Stops where it says true, and says so. */
function some(actions: readonly OfAction[], see: (action: OfAction) => boolean): boolean {
  for (const action of actions) {
    if (see(action)) return true;
    const { type } = action;
    if ((type === 'write_actions' || type === 'clone' || type === 'ct') && some(action.actions, see)) return true;
  }
  return false;
}

/** Groups and meters; null where there is none of them, as in most lists. */
export function referencesOf(actions: readonly OfAction[]): { groups: Set<number>; meter: number } | null {
  let found: { groups: Set<number>; meter: number } | null = null;
  some(actions, (action) => {
    if (action.type === 'group') {
      found ??= { groups: new Set(), meter: 0 };
      found.groups.add(action.group);
    } else if (action.type === 'meter') {
      found ??= { groups: new Set(), meter: 0 };
      found.meter = action.meter;
    }
    return false;
  });
  return found;
}

/** `out_port` of a request; OFPP_NONE: any. */
export function outputsTo(actions: readonly OfAction[], port: number): boolean {
  if (port === OFPP_NONE) return true;
  return some(actions, (action) => {
    if (action.type === 'output' || action.type === 'enqueue') return action.port === port;
    return action.type === 'controller' && port === OFPP_CONTROLLER;
  });
}

/** `out_group` of a request; OFPG_ANY: any. */
export function outputsToGroup(actions: readonly OfAction[], group: number): boolean {
  return group === OFPG_ANY || some(actions, (action) => action.type === 'group' && action.group === group);
}

/** Clauses, where the list is made of them (and of notes) only; null: it is a rule of its own. */
export function conjunctionsOf(actions: readonly OfAction[]): readonly Conjunction[] | null {
  if (actions[0]?.type !== 'conjunction' && actions[0]?.type !== 'note') return null;
  const clauses: Conjunction[] = [];
  for (const action of actions) {
    if (action.type === 'conjunction') clauses.push({ id: action.id, clause: action.clause, clauses: action.clauses });
  }
  return clauses.length === 0 ? null : clauses;
}

/** `learn(…,delete_learned)`: only those on the outer level. */
export function learnsWithDelete(actions: readonly OfAction[]): readonly LearnSpec[] | null {
  let found: LearnSpec[] | null = null;
  for (const action of actions) {
    if (action.type === 'learn' && (action.spec.flags & NX_LEARN_F_DELETE_LEARNED) !== 0) {
      found ??= [];
      found.push(action.spec);
    }
  }
  return found;
}

/** Whether two lists say the same. */
export function sameActions(a: readonly OfAction[], b: readonly OfAction[]): boolean {
  return a === b || same(a, b);
}

function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (a instanceof Uint8Array || a instanceof Int32Array) {
    if (!(b instanceof Uint8Array || b instanceof Int32Array) || a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
    return true;
  }
  // Functions of a field are its own: the same field is the same object.
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => same((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]));
}
