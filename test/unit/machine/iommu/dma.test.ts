/** DMA users of a guest: the kernel's maps buffer by buffer, strict or lazy; a program's stand from the start. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { IOMMU_FLUSH, IOMMU_INVALIDATE, KVM_EXIT_MMIO_USER } from '../../../../src/engine/events.ts';
import { NEVER } from '../../../../src/engine/timeline.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_TO_DEVICE } from '../../../../src/machine/iommu/dma.ts';
import { DmaPort, IOVA_FQ_SIZE, IOVA_FQ_TIMEOUT_NS } from '../../../../src/machine/iommu/dma-iommu.ts';
import { IovaDomain } from '../../../../src/machine/iommu/iova.ts';
import { VfioDma } from '../../../../src/machine/iommu/static-dma.ts';
import { EEXIST, EINVAL, ENOMEM } from '../../../../src/machine/kernel/errno.ts';
import { VTD_FR_READ, VTD_FR_WRITE } from '../../../../src/machine/wire/vtd.ts';
import { RAM_BYTES, Rig } from './iommu-rig.ts';

const SID = 0x08;
const COSTS = { map: 150, unmap: 120 };

function dynamic(lazy: boolean, cachingMode = !lazy) {
  const rig = new Rig(cachingMode);
  const domain = rig.driver.domain();
  rig.driver.attach(rig, SID, domain);
  const space = { driver: rig.driver, domain, iova: new IovaDomain(), lazy };
  const port = new DmaPort(space, rig.recorder, 0, rig, COSTS);
  rig.events.length = 0;
  rig.owed = 0;
  return { rig, port };
}
function fixed(pages?: number) {
  const rig = new Rig(true, pages);
  const domain = rig.driver.domain();
  rig.driver.attach(rig, SID, domain);
  return { rig, vfio: new VfioDma(rig.driver, domain, rig.recorder, 0, rig, COSTS) };
}
const gpaOf = (rig: Rig, iova: number, write: boolean): number => {
  const t = rig.iommu.translate(SID, iova, write, 0);
  return t.fault === 0 ? t.gpa : -t.fault;
};

describe('the kernel’s DMA API', () => {
  test('a buffer has pages of its own, and the offset in its page', () => {
    const { rig, port } = dynamic(false);
    const iova = port.map(0x12_3800, 2048, DMA_FROM_DEVICE);
    expect(iova).toBe(0xffff_f800);
    expect(gpaOf(rig, iova + 5, true)).toBe(0x12_3805);
    expect(gpaOf(rig, iova, false)).toBe(-VTD_FR_READ);
    // half a page on the next one: two pages
    const two = port.map(0x12_4c00, 2048, DMA_TO_DEVICE);
    expect(gpaOf(rig, two + 2047, false)).toBe(0x12_4c00 + 2047);
    expect(gpaOf(rig, two, true)).toBe(-VTD_FR_WRITE);
  });
  test('strict: after unmap nothing translates, and the address is used again at once', () => {
    const { rig, port } = dynamic(false);
    const iova = port.map(0x12_3000, 1536, DMA_TO_DEVICE);
    gpaOf(rig, iova, false);
    rig.events.length = 0;
    port.unmap(iova, 1536);
    expect(rig.count(KVM_EXIT_MMIO_USER)).toBe(2);
    expect(gpaOf(rig, iova, false)).toBe(-VTD_FR_READ);
    expect(port.map(0x77_7000, 64, DMA_TO_DEVICE)).toBe(0xffff_f000);
  });
  test('lazy: no exit for each buffer, one flush for 256, and no address comes back before it', () => {
    const { rig, port } = dynamic(true);
    const seen = new Set<number>();
    for (let i = 0; i < IOVA_FQ_SIZE; i++) {
      const iova = port.map(0x12_3000, 64, DMA_TO_DEVICE);
      expect(seen.has(iova)).toBe(false);
      seen.add(iova);
      port.unmap(iova, 64);
    }
    expect(rig.count(KVM_EXIT_MMIO_USER)).toBe(0);
    expect(rig.owed).toBe(IOVA_FQ_SIZE * (COSTS.map + COSTS.unmap));
    port.unmap(port.map(0x12_3000, 64, DMA_TO_DEVICE), 64);
    expect([rig.count(IOMMU_FLUSH), rig.count(IOMMU_INVALIDATE), rig.count(KVM_EXIT_MMIO_USER)]).toEqual([1, 2, 2]);
    expect(seen.has(port.map(0x12_3000, 64, DMA_TO_DEVICE))).toBe(true);
  });
  test('lazy: the timer runs once something waits, and flushes it', () => {
    const { rig, port } = dynamic(true);
    expect(port.flushDue[0]).toBe(NEVER);
    rig.recorder.stamp[0] = 5000;
    port.unmap(port.map(0x12_3000, 64, DMA_TO_DEVICE), 64);
    expect(port.flushDue[0]).toBe(5000 + IOVA_FQ_TIMEOUT_NS);
    port.flush(true);
    expect([port.flushDue[0], rig.count(IOMMU_FLUSH)]).toEqual([NEVER, 1]);
    port.flush(true);
    expect(rig.count(IOMMU_FLUSH)).toBe(1);
  });
  test('what was never mapped is not unmapped', () => {
    const { rig, port } = dynamic(false);
    port.unmap(0xffff_0000, 64);
    port.unmap(-1, 64);
    expect([port.unmaps, rig.count(IOMMU_INVALIDATE)]).toEqual([0, 0]);
  });
  test('every mapping gives its own bytes, whatever was mapped and unmapped before', () => {
    const step = fc.record({
      unmap: fc.boolean(),
      gpa: fc.integer({ min: 0, max: 7 * 2 ** 20 }),
      bytes: fc.integer({ min: 1, max: 70_000 }),
      which: fc.nat(1000),
    });
    fc.assert(
      fc.property(fc.boolean(), fc.array(step, { maxLength: 80 }), (lazy, steps) => {
        const { rig, port } = dynamic(lazy);
        const held: { iova: number; gpa: number; bytes: number }[] = [];
        for (const { unmap, gpa, bytes, which } of steps) {
          if (unmap && held.length > 0) {
            const [gone] = held.splice(which % held.length, 1);
            port.unmap(gone!.iova, gone!.bytes);
            if (!lazy) expect(gpaOf(rig, gone!.iova, false)).toBe(-VTD_FR_READ);
          } else held.push({ iova: port.map(gpa, bytes, DMA_BIDIRECTIONAL), gpa, bytes });
          for (const h of held) {
            expect(gpaOf(rig, h.iova, true)).toBe(h.gpa);
            expect(gpaOf(rig, h.iova + h.bytes - 1, false)).toBe(h.gpa + h.bytes - 1);
          }
        }
      }),
    );
  });
});

describe('a program’s static maps', () => {
  test('take the largest pages that fit', () => {
    const { rig, vfio } = fixed();
    expect(vfio.mapRegion(0x1_4000_0000, 0x20_0000, 0x40_1000, 2 ** 21)).toBe(0);
    const level = (offset: number): number => rig.iommu.translate(SID, 0x1_4000_0000 + offset, true, 0).level;
    expect([level(0), level(0x20_0000), level(0x40_0000)]).toEqual([2, 2, 1]);
    expect(gpaOf(rig, 0x1_4000_0000 + 0x40_0fff, false)).toBe(0x60_0fff);
    expect(vfio.map(0x20_0800, 64)).toBe(0x1_4000_0800);
    expect(vfio.map(0x10_0000, 64)).toBe(-1);
  });
  test('are refused where they make no sense', () => {
    const { vfio } = fixed();
    expect(vfio.mapRegion(0x1000, 0x1000, 0x2000, 4096)).toBe(0);
    expect(vfio.mapRegion(0x2000, 0x5000, 0x1000, 4096)).toBe(-EEXIST);
    for (const [iova, gpa, bytes] of [
      [1, 0, 4096],
      [0x8000, 0, 100],
      [0x8000, 0, 0],
      [0x8000, RAM_BYTES, 4096],
      [2 ** 39, 0, 4096],
      [-4096, 0, 4096],
    ] as const)
      expect(vfio.mapRegion(iova, gpa, bytes, 4096)).toBe(-EINVAL);
    expect(vfio.unmapRegion(0x2000, 0x1000)).toBe(-EINVAL); // half of a mapping
    expect(vfio.unmapRegion(0x100_0000, 0x1000)).toBe(0);
  });
  test('without memory for tables nothing stays mapped', () => {
    const { rig, vfio } = fixed(7);
    expect(vfio.mapRegion(0, 0, 2 * 2 ** 21, 4096)).toBe(-ENOMEM);
    expect(gpaOf(rig, 0, false)).toBe(-VTD_FR_READ);
    expect(vfio.regions).toEqual([]);
  });
  test('unmapping tells the device', () => {
    const { rig, vfio } = fixed();
    const told: number[] = [];
    rig.iommu.attach(SID, {
      invalidate: (iova) => {
        told.push(iova);
        return 0;
      },
    });
    vfio.mapRegion(0x20_0000, 0x20_0000, 0x20_0000, 2 ** 21);
    expect(gpaOf(rig, 0x20_0123, true)).toBe(0x20_0123);
    expect(vfio.unmapRegion(0, 0x1000_0000)).toBe(0x20_0000);
    expect(told).toEqual([0]);
    expect(gpaOf(rig, 0x20_0123, true)).toBe(-VTD_FR_WRITE);
  });
});
