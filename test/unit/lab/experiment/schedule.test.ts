/** What an experiment comes to does not depend on which run was faster, nor on how it is cut into shards. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { type Plan, planExperiment } from '../../../../src/lab/experiment/plan.ts';
import { Schedule, type Shard } from '../../../../src/lab/experiment/schedule.ts';

function planOf(combinations: number, repetitions: number, precision?: object): Plan {
  const result = planExperiment(
    {
      template: { topology: { preset: 'vhost-net' }, traffic: [{ kind: 'udp', from: 'a/net0', to: 'b/net0' }] },
      axes: [{ pointer: '/traffic/0/count', values: Array.from({ length: combinations }, (_, i) => i + 1) }],
      repetitions,
      ...(precision === undefined ? {} : { precision }),
    },
    { engine: 'test', maxRuns: 1e6 },
  );
  assert.ok(result.ok, JSON.stringify(result));
  return result.plan;
}

/** Runs all of a schedule: `width` at a time, which of them ends next is chosen by `choose`. */
function play(
  plan: Plan,
  value: (run: number) => number | null,
  choose: () => number,
  width: number,
  shard?: Shard,
): Schedule {
  const schedule = new Schedule(plan, { ahead: width, ...(shard === undefined ? {} : { shard }) });
  const running: number[] = [];
  for (;;) {
    while (running.length < width) {
      const next = schedule.next();
      if (next === null) break;
      running.push(next);
    }
    if (running.length === 0) break;
    const [number] = running.splice(choose() % running.length, 1) as [number];
    const result = value(number);
    for (const dropped of schedule.ended(number, result === null ? 'FAILED' : 'SUCCEEDED', result)) {
      const at = running.indexOf(dropped);
      if (at >= 0) running.splice(at, 1);
    }
  }
  assert.equal(schedule.over, true);
  return schedule;
}
const states = (plan: Plan, schedule: Schedule) => Array.from({ length: plan.runs }, (_, i) => schedule.stateOf(i + 1));

test('where a combination ends does not depend on the order in which runs end', () => {
  const values = fc.array(fc.option(fc.integer({ min: 90, max: 110 }), { freq: 8 }), { minLength: 60, maxLength: 60 });
  const orders = fc.infiniteStream(fc.nat(1000));
  const precision = fc.record({ relative: fc.constantFrom(0.01, 0.05, 0.2), minimum: fc.integer({ min: 2, max: 6 }) });
  fc.assert(
    fc.property(
      values,
      orders,
      fc.integer({ min: 1, max: 9 }),
      precision,
      (numbers, order, width, { relative, minimum }) => {
        const plan = planOf(4, 15, { metric: '/x', relative, minimum });
        const value = (run: number): number | null => numbers[run - 1]!;
        const inOrder = play(plan, value, () => 0, 1);
        const shuffled = play(plan, value, () => order.next().value, width);
        assert.deepEqual(states(plan, shuffled), states(plan, inOrder));
      },
    ),
  );
});

test('a combination ends as soon as it is precise enough, not before its minimum', () => {
  const plan = planOf(2, 50, { metric: '/x', relative: 0.02 });
  // The first is exact; the second needs more until 1/sqrt(n) has made up for its spread.
  const schedule = play(
    plan,
    (run) => (run <= 50 ? 7 : 100 + 5 * (run % 2)),
    () => 0,
    4,
  );
  assert.equal(schedule.stateOf(3), 'SUCCEEDED');
  assert.equal(schedule.stateOf(4), 'NOT_NEEDED');
  const needed = states(plan, schedule)
    .slice(50)
    .filter((state) => state === 'SUCCEEDED').length;
  assert.ok(needed > 5 && needed < 20, `${needed}`);
});

test('shards together are the experiment, each run once', () => {
  for (const precision of [undefined, { metric: '/x', relative: 0.5, minimum: 2 }]) {
    const plan = planOf(5, 4, precision);
    const value = (run: number): number => run;
    const whole = states(
      plan,
      play(plan, value, () => 0, 2),
    );
    const parts = [0, 1, 2].map((index) =>
      states(
        plan,
        play(plan, value, () => 1, 3, { index, count: 3 }),
      ),
    );
    for (const [i, state] of whole.entries())
      assert.deepEqual(
        parts.map((part) => part[i]).filter((part) => part !== null),
        [state],
      );
  }
});

test('runs of combinations that are left out are never started, and a cancelled experiment is over', () => {
  const plan = planOf(3, 2);
  plan.skipped.add(1);
  const schedule = new Schedule(plan);
  assert.deepEqual([schedule.next(), schedule.next(), schedule.next()], [1, 2, 5]);
  schedule.ended(1, 'SUCCEEDED', null);
  assert.deepEqual(schedule.cancel(), [2, 5]);
  assert.equal(schedule.over, true);
  assert.deepEqual(
    (['SUCCEEDED', 'CANCELLED', 'SKIPPED', 'PENDING', 'RUNNING'] as const).map((state) => schedule.count(state)),
    [1, 3, 2, 0, 0],
  );
});
