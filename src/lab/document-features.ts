/**
 * The feature bits that a document can turn on and off, with the default of each and the bits that it needs. The table is
 * about documents: which bits a back-end then leaves is decided when the device is made (machine/virtio, machine/vhost).
 */
import { STRATOVIRT_FEATURES } from './stratovirt-features.ts';
import type { Backend, GuestNic, Transport, VmmKind } from './topology.ts';

/** What a bit that follows from other fields follows from. */
export type DerivedFrom = 'packed' | 'mtu' | 'speed' | 'transport' | 'queuePairs' | 'iommu';
export interface FeatureRule {
  readonly name: string;
  readonly bit: number;
  /** As QEMU 7.2 has it. `legacy`: on where the transport has a legacy interface; else what the field says. */
  readonly byDefault: boolean | 'legacy' | DerivedFrom;
  /** Of each group at least one has to be on (virtio 1.2 §5.1.3.1, §6). */
  readonly needs: readonly (readonly string[])[];
  readonly text: string;
}

type Needs = readonly (readonly string[])[];
const CTRL_VQ: Needs = [['VIRTIO_NET_F_CTRL_VQ']];
const CSUM: Needs = [['VIRTIO_NET_F_CSUM']];
const GUEST_CSUM: Needs = [['VIRTIO_NET_F_GUEST_CSUM']];
/** A legacy interface has 32 feature bits. */
const MODERN: readonly string[] = ['VIRTIO_F_VERSION_1'];

function rule(bit: number, name: string, byDefault: FeatureRule['byDefault'], text: string, needs: Needs = []) {
  return { bit, name, byDefault, text, needs: bit > 32 ? [...needs, MODERN] : needs };
}

/**
 * By bit. Bits that QEMU's device has and ours would not honour are not there: VIRTIO_NET_F_RSC_EXT (the device itself coalesces nothing) and VIRTIO_NET_F_STANDBY (nothing it could stand by for).
 */
