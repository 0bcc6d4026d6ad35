/**
 * The queue of jobs that workers on any machine work on (nats-worker.ts), as the API server sees it. Jobs go to the broker,
 * outcomes come from its object store. Nothing depends on a message that is told once: a reconciler asks from time to time where the jobs
 * are, and publishes again what is nowhere.
 */
import { engineVersion } from '../lab/job/engine-version.ts';
import type { Broker } from './nats-broker.ts';
import { type NatsFiles, NO_NATS_FILES } from './nats-files.ts';
import { NatsLink } from './nats-link.ts';
import { type KeptOutcome, parseNotice, parseReport } from './nats-messages.ts';
import type { JobOutcome, JobQueue, QueuedJob, QueueListener } from './queue.ts';

/** Between two looks at where the jobs are, ms. */
const RECONCILE_MS = 60_000;
/** Before what could not be done is tried again, ms. */
const RETRY_MS = 1000;
/** Requests to the broker at once. */
const LANES = 16;
/** A worker that has not reported for so long is gone, ms. */
export const WORKER_GONE_MS = 15_000;

export interface NatsQueueOptions {
  /** As natsAddress() reads it. */
  readonly url: string;
  /** For TLS and credentials. */
  readonly files?: NatsFiles;
  /** Begins the names of streams, buckets and subjects. */
  readonly prefix: string;
  /** Jobs worked on at the same time as long as no worker has reported. */
  readonly parallel?: number;
  readonly reconcileMs?: number;
  readonly trouble?: (text: string) => void;
}

/** What metrics tell of the queue. */
export interface NatsCounts {
  readonly connected: boolean;
  /** Jobs without outcome: those that are not with the broker yet, and those that are. */
  readonly unsent: number;
  readonly sent: number;
  /** Jobs that were nowhere and were published again. */
  readonly republished: number;
  readonly ended: Readonly<Record<JobOutcome['kind'], number>>;
  readonly workers: number;
  /** Of all workers. */
  readonly threads: number;
}

interface Entry {
  readonly queued: QueuedJob;
  sent: boolean;
  /** At the last look it was with the broker, which had nothing for workers. */
  stuck: boolean;
}
interface Worker {
  readonly engine: string;
  readonly threads: number;
  readonly heard: number;
}

export class NatsQueue implements JobQueue {
  readonly kind = 'nats';
  private readonly listener: QueueListener;
  private readonly link: NatsLink;
  private readonly trouble: (text: string) => void;
  private readonly fallback: number;
  private readonly engine = engineVersion();
  private readonly entries = new Map<string, Entry>();
  private readonly workers = new Map<string, Worker>();
  private readonly ended = { result: 0, failed: 0, cancelled: 0 };
  private republished = 0;
  /** Null: not connected yet, or no more. */
  private broker: Broker | null = null;
  /** What waits for the broker: jobs to send, keys whose outcome is there, jobs to withdraw. */
  private unsent: Entry[] = [];
  private readonly arrived = new Set<string>();
  private readonly withdrawn = new Map<string, QueuedJob>();
  private readonly busyKeys = new Set<string>();
  private lanes = 0;
  private retry: NodeJS.Timeout | null = null;
  private said = '';
  private readonly timer: NodeJS.Timeout;
  private reconciling = false;
  /** At the last look there was no worker. */
  private alone = false;
  private closed = false;

  constructor(listener: QueueListener, options: NatsQueueOptions) {
    const {
      url,
      files = NO_NATS_FILES,
      prefix,
      parallel = 1,
      reconcileMs = RECONCILE_MS,
      trouble = console.error,
    } = options;
    this.listener = listener;
    this.fallback = parallel;
    this.trouble = trouble;
    this.link = new NatsLink(
      { url, files, prefix, name: 'ringside API', trouble },
      { connected: (broker) => this.connected(broker), again: (broker) => this.again(broker) },
    );
    this.timer = setInterval(() => void this.reconcile(), reconcileMs);
  }

  /** Threads of all workers of this version that have reported. */
  get parallel(): number {
    return Math.max(threadsOf(this.liveWorkers()), this.fallback);
  }
  counts(): NatsCounts {
    let sent = 0;
    for (const entry of this.entries.values()) if (entry.sent) sent++;
    const { republished, ended } = this;
    const workers = this.liveWorkers();
    return {
      connected: this.link.up,
      unsent: this.entries.size - sent,
      sent,
      republished,
      ended: { ...ended },
      workers: workers.length,
      threads: threadsOf(workers),
    };
  }

