/** The flows, groups and meters of a bridge as plain data, for a twin: what OpenFlow's clients and learn actions made of them. */
import type { GroupType, MeterMod, SelectionMethod } from '../../flow/actions.ts';
import { Match } from '../../flow/match.ts';
import { formatActions } from '../../flow/text/action-format.ts';
import { parseActions } from '../../flow/text/action-text.ts';
import type { FlowTables } from './flow-tables.ts';
import type { Group } from './groups.ts';
import type { Rule } from './rule.ts';

export interface LearnedRule {
  readonly table: number;
  readonly priority: number;
  /** Words of the match, their masks and values. */
  readonly words: readonly number[];
  readonly masks: readonly number[];
  readonly values: readonly number[];
  /** As ovs-ofctl writes them. */
  readonly actions: string;
  readonly state: Pick<
    Rule,
    | 'cookie'
    | 'idleTimeout'
    | 'hardTimeout'
    | 'importance'
    | 'flags'
    | 'created'
    | 'modified'
    | 'used'
    | 'packets'
    | 'bytes'
  >;
}
export interface LearnedGroup {
  readonly id: number;
  readonly type: GroupType;
  readonly method: SelectionMethod['method'];
  readonly param: bigint;
  /** Words of the masks of the fields that a hash is of. */
  readonly fields: readonly number[];
  readonly buckets: readonly {
    readonly id: number;
    readonly weight: number;
    readonly watchPort: number;
    readonly watchGroup: number;
    readonly actions: string;
  }[];
  readonly created: number;
}
export interface LearnedTables {
  readonly rules: readonly LearnedRule[];
  readonly groups: readonly LearnedGroup[];
  readonly meters: readonly MeterMod[];
}

export function learnedTables(tables: FlowTables): LearnedTables {
  return {
    rules: tables.tables.flatMap(({ classifier, internal }) =>
      internal ? [] : Array.from(classifier.rules(), learnedRule),
    ),
    groups: tables.groups.list().map(learnedGroup),
    meters: tables.meters
      .list()
      .map(({ id, flags, bands }) => ({ command: 'add', meter: id, flags, bands: bands.map((band) => ({ ...band })) })),
  };
}

/** Instead of all that `tables` has, but for the switch's own table, which each bridge makes itself. Meters begin with full buckets. */
export function adoptTables(tables: FlowTables, { rules, groups, meters }: LearnedTables, now: number): void {
  tables.clear(false);
  for (const mod of meters) tables.meterMod(mod, now);
  for (const { id, type, method, param, fields, buckets, created } of groups) {
    const match = new Match();
    match.mask.w.set(fields);
    const made = buckets.map((bucket) => ({ ...bucket, actions: parseActions(bucket.actions) }));
    const selection = { method, param, fields: match };
    tables.groupMod({ command: 'add', group: id, type, commandBucket: 0xffffffff, buckets: made, selection }, now);
    tables.groups.get(id)!.created = created;
  }
  for (const { table, priority, words, masks, values, actions, state } of rules) {
    const match = new Match();
    words.forEach((word, i) => {
      match.flow.w[word] = values[i]!;
      match.mask.w[word] = masks[i]!;
    });
    const fresh = tables.store.create(table, priority, match, parseActions(actions));
    Object.assign(fresh, state);
    tables.adopt(fresh);
  }
}

function learnedRule(rule: Rule): LearnedRule {
  const { table, priority, subtable, values, actions } = rule;
  const { cookie, idleTimeout, hardTimeout, importance, flags, created, modified, used, packets, bytes } = rule;
  return {
    table,
    priority,
    words: [...subtable.words],
    masks: [...subtable.masks],
    values: [...values],
    actions: formatActions(actions),
    state: { cookie, idleTimeout, hardTimeout, importance, flags, created, modified, used, packets, bytes },
  };
}

function learnedGroup({ id, type, selection, buckets, created }: Group): LearnedGroup {
  return {
    id,
    type,
    method: selection.method,
    param: selection.param,
    fields: [...selection.fields.mask.w],
    buckets: buckets.map((bucket) => ({
      id: bucket.id,
      weight: bucket.weight,
      watchPort: bucket.watchPort,
      watchGroup: bucket.watchGroup,
      actions: formatActions(bucket.actions),
    })),
    created,
  };
}