export const FEATURE_RULES: readonly FeatureRule[] = [
  rule(0, 'VIRTIO_NET_F_CSUM', true, 'the device completes checksums'),
  rule(1, 'VIRTIO_NET_F_GUEST_CSUM', true, 'the driver takes frames without a complete checksum'),
  rule(2, 'VIRTIO_NET_F_CTRL_GUEST_OFFLOADS', true, 'receive offloads can be changed', CTRL_VQ),
  rule(3, 'VIRTIO_NET_F_MTU', 'mtu', 'the device says its MTU'),
  rule(5, 'VIRTIO_NET_F_MAC', true, 'the device says its MAC address'),
  rule(6, 'VIRTIO_NET_F_GSO', 'legacy', 'legacy: the device segments anything', CSUM),
  rule(7, 'VIRTIO_NET_F_GUEST_TSO4', true, 'the driver takes large TCP segments over IPv4', GUEST_CSUM),
  rule(8, 'VIRTIO_NET_F_GUEST_TSO6', true, 'the driver takes large TCP segments over IPv6', GUEST_CSUM),
  rule(9, 'VIRTIO_NET_F_GUEST_ECN', true, 'the driver takes large TCP segments with ECN', [
    ['VIRTIO_NET_F_GUEST_TSO4', 'VIRTIO_NET_F_GUEST_TSO6'],
  ]),
  rule(10, 'VIRTIO_NET_F_GUEST_UFO', true, 'the driver takes large UDP datagrams to be fragmented', GUEST_CSUM),
  rule(11, 'VIRTIO_NET_F_HOST_TSO4', true, 'the device segments TCP over IPv4', CSUM),
  rule(12, 'VIRTIO_NET_F_HOST_TSO6', true, 'the device segments TCP over IPv6', CSUM),
  rule(13, 'VIRTIO_NET_F_HOST_ECN', true, 'the device segments TCP with ECN', [
    ['VIRTIO_NET_F_HOST_TSO4', 'VIRTIO_NET_F_HOST_TSO6'],
  ]),
  rule(14, 'VIRTIO_NET_F_HOST_UFO', true, 'the device fragments large UDP datagrams', CSUM),
  rule(15, 'VIRTIO_NET_F_MRG_RXBUF', true, 'a received frame may fill several buffers'),
  rule(16, 'VIRTIO_NET_F_STATUS', true, 'the device says whether the link is up'),
  rule(17, 'VIRTIO_NET_F_CTRL_VQ', true, 'there is a control queue'),
  rule(18, 'VIRTIO_NET_F_CTRL_RX', true, 'receive modes and the table of MAC addresses', CTRL_VQ),
  rule(19, 'VIRTIO_NET_F_CTRL_VLAN', true, 'the VLAN filter', CTRL_VQ),
  rule(20, 'VIRTIO_NET_F_CTRL_RX_EXTRA', true, 'more receive modes', CTRL_VQ),
  rule(21, 'VIRTIO_NET_F_GUEST_ANNOUNCE', true, 'the device can ask the driver to announce itself', CTRL_VQ),
  rule(22, 'VIRTIO_NET_F_MQ', 'queuePairs', 'several queue pairs with steering by flow', CTRL_VQ),
  rule(23, 'VIRTIO_NET_F_CTRL_MAC_ADDR', true, 'the MAC address can be set', CTRL_VQ),
  rule(24, 'VIRTIO_F_NOTIFY_ON_EMPTY', 'legacy', 'legacy: an interrupt when the device runs out of buffers'),
  rule(27, 'VIRTIO_F_ANY_LAYOUT', 'legacy', 'legacy: any framing of descriptors'),
  rule(28, 'VIRTIO_RING_F_INDIRECT_DESC', true, 'indirect descriptor tables'),
  rule(29, 'VIRTIO_RING_F_EVENT_IDX', true, 'notifications are suppressed by index'),
  rule(32, 'VIRTIO_F_VERSION_1', 'transport', 'the device follows the specification from 1.0 on'),
  rule(33, 'VIRTIO_F_ACCESS_PLATFORM', 'iommu', 'the device reaches memory through the IOMMU'),
  rule(34, 'VIRTIO_F_RING_PACKED', 'packed', 'packed virtqueues'),
  rule(35, 'VIRTIO_F_IN_ORDER', false, 'buffers are used in the order in which they were made available'),
  rule(38, 'VIRTIO_F_NOTIFICATION_DATA', false, 'the driver says in its notification how far it is'),
  rule(40, 'VIRTIO_F_RING_RESET', true, 'single queues can be reset'),
  rule(50, 'VIRTIO_NET_F_DEVICE_STATS', false, 'the device counts, and the driver can ask', CTRL_VQ),
  rule(51, 'VIRTIO_NET_F_HASH_TUNNEL', false, 'hashes of encapsulated frames', [
    ['VIRTIO_NET_F_CTRL_VQ'],
    ['VIRTIO_NET_F_RSS', 'VIRTIO_NET_F_HASH_REPORT'],
  ]),
  rule(52, 'VIRTIO_NET_F_VQ_NOTF_COAL', false, 'coalescing of notifications by queue', CTRL_VQ),
  rule(53, 'VIRTIO_NET_F_NOTF_COAL', false, 'coalescing of notifications', CTRL_VQ),
  rule(54, 'VIRTIO_NET_F_GUEST_USO4', false, 'the driver takes large UDP segments over IPv4', GUEST_CSUM),
  rule(55, 'VIRTIO_NET_F_GUEST_USO6', false, 'the driver takes large UDP segments over IPv6', GUEST_CSUM),
  rule(56, 'VIRTIO_NET_F_HOST_USO', false, 'the device segments UDP', CSUM),
  rule(57, 'VIRTIO_NET_F_HASH_REPORT', false, 'the device says the hash of each frame', CTRL_VQ),
  rule(59, 'VIRTIO_NET_F_GUEST_HDRLEN', false, 'the driver says the exact length of headers'),
  rule(60, 'VIRTIO_NET_F_RSS', false, 'steering by hash, as the driver says', CTRL_VQ),
  rule(63, 'VIRTIO_NET_F_SPEED_DUPLEX', 'speed', 'the device says its speed and duplex mode'),
];
/** Feature bits that a document may turn off, by specification name (virtio 1.2 §6, §5.1.3). */
export const FEATURES: readonly string[] = FEATURE_RULES.map((r) => r.name);
const RULE_BY_NAME: ReadonlyMap<string, FeatureRule> = new Map(FEATURE_RULES.map((r) => [r.name, r]));

