/**
 * The modern virtio-pci transport in Linux 6.1's hands: struct virtio_config_ops over the common configuration structure.
 * linux drivers/virtio/virtio_pci_modern.c.
 */
import {
  type Features,
  featureWord,
  hasFeature,
  NO_FEATURES,
  VIRTIO_F_NOTIF_CONFIG_DATA,
  VIRTIO_F_VERSION_1,
} from '../../virtio/features.ts';
import { VIRTIO_MSI_NO_VECTOR, virtio_pci_common_cfg } from '../../wire/pci.ts';
import { LINUX_VRING_ALIGN } from '../../wire/virtio-ring.ts';
import type { MsixIrqs } from './msix-irqs.ts';
import type { GuestAllocator, ProbedQueue } from './probe-types.ts';
import { isRingSize, type RingPlaces } from './ring-memory.ts';
import { PciConfigOps, POLLS_MAX, type QueueRequest, type VirtioConfigOps } from './virtio-config-ops.ts';
import { type Transport, waitForReset } from './virtio-transport.ts';

const C = virtio_pci_common_cfg;

export class ModernOps extends PciConfigOps implements VirtioConfigOps {
  readonly kind = 'modern';
  readonly without: Features = NO_FEATURES;
  readonly usedAlign = LINUX_VRING_ALIGN;
  private readonly t: Transport;
  private packed = false;

  constructor(t: Transport, irqs: MsixIrqs, useMsix: boolean) {
    super(irqs, useMsix);
    this.t = t;
  }
  getStatus(): number {
    return this.t.read(C.device_status);
  }
  setStatus(status: number): void {
    this.t.write(C.device_status, status);
  }
  reset(): boolean {
    this.setStatus(0);
    return waitForReset(this.t);
  }
  getFeatures(): Features {
    return this.t.readFeatures();
  }
  /** Linux refuses to use the modern interface without VIRTIO_F_VERSION_1, before it writes a word. */
  finalizeFeatures(features: Features): string | null {
    if (!hasFeature(features, VIRTIO_F_VERSION_1)) return 'modern interface without VIRTIO_F_VERSION_1';
    if (hasFeature(features, VIRTIO_F_NOTIF_CONFIG_DATA)) return 'VIRTIO_F_NOTIF_CONFIG_DATA is not known here';
    for (const select of [0, 1]) {
      this.t.write(C.driver_feature_select, select);
      this.t.write(C.driver_feature, featureWord(features, select));
    }
    return null;
  }
  generation(): number {
    return this.t.read(C.config_generation);
  }
  read(offset: number, width: number): number {
    return this.t.bus.barRead(this.t.deviceBar, this.t.deviceAt + offset, width);
  }
  takeInterrupt(): number {
    return this.t.bus.barRead(this.t.isrBar, this.t.isrAt, 1);
  }

  /** linux setup_vq(): everything but queue_enable. DEVIATION: 6.1 also refuses packed rings that are no power of two. */
  protected setupQueue(
    { index, limit }: QueueRequest,
    allocator: GuestAllocator,
    packed: boolean,
    vector: number,
  ): ProbedQueue | string {
    const { t } = this;
    this.packed = packed;
    if (index >= t.read(C.num_queues)) return `queue ${index} does not exist`;
    t.select(index);
    const offered = t.read(C.queue_size);
    t.select(index);
    if (offered === 0 || t.read(C.queue_enable) !== 0) return `queue ${index} is not available`;
    const size = Math.min(offered, limit);
    if (!isRingSize(size, packed)) return `queue ${index}: a ring cannot have ${size} entries`;
    const ring = this.ringFor(index, size, allocator, packed);
    if (ring === null) return `queue ${index}: no memory for a ring of ${size}`;
    const refused = this.activate(index, size, ring, vector);
    if (refused !== null) return refused;
    t.select(index);
    const register = t.notifyRegister(t.read(C.queue_notify_off));
    if (register === null) return `queue ${index}: notify register lies outside its window`;
    return { index, size, ...ring, ...register, msixVector: vector };
  }
  /** linux vp_active_vq(): size, addresses, vector. */
  private activate(index: number, size: number, ring: RingPlaces, vector: number): string | null {
    const { t } = this;
    t.select(index);
    t.write(C.queue_size, size);
    t.select(index);
    const { bus } = ring;
    t.writeRingAddresses(bus?.desc ?? ring.descGpa, bus?.driver ?? ring.driverGpa, bus?.device ?? ring.deviceGpa);
    if (vector === VIRTIO_MSI_NO_VECTOR) return null;
    if (this.mapQueueVector(index, vector) === vector) return null;
    return `queue ${index}: the device refused vector ${vector}`;
  }
  private mapQueueVector(index: number, vector: number): number {
    this.t.select(index);
    this.t.write(C.queue_msix_vector, vector);
    return this.t.read(C.queue_msix_vector);
  }
  protected mapConfigVector(vector: number): number {
    this.t.write(C.config_msix_vector, vector);
    return this.t.read(C.config_msix_vector);
  }
  protected deleteQueue(index: number, msix: boolean): void {
    if (msix) this.mapQueueVector(index, VIRTIO_MSI_NO_VECTOR);
  }
  protected enableQueues(queues: readonly ProbedQueue[]): void {
    for (const q of queues) this.enable(q.index);
  }
  private enable(index: number): void {
    this.t.select(index);
    this.t.write(C.queue_enable, 1);
  }

  /** linux vp_modern_set_queue_reset(): both registers read 0 when it is done. */
  resetQueue(index: number): boolean {
    const { t } = this;
    t.select(index);
    t.write(C.queue_reset, 1);
    for (const register of [C.queue_reset, C.queue_enable]) {
      let polls = 0;
      while (t.read(register) !== 0) if (++polls === POLLS_MAX) return false;
    }
    return true;
  }
  /** linux vp_modern_enable_vq_after_reset(). */
  enableAfterReset(queue: ProbedQueue, size: number, ring: RingPlaces): ProbedQueue | string {
    const { t } = this;
    const { index, msixVector } = queue;
    if (!isRingSize(size, this.packed)) return `queue ${index}: a ring cannot have ${size} entries`;
    for (const register of [C.queue_reset, C.queue_enable]) {
      t.select(index);
      if (t.read(register) !== 0) return `queue ${index} is not reset`;
    }
    const refused = this.activate(index, size, ring, msixVector);
    if (refused !== null) return refused;
    this.enable(index);
    const next = { ...queue, size, ...ring };
    this.replaceQueue(next);
    return next;
  }
}
