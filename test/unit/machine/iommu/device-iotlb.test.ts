/** The device IOTLB of a back-end against a plain map of pages, and that nothing is given after its invalidation completed. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { IOTLB_EVICT } from '../../../../src/engine/events.ts';
import type { Recorder } from '../../../../src/engine/recorder.ts';
import { DeviceIotlb, type InFlight } from '../../../../src/machine/iommu/device-iotlb.ts';
import { IotlbTable } from '../../../../src/machine/iommu/iotlb-table.ts';
import { TRANSLATION_MISSING } from '../../../../src/machine/memory/address-space.ts';

const PAGE = 4096;

function rig(entries?: number, evicts: 'oldest' | 'random' = 'random', workers: InFlight[] = []) {
  const kinds: number[] = [];
  const asked: [number, number][] = [];
  const recorder = {
    stamp: new Float64Array(1),
    event: (meta: number) => kinds.push(meta & 0xff),
  } as unknown as Recorder;
  const iotlb = new DeviceIotlb(
    recorder,
    {
      place: 0,
      evicts,
      messageCost: 600,
      workers,
      clock: new Float64Array(2),
      onMiss: (iova, access) => asked.push([iova, access]),
      onInvalidate: () => {},
      onInvalidated: () => {},
    },
    entries,
  );
  return { iotlb, kinds, asked };
}

describe('device IOTLB', () => {
  test('a page that is missing is asked for once, and there after its update', () => {
    const { iotlb, asked } = rig();
    expect(iotlb.translate(0xffff_e123, 10, 1)).toBe(TRANSLATION_MISSING);
    expect(iotlb.translate(0xffff_e456, 10, 1)).toBe(TRANSLATION_MISSING);
    expect(asked).toEqual([[0xffff_e123, 1]]);
    iotlb.update(0xffff_e000, PAGE, 0x5000, 0);
    expect(iotlb.translate(0xffff_e123, 10, 1)).toBe(0x5123);
    expect(iotlb.statistics).toMatchObject({ entries: 1, hits: 1, misses: 1, updates: 1 });
    // forgotten, it is asked for again
    iotlb.invalidate(0xffff_e000, PAGE, 0);
    expect(iotlb.translate(0xffff_e123, 10, 1)).toBe(TRANSLATION_MISSING);
    expect(asked.length).toBe(2);
  });
  test('a range over several pages needs all of them, side by side', () => {
    const { iotlb, asked } = rig();
    iotlb.update(0x1000, PAGE, 0x5000, 0);
    expect(iotlb.translate(0x1800, PAGE, 2)).toBe(TRANSLATION_MISSING);
    expect(asked).toEqual([[0x2000, 2]]);
    iotlb.update(0x2000, PAGE, 0x6000, 0);
    expect(iotlb.translate(0x1800, PAGE, 2)).toBe(0x5800);
    iotlb.update(0x2000, PAGE, 0x9000, 0);
    expect(iotlb.translate(0x1800, PAGE, 2)).toBe(-1);
  });
  test('an invalidation waits for its message and for the work in flight', () => {
    const { iotlb } = rig(16, 'oldest', [{ busyFor: 300 }, { busyFor: 2000 }]);
    expect(iotlb.invalidate(0, PAGE, 0)).toBe(2600);
  });
  test.each(['oldest', 'random'] as const)('when full, the %s entry makes room', (evicts) => {
    const { iotlb, kinds } = rig(8, evicts);
    for (let i = 0; i < 20; i++) iotlb.update(i * PAGE, PAGE, i * PAGE, 0);
    expect(iotlb.statistics).toMatchObject({ entries: 8, evictions: 12, updates: 20 });
    expect(kinds.filter((k) => k === IOTLB_EVICT).length).toBe(12);
    expect(iotlb.translate(19 * PAGE, 1, 1)).toBe(19 * PAGE);
    if (evicts === 'oldest') expect(iotlb.translate(11 * PAGE, 1, 1)).toBe(TRANSLATION_MISSING);
    if (evicts === 'oldest') expect(iotlb.translate(12 * PAGE, 1, 1)).toBe(12 * PAGE);
  });
  test('addresses that no device has are missing, and stay so', () => {
    const { iotlb } = rig();
    for (const address of [-1, Number.NaN, 2 ** 53, 2 ** 64])
      expect(iotlb.translate(address, 8, 1)).toBe(TRANSLATION_MISSING);
  });

  const page = fc.nat(40);
  const bytes = fc.constantFrom(PAGE, PAGE, PAGE, 2 * PAGE, 2 ** 21, 2 ** 30);
  const step = fc.oneof(
    fc.record({ kind: fc.constant('update' as const), page, bytes, to: fc.nat(1000) }),
    fc.record({ kind: fc.constant('invalidate' as const), page, bytes }),
    fc.record({
      kind: fc.constant('look' as const),
      page,
      length: fc.integer({ min: 1, max: 9000 }),
      offset: fc.nat(PAGE - 1),
    }),
  );
  test('never gives a translation after its invalidation completed, nor one that was not the last update', () => {
    fc.assert(
      fc.property(fc.constantFrom(4, 16, 2048), fc.array(step, { maxLength: 300 }), (entries, steps) => {
        const { iotlb } = rig(entries);
        // by page, what was said last; entries may be missing here that made room, never be wrong
        const said = new Map<number, number>();
        const each = (first: number, size: number, act: (p: number) => void): void => {
          for (let p = 0; p <= 45; p++) if (p * PAGE < first + size && first < (p + 1) * PAGE) act(p);
        };
        for (const s of steps) {
          const large = 'bytes' in s && s.bytes > 2 * PAGE;
          const at = large ? 0 : s.page * PAGE;
          if (s.kind === 'update') {
            // what an update overlaps is forgotten as a whole, as vhost does
            iotlb.update(at, s.bytes, s.to * PAGE, 0);
            each(at, s.bytes, (p) => said.set(p, s.to * PAGE + (p * PAGE - at)));
          } else if (s.kind === 'invalidate') {
            iotlb.invalidate(at, s.bytes, 0);
            each(at, s.bytes, (p) => said.delete(p));
          } else {
            const got = iotlb.translate(at + s.offset, s.length, 1);
            if (got < 0) continue;
            each(at + s.offset, s.length, (p) => {
              expect(said.has(p)).toBe(true);
              expect(said.get(p)! - p * PAGE).toBe(got - (at + s.offset));
            });
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('the table', () => {
  test('agrees with a list', () => {
    const op = fc.record({
      what: fc.constantFrom('insert', 'remove', 'find'),
      page: fc.nat(30),
      pages: fc.constantFrom(1, 1, 3, 512),
    });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 200 }), (ops) => {
        const table = new IotlbTable(16);
        let list: { start: number; bytes: number; to: number }[] = [];
        for (const [i, { what, page, pages }] of ops.entries()) {
          const start = pages === 512 ? 0 : page * PAGE;
          const bytes = pages * PAGE;
          const overlaps = (e: { start: number; bytes: number }): boolean =>
            e.start < start + bytes && start < e.start + e.bytes;
          if (what !== 'find') {
            expect(table.invalidate(start, bytes)).toBe(list.filter(overlaps).length);
            list = list.filter((e) => !overlaps(e));
          }
          if (what === 'insert' && list.length < 16) {
            table.insert(start, bytes, i);
            list.push({ start, bytes, to: i });
          }
          const found = table.find(page * PAGE);
          const expected = list.find((e) => page * PAGE >= e.start && page * PAGE < e.start + e.bytes);
          expect(found < 0 ? undefined : table.targetOf(found)).toBe(expected?.to);
          expect(table.count).toBe(list.length);
        }
      }),
    );
  });
});
