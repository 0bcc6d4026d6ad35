/** Which flows time out next: a heap of deadlines that are looked at again when they come, as traffic only moves them later. */
import type { Rule } from './rule.ts';

const NS_PER_MS = 1_000_000;
const MS_PER_S = 1000;

/** First moment at which a rule is over, ns (ovs ofproto-dpif.c rule_expire(): milliseconds, strictly later); Infinity: never. */
export function deadlineOf(rule: Rule): number {
  let ms = Infinity;
  if (rule.hardTimeout > 0) ms = Math.floor(rule.modified / NS_PER_MS) + rule.hardTimeout * MS_PER_S;
  if (rule.idleTimeout > 0) {
    const idle = Math.floor(rule.used / NS_PER_MS) + rule.idleTimeout * MS_PER_S;
    if (idle < ms) ms = idle;
  }
  return (ms + 1) * NS_PER_MS;
}

/** Whether the hard timeout is over at `now`; the idle one may be as well. */
export function hardTimedOut(rule: Rule, now: number): boolean {
  return (
    rule.hardTimeout > 0 &&
    Math.floor(now / NS_PER_MS) > Math.floor(rule.modified / NS_PER_MS) + rule.hardTimeout * MS_PER_S
  );
}

export class Expiry {
  /** A binary heap: deadlines as they were when they were put in, and their rules. */
  declare readonly deadlines: number[];
  declare readonly rules: Rule[];

  constructor() {
    this.deadlines = [];
    this.rules = [];
  }

  /** Rules without timeouts are left out. Again for the same rule where its timeouts got shorter. */
  add(rule: Rule): void {
    if (rule.idleTimeout > 0 || rule.hardTimeout > 0) this.#push(deadlineOf(rule), rule);
  }

  /** Not later than the first timeout. */
  get next(): number {
    const { rules } = this;
    while (rules.length > 0 && rules[0]!.state !== 'inserted') this.#pop();
    return rules.length === 0 ? Infinity : this.deadlines[0]!;
  }

  /** Takes out the rules whose time is over at `now`, in the order in which they came into the tables. */
  take(now: number): Rule[] {
    const over = new Set<Rule>();
    while (this.rules.length > 0 && this.deadlines[0]! <= now) {
      const rule = this.#pop();
      if (rule.state !== 'inserted') continue;
      const deadline = deadlineOf(rule);
      if (deadline <= now) over.add(rule);
      else this.#push(deadline, rule);
    }
    return [...over].sort((a, b) => a.sequence - b.sequence);
  }

  clear(): void {
    this.deadlines.length = 0;
    this.rules.length = 0;
  }

  #push(deadline: number, rule: Rule): void {
    const { deadlines, rules } = this;
    let at = rules.length;
    deadlines.push(deadline);
    rules.push(rule);
    while (at > 0) {
      const up = (at - 1) >> 1;
      if (deadlines[up]! <= deadline) break;
      deadlines[at] = deadlines[up]!;
      rules[at] = rules[up]!;
      at = up;
    }
    deadlines[at] = deadline;
    rules[at] = rule;
  }

  #pop(): Rule {
    const { deadlines, rules } = this;
    const top = rules[0]!;
    const deadline = deadlines.pop()!;
    const rule = rules.pop()!;
    const length = rules.length;
    if (length === 0) return top;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= length) break;
      if (down + 1 < length && deadlines[down + 1]! < deadlines[down]!) down++;
      if (deadlines[down]! >= deadline) break;
      deadlines[at] = deadlines[down]!;
      rules[at] = rules[down]!;
      at = down;
    }
    deadlines[at] = deadline;
    rules[at] = rule;
    return top;
  }
}
