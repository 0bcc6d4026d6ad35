/** What the frames of UDP traffic are like: the fields of a request for them, and what the engine is told. */
import { Type } from 'typebox';
import type { TrafficPattern, TrafficSpec } from './protocol.ts';
import { closed, oneOf } from './schema-kit.ts';

/** Most different sizes of one run, and most frames of one weight. */
const MOST_SIZES = 32;
const MOST_WEIGHT = 1000;

/**
 * 7 : 4 : 1, the simple mix of internet traffic: FD.io CSIT's IMIX_v4_1 is 28 frames of 64 bytes, 16 of 570 and 4 of 1518
 * (csit docs, "Test Methodology", frame sizes), as testers have it since Spirent's and Ixia's "Simple IMIX". Mixes are
 * described by their sizes and weights after RFC 6985.
 */
const IMIX_SIMPLE: TrafficPattern['sizes'] = [
  { size: 64, weight: 7 },
  { size: 570, weight: 4 },
  { size: 1518, weight: 1 },
];

export const patternFields = () => ({
  imix: Type.Optional(
    oneOf(['simple'], {
      description:
        'UDP: a mix of frame sizes in place of `frameSize`. `simple`: 7 frames of 64 bytes, 4 of 570 and 1 of 1518, in an order drawn from the seed.',
      examples: ['simple'],
    }),
  ),
  sizes: Type.Optional(
    Type.Array(
      closed({
        size: Type.Integer({
          minimum: 64,
          maximum: 1518,
          description: 'Frame size in bytes, FCS included.',
          examples: [64],
        }),
        weight: Type.Optional(
          Type.Integer({
            minimum: 1,
            maximum: MOST_WEIGHT,
            default: 1,
            description: 'How many frames of it come among the sum of all weights.',
            examples: [7],
          }),
        ),
      }),
      {
        minItems: 1,
        maxItems: MOST_SIZES,
        description: 'UDP: frame sizes in a ratio of your own, in place of `frameSize`.',
        examples: [
          [
            { size: 64, weight: 3 },
            { size: 1518, weight: 1 },
          ],
        ],
      },
    ),
  ),
  distribution: Type.Optional(
    oneOf(['round-robin', 'uniform', 'zipf'], {
      description:
        'UDP: which of its `flows` a frame belongs to. `round-robin`: they take turns (default). `uniform`: each is drawn with the same probability. `zipf`: the k-th with 1 / k^`skew`.',
      examples: ['zipf'],
    }),
  ),
  skew: Type.Optional(
    Type.Number({
      exclusiveMinimum: 0,
      maximum: 10,
      description: 'Exponent of Zipf’s law. Default 1.',
      examples: [1.1],
    }),
  ),
  spread: Type.Optional(
    oneOf(['ports', 'addresses'], {
      description:
        'UDP: in what flows differ. `ports`: their source ports, from 49152 on (default). `addresses`: their IP source addresses, counted up from the sender’s own; not from a socket.',
      examples: ['addresses'],
    }),
  ),
  burst: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 65536,
      description:
        'UDP: frames that are due together, back to back; `rate`, or that of a trial of a measurement, is kept on average. Default 1.',
      examples: [32],
    }),
  ),
});

/** Fields of a pattern, as users write them. */
export interface PatternBody {
  readonly imix?: 'simple';
  readonly sizes?: readonly { readonly size: number; readonly weight?: number }[];
  readonly distribution?: TrafficPattern['distribution'];
  readonly skew?: number;
  readonly spread?: TrafficPattern['spread'];
  readonly burst?: number;
}
export const PATTERN_FIELDS = ['imix', 'sizes', 'distribution', 'skew', 'spread', 'burst'] as const;

/** Frames that a run sends at most. */
export function framesOf({
  count,
  rate,
  durationSeconds,
}: Pick<TrafficSpec, 'count' | 'rate' | 'durationSeconds'>): number {
  if (durationSeconds === undefined) return count;
  return rate === 0 ? count : Math.max(1, Math.min(count, Math.ceil(durationSeconds * rate - 1e-9)));
}

/** What is wrong with a pattern. */
export interface BadPattern {
  readonly pointer: string;
  readonly detail: string;
  readonly expected: string;
}

/**
 * Undefined where the request has none of the fields; `fault` throws where they do not go together. `measured`: a measurement gives
 * the rate later, and `rate` is 0.
 */
export function patternOf(
  body: PatternBody,
  { rate, segments, measured }: { readonly rate: number; readonly segments: number; readonly measured: boolean },
  fault: (bad: BadPattern) => never,
): TrafficPattern | undefined {
  if (PATTERN_FIELDS.every((field) => body[field] === undefined)) return undefined;
  const { distribution = 'round-robin', skew = 1, spread = 'ports', burst = 1 } = body;
  const bad = (field: string, detail: string, expected = 'the field to be left out'): never =>
    fault({ pointer: `/${field}`, detail, expected });
  if (body.imix !== undefined && body.sizes !== undefined)
    bad('sizes', 'imix and sizes exclude each other', 'one of them');
  if (body.skew !== undefined && distribution !== 'zipf')
    bad('skew', `skew is not for the distribution ${distribution}`);
  if (burst > 1 && rate === 0 && !measured)
    bad('burst', 'frames are back to back already at the rate max', 'a rate, or no burst');
  if (segments > 1) {
    const field = PATTERN_FIELDS.find((f) => body[f] !== undefined);
    if (field !== undefined) bad(field, `${field} does not go together with segments`);
  }
  const sizes = body.imix === undefined ? body.sizes : IMIX_SIMPLE;
  const weighed = sizes?.map(({ size, weight = 1 }) => ({ size, weight })) ?? null;
  return { sizes: weighed, distribution, skew, spread, burst };
}
