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
} from '../../virtio/features.ts';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '../../virtio/status.ts';
import {
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_VNDR,
  PCI_COMMAND_MASTER,
  PCI_STD_NUM_BARS,
  pci_header,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  virtio_pci_cap,
  virtio_pci_common_cfg,
  virtio_pci_notify_cap_multiplier,
} from '../../wire/pci.ts';
import { VIRTIO_NET_S_ANNOUNCE, VIRTIO_NET_S_LINK_UP, virtio_net_config } from '../../wire/virtio-net.ts';
import { pvirtqDescBytes, virtqDescBytes, vringBytes, vringUsedOffset } from '../../wire/virtio-ring.ts';
import type { Binding, GuestAllocator, PciAccess, ProbedQueue, ProbeOptions, ProbeResult } from './probe-types.ts';
import { isRingSize, type RingPlaces } from './ring-memory.ts';
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
const N = virtio_net_config;
/** A list longer than this loops. */
const CAPABILITIES_MAX = 48;
const PVIRTQ_EVENT_BYTES = 4;
/** dpdk RTE_ETHER_MIN_MTU and VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX. */
const MIN_MTU = 68;
const PAIRS_MAX = 0x8000;

/** dpdk virtio_read_caps(): one walk; a virtio capability is read as a whole, 16 bytes in four accesses. */
function readCapabilities(bus: PciAccess): Transport | string {
  const t = new Transport(bus);
  const found = new Set<number>();
  let at = bus.cfgRead(H.capability_list.offset, 1);
  for (let n = 0; at !== 0 && n < CAPABILITIES_MAX; n++) {
    const head = bus.cfgRead(at, 2);
    const id = head & 0xff;
    if (id === PCI_CAP_ID_MSIX) {
      bus.cfgRead(at + 2, 2);
      bus.found?.(at, id, 0);
    }
    if (id === PCI_CAP_ID_VNDR) readCapability(t, at, found);
    at = head >>> 8;
  }
  const needed = [VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_PCI_CAP_DEVICE_CFG];
  return needed.every((type) => found.has(type)) ? t : 'no modern virtio capabilities';
}
/** get_cfg_addr(): the first of each type counts whose BAR there can be; `found`: the types so far. */
function readCapability(t: Transport, at: number, found: Set<number>): void {
  const { bus } = t;
  const type = bus.cfgRead(at, 4) >>> 24;
  const bar = bus.cfgRead(at + CAP.bar.offset, 4) & 0xff;
  const offset = bus.cfgRead(at + CAP.offset.offset, 4);
  const length = bus.cfgRead(at + CAP.length.offset, 4);
  if (bar >= PCI_STD_NUM_BARS) return;
  bus.found?.(at, PCI_CAP_ID_VNDR, type);
  if (found.has(type)) return;
  found.add(type);
  if (type === VIRTIO_PCI_CAP_COMMON_CFG) {
    t.commonBar = bar;
    t.commonAt = offset;
  } else if (type === VIRTIO_PCI_CAP_NOTIFY_CFG) {
    t.notifyMultiplier = bus.cfgRead(at + virtio_pci_notify_cap_multiplier, 4);
    t.notifyBar = bar;
    t.notifyAt = offset;
    t.notifyLength = length;
  } else if (type === VIRTIO_PCI_CAP_ISR_CFG) {
    t.isrBar = bar;
    t.isrAt = offset;
  } else if (type === VIRTIO_PCI_CAP_DEVICE_CFG) {
    t.deviceBar = bar;
    t.deviceAt = offset;
  }
}

/** dpdk vring_init(): split rings as everywhere, the used ring on a page of its own; packed ones in one piece too. */
function layOut(base: number, size: number, packed: boolean): RingPlaces {
  if (!packed) {
    const deviceGpa = base + vringUsedOffset(size, VIRTIO_VRING_ALIGN);
    return { descGpa: base, driverGpa: base + virtqDescBytes(size), deviceGpa };
  }
  const driverGpa = base + pvirtqDescBytes(size);
  const end = driverGpa + PVIRTQ_EVENT_BYTES;
  return { descGpa: base, driverGpa, deviceGpa: Math.ceil(end / VIRTIO_VRING_ALIGN) * VIRTIO_VRING_ALIGN };
}

