/**
 * RFC 2544 on worlds: each trial builds one, lets it learn, sends, and looks at what came out. All streams of the job send at
 * the same time. The searches are in rfc2544.ts, what is asked and answered in measure.ts.
 */
import { RunLedger } from '../../machine/packet/run-ledger.ts';
import { collectGarbage } from '../collect-garbage.ts';
import { Ends } from '../ends.ts';
import type { FaultSpec } from '../faults/fault-types.ts';
import type { TrafficSpec, WorldStatus } from '../protocol.ts';
import { FCS_BYTES } from '../run.ts';
import { BadTraffic } from '../traffic-request.ts';
import type { World } from '../world.ts';
import { contentHash, type JobRun } from './job.ts';
import {
  LEAST_BURSTS,
  LEAST_FRAMES,
  LEAST_LEARNED,
  LEAST_OVERLOAD,
  LONGEST_TRIAL,
  type MeasureSpec,
  type Rfc2544BackToBack,
  type Rfc2544Latency,
  type Rfc2544Loss,
  type Rfc2544Recovery,
  type Rfc2544Reset,
  type Rfc2544Result,
  type Rfc2544Size,
  type Rfc2544Throughput,
} from './measure.ts';
import { backToBack, lossCurve, lossRatio, type Throughput, type Trial, throughputSearch } from './rfc2544.ts';
import { reset, type Stage, systemRecovery } from './rfc2544-recovery.ts';

/** What trials stand on; see run-job.ts. */
export interface TrialGround {
  /** A fresh world of the job's document. */
  open(): World;
  /** Starts stream `index` of the job, changed by `change`. */
  start(world: World, index: number, id: string, change: Partial<TrafficSpec>): void;
  /** The same where that can be; false where the world refuses it. */
  tryStart(world: World, index: number, id: string, change: Partial<TrafficSpec>): boolean;
  /** Breaks something, of the measurement's `reset`. */
  fault(world: World, spec: FaultSpec): void;
  /** Runs until nothing more happens; `events`: how many have happened in earlier worlds. */
  settle(world: World, events: number): void;
  /** The job's requests in the engine's units. */
  readonly streams: readonly Omit<TrafficSpec, 'id'>[];
}

/** A trial, and what is told of it. */
interface WorldTrial extends Trial {
  readonly latency: RunLedger;
  readonly runs: readonly JobRun[];
  readonly conservation: WorldStatus['conservation'];
}
interface Load {
  /** Frames per second of all streams together; null: as fast as they can. */
  readonly rate: number | null;
  /** Frames of each stream; null: as the measurement says. */
  readonly frames: number | null;
}

export interface Measured {
  readonly rfc2544: Rfc2544Result;
  /** Hash of the fingerprints of all worlds. */
  readonly fingerprint: string;
  /** Of all worlds together. */
  readonly virtualTimeSeconds: number;
  readonly events: number;
  /** Of the trial that passed at the throughput of the first frame size; of the last trial where there is none. */
  readonly runs: readonly JobRun[];
  readonly conservation: WorldStatus['conservation'] | null;
}

/** Carries out a measurement. Throws what `ground` throws; a world that fails ends it with a TrialFailed. */
export function measure(spec: MeasureSpec, ground: TrialGround): Measured {
  return new Measurement(spec, ground).run();
}
/** A world's failure, or a run's. */
export class TrialFailed extends Error {}

class Measurement {
  private readonly spec: MeasureSpec;
  private readonly ground: TrialGround;
  private readonly fingerprints: string[] = [];
  private virtualTimeSeconds = 0;
  private events = 0;
  private last: WorldTrial | null = null;
  private shown: WorldTrial | null = null;

  constructor(spec: MeasureSpec, ground: TrialGround) {
    this.spec = spec;
    this.ground = ground;
  }

  run(): Measured {
    const sizes = this.spec.frameSizes.map((size) => this.size(size));
    const shown = this.shown ?? this.last;
    return {
      rfc2544: { sizes, trials: this.fingerprints.length },
      fingerprint: contentHash(this.fingerprints).slice(0, 16),
      virtualTimeSeconds: this.virtualTimeSeconds,
      events: this.events,
      runs: shown?.runs ?? [],
      conservation: shown?.conservation ?? null,
    };
  }

