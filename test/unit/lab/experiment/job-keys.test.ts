/** Keys of jobs that differ by their seeds, and how much of a plan is kept. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { costTable } from '../../../../src/engine/costs.ts';
import { JobKeys, KeptByCharacters } from '../../../../src/lab/experiment/job-keys.ts';
import { planExperiment } from '../../../../src/lab/experiment/plan.ts';
import { contentHash, type JobSpec } from '../../../../src/lab/job/job.ts';

/** What once stood for all seeds. */
const MARK = Number.MAX_SAFE_INTEGER - 104_729;
const profile = { name: 'default', costs: costTable({}) };
const withSeed = (job: JobSpec, seed: number): JobSpec => ({ ...job, document: { ...job.document, seed } });

test('a key is the hash of the job with that seed, whatever digits stand in the document', () => {
  const digits = fc.oneof(fc.constant(`${MARK}`), fc.constant('"seed":1'), fc.constant('"seed":2'), fc.string());
  fc.assert(
    fc.property(digits, fc.dictionary(digits, digits), fc.integer({ min: 0, max: 0xffffffff }), (text, map, seed) => {
      const document = { name: text, hosts: [{ ovs: { otherConfig: map } }] } as unknown as JobSpec['document'];
      const job: JobSpec = { engine: text, document, profile, traffic: [], maxEvents: MARK };
      assert.equal(new JobKeys(job).of(seed), contentHash(withSeed(job, seed)));
      // the seed that it has itself does not count
      assert.equal(new JobKeys(withSeed(job, 77)).of(seed), contentHash(withSeed(job, seed)));
    }),
  );
});

test('an experiment whose document says what once stood for its seed', () => {
  const otherConfig = { note: `${MARK}`, more: `x${MARK}y${MARK}` };
  const topology = { hosts: [{ nics: [{ name: 'eth0' }, { name: 'eth1' }], ovs: { otherConfig } }] };
  const traffic = [{ kind: 'udp', from: 'eth0', to: 'eth1', count: 2 }];
  const planned = planExperiment({ template: { topology, traffic }, repetitions: 3 }, { engine: 'test', maxRuns: 10 });
  assert.ok(planned.ok, JSON.stringify(planned));
  const runs = [1, 2, 3].map((number) => planned.plan.run(number));
  for (const { key, job } of runs) assert.equal(key, contentHash(job));
  assert.equal(new Set(runs.map(({ key }) => key)).size, 3);
});

test('kept: the newest, so many and so much', () => {
  const few = new KeptByCharacters<number, string>(3, 1000);
  for (let i = 0; i < 5; i++) few.keep(i, `v${i}`, 10);
  assert.deepEqual(
    [0, 1, 2, 3, 4].map((i) => few.get(i)),
    [undefined, undefined, 'v2', 'v3', 'v4'],
  );
  assert.equal(few.characters, 30);
  few.keep(5, 'v5', 990);
  assert.deepEqual([few.get(3), few.get(4), few.get(5)], [undefined, 'v4', 'v5']);
  // the one that is at work is kept however large it is
  few.keep(6, 'v6', 5000);
  assert.deepEqual([few.get(5), few.get(6), few.size, few.characters], [undefined, 'v6', 1, 5000]);
  few.keep(7, 'v7', 1);
  assert.deepEqual([few.get(6), few.get(7), few.characters], [undefined, 'v7', 1]);
});
