/**
 * The feature bits that StratoVirt's three network devices offer by themselves, before a vhost back-end takes away what it
 * lacks. stratovirt 2.5.0 virtio/src/device/net.rs, vhost/kernel/net.rs and vhost/user/net.rs, init_config_features().
 */
import type { Backend } from './topology.ts';

const OFFLOADS: readonly string[] = [
  'VIRTIO_NET_F_GUEST_CSUM',
  'VIRTIO_NET_F_GUEST_TSO4',
  'VIRTIO_NET_F_GUEST_UFO',
  'VIRTIO_NET_F_HOST_TSO4',
  'VIRTIO_NET_F_HOST_UFO',
];
const ALWAYS: readonly string[] = ['VIRTIO_F_VERSION_1', 'VIRTIO_NET_F_MAC', 'VIRTIO_RING_F_EVENT_IDX', ...OFFLOADS];
/** Of the vhost devices only the one with several queue pairs has a control queue (`mq=on`). */
const several = (queuePairs: number): readonly string[] =>
  queuePairs > 1 ? ['VIRTIO_NET_F_CTRL_VQ', 'VIRTIO_NET_F_MQ'] : [];

export const STRATOVIRT_FEATURES: Readonly<Record<Backend, (queuePairs: number) => ReadonlySet<string>>> = {
  'virtio-net': (queuePairs) =>
    new Set([
      ...ALWAYS,
      'VIRTIO_NET_F_CSUM',
      'VIRTIO_NET_F_GUEST_TSO6',
      'VIRTIO_NET_F_HOST_TSO6',
      'VIRTIO_NET_F_CTRL_VQ',
      'VIRTIO_NET_F_CTRL_RX',
      'VIRTIO_NET_F_CTRL_VLAN',
      'VIRTIO_NET_F_CTRL_RX_EXTRA',
      'VIRTIO_NET_F_CTRL_MAC_ADDR',
      'VIRTIO_NET_F_STATUS',
      'VIRTIO_RING_F_INDIRECT_DESC',
      ...several(queuePairs),
    ]),
  // what vhost-net of Linux has comes on top: MRG_RXBUF, INDIRECT_DESC
  'vhost-net': (queuePairs) =>
    new Set([
      ...ALWAYS,
      'VIRTIO_NET_F_CSUM',
      'VIRTIO_NET_F_MRG_RXBUF',
      'VIRTIO_RING_F_INDIRECT_DESC',
      ...several(queuePairs),
    ]),
  'vhost-user': (queuePairs) => new Set([...ALWAYS, 'VIRTIO_NET_F_MRG_RXBUF', ...several(queuePairs)]),
};
