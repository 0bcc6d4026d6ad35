/**
 * How a guest brings a virtio-net device up: what the firmware does (BARs, command register), then Linux 6.1's virtio_pci and
 * virtio_net from the capability walk to DRIVER_OK. Every access is one call of PciAccess, in the order that a Linux guest
 * was seen to make them, so each exit of the set-up has its cause here.
 *
 * Runs on the vCPU. Read first: virtio 1.2 §3.1.1; linux drivers/virtio/virtio_pci_modern_dev.c, vp_modern_probe().
 */
import {
  andFeatures,
  type Features,
  featuresOf,
  featureWord,
  hasFeature,
  NO_FEATURES,
  VIRTIO_F_ACCESS_PLATFORM,
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
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_UFO,
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
} from '../virtio/features.ts';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '../virtio/status.ts';
import {
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_COMMAND_SERR,
  PCI_STD_NUM_BARS,
  pci_header,
  pciBarOffset,
  VIRTIO_MSI_NO_VECTOR,
  virtio_pci_common_cfg,
} from '../wire/pci.ts';
import { isVirtqSize, virtqDescBytes, vringBytes, vringUsedOffset } from '../wire/virtio-ring.ts';
import type { GuestAllocator, PciAccess, ProbedQueue, ProbeOptions, ProbeResult } from './probe-types.ts';

import {
  enableMsix,
  enumerateFunction,
  mapDevice,
  readMac,
  requestIrq,
  type Transport,
  waitForReset,
} from './virtio-transport.ts';

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

const H = pci_header;
const C = virtio_pci_common_cfg;
const LINUX_MSI_ADDRESS = 0xfee0_1004;
/** First vector that the recorded guest got. */
const LINUX_FIRST_VECTOR = 0x27;
const PAGE_SIZE = 4096;

// ---- firmware -------------------------------------------------------------------------------------------------------

export interface FirmwareAssignment {
  readonly msixBar: number;
  readonly modernBar: number;
  readonly rom: number;
  readonly irqLine: number;
}
/**
 * What SeaBIOS does before the kernel runs: size every BAR, place it, switch decoding on
 * (seabios src/fw/pciinit.c, pci_bios_init_device()). The order of its accesses is not taken from a trace.
 */
export function firmwareInit(bus: PciAccess, where: FirmwareAssignment): void {
  for (let bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
    const at = pciBarOffset(bar);
    const old = bus.cfgRead(at, 4);
    bus.cfgWrite(at, 4, 0xffff_ffff);
    const sized = bus.cfgRead(at, 4);
    bus.cfgWrite(at, 4, old);
    if (sized === 0) continue;
    const is64 = (sized & PCI_BASE_ADDRESS_MEM_TYPE_64) !== 0;
    const address = is64 ? where.modernBar : where.msixBar;
    bus.cfgWrite(at, 4, address >>> 0);
    if (is64) {
      bar++;
      bus.cfgWrite(pciBarOffset(bar), 4, Math.floor(address / 0x1_0000_0000));
    }
  }
  bus.cfgWrite(H.rom_address.offset, 4, 0xffff_fffe);
  if (bus.cfgRead(H.rom_address.offset, 4) !== 0) bus.cfgWrite(H.rom_address.offset, 4, where.rom);
  if (bus.cfgRead(H.interrupt_pin.offset, 1) !== 0) bus.cfgWrite(H.interrupt_line.offset, 1, where.irqLine);
  const command = bus.cfgRead(H.command.offset, 2);
  bus.cfgWrite(H.command.offset, 2, command | PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_SERR);
}
/** Where the recorded machine (q35, one device) had it. */
export const SEABIOS_Q35_ASSIGNMENT: FirmwareAssignment = {
  msixBar: 0xfebc_0000,
  modernBar: 0xfebf_c000,
  rom: 0xfeb8_0000,
  irqLine: 10,
};

// ---- virtio_net -----------------------------------------------------------------------------------------------------

/** linux virtio_pci_modern.c, setup_vq(): everything but the interrupt and queue_enable. */
function setupQueue(
  t: Transport,
  allocator: GuestAllocator,
  index: number,
  limit: number,
  msixVector: number,
): ProbedQueue | string {
  if (index >= t.read(C.num_queues)) return `queue ${index} does not exist`;
  t.select(index);
  const offered = t.read(C.queue_size);
  t.select(index);
  if (offered === 0 || t.read(C.queue_enable) !== 0) return `queue ${index} is not available`;
  const size = Math.min(offered, limit);
  if (!isVirtqSize(size)) return `queue ${index}: size ${size} is not a power of two`;
  const descGpa = allocator.alloc(vringBytes(size), PAGE_SIZE);
  if (descGpa < 0) return `queue ${index}: no memory for a ring of ${size}`;
  const driverGpa = descGpa + virtqDescBytes(size);
  const deviceGpa = descGpa + vringUsedOffset(size);

  t.select(index);
  t.write(C.queue_size, size);
  t.select(index);
  t.writeRingAddresses(descGpa, driverGpa, deviceGpa);
  if (msixVector !== VIRTIO_MSI_NO_VECTOR) {
    t.select(index);
    t.write(C.queue_msix_vector, msixVector);
    if (t.read(C.queue_msix_vector) !== msixVector) return `queue ${index}: the device refused vector ${msixVector}`;
  }
  t.select(index);
  const notifyOff = t.read(C.queue_notify_off) * t.notifyMultiplier;
  if (notifyOff + 2 > t.notifyLength) return `queue ${index}: notify register lies outside its window`;
  return {
    index,
    size,
    descGpa,
    driverGpa,
    deviceGpa,
    notifyBar: t.notifyBar,
    notifyOffset: t.notifyAt + notifyOff,
    msixVector,
  };
}

