/**
 * A virtio-net device as a PCI function, as QEMU 7.2 shows it: configuration space with its capability chain, MSI-X in BAR1,
 * the structures of virtio-pci in BAR4, a port for notifications in BAR2, the legacy registers in BAR0. A guest driver finds
 * and configures it through the four access functions; the data path reads `queues`, `driverFeatures` and asks for MSI
 * messages.
 *
 * Read first: virtio-device.ts; virtio 1.2 §4.1; qemu hw/virtio/virtio-pci.c.
 */
import {
  msix_capability,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_STATUS_INTERRUPT,
  pci_header,
  pciBarOffset,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_ISR_CONFIG,
  VIRTIO_PCI_ISR_QUEUE,
  virtio_pci_cap,
  virtio_pci_cfg_cap_data,
  virtio_pci_legacy,
} from '../wire/pci.ts';
import { type MsiMessage, MsixTable } from './msix.ts';
import { CommonConfig } from './pci-common-config.ts';
import {
  type ConfigSpace,
  type ConfigSpaceOptions,
  DEVICE_OFFSET,
  ISR_OFFSET,
  LEGACY_BAR,
  MODERN_BAR,
  MSIX_BAR,
  NOTIFY_OFFSET,
  NOTIFY_PIO_BAR,
  netConfigSpace,
  PCI_EXP_DEVCTL,
  PCI_EXP_DEVCTL_BCR_FLR,
} from './pci-config-space.ts';
import { LegacyIo } from './pci-legacy-io.ts';
import { type Doorbell, truncate, VirtioDevice, type VirtioDeviceOptions, widthOk } from './virtio-device.ts';

export type { QueueRegisters } from './virtio-device.ts';

/** QEMU: two per queue pair, plus one for configuration and one for the control queue. */
export const defaultVectors = (queuePairs: number): number => 2 * queuePairs + 2;

export interface VirtioPciOptions extends VirtioDeviceOptions {
  /** MSI-X vectors; 0 = no MSI-X capability, INTx only. Default: as QEMU for these queues. */
  readonly vectors?: number;
  /** QEMU's disable-legacy=on (the default here), neither, or disable-modern=on. */
  readonly flavour?: ConfigSpaceOptions['flavour'];
  /** QEMU's page-per-vq, modern-pio-notify and ats. */
  readonly pagePerVq?: boolean;
  readonly modernPioNotify?: boolean;
  readonly ats?: boolean;
  /** A PCI Express function, with 4096 bytes of configuration space. */
  readonly onRootPort?: boolean;
}

const H = pci_header;
const join64 = (lo: number, hi: number): number => hi * 0x1_0000_0000 + lo;
function readLe(view: DataView, at: number, width: number): number {
  return width === 1 ? view.getUint8(at) : width === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
}

export class VirtioPciDevice extends VirtioDevice {
  readonly vectors: number;
  readonly flavour: ConfigSpaceOptions['flavour'];
  configVector = VIRTIO_MSI_NO_VECTOR;
  /** Owner: device sets, a read of the ISR register clears. */
  isr = 0;

  readonly #space: ConfigSpace;
  readonly #config: DataView;
  readonly #msix: MsixTable;
  readonly #common: CommonConfig;
  readonly #legacy: LegacyIo;
  #intx = false;

