/** The rules of all tables of a bridge, and what leads to them: cookies, groups and meters they name, timeouts (ovs ofproto/ofproto.c, ofproto_rule_insert__()). */
import type { OfAction } from '../../flow/actions.ts';
import { OFPTT_ALL } from '../../flow/actions.ts';
import { FLOW_WORDS } from '../../flow/flow.ts';
import type { Match } from '../../flow/match.ts';
import { ofError } from '../../openflow/wire/errors.ts';
import { Expiry } from './expiry.ts';
import { FlowTable } from './flow-table.ts';
import { GroupTable } from './groups.ts';
import type { DatapathMeters } from './meters.ts';
import { MeterTable } from './meters.ts';
import { conjunctionsOf, outputsTo, outputsToGroup, referencesOf } from './references.ts';
import { Rule } from './rule.ts';
import type { Subtable } from './subtable.ts';

/** Tables that OpenFlow sees are 0 to 253; 254 is the switch's own. */
export const N_TABLES = 255;
export const TBL_INTERNAL = N_TABLES - 1;
/** Exactly this cookie. */
export const ANY_COOKIE_MASK = (1n << 64n) - 1n;

/** Rules that a request means. */
export interface RuleCriteria {
  /** OFPTT_ALL: all that OpenFlow sees. */
  readonly table: number;
  readonly match: Match;
  /** null: loose; a number: strict, exactly this match and priority. */
  readonly priority: number | null;
  readonly cookie: bigint;
  readonly cookieMask: bigint;
  /** OFPP_NONE: any; OFPG_ANY: any. */
  readonly outPort: number;
  readonly outGroup: number;
}

/** A change of one rule: gone (`fresh` null), new (`old` null), replaced or evicted for another (both). */
export interface Step {
  readonly old: Rule | null;
  readonly fresh: Rule | null;
}

export class RuleStore {
  declare readonly tables: readonly FlowTable[];
  declare readonly groups: GroupTable;
  declare readonly meters: MeterTable;
  declare readonly expiry: Expiry;
  declare readonly cookies: Map<bigint, Set<Rule>>;
  declare sequence: number;

  constructor(meters?: DatapathMeters) {
    this.tables = Array.from({ length: N_TABLES }, (_, id) => new FlowTable(id, id === TBL_INTERNAL));
    this.groups = new GroupTable();
    this.meters = new MeterTable(meters);
    this.expiry = new Expiry();
    this.cookies = new Map();
    this.sequence = 0;
  }

  /** A rule that is in no table yet. */
  create(table: number, priority: number, match: Match, actions: readonly OfAction[]): Rule {
    const subtable = this.tables[table]!.classifier.subtable(match.mask.w, true);
    const values = subtable.valuesOf(match.flow);
    return this.createLike(table, priority, subtable, values, subtable.fullHash(values), actions);
  }

  createLike(
    table: number,
    priority: number,
    subtable: Subtable,
    values: Int32Array,
    hash: number,
    actions: readonly OfAction[],
  ): Rule {
    return new Rule(table, priority, subtable, values, hash, actions, conjunctionsOf(actions));
  }

  /** Puts a change into effect. */
  apply({ old, fresh }: Step): void {
    const replaces = old !== null && fresh !== null && old.values === fresh.values && old.priority === fresh.priority;
    if (old !== null) this.#unlink(old);
    if (fresh !== null) this.#link(fresh);
    if (replaces) this.tables[fresh!.table]!.classifier.replace(old!, fresh!);
    else {
      if (old !== null) this.tables[old.table]!.classifier.remove(old);
      if (fresh !== null) this.tables[fresh.table]!.classifier.insert(fresh);
    }
  }

  undo({ old, fresh }: Step): void {
    this.apply({ old: fresh, fresh: old });
    if (fresh !== null) fresh.state = 'new';
  }

