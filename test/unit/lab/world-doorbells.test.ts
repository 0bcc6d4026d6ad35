/** What drivers write into notify registers, with VIRTIO_F_NOTIFICATION_DATA and without, on all back-ends. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { deviceState } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import { hasFeature, VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA } from '../../../src/machine/virtio/features.ts';
import { BACKENDS, makeWorld, pairDocument, ping, runOne, udp, watch } from './world-driver.ts';

interface Kick {
  readonly queue: number;
  readonly value: number;
  /** Chains that the driver had made available then, modulo 2^16. */
  readonly chains: number;
}
/** Doorbell writes of guest a, as the exits show them; and their widths where they come to the VMM. */
function followKicks(world: World): { kicks: Kick[]; widths: Set<number> } {
  const { machine } = world;
  const { vm, nics } = machine.guests[0]!;
  const { nic } = nics[0]!;
  const kicks: Kick[] = [];
  const widths = new Set<number>();
  const places = nic.places.queues.flatMap((q) => [q.rx, q.tx]);
  const vcpu = machine.catalog.places.find((p) => p.name === 'a/vcpu0')!.id;
  let queue = -1;
  watch(machine, (e) => {
    // the driver's decision, then the exit that its write is
    if (e.kind === E.VIRTQ_KICK && places.includes(e.place)) queue = places.indexOf(e.place);
    const exit = e.kind === E.KVM_EXIT_MMIO_KERNEL || e.kind === E.KVM_EXIT_MMIO_USER;
    if (!exit || e.place !== vcpu || queue < 0) return;
    const pair = nic.pairs[queue >> 1]!;
    const ring = (queue & 1) === 0 ? pair.rx : pair.tx;
    kicks.push({ queue, value: e.b, chains: ring.avail_idx_shadow });
    queue = -1;
  });
  const write = vm.onUserWrite;
  vm.onUserWrite = (address, value, contextBits, width) => {
    widths.add(width);
    write(address, value, contextBits, width);
  };
  return { kicks, widths };
}
function run(backend: (typeof BACKENDS)[number], nic: object): { world: World; kicks: Kick[]; widths: Set<number> } {
  const world = makeWorld(pairDocument(backend, { nic: { driver: 'virtio-net', ...nic } }));
  const seen = followKicks(world);
  assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 5 })).received, 5);
  assert.equal(runOne(world, udp('a/net0', 'b/net0', { count: 700, rate: 20_000 })).received, 700);
  if (backend !== 'vhost-user') assert.ok(seen.kicks.length > 300, `${seen.kicks.length} kicks`);
  return { world, ...seen };
}
const accepted = (world: World, bit: number): boolean =>
  hasFeature(deviceState(world.machine.guests[0]!.nics[0]!).probed!.features, bit);
const DATA = { VIRTIO_F_NOTIFICATION_DATA: true };

describe.each(BACKENDS)('%s', (backend) => {
  test.each([false, true])('the index of the queue in 16 bits, packed: %s {pci.notify.8} {pci.notify.10}', (packed) => {
    for (const ioeventfd of backend === 'virtio-net' ? [true, false] : [true]) {
      const { world, kicks, widths } = run(backend, { packed, ...(ioeventfd ? {} : { ioeventfd }) });
      assert.ok(!accepted(world, VIRTIO_F_NOTIFICATION_DATA));
      for (const { queue, value } of kicks) assert.equal(value, queue);
      if (!ioeventfd) assert.deepEqual([...widths], [2]);
    }
  });

  test.each([false, true])(
    'with NOTIFICATION_DATA 32 bits: where the driver is in the ring, packed: %s {pci.notify.9}',
    (packed) => {
      const size = 128;
      for (const ioeventfd of backend === 'virtio-net' ? [true, false] : [true]) {
        const options = { packed, queueSize: size, features: DATA, ...(ioeventfd ? {} : { ioeventfd }) };
        const { world, kicks, widths } = run(backend, options);
        if (!accepted(world, VIRTIO_F_NOTIFICATION_DATA)) {
          assert.notEqual(backend, 'virtio-net', 'only QEMU itself has it');
          for (const { queue, value } of kicks) assert.equal(value, queue);
          continue;
        }
        for (const { queue, value, chains } of kicks) {
          assert.equal(value & 0xffff, queue);
          const [next, wrap] = [(value >>> 16) & 0x7fff, value >>> 31];
          // one descriptor for each chain: the slot, and how often the ring has been gone round
          if (packed && world.machine.guests[0]!.nics[0]!.nic.pairs[0]!.rx.packed) {
            assert.deepEqual([next, wrap], [chains % size, 1 - (Math.floor(chains / size) % 2)]);
          } else assert.equal(next | (wrap << 15), chains);
        }
        if (!ioeventfd) assert.deepEqual([...widths], [4]);
      }
    },
  );
});

test.each([false, true])('IN_ORDER, which DPDK takes, changes nothing for the traffic; packed: %s', (packed) => {
  for (const backend of BACKENDS) {
    const nic = { driver: 'virtio-pmd', packed, features: { VIRTIO_F_IN_ORDER: true } };
    const world = makeWorld(pairDocument(backend, { nic }));
    assert.equal(runOne(world, ping('a/net0', 'b/net0', { count: 5 })).received, 5);
    assert.equal(runOne(world, udp('a/net0', 'b/net0', { count: 2000, rate: 100_000 })).received, 2000);
    assert.ok(world.status().conservation.holds);
    assert.equal(accepted(world, VIRTIO_F_IN_ORDER), backend !== 'vhost-net');
  }
});
