/**
 * Tuple space search: one subtable for each mask, tried in the order of their highest priorities; what was looked at is gathered in
 * the wildcards of the translation (ovs lib/classifier.c, classifier_lookup()).
 */
import type { Flow } from '../../flow/flow.ts';
import { FLOW_WORDS, W_CONJ_ID, W_TP } from '../../flow/flow.ts';
import type { Match } from '../../flow/match.ts';
import { resolveConjunctions } from './conjunction.ts';
import type { PrefixField } from './prefix-field.ts';
import { DEFAULT_PREFIX_FIELDS, swap32 } from './prefix-field.ts';
import type { Rule } from './rule.ts';
import { Subtable } from './subtable.ts';
import { FieldTrie } from './trie.ts';

export class Classifier {
  /** By priority, highest first; equal ones in the order in which they came. */
  declare readonly subtables: Subtable[];
  /** By a hash of the mask. */
  declare readonly byMask: Map<number, Subtable[]>;
  declare tries: readonly FieldTrie[];
  declare count: number;

  constructor(fields: readonly PrefixField[] = DEFAULT_PREFIX_FIELDS) {
    this.subtables = [];
    this.byMask = new Map();
    this.tries = fields.map((field) => new FieldTrie(field));
    this.count = 0;
  }

  /**
   * The rule of the highest priority that `flow` matches; null: none. Sets in `wc` (null: nobody asks) the bits that mattered.
   * `flow` is as before afterwards.
   */
  lookup(flow: Flow, wc: Flow | null): Rule | null {
    let hard: Rule | null = null;
    let hardPriority = -1;
    let soft: (Rule | null)[] | null = null;
    let softPriority = -1;
    for (const trie of this.tries) trie.looked = false;
    for (let i = 0; i < this.subtables.length; i++) {
      const subtable = this.subtables[i]!;
      if (subtable.maxPriority <= hardPriority) break;
      const rule = this.#find(subtable, flow, wc);
      if (rule === null || rule.priority <= hardPriority) continue;
      if (rule.conjunctions === null) {
        hard = rule;
        hardPriority = rule.priority;
      } else {
        soft ??= [];
        soft.push(rule);
        if (rule.priority > softPriority) softPriority = rule.priority;
      }
    }
    if (soft === null || hardPriority >= softPriority) return hard;
    return resolveConjunctions(soft, hard, (id) => this.#lookupConjunction(flow, wc, id));
  }

  /** The flow once more with a conj_id, for rules that are no clauses. */
  #lookupConjunction(flow: Flow, wc: Flow | null, id: number): Rule | null {
    const saved = flow.w[W_CONJ_ID]!;
    flow.w[W_CONJ_ID] = id;
    let hard: Rule | null = null;
    let hardPriority = -1;
    for (const trie of this.tries) trie.looked = false;
    for (let i = 0; i < this.subtables.length; i++) {
      const subtable = this.subtables[i]!;
      if (subtable.maxPriority <= hardPriority) break;
      const rule = this.#find(subtable, flow, wc);
      if (rule === null || rule.priority <= hardPriority || rule.conjunctions !== null) continue;
      hard = rule;
      hardPriority = rule.priority;
    }
    flow.w[W_CONJ_ID] = saved;
    return hard;
  }

