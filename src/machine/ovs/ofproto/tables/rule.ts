/** One OpenFlow flow as it stands in a table (ovs ofproto/ofproto-provider.h, struct rule). */
import type { OfAction } from '../../flow/actions.ts';
import { Match } from '../../flow/match.ts';
import type { Subtable } from './subtable.ts';

/** Reasons of OFPT_FLOW_REMOVED (OpenFlow 1.4, enum ofp_flow_removed_reason). */
export const OFPRR_IDLE_TIMEOUT = 0;
export const OFPRR_HARD_TIMEOUT = 1;
export const OFPRR_DELETE = 2;
export const OFPRR_GROUP_DELETE = 3;
export const OFPRR_METER_DELETE = 4;
export const OFPRR_EVICTION = 5;
export type RemovedReason = 0 | 1 | 2 | 3 | 4 | 5;

/** One `conjunction(id, clause/clauses)` of a flow; `clause` counts from 0. */
export interface Conjunction {
  readonly id: number;
  readonly clause: number;
  readonly clauses: number;
}

/**
 * What a rule matches and does never changes: a modification makes another rule, which takes the counters over. So whatever was
 * translated from a rule can keep it, and credit it later.
 */
export class Rule {
  declare readonly table: number;
  /** Above 0xffff: the switch's own, which OpenFlow neither sees nor changes. */
  declare readonly priority: number;
  /** Mask, and the masked words of the match in the order of the subtable's `words`. */
  declare readonly subtable: Subtable;
  declare readonly values: Int32Array;
  declare readonly hash: number;
  declare readonly actions: readonly OfAction[];
  /** Clauses of conjunctive matches; null where it is a rule of its own. */
  declare readonly conjunctions: readonly Conjunction[] | null;
  declare cookie: bigint;
  /** Seconds; 0: never. `fin_timeout` lowers them. */
  declare idleTimeout: number;
  declare hardTimeout: number;
  declare importance: number;
  /** OFPUTIL_FF_… that belong to a flow's state. */
  declare flags: number;
  /** Times, ns. `created` outlives modifications; `modified` restarts the hard timeout. */
  declare created: number;
  declare modified: number;
  /** Of the last frame; `created` until one comes. */
  declare used: number;
  declare packets: number;
  declare bytes: number;
  declare state: 'new' | 'inserted' | 'removed';
  declare reason: RemovedReason | null;
  /** The rule that took this one's counters over. */
  declare successor: Rule | null;
  /** False: it took only the time of the last frame over (`reset_counts`). */
  declare forwardsCounts: boolean;
  /** Place among the rules of its subtable, for iterations; next lower priority with the same match; next of the same hash. */
  declare position: number;
  declare lower: Rule | null;
  declare sameHash: Rule | null;
  /** Order in which rules came into the tables. */
  declare sequence: number;

  constructor(
    table: number,
    priority: number,
    subtable: Subtable,
    values: Int32Array,
    hash: number,
    actions: readonly OfAction[],
    conjunctions: readonly Conjunction[] | null,
  ) {
    this.table = table;
    this.priority = priority;
    this.subtable = subtable;
    this.values = values;
    this.hash = hash;
    this.actions = actions;
    this.conjunctions = conjunctions;
    this.cookie = 0n;
    this.idleTimeout = 0;
    this.hardTimeout = 0;
    this.importance = 0;
    this.flags = 0;
    this.created = 0;
    this.modified = 0;
    this.used = 0;
    this.packets = 0;
    this.bytes = 0;
    this.state = 'new';
    this.reason = null;
    this.successor = null;
    this.forwardsCounts = true;
    this.position = -1;
    this.lower = null;
    this.sameHash = null;
    this.sequence = 0;
  }

  /** What it matches, as OpenFlow says it: a copy. */
  get match(): Match {
    const match = new Match();
    const { words, masks } = this.subtable;
    for (let i = 0; i < words.length; i++) {
      match.flow.w[words[i]!] = this.values[i]!;
      match.mask.w[words[i]!] = masks[i]!;
    }
    return match;
  }

  get hidden(): boolean {
    return this.priority > 0xffff;
  }

  /**
   * Frames that the datapath has counted for it; `used`: when the last of them was there, ns. The flags no_packet_counts and
   * no_byte_counts change nothing, as in ofproto-dpif.
   */
  credit(packets: number, bytes: number, used: number): void {
    // A rule that was replaced while its translation lived passes on what comes late.
    let rule: Rule = this;
    while (rule.successor !== null) {
      if (!rule.forwardsCounts) {
        packets = 0;
        bytes = 0;
      }
      rule = rule.successor;
    }
    rule.packets += packets;
    rule.bytes += bytes;
    if (used > rule.used) rule.used = used;
  }
}
