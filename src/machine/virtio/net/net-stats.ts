/**
 * Counters of the device that the driver can ask for with VIRTIO_NET_F_DEVICE_STATS: virtio 1.4 §5.1.9.5.10. Each is 64 bits
 * wide and wraps to zero, so it is kept as two words; adding to one costs no memory.
 *
 * Owner: device. VIRTIO_NET_STATS_TYPE_*_SPEED is not supported: nothing here limits a rate.
 */
import {
  VIRTIO_NET_STATS_TYPE_CVQ,
  VIRTIO_NET_STATS_TYPE_RX_BASIC,
  VIRTIO_NET_STATS_TYPE_RX_CSUM,
  VIRTIO_NET_STATS_TYPE_RX_GSO,
  VIRTIO_NET_STATS_TYPE_TX_BASIC,
  VIRTIO_NET_STATS_TYPE_TX_CSUM,
  VIRTIO_NET_STATS_TYPE_TX_GSO,
  virtio_net_stats_reply_hdr,
} from '../../wire/virtio-net-ctrl.ts';
import {
  type Features,
  hasFeature,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_HOST_USO,
} from '../features.ts';

// Counters of a receive queue, in the order of struct virtio_net_stats_rx_basic, _csum and _gso.
export const RX_NOTIFICATIONS = 0;
export const RX_PACKETS = 1;
export const RX_BYTES = 2;
export const RX_INTERRUPTS = 3;
export const RX_DROPS = 4;
export const RX_DROP_OVERRUNS = 5;
export const RX_CSUM_VALID = 6;
export const RX_NEEDS_CSUM = 7;
export const RX_CSUM_NONE = 8;
export const RX_CSUM_BAD = 9;
export const RX_GSO_PACKETS = 10;
export const RX_GSO_BYTES = 11;
export const RX_GSO_PACKETS_COALESCED = 12;
export const RX_GSO_BYTES_COALESCED = 13;
// Of a transmit queue: struct virtio_net_stats_tx_basic, _csum and _gso.
export const TX_NOTIFICATIONS = 0;
export const TX_PACKETS = 1;
export const TX_BYTES = 2;
export const TX_INTERRUPTS = 3;
export const TX_DROPS = 4;
export const TX_DROP_MALFORMED = 5;
export const TX_CSUM_NONE = 6;
export const TX_NEEDS_CSUM = 7;
export const TX_GSO_PACKETS = 8;
export const TX_GSO_BYTES = 9;
export const TX_GSO_SEGMENTS = 10;
export const TX_GSO_SEGMENTS_BYTES = 11;
export const TX_GSO_PACKETS_NOSEG = 12;
export const TX_GSO_BYTES_NOSEG = 13;
// Of the control queue: struct virtio_net_stats_cvq.
export const CVQ_COMMAND_NUM = 0;
export const CVQ_OK_NUM = 1;

interface StatsType {
  readonly type: number;
  readonly kind: 'rx' | 'tx' | 'cvq';
  /** Its counters in the queue's row. */
  readonly first: number;
  readonly count: number;
  /** One of these has to be negotiated; none: nothing. */
  readonly needs: readonly number[];
}
const GUEST_GSO = [
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
];
const HOST_GSO = [VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_HOST_USO];
const TYPES: readonly StatsType[] = [
  { type: VIRTIO_NET_STATS_TYPE_RX_BASIC, kind: 'rx', first: RX_NOTIFICATIONS, count: 6, needs: [] },
  { type: VIRTIO_NET_STATS_TYPE_RX_CSUM, kind: 'rx', first: RX_CSUM_VALID, count: 4, needs: [VIRTIO_NET_F_GUEST_CSUM] },
  { type: VIRTIO_NET_STATS_TYPE_RX_GSO, kind: 'rx', first: RX_GSO_PACKETS, count: 4, needs: GUEST_GSO },
  { type: VIRTIO_NET_STATS_TYPE_TX_BASIC, kind: 'tx', first: TX_NOTIFICATIONS, count: 6, needs: [] },
  { type: VIRTIO_NET_STATS_TYPE_TX_CSUM, kind: 'tx', first: TX_CSUM_NONE, count: 2, needs: [VIRTIO_NET_F_CSUM] },
  { type: VIRTIO_NET_STATS_TYPE_TX_GSO, kind: 'tx', first: TX_GSO_PACKETS, count: 6, needs: HOST_GSO },
  { type: VIRTIO_NET_STATS_TYPE_CVQ, kind: 'cvq', first: CVQ_COMMAND_NUM, count: 2, needs: [] },
];
/** supported_stats_types, low and high word. */
export const SUPPORTED_STATS: readonly [number, number] = [
  TYPES.reduce((word, { type }) => (type < 32 ? word | (1 << type) : word), 0) >>> 0,
  TYPES.reduce((word, { type }) => (type < 32 ? word : word | (1 << (type - 32))), 0) >>> 0,
];
const ROW = 16;
const H = virtio_net_stats_reply_hdr;

