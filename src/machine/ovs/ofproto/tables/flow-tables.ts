/**
 * The OpenFlow tables, groups and meters of one bridge, and the changes that OpenFlow makes to them (ovs ofproto/ofproto.c). Changes
 * come in two steps, so that a bundle is done wholly or not at all: start makes a change, finish tells of it, revert takes it back.
 */
import type { FlowMod, GroupMod, MeterMod } from '../../flow/actions.ts';
import { OFPG_ALL, OFPG_ANY, OFPM13_ALL, OFPP_NONE, OFPUTIL_FF_RESET_COUNTS } from '../../flow/actions.ts';
import type { Flow } from '../../flow/flow.ts';
import { Match } from '../../flow/match.ts';
import { chooseRuleToEvict } from './eviction.ts';
import { hardTimedOut } from './expiry.ts';
import { OFPUTIL_FF_STATE, startFlowMod } from './flow-mod.ts';
import type { FlowTable, TableSettings } from './flow-table.ts';
import { OFPTR_VACANCY_DOWN, OFPTR_VACANCY_UP } from './flow-table.ts';
import type { Group, GroupTable } from './groups.ts';
import type { DatapathMeters, MeterTable } from './meters.ts';
import { learnsWithDelete, sameActions } from './references.ts';
import type { RemovedReason, Rule } from './rule.ts';
import {
  OFPRR_DELETE,
  OFPRR_EVICTION,
  OFPRR_GROUP_DELETE,
  OFPRR_HARD_TIMEOUT,
  OFPRR_IDLE_TIMEOUT,
  OFPRR_METER_DELETE,
} from './rule.ts';
import type { RuleCriteria, Step } from './rule-store.ts';
import { ANY_COOKIE_MASK, RuleStore } from './rule-store.ts';

export { N_TABLES, TBL_INTERNAL } from './rule-store.ts';
export type { RuleCriteria, Step };

/** Who asked for a change: an OpenFlow connection and its transaction; null: the switch itself. */
export interface Requester {
  readonly connection: object;
  readonly xid: number;
}

/** What flow monitors, FLOW_REMOVED and table status need to hear. All of it comes after the change stands. */
export interface TableListener {
  ruleAdded?(rule: Rule, requester: Requester | null): void;
  /** `rule` took `old`'s place; 'added': by an ADD. Monitors tell of a modification only where cookie or actions differ (sameActions()). */
  ruleReplaced?(rule: Rule, old: Rule, event: 'added' | 'modified', requester: Requester | null): void;
  /** For monitors, and where the rule has OFPUTIL_FF_SEND_FLOW_REM and is not hidden, for FLOW_REMOVED. */
  ruleRemoved?(rule: Rule, reason: RemovedReason, requester: Requester | null, now: number): void;
  /** OFPT_TABLE_STATUS of 1.4: OFPTR_VACANCY_…. */
  tableStatus?(table: FlowTable, reason: 3 | 4): void;
}

/** A change that stands but has not been told. Exactly one of the two is called; of several, `revert` newest change first. */
export interface PendingChange {
  /** Rules that came, went or were replaced, in order. */
  readonly steps: readonly Step[];
  finish(): void;
  revert(): void;
}

export class FlowTables {
  declare readonly store: RuleStore;
  declare readonly tables: readonly FlowTable[];
  declare readonly groups: GroupTable;
  declare readonly meters: MeterTable;
  declare readonly listeners: Set<TableListener>;
  /** Grows with every change that a translation could come out differently for. */
  declare generation: number;
  /** How many rules learn with delete_learned, by cookie and table. */
  declare readonly learned: Map<string, { count: number; readonly cookie: bigint; readonly table: number }>;

  /** `meters`: those of the datapath, which all its bridges share. */
  constructor(meters?: DatapathMeters) {
    this.store = new RuleStore(meters);
    this.tables = this.store.tables;
    this.groups = this.store.groups;
    this.meters = this.store.meters;
    this.listeners = new Set();
    this.generation = 0;
    this.learned = new Map();
  }

  /** The rule of a table that `flow` matches; sets in `wc` (null: nobody asks) the bits that mattered. Counts nothing. `flow` is as before afterwards. */
  lookup(table: number, flow: Flow, wc: Flow | null): Rule | null {
    return this.tables[table]!.classifier.lookup(flow, wc);
  }

  group(id: number): Group | null {
    return this.groups.get(id);
  }

  /**
   * Rules that meet `criteria`, in the order of the switch's answers: table by table, subtables of high priorities first. Throws
   * OfError (OFPBRC_BAD_TABLE_ID).
   */
  collect(criteria: RuleCriteria): Rule[] {
    return this.store.collect(criteria);
  }

