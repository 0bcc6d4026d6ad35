/** What an XDP program does with frames that it cannot send, and how it finds its queues, without a world around it. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { GUEST_DROP_MALFORMED, GUEST_DROP_TX_FULL, kindOf } from '../../../../src/engine/events.ts';
import type { GuestNic } from '../../../../src/machine/guest/guest-nic.ts';
import type { GuestQueuePair } from '../../../../src/machine/guest/guest-queue-pair.ts';
import { GuestXdp } from '../../../../src/machine/guest/guest-xdp.ts';
import type { Services } from '../../../../src/machine/services.ts';
import {
  featuresOf,
  NO_FEATURES,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_MQ,
} from '../../../../src/machine/virtio/features.ts';
import { VIRTIO_NET_HDR_GSO_TCPV4 } from '../../../../src/machine/wire/virtio-net.ts';

/** A NIC with a frame in its hands, and where the program sends; `used`: sent frames that wait to be freed. */
function bench(frame: { length?: number; gso?: number; free?: number; used?: number }) {
  const dropped: number[] = [];
  const sent: number[] = [];
  const u16 = new Uint16Array(64);
  u16.set([1, 2, 3, 4, 5, 6, 7]);
  const services = {
    ns: () => 213,
    recorder: { event: () => {} },
    frames: { dropped: (_: number, meta: number) => dropped.push(kindOf(meta)), changed: () => {} },
    arena: { u16 },
  } as unknown as Services;
  const nic = { frameAt: 0, frameLength: frame.length ?? 60, rxGsoType: frame.gso ?? 0 } as GuestNic;
  const out = {
    tx: { num_free: frame.free ?? 1 },
    isLong: (length: number) => length > 2028,
    reclaim: () => frame.used ?? 0,
    pass: (...args: readonly unknown[]) => sent.push(args[3] as number),
  } as unknown as GuestQueuePair;
  const passed = new GuestXdp(services, 1).pass({ nic, base: 0 } as GuestQueuePair, out, 7);
  return { passed, dropped, sent, u16 };
}

describe('a frame', () => {
  test('of one buffer is sent back with its addresses swapped', () => {
    const { passed, dropped, sent, u16 } = bench({});
    assert.deepEqual([passed, dropped, sent], [true, [], [7]]);
    assert.deepEqual([...u16.subarray(0, 7)], [4, 5, 6, 1, 2, 3, 7]);
  });
  test.each<[string, Parameters<typeof bench>[0], number]>([
    ['that is to be segmented', { gso: VIRTIO_NET_HDR_GSO_TCPV4 }, GUEST_DROP_MALFORMED],
    ['that no buffer of a transmit ring holds', { length: 2029 }, GUEST_DROP_MALFORMED],
    ['that finds the ring full', { free: 0 }, GUEST_DROP_TX_FULL],
  ])('%s is dropped as it came', (_, frame, reason) => {
    const { passed, dropped, sent, u16 } = bench(frame);
    assert.deepEqual([passed, dropped, sent], [false, [reason], []]);
    assert.deepEqual([...u16.subarray(0, 2)], [1, 2]);
  });
  test('that finds the ring full of what was sent meanwhile goes out', () => {
    assert.deepEqual(bench({ free: 0, used: 1 }).sent, [7]);
  });
});

describe('queues', () => {
  const xdp = (cpus: number): GuestXdp => new GuestXdp({ ns: () => 213 } as unknown as Services, cpus);
  const nicOf = (count: number, active: number): GuestNic => {
    const nic = { active } as { active: number; pairs: readonly object[] };
    nic.pairs = Array.from({ length: count }, (_, index) => ({ nic, index }));
    return nic as unknown as GuestNic;
  };
  const peers = (cpus: number, nic: GuestNic): number[] =>
    Array.from({ length: cpus }, (_, cpu) => xdp(cpus).peerOf(nic.pairs[0]!, cpu).index);
  const owned = (cpus: number, nic: GuestNic): number[] =>
    xdp(cpus)
      .ownPairs(nic)
      .map((pair) => pair.index);

  test('more pairs than CPUs: the last ones are the program’s, one for each CPU', () => {
    const nic = nicOf(8, 4);
    assert.deepEqual(
      [peers(2, nic), owned(2, nic)],
      [
        [2, 3],
        [2, 3],
      ],
    );
  });
  test('no more pairs than CPUs: they are shared, in turn', () => {
    const nic = nicOf(2, 2);
    assert.deepEqual([peers(3, nic), owned(3, nic)], [[0, 1, 0], []]);
  });
  test('before the device has agreed to more, one is in use', () => {
    const nic = nicOf(4, 1);
    assert.deepEqual([peers(2, nic), owned(2, nic)], [[0, 0], []]);
  });

  const pairsAsked = (cpus: number, pairs: number, most: number): number => {
    const [first] = xdp(cpus).attach(pairs, most, featuresOf(VIRTIO_NET_F_MQ));
    return first!.data[0]![0]!;
  };
  test('one more for each CPU is asked for where the device has so many', () => {
    assert.deepEqual([pairsAsked(2, 2, 4), pairsAsked(2, 2, 3), pairsAsked(1, 1, 16)], [4, 2, 2]);
  });
  test('offloads are switched off where there are some, and a way to', () => {
    const commands = (...bits: number[]): number => xdp(1).attach(1, 1, featuresOf(...bits)).length;
    assert.equal(commands(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_GUEST_CSUM), 1);
    assert.equal(commands(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS), 0);
    assert.deepEqual(xdp(1).attach(1, 1, NO_FEATURES), []);
  });
});
