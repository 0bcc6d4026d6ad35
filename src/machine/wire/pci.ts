/**
 * PCI configuration space, the virtio capabilities in it and the structures they point at, MSI-X.
 */
import { bytes, le16, le32, struct, u8 } from './struct.ts';

/** PCI Local Bus 3.0 §6.1, type 0 header. */
export const pci_header = struct({
  vendor_id: le16,
  device_id: le16,
  command: le16,
  status: le16,
  revision_id: u8,
  class_prog: u8,
  class_device: le16,
  cache_line_size: u8,
  latency_timer: u8,
  header_type: u8,
  bist: u8,
  bar0: le32,
  bar1: le32,
  bar2: le32,
  bar3: le32,
  bar4: le32,
  bar5: le32,
  cardbus_cis: le32,
  subsystem_vendor_id: le16,
  subsystem_id: le16,
  rom_address: le32,
  capability_list: u8,
  reserved: bytes(7),
  interrupt_line: u8,
  interrupt_pin: u8,
  min_gnt: u8,
  max_lat: u8,
});
export const PCI_COMMAND_IO = 0x1;
export const PCI_COMMAND_MEMORY = 0x2;
export const PCI_COMMAND_MASTER = 0x4;
export const PCI_COMMAND_SERR = 0x100;
export const PCI_COMMAND_INTX_DISABLE = 0x400;
export const PCI_STATUS_INTERRUPT = 0x8;
export const PCI_STATUS_CAP_LIST = 0x10;
/** Configuration space of a conventional PCI function. */
export const PCI_CONFIG_SPACE_SIZE = 256;
export const PCI_STD_NUM_BARS = 6;
/** Of a PCI Express function. */
export const PCI_CFG_SPACE_EXP_SIZE = 4096;
/** Offset of BAR n. */
export const pciBarOffset = (bar: number): number => 0x10 + 4 * bar;
export const PCI_BASE_ADDRESS_MEM_TYPE_64 = 0x4;
export const PCI_BASE_ADDRESS_MEM_PREFETCH = 0x8;
export const PCI_BASE_ADDRESS_SPACE_IO = 0x1;
export const PCI_ROM_ADDRESS_ENABLE = 0x1;
/** header_type: the function has siblings in its slot. */
export const PCI_HEADER_TYPE_MULTI_FUNCTION = 0x80;

export const pci_capability = struct({ id: u8, next: u8 });
export const PCI_CAP_ID_PM = 0x01;
export const PCI_CAP_ID_VNDR = 0x09;
export const PCI_CAP_ID_EXP = 0x10;
export const PCI_CAP_ID_MSIX = 0x11;

/** virtio 1.2 §4.1.4, struct virtio_pci_cap (8-bit `id` and two bytes of padding since 1.2). */
export const virtio_pci_cap = struct({
  cap_vndr: u8,
  cap_next: u8,
  cap_len: u8,
  cfg_type: u8,
  bar: u8,
  id: u8,
  padding: le16,
  offset: le32,
  length: le32,
});
/** §4.1.4.4: a virtio_pci_cap, then this. */
export const virtio_pci_notify_cap_multiplier = 16;
/** §4.1.4.9: a virtio_pci_cap, then a 4-byte window. */
export const virtio_pci_cfg_cap_data = 16;
export const VIRTIO_PCI_CAP_COMMON_CFG = 1;
export const VIRTIO_PCI_CAP_NOTIFY_CFG = 2;
export const VIRTIO_PCI_CAP_ISR_CFG = 3;
export const VIRTIO_PCI_CAP_DEVICE_CFG = 4;
export const VIRTIO_PCI_CAP_PCI_CFG = 5;

/** virtio 1.2 §4.1.4.3, struct virtio_pci_common_cfg; 64-bit fields as the halves that a driver writes. */
export const virtio_pci_common_cfg = struct({
  device_feature_select: le32,
  device_feature: le32,
  driver_feature_select: le32,
  driver_feature: le32,
  config_msix_vector: le16,
  num_queues: le16,
  device_status: u8,
  config_generation: u8,
  queue_select: le16,
  queue_size: le16,
  queue_msix_vector: le16,
  queue_enable: le16,
  queue_notify_off: le16,
  queue_desc_lo: le32,
  queue_desc_hi: le32,
  queue_driver_lo: le32,
  queue_driver_hi: le32,
  queue_device_lo: le32,
  queue_device_hi: le32,
  queue_notify_data: le16,
  queue_reset: le16,
});
/** §4.1.5.1.2: no vector, and the answer to a vector that cannot be mapped. */
export const VIRTIO_MSI_NO_VECTOR = 0xffff;
/** §4.1.4.5: ISR bits. */
export const VIRTIO_PCI_ISR_QUEUE = 1;
export const VIRTIO_PCI_ISR_CONFIG = 2;

/** PCI Local Bus 3.0 §6.8.2, MSI-X capability. */
export const msix_capability = struct({ id: u8, next: u8, message_control: le16, table: le32, pba: le32 });
/** message_control: bits 0-10 table size - 1, then: */
export const PCI_MSIX_FLAGS_MASKALL = 0x4000;
export const PCI_MSIX_FLAGS_ENABLE = 0x8000;
/** One entry of the MSI-X table. */
export const msix_entry = struct({ addr_lo: le32, addr_hi: le32, data: le32, vector_control: le32 });
export const PCI_MSIX_ENTRY_CTRL_MASKBIT = 1;

/** virtio 1.2 §4.1.4.10: the registers of the legacy interface, in I/O BAR 0; the vectors only while MSI-X is enabled. */
export const virtio_pci_legacy = struct({
  host_features: le32,
  guest_features: le32,
  queue_pfn: le32,
  queue_num: le16,
  queue_sel: le16,
  queue_notify: le16,
  status: u8,
  isr: u8,
  config_vector: le16,
  queue_vector: le16,
});
/** Where the device-specific configuration begins behind them (linux VIRTIO_PCI_CONFIG_OFF()). */
export const legacyConfigOffset = (msixEnabled: boolean): number => (msixEnabled ? 24 : 20);
/** A queue's address is given in pages of 4 KiB (linux VIRTIO_PCI_QUEUE_ADDR_SHIFT). */
export const VIRTIO_PCI_QUEUE_ADDR_SHIFT = 12;
/** Alignment of the used ring there (linux VIRTIO_PCI_VRING_ALIGN). */
export const VIRTIO_PCI_VRING_ALIGN = 4096;

/** virtio 1.2 §4.1.2. */
export const PCI_VENDOR_ID_REDHAT_QUMRANET = 0x1af4;
export const PCI_DEVICE_ID_VIRTIO_NET_MODERN = 0x1041;
export const PCI_DEVICE_ID_VIRTIO_NET_TRANSITIONAL = 0x1000;
export const PCI_CLASS_NETWORK_ETHERNET = 0x0200;
