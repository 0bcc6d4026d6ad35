/**
 * A driver's hands on a virtio-pci device: finding the capabilities, the mapped windows, MSI-X entries. Linux 6.1's functions,
 * one access each where the kernel makes one; the probes of both drivers are written with them.
 *
 * Runs on the vCPU. Read first: virtio 1.2 §4.1.4; linux drivers/virtio/virtio_pci_modern_dev.c, vp_modern_probe().
 */

import type { Features } from '../virtio/features.ts';
import { VIRTIO_CONFIG_S_FAILED } from '../virtio/status.ts';
import {
  msix_capability,
  msix_entry,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_VNDR,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_DEVICE_ID_VIRTIO_NET_MODERN,
  PCI_MSIX_ENTRY_CTRL_MASKBIT,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_STATUS_CAP_LIST,
  PCI_STD_NUM_BARS,
  PCI_VENDOR_ID_REDHAT_QUMRANET,
  pci_header,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  virtio_pci_cap,
  virtio_pci_common_cfg,
  virtio_pci_notify_cap_multiplier,
} from '../wire/pci.ts';
import { VIRTIO_NET_S_LINK_UP, virtio_net_config } from '../wire/virtio-net.ts';
import type { PciAccess, ProbeFailed } from './probe-types.ts';

const H = pci_header;
const CAP = virtio_pci_cap;
const C = virtio_pci_common_cfg;
/** Placeholder until an interrupt is requested: linux MANAGED_IRQ_SHUTDOWN_VECTOR. */
const MANAGED_IRQ_SHUTDOWN_VECTOR = 0xef;
const PAGE_SIZE = 4096;
/** Longest capability list that the walk follows (linux PCI_FIND_CAP_TTL). */
const PCI_FIND_CAP_TTL = 48;
/** A device that never comes out of reset, or always changes, would hold the guest for ever; Linux waits, a world must not. */
const POLLS_MAX = 1000;

/** linux drivers/pci/pci.c, __pci_find_next_cap_ttl(): the pointer is read as a byte, each entry as a word. */
function walkCapabilities(bus: PciAccess, pointerAt: number, id: number): number {
  let at = bus.cfgRead(pointerAt, 1);
  for (let ttl = PCI_FIND_CAP_TTL; ttl > 0 && at >= 0x40; ttl--) {
    at &= ~3;
    const entry = bus.cfgRead(at, 2);
    const found = entry & 0xff;
    if (found === 0xff) return 0;
    if (found === id) return at;
    at = entry >>> 8;
  }
  return 0;
}
export function findCapability(bus: PciAccess, id: number): number {
  if ((bus.cfgRead(H.status.offset, 2) & PCI_STATUS_CAP_LIST) === 0) return 0;
  return walkCapabilities(bus, H.capability_list.offset, id);
}
/** linux virtio_pci_modern_dev.c, virtio_pci_find_capability(): one walk of the list per type. */
function findVirtioCapability(bus: PciAccess, cfgType: number): number {
  let at = findCapability(bus, PCI_CAP_ID_VNDR);
  for (let ttl = PCI_FIND_CAP_TTL; ttl > 0 && at > 0; ttl--) {
    const type = bus.cfgRead(at + CAP.cfg_type.offset, 1);
    const bar = bus.cfgRead(at + CAP.bar.offset, 1);
    if (bar < PCI_STD_NUM_BARS && type === cfgType) {
      bus.found?.(at, PCI_CAP_ID_VNDR, cfgType);
      return at;
    }
    at = walkCapabilities(bus, at + CAP.cap_next.offset, PCI_CAP_ID_VNDR);
  }
  return 0;
}
/** linux vp_modern_map_capability(): three reads, then an ioremap. */
function mapCapability(bus: PciAccess, at: number): { bar: number; offset: number; length: number } {
  const bar = bus.cfgRead(at + CAP.bar.offset, 1);
  const offset = bus.cfgRead(at + CAP.offset.offset, 4);
  const length = bus.cfgRead(at + CAP.length.offset, 4);
  return { bar, offset, length };
}

/**
 * The PCI core's look at the function at boot, before any driver: ids, class, subsystem, and where the MSI-X capability is.
 * Answers its offset (0 = none), or -1 where the function is no modern virtio network device (virtio 1.2 §4.1.2).
 * DEVIATION: linux pci_setup_device() also sizes the BARs again and looks for many more capabilities.
 */
