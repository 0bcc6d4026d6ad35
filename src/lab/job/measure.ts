/**
 * A measurement in place of traffic: which questions of RFC 2544 are asked, how, and what the answers look like. The requests of
 * the job's `traffic` say between which ends and with what flows; their rates and frames are the measurement's.
 */
import { type Static, Type } from 'typebox';
import { closed, oneOf } from '../schema-kit.ts';
import { BadTraffic, type TrafficRequestBody } from '../traffic-request.ts';
import { DURATION_PATTERN, parseDuration } from '../units.ts';

const TESTS = ['throughput', 'latency', 'loss', 'back-to-back', 'recovery', 'reset'] as const;
const ratio = (description: string, standard: number, minimum: number, maximum: number) =>
  Type.Optional(Type.Number({ minimum, maximum, default: standard, description, examples: [standard] }));

export const Measure = closed(
  {
    kind: oneOf(['rfc2544'], { examples: ['rfc2544'] }),
    tests: Type.Optional(
      Type.Array(oneOf(TESTS, { examples: ['throughput'] }), {
        minItems: 1,
        uniqueItems: true,
        maxItems: TESTS.length,
        default: ['throughput'],
        description:
          '`throughput`: the highest rate that loses no more than `loss` (§26.1). `latency`: at `latencyRates` of the throughput, of all frames (§26.2). `loss`: the share that is lost, from the highest rate down until two rates lose nothing (§26.3). `back-to-back`: the longest burst at the highest rate of which nothing is lost (§26.4). `recovery`: how long frames are lost after an overload (§26.5). `reset`: how long none comes while a back-end is started again (§26.6), which `reset` names.',
        examples: [['throughput', 'latency']],
      }),
    ),
    frameSizes: Type.Optional(
      Type.Array(Type.Integer({ minimum: 64, maximum: 1518, examples: [64] }), {
        minItems: 1,
        maxItems: 32,
        uniqueItems: true,
        description:
          "Frame sizes with FCS, each measured by itself (RFC 2544 §9.1: 64, 128, 256, 512, 1024, 1280 and 1518). Default: the traffic's own.",
        examples: [[64, 512, 1518]],
      }),
    ),
    duration: Type.Optional(
      Type.String({
        pattern: DURATION_PATTERN,
        maxLength: 32,
        default: '20ms',
        description:
          'How long a trial sends, in virtual time; longer where that would be fewer than 8000 frames, up to an hour. A trial also fails when frames come out more slowly than they go in, which a longer one would see as loss.',
        examples: ['20ms'],
      }),
    ),
    maxFrames: Type.Optional(
      Type.Integer({
        minimum: 100,
        maximum: 100_000_000,
        default: 200_000,
        description: 'Frames after which each stream of a trial ends, if `duration` is not over before.',
        examples: [200000],
      }),
    ),
    loss: ratio('Share of the frames that a trial of the throughput may lose.', 0, 0, 0.999),
    resolution: ratio(
      'How exact throughput and bursts are, as a share of them. A finer one takes longer trials: frames come out unevenly.',
      0.01,
      0.0001,
      0.5,
    ),
    maxRate: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 1_000_000_000,
        description:
          'Highest rate, frames per second of all streams together. Default: what the line, or the generator, can do.',
        examples: [1000000],
      }),
    ),
    learning: Type.Optional(
      closed(
        {
          frames: Type.Optional(
            Type.Integer({
              minimum: 0,
              maximum: 10_000_000,
              description: 'Of each stream. Default: one for each of its flows, and 100 at least.',
              examples: [1000],
            }),
          ),
          rate: Type.Optional(
            Type.Number({
              exclusiveMinimum: 0,
              maximum: 1_000_000_000,
              default: 10_000,
              description: 'Frames per second.',
            }),
          ),
        },
        {
          description:
            'Frames of the same flows before each trial, after which addresses and flows are known (RFC 2544 §23). They are not counted.',
          examples: [{ frames: 1000, rate: 10000 }],
        },
      ),
    ),
    latencyRates: Type.Optional(
      Type.Array(Type.Number({ exclusiveMinimum: 0, maximum: 1, examples: [1] }), {
        minItems: 1,
        maxItems: 16,
        default: [1],
        description: 'Rates at which latency is measured, as shares of the throughput.',
        examples: [[0.1, 0.5, 0.9, 1]],
      }),
    ),
    lossStep: ratio('Step of the rates of `loss`, as a share of the highest.', 0.1, 0.01, 0.5),
    recovery: Type.Optional(
      closed(
        {
          overload: Type.Optional(
            Type.String({
              pattern: DURATION_PATTERN,
              maxLength: 32,
              default: '100ms',
              description:
                'How long the overload lasts, in virtual time; longer where that would be fewer than 50,000 frames of a stream, and never more than `maxFrames` of them. RFC 2544 has 60 s, so that the queues are full; 50,000 frames, a tenth too many, fill rings of 4096.',
              examples: ['100ms'],
            }),
          ),
        },
        { description: 'Of the test `recovery`.', examples: [{ overload: '100ms' }] },
      ),
    ),
    reset: Type.Optional(
      closed(
        {
          nic: Type.String({
            maxLength: 128,
            description: 'A NIC of a guest, `guest/nic`, whose vhost-user back-end dies and is started again.',
            examples: ['a/net0'],
          }),
          restartAfter: Type.Optional(
            Type.String({
              pattern: DURATION_PATTERN,
              maxLength: 32,
              default: '1ms',
              description:
                'The back-end is started again so long after it died. Streams that send all of their `maxFrames` meanwhile are refused.',
              examples: ['1ms'],
            }),
          ),
        },
        { description: 'Of the test `reset`, which needs it.', examples: [{ nic: 'a/net0', restartAfter: '1ms' }] },
      ),
    ),
    longestBurst: Type.Optional(
      Type.Integer({
        minimum: 2,
        maximum: 100_000_000,
        default: 100_000,
        description: 'Longest burst that `back-to-back` tries.',
        examples: [100000],
      }),
    ),
  },
  {
    $id: 'Measure',
    description:
      'A measurement by RFC 2544. Every trial has a fresh topology. The streams of `traffic` (kind `udp`) send at the same time, each with its part of the rate. With a `burst` they send repeated bursts of that many frames, at the mean rate of the trial (RFC 2544 §21).',
    examples: [{ kind: 'rfc2544', tests: ['throughput', 'latency'], frameSizes: [64, 1518] }],
  },
);
export type MeasureBody = Static<typeof Measure>;
export type MeasureTest = (typeof TESTS)[number];

