/**
 * The classifier against a list of rules that is gone through from the highest priority on: the same rule, after any adds, changes
 * and removals; and what it says that it looked at is enough: every flow that agrees in those bits finds the same rule.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { OfAction } from '../../src/machine/ovs/flow/actions.ts';
import {
  FLOW_WORDS,
  Flow,
  W_CONJ_ID,
  W_ETH,
  W_ETH_TYPE,
  W_IN_PORT,
  W_IPV6_DST,
  W_NW,
  W_NW_DST,
  W_NW_SRC,
  W_REGS,
  W_TP,
} from '../../src/machine/ovs/flow/flow.ts';
import { Match } from '../../src/machine/ovs/flow/match.ts';
import { FlowTables } from '../../src/machine/ovs/ofproto/tables/flow-tables.ts';
import { swap32 } from '../../src/machine/ovs/ofproto/tables/prefix-field.ts';
import type { Rule } from '../../src/machine/ovs/ofproto/tables/rule.ts';
import { flowMod, output } from '../unit/machine/ovs/ofproto/tables/mods.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = Number(process.env['RINGSIDE_RUNS'] ?? (full ? 3000 : 200));
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);

/** Few values, so that rules and flows meet. */
const VALUES = [0, 0x0a000001, 0x0a010203, 0x0a018000, 0xc0a80001 | 0, 0x00500051, 0x1f901f95, -1];
/** Words that rules match, with the masks that they are matched by (in the order of the wire where they are prefixes). */
const CHOICES: readonly (readonly [word: number, masks: readonly number[]])[] = [
  [W_IN_PORT, [-1]],
  [W_REGS, [-1, 0xff]],
  [W_ETH, [-1, swap32(0x01000000)]],
  [W_NW, [0xff, 0xff00]],
  [W_NW_SRC, [swap32(-1 << 8), swap32(-1 << 24), -1, 0x00ff00ff]],
  [W_NW_DST, [swap32(-1 << 16), swap32(-1 << 20), swap32(-1 << 31), -1]],
  [W_IPV6_DST, [swap32(-1 << 16), -1]],
  [W_IPV6_DST + 1, [swap32(-1 << 16)]],
  [W_TP, [-1, swap32(0xffff), swap32(0xfff0), swap32(0xffff0000 | 0)]],
];
const ETH_TYPES = [0x0800, 0x86dd, 0x0806];

const terms = fc.uniqueArray(
  fc.record({ word: fc.nat(CHOICES.length - 1), mask: fc.nat(3), value: fc.nat(VALUES.length - 1) }),
  { maxLength: 4, selector: ({ word }) => word },
);
const clauses = fc.option(
  fc.array(fc.record({ id: fc.integer({ min: 1, max: 3 }), clause: fc.nat(2) }), { minLength: 1, maxLength: 2 }),
  {
    nil: null,
    freq: 3,
  },
);
const change = fc.record({
  remove: fc.boolean(),
  which: fc.nat(50),
  ethType: fc.nat(3),
  terms,
  conjId: fc.option(fc.integer({ min: 1, max: 3 }), { nil: null, freq: 4 }),
  clauses,
  priority: fc.nat(3),
});
const flows = fc.record({
  ethType: fc.nat(2),
  values: fc.array(fc.nat(VALUES.length - 1), { minLength: 9, maxLength: 9 }),
});

/** Clauses that a conjunction of an id has. */
function size(id: number): number {
  return id === 1 ? 2 : 3;
}

function matches(rule: Rule, flow: Flow, conjId: number): boolean {
  const { flow: values, mask } = rule.match;
  for (let word = 0; word < FLOW_WORDS; word++) {
    const value = word === W_CONJ_ID ? conjId : flow.w[word]!;
    if (((value ^ values.w[word]!) & mask.w[word]!) !== 0) return false;
  }
  return true;
}

function best(rules: readonly Rule[], flow: Flow, conjId: number): Rule[] {
  const hard = rules.filter((rule) => rule.conjunctions === null && matches(rule, flow, conjId));
  const priority = Math.max(-1, ...hard.map((rule) => rule.priority));
  return hard.filter((rule) => rule.priority === priority);
}

