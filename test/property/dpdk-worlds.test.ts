/**
 * DPDK guests of every kind: what a document may say boots, its program finds the memory that it needs, no frame and no mbuf is
 * lost, and with the same document everything is the same again.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseTopology } from '../../src/lab/document.ts';
import { World } from '../../src/lab/world.ts';
import { full, runOut, udp } from '../unit/lab/world-driver.ts';

const guest = fc.record({
  app: fc.constantFrom('stack', 'io', 'macswap', 'rxonly', 'txonly'),
  vcpus: fc.constantFrom(1, 2),
  hugepages: fc.constantFrom('4KiB', '2MiB'),
  iommu: fc.constantFrom(undefined, { mode: 'strict' }, { mode: 'passthrough' }),
  dpdk: fc.record({
    hugepages: fc.constantFrom('4KiB', '2MiB'),
    mempool: fc.option(fc.integer({ min: 32, max: 3000 }), { nil: undefined }),
  }),
  nic: fc.record({
    backend: fc.constantFrom('vhost-user', 'vhost-net', 'virtio-net'),
    queueSize: fc.constantFrom(32, 64, 256, 1024),
    queuePairs: fc.constantFrom(1, 2),
    packed: fc.boolean(),
    mtu: fc.constantFrom(undefined, 1500, 9000),
    features: fc.dictionary(
      fc.constantFrom('VIRTIO_F_IN_ORDER', 'VIRTIO_RING_F_INDIRECT_DESC', 'VIRTIO_NET_F_CTRL_VQ'),
      fc.boolean(),
      { maxKeys: 2 },
    ),
  }),
});
type Guest = typeof guest extends fc.Arbitrary<infer T> ? T : never;

function documentOf(a: Guest, hugepages: number): object {
  const guests = [a, { ...a, app: 'stack' }].map(({ nic, iommu, dpdk, ...rest }, i) => {
    const address = { addresses: [`10.0.0.${i + 1}/24`] };
    // without an IOMMU a program without hugepages is refused
    const pages = iommu === undefined ? { ...dpdk, hugepages: '2MiB' } : dpdk;
    const nics = [{ name: 'net0', driver: 'virtio-pmd', ...address, ...nic }];
    return { name: i === 0 ? 'a' : 'b', ...rest, dpdk: pages, ...(iommu === undefined ? {} : { iommu }), nics };
  });
  const bridges = [{ name: 'br0' }, { name: 'br1', datapath: 'netdev' }];
  const host = { name: 'h1', cores: 16, bridges, guests, hugepages: { '2MiB': 512 + hugepages } };
  return JSON.parse(JSON.stringify({ recorder: { events: 1 << 16, bytes: '4MiB' }, hosts: [host] })) as object;
}
function run(document: object): { world: World; fingerprint: string } | null {
  const parsed = parseTopology(document, { name: 't' });
  if (!parsed.ok) {
    // the only reasons that these documents give
    for (const fault of parsed.faults)
      expect(['not-enough-hugepages', 'wrong-feature', 'wrong-driver', 'memory-too-small']).toContain(fault.code);
    return null;
  }
  const world = new World(parsed.topology);
  runOut(world);
  expect(world.status()).toMatchObject({ state: 'RUNNING', conservation: { holds: true } });
  const [a] = parsed.topology.hosts[0]!.guests;
  const sends = a!.app === 'stack' || a!.app === 'txonly';
  world.startTraffic(udp(sends ? 'a/net0' : 'b/net0', sends ? 'b/net0' : 'a/net0', { id: 'r', count: 300, flows: 4 }));
  runOut(world);
  expect(world.status()).toMatchObject({ state: 'RUNNING', conservation: { holds: true } });
  return { world, fingerprint: world.status().fingerprint };
}

test('whatever a document says of DPDK, and is not refused for, runs', () => {
  let ran = 0;
  fc.assert(
    fc.property(guest, fc.integer({ min: 0, max: 64 }), (a, hugepages) => {
      const document = documentOf(a, hugepages);
      const first = run(document);
      if (first === null) return;
      ran++;
      for (const { nics } of first.world.machine.guests) {
        const { dpdk } = nics[0]!.setup;
        // mbufs are in the pool, in a ring, or in a chain that was used and not looked at: never more than there are
        let held = 0;
        for (const { nic } of nics) {
          for (const pair of nic.pairs.filter((p) => p.up)) {
            pair.reclaim();
            held += pair.rx.size - pair.rx.num_free + (pair.tx.size - pair.tx.num_free);
          }
        }
        expect(dpdk!.mempool!.size + held).toBe(dpdk!.mbufs);
      }
      expect(run(document)!.fingerprint).toBe(first.fingerprint);
    }),
    { numRuns: full ? 300 : 15 },
  );
  expect(ran).toBeGreaterThan(0);
});