/** A measurement with its defaults, in plain units. */
export interface MeasureSpec {
  readonly tests: readonly MeasureTest[];
  /** null: what the traffic says. */
  readonly frameSizes: readonly (number | null)[];
  readonly durationSeconds: number;
  readonly maxFrames: number;
  readonly loss: number;
  readonly resolution: number;
  /** null: what the senders can. */
  readonly maxRate: number | null;
  /** `frames` null: as many as there are flows. */
  readonly learning: { readonly frames: number | null; readonly rate: number };
  readonly latencyRates: readonly number[];
  readonly lossStep: number;
  readonly longestBurst: number;
  readonly overloadSeconds: number;
  /** null: it is not among the tests. */
  readonly reset: { readonly nic: string; readonly restartAfterNs: number } | null;
}

/** Fewest frames of a stream in a trial: kernels take up to 64 at once, and half of them are looked at. */
export const LEAST_FRAMES = 8000;
/** Fewest frames of a stream in an overload of 110 %: a tenth of them is more than the rings hold, 4096 entries at most. */
export const LEAST_OVERLOAD = 50_000;
/** Fewest frames that a stream sends before a trial. */
export const LEAST_LEARNED = 100;
/** Seconds of virtual time that a trial sends at most: at a rate far below the highest one it has fewer frames. */
export const LONGEST_TRIAL = 3600;
/** Bursts of each sender in a trial at least, so that their mean rate can be seen. A guest sends by 16 queue pairs at most. */
export const LEAST_BURSTS = 8;
const MOST_SENDERS = 16;

