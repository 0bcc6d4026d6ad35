/**
 * The common configuration structure of virtio-pci: registers of the device, and of the queue that is selected.
 * virtio 1.2 §4.1.4.3; qemu hw/virtio/virtio-pci.c, virtio_pci_common_read().
 */
import { VIRTIO_MSI_NO_VECTOR, virtio_pci_common_cfg } from '../wire/pci.ts';
import { featureWord, VIRTIO_F_NOTIF_CONFIG_DATA } from './features.ts';
import type { VirtioPciDevice } from './pci-transport.ts';
import { NEEDS_RESET_QUEUE_DISABLED } from './virtio-device.ts';

const C = virtio_pci_common_cfg;
const LAST = C.queue_device_hi.offset;

export class CommonConfig {
  private readonly device: VirtioPciDevice;
  private deviceFeatureSelect = 0;
  private driverFeatureSelect = 0;
  /** Shared with the legacy interface, as in QEMU. */
  queueSelect = 0;

  constructor(device: VirtioPciDevice) {
    this.device = device;
  }
  reset(): void {
    this.deviceFeatureSelect = 0;
    this.driverFeatureSelect = 0;
    this.queueSelect = 0;
  }

  /** The register at exactly that offset, whatever the width; 0 where none begins. */
  read(offset: number): number {
    const { device } = this;
    const q = device.queues[this.queueSelect];
    switch (offset) {
      case C.device_feature_select.offset:
        return this.deviceFeatureSelect;
      case C.device_feature.offset:
        return device.offeredWord(this.deviceFeatureSelect);
      case C.driver_feature_select.offset:
        return this.driverFeatureSelect;
      case C.driver_feature.offset:
        return featureWord(device.driverFeatures, this.driverFeatureSelect);
      case C.config_msix_vector.offset:
        return device.configVector;
      case C.num_queues.offset:
        return device.queues.length;
      case C.device_status.offset:
        return device.status;
      case C.config_generation.offset:
        return device.configGeneration;
      case C.queue_select.offset:
        return this.queueSelect;
      case C.queue_size.offset:
        return q?.size ?? 0;
      case C.queue_msix_vector.offset:
        return q?.msixVector ?? VIRTIO_MSI_NO_VECTOR;
      case C.queue_enable.offset:
        return q?.enabled && !q.resetting ? 1 : 0;
      case C.queue_notify_off.offset:
        return this.queueSelect;
      case C.queue_notify_data.offset:
        return q !== undefined && device.has(VIRTIO_F_NOTIF_CONFIG_DATA) ? q.index : 0;
      case C.queue_reset.offset:
        return q?.resetting ? 1 : 0;
      default: {
        const slot = slotOf(offset);
        return slot < 0 ? 0 : device.queueAddress(this.queueSelect, slot);
      }
    }
  }

  write(offset: number, value: number): void {
    const { device } = this;
    switch (offset) {
      case C.device_feature_select.offset:
        this.deviceFeatureSelect = value;
        return;
      case C.driver_feature_select.offset:
        this.driverFeatureSelect = value;
        return;
      case C.driver_feature.offset:
        device.writeDriverFeatures(this.driverFeatureSelect, value);
        return;
      case C.config_msix_vector.offset:
        device.mapConfigVector(value);
        return;
      case C.device_status.offset:
        device.writeStatus(value & 0xff);
        return;
      case C.queue_select.offset:
        this.queueSelect = value & 0xffff;
        return;
      case C.queue_size.offset:
        device.writeQueueSize(this.queueSelect, value);
        return;
      case C.queue_msix_vector.offset:
        device.mapQueueVector(this.queueSelect, value);
        return;
      case C.queue_enable.offset:
        this.enable(value);
        return;
      case C.queue_reset.offset:
        if (value === 1) device.resetQueue(this.queueSelect);
        else device.refused++;
        return;
      default: {
        const slot = slotOf(offset);
        if (slot < 0) device.refused++;
        else device.writeQueueAddress(this.queueSelect, slot, value);
      }
    }
  }
  /** §4.1.4.3.2: the driver must not write 0; QEMU declares the device broken. */
  private enable(value: number): void {
    const { device } = this;
    const exists = device.queues[this.queueSelect] !== undefined;
    if (value === 1 || !exists || !device.featuresAgreed) device.enableQueue(this.queueSelect);
    else device.needsReset(NEEDS_RESET_QUEUE_DISABLED, this.queueSelect);
  }
}
/** Which of the six halves of ring addresses begins there, -1 for none. */
function slotOf(offset: number): number {
  const slot = (offset - C.queue_desc_lo.offset) / 4;
  return offset <= LAST && slot >= 0 && Number.isInteger(slot) ? slot : -1;
}
