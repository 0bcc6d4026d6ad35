/**
 * How QEMU's own devices reach a guest's memory behind its IOMMU: each address is translated when it is used, through QEMU's
 * IOTLB or by a walk of the guest's tables (qemu address_space_map() over an IOMMU memory region; hw/virtio/virtio.c).
 * Nothing is ever missing: an address that does not translate is a fault, which the guest can read.
 *
 * DEVIATION: walks take no time of the main loop; QEMU keeps ring addresses in caches of their own.
 */
import type { AddressSpace, Translator } from '../memory/address-space.ts';
import type { DeviceTlb, IntelIommu } from './intel-iommu.ts';
import { pageBytes } from './second-level.ts';

export class QemuDma implements Translator, DeviceTlb {
  generation = 0;
  hits = 0;
  faults = 0;
  /** Invalidations of this device's translations. */
  invalidations = 0;
  /** Context part of the meta words of who translates. */
  contextBits = 0;
  private readonly iommu: IntelIommu;
  private readonly sourceId: number;
  /** Guest-physical addresses, as QEMU has them mapped. */
  private readonly ram: AddressSpace;

  constructor(iommu: IntelIommu, sourceId: number, ram: AddressSpace) {
    this.iommu = iommu;
    this.sourceId = sourceId;
    this.ram = ram;
  }

  translate(iova: number, length: number, access: number): number {
    const write = (access & 2) !== 0;
    let at = -1;
    for (let done = 0; done < length || at < 0; ) {
      const t = this.iommu.translate(this.sourceId, iova + done, write, this.contextBits);
      if (t.fault !== 0) {
        this.faults++;
        return -1;
      }
      const bytes = t.identity ? length - done : pageBytes(Math.max(1, t.level));
      const piece = t.identity ? length - done : Math.min(length - done, bytes - ((iova + done) % bytes));
      const here = this.ram.translate(t.gpa, piece);
      if (here < 0 || (at >= 0 && here !== at + done)) return -1;
      if (at < 0) at = here;
      done += Math.max(piece, 1);
    }
    this.hits++;
    return at;
  }
  invalidate(_iova: number, _bytes: number, _contextBits: number): number {
    this.invalidations++;
    this.generation++;
    return 0;
  }
}
