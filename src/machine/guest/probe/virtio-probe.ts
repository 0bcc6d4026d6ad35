/**
 * How a Linux 6.1 guest brings a virtio-net device up: virtio_pci or virtio_mmio, then virtio_net up to DRIVER_OK and its
 * first look at the link. Every access is one call of PciAccess (or MmioAccess), in the order that a Linux guest was seen to
 * make them, so each exit of the set-up has its cause here.
 *
 * Runs on the vCPU. Read first: virtio 1.2 §3.1.1; linux drivers/virtio/virtio.c, virtio_dev_probe(); drivers/net/virtio_net.c,
 * virtnet_probe().
 */
import { DMA_BIDIRECTIONAL } from '../../iommu/dma.ts';
import {
  andFeatures,
  type Features,
  featuresOf,
  hasFeature,
  minusFeatures,
  NO_FEATURES,
  orFeatures,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_SR_IOV,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GSO,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_HDRLEN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_SPEED_DUPLEX,
  VIRTIO_NET_F_STANDBY,
  VIRTIO_NET_F_STATUS,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
  withoutOrphans,
} from '../../virtio/features.ts';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '../../virtio/status.ts';
import { VIRTIO_NET_S_ANNOUNCE, VIRTIO_NET_S_LINK_UP, virtio_net_config } from '../../wire/virtio-net.ts';
import { LegacyOps } from './legacy-ops.ts';
import { MmioOps } from './mmio-ops.ts';
import { ModernOps } from './modern-ops.ts';
import { MsixIrqs } from './msix-irqs.ts';
import type {
  Binding,
  GuestAllocator,
  MmioAccess,
  PciAccess,
  Probed,
  ProbedQueue,
  ProbeOptions,
  ProbeResult,
  RssLimits,
} from './probe-types.ts';
import { allocateRing } from './ring-memory.ts';
import { POLLS_MAX, type QueueRequest, type VirtioConfigOps } from './virtio-config-ops.ts';
import { enableFunction, enumerateFunction, type FoundFunction, mapModern, setMaster } from './virtio-transport.ts';

export { type FirmwareAssignment, firmwareInit, SEABIOS_Q35_ASSIGNMENT } from './pci-resources.ts';

/** linux 6.1 drivers/net/virtio_net.c, features[], and what virtio_ring and virtio_pci keep for the transport. */
export const LINUX_6_1_VIRTIO_NET_FEATURES: Features = featuresOf(
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_F_VERSION_1,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_SR_IOV,
  VIRTIO_F_RING_RESET,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_STANDBY,
  VIRTIO_NET_F_SPEED_DUPLEX,
);
/**
 * What later kernels added: 6.2 ("virtio-net: support UDP segmentation") and 6.4 ("implement exact header length guest
 * feature", "virtio: add VIRTIO_F_NOTIFICATION_DATA feature support").
 */
const LATER_VIRTIO_NET_FEATURES: Features = featuresOf(
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_GUEST_HDRLEN,
  VIRTIO_F_NOTIFICATION_DATA,
);
/**
 * What a guest's virtio_net knows: that of 6.1, and of the later bits those that its device offers.
 * DEVIATION: a device with a bit of a later kernel, which a document turns on, meets a driver with that bit that otherwise is 6.1's.
 */
export function linuxFeatures(offered: Features): Features {
  return orFeatures(LINUX_6_1_VIRTIO_NET_FEATURES, andFeatures(offered, LATER_VIRTIO_NET_FEATURES));
}
/** Bits that virtio_net refuses to probe with unless CTRL_VQ comes along (linux virtnet_validate_features()). */
const NEED_CTRL_VQ = featuresOf(
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_NOTF_COAL,
);

/** linux features_legacy[] has these two more. */
const LEGACY_FEATURES = featuresOf(VIRTIO_NET_F_GSO, VIRTIO_F_ANY_LAYOUT);
const LINUX_MSI_ADDRESS = 0xfee0_1004;
/** First vector that the recorded guest got. */
const LINUX_FIRST_VECTOR = 0x27;
/** linux include/uapi/linux/if_ether.h, ETH_MIN_MTU. */
const MIN_MTU = 68;
/** linux VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX. */
const PAIRS_MAX = 0x8000;
/** linux drivers/virtio/virtio_pci_legacy.c, vp_legacy_probe(): other revisions of a transitional id are not ours (virtio 1.2 §4.1.2.3). */
const VIRTIO_PCI_ABI_VERSION = 0;
const C = virtio_net_config;

