/**
 * A driver's hands on a virtio-pci device: finding the capabilities, the mapped windows, MSI-X entries. Linux 6.1's functions,
 * one access each where the kernel makes one; the probes of both drivers are written with them.
 *
 * Runs on the vCPU. Read first: virtio 1.2 §4.1.4; linux drivers/virtio/virtio_pci_modern_dev.c, vp_modern_probe().
 */

import type { Features } from '../../virtio/features.ts';
import { VIRTIO_CONFIG_S_FAILED } from '../../virtio/status.ts';
import {
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_PM,
  PCI_CAP_ID_VNDR,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_DEVICE_ID_VIRTIO_NET_MODERN,
  PCI_DEVICE_ID_VIRTIO_NET_TRANSITIONAL,
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
} from '../../wire/pci.ts';
import { virtio_net_config } from '../../wire/virtio-net.ts';
import type { PciAccess, ProbeFailed } from './probe-types.ts';
import { POLLS_MAX } from './virtio-config-ops.ts';

const H = pci_header;
const CAP = virtio_pci_cap;
const C = virtio_pci_common_cfg;
const PAGE_SIZE = 4096;
/** PCI Power Management 1.2 §3.2: control and status, behind the capabilities word. */
const PM_CONTROL = 4;
/** Longest capability list that the walk follows (linux PCI_FIND_CAP_TTL). */
const PCI_FIND_CAP_TTL = 48;
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

/** What the PCI core knows of a function before any driver looks at it. Offsets of capabilities are 0 without. */
export interface FoundFunction {
  readonly deviceId: number;
  readonly revision: number;
  readonly msix: number;
  readonly pm: number;
  readonly express: number;
}
/** linux virtio_pci_id_table[]: any device of that vendor; virtio_net then asks for the network device's ids (virtio 1.2 §4.1.2). */
export function isVirtioNet(vendor: number, device: number): boolean {
  const net = device === PCI_DEVICE_ID_VIRTIO_NET_MODERN || device === PCI_DEVICE_ID_VIRTIO_NET_TRANSITIONAL;
  return vendor === PCI_VENDOR_ID_REDHAT_QUMRANET && net;
}
/**
 * The PCI core's look at the function at boot, before any driver: ids, class, subsystem, and the capabilities that it deals
 * with itself. null where the function is no virtio network device.
 * DEVIATION: linux pci_setup_device() also sizes the BARs again, and walks the list once for each capability it may find.
 */
export function enumerateFunction(bus: PciAccess): FoundFunction | null {
  const ids = bus.cfgRead(H.vendor_id.offset, 4);
  bus.cfgRead(H.header_type.offset, 1);
  const revision = bus.cfgRead(H.revision_id.offset, 4) & 0xff;
  bus.cfgRead(H.subsystem_vendor_id.offset, 2);
  bus.cfgRead(H.subsystem_id.offset, 2);
  if (!isVirtioNet(ids & 0xffff, ids >>> 16)) return null;
  const found = { deviceId: ids >>> 16, revision, msix: 0, pm: 0, express: 0 };
  if ((bus.cfgRead(H.status.offset, 2) & PCI_STATUS_CAP_LIST) === 0) return found;
  let at = bus.cfgRead(H.capability_list.offset, 1);
  for (let ttl = PCI_FIND_CAP_TTL; ttl > 0 && at >= 0x40; ttl--) {
    at &= ~3;
    const entry = bus.cfgRead(at, 2);
    const id = entry & 0xff;
    if (id === 0xff) break;
    if (id === PCI_CAP_ID_MSIX && found.msix === 0) {
      found.msix = at;
      bus.found?.(at, id, 0);
    }
    if (id === PCI_CAP_ID_PM && found.pm === 0) found.pm = at;
    if (id === PCI_CAP_ID_EXP && found.express === 0) found.express = at;
    at = entry >>> 8;
  }
  return found;
}
/** linux pci_enable_device() up to the decoding: the power state, then the command register, the pin, and again. */
export function enableFunction(bus: PciAccess, found: FoundFunction): void {
  const ports = found.deviceId === PCI_DEVICE_ID_VIRTIO_NET_TRANSITIONAL ? PCI_COMMAND_IO : 0;
  const decode = PCI_COMMAND_MEMORY | ports;
  if (found.pm !== 0) bus.cfgRead(found.pm + PM_CONTROL, 2);
  const command = bus.cfgRead(H.command.offset, 2);
  if ((command & decode) !== decode) bus.cfgWrite(H.command.offset, 2, command | decode);
  if (bus.cfgRead(H.interrupt_pin.offset, 1) !== 0) bus.cfgRead(H.command.offset, 2);
}
/** linux pci_set_master() and pcibios_set_master(): a PCI Express function has no latency timer. */
export function setMaster(bus: PciAccess, found: FoundFunction): void {
  bus.cfgWrite(H.command.offset, 2, bus.cfgRead(H.command.offset, 2) | PCI_COMMAND_MASTER);
  if (found.express !== 0) return;
  if (bus.cfgRead(H.latency_timer.offset, 1) < 16) bus.cfgWrite(H.latency_timer.offset, 1, 64);
}