  private size(frameSize: number | null): Rfc2544Size {
    const { tests, maxRate } = this.spec;
    const top = this.trial(frameSize, { rate: maxRate, frames: null });
    const max = maxRate === null ? top.offeredRate : Math.min(maxRate, top.offeredRate);
    // the trial at the highest rate need not be made again
    const at = (rate: number): WorldTrial => (rate === max ? top : this.trial(frameSize, { rate, frames: null }));
    const wanted = (test: MeasureSpec['tests'][number]): boolean => tests.includes(test);
    const search = { max, loss: this.spec.loss, resolution: this.spec.resolution };
    const found = FOUND.some(wanted) ? throughputSearch(at, search) : null;
    this.shown ??= found?.best ?? null;
    return {
      frameSize,
      maxFramesPerSecond: max,
      ...(found !== null && wanted('throughput') ? { throughput: answerOf(found) } : {}),
      ...(found !== null && wanted('latency') ? { latency: this.latency(at, found) } : {}),
      ...(wanted('loss') ? { loss: this.loss(at, max) } : {}),
      ...(wanted('back-to-back') ? { backToBack: this.burst(frameSize) } : {}),
      ...(found !== null && wanted('recovery') ? { recovery: this.recovery(frameSize, found, max) } : {}),
      ...(found !== null && this.spec.reset !== null ? { reset: this.reset(frameSize, found) } : {}),
    };
  }

  private latency(at: (rate: number) => WorldTrial, found: Throughput<WorldTrial>): Rfc2544Latency[] {
    const { framesPerSecond: throughput, best } = found;
    if (best === null) return [];
    return this.spec.latencyRates.map((share) => {
      // the search has made that trial already
      const { latency } = share === 1 ? best : at(throughput * share);
      return {
        share,
        framesPerSecond: throughput * share,
        meanSeconds: latency.meanLatency / 1e9,
        p50Seconds: latency.quantile(0.5) / 1e9,
        p90Seconds: latency.quantile(0.9) / 1e9,
        p99Seconds: latency.quantile(0.99) / 1e9,
        maxSeconds: latency.maxLatency / 1e9,
      };
    });
  }

  private loss(at: (rate: number) => WorldTrial, max: number): Rfc2544Loss[] {
    return lossCurve(at, { max, step: this.spec.lossStep }).map(({ share, trial }) => ({
      share,
      offeredFramesPerSecond: trial.offeredRate,
      receivedFramesPerSecond: trial.receivedRate,
      lossRatio: lossRatio(trial),
    }));
  }

  private burst(frameSize: number | null): Rfc2544BackToBack {
    const { longestBurst: most, resolution, maxRate: rate } = this.spec;
    return backToBack((frames) => this.trial(frameSize, { rate, frames }), { most, resolution });
  }

  private recovery(
    frameSize: number | null,
    { framesPerSecond: throughput }: Throughput<WorldTrial>,
    max: number,
  ): Rfc2544Recovery | null {
    if (throughput === 0) return null;
    const { overloadSeconds, durationSeconds } = this.spec;
    return this.onStage(frameSize, (stage) =>
      systemRecovery(stage, {
        ...{ throughput, max },
        overloadFrames: (rate) => this.framesFor(overloadSeconds, rate, LEAST_OVERLOAD),
        reducedFrames: (rate) => this.framesFor(durationSeconds, rate, LEAST_FRAMES),
      }),
    );
  }
  private reset(
    frameSize: number | null,
    { framesPerSecond: throughput }: Throughput<WorldTrial>,
  ): Rfc2544Reset | null {
    const { reset: spec, durationSeconds } = this.spec;
    if (throughput === 0 || spec === null) return null;
    const away = spec.restartAfterNs / 1e9;
    this.outlasts(away, throughput / this.ground.streams.length);
    const after = away + durationSeconds;
    return this.onStage(frameSize, (stage) =>
      reset(stage, {
        ...{ ...spec, throughput, framesBefore: LEAST_FRAMES },
        frames: (rate) => LEAST_FRAMES + this.framesFor(after, rate, LEAST_FRAMES),
      }),
    );
  }
  /** Streams that have ended when the back-end is back would tell nothing of its return. `rate`: of one of them. */
  private outlasts(away: number, rate: number): void {
    const needed = Math.ceil(away * rate) + LEAST_FRAMES;
    const { maxFrames } = this.spec;
    if (needed <= maxFrames) return;
    throw new BadTraffic(
      '/measure/reset/restartAfter',
      `at ${Math.round(rate)} frames per second a stream has sent its ${maxFrames} frames before the back-end is back`,
      `a shorter time, or maxFrames of ${needed} at least`,
    );
  }
  /** A world of its own for a test in which something changes while streams send. */
  private onStage<T>(frameSize: number | null, act: (stage: Stage) => T): T {
    const { ground } = this;
    const { world, settle } = this.learned(frameSize);
    const sized = frameSize === null ? {} : { frameSize };
    const ids = new Set<string>();
    const answer = act({
      world,
      streams: ground.streams.length,
      send: (name, change) => {
        for (let i = 0; i < ground.streams.length; i++) {
          const id = `${name}-${i + 1}`;
          ids.add(id);
          ground.start(world, i, id, { ...sized, ...change });
        }
      },
      ledgers: (name) => ground.streams.map((_, i) => ledgerOf(world, `${name}-${i + 1}`)),
      fault: (spec) => ground.fault(world, spec),
      settle,
    });
    for (const id of ids) {
      const { state, reason } = world.run(id);
      if (state !== 'SUCCEEDED') throw new TrialFailed(reason ?? `${id} is ${state}`);
    }
    this.count(world.status());
    collectGarbage();
    return answer;
  }
  /** Frames of a stream at a rate of its own, for a time, `least` of them at least. */
  private framesFor(seconds: number, rate: number, least: number): number {
    const most = Math.min(this.spec.maxFrames, Math.max(1, Math.floor(LONGEST_TRIAL * rate)));
    return Math.min(most, Math.max(least, Math.ceil(seconds * rate)));
  }

