/**
 * Configuration space of a virtio-net function as QEMU 7.2 lays it out: header, BARs, and the chain of capabilities, for a
 * modern, transitional or legacy device on the root bus or behind a PCI Express root port.
 * qemu hw/virtio/virtio-pci.c, virtio_pci_realize() and virtio_pci_device_plugged().
 */
import {
  msix_capability,
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_PM,
  PCI_CAP_ID_VNDR,
  PCI_CFG_SPACE_EXP_SIZE,
  PCI_CLASS_NETWORK_ETHERNET,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_COMMAND_SERR,
  PCI_CONFIG_SPACE_SIZE,
  PCI_DEVICE_ID_VIRTIO_NET_MODERN,
  PCI_DEVICE_ID_VIRTIO_NET_TRANSITIONAL,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_ROM_ADDRESS_ENABLE,
  PCI_STATUS_CAP_LIST,
  PCI_STD_NUM_BARS,
  PCI_VENDOR_ID_REDHAT_QUMRANET,
  pci_capability,
  pci_header,
  pciBarOffset,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_CAP_PCI_CFG,
  virtio_pci_cap,
  virtio_pci_cfg_cap_data,
  virtio_pci_legacy,
  virtio_pci_notify_cap_multiplier,
} from '../wire/pci.ts';
import { MSIX_TABLE_OFFSET, msixLayout } from './msix.ts';
import { VIRTIO_QUEUE_MAX } from './virtio-device.ts';

export const LEGACY_BAR = 0;
export const MSIX_BAR = 1;
export const NOTIFY_PIO_BAR = 2;
export const MODERN_BAR = 4;
/** QEMU's efi-virtio.rom. DEVIATION: the register is there, the ROM behind it reads 0 (no network boot). */
export const ROM_SIZE = 0x40000;
/** Windows in BAR4, the first three 0x1000 long. */
export const COMMON_OFFSET = 0x0;
export const ISR_OFFSET = 0x1000;
export const DEVICE_OFFSET = 0x2000;
export const NOTIFY_OFFSET = 0x3000;
const WINDOW_SIZE = 0x1000;
const NOTIFY_OFF_MULTIPLIER = 4;
const NOTIFY_PIO_SIZE = 4;
const PAGE_SIZE = 4096;

export interface ConfigSpaceOptions {
  /** QEMU's disable-legacy=on, neither, or disable-modern=on. */
  readonly flavour: 'modern' | 'transitional' | 'legacy';
  /** MSI-X table entries; 0: no such capability. */
  readonly vectors: number;
  /** Bytes of the device-specific configuration. */
  readonly configLength: number;
  readonly pagePerVq: boolean;
  readonly modernPioNotify: boolean;
  readonly onRootPort: boolean;
  readonly ats: boolean;
}
export interface Bar {
  readonly io: boolean;
  readonly is64: boolean;
  readonly size: number;
}
export interface ConfigSpace {
  /** As at power-on. */
  readonly config: DataView;
  /** Bits that the guest may change. */
  readonly writable: DataView;
  /** By number; undefined: no such BAR, or the upper half of a 64-bit one. */
  readonly bars: readonly (Bar | undefined)[];
  /** Offsets of capabilities, 0 without. */
  readonly msix: number;
  readonly pciCfg: number;
  readonly express: number;
  readonly notifyMultiplier: number;
}

const H = pci_header;
const EXP_SIZE = 0x3c;
const EXP_FLAGS = 2;
const EXP_DEVCAP = 4;
export const PCI_EXP_DEVCTL = 8;
const EXP_LNKCAP = 12;
const EXP_LNKCTL = 16;
const EXP_LNKSTA = 18;
const EXP_DEVCAP2 = 0x24;
/** Role-based error reporting, and function level reset. */
const EXP_DEVCAP_RBER_FLR = 0x1000_8000;
export const PCI_EXP_DEVCTL_BCR_FLR = 0x8000;
const EXP_DEVCTL_ERRORS = 0xf;
/** 2.5 GT/s, one lane, ASPM L0s. */
const EXP_LINK = 0x411;
const EXP_LNKCTL_WRITABLE = 0xc0;
/** End-end TLP prefixes, two of them. */
const EXP_DEVCAP2_EETLPP = 0x30_0000;
const PM_SIZE = 8;
const PM_VERSION_3 = 3;
const PM_CTRL = 4;
const PM_CTRL_STATE = 3;
const ATS_AT = 0x100;
const EXT_CAP_ID_ATS = 0x1_000f;
const ATS_CAP_PAGE_ALIGNED = 0x20;
const ATS_CTRL_WRITABLE = 0x800f;

