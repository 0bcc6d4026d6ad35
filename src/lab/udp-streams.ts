/** The streams that a request for UDP traffic is sent as: lengths, flows and pace of each of its senders. */
import { assert } from '../engine/assert.ts';
import { RandomStream } from '../engine/random.ts';
import { type FlowDistribution, FlowPicker, FrameSizes, flowWeight } from '../machine/guest/traffic/frame-pattern.ts';
import type { Pace, UdpFlow } from '../machine/guest/traffic/udp-source.ts';
import { FCS_BYTES } from '../machine/host/nic.ts';
import type { TrafficPattern, TrafficSpec } from './protocol.ts';
import { framesOf } from './traffic-pattern.ts';

const PLAIN: TrafficPattern = { sizes: null, distribution: 'round-robin', skew: 1, spread: 'ports', burst: 1 };

/** The largest and the smallest frame of a run, bytes with FCS. */
export function frameSizesOf({ frameSize, pattern }: TrafficSpec): {
  readonly largest: number;
  readonly smallest: number;
} {
  const sizes = pattern?.sizes?.map(({ size }) => size) ?? [frameSize];
  return { largest: Math.max(...sizes), smallest: Math.min(...sizes) };
}

/** One sender's part of a run. */
export interface Stream {
  readonly pace: Pace;
  readonly flow: Pick<UdpFlow, 'first' | 'step' | 'sizes' | 'picker' | 'byAddress'>;
}

/**
 * Splits a run among `senders`, no more than it has frames: sender i takes the flows i, i + senders, … and as many of the frames as those flows have. `run`
 * names the random streams: two runs of one world do not draw the same.
 */
export function streamsOf(spec: TrafficSpec, senders: number, seed: number, run: number): Stream[] {
  const pattern = spec.pattern ?? PLAIN;
  const random = new RandomStream(seed, `udp ${run}`);
  const distribution: FlowDistribution =
    pattern.distribution === 'zipf' ? { kind: 'zipf', skew: pattern.skew } : { kind: pattern.distribution };
  const sizes =
    pattern.sizes === null
      ? null
      : new FrameSizes(
          pattern.sizes.map(({ size, weight }) => ({ length: size - FCS_BYTES, weight })),
          random,
        );
  const interval = spec.rate === 0 ? 0 : 1e9 / spec.rate;
  const share = sharesOf(distribution, spec.flows, senders);
  const counts = countsOf(framesOf(spec), share);
  return counts.map((count, first) => {
    const flows = Math.ceil((spec.flows - first) / senders);
    const turns = distribution.kind === 'round-robin' || flows < 2;
    return {
      pace: {
        count,
        interval: interval === 0 ? 0 : interval / share[first]!,
        burst: pattern.burst,
        // where there is a rate, `count` is made of the duration
        ...(interval === 0 && spec.durationSeconds !== undefined ? { duration: spec.durationSeconds * 1e9 } : {}),
      },
      flow: {
        first,
        step: senders,
        sizes,
        picker: turns ? null : new FlowPicker(distribution, flows, random, first, senders),
        byAddress: pattern.spread === 'addresses' && spec.flows > 1,
      },
    };
  });
}

/** What part of the frames each sender has. */
function sharesOf(distribution: FlowDistribution, flows: number, senders: number): number[] {
  if (distribution.kind !== 'zipf') return Array.from({ length: senders }, () => 1 / senders);
  const share = Array.from({ length: senders }, () => 0);
  for (let i = 0; i < flows; i++) share[i % senders] = share[i % senders]! + flowWeight(distribution, i);
  const total = share.reduce((sum, s) => sum + s, 0);
  return share.map((s) => s / total);
}

/** Whole frames that add up to `count`; what does not divide evenly goes to the first ones. Each sender has one at least. */
function countsOf(count: number, share: readonly number[]): number[] {
  assert(count >= share.length, 'there is a frame for each sender');
  const counts = share.map((s) => Math.max(1, Math.floor(count * s + 1e-9)));
  let left = count - counts.reduce((sum, n) => sum + n, 0);
  for (let i = 0; left !== 0; i = (i + 1) % counts.length) {
    if (left < 0 && counts[i]! === 1) continue;
    counts[i] = counts[i]! + Math.sign(left);
    left -= Math.sign(left);
  }
  return counts;
}
