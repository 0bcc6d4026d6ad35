/** A small set of features that drivers and devices of tests agree on where nothing else is said. */
import {
  type Features,
  featuresOf,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../../../src/machine/virtio/features.ts';

/** Without offloads, control queue and ring reset: 0x130018020. */
export const BASIC_NET_FEATURES: Features = featuresOf(
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_F_VERSION_1,
);
