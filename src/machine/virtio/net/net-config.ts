/**
 * The device-specific configuration of virtio-net as the driver reads it: virtio 1.4 §5.1.4, with the length that QEMU gives
 * it. Fields exist by what is offered, so they can be read before the driver has accepted anything (§2.5.3.2).
 *
 * Who changes it says so with `true`: the transport then counts config_generation and interrupts.
 */
import {
  DUPLEX_FULL,
  DUPLEX_HALF,
  DUPLEX_UNKNOWN,
  SPEED_UNKNOWN,
  VIRTIO_NET_S_ANNOUNCE,
  VIRTIO_NET_S_LINK_UP,
  virtio_net_config,
} from '../../wire/virtio-net.ts';
import {
  type Features,
  featuresOf,
  hasFeature,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_HASH_TUNNEL,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_SPEED_DUPLEX,
  VIRTIO_NET_F_STATUS,
} from '../features.ts';
import {
  VIRTIO_NET_HASH_TUNNEL_TYPE_GENEVE,
  VIRTIO_NET_HASH_TUNNEL_TYPE_IPIP,
  VIRTIO_NET_HASH_TUNNEL_TYPE_VXLAN,
} from './flow-keys.ts';

/** qemu include/hw/virtio/virtio-net.h: what `rss_max_*` say. */
export const VIRTIO_NET_RSS_MAX_KEY_SIZE = 40;
export const VIRTIO_NET_RSS_MAX_TABLE_LEN = 128;
/** All nine hash types of virtio 1.2 §5.1.6.4.3.1: IPv4, TCPv4, UDPv4, IPv6, TCPv6, UDPv6 and the three with extensions. */
export const SUPPORTED_HASH_TYPES = 0x1ff;
/** What FlowKeys can look into. */
export const SUPPORTED_TUNNEL_TYPES =
  VIRTIO_NET_HASH_TUNNEL_TYPE_VXLAN | VIRTIO_NET_HASH_TUNNEL_TYPE_GENEVE | VIRTIO_NET_HASH_TUNNEL_TYPE_IPIP;
/** virtio 1.2 §5.1.4.1. */
export const MTU_MIN = 68;
export const MTU_MAX = 65535;
export const QUEUE_PAIRS_MAX = 0x8000;

const C = virtio_net_config;
const endOf = (field: { readonly offset: number; readonly width: number }): number => field.offset + field.width;
/** qemu 7.2 hw/net/virtio-net.c, feature_sizes: an offered bit makes the structure reach to the end of its fields. */
const LENGTHS: readonly (readonly [number, number])[] = [
  [VIRTIO_NET_F_MAC, endOf(C.mac)],
  [VIRTIO_NET_F_STATUS, endOf(C.status)],
  [VIRTIO_NET_F_MQ, endOf(C.max_virtqueue_pairs)],
  [VIRTIO_NET_F_MTU, endOf(C.mtu)],
  [VIRTIO_NET_F_SPEED_DUPLEX, endOf(C.duplex)],
  [VIRTIO_NET_F_RSS, endOf(C.supported_hash_types)],
  [VIRTIO_NET_F_HASH_REPORT, endOf(C.supported_hash_types)],
  [VIRTIO_NET_F_HASH_TUNNEL, endOf(C.supported_tunnel_types)],
];
/** Bytes of the configuration for a set of offered bits: 8 by default, 10, 12, 17, 24 or 28 with more; at least the MAC. */
export function netConfigLength(offered: Features): number {
  const ends = LENGTHS.filter(([bit]) => hasFeature(offered, bit)).map(([, end]) => end);
  return Math.max(endOf(C.mac), ...ends);
}

export interface NetConfigOptions {
  /** What the device offers; default: a device with VIRTIO_NET_F_MAC and VIRTIO_NET_F_STATUS. */
  readonly offered?: Features;
  /** 1 … 0x8000. */
  readonly queuePairs?: number;
  /** 68 … 65535; null: not said, the field reads 0. */
  readonly mtu?: number | null;
  /** Mbit/s, to 0x7fffffff; null: unknown. */
  readonly speed?: number | null;
  /** `full` or `half`; anything else is unknown. */
  readonly duplex?: string | null;
}

export class NetConfig {
  /** Owner: device. */
  readonly #view: DataView;
  /** A view for the device that has all fields, whatever the driver can read. */
  readonly #all: DataView;
  readonly #mac: readonly number[];

