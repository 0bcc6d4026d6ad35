/** Who pays for what: a cost of the table that changes shows in the time of the context that does the work, and only as often as it does it. */
import { describe, expect, test } from 'vitest';
import type { Backend, Driver } from '../../../src/lab/topology.ts';
import { makeWorld, pairDocument, ping, runOne, udp } from './world-driver.ts';

interface Setup {
  readonly backend: Backend;
  readonly driver?: Driver;
  readonly features?: Readonly<Record<string, boolean>>;
}
/** Busy time of contexts whose names match, in a run after the neighbours are known, with a cost as given. */
function busy(setup: Setup, who: RegExp, cost: Readonly<Record<string, number>>, count: number) {
  const { backend, driver = 'virtio-net', features = {} } = setup;
  const document = { ...pairDocument(backend, { nic: { driver, features } }), costs: cost };
  const world = makeWorld(document);
  runOne(world, ping('a/net0', 'b/net0', { count: 2 }));
  const { scheduler } = world.machine;
  const time = (): number =>
    scheduler.contexts.reduce((sum, { name }, id) => (who.test(name) ? sum + scheduler.busy[id]! : sum), 0);
  const before = time();
  // slow enough that each frame meets everybody at rest, whatever things cost
  const run = runOne(world, udp('a/net0', 'b/net0', { count, rate: 5000, frameSize: 1018 }));
  expect(run.received).toBe(count);
  return { ns: time() - before, run };
}
/** ns more that they work where a cost is higher. */
const more = (setup: Setup, who: RegExp, name: string, low: number, high: number): number =>
  busy(setup, who, { [name]: high }, 50).ns - busy(setup, who, { [name]: low }, 50).ns;

describe('checksums of received frames', () => {
  test('are verified by the guest where nobody says that they are good', () => {
    const ns = more(
      { backend: 'vhost-net', features: { VIRTIO_NET_F_CSUM: false } },
      /^b\/vcpu/,
      'checksum_per_byte',
      0.25,
      0.5,
    );
    // UDP header and payload of 50 frames
    expect(ns).toBe((50 * (1014 - 34)) / 4);
  });
  test('are not where the sender left them to the device', () => {
    expect(more({ backend: 'vhost-net' }, /^b\/vcpu/, 'checksum_per_byte', 0.25, 0.5)).toBe(0);
  });
});

describe('interrupts of a vhost-user guest', () => {
  test('are writes to an eventfd on the time of the PMD', () => {
    const { run } = busy({ backend: 'vhost-user' }, /^pmd/, {}, 50);
    const interrupts = run.queues.reduce((sum, { interrupts: n }) => sum + n, 0);
    expect(interrupts).toBeGreaterThanOrEqual(50);
    expect(more({ backend: 'vhost-user' }, /^pmd/, 'irqfd_write', 400, 800)).toBe(400 * interrupts);
  });
  test('that poll are none', () => {
    expect(more({ backend: 'vhost-user', driver: 'virtio-pmd' }, /^pmd/, 'irqfd_write', 400, 800)).toBe(0);
  });
});

describe('translations behind an IOMMU', () => {
  const lookups = (mode: 'strict' | 'passthrough' | null): number => {
    const time = (iotlb_hit: number): number => {
      const document = pairDocument('vhost-net') as { hosts: { guests: object[] }[] };
      const iommu = mode === null ? {} : { iommu: { mode } };
      const hosts = document.hosts.map((host) => ({
        ...host,
        guests: host.guests.map((guest) => ({ ...guest, ...iommu })),
      }));
      const world = makeWorld({ hosts, costs: { iotlb_hit } });
      runOne(world, ping('a/net0', 'b/net0', { count: 2 }));
      const { scheduler } = world.machine;
      const busy = () =>
        scheduler.contexts.reduce(
          (sum, { name }, id) => (name.startsWith('vhost-') ? sum + scheduler.busy[id]! : sum),
          0,
        );
      const before = busy();
      expect(runOne(world, udp('a/net0', 'b/net0', { count: 20, rate: 2000 })).received).toBe(20);
      return busy() - before;
    };
    return (time(40) - time(20)) / 20;
  };
  test('are paid for by the worker that looks addresses up: segments of chains, again after a miss', () => {
    for (const mode of ['strict', 'passthrough'] as const) {
      expect(lookups(mode)).toBeGreaterThanOrEqual(40);
      expect(lookups(mode)).toBeLessThanOrEqual(200);
    }
  });
  test('without an IOMMU there are none', () => {
    expect(lookups(null)).toBe(0);
  });
});

describe('a pause of 10 ms', () => {
  /** Latency of echoes that come once in 10 ms, less that of echoes that come 100 times as often, ns. */
  const pause = (backend: Backend): number => {
    const world = makeWorld(pairDocument(backend));
    runOne(world, ping('a/net0', 'b/net0', { count: 2 }));
    const p50 = (rate: number): number =>
      runOne(world, ping('a/net0', 'b/net0', { count: 20, rate })).virtual.latencySeconds.p50 * 1e9;
    return p50(100) - p50(10_000);
  };
  test.each(['virtio-net', 'vhost-net'] as const)('has three sleepers on the way of an echo with %s', (backend) => {
    // both back-ends and the guest that answers; who asks has just been awake. A histogram rounds up to 6 %.
    expect(pause(backend)).toBeGreaterThan(80_000);
    expect(pause(backend)).toBeLessThan(100_000);
  });
  test('is none for who polls', () => {
    // where the frame falls on their poll grids
    expect(Math.abs(pause('vhost-user'))).toBeLessThan(400);
  });
});
