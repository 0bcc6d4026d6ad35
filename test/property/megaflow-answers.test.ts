/** A table of megaflows with many masks remembers answers: they are those of a table that remembers none, masks probed included. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Megaflow, MegaflowTable } from '../../src/machine/ovs/datapath/megaflow-table.ts';
import { DP_WORDS, W_NW_DST, W_NW_SRC, W_TP } from '../../src/machine/ovs/flow/flow.ts';

const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() & 0x7fffffff);
const full = process.env['RINGSIDE_FULL'] === '1';

/** What a table without memory says: masks one after the other, in the order of the table. */
function plainly(table: MegaflowTable, key: Int32Array): { flow: Megaflow | null; probed: number } {
  for (let at = 0; ; at++) {
    const subtable = table.subtable(at);
    if (subtable === null) return { flow: null, probed: at };
    const flow = subtable.find(key);
    if (flow !== null) return { flow, probed: at + 1 };
  }
}
const small = fc.integer({ min: 0, max: 6 });
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('find' as const), a: small, b: small, c: small, mask: small }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('insert' as const), a: small, b: small, c: small, mask: fc.nat(40) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('remove' as const), a: fc.nat(30), b: small, c: small, mask: small }),
  },
);

test('answers that are remembered are those that a search finds', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 300 }), (steps) => {
      const table = new MegaflowTable(true);
      let id = 0;
      for (const { do: what, a, b, c, mask } of steps) {
        const key = new Int32Array(DP_WORDS);
        key[W_NW_SRC] = a;
        key[W_NW_DST] = b;
        key[W_TP] = c;
        if (what === 'insert') {
          const bits = new Int32Array(DP_WORDS);
          bits[W_NW_SRC] = 0x100 | (mask & 7);
          bits[W_NW_DST] = 0x100 | (mask >> 3);
          if (table.find(key) === null) table.insert(++id, key, bits, []);
        } else if (what === 'remove') {
          const flow = table.flows[a % Math.max(1, table.flows.length)];
          if (flow !== undefined) table.remove(flow);
        }
        const expected = plainly(table, key);
        for (let again = 0; again < 2; again++)
          expect({ flow: table.find(key), probed: table.probed }).toEqual(expected);
      }
    }),
    { seed, numRuns: full ? 2000 : 100 },
  );
});