  /** One FLOW_MOD at `now` (ns). Throws OfError and has changed nothing then. */
  flowMod(mod: FlowMod, now: number, requester: Requester | null = null): readonly Step[] {
    const change = this.startFlowMod(mod, now, requester);
    change.finish();
    return change.steps;
  }

  startFlowMod(mod: FlowMod, now: number, requester: Requester | null = null): PendingChange {
    const steps = startFlowMod(this.store, mod, now);
    if (steps.length > 0) this.generation++;
    const event = mod.command === 'add' ? 'added' : 'modified';
    const keeps = (mod.flags & OFPUTIL_FF_RESET_COUNTS) === 0;
    return {
      steps,
      finish: () => this.#finish(steps, OFPRR_DELETE, event, keeps, requester, now),
      revert: () => this.#revert(steps),
    };
  }

  /**
   * What a `learn` action asks for: makes the flow, or renews the time of one that is just so. `limit` 0: none. Returns the rule,
   * or null where `limit` flows of its table have its cookie already. Throws OfError. `mod` is a 'modify_strict' of one table.
   */
  learn(mod: FlowMod, limit: number, now: number): Rule | null {
    const rule = this.tables[mod.table]!.classifier.findExactly(mod.match, mod.priority);
    if (
      rule !== null &&
      rule.idleTimeout === mod.idleTimeout &&
      rule.hardTimeout === mod.hardTimeout &&
      rule.importance === mod.importance &&
      rule.flags === (mod.flags & OFPUTIL_FF_STATE) &&
      (!mod.modifyCookie || rule.cookie === mod.cookie) &&
      sameActions(rule.actions, mod.actions)
    ) {
      rule.modified = now;
      return rule;
    }
    if (limit > 0) {
      const criteria = { table: mod.table, match: new Match(), priority: null, cookie: mod.cookie };
      const any = { cookieMask: ANY_COOKIE_MASK, outPort: OFPP_NONE, outGroup: OFPG_ANY };
      if (this.collect({ ...criteria, ...any }).length >= limit) return null;
    }
    return this.flowMod(mod, now).at(-1)?.fresh ?? null;
  }

  groupMod(mod: GroupMod, now: number): void {
    this.startGroupMod(mod, now).finish();
  }

  /** One GROUP_MOD; flows that name a deleted group go with it. Throws OfError and has changed nothing then. */
  startGroupMod(mod: GroupMod, now: number): PendingChange {
    const change = this.groups.apply(mod, now);
    const steps: Step[] = [];
    if (change.fresh === null) {
      for (const group of change.old) {
        for (const rule of [...group.rules]) {
          if (rule.state !== 'inserted') continue;
          const step = { old: rule, fresh: null };
          this.store.apply(step);
          steps.push(step);
        }
      }
    }
    this.generation++;
    return {
      steps,
      finish: () => this.#finish(steps, OFPRR_GROUP_DELETE, 'modified', true, null, now),
      revert: () => {
        this.groups.revert(change);
        this.#revert(steps);
      },
    };
  }

  /** One METER_MOD; flows that name a deleted meter go with it. Throws OfError and has changed nothing then. */
  meterMod(mod: MeterMod, now: number): void {
    for (const meter of this.meters.apply(mod, now)) {
      this.#remove([...meter.rules], OFPRR_METER_DELETE, now);
    }
    this.generation++;
  }

  /** Removes flows whose time is over at `now`, ns. Counters have to be up to date: idle flows are those that have none. */
  expire(now: number): void {
    if (this.nextExpiry > now) return;
    for (const rule of this.store.expiry.take(now)) {
      if (rule.state !== 'inserted') continue;
      this.#remove([rule], hardTimedOut(rule, now) ? OFPRR_HARD_TIMEOUT : OFPRR_IDLE_TIMEOUT, now);
    }
  }

  /** No flow times out before this, ns; Infinity: none will. */
  get nextExpiry(): number {
    return this.store.expiry.next;
  }

  /** `fin_timeout`: lowers a rule's timeouts (seconds; 0: leaves it). */
  reduceTimeouts(rule: Rule, idle: number, hard: number): void {
    if (rule.state !== 'inserted') return;
    if (idle > 0 && (rule.idleTimeout === 0 || rule.idleTimeout > idle)) rule.idleTimeout = idle;
    if (hard > 0 && (rule.hardTimeout === 0 || rule.hardTimeout > hard)) rule.hardTimeout = hard;
    this.store.expiry.add(rule);
  }

  /** Columns of a Flow_Table row at `now`; a table that has become too small evicts what it can. */
  configure(table: number, settings: TableSettings, now: number): void {
    const of = this.tables[table]!;
    of.configure(settings);
    while (of.count > of.maxFlows) {
      const rule = chooseRuleToEvict(of);
      if (rule === null) break;
      this.#remove([rule], OFPRR_EVICTION, now);
    }
    this.generation++;
  }