  /** ovs find_match_wc(): stage by stage, so that a stage that rules a subtable out leaves the later ones wildcarded. */
  #find(subtable: Subtable, flow: Flow, wc: Flow | null): Rule | null {
    const { ends } = subtable;
    const last = ends.length - 1;
    if (wc === null) return subtable.match(flow, subtable.hashFlow(flow, 0, ends[last]!, 0));
    let hash = 0;
    let from = 0;
    for (let stage = 0; stage < last; stage++) {
      const to = ends[stage]!;
      if (this.#triesExclude(subtable, from, to, flow, wc)) {
        subtable.fold(wc, from);
        return null;
      }
      hash = subtable.hashFlow(flow, from, to, hash);
      from = to;
      if (!subtable.indices[stage]!.has(hash)) {
        subtable.fold(wc, from);
        return null;
      }
    }
    const to = ends[last]!;
    if (this.#triesExclude(subtable, from, to, flow, wc)) {
      subtable.fold(wc, from);
      return null;
    }
    hash = subtable.hashFlow(flow, from, to, hash);
    const rule = subtable.match(flow, hash);
    if (rule === null && subtable.ports !== null) {
      // Of the ports only as many bits as show that no rule has them.
      const ports = wc.w[W_TP]! | (subtable.portsMask & subtable.ports.proof(flow.w[W_TP]! & subtable.portsMask));
      subtable.fold(wc, to);
      wc.w[W_TP] = ports;
      return null;
    }
    subtable.fold(wc, to);
    return rule;
  }

  /** ovs check_tries(): whether a prefix that the flow cannot have rules the subtable out, for no more bits than it would look at. */
  #triesExclude(subtable: Subtable, from: number, to: number, flow: Flow, wc: Flow): boolean {
    for (let i = 0; i < this.tries.length; i++) {
      const plen = subtable.plens[i]!;
      if (plen === 0) continue;
      const trie = this.tries[i]!;
      let inStage = false;
      for (let at = from; at < to && !inStage; at++) inStage = subtable.words[at] === trie.field.word;
      if (!inStage) continue;
      if (!trie.looked) trie.lookup(flow);
      if (trie.mayMatch(plen)) continue;
      if (trie.maskBits <= plen) {
        trie.setPrefixBits(wc);
        return true;
      }
      if (trie.prefixBitsSet(wc)) return true;
    }
    return false;
  }

  /** The subtable of a mask; `make`: a new one where there is none; it belongs to the classifier while it has rules. */
  subtable(mask: Int32Array, make: true): Subtable;
  subtable(mask: Int32Array, make: boolean): Subtable | null;
  subtable(mask: Int32Array, make: boolean): Subtable | null {
    let key = 0;
    for (let i = 0; i < FLOW_WORDS; i++) {
      if (mask[i] !== 0) key = Math.imul(key ^ Math.imul(mask[i]!, 31 + i), 0x9e3779b1) ^ (key >>> 13);
    }
    for (const subtable of this.byMask.get(key) ?? []) if (subtable.equalMask(mask)) return subtable;
    return make
      ? new Subtable(
          mask,
          key,
          this.tries.map((trie) => trie.field),
        )
      : null;
  }

  /** The rule with exactly this match and priority. */
  findExactly(match: Match, priority: number): Rule | null {
    const subtable = this.subtable(match.mask.w, false);
    if (subtable === null) return null;
    const values = subtable.valuesOf(match.flow);
    return this.findValues(subtable, values, subtable.fullHash(values), priority);
  }

  findValues(subtable: Subtable, values: Int32Array, hash: number, priority: number): Rule | null {
    for (let rule = subtable.equal(values, hash); rule !== null; rule = rule.lower) {
      if (rule.priority === priority) return rule;
      if (rule.priority < priority) return null;
    }
    return null;
  }

  /** `rule` is not there, nor is one with its match and priority. */
  insert(rule: Rule): void {
    const { subtable } = rule;
    const head = subtable.equal(rule.values, rule.hash);
    if (head === null) {
      this.#index(rule, true);
      rule.lower = null;
      rule.sameHash = subtable.rules.get(rule.hash) ?? null;
      subtable.rules.set(rule.hash, rule);
    } else if (rule.priority > head.priority) {
      rule.lower = head;
      this.#swap(subtable, head, rule);
    } else {
      let before = head;
      while (before.lower !== null && before.lower.priority > rule.priority) before = before.lower;
      rule.lower = before.lower;
      before.lower = rule;
    }
    rule.position = subtable.list.length;
    subtable.list.push(rule);
    this.count++;
    if (subtable.maxCount === 0) {
      subtable.maxPriority = rule.priority;
      subtable.maxCount = 1;
      this.#register(subtable);
      this.#place(subtable);
    } else if (rule.priority === subtable.maxPriority) {
      subtable.maxCount++;
    } else if (rule.priority > subtable.maxPriority) {
      subtable.maxPriority = rule.priority;
      subtable.maxCount = 1;
      this.subtables.splice(this.subtables.indexOf(subtable), 1);
      this.#place(subtable);
    }
  }

  remove(rule: Rule): void {
    const { subtable } = rule;
    const head = subtable.equal(rule.values, rule.hash)!;
    if (head !== rule) {
      let before = head;
      while (before.lower !== rule) before = before.lower!;
      before.lower = rule.lower;
    } else if (rule.lower !== null) {
      this.#swap(subtable, rule, rule.lower);
    } else {
      this.#swap(subtable, rule, null);
      this.#index(rule, false);
    }
    rule.lower = null;
    this.#forget(rule);
    this.count--;
    if (rule.priority !== subtable.maxPriority || --subtable.maxCount > 0) return;
    const at = this.subtables.indexOf(subtable);
    subtable.maxPriority = -1;
    for (const other of subtable.list) {
      if (other === null) continue;
      if (other.priority > subtable.maxPriority) {
        subtable.maxPriority = other.priority;
        subtable.maxCount = 1;
      } else if (other.priority === subtable.maxPriority) subtable.maxCount++;
    }
    if (subtable.maxCount === 0) {
      // The last one comes into the gap and is sorted to its place from there (ovs pvector_remove()).
      const last = this.subtables.pop()!;
      if (last !== subtable) this.subtables[at] = last;
      const candidates = this.byMask.get(subtable.key)!;
      if (candidates.length === 1) this.byMask.delete(subtable.key);
      else candidates.splice(candidates.indexOf(subtable), 1);
    }
    this.subtables.sort((a, b) => b.maxPriority - a.maxPriority);
  }

  /** `rule` takes the place of `old`, which has the same match and priority. */
  replace(old: Rule, rule: Rule): void {
    const { subtable } = old;
    const head = subtable.equal(old.values, old.hash)!;
    rule.lower = old.lower;
    if (head === old) this.#swap(subtable, old, rule);
    else {
      let before = head;
      while (before.lower !== old) before = before.lower!;
      before.lower = rule;
    }
    old.lower = null;
    // As if it came last: so do the dumps of the original list it.
    rule.position = subtable.list.length;
    subtable.list.push(rule);
    this.#forget(old);
  }

  /** All rules, by subtable: those of the highest priorities first. */
  *rules(): Generator<Rule, void, undefined> {
    for (const subtable of [...this.subtables]) for (const rule of [...subtable.list]) if (rule !== null) yield rule;
  }

  /** Rules that match no more than `criteria` does, of any priority (ovs cls_rule_is_loose_match()), into `into`. */
  loose(criteria: Match, into: Rule[]): void {
    const mask = criteria.mask.w;
    const words: number[] = [];
    for (let word = 0; word < FLOW_WORDS; word++) if (mask[word] !== 0) words.push(word);
    for (const subtable of this.subtables) {
      const at = words.map((word) => subtable.words.indexOf(word));
      if (!words.every((word, i) => at[i]! >= 0 && (mask[word]! & ~subtable.masks[at[i]!]!) === 0)) continue;
      for (const rule of subtable.list) {
        if (rule === null) continue;
        let i = 0;
        while (i < words.length && ((rule.values[at[i]!]! ^ criteria.flow.w[words[i]!]!) & mask[words[i]!]!) === 0) i++;
        if (i === words.length) into.push(rule);
      }
    }
  }

  /** Whether a frame could match both this rule and another one of the same priority (ovs classifier_rule_overlaps()). */
  overlaps(match: Match, priority: number): boolean {
    const flow = match.flow.w;
    const mask = match.mask.w;
    for (const { words, masks, maxPriority, list } of this.subtables) {
      if (maxPriority < priority) return false;
      for (const rule of list) {
        if (rule === null || rule.priority !== priority) continue;
        let i = 0;
        while (i < words.length && ((rule.values[i]! ^ flow[words[i]!]!) & masks[i]! & mask[words[i]!]!) === 0) i++;
        if (i === words.length) return true;
      }
    }
    return false;
  }

  /** Other tries (column `prefixes`). */
  setPrefixFields(fields: readonly PrefixField[]): void {
    this.tries = fields.map((field) => new FieldTrie(field));
    for (const subtable of this.subtables) {
      subtable.setFields(fields);
      for (const head of subtable.rules.values()) {
        for (let rule: Rule | null = head; rule !== null; rule = rule.sameHash) this.#indexTries(rule, true);
      }
    }
  }

  #register(subtable: Subtable): void {
    const others = this.byMask.get(subtable.key);
    if (others === undefined) this.byMask.set(subtable.key, [subtable]);
    else others.push(subtable);
  }

  #place(subtable: Subtable): void {
    let at = this.subtables.length;
    while (at > 0 && this.subtables[at - 1]!.maxPriority < subtable.maxPriority) at--;
    this.subtables.splice(at, 0, subtable);
  }

  /** Puts `rule` (null: nothing) where `old` is among the heads. */
  #swap(subtable: Subtable, old: Rule, rule: Rule | null): void {
    const first = subtable.rules.get(old.hash)!;
    const next = old.sameHash;
    old.sameHash = null;
    const now = rule ?? next;
    if (rule !== null) rule.sameHash = next;
    if (first === old) {
      if (now === null) subtable.rules.delete(old.hash);
      else subtable.rules.set(old.hash, now);
      return;
    }
    let before = first;
    while (before.sameHash !== old) before = before.sameHash!;
    before.sameHash = now;
  }

  #index(rule: Rule, add: boolean): void {
    const { subtable } = rule;
    this.#indexTries(rule, add);
    if (subtable.ports !== null) {
      const word = rule.values[subtable.words.indexOf(W_TP)]!;
      if (add) subtable.ports.insertPorts(word, subtable.portsMaskLength);
      else subtable.ports.removePorts(word, subtable.portsMaskLength);
    }
    let hash = 0;
    let from = 0;
    for (let stage = 0; stage < subtable.indices.length; stage++) {
      const index = subtable.indices[stage]!;
      const to = subtable.ends[stage]!;
      hash = subtable.hashValues(rule.values, from, to, hash);
      from = to;
      const count = (index.get(hash) ?? 0) + (add ? 1 : -1);
      if (count === 0) index.delete(hash);
      else index.set(hash, count);
    }
  }

  #indexTries(rule: Rule, add: boolean): void {
    const { subtable } = rule;
    for (let i = 0; i < this.tries.length; i++) {
      const plen = subtable.plens[i]!;
      if (plen === 0) continue;
      const trie = this.tries[i]!;
      // Words behind the prefix are not in the mask: they are zero.
      for (let n = 0; n < trie.field.words; n++) {
        const at = subtable.words.indexOf(trie.field.word + n);
        trie.value[n] = at < 0 ? 0 : swap32(rule.values[at]!);
      }
      if (add) trie.insertPrefix(trie.value, plen);
      else trie.removePrefix(trie.value, plen);
    }
  }

  #forget(rule: Rule): void {
    const { subtable } = rule;
    const { list } = subtable;
    list[rule.position] = null;
    rule.position = -1;
    if (++subtable.holes < 16 || subtable.holes * 2 < list.length) return;
    let to = 0;
    for (const other of list) {
      if (other === null) continue;
      other.position = to;
      list[to++] = other;
    }
    list.length = to;
    subtable.holes = 0;
  }
}
