/**
 * What a virtio-net device is apart from its transport: status, features, queues and configuration, and the rules that
 * bind them. A transport (PCI, MMIO) turns register accesses into these calls and says how the driver is interrupted.
 *
 * Runs on the vCPU's time (the access exits to QEMU). Whatever the guest does, nothing here throws: an access that makes no
 * sense is ignored and counted in `refused`, one that breaks the device sets DEVICE_NEEDS_RESET.
 *
 * Read first: virtio 1.2 §2.1, §2.2, §2.6, §3.1; qemu hw/virtio/virtio.c.
 */
import {
  isPackedVirtqSize,
  isVirtqSize,
  PVIRTQ_DESC_ALIGN,
  PVIRTQ_EVENT_ALIGN,
  pvirtq_event_suppress,
  VIRTQ_AVAIL_ALIGN,
  VIRTQ_DESC_ALIGN,
  VIRTQ_USED_ALIGN,
  virtqAvailBytes,
  virtqDescBytes,
  virtqUsedBytes,
} from '../wire/virtio-ring.ts';
import {
  andFeatures,
  type Features,
  featureWord,
  hasFeature,
  isSubset,
  missingDependency,
  NO_FEATURES,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_NOTIF_CONFIG_DATA,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_RSS,
  withoutOrphans,
} from './features.ts';
import type { MsiMessage } from './msix.ts';
import type { SavedDevice } from './net/device-state.ts';
import { NetConfig } from './net/net-config.ts';
import {
  legacyStatus,
  nextStatus,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
} from './status.ts';
import type { Doorbell, QueueRegisters, VirtioDeviceOptions, VirtioHooks } from './virtio-device-types.ts';

export type { Doorbell, QueueRegisters, VirtioDeviceOptions, VirtioHooks } from './virtio-device-types.ts';

/** QEMU's VIRTIO_QUEUE_MAX. */
export const VIRTIO_QUEUE_MAX = 1024;
/** §4.1.5.1.2 and the mmio transport, which has no vectors. */
const NO_VECTOR = 0xffff;

/** Why a device needs a reset, for `onNeedsReset`. Negative reasons are the queues' own (device-queue.ts, CHAIN_ codes). */
export const NEEDS_RESET_QUEUE_DISABLED = 1;
/** A ring that is misaligned, or not in memory as a whole. */
export const NEEDS_RESET_QUEUE_ADDRESS = 2;
/** The back-end does not take the rings. */
export const NEEDS_RESET_BACKEND = 3;

interface Queue extends QueueRegisters {
  maxSize: number;
  /** What the device was made with. */
  readonly entries: number;
  /** desc lo, hi, driver lo, hi, device lo, hi, as written. */
  readonly address: Uint32Array;
}

export const widthOk = (width: number): boolean => width === 1 || width === 2 || width === 4;
export const truncate = (value: number, width: number): number =>
  width === 1 ? value & 0xff : width === 2 ? value & 0xffff : value >>> 0;
const join64 = (lo: number, hi: number): number => hi * 0x1_0000_0000 + lo;
const floorPowerOfTwo = (n: number): number => 2 ** Math.floor(Math.log2(n));

function queue(index: number, entries: number): Queue {
  return {
    index,
    entries,
    maxSize: floorPowerOfTwo(entries),
    size: floorPowerOfTwo(entries),
    enabled: false,
    resetting: false,
    msixVector: NO_VECTOR,
    descGpa: 0,
    driverGpa: 0,
    deviceGpa: 0,
    address: new Uint32Array(6),
  };
}

export abstract class VirtioDevice {
  offered: Features;
  legacyOffered: Features;
  readonly netConfig: NetConfig;
  /** Accesses of the guest that were ignored because they make no sense. Owner: device. */
  refused = 0;
  /** What the device shows in device_status. Owner: device (the driver writes through its transport). */
  status = 0;
  /** Owner: driver. Valid once FEATURES_OK is set (DRIVER_OK with a legacy driver). */
  driverFeatures: Features = NO_FEATURES;
  configGeneration = 0;
  protected readonly hooks: VirtioHooks;
  readonly #inRam: VirtioDeviceOptions['inRam'];
  readonly #all: readonly Queue[];
  /** Without VIRTIO_NET_F_MQ and RSS: one pair, and the control queue behind it (§5.1.2). */
  readonly #single: readonly Queue[];
  #queues: readonly Queue[];