  /** Removes one rule. */
  remove(rule: Rule, reason: RemovedReason, now: number): void {
    if (rule.state === 'inserted') this.#remove([rule], reason, now);
  }

  /** A rule of a twin's world that is in no table yet; nobody is told. */
  adopt(fresh: Rule): void {
    this.store.apply({ old: null, fresh });
    this.#countLearned(fresh, 1, []);
    this.generation++;
  }

  /** Removes all flows, hidden ones too, all groups and meters, without telling anybody (ovs ofproto_flush__()). `internal` false: not those of the switch's own table. */
  clear(internal = true): void {
    for (const table of this.tables) {
      if (table.internal && !internal) continue;
      for (const rule of table.classifier.rules()) this.store.apply({ old: rule, fresh: null });
    }
    this.store.expiry.clear();
    this.groups.apply({ ...NO_GROUP, command: 'delete', group: OFPG_ALL }, 0);
    this.meters.apply({ command: 'delete', meter: OFPM13_ALL, flags: 0, bands: [] }, 0);
    this.learned.clear();
    this.generation++;
  }

  #remove(rules: readonly Rule[], reason: RemovedReason, now: number): void {
    const steps = rules.map((old) => ({ old, fresh: null }));
    for (const step of steps) this.store.apply(step);
    if (steps.length > 0) this.generation++;
    this.#finish(steps, reason, 'modified', true, null, now);
  }

  #revert(steps: readonly Step[]): void {
    for (const step of [...steps].reverse()) {
      this.store.undo(step);
      if (step.old !== null) step.old.reason = null;
    }
    this.generation++;
  }

  #finish(
    steps: readonly Step[],
    reason: RemovedReason,
    event: 'added' | 'modified',
    keeps: boolean,
    requester: Requester | null,
    now: number,
  ): void {
    const dead: { readonly cookie: bigint; readonly table: number }[] = [];
    for (const { old, fresh } of steps) {
      if (fresh !== null) this.#countLearned(fresh, 1, dead);
      if (old !== null) this.#countLearned(old, -1, dead);
      if (old === null) {
        for (const listener of this.listeners) listener.ruleAdded?.(fresh!, requester);
        this.#tellVacancy(this.tables[fresh!.table]!);
      } else if (fresh !== null && old.reason === null) {
        old.successor = fresh;
        old.forwardsCounts = keeps;
        for (const listener of this.listeners) listener.ruleReplaced?.(fresh, old, event, requester);
      } else {
        old.reason ??= reason;
        for (const listener of this.listeners) listener.ruleRemoved?.(old, old.reason, requester, now);
        if (fresh === null) this.#tellVacancy(this.tables[old.table]!);
      }
    }
    for (const { table, cookie } of dead) {
      const any = { priority: null, cookieMask: ANY_COOKIE_MASK, outPort: OFPP_NONE, outGroup: OFPG_ANY };
      this.#remove(this.collect({ table, match: new Match(), cookie, ...any }), OFPRR_DELETE, now);
    }
  }

  /** Counts rules that learn flows which go with the last of them; those whose last rule went come into `dead`. */
  #countLearned(rule: Rule, by: 1 | -1, dead: { readonly cookie: bigint; readonly table: number }[]): void {
    for (const { cookie, table } of learnsWithDelete(rule.actions) ?? []) {
      const key = `${cookie}/${table}`;
      const entry = this.learned.get(key) ?? { count: 0, cookie, table };
      entry.count += by;
      if (entry.count > 0) this.learned.set(key, entry);
      else {
        this.learned.delete(key);
        dead.push(entry);
      }
    }
  }

  /** ovs send_table_status(): vacancy events come down and up in turn. */
  #tellVacancy(table: FlowTable): void {
    if (table.vacancyEvent === 0) return;
    const { vacancy } = table;
    let reason: 3 | 4;
    if (vacancy < table.vacancyDown) reason = OFPTR_VACANCY_DOWN;
    else if (vacancy > table.vacancyUp) reason = OFPTR_VACANCY_UP;
    else return;
    if (reason !== table.vacancyEvent) return;
    for (const listener of this.listeners) listener.tableStatus?.(table, reason);
    table.vacancyEvent = reason === OFPTR_VACANCY_DOWN ? OFPTR_VACANCY_UP : OFPTR_VACANCY_DOWN;
  }
}

const NO_GROUP: GroupMod = {
  command: 'delete',
  group: OFPG_ALL,
  type: 'all',
  commandBucket: 0xffffffff,
  buckets: [],
  selection: { method: '', param: 0n, fields: new Match() },
};
