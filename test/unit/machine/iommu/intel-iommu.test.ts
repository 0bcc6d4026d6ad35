/** intel-iommu: translations through tables in guest memory, the invalidation queue, faults. Nothing there is trusted. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { IOMMU_FAULT, IOMMU_INVALIDATE, IOMMU_WAIT_DONE, KVM_EXIT_MMIO_USER } from '../../../../src/engine/events.ts';
import type { DeviceTlb } from '../../../../src/machine/iommu/intel-iommu.ts';
import {
  DMA_FSTS_IQE,
  DMA_FSTS_PFO,
  DMA_FSTS_PPF,
  DMAR_FRCD_REG,
  DMAR_FSTS_REG,
  DMAR_GSTS_REG,
  DMAR_IQH_REG,
  DMAR_IQT_REG,
  QI_DIOTLB_TYPE,
  QI_IOTLB_TYPE,
  qi_desc,
  VTD_FR_ADDR_BEYOND_MGAW,
  VTD_FR_CONTEXT_ENTRY_P,
  VTD_FR_PAGING_ENTRY_INV,
  VTD_FR_READ,
  VTD_FR_ROOT_ENTRY_P,
  VTD_FR_WRITE,
  VTD_SL_R,
  VTD_SL_W,
  vtd_context_entry,
  vtd_root_entry,
} from '../../../../src/machine/wire/vtd.ts';
import { Rig } from './iommu-rig.ts';

const SID = 0x08;
const RW = VTD_SL_R | VTD_SL_W;

function attached(rig = new Rig()) {
  const domain = rig.driver.domain();
  rig.driver.attach(rig, SID, domain);
  return { rig, domain };
}

describe('structures', () => {
  test('have the sizes of the specification', () => {
    expect([vtd_root_entry.SIZE, vtd_context_entry.SIZE, qi_desc.SIZE]).toEqual([16, 16, 16]);
  });
  test('root entry, context entry and the three levels are real words of guest memory', () => {
    const { rig, domain } = attached();
    domain.tables.mapPage(0xffffe000, 0x3000, 1, RW);
    const word = (gpa: number): number => rig.memory.arena.u32[(rig.memory.ram + gpa) >> 2]!;
    const root = 8 * 2 ** 20;
    const context = word(root) & ~0xfff;
    expect(word(root) & 1).toBe(1);
    // present, translation type 01 (with device-TLB), 39 bits, domain 1
    expect(word(context + SID * 16)).toBe(domain.tables.root | (1 << 2) | 1);
    expect(word(context + SID * 16 + 8)).toBe(1 | (1 << 8));
    const l2 = word(domain.tables.root + 8 * 3) & ~0xfff;
    const l1 = word(l2 + 8 * 511) & ~0xfff;
    expect(word(l1 + 8 * 510)).toBe(0x3000 | RW);
  });
});

describe('translation', () => {
  test('with pages of 4 KiB, 2 MiB and 1 GiB', () => {
    const { rig, domain } = attached();
    domain.tables.mapPage(0xffffe000, 0x3000, 1, RW);
    domain.tables.mapPage(0x4000_0000, 0x20_0000, 2, RW);
    domain.tables.mapPage(0x8000_0000, 0, 3, RW);
    const at = (iova: number) => {
      const t = rig.iommu.translate(SID, iova, false, 0);
      return [t.fault, t.gpa, t.level];
    };
    expect(at(0xffffe123)).toEqual([0, 0x3123, 1]);
    expect(at(0x4000_0000 + 0x12345)).toEqual([0, 0x20_0000 + 0x12345, 2]);
    expect(at(0x8000_0000 + 0x123456)).toEqual([0, 0x123456, 3]);
    // again, from QEMU's IOTLB
    expect(at(0xffffe123)).toEqual([0, 0x3123, 1]);
    expect([rig.iommu.walks, rig.iommu.hits]).toEqual([3, 1]);
  });
  test('reads and writes are allowed apart', () => {
    const { rig, domain } = attached();
    domain.tables.mapPage(0x1000, 0x3000, 1, VTD_SL_R);
    domain.tables.mapPage(0x2000, 0x4000, 1, VTD_SL_W);
    expect(rig.iommu.translate(SID, 0x1000, false, 0).fault).toBe(0);
    expect(rig.iommu.translate(SID, 0x1000, true, 0).fault).toBe(VTD_FR_WRITE);
    expect(rig.iommu.translate(SID, 0x2000, true, 0).fault).toBe(0);
    expect(rig.iommu.translate(SID, 0x2000, false, 0).fault).toBe(VTD_FR_READ);
  });
  test('passes through where the context entry says so, and everything while it is off', () => {
    const rig = new Rig();
    rig.driver.attach(rig, SID, null);
    expect(rig.iommu.translate(SID, 0x5123, true, 0)).toMatchObject({ fault: 0, gpa: 0x5123, identity: true });
    rig.iommu.write(0x18, 0x0400_0000, 0);
    expect(rig.iommu.enabled).toBe(false);
    expect(rig.iommu.translate(0x1234, 0x5123, true, 0)).toMatchObject({ fault: 0, gpa: 0x5123 });
  });
  test.each([
    ['no root entry for the bus', 0x0108, 0, VTD_FR_ROOT_ENTRY_P],
    ['no context entry for the device', 0x10, 0, VTD_FR_CONTEXT_ENTRY_P],
    ['nothing mapped', SID, 0x1000, VTD_FR_READ],
    ['beyond 39 bits', SID, 2 ** 39, VTD_FR_ADDR_BEYOND_MGAW],
  ])('faults: %s', (_, sid, iova, reason) => {
    const { rig } = attached();
    expect(rig.iommu.translate(sid, iova, false, 0).fault).toBe(reason);
    expect(rig.count(IOMMU_FAULT)).toBe(1);
    expect(rig.iommu.read(DMAR_FSTS_REG) & DMA_FSTS_PPF).toBe(DMA_FSTS_PPF);
    expect(rig.iommu.read(DMAR_FRCD_REG + 12) & 0xff).toBe(reason);
    expect(rig.iommu.read(DMAR_FRCD_REG + 8)).toBe(sid);
  });
  test('a second fault before the first is read overflows, and clearing makes room', () => {
    const { rig } = attached();
    rig.iommu.translate(SID, 0x1000, false, 0);
    rig.iommu.translate(SID, 0x2000, true, 0);
    expect(rig.iommu.read(DMAR_FSTS_REG)).toBe(DMA_FSTS_PPF | DMA_FSTS_PFO);
    expect(rig.iommu.read(DMAR_FRCD_REG)).toBe(0x1000);
    rig.iommu.write(DMAR_FRCD_REG + 12, 0x8000_0000, 0);
    rig.iommu.write(DMAR_FSTS_REG, DMA_FSTS_PFO, 0);
    expect(rig.iommu.read(DMAR_FSTS_REG)).toBe(0);
  });
  test('a table outside memory faults, and a hostile guest reaches nothing beyond its memory', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(0x7fff), fc.nat()), { maxLength: 40 }),
        fc.array(fc.nat()),
        (words, iovas) => {
          const { rig, domain } = attached();
          for (let i = 0; i < 512; i += 3) rig.poke(domain.tables.root + 8 * i, 0xffff_f003);
          for (const [at, value] of words) rig.poke(8 * 2 ** 20 + 4 * at, value);
          for (const iova of iovas) {
            const t = rig.iommu.translate(SID, iova, false, 0);
            expect(Number.isSafeInteger(t.gpa)).toBe(true);
          }
        },
      ),
      { numRuns: 40 },
    );
    const { rig, domain } = attached();
    rig.poke(domain.tables.root, 0xffff_f003);
    expect(rig.iommu.translate(SID, 0, false, 0).fault).toBe(VTD_FR_PAGING_ENTRY_INV);
  });
});

describe('invalidation queue', () => {
  test('what QEMU has cached is given until it is invalidated, and not after', () => {
    const { rig, domain } = attached();
    domain.tables.mapPage(0xffffe000, 0x3000, 1, RW);
    rig.iommu.translate(SID, 0xffffe000, false, 0);
    domain.tables.unmapPage(0xffffe000, 1);
    expect(rig.iommu.translate(SID, 0xffffe000, false, 0).fault).toBe(0); // stale, as hardware
    rig.driver.flushPages(rig, domain, 0xffffe, 1, false);
    expect(rig.iommu.translate(SID, 0xffffe000, false, 0).fault).toBe(VTD_FR_READ);
  });
  test('an unmap is two submissions with an exit and a wait each, a map in caching mode one', () => {
    const { rig, domain } = attached();
    const told: [number, number][] = [];
    const tlb: DeviceTlb = {
      invalidate: (iova, bytes) => {
        told.push([iova, bytes]);
        return 7;
      },
    };
    rig.iommu.attach(SID, tlb);
    rig.events.length = 0;
    rig.owed = 0;
    rig.driver.flushPages(rig, domain, 0xffffe, 1, false);
    expect([rig.count(KVM_EXIT_MMIO_USER), rig.count(IOMMU_INVALIDATE), rig.count(IOMMU_WAIT_DONE)]).toEqual([2, 2, 2]);
    expect(rig.events.filter((e) => e.kind === IOMMU_INVALIDATE).map((e) => [e.a & 0xf, e.b])).toEqual([
      [QI_IOTLB_TYPE, 0xffffe],
      [QI_DIOTLB_TYPE, 0xffffe],
    ]);
    expect(told).toEqual([[0xffffe000, 4096]]);
    // submissions, exits, four descriptors, and what the device-TLB waited for
    expect(rig.owed).toBe(2 * 5 + 2 * 1000 + 4 * 10 + 7);
    rig.events.length = 0;
    rig.driver.flushPages(rig, domain, 0xffffe, 1, true);
    expect([rig.count(KVM_EXIT_MMIO_USER), told.length]).toEqual([1, 1]);
  });
  test('the size of a device-TLB invalidation is in its address', () => {
    const { rig, domain } = attached();
    const told: [number, number][] = [];
    rig.iommu.attach(SID, {
      invalidate: (iova, bytes) => {
        told.push([iova, bytes]);
        return 0;
      },
    });
    for (const pages of [1, 2, 3, 4, 8, 16, 64]) rig.driver.flushPages(rig, domain, 0xfff80, pages, false);
    expect(told).toEqual([1, 2, 4, 4, 8, 16, 64].map((pages) => [0xfff80000, pages * 4096]));
    told.length = 0;
    rig.driver.flushDomain(rig, domain);
    expect(told).toEqual([[0, 2 ** 39]]);
  });
  test('the queue wraps', () => {
    const { rig, domain } = attached();
    for (let i = 0; i < 300; i++) rig.driver.flushPages(rig, domain, 0xffffe, 1, true);
    expect(rig.iommu.read(DMAR_IQH_REG)).toBe(rig.iommu.read(DMAR_IQT_REG));
    expect(rig.iommu.read(DMAR_FSTS_REG) & DMA_FSTS_IQE).toBe(0);
  });
  test('a descriptor that is none stops the queue until the guest clears the error', () => {
    const { rig, domain } = attached();
    const head = rig.iommu.read(DMAR_IQH_REG);
    rig.poke(8 * 2 ** 20 + 4096 + head, 0xf);
    rig.iommu.write(DMAR_IQT_REG, head + 16, 0);
    expect(rig.iommu.read(DMAR_FSTS_REG) & DMA_FSTS_IQE).toBe(DMA_FSTS_IQE);
    expect(rig.iommu.read(DMAR_IQH_REG)).toBe(head);
    rig.events.length = 0;
    rig.driver.flushPages(rig, domain, 1, 1, true);
    expect(rig.count(IOMMU_INVALIDATE)).toBe(0);
    rig.iommu.write(DMAR_FSTS_REG, DMA_FSTS_IQE, 0);
    expect(rig.count(IOMMU_INVALIDATE)).toBe(1);
  });
  test('a queue, a tail or a status word outside memory harms nothing', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(0x22c), fc.nat()), { maxLength: 60 }), (writes) => {
        const { rig } = attached();
        for (const [offset, value] of writes) rig.iommu.write(offset & ~3, value, 0);
        expect(rig.iommu.read(DMAR_GSTS_REG)).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});
