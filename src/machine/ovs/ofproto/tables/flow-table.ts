/** One OpenFlow table: its classifier, and how full it may get (ovs ofproto/ofproto-provider.h, struct oftable). */
import type { Subfield } from '../../flow/fields.ts';
import { Classifier } from './classifier.ts';
import { CLS_MAX_TRIES, DEFAULT_PREFIX_FIELDS, PREFIX_FIELDS } from './prefix-field.ts';

/** OpenFlow 1.4, enum ofp_table_reason. */
export const OFPTR_VACANCY_DOWN = 3;
export const OFPTR_VACANCY_UP = 4;

/** Columns of Flow_Table. */
export interface TableSettings {
  readonly name: string;
  /** null: no limit. */
  readonly flowLimit: number | null;
  /** overflow_policy `evict`, and the fields that it is fair between. */
  readonly evicts: boolean;
  readonly groups: readonly Subfield[];
  /** null: the default. */
  readonly prefixes: readonly string[] | null;
}

export class FlowTable {
  declare readonly id: number;
  declare name: string;
  declare readonly classifier: Classifier;
  /** Infinity: no limit. */
  declare maxFlows: number;
  /** A full table drops flows that would time out, rather than refuse new ones; fields: fairness between their values. */
  declare evicts: boolean;
  declare groups: readonly Subfield[];
  /** TABLE_MOD of 1.4: eviction by OpenFlow, and vacancy events; the event that comes next, 0: none. */
  declare openflowEvicts: boolean;
  declare vacancyEvent: 0 | 3 | 4;
  declare vacancyDown: number;
  declare vacancyUp: number;
  /** Only the switch itself changes it, and dumps without a table's number leave it out (table 254). */
  declare readonly internal: boolean;
  /** Lookups that found a flow, and that found none; translation counts. */
  declare matched: number;
  declare missed: number;

  constructor(id: number, internal: boolean) {
    this.id = id;
    this.classifier = new Classifier();
    this.name = '';
    this.maxFlows = Infinity;
    this.evicts = false;
    this.groups = [];
    this.openflowEvicts = false;
    this.vacancyEvent = 0;
    this.vacancyDown = 0;
    this.vacancyUp = 0;
    this.internal = internal;
    this.matched = 0;
    this.missed = 0;
  }

  get count(): number {
    return this.classifier.count;
  }

  /** 0 (full) to 100 (empty, or without a limit). */
  get vacancy(): number {
    if (this.maxFlows === Infinity) return 100;
    return this.count >= this.maxFlows ? 0 : Math.floor(((this.maxFlows - this.count) * 100) / this.maxFlows);
  }

  /** Names of prefixes that are no fields are left out, and so are more than three. */
  configure({ name, flowLimit, evicts, groups, prefixes }: TableSettings): void {
    this.name = name;
    if (this.internal) return;
    const fields = prefixes?.map((prefix) => PREFIX_FIELDS.get(prefix)).filter((field) => field !== undefined);
    this.classifier.setPrefixFields([...new Set(fields ?? DEFAULT_PREFIX_FIELDS)].slice(0, CLS_MAX_TRIES));
    this.maxFlows = flowLimit ?? Infinity;
    this.evicts = evicts;
    this.groups = groups;
  }
}
