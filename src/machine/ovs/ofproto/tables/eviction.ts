/** Which flow a full table gives up (ovs ofproto/ofproto.c, choose_rule_to_evict()). */
import { Flow } from '../../flow/flow.ts';
import { bitsOf } from '../../flow/subfields.ts';
import { deadlineOf } from './expiry.ts';
import type { FlowTable } from './flow-table.ts';
import type { Rule } from './rule.ts';

const NS_PER_S = 1_000_000_000;

/**
 * The rule to drop: of the largest of the groups of equal values of the table's fields, the one of least importance, of these the
 * one that times out first. null: the table does not evict, or no flow of it has a timeout.
 * DEVIATION: among groups of one size the original takes a random one, we the one that came first. The original orders by seconds
 * of 1024 ms as they were at its last look, we by the time as it is.
 */
export function chooseRuleToEvict(table: FlowTable): Rule | null {
  if (!table.evicts && !table.openflowEvicts) return null;
  const groups = new Map<string, Rule[]>();
  const flow = new Flow();
  let largest: Rule[] = [];
  for (const rule of table.classifier.rules()) {
    if (rule.idleTimeout === 0 && rule.hardTimeout === 0) continue;
    let key = '';
    if (table.groups.length > 0) {
      flow.clear();
      const { words } = rule.subtable;
      for (let i = 0; i < words.length; i++) flow.w[words[i]!] = rule.values[i]!;
      for (const { field, ofs, bits } of table.groups) key += bitsOf(field.get(flow), ofs, bits).toString(16) + ' ';
    }
    let group = groups.get(key);
    if (group === undefined) {
      group = [];
      groups.set(key, group);
    }
    group.push(rule);
  }
  for (const group of groups.values()) if (group.length > largest.length) largest = group;
  let best: Rule | null = null;
  for (const rule of largest) if (best === null || priority(rule) < priority(best)) best = rule;
  return best;
}

/** Less: rather this one. */
function priority(rule: Rule): number {
  return rule.importance * 2 ** 32 + Math.floor(deadlineOf(rule) / NS_PER_S);
}
