/**
 * The registers of a virtio device by region, found as a driver finds them: through the capabilities in PCI configuration
 * space (virtio 1.2 §4.1.4), the I/O BAR of the legacy interface, or the one window of virtio-mmio.
 */
import { VirtioMmioDevice } from '../machine/virtio/mmio-transport.ts';
import type { VirtioPciDevice } from '../machine/virtio/pci-transport.ts';
import {
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_VNDR,
  PCI_CONFIG_SPACE_SIZE,
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
} from '../machine/wire/pci.ts';
import { VIRTIO_MMIO_SIZE, virtio_mmio } from '../machine/wire/virtio-mmio.ts';
import type { NicTransport } from './devices/nic-transport.ts';

export type RegisterRegion = 'common' | 'notify' | 'isr' | 'device' | 'pci' | 'msix' | 'legacy' | 'mmio';

export interface DeviceWindow {
  /** Bytes. */
  readonly length: number;
  /** Reads in these ranges change something. */
  readonly readsWithEffect: readonly { readonly at: number; readonly end: number }[];
  /** Bytes that a notification takes: 4 where the register holds notification data, or is a word anyway. */
  readonly doorbellWidth: number;
  read(offset: number, width: number): number;
  write(offset: number, width: number, value: number): void;
  /** Guest-physical address, or port; -1 for configuration space. */
  address(offset: number): number;
  /** The queue that a write of `value` at `offset` notifies, or -1. */
  doorbell(offset: number, value: number): number;
  /** Where that queue's notify register is, or -1. */
  doorbellOf(queue: number): number;
}

const REGION_OF: ReadonlyMap<number, RegisterRegion> = new Map([
  [VIRTIO_PCI_CAP_COMMON_CFG, 'common'],
  [VIRTIO_PCI_CAP_NOTIFY_CFG, 'notify'],
  [VIRTIO_PCI_CAP_ISR_CFG, 'isr'],
  [VIRTIO_PCI_CAP_DEVICE_CFG, 'device'],
]);
/** The chain of capabilities is the device's own, but a loop would hang us. */
const MOST_CAPABILITIES = 48;
const PCI_BASE_ADDRESS_SPACE_IO = 1;
const LEGACY_BAR = 0;
const NOTHING = -1;

/** Regions in the order common, isr, device, notify as far as there are such, then pci and what else there is. */
export function deviceWindows(device: NicTransport): ReadonlyMap<RegisterRegion, DeviceWindow> {
  return device instanceof VirtioMmioDevice ? new Map([['mmio', mmioWindow(device)]]) : pciWindows(device);
}
function pciWindows(device: VirtioPciDevice): ReadonlyMap<RegisterRegion, DeviceWindow> {
  const windows = new Map<RegisterRegion, DeviceWindow>();
  const config = (offset: number, width: number): number => device.readConfig(offset, width);
  let window: { at: number; end: number } | null = null;
  let at = config(pci_header.capability_list.offset, 1);
  for (let n = 0; n < MOST_CAPABILITIES && at >= 0x40; n++) {
    const id = config(at, 1);
    if (id === PCI_CAP_ID_MSIX) windows.set('msix', msixWindow(device, at));
    const type = id === PCI_CAP_ID_VNDR ? config(at + virtio_pci_cap.cfg_type.offset, 1) : -1;
    const region = REGION_OF.get(type);
    // of several capabilities of one type the first is the one to use (§4.1.4)
    if (region !== undefined && !windows.has(region)) windows.set(region, capabilityWindow(device, at, region));
    if (type === VIRTIO_PCI_CAP_PCI_CFG)
      window = { at: at + virtio_pci_cfg_cap_data, end: at + virtio_pci_cfg_cap_data + 4 };
    at = config(at + 1, 1);
  }
  windows.set('pci', {
    ...PLAIN,
    length: PCI_CONFIG_SPACE_SIZE,
    // §4.1.4.9: reading pci_cfg_data reads the register that it points to
    readsWithEffect: window === null ? [] : [window],
    read: config,
    write: (offset, width, value) => device.writeConfig(offset, width, value),
  });
  const bar0 = config(pciBarOffset(0), 4);
  if ((bar0 & PCI_BASE_ADDRESS_SPACE_IO) !== 0) windows.set('legacy', legacyWindow(device));
  return windows;
}

