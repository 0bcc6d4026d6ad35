/**
 * What DPDK's virtio PMD counts for each queue, and the names under which it shows that. dpdk 22.11
 * drivers/net/virtio/virtqueue.h struct virtnet_stats, virtio_rxtx.c virtio_update_packet_stats(), virtio_ethdev.c
 * rte_virtio_rxq_stat_strings[], lib/ethdev/rte_ethdev.c eth_dev_stats_strings[].
 *
 * A few additions for each frame; lengths are those of mbufs, without the frame check sequence.
 */
import { ETH_ALEN } from '../wire/ethernet.ts';

const PACKETS = 0;
const BYTES = 1;
const ERRORS = 2;
const MULTICAST = 3;
const BROADCAST = 4;
/** size_bins[8]. */
const BINS = 5;
const WORDS = 13;

/** struct virtnet_stats: of one receive or transmit queue. */
export class VirtnetStats {
  declare private readonly words: Float64Array;

  constructor() {
    this.words = new Float64Array(WORDS);
  }
  /** A good frame of `length` bytes whose destination address stands at `u8[at]`. */
  count(u8: Uint8Array, at: number, length: number): void {
    const { words } = this;
    words[PACKETS]!++;
    words[BYTES]! += length;
    words[BINS + sizeBin(length)]!++;
    if ((u8[at]! & 1) === 0) return;
    let all = 0xff;
    for (let i = 0; i < ETH_ALEN; i++) all &= u8[at + i]!;
    words[all === 0xff ? BROADCAST : MULTICAST]!++;
  }
  error(): void {
    this.words[ERRORS]!++;
  }
  get packets(): number {
    return this.words[PACKETS]!;
  }
  get bytes(): number {
    return this.words[BYTES]!;
  }
  get errors(): number {
    return this.words[ERRORS]!;
  }
  /** By name, as the PMD has them behind `rx_q0_` or `tx_q0_`. */
  *rows(transmit: boolean): Generator<readonly [string, number]> {
    for (const [name, word] of ROWS) if (!transmit || word !== ERRORS) yield [name, this.words[word]!];
  }
  clear(): void {
    this.words.fill(0);
  }
}

/** Below 64, 64, up to 127, 255, 511, 1023, up to 1518, beyond. */
function sizeBin(length: number): number {
  if (length < 64) return 0;
  if (length === 64) return 1;
  // 65-127: the highest bit is bit 6, and bin 2
  if (length < 1024) return 31 - Math.clz32(length) - 4;
  return length < 1519 ? 6 : 7;
}

const ROWS: readonly (readonly [string, number])[] = [
  ['good_packets', PACKETS],
  ['good_bytes', BYTES],
  ['errors', ERRORS],
  ['multicast_packets', MULTICAST],
  ['broadcast_packets', BROADCAST],
  ['undersize_packets', BINS],
  ['size_64_packets', BINS + 1],
  ['size_65_127_packets', BINS + 2],
  ['size_128_255_packets', BINS + 3],
  ['size_256_511_packets', BINS + 4],
  ['size_512_1023_packets', BINS + 5],
  ['size_1024_1518_packets', BINS + 6],
  ['size_1519_max_packets', BINS + 7],
];

/** Of a queue pair. */
export interface PairStats {
  readonly rx: VirtnetStats;
  readonly tx: VirtnetStats;
}
export interface PortStats {
  readonly pairs: readonly PairStats[];
  /** dev->data->rx_mbuf_alloc_failed. */
  readonly nombuf: number;
}

/**
 * rte_eth_xstats_get_names() and rte_eth_xstats_get(): of all queues together, of each queue, then what the driver itself adds.
 * The PMD has no count of missed frames, and of transmit errors. `rx_q0_errors` is a name of both, with the same number.
 */
export function xstats({ pairs, nombuf }: PortStats): Record<string, number> {
  const sum = (of: (pair: PairStats) => number): number => pairs.reduce((n, pair) => n + of(pair), 0);
  const out: Record<string, number> = {
    rx_good_packets: sum((p) => p.rx.packets),
    tx_good_packets: sum((p) => p.tx.packets),
    rx_good_bytes: sum((p) => p.rx.bytes),
    tx_good_bytes: sum((p) => p.tx.bytes),
    rx_missed_errors: 0,
    rx_errors: sum((p) => p.rx.errors),
    tx_errors: 0,
    rx_mbuf_allocation_errors: nombuf,
  };
  for (const [i, { rx }] of pairs.entries()) {
    out[`rx_q${i}_packets`] = rx.packets;
    out[`rx_q${i}_bytes`] = rx.bytes;
    out[`rx_q${i}_errors`] = rx.errors;
  }
  for (const [i, { tx }] of pairs.entries()) {
    out[`tx_q${i}_packets`] = tx.packets;
    out[`tx_q${i}_bytes`] = tx.bytes;
  }
  for (const way of ['rx', 'tx'] as const) {
    for (const [i, pair] of pairs.entries())
      for (const [name, value] of pair[way].rows(way === 'tx')) out[`${way}_q${i}_${name}`] = value;
  }
  return out;
}