  constructor(options: VirtioDeviceOptions) {
    const { offered, queueSizes } = options;
    const valid = hasFeature(offered, VIRTIO_F_RING_PACKED) ? isPackedVirtqSize : isVirtqSize;
    if (queueSizes.length > VIRTIO_QUEUE_MAX || !queueSizes.every(valid)) {
      throw new RangeError(
        'queue sizes are powers of two up to 32768 (any number with VIRTIO_F_RING_PACKED), at most 1024 of them',
      );
    }
    this.offered = offered;
    this.legacyOffered = { lo: (options.legacyOffered ?? offered).lo, hi: 0 };
    this.hooks = options.hooks ?? {};
    this.#inRam = options.inRam;
    const queuePairs = Math.max(1, queueSizes.length >> 1);
    this.netConfig = options.netConfig ?? new NetConfig(options.mac, { offered, queuePairs });
    this.#all = queueSizes.map((entries, index) => queue(index, entries));
    const control = queueSizes.length > 3 && queueSizes.length % 2 === 1 ? [queue(2, queueSizes.at(-1)!)] : [];
    this.#single = queueSizes.length > 3 ? [...this.#all.slice(0, 2), ...control] : this.#all;
    this.#queues = this.#all;
  }

  // ---- what there is ------------------------------------------------------------------------------------------------

  /** The queues that exist as the features stand. */
  get queues(): readonly QueueRegisters[] {
    return this.#queues;
  }
  /** Queue pairs that the driver can use: all, or one without VIRTIO_NET_F_MQ and RSS once features are written. */
  get queuePairs(): number {
    return this.#queues.length >> 1;
  }
  /** Index of the control queue as the features stand, -1 without. */
  get controlQueue(): number {
    return this.#queues.length >= 3 && this.#queues.length % 2 === 1 ? this.#queues.length - 1 : -1;
  }
  has(bit: number): boolean {
    return hasFeature(this.driverFeatures, bit);
  }
  get legacy(): boolean {
    return !this.has(VIRTIO_F_VERSION_1);
  }
  get featuresAgreed(): boolean {
    return (this.status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0;
  }
  /** DRIVER_OK, and the device has not broken down. */
  get live(): boolean {
    return (this.status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) === VIRTIO_CONFIG_S_DRIVER_OK;
  }
  offeredWord(select: number): number {
    return featureWord(this.offered, select);
  }
  /** Where the driver notifies a queue. */
  abstract doorbell(queue: number): Doorbell;
  /** All places at which it can be notified, also those that its driver does not use: each has an ioeventfd. */
  doorbells(queue: number): readonly Doorbell[] {
    return [this.doorbell(queue)];
  }
  /** A used buffer notification of a queue. Null: nothing to inject (a pin, no vector, masked). */
  abstract notifyQueue(queue: number): MsiMessage | null;
  /** The transport's part of a configuration change notification. */
  protected abstract raiseConfig(): void;
  /** The transport's part of a reset, before onReset. */
  protected abstract resetTransport(): void;
  /** A queue has gone: nothing of its interrupts may be left. */
  protected queueGone(_vector: number): void {}

  // ---- features and status --------------------------------------------------------------------------------------------

  /** §2.2: not after FEATURES_OK. Words beyond the second do not exist. */
  writeDriverFeatures(select: number, bits: number): void {
    if (select > 1 || this.featuresAgreed) {
      this.refused++;
      return;
    }
    const { lo, hi } = this.driverFeatures;
    this.#takeFeatures(select === 0 ? { lo: bits >>> 0, hi } : { lo, hi: bits >>> 0 });
    this.hooks.onDriverFeatures?.(select, bits >>> 0);
  }
  /** A legacy driver's only word (§2.2.3). It cannot be refused: what was not offered, or lacks what it needs, is dropped. */
  writeLegacyFeatures(bits: number): void {
    if ((this.status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) {
      this.refused++;
      return;
    }
    const offered = andFeatures({ lo: bits >>> 0, hi: 0 }, this.legacyOffered);
    if (offered.lo !== bits >>> 0) this.refused++;
    this.#takeFeatures(withoutOrphans(offered));
    this.hooks.onDriverFeatures?.(0, this.driverFeatures.lo);
  }
  /** Which queues there are, and how large, follows from the features (qemu virtio_net_set_multiqueue()). */
  #takeFeatures(features: Features): void {
    this.driverFeatures = features;
    const several = hasFeature(features, VIRTIO_NET_F_MQ) || hasFeature(features, VIRTIO_NET_F_RSS);
    this.#layOut(several ? this.#all : this.#single);
  }
  #layOut(queues: readonly Queue[]): void {
    this.#queues = queues;
    for (const q of queues) {
      const largest = this.has(VIRTIO_F_RING_PACKED) ? q.entries : floorPowerOfTwo(q.entries);
      if (q.maxSize === largest || q.enabled) continue;
      q.maxSize = largest;
      q.size = largest;
    }
  }

