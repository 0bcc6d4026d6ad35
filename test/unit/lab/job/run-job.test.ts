/** A job from its document to its result: the same wherever and however often it runs, and faults as problems. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { clockScaled, costsHash, shippedProfile } from '../../../../src/engine/cost-profile.ts';
import { costTable } from '../../../../src/engine/costs.ts';
import { engineVersion } from '../../../../src/lab/job/engine-version.ts';
import { canonicalJson, contentHash, type JobSpec, type JobTraffic } from '../../../../src/lab/job/job.ts';
import { JobCancelled, runJob } from '../../../../src/lab/job/run-job.ts';
import { PRESETS } from '../../../../src/lab/presets.ts';

function job(traffic: readonly JobTraffic[], change: Partial<JobSpec> = {}): JobSpec {
  const { document } = PRESETS.find((preset) => preset.name === 'vhost-net')!;
  const profile = { name: 'default', costs: costTable({}) };
  return { engine: engineVersion(), document, profile, traffic, maxEvents: 10_000_000, ...change };
}
const udp: JobTraffic = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 200 };

test('the same job comes to the same result, to the byte', () => {
  const first = runJob(job([udp]));
  assert.equal(first.state, 'SUCCEEDED');
  assert.equal(first.runs[0]?.received, 200);
  assert.match(first.fingerprint, /^[0-9a-f]{16}$/);
  assert.equal(contentHash(runJob(job([udp]))), contentHash(first));
  assert.notEqual(contentHash(runJob(job([{ ...udp, count: 201 }]))), contentHash(first));
});

test("the job's profile is the one that counts, whatever its document or this machine calls by its name", () => {
  const base = job([udp]);
  const slow = { name: 'haswell-2.4', costs: clockScaled(shippedProfile(), 'slow', 1.2).costs };
  const result = runJob({ ...base, profile: slow });
  const { p50 } = runJob(base).runs[0]!.virtual.latencySeconds;
  const ratio = result.runs[0]!.virtual.latencySeconds.p50 / p50;
  // About: lines between cores stay as they are, and frames wait for each other.
  assert.ok(ratio > 1.4 && ratio < 2.3, String(ratio));
  assert.deepEqual(result.profile, { name: 'haswell-2.4', hash: costsHash(slow.costs) });
  assert.deepEqual(result.runs[0]!.costs, { profile: 'haswell-2.4', hash: costsHash(slow.costs), overrides: 0 });
  const named = { ...base.document, costProfile: 'of-nobody', costs: { upcall: 1000 } };
  const overridden = runJob({ ...base, document: named });
  assert.equal(overridden.state, 'SUCCEEDED');
  assert.deepEqual(overridden.profile, { name: 'default', hash: costsHash(costTable({ upcall: 1000 })) });
  assert.equal(overridden.runs[0]!.costs.overrides, 1);
});

test('requests start together, or after their delay', () => {
  const { runs } = runJob(job([udp, { ...udp, from: 'b/net0', to: 'a/net0', start: '50ms' }]));
  const [now, later] = runs.map((run) => run.virtual.startSeconds) as [number, number];
  assert.ok(later >= 0.05 && now < 0.05, `${now} ${later}`);
  assert.equal(runs[0]!.shared, false);
  assert.equal(runJob(job([udp, { ...udp, from: 'b/net0', to: 'a/net0' }])).runs[0]!.shared, true);
});

test('what is wrong with a job is in its result', () => {
  const cases: [JobSpec, RegExp][] = [
    [job([{ ...udp, to: 'nobody' }]), /^\/traffic\/0\/to: "nobody" is not an end/],
    [job([{ ...udp, rate: '0/s' }]), /^\/traffic\/0\/rate: '0\/s' is not a rate; expected/],
    [job([udp], { maxEvents: 10 }), /^: more than 10 events/],
    [
      job([udp], { document: { hosts: [{ guests: [{ nics: [{ bridge: 'no' }] }] }] } as never }),
      /^\/topology\/hosts\/0/,
    ],
  ];
  for (const [spec, expected] of cases) {
    const { state, problem } = runJob(spec);
    assert.equal(state, 'FAILED');
    assert.match(`${problem?.pointer ?? ''}: ${problem?.detail}`, expected);
  }
});

test('a job is cancelled between two turns', () => {
  assert.throws(() => runJob(job([{ ...udp, count: 1_000_000 }]), { cancelled: () => true }), JobCancelled);
});

test('canonical JSON does not depend on the order of members', () => {
  assert.equal(canonicalJson({ b: [1, { d: null, c: undefined }], a: 'x' }), '{"a":"x","b":[1,{"d":null}]}');
  assert.equal(contentHash({ a: 1, b: 2 }), contentHash({ b: 2, a: 1 }));
  assert.notEqual(contentHash({ a: 1 }), contentHash({ a: '1' }));
});
