/**
 * What the two real back-ends offer, and which of the guest's features QEMU passes on to them.
 */
import {
  andFeatures,
  type Features,
  featuresFromHex,
  featuresOf,
  minusFeatures,
  NO_FEATURES,
  orFeatures,
  VHOST_F_LOG_ALL,
  VHOST_NET_F_VIRTIO_NET_HDR,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GSO,
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
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_RSS,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../virtio/features.ts';

/** linux 6.1 drivers/vhost/vhost.h VHOST_FEATURES and net.c VHOST_NET_FEATURES: 0x33d008000 (as read in the source). */
export const VHOST_NET_OFFER: Features = featuresOf(
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  VHOST_F_LOG_ALL,
  VHOST_NET_F_VIRTIO_NET_HDR,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_F_ACCESS_PLATFORM,
);
/** linux 6.1 VHOST_BACKEND_FEATURES: IOTLB_MSG_V2 (bit 1). */
export const VHOST_NET_BACKEND_FEATURES = 1 << 1;
/** linux drivers/vhost/vhost.c, max_mem_regions. */
export const VHOST_NET_MAX_MEM_REGIONS = 64;

/** Recorded: dpdk-testpmd 22.11.11, net_vhost0, answer to GET_FEATURES. */
export const DPDK_22_11_TESTPMD_OFFER: Features = featuresFromHex('0xd7c66e7cb');
/**
 * Open vSwitch 3.1 on DPDK 22.11: the same library without VIRTIO_NET_F_CSUM, HOST_TSO4 and HOST_TSO6 (the latter two testpmd
 * leaves out as well), which OVS disables where userspace TSO is off (ovs lib/netdev-dpdk.c,
 * netdev_dpdk_vhost_client_reconfigure()). Derived, not recorded.
 */
export const OVS_DPDK_OFFER: Features = minusFeatures(DPDK_22_11_TESTPMD_OFFER, featuresOf(VIRTIO_NET_F_CSUM));
/** Recorded: MQ, LOG_SHMFD, RARP, REPLY_ACK, MTU, BACKEND_REQ, CRYPTO_SESSION, BACKEND_SEND_FD, HOST_NOTIFIER, STATUS. */
export const DPDK_22_11_PROTOCOL_FEATURES = 0x10cbf;
/** Recorded: answer to GET_QUEUE_NUM. dpdk VHOST_MAX_QUEUE_PAIRS. */
export const DPDK_MAX_QUEUE_PAIRS = 128;

/** qemu 7.2 hw/net/vhost_net.c, kernel_feature_bits. */
export const QEMU_KERNEL_FEATURE_BITS: Features = featuresOf(
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_MTU,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_HASH_REPORT,
);
/** qemu 7.2 net/vhost-user.c, user_feature_bits. MAC and STATUS are QEMU's own affair and not among them. */
export const QEMU_USER_FEATURE_BITS: Features = featuresOf(
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
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
  VIRTIO_NET_F_MTU,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
);

/** What the device may offer the guest: bits that the back-end decides about only where it has them (vhost_get_features()). */
export function offeredWithBackend(device: Features, backend: Features, decides: Features): Features {
  return minusFeatures(device, minusFeatures(decides, backend));
}
/** What QEMU sends in SET_FEATURES: the accepted bits that the back-end decides about (vhost_ack_features()). */
export function ackedFeatures(negotiated: Features, decides: Features, always: Features = NO_FEATURES): Features {
  return orFeatures(andFeatures(negotiated, decides), always);
}
export const VHOST_USER_ALWAYS: Features = featuresOf(VHOST_USER_F_PROTOCOL_FEATURES);
