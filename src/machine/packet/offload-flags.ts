/**
 * What an interface takes as it is, one bit each: TUN_F_CSUM and the other flags of TUNSETOFFLOAD (linux
 * include/uapi/linux/if_tun.h, USO from 6.2), and the NETIF_F_… of a NIC in the same bits.
 */
import {
  type Features,
  hasFeature,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_HOST_USO,
} from '../virtio/features.ts';

/** Packets with CHECKSUM_PARTIAL: the checksum is completed behind the interface. */
export const OFFLOAD_CSUM = 0x01;
export const OFFLOAD_TSO4 = 0x02;
export const OFFLOAD_TSO6 = 0x04;
/** TSO packets whose CWR bit belongs to the first segment only. */
export const OFFLOAD_ECN = 0x08;
export const OFFLOAD_UFO = 0x10;
export const OFFLOAD_USO4 = 0x20;
export const OFFLOAD_USO6 = 0x40;
export const OFFLOAD_ALL = 0x7f;

/** What a guest takes as it is by the features that it acknowledged: virtio-net's GUEST_… bits (qemu peer_… set_offload()). */
export function guestOffloads(features: Features): number {
  return chosen(features, GUEST);
}
/** What a guest may leave to the device by the features that it acknowledged: VIRTIO_NET_F_CSUM and the HOST_… bits. */
export function hostOffloads(features: Features): number {
  return chosen(features, HOST);
}

const GUEST: readonly (readonly [number, number])[] = [
  [VIRTIO_NET_F_GUEST_CSUM, OFFLOAD_CSUM],
  [VIRTIO_NET_F_GUEST_TSO4, OFFLOAD_TSO4],
  [VIRTIO_NET_F_GUEST_TSO6, OFFLOAD_TSO6],
  [VIRTIO_NET_F_GUEST_ECN, OFFLOAD_ECN],
  [VIRTIO_NET_F_GUEST_UFO, OFFLOAD_UFO],
  [VIRTIO_NET_F_GUEST_USO4, OFFLOAD_USO4],
  [VIRTIO_NET_F_GUEST_USO6, OFFLOAD_USO6],
];
const HOST: readonly (readonly [number, number])[] = [
  [VIRTIO_NET_F_CSUM, OFFLOAD_CSUM],
  [VIRTIO_NET_F_HOST_TSO4, OFFLOAD_TSO4],
  [VIRTIO_NET_F_HOST_TSO6, OFFLOAD_TSO6],
  [VIRTIO_NET_F_HOST_ECN, OFFLOAD_ECN],
  [VIRTIO_NET_F_HOST_UFO, OFFLOAD_UFO],
  [VIRTIO_NET_F_HOST_USO, OFFLOAD_USO4 | OFFLOAD_USO6],
];
function chosen(features: Features, table: readonly (readonly [number, number])[]): number {
  return table.reduce((flags, [bit, flag]) => (hasFeature(features, bit) ? flags | flag : flags), 0);
}