  /**
   * §2.2.2. DEVIATION: QEMU 7.2 drops bits that it did not offer without a word; the device here refuses FEATURES_OK, and
   * also without VIRTIO_F_VERSION_1 (§6.1 lets a device do that: the modern interface has nothing to fall back to).
   */
  #featuresValid(): boolean {
    const f = this.driverFeatures;
    // qemu virtio_validate_features(): a device behind an IOMMU is of no use to a driver that does not know of it
    const platform = !hasFeature(this.offered, VIRTIO_F_ACCESS_PLATFORM) || hasFeature(f, VIRTIO_F_ACCESS_PLATFORM);
    return platform && isSubset(f, this.offered) && hasFeature(f, VIRTIO_F_VERSION_1) && missingDependency(f) === -1;
  }
  writeStatus(written: number): void {
    if (written === 0) this.reset();
    else this.#takeStatus(nextStatus(this.status, written, this.#featuresValid()), written);
  }
  /** Through the legacy interface there is no FEATURES_OK (§3.1.2). */
  writeLegacyStatus(written: number): void {
    if (written === 0) this.reset();
    else this.#takeStatus(legacyStatus(this.status, written), written);
  }
  #takeStatus(next: number, written: number): void {
    const own = this.status & VIRTIO_CONFIG_S_NEEDS_RESET;
    if ((next | own) !== (written | own)) this.refused++;
    this.status = next;
    this.hooks.onStatus?.(next, written);
  }
  /** Out of service without the driver's doing: no bus mastering, no DMA. */
  protected stop(): void {
    if ((this.status & VIRTIO_CONFIG_S_DRIVER_OK) === 0) return;
    this.status &= ~VIRTIO_CONFIG_S_DRIVER_OK;
    this.hooks.onStatus?.(this.status, this.status);
  }

  // ---- queues -------------------------------------------------------------------------------------------------------

  /** `slot`: 0 to 5 for desc, driver and device area, low half before high. */
  queueAddress(index: number, slot: number): number {
    return this.#queues[index]?.address[slot] ?? 0;
  }
  writeQueueAddress(index: number, slot: number, value: number): void {
    const q = this.#queues[index];
    if (q === undefined || q.enabled) this.refused++;
    else q.address[slot] = value;
  }
  writeQueueSize(index: number, size: number): void {
    const q = this.#queues[index];
    const valid = this.has(VIRTIO_F_RING_PACKED) ? isPackedVirtqSize(size) : isVirtqSize(size);
    if (q === undefined || q.enabled || !valid || size > q.maxSize) this.refused++;
    else q.size = size;
  }
  /** §4.1.4.3.2. Returns whether the queue is live now. */
  enableQueue(index: number): boolean {
    const q = this.#queues[index];
    if (q === undefined || q.enabled || !this.featuresAgreed) {
      this.refused++;
      return false;
    }
    const [desc, driver, device] = [0, 2, 4].map((i) => join64(q.address[i]!, q.address[i + 1]!));
    const packed = this.has(VIRTIO_F_RING_PACKED);
    const ok = (address: number, align: number): boolean => Number.isSafeInteger(address) && address % align === 0;
    const aligned =
      ok(desc!, packed ? PVIRTQ_DESC_ALIGN : VIRTQ_DESC_ALIGN) &&
      ok(driver!, packed ? PVIRTQ_EVENT_ALIGN : VIRTQ_AVAIL_ALIGN) &&
      ok(device!, packed ? PVIRTQ_EVENT_ALIGN : VIRTQ_USED_ALIGN);
    if (!aligned || !this.#inMemory(q.size, desc!, driver!, device!)) {
      this.needsReset(NEEDS_RESET_QUEUE_ADDRESS, index);
      return false;
    }
    this.#goLive(q, desc!, driver!, device!);
    return true;
  }
  /** All of a ring is in the guest's RAM, event words and all (qemu virtio_init_region_cache(): "Cannot map"). */
  #inMemory(size: number, desc: number, driver: number, device: number): boolean {
    const inRam = this.#inRam;
    if (inRam === undefined) return true;
    const packed = this.has(VIRTIO_F_RING_PACKED);
    return (
      inRam(desc, virtqDescBytes(size)) &&
      inRam(driver, packed ? pvirtq_event_suppress.SIZE : virtqAvailBytes(size)) &&
      inRam(device, packed ? pvirtq_event_suppress.SIZE : virtqUsedBytes(size))
    );
  }
  /** A legacy driver named a ring: the parts lie behind each other, the used ring on a page of its own (§2.7.2). */
  enableLegacyQueue(index: number, desc: number, driver: number, device: number): void {
    const q = this.#queues[index];
    if (q === undefined || q.enabled) this.refused++;
    else if (!this.#inMemory(q.size, desc, driver, device)) this.needsReset(NEEDS_RESET_QUEUE_ADDRESS, index);
    else this.#goLive(q, desc, driver, device);
  }
  #goLive(q: Queue, desc: number, driver: number, device: number): void {
    q.descGpa = desc;
    q.driverGpa = driver;
    q.deviceGpa = device;
    q.enabled = true;
    this.hooks.onQueueEnable?.(q);
  }
  /** §2.6.1: the queue's registers are as at power-on afterwards. Needs VIRTIO_F_RING_RESET. */
  resetQueue(index: number): void {
    const q = this.#queues[index];
    if (q === undefined || !this.has(VIRTIO_F_RING_RESET) || !this.featuresAgreed) {
      this.refused++;
      return;
    }
    q.resetting = true;
    this.hooks.onQueueReset?.(q);
    this.#clear(q);
  }
  /** §4.2.2, QueueReady 0: the device lets the queue go; its registers stay. Only virtio-mmio has this. */
  protected disableQueue(index: number): void {
    const q = this.#queues[index];
    if (q === undefined) {
      this.refused++;
      return;
    }
    if (!q.enabled) return;
    this.hooks.onQueueReset?.(q);
    q.enabled = false;
  }
  #clear(q: Queue): void {
    const { msixVector } = q;
    q.size = q.maxSize;
    q.enabled = false;
    q.resetting = false;
    q.msixVector = NO_VECTOR;
    q.descGpa = 0;
    q.driverGpa = 0;
    q.deviceGpa = 0;
    q.address.fill(0);
    this.queueGone(msixVector);
  }

  /**
   * A doorbell. `named`: the queue that its place says, -1 where the value says it. With VIRTIO_F_NOTIFICATION_DATA the value
   * is 32 bits of queue, offset and wrap counter (§2.9), and must fit the queue; without, QEMU looks at it only to find the queue.
   */
  notifyWritten(named: number, value: number, width: number): void {
    const index = named >= 0 ? named : value & 0xffff;
    const q = this.#queues[index];
    if (q?.enabled === true && this.live && this.#notificationFits(q, value, width))
      this.hooks.onNotify?.(index, value);
    else this.refused++;
  }
  #notificationFits(q: Queue, value: number, width: number): boolean {
    if (this.has(VIRTIO_F_NOTIF_CONFIG_DATA) && (value & 0xffff) !== q.index) return false;
    if (!this.has(VIRTIO_F_NOTIFICATION_DATA)) return true;
    const offset = (value >>> 16) & 0x7fff;
    return width === 4 && (value & 0xffff) === q.index && (!this.has(VIRTIO_F_RING_PACKED) || offset < q.size);
  }

  // ---- configuration and breakdown ------------------------------------------------------------------------------------

  /** A configuration change notification: only a live driver gets one (§2.1.2 for a device that broke down). */
  notifyConfig(): void {
    if ((this.status & VIRTIO_CONFIG_S_DRIVER_OK) === 0) return;
    this.hooks.onConfigChange?.(this.configGeneration, this.status);
    this.raiseConfig();
  }
  /** Something in the configuration is another: §4.1.4.3.1 counts it. `notify`: the driver is told. */
  configChanged(notify: boolean): void {
    this.configGeneration = (this.configGeneration + 1) & 0xff;
    if (notify) this.notifyConfig();
  }
  /** The cable is plugged or pulled. */
  setLinkUp(up: boolean): void {
    if (this.netConfig.setLinkUp(up)) this.configChanged(true);
  }
  /**
   * Asks the driver to send gratuitous packets (§5.1.6.6). False where it cannot: no VIRTIO_NET_F_GUEST_ANNOUNCE, or not live.
   * The driver's acknowledgement on the control queue takes the bit back (netConfig.setAnnounce(false)).
   */
  announce(): boolean {
    if (!this.live || !this.has(VIRTIO_NET_F_GUEST_ANNOUNCE)) return false;
    this.netConfig.setAnnounce(true);
    this.configChanged(true);
    return true;
  }
  /** A legacy driver writes the configuration. */
  legacyConfigWritten(offset: number, width: number, value: number): void {
    if (!this.netConfig.write(offset, width, value, this.driverFeatures)) {
      this.refused++;
      return;
    }
    this.configChanged(false);
    this.hooks.onMac?.();
  }

  /** §2.1.2: the device met something it cannot get over. Idempotent; tells a live driver by a configuration interrupt. */
  needsReset(reason = 0, queue = -1): void {
    this.refused++;
    if ((this.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) return;
    this.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    this.hooks.onNeedsReset?.(reason, queue);
    this.notifyConfig();
  }
  /**
   * Another back-end is behind the device: from now on it offers only what that has as well.
   * DEVIATION: QEMU's other process offers all that its own back-end has; here bits that went once do not come back.
   */
  offerOnly(features: Features): void {
    this.offered = andFeatures(this.offered, features);
    this.legacyOffered = andFeatures(this.legacyOffered, features);
  }
  /** A state that was saved, of a device with the same queues (qemu virtio_load()). */
  restore(saved: Pick<SavedDevice, 'status' | 'configGeneration' | 'features' | 'queues'>): void {
    this.#takeFeatures(saved.features);
    this.status = saved.status;
    this.configGeneration = saved.configGeneration;
    for (const [i, q] of this.#queues.entries()) {
      const from = saved.queues[i];
      if (from === undefined) continue;
      q.size = from.size;
      q.enabled = from.enabled;
      q.msixVector = from.msixVector;
      q.descGpa = from.descGpa;
      q.driverGpa = from.driverGpa;
      q.deviceGpa = from.deviceGpa;
    }
  }
  /** §2.4: what writing 0 to the status does. The link stays, the MAC address is the device's own again. */
  reset(): void {
    this.status = 0;
    this.driverFeatures = NO_FEATURES;
    for (const q of this.#single) this.#clear(q);
    for (const q of this.#all) this.#clear(q);
    this.#layOut(this.#all);
    this.netConfig.reset();
    this.resetTransport();
    this.hooks.onReset?.();
  }
}