  /** A fresh world that knows its ends and flows. */
  private learned(frameSize: number | null): { readonly world: World; readonly settle: () => void } {
    const { ground, spec } = this;
    const { streams } = ground;
    const world = ground.open();
    const settle = (): void => {
      ground.settle(world, this.events);
      if (world.failed !== null) throw new TrialFailed(world.failed);
    };
    const sized = frameSize === null ? {} : { frameSize };
    const { frames: learned, rate: slow } = spec.learning;
    if (learned !== 0) {
      for (const [i, { flows }] of streams.entries()) {
        const count = learned ?? Math.max(LEAST_LEARNED, flows);
        ground.start(world, i, `learn-${i + 1}`, { ...sized, ...inTurns(streams[i]!), count, rate: slow });
      }
      settle();
      // and some from the other end, where it can send: switches learn where it is
      const backward = (i: number, { from, to }: Pick<TrafficSpec, 'from' | 'to'>): boolean =>
        ground.tryStart(world, i, `learn-back-${i + 1}`, { ...sized, ...BACKWARD, from: to, to: from });
      if (streams.filter((stream, i) => stream.from !== stream.to && backward(i, stream)).length > 0) settle();
    }
    return { world, settle };
  }

  /** One world, from its boot to its last frame. */
  private trial(frameSize: number | null, load: Load): WorldTrial {
    const { ground, spec } = this;
    const { streams } = ground;
    const { world, settle } = this.learned(frameSize);
    const sized = frameSize === null ? {} : { frameSize };
    const rate = load.rate === null ? 0 : load.rate / streams.length;
    const wanted = rate === 0 ? spec.maxFrames : Math.ceil(spec.durationSeconds * rate);
    // at a rate far below the highest one it has those that fit into its time
    const most = rate === 0 ? spec.maxFrames : Math.min(spec.maxFrames, Math.max(1, Math.floor(LONGEST_TRIAL * rate)));
    const frames = Math.min(most, Math.max(LEAST_FRAMES, wanted));
    const ends = rate === 0 && load.frames === null ? { durationSeconds: spec.durationSeconds } : {};
    for (let i = 0; i < streams.length; i++) {
      const id = `run-${i + 1}`;
      const stream = streams[i]!;
      // as fast as possible frames are back to back anyway, and a burst that is a trial's own is not made of others
      const bursts = rate > 0 && load.frames === null;
      const count = load.frames ?? (bursts ? wholeBursts(frames, most, stream, world) : frames);
      ground.start(world, i, id, { ...sized, ...(bursts ? {} : inOne(stream)), rate, count, ...ends });
      // as fast as possible for a time: how many that will be is not known
      if (!('durationSeconds' in ends)) ledgerOf(world, id).mark = count >> 1;
    }
    settle();
    const trial = this.outcome(world, load.rate);
    this.last = trial;
    // the next world's memory takes the place of this one's
    collectGarbage();
    return trial;
  }

