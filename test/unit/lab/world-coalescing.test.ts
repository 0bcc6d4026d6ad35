/** Used buffer notifications that QEMU's data path holds back, as the guest's `ethtool -C` asked for (virtio 1.4 §5.1.9.5.9). */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { controlOf, deviceOf } from '../../../src/lab/inspect.ts';
import { nicState } from '../../../src/lab/inspect-nic.ts';
import type { World } from '../../../src/lab/world.ts';
import {
  BACKENDS,
  collect,
  FrameAccount,
  makeWorld,
  pairDocument,
  ping,
  placeId,
  runOne,
  stepThrough,
  udp,
} from './world-driver.ts';

interface Setting {
  readonly usecs: number;
  readonly packets?: number;
}
interface Options {
  readonly rx?: Setting;
  readonly tx?: Setting;
  readonly eventIdx?: boolean;
  readonly packed?: boolean;
  readonly nic?: object;
}
function worldOf({ rx, tx, eventIdx = true, packed = false, nic = {} }: Options): World {
  const coalescing = { ...(rx === undefined ? {} : { rx }), ...(tx === undefined ? {} : { tx }) };
  const features = { VIRTIO_NET_F_NOTF_COAL: true, VIRTIO_RING_F_EVENT_IDX: eventIdx };
  const world = makeWorld(pairDocument('virtio-net', { nic: { coalescing, features, packed, ...nic } }));
  runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
  return world;
}
/** Time that QEMU's main loop may still be at something else when a timer runs out, and until it has looked. */
function slack(world: World): number {
  const { costs } = world.machine.catalog;
  const of = ['qemu_main_loop_iteration', 'tap_write_syscall', 'tap_read_syscall', 'ovs_kernel_per_packet'];
  const more = ['signal_msi_ioctl', 'notification_enable'];
  // and the bytes of a short frame
  return [...of, ...more].reduce((sum, name) => sum + costs[name]!, 200);
}
const FORMATS = [
  { eventIdx: true, packed: false },
  { eventIdx: false, packed: false },
  { eventIdx: true, packed: true },
  { eventIdx: false, packed: true },
];

describe.each(FORMATS)('event idx $eventIdx, packed $packed', (format) => {
  test('with 32 packets there is an interrupt for every 32 frames, and no frame is lost', () => {
    const interrupts = (rx: Setting): number => {
      const world = worldOf({ rx, ...format });
      const place = placeId(world.machine, 'b/net0/rx0');
      const seen = collect(world.machine, E.VIRTQ_INTERRUPT);
      const r = runOne(world, udp('a/net0', 'b/net0', { count: 3200, rate: 20_000 }));
      assert.deepEqual([r.state, r.received, r.dropped], ['SUCCEEDED', 3200, {}]);
      assert.ok(world.status().conservation.holds);
      return seen.filter((e) => e.place === place).length;
    };
    const each = interrupts({ usecs: 0, packets: 32 });
    assert.ok(each >= 3190, `${each} where nothing waits: a limit of packets alone counts for nothing`);
    const few = interrupts({ usecs: 10_000, packets: 32 });
    assert.ok(few >= 98 && few <= 104, `${few} interrupts for 3200 frames`);
  });
});

test('with a time alone, the interrupt comes when that is over, whatever comes in between', () => {
  for (const usecs of [1, 50, 3000]) {
    const world = worldOf({ rx: { usecs } });
    const place = placeId(world.machine, 'b/net0/rx0');
    const seen = collect(world.machine, E.VIRTQ_USED, E.VIRTQ_INTERRUPT);
    runOne(world, udp('a/net0', 'b/net0', { count: 3, rate: 100_000 }));
    const mine = seen.filter((e) => e.place === place);
    const first = mine.find((e) => e.kind === E.VIRTQ_USED)!.time;
    const sent = mine.find((e) => e.kind === E.VIRTQ_INTERRUPT)!.time;
    assert.ok(sent >= first + 1000 * usecs, `${sent - first} ns, too early for ${usecs} us`);
    assert.ok(sent <= first + 1000 * usecs + slack(world), `${sent - first} ns, too late for ${usecs} us`);
    // 10 us apart: the longest time has all three in one interrupt
    if (usecs === 3000) assert.equal(mine.filter((e) => e.kind === E.VIRTQ_INTERRUPT).length, 1);
  }
});

test('a ring that is full of what waits is not held back', () => {
  const world = worldOf({ rx: { usecs: 1_000_000 }, nic: { queueSize: 32 } });
  const place = placeId(world.machine, 'b/net0/rx0');
  const seen = collect(world.machine, E.VIRTQ_INTERRUPT);
  const from = world.now;
  const r = runOne(world, udp('a/net0', 'b/net0', { count: 320, rate: 20_000 }));
  assert.deepEqual([r.state, r.received, r.dropped], ['SUCCEEDED', 320, {}]);
  const times = seen.filter((e) => e.place === place).map((e) => e.time - from);
  // one more for what the neighbours ask each other
  assert.ok(times.length >= 10 && times.length <= 12, `${times.length} interrupts`);
  assert.ok(times[9]! - times[0]! < 17e6, `${times}`);
});