const PLAIN = {
  readsWithEffect: [],
  doorbellWidth: 0,
  address: () => NOTHING,
  doorbell: () => NOTHING,
  doorbellOf: () => NOTHING,
} as const;

function barWindow(device: VirtioPciDevice, bar: number, base: number, length: number): DeviceWindow {
  return {
    ...PLAIN,
    length,
    read: (offset, width) => device.readBar(bar, base + offset, width),
    write: (offset, width, value) => device.writeBar(bar, base + offset, width, value),
    address: (offset) => device.barAddress(bar) + base + offset,
  };
}

function capabilityWindow(device: VirtioPciDevice, cap: number, region: RegisterRegion): DeviceWindow {
  const bar = device.readConfig(cap + virtio_pci_cap.bar.offset, 1);
  const base = device.readConfig(cap + virtio_pci_cap.offset.offset, 4);
  const length = device.readConfig(cap + virtio_pci_cap.length.offset, 4);
  const window = barWindow(device, bar, base, length);
  if (region !== 'notify') return window;
  // §4.1.4.4: queue_notify_off is the queue's index, in this device as in QEMU's
  const multiplier = device.readConfig(cap + virtio_pci_notify_cap_multiplier, 4);
  const queues = device.queues.length;
  return {
    ...window,
    doorbellWidth: 2,
    doorbell: (offset) => {
      const queue = multiplier === 0 ? 0 : Math.floor(offset / multiplier);
      return queue < queues ? queue : NOTHING;
    },
    doorbellOf: (queue) => (queue * multiplier + 2 <= length ? queue * multiplier : NOTHING),
  };
}

/** Table and pending bits are in one BAR (PCI 3.0 §6.8.2): the window is that BAR, up to their end. */
function msixWindow(device: VirtioPciDevice, cap: number): DeviceWindow {
  const control = device.readConfig(cap + 2, 2);
  const table = device.readConfig(cap + 4, 4);
  const pba = device.readConfig(cap + 8, 4);
  const vectors = (control & 0x7ff) + 1;
  const length = Math.max((table & ~7) + 16 * vectors, (pba & ~7) + 8 * Math.ceil(vectors / 64));
  return barWindow(device, table & 7, 0, length);
}

/** A register that all queues share: what is written says which. */
const queueNamed = (value: number, queues: number): number => ((value & 0xffff) < queues ? value & 0xffff : NOTHING);

/** virtio 1.2 §4.1.4.10: the registers, two vectors more while MSI-X is on, and the device's configuration. */
function legacyWindow(device: VirtioPciDevice): DeviceWindow {
  const { isr, queue_notify } = virtio_pci_legacy;
  return {
    ...barWindow(device, LEGACY_BAR, 0, device.barSize(LEGACY_BAR)),
    readsWithEffect: [{ at: isr.offset, end: isr.offset + 1 }],
    doorbellWidth: 2,
    doorbell: (offset, value) => (offset === queue_notify.offset ? queueNamed(value, device.queues.length) : NOTHING),
    doorbellOf: () => queue_notify.offset,
  };
}

function mmioWindow(device: VirtioMmioDevice): DeviceWindow {
  const at = virtio_mmio.QUEUE_NOTIFY;
  return {
    ...PLAIN,
    length: VIRTIO_MMIO_SIZE,
    doorbellWidth: 4,
    read: (offset, width) => device.read(offset, width),
    write: (offset, width, value) => device.write(offset, width, value),
    address: (offset) => device.address + offset,
    doorbell: (offset, value) => (offset === at ? queueNamed(value, device.queues.length) : NOTHING),
    doorbellOf: () => at,
  };
}