/** The fields that bits follow from. */
export interface FeatureFields {
  readonly packed: boolean;
  readonly mtu: number | null;
  readonly speed: number | null;
  readonly duplex: string | null;
  readonly transport: Transport;
  readonly queuePairs: number;
  readonly backend: Backend;
  readonly vmm: VmmKind;
  /** The guest has an IOMMU. */
  readonly iommu?: boolean;
}
/** False where the VMM's device never offers the bit. */
export function offeredBy({ vmm, backend, queuePairs }: FeatureFields, name: string): boolean {
  return vmm === 'qemu' || STRATOVIRT_FEATURES[backend](queuePairs).has(name);
}
/** The default of a bit before its needs are looked at. */
export function defaultOf(rule: FeatureRule, nic: FeatureFields): boolean {
  if (!offeredBy(nic, rule.name)) return false;
  switch (rule.byDefault) {
    case 'packed':
      return nic.packed;
    case 'mtu':
      return nic.mtu !== null;
    case 'speed':
      return nic.speed !== null || nic.duplex !== null;
    case 'transport':
      return nic.transport !== 'pci-legacy';
    case 'iommu':
      return nic.iommu === true;
    case 'queuePairs':
      return nic.queuePairs > 1;
    case 'legacy':
      return nic.transport === 'pci-legacy' || nic.transport === 'pci-transitional';
    default:
      return rule.byDefault;
  }
}
/** True where a bit follows from another field: a complete document leaves it out then. */
export const isDerived = (rule: FeatureRule): boolean => typeof rule.byDefault === 'string';

/**
 * All bits as they are with what the document says about some. A bit that the document does not name is off where it lacks
 * what it needs; one that it turns on is on in any case, and `lacking` finds what it lacks.
 */
export function resolveFeatures(
  said: Readonly<Record<string, boolean | null | undefined>>,
  nic: FeatureFields,
): Record<string, boolean> {
  const out: Record<string, boolean> = {};
  const on = (name: string): boolean => {
    const known = out[name];
    if (known !== undefined) return known;
    const rule = RULE_BY_NAME.get(name)!;
    const value = said[name] ?? (defaultOf(rule, nic) && rule.needs.every((group) => group.some(on)));
    out[name] = value;
    return value;
  };
  // in the order of the table, whatever the order in which bits were needed
  return Object.fromEntries(FEATURES.map((name) => [name, on(name)]));
}
/** The first group of bits that `rule` needs and none of which is on, or null. */
export function lacking(rule: FeatureRule, features: Readonly<Record<string, boolean>>): readonly string[] | null {
  return rule.needs.find((group) => !group.some((name) => features[name] === true)) ?? null;
}

/** The bits as a complete document writes them: those that follow from other fields only where they do not follow. */
export function writtenFeatures(
  nic: GuestNic & { readonly vmm: VmmKind; readonly iommu: boolean },
): Record<string, boolean> {
  const derived = resolveFeatures({}, nic);
  const entries = FEATURE_RULES.filter((r) => !isDerived(r) || nic.features[r.name] !== derived[r.name]);
  return Object.fromEntries(entries.map((r) => [r.name, nic.features[r.name] === true]));
}
