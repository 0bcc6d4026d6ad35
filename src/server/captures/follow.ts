/**
 * A capture that follows its world: what has been recorded goes to the client as it comes, until the client goes, the
 * world ends, or a limit is reached. Runs in the API thread, one step per turn of the event loop; a client that does not
 * read stops the reading, so it costs the stream's buffers and no more. What the ring has overwritten by then is counted
 * in the interface statistics, unless the stream holds the world (`slow=block`).
 *
 * Rows that wait for later ones are sent when flush-timer.ts says so: a row is seen within about 100 ms of wall time.
 */
import type { Hold } from '../../engine/hold.ts';
import type { Capture } from '../../readers/capture/capture.ts';
import { BlockWalk, PACKET_BLOCK } from '../../readers/capture/pcapng-blocks.ts';
import { pause } from '../stopping.ts';
import type { World } from '../world.ts';
import { FlushTimer } from './flush-timer.ts';

/** Wall time between two looks at a ring that has nothing new, and the longest that a row waits in a slow world, ms. */
const POLL_MS = 10;
const LONGEST_WAIT_MS = 100;
/**
 * While a world runs at full speed, the streams that do not hold it take at most this share of the API thread's time
 * together, looked at every WORK_MS: a run needs the machine's cores and caches for itself. What is recorded in a burst is
 * read once the world rests, and a world that rests now and then (clock `real`) has room for its readers.
 */
const SHARE = 0.05;
const WORK_MS = 2;
/** Wall time between two interim statistics, which are sent when rows have been lost, ms. */
const STATISTICS_MS = 1000;

export interface FollowLimits {
  /** Rows after which the stream ends. */
  readonly packets: number;
  /** Wall time after which it ends, ms. */
  readonly durationMs: number;
}

/** For the metrics: streams that are open, and what all of them have sent and lost. */
export const followTotals = { open: 0, bytes: 0, lostEvents: 0 };

/** Section header and interfaces come at once, statistics at the end. `hold` is released when the stream ends, however it does. */
export async function* followCapture(
  world: World,
  capture: Capture,
  limits: FollowLimits,
  hold: Hold | null,
  ended: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  let lost = 0;
  const count = (bytes: number): void => {
    followTotals.bytes += bytes;
    followTotals.lostEvents += capture.lost - lost;
    lost = capture.lost;
  };
  followTotals.open++;
  try {
    for await (const chunk of follow(world, capture, limits, hold, ended)) {
      count(chunk.length);
      yield chunk;
    }
  } finally {
    count(0);
    followTotals.open--;
  }
}

async function* follow(
  world: World,
  capture: Capture,
  limits: FollowLimits,
  hold: Hold | null,
  ended: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const deadline = performance.now() + limits.durationMs;
  const count = new RowLimit(limits.packets);
  const flush = new FlushTimer(LONGEST_WAIT_MS, performance.now());
  const pace = new Pace(world, hold === null);
  let statisticsAt = performance.now();
  let lost = 0;
  try {
    yield capture.header();
    for (;;) {
      // Before the scan: what is recorded after the world's end is nothing.
      const over = world.over || ended.aborted;
      const resting = world.counters.resting();
      const from = capture.position;
      pace.begin();
      for (const chunk of capture.scan()) {
        hold?.advance(capture.needed);
        const rest = pace.end();
        yield count.cut(chunk);
        if (count.reached) return;
        if (rest > 0) await pause(Math.min(rest, deadline - performance.now()), ended);
        if (ended.aborted || performance.now() >= deadline) break;
        pace.begin();
      }
      const now = performance.now();
      if (over || now >= deadline) break;
      const { counters } = world;
      const blocks = hold?.blocks(counters.head(), counters.bytesHead()) ?? false;
      if (capture.position !== from) flush.saw(now);
      if (flush.due(now, resting, counters.virtualTimeNs()) || blocks) {
        for (const chunk of capture.flush()) yield count.cut(chunk);
        if (count.reached) return;
        hold?.advance(capture.needed);
      }
      if (capture.lost > lost && now - statisticsAt >= STATISTICS_MS) {
        lost = capture.lost;
        statisticsAt = now;
        // First the rows that wait: they are not lost.
        for (const chunk of capture.flush()) yield count.cut(chunk);
        if (count.reached) return;
        yield capture.trailer();
      }
      if (counters.head() === capture.position) await pause(Math.min(POLL_MS, deadline - now), ended);
    }
    for (const chunk of capture.flush()) yield count.cut(chunk);
    if (!count.reached) yield capture.trailer();
  } finally {
    pace.close();
    hold?.release();
  }
}

/** Keeps a stream to its part of the share. */
class Pace {
  /** Streams that share. */
  private static streams = 0;
  private readonly world: World;
  private readonly shares: boolean;
  private began = 0;
  private worked = 0;
  private head = 0;

  constructor(world: World, shares: boolean) {
    this.world = world;
    this.shares = shares;
    if (shares) Pace.streams++;
  }
  close(): void {
    if (this.shares) Pace.streams--;
  }
  begin(): void {
    this.began = performance.now();
  }
  /** Ends a stretch of work; returns how long to rest, ms. */
  end(): number {
    this.worked += performance.now() - this.began;
    if (!this.shares || this.worked < WORK_MS) return 0;
    const { counters } = this.world;
    const head = counters.head();
    const busy = head !== this.head && !counters.resting();
    const rest = busy ? this.worked * (Pace.streams / SHARE - 1) : 0;
    this.head = head;
    this.worked = 0;
    return rest;
  }
}

/** Lets a number of rows through. The stream ends without statistics then: they would count rows that nobody asked for. */
class RowLimit {
  private left: number;
  constructor(packets: number) {
    this.left = packets;
  }
  get reached(): boolean {
    return this.left <= 0;
  }
  /** The part of a chunk of whole blocks that is within the limit. */
  cut(chunk: Uint8Array): Uint8Array {
    if (this.left === Number.POSITIVE_INFINITY) return chunk;
    const walk = new BlockWalk(chunk);
    while (this.left > 0 && walk.step()) if (walk.type === PACKET_BLOCK) this.left--;
    return chunk.subarray(0, walk.end);
  }
}