export class NetStats {
  /** Receive and transmit queues, then the control queue. */
  readonly #queues: number;
  /** Low and high word of each counter. */
  readonly #words: Uint32Array;

  /** `queues`: all virtqueues of the device; the last one is the control queue where there is one (an odd number). */
  constructor(queues: number) {
    this.#queues = queues;
    this.#words = new Uint32Array(queues * ROW * 2);
  }
  reset(): void {
    this.#words.fill(0);
  }
  /** Adds `n` (below 2^32) to a counter of a queue. */
  add(queue: number, counter: number, n: number): void {
    const i = (queue * ROW + counter) << 1;
    const low = this.#words[i]! + n;
    this.#words[i] = low;
    if (low > 0xffff_ffff) this.#words[i + 1]! += 1;
  }
  /** A counter as text needs it. */
  read(queue: number, counter: number): bigint {
    const i = (queue * ROW + counter) << 1;
    return (BigInt(this.#words[i + 1]!) << 32n) | BigInt(this.#words[i]!);
  }
  /** Sets a counter, for tests and restored worlds. */
  write(queue: number, counter: number, value: bigint): void {
    const i = (queue * ROW + counter) << 1;
    this.#words[i] = Number(value & 0xffff_ffffn);
    this.#words[i + 1] = Number((value >> 32n) & 0xffff_ffffn);
  }
  #kind(queue: number): 'rx' | 'tx' | 'cvq' {
    if ((this.#queues & 1) === 1 && queue === this.#queues - 1) return 'cvq';
    return (queue & 1) === 0 ? 'rx' : 'tx';
  }
  /**
   * Bytes of the replies for the types (two words of bits) of a queue, or -1: there is no such queue, a type is not known, is
   * not one of this queue's kind, or counts something that was not negotiated.
   */
  replyBytes(queue: number, low: number, high: number, accepted: Features): number {
    if (queue >= this.#queues) return -1;
    const known = (low & ~SUPPORTED_STATS[0]) === 0 && (high & ~SUPPORTED_STATS[1]) === 0;
    if (!known || (low | high) === 0) return -1;
    let bytes = 0;
    for (const t of TYPES) {
      if (!asked(t, low, high)) continue;
      if (t.kind !== this.#kind(queue)) return -1;
      if (t.needs.length > 0 && !t.needs.some((bit) => hasFeature(accepted, bit))) return -1;
      bytes += H.SIZE + 8 * t.count;
    }
    return bytes;
  }
  /**
   * Writes the replies that replyBytes() measured at `at`, for a queue that the driver knows as `vq_index`; returns the
   * position behind them.
   */
  writeReplies(out: DataView, at: number, queue: number, vq_index: number, low: number, high: number): number {
    for (const t of TYPES) {
      if (!asked(t, low, high)) continue;
      H.type.set(out, at, t.type);
      H.reserved.set(out, at, 0);
      H.vq_index.set(out, at, vq_index);
      H.reserved1.set(out, at, 0);
      H.size.set(out, at, H.SIZE + 8 * t.count);
      at += H.SIZE;
      for (let c = 0; c < t.count; c++, at += 8) {
        const i = (queue * ROW + t.first + c) << 1;
        out.setUint32(at, this.#words[i]!, true);
        out.setUint32(at + 4, this.#words[i + 1]!, true);
      }
    }
    return at;
  }
}
const asked = (t: StatsType, low: number, high: number): boolean =>
  ((t.type < 32 ? low >>> t.type : high >>> (t.type - 32)) & 1) === 1;