/** What a trial's rate and frames come from: it says them, so the traffic does not. */
const MEASURED: Readonly<Record<string, unknown>> = { rate: 'max', count: 100, duration: undefined, start: undefined };

/**
 * The measurement with its defaults. Throws BadTraffic, with a pointer that begins with `/measure` or `/traffic`, where it does not
 * go together with the traffic.
 */
export function measureSpec(
  body: MeasureBody,
  traffic: readonly (TrafficRequestBody & { readonly start?: string })[],
): MeasureSpec {
  if (traffic.length === 0) throw new BadTraffic('/traffic', 'there is nothing to measure', 'at least one stream');
  for (const [i, request] of traffic.entries()) {
    if (request.kind !== 'udp') throw new BadTraffic(`/traffic/${i}/kind`, `${request.kind} is not measured`, 'udp');
    for (const [field, left] of Object.entries(MEASURED)) {
      const value = request[field as keyof typeof request];
      if (value !== undefined && value !== left)
        throw new BadTraffic(
          `/traffic/${i}/${field}`,
          `the measurement has its own ${field}`,
          'the field to be left out',
        );
    }
    const { burst = 1, flows = 1 } = request;
    const { maxFrames = 200_000 } = body;
    const most = Math.floor(maxFrames / LEAST_BURSTS / Math.min(flows, MOST_SENDERS));
    if (burst > 1 && burst > most)
      throw new BadTraffic(
        `/traffic/${i}/burst`,
        `a trial of at most ${maxFrames} frames has too few bursts of ${burst}`,
        `at most ${most}, or more maxFrames`,
      );
    if (body.frameSizes !== undefined && (request.imix ?? request.sizes) !== undefined)
      throw new BadTraffic('/measure/frameSizes', 'the traffic is a mix of sizes', 'one of them');
    if (body.frameSizes !== undefined && (request.frameSize ?? 64) !== 64)
      throw new BadTraffic(`/traffic/${i}/frameSize`, 'the measurement says frameSizes', 'one of them');
  }
  // with a mark of its own in the middle, a trial has so many frames of each stream, however slow
  const least = (Math.min(LEAST_FRAMES, body.maxFrames ?? LEAST_FRAMES) * traffic.length) / LONGEST_TRIAL;
  if (body.maxRate !== undefined && body.maxRate < least)
    throw new BadTraffic(
      '/measure/maxRate',
      `a trial at ${body.maxRate} frames per second would take longer than ${LONGEST_TRIAL} s`,
      `at least ${least}`,
    );
  const { rate: learningRate, frames: learned } = body.learning ?? {};
  const learning = learned ?? Math.max(LEAST_LEARNED, ...traffic.map(({ flows = 1 }) => flows));
  if (learningRate !== undefined && learningRate < learning / LONGEST_TRIAL)
    throw new BadTraffic(
      '/measure/learning/rate',
      `${learning} frames at ${learningRate} frames per second would take longer than ${LONGEST_TRIAL} s`,
      `at least ${learning / LONGEST_TRIAL}`,
    );
  const time = (field: string, text: string, least: number, range: string): number => {
    const parsed = parseDuration(text);
    if (!parsed.ok) throw new BadTraffic(`/measure/${field}`, parsed.detail, parsed.expected);
    if (parsed.value < least || parsed.value > LONGEST_TRIAL * 1e9)
      throw new BadTraffic(`/measure/${field}`, `${text} is out of range`, range);
    return parsed.value;
  };
  const duration = time('duration', body.duration ?? '20ms', 1000, '1us to 3600s');
  const overload = time('recovery/overload', body.recovery?.overload ?? '100ms', 1000, '1us to 3600s');
  const tests = body.tests ?? ['throughput'];
  if (tests.includes('reset') && body.reset === undefined)
    throw new BadTraffic('/measure/reset', 'is missing', 'an object with the `nic` whose back-end is reset');
  const restart = time('reset/restartAfter', body.reset?.restartAfter ?? '1ms', 100_000, '100us to 3600s');
  return {
    tests,
    frameSizes: body.frameSizes ?? [null],
    durationSeconds: duration / 1e9,
    maxFrames: body.maxFrames ?? 200_000,
    loss: body.loss ?? 0,
    resolution: body.resolution ?? 0.01,
    maxRate: body.maxRate ?? null,
    learning: { frames: body.learning?.frames ?? null, rate: body.learning?.rate ?? 10_000 },
    latencyRates: body.latencyRates ?? [1],
    lossStep: body.lossStep ?? 0.1,
    longestBurst: body.longestBurst ?? 100_000,
    overloadSeconds: overload / 1e9,
    reset: tests.includes('reset') && body.reset ? { nic: body.reset.nic, restartAfterNs: restart } : null,
  };
}

