/** What the API shows of a guest's NIC: how driver and device have agreed, registers, interrupts, and what its queues are. */
import { EVENT_KINDS } from '../engine/events.ts';
import { DPDK_22_11_VIRTIO_PMD_FEATURES } from '../machine/guest/probe/virtio-pmd-probe.ts';
import { linuxFeatures } from '../machine/guest/probe/virtio-probe.ts';
import {
  ovsOffer,
  QEMU_KERNEL_FEATURE_BITS,
  QEMU_USER_FEATURE_BITS,
  VHOST_NET_OFFER,
} from '../machine/vhost/offers.ts';
import { type BackendOffer, type Negotiation, whyMissing } from '../machine/vhost/why-missing.ts';
import {
  type Features,
  featureName,
  featureNames,
  featuresHex,
  featuresOf,
  hasFeature,
  NO_FEATURES,
  orFeatures,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_SPEED_DUPLEX,
  VIRTIO_NET_F_STATUS,
} from '../machine/virtio/features.ts';
import { VirtioMmioDevice } from '../machine/virtio/mmio-transport.ts';
import { statusNames, VIRTIO_CONFIG_S_FEATURES_OK } from '../machine/virtio/status.ts';
import type { VirtioDevice } from '../machine/virtio/virtio-device.ts';
import { VIRTIO_MSI_NO_VECTOR } from '../machine/wire/pci.ts';
import { virtio_net_config } from '../machine/wire/virtio-net.ts';
import type { BuiltNic, Machine } from './build/machine.ts';
import { deviceWindows } from './device-windows.ts';
import { connectionOf } from './devices/netdev/reconnect.ts';
import type { NicTransport } from './devices/nic-transport.ts';
import { FEATURE_RULES } from './document-features.ts';
import { controlOf, counter, deviceOf, deviceState } from './inspect.ts';
import { iommuState } from './inspect-translation.ts';
import { nicMigration } from './nic-migration-state.ts';
import type { FeatureState, NicState } from './protocol.ts';
import { queueName } from './queue-names.ts';

const macText = (mac: readonly number[]): string => mac.map((b) => b.toString(16).padStart(2, '0')).join(':');

export function nicState(machine: Machine, nic: BuiltNic): NicState {
  const device = deviceOf(nic);
  const accepted = (device.status & VIRTIO_CONFIG_S_FEATURES_OK) === 0 ? NO_FEATURES : device.driverFeatures;
  return {
    guest: nic.guest.name,
    nic: nic.document.name,
    backend: nic.document.backend,
    driver: nic.document.driver,
    transport: nic.document.transport,
    mac: macText(nic.document.mac),
    status: { value: device.status, bits: statusNames(device.status) },
    features: {
      offered: featureNames(device.offered),
      negotiated: featureNames(accepted),
      offeredHex: featuresHex(device.offered),
      negotiatedHex: featuresHex(accepted),
      bits: featureStates(machine, nic, device, accepted),
    },
    config: configOf(device),
    interrupts: interruptsOf(device),
    control: controlState(nic),
    bridge: nic.document.bridge,
    linkUp: device.netConfig.linkUp,
    servedBy: deviceState(nic).nic.servedBy,
    socket: socketOf(nic),
    contexts: nic.contexts,
    queues: device.queues.map((q) => ({
      name: queueName(nic, q.index),
      index: q.index,
      size: q.size,
      maxSize: q.maxSize,
      enabled: q.enabled,
      msixVector: q.msixVector,
    })),
    iommu: iommuState(deviceState(nic).nic),
    migration: nicMigration(nic),
    counters: countersOf(machine, nic),
  };
}

// ---- features ---------------------------------------------------------------------------------------------------
function featureStates(
  machine: Machine,
  nic: BuiltNic,
  device: VirtioDevice,
  accepted: Features,
): readonly FeatureState[] {
  const negotiation = negotiationOf(machine, nic, device);
  const bits = new Set(FEATURE_RULES.map((rule) => rule.bit));
  for (let bit = 0; bit < 64; bit++) if (hasFeature(device.offered, bit)) bits.add(bit);
  return [...bits]
    .sort((a, b) => a - b)
    .map((bit) => ({
      bit,
      name: featureName(bit),
      offered: hasFeature(device.offered, bit),
      accepted: hasFeature(accepted, bit),
      missing: whyMissing(bit, negotiation) || null,
    }));
}

