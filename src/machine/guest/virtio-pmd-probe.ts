/**
 * How DPDK's virtio PMD brings a device up in a guest, over VFIO: another order than Linux's own driver, no interrupts, no
 * event index, rings laid out on pages. Source: dpdk 22.11 drivers/net/virtio/virtio_pci.c and virtio_ethdev.c, as read; the
 * features and the ring layout agree with the recorded virtio-user handshake, the register order was not recorded.
 *
 * Runs on the vCPU. Read first: virtio-probe.ts.
 * DEVIATION: VFIO answers some configuration reads from its own copy; here each one reaches the device. No link interrupt.
 */
import {
  andFeatures,
  type Features,
  featuresOf,
  featureWord,
  hasFeature,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_SPEED_DUPLEX,
  VIRTIO_NET_F_STATUS,
  VIRTIO_RING_F_INDIRECT_DESC,
  withoutOrphans,
} from '../virtio/features.ts';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '../virtio/status.ts';
import {
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_VNDR,
  PCI_COMMAND_MASTER,
  pci_header,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  virtio_pci_cap,
  virtio_pci_common_cfg,
  virtio_pci_notify_cap_multiplier,
} from '../wire/pci.ts';
import { isVirtqSize, virtqDescBytes, vringBytes, vringUsedOffset } from '../wire/virtio-ring.ts';
import type { GuestAllocator, PciAccess, ProbedQueue, ProbeOptions, ProbeResult } from './probe-types.ts';
import { enumerateFunction, readMac, Transport, waitForReset } from './virtio-transport.ts';

/** dpdk 22.11 drivers/net/virtio/virtio_ethdev.h, VIRTIO_PMD_DEFAULT_GUEST_FEATURES: no EVENT_IDX among them. */
export const DPDK_22_11_VIRTIO_PMD_FEATURES: Features = featuresOf(
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_NET_F_SPEED_DUPLEX,
);
/** dpdk VIRTIO_VRING_ALIGN: the used ring starts on a page of its own. */
export const VIRTIO_VRING_ALIGN = 4096;

const H = pci_header;
const CAP = virtio_pci_cap;
const C = virtio_pci_common_cfg;
/** A list longer than this loops. */
const CAPABILITIES_MAX = 48;

/** dpdk virtio_read_caps(): one walk; a virtio capability is read as a whole, 16 bytes in four accesses. */
function readCapabilities(bus: PciAccess): Transport | string {
  const t = new Transport(bus);
  let common = false;
  let notify = false;
  let device = false;
  let at = bus.cfgRead(H.capability_list.offset, 1);
  for (let n = 0; at !== 0 && n < CAPABILITIES_MAX; n++) {
    const head = bus.cfgRead(at, 2);
    const id = head & 0xff;
    if (id === PCI_CAP_ID_MSIX) {
      bus.cfgRead(at + 2, 2);
      bus.found?.(at, id, 0);
    }
    if (id === PCI_CAP_ID_VNDR) {
      const type = bus.cfgRead(at, 4) >>> 24;
      const bar = bus.cfgRead(at + CAP.bar.offset, 4) & 0xff;
      const offset = bus.cfgRead(at + CAP.offset.offset, 4);
      const length = bus.cfgRead(at + CAP.length.offset, 4);
      bus.found?.(at, id, type);
      if (type === VIRTIO_PCI_CAP_COMMON_CFG && !common) {
        common = true;
        t.commonBar = bar;
        t.commonAt = offset;
      } else if (type === VIRTIO_PCI_CAP_NOTIFY_CFG && !notify) {
        notify = true;
        t.notifyMultiplier = bus.cfgRead(at + virtio_pci_notify_cap_multiplier, 4);
        t.notifyBar = bar;
        t.notifyAt = offset;
        t.notifyLength = length;
      } else if (type === VIRTIO_PCI_CAP_DEVICE_CFG && !device) {
        device = true;
        t.deviceBar = bar;
        t.deviceAt = offset;
      }
    }
    at = head >>> 8;
  }
  return common && notify && device ? t : 'no modern virtio capabilities';
}