/** The device's windows as a driver has mapped them. */
export class Transport {
  readonly bus: PciAccess;
  commonBar = 0;
  commonAt = 0;
  deviceBar = 0;
  deviceAt = 0;
  isrBar = 0;
  isrAt = 0;
  /** Of the notification capability, where the window is mapped queue by queue; 0 where it is mapped as a whole. */
  notifyCap = 0;
  notifyBar = 0;
  notifyAt = 0;
  notifyLength = 0;
  notifyMultiplier = 0;

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
  /** linux virtio_add_status(): read, then write with the bits added; returns what was written. */
  addStatus(bits: number): number {
    const status = this.read(C.device_status) | bits;
    this.write(C.device_status, status);
    return status;
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
  /** A field of the device's configuration. */
  readConfig(offset: number, width: number): number {
    return this.bus.barRead(this.deviceBar, this.deviceAt + offset, width);
  }
  fail(reason: string): ProbeFailed {
    return { failed: reason, status: this.addStatus(VIRTIO_CONFIG_S_FAILED) };
  }
  /**
   * Where the notify register of a queue is, from its queue_notify_off; null where that lies outside the window. A window of
   * more than a page is mapped here, for this queue (linux vp_modern_map_vq_notify()).
   */
  notifyRegister(off: number): { notifyBar: number; notifyOffset: number } | null {
    const at = off * this.notifyMultiplier;
    if (at + 2 > this.notifyLength) return null;
    const window = this.notifyCap === 0 ? null : mapCapability(this.bus, this.notifyCap);
    return { notifyBar: window?.bar ?? this.notifyBar, notifyOffset: (window?.offset ?? this.notifyAt) + at };
  }
}

/** linux virtio_pci_modern_probe(): capabilities found and mapped. A reason where they are not all there, null where none is. */
export function mapModern(bus: PciAccess): Transport | string | null {
  const common = findVirtioCapability(bus, VIRTIO_PCI_CAP_COMMON_CFG);
  if (common === 0) return null;
  const isr = findVirtioCapability(bus, VIRTIO_PCI_CAP_ISR_CFG);
  const notify = findVirtioCapability(bus, VIRTIO_PCI_CAP_NOTIFY_CFG);
  if (isr === 0 || notify === 0) return 'no ISR or notification capability';
  const device = findVirtioCapability(bus, VIRTIO_PCI_CAP_DEVICE_CFG);

  const t = new Transport(bus);
  ({ bar: t.commonBar, offset: t.commonAt } = mapCapability(bus, common));
  ({ bar: t.isrBar, offset: t.isrAt } = mapCapability(bus, isr));
  t.notifyMultiplier = bus.cfgRead(notify + virtio_pci_notify_cap_multiplier, 4);
  t.notifyLength = bus.cfgRead(notify + CAP.length.offset, 4);
  const notifyOffset = bus.cfgRead(notify + CAP.offset.offset, 4);
  // A page or less is mapped as a whole, more is mapped queue by queue.
  if (t.notifyLength + (notifyOffset % PAGE_SIZE) <= PAGE_SIZE) {
    ({ bar: t.notifyBar, offset: t.notifyAt } = mapCapability(bus, notify));
  } else {
    t.notifyCap = notify;
  }
  if (device !== 0) ({ bar: t.deviceBar, offset: t.deviceAt } = mapCapability(bus, device));
  return t;
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
