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
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_DEVICE_STATS,
  VIRTIO_NET_F_GSO,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
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
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSC_EXT,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
  withoutOrphans,
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

/**
 * Recorded: dpdk-testpmd 22.11.11, net_vhost0, answer to GET_FEATURES. Packed rings and in-order use are among it, RING_RESET
 * and NOTIFICATION_DATA are not; HOST_TSO4 and HOST_TSO6 are left out by testpmd unless its port has `tso=1`.
 */
export const DPDK_22_11_TESTPMD_OFFER: Features = featuresFromHex('0xd7c66e7cb');
/**
 * The vhost library itself (dpdk 22.11 lib/vhost/vhost.h, VIRTIO_NET_SUPPORTED_FEATURES, without IOMMU support, which an
 * application has to ask for): testpmd's with segmentation.
 */
export const DPDK_22_11_VHOST_LIBRARY: Features = orFeatures(
  DPDK_22_11_TESTPMD_OFFER,
  featuresOf(VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6),
);
/**
 * Open vSwitch 3.1 on DPDK 22.11, client port, where userspace TSO is off: VIRTIO_NET_F_CSUM is disabled, and what needs it
 * stays in the answer to GET_FEATURES (ovs lib/netdev-dpdk.c, netdev_dpdk_vhost_client_reconfigure()). Derived, not recorded.
 */
export const OVS_DPDK_OFFER: Features = minusFeatures(DPDK_22_11_VHOST_LIBRARY, featuresOf(VIRTIO_NET_F_CSUM));
/** The same with `other_config:userspace-tso-enable=true`: ECN and UFO are disabled. Derived, not recorded. */
export const OVS_DPDK_TSO_OFFER: Features = minusFeatures(
  DPDK_22_11_VHOST_LIBRARY,
  featuresOf(VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_UFO),
);
export const ovsOffer = (userspaceTso: boolean): Features => (userspaceTso ? OVS_DPDK_TSO_OFFER : OVS_DPDK_OFFER);
/** Recorded: MQ, LOG_SHMFD, RARP, REPLY_ACK, MTU, BACKEND_REQ, CRYPTO_SESSION, BACKEND_SEND_FD, HOST_NOTIFIER, STATUS. */
export const DPDK_22_11_PROTOCOL_FEATURES = 0x10cbf;
/** Recorded: answer to GET_QUEUE_NUM. dpdk VHOST_MAX_QUEUE_PAIRS. */
export const DPDK_MAX_QUEUE_PAIRS = 128;

/**
 * Bits that QEMU 7.2 does not know at all; who offers them with a vhost back-end needs it to have them, as later QEMUs say
 * (qemu 9 and 10, the same two lists). Segmentation of UDP is the tap's affair where the back-end is the kernel's.
 */
const LATER: readonly number[] = [VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_NET_F_RSC_EXT];
/**
 * Bits that no QEMU knows and that say what the data path does: neither vhost-net nor DPDK's library holds notifications back
 * or counts for the driver.
 */
const DATA_PATH: readonly number[] = [VIRTIO_NET_F_NOTF_COAL, VIRTIO_NET_F_VQ_NOTF_COAL, VIRTIO_NET_F_DEVICE_STATS];

/**
 * qemu 7.2 hw/net/vhost_net.c, kernel_feature_bits. The checksum and segmentation bits are not among them: the tap decides
 * about those. RING_RESET is, and Linux 6.1's vhost-net does not have it.
 */
export const QEMU_KERNEL_FEATURE_BITS: Features = featuresOf(
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_MTU,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  ...LATER,
  ...DATA_PATH,
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
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  ...LATER,
  ...DATA_PATH,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
);

/**
 * What the device may offer the guest: bits that the back-end decides about only where it has them (vhost_get_features()).
 * DEVIATION: QEMU leaves a bit that needs one of those; here it goes too, because a device must not offer a bit without what
 * the bit needs (virtio 1.4 §2.2.2). Linux makes no use of such a bit: HOST_TSO4 without CSUM with OVS.
 */
export function offeredWithBackend(device: Features, backend: Features, decides: Features): Features {
  const left = minusFeatures(device, minusFeatures(decides, backend));
  const ownOrphans = minusFeatures(device, withoutOrphans(device));
  return orFeatures(withoutOrphans(left), andFeatures(left, ownOrphans));
}
/** What QEMU sends in SET_FEATURES: the accepted bits that the back-end decides about (vhost_ack_features()). */
export function ackedFeatures(negotiated: Features, decides: Features, always: Features = NO_FEATURES): Features {
  return orFeatures(andFeatures(negotiated, decides), always);
}
export const VHOST_USER_ALWAYS: Features = featuresOf(VHOST_USER_F_PROTOCOL_FEATURES);