/**
 * Brings the device up. `wanted` is what the driver is able and told to use; it takes what is also offered. The order is that
 * of a Linux 6.1 guest with one vCPU; queues are `queueOrder`, by default receive and transmit of one pair.
 */
export function probeVirtioNet(
  bus: PciAccess,
  allocator: GuestAllocator,
  wanted: Features,
  options: ProbeOptions = {},
): ProbeResult {
  const order = options.queueOrder ?? [0, 1];
  const address = options.msiAddress ?? LINUX_MSI_ADDRESS;
  const firstVector = options.firstVector ?? LINUX_FIRST_VECTOR;

  const msixCap = enumerateFunction(bus);
  if (msixCap < 0) return { failed: 'not a virtio network device', status: 0 };

  // 1. virtio_pci: map, reset, ACKNOWLEDGE.
  const t = mapDevice(bus);
  if (typeof t === 'string') return { failed: t, status: 0 };
  t.write(C.device_status, 0);
  if (!waitForReset(t)) return { failed: 'the device does not come out of reset', status: 0xff };
  t.addStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE);

  // 2. virtio core: DRIVER, features, FEATURES_OK and its read-back.
  t.addStatus(VIRTIO_CONFIG_S_DRIVER);
  // Bits that lack what they need are left (virtio 1.4 §2.2.1), but where virtnet_validate() looks by itself and gives up.
  const taken = andFeatures(t.readFeatures(), wanted);
  const orphans = hasFeature(taken, VIRTIO_NET_F_CTRL_VQ) ? NO_FEATURES : andFeatures(taken, NEED_CTRL_VQ);
  const orphaned = (orphans.lo | orphans.hi) !== 0;
  const features = orphaned ? taken : withoutOrphans(taken);
  if (!hasFeature(features, VIRTIO_F_VERSION_1)) return t.fail('modern interface without VIRTIO_F_VERSION_1');
  for (const select of [0, 1]) {
    t.write(C.driver_feature_select, select);
    t.write(C.driver_feature, featureWord(features, select));
  }
  if (orphaned) return t.fail('features of the control queue without VIRTIO_NET_F_CTRL_VQ');
  t.addStatus(VIRTIO_CONFIG_S_FEATURES_OK);
  if ((t.read(C.device_status) & VIRTIO_CONFIG_S_FEATURES_OK) === 0) return t.fail('the device refused the features');

  // 3. Configuration.
  const mac = hasFeature(features, VIRTIO_NET_F_MAC) ? readMac(t) : null;

  // 4. MSI-X: entry 0 for configuration, then one per queue.
  const cap = options.msix === false ? 0 : msixCap;
  const entries = 1 + order.length;
  const useMsix = cap !== 0 && enableMsix(t, cap, entries, address) > 0;
  const vectors: number[] = [];
  if (useMsix) {
    for (let e = 0; e < entries; e++) vectors.push(firstVector + e);
    requestIrq(t, 0, address, vectors[0]!);
    t.write(C.config_msix_vector, 0);
    if (t.read(C.config_msix_vector) !== 0) return t.fail('the device refused the configuration vector');
  }

  // 5. Queues, each with its interrupt; 6. only then all are enabled.
  const queues: ProbedQueue[] = [];
  for (const [n, index] of order.entries()) {
    const vector = useMsix ? 1 + n : VIRTIO_MSI_NO_VECTOR;
    const q = setupQueue(t, allocator, index, options.queueSizes?.[index] ?? Number.POSITIVE_INFINITY, vector);
    if (typeof q === 'string') return t.fail(q);
    if (useMsix) requestIrq(t, vector, address, vectors[vector]!);
    queues.push(q);
  }
  for (const q of queues) {
    t.select(q.index);
    t.write(C.queue_enable, 1);
  }

  // 7. DRIVER_OK. The core looks whether the driver did it; then the link work reads the link's state.
  t.addStatus(VIRTIO_CONFIG_S_DRIVER_OK);
  const status = t.read(C.device_status);
  if ((status & VIRTIO_CONFIG_S_DRIVER_OK) === 0) return t.fail('the device did not take DRIVER_OK');
  const linkUp = !hasFeature(features, VIRTIO_NET_F_STATUS) || t.readLink();
  return { features, queues, mac, vectors, linkUp, status };
}
