/**
 * The threads of this machine as a queue of jobs: Piscina starts and ends them, a thread works on one job at a time, and short jobs
 * go out several together (lab/job/batch.ts). A job that takes too much fails alone, with its thread if need be: the others of its
 * batch are run again.
 */
import { Piscina } from 'piscina';
import { tuneEngine } from '../lab/engine-flags.ts';
import {
  BATCH_JOBS,
  BATCH_WORDS,
  type Batch,
  type BatchOutcome,
  type BatchOutcomes,
  CANCELLED,
  CURRENT,
  NOT_BEGUN,
} from '../lab/job/batch.ts';
import type { JobProblem } from '../lab/job/job.ts';
import type { JobOutcome, JobQueue, QueuedJob, QueueListener } from './queue.ts';

/** A batch is made for so long, ms: the way to a thread and back is short beside it, and progress is still seen. */
const BATCH_MS = 250;
/** Weight of the newest jobs in the mean that batches are made by. */
const MEAN_WEIGHT = 0.2;
/** Between two looks at what the threads do, ms. */
const LOOK_MS = 100;
/** How much later than it should a job may end by itself before its thread is ended, ms. */
const GRACE_MS = 2000;
/** How long a thread may take to start, ms. */
const START_MS = 60_000;
/** Wall time after which threads that nobody needs end, ms: their memory goes back. */
const IDLE_MS = 10_000;
/** How often a job may be on a thread that is lost for another's fault. */
const ATTEMPTS = 3;
const MIB = 2 ** 20;

const ENTRY = new URL('../lab/job/job.worker.ts', import.meta.url);

export interface PoolOptions {
  readonly threads: number;
  /** Bytes of a thread's JavaScript heap, whatever a job's own limit is. */
  readonly heapBytes?: number;
  /** How much later than it should a job may end by itself, ms. */
  readonly graceMs?: number;
  /** Threads that nobody needs end after this, ms. */
  readonly idleMs?: number;
  /** Entry of the threads; tests may put another in its place. */
  readonly entry?: URL;
}

/** What metrics tell of a pool. */
export interface PoolCounts {
  readonly threads: number;
  /** Threads that have jobs, those that are about to be made included. */
  readonly busy: number;
  /** Jobs. */
  readonly waiting: number;
  /** Jobs that are with a thread: what it works on, and what it does next. */
  readonly out: number;
  readonly ended: Readonly<Record<JobOutcome['kind'], number>>;
  /** Threads that have ended with a job: out of memory, hung or crashed. */
  readonly lost: number;
  /** Wall time that threads have spent on jobs that ended, seconds. */
  readonly busySeconds: number;
}

interface Entry {
  readonly queued: QueuedJob;
  begun: boolean;
  /** Since when, ms; 0 = it is not. */
  cancelled: number;
  /** Submitted again when it was cancelled, and ran. */
  again: boolean;
  attempts: number;
}

/** A batch that is with a thread. */
interface Flight {
  readonly entries: readonly Entry[];
  readonly control: Int32Array<SharedArrayBuffer>;
  readonly abort: AbortController;
  /** What it worked on at the last look, and since when, ms. */
  current: number;
  since: number;
  /** Why its thread was ended by the pool, and which of its jobs is to blame. */
  stopped: { readonly reason: JobProblem; readonly culprit: Entry | undefined } | null;
}

export class ThreadPool implements JobQueue {
  readonly parallel: number;
  private readonly listener: QueueListener;
  private readonly piscina: Piscina<Batch, BatchOutcomes>;
  private readonly graceMs: number;
  private readonly entries = new Map<string, Entry>();
  /** In order, from `firstWaiting` on; some have been cancelled. */
  private waiting: Entry[] = [];
  private firstWaiting = 0;
  private waitingCount = 0;
  private readonly flights = new Set<Flight>();
  /** Wall time of a job, ms; null before the first has ended. */
  private meanMs: number | null = null;
  private readonly ended = { result: 0, failed: 0, cancelled: 0 };
  private lost = 0;
  private busySeconds = 0;
  private look: NodeJS.Timeout | null = null;
  private closed = false;
  private sending = false;

  /** Call in the main thread: V8's settings are the process's. */
  constructor(listener: QueueListener, options: PoolOptions) {
    tuneEngine();
    const { threads, heapBytes = 1024 * MIB, graceMs = GRACE_MS, idleMs = IDLE_MS, entry = ENTRY } = options;
    this.listener = listener;
    this.parallel = threads;
    this.graceMs = graceMs;
    this.piscina = new Piscina({
      filename: entry.href,
      name: 'runBatch',
      minThreads: 0,
      maxThreads: threads,
      idleTimeout: idleMs,
      concurrentTasksPerWorker: 1,
      recordTiming: false,
      resourceLimits: { maxOldGenerationSizeMb: Math.ceil(heapBytes / MIB) },
    });
    // a thread that did not start; its batch still waits
    this.piscina.on('error', (error: unknown) => this.notStarted(textOf(error)));
  }

