/**
 * One capture at work, in the thread that writes it: waits for its trigger, follows the ring, puts rows into files, and
 * ends when a limit is reached or somebody asks. Knows nothing of threads; the worker's loop calls step().
 */
import { RingReader } from '../../engine/event-ring.ts';
import { Hold } from '../../engine/hold.ts';
import { Capture } from '../../readers/capture/capture.ts';
import { BlockWalk, epochOf, STATISTICS_BLOCK } from '../../readers/capture/pcapng-blocks.ts';
import { EventFilter } from '../../readers/events/event-filter.ts';
import { CaptureFiles } from './capture-files.ts';
import { type CaptureJob, type CaptureProgress, type EndReason, STOP_REASONS } from './capture-job.ts';
import { FlushTimer } from './flush-timer.ts';

/** The longest that a row of a slow world waits for later ones, wall ms. */
const LONGEST_WAIT_MS = 1000;
/** How long a step may take, wall ms: as long does a stop wait, and what is said about progress. */
const STEP_MS = 20;
const NEVER = Number.POSITIVE_INFINITY;
/** Blocks of the ring that a search for the trigger looks at in one step. */
const SEARCH_BLOCKS = 16;

/** What a step found: more to do at once, nothing new, or the end. */
export type StepResult = 'busy' | 'quiet' | 'ended';

export class Recording {
  private readonly job: CaptureJob;
  private readonly reader: RingReader;
  private readonly hold: Hold | null;
  private readonly files: CaptureFiles;
  private readonly filter: EventFilter | null;
  private readonly started = performance.now();
  /** While null, the trigger has not matched. */
  private capture: Capture | null = null;
  /** End of the events that a trigger asks for. */
  private until = Number.POSITIVE_INFINITY;
  private scan: Generator<Uint8Array, void, undefined> | null = null;
  private searchAt: number;
  private searchLost = 0;
  private trigger: { event: number; ns: number } | null = null;
  private readonly timer = new FlushTimer(LONGEST_WAIT_MS, performance.now());
  private lostPackets: number | null = null;
  /** Something has been recorded since the capture began. */
  private recorded = false;
  private end: { reason: EndReason; detail: string } | null = null;

  constructor(job: CaptureJob) {
    const { memory, catalog, holdSlot } = job;
    this.job = job;
    this.reader = new RingReader(memory, catalog);
    this.hold = holdSlot === null ? null : new Hold(memory, catalog.layout, holdSlot);
    this.files = new CaptureFiles({
      folder: job.folder,
      epoch: epochOf(catalog.epochNs),
      file: job.file,
      stop: job.stop,
      disk: job.disk,
      startNs: job.startNs,
    });
    this.filter = job.trigger === null ? null : new EventFilter(this.reader.catalog, job.trigger.on);
    this.searchAt = job.fromEvent;
    if (this.filter === null) this.begin(job.fromEvent, null);
  }

  get progress(): CaptureProgress {
    return {
      files: this.files.list(),
      packets: this.files.packets,
      removedFiles: this.files.removedFiles,
      lostEvents: this.searchLost + (this.capture?.lost ?? 0),
      lostPackets: this.lostPackets,
      trigger: this.trigger,
      end: this.end,
    };
  }

  /** Some milliseconds of work. */
  step(): StepResult {
    if (this.end !== null) return 'ended';
    const asked = STOP_REASONS[Atomics.load(this.job.stopWord, 0)];
    const resting = this.reader.resting();
    const quiet = this.capture === null ? this.search(this.filter) : this.follow(this.capture);
    if (this.ended()) return 'ended';
    if (asked !== undefined) {
      // What was recorded before somebody asked belongs to the capture; a server that stops has no time for that.
      const { capture } = this;
      if (capture !== null && asked !== 'SERVER_STOPPED' && this.write(capture, NEVER)) this.write(capture, NEVER);
      return this.finish(asked);
    }
    const now = performance.now();
    const blocks = this.hold?.blocks(this.reader.head(), this.reader.bytesHead()) ?? false;
    if (!quiet) this.timer.saw(now);
    if (this.capture !== null && this.scan === null) {
      if (this.timer.due(now, resting, this.reader.virtualTimeNs()) || blocks) this.flush(this.capture);
    }
    const { stop } = this.job;
    if (now - this.started >= stop.wallMs) return this.finish('WALL_TIME');
    if (!quiet) this.recorded = true;
    // Rows would have said so already; here the world's time has passed without any.
    if (quiet && this.reader.virtualTimeNs() > this.job.startNs + stop.durationNs) {
      return this.finish('DURATION');
    }
    if (this.recorded && now - this.timer.news >= stop.idleMs) return this.finish('IDLE');
    return quiet ? 'quiet' : 'busy';
  }

