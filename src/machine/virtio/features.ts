/**
 * Feature bits of virtio-net, of the rings and of the transport; sets of them as two 32-bit words, because a 64-bit mask
 * does not fit in a number. Device, driver, QEMU's vhost front-end and the back-ends all speak of features through this.
 *
 * Virtio 1.4 defines bits up to 70. Those from 64 on (FEATURES_BEYOND_63) have names here and nothing else: the device never
 * offers them, so two words are enough, and a driver that selects word 2 or 3 reads 0 (virtio 1.4 §4.1.4.3).
 */

/** Bits 0-31 and 32-63, unsigned. */
export interface Features {
  readonly lo: number;
  readonly hi: number;
}
export const NO_FEATURES: Features = { lo: 0, hi: 0 };

// virtio 1.2 §5.1.3, network device.
export const VIRTIO_NET_F_CSUM = 0;
export const VIRTIO_NET_F_GUEST_CSUM = 1;
export const VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2;
export const VIRTIO_NET_F_MTU = 3;
export const VIRTIO_NET_F_MAC = 5;
/** Legacy, §5.1.3.2. */
export const VIRTIO_NET_F_GSO = 6;
export const VIRTIO_NET_F_GUEST_TSO4 = 7;
export const VIRTIO_NET_F_GUEST_TSO6 = 8;
export const VIRTIO_NET_F_GUEST_ECN = 9;
export const VIRTIO_NET_F_GUEST_UFO = 10;
export const VIRTIO_NET_F_HOST_TSO4 = 11;
export const VIRTIO_NET_F_HOST_TSO6 = 12;
export const VIRTIO_NET_F_HOST_ECN = 13;
export const VIRTIO_NET_F_HOST_UFO = 14;
export const VIRTIO_NET_F_MRG_RXBUF = 15;
export const VIRTIO_NET_F_STATUS = 16;
export const VIRTIO_NET_F_CTRL_VQ = 17;
export const VIRTIO_NET_F_CTRL_RX = 18;
export const VIRTIO_NET_F_CTRL_VLAN = 19;
/** Not in the specification's list before 1.3; linux include/uapi/linux/virtio_net.h. */
export const VIRTIO_NET_F_CTRL_RX_EXTRA = 20;
export const VIRTIO_NET_F_GUEST_ANNOUNCE = 21;
export const VIRTIO_NET_F_MQ = 22;
export const VIRTIO_NET_F_CTRL_MAC_ADDR = 23;
/** Legacy, §6.3. */
export const VIRTIO_F_NOTIFY_ON_EMPTY = 24;
/** linux include/uapi/linux/vhost_types.h: log writes for migration. */
export const VHOST_F_LOG_ALL = 26;
/** Legacy, §6.3; vhost-net calls the same bit VHOST_NET_F_VIRTIO_NET_HDR. */
export const VIRTIO_F_ANY_LAYOUT = 27;
export const VHOST_NET_F_VIRTIO_NET_HDR = 27;
// §6, rings and transport. The linux name of bit 28 and 29 has RING in it, and is the one that documents use.
export const VIRTIO_RING_F_INDIRECT_DESC = 28;
export const VIRTIO_RING_F_EVENT_IDX = 29;
/** vhost-user only: protocol features can be negotiated. */
export const VHOST_USER_F_PROTOCOL_FEATURES = 30;
/** Legacy interface of QEMU: the same bit, set so that a driver which accepts it shows that it is broken. */
export const VIRTIO_F_BAD_FEATURE = 30;
export const VIRTIO_F_VERSION_1 = 32;
export const VIRTIO_F_ACCESS_PLATFORM = 33;
export const VIRTIO_F_RING_PACKED = 34;
export const VIRTIO_F_IN_ORDER = 35;
export const VIRTIO_F_ORDER_PLATFORM = 36;
export const VIRTIO_F_SR_IOV = 37;
export const VIRTIO_F_NOTIFICATION_DATA = 38;
export const VIRTIO_F_NOTIF_CONFIG_DATA = 39;
export const VIRTIO_F_RING_RESET = 40;
export const VIRTIO_F_ADMIN_VQ = 41;
/** The bit of VIRTIO_F_ADMIN_VQ, which came later: receive coalescing by devices for Windows guests (virtio 1.4 §5.1.3). */
export const VIRTIO_NET_F_GUEST_RSC4 = 41;
export const VIRTIO_NET_F_GUEST_RSC6 = 42;
export const VIRTIO_F_SUSPEND = 43;
export const VIRTIO_NET_F_DEVICE_STATS = 50;
export const VIRTIO_NET_F_HASH_TUNNEL = 51;
export const VIRTIO_NET_F_VQ_NOTF_COAL = 52;
export const VIRTIO_NET_F_NOTF_COAL = 53;
export const VIRTIO_NET_F_GUEST_USO4 = 54;
export const VIRTIO_NET_F_GUEST_USO6 = 55;
export const VIRTIO_NET_F_HOST_USO = 56;
export const VIRTIO_NET_F_HASH_REPORT = 57;
export const VIRTIO_NET_F_GUEST_HDRLEN = 59;
export const VIRTIO_NET_F_RSS = 60;
export const VIRTIO_NET_F_RSC_EXT = 61;
export const VIRTIO_NET_F_STANDBY = 62;
export const VIRTIO_NET_F_SPEED_DUPLEX = 63;

