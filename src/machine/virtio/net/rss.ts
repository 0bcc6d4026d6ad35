/**
 * Receive-side scaling: the Toeplitz hash over a frame's addresses and ports, the report of it in the receive header, and the
 * queue that an indirection table gives for it. virtio 1.2 §5.1.6.4.3 and §5.1.6.5.7; qemu hw/net/virtio-net.c,
 * virtio_net_process_rss().
 *
 * Runs in QEMU's main loop for each received frame: no allocation. The hash is an exclusive-or of table entries, one per byte
 * of input (36 bytes at most), and the table is made when the driver sets the key.
 */
import { FlowKeys, IPPROTO_TCP, IPPROTO_UDP } from './flow-keys.ts';
import { VIRTIO_NET_RSS_MAX_KEY_SIZE, VIRTIO_NET_RSS_MAX_TABLE_LEN } from './net-config.ts';

export const VIRTIO_NET_RSS_HASH_TYPE_IPv4 = 1 << 0;
export const VIRTIO_NET_RSS_HASH_TYPE_TCPv4 = 1 << 1;
export const VIRTIO_NET_RSS_HASH_TYPE_UDPv4 = 1 << 2;
export const VIRTIO_NET_RSS_HASH_TYPE_IPv6 = 1 << 3;
export const VIRTIO_NET_RSS_HASH_TYPE_TCPv6 = 1 << 4;
export const VIRTIO_NET_RSS_HASH_TYPE_UDPv6 = 1 << 5;
export const VIRTIO_NET_RSS_HASH_TYPE_IP_EX = 1 << 6;
export const VIRTIO_NET_RSS_HASH_TYPE_TCP_EX = 1 << 7;
export const VIRTIO_NET_RSS_HASH_TYPE_UDP_EX = 1 << 8;

export const VIRTIO_NET_HASH_REPORT_NONE = 0;
export const VIRTIO_NET_HASH_REPORT_IPv4 = 1;
export const VIRTIO_NET_HASH_REPORT_TCPv4 = 2;
export const VIRTIO_NET_HASH_REPORT_UDPv4 = 3;
export const VIRTIO_NET_HASH_REPORT_IPv6 = 4;
export const VIRTIO_NET_HASH_REPORT_TCPv6 = 5;
export const VIRTIO_NET_HASH_REPORT_UDPv6 = 6;
export const VIRTIO_NET_HASH_REPORT_IPv6_EX = 7;
export const VIRTIO_NET_HASH_REPORT_TCPv6_EX = 8;
export const VIRTIO_NET_HASH_REPORT_UDPv6_EX = 9;

/** Two IPv6 addresses and two ports. */
const INPUT_MAX = 36;
/** Microsoft's verification suite for RSS, the key that drivers without a random one use. */
export const MICROSOFT_RSS_KEY: Uint8Array = Uint8Array.from(
  '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa'.match(/../g)!,
  (byte) => Number.parseInt(byte, 16),
);

/** The hash for one key. */
export class Toeplitz {
  /** Row per input byte, column per value: what that byte adds. */
  readonly #table = new Uint32Array(INPUT_MAX * 256);

  constructor(key: Uint8Array = MICROSOFT_RSS_KEY) {
    this.setKey(key);
  }
  /** Up to 40 bytes; a shorter key is filled with zeros. */
  setKey(key: Uint8Array): void {
    const bit = (i: number): number => ((key[i >>> 3] ?? 0) >>> (7 - (i & 7))) & 1;
    this.#table.fill(0);
    let window = 0;
    for (let i = 0; i < 32; i++) window = (window << 1) | bit(i);
    for (let byte = 0; byte < INPUT_MAX; byte++) {
      const row = byte << 8;
      for (let k = 7; k >= 0; k--) {
        // the window of this bit of the input, into every value that has the bit
        for (let v = 1 << k; v < 256; v = (v + 1) | (1 << k)) this.#table[row + v]! ^= window;
        window = (window << 1) | bit(32 + 8 * byte + 7 - k);
      }
    }
  }
  /** Continues `hash` with `n` input bytes at `at`, of which the first is byte `from` of the whole input. */
  add(hash: number, u8: Uint8Array, at: number, n: number, from: number): number {
    for (let i = 0; i < n; i++) hash ^= this.#table[((from + i) << 8) + u8[at + i]!]!;
    return hash;
  }
}

/** What the driver configured, as plain data. */
export interface RssState {
  readonly enabled: boolean;
  /** Frames go by the table; else hashes are only reported. */
  readonly redirect: boolean;
  readonly hashTypes: number;
  readonly tunnelTypes: number;
  readonly unclassifiedQueue: number;
  readonly table: readonly number[];
  readonly key: readonly number[];
}

export class Rss {
  enabled = false;
  redirect = false;
  hashTypes = 0;
  /** VIRTIO_NET_CTRL_HASH_TUNNEL_SET; 0: the outer headers are hashed. */
  tunnelTypes = 0;
  unclassifiedQueue = 0;
  /** Entries in use minus one. */
  mask = 0;
  readonly table = new Uint16Array(VIRTIO_NET_RSS_MAX_TABLE_LEN);
  readonly key = new Uint8Array(VIRTIO_NET_RSS_MAX_KEY_SIZE);
  /** Of the frame that classify() saw last: what goes into struct virtio_net_hdr_v1_hash. */
  hash_value = 0;
  hash_report = VIRTIO_NET_HASH_REPORT_NONE;
  readonly #toeplitz = new Toeplitz();
  readonly #keys = new FlowKeys();

