/**
 * Commands of the control virtqueue: virtio 1.4 §5.1.9.5, linux include/uapi/linux/virtio_net.h. A command is class and
 * command (one byte each) and its data, read by the device; then one byte of acknowledgement and, for some commands, a
 * result, written by it.
 */
import { bytes, le16, le32, struct, u8 } from './struct.ts';

export const virtio_net_ctrl_hdr = struct({ class: u8, cmd: u8 });
export const VIRTIO_NET_OK = 0;
export const VIRTIO_NET_ERR = 1;

/** One byte of data: 0 is off. */
export const VIRTIO_NET_CTRL_RX = 0;
export const VIRTIO_NET_CTRL_RX_PROMISC = 0;
export const VIRTIO_NET_CTRL_RX_ALLMULTI = 1;
export const VIRTIO_NET_CTRL_RX_ALLUNI = 2;
export const VIRTIO_NET_CTRL_RX_NOMULTI = 3;
export const VIRTIO_NET_CTRL_RX_NOUNI = 4;
export const VIRTIO_NET_CTRL_RX_NOBCAST = 5;

/** TABLE_SET: le32 count and so many addresses of six bytes, for unicast and then for multicast. */
export const VIRTIO_NET_CTRL_MAC = 1;
export const VIRTIO_NET_CTRL_MAC_TABLE_SET = 0;
export const VIRTIO_NET_CTRL_MAC_ADDR_SET = 1;

/** le16 VLAN id. */
export const VIRTIO_NET_CTRL_VLAN = 2;
export const VIRTIO_NET_CTRL_VLAN_ADD = 0;
export const VIRTIO_NET_CTRL_VLAN_DEL = 1;

export const VIRTIO_NET_CTRL_ANNOUNCE = 3;
export const VIRTIO_NET_CTRL_ANNOUNCE_ACK = 0;

export const VIRTIO_NET_CTRL_MQ = 4;
/** le16 number of pairs. */
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0;
export const VIRTIO_NET_CTRL_MQ_RSS_CONFIG = 1;
export const VIRTIO_NET_CTRL_MQ_HASH_CONFIG = 2;
/** struct virtio_net_rss_config up to the table; le16 entries, le16 max_tx_vq, u8 hash_key_length and the key follow. */
export const virtio_net_rss_config = struct({
  hash_types: le32,
  indirection_table_mask: le16,
  unclassified_queue: le16,
});
/** struct virtio_net_hash_config up to the key: the fields of the other stand still as four reserved words. */
export const virtio_net_hash_config = struct({ hash_types: le32, reserved: bytes(8), hash_key_length: u8 });

/** le64 feature bits. */
export const VIRTIO_NET_CTRL_GUEST_OFFLOADS = 5;
export const VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET = 0;

export const VIRTIO_NET_CTRL_NOTF_COAL = 6;
export const VIRTIO_NET_CTRL_NOTF_COAL_TX_SET = 0;
export const VIRTIO_NET_CTRL_NOTF_COAL_RX_SET = 1;
export const VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET = 2;
/** Data: the first four bytes of virtio_net_ctrl_coal_vq; result: virtio_net_ctrl_coal. */
export const VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET = 3;
export const virtio_net_ctrl_coal = struct({ max_packets: le32, max_usecs: le32 });
export const virtio_net_ctrl_coal_vq = struct({ vq_index: le16, reserved: le16, max_packets: le32, max_usecs: le32 });

/** le32 enabled_tunnel_types. */
export const VIRTIO_NET_CTRL_HASH_TUNNEL = 7;
export const VIRTIO_NET_CTRL_HASH_TUNNEL_SET = 0;

export const VIRTIO_NET_CTRL_STATS = 8;
/** Result: le64 supported_stats_types. */
export const VIRTIO_NET_CTRL_STATS_QUERY = 0;
/** Data: any number of virtio_net_ctrl_queue_stats; result: replies, each with its header. */
export const VIRTIO_NET_CTRL_STATS_GET = 1;
/** le64 types_bitmap as two words; bit 32 is VIRTIO_NET_STATS_TYPE_CVQ. */
export const virtio_net_ctrl_queue_stats = struct({
  vq_index: le16,
  reserved: bytes(6),
  types_low: le32,
  types_high: le32,
});
export const virtio_net_stats_reply_hdr = struct({
  type: u8,
  reserved: u8,
  vq_index: le16,
  reserved1: le16,
  size: le16,
});
/** Bit numbers in types_bitmap and values of `type` alike. */
export const VIRTIO_NET_STATS_TYPE_RX_BASIC = 0;
export const VIRTIO_NET_STATS_TYPE_RX_CSUM = 1;
export const VIRTIO_NET_STATS_TYPE_RX_GSO = 2;
export const VIRTIO_NET_STATS_TYPE_RX_SPEED = 3;
export const VIRTIO_NET_STATS_TYPE_TX_BASIC = 16;
export const VIRTIO_NET_STATS_TYPE_TX_CSUM = 17;
export const VIRTIO_NET_STATS_TYPE_TX_GSO = 18;
export const VIRTIO_NET_STATS_TYPE_TX_SPEED = 19;
export const VIRTIO_NET_STATS_TYPE_CVQ = 32;

const CLASSES: Readonly<Record<number, readonly [string, ...string[]]>> = {
  0: ['RX', 'PROMISC', 'ALLMULTI', 'ALLUNI', 'NOMULTI', 'NOUNI', 'NOBCAST'],
  1: ['MAC', 'TABLE_SET', 'ADDR_SET'],
  2: ['VLAN', 'ADD', 'DEL'],
  3: ['ANNOUNCE', 'ACK'],
  4: ['MQ', 'VQ_PAIRS_SET', 'RSS_CONFIG', 'HASH_CONFIG'],
  5: ['GUEST_OFFLOADS', 'SET'],
  6: ['NOTF_COAL', 'TX_SET', 'RX_SET', 'VQ_SET', 'VQ_GET'],
  7: ['HASH_TUNNEL', 'SET'],
  8: ['STATS', 'QUERY', 'GET'],
};
/** `MAC TABLE_SET`; numbers where there is no name. */
export function controlCommandName(class_: number, cmd: number): string {
  const names = CLASSES[class_];
  return `${names?.[0] ?? class_} ${names?.[cmd + 1] ?? cmd}`;
}
