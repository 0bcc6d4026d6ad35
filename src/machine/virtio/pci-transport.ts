/**
 * A modern virtio-net device on the PCI root bus, as QEMU 7.2 shows it with `disable-legacy=on`: configuration space with
 * its capability chain, BAR1 (MSI-X) and BAR4 (common, ISR, device, notify). A guest driver finds and configures it through
 * the four access functions; the data path reads `queues`, `driverFeatures` and asks for MSI messages.
 *
 * Runs on the vCPU's time (the access exits to QEMU). Whatever the guest does, nothing here throws: an access that makes no
 * sense is ignored and counted in `refused`, one that breaks the device sets DEVICE_NEEDS_RESET.
 *
 * Read first: virtio 1.2 §4.1; qemu hw/virtio/virtio-pci.c.
 */

import {
  msix_capability,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_CONFIG_SPACE_SIZE,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_STATUS_INTERRUPT,
  pci_header,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_ISR_CONFIG,
  VIRTIO_PCI_ISR_QUEUE,
  virtio_pci_cap,
  virtio_pci_cfg_cap_data,
  virtio_pci_common_cfg,
} from '../wire/pci.ts';
import { isVirtqSize, VIRTQ_AVAIL_ALIGN, VIRTQ_DESC_ALIGN, VIRTQ_USED_ALIGN } from '../wire/virtio-ring.ts';
import { type Features, featureWord, hasFeature, isSubset, missingDependency, VIRTIO_F_VERSION_1 } from './features.ts';
import { type MsiMessage, MsixTable } from './msix.ts';
import { NetConfig } from './net-config.ts';
import {
  CAP_MSIX,
  CAP_PCI_CFG,
  DEVICE_OFFSET,
  ISR_OFFSET,
  MODERN_BAR,
  MODERN_BAR_SIZE,
  MSIX_BAR,
  MSIX_BAR_SIZE,
  modernNetConfigSpace,
  NOTIFY_OFF_MULTIPLIER,
  NOTIFY_OFFSET,
} from './pci-config-space.ts';
import {
  nextStatus,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
} from './status.ts';

/** QEMU: two per queue pair, plus one for configuration and one for the control queue. */
export const defaultVectors = (queuePairs: number): number => 2 * queuePairs + 2;
/** QEMU's VIRTIO_QUEUE_MAX. */
const VIRTIO_QUEUE_MAX = 1024;

/** A queue's registers. Owner: the driver through COMMON; `maxSize` is the device's. */
export interface QueueRegisters {
  readonly index: number;
  readonly maxSize: number;
  size: number;
  enabled: boolean;
  msixVector: number;
  /** Guest-physical addresses; valid once `enabled`. */
  descGpa: number;
  driverGpa: number;
  deviceGpa: number;
}
export interface VirtioPciHooks {
  /** After a status write that the device took up, with the status it shows now (not for resets). */
  onStatus?(status: number, written: number): void;
  /** The driver wrote 0: everything is as at power-on when this runs. */
  onReset?(): void;
  onQueueEnable?(queue: QueueRegisters): void;
  /** A write to the notify register of a live queue; `value` as written. */
  onNotify?(queue: number, value: number): void;
  /** The driver wrote a feature word. */
  onDriverFeatures?(select: number, bits: number): void;
  /** A message is due: a masked vector was pending and is unmasked now, or the configuration changed. */
  onMsi?(vector: number, message: MsiMessage): void;
  /** The level of the INTx pin changed (only while MSI-X is off). */
  onIntx?(asserted: boolean): void;
}
export interface VirtioPciOptions {
  readonly mac: readonly number[];
  readonly offered: Features;
  /** Largest size per queue, a power of two. */
  readonly queueSizes: readonly number[];
  /** MSI-X vectors; 0 = no MSI-X capability, INTx only. Default: as QEMU for these queues. */
  readonly vectors?: number;
  /** The device-specific configuration; default: one with the fields of `offered`, nothing said about them. */
  readonly netConfig?: NetConfig;
  readonly hooks?: VirtioPciHooks;
}

