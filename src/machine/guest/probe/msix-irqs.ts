/**
 * MSI-X of one function in the driver's hands: allocating entries, requesting and freeing their interrupts. One access each
 * where Linux 6.1 makes one. linux drivers/pci/msi/msi.c; kernel/irq/msi.c.
 */
import type { MsiMessage } from '../../virtio/msix.ts';
import {
  msix_capability,
  msix_entry,
  PCI_COMMAND_INTX_DISABLE,
  PCI_MSIX_ENTRY_CTRL_MASKBIT,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  pci_header,
} from '../../wire/pci.ts';
import type { PciAccess } from './probe-types.ts';

/** Placeholder until an interrupt is requested: linux MANAGED_IRQ_SHUTDOWN_VECTOR, on the boot CPU. */
const PLACEHOLDER: MsiMessage = { address: 0xfee0_1004, data: 0xef };
const NO_MESSAGE: MsiMessage = { address: 0, data: 0 };
/** PCI Local Bus 3.0 §6.8.2.3: size less one. */
const TABLE_SIZE = 0x7ff;

export class MsixIrqs {
  /** Entries allocated, 0 while MSI-X is off. */
  entries = 0;
  private readonly bus: PciAccess;
  /** Offset of the capability, 0 without. */
  private readonly cap: number;
  private readonly messageOf: (entry: number) => MsiMessage;
  private bar = 0;
  private at = 0;

  constructor(bus: PciAccess, cap: number, messageOf: (entry: number) => MsiMessage) {
    this.bus = bus;
    this.cap = cap;
    this.messageOf = messageOf;
  }
  private get controlAt(): number {
    return this.cap + msix_capability.message_control.offset;
  }
  private write(entry: number, field: { offset: number }, value: number): void {
    this.bus.barWrite(this.bar, this.at + msix_entry.SIZE * entry + field.offset, 4, value);
  }
  private read(entry: number, field: { offset: number }): number {
    return this.bus.barRead(this.bar, this.at + msix_entry.SIZE * entry + field.offset, 4);
  }
  /** linux __pci_write_msi_msg(): three writes, and one read that flushes them. */
  private writeMessage(entry: number, { address, data }: MsiMessage): void {
    this.write(entry, msix_entry.addr_lo, address >>> 0);
    this.write(entry, msix_entry.addr_hi, Math.floor(address / 0x1_0000_0000));
    this.write(entry, msix_entry.data, data);
    this.read(entry, msix_entry.data);
  }
  private mask(entry: number): void {
    this.write(entry, msix_entry.vector_control, PCI_MSIX_ENTRY_CTRL_MASKBIT);
  }
  private intx(disabled: boolean): void {
    const command = this.bus.cfgRead(pci_header.command.offset, 2);
    const wanted = disabled ? command | PCI_COMMAND_INTX_DISABLE : command & ~PCI_COMMAND_INTX_DISABLE;
    this.bus.cfgWrite(pci_header.command.offset, 2, wanted);
  }

  /** linux msix_capability_init(): false where the table is smaller than that, and nothing is changed. */
  enable(entries: number): boolean {
    const { bus, controlAt } = this;
    if (this.cap === 0) return false;
    const count = (bus.cfgRead(controlAt, 2) & TABLE_SIZE) + 1;
    if (count < entries) return false;
    bus.cfgWrite(controlAt, 2, bus.cfgRead(controlAt, 2) | PCI_MSIX_FLAGS_MASKALL | PCI_MSIX_FLAGS_ENABLE);
    bus.cfgRead(controlAt, 2);
    const table = bus.cfgRead(this.cap + msix_capability.table.offset, 4);
    this.bar = table & 7;
    this.at = (table & ~7) >>> 0;
    bus.cfgRead(controlAt, 2);
    for (let e = 0; e < entries; e++) this.read(e, msix_entry.vector_control);
    for (let e = 0; e < entries; e++) this.writeMessage(e, PLACEHOLDER);
    this.intx(true);
    for (let e = 0; e < count; e++) this.mask(e);
    bus.cfgWrite(controlAt, 2, bus.cfgRead(controlAt, 2) & ~PCI_MSIX_FLAGS_MASKALL);
    this.entries = entries;
    return true;
  }
  /** linux request_irq(): the message is written twice (activate, start-up), then the entry is unmasked. */
  request(entry: number): void {
    this.writeMessage(entry, this.messageOf(entry));
    this.writeMessage(entry, this.messageOf(entry));
    this.write(entry, msix_entry.vector_control, 0);
  }
  /** linux free_irq(): masked, which a read of the table flushes, and without a message. */
  free(entry: number): void {
    this.mask(entry);
    this.read(0, msix_entry.addr_lo);
    this.writeMessage(entry, NO_MESSAGE);
  }
  /** linux pci_free_irq_vectors(). */
  disable(): void {
    const { bus, controlAt } = this;
    for (let e = 0; e < this.entries; e++) {
      this.mask(e);
      this.read(0, msix_entry.addr_lo);
    }
    bus.cfgWrite(controlAt, 2, bus.cfgRead(controlAt, 2) & ~PCI_MSIX_FLAGS_ENABLE);
    this.intx(false);
    this.entries = 0;
  }
}
