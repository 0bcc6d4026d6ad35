/**
 * The MSI-X table of a PCI function, with its pending bits: BAR1 of a virtio device. The driver writes messages and masks;
 * the device asks which message a vector sends now. PCI Local Bus 3.0 §6.8.2; qemu hw/pci/msix.c.
 */
import { msix_entry, PCI_MSIX_ENTRY_CTRL_MASKBIT } from '../wire/pci.ts';

export interface MsiMessage {
  readonly address: number;
  readonly data: number;
}
export const MSIX_TABLE_OFFSET = 0;
/** PCI Local Bus 3.0 §6.8.2.3: the size field has eleven bits. */
export const MSIX_VECTORS_MAX = 2048;
/** Where the pending bits are, and how large the BAR is: half a page each, more when the table needs it (qemu msix_init_exclusive_bar()). */
export function msixLayout(vectors: number): { readonly pba: number; readonly bar: number } {
  const pba = Math.max(0x800, msix_entry.SIZE * vectors);
  const end = pba + 8 * Math.ceil(vectors / 64);
  return { pba, bar: 2 ** Math.ceil(Math.log2(Math.max(0x1000, end))) };
}

export class MsixTable {
  readonly vectors: number;
  readonly layout: { readonly pba: number; readonly bar: number };
  /** Owner: driver. */
  readonly #table: DataView;
  /** The entries once more, ready to send. */
  readonly #messages: MsiMessage[];
  /** By vector. Owner: device; the driver reads them. */
  readonly #pending: Uint8Array;

  constructor(vectors: number) {
    if (!Number.isInteger(vectors) || vectors < 0 || vectors > MSIX_VECTORS_MAX)
      throw new RangeError('0 to 2048 MSI-X vectors');
    this.vectors = vectors;
    this.layout = msixLayout(vectors);
    this.#table = new DataView(new ArrayBuffer(msix_entry.SIZE * vectors));
    this.#messages = Array.from({ length: vectors }, () => ({ address: 0, data: 0 }));
    this.#pending = new Uint8Array(vectors);
    this.maskAll();
  }
  has(vector: number): boolean {
    return vector >= 0 && vector < this.vectors;
  }
  isMasked(vector: number): boolean {
    const control = msix_entry.vector_control.get(this.#table, msix_entry.SIZE * vector);
    return (control & PCI_MSIX_ENTRY_CTRL_MASKBIT) !== 0;
  }
  message(vector: number): MsiMessage {
    return this.#messages[vector]!;
  }
  isPending(vector: number): boolean {
    return this.#pending[vector] === 1;
  }
  setPending(vector: number, pending: boolean): void {
    this.#pending[vector] = pending ? 1 : 0;
  }
  /** As after power-on; the messages stay. */
  maskAll(): void {
    for (let v = 0; v < this.vectors; v++) {
      msix_entry.vector_control.set(this.#table, msix_entry.SIZE * v, PCI_MSIX_ENTRY_CTRL_MASKBIT);
    }
  }
  clearAllPending(): void {
    this.#pending.fill(0);
  }

  /** Width 1, 2 or 4, offset in the BAR. */
  read(offset: number, width: number): number {
    if (offset + width <= this.#table.byteLength) {
      if (width === 1) return this.#table.getUint8(offset);
      return width === 2 ? this.#table.getUint16(offset, true) : this.#table.getUint32(offset, true);
    }
    let value = 0;
    const { pba } = this.layout;
    for (let i = 0; offset >= pba && i < 8 * width; i++) {
      if (this.isPending(8 * (offset - pba) + i)) value |= 1 << i;
    }
    return value >>> 0;
  }
  /** The vector whose entry changed, or -1: only aligned 32-bit writes into the table count, pending bits are read-only. */
  write(offset: number, width: number, value: number): number {
    if (width !== 4 || (offset & 3) !== 0 || offset + width > this.#table.byteLength) return -1;
    this.#table.setUint32(offset, value, true);
    const vector = Math.floor(offset / msix_entry.SIZE);
    const at = vector * msix_entry.SIZE;
    const high = msix_entry.addr_hi.get(this.#table, at);
    this.#messages[vector] = {
      address: high * 0x1_0000_0000 + msix_entry.addr_lo.get(this.#table, at),
      data: msix_entry.data.get(this.#table, at),
    };
    return vector;
  }
}
