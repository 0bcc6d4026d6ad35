/**
 * The legacy virtio-pci transport in Linux 6.1's hands: registers in I/O BAR 0, configuration byte by byte, rings by page
 * number. linux drivers/virtio/virtio_pci_legacy.c.
 */
import { type Features, featuresOf, VIRTIO_F_RING_RESET, VIRTIO_F_SR_IOV } from '../../virtio/features.ts';
import {
  legacyConfigOffset,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_QUEUE_ADDR_SHIFT,
  VIRTIO_PCI_VRING_ALIGN,
  virtio_pci_legacy,
} from '../../wire/pci.ts';
import type { MsixIrqs } from './msix-irqs.ts';
import type { GuestAllocator, PciAccess, ProbedQueue } from './probe-types.ts';
import { isRingSize } from './ring-memory.ts';
import { PciConfigOps, POLLS_MAX, type QueueRequest, type VirtioConfigOps } from './virtio-config-ops.ts';

const L = virtio_pci_legacy;
const BAR = 0;
const PAGE = 2 ** VIRTIO_PCI_QUEUE_ADDR_SHIFT;
/** The register holds 32 bits of page number. */
const HIGHEST_PFN = 0xffff_ffff;

export class LegacyOps extends PciConfigOps implements VirtioConfigOps {
  readonly kind = 'legacy';
  readonly without: Features = featuresOf(VIRTIO_F_RING_RESET, VIRTIO_F_SR_IOV);
  readonly usedAlign = VIRTIO_PCI_VRING_ALIGN;
  private readonly bus: PciAccess;

  constructor(bus: PciAccess, irqs: MsixIrqs, useMsix: boolean) {
    super(irqs, useMsix);
    this.bus = bus;
  }
  private get(field: { offset: number; width: number }): number {
    return this.bus.barRead(BAR, field.offset, field.width);
  }
  private set(field: { offset: number; width: number }, value: number): void {
    this.bus.barWrite(BAR, field.offset, field.width, value);
  }
  getStatus(): number {
    return this.get(L.status);
  }
  setStatus(status: number): void {
    this.set(L.status, status);
  }
  /** Linux flushes the write with one read and does not look at it; a world looks. */
  reset(): boolean {
    this.setStatus(0);
    for (let polls = 0; polls < POLLS_MAX; polls++) if (this.getStatus() === 0) return true;
    return false;
  }
  getFeatures(): Features {
    return { lo: this.get(L.host_features), hi: 0 };
  }
  finalizeFeatures(features: Features): string | null {
    this.set(L.guest_features, features.lo);
    return null;
  }
  generation(): number {
    return 0;
  }
  read(offset: number, width: number): number {
    const at = legacyConfigOffset(this.interruptEntries > 0) + offset;
    let value = 0;
    for (let i = 0; i < width; i++) value += this.bus.barRead(BAR, at + i, 1) * 2 ** (8 * i);
    return value;
  }
  takeInterrupt(): number {
    return this.get(L.isr);
  }

  /** linux setup_vq(): the ring has the size that the device says. */
  protected setupQueue(
    { index }: QueueRequest,
    allocator: GuestAllocator,
    _packed: boolean,
    vector: number,
  ): ProbedQueue | string {
    this.set(L.queue_sel, index);
    const size = this.get(L.queue_num);
    if (size === 0) return `queue ${index} does not exist`;
    this.set(L.queue_sel, index);
    if (this.get(L.queue_pfn) !== 0) return `queue ${index} is not available`;
    if (!isRingSize(size, false)) return `queue ${index}: a ring cannot have ${size} entries`;
    const ring = this.ringFor(index, size, allocator, false);
    if (ring === null) return `queue ${index}: no memory for a ring of ${size}`;
    const pfn = Math.floor(ring.descGpa / PAGE);
    if (pfn > HIGHEST_PFN) return `queue ${index}: the ring lies too high for a page number of 32 bits`;
    this.set(L.queue_sel, index);
    this.set(L.queue_pfn, pfn);
    if (vector !== VIRTIO_MSI_NO_VECTOR && this.mapQueueVector(index, vector) !== vector) {
      this.set(L.queue_pfn, 0);
      return `queue ${index}: the device refused vector ${vector}`;
    }
    return {
      index,
      size,
      ...ring,
      notifyBar: BAR,
      notifyOffset: L.queue_notify.offset,
      msixVector: vector,
    };
  }
  private mapQueueVector(index: number, vector: number): number {
    this.set(L.queue_sel, index);
    this.set(L.queue_vector, vector);
    return this.get(L.queue_vector);
  }
  protected mapConfigVector(vector: number): number {
    this.set(L.config_vector, vector);
    return this.get(L.config_vector);
  }
  /** A read of the ISR flushes; then the queue loses its page. */
  protected deleteQueue(index: number, msix: boolean): void {
    if (msix) {
      this.mapQueueVector(index, VIRTIO_MSI_NO_VECTOR);
      this.get(L.isr);
    }
    this.set(L.queue_sel, index);
    this.set(L.queue_pfn, 0);
  }
  /** The page number did it. */
  protected enableQueues(): void {}
  resetQueue(): boolean {
    return false;
  }
  enableAfterReset(): string {
    return 'the legacy interface resets no single queue';
  }
}