const C = virtio_pci_common_cfg;
const H = pci_header;

const widthOk = (width: number): boolean => width === 1 || width === 2 || width === 4;
function readLe(view: DataView, at: number, width: number): number {
  return width === 1 ? view.getUint8(at) : width === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
}
const truncate = (value: number, width: number): number =>
  width === 1 ? value & 0xff : width === 2 ? value & 0xffff : value >>> 0;
const join64 = (lo: number, hi: number): number => hi * 0x1_0000_0000 + lo;

export class VirtioPciDevice {
  readonly offered: Features;
  readonly netConfig: NetConfig;
  readonly vectors: number;
  readonly queues: readonly QueueRegisters[];
  /** Accesses of the guest that were ignored because they make no sense. Owner: device. */
  refused = 0;
  /** What the device shows in device_status. Owner: device (the driver writes through COMMON). */
  status = 0;
  /** Owner: driver. Valid once FEATURES_OK is set. */
  driverFeatures: Features = { lo: 0, hi: 0 };
  configVector = VIRTIO_MSI_NO_VECTOR;
  configGeneration = 0;
  /** Owner: device sets, a read of the ISR register clears. */
  isr = 0;

  readonly #hooks: VirtioPciHooks;
  readonly #config: DataView;
  /** Bits of configuration space that the guest may change. */
  readonly #writable: DataView;
  readonly #msix: MsixTable;
  #deviceFeatureSelect = 0;
  #driverFeatureSelect = 0;
  #queueSelect = 0;
  /** desc lo, hi, driver lo, hi, device lo, hi per queue, as written. */
  readonly #addresses: Uint32Array;
  #intx = false;

  constructor(options: VirtioPciOptions) {
    if (options.queueSizes.length > VIRTIO_QUEUE_MAX || !options.queueSizes.every(isVirtqSize)) {
      throw new RangeError('queue sizes are powers of two up to 32768, at most 1024 of them');
    }
    this.offered = options.offered;
    this.vectors = options.vectors ?? defaultVectors(options.queueSizes.length >> 1);
    this.#msix = new MsixTable(this.vectors);
    this.#hooks = options.hooks ?? {};
    this.netConfig = options.netConfig ?? new NetConfig(options.mac, { offered: options.offered });
    this.queues = options.queueSizes.map((maxSize, index) => ({
      index,
      maxSize,
      size: maxSize,
      enabled: false,
      msixVector: VIRTIO_MSI_NO_VECTOR,
      descGpa: 0,
      driverGpa: 0,
      deviceGpa: 0,
    }));
    this.#addresses = new Uint32Array(6 * this.queues.length);
    const space = modernNetConfigSpace(this.vectors);
    this.#config = space.config;
    this.#writable = space.writable;
  }

  // ---- configuration space ----------------------------------------------------------------------------------------

