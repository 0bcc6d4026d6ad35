/**
 * The header in front of every frame in a virtqueue or tap, and the device's configuration space.
 */
import { bytes, le16, le32, struct, u8 } from './struct.ts';

/** virtio 1.2 §5.1.6, struct virtio_net_hdr with num_buffers: 12 bytes, always so with VIRTIO_F_VERSION_1. */
export const virtio_net_hdr_v1 = struct({
  flags: u8,
  gso_type: u8,
  hdr_len: le16,
  gso_size: le16,
  csum_start: le16,
  csum_offset: le16,
  num_buffers: le16,
});
/** linux include/uapi/linux/virtio_net.h: the header of a tap by default, and of a legacy device without MRG_RXBUF. */
export const virtio_net_hdr = struct({
  flags: u8,
  gso_type: u8,
  hdr_len: le16,
  gso_size: le16,
  csum_start: le16,
  csum_offset: le16,
});
/** virtio 1.2 §5.1.6, with VIRTIO_NET_F_HASH_REPORT: 20 bytes. */
export const virtio_net_hdr_v1_hash = struct({
  flags: u8,
  gso_type: u8,
  hdr_len: le16,
  gso_size: le16,
  csum_start: le16,
  csum_offset: le16,
  num_buffers: le16,
  hash_value: le32,
  hash_report: le16,
  padding_reserved: le16,
});
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
export const VIRTIO_NET_HDR_F_DATA_VALID = 2;
export const VIRTIO_NET_HDR_F_RSC_INFO = 4;
export const VIRTIO_NET_HDR_GSO_NONE = 0;
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
export const VIRTIO_NET_HDR_GSO_UDP = 3;
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5;
export const VIRTIO_NET_HDR_GSO_ECN = 0x80;

/** virtio 1.2 §5.1.4, struct virtio_net_config. Which fields exist depends on the features offered. */
export const virtio_net_config = struct({
  mac: bytes(6),
  status: le16,
  max_virtqueue_pairs: le16,
  mtu: le16,
  speed: le32,
  duplex: u8,
  rss_max_key_size: u8,
  rss_max_indirection_table_length: le16,
  supported_hash_types: le32,
  supported_tunnel_types: le32,
});
/** `duplex`: as linux ethtool.h has it. Virtio 1.4 §5.1.4 says 1 is full where it describes the field, and the reverse below. */
export const DUPLEX_HALF = 0;
export const DUPLEX_FULL = 1;
export const DUPLEX_UNKNOWN = 0xff;
/** `speed` when it is not known; else Mbit/s, to 0x7fffffff. */
export const SPEED_UNKNOWN = 0xffff_ffff;
/** §5.1.4: `status` bits. */
export const VIRTIO_NET_S_LINK_UP = 1;
export const VIRTIO_NET_S_ANNOUNCE = 2;
