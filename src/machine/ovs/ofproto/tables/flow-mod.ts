/** What a FLOW_MOD does to the rules (ovs ofproto/ofproto.c, ofproto_flow_mod_start() and what it calls). */
import type { FlowMod, OfAction } from '../../flow/actions.ts';
import {
  OFP_NO_BUFFER,
  OFPG_ANY,
  OFPP_NONE,
  OFPTT_ALL,
  OFPUTIL_FF_CHECK_OVERLAP,
  OFPUTIL_FF_HIDDEN_FIELDS,
  OFPUTIL_FF_NO_BYT_COUNTS,
  OFPUTIL_FF_NO_PKT_COUNTS,
  OFPUTIL_FF_NO_READONLY,
  OFPUTIL_FF_RESET_COUNTS,
  OFPUTIL_FF_SEND_FLOW_REM,
} from '../../flow/actions.ts';
import { W_DP_HASH, W_RECIRC_ID } from '../../flow/flow.ts';
import { ofError } from '../../openflow/wire/errors.ts';
import { chooseRuleToEvict } from './eviction.ts';
import { referencesOf } from './references.ts';
import type { Rule } from './rule.ts';
import { OFPRR_EVICTION } from './rule.ts';
import type { RuleStore, Step } from './rule-store.ts';
import { ANY_COOKIE_MASK, N_TABLES } from './rule-store.ts';

/** Flags that stay with a flow (ovs OFPUTIL_FF_STATE). */
export const OFPUTIL_FF_STATE =
  OFPUTIL_FF_SEND_FLOW_REM |
  OFPUTIL_FF_NO_PKT_COUNTS |
  OFPUTIL_FF_NO_BYT_COUNTS |
  OFPUTIL_FF_CHECK_OVERLAP |
  OFPUTIL_FF_RESET_COUNTS;

/** Does what `mod` asks for; returns what it did, in order. Throws OfError and has changed nothing then. */
export function startFlowMod(store: RuleStore, mod: FlowMod, now: number): Step[] {
  const { command } = mod;
  const changes = command === 'add' || command === 'modify' || command === 'modify_strict';
  if (changes) {
    checkAdd(store, mod);
    if (mod.bufferId !== OFP_NO_BUFFER) throw ofError('OFPBRC_BUFFER_UNKNOWN');
  }
  if (command === 'add') return [add(store, mod, now)];
  const old = store.collect(
    {
      table: mod.table,
      match: mod.match,
      priority: command === 'modify_strict' || command === 'delete_strict' ? mod.priority : null,
      cookie: mod.cookie,
      cookieMask: mod.cookieMask,
      outPort: changes ? OFPP_NONE : mod.outPort,
      outGroup: changes ? OFPG_ANY : mod.outGroup,
    },
    (mod.flags & OFPUTIL_FF_NO_READONLY) !== 0 ? 'internal' : 'write',
  );
  const steps: Step[] = [];
  if (!changes) {
    for (const rule of old) steps.push({ old: rule, fresh: null });
  } else if (old.length > 0) {
    checkActions(store, mod.actions);
    for (const rule of old) {
      const fresh = store.createLike(rule.table, rule.priority, rule.subtable, rule.values, rule.hash, mod.actions);
      setState(fresh, mod, now);
      inherit(fresh, rule, mod, mod.modifyCookie);
      steps.push({ old: rule, fresh });
    }
  } else if (mod.cookie !== ANY_COOKIE_MASK && mod.cookieMask === 0n) {
    // Nothing to modify: it adds, unless it asked for a cookie.
    return [add(store, mod, now)];
  }
  for (const step of steps) store.apply(step);
  return steps;
}

/**
 * What an addition is refused for before tables are looked at (ovs ofproto-provider add_flow_init()). Throws OFPBRC_BAD_TABLE_ID,
 * OFPBRC_EPERM.
 */