  /** Ends it after an error: what was written stays. */
  fail(error: unknown): void {
    this.end = { reason: 'ERROR', detail: error instanceof Error ? error.message : String(error) };
    this.files.close();
  }

  private begin(fromEvent: number, toEvent: number | null): void {
    const { options } = this.job;
    const range = toEvent === null ? { fromEvent } : { fromEvent, toEvent };
    this.capture = new Capture(this.reader, { ...options, ...range });
    this.files.begin(this.capture.header());
  }

  /** Looks for the event that the trigger waits for. True when there was nothing new. */
  private search(filter: EventFilter | null): boolean {
    const { reader } = this;
    const { trigger } = this.job;
    if (filter === null || trigger === null) return true;
    for (let i = 0; i < SEARCH_BLOCKS; i++) {
      const count = reader.read(this.searchAt);
      const { first, meta, frame, time } = reader.block;
      this.searchLost += first - this.searchAt;
      this.searchAt = first + count;
      for (let k = 0; k < count; k++) {
        if (!filter.matches(meta[k]!, frame[k]!, time[k]!)) continue;
        this.trigger = { event: first + k, ns: time[k]! };
        this.until = first + k + trigger.after;
        this.begin(Math.max(0, first + k - trigger.before), this.until);
        return false;
      }
      // At the match the events before it are there: time has waited at half of the ring, and they are a quarter at most.
      this.hold?.advance(this.searchAt);
      if (count === 0) return true;
    }
    return false;
  }

  /** Writes some of what has been recorded since. True when there was nothing new. */
  private follow(capture: Capture): boolean {
    const from = capture.position;
    this.write(capture, performance.now() + STEP_MS);
    if (this.files.full === null && capture.position >= this.until) this.finish('TRIGGER');
    return capture.position === from;
  }
  /** Goes on with the scan until `deadline`; true when it has come to its end. */
  private write(capture: Capture, deadline: number): boolean {
    this.scan ??= capture.scan();
    for (let next = this.scan.next(); next.done !== true; next = this.scan.next()) {
      if (next.value.length > 0) {
        this.files.write(next.value);
        capture.giveBack(next.value);
      }
      this.hold?.advance(capture.needed);
      if (this.files.full !== null || performance.now() >= deadline) return false;
    }
    this.scan = null;
    return true;
  }
  private flush(capture: Capture): void {
    for (const chunk of capture.flush()) this.files.write(chunk);
    this.hold?.advance(capture.needed);
  }

  /** Whether a limit of the files was reached. */
  private ended(): boolean {
    if (this.end === null && this.files.full !== null) this.finish(this.files.full);
    return this.end !== null;
  }

  private finish(reason: EndReason): StepResult {
    const { capture, files } = this;
    if (capture !== null) {
      if (files.full === null) for (const chunk of capture.flush()) files.write(chunk);
      // Where a limit ended the capture, rows that were read are not in the file on purpose: no statistics count them.
      if (files.full === null) {
        const trailer = capture.trailer();
        this.lostPackets = droppedIn(trailer);
        files.write(trailer);
      }
    }
    const why = files.full ?? reason;
    this.end = { reason: why, detail: WHY[why] };
    files.close();
    return 'ended';
  }
}

const WHY: Readonly<Record<EndReason, string>> = {
  REQUESTED: 'somebody stopped it',
  PACKETS: 'the packets that were asked for are written',
  BYTES: 'the bytes that were asked for are written',
  DURATION: 'the virtual time that was asked for is over',
  WALL_TIME: 'the wall time that was asked for is over',
  IDLE: 'nothing more was recorded',
  FILES: 'all files are full',
  TRIGGER: 'the events around the trigger are written',
  DISK_LIMIT: 'all captures together have the size that this server allows (RINGSIDE_MAX_CAPTURE_DISK)',
  WORLD_ENDED: 'the world was deleted or rebuilt, or failed',
  SERVER_STOPPED: 'the server stopped',
  INTERRUPTED: 'the server ended while it was written',
  ERROR: 'an error',
};

/** Sum of isb_ifdrop over the interface statistics. */
function droppedIn(trailer: Uint8Array): number {
  const walk = new BlockWalk(trailer);
  let dropped = 0;
  while (walk.step()) if (walk.type === STATISTICS_BLOCK) dropped += walk.dropped();
  return dropped;
}
