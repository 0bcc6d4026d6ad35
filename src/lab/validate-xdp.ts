/**
 * What linux virtnet_xdp_set() asks of a NIC before an XDP program can come to it, and the default that lets one come where the
 * device has no way to switch receive offloads off.
 */
import type { DraftGuestNic } from './document-draft.ts';
import type { Faults } from './document-faults.ts';
import { type FeatureFields, resolveFeatures } from './document-features.ts';

type Said = Readonly<Record<string, boolean | null | undefined>>;

const CTRL_GUEST_OFFLOADS = 'VIRTIO_NET_F_CTRL_GUEST_OFFLOADS';
const GUEST_CSUM = 'VIRTIO_NET_F_GUEST_CSUM';
/** Frames of more than a page may come. */
const GUEST_GSO: readonly string[] = ['TSO4', 'TSO6', 'ECN', 'UFO', 'USO4', 'USO6'].map(
  (name) => `VIRTIO_NET_F_GUEST_${name}`,
);
const RECEIVE_OFFLOADS: readonly string[] = [GUEST_CSUM, ...GUEST_GSO];
/** What the program's buffers hold: see guest-xdp.ts. */
const MOST_MTU = 1500;

/** What the document says of a NIC with a program: offloads that nobody could switch off are not there unless it names one. */
export function xdpFeatures(said: Said, fields: FeatureFields): Said {
  if (RECEIVE_OFFLOADS.some((name) => typeof said[name] === 'boolean' && (said[name] || name === GUEST_CSUM)))
    return said;
  return resolveFeatures(said, fields)[CTRL_GUEST_OFFLOADS] === true ? said : { ...said, [GUEST_CSUM]: false };
}

/** A NIC of a guest with the app "xdp-tx"; its features are resolved. */
export function checkXdpNic({ driver, features, mtu }: DraftGuestNic, at: string, faults: Faults): void {
  if (driver !== undefined && driver !== 'virtio-net')
    faults.add(`${at}/driver`, 'wrong-driver', 'xdp-tx is a program of the kernel’s driver', '"virtio-net"');
  if (features === undefined || Object.values(features).some((value) => typeof value !== 'boolean')) return;
  const on = (name: string): boolean => features[name] === true;
  const offload = RECEIVE_OFFLOADS.find(on);
  if (offload !== undefined && !on(CTRL_GUEST_OFFLOADS))
    faults.add(
      `${at}/features/${offload}`,
      'wrong-feature',
      `an XDP program needs ${offload} off, and without ${CTRL_GUEST_OFFLOADS} the driver cannot switch it off`,
      `false, or "${CTRL_GUEST_OFFLOADS}": true`,
    );
  if (!on('VIRTIO_NET_F_MRG_RXBUF') && GUEST_GSO.some(on))
    faults.add(
      `${at}/features/VIRTIO_NET_F_MRG_RXBUF`,
      'wrong-feature',
      'without mergeable buffers a NIC that takes large segments receives into several pages, where Linux runs no XDP program',
      `true, or "${GUEST_CSUM}": false`,
    );
  if (on('VIRTIO_NET_F_MRG_RXBUF') && !on('VIRTIO_F_VERSION_1') && !on('VIRTIO_F_ANY_LAYOUT'))
    faults.add(
      `${at}/features/VIRTIO_F_ANY_LAYOUT`,
      'wrong-feature',
      'an XDP program needs header and frame in one page, which a legacy device takes with VIRTIO_F_ANY_LAYOUT only',
      'true, or "VIRTIO_NET_F_MRG_RXBUF": false',
    );
  if ((mtu ?? 0) > MOST_MTU)
    faults.add(
      `${at}/mtu`,
      'out-of-range',
      `an XDP program takes frames of one buffer, and an MTU of ${mtu} is longer`,
      `at most ${MOST_MTU}`,
    );
}