export function checkAdd(store: RuleStore, mod: FlowMod): void {
  if (mod.table !== OFPTT_ALL && mod.table >= N_TABLES) throw ofError('OFPBRC_BAD_TABLE_ID');
  const table = store.tables[mod.table === OFPTT_ALL ? 0 : mod.table]!;
  if (table.internal && (mod.flags & OFPUTIL_FF_NO_READONLY) === 0) throw ofError('OFPBRC_EPERM');
  const { flow, mask } = mod.match;
  const recirc = mask.w[W_RECIRC_ID]!;
  const usual = (flow.w[W_RECIRC_ID]! & recirc) === 0 && (recirc === 0 || recirc === -1) && mask.w[W_DP_HASH] === 0;
  if (!usual && (mod.flags & OFPUTIL_FF_HIDDEN_FIELDS) === 0) throw ofError('OFPBRC_EPERM');
}

/** Groups and meters have to be there (ovs ofproto_check_ofpacts()). */
export function checkActions(store: RuleStore, actions: readonly OfAction[]): void {
  const references = referencesOf(actions);
  if (references === null) return;
  if (references.meter !== 0 && store.meters.get(references.meter) === null) throw ofError('OFPMMFC_INVALID_METER');
  for (const group of references.groups) {
    if (store.groups.get(group) === null) throw ofError('OFPBAC_BAD_OUT_GROUP');
  }
}

function add(store: RuleStore, mod: FlowMod, now: number): Step {
  checkActions(store, mod.actions);
  const table = store.tables[mod.table === OFPTT_ALL ? 0 : mod.table]!;
  const { classifier } = table;
  const fresh = store.create(table.id, mod.priority, mod.match, mod.actions);
  setState(fresh, mod, now);
  const found = classifier.findValues(fresh.subtable, fresh.values, fresh.hash, mod.priority);
  if (found !== null) {
    const same = store.createLike(table.id, mod.priority, found.subtable, found.values, found.hash, mod.actions);
    setState(same, mod, now);
    inherit(same, found, mod, true);
    const step = { old: found, fresh: same };
    store.apply(step);
    return step;
  }
  if ((mod.flags & OFPUTIL_FF_CHECK_OVERLAP) !== 0 && classifier.overlaps(mod.match, mod.priority))
    throw ofError('OFPFMFC_OVERLAP');
  let evicted: Rule | null = null;
  if (classifier.count >= table.maxFlows) {
    evicted = chooseRuleToEvict(table);
    if (evicted === null) throw ofError('OFPFMFC_TABLE_FULL');
    evicted.reason = OFPRR_EVICTION;
  }
  const step = { old: evicted, fresh };
  store.apply(step);
  return step;
}

function setState(rule: Rule, mod: FlowMod, now: number): void {
  rule.cookie = mod.cookie;
  rule.idleTimeout = mod.idleTimeout;
  rule.hardTimeout = mod.hardTimeout;
  rule.importance = mod.importance;
  rule.flags = mod.flags & OFPUTIL_FF_STATE;
  rule.created = now;
  rule.modified = now;
  rule.used = now;
}

/** What a rule takes over from the one it replaces (ovs replace_rule_start(), and rule_insert() of ofproto-dpif). */
function inherit(fresh: Rule, old: Rule, mod: FlowMod, modifyCookie: boolean): void {
  if (mod.command !== 'add') {
    fresh.idleTimeout = old.idleTimeout;
    fresh.hardTimeout = old.hardTimeout;
    fresh.importance = old.importance;
    fresh.flags = old.flags;
    fresh.created = old.created;
  }
  if (!modifyCookie || mod.cookie === ANY_COOKIE_MASK) fresh.cookie = old.cookie;
  fresh.used = old.used;
  if ((mod.flags & OFPUTIL_FF_RESET_COUNTS) === 0) {
    fresh.packets = old.packets;
    fresh.bytes = old.bytes;
  }
}
