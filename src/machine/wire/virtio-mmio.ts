/** Registers of virtio-mmio, version 2: offsets into the device's window, each 32 bits wide. virtio 1.2 §4.2.2. */
export const virtio_mmio = {
  MAGIC_VALUE: 0x000,
  VERSION: 0x004,
  DEVICE_ID: 0x008,
  VENDOR_ID: 0x00c,
  DEVICE_FEATURES: 0x010,
  DEVICE_FEATURES_SEL: 0x014,
  DRIVER_FEATURES: 0x020,
  DRIVER_FEATURES_SEL: 0x024,
  QUEUE_SEL: 0x030,
  QUEUE_NUM_MAX: 0x034,
  QUEUE_NUM: 0x038,
  QUEUE_READY: 0x044,
  QUEUE_NOTIFY: 0x050,
  INTERRUPT_STATUS: 0x060,
  INTERRUPT_ACK: 0x064,
  STATUS: 0x070,
  QUEUE_DESC_LOW: 0x080,
  QUEUE_DESC_HIGH: 0x084,
  QUEUE_AVAIL_LOW: 0x090,
  QUEUE_AVAIL_HIGH: 0x094,
  QUEUE_USED_LOW: 0x0a0,
  QUEUE_USED_HIGH: 0x0a4,
  SHM_SEL: 0x0ac,
  SHM_LEN_LOW: 0x0b0,
  SHM_LEN_HIGH: 0x0b4,
  SHM_BASE_LOW: 0x0b8,
  SHM_BASE_HIGH: 0x0bc,
  QUEUE_RESET: 0x0c0,
  CONFIG_GENERATION: 0x0fc,
} as const;
/** Where the device-specific configuration begins, in its own widths. */
export const VIRTIO_MMIO_CONFIG = 0x100;
/** `virt`, little endian. */
export const VIRTIO_MMIO_MAGIC = 0x7472_6976;
export const VIRTIO_MMIO_VERSION_MODERN = 2;
/** §5.1.1. */
export const VIRTIO_MMIO_DEVICE_NET = 1;
/** `QEMU`, little endian (qemu hw/virtio/virtio-mmio.c, VIRT_VENDOR). */
export const VIRTIO_MMIO_VENDOR = 0x554d_4551;
/** InterruptStatus bits. */
export const VIRTIO_MMIO_INT_VRING = 1;
export const VIRTIO_MMIO_INT_CONFIG = 2;
/** Bytes of a device's window (qemu microvm: one page would do, QEMU takes 0x200). */
export const VIRTIO_MMIO_SIZE = 0x200;