/**
 * Brings a PCI device up. `wanted` is what the driver is able and told to use; it takes what is also offered. The order is
 * that of a Linux 6.1 guest.
 */
export function probeVirtioNet(
  bus: PciAccess,
  allocator: GuestAllocator,
  wanted: Features,
  options: ProbeOptions = {},
): ProbeResult {
  const found = enumerateFunction(bus);
  if (found === null) return { failed: 'not a virtio network device', status: 0 };
  return bindVirtioNet(bus, found, allocator, wanted, options);
}

/** The same for a function that the PCI core has looked at already (enumerateFunction()). linux virtio_pci_probe(). */
export function bindVirtioNet(
  bus: PciAccess,
  found: FoundFunction,
  allocator: GuestAllocator,
  wanted: Features,
  options: ProbeOptions = {},
): ProbeResult {
  const messages = options.messages;
  const irqs = new MsixIrqs(bus, found.msix, (entry) => messages?.[entry] ?? messageOf(entry, options));
  const useMsix = options.msix !== false && found.msix !== 0;
  enableFunction(bus, found);
  const modern = mapModern(bus);
  if (typeof modern === 'string') return { failed: modern, status: 0 };
  if (modern === null && found.revision !== VIRTIO_PCI_ABI_VERSION) {
    return { failed: 'neither modern capabilities nor a legacy revision', status: 0 };
  }
  setMaster(bus, found);
  const ops = modern === null ? new LegacyOps(bus, irqs, useMsix) : new ModernOps(modern, irqs, useMsix);
  const vectorOf = (entry: number): number => (messages?.[entry] ?? messageOf(entry, options)).data & 0xff;
  return probeOver(ops, allocator, wanted, options, vectorOf);
}
const messageOf = (entry: number, options: ProbeOptions): { address: number; data: number } => ({
  address: options.msiAddress ?? LINUX_MSI_ADDRESS,
  data: (options.firstVector ?? LINUX_FIRST_VECTOR) + entry,
});

/** Brings a virtio-mmio device up; where it is, the kernel's command line or the platform says. linux virtio_mmio_probe(). */
export function probeVirtioMmio(
  bus: MmioAccess,
  allocator: GuestAllocator,
  wanted: Features,
  options: ProbeOptions = {},
): ProbeResult {
  const ops = new MmioOps(bus);
  const unfit = ops.identify();
  if (unfit !== null) return { failed: unfit, status: 0 };
  return probeOver(ops, allocator, wanted, options, () => 0);
}

/** linux virtio_add_status(). Returns what was written. */
function addStatus(ops: VirtioConfigOps, bits: number): number {
  const status = ops.getStatus() | bits;
  ops.setStatus(status);
  return status;
}
function failed(ops: VirtioConfigOps, reason: string): ProbeResult {
  return { failed: reason, status: addStatus(ops, VIRTIO_CONFIG_S_FAILED) };
}
const read = (ops: VirtioConfigOps, field: { offset: number; width: number }): number =>
  ops.read(field.offset, field.width);