export function netConfigSpace(options: ConfigSpaceOptions): ConfigSpace {
  const size = options.onRootPort ? PCI_CFG_SPACE_EXP_SIZE : PCI_CONFIG_SPACE_SIZE;
  const c = new DataView(new ArrayBuffer(size));
  const w = new DataView(new ArrayBuffer(size));
  const modern = options.flavour !== 'legacy';
  const pureModern = options.flavour === 'modern';
  H.vendor_id.set(c, 0, PCI_VENDOR_ID_REDHAT_QUMRANET);
  H.device_id.set(c, 0, pureModern ? PCI_DEVICE_ID_VIRTIO_NET_MODERN : PCI_DEVICE_ID_VIRTIO_NET_TRANSITIONAL);
  H.revision_id.set(c, 0, pureModern ? 1 : 0);
  H.class_device.set(c, 0, PCI_CLASS_NETWORK_ETHERNET);
  H.subsystem_vendor_id.set(c, 0, PCI_VENDOR_ID_REDHAT_QUMRANET);
  H.subsystem_id.set(c, 0, pureModern ? 0x1100 : 1);
  H.interrupt_pin.set(c, 0, 1);
  const command =
    PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE;
  H.command.set(w, 0, command);
  H.cache_line_size.set(w, 0, 0xff);
  H.interrupt_line.set(w, 0, 0xff);
  H.rom_address.set(w, 0, ((0xffff_ffff & ~(ROM_SIZE - 1)) | PCI_ROM_ADDRESS_ENABLE) >>> 0);
  // QEMU leaves everything behind the header writable where no capability lies (qemu hw/pci/pci.c, pci_init_wmask()).
  for (let at = H.SIZE; at < size; at++) w.setUint8(at, 0xff);

  const notifyMultiplier = options.pagePerVq ? PAGE_SIZE : NOTIFY_OFF_MULTIPLIER;
  const notifyLength = options.pagePerVq ? PAGE_SIZE * VIRTIO_QUEUE_MAX : WINDOW_SIZE;
  const bars = barsOf(options, NOTIFY_OFFSET + notifyLength);
  for (const [n, bar] of bars.entries()) if (bar !== undefined) putBar(c, w, n, bar);

  const chain = new Chain(c, w);
  const express = options.onRootPort ? addExpress(chain, options.ats) : 0;
  let pciCfg = 0;
  if (modern) {
    addVirtioCap(chain, VIRTIO_PCI_CAP_COMMON_CFG, MODERN_BAR, COMMON_OFFSET, WINDOW_SIZE);
    addVirtioCap(chain, VIRTIO_PCI_CAP_ISR_CFG, MODERN_BAR, ISR_OFFSET, WINDOW_SIZE);
    addVirtioCap(chain, VIRTIO_PCI_CAP_DEVICE_CFG, MODERN_BAR, DEVICE_OFFSET, WINDOW_SIZE);
    addVirtioCap(chain, VIRTIO_PCI_CAP_NOTIFY_CFG, MODERN_BAR, NOTIFY_OFFSET, notifyLength, notifyMultiplier);
    if (options.modernPioNotify) addVirtioCap(chain, VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_PIO_BAR, 0, NOTIFY_PIO_SIZE, 0);
    pciCfg = addVirtioCap(chain, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 0, 0);
    virtio_pci_cap.bar.set(w, pciCfg, 0xff);
    virtio_pci_cap.offset.set(w, pciCfg, 0xffff_ffff);
    virtio_pci_cap.length.set(w, pciCfg, 0xffff_ffff);
    w.setUint32(pciCfg + virtio_pci_cfg_cap_data, 0xffff_ffff, true);
  }
  const msix = options.vectors > 0 ? addMsix(chain, options.vectors) : 0;
  if (chain.head !== 0) H.status.set(c, 0, PCI_STATUS_CAP_LIST);
  H.capability_list.set(c, 0, chain.head);
  return { config: c, writable: w, bars, msix, pciCfg, express, notifyMultiplier };
}

function barsOf(o: ConfigSpaceOptions, modernSize: number): (Bar | undefined)[] {
  const bars: (Bar | undefined)[] = new Array(PCI_STD_NUM_BARS).fill(undefined);
  // qemu VIRTIO_PCI_REGION_SIZE(): the vectors' registers are counted wherever the function has MSI-X
  const registers = o.vectors > 0 ? virtio_pci_legacy.SIZE : virtio_pci_legacy.config_vector.offset;
  if (o.flavour !== 'modern') bars[LEGACY_BAR] = { io: true, is64: false, size: pow2ceil(registers + o.configLength) };
  if (o.vectors > 0) bars[MSIX_BAR] = { io: false, is64: false, size: msixLayout(o.vectors).bar };
  if (o.flavour !== 'legacy') bars[MODERN_BAR] = { io: false, is64: true, size: pow2ceil(modernSize) };
  if (o.flavour !== 'legacy' && o.modernPioNotify) {
    bars[NOTIFY_PIO_BAR] = { io: true, is64: false, size: NOTIFY_PIO_SIZE };
  }
  return bars;
}
const pow2ceil = (n: number): number => 2 ** Math.ceil(Math.log2(n));