/** Every name above to its bit; bits 27, 30 and 41 by one name each. */
export const FEATURE_BITS: Readonly<Record<string, number>> = {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_MTU,
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
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VHOST_F_LOG_ALL,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_F_VERSION_1,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_SR_IOV,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_NOTIF_CONFIG_DATA,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_ADMIN_VQ,
  VIRTIO_NET_F_GUEST_RSC6,
  VIRTIO_F_SUSPEND,
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
};
/** Bits that do not fit in two words, virtio 1.4 §5.1.3: known by name, never offered. */
export const FEATURES_BEYOND_63: Readonly<Record<string, number>> = {
  VIRTIO_NET_F_RSS_CONTEXT: 64,
  VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO: 65,
  VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM: 66,
  VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO: 67,
  VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM: 68,
  VIRTIO_NET_F_OUT_NET_HEADER: 69,
  VIRTIO_NET_F_IPSEC: 70,
};
/** Other names that documents may use: virtio 1.2 §6 has no RING in two of them, and two bits have two meanings. */
const ALIASES: Readonly<Record<string, number>> = {
  VIRTIO_F_INDIRECT_DESC: VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_F_EVENT_IDX: VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_NET_F_GUEST_RSC4,
};
const NAME_BY_BIT: readonly (string | undefined)[] = Array.from(
  { length: 64 },
  (_, bit) => Object.entries(FEATURE_BITS).find(([, b]) => b === bit)?.[0],
);

export const featureWord = (f: Features, select: number): number => (select === 0 ? f.lo : select === 1 ? f.hi : 0);
export function hasFeature(f: Features, bit: number): boolean {
  return ((bit < 32 ? f.lo >>> bit : f.hi >>> (bit - 32)) & 1) === 1;
}
export function featuresOf(...bits: readonly number[]): Features {
  let lo = 0;
  let hi = 0;
  for (const bit of bits) {
    if (bit < 32) lo |= 1 << bit;
    else hi |= 1 << (bit - 32);
  }
  return { lo: lo >>> 0, hi: hi >>> 0 };
}
export const andFeatures = (a: Features, b: Features): Features => ({
  lo: (a.lo & b.lo) >>> 0,
  hi: (a.hi & b.hi) >>> 0,
});
export const orFeatures = (a: Features, b: Features): Features => ({
  lo: (a.lo | b.lo) >>> 0,
  hi: (a.hi | b.hi) >>> 0,
});
/** `a` without `b`. */
export const minusFeatures = (a: Features, b: Features): Features => ({
  lo: (a.lo & ~b.lo) >>> 0,
  hi: (a.hi & ~b.hi) >>> 0,
});
export const sameFeatures = (a: Features, b: Features): boolean => a.lo === b.lo && a.hi === b.hi;
export const isSubset = (a: Features, of: Features): boolean => (a.lo & ~of.lo) === 0 && (a.hi & ~of.hi) === 0;

/** Bit of a name as documents write it, or -1: also for the names of FEATURES_BEYOND_63, which nothing can offer. */
export function featureBit(name: string): number {
  if (Object.hasOwn(ALIASES, name)) return ALIASES[name]!;
  return Object.hasOwn(FEATURE_BITS, name) ? FEATURE_BITS[name]! : -1;
}
/** Name of a bit, `bit N` where it has none. */
export const featureName = (bit: number): string => NAME_BY_BIT[bit] ?? `bit ${bit}`;
/** Names of the bits that are set, lowest first; a bit without a name is `bit N`. */
export function featureNames(f: Features): string[] {
  const out: string[] = [];
  for (let bit = 0; bit < 64; bit++) if (hasFeature(f, bit)) out.push(featureName(bit));
  return out;
}
/** All 64 bits as `0x…`; text only. */
export function featuresHex(f: Features): string {
  return '0x' + ((BigInt(f.hi) << 32n) | BigInt(f.lo)).toString(16);
}
export function featuresFromHex(text: string): Features {
  const v = BigInt(text);
  return { lo: Number(v & 0xffff_ffffn), hi: Number((v >> 32n) & 0xffff_ffffn) };
}

