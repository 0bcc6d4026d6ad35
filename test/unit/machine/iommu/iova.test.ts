/** I/O virtual addresses of a domain: from the top of 4 GiB down, aligned to their size, never given out twice. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { IovaDomain } from '../../../../src/machine/iommu/iova.ts';

describe('IOVAs', () => {
  // QEMU 7.2.22, Linux 6.1 guest, DPDK 22.11 testpmd, recorded: SET_VRING_ADDR of two rings of 256 entries, two pages each
  test('the first rings lie where a real guest had them', () => {
    const domain = new IovaDomain();
    expect((domain.alloc(2) * 4096).toString(16)).toBe('ffffe000');
    expect((domain.alloc(2) * 4096).toString(16)).toBe('ffffc000');
  });
  test('what was freed last comes first, in its size', () => {
    const domain = new IovaDomain();
    const [a, b] = [domain.alloc(1), domain.alloc(1)];
    domain.free(a, 1);
    domain.free(b, 1);
    expect([domain.alloc(1), domain.alloc(1)]).toEqual([b, a]);
    expect(domain.alloc(3)).toBe(0xffff8);
  });
  test('messages of interrupts are left out', () => {
    const domain = new IovaDomain();
    for (let i = 0; i < 0x200; i++) {
      const pfn = domain.alloc(16);
      expect(pfn + 16 <= 0xfee00 || pfn > 0xfeeff).toBe(true);
    }
  });
  test('an exhausted space says so', () => {
    const domain = new IovaDomain();
    let n = 0;
    while (domain.alloc(1 << 17) >= 0) n++;
    expect(n).toBeLessThan(8);
    expect(domain.alloc(1 << 18)).toBe(-1);
  });
  test('ranges never overlap and are aligned to their size', () => {
    const step = fc.record({ free: fc.boolean(), pages: fc.integer({ min: 1, max: 70 }), which: fc.nat(1000) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const domain = new IovaDomain();
        const held: { pfn: number; pages: number }[] = [];
        for (const { free, pages, which } of steps) {
          if (free && held.length > 0) {
            const [gone] = held.splice(which % held.length, 1);
            domain.free(gone!.pfn, gone!.pages);
            continue;
          }
          const pfn = domain.alloc(pages);
          const size = 2 ** Math.ceil(Math.log2(pages));
          expect(pfn % size).toBe(0);
          for (const h of held) expect(pfn + pages <= h.pfn || h.pfn + h.pages <= pfn).toBe(true);
          held.push({ pfn, pages });
        }
        const sum = held.reduce((n, h) => n + 2 ** Math.ceil(Math.log2(h.pages)), 0);
        expect(domain.allocated).toBe(sum);
      }),
    );
  });
});