function putBar(c: DataView, w: DataView, n: number, bar: Bar): void {
  const type = bar.is64 ? PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH : 0;
  c.setUint32(pciBarOffset(n), bar.io ? PCI_BASE_ADDRESS_SPACE_IO : type, true);
  w.setUint32(pciBarOffset(n), (0xffff_ffff & ~(bar.size - 1)) >>> 0, true);
  if (bar.is64) w.setUint32(pciBarOffset(n + 1), 0xffff_ffff, true);
}

/** Capabilities behind each other from 0x40; each new one is the head of the list (qemu pci_add_capability()). */
class Chain {
  readonly c: DataView;
  readonly w: DataView;
  head = 0;
  private next: number = H.SIZE;

  constructor(c: DataView, w: DataView) {
    this.c = c;
    this.w = w;
  }
  add(id: number, length: number): number {
    const at = this.next;
    for (let i = at; i < at + length; i++) this.w.setUint8(i, 0);
    pci_capability.id.set(this.c, at, id);
    pci_capability.next.set(this.c, at, this.head);
    this.head = at;
    this.next = at + length;
    return at;
  }
}

/** qemu pcie_endpoint_cap_init(), and what virtio_pci_realize() adds to it: power management, ATS. */
function addExpress(chain: Chain, ats: boolean): number {
  const { c, w } = chain;
  const at = chain.add(PCI_CAP_ID_EXP, EXP_SIZE);
  c.setUint16(at + EXP_FLAGS, 2, true);
  c.setUint32(at + EXP_DEVCAP, EXP_DEVCAP_RBER_FLR, true);
  w.setUint16(at + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR | EXP_DEVCTL_ERRORS, true);
  c.setUint32(at + EXP_LNKCAP, EXP_LINK, true);
  w.setUint16(at + EXP_LNKCTL, EXP_LNKCTL_WRITABLE, true);
  c.setUint16(at + EXP_LNKSTA, 0x11, true);
  c.setUint32(at + EXP_DEVCAP2, EXP_DEVCAP2_EETLPP, true);
  const pm = chain.add(PCI_CAP_ID_PM, PM_SIZE);
  c.setUint16(pm + 2, PM_VERSION_3, true);
  w.setUint16(pm + PM_CTRL, PM_CTRL_STATE, true);
  // No extended capability: the list at 0x100 ends at once, and is not the guest's to write.
  for (let i = ATS_AT; i < ATS_AT + 8; i++) w.setUint8(i, 0);
  if (!ats) return at;
  c.setUint32(ATS_AT, EXT_CAP_ID_ATS, true);
  c.setUint16(ATS_AT + 4, ATS_CAP_PAGE_ALIGNED, true);
  w.setUint16(ATS_AT + 6, ATS_CTRL_WRITABLE, true);
  return at;
}

/** `multiplier`: the four bytes behind the capability, of those that have them. */
function addVirtioCap(
  chain: Chain,
  cfgType: number,
  bar: number,
  offset: number,
  length: number,
  multiplier?: number,
): number {
  const { c } = chain;
  const size = virtio_pci_cap.SIZE + (multiplier === undefined ? 0 : 4);
  const at = chain.add(PCI_CAP_ID_VNDR, size);
  virtio_pci_cap.cap_len.set(c, at, size);
  virtio_pci_cap.cfg_type.set(c, at, cfgType);
  virtio_pci_cap.bar.set(c, at, bar);
  virtio_pci_cap.offset.set(c, at, offset);
  virtio_pci_cap.length.set(c, at, length);
  if (multiplier !== undefined) c.setUint32(at + virtio_pci_notify_cap_multiplier, multiplier, true);
  return at;
}

function addMsix(chain: Chain, vectors: number): number {
  const { c, w } = chain;
  const at = chain.add(PCI_CAP_ID_MSIX, msix_capability.SIZE);
  msix_capability.message_control.set(c, at, vectors - 1);
  msix_capability.message_control.set(w, at, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
  msix_capability.table.set(c, at, MSIX_TABLE_OFFSET | MSIX_BAR);
  msix_capability.pba.set(c, at, msixLayout(vectors).pba | MSIX_BAR);
  return at;
}
