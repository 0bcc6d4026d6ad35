/**
 * What the virtio-net device itself offers, as QEMU 7.2 does for the same options. The back-end then takes away what it
 * lacks (vhost/offers.ts), and the driver accepts what it knows.
 */
import {
  FEATURE_BITS,
  type Features,
  featureBit,
  featureName,
  featuresOf,
  hasFeature,
  minusFeatures,
  needsOf,
  orFeatures,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_ADMIN_VQ,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_BAD_FEATURE,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_DEVICE_STATS,
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
  VIRTIO_NET_F_HASH_TUNNEL,
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
  VIRTIO_NET_F_RSC_EXT,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_SPEED_DUPLEX,
  VIRTIO_NET_F_STANDBY,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../features.ts';

/** The options of a NIC that decide about its offer; the other fields of a document's NIC do not matter here. */
export interface OfferOptions {
  /** Bits that the document turns on or off, by name; a name that is missing has its default. */
  readonly features: Readonly<Record<string, boolean>>;
  readonly queuePairs?: number;
  readonly packed?: boolean;
  /** QEMU's host_mtu; null: not said. */
  readonly mtu?: number | null;
  /** Mbit/s and QEMU's `duplex`; null: not said. */
  readonly speed?: number | null;
  readonly duplex?: string | null;
  readonly transport?: string;
  /** False where the back-end has no vnet header: checksums and segmentation are off the table. Default true. */
  readonly vnetHdr?: boolean;
}

/** On in qemu 7.2 without any option (hw/net/virtio-net.c, include/hw/virtio/virtio.h, hw/virtio/virtio-pci.c). */
export const QEMU_NET_DEFAULTS: Features = featuresOf(
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_GSO,
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
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_F_BAD_FEATURE,
  VIRTIO_F_VERSION_1,
  VIRTIO_F_RING_RESET,
);
/** Off without an option, and honoured when a document asks: some by options of QEMU 7.2, the rest only newer devices have. */
export const NET_ON_REQUEST: Features = featuresOf(
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_MQ,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_NET_F_DEVICE_STATS,
  VIRTIO_NET_F_HASH_TUNNEL,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_GUEST_HDRLEN,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_RSC_EXT,
  VIRTIO_NET_F_STANDBY,
  VIRTIO_NET_F_SPEED_DUPLEX,
);
/** What any device of ours can offer. */
export const NET_OFFERABLE: Features = orFeatures(QEMU_NET_DEFAULTS, NET_ON_REQUEST);
/** Shown by the legacy interface only (qemu virtio_device_class, legacy_features, and virtio-net's GSO). */
export const LEGACY_ONLY: Features = featuresOf(
  VIRTIO_NET_F_GSO,
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_BAD_FEATURE,
);
/** What needs a vnet header between device and back-end (qemu virtio_net_get_features()). */
export const NEED_VNET_HDR: Features = featuresOf(
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HASH_REPORT,
);

/** The bits that follow from a document's other fields. */
function derived(nic: OfferOptions): Features {
  const bits: number[] = [];
  if ((nic.queuePairs ?? 1) > 1) bits.push(VIRTIO_NET_F_MQ);
  if (nic.packed === true) bits.push(VIRTIO_F_RING_PACKED);
  if ((nic.mtu ?? null) !== null) bits.push(VIRTIO_NET_F_MTU);
  if ((nic.speed ?? null) !== null || (nic.duplex ?? null) !== null) bits.push(VIRTIO_NET_F_SPEED_DUPLEX);
  return featuresOf(...bits);
}
/** All bits of the device, of both interfaces: QEMU's host_features. */
function hostFeatures(nic: OfferOptions): Features {
  let f = orFeatures(QEMU_NET_DEFAULTS, derived(nic));
  for (const [name, on] of Object.entries(nic.features)) {
    const bit = featureBit(name);
    if (bit < 0 || !hasFeature(NET_OFFERABLE, bit)) continue;
    // legacy bits: a document's table says them for transports that have such an interface; they are masked by the view
    if (hasFeature(LEGACY_ONLY, bit) && !on && !hasLegacyInterface(nic)) continue;
    f = on ? orFeatures(f, featuresOf(bit)) : minusFeatures(f, featuresOf(bit));
  }
  return nic.vnetHdr === false ? minusFeatures(f, NEED_VNET_HDR) : f;
}
const hasLegacyInterface = (nic: OfferOptions): boolean =>
  nic.transport === 'pci-legacy' || nic.transport === 'pci-transitional';

/**
 * What the device offers before its back-end has a say: through the modern interface, or through the legacy one where it has
 * no other. By default 0x10130bfffa7. As in QEMU, turning a bit off leaves the bits that need it on: whoever writes the
 * document is told (dependentsOf()), and a driver may give up.
 */
export function deviceOffer(nic: OfferOptions): Features {
  return nic.transport === 'pci-legacy' ? legacyOffer(nic) : minusFeatures(hostFeatures(nic), LEGACY_ONLY);
}
/** What the legacy interface of a transitional or legacy device shows: 32 bits, by default 0x79bfffe7. */
export function legacyOffer(nic: OfferOptions): Features {
  return { lo: hostFeatures(nic).lo, hi: 0 };
}

/** Why the device does not offer a bit, or null where it does. */
export function whyNotOffered(nic: OfferOptions, bit: number): string | null {
  if (hasFeature(deviceOffer(nic), bit)) return null;
  if (!hasFeature(NET_OFFERABLE, bit)) {
    return bit === VIRTIO_F_ADMIN_VQ ? 'the device has no administration queue' : 'the device does not have it';
  }
  if (hasFeature(LEGACY_ONLY, bit) && nic.transport !== 'pci-legacy') return 'the legacy interface alone shows it';
  if (nic.transport === 'pci-legacy' && bit >= 32) return 'the legacy interface has 32 feature bits';
  if (bit === VIRTIO_F_RING_PACKED) return 'packed is false in the document';
  if (bit === VIRTIO_NET_F_MQ && (nic.queuePairs ?? 1) <= 1) return 'the document asks for one queue pair';
  if (bit === VIRTIO_NET_F_MTU && (nic.mtu ?? null) === null) return 'the document names no MTU';
  if (bit === VIRTIO_NET_F_SPEED_DUPLEX && (nic.speed ?? null) === null) return 'the document names no speed';
  if (nic.vnetHdr === false && hasFeature(NEED_VNET_HDR, bit)) return 'the back-end has no virtio-net header';
  const lacks = needsOf(bit).find((group) => !group.some((b) => hasFeature(deviceOffer(nic), b)));
  if (lacks) return `needs ${lacks.map(featureName).join(' or ')}, which is not offered`;
  return hasFeature(QEMU_NET_DEFAULTS, bit) ? 'turned off in the document' : 'not turned on in the document';
}
/** Every bit with a name that no option makes the device offer. */
export const NEVER_OFFERED: readonly string[] = Object.keys(FEATURE_BITS).filter(
  (name) => !hasFeature(NET_OFFERABLE, FEATURE_BITS[name]!),
);
