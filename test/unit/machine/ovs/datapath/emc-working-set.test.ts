/** Entries of the exact match cache that a core's second-level cache has lost: many flows cost more than few. */
import { expect, test } from 'vitest';
import { shippedProfile } from '../../../../../src/engine/cost-profile.ts';
import { runJob } from '../../../../../src/lab/job/run-job.ts';
import { PRESETS } from '../../../../../src/lab/presets.ts';

const p2p = PRESETS.find((preset) => preset.name === 'p2p')!.document;
const [host] = p2p.hosts;

/** ns that a poll-mode thread takes for a frame between two NICs, with as many as the line can offer. */
function nsPerFrame(flows: number, costs: Readonly<Record<string, number>> = {}): number {
  const profile = shippedProfile();
  const result = runJob({
    engine: 'this one',
    document: { ...p2p, costs, hosts: [{ ...host!, ovs: { otherConfig: { 'emc-insert-inv-prob': '1' } } }] },
    profile: { name: profile.name, costs: profile.costs },
    traffic: [{ kind: 'udp', from: 'eth0', to: 'eth1', flows, distribution: 'uniform' }],
    measure: { kind: 'rfc2544', loss: 0.999, duration: '2ms', learning: { frames: 2 * flows, rate: 1_000_000 } },
    maxEvents: 50_000_000,
  });
  expect(result.problem).toBeNull();
  return 1e9 / result.runs[0]!.virtual.framesPerSecond;
}

test('a thousand flows cost more than one, by two lines of the entries that are found too late', () => {
  const one = nsPerFrame(1);
  const thousand = nsPerFrame(1000);
  expect(thousand - one).toBeGreaterThan(8);
  // each frame at most
  expect(thousand - one).toBeLessThan(2 * shippedProfile().costs['l2_miss']! + 2);
});

test('not where they fit the cache, and not where a line is for nothing', () => {
  const one = nsPerFrame(1);
  expect(Math.abs(nsPerFrame(100) - one)).toBeLessThan(2);
  expect(Math.abs(nsPerFrame(1000, { l2_cache: 2_097_152 }) - one)).toBeLessThan(2);
  expect(Math.abs(nsPerFrame(1000, { l2_miss: 0 }) - one)).toBeLessThan(2);
});
