/**
 * The PCI side of a guest's machine: bus 0 with its functions, configuration mechanism #1 at ports 0xcf8 and 0xcfc, and where
 * addresses and ports lead. Everything is answered as QEMU's q35 does: what is not there reads all ones.
 *
 * Runs on the vCPU's time. PCI Local Bus 3.0 §3.2.2.3.2; qemu hw/pci/pci_host.c.
 */
import { truncate, widthOk } from '../virtio/virtio-device.ts';

/** A function as the bus sees it. */
export interface PciFunction {
  readConfig(offset: number, width: number): number;
  writeConfig(offset: number, width: number, value: number): void;
  readBar(bar: number, offset: number, width: number): number;
  writeBar(bar: number, offset: number, width: number, value: number): void;
  /** 0 while it is not placed. */
  barAddress(bar: number): number;
  /** 0 without such a BAR. */
  barSize(bar: number): number;
  barIsIo(bar: number): boolean;
}
export const CONFIG_ADDRESS = 0xcf8;
export const CONFIG_DATA = 0xcfc;
const CONFIG_ENABLE = 0x8000_0000;
export const SLOTS = 32;
export const FUNCTIONS = 8;
const BARS = 6;

/** What mechanism #1 is told: function and dword. */
export const configAddress = (slot: number, fn: number, offset: number): number =>
  (CONFIG_ENABLE | (slot << 11) | (fn << 8) | (offset & 0xfc)) >>> 0;

export class PciHostBridge {
  /** By 8 * slot + function. */
  readonly #functions: (PciFunction | undefined)[] = new Array(SLOTS * FUNCTIONS).fill(undefined);
  #address = 0;

  /** Plugs a function in; throws where there is one already. */
  add(slot: number, fn: number, what: PciFunction): void {
    if (slot < 0 || slot >= SLOTS || fn < 0 || fn >= FUNCTIONS) throw new RangeError(`no slot ${slot}.${fn} on a bus`);
    if (this.#functions[FUNCTIONS * slot + fn] !== undefined) throw new RangeError(`slot ${slot}.${fn} is taken`);
    this.#functions[FUNCTIONS * slot + fn] = what;
  }
  at(slot: number, fn: number): PciFunction | undefined {
    return this.#functions[FUNCTIONS * slot + fn];
  }
  /** The function that the address register selects: only bus 0 has any, and only while the enable bit is set. */
  #selected(): PciFunction | undefined {
    if ((this.#address & CONFIG_ENABLE) === 0 || ((this.#address >>> 16) & 0xff) !== 0) return undefined;
    return this.#functions[(this.#address >>> 8) & 0xff];
  }

  /** IN. Width 1, 2 or 4. */
  ioRead(port: number, width: number): number {
    if (!widthOk(width)) return truncate(0xffff_ffff, width);
    if (port === CONFIG_ADDRESS && width === 4) return this.#address;
    if (port >= CONFIG_DATA && port + width <= CONFIG_DATA + 4) {
      const value = this.#selected()?.readConfig((this.#address & 0xfc) + port - CONFIG_DATA, width);
      return value ?? truncate(0xffff_ffff, width);
    }
    const hit = this.#barAt(port, width, true);
    return hit === null ? truncate(0xffff_ffff, width) : hit.what.readBar(hit.bar, hit.offset, width);
  }
  /** OUT. */
  ioWrite(port: number, width: number, value: number): void {
    if (!widthOk(width)) return;
    if (port === CONFIG_ADDRESS) {
      // only whole words reach the register (qemu pci_host_config_write())
      if (width === 4) this.#address = value >>> 0;
    } else if (port >= CONFIG_DATA && port + width <= CONFIG_DATA + 4) {
      this.#selected()?.writeConfig((this.#address & 0xfc) + port - CONFIG_DATA, width, value);
    } else {
      const hit = this.#barAt(port, width, true);
      hit?.what.writeBar(hit.bar, hit.offset, width, value);
    }
  }
  /** An access to guest-physical memory that is no RAM. */
  memoryRead(address: number, width: number): number {
    const hit = this.#barAt(address, width, false);
    return hit === null ? truncate(0xffff_ffff, width) : hit.what.readBar(hit.bar, hit.offset, width);
  }
  memoryWrite(address: number, width: number, value: number): void {
    const hit = this.#barAt(address, width, false);
    hit?.what.writeBar(hit.bar, hit.offset, width, value);
  }
  #barAt(address: number, width: number, io: boolean): { what: PciFunction; bar: number; offset: number } | null {
    for (const what of this.#functions) {
      for (let bar = 0; what !== undefined && bar < BARS; bar++) {
        const size = what.barSize(bar);
        const base = size === 0 || what.barIsIo(bar) !== io ? 0 : what.barAddress(bar);
        if (base !== 0 && address >= base && address + width <= base + size)
          return { what, bar, offset: address - base };
      }
    }
    return null;
  }
}
