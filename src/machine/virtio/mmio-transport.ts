/**
 * A virtio-net device as virtio-mmio: one window of registers, one interrupt line, no discovery of its own. Version 2 of the
 * registers, without the legacy ones. virtio 1.2 §4.2; qemu hw/virtio/virtio-mmio.c with force-legacy=off.
 */
import {
  virtio_mmio as M,
  VIRTIO_MMIO_CONFIG,
  VIRTIO_MMIO_DEVICE_NET,
  VIRTIO_MMIO_INT_CONFIG,
  VIRTIO_MMIO_INT_VRING,
  VIRTIO_MMIO_MAGIC,
  VIRTIO_MMIO_SIZE,
  VIRTIO_MMIO_VENDOR,
  VIRTIO_MMIO_VERSION_MODERN,
} from '../wire/virtio-mmio.ts';
import { type Doorbell, truncate, VirtioDevice, type VirtioDeviceOptions, widthOk } from './virtio-device.ts';

export interface VirtioMmioOptions extends VirtioDeviceOptions {
  /** Guest-physical address of the window, and the number of its interrupt line: what the kernel is told. */
  readonly address: number;
  readonly irq: number;
}

export class VirtioMmioDevice extends VirtioDevice {
  readonly address: number;
  readonly irq: number;
  /** InterruptStatus. Owner: device sets, InterruptACK clears. */
  interruptStatus = 0;
  #deviceFeaturesSel = 0;
  #driverFeaturesSel = 0;
  #queueSel = 0;
  #line = false;

  constructor(options: VirtioMmioOptions) {
    super(options);
    this.address = options.address;
    this.irq = options.irq;
  }
  doorbell(queue: number): Doorbell {
    return { io: false, address: this.address + M.QUEUE_NOTIFY, match: queue, bytes: 4 };
  }

  // ---- the line ---------------------------------------------------------------------------------------------------

  /** Whether the interrupt line is asserted: while any bit of InterruptStatus is. */
  get asserted(): boolean {
    return this.#line;
  }
  #update(): void {
    const asserted = this.interruptStatus !== 0;
    if (asserted === this.#line) return;
    this.#line = asserted;
    this.hooks.onIntx?.(asserted);
  }
  notifyQueue(queue: number): null {
    if (!this.live || this.queues[queue]?.enabled !== true) return null;
    this.interruptStatus |= VIRTIO_MMIO_INT_VRING;
    this.#update();
    return null;
  }
  protected raiseConfig(): void {
    this.interruptStatus |= VIRTIO_MMIO_INT_CONFIG;
    this.#update();
  }
  protected resetTransport(): void {
    this.interruptStatus = 0;
    this.#deviceFeaturesSel = 0;
    this.#driverFeaturesSel = 0;
    this.#queueSel = 0;
    this.#update();
  }

  // ---- registers --------------------------------------------------------------------------------------------------

  /** Registers are 32 bits wide and aligned; the configuration behind them takes 1, 2 or 4. Anything else reads 0. */
  #fits(offset: number, width: number): boolean {
    const inside = widthOk(width) && Number.isInteger(offset) && offset >= 0 && offset + width <= VIRTIO_MMIO_SIZE;
    const ok = inside && (offset >= VIRTIO_MMIO_CONFIG || (width === 4 && offset % 4 === 0));
    if (!ok) this.refused++;
    return ok;
  }
  read(offset: number, width: number): number {
    if (!this.#fits(offset, width)) return 0;
    if (offset >= VIRTIO_MMIO_CONFIG) return this.netConfig.read(offset - VIRTIO_MMIO_CONFIG, width);
    const q = this.queues[this.#queueSel];
    switch (offset) {
      case M.MAGIC_VALUE:
        return VIRTIO_MMIO_MAGIC;
      case M.VERSION:
        return VIRTIO_MMIO_VERSION_MODERN;
      case M.DEVICE_ID:
        return VIRTIO_MMIO_DEVICE_NET;
      case M.VENDOR_ID:
        return VIRTIO_MMIO_VENDOR;
      case M.DEVICE_FEATURES:
        return this.offeredWord(this.#deviceFeaturesSel);
      case M.QUEUE_NUM_MAX:
        return q?.maxSize ?? 0;
      case M.QUEUE_READY:
        return q?.enabled && !q.resetting ? 1 : 0;
      case M.QUEUE_RESET:
        return q?.resetting ? 1 : 0;
      case M.INTERRUPT_STATUS:
        return this.interruptStatus;
      case M.STATUS:
        return this.status;
      case M.CONFIG_GENERATION:
        return this.configGeneration;
      // §4.2.2: no shared memory region has the length of all ones
      case M.SHM_LEN_LOW:
      case M.SHM_LEN_HIGH:
      case M.SHM_BASE_LOW:
      case M.SHM_BASE_HIGH:
        return 0xffff_ffff;
      default:
        this.refused++;
        return 0;
    }
  }

  write(offset: number, width: number, value: number): void {
    if (!Number.isFinite(value) || !this.#fits(offset, width)) {
      this.refused++;
      return;
    }
    const v = truncate(value, width);
    const slot = SLOT_OF.get(offset);
    if (slot !== undefined) {
      this.writeQueueAddress(this.#queueSel, slot, v);
      return;
    }
    switch (offset) {
      case M.DEVICE_FEATURES_SEL:
        this.#deviceFeaturesSel = v;
        return;
      case M.DRIVER_FEATURES_SEL:
        this.#driverFeaturesSel = v;
        return;
      case M.DRIVER_FEATURES:
        this.writeDriverFeatures(this.#driverFeaturesSel, v);
        return;
      case M.QUEUE_SEL:
        this.#queueSel = v;
        return;
      case M.QUEUE_NUM:
        this.writeQueueSize(this.#queueSel, v);
        return;
      case M.QUEUE_READY:
        if (v === 1) this.enableQueue(this.#queueSel);
        else this.disableQueue(this.#queueSel);
        return;
      case M.QUEUE_RESET:
        if (v === 1) this.resetQueue(this.#queueSel);
        else this.refused++;
        return;
      case M.QUEUE_NOTIFY:
        this.notifyWritten(-1, v, width);
        return;
      case M.INTERRUPT_ACK:
        this.interruptStatus &= ~v;
        this.#update();
        return;
      case M.STATUS:
        this.writeStatus(v & 0xff);
        return;
      // there is no shared memory to select
      case M.SHM_SEL:
        return;
      default:
        this.refused++;
    }
  }
}
const ADDRESS_REGISTERS = [
  M.QUEUE_DESC_LOW,
  M.QUEUE_DESC_HIGH,
  M.QUEUE_AVAIL_LOW,
  M.QUEUE_AVAIL_HIGH,
  M.QUEUE_USED_LOW,
  M.QUEUE_USED_HIGH,
];
const SLOT_OF: ReadonlyMap<number, number> = new Map(ADDRESS_REGISTERS.map((at, slot) => [at, slot]));
