/** Conjunctive matches: which `conj_id` the clauses that a flow has matched add up to (ovs lib/classifier.c, the soft match loop). */
import type { Rule } from './rule.ts';

const ALL = (1n << 64n) - 1n;

/**
 * `soft`: matched rules that are clauses (the array is used up); `hard`: the best rule that is none; `lookup` finds the rule of a
 * conj_id. Returns what the flow matches in the end. A clause that leads nowhere makes room for the next rule with its match and
 * less priority.
 */
export function resolveConjunctions(
  soft: (Rule | null)[],
  hard: Rule | null,
  lookup: (id: number) => Rule | null,
): Rule | null {
  let hardPriority = hard === null ? -1 : hard.priority;
  for (;;) {
    // As the original deletes: the last one comes into the gap. The order decides which of two conjunctions is found first.
    for (let i = 0; i < soft.length; ) {
      const rule = soft[i]!;
      if (rule !== null && rule.priority > hardPriority) i++;
      else {
        const last = soft.pop()!;
        if (i < soft.length) soft[i] = last;
      }
    }
    if (soft.length === 0) return hard;
    let priority = -1;
    let count = 0;
    for (const rule of soft as Rule[]) {
      if (rule.priority > priority) {
        priority = rule.priority;
        count = 1;
      } else if (rule.priority === priority) count++;
    }
    const seen = new Map<number, bigint>();
    for (const rule of soft as Rule[]) {
      if (rule.priority !== priority) continue;
      const id = complete(rule, count, seen);
      const found = id === null ? null : lookup(id);
      if (found !== null) return found;
    }
    for (let i = 0; i < soft.length; i++) {
      const rule = soft[i]!;
      if (rule.priority !== priority) continue;
      const { lower } = rule;
      soft[i] = lower === null || lower.conjunctions === null ? null : lower;
      if (lower !== null && lower.conjunctions === null && lower.priority > hardPriority) {
        hard = lower;
        hardPriority = lower.priority;
      }
    }
  }
}

/** Adds a rule's clauses to those seen of each conjunction; the id of one that has all of them now, or null. */
function complete(rule: Rule, count: number, seen: Map<number, bigint>): number | null {
  for (const { id, clause, clauses } of rule.conjunctions!) {
    if (clauses > count) continue;
    const bits = (seen.get(id) ?? (ALL << BigInt(clauses & 63)) & ALL) | (1n << BigInt(clause));
    seen.set(id, bits);
    if (bits === ALL) return id;
  }
  return null;
}
