/** The heap of a DPDK program: pages taken as they are needed, and what devices and the program call them. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EAL_BASE_VIRTADDR, EalMemory, type Memseg } from '../../../../src/machine/dpdk/eal-memory.ts';

const MiB = 2 ** 20;
const huge = (options: object = {}): EalMemory =>
  new EalMemory({ from: MiB, to: 16 * MiB, pageBytes: 2 * MiB, iovaMode: 'pa', atStart: 0, ...options });

test('begins at a whole page, and takes one page after the other', () => {
  const memory = huge();
  const grown: Memseg[] = [];
  memory.onGrow = (m) => grown.push(m);
  expect(memory.init()).toBe(true);
  expect(memory.alloc(3 * MiB, 4096)).toBe(2 * MiB);
  expect(grown.map((m) => [m.physical, m.iova, m.vaddr, m.bytes])).toEqual([
    [2 * MiB, 2 * MiB, EAL_BASE_VIRTADDR, 2 * MiB],
    [4 * MiB, 4 * MiB, EAL_BASE_VIRTADDR + 2 * MiB, 2 * MiB],
  ]);
  expect(memory.alloc(MiB, 4096)).toBe(5 * MiB);
  expect([memory.pages, memory.free]).toEqual([2, 0]);
});
test('is refused what the system has not, and keeps what it has', () => {
  const memory = huge({ to: 6 * MiB });
  expect(memory.alloc(5 * MiB, 4096)).toBe(-1);
  expect([memory.pages, memory.alloc(4 * MiB, 4096), memory.alloc(1, 1)]).toEqual([0, 2 * MiB, -1]);
  expect(huge({ atStart: 15 * MiB }).init()).toBe(false);
});
test('without hugepages: one segment, with the program’s own addresses for devices', () => {
  const memory = huge({ pageBytes: 4096, iovaMode: 'va', atStart: 3 * MiB });
  expect(memory.init()).toBe(true);
  expect(memory.memsegs).toEqual([
    { vaddr: EAL_BASE_VIRTADDR, physical: MiB, iova: EAL_BASE_VIRTADDR, bytes: 3 * MiB },
  ]);
  expect(memory.iova(MiB + 5)).toBe(EAL_BASE_VIRTADDR + 5);
});
test('allocations lie apart, aligned, in pages that were taken, and are found by their virtual address', () => {
  const page = fc.constantFrom(4096, 2 * MiB);
  const asked = fc.array(
    fc.record({ bytes: fc.integer({ min: 1, max: 300_000 }), align: fc.constantFrom(1, 16, 4096) }),
    {
      maxLength: 40,
    },
  );
  fc.assert(
    fc.property(page, asked, (pageBytes, list) => {
      const memory = huge({ pageBytes });
      let end = 0;
      for (const { bytes, align } of list) {
        const at = memory.alloc(bytes, align);
        if (at < 0) continue;
        expect(at % align).toBe(0);
        expect(at).toBeGreaterThanOrEqual(end);
        end = at + bytes;
        const virtual = memory.memsegs[0]!.vaddr + (at - memory.memsegs[0]!.physical);
        expect(memory.physical(virtual, bytes)).toBe(at);
      }
      const sum = memory.memsegs.reduce((n, m) => n + m.bytes, 0);
      expect(sum).toBe(memory.bytes);
      expect(memory.physical(EAL_BASE_VIRTADDR, memory.bytes + 1)).toBe(-1);
      expect(memory.physical(EAL_BASE_VIRTADDR - 1, 1)).toBe(-1);
    }),
  );
});
