/** TCP over links that lose, duplicate and reorder: the streams arrive as they were sent, and everything ends. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { RandomStream } from '../../src/engine/random.ts';
import { Link, OFFLOADS, PLAIN } from '../unit/machine/guest/stack/tcp-link.ts';

test('random loss, duplicates and reordering: every byte arrives once and in order, and both sides close', () => {
  fc.assert(
    fc.property(
      fc.record({
        seed: fc.nat(),
        bytes: fc.nat(400_000),
        loss: fc.double({ min: 0, max: 0.2, noNaN: true }),
        duplicates: fc.double({ min: 0, max: 0.2, noNaN: true }),
        jitter: fc.nat(200_000),
        gso: fc.boolean(),
        gro: fc.boolean(),
        family: fc.constantFrom(4 as const, 6 as const),
        congestion: fc.constantFrom('newreno' as const, 'cubic' as const),
        sack: fc.tuple(fc.boolean(), fc.boolean()),
        buffer: fc.constantFrom(4000, 65_536, 262_144, 1_048_576),
      }),
      ({ seed, bytes, loss, duplicates, jitter, gso, gro, family, congestion, sack, buffer }) => {
        const random = new RandomStream(seed, 'link');
        const uniform = (): number => random.next() / 2 ** 32;
        const link = new Link({
          bytes,
          family,
          gro,
          tcp: { congestion, sack: sack[0], buffer },
          serverTcp: { congestion, sack: sack[1], buffer },
          caps: gso ? [OFFLOADS, OFFLOADS] : [PLAIN, PLAIN],
          fate: () => {
            if (uniform() < loss) return [];
            const delay = (): number => 10_000 + Math.floor(uniform() * (jitter + 1));
            return uniform() < duplicates ? [delay(), delay()] : [delay()];
          },
        }).open();
        link.run();
        assert.equal(link.a.block.sack, sack[0] && sack[1]);
        assert.equal(link.b.block.mismatches, 0);
        assert.equal(link.b.block.received, bytes);
        assert.equal(link.a.block.acknowledged, bytes);
        assert.equal(link.a.gone, null);
        // the last ACK may be lost for good once the other side is gone, but never the stream's end
        assert.equal(link.b.gone, null);
      },
    ),
    { numRuns: 150 },
  );
});
