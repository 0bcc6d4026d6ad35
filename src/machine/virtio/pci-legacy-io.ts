/**
 * The legacy interface of virtio-pci in I/O BAR 0: one feature word, queues as page numbers, the device's configuration behind
 * the registers. virtio 1.2 §4.1.4.10; qemu hw/virtio/virtio-pci.c, virtio_ioport_write().
 */
import {
  legacyConfigOffset,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_QUEUE_ADDR_SHIFT,
  VIRTIO_PCI_VRING_ALIGN,
  virtio_pci_legacy,
} from '../wire/pci.ts';
import { virtqDescBytes, vringUsedOffset } from '../wire/virtio-ring.ts';
import {
  featuresOf,
  VIRTIO_F_BAD_FEATURE,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_MAC,
} from './features.ts';
import type { CommonConfig } from './pci-common-config.ts';
import type { VirtioPciDevice } from './pci-transport.ts';

const L = virtio_pci_legacy;
const PAGE = 2 ** VIRTIO_PCI_QUEUE_ADDR_SHIFT;
/** What a driver is taken to mean that accepts every bit it reads (qemu virtio_net_bad_features(): Linux 2.6.25). */
const BAD_FEATURES = featuresOf(
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_ECN,
);

export class LegacyIo {
  private readonly device: VirtioPciDevice;
  private readonly common: CommonConfig;

  constructor(device: VirtioPciDevice, common: CommonConfig) {
    this.device = device;
    this.common = common;
  }
  /** Offset of the device-specific configuration now; -1 below it. */
  private configOffset(offset: number): number {
    const begin = legacyConfigOffset(this.device.msixEnabled);
    return offset < begin ? -1 : offset - begin;
  }

  read(offset: number, width: number): number {
    const { device } = this;
    const at = this.configOffset(offset);
    if (at >= 0) return device.netConfig.read(at, width);
    const select = this.common.queueSelect;
    const q = device.queues[select];
    switch (offset) {
      case L.host_features.offset:
        return device.legacyOffered.lo;
      case L.guest_features.offset:
        return device.driverFeatures.lo;
      case L.queue_pfn.offset:
        return q?.enabled ? Math.floor(q.descGpa / PAGE) >>> 0 : 0;
      case L.queue_num.offset:
        return q?.size ?? 0;
      case L.queue_sel.offset:
        return select;
      case L.status.offset:
        return device.status;
      case L.isr.offset:
        return device.takeIsr();
      case L.config_vector.offset:
        return device.configVector;
      case L.queue_vector.offset:
        return q?.msixVector ?? VIRTIO_MSI_NO_VECTOR;
      default:
        // the notify register is for writing, and nothing begins elsewhere: QEMU answers all ones
        return 0xffff_ffff;
    }
  }

  write(offset: number, width: number, value: number): void {
    const { device } = this;
    const at = this.configOffset(offset);
    if (at >= 0) {
      device.legacyConfigWritten(at, width, value);
      return;
    }
    switch (offset) {
      case L.guest_features.offset: {
        const bad = ((value >>> VIRTIO_F_BAD_FEATURE) & 1) === 1;
        device.writeLegacyFeatures(bad ? (BAD_FEATURES.lo & device.legacyOffered.lo) >>> 0 : value);
        return;
      }
      case L.queue_pfn.offset:
        this.place(value);
        return;
      case L.queue_sel.offset:
        this.common.queueSelect = value & 0xffff;
        return;
      case L.queue_notify.offset:
        device.notifyWritten(-1, value & 0xffff, width);
        return;
      case L.status.offset:
        device.writeLegacyStatus(value & 0xff);
        return;
      case L.config_vector.offset:
        device.mapConfigVector(value);
        return;
      case L.queue_vector.offset:
        device.mapQueueVector(this.common.queueSelect, value);
        return;
      default:
        device.refused++;
    }
  }
  /** Page number of the ring, whose size is the device's; 0 resets the device, as in QEMU. */
  private place(pfn: number): void {
    const { device } = this;
    if (pfn === 0) {
      device.reset();
      return;
    }
    const select = this.common.queueSelect;
    const size = device.queues[select]?.size ?? 0;
    const desc = pfn * PAGE;
    device.enableLegacyQueue(
      select,
      desc,
      desc + virtqDescBytes(size),
      desc + vringUsedOffset(size, VIRTIO_PCI_VRING_ALIGN),
    );
  }
}