  submit(queued: QueuedJob): void {
    const known = this.entries.get(queued.key);
    if (known !== undefined) {
      known.again = known.cancelled > 0;
      return;
    }
    const entry = { queued, begun: false, cancelled: 0, again: false, attempts: 0 };
    this.entries.set(queued.key, entry);
    this.waiting.push(entry);
    this.waitingCount++;
    // those that are submitted together go out together
    if (this.sending || this.flights.size >= this.parallel) return;
    this.sending = true;
    queueMicrotask(() => {
      this.sending = false;
      this.send();
    });
  }

  cancel(keys: Iterable<string>): void {
    for (const key of keys) {
      const entry = this.entries.get(key);
      if (entry === undefined) continue;
      entry.again = false;
      if (entry.cancelled > 0) continue;
      entry.cancelled = performance.now();
      if (!this.flagInFlight(entry)) {
        this.waitingCount--;
        this.tell(entry, { kind: 'cancelled' });
      }
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    this.rest();
    await this.piscina.destroy();
  }

  counts(): PoolCounts {
    let out = 0;
    for (const flight of this.flights) out += flight.entries.length;
    const { lost, busySeconds } = this;
    return {
      threads: this.piscina.threads.length,
      busy: this.flights.size,
      waiting: this.waitingCount,
      out,
      ended: { ...this.ended },
      lost,
      busySeconds,
    };
  }

  // ---- out ----------------------------------------------------------------------------------------------------------
  private send(): void {
    while (!this.closed && this.flights.size < this.parallel && this.waitingCount > 0) this.fly(this.nextBatch());
  }

  /** As many as BATCH_MS is enough for, but no more than a thread's share of what waits. */
  private nextBatch(): Entry[] {
    const fit = this.meanMs === null ? 1 : Math.floor(BATCH_MS / this.meanMs);
    const share = Math.ceil(this.waitingCount / this.parallel);
    const size = Math.max(1, Math.min(fit, share, BATCH_JOBS));
    const batch: Entry[] = [];
    while (batch.length < size && this.firstWaiting < this.waiting.length) {
      const entry = this.waiting[this.firstWaiting]!;
      // what has lost its thread by another's fault does not depend on others again
      if (batch.length > 0 && entry.attempts > 0) break;
      this.firstWaiting++;
      if (entry.cancelled > 0) continue;
      batch.push(entry);
      if (entry.attempts > 0) break;
    }
    this.waitingCount -= batch.length;
    if (this.firstWaiting > 1024 && 2 * this.firstWaiting > this.waiting.length) {
      this.waiting = this.waiting.slice(this.firstWaiting);
      this.firstWaiting = 0;
    }
    return batch;
  }

  private fly(entries: readonly Entry[]): void {
    // its own memory: a thread that is being ended may still write to the last batch's
    const control = new Int32Array(new SharedArrayBuffer(4 * BATCH_WORDS));
    control[CURRENT] = NOT_BEGUN;
    const abort = new AbortController();
    const flight: Flight = { entries, control, abort, current: NOT_BEGUN, since: performance.now(), stopped: null };
    this.flights.add(flight);
    this.look ??= setInterval(() => this.lookAtAll(), LOOK_MS);
    const jobs = entries.map(({ queued: { job, limits } }) => ({ job, ...limits }));
    this.piscina.run({ jobs, control, turnMs: BATCH_MS }, { signal: abort.signal }).then(
      (outcomes) => this.landed(flight, outcomes),
      (error: unknown) => this.crashed(flight, error),
    );
  }

  /** Whether a thread has it: it is told, then. */
  private flagInFlight(entry: Entry): boolean {
    for (const { entries, control } of this.flights) {
      const index = entries.indexOf(entry);
      if (index < 0) continue;
      Atomics.store(control, CANCELLED + index, 1);
      return true;
    }
    return false;
  }

  // ---- back ---------------------------------------------------------------------------------------------------------
  private landed(flight: Flight, outcomes: BatchOutcomes): void {
    if (this.closed) return;
    this.flights.delete(flight);
    this.requeue(flight.entries.slice(outcomes.length));
    // the thread has its next batch before this one is looked at
    this.send();
    for (const [index, outcome] of outcomes.entries()) this.end(flight.entries[index]!, outcome);
    if (this.flights.size === 0) this.rest();
  }

  /** Its thread is gone, and what it had done of the batch with it. */
  private crashed(flight: Flight, error: unknown): void {
    if (this.closed) return;
    this.flights.delete(flight);
    this.lost++;
    const { entries, control, stopped } = flight;
    const culprit = stopped === null ? entries[Atomics.load(control, CURRENT)] : stopped.culprit;
    const problem = stopped?.reason ?? problemOf(error);
    const others = entries.filter((entry) => entry !== culprit);
    for (const entry of others) entry.attempts++;
    this.requeue(others.filter((entry) => entry.attempts < ATTEMPTS));
    for (const entry of others)
      if (entry.attempts >= ATTEMPTS) this.end(entry, { kind: 'failed', problem, wallSeconds: 0 });
    if (culprit !== undefined) {
      const wallSeconds = (performance.now() - flight.since) / 1000;
      this.end(culprit, culprit.cancelled > 0 ? { kind: 'cancelled' } : { kind: 'failed', problem, wallSeconds });
    }
    this.send();
    if (this.flights.size === 0) this.rest();
  }

  /** They were first, and are again. */
  private requeue(entries: readonly Entry[]): void {
    const again: Entry[] = [];
    for (const entry of entries) {
      if (entry.cancelled > 0 && !entry.again) this.tell(entry, { kind: 'cancelled' });
      else again.push(entry);
    }
    if (again.length === 0) return;
    for (const entry of again) {
      entry.cancelled = 0;
      entry.again = false;
      entry.begun = false;
    }
    this.waitingCount += again.length;
    this.waiting = [...again, ...this.waiting.slice(this.firstWaiting)];
    this.firstWaiting = 0;
  }

  private end(entry: Entry, outcome: BatchOutcome): void {
    if (outcome.kind === 'cancelled') {
      this.requeue([entry]);
      this.send();
      return;
    }
    const ms = 1000 * outcome.wallSeconds;
    this.meanMs = this.meanMs === null ? ms : this.meanMs + MEAN_WEIGHT * (ms - this.meanMs);
    this.busySeconds += outcome.wallSeconds;
    this.begin(entry);
    this.tell(entry, outcome);
  }

  private tell(entry: Entry, outcome: JobOutcome): void {
    const { key } = entry.queued;
    this.entries.delete(key);
    this.ended[outcome.kind]++;
    this.listener.ended(key, outcome);
  }

  private begin(entry: Entry): void {
    if (entry.begun) return;
    entry.begun = true;
    this.listener.started(entry.queued.key);
  }

  // ---- watch --------------------------------------------------------------------------------------------------------
  private lookAtAll(): void {
    const now = performance.now();
    for (const flight of this.flights) this.lookAt(flight, now);
  }

  private lookAt(flight: Flight, now: number): void {
    const current = Atomics.load(flight.control, CURRENT);
    if (current !== flight.current) {
      flight.current = current;
      flight.since = now;
    }
    const entry = flight.entries[current];
    const ms = now - flight.since;
    if (entry === undefined) {
      if (current === NOT_BEGUN && ms > START_MS) this.giveUp(flight, 'its thread did not start');
      return;
    }
    this.begin(entry);
    const { wallSeconds } = entry.queued.limits;
    if (ms > 1000 * wallSeconds + this.graceMs) {
      const detail = `the run takes longer than ${wallSeconds} s`;
      this.stop(flight, { code: 'RINGSIDE_E_LIMIT', detail, pointer: '/limits/time' });
    } else if (entry.cancelled > 0 && now - entry.cancelled > this.graceMs) this.giveUp(flight, 'it was cancelled');
  }

  private notStarted(detail: string): void {
    for (const flight of this.flights)
      if (Atomics.load(flight.control, CURRENT) === NOT_BEGUN)
        this.giveUp(flight, `its thread did not start: ${detail}`);
  }
  private giveUp(flight: Flight, detail: string): void {
    this.stop(flight, { code: 'RINGSIDE_E_INTERNAL', detail });
  }
  private stop(flight: Flight, reason: JobProblem): void {
    flight.stopped = { reason, culprit: flight.entries[flight.current] };
    flight.abort.abort();
  }
  /** Nothing is out. */
  private rest(): void {
    if (this.look !== null) clearInterval(this.look);
    this.look = null;
  }
}

/** Why a thread has ended by itself. */
function problemOf(error: unknown): JobProblem {
  if ((error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY') {
    const detail = `the heap of the run's thread is full: ${textOf(error)}`;
    return { code: 'RINGSIDE_E_LIMIT', detail, pointer: '/limits/memory' };
  }
  return { code: 'RINGSIDE_E_INTERNAL', detail: `the run's thread has ended: ${textOf(error)}` };
}
function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