type Dependency = readonly [bit: number, ...needs: readonly (readonly number[])[]];
const CTRL_VQ: readonly number[] = [VIRTIO_NET_F_CTRL_VQ];
const CSUM: readonly number[] = [VIRTIO_NET_F_CSUM];
const GUEST_CSUM: readonly number[] = [VIRTIO_NET_F_GUEST_CSUM];
const HOST_TSO: readonly number[] = [VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6];
/** virtio 1.4 §5.1.3.1: each bit needs one of every group. */
const DEPENDENCIES: readonly Dependency[] = [
  [VIRTIO_NET_F_GUEST_TSO4, GUEST_CSUM],
  [VIRTIO_NET_F_GUEST_TSO6, GUEST_CSUM],
  [VIRTIO_NET_F_GUEST_ECN, [VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6]],
  [VIRTIO_NET_F_GUEST_UFO, GUEST_CSUM],
  [VIRTIO_NET_F_GUEST_USO4, GUEST_CSUM],
  [VIRTIO_NET_F_GUEST_USO6, GUEST_CSUM],
  [VIRTIO_NET_F_HOST_TSO4, CSUM],
  [VIRTIO_NET_F_HOST_TSO6, CSUM],
  [VIRTIO_NET_F_HOST_ECN, HOST_TSO],
  [VIRTIO_NET_F_HOST_UFO, CSUM],
  [VIRTIO_NET_F_HOST_USO, CSUM],
  [VIRTIO_NET_F_CTRL_RX, CTRL_VQ],
  [VIRTIO_NET_F_CTRL_VLAN, CTRL_VQ],
  [VIRTIO_NET_F_GUEST_ANNOUNCE, CTRL_VQ],
  [VIRTIO_NET_F_MQ, CTRL_VQ],
  [VIRTIO_NET_F_CTRL_MAC_ADDR, CTRL_VQ],
  [VIRTIO_NET_F_NOTF_COAL, CTRL_VQ],
  [VIRTIO_NET_F_VQ_NOTF_COAL, CTRL_VQ],
  [VIRTIO_NET_F_RSC_EXT, HOST_TSO],
  [VIRTIO_NET_F_RSS, CTRL_VQ],
  [VIRTIO_NET_F_HASH_TUNNEL, CTRL_VQ, [VIRTIO_NET_F_RSS, VIRTIO_NET_F_HASH_REPORT]],
];
/**
 * Bits that the specification does not forbid alone, but that cannot be used then: §5.1.4.1 advises against the first two,
 * the others are commands of a queue that is not there, and a legacy bit that speaks of checksums.
 */
const ADVISED: readonly Dependency[] = [
  [VIRTIO_NET_F_HASH_REPORT, CTRL_VQ],
  [VIRTIO_NET_F_CTRL_RX_EXTRA, CTRL_VQ],
  [VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, CTRL_VQ],
  [VIRTIO_NET_F_DEVICE_STATS, CTRL_VQ],
  [VIRTIO_NET_F_GSO, CSUM],
];
const satisfied = (f: Features, needs: readonly (readonly number[])[]): boolean =>
  needs.every((group) => group.some((bit) => hasFeature(f, bit)));
/** The lowest bit in the order of §5.1.3.1 of `f` that lacks what it must have, or -1. */
export function missingDependency(f: Features): number {
  for (const [bit, ...groups] of DEPENDENCIES) if (hasFeature(f, bit) && !satisfied(f, groups)) return bit;
  return -1;
}
/** The groups of bits of which `bit` needs one each: what it must have and what it is of no use without. */
export function needsOf(bit: number): readonly (readonly number[])[] {
  return [...DEPENDENCIES, ...ADVISED].filter(([b]) => b === bit).flatMap(([, ...groups]) => groups);
}
/** The bits that name `bit` among what they need, directly, lowest first. Some have an alternative (ECN: either TSO). */
export function dependentsOf(bit: number): number[] {
  const found = [...DEPENDENCIES, ...ADVISED].filter(([, ...groups]) => groups.some((group) => group.includes(bit)));
  return found.map(([b]) => b).sort((a, b) => a - b);
}
/** `f` without the bits that lack something, and without those that lacked something then, and so on. */
export function withoutOrphans(f: Features): Features {
  for (let rest = f; ; ) {
    const orphans = [...DEPENDENCIES, ...ADVISED].filter(
      ([bit, ...needs]) => hasFeature(rest, bit) && !satisfied(rest, needs),
    );
    if (orphans.length === 0) return rest;
    rest = minusFeatures(rest, featuresOf(...orphans.map(([bit]) => bit)));
  }
}
