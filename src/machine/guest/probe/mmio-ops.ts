/**
 * The virtio-mmio transport in Linux 6.1's hands, version 2. linux drivers/virtio/virtio_mmio.c.
 */
import {
  type Features,
  featuresOf,
  featureWord,
  hasFeature,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_SR_IOV,
  VIRTIO_F_VERSION_1,
} from '../../virtio/features.ts';
import { VIRTIO_MSI_NO_VECTOR } from '../../wire/pci.ts';
import {
  virtio_mmio as M,
  VIRTIO_MMIO_CONFIG,
  VIRTIO_MMIO_DEVICE_NET,
  VIRTIO_MMIO_INT_CONFIG,
  VIRTIO_MMIO_INT_VRING,
  VIRTIO_MMIO_MAGIC,
  VIRTIO_MMIO_VERSION_MODERN,
} from '../../wire/virtio-mmio.ts';
import type { GuestAllocator, MmioAccess, ProbedQueue } from './probe-types.ts';
import { allocateRing, isRingSize } from './ring-memory.ts';
import { POLLS_MAX, type QueueRequest, type VirtioConfigOps } from './virtio-config-ops.ts';

/** linux VIRTIO_MMIO_VRING_ALIGN. */
const VRING_ALIGN = 4096;

export class MmioOps implements VirtioConfigOps {
  readonly kind = 'mmio';
  /** What only virtio-pci carries (linux vp_transport_features()). */
  readonly without: Features = featuresOf(VIRTIO_F_RING_RESET, VIRTIO_F_SR_IOV);
  readonly usedAlign = VRING_ALIGN;
  readonly interruptEntries = 0;
  private readonly bus: MmioAccess;
  private queues: ProbedQueue[] = [];

  constructor(bus: MmioAccess) {
    this.bus = bus;
  }
  private get(offset: number): number {
    return this.bus.read(offset, 4);
  }
  private set(offset: number, value: number): void {
    this.bus.write(offset, 4, value);
  }

  /** linux virtio_mmio_probe(): why the device is not ours, or null. The first answer that does not fit ends it. */
  identify(): string | null {
    if (this.get(M.MAGIC_VALUE) !== VIRTIO_MMIO_MAGIC) return 'no virtio-mmio device: wrong magic value';
    const version = this.get(M.VERSION);
    if (version !== VIRTIO_MMIO_VERSION_MODERN) return `virtio-mmio version ${version} is not supported`;
    const id = this.get(M.DEVICE_ID);
    if (id === 0) return 'a placeholder: there is no device behind it';
    if (id !== VIRTIO_MMIO_DEVICE_NET) return `virtio device ${id} is no network device`;
    this.get(M.VENDOR_ID);
    return null;
  }
  getStatus(): number {
    return this.get(M.STATUS) & 0xff;
  }
  setStatus(status: number): void {
    this.set(M.STATUS, status);
  }
  /** DEVIATION: linux vm_reset() only writes; here the driver waits for 0, as virtio 1.2 §2.4.2 asks. */
  reset(): boolean {
    this.setStatus(0);
    for (let polls = 0; polls < POLLS_MAX; polls++) if (this.getStatus() === 0) return true;
    return false;
  }
  /** The upper word first, as Linux. */
  getFeatures(): Features {
    this.set(M.DEVICE_FEATURES_SEL, 1);
    const hi = this.get(M.DEVICE_FEATURES);
    this.set(M.DEVICE_FEATURES_SEL, 0);
    return { lo: this.get(M.DEVICE_FEATURES), hi };
  }
  finalizeFeatures(features: Features): string | null {
    if (!hasFeature(features, VIRTIO_F_VERSION_1)) return 'a version 2 device without VIRTIO_F_VERSION_1';
    for (const select of [1, 0]) {
      this.set(M.DRIVER_FEATURES_SEL, select);
      this.set(M.DRIVER_FEATURES, featureWord(features, select));
    }
    return null;
  }
  generation(): number {
    return this.get(M.CONFIG_GENERATION);
  }
  read(offset: number, width: number): number {
    return this.bus.read(VIRTIO_MMIO_CONFIG + offset, width);
  }
  /** linux vm_interrupt(). DEVIATION: Linux acknowledges bits without a meaning, too; virtio 1.2 §4.2.3.4 wants those that are handled. */
  takeInterrupt(): number {
    const status = this.get(M.INTERRUPT_STATUS) & (VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
    this.set(M.INTERRUPT_ACK, status);
    return status;
  }

  findQueues(requests: readonly QueueRequest[], allocator: GuestAllocator, packed: boolean): ProbedQueue[] | string {
    for (const request of requests) {
      const q = this.setupQueue(request, allocator, packed);
      if (typeof q === 'string') {
        this.deleteQueues();
        return q;
      }
      this.queues.push(q);
    }
    return [...this.queues];
  }
  /** linux vm_setup_vq(): the queue is ready at once. */
  private setupQueue({ index, limit }: QueueRequest, allocator: GuestAllocator, packed: boolean): ProbedQueue | string {
    this.set(M.QUEUE_SEL, index);
    if (this.get(M.QUEUE_READY) !== 0) return `queue ${index} is not available`;
    const largest = this.get(M.QUEUE_NUM_MAX);
    if (largest === 0) return `queue ${index} does not exist`;
    const size = Math.min(largest, limit);
    if (!isRingSize(size, packed)) return `queue ${index}: a ring cannot have ${size} entries`;
    const ring = allocateRing(allocator, size, packed, VRING_ALIGN);
    if (ring === null) return `queue ${index}: no memory for a ring of ${size}`;
    this.set(M.QUEUE_NUM, size);
    this.setAddress(M.QUEUE_DESC_LOW, ring.descGpa);
    this.setAddress(M.QUEUE_AVAIL_LOW, ring.driverGpa);
    this.setAddress(M.QUEUE_USED_LOW, ring.deviceGpa);
    this.set(M.QUEUE_READY, 1);
    return { index, size, ...ring, notifyBar: 0, notifyOffset: M.QUEUE_NOTIFY, msixVector: VIRTIO_MSI_NO_VECTOR };
  }
  private setAddress(low: number, address: number): void {
    this.set(low, address >>> 0);
    this.set(low + 4, Math.floor(address / 0x1_0000_0000));
  }
  /** linux vm_del_vq(): a queue is stopped when QueueReady reads 0. */
  deleteQueues(): void {
    for (const { index } of this.queues) {
      this.set(M.QUEUE_SEL, index);
      this.set(M.QUEUE_READY, 0);
      for (let polls = 0; polls < POLLS_MAX && this.get(M.QUEUE_READY) !== 0; polls++);
    }
    this.queues = [];
  }
  resetQueue(): boolean {
    return false;
  }
  enableAfterReset(): string {
    return 'Linux resets no single queue over virtio-mmio';
  }
}