  reset(): void {
    this.disable();
    this.tunnelTypes = 0;
  }
  disable(): void {
    this.enabled = false;
    this.redirect = false;
    this.hashTypes = 0;
    this.unclassifiedQueue = 0;
    this.mask = 0;
    this.table.fill(0);
    this.key.fill(0);
    this.hash_value = 0;
    this.hash_report = VIRTIO_NET_HASH_REPORT_NONE;
  }
  /** RSS_CONFIG (with a table) and HASH_CONFIG (`table` null). Everything was checked; `table` has a power of two of entries. */
  configure(hashTypes: number, table: Uint16Array | null, unclassifiedQueue: number, key: Uint8Array): void {
    this.enabled = true;
    this.redirect = table !== null;
    this.hashTypes = hashTypes;
    this.unclassifiedQueue = unclassifiedQueue;
    this.mask = table === null ? 0 : table.length - 1;
    this.table.fill(0);
    if (table !== null) this.table.set(table);
    this.key.fill(0);
    this.key.set(key);
    this.#toeplitz.setKey(this.key);
  }

  /**
   * Hashes the frame of `length` bytes at `at` into hash_value and hash_report. Returns the receive queue (pair) that it goes
   * to, or -1 where the table has no say in it.
   */
  selectQueue(u8: Uint8Array, at: number, length: number): number {
    if (!this.enabled) return -1;
    this.classify(u8, at, length);
    if (!this.redirect) return -1;
    if (this.hash_report === VIRTIO_NET_HASH_REPORT_NONE) return this.unclassifiedQueue;
    return this.table[this.hash_value & this.mask]!;
  }
  /** The most specific of the enabled types that the frame is of (virtio 1.2 §5.1.6.4.3.1 and .2). */
  classify(u8: Uint8Array, at: number, length: number): void {
    const k = this.#keys;
    k.dissect(u8, at, length, this.tunnelTypes);
    const report = k.version === 4 ? this.#report4() : k.version === 6 ? this.#report6() : VIRTIO_NET_HASH_REPORT_NONE;
    this.hash_report = report;
    this.hash_value = 0;
    if (report === VIRTIO_NET_HASH_REPORT_NONE) return;
    const bytes = k.version === 4 ? 4 : 16;
    const extended = report >= VIRTIO_NET_HASH_REPORT_IPv6_EX;
    const t = this.#toeplitz;
    let hash = t.add(0, u8, extended && k.homeAt >= 0 ? k.homeAt : k.sourceAt, bytes, 0);
    hash = t.add(hash, u8, extended && k.routeAt >= 0 ? k.routeAt : k.destinationAt, bytes, bytes);
    const ports =
      report !== VIRTIO_NET_HASH_REPORT_IPv4 &&
      report !== VIRTIO_NET_HASH_REPORT_IPv6 &&
      report !== VIRTIO_NET_HASH_REPORT_IPv6_EX;
    if (ports) hash = t.add(hash, u8, k.portsAt, 4, 2 * bytes);
    this.hash_value = hash >>> 0;
  }
  #report4(): number {
    const types = this.hashTypes;
    if (this.#is(IPPROTO_TCP) && (types & VIRTIO_NET_RSS_HASH_TYPE_TCPv4) !== 0) return VIRTIO_NET_HASH_REPORT_TCPv4;
    if (this.#is(IPPROTO_UDP) && (types & VIRTIO_NET_RSS_HASH_TYPE_UDPv4) !== 0) return VIRTIO_NET_HASH_REPORT_UDPv4;
    return (types & VIRTIO_NET_RSS_HASH_TYPE_IPv4) !== 0 ? VIRTIO_NET_HASH_REPORT_IPv4 : VIRTIO_NET_HASH_REPORT_NONE;
  }
  #report6(): number {
    const types = this.hashTypes;
    if (this.#is(IPPROTO_TCP)) {
      if ((types & VIRTIO_NET_RSS_HASH_TYPE_TCP_EX) !== 0) return VIRTIO_NET_HASH_REPORT_TCPv6_EX;
      if ((types & VIRTIO_NET_RSS_HASH_TYPE_TCPv6) !== 0) return VIRTIO_NET_HASH_REPORT_TCPv6;
    }
    if (this.#is(IPPROTO_UDP)) {
      if ((types & VIRTIO_NET_RSS_HASH_TYPE_UDP_EX) !== 0) return VIRTIO_NET_HASH_REPORT_UDPv6_EX;
      if ((types & VIRTIO_NET_RSS_HASH_TYPE_UDPv6) !== 0) return VIRTIO_NET_HASH_REPORT_UDPv6;
    }
    if ((types & VIRTIO_NET_RSS_HASH_TYPE_IP_EX) !== 0) return VIRTIO_NET_HASH_REPORT_IPv6_EX;
    return (types & VIRTIO_NET_RSS_HASH_TYPE_IPv6) !== 0 ? VIRTIO_NET_HASH_REPORT_IPv6 : VIRTIO_NET_HASH_REPORT_NONE;
  }
  #is(protocol: number): boolean {
    return this.#keys.protocol === protocol && this.#keys.portsAt >= 0;
  }
  state(): RssState {
    const { enabled, redirect, hashTypes, tunnelTypes, unclassifiedQueue } = this;
    const table = redirect ? [...this.table.subarray(0, this.mask + 1)] : [];
    return { enabled, redirect, hashTypes, tunnelTypes, unclassifiedQueue, table, key: enabled ? [...this.key] : [] };
  }
}