  submit(queued: QueuedJob): void {
    if (this.closed || this.entries.has(queued.key)) return;
    const entry = { queued, sent: false, stuck: false };
    this.entries.set(queued.key, entry);
    this.unsent.push(entry);
    this.pump();
  }
  /** Told at once. A worker that has one is told, too, and what it comes to is dropped. */
  cancel(keys: Iterable<string>): void {
    for (const key of keys) {
      const entry = this.entries.get(key);
      if (entry === undefined) continue;
      if (entry.sent) this.withdrawn.set(key, entry.queued);
      this.tell(key, { kind: 'cancelled' });
    }
    this.pump();
  }
  /** What workers do goes on: who submits these jobs again finds their outcomes. */
  async close(): Promise<void> {
    this.closed = true;
    clearInterval(this.timer);
    if (this.retry !== null) clearTimeout(this.retry);
    await this.link.close();
  }

  // ---- the connection -----------------------------------------------------------------------------------------------
  private async connected(broker: Broker): Promise<void> {
    const { nc, names } = broker;
    const noted = (error: Error | null, data: Uint8Array): void => {
      const notice = error === null ? parseNotice(data) : null;
      if (notice === null || !this.entries.has(notice.key)) return;
      if (notice.kind === 'started') this.listener.started(notice.key);
      else this.arrive(notice.key);
    };
    nc.subscribe(names.notices, { callback: (error, { data }) => noted(error, data) });
    nc.subscribe(names.workers, { callback: (error, { data }) => this.reported(error === null ? data : null) });
    await nc.flush();
    this.broker = broker;
    await this.again(broker);
  }
  private async again(broker: Broker): Promise<void> {
    broker.nc.publish(broker.names.hello);
    this.pump();
    await this.reconcile();
  }
  private reported(data: Uint8Array | null): void {
    const report = data === null ? null : parseReport(data);
    if (report === null) return;
    const { id, engine, threads } = report;
    if (threads === 0) this.workers.delete(id);
    else this.workers.set(id, { engine, threads, heard: performance.now() });
  }
  /** Those that jobs of this server are for. */
  private liveWorkers(): Worker[] {
    const since = performance.now() - WORKER_GONE_MS;
    for (const [id, { heard }] of this.workers) if (heard < since) this.workers.delete(id);
    return [...this.workers.values()].filter(({ engine }) => engine === this.engine);
  }

  // ---- work for the broker ------------------------------------------------------------------------------------------
  private arrive(key: string): void {
    this.arrived.add(key);
    this.pump();
  }
  /** Begins as much as there are lanes for; outcomes first, they make room. */
  private pump(): void {
    const { broker } = this;
    while (broker !== null && !this.closed && this.retry === null && this.lanes < LANES) {
      const work = this.nextWithdrawn(broker) ?? this.nextArrived(broker) ?? this.nextUnsent(broker);
      if (work === null) return;
      this.lanes++;
      void this.lane(work);
    }
  }
  private async lane({ key, act, undo }: LaneWork): Promise<void> {
    this.busyKeys.add(key);
    try {
      await act();
    } catch (error) {
      if (!this.closed) {
        undo();
        this.later(error);
      }
    }
    this.busyKeys.delete(key);
    this.lanes--;
    this.pump();
  }
  private later(error: unknown): void {
    const text = `jobs could not be passed by NATS: ${textOf(error)}`;
    // The link tells of lost connections.
    if (this.link.up && text !== this.said) this.trouble(text);
    this.said = text;
    this.retry ??= setTimeout(() => {
      this.retry = null;
      this.pump();
    }, RETRY_MS);
  }
  private nextWithdrawn(broker: Broker): LaneWork | null {
    for (const [key, queued] of this.withdrawn) {
      if (this.busyKeys.has(key)) continue;
      this.withdrawn.delete(key);
      const act = async (): Promise<void> => {
        await broker.withdraw(queued);
        broker.nc.publish(broker.names.cancelled, JSON.stringify({ keys: [key] }));
      };
      return { key, act, undo: () => this.withdrawn.set(key, queued) };
    }
    return null;
  }
  private nextArrived(broker: Broker): LaneWork | null {
    for (const key of this.arrived) {
      if (this.busyKeys.has(key)) continue;
      this.arrived.delete(key);
      const entry = this.entries.get(key);
      if (entry === undefined) continue;
      const act = async (): Promise<void> => {
        // None: another server has taken it away, or it was damaged. The reconciler will see.
        await this.fetch(broker, entry);
      };
      return { key, act, undo: () => this.arrived.add(key) };
    }
    return null;
  }
  private nextUnsent(broker: Broker): LaneWork | null {
    const index = this.unsent.findIndex(({ queued }) => !this.busyKeys.has(queued.key));
    if (index < 0) return null;
    const [entry] = this.unsent.splice(index, 1);
    if (entry === undefined) return null;
    const undo = (): void => void this.unsent.push(entry);
    return { key: entry.queued.key, act: () => this.send(broker, entry), undo };
  }

