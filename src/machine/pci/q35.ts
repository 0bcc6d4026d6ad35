/**
 * The functions that a q35 machine has of its own on bus 0, as far as a scan sees them: ids, class, header type, BARs.
 * DEVIATION: nothing is behind their registers: no SATA, no SMBus, no ISA bus.
 */

import { truncate, widthOk } from '../virtio/virtio-device.ts';
import {
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_COMMAND_SERR,
  PCI_CONFIG_SPACE_SIZE,
  PCI_HEADER_TYPE_MULTI_FUNCTION,
  pci_header,
  pciBarOffset,
} from '../wire/pci.ts';
import { type PciFunction, PciHostBridge } from './host-bridge.ts';

interface BareBar {
  readonly bar: number;
  readonly io: boolean;
  readonly size: number;
}
interface BareOptions {
  readonly device: number;
  readonly revision: number;
  /** Class and subclass. */
  readonly class: number;
  readonly prog?: number;
  readonly multiFunction?: boolean;
  readonly pin?: number;
  readonly bars?: readonly BareBar[];
}
const PCI_VENDOR_ID_INTEL = 0x8086;
const QEMU_SUBSYSTEM = 0x1100_1af4;
const H = pci_header;

/** A function with nothing but its header. */
export class BareFunction implements PciFunction {
  readonly #config = new DataView(new ArrayBuffer(PCI_CONFIG_SPACE_SIZE));
  readonly #writable = new DataView(new ArrayBuffer(PCI_CONFIG_SPACE_SIZE));
  readonly #bars: readonly BareBar[];

  constructor(options: BareOptions) {
    const c = this.#config;
    const w = this.#writable;
    H.vendor_id.set(c, 0, PCI_VENDOR_ID_INTEL);
    H.device_id.set(c, 0, options.device);
    H.revision_id.set(c, 0, options.revision);
    H.class_prog.set(c, 0, options.prog ?? 0);
    H.class_device.set(c, 0, options.class);
    H.header_type.set(c, 0, options.multiFunction === true ? PCI_HEADER_TYPE_MULTI_FUNCTION : 0);
    H.interrupt_pin.set(c, 0, options.pin ?? 0);
    c.setUint32(H.subsystem_vendor_id.offset, QEMU_SUBSYSTEM, true);
    H.command.set(w, 0, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_SERR);
    H.interrupt_line.set(w, 0, 0xff);
    this.#bars = options.bars ?? [];
    for (const { bar, io, size } of this.#bars) {
      if (io) c.setUint32(pciBarOffset(bar), PCI_BASE_ADDRESS_SPACE_IO, true);
      w.setUint32(pciBarOffset(bar), (0xffff_ffff & ~(size - 1)) >>> 0, true);
    }
  }
  #fits(offset: number, width: number): boolean {
    return widthOk(width) && Number.isInteger(offset) && offset >= 0 && offset + width <= PCI_CONFIG_SPACE_SIZE;
  }
  readConfig(offset: number, width: number): number {
    if (!this.#fits(offset, width)) return truncate(0xffff_ffff, width);
    let value = 0;
    for (let i = 0; i < width; i++) value += this.#config.getUint8(offset + i) * 2 ** (8 * i);
    return value;
  }
  writeConfig(offset: number, width: number, value: number): void {
    if (!this.#fits(offset, width)) return;
    for (let i = 0; i < width; i++) {
      const mask = this.#writable.getUint8(offset + i);
      const old = this.#config.getUint8(offset + i);
      this.#config.setUint8(offset + i, (old & ~mask) | ((value >>> (8 * i)) & mask));
    }
  }
  readBar(): number {
    return 0;
  }
  writeBar(): void {}
  barAddress(bar: number): number {
    const size = this.barSize(bar);
    return size === 0 ? 0 : (this.#config.getUint32(pciBarOffset(bar), true) & ~(size - 1)) >>> 0;
  }
  barSize(bar: number): number {
    return this.#bars.find((b) => b.bar === bar)?.size ?? 0;
  }
  barIsIo(bar: number): boolean {
    return this.#bars.find((b) => b.bar === bar)?.io ?? false;
  }
}

/** First slot that a NIC can have: slot 0 is the host bridge. */
export const FIRST_FREE_SLOT = 1;
const ICH9_SLOT = 31;

/** qemu `-machine q35 -nodefaults`: MCH, and the functions of the ICH9 in slot 31. NICs are added to it. */
export function q35HostBridge(): PciHostBridge {
  const bus = new PciHostBridge();
  bus.add(0, 0, new BareFunction({ device: 0x29c0, revision: 0, class: 0x0600 }));
  bus.add(ICH9_SLOT, 0, new BareFunction({ device: 0x2918, revision: 2, class: 0x0601, multiFunction: true }));
  const ahci = [
    { bar: 4, io: true, size: 0x20 },
    { bar: 5, io: false, size: 0x1000 },
  ];
  bus.add(
    ICH9_SLOT,
    2,
    new BareFunction({ device: 0x2922, revision: 2, class: 0x0106, prog: 1, multiFunction: true, pin: 1, bars: ahci }),
  );
  const smbus = [{ bar: 4, io: true, size: 0x40 }];
  bus.add(
    ICH9_SLOT,
    3,
    new BareFunction({ device: 0x2930, revision: 2, class: 0x0c05, multiFunction: true, pin: 1, bars: smbus }),
  );
  return bus;
}