export function enumerateFunction(bus: PciAccess): number {
  const ids = bus.cfgRead(H.vendor_id.offset, 4);
  bus.cfgRead(H.header_type.offset, 1);
  bus.cfgRead(H.revision_id.offset, 4);
  bus.cfgRead(H.subsystem_vendor_id.offset, 2);
  bus.cfgRead(H.subsystem_id.offset, 2);
  const virtioNet = PCI_VENDOR_ID_REDHAT_QUMRANET + PCI_DEVICE_ID_VIRTIO_NET_MODERN * 0x1_0000;
  if (ids !== virtioNet) return -1;
  const at = findCapability(bus, PCI_CAP_ID_MSIX);
  if (at > 0) bus.found?.(at, PCI_CAP_ID_MSIX, 0);
  return at;
}

/** The device's windows as a driver has mapped them. */
export class Transport {
  readonly bus: PciAccess;
  commonBar = 0;
  commonAt = 0;
  deviceBar = 0;
  deviceAt = 0;
  notifyBar = 0;
  notifyAt = 0;
  notifyLength = 0;
  notifyMultiplier = 0;
  msixBar = 0;
  msixAt = 0;

  constructor(bus: PciAccess) {
    this.bus = bus;
  }
  read(field: { offset: number; width: number }): number {
    return this.bus.barRead(this.commonBar, this.commonAt + field.offset, field.width);
  }
  write(field: { offset: number; width: number }, value: number): void {
    this.bus.barWrite(this.commonBar, this.commonAt + field.offset, field.width, value);
  }
  select(queue: number): void {
    this.write(C.queue_select, queue);
  }
  /** linux virtio_add_status(): read, then write with the bits added. */
  addStatus(bits: number): void {
    this.write(C.device_status, this.read(C.device_status) | bits);
  }
  readFeatures(): Features {
    this.write(C.device_feature_select, 0);
    const lo = this.read(C.device_feature);
    this.write(C.device_feature_select, 1);
    return { lo, hi: this.read(C.device_feature) };
  }
  /** 64-bit fields as two halves each, of the selected queue. */
  writeRingAddresses(desc: number, driver: number, device: number): void {
    this.write(C.queue_desc_lo, desc >>> 0);
    this.write(C.queue_desc_hi, Math.floor(desc / 0x1_0000_0000));
    this.write(C.queue_driver_lo, driver >>> 0);
    this.write(C.queue_driver_hi, Math.floor(driver / 0x1_0000_0000));
    this.write(C.queue_device_lo, device >>> 0);
    this.write(C.queue_device_hi, Math.floor(device / 0x1_0000_0000));
  }
  /** The link bit of the device's configuration. */
  readLink(): boolean {
    const at = this.deviceAt + virtio_net_config.status.offset;
    return (this.bus.barRead(this.deviceBar, at, 2) & VIRTIO_NET_S_LINK_UP) !== 0;
  }
  fail(reason: string): ProbeFailed {
    this.addStatus(VIRTIO_CONFIG_S_FAILED);
    return { failed: reason, status: this.read(C.device_status) };
  }
  /** linux __pci_write_msi_msg(): three writes, and one read that flushes them. */
  writeMsi(entry: number, address: number, data: number): void {
    const at = this.msixAt + msix_entry.SIZE * entry;
    this.bus.barWrite(this.msixBar, at + msix_entry.addr_lo.offset, 4, address >>> 0);
    this.bus.barWrite(this.msixBar, at + msix_entry.addr_hi.offset, 4, Math.floor(address / 0x1_0000_0000));
    this.bus.barWrite(this.msixBar, at + msix_entry.data.offset, 4, data);
    this.bus.barRead(this.msixBar, at + msix_entry.data.offset, 4);
  }
  maskMsi(entry: number, masked: boolean): void {
    const at = this.msixAt + msix_entry.SIZE * entry + msix_entry.vector_control.offset;
    this.bus.barWrite(this.msixBar, at, 4, masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
  }
}

/** linux vp_modern_probe(), after pci_enable_device(): capabilities found and mapped, bus mastering on. */
export function mapDevice(bus: PciAccess): Transport | string {
  // pci_enable_device(): the command register before, the pin, and again.
  const command = bus.cfgRead(H.command.offset, 2);
  if ((command & PCI_COMMAND_MEMORY) === 0) bus.cfgWrite(H.command.offset, 2, command | PCI_COMMAND_MEMORY);
  if (bus.cfgRead(H.interrupt_pin.offset, 1) !== 0) bus.cfgRead(H.command.offset, 2);

  const common = findVirtioCapability(bus, VIRTIO_PCI_CAP_COMMON_CFG);
  if (common === 0) return 'no common configuration capability';
  const isr = findVirtioCapability(bus, VIRTIO_PCI_CAP_ISR_CFG);
  const notify = findVirtioCapability(bus, VIRTIO_PCI_CAP_NOTIFY_CFG);
  if (isr === 0 || notify === 0) return 'no ISR or notification capability';
  const device = findVirtioCapability(bus, VIRTIO_PCI_CAP_DEVICE_CFG);

  const t = new Transport(bus);
  ({ bar: t.commonBar, offset: t.commonAt } = mapCapability(bus, common));
  mapCapability(bus, isr);
  t.notifyMultiplier = bus.cfgRead(notify + virtio_pci_notify_cap_multiplier, 4);
  t.notifyLength = bus.cfgRead(notify + CAP.length.offset, 4);
  const notifyOffset = bus.cfgRead(notify + CAP.offset.offset, 4);
  // A page or less is mapped as a whole, more is mapped queue by queue.
  if (t.notifyLength + (notifyOffset % PAGE_SIZE) <= PAGE_SIZE) {
    ({ bar: t.notifyBar, offset: t.notifyAt } = mapCapability(bus, notify));
  } else {
    t.notifyBar = bus.cfgRead(notify + CAP.bar.offset, 1);
    t.notifyAt = notifyOffset;
  }
  if (device !== 0) ({ bar: t.deviceBar, offset: t.deviceAt } = mapCapability(bus, device));

  // pci_set_master() and pcibios_set_master().
  bus.cfgWrite(H.command.offset, 2, bus.cfgRead(H.command.offset, 2) | PCI_COMMAND_MASTER);
  if (bus.cfgRead(H.latency_timer.offset, 1) < 16) bus.cfgWrite(H.latency_timer.offset, 1, 64);
  return t;
}

/** linux drivers/pci/msi/msi.c, msix_capability_init(). Number of entries in the table, 0 = no MSI-X. */
export function enableMsix(t: Transport, cap: number, entries: number, address: number): number {
  const { bus } = t;
  const controlAt = cap + msix_capability.message_control.offset;
  const count = (bus.cfgRead(controlAt, 2) & 0x7ff) + 1;
  if (count < entries) return 0;
  bus.cfgWrite(controlAt, 2, bus.cfgRead(controlAt, 2) | PCI_MSIX_FLAGS_MASKALL | PCI_MSIX_FLAGS_ENABLE);
  bus.cfgRead(controlAt, 2);
  const table = bus.cfgRead(cap + msix_capability.table.offset, 4);
  t.msixBar = table & 7;
  t.msixAt = (table & ~7) >>> 0;
  bus.cfgRead(controlAt, 2);
  for (let e = 0; e < entries; e++) {
    bus.barRead(t.msixBar, t.msixAt + msix_entry.SIZE * e + msix_entry.vector_control.offset, 4);
  }
  for (let e = 0; e < entries; e++) t.writeMsi(e, address, MANAGED_IRQ_SHUTDOWN_VECTOR);
  bus.cfgWrite(H.command.offset, 2, bus.cfgRead(H.command.offset, 2) | PCI_COMMAND_INTX_DISABLE);
  for (let e = 0; e < count; e++) t.maskMsi(e, true);
  bus.cfgWrite(controlAt, 2, bus.cfgRead(controlAt, 2) & ~PCI_MSIX_FLAGS_MASKALL);
  return count;
}
/** linux request_irq() of an entry: the message is written twice (activate, start-up), then the entry is unmasked. */
export function requestIrq(t: Transport, entry: number, address: number, vector: number): void {
  t.writeMsi(entry, address, vector);
  t.writeMsi(entry, address, vector);
  t.maskMsi(entry, false);
}

/** After 0 was written to the status: reads until it shows (virtio 1.2 §4.1.4.3.2). False: it never does. */
export function waitForReset(t: Transport): boolean {
  for (let reads = 0; reads < POLLS_MAX; reads++) if (t.read(C.device_status) === 0) return true;
  return false;
}

/** linux virtio_cread_bytes(): byte by byte between two reads of config_generation, again if that changed. */
export function readMac(t: Transport): number[] {
  let generation = t.read(C.config_generation);
  for (let tries = 0; ; tries++) {
    const mac: number[] = [];
    for (let i = 0; i < 6; i++) mac.push(t.bus.barRead(t.deviceBar, t.deviceAt + virtio_net_config.mac.offset + i, 1));
    const after = t.read(C.config_generation);
    if (after === generation || tries === POLLS_MAX) return mac;
    generation = after;
  }
}
