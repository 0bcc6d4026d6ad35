/** Streams and transactions as jobs: the same bytes each time, numbers that experiments find, faults with their place. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { costTable } from '../../../../src/engine/costs.ts';
import { headlines, metricOf, numbersOf } from '../../../../src/lab/experiment/metrics.ts';
import { engineVersion } from '../../../../src/lab/job/engine-version.ts';
import { contentHash, type JobSpec, type JobTraffic } from '../../../../src/lab/job/job.ts';
import { runJob } from '../../../../src/lab/job/run-job.ts';
import { PRESETS } from '../../../../src/lab/presets.ts';

const ends = { from: 'a/net0', to: 'b/net0' } as const;
function job(preset: string, ...traffic: readonly JobTraffic[]): JobSpec {
  const { document } = PRESETS.find(({ name }) => name === preset)!;
  const profile = { name: 'default', costs: costTable({}) };
  return { engine: engineVersion(), document, profile, traffic, maxEvents: 10_000_000 };
}

test.each(['virtio-net', 'vhost-net', 'vhost-user'])('%s: equal jobs come to equal bytes', (preset) => {
  const spec = job(
    preset,
    { kind: 'tcp_rr', ...ends, transactions: 100, connections: 2 },
    { kind: 'udp_rr', ...ends, transactions: 100, requestBytes: 100, start: '5ms' },
    { kind: 'tcp_stream', ...ends, bytes: '1MiB', congestion: 'newreno' },
  );
  const first = runJob(spec);
  assert.equal(first.state, 'SUCCEEDED', first.problem?.detail);
  assert.deepEqual(
    first.runs.map((run) => [run.kind, run.transactions?.completed, run.tcp?.congestion]),
    [
      ['tcp_rr', 100, 'cubic'],
      ['udp_rr', 100, undefined],
      ['tcp_stream', undefined, 'newreno'],
    ],
  );
  assert.equal(contentHash(runJob(spec)), contentHash(first));
});

test('their numbers are found by pointers', () => {
  const result = runJob(job('vhost-net', { kind: 'tcp_rr', ...ends, transactions: 50 }));
  const names = [...numbersOf(result).keys()];
  for (const pointer of ['perSecond', 'latencySeconds/mean', 'latencySeconds/p99', 'completed'].map(
    (name) => `/runs/0/transactions/${name}`,
  )) {
    assert.ok(names.includes(pointer), pointer);
    assert.ok(metricOf(result, pointer)! > 0);
  }
  assert.ok(metricOf(result, '/runs/0/tcp/senders/0/cwndBytes')! > 0);
  assert.ok(headlines(names).includes('/runs/0/transactions/perSecond'));
});

test('what is wrong has its place in the job', () => {
  const problemOf = (traffic: JobTraffic) => runJob(job('vhost-net', traffic)).problem;
  assert.equal(problemOf({ kind: 'udp', ...ends, sack: true })?.pointer, '/traffic/0/sack');
  assert.equal(problemOf({ kind: 'udp_rr', ...ends, requestBytes: 5000 })?.pointer, '/traffic/0/requestBytes');
  assert.equal(problemOf({ kind: 'udp_rr', ...ends, port: 9 })?.pointer, '/traffic/0/port');
});