  constructor(options: VirtioPciOptions) {
    super(options);
    this.vectors = options.vectors ?? defaultVectors(options.queueSizes.length >> 1);
    this.flavour = options.flavour ?? 'modern';
    this.#msix = new MsixTable(this.vectors);
    this.#common = new CommonConfig(this);
    this.#legacy = new LegacyIo(this, this.#common);
    this.#space = netConfigSpace({
      flavour: this.flavour,
      vectors: this.vectors,
      configLength: this.netConfig.length,
      pagePerVq: options.pagePerVq ?? false,
      modernPioNotify: options.modernPioNotify ?? false,
      onRootPort: options.onRootPort ?? false,
      ats: options.ats ?? false,
    });
    this.#config = this.#space.config;
  }

  // ---- configuration space ----------------------------------------------------------------------------------------

  #configAccess(offset: number, width: number): boolean {
    const ok = widthOk(width) && Number.isInteger(offset) && offset >= 0 && offset + width <= this.#config.byteLength;
    if (!ok) this.refused++;
    return ok;
  }
  /** Where the window of the PCI_CFG capability begins, when the access touches it; -1 otherwise. */
  #window(offset: number, width: number): number {
    const data = this.#space.pciCfg + virtio_pci_cfg_cap_data;
    return this.#space.pciCfg !== 0 && offset < data + 4 && offset + width > data ? data : -1;
  }

  /** Width 1, 2 or 4, inside the 256 or 4096 bytes; anything else reads all ones, as an absent function does. */
  readConfig(offset: number, width: number): number {
    if (!this.#configAccess(offset, width)) return truncate(0xffff_ffff, width);
    const data = this.#window(offset, width);
    if (data >= 0) {
      // §4.1.4.9: the window is filled from where the capability points. QEMU looks only at offset and length, not at bar.
      const length = virtio_pci_cap.length.get(this.#config, this.#space.pciCfg);
      if (widthOk(length)) {
        const at = virtio_pci_cap.offset.get(this.#config, this.#space.pciCfg);
        const value = this.#readModern(at, length);
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
    if (!this.#configAccess(offset, width)) return;
    const wasMaster = (this.command & PCI_COMMAND_MASTER) !== 0;
    const wasLive = this.msixLive;
    for (let i = 0; i < width; i++) {
      const mask = this.#space.writable.getUint8(offset + i);
      const old = this.#config.getUint8(offset + i);
      this.#config.setUint8(offset + i, (old & ~mask) | ((value >>> (8 * i)) & mask));
    }
    const data = this.#window(offset, width);
    if (data >= 0) {
      const length = virtio_pci_cap.length.get(this.#config, this.#space.pciCfg);
      const at = virtio_pci_cap.offset.get(this.#config, this.#space.pciCfg);
      if (widthOk(length)) this.#writeModern(at, length, readLe(this.#config, data, length));
    }
    if (!wasLive && this.msixLive) this.#deliverPending();
    // No bus master, no DMA: QEMU takes the device out of service (qemu virtio_write_config()).
    if (wasMaster && (this.command & PCI_COMMAND_MASTER) === 0) this.stop();
    this.#functionLevelReset();
    this.#updateIntx();
  }
  /** PCI Express 3.0 §6.6.2; qemu pcie_cap_flr_write_config(). */
  #functionLevelReset(): void {
    if (this.#space.express === 0) return;
    const at = this.#space.express + PCI_EXP_DEVCTL;
    const control = this.#config.getUint16(at, true);
    if ((control & PCI_EXP_DEVCTL_BCR_FLR) === 0) return;
    this.#config.setUint16(at, 0, true);
    H.command.set(this.#config, 0, 0);
    for (const [n, bar] of this.#space.bars.entries()) {
      if (bar === undefined) continue;
      const low = this.#config.getUint32(pciBarOffset(n), true);
      this.#config.setUint32(pciBarOffset(n), low & ~this.#space.writable.getUint32(pciBarOffset(n), true), true);
      if (bar.is64) this.#config.setUint32(pciBarOffset(n + 1), 0, true);
    }
    if (this.#space.msix !== 0) msix_capability.message_control.set(this.#config, this.#space.msix, this.vectors - 1);
    this.#msix.maskAll();
    this.reset();
  }

  /** Base address of a BAR as the guest set it (a port for an I/O BAR), 0 while it is unset or not there. */
  barAddress(bar: number): number {
    const what = this.#space.bars[bar];
    if (what === undefined) return 0;
    const at = pciBarOffset(bar);
    const low = (this.#config.getUint32(at, true) & ~(what.size - 1)) >>> 0;
    return what.is64 ? join64(low, this.#config.getUint32(at + 4, true)) : low;
  }
  /** Bytes, 0 without such a BAR. */
  barSize(bar: number): number {
    return this.#space.bars[bar]?.size ?? 0;
  }
  barIsIo(bar: number): boolean {
    return this.#space.bars[bar]?.io ?? false;
  }
  get command(): number {
    return H.command.get(this.#config, 0);
  }
  /** Of the modern interface, or where the driver uses no other, of the legacy one. */
  doorbell(queue: number): Doorbell {
    const { modern, ports, legacy } = this.notifyPlaces(queue);
    if (this.flavour === 'legacy' || (this.flavour === 'transitional' && this.status !== 0 && this.legacy))
      return legacy;
    return ports ?? modern;
  }
  /** qemu virtio_pci_ioeventfd_assign(): modern, by port where there is one, legacy. */
  override doorbells(queue: number): readonly Doorbell[] {
    const { modern, ports, legacy } = this.notifyPlaces(queue);
    const found: Doorbell[] = this.flavour === 'legacy' ? [] : [modern];
    if (ports !== null) found.push(ports);
    if (this.flavour !== 'modern') found.push(legacy);
    return found.filter((doorbell) => doorbell.address !== 0);
  }
  private notifyPlaces(queue: number): {
    readonly modern: Doorbell;
    readonly ports: Doorbell | null;
    readonly legacy: Doorbell;
  } {
    const base = this.barAddress(MODERN_BAR);
    const at = NOTIFY_OFFSET + queue * this.#space.notifyMultiplier;
    const port = this.barAddress(LEGACY_BAR);
    const own = this.#space.bars[NOTIFY_PIO_BAR] !== undefined;
    return {
      modern: { io: false, address: base === 0 ? 0 : base + at, match: -1, bytes: 2 },
      ports: own ? { io: true, address: this.barAddress(NOTIFY_PIO_BAR), match: queue, bytes: 2 } : null,
      legacy: {
        io: true,
        address: port === 0 ? 0 : port + virtio_pci_legacy.queue_notify.offset,
        match: queue,
        bytes: 2,
      },
    };
  }

  // ---- MSI-X and INTx ---------------------------------------------------------------------------------------------

  #messageControl(): number {
    return this.#space.msix === 0 ? 0 : msix_capability.message_control.get(this.#config, this.#space.msix);
  }
  get msixEnabled(): boolean {
    return (this.#messageControl() & PCI_MSIX_FLAGS_ENABLE) !== 0;
  }
  /** Enabled, and not masked as a function. */
  get msixLive(): boolean {
    return (this.#messageControl() & (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)) === PCI_MSIX_FLAGS_ENABLE;
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
  notifyQueue(queue: number): MsiMessage | null {
    const q = this.queues[queue];
    if (q === undefined || !this.live || !q.enabled) return null;
    this.isr |= VIRTIO_PCI_ISR_QUEUE;
    if (this.msixEnabled) return this.msixNotify(q.msixVector);
    this.#updateIntx();
    return null;
  }
  protected raiseConfig(): void {
    this.isr |= VIRTIO_PCI_ISR_QUEUE | VIRTIO_PCI_ISR_CONFIG;
    if (!this.msixEnabled) {
      this.#updateIntx();
      return;
    }
    const message = this.msixNotify(this.configVector);
    if (message !== null) this.hooks.onMsi?.(this.configVector, message);
  }
  /** §4.1.5.1.2: a vector that the device does not have reads back as NO_VECTOR. */
  mapConfigVector(value: number): void {
    const old = this.configVector;
    this.configVector = this.#vectorOrNone(value);
    this.queueGone(old);
  }
  mapQueueVector(queue: number, value: number): void {
    const q = this.queues[queue];
    if (q === undefined) {
      this.refused++;
      return;
    }
    const old = q.msixVector;
    q.msixVector = this.#vectorOrNone(value);
    this.queueGone(old);
  }
  #vectorOrNone(value: number): number {
    return (value & 0xffff) < this.vectors ? value & 0xffff : VIRTIO_MSI_NO_VECTOR;
  }
  /** A vector that nothing is mapped to any more has nothing pending (qemu msix_vector_unuse()). */
  protected override queueGone(vector: number): void {
    if (!this.#msix.has(vector) || this.configVector === vector) return;
    if (!this.queues.some((q) => q.msixVector === vector)) this.#msix.setPending(vector, false);
  }
  #deliverPending(): void {
    for (let v = 0; v < this.vectors; v++) if (this.#msix.isPending(v)) this.#deliverIfOpen(v);
  }
  #deliverIfOpen(vector: number): void {
    const message = this.msixMessage(vector);
    if (message === null) return;
    this.#msix.setPending(vector, false);
    this.hooks.onMsi?.(vector, message);
  }
  #updateIntx(): void {
    const asserted = this.isr !== 0 && !this.msixEnabled && (this.command & PCI_COMMAND_INTX_DISABLE) === 0;
    if (asserted === this.#intx) return;
    this.#intx = asserted;
    this.hooks.onIntx?.(asserted);
  }
  /** A read of the ISR (§4.1.4.5): it is clear afterwards, and the pin with it. */
  takeIsr(): number {
    const { isr } = this;
    this.isr = 0;
    this.#updateIntx();
    return isr;
  }

  // ---- BARs -------------------------------------------------------------------------------------------------------

  /** Whether the command register lets the function answer at a BAR. */
  #decodes(bar: number): boolean {
    return (this.command & (this.barIsIo(bar) ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) !== 0;
  }
  /**
   * Width 1, 2, 4 or 8 (answered as two 4-byte reads: the low half only, a number holds no more). All ones while decoding is
   * off in the command register: nobody claims the access then.
   */
  readBar(bar: number, offset: number, width: number): number {
    if (!this.#decodes(bar)) {
      this.refused++;
      return truncate(0xffff_ffff, width);
    }
    const w = width === 8 ? 4 : width;
    if (!widthOk(w) || !Number.isInteger(offset) || offset < 0 || offset + w > this.barSize(bar)) {
      this.refused++;
      return 0;
    }
    if (bar === MODERN_BAR) return this.#readModern(offset, w);
    if (bar === MSIX_BAR) return this.#msix.read(offset, w);
    return bar === LEGACY_BAR ? truncate(this.#legacy.read(offset, w), w) : 0;
  }
  #readModern(offset: number, width: number): number {
    if (offset + width > this.barSize(MODERN_BAR)) {
      this.refused++;
      return 0;
    }
    if (offset >= NOTIFY_OFFSET) return 0;
    if (offset >= DEVICE_OFFSET) return this.netConfig.read(offset - DEVICE_OFFSET, width);
    return truncate(offset >= ISR_OFFSET ? this.takeIsr() : this.#common.read(offset), width);
  }

  writeBar(bar: number, offset: number, width: number, value: number): void {
    const sane = (widthOk(width) || width === 8) && Number.isInteger(offset) && offset >= 0 && Number.isFinite(value);
    if (!this.#decodes(bar) || !sane) {
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
    if (offset + width > this.barSize(bar)) this.refused++;
    else if (bar === MODERN_BAR) this.#writeModern(offset, width, v);
    else if (bar === MSIX_BAR) this.#writeMsix(offset, width, v);
    else if (bar === LEGACY_BAR) this.#legacy.write(offset, width, v);
    else this.notifyWritten(-1, v, width);
  }
  #writeModern(offset: number, width: number, value: number): void {
    if (offset + width > this.barSize(MODERN_BAR)) this.refused++;
    // §4.1.4.4: the offset says which queue
    else if (offset >= NOTIFY_OFFSET) {
      this.notifyWritten(Math.floor((offset - NOTIFY_OFFSET) / this.#space.notifyMultiplier), value, width);
    } else if (offset < ISR_OFFSET) this.#common.write(offset, value);
    else this.refused++; // ISR is read-only, and the configuration has no field that a modern driver may write
  }
  #writeMsix(offset: number, width: number, value: number): void {
    const vector = this.#msix.write(offset, width, value);
    if (vector < 0) this.refused++;
    else if (this.#msix.isPending(vector)) this.#deliverIfOpen(vector);
  }

  /** PCI configuration and the MSI-X table stay (qemu virtio_pci_reset()). */
  protected resetTransport(): void {
    this.configVector = VIRTIO_MSI_NO_VECTOR;
    this.isr = 0;
    this.#common.reset();
    this.#msix.clearAllPending();
    this.#updateIntx();
  }
}
