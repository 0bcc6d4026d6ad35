/** Whatever a client sends as an experiment: it is planned, or its faults are told; it never throws, and faults lead somewhere. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { valueAt } from '../../src/lab/experiment/json-pointer.ts';
import { planExperiment } from '../../src/lab/experiment/plan.ts';
import { contentHash } from '../../src/lab/job/job.ts';
import { PRESETS } from '../../src/lab/presets.ts';

const FULL = process.env['RINGSIDE_FULL'] === '1';
const options = { engine: 'test', maxRuns: 500 };

const pointers = [
  '/topology',
  '/topology/preset',
  '/topology/hosts',
  '/topology/hosts/0',
  '/topology/hosts/*/guests/*/nics/*/backend',
  '/topology/hosts/0/guests/0/nics/0/features/mrg_rxbuf',
  '/topology/hosts/0/bridges/0/datapath',
  '/topology/costs/upcall',
  '/topology/costProfile',
  '/traffic',
  '/traffic/0',
  '/traffic/0/frameSize',
  '/traffic/*/kind',
  '/traffic/1/to',
  '/traffic/-',
  '/measure',
  '/measure/frameSizes',
  '/limits',
  '/~0~1',
  '/*',
] as const;
const odd = fc.oneof(
  fc.constantFrom<unknown>(
    'vhost-net',
    'vhost-user',
    'virtio-net',
    'netdev',
    'system',
    'linux',
    64,
    1518,
    0,
    -1,
    null,
    true,
  ),
  fc.constantFrom<unknown>(
    { preset: 'pvp' },
    { preset: 5 },
    { hosts: [] },
    { hosts: [{}] },
    [],
    {},
    'udp',
    'tcp',
    'ping',
  ),
  fc.jsonValue({ maxDepth: 3 }),
);
/** Axes that go together with most topologies. */
const sensible = fc.constantFrom<unknown>(
  { pointer: '/topology/hosts/*/guests/*/nics/*/queueSize', values: [128, 256] },
  { pointer: '/topology/preset', values: ['virtio-net', 'vhost-net'] },
  { name: 'size', pointer: '/traffic/0/frameSize', values: [64, 1518, null] },
  { name: 'cost', pointers: ['/topology/costs/upcall', '/topology/costs/netdev_upcall'], values: [30000, 60000] },
  {
    name: 'together',
    cases: { a: { '/traffic/0/count': 3 }, b: { '/traffic/0/count': 4, '/traffic/0/frameSize': 128 } },
  },
  { name: 'count', pointer: '/traffic/0/count', values: [1, 2] },
);
const axis = fc.oneof(
  { weight: 12, arbitrary: sensible },
  {
    weight: 6,
    arbitrary: fc.record({
      pointer: fc.constantFrom(...pointers),
      values: fc.array(odd, { minLength: 1, maxLength: 3 }),
    }),
  },
  { weight: 0, arbitrary: fc.record({ name: odd, pointers: odd, values: odd }, { requiredKeys: [] }) },
);
const traffic = fc.oneof(
  { weight: 20, arbitrary: fc.constant([{ kind: 'udp', from: 'a/net0', to: 'b/net0', count: 5 }]) },
  { weight: 1, arbitrary: odd },
);
const topology = fc.oneof(
  { weight: 12, arbitrary: fc.constantFrom<unknown>({ preset: 'vhost-net' }, { preset: 'vhost-user' }) },
  { weight: 4, arbitrary: fc.constantFrom<unknown>(...PRESETS.map(({ name }) => ({ preset: name }))) },
  { weight: 2, arbitrary: fc.constantFrom<unknown>(...PRESETS.map(({ document }) => document)) },
  { weight: 1, arbitrary: odd },
);
/** Mostly what is meant; else anything. */
const mostly = <T>(meant: fc.Arbitrary<T>): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 30, arbitrary: meant as fc.Arbitrary<unknown> }, { weight: 1, arbitrary: odd });
const body = fc.record(
  {
    template: fc.record(
      { topology, traffic, measure: mostly(fc.constant({ kind: 'rfc2544' })) },
      { requiredKeys: ['topology', 'traffic'] },
    ),
    axes: fc.array(axis, { maxLength: 3 }),
    repetitions: mostly(fc.integer({ min: 2, max: 5 })),
    seed: mostly(fc.constantFrom(0, 7, 0xffffffff)),
    precision: mostly(fc.constant({ metric: '/events', relative: 0.1, minimum: 2 })),
    limits: mostly(fc.constantFrom<unknown>({ memory: '1GiB' }, { time: '1s' }, { events: 5 })),
    skipInvalid: fc.boolean(),
  },
  { requiredKeys: ['template'] },
);

test('any body is planned or refused, with pointers into it', () => {
  let planned = 0;
  let checked = 0;
  fc.assert(
    fc.property(fc.oneof({ weight: 9, arbitrary: body }, { weight: 1, arbitrary: odd }), (value) => {
      const sent = structuredClone(value);
      const result = planExperiment(structuredClone(value), options);
      let faults = result.ok ? [] : result.faults;
      if (result.ok) {
        planned++;
        const { plan } = result;
        const work = plan.check();
        for (let step = work.next(); ; step = work.next()) {
          if (step.done !== true) continue;
          faults = step.value;
          break;
        }
        for (let combination = 0; combination < plan.combinations; combination++) {
          const made = plan.combination(combination);
          if (made.ok) checked++;
          if (faults.length === 0) assert.equal(made.ok, !plan.skipped.has(combination));
          if (!made.ok) continue;
          const run = plan.run(plan.numberOf(combination, plan.repetitions - 1));
          assert.equal(run.key, contentHash(run.job));
        }
      }
      for (const { pointer, detail } of faults) {
        assert.notEqual(detail, '');
        // What is missing, or meant by the template's defaults, has at least something around it that is there.
        const parts = pointer.split('/');
        assert.ok(
          parts.some((_, i) => i > 0 && valueAt(sent, parts.slice(0, i + 1).join('/')).ok) || parts.length <= 2,
          `${pointer}: ${detail}`,
        );
      }
    }),
    { numRuns: FULL ? 20_000 : 1000 },
  );
  // Bodies that get far enough to tell something.
  assert.ok(planned > 50 && checked > 20, `${planned} ${checked}`);
});
