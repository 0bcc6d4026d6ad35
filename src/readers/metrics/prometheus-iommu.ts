/** Metrics of guests behind an IOMMU: what their kernels map, what QEMU's intel-iommu does, what back-ends miss. */
import * as E from '../../engine/events.ts';
import { counted, counter, countOf, type Family, NIC, perNic, type Series } from './prometheus-family.ts';
import type { WorldNames } from './prometheus-labels.ts';

const GUEST = ['topology', 'guest'] as const;
/** Of each guest: what its QEMU counts. */
function perVmm(w: WorldNames, kind: number): Series[] {
  return w.places('vmm').map((p) => counted([w.catalog.topology, w.guest(p)], [countOf(p.id, kind)]));
}

export const IOMMU_FAMILIES: readonly Family[] = [
  counter(
    'iommu_maps_total',
    'Buffers and rings that a guest’s kernel mapped for a NIC.',
    NIC,
    (w) => perNic(w, ['driver'], [E.IOMMU_MAP]),
    { counterpart: 'tracepoint iommu:map of the guest' },
  ),
  counter(
    'iommu_unmaps_total',
    'Buffers that a guest’s kernel unmapped.',
    NIC,
    (w) => perNic(w, ['driver'], [E.IOMMU_UNMAP]),
    { counterpart: 'tracepoint iommu:unmap of the guest' },
  ),
  counter(
    'iommu_flushes_total',
    'Lazy mode: flushes of a queue of unmapped buffers, each an invalidation of the whole domain.',
    NIC,
    (w) => perNic(w, ['driver'], [E.IOMMU_FLUSH]),
  ),
  counter(
    'iommu_invalidations_total',
    'Descriptors of the invalidation queue that QEMU executed, but for wait descriptors.',
    GUEST,
    (w) => perVmm(w, E.IOMMU_INVALIDATE),
    { counterpart: 'trace events vtd_inv_desc_* of QEMU' },
  ),
  counter('iommu_faults_total', 'Translations that the IOMMU refused.', GUEST, (w) => perVmm(w, E.IOMMU_FAULT), {
    counterpart: 'lines `DMAR: [DMA Read] … fault addr` of the guest’s log; trace event vtd_fault_disabled of QEMU',
  }),
  counter(
    'iotlb_misses_total',
    'Addresses that a back-end asked QEMU for.',
    NIC,
    (w) => perNic(w, ['backend'], [E.IOTLB_MISS]),
    { counterpart: '`iotlb_misses` (DPDK vhost statistics); trace event vhost_iotlb_miss of QEMU' },
  ),
  counter(
    'iotlb_updates_total',
    'Translations that QEMU gave a back-end.',
    NIC,
    (w) => perNic(w, ['backend'], [E.IOTLB_UPDATE]),
    { counterpart: 'messages VHOST_IOTLB_UPDATE' },
  ),
  counter(
    'iotlb_invalidations_total',
    'Times that QEMU took translations from a back-end.',
    NIC,
    (w) => perNic(w, ['backend'], [E.IOTLB_INVALIDATE]),
    { counterpart: 'messages VHOST_IOTLB_INVALIDATE' },
  ),
  counter('iotlb_evictions_total', 'Translations that a back-end forgot to make room.', NIC, (w) =>
    perNic(w, ['backend'], [E.IOTLB_EVICT]),
  ),
];
