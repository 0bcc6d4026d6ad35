/**
 * The OpenFlow tables, groups and meters of one bridge, and the changes that OpenFlow makes to them (ovs ofproto/ofproto.c). Changes
 * come in two steps, so that a bundle is done wholly or not at all: start makes a change, finish tells of it, revert takes it back.
 */
import type { FlowMod, GroupMod, MeterMod } from '../../flow/actions.ts';
import type { Flow } from '../../flow/flow.ts';
import type { Match } from '../../flow/match.ts';
import { FlowTable } from './flow-table.ts';
import type { Group } from './groups.ts';
import { GroupTable } from './groups.ts';
import type { DatapathMeters } from './meters.ts';
import { MeterTable } from './meters.ts';
import type { RemovedReason, Rule } from './rule.ts';

/** Tables that OpenFlow sees are 0 to 253; 254 is the switch's own. */
export const N_TABLES = 255;
export const TBL_INTERNAL = N_TABLES - 1;

/** Who asked for a change: an OpenFlow connection and its transaction; null: the switch itself. */
export interface Requester {
  readonly connection: object;
  readonly xid: number;
}

/** What flow monitors, FLOW_REMOVED and table status need to hear. All of it comes after the change stands. */
export interface TableListener {
  ruleAdded?(rule: Rule, requester: Requester | null): void;
  /**
   * `rule` took `old`'s place. `event`: 'added' where an ADD replaced it; `actionsChanged`, and whether anything did, as monitors
   * tell of changes only.
   */
  ruleReplaced?(rule: Rule, old: Rule, event: 'added' | 'modified', requester: Requester | null): void;
  ruleRemoved?(rule: Rule, reason: RemovedReason, requester: Requester | null, now: number): void;
  /** OFPT_TABLE_STATUS of 1.4: OFPTR_VACANCY_…. */
  tableStatus?(table: FlowTable, reason: 3 | 4): void;
}

/** What a FLOW_MOD did. */
export interface FlowModResult {
  readonly added: readonly Rule[];
  readonly replaced: readonly { readonly rule: Rule; readonly old: Rule }[];
  readonly removed: readonly Rule[];
}

/** A change that stands but has not been told. Exactly one of the two is called, `revert` newest change first. */
export interface PendingChange {
  readonly result: FlowModResult;
  finish(): void;
  revert(): void;
}

/** Rules that a request means. */
export interface RuleCriteria {
  /** 0xff: all that OpenFlow sees. */
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

export class FlowTables {
  declare readonly tables: readonly FlowTable[];
  declare readonly groups: GroupTable;
  declare readonly meters: MeterTable;
  declare readonly listeners: TableListener[];
  /** Grows with every change that a translation could come out differently for. */
  declare generation: number;

  constructor(meters?: DatapathMeters) {
    this.tables = Array.from({ length: N_TABLES }, (_, id) => new FlowTable(id, id === TBL_INTERNAL));
    this.groups = new GroupTable();
    this.meters = new MeterTable(meters);
    this.listeners = [];
    this.generation = 0;
  }

  /** The rule of a table that `flow` matches; sets in `wc` the bits that mattered. Counts nothing. `flow` is as before afterwards. */
  lookup(table: number, flow: Flow, wc: Flow | null): Rule | null {
    return this.tables[table]!.classifier.lookup(flow, wc);
  }

  /** Rules that meet `criteria`, in the order of ovs-ofctl dump-flows: table by table, subtables of high priorities first. Throws OfError (OFPBRC_BAD_TABLE_ID). */
  collect(_criteria: RuleCriteria): Rule[] {
    return [];
  }

  /** One FLOW_MOD at `now` (ns). Throws OfError and has changed nothing then. */
  flowMod(mod: FlowMod, now: number, requester: Requester | null = null): FlowModResult {
    const change = this.startFlowMod(mod, now, requester);
    change.finish();
    return change.result;
  }

  startFlowMod(_mod: FlowMod, _now: number, _requester: Requester | null): PendingChange {
    throw new Error('not yet');
  }

  /**
   * What a `learn` action asks for: makes the flow, or renews the time of one that is just so. `limit` 0: none. Returns the rule,
   * or null where `limit` flows of this table have the cookie already. Throws OfError.
   */
  learn(_mod: FlowMod, _limit: number, _now: number): Rule | null {
    return null;
  }

  groupMod(mod: GroupMod, now: number, requester: Requester | null = null): void {
    this.startGroupMod(mod, now, requester).finish();
  }
  startGroupMod(_mod: GroupMod, _now: number, _requester: Requester | null): PendingChange {
    throw new Error('not yet');
  }
  meterMod(_mod: MeterMod, _now: number): void {}

  /** Removes flows whose time is over at `now`. */
  expire(_now: number): void {}
  /** Earliest time at which a flow may time out, ns; Infinity: none will. */
  get nextExpiry(): number {
    return Infinity;
  }
  /** `fin_timeout`: lowers a rule's timeouts (seconds; 0: leaves one). */
  reduceTimeouts(_rule: Rule, _idle: number, _hard: number): void {}
  /** Removes one rule. */
  remove(_rule: Rule, _reason: RemovedReason, _now: number): void {}
  /** Removes all flows, hidden ones too, all groups and meters, without telling anybody (ovs ofproto_flush__()). */
  clear(): void {}

  group(id: number): Group | null {
    return this.groups.get(id);
  }
}
