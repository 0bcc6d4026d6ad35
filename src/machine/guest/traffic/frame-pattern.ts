/**
 * Which length and which flow each frame of a stream has. Both follow from the frame's number alone, so a stream is the same
 * however it is sent: by a socket one by one, by pktgen in bursts, from a wire.
 */
import type { RandomStream } from '../../../engine/random.ts';

/** Frames until a mix of lengths repeats, about: long against the number of flows that take turns. */
const MIX_FRAMES = 4096;

/**
 * Lengths in a fixed ratio. The table holds each length exactly as often as its weight says, in an order that the seed shuffles:
 * in turns, every flow would have one length only where the numbers of both have a common divisor.
 */
export class FrameSizes {
  /** Lengths in memory (without FCS), bytes. */
  declare readonly lengths: readonly number[];
  declare private readonly table: Uint8Array;

  /** `lengths`: at most 256; weights are whole and positive. */
  constructor(lengths: readonly { readonly length: number; readonly weight: number }[], random: RandomStream) {
    this.lengths = lengths.map((l) => l.length);
    const total = lengths.reduce((sum, l) => sum + l.weight, 0);
    const rounds = Math.max(1, Math.round(MIX_FRAMES / total));
    this.table = new Uint8Array(total * rounds);
    let at = 0;
    for (const [i, { weight }] of lengths.entries()) {
      this.table.fill(i, at, at + weight * rounds);
      at += weight * rounds;
    }
    for (let i = this.table.length - 1; i > 0; i--) {
      const j = random.below(i + 1);
      const other = this.table[j]!;
      this.table[j] = this.table[i]!;
      this.table[i] = other;
    }
  }

  /** Index into `lengths` of frame number `sequence`. */
  indexOf(sequence: number): number {
    return this.table[sequence % this.table.length]!;
  }
  /** Bytes of `n` frames from number `sequence` on. */
  bytesOf(sequence: number, n: number): number {
    let bytes = 0;
    for (let i = 0; i < n; i++) bytes += this.lengths[this.indexOf(sequence + i)]!;
    return bytes;
  }
}

/** How frames are spread over flows; `skew` is the exponent of Zipf's law. */
export type FlowDistribution =
  | { readonly kind: 'round-robin' }
  | { readonly kind: 'uniform' }
  | { readonly kind: 'zipf'; readonly skew: number };

/** Weight of flow `index`: of the k-th flow 1 / k^skew. */
export function flowWeight(distribution: FlowDistribution, index: number): number {
  return distribution.kind === 'zipf' ? (index + 1) ** -distribution.skew : 1;
}

/** MurmurHash3's finalizer: 32 bits that look drawn, for each frame number. */
function mixed(v: number): number {
  v = Math.imul(v ^ (v >>> 16), 0x85ebca6b);
  v = Math.imul(v ^ (v >>> 13), 0xc2b2ae35);
  return (v ^ (v >>> 16)) >>> 0;
}
const GOLDEN = 0x9e3779b9;

/** Draws a flow for each frame by its weight, in constant time (the alias method of A. J. Walker, 1974). */
export class FlowPicker {
  declare private readonly flows: number;
  declare private readonly seed: number;
  /** By column: the share, of 2^32, in which the column is its own flow, and whose it is otherwise. */
  declare private readonly share: Uint32Array;
  declare private readonly alias: Uint16Array;

  /** Flows `first`, `first + step`, … of a distribution; flowOf() numbers them from 0. At most 65,536. */
  constructor(distribution: FlowDistribution, flows: number, random: RandomStream, first = 0, step = 1) {
    this.flows = flows;
    this.seed = random.next() | 0;
    this.share = new Uint32Array(flows).fill(0xffffffff);
    this.alias = Uint16Array.from({ length: flows }, (_, i) => i);
    if (distribution.kind !== 'zipf') return;
    const weight = Float64Array.from({ length: flows }, (_, i) => flowWeight(distribution, first + step * i));
    const total = weight.reduce((sum, w) => sum + w, 0);
    const small: number[] = [];
    const large: number[] = [];
    for (let i = 0; i < flows; i++) {
      weight[i] = (weight[i]! * flows) / total;
      (weight[i]! < 1 ? small : large).push(i);
    }
    while (small.length > 0 && large.length > 0) {
      const less = small.pop()!;
      const more = large.at(-1)!;
      this.share[less] = Math.floor(weight[less]! * 0xffffffff);
      this.alias[less] = more;
      weight[more] = weight[more]! + weight[less]! - 1;
      if (weight[more]! < 1) small.push(large.pop()!);
    }
  }

  /** Flow of frame number `sequence`, from 0. */
  flowOf(sequence: number): number {
    const drawn = mixed((Math.imul(sequence, GOLDEN) + this.seed) | 0);
    const column = Math.floor((drawn / 0x1_0000_0000) * this.flows);
    return mixed(drawn ^ this.seed) <= this.share[column]! ? column : this.alias[column]!;
  }
}