  /** Width 1, 2 or 4, inside the 256 bytes; anything else reads all ones, as an absent function does. */
  readConfig(offset: number, width: number): number {
    if (!widthOk(width) || !Number.isInteger(offset) || offset < 0 || offset + width > PCI_CONFIG_SPACE_SIZE) {
      this.refused++;
      return truncate(0xffff_ffff, width);
    }
    const data = CAP_PCI_CFG + virtio_pci_cfg_cap_data;
    if (offset < data + 4 && offset + width > data) {
      // §4.1.4.9: the window is filled from where the capability points. QEMU looks only at offset and length, not at bar.
      const length = virtio_pci_cap.length.get(this.#config, CAP_PCI_CFG);
      if (widthOk(length)) {
        const value = this.readBar(MODERN_BAR, virtio_pci_cap.offset.get(this.#config, CAP_PCI_CFG), length);
        for (let i = 0; i < length; i++) this.#config.setUint8(data + i, (value >>> (8 * i)) & 0xff);
      }
    }
    const value = readLe(this.#config, offset, width);
    // The status register's interrupt bit is a wire, not a stored bit (§4.1.4.5.1).
    const statusAt = H.status.offset;
    if (this.#intx && offset <= statusAt && offset + width > statusAt) {
      return (value | (PCI_STATUS_INTERRUPT << (8 * (statusAt - offset)))) >>> 0;
    }
    return value;
  }

  writeConfig(offset: number, width: number, value: number): void {
    if (!widthOk(width) || !Number.isInteger(offset) || offset < 0 || offset + width > PCI_CONFIG_SPACE_SIZE) {
      this.refused++;
      return;
    }
    const controlAt = CAP_MSIX + msix_capability.message_control.offset;
    const wasMaster = (this.command & PCI_COMMAND_MASTER) !== 0;
    const wasLive = this.msixLive;
    for (let i = 0; i < width; i++) {
      const mask = this.#writable.getUint8(offset + i);
      const old = this.#config.getUint8(offset + i);
      this.#config.setUint8(offset + i, (old & ~mask) | ((value >>> (8 * i)) & mask));
    }
    const data = CAP_PCI_CFG + virtio_pci_cfg_cap_data;
    if (offset < data + 4 && offset + width > data) {
      const length = virtio_pci_cap.length.get(this.#config, CAP_PCI_CFG);
      if (widthOk(length)) {
        const at = virtio_pci_cap.offset.get(this.#config, CAP_PCI_CFG);
        this.writeBar(MODERN_BAR, at, length, readLe(this.#config, data, length));
      }
    }
    const touchesControl = offset < controlAt + 2 && offset + width > controlAt;
    if (this.vectors > 0 && touchesControl && !wasLive && this.msixLive) this.#deliverPending();
    if (wasMaster && (this.command & PCI_COMMAND_MASTER) === 0 && (this.status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) {
      // No bus master, no DMA: QEMU takes the device out of service (qemu hw/virtio/virtio-pci.c, virtio_write_config()).
      this.status &= ~VIRTIO_CONFIG_S_DRIVER_OK;
      this.#hooks.onStatus?.(this.status, this.status);
    }
    this.#updateIntx();
  }

  /** Base address of a BAR as the guest set it, 0 while it is unset. */
  barAddress(bar: number): number {
    if (bar === MSIX_BAR && this.vectors > 0) return (H.bar1.get(this.#config, 0) & ~0xf) >>> 0;
    if (bar !== MODERN_BAR) return 0;
    return join64((H.bar4.get(this.#config, 0) & ~0xf) >>> 0, H.bar5.get(this.#config, 0));
  }
  get command(): number {
    return H.command.get(this.#config, 0);
  }

  // ---- MSI-X and INTx ---------------------------------------------------------------------------------------------

  get msixEnabled(): boolean {
    return this.vectors > 0 && (this.#messageControl() & PCI_MSIX_FLAGS_ENABLE) !== 0;
  }
  /** Enabled, and not masked as a function. */
  get msixLive(): boolean {
    return (
      this.vectors > 0 &&
      (this.#messageControl() & (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)) === PCI_MSIX_FLAGS_ENABLE
    );
  }
  #messageControl(): number {
    return msix_capability.message_control.get(this.#config, CAP_MSIX);
  }
  /** What the vector sends now, or null: MSI-X off, no such vector, or masked. No side effect. */
  msixMessage(vector: number): MsiMessage | null {
    return this.msixLive && this.#msix.has(vector) && !this.#msix.isMasked(vector) ? this.#msix.message(vector) : null;
  }
  /** As `msixMessage`, for a notification that is due: a masked vector remembers it in its pending bit. */
  msixNotify(vector: number): MsiMessage | null {
    const message = this.msixMessage(vector);
    if (message === null && this.msixEnabled && this.#msix.has(vector)) this.#msix.setPending(vector, true);
    return message;
  }
  isPending(vector: number): boolean {
    return this.#msix.isPending(vector);
  }
  /** A used buffer notification of a queue. Null: nothing to inject (INTx, no vector, masked). */
  notifyQueue(queue: number): MsiMessage | null {
    const q = this.queues[queue];
    if (q === undefined) return null;
    this.isr |= VIRTIO_PCI_ISR_QUEUE;
    if (this.msixEnabled) return this.msixNotify(q.msixVector);
    this.#updateIntx();
    return null;
  }
  /** A configuration change notification; the message goes through `onMsi`. */
  notifyConfig(): void {
    if ((this.status & VIRTIO_CONFIG_S_DRIVER_OK) === 0) return;
    this.isr |= VIRTIO_PCI_ISR_QUEUE | VIRTIO_PCI_ISR_CONFIG;
    if (!this.msixEnabled) {
      this.#updateIntx();
      return;
    }
    const message = this.msixNotify(this.configVector);
    if (message !== null) this.#hooks.onMsi?.(this.configVector, message);
  }
  /** The cable is plugged or pulled: configuration, its generation, and the interrupt. */
  setLinkUp(up: boolean): void {
    if (!this.netConfig.setLinkUp(up)) return;
    this.configGeneration = (this.configGeneration + 1) & 0xff;
    this.notifyConfig();
  }
  #deliverPending(): void {
    for (let v = 0; v < this.vectors; v++) if (this.#msix.isPending(v)) this.#deliverIfOpen(v);
  }
  #deliverIfOpen(vector: number): void {
    const message = this.msixMessage(vector);
    if (message === null) return;
    this.#msix.setPending(vector, false);
    this.#hooks.onMsi?.(vector, message);
  }
  #updateIntx(): void {
    const asserted = this.isr !== 0 && !this.msixEnabled && (this.command & PCI_COMMAND_INTX_DISABLE) === 0;
    if (asserted === this.#intx) return;
    this.#intx = asserted;
    this.#hooks.onIntx?.(asserted);
  }

  // ---- BARs -------------------------------------------------------------------------------------------------------

  /**
   * Width 1, 2, 4 or 8 (answered as two 4-byte reads: the low half only, a number holds no more). All ones while memory
   * decoding is off in the command register: nobody claims the access then.
   */
  readBar(bar: number, offset: number, width: number): number {
    if ((this.command & PCI_COMMAND_MEMORY) === 0) {
      this.refused++;
      return truncate(0xffff_ffff, width);
    }
    if (!(widthOk(width) || width === 8) || !Number.isInteger(offset) || offset < 0) {
      this.refused++;
      return 0;
    }
    const w = width === 8 ? 4 : width;
    if (bar === MSIX_BAR && this.vectors > 0 && offset + w <= MSIX_BAR_SIZE) return this.#msix.read(offset, w);
    if (bar !== MODERN_BAR || offset + w > MODERN_BAR_SIZE) {
      this.refused++;
      return 0;
    }
    if (offset >= NOTIFY_OFFSET) return 0;
    if (offset >= DEVICE_OFFSET) return this.netConfig.read(offset - DEVICE_OFFSET, w);
    if (offset >= ISR_OFFSET) {
      const isr = this.isr;
      this.isr = 0;
      this.#updateIntx();
      return isr;
    }
    return truncate(this.#readCommon(offset), w);
  }

  writeBar(bar: number, offset: number, width: number, value: number): void {
    const decodes = (this.command & PCI_COMMAND_MEMORY) !== 0;
    const sane = (widthOk(width) || width === 8) && Number.isInteger(offset) && offset >= 0 && Number.isFinite(value);
    if (!decodes || !sane) {
      this.refused++;
      return;
    }
    if (width === 8) {
      // qemu softmmu/memory.c splits by impl.max_access_size = 4.
      this.writeBar(bar, offset, 4, value >>> 0);
      this.writeBar(bar, offset + 4, 4, Math.floor(value / 0x1_0000_0000) >>> 0);
      return;
    }
    const v = truncate(value, width);
    if (bar === MSIX_BAR && this.vectors > 0 && offset + width <= MSIX_BAR_SIZE) this.#writeMsix(offset, width, v);
    else if (bar !== MODERN_BAR || offset + width > MODERN_BAR_SIZE) this.refused++;
    else if (offset >= NOTIFY_OFFSET) this.#writeNotify(offset - NOTIFY_OFFSET, v);
    else if (offset < ISR_OFFSET) this.#writeCommon(offset, v);
    else this.refused++; // ISR is read-only, and this device's configuration has no field that a modern driver may write
  }

  #writeMsix(offset: number, width: number, value: number): void {
    const vector = this.#msix.write(offset, width, value);
    if (vector < 0) this.refused++;
    else if (this.#msix.isPending(vector)) this.#deliverIfOpen(vector);
  }
  /** §4.1.4.4: the offset says which queue; QEMU does not look at the value. */
  #writeNotify(offset: number, value: number): void {
    const queue = Math.floor(offset / NOTIFY_OFF_MULTIPLIER);
    const q = this.queues[queue];
    const live =
      (this.status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) === VIRTIO_CONFIG_S_DRIVER_OK;
    if (q?.enabled && live) this.#hooks.onNotify?.(queue, value);
    else this.refused++;
  }

  // ---- COMMON -----------------------------------------------------------------------------------------------------

  #readCommon(offset: number): number {
    const q = this.queues[this.#queueSelect];
    switch (offset) {
      case C.device_feature_select.offset:
        return this.#deviceFeatureSelect;
      case C.device_feature.offset:
        return featureWord(this.offered, this.#deviceFeatureSelect);
      case C.driver_feature_select.offset:
        return this.#driverFeatureSelect;
      case C.driver_feature.offset:
        return featureWord(this.driverFeatures, this.#driverFeatureSelect);
      case C.config_msix_vector.offset:
        return this.configVector;
      case C.num_queues.offset:
        return this.queues.length;
      case C.device_status.offset:
        return this.status;
      case C.config_generation.offset:
        return this.configGeneration;
      case C.queue_select.offset:
        return this.#queueSelect;
      case C.queue_size.offset:
        return q?.size ?? 0;
      case C.queue_msix_vector.offset:
        return q?.msixVector ?? VIRTIO_MSI_NO_VECTOR;
      case C.queue_enable.offset:
        return q?.enabled ? 1 : 0;
      case C.queue_notify_off.offset:
        return this.#queueSelect;
      default: {
        const slot = (offset - C.queue_desc_lo.offset) / 4;
        return q !== undefined && Number.isInteger(slot) && slot >= 0 && slot < 6
          ? this.#addresses[6 * q.index + slot]!
          : 0;
      }
    }
  }

  #writeCommon(offset: number, value: number): void {
    const q = this.queues[this.#queueSelect];
    switch (offset) {
      case C.device_feature_select.offset:
        this.#deviceFeatureSelect = value;
        return;
      case C.driver_feature_select.offset:
        this.#driverFeatureSelect = value;
        return;
      case C.driver_feature.offset:
        this.#writeDriverFeatures(value);
        return;
      case C.config_msix_vector.offset:
        this.configVector = this.#vectorOrNone(value);
        return;
      case C.device_status.offset:
        this.#writeStatus(value & 0xff);
        return;
      case C.queue_select.offset:
        this.#queueSelect = value & 0xffff;
        return;
      case C.queue_size.offset:
        if (q === undefined || q.enabled || !isVirtqSize(value) || value > q.maxSize) this.refused++;
        else q.size = value;
        return;
      case C.queue_msix_vector.offset:
        if (q === undefined) this.refused++;
        else q.msixVector = this.#vectorOrNone(value);
        return;
      case C.queue_enable.offset:
        this.#writeQueueEnable(q, value);
        return;
      default: {
        const slot = (offset - C.queue_desc_lo.offset) / 4;
        const isAddress = Number.isInteger(slot) && slot >= 0 && slot < 6;
        if (q === undefined || q.enabled || !isAddress) this.refused++;
        else this.#addresses[6 * q.index + slot] = value;
      }
    }
  }

  /** §4.1.5.1.2: a vector that the device does not have reads back as NO_VECTOR. */
  #vectorOrNone(value: number): number {
    return (value & 0xffff) < this.vectors ? value & 0xffff : VIRTIO_MSI_NO_VECTOR;
  }

  #writeDriverFeatures(bits: number): void {
    const select = this.#driverFeatureSelect;
    if (select > 1 || (this.status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0) {
      this.refused++;
      return;
    }
    const { lo, hi } = this.driverFeatures;
    this.driverFeatures = select === 0 ? { lo: bits >>> 0, hi } : { lo, hi: bits >>> 0 };
    this.#hooks.onDriverFeatures?.(select, bits >>> 0);
  }

  /**
   * §2.2.2. DEVIATION: QEMU 7.2 drops bits that it did not offer without a word; the device here refuses FEATURES_OK, and
   * also without VIRTIO_F_VERSION_1 (§6.1 lets a device do that: it has no legacy interface to fall back to).
   */
  #featuresValid(): boolean {
    const f = this.driverFeatures;
    return isSubset(f, this.offered) && hasFeature(f, VIRTIO_F_VERSION_1) && missingDependency(f) === -1;
  }

  #writeStatus(written: number): void {
    if (written === 0) {
      this.reset();
      return;
    }
    const next = nextStatus(this.status, written, this.#featuresValid());
    if (
      (next | (this.status & VIRTIO_CONFIG_S_NEEDS_RESET)) !==
      (written | (this.status & VIRTIO_CONFIG_S_NEEDS_RESET))
    ) {
      this.refused++;
    }
    this.status = next;
    this.#hooks.onStatus?.(next, written);
  }

  #writeQueueEnable(q: QueueRegisters | undefined, value: number): void {
    if (q === undefined || (this.status & VIRTIO_CONFIG_S_FEATURES_OK) === 0) {
      this.refused++;
      return;
    }
    if (value !== 1) {
      // §4.1.4.3.2: the driver must not write 0; QEMU declares the device broken.
      this.needsReset();
      return;
    }
    if (q.enabled) {
      this.refused++;
      return;
    }
    const a = 6 * q.index;
    const [desc, driver, device] = [0, 2, 4].map((i) => join64(this.#addresses[a + i]!, this.#addresses[a + i + 1]!));
    const ok = (address: number, align: number): boolean => Number.isSafeInteger(address) && address % align === 0;
    if (!ok(desc!, VIRTQ_DESC_ALIGN) || !ok(driver!, VIRTQ_AVAIL_ALIGN) || !ok(device!, VIRTQ_USED_ALIGN)) {
      this.needsReset();
      return;
    }
    q.descGpa = desc!;
    q.driverGpa = driver!;
    q.deviceGpa = device!;
    q.enabled = true;
    this.#hooks.onQueueEnable?.(q);
  }

  /** §2.1.2: the device met something it cannot get over. Idempotent; tells a live driver by a configuration interrupt. */
  needsReset(): void {
    this.refused++;
    if ((this.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) return;
    this.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    this.notifyConfig();
  }

  /** §2.4: what writing 0 to device_status does. PCI configuration and the MSI-X table stay (qemu virtio_pci_reset()). */
  reset(): void {
    this.status = 0;
    this.driverFeatures = { lo: 0, hi: 0 };
    this.configVector = VIRTIO_MSI_NO_VECTOR;
    this.isr = 0;
    this.#deviceFeatureSelect = 0;
    this.#driverFeatureSelect = 0;
    this.#queueSelect = 0;
    this.#addresses.fill(0);
    this.#msix.clearAllPending();
    for (const q of this.queues) {
      q.size = q.maxSize;
      q.enabled = false;
      q.msixVector = VIRTIO_MSI_NO_VECTOR;
      q.descGpa = 0;
      q.driverGpa = 0;
      q.deviceGpa = 0;
    }
    this.#updateIntx();
    this.#hooks.onReset?.();
  }
}