function probeOver(
  ops: VirtioConfigOps,
  allocator: GuestAllocator,
  wanted: Features,
  options: ProbeOptions,
  vectorOf: (entry: number) => number,
): ProbeResult {
  // 1. register_virtio_device(): reset, ACKNOWLEDGE. 2. virtio_dev_probe(): DRIVER, features.
  if (!ops.reset()) return { failed: 'the device does not come out of reset', status: 0xff };
  addStatus(ops, VIRTIO_CONFIG_S_ACKNOWLEDGE);
  addStatus(ops, VIRTIO_CONFIG_S_DRIVER);
  const features = negotiate(ops, wanted);
  if (typeof features === 'string') return failed(ops, features);

  // 3. virtnet_probe(): configuration, then the queues with their interrupts.
  const config = readConfiguration(ops, features);
  if (typeof config === 'string') return failed(ops, config);
  const packed = hasFeature(features, VIRTIO_F_RING_PACKED);
  const requests = queueRequests(features, config.queuePairs, options);
  const queues = ops.findQueues(requests, forDevices(allocator, features, options), packed);
  if (typeof queues === 'string') return failed(ops, queues);

  // 4. DRIVER_OK: the queues can be used. The core looks whether the driver did it, then the link work reads the link's state.
  addStatus(ops, VIRTIO_CONFIG_S_DRIVER_OK);
  const ready = {
    features,
    ...config,
    queues,
    controlQueue: hasFeature(features, VIRTIO_NET_F_CTRL_VQ) ? 2 * config.queuePairs : -1,
    vectors: Array.from({ length: ops.interruptEntries }, (_, entry) => vectorOf(entry)),
    interface: ops.kind,
    binding: bindingOf(ops, queues, features),
  } as const;
  options.onReady?.(ready);
  const status = ops.getStatus();
  if ((status & VIRTIO_CONFIG_S_DRIVER_OK) === 0) return failed(ops, 'the device did not take DRIVER_OK');
  return { ...ready, ...readLink(ops, features), status };
}

/** Rings are mapped where the device reaches memory as other devices of the platform do (linux vring_use_dma_api()). */
function forDevices(allocator: GuestAllocator, features: Features, { dma }: ProbeOptions): GuestAllocator {
  if (dma === undefined || !hasFeature(features, VIRTIO_F_ACCESS_PLATFORM)) return allocator;
  return {
    alloc: (bytes, align) => allocator.alloc(bytes, align),
    mapped: (gpa, bytes) => dma.map(gpa, bytes, DMA_BIDIRECTIONAL),
  };
}
/** linux virtio_dev_probe() from the offer to FEATURES_OK and its read-back; a legacy device has no FEATURES_OK. */
function negotiate(ops: VirtioConfigOps, wanted: Features): Features | string {
  const offered = ops.getFeatures();
  const own = ops.kind === 'legacy' ? orFeatures(wanted, LEGACY_FEATURES) : wanted;
  // Bits that lack what they need are left (virtio 1.4 §2.2.1), but where virtnet_validate() looks by itself and gives up.
  const taken = minusFeatures(andFeatures(offered, own), ops.without);
  const orphans = hasFeature(taken, VIRTIO_NET_F_CTRL_VQ) ? NO_FEATURES : andFeatures(taken, NEED_CTRL_VQ);
  const orphaned = (orphans.lo | orphans.hi) !== 0;
  let features = orphaned ? taken : withoutOrphans(taken);
  const refused = ops.finalizeFeatures(features);
  if (refused !== null) return refused;
  if (orphaned) return 'features of the control queue without VIRTIO_NET_F_CTRL_VQ';
  const valid = validated(ops, features);
  if (valid !== features) {
    features = valid;
    ops.finalizeFeatures(features);
  }
  if (!hasFeature(features, VIRTIO_F_VERSION_1)) return features;
  addStatus(ops, VIRTIO_CONFIG_S_FEATURES_OK);
  return (ops.getStatus() & VIRTIO_CONFIG_S_FEATURES_OK) === 0 ? 'the device refused the features' : features;
}
/** linux virtnet_validate(): an MTU that is too small, and a standby without an address, are not accepted. */
function validated(ops: VirtioConfigOps, features: Features): Features {
  const smallMtu = hasFeature(features, VIRTIO_NET_F_MTU) && read(ops, C.mtu) < MIN_MTU;
  const strangeStandby = hasFeature(features, VIRTIO_NET_F_STANDBY) && !hasFeature(features, VIRTIO_NET_F_MAC);
  if (!smallMtu && !strangeStandby) return features;
  const without = [...(smallMtu ? [VIRTIO_NET_F_MTU] : []), ...(strangeStandby ? [VIRTIO_NET_F_STANDBY] : [])];
  return minusFeatures(features, featuresOf(...without));
}