/** dpdk virtio_init_queue() and modern_setup_queue(): the ring has the device's size, and is enabled at once. */
function setupQueue(t: Transport, allocator: GuestAllocator, index: number): ProbedQueue | string {
  t.select(index);
  const size = t.read(C.queue_size);
  if (!isVirtqSize(size)) return `queue ${index}: size ${size} is not a power of two`;
  const descGpa = allocator.alloc(vringBytes(size, VIRTIO_VRING_ALIGN), VIRTIO_VRING_ALIGN);
  if (descGpa < 0) return `queue ${index}: no memory for a ring of ${size}`;
  const driverGpa = descGpa + virtqDescBytes(size);
  const deviceGpa = descGpa + vringUsedOffset(size, VIRTIO_VRING_ALIGN);
  t.select(index);
  t.writeRingAddresses(descGpa, driverGpa, deviceGpa);
  const notifyOff = t.read(C.queue_notify_off) * t.notifyMultiplier;
  if (notifyOff + 2 > t.notifyLength) return `queue ${index}: notify register lies outside its window`;
  t.write(C.queue_enable, 1);
  return {
    index,
    size,
    descGpa,
    driverGpa,
    deviceGpa,
    notifyBar: t.notifyBar,
    notifyOffset: t.notifyAt + notifyOff,
    msixVector: VIRTIO_MSI_NO_VECTOR,
  };
}

/** Brings the device up as the PMD does; `queueSizes`, vectors and `msix` of the options do not apply to it. */
export function probeVirtioPmd(
  bus: PciAccess,
  allocator: GuestAllocator,
  wanted: Features = DPDK_22_11_VIRTIO_PMD_FEATURES,
  options: Pick<ProbeOptions, 'queueOrder'> = {},
): ProbeResult {
  if (enumerateFunction(bus) < 0) return { failed: 'not a virtio network device', status: 0 };
  // vfio: pci_vfio_set_bus_master().
  bus.cfgWrite(H.command.offset, 2, bus.cfgRead(H.command.offset, 2) | PCI_COMMAND_MASTER);
  const t = readCapabilities(bus);
  if (typeof t === 'string') return { failed: t, status: 0 };

  t.write(C.device_status, 0);
  if (!waitForReset(t)) return { failed: 'the device does not come out of reset', status: 0xff };
  t.addStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE);
  t.addStatus(VIRTIO_CONFIG_S_DRIVER);
  const features = withoutOrphans(andFeatures(t.readFeatures(), wanted));
  for (const select of [0, 1]) {
    t.write(C.driver_feature_select, select);
    t.write(C.driver_feature, featureWord(features, select));
  }
  if (!hasFeature(features, VIRTIO_F_VERSION_1)) return t.fail('VIRTIO_F_VERSION_1 is not offered');
  t.addStatus(VIRTIO_CONFIG_S_FEATURES_OK);
  if ((t.read(C.device_status) & VIRTIO_CONFIG_S_FEATURES_OK) === 0) return t.fail('the device refused the features');

  const mac = hasFeature(features, VIRTIO_NET_F_MAC) ? readMac(t) : null;
  const queues: ProbedQueue[] = [];
  for (const index of options.queueOrder ?? [0, 1]) {
    const q = setupQueue(t, allocator, index);
    if (typeof q === 'string') return t.fail(q);
    queues.push(q);
  }
  t.addStatus(VIRTIO_CONFIG_S_DRIVER_OK);
  const status = t.read(C.device_status);
  if ((status & VIRTIO_CONFIG_S_DRIVER_OK) === 0) return t.fail('the device did not take DRIVER_OK');
  return {
    features,
    queues,
    mac,
    vectors: [],
    linkUp: !hasFeature(features, VIRTIO_NET_F_STATUS) || t.readLink(),
    status,
  };
}