  /** `mac`: six bytes, the address after each reset. Throws RangeError for values that no document may have. */
  constructor(mac: readonly number[], options: NetConfigOptions = {}) {
    const { offered = featuresOf(VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS), queuePairs = 1 } = options;
    const { mtu = null, speed = null, duplex = null } = options;
    if (mac.length !== 6) throw new RangeError('a MAC address has 6 bytes');
    if (queuePairs < 1 || queuePairs > QUEUE_PAIRS_MAX) throw new RangeError(`${queuePairs} queue pairs`);
    if (mtu !== null && (mtu < MTU_MIN || mtu > MTU_MAX)) throw new RangeError(`an MTU of ${mtu}`);
    if (speed !== null && (speed < 0 || speed > 0x7fff_ffff)) throw new RangeError(`a speed of ${speed} Mbit/s`);
    const buffer = new ArrayBuffer(C.SIZE);
    this.#all = new DataView(buffer);
    this.#view = new DataView(buffer, 0, netConfigLength(offered));
    this.#mac = [...mac];
    const hash = hasFeature(offered, VIRTIO_NET_F_RSS) || hasFeature(offered, VIRTIO_NET_F_HASH_REPORT);
    C.status.set(this.#all, 0, VIRTIO_NET_S_LINK_UP);
    C.max_virtqueue_pairs.set(this.#all, 0, queuePairs);
    C.mtu.set(this.#all, 0, mtu ?? 0);
    C.speed.set(this.#all, 0, speed ?? SPEED_UNKNOWN);
    C.duplex.set(this.#all, 0, duplex === 'full' ? DUPLEX_FULL : duplex === 'half' ? DUPLEX_HALF : DUPLEX_UNKNOWN);
    C.rss_max_key_size.set(this.#all, 0, hash ? VIRTIO_NET_RSS_MAX_KEY_SIZE : 0);
    const table = hasFeature(offered, VIRTIO_NET_F_RSS) ? VIRTIO_NET_RSS_MAX_TABLE_LEN : 1;
    C.rss_max_indirection_table_length.set(this.#all, 0, hash ? table : 0);
    C.supported_hash_types.set(this.#all, 0, hash ? SUPPORTED_HASH_TYPES : 0);
    const tunnels = hasFeature(offered, VIRTIO_NET_F_HASH_TUNNEL) ? SUPPORTED_TUNNEL_TYPES : 0;
    C.supported_tunnel_types.set(this.#all, 0, tunnels);
    this.reset();
  }
  /** Bytes that the driver can read. */
  get length(): number {
    return this.#view.byteLength;
  }
  get maxQueuePairs(): number {
    return C.max_virtqueue_pairs.get(this.#all, 0);
  }
  /** 0: not said. */
  get mtu(): number {
    return C.mtu.get(this.#all, 0);
  }
  get mac(): number[] {
    return this.#mac.map((_, i) => this.#all.getUint8(C.mac.offset + i));
  }
  get linkUp(): boolean {
    return (C.status.get(this.#all, 0) & VIRTIO_NET_S_LINK_UP) !== 0;
  }
  /** The device has asked the driver to announce itself, and the driver has not acknowledged yet. */
  get announcing(): boolean {
    return (C.status.get(this.#all, 0) & VIRTIO_NET_S_ANNOUNCE) !== 0;
  }
  /** Device reset: the address is the document's again, nothing is to be announced. The link stays. */
  reset(): void {
    for (const [i, byte] of this.#mac.entries()) this.#all.setUint8(C.mac.offset + i, byte);
    this.#setStatus(VIRTIO_NET_S_ANNOUNCE, false);
  }
  /** True if that changed the configuration, so that config_generation and a config interrupt are due. */
  setLinkUp(up: boolean): boolean {
    return this.#setStatus(VIRTIO_NET_S_LINK_UP, up);
  }
  /** §5.1.9.5.4: with `true` the driver is to send gratuitous packets. True if that changed the configuration. */
  setAnnounce(on: boolean): boolean {
    return this.#setStatus(VIRTIO_NET_S_ANNOUNCE, on);
  }
  #setStatus(bit: number, on: boolean): boolean {
    const old = C.status.get(this.#all, 0);
    const status = on ? old | bit : old & ~bit;
    C.status.set(this.#all, 0, status);
    return status !== old;
  }
  /** Takes six bytes as the device's address. True if it is another one. */
  setMac(u8: Uint8Array, at: number): boolean {
    let changed = false;
    for (let i = 0; i < 6; i++) {
      changed ||= this.#all.getUint8(C.mac.offset + i) !== u8[at + i]!;
      this.#all.setUint8(C.mac.offset + i, u8[at + i]!);
    }
    return changed;
  }
  /**
   * Width 1, 2 or 4. An access that does not lie inside entirely reads all ones
   * (qemu hw/virtio/virtio.c, virtio_config_modern_readb() and its siblings).
   */
  read(offset: number, width: number): number {
    if (offset < 0 || offset + width > this.#view.byteLength)
      return width === 1 ? 0xff : width === 2 ? 0xffff : 0xffff_ffff;
    if (width === 1) return this.#view.getUint8(offset);
    if (width === 2) return this.#view.getUint16(offset, true);
    return this.#view.getUint32(offset, true);
  }
  /**
   * A driver writes. Only a legacy one may, and only the address: with VIRTIO_F_VERSION_1, or with VIRTIO_NET_F_CTRL_MAC_ADDR,
   * which replaced this way, nothing happens (qemu virtio_net_set_config()). Bytes outside the address are lost. True if the
   * address is another one now.
   */
  write(offset: number, width: number, value: number, accepted: Features): boolean {
    if (hasFeature(accepted, VIRTIO_F_VERSION_1) || hasFeature(accepted, VIRTIO_NET_F_CTRL_MAC_ADDR)) return false;
    if (offset < 0 || offset + width > this.#view.byteLength) return false;
    let changed = false;
    for (let i = 0; i < width && offset + i < endOf(C.mac); i++) {
      const byte = (value >>> (8 * i)) & 0xff;
      changed ||= this.#all.getUint8(offset + i) !== byte;
      this.#all.setUint8(offset + i, byte);
    }
    return changed;
  }
}
