/**
 * Why a feature bit is not in use, in words: the device did not offer it, the back-end took it away, or the driver left it.
 * For people who look at a negotiation; nothing is decided here.
 */
import { type Features, featureName, hasFeature, needsOf } from '../virtio/features.ts';
import { NEED_VNET_HDR, type OfferOptions, whyNotOffered } from '../virtio/net/net-offers.ts';

/** Who moves the frames, with what it offers and what QEMU lets it decide about. QEMU's own data path decides nothing. */
export interface BackendOffer {
  readonly kind: 'qemu' | 'vhost-net' | 'vhost-user';
  readonly offer: Features;
  readonly decides: Features;
  /** The bridge's `userspaceTso`; only where Open vSwitch is the back-end. */
  readonly userspaceTso?: boolean;
}
export interface Negotiation {
  readonly nic: OfferOptions;
  readonly backend: BackendOffer;
  /** What the device showed the driver. */
  readonly offered: Features;
  /** What the driver accepted; null before it did. */
  readonly accepted: Features | null;
  /** What the driver is able to use at all, and its name with its version: `linux 6.1`, `dpdk 22.11`. */
  readonly driverFeatures: Features;
  readonly driverName: string;
}

const BACKEND_NAME = {
  qemu: 'QEMU',
  'vhost-net': 'the vhost-net kernel module',
  'vhost-user': 'the vhost-user back-end',
} as const;

/** The reason why `bit` is not in use, or an empty string where it is. */
export function whyMissing(bit: number, n: Negotiation): string {
  if (n.accepted !== null && hasFeature(n.accepted, bit)) return '';
  if (!hasFeature(n.offered, bit)) {
    const own = whyNotOffered(n.nic, bit);
    if (own !== null) return own;
    const { backend } = n;
    if (hasFeature(backend.decides, bit) && !hasFeature(backend.offer, bit)) {
      if (backend.userspaceTso === false && hasFeature(NEED_VNET_HDR, bit)) {
        return 'OVS disables it without userspace-tso-enable';
      }
      return `${BACKEND_NAME[backend.kind]} does not offer it`;
    }
    return orphaned(bit, n.offered, 'which is not offered') ?? 'not offered';
  }
  if (n.accepted === null) return 'no driver has accepted features yet';
  if (!hasFeature(n.driverFeatures, bit)) return `not accepted by the driver (${n.driverName})`;
  return orphaned(bit, n.accepted, 'which was not accepted') ?? `left out by the driver (${n.driverName})`;
}
function orphaned(bit: number, f: Features, text: string): string | null {
  const lacks = needsOf(bit).find((group) => !group.some((b) => hasFeature(f, b)));
  return lacks === undefined ? null : `needs ${lacks.map(featureName).join(' or ')}, ${text}`;
}
