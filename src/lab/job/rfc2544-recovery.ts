/**
 * How a world recovers: system recovery after an overload (RFC 2544 §26.5) and reset (§26.6). Each has one world, in which the rate
 * changes or a back-end dies while streams send.
 *
 * DEVIATION: RFC 2544 §26.6 resets the device under test, and interrupts its power for 10 s. Here the vhost-user back-end of one port
 * dies and is started again; switch, tables and the other ports go on.
 */
import type { RunLedger } from '../../machine/packet/run-ledger.ts';
import type { FaultSpec } from '../faults/fault-types.ts';
import type { TrafficSpec } from '../protocol.ts';
import type { World } from '../world.ts';
import type { Rfc2544Recovery, Rfc2544Reset } from './measure.ts';

/** §26.5: of the throughput, and then of the rate before. */
const OVERLOAD = 1.1;
const REDUCED = 0.5;

/** A world that has learned, with the streams of a job. */
export interface Stage {
  readonly world: World;
  readonly streams: number;
  /** Starts every stream as `<name>-1` …, changed by `change`. */
  send(name: string, change: Partial<TrafficSpec>): void;
  ledgers(name: string): readonly RunLedger[];
  fault(spec: FaultSpec): void;
  /** Until nothing more happens, or the clock stands where it was told to. */
  settle(): void;
}

function runUntil({ world, settle }: Stage, at: number): void {
  world.clock({ untilSeconds: at / 1e9 });
  settle();
  world.clock({ state: 'RUNNING' });
}
const sum = (ledgers: readonly RunLedger[], of: (ledger: RunLedger) => number): number =>
  ledgers.reduce((all, ledger) => all + of(ledger), 0);
const lostOf = (ledgers: readonly RunLedger[]): number =>
  sum(ledgers, ({ sent, received }) => Math.max(0, sent - received));

export interface RecoveryPlan {
  /** Frames per second of all streams together: the throughput, and the highest rate. */
  readonly throughput: number;
  readonly max: number;
  /** Frames of a stream at a rate of its own: those of the overload, and those that are sent afterwards. */
  readonly overloadFrames: (rate: number) => number;
  readonly reducedFrames: (rate: number) => number;
}

/**
 * Sends 110 % of the throughput, then half of that, and looks when the last frame was lost. What is told is the time from the reduction
 * to that frame: RFC 2544 says "subtracting Timestamp B from Timestamp A", which would be negative.
 */
export function systemRecovery(
  stage: Stage,
  { throughput, max, overloadFrames, reducedFrames }: RecoveryPlan,
): Rfc2544Recovery {
  const { world, streams } = stage;
  const overload = Math.min(max, OVERLOAD * throughput);
  const rate = overload / streams;
  const count = overloadFrames(rate);
  const reducedAt = world.now + (count * 1e9) / rate;
  stage.send('overload', { rate, count });
  runUntil(stage, reducedAt);
  const before = stage.ledgers('overload');
  const lostUntilThen = sum(before, dropsOf);
  const afterwards = REDUCED * rate;
  const frames = reducedFrames(afterwards);
  stage.send('reduced', { rate: afterwards, count: frames });
  stage.settle();
  const after = stage.ledgers('reduced');
  const lost = lostOf(before) + lostOf(after);
  const last = Math.max(...before.map(({ lastDropNs }) => lastDropNs), ...after.map(({ lastDropNs }) => lastDropNs));
  // in the second half all is as it will be
  const endless = last > reducedAt + (frames * 1e9) / afterwards / 2;
  return {
    overloadFramesPerSecond: overload,
    reducedFramesPerSecond: REDUCED * overload,
    overloadLossRatio:
      lostOf(before) /
      Math.max(
        1,
        sum(before, ({ sent }) => sent),
      ),
    lostAfterwards: Math.max(0, lost - lostUntilThen),
    seconds: endless ? null : Math.max(0, last - reducedAt) / 1e9,
  };
}
function dropsOf({ dropped }: RunLedger): number {
  return dropped.reduce((all, n) => all + n, 0);
}

export interface ResetPlan {
  readonly nic: string;
  readonly restartAfterNs: number;
  readonly throughput: number;
  /** Frames of a stream before the reset, and of the whole trial, at a rate of its own. */
  readonly framesBefore: number;
  readonly frames: (rate: number) => number;
}

/** Sends at the throughput while a back-end dies and is started again. */
export function reset(
  stage: Stage,
  { nic, restartAfterNs, throughput, framesBefore, frames }: ResetPlan,
): Rfc2544Reset {
  const { world, streams } = stage;
  const rate = throughput / streams;
  const at = world.now + (framesBefore * 1e9) / rate;
  stage.send('reset', { rate, count: frames(rate) });
  runUntil(stage, at);
  stage.fault({ kind: 'backend_crash', nic, atNs: null, everyFrames: null, times: null, restartAfterNs });
  runUntil(stage, at + restartAfterNs);
  const ledgers = stage.ledgers('reset');
  const lastBefore = ledgers.map((ledger) => {
    // the next delivery is the first one after the reset
    ledger.mark = ledger.delivered;
    ledger.markedNs = -1;
    return ledger.lastDeliveryNs;
  });
  stage.settle();
  const gaps = ledgers.map(({ markedNs }, i) => (markedNs < 0 ? Number.POSITIVE_INFINITY : markedNs - lastBefore[i]!));
  const longest = Math.max(...gaps);
  return {
    framesPerSecond: throughput,
    lostFrames: lostOf(ledgers),
    seconds: longest === Number.POSITIVE_INFINITY ? null : longest / 1e9,
  };
}
