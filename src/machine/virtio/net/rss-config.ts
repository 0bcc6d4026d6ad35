/**
 * The two long commands of the control queue: struct virtio_net_rss_config and struct virtio_net_hash_config (virtio 1.2
 * §5.1.6.5.7.1 and §5.1.6.5.6.4). Checked as a whole before anything is changed.
 */
import { virtio_net_hash_config, virtio_net_rss_config } from '../../wire/virtio-net-ctrl.ts';
import { SUPPORTED_HASH_TYPES, VIRTIO_NET_RSS_MAX_KEY_SIZE, VIRTIO_NET_RSS_MAX_TABLE_LEN } from './net-config.ts';

export interface HashConfig {
  readonly hashTypes: number;
  /** Empty with no types: switch it off. */
  readonly key: Uint8Array;
}
export interface RssConfig extends HashConfig {
  readonly table: Uint16Array;
  readonly unclassifiedQueue: number;
  readonly queuePairs: number;
}

/** The key that begins with its length at `at` and ends at `end`; null where it does not, or does not fit the types. */
function parseKey(v: DataView, at: number, end: number, hashTypes: number): Uint8Array | null {
  if (at >= end || (hashTypes & ~SUPPORTED_HASH_TYPES) !== 0) return null;
  const bytes = v.getUint8(at);
  if (bytes > VIRTIO_NET_RSS_MAX_KEY_SIZE || at + 1 + bytes !== end) return null;
  if (bytes === 0 && hashTypes !== 0) return null;
  return Uint8Array.from({ length: bytes }, (_, i) => v.getUint8(at + 1 + i));
}
/** `length` bytes of RSS_CONFIG data; null where a driver must not send them. */
export function parseRssConfig(v: DataView, length: number, maxPairs: number): RssConfig | null {
  const c = virtio_net_rss_config;
  if (length < c.SIZE) return null;
  const hashTypes = c.hash_types.get(v, 0);
  const mask = c.indirection_table_mask.get(v, 0);
  const entries = mask + 1;
  if ((entries & mask) !== 0 || entries > VIRTIO_NET_RSS_MAX_TABLE_LEN) return null;
  const end = c.SIZE + 2 * entries;
  if (length < end + 2) return null;
  const queuePairs = v.getUint16(end, true);
  const unclassifiedQueue = c.unclassified_queue.get(v, 0);
  if (queuePairs < 1 || queuePairs > maxPairs || unclassifiedQueue >= queuePairs) return null;
  const table = Uint16Array.from({ length: entries }, (_, i) => v.getUint16(c.SIZE + 2 * i, true));
  if (table.some((queue) => queue >= queuePairs)) return null;
  const key = parseKey(v, end + 2, length, hashTypes);
  return key === null ? null : { hashTypes, table, unclassifiedQueue, queuePairs, key };
}
/** `length` bytes of HASH_CONFIG data; null where a driver must not send them. The reserved words are not looked at. */
export function parseHashConfig(v: DataView, length: number): HashConfig | null {
  const c = virtio_net_hash_config;
  if (length < c.SIZE) return null;
  const hashTypes = c.hash_types.get(v, 0);
  const key = parseKey(v, c.hash_key_length.offset, length, hashTypes);
  return key === null ? null : { hashTypes, key };
}
