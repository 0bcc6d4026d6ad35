import fc from 'fast-check';
import { expect, test } from 'vitest';
import { contextOf, metaOf } from '../../../../src/engine/events.ts';
import { NO_NODE, PathTree, ROOT } from '../../../../src/readers/journey/path-tree.ts';
import { MOST_STEPS, NO_SLOT, StepSlab } from '../../../../src/readers/journey/step-slab.ts';

test('lists of steps beside plain arrays, in whatever order they grow and go', () => {
  const action = fc.record({
    list: fc.nat(40),
    what: fc.constantFrom('add', 'add', 'add', 'charge', 'end'),
    ns: fc.nat(),
  });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 2000 }), (actions) => {
      const slab = new StepSlab();
      const lists = new Map<number, { slot: number; steps: [number, number][] }>();
      for (const { list: id, what, ns } of actions) {
        const list = lists.get(id) ?? { slot: slab.take(), steps: [] };
        lists.set(id, list);
        const { slot, steps } = list;
        if (what === 'end') {
          expect(steps.map((_, i) => [slab.cost(slot, i), slab.waited(slot, i)])).toEqual(steps);
          slab.release(slot);
          lists.delete(id);
        } else if (what === 'charge' && steps.length > 0) {
          slab.charge(slot, steps.length - 1, ns);
          steps.at(-1)![0] += ns;
        } else if (steps.length < MOST_STEPS) {
          expect(slab.write(slot, steps.length, ns, ns + 1)).toBe(true);
          steps.push([ns, ns + 1]);
        }
      }
      for (const { slot, steps } of lists.values())
        expect(steps.map((_, i) => [slab.cost(slot, i), slab.waited(slot, i)])).toEqual(steps);
    }),
  );
});

test('the slab has a bound, and what is given back can be taken again', () => {
  const slab = new StepSlab();
  let taken = 0;
  let last = NO_SLOT;
  for (let slot = slab.take(); slot !== NO_SLOT; slot = slab.take()) {
    last = slot;
    taken++;
  }
  expect(taken).toBe(131_072);
  slab.release(last);
  expect(slab.take()).toBe(last);
});

test('paths: the same steps are the same node, others are others; the tree has a bound', () => {
  const tree = new PathTree();
  const walk = (...metas: number[]): number => metas.reduce((node, meta) => tree.enter(node, meta), ROOT);
  const [a, b, c] = [metaOf(1, 7, 0), metaOf(2, 7, 1), metaOf(1, 8, 2)];
  const node = walk(a, b, c);
  expect(walk(a, b, c)).toBe(node);
  // who does it is not part of the way
  expect(walk(a, metaOf(2, 7, 5), c)).toBe(node);
  expect(new Set([walk(a), walk(b), walk(c), walk(a, b), walk(b, a), node]).size).toBe(6);
  expect(tree.pathOf(node).map((at) => tree.stepOf(at))).toEqual([a, b, c].map((meta) => meta & 0xfffff));
  expect(tree.pathOf(node).map((at) => tree.contextOf(at))).toEqual([a, b, c].map(contextOf));
  let deep = ROOT;
  for (let i = 0; deep !== NO_NODE && i < 100_000; i++) deep = tree.enter(deep, metaOf(1, i % 4000, 0));
  expect(deep).toBe(NO_NODE);
  expect(walk(a, b, c)).toBe(node);
});