// ---- answers ------------------------------------------------------------------------------------------------------

/** Rates are frames per second of virtual time, of all streams together. */
export interface Rfc2544Throughput {
  readonly framesPerSecond: number;
  /** Of frames with FCS, without preamble and gap. */
  readonly frameBitsPerSecond: number;
  /** What was lost at that rate. */
  readonly lossRatio: number;
  /** The lowest rate that failed; null where the highest one passed. */
  readonly failedFramesPerSecond: number | null;
  readonly trials: number;
}
export interface Rfc2544Latency {
  /** Of the throughput. */
  readonly share: number;
  readonly framesPerSecond: number;
  readonly meanSeconds: number;
  readonly p50Seconds: number;
  readonly p90Seconds: number;
  readonly p99Seconds: number;
  readonly maxSeconds: number;
}
export interface Rfc2544Loss {
  /** Of the highest rate. */
  readonly share: number;
  readonly offeredFramesPerSecond: number;
  readonly receivedFramesPerSecond: number;
  readonly lossRatio: number;
}
export interface Rfc2544BackToBack {
  readonly frames: number;
  /** `longestBurst` came out whole: there may be longer ones. */
  readonly atLeast: boolean;
  readonly trials: number;
}
export interface Rfc2544Recovery {
  /** 110 % of the throughput, or the highest rate where that is lower. */
  readonly overloadFramesPerSecond: number;
  /** Half of it. */
  readonly reducedFramesPerSecond: number;
  /** Of the frames of the overload. */
  readonly overloadLossRatio: number;
  /** Frames that were lost after the rate was reduced, those of the overload that were under way included. */
  readonly lostAfterwards: number;
  /** From the reduction of the rate to the last frame that was lost; 0: none was. null: frames were lost as long as it was looked. */
  readonly seconds: number | null;
}
export interface Rfc2544Reset {
  readonly framesPerSecond: number;
  readonly lostFrames: number;
  /** From the last frame before to the first frame after, of the stream that waited longest; null: none came. */
  readonly seconds: number | null;
}
/** Tests that were not asked for are left out. */
export interface Rfc2544Size {
  /** null: as the traffic says. */
  readonly frameSize: number | null;
  /** The highest rate that was offered. */
  readonly maxFramesPerSecond: number;
  readonly throughput?: Rfc2544Throughput;
  readonly latency?: readonly Rfc2544Latency[];
  readonly loss?: readonly Rfc2544Loss[];
  readonly backToBack?: Rfc2544BackToBack;
  /** null: no rate passed. */
  readonly recovery?: Rfc2544Recovery | null;
  readonly reset?: Rfc2544Reset | null;
}
export interface Rfc2544Result {
  readonly sizes: readonly Rfc2544Size[];
  readonly trials: number;
}
