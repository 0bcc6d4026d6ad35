/** What runs of experiments come to: the result of a job, and in it what a measurement found. The types are those of lab/job. */
import { Type } from 'typebox';
import { closed, name, oneOf, orNull, ref } from './reference.ts';
import { ConservationSchema } from './topology.ts';
import { RunSchema } from './traffic.ts';

const whole = (description: string, example = 0) => Type.Integer({ minimum: 0, description, examples: [example] });
const number = (description: string, example = 0) => Type.Number({ minimum: 0, description, examples: [example] });
const ratio = (description: string, example = 0) =>
  Type.Number({ minimum: 0, maximum: 1, description, examples: [example] });
const rate = (description: string, example = 1_000_000) => number(`${description}, frames per second.`, example);

// ---- RFC 2544 -----------------------------------------------------------------------------------------------------
const Throughput = closed(
  {
    framesPerSecond: rate('The highest rate that lost no more than it may', 8_200_000),
    frameBitsPerSecond: number('The same in bits of frames with FCS, without preamble and gap.', 4_198_400_000),
    lossRatio: ratio('What was lost at that rate, as a share of the frames.'),
    failedFramesPerSecond: orNull(rate('The lowest rate that failed', 8_250_000), {
      description: 'The lowest rate that failed, frames per second; null: the highest one passed.',
      examples: [8250000],
    }),
    trials: whole('Trials of the search.', 7),
  },
  { description: '§26.1. With `throughput` among the tests.' },
);
const Latency = closed({
  share: ratio('Of the throughput, as it was asked for.', 1),
  framesPerSecond: rate('The rate', 8_200_000),
  meanSeconds: number('Mean of all frames.', 0.0000021),
  p50Seconds: number('Median.', 0.000002),
  p90Seconds: number('90 %.', 0.0000024),
  p99Seconds: number('99 %.', 0.0000031),
  maxSeconds: number('Longest.', 0.0000044),
});
const Loss = closed({
  share: ratio('Of the highest rate.', 1),
  offeredFramesPerSecond: rate('Sent', 37_202_380),
  receivedFramesPerSecond: rate('Came out', 8_220_000),
  lossRatio: ratio('Share of the frames that did not.', 0.78),
});
const BackToBack = closed(
  {
    frames: whole('Longest burst at the highest rate of which nothing was lost.', 1536),
    atLeast: Type.Boolean({
      description: '`longestBurst` came out whole: there may be longer ones.',
      examples: [false],
    }),
    trials: whole('Trials of the search.', 14),
  },
  { description: '§26.4. With `back-to-back` among the tests.' },
);
const Recovery = closed(
  {
    overloadFramesPerSecond: rate('110 % of the throughput, or the highest rate where that is lower', 13_200_000),
    reducedFramesPerSecond: rate('Half of it', 6_600_000),
    overloadLossRatio: ratio('Share of the frames of the overload that did not come out.', 0.08),
    lostAfterwards: whole('Frames that were lost after the rate was halved.', 3),
    seconds: orNull(Type.Number(), {
      description:
        'From the halving of the rate to the last frame that was lost; 0: none was, null: frames were lost as long as it was looked.',
      examples: [0.000012],
    }),
  },
  { description: '§26.5. With `recovery` among the tests; null where no rate passed.' },
);
const Reset = closed(
  {
    framesPerSecond: rate('The throughput, at which the streams send', 12_000_000),
    lostFrames: whole('Frames that did not come out.', 16_000),
    seconds: orNull(Type.Number(), {
      description:
        'From the last frame before to the first one after, of the stream that waited longest; null: none came.',
      examples: [0.0015],
    }),
  },
  { description: '§26.6. With `reset` among the tests; null where no rate passed.' },
);
export const Rfc2544ResultSchema = name(
  closed(
    {
      sizes: Type.Array(
        closed({
          frameSize: orNull(whole('Bytes with FCS.', 64), {
            description: 'Bytes with FCS; null: as the traffic says.',
            examples: [64],
          }),
          maxFramesPerSecond: rate('The highest rate that was offered', 37_202_380),
          throughput: Type.Optional(Throughput),
          latency: Type.Optional(
            Type.Array(Latency, {
              description: '§26.2, by `latencyRates`. With `latency` among the tests; empty where no rate passed.',
            }),
          ),
          loss: Type.Optional(
            Type.Array(Loss, { description: '§26.3, from the highest rate down. With `loss` among the tests.' }),
          ),
          backToBack: Type.Optional(BackToBack),
          recovery: Type.Optional(orNull(Recovery)),
          reset: Type.Optional(orNull(Reset)),
        }),
        { description: 'By frame size, as they were asked for. Tests that were not asked for are left out.' },
      ),
      trials: whole('Trials of all of it, each in a fresh topology.', 24),
    },
    {
      $id: 'Rfc2544Result',
      description: 'What a measurement (`Measure`) came to. Rates are those of all streams together, in virtual time.',
    },
  ),
);

// ---- jobs ---------------------------------------------------------------------------------------------------------
const { wall: _wall, capture: _capture, ...ofRun } = RunSchema.properties;
const JobRunSchema = name(
  closed(ofRun, { $id: 'JobRun', description: 'A traffic run of a job: a `Run` without what depends on the machine.' }),
);

export const JobProblemSchema = closed({
  code: Type.String({ examples: ['RINGSIDE_E_LIMIT'] }),
  detail: Type.String({ examples: ['the world takes 600 MiB, the run may take 512 MiB'] }),
  pointer: Type.Optional(Type.String({ examples: ['/limits/memory'] })),
});

export const JobResultSchema = name(
  closed(
    {
      state: oneOf(['SUCCEEDED', 'FAILED'], {
        description: '`FAILED`: traffic failed or was refused.',
        examples: ['SUCCEEDED'],
      }),
      problem: orNull(JobProblemSchema, { description: 'What failed in it; null: nothing.' }),
      profile: closed({
        name: Type.String({ examples: ['haswell-2.4'] }),
        hash: Type.String({ description: 'Of all effective costs.', examples: ['0123456789abcdef'] }),
      }),
      seed: whole('Seed of its random streams.', 1),
      fingerprint: Type.String({
        description: 'Of all events of its topology, or of all those of a measurement; empty where there was none.',
        examples: ['0123456789abcdef'],
      }),
      virtualTimeSeconds: number('At its end; of a measurement, of all trials together.', 0.0123),
      events: whole('Events that were recorded.', 123456),
      conservation: orNull(ref(ConservationSchema), {
        description: 'The account of frames; null where there was none.',
      }),
      runs: Type.Array(ref(JobRunSchema), {
        description:
          'By traffic request. Of a measurement: those of the trial that passed at the throughput of the first frame size.',
      }),
      rfc2544: Type.Optional(ref(Rfc2544ResultSchema)),
    },
    { $id: 'JobResult', description: 'The result of a run: the same bytes on every machine.' },
  ),
);