  #link(rule: Rule): void {
    rule.state = 'inserted';
    rule.sequence = this.sequence++;
    this.expiry.add(rule);
    const others = this.cookies.get(rule.cookie);
    if (others === undefined) this.cookies.set(rule.cookie, new Set([rule]));
    else others.add(rule);
    const references = referencesOf(rule.actions);
    if (references === null) return;
    for (const id of references.groups) this.groups.get(id)?.rules.add(rule);
    if (references.meter !== 0) this.meters.get(references.meter)?.rules.add(rule);
  }

  #unlink(rule: Rule): void {
    rule.state = 'removed';
    const others = this.cookies.get(rule.cookie)!;
    if (others.size === 1) this.cookies.delete(rule.cookie);
    else others.delete(rule);
    const references = referencesOf(rule.actions);
    if (references === null) return;
    for (const id of references.groups) this.groups.get(id)?.rules.delete(rule);
    if (references.meter !== 0) this.meters.get(references.meter)?.rules.delete(rule);
  }

  /**
   * Rules that meet the criteria: table by table, subtables of high priorities first. `write`: to change them, what is not the
   * switch's own. Throws OfError: OFPBRC_BAD_TABLE_ID; OFPBRC_EPERM where all that is found must not be changed.
   */
  collect(criteria: RuleCriteria, write: 'read' | 'write' | 'internal' = 'read'): Rule[] {
    const { table, match, priority, cookie, cookieMask, outPort, outGroup } = criteria;
    if (table !== OFPTT_ALL && table >= N_TABLES) throw ofError('OFPBRC_BAD_TABLE_ID');
    let found: Rule[] = [];
    if (cookieMask === ANY_COOKIE_MASK) {
      for (const rule of this.cookies.get(cookie) ?? []) {
        if (table === OFPTT_ALL ? this.tables[rule.table]!.internal : rule.table !== table) continue;
        if (priority === null ? isLoose(rule, match) : rule.priority === priority && isExactly(rule, match))
          found.push(rule);
      }
    } else {
      const from = table === OFPTT_ALL ? 0 : table;
      const to = table === OFPTT_ALL ? TBL_INTERNAL - 1 : table;
      for (let id = from; id <= to; id++) {
        const { classifier } = this.tables[id]!;
        if (classifier.count === 0) continue;
        if (priority === null) classifier.loose(match, found);
        else {
          const rule = classifier.findExactly(match, priority);
          if (rule !== null) found.push(rule);
        }
      }
    }
    // A priority that OpenFlow cannot say means the switch's own.
    const includeHidden = priority !== null && priority > 0xffff;
    const bits = cookie & cookieMask;
    found = found.filter(
      (rule) =>
        (includeHidden || !rule.hidden) &&
        (cookieMask === 0n || (rule.cookie & cookieMask) === bits) &&
        outputsTo(rule.actions, outPort) &&
        outputsToGroup(rule.actions, outGroup),
    );
    if (write !== 'write') return found;
    const writable = found.filter((rule) => !this.tables[rule.table]!.internal);
    if (writable.length === 0 && found.length > 0) throw ofError('OFPBRC_EPERM');
    return writable;
  }
}

/** Whether a rule matches no more than `match` does (ovs cls_rule_is_loose_match()). */
export function isLoose(rule: Rule, match: Match): boolean {
  const { words, masks } = rule.subtable;
  for (let word = 0; word < FLOW_WORDS; word++) {
    const mask = match.mask.w[word]!;
    if (mask === 0) continue;
    const at = words.indexOf(word);
    if (at < 0 || (mask & ~masks[at]!) !== 0 || ((rule.values[at]! ^ match.flow.w[word]!) & mask) !== 0) return false;
  }
  return true;
}

function isExactly(rule: Rule, match: Match): boolean {
  if (!rule.subtable.equalMask(match.mask.w)) return false;
  return rule.subtable.valuesOf(match.flow).every((value, i) => value === rule.values[i]);
}
