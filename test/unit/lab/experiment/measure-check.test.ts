/** Experiments whose runs are measurements: checked with everything else before anything runs. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { numbersOf } from '../../../../src/lab/experiment/metrics.ts';
import { planExperiment } from '../../../../src/lab/experiment/plan.ts';
import { runJob } from '../../../../src/lab/job/run-job.ts';

const stream = { kind: 'udp', from: 'eth0', to: 'eth1' };
const measure = { kind: 'rfc2544', duration: '2ms', maxRate: 200_000 };
const template = { topology: { preset: 'p2p' }, traffic: [stream], measure };

function faultsOf(body: object): string[] {
  const result = planExperiment({ template, ...body }, { engine: 'test', maxRuns: 100 });
  if (!result.ok) return result.faults.map((f) => `${f.pointer}: ${f.detail}`);
  const check = result.plan.check();
  for (;;) {
    const step = check.next();
    if (step.done === true) return step.value.map((f) => `${f.pointer}: ${f.detail}`);
  }
}

test('a measurement is part of the job, its fields are axes, and its answers are metrics', () => {
  const body = { template, axes: [{ pointer: '/measure/frameSizes', values: [[64], [1518]] }] };
  const result = planExperiment(body, { engine: 'test', maxRuns: 100 });
  assert.ok(result.ok);
  const [small, large] = [result.plan.run(1), result.plan.run(2)];
  assert.deepEqual(small.job.measure?.frameSizes, [64]);
  assert.notEqual(small.key, large.key);
  const came = runJob(large.job);
  assert.equal(came.problem, null);
  const rate = numbersOf(came).get('/rfc2544/sizes/0/throughput/framesPerSecond');
  assert.ok(rate !== undefined && Math.abs(rate / 200_000 - 1) < 0.001, `${rate}`);
});

test('what is wrong with it is told before anything runs', () => {
  assert.deepEqual(faultsOf({}), []);
  assert.deepEqual(faultsOf({ template: { ...template, traffic: [{ ...stream, rate: 5 }] } }), [
    '/template/traffic/0/rate: the measurement has its own rate',
  ]);
  // its trials have rates, so bursts have a meaning
  assert.deepEqual(faultsOf({ template: { ...template, traffic: [{ ...stream, burst: 32 }] } }), []);
  assert.deepEqual(faultsOf({ template: { topology: { preset: 'p2p' }, traffic: [{ ...stream, burst: 32 }] } }), [
    '/template/traffic/0/burst: frames are back to back already at the rate max',
  ]);
  const { measure: _, ...plain } = template;
  assert.deepEqual(faultsOf({ template: { ...plain, traffic: [{ ...stream, start: '2000000s' }] } }), [
    '/template/traffic/0/start: 2000000s is out of range',
  ]);
  assert.deepEqual(faultsOf({ template: { ...template, traffic: [] } }), [
    '/template/traffic: there is nothing to measure',
  ]);
  assert.match(
    faultsOf({ axes: [{ pointer: '/measure/tests', values: [['throughput'], ['jitter']] }] })[0]!,
    /^\/axes\/0\/values\/1.*\/measure\/tests/,
  );
  assert.match(
    faultsOf({ template: { ...template, measure: { kind: 'rfc2544', speed: 1 } } })[0]!,
    /^\/template\/measure/,
  );
});

test('a reset names a NIC of a guest whose back-end is a process: told before anything runs', () => {
  const pvp = (preset: string, nic: string): string[] => {
    const reset = { kind: 'rfc2544', tests: ['throughput', 'reset'], reset: { nic } };
    return faultsOf({ template: { topology: { preset }, traffic: [{ ...stream, to: 'eth0' }], measure: reset } });
  };
  const at = '/template/measure/reset/nic: ';
  assert.deepEqual(pvp('pvp', 'a/net0'), []);
  assert.deepEqual(pvp('pvp', 'h1/a/net0'), []);
  for (const nic of ['a/net9', 'eth0', 'br0/x', ''])
    assert.deepEqual(pvp('pvp', nic), [`${at}there is no NIC ${JSON.stringify(nic)} of a guest`]);
  assert.deepEqual(pvp('pvp-kernel', 'a/net0'), [
    `${at}a/net0 has back-end vhost-net, which has no process of its own`,
  ]);
  const preset = { pointer: '/topology/preset', values: ['pvp', 'pvp-kernel'] };
  const measure = { kind: 'rfc2544', tests: ['reset'], reset: { nic: 'a/net0' } };
  const body = {
    template: { topology: { preset: 'pvp' }, traffic: [{ ...stream, to: 'eth0' }], measure },
    axes: [preset],
  };
  assert.match(faultsOf(body)[0] ?? '', /a\/net0 has back-end vhost-net/);
  assert.deepEqual(faultsOf({ ...body, skipInvalid: true }), []);
  // not among the tests: nothing is reset
  assert.deepEqual(
    faultsOf({ template: { ...template, measure: { ...template.measure, reset: { nic: 'z/net0' } } } }),
    [],
  );
});