/** All rules that may be found: those of equal priority; with conjunctions, of each one that is complete. */
function naive(rules: readonly Rule[], flow: Flow): Rule[] {
  const hard = best(rules, flow, 0);
  const soft = rules.filter((rule) => rule.conjunctions !== null && matches(rule, flow, 0));
  const priorities = [...new Set(soft.map((rule) => rule.priority))].sort((a, b) => b - a);
  for (const priority of priorities) {
    if (priority <= (hard[0]?.priority ?? -1)) break;
    const rulesThere = soft.filter((rule) => rule.priority === priority);
    const at = rulesThere.flatMap((rule) => rule.conjunctions!);
    // One rule cannot be two clauses: as many rules as clauses are needed.
    const ids = [1, 2, 3].filter(
      (id) =>
        rulesThere.length >= size(id) && new Set(at.filter((c) => c.id === id).map((c) => c.clause)).size === size(id),
    );
    const found = ids.flatMap((id) => best(rules, flow, id));
    if (found.length > 0) return found;
  }
  return hard;
}

function play(changes: readonly (typeof change extends fc.Arbitrary<infer T> ? T : never)[]): FlowTables {
  const tables = new FlowTables();
  tables.tables[0]!.configure({
    name: '',
    flowLimit: null,
    evicts: false,
    groups: [],
    prefixes: ['nw_dst', 'nw_src', 'ipv6_dst'],
  });
  for (const { remove, which, ethType, terms, conjId, clauses, priority } of changes) {
    const rules = [...tables.tables[0]!.classifier.rules()];
    if (remove && rules.length > 0) {
      tables.remove(rules[which % rules.length]!, 2, 0);
      continue;
    }
    const match = new Match();
    if (ethType < ETH_TYPES.length) {
      match.flow.w[W_ETH_TYPE] = swap32(ETH_TYPES[ethType]! << 16);
      match.mask.w[W_ETH_TYPE] = 0xffff;
    }
    for (const { word, mask, value } of terms) {
      const [at, masks] = CHOICES[word]!;
      const bits = masks[mask % masks.length]!;
      match.mask.w[at] = bits;
      match.flow.w[at] = swap32(VALUES[value]!) & bits;
    }
    let actions: OfAction[] = [output(1)];
    if (clauses !== null)
      actions = clauses.map(({ id, clause }) => ({
        type: 'conjunction',
        id,
        clause: clause % size(id),
        clauses: size(id),
      }));
    else if (conjId !== null) {
      match.mask.w[W_CONJ_ID] = -1;
      match.flow.w[W_CONJ_ID] = conjId;
    }
    tables.flowMod(flowMod({ match, priority, actions }), 0);
  }
  return tables;
}

function flowFor({ ethType, values }: { ethType: number; values: number[] }): Flow {
  const flow = new Flow();
  flow.w[W_ETH_TYPE] = swap32(ETH_TYPES[ethType]! << 16);
  CHOICES.forEach(([word], i) => {
    flow.w[word] = swap32(VALUES[values[i]!]!);
  });
  return flow;
}

test('the classifier finds what a list finds, and what it looked at is enough', () => {
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 40 }),
      fc.array(flows, { minLength: 1, maxLength: 8 }),
      fc.array(fc.integer(), { minLength: FLOW_WORDS, maxLength: FLOW_WORDS }),
      (changes, tried, noise) => {
        const tables = play(changes);
        const rules = [...tables.tables[0]!.classifier.rules()];
        expect(rules.length).toBe(tables.tables[0]!.count);
        for (const which of tried) {
          const flow = flowFor(which);
          const before = flow.w.slice();
          const wc = new Flow();
          // A datapath flow always has these.
          wc.w[W_ETH_TYPE] = 0xffff;
          const found = tables.lookup(0, flow, wc);
          expect(flow.w).toEqual(before);
          const allowed = naive(rules, flow);
          if (found === null) expect(allowed).toEqual([]);
          else expect(allowed).toContain(found);
          // Noise, and values that rules have: one bit that was forgotten shows with them.
          const others = [noise, ...rules.map((rule) => rule.match.flow.w), ...tried.map((of) => flowFor(of).w)];
          for (const values of others) {
            const other = new Flow();
            for (let i = 0; i < FLOW_WORDS; i++) {
              other.w[i] = i === W_CONJ_ID ? 0 : (flow.w[i]! & wc.w[i]!) | (values[i]! & ~wc.w[i]!);
            }
            expect(tables.lookup(0, other, new Flow())).toBe(found);
            expect(tables.lookup(0, other, null)?.priority).toBe(found?.priority);
          }
        }
      },
    ),
    { numRuns: RUNS, seed },
  );
}, 300_000);
