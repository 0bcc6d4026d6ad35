/** Segments that nobody sent: whatever their options and blocks say, nothing is thrown, and the stream arrives. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { TcpSegment } from '../../src/machine/guest/stack/tcp-segment.ts';
import { Link } from '../unit/machine/guest/stack/tcp-link.ts';
import { Bare } from '../unit/machine/packet/bare-services.ts';

test('random headers are read without a fault; four SACK blocks at most', () => {
  const { services } = new Bare(8, {});
  const at = services.pool.slot(services.pool.alloc());
  const segment = new TcpSegment(services.arena);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 80 }), fc.integer({ min: 0, max: 15 }), (bytes, offset) => {
      const data = Uint8Array.from(bytes);
      if (data.length > 12) data[12] = offset << 4;
      services.arena.u8.set(data, at);
      const fits = segment.parse(at, data.length);
      assert.equal(fits, data.length >= 20 && offset >= 5 && offset * 4 <= data.length);
      if (fits) assert.ok(segment.sacks >= 0 && segment.sacks <= 4 && segment.windowScale <= 14);
    }),
    { numRuns: 2000 },
  );
});

test('forged blocks, also of what was never sent or is at the front: the stream arrives as it was sent', () => {
  let believed = 0;
  const block = fc.tuple(fc.integer({ min: -20_000, max: 120_000 }), fc.integer({ min: -5000, max: 60_000 }));
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ after: fc.integer({ min: 5, max: 200 }), blocks: fc.array(block, { minLength: 1, maxLength: 3 }) }),
        {
          maxLength: 6,
        },
      ),
      fc.nat(40),
      (forged, lost) => {
        let data = 0;
        const link = new Link({
          bytes: 300_000,
          fate: (p) => (p.from === 'a' && p.bytes.length > 1000 && ++data === lost ? [] : [20_000]),
        }).open();
        link.run(200_000);
        for (const { after, blocks } of forged) {
          link.run(link.now + after * 1000);
          const { a } = link;
          if (a.gone !== undefined) break;
          // an acknowledgement of b's, with blocks of its own making
          const bytes = Buffer.alloc(34 + 32 + 4 + 8 * blocks.length);
          link.sentPackets.find((p) => p.from === 'b' && p.index > 0)!.bytes.copy(bytes, 0, 0, 34 + 32);
          const tcp = bytes.subarray(34);
          tcp.writeInt32BE((a.block.irs + a.block.rcvNxt) | 0, 4);
          tcp.writeInt32BE((a.block.iss + a.block.una) | 0, 8);
          tcp[12] = ((32 + 4 + 8 * blocks.length) / 4) << 4;
          tcp.writeInt32BE(a.block.tsRecent, 24);
          tcp.writeUInt32BE(0x01010500 | (2 + 8 * blocks.length), 32);
          for (const [i, [from, length]] of blocks.entries()) {
            tcp.writeInt32BE((a.block.iss + a.block.una + from) | 0, 36 + 8 * i);
            tcp.writeInt32BE((a.block.iss + a.block.una + from + length) | 0, 40 + 8 * i);
          }
          link.deliver(a, bytes, 0, 0);
          link.run(link.now);
          if (a.block.recovery.sacked.count > 0) believed++;
        }
        link.run();
        assert.deepEqual([link.b.block.received, link.b.block.mismatches, link.a.gone], [300_000, 0, null]);
      },
    ),
    { numRuns: 150 },
  );
  assert.ok(believed > 10, String(believed));
});
