/**
 * The searches of RFC 2544 (Benchmarking Methodology for Network Interconnect Devices): throughput (§26.1), frame loss rate
 * (§26.3) and back-to-back frames (§26.4). They know nothing of worlds: a trial is a function that offers frames and says
 * what came out. rfc2544-trials.ts makes trials of worlds.
 */

/** What came of a trial, all streams together. */
export interface Trial {
  readonly sent: number;
  readonly received: number;
  /** Frames per second at which they were sent, and came out; 0 where fewer than two were, or did. */
  readonly offeredRate: number;
  readonly receivedRate: number;
}

/** Share of the frames that did not come out, 0 to 1. */
export function lossRatio({ sent, received }: Trial): number {
  return sent === 0 ? 0 : Math.max(0, sent - received) / sent;
}

export interface SearchOptions {
  /** Highest rate to offer, frames per second: what the line, or the generator, can do. */
  readonly max: number;
  /** Loss that a trial may have, as a ratio; 0: none. */
  readonly loss: number;
  /** How close the lowest rate that failed is to the result, as a share of it. */
  readonly resolution: number;
  readonly mostTrials?: number;
}
export interface Throughput<T extends Trial> {
  /** The highest rate found that passed, as it was offered, frames per second; 0 where none did. */
  readonly framesPerSecond: number;
  /** The lowest rate that failed; null where `max` passed. */
  readonly failedFramesPerSecond: number | null;
  readonly trials: number;
  /** The trial that passed at that rate. */
  readonly best: T | null;
}

const MOST_TRIALS = 40;
/** Rates below this share of the highest one are not tried. */
const LOWEST = 1e-6;

/**
 * A trial passes when no more is lost than may be, and when frames came out as fast as they went in. A queue that grows for
 * the whole trial would lose frames in a longer one: RFC 2544 §24 has trials of 60 s, in which no queue hides that. Half of
 * the resolution is left to frames that come out unevenly.
 */
export function passes(trial: Trial, { loss, resolution }: Pick<SearchOptions, 'loss' | 'resolution'>): boolean {
  if (trial.received === 0 || lossRatio(trial) > loss) return false;
  return trial.receivedRate >= trial.offeredRate * (1 - loss) * (1 - resolution / 2);
}

/**
 * The highest rate at which trials pass, between 0 and `max`. The first trial is at `max`; where it fails, the rate at which
 * frames came out is tried next, and from there the search goes up or down by steps that double, then by halves.
 */
export function throughputSearch<T extends Trial>(
  trial: (framesPerSecond: number) => T,
  options: SearchOptions,
): Throughput<T> {
  const { max, resolution, mostTrials = MOST_TRIALS } = options;
  const first = trial(max);
  if (passes(first, options)) return { framesPerSecond: max, failedFramesPerSecond: null, trials: 1, best: first };
  let low = 0;
  let high = max;
  let best: T | null = null;
  let trials = 1;
  let step = resolution;
  let next = below(first, max, step);
  while (trials < mostTrials && next > max * LOWEST && (high - low) / high > resolution) {
    const found = trial(next);
    trials++;
    step = Math.min(1, step * 2);
    if (passes(found, options)) {
      low = next;
      best = found;
      next = Math.min(low * (1 + step), (low + high) / 2);
    } else {
      high = next;
      next = low > 0 ? (low + high) / 2 : below(found, high, step);
    }
  }
  // a sender may have stayed behind the rate that it was asked for
  return { framesPerSecond: Math.min(low, best?.offeredRate ?? 0), failedFramesPerSecond: high, trials, best };
}

/** The rate to try after a trial at `rate` that failed, while none has passed. Where nothing came out, far below. */
function below({ received, receivedRate }: Trial, rate: number, step: number): number {
  if (received === 0) return rate / 8;
  const lower = rate * (1 - Math.min(0.5, step));
  return receivedRate === 0 ? lower : Math.min(receivedRate, lower);
}

/** RFC 2544 §26.3: from `max` down by `step` (a share of it) until two rates that follow each other lose nothing. */
export function lossCurve<T extends Trial>(
  trial: (framesPerSecond: number) => T,
  { max, step }: { readonly max: number; readonly step: number },
): { readonly share: number; readonly trial: T }[] {
  const points: { share: number; trial: T }[] = [];
  let clean = 0;
  for (let i = 0; 1 - i * step > step / 2 && clean < 2; i++) {
    const share = Math.round((1 - i * step) * 1e9) / 1e9;
    const found = trial(max * share);
    points.push({ share, trial: found });
    clean = found.received >= found.sent ? clean + 1 : 0;
  }
  return points;
}

export interface Burst {
  /** Longest burst of which nothing was lost, frames. */
  readonly frames: number;
  /** True where the longest one that was tried came out whole: there may be longer ones. */
  readonly atLeast: boolean;
  readonly trials: number;
}
/** RFC 2544 §26.4: `trial` sends a burst of so many frames at the highest rate. Bursts grow by doubling, then by halves. */
export function backToBack(
  trial: (frames: number) => Trial,
  { most, resolution }: { readonly most: number; readonly resolution: number },
): Burst {
  const whole = (n: number): boolean => {
    trials++;
    const { sent, received } = trial(n);
    return received >= sent;
  };
  let trials = 0;
  let low = 0;
  let high = Math.min(2, most);
  while (whole(high)) {
    low = high;
    if (high === most) return { frames: most, atLeast: true, trials };
    high = Math.min(most, high * 2);
  }
  while (high - low > Math.max(1, Math.floor(high * resolution))) {
    const middle = Math.floor((low + high) / 2);
    if (whole(middle)) low = middle;
    else high = middle;
  }
  return { frames: low, atLeast: false, trials };
}
