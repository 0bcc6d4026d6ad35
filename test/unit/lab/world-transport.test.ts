/** Worlds on every transport: what guests send arrives, and doorbells and interrupts take the way that the transport has. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { deviceState } from '../../../src/lab/inspect.ts';
import type { Transport } from '../../../src/lab/topology.ts';
import type { World } from '../../../src/lab/world.ts';
import type { Probed } from '../../../src/machine/guest/probe/probe-types.ts';
import { hasFeature, VIRTIO_F_VERSION_1 } from '../../../src/machine/virtio/features.ts';
import { BACKENDS, type Backend, collect, makeWorld, pairDocument, ping, runOne, udp } from './world-driver.ts';

const TRANSPORTS: readonly Transport[] = ['pci-modern', 'pci-transitional', 'pci-legacy', 'mmio'];
const INTERFACE = {
  'pci-modern': 'modern',
  'pci-transitional': 'modern',
  'pci-legacy': 'legacy',
  mmio: 'mmio',
} as const;
const probedOf = (world: World): Probed => {
  const { probed } = deviceState(world.machine.guests[0]!.nics[0]!);
  assert.ok(probed, 'a driver has it');
  return probed;
};

function countOf(world: World, ...kinds: number[]): (kind: number) => number {
  const seen = collect(world.machine, ...kinds);
  return (kind) => seen.filter((e) => e.kind === kind).length;
}

describe.each(TRANSPORTS)('%s', (transport) => {
  test.each(BACKENDS)('traffic both ways, with every kind of interrupt: %s', (backend) => {
    for (const vectors of transport === 'mmio' ? [0] : [4, 2, 0]) {
      for (const features of [{}, { VIRTIO_RING_F_EVENT_IDX: false }, { VIRTIO_NET_F_MRG_RXBUF: false }]) {
        const driver = 'virtio-net';
        const world = makeWorld(pairDocument(backend, { nic: { transport, vectors, features, driver } }));
        const answered = runOne(world, ping('a/net0', 'b/net0', { count: 5 }));
        assert.equal(answered.received, 5, `${vectors} vectors`);
        const r = runOne(world, udp('a/net0', 'b/net0', { count: 600, rate: 200_000 }));
        assert.equal(r.received + Object.values(r.dropped).reduce((n, d) => n + d, 0), 600);
        assert.ok(r.received > 500, `${r.received} of 600`);
        const probed = probedOf(world);
        assert.equal(probed.interface, INTERFACE[transport]);
        assert.equal(hasFeature(probed.features, VIRTIO_F_VERSION_1), transport !== 'pci-legacy');
        assert.equal(probed.vectors.length, vectors === 4 ? 3 : vectors);
        assert.equal(world.failed, null);
      }
    }
  });
});

test('a polling driver takes the modern interface of a transitional device', () => {
  for (const backend of BACKENDS) {
    const world = makeWorld(pairDocument(backend, { nic: { transport: 'pci-transitional', driver: 'virtio-pmd' } }));
    assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 3 })).received, 3);
    assert.equal(probedOf(world).interface, 'modern');
  }
});

test('a guest finds all its NICs by the scan, on different transports', () => {
  const nics = Array.from({ length: 8 }, (_, i) => ({
    name: `net${i}`,
    addresses: [`10.0.${i}.1/24`],
    queueSize: 32,
    transport: TRANSPORTS[i % TRANSPORTS.length],
  }));
  const guests = [
    { name: 'a', memory: '256MiB', nics },
    { name: 'b', nics: [{ name: 'net0', addresses: ['10.0.7.2/24'] }] },
  ];
  const world = makeWorld({ hosts: [{ name: 'h1', guests }] });
  assert.equal(runOne(world, ping('a/net7', 'b/net0', { count: 2 })).received, 2);
  const { states } = world.machine.guests[0]!.nics[0]!.setup;
  assert.deepEqual(
    states.map(({ nic }) => nic.index).sort((x, y) => x - y),
    nics.map((_, i) => i),
  );
  const doorbells = states.flatMap(({ nic }) => nic.device.queues.map((q) => nic.device.doorbell(q.index)));
  assert.equal(new Set(doorbells.map(({ address, match }) => `${address} ${match}`)).size, 3 * nics.length);
});

describe('doorbells', () => {
  const run = (transport: Transport, ioeventfd: boolean): ((kind: number) => number) => {
    const world = makeWorld(pairDocument('virtio-net', { nic: { transport, ioeventfd } }));
    runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
    const count = countOf(
      world,
      E.KVM_EXIT_IO,
      E.KVM_EXIT_IO_KERNEL,
      E.KVM_EXIT_MMIO_KERNEL,
      E.KVM_EXIT_MMIO_USER,
      E.VIRTQ_KICK,
    );
    runOne(world, ping('a/net0', 'b/net0', { count: 10 }));
    assert.ok(count(E.VIRTQ_KICK) > 10);
    return count;
  };
  test('of the legacy interface are writes to a port, told apart by their value', () => {
    const kernel = run('pci-legacy', true);
    assert.equal(kernel(E.KVM_EXIT_IO_KERNEL), kernel(E.VIRTQ_KICK));
    assert.deepEqual([kernel(E.KVM_EXIT_IO), kernel(E.KVM_EXIT_MMIO_KERNEL)], [0, 0]);
    const user = run('pci-legacy', false);
    assert.equal(user(E.KVM_EXIT_IO), user(E.VIRTQ_KICK));
    assert.deepEqual([user(E.KVM_EXIT_IO_KERNEL), user(E.KVM_EXIT_MMIO_USER)], [0, 0]);
  });
  test('of virtio-mmio are writes to one register', () => {
    const kernel = run('mmio', true);
    assert.equal(kernel(E.KVM_EXIT_MMIO_KERNEL), kernel(E.VIRTQ_KICK));
    assert.equal(kernel(E.KVM_EXIT_IO_KERNEL), 0);
  });
});

describe('interrupt lines', () => {
  const watch = (backend: Backend, nic: object) => {
    const world = makeWorld(pairDocument(backend, { nic: { driver: 'virtio-net', ...nic } }));
    runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
    const seen = collect(
      world.machine,
      E.KVM_IRQ_LINE,
      E.KVM_IRQFD,
      E.KVM_SIGNAL_MSI,
      E.KVM_EXIT_MMIO_USER,
      E.KVM_EXIT_IO,
      E.GUEST_IRQ,
      E.VIRTQ_INTERRUPT,
    );
    const r = runOne(world, udp('a/net0', 'b/net0', { count: 300, rate: 100_000 }));
    assert.equal(r.received, 300);
    return seen;
  };
  test.each(BACKENDS)(
    'the level goes up and down in turn, the handler asks each time, nothing else interrupts: %s',
    (backend) => {
      for (const [nic, asks] of [
        [{ vectors: 0 }, 1],
        [{ transport: 'mmio' }, 2],
      ] as const) {
        const seen = watch(backend, nic);
        const of = (kind: number) => seen.filter((e) => e.kind === kind);
        assert.deepEqual([of(E.KVM_IRQFD).length, of(E.KVM_SIGNAL_MSI).length], [0, 0]);
        for (const place of new Set(of(E.KVM_IRQ_LINE).map((e) => e.place))) {
          const levels = of(E.KVM_IRQ_LINE)
            .filter((e) => e.place === place)
            .map((e) => e.b);
          assert.ok(levels.length >= 2);
          assert.deepEqual(
            levels,
            levels.map((_, i) => 1 - (i % 2)),
          );
          const exits = of(E.KVM_EXIT_MMIO_USER).filter((e) => e.place === place).length;
          assert.equal(exits, (asks * levels.length) / 2);
        }
        // one that comes while NAPI polls the ring finds nothing in it any more
        assert.ok(of(E.GUEST_IRQ).length >= of(E.KVM_IRQ_LINE).length / 4);
      }
    },
  );

  test('both queues are served by one line: the handler looks at each {mmio.drv.20}', () => {
    for (const nic of [{ vectors: 0 }, { transport: 'mmio' }]) {
      const world = makeWorld(pairDocument('virtio-net', { nic }));
      runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
      const seen = collect(world.machine, E.GUEST_IRQ, E.KVM_IRQ_LINE);
      // answers fill the receive queue while requests come back through the transmit queue
      assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 50, rate: 50_000 })).received, 50);
      const [pair] = world.machine.guests[0]!.nics[0]!.nic.pairs;
      assert.equal(pair!.rxIrq, pair!.txIrq);
      const places = new Set(seen.filter((e) => e.kind === E.GUEST_IRQ).map((e) => e.place));
      assert.ok(places.size >= 2, 'receive and transmit queues');
    }
  });
});