  /** Into what is told of all worlds together. */
  private count({ fingerprint, virtualTimeSeconds, events }: WorldStatus): void {
    this.fingerprints.push(fingerprint);
    this.virtualTimeSeconds += virtualTimeSeconds;
    this.events += events;
  }

  private outcome(world: World, asked: number | null): WorldTrial {
    const { streams } = this.ground;
    const all = new RunLedger(0, 0, 0);
    let offeredRate = 0;
    let receivedRate = 0;
    const runs = streams.map((_, i) => {
      const id = `run-${i + 1}`;
      const { wall: _wall, ...run } = world.run(id);
      if (run.state !== 'SUCCEEDED') throw new TrialFailed(run.reason ?? `${id} is ${run.state}`);
      const ledger = ledgerOf(world, id);
      all.add(ledger);
      offeredRate += rateOf(ledger.sent, ledger.firstSendNs, ledger.lastSendNs);
      receivedRate += receivedRateOf(ledger);
      return run;
    });
    const status = world.status();
    this.count(status);
    return {
      sent: all.sent,
      received: all.received,
      // bursts, and the last frame that is sent a little late, make the measured rate differ from what was asked for
      offeredRate: asked === null ? offeredRate : Math.min(asked, offeredRate),
      receivedRate,
      latency: all,
      runs,
      conservation: status.conservation,
    };
  }
}

/** What is measured at the throughput, or in relation to it. */
const FOUND: readonly MeasureSpec['tests'][number][] = ['throughput', 'latency', 'recovery', 'reset'];

function answerOf({ best, framesPerSecond, failedFramesPerSecond, trials }: Throughput<WorldTrial>): Rfc2544Throughput {
  const { delivered = 0, deliveredBytes = 0 } = best?.latency ?? {};
  const bytes = delivered === 0 ? 0 : deliveredBytes / delivered + FCS_BYTES;
  return {
    framesPerSecond,
    frameBitsPerSecond: framesPerSecond * bytes * 8,
    lossRatio: best === null ? 0 : lossRatio(best),
    failedFramesPerSecond,
    trials,
  };
}
function ledgerOf(world: World, id: string): RunLedger {
  return world.machine.frames.ledgers[world.runNumber(id)]!;
}
/** What the other end sends before a trial. */
const BACKWARD = {
  count: 2,
  rate: 10_000,
  flows: 1,
  generator: null,
  segments: undefined,
  pattern: undefined,
} as const;

/**
 * Frames of a trial that sends in bursts (RFC 2544 §21): an even number of whole ones from each sender, so that the second half begins
 * where one has ended, and lasts as many of their periods as it has bursts. As they are where not even two fit into `most`.
 */
function wholeBursts(frames: number, most: number, stream: Omit<TrafficSpec, 'id'>, world: World): number {
  const { flows, from, pattern } = stream;
  const burst = pattern?.burst ?? 1;
  if (burst === 1) return frames;
  const end = new Ends(world.machine).find(from);
  const senders = end?.kind === 'guest' ? Math.min(end.nic.nic.active, flows) : 1;
  const pair = 2 * burst * senders;
  const wanted = Math.max(LEAST_BURSTS / 2, Math.ceil(frames / pair));
  return Math.min(wanted, Math.floor(most / pair)) * pair || frames;
}
/** The same without bursts. */
function inOne({ pattern }: Omit<TrafficSpec, 'id'>): Partial<TrafficSpec> {
  return pattern === undefined ? {} : { pattern: { ...pattern, burst: 1 } };
}
/** Frames before a trial take turns among flows: each has one. */
function inTurns({ pattern }: Omit<TrafficSpec, 'id'>): Partial<TrafficSpec> {
  return pattern === undefined ? {} : { pattern: { ...pattern, distribution: 'round-robin', burst: 1 } };
}
/**
 * Frames per second that came out in the second half of a trial: in the first one the way fills up. Where less than half came out,
 * from the first that was sent.
 */
function receivedRateOf({ received, mark, markedNs, firstSendNs, lastDeliveryNs }: RunLedger): number {
  return markedNs < 0
    ? rateOf(received, firstSendNs, lastDeliveryNs)
    : rateOf(received - mark, markedNs, lastDeliveryNs);
}
function rateOf(frames: number, first: number, last: number): number {
  return frames < 2 || last <= first ? 0 : ((frames - 1) * 1e9) / (last - first);
}