/** dpdk virtio_init_queue() and modern_setup_queue(): the ring has the device's size, and is enabled at once. */
function setupQueue(t: Transport, allocator: GuestAllocator, index: number, packed: boolean): ProbedQueue | string {
  t.select(index);
  const size = t.read(C.queue_size);
  if (!isRingSize(size, packed)) return `queue ${index}: a ring cannot have ${size} entries`;
  const end = layOut(0, size, packed).deviceGpa;
  const bytes = packed ? end + PVIRTQ_EVENT_BYTES : vringBytes(size, VIRTIO_VRING_ALIGN);
  const base = allocator.alloc(bytes, VIRTIO_VRING_ALIGN);
  if (base < 0) return `queue ${index}: no memory for a ring of ${size}`;
  const ring = layOut(base, size, packed);
  t.select(index);
  // IOVAs, where the program has others than physical addresses
  const at = allocator.mapped?.(base, bytes) ?? base;
  const bus = layOut(at, size, packed);
  t.writeRingAddresses(bus.descGpa, bus.driverGpa, bus.deviceGpa);
  const register = t.notifyRegister(t.read(C.queue_notify_off));
  if (register === null) return `queue ${index}: notify register lies outside its window`;
  t.write(C.queue_enable, 1);
  return { index, size, ...ring, ...register, msixVector: VIRTIO_MSI_NO_VECTOR };
}

interface Configuration {
  readonly queuePairs: number;
  readonly mtu: number | null;
}
/**
 * dpdk virtio_init_device() behind the negotiation: with a control queue, the fields that go with it, each between two reads of
 * the generation; without, one pair and nothing to look at.
 */
function readConfiguration(t: Transport, features: Features): Configuration | string {
  const has = (bit: number): boolean => hasFeature(features, bit);
  const mtu = has(VIRTIO_NET_F_MTU) ? t.readConfig(N.mtu.offset, N.mtu.width) : null;
  if (mtu !== null && mtu < MIN_MTU) return `the device's MTU is ${mtu}`;
  const several = has(VIRTIO_NET_F_CTRL_VQ) && has(VIRTIO_NET_F_MQ);
  const queuePairs = several ? t.readConfig(N.max_virtqueue_pairs.offset, N.max_virtqueue_pairs.width) : 1;
  return queuePairs >= 1 && queuePairs <= PAIRS_MAX ? { queuePairs, mtu } : `${queuePairs} queue pairs`;
}

/**
 * Brings the device up as the PMD does: every queue that the device has, the control queue behind the pairs. Of the options only
 * `onReady` applies: sizes are the device's, and nothing interrupts.
 */
export function probeVirtioPmd(
  bus: PciAccess,
  allocator: GuestAllocator,
  wanted: Features = DPDK_22_11_VIRTIO_PMD_FEATURES,
  options: Pick<ProbeOptions, 'onReady'> = {},
): ProbeResult {
  if (enumerateFunction(bus) === null) return { failed: 'not a virtio network device', status: 0 };
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
  const config = readConfiguration(t, features);
  if (typeof config === 'string') return t.fail(config);
  const { queuePairs } = config;
  const controlQueue = hasFeature(features, VIRTIO_NET_F_CTRL_VQ) ? 2 * queuePairs : -1;
  const packed = hasFeature(features, VIRTIO_F_RING_PACKED);
  const queues: ProbedQueue[] = [];
  for (let index = 0; index < 2 * queuePairs + (controlQueue < 0 ? 0 : 1); index++) {
    const q = setupQueue(t, allocator, index, packed);
    if (typeof q === 'string') return t.fail(q);
    queues.push(q);
  }
  t.addStatus(VIRTIO_CONFIG_S_DRIVER_OK);
  const binding = bindingOf(t);
  const ready = {
    features,
    ...config,
    mac,
    rss: null,
    queues,
    controlQueue,
    vectors: [],
    interface: 'modern',
    binding,
  } as const;
  options.onReady?.(ready);
  const status = t.read(C.device_status);
  if ((status & VIRTIO_CONFIG_S_DRIVER_OK) === 0) return t.fail('the device did not take DRIVER_OK');
  // dpdk virtio_dev_link_update()
  const link = hasFeature(features, VIRTIO_NET_F_STATUS) ? binding.readStatusField() : VIRTIO_NET_S_LINK_UP;
  const linkUp = (link & VIRTIO_NET_S_LINK_UP) !== 0;
  const says = linkUp && hasFeature(features, VIRTIO_NET_F_SPEED_DUPLEX);
  return {
    ...ready,
    linkUp,
    announce: (link & VIRTIO_NET_S_ANNOUNCE) !== 0,
    speed: says ? t.readConfig(N.speed.offset, N.speed.width) : null,
    duplex: says ? t.readConfig(N.duplex.offset, N.duplex.width) : null,
    status,
  };
}

function bindingOf(t: Transport): Binding {
  return {
    readConfig: (offset, width) => t.readConfig(offset, width),
    readStatusField: () => t.readConfig(N.status.offset, N.status.width),
    takeInterrupt: () => t.bus.barRead(t.isrBar, t.isrAt, 1),
    resizeQueue: () => 'the PMD resets no single queue',
    unbind: () => {
      t.write(C.device_status, 0);
      return waitForReset(t);
    },
  };
}
