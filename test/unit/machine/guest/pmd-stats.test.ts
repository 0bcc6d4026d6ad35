/** Counters of DPDK's virtio PMD, against a slow model of virtio_update_packet_stats(). */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VirtnetStats, xstats } from '../../../../src/machine/guest/pmd-stats.ts';

const SIZES: readonly (readonly [string, number, number])[] = [
  ['undersize_packets', 0, 63],
  ['size_64_packets', 64, 64],
  ['size_65_127_packets', 65, 127],
  ['size_128_255_packets', 128, 255],
  ['size_256_511_packets', 256, 511],
  ['size_512_1023_packets', 512, 1023],
  ['size_1024_1518_packets', 1024, 1518],
  ['size_1519_max_packets', 1519, Number.POSITIVE_INFINITY],
];
test('each frame is in one bin by its length, and multicast or broadcast by its address', () => {
  const length = fc.oneof(
    fc.integer({ min: 14, max: 9014 }),
    fc.constantFrom(63, 64, 65, 127, 128, 255, 256, 511, 512, 1023, 1024, 1518, 1519),
  );
  const mac = fc.oneof(fc.constant(new Uint8Array(6).fill(0xff)), fc.uint8Array({ minLength: 6, maxLength: 6 }));
  fc.assert(
    fc.property(fc.array(fc.record({ length, mac }), { maxLength: 60 }), (frames) => {
      const stats = new VirtnetStats();
      const u8 = new Uint8Array(32);
      for (const f of frames) {
        u8.set(f.mac, 9);
        stats.count(u8, 9, f.length);
      }
      const rows = Object.fromEntries(stats.rows(false));
      for (const [name, low, high] of SIZES)
        expect(rows[name], name).toBe(frames.filter((f) => f.length >= low && f.length <= high).length);
      const all = (m: Uint8Array): boolean => m.every((b) => b === 0xff);
      expect(rows['broadcast_packets']).toBe(frames.filter((f) => all(f.mac)).length);
      expect(rows['multicast_packets']).toBe(frames.filter((f) => (f.mac[0]! & 1) === 1 && !all(f.mac)).length);
      expect(rows['good_packets']).toBe(frames.length);
      expect(rows['good_bytes']).toBe(frames.reduce((n, f) => n + f.length, 0));
    }),
  );
});
test('names of two queue pairs, in DPDK’s order; a transmit queue counts no errors', () => {
  const pair = () => ({ rx: new VirtnetStats(), tx: new VirtnetStats() });
  const pairs = [pair(), pair()];
  pairs[1]!.rx.error();
  const all = xstats({ pairs, nombuf: 7 });
  const names = Object.keys(all);
  // rx_q0_errors is both lib/ethdev's and the driver's
  expect(names).toHaveLength(8 + 2 * 5 + 2 * 12 + 2 * 12);
  expect(names.filter((n) => n.includes('error'))).toEqual([
    'rx_missed_errors',
    'rx_errors',
    'tx_errors',
    'rx_mbuf_allocation_errors',
    'rx_q0_errors',
    'rx_q1_errors',
  ]);
  expect([all['rx_errors'], all['rx_q1_errors'], all['rx_mbuf_allocation_errors']]).toEqual([1, 1, 7]);
});
