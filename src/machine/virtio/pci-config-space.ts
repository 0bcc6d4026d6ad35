/**
 * The 256 bytes of configuration space of a modern virtio-net device on the root bus, as QEMU 7.2 lays them out with
 * `disable-legacy=on`, and the windows of its BARs. qemu hw/virtio/virtio-pci.c, virtio_pci_device_plugged().
 */
import {
  msix_capability,
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_VNDR,
  PCI_CLASS_NETWORK_ETHERNET,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_COMMAND_SERR,
  PCI_CONFIG_SPACE_SIZE,
  PCI_DEVICE_ID_VIRTIO_NET_MODERN,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_ROM_ADDRESS_ENABLE,
  PCI_STATUS_CAP_LIST,
  PCI_VENDOR_ID_REDHAT_QUMRANET,
  pci_header,
  pciBarOffset,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_CAP_PCI_CFG,
  virtio_pci_cap,
  virtio_pci_cfg_cap_data,
  virtio_pci_notify_cap_multiplier,
} from '../wire/pci.ts';
import { MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET } from './msix.ts';

export const MSIX_BAR = 1;
export const MODERN_BAR = 4;
export const MSIX_BAR_SIZE = 0x1000;
export const MODERN_BAR_SIZE = 0x4000;
/** QEMU's efi-virtio.rom. DEVIATION: the register is there, the ROM behind it reads 0 (no network boot). */
export const ROM_SIZE = 0x40000;
/** Windows in BAR4, each 0x1000 long. */
export const COMMON_OFFSET = 0x0;
export const ISR_OFFSET = 0x1000;
export const DEVICE_OFFSET = 0x2000;
export const NOTIFY_OFFSET = 0x3000;
const WINDOW_SIZE = 0x1000;
export const NOTIFY_OFF_MULTIPLIER = 4;
/** Capabilities by place; the chain runs from the last one to COMMON. */
export const CAP_COMMON = 0x40;
export const CAP_ISR = 0x50;
export const CAP_DEVICE = 0x60;
export const CAP_NOTIFY = 0x70;
export const CAP_PCI_CFG = 0x84;
export const CAP_MSIX = 0x98;

const H = pci_header;
const ROM_MASK = (0xffff_ffff & ~(ROM_SIZE - 1)) >>> 0;

/** Configuration space at power-on, and which of its bits the guest may change. `vectors` 0: no MSI-X. */
export function modernNetConfigSpace(vectors: number): { readonly config: DataView; readonly writable: DataView } {
  const c = new DataView(new ArrayBuffer(PCI_CONFIG_SPACE_SIZE));
  const w = new DataView(new ArrayBuffer(PCI_CONFIG_SPACE_SIZE));
  H.vendor_id.set(c, 0, PCI_VENDOR_ID_REDHAT_QUMRANET);
  H.device_id.set(c, 0, PCI_DEVICE_ID_VIRTIO_NET_MODERN);
  H.status.set(c, 0, PCI_STATUS_CAP_LIST);
  H.revision_id.set(c, 0, 1);
  H.class_device.set(c, 0, PCI_CLASS_NETWORK_ETHERNET);
  H.bar4.set(c, 0, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH);
  H.subsystem_vendor_id.set(c, 0, PCI_VENDOR_ID_REDHAT_QUMRANET);
  H.subsystem_id.set(c, 0, 0x1100);
  H.interrupt_pin.set(c, 0, 1);
  H.command.set(
    w,
    0,
    PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE,
  );
  H.cache_line_size.set(w, 0, 0xff);
  H.interrupt_line.set(w, 0, 0xff);
  if (vectors > 0) H.bar1.set(w, 0, (0xffff_ffff & ~(MSIX_BAR_SIZE - 1)) >>> 0);
  H.bar4.set(w, 0, (0xffff_ffff & ~(MODERN_BAR_SIZE - 1)) >>> 0);
  w.setUint32(pciBarOffset(MODERN_BAR + 1), 0xffff_ffff, true);
  H.rom_address.set(w, 0, (ROM_MASK | PCI_ROM_ADDRESS_ENABLE) >>> 0);
  // QEMU leaves everything behind the header writable where no capability lies (qemu hw/pci/pci.c, pci_init_wmask()).
  for (let at = H.SIZE; at < PCI_CONFIG_SPACE_SIZE; at++) w.setUint8(at, 0xff);

  addVirtioCap(c, w, CAP_COMMON, 0, 16, VIRTIO_PCI_CAP_COMMON_CFG, COMMON_OFFSET);
  addVirtioCap(c, w, CAP_ISR, CAP_COMMON, 16, VIRTIO_PCI_CAP_ISR_CFG, ISR_OFFSET);
  addVirtioCap(c, w, CAP_DEVICE, CAP_ISR, 16, VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE_OFFSET);
  addVirtioCap(c, w, CAP_NOTIFY, CAP_DEVICE, 20, VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_OFFSET);
  c.setUint32(CAP_NOTIFY + virtio_pci_notify_cap_multiplier, NOTIFY_OFF_MULTIPLIER, true);
  addVirtioCap(c, w, CAP_PCI_CFG, CAP_NOTIFY, 20, VIRTIO_PCI_CAP_PCI_CFG, 0);
  virtio_pci_cap.bar.set(c, CAP_PCI_CFG, 0);
  virtio_pci_cap.length.set(c, CAP_PCI_CFG, 0);
  virtio_pci_cap.bar.set(w, CAP_PCI_CFG, 0xff);
  virtio_pci_cap.offset.set(w, CAP_PCI_CFG, 0xffff_ffff);
  virtio_pci_cap.length.set(w, CAP_PCI_CFG, 0xffff_ffff);
  w.setUint32(CAP_PCI_CFG + virtio_pci_cfg_cap_data, 0xffff_ffff, true);
  if (vectors === 0) {
    H.capability_list.set(c, 0, CAP_PCI_CFG);
    return { config: c, writable: w };
  }
  for (let at = CAP_MSIX; at < CAP_MSIX + msix_capability.SIZE; at++) w.setUint8(at, 0);
  msix_capability.id.set(c, CAP_MSIX, PCI_CAP_ID_MSIX);
  msix_capability.next.set(c, CAP_MSIX, CAP_PCI_CFG);
  msix_capability.message_control.set(c, CAP_MSIX, vectors - 1);
  msix_capability.message_control.set(w, CAP_MSIX, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
  msix_capability.table.set(c, CAP_MSIX, MSIX_TABLE_OFFSET | MSIX_BAR);
  msix_capability.pba.set(c, CAP_MSIX, MSIX_PBA_OFFSET | MSIX_BAR);
  H.capability_list.set(c, 0, CAP_MSIX);
  return { config: c, writable: w };
}
function addVirtioCap(
  c: DataView,
  w: DataView,
  at: number,
  next: number,
  length: number,
  cfgType: number,
  offset: number,
): void {
  for (let i = at; i < at + length; i++) w.setUint8(i, 0);
  virtio_pci_cap.cap_vndr.set(c, at, PCI_CAP_ID_VNDR);
  virtio_pci_cap.cap_next.set(c, at, next);
  virtio_pci_cap.cap_len.set(c, at, length);
  virtio_pci_cap.cfg_type.set(c, at, cfgType);
  virtio_pci_cap.bar.set(c, at, MODERN_BAR);
  virtio_pci_cap.offset.set(c, at, offset);
  virtio_pci_cap.length.set(c, at, WINDOW_SIZE);
}
