/** What a vhost worker pays for frames that take several receive buffers (get_rx_bufs()). */
import { expect, test } from 'vitest';
import { shippedProfile } from '../../../../src/engine/cost-profile.ts';
import type { JobResult, JobTraffic } from '../../../../src/lab/job/job.ts';
import { runJob } from '../../../../src/lab/job/run-job.ts';

function run(chainCost: number, mergeable: boolean, traffic: JobTraffic): JobResult {
  const { name, costs } = shippedProfile();
  const guest = (guestName: string, address: string) => ({
    name: guestName,
    nics: [
      {
        name: 'net0',
        backend: 'vhost-net' as const,
        addresses: [address],
        features: { VIRTIO_NET_F_MRG_RXBUF: mergeable },
      },
    ],
  });
  const document = { hosts: [{ guests: [guest('a', '10.0.0.1/24'), guest('b', '10.0.0.2/24')] }] };
  const job = {
    engine: 'this one',
    document: { ...document, costs: { vhost_net_further_chain: chainCost } },
    profile: { name, costs },
    traffic: [traffic],
    maxEvents: 10_000_000,
  };
  const result = runJob(job);
  expect(result.problem).toBeNull();
  return result;
}
const bulk: JobTraffic = { kind: 'tcp', from: 'a/net0', to: 'b/net0', bytes: '4MiB' };
const small: JobTraffic = { kind: 'udp', from: 'a/net0', to: 'b/net0', frameSize: 64, count: 2000, rate: 'max' };
const seconds = (result: JobResult): number => result.runs[0]!.virtual.durationSeconds;

test('a long frame costs more in mergeable buffers, each of which is a chain', () => {
  const free = seconds(run(0, true, bulk));
  expect(seconds(run(2000, true, bulk))).toBeGreaterThan(free * 1.1);
});

test('not where a frame has one chain: small frames, and big receive buffers', () => {
  expect(run(2000, true, small).fingerprint).toBe(run(0, true, small).fingerprint);
  expect(run(2000, false, bulk).fingerprint).toBe(run(0, false, bulk).fingerprint);
});