/** What the device and its back-end offer, and what the driver has accepted. */
export function negotiationOf(machine: Machine, nic: BuiltNic, device: VirtioDevice): Negotiation {
  const settled = (device.status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0;
  return {
    nic: nic.document,
    backend: backendOffer(machine, nic),
    offered: device.offered,
    accepted: settled ? device.driverFeatures : null,
    ...driverOf(nic, device.offered),
  };
}
const EVERYTHING: Features = { lo: 0xffff_ffff, hi: 0xffff_ffff };
function driverOf(nic: BuiltNic, offered: Features): Pick<Negotiation, 'driverFeatures' | 'driverName'> {
  switch (nic.document.driver) {
    case 'virtio-net':
      return { driverFeatures: linuxFeatures(offered), driverName: 'linux 6.1' };
    case 'virtio-pmd':
      return { driverFeatures: DPDK_22_11_VIRTIO_PMD_FEATURES, driverName: 'dpdk 22.11' };
    case 'none':
      return { driverFeatures: EVERYTHING, driverName: 'a client of the API' };
  }
}

function backendOffer(machine: Machine, nic: BuiltNic): BackendOffer {
  const { backend, bridge } = nic.document;
  if (backend === 'virtio-net') return { kind: 'qemu', offer: EVERYTHING, decides: NO_FEATURES };
  if (backend === 'vhost-net') return { kind: 'vhost-net', offer: VHOST_NET_OFFER, decides: QEMU_KERNEL_FEATURE_BITS };
  const host = machine.topology.hosts.find((h) => h.name === nic.guest.host.name);
  const userspaceTso = host?.bridges.find((b) => b.name === bridge)?.userspaceTso ?? false;
  // ovs other_config:vhost-iommu-support, for guests that have an IOMMU
  const iommu = nic.document.features['VIRTIO_F_ACCESS_PLATFORM'] === true;
  const own = ovsOffer(userspaceTso);
  const offer = iommu ? orFeatures(own, featuresOf(VIRTIO_F_ACCESS_PLATFORM)) : own;
  return { kind: 'vhost-user', offer, decides: QEMU_USER_FEATURE_BITS, userspaceTso };
}

// ---- configuration ----------------------------------------------------------------------------------------------
/** Fields that the device's offer does not bring are null. */
function configOf({ netConfig, offered }: VirtioDevice): NicState['config'] {
  const bytes = Array.from({ length: netConfig.length }, (_, i) => netConfig.read(i, 1));
  const field = (bits: readonly number[], { offset, width }: { offset: number; width: number }): number | null =>
    bits.some((bit) => hasFeature(offered, bit)) ? netConfig.read(offset, width) : null;
  const c = virtio_net_config;
  return {
    hex: bytes.map((b) => b.toString(16).padStart(2, '0')).join(''),
    mac: hasFeature(offered, VIRTIO_NET_F_MAC) ? macText(bytes.slice(0, 6)) : null,
    status: field([VIRTIO_NET_F_STATUS], c.status),
    maxVirtqueuePairs: field([VIRTIO_NET_F_MQ, VIRTIO_NET_F_RSS], c.max_virtqueue_pairs),
    mtu: field([VIRTIO_NET_F_MTU], c.mtu),
    speed: field([VIRTIO_NET_F_SPEED_DUPLEX], c.speed),
    duplex: field([VIRTIO_NET_F_SPEED_DUPLEX], c.duplex),
  };
}

// ---- interrupts -------------------------------------------------------------------------------------------------
/** An MSI-X table entry (PCI 3.0 §6.8.2.6-9): address low and high, data, vector control. */
const MSIX_ENTRY = 16;
function interruptsOf(device: NicTransport): NicState['interrupts'] {
  if (device instanceof VirtioMmioDevice) {
    return { mode: 'line', isr: device.interruptStatus, configVector: null, vectors: [] };
  }
  const table = deviceWindows(device).get('msix');
  const vectors = Array.from({ length: table === undefined ? 0 : device.vectors }, (_, v) => {
    const word = (i: number): number => table!.read(MSIX_ENTRY * v + 4 * i, 4);
    const address = (BigInt(word(1)) << 32n) | BigInt(word(0));
    return {
      vector: v,
      address: `0x${address.toString(16)}`,
      data: word(2),
      masked: (word(3) & 1) === 1,
      pending: device.isPending(v),
    };
  });
  const { configVector } = device;
  return {
    mode: device.msixEnabled ? 'msix' : 'intx',
    isr: device.isr,
    configVector: configVector === VIRTIO_MSI_NO_VECTOR ? null : configVector,
    vectors,
  };
}

// ---- control queue ----------------------------------------------------------------------------------------------
function controlState(nic: BuiltNic): NicState['control'] {
  const control = controlOf(nic);
  if (control === null) return null;
  const { coalescing } = control;
  const filter = control.filter.state();
  const rss = control.rss.state();
  return {
    queuePairs: control.queuePairs,
    offloads: featureNames(control.offloads),
    filter: {
      ...filter,
      mac: macText(filter.mac),
      unicast: filter.unicast.map(macText),
      multicast: filter.multicast.map(macText),
    },
    rss: { ...rss, key: rss.key.map((b) => b.toString(16).padStart(2, '0')).join('') },
    coalescing: Array.from(coalescing.max_usecs, (usecs, queue) => ({
      queue: queueName(nic, queue),
      usecs,
      packets: coalescing.max_packets[queue]!,
    })),
  };
}

// ---- counters ---------------------------------------------------------------------------------------------------
function countersOf(machine: Machine, nic: BuiltNic): Record<string, number> {
  const counters: Record<string, number> = {};
  const own = new Set([nic.wiring.driverPlace, nic.wiring.backendPlace]);
  for (const place of machine.catalog.places) {
    const queue = place.type === 'queue' && place.guest === nic.guest.name && place.nic === nic.document.name;
    if (!queue && !own.has(place.id)) continue;
    for (const k of EVENT_KINDS) {
      const n = counter(machine, place.id, k.id);
      if (n > 0) counters[k.name] = (counters[k.name] ?? 0) + n;
    }
  }
  return counters;
}

/** The vhost-user connection of a NIC that has one. */
function socketOf(nic: BuiltNic): NicState['socket'] {
  const connection = connectionOf(deviceState(nic).nic);
  if (connection === null) return null;
  const { options, connected, connections, frontend, table, mappings } = connection;
  return {
    ...options,
    connected,
    connections,
    backendDescriptors: table.open,
    backendMappings: mappings.count,
    closeReason: frontend.closeReason === '' ? null : frontend.closeReason,
  };
}