interface Configuration {
  readonly queuePairs: number;
  readonly mac: readonly number[] | null;
  readonly mtu: number | null;
  readonly rss: RssLimits | null;
}
/** Each field with its own width, and only with its feature (virtio 1.2 §2.5.1). */
function readConfiguration(ops: VirtioConfigOps, features: Features): Configuration | string {
  const has = (bit: number): boolean => hasFeature(features, bit);
  let queuePairs = 1;
  if (has(VIRTIO_NET_F_MQ) || has(VIRTIO_NET_F_RSS)) {
    const said = read(ops, C.max_virtqueue_pairs);
    if (said >= 1 && said <= PAIRS_MAX && has(VIRTIO_NET_F_CTRL_VQ)) queuePairs = said;
  }
  const mac = has(VIRTIO_NET_F_MAC) ? readMac(ops) : null;
  let rss: RssLimits | null = null;
  if (has(VIRTIO_NET_F_RSS) || has(VIRTIO_NET_F_HASH_REPORT)) {
    const maxIndirectionTable = has(VIRTIO_NET_F_RSS) ? read(ops, C.rss_max_indirection_table_length) : 0;
    rss = {
      maxIndirectionTable,
      maxKeySize: read(ops, C.rss_max_key_size),
      hashTypes: read(ops, C.supported_hash_types),
    };
  }
  const mtu = has(VIRTIO_NET_F_MTU) ? read(ops, C.mtu) : null;
  if (mtu !== null && mtu < MIN_MTU) return `the device's MTU has become ${mtu}`;
  return { queuePairs, mac, mtu, rss };
}
/** linux virtio_cread_bytes(): byte by byte between two reads of config_generation, again if that changed. */
function readMac(ops: VirtioConfigOps): number[] {
  let generation = ops.generation();
  for (let tries = 0; ; tries++) {
    const mac = Array.from({ length: C.mac.width }, (_, i) => ops.read(C.mac.offset + i, 1));
    const after = ops.generation();
    if (after === generation || tries === POLLS_MAX) return mac;
    generation = after;
  }
}
function queueRequests(features: Features, pairs: number, options: ProbeOptions): QueueRequest[] {
  const control = hasFeature(features, VIRTIO_NET_F_CTRL_VQ) ? 1 : 0;
  return Array.from({ length: 2 * pairs + control }, (_, index) => ({
    index,
    interrupts: index < 2 * pairs,
    limit: options.queueSizes?.[index] ?? Number.POSITIVE_INFINITY,
  }));
}
/** linux virtnet_config_changed_work() and virtnet_update_settings(). */
function readLink(ops: VirtioConfigOps, features: Features): Pick<Probed, 'linkUp' | 'announce' | 'speed' | 'duplex'> {
  const status = hasFeature(features, VIRTIO_NET_F_STATUS) ? read(ops, C.status) : VIRTIO_NET_S_LINK_UP;
  const linkUp = (status & VIRTIO_NET_S_LINK_UP) !== 0;
  const says = linkUp && hasFeature(features, VIRTIO_NET_F_SPEED_DUPLEX);
  const speed = says ? read(ops, C.speed) : null;
  const duplex = says ? read(ops, C.duplex) : null;
  return { linkUp, announce: (status & VIRTIO_NET_S_ANNOUNCE) !== 0, speed, duplex };
}

function bindingOf(ops: VirtioConfigOps, queues: readonly ProbedQueue[], features: Features): Binding {
  const current = [...queues];
  return {
    readConfig: (offset, width) => ops.read(offset, width),
    readStatusField: () => read(ops, C.status),
    takeInterrupt: () => ops.takeInterrupt(),
    resizeQueue: (index, size, allocator) => {
      const at = current.findIndex((q) => q.index === index);
      if (at < 0) return `queue ${index} is not set up`;
      if (!hasFeature(features, VIRTIO_F_RING_RESET)) return 'VIRTIO_F_RING_RESET was not negotiated';
      if (!ops.resetQueue(index)) return `queue ${index} does not come out of reset`;
      const ring = allocateRing(allocator, size, hasFeature(features, VIRTIO_F_RING_PACKED), ops.usedAlign);
      if (ring === null) return `queue ${index}: no memory for a ring of ${size}`;
      const next = ops.enableAfterReset(current[at]!, size, ring);
      if (typeof next !== 'string') current[at] = next;
      return next;
    },
    unbind: () => {
      const reset = ops.reset();
      ops.deleteQueues();
      // virtio_dev_remove(): the status is looked at, then the bus has the device again
      ops.getStatus();
      addStatus(ops, VIRTIO_CONFIG_S_ACKNOWLEDGE);
      return reset;
    },
  };
}
