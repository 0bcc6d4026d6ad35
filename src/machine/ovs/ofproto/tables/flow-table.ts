/** One OpenFlow table: its classifier, and how full it may get (ovs ofproto/ofproto-provider.h, struct oftable). */
import type { Subfield } from '../../flow/fields.ts';
import { Classifier } from './classifier.ts';
import { DEFAULT_PREFIX_FIELDS, PREFIX_FIELDS } from './prefix-field.ts';

/** OpenFlow 1.4, enum ofp_table_reason. */
export const OFPTR_VACANCY_DOWN = 3;
export const OFPTR_VACANCY_UP = 4;

export class FlowTable {
  declare readonly id: number;
  declare readonly classifier: Classifier;
  /** Columns of Flow_Table. `maxFlows` Infinity: no limit. */
  declare name: string;
  declare maxFlows: number;
  /** A full table drops flows that would time out, rather than refuse new ones; fields: fairness between their values. */
  declare evicts: boolean;
  declare groups: readonly Subfield[];
  /** TABLE_MOD of 1.0 to 1.3: what a frame meets that matches nothing. */
  declare miss: 'default' | 'controller' | 'continue' | 'drop';
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
    this.miss = 'default';
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

  /** Column `prefixes`; null: the default. Names that are no fields are left out, and so are more than three. */
  setPrefixes(names: readonly string[] | null): void {
    const fields =
      names === null
        ? DEFAULT_PREFIX_FIELDS
        : names.map((name) => PREFIX_FIELDS.get(name)).filter((f) => f !== undefined);
    this.classifier.setPrefixFields([...new Set(fields)].slice(0, 3));
  }
}