test('no frame waits longer than it may: random limits, rates and ring formats', () => {
  const limits = fc.record({ usecs: fc.integer({ min: 1, max: 400 }), packets: fc.nat(40) });
  fc.assert(
    fc.property(
      limits,
      limits,
      fc.constantFrom(...FORMATS),
      fc.constantFrom(0, 5000, 60_000, 400_000),
      fc.constantFrom(32, 256),
      (rx, tx, format, rate, queueSize) => {
        const world = worldOf({ rx, tx, ...format, nic: { queueSize } });
        const account = new FrameAccount(world);
        const place = placeId(world.machine, 'b/net0/rx0');
        const seen = collect(world.machine, E.VIRTQ_USED, E.VIRTQ_INTERRUPT, E.GUEST_RX);
        const spec = udp('a/net0', 'b/net0', { count: 150, rate });
        world.startTraffic(spec);
        stepThrough(world, () => account.check());
        const r = world.run(spec.id);
        const lost = Object.values(r.dropped).reduce((a, b) => a + b, 0);
        assert.deepEqual([r.state, r.received + lost], ['SUCCEEDED', 150]);
        // a frame waits until the guest is told of it, or finds it by itself
        const waiting = new Map<number, number>();
        let latest = 0;
        for (const e of seen) {
          if (e.kind === E.VIRTQ_USED && e.place === place) waiting.set(e.frame, e.time);
          else if (e.kind === E.VIRTQ_INTERRUPT && e.place === place) {
            for (const since of waiting.values()) latest = Math.max(latest, e.time - since);
            waiting.clear();
          } else if (e.kind === E.GUEST_RX) waiting.delete(e.frame);
        }
        assert.equal(waiting.size, 0, 'nobody was told of the last ones');
        assert.ok(latest <= 1000 * rx.usecs + slack(world), `${latest} ns`);
      },
    ),
    { numRuns: 40, verbose: 1 },
  );
});

test('the kernel driver sends what the document says, and inspection shows it', () => {
  const nic = { queuePairs: 2, coalescing: { rx: { usecs: 50, packets: 32 }, tx: { packets: 8 } } };
  const world = makeWorld(pairDocument('virtio-net', { nic: { ...nic, features: { VIRTIO_NET_F_NOTF_COAL: true } } }));
  const b = world.machine.guests[1]!.nics[0]!;
  assert.deepEqual(nicState(world.machine, b).control!.coalescing, [
    { queue: 'rx0', usecs: 50, packets: 32 },
    { queue: 'tx0', usecs: 0, packets: 8 },
    { queue: 'rx1', usecs: 50, packets: 32 },
    { queue: 'tx1', usecs: 0, packets: 8 },
  ]);
});

test('without the feature nothing is held back, and the loop has no timers', () => {
  const world = makeWorld(pairDocument('virtio-net'));
  for (const { nics } of world.machine.guests) {
    for (const { wiring } of nics) assert.ok(wiring.pairs.every(({ pair }) => pair.coalescing === null));
  }
});

test('vhost back-ends do not have it: the bits are not offered, and the reason is said', () => {
  const names = ['VIRTIO_NET_F_NOTF_COAL', 'VIRTIO_NET_F_VQ_NOTF_COAL'];
  const features = Object.fromEntries(names.map((name) => [name, true]));
  for (const backend of BACKENDS) {
    const world = makeWorld(pairDocument(backend, { nic: { features } }));
    const b = world.machine.guests[1]!.nics[0]!;
    const { bits } = nicState(world.machine, b).features;
    for (const name of names) {
      const bit = bits.find((state) => state.name === name)!;
      assert.equal(bit.offered, backend === 'virtio-net', `${backend} ${name}`);
      if (backend !== 'virtio-net') assert.match(bit.missing!, /does not offer it/);
    }
    assert.equal(deviceOf(b).has(53), backend === 'virtio-net');
    assert.ok(controlOf(b) !== null);
  }
});

test('a document may ask for it only where somebody can do it', () => {
  const faults = (nic: object): string[] => {
    const parsed = parseTopology(pairDocument('virtio-net', { guests: ['a'], nic }), { name: 't' });
    return parsed.ok ? [] : parsed.faults.map(({ pointer, code }) => `${pointer.split('/').at(-1)} ${code}`);
  };
  const on = { features: { VIRTIO_NET_F_NOTF_COAL: true } };
  assert.deepEqual(faults({ coalescing: {}, ...on }), []);
  const parsed = parseTopology(
    pairDocument('virtio-net', { guests: ['a'], nic: { coalescing: { rx: { usecs: 9 } }, ...on } }),
    { name: 't' },
  );
  assert.ok(parsed.ok);
  const complete = { rx: { usecs: 9, packets: 0 }, tx: { usecs: 0, packets: 0 } };
  assert.deepEqual(parsed.document.hosts[0]!.guests![0]!.nics![0]!.coalescing, complete);
  assert.deepEqual(parsed.topology.hosts[0]!.guests[0]!.nics[0]!.coalescing, complete);
  assert.deepEqual(faults({ coalescing: {} }), ['coalescing wrong-feature']);
  assert.deepEqual(faults({ coalescing: {}, ...on, backend: 'vhost-net' }), ['coalescing wrong-backend']);
  assert.deepEqual(faults({ coalescing: {}, ...on, driver: 'none' }), ['coalescing wrong-driver']);
  assert.deepEqual(faults({ coalescing: {}, ...on, driver: 'virtio-pmd' }), ['coalescing wrong-driver']);
  assert.deepEqual(faults({ coalescing: { rx: { usecs: -1 } }, ...on }), ['usecs out-of-range']);
});