  private async send(broker: Broker, entry: Entry, fresh = false): Promise<void> {
    const { queued } = entry;
    if (!this.waitsFor(entry)) return;
    if (await this.fetch(broker, entry)) return;
    if (!this.waitsFor(entry)) return;
    const size = Buffer.byteLength(JSON.stringify(queued));
    const most = broker.nc.info?.max_payload ?? Number.MAX_SAFE_INTEGER;
    if (size > most - 1024) {
      const detail = `the job takes ${size} bytes as a message; the NATS server takes ${most} (max_payload)`;
      this.tell(queued.key, { kind: 'failed', problem: { code: 'RINGSIDE_E_LIMIT', detail }, wallSeconds: 0 });
      return;
    }
    entry.sent = true;
    if (await broker.publish(queued, fresh)) return;
    // Published a short time ago. It waits, or has been worked on since we looked, or was withdrawn.
    if ((await broker.holds(queued)) || (await this.fetch(broker, entry)) || !this.waitsFor(entry)) return;
    await broker.publish(queued, true);
  }
  private waitsFor(entry: Entry): boolean {
    return !this.closed && this.entries.get(entry.queued.key) === entry;
  }
  /** Tells a job's outcome if it is there. */
  private async fetch(broker: Broker, entry: Entry): Promise<boolean> {
    const { key, limits } = entry.queued;
    const kept = await broker.outcome(key, limits);
    if (kept === null) return false;
    if (!this.waitsFor(entry)) return true;
    this.tell(key, outcomeOf(kept));
    // Not for others, nor for the next time.
    if (kept.kind === 'failed') await broker.forget(key);
    return true;
  }
  private tell(key: string, outcome: JobOutcome): void {
    const entry = this.entries.get(key);
    if (entry === undefined) return;
    this.entries.delete(key);
    if (!entry.sent) this.unsent = this.unsent.filter((other) => other !== entry);
    this.ended[outcome.kind]++;
    this.listener.ended(key, outcome);
  }

  // ---- where the jobs are -------------------------------------------------------------------------------------------
  /** A job that has no outcome and that no worker will be given is published again. */
  private async reconcile(): Promise<void> {
    const { broker } = this;
    if (broker === null || this.closed || this.reconciling || !this.link.up) return;
    this.reconciling = true;
    try {
      const before = [...this.entries.values()].filter(({ sent, queued }) => sent && !this.busyKeys.has(queued.key));
      if (before.length === 0) return;
      this.lookForWorkers();
      const there = await broker.subjects();
      const lost = before.filter(({ queued }) => !there.has(broker.names.job(queued)));
      const stuck = await this.stuckOf(
        broker,
        before.filter((entry) => !lost.includes(entry)),
      );
      for (const entry of lost) await this.publishAgain(broker, entry);
      for (const entry of stuck) {
        if (this.waitsFor(entry)) await broker.withdraw(entry.queued);
        await this.publishAgain(broker, entry);
      }
    } catch (error) {
      if (!this.closed) this.later(error);
    } finally {
      this.reconciling = false;
    }
  }
  /** Jobs that the broker has and gives to nobody, at two looks. */
  private async stuckOf(broker: Broker, held: readonly Entry[]): Promise<Entry[]> {
    const stuck: Entry[] = [];
    for (const engine of new Set(held.map(({ queued }) => queued.job.engine))) {
      const idle = await broker.idle(engine);
      for (const entry of held) {
        if (entry.queued.job.engine !== engine) continue;
        if (idle && entry.stuck) stuck.push(entry);
        entry.stuck = idle && !entry.stuck;
      }
    }
    return stuck;
  }
  private async publishAgain(broker: Broker, entry: Entry): Promise<void> {
    if (!this.waitsFor(entry)) return;
    if ((await this.fetch(broker, entry)) || !this.waitsFor(entry)) return;
    this.republished++;
    await broker.publish(entry.queued, true);
  }
  private lookForWorkers(): void {
    const live = this.liveWorkers().length;
    const others = this.workers.size - live;
    const noneText = `no worker of engine ${this.engine} has reported${others > 0 ? `; ${others} of other versions have` : ''}`;
    const alone = live === 0;
    if (alone && !this.alone) this.trouble(`jobs wait: ${noneText}`);
    this.alone = alone;
  }
}

interface LaneWork {
  readonly key: string;
  readonly act: () => Promise<void>;
  /** Puts it back where it waited. */
  readonly undo: () => void;
}

function threadsOf(workers: readonly Worker[]): number {
  return workers.reduce((sum, { threads }) => sum + threads, 0);
}
function outcomeOf(kept: KeptOutcome): JobOutcome {
  if (kept.kind === 'result') return kept;
  const { kind, problem, wallSeconds } = kept;
  return { kind, problem, wallSeconds };
}
function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
