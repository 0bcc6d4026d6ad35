/**
 * Works on the jobs of a NATS server (nats.ts) in the threads of this machine (pool.ts). This thread simulates nothing: it takes
 * jobs, says every few seconds that those it has are still worked on, and stores what they come to. A job is acknowledged when
 * its outcome is in the store, never before: a worker that dies costs time and nothing else.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Consumer, ConsumerMessages, JsMsg } from '@nats-io/jetstream';
import { millis } from '@nats-io/transport-node';
import { engineVersion } from '../lab/job/engine-version.ts';
import type { Broker } from './nats-broker.ts';
import { type NatsFiles, NO_NATS_FILES } from './nats-files.ts';
import { NatsLink } from './nats-link.ts';
import {
  type DeadLetter,
  excerptOf,
  type KeptOutcome,
  type Notice,
  parseCancellation,
  parseQueued,
} from './nats-messages.ts';
import { ThreadPool } from './pool.ts';
import type { JobOutcome, QueuedJob } from './queue.ts';

/** A job whose worker says nothing for so long is given to another, ms; it says something four times in that time. */
const ACK_WAIT_MS = 60_000;
const RENEWALS = 4;
/** A job that has been delivered more often is given up: it ended its workers, or nobody could store what it came to. */
const MAX_DELIVER = 5;
/** Jobs that are short are taken several at a time: enough for this, ms, but no more for each thread. */
const AHEAD_MS = 250;
const MOST_AHEAD = 32;
const MEAN_WEIGHT = 0.2;
/** How long a request for jobs waits, ms. */
const PULL_MS = 10_000;
/** Before something that failed is tried again, ms. */
const RETRY_MS = 500;
/** Between two reports of this worker, ms. */
const REPORT_MS = 5000;
/** How long outcomes may take to be stored when the worker is to end, ms. */
const STOP_MS = 5000;
/** Before a job of another engine version may come again, ms. */
const OTHER_ENGINE_MS = 30_000;

export interface NatsWorkerOptions {
  readonly url: string;
  /** For TLS and credentials. */
  readonly files?: NatsFiles;
  readonly prefix: string;
  readonly threads: number;
  /** Bytes of a thread's JavaScript heap. */
  readonly heapBytes?: number;
  readonly ackWaitMs?: number;
  readonly maxDeliver?: number;
  readonly trouble?: (text: string) => void;
  /** Entry of the threads; tests may put another in its place. */
  readonly entry?: URL;
}

/** A job that this worker has. */
interface Held {
  readonly queued: QueuedJob;
  /** The newest delivery. */
  message: JsMsg;
  cancelled: boolean;
}

export class NatsWorker {
  readonly id: string = randomUUID();
  readonly engine: string = engineVersion();
  private readonly threads: number;
  private readonly ackWaitMs: number;
  private readonly maxDeliver: number;
  private readonly trouble: (text: string) => void;
  private readonly pool: ThreadPool;
  private readonly link: NatsLink;
  private readonly held = new Map<string, Held>();
  private broker: Broker | null = null;
  private consumer: Consumer | null = null;
  private renewals: NodeJS.Timeout | null = null;
  private readonly reports: NodeJS.Timeout;
  /** Requests for jobs that are under way, and how many jobs they are for. */
  private readonly pulls = new Set<ConsumerMessages>();
  private pulling = 0;
  private retry: NodeJS.Timeout | null = null;
  /** Wall time of a job, ms; null before the first has ended. */
  private meanMs: number | null = null;
  /** Jobs with an outcome that is not stored yet. */
  private storing = 0;
  private stopping = false;
  /** Jobs that have come to an outcome here. */
  ended = 0;

  constructor(options: NatsWorkerOptions) {
    const {
      url,
      files = NO_NATS_FILES,
      prefix,
      threads,
      ackWaitMs = ACK_WAIT_MS,
      maxDeliver = MAX_DELIVER,
      trouble = console.error,
    } = options;
    this.threads = threads;
    this.ackWaitMs = ackWaitMs;
    this.maxDeliver = maxDeliver;
    this.trouble = trouble;
    this.pool = new ThreadPool(
      {
        started: (key) => this.notice({ kind: 'started', key }),
        ended: (key, outcome) => void this.finish(key, outcome),
      },
      {
        threads,
        ...(options.heapBytes === undefined ? {} : { heapBytes: options.heapBytes }),
        ...(options.entry === undefined ? {} : { entry: options.entry }),
      },
    );
    this.link = new NatsLink(
      { url, files, prefix, name: `ringside worker ${this.id}`, trouble },
      { connected: (broker) => this.connected(broker), again: (broker) => this.again(broker) },
    );
    this.reports = setInterval(() => this.report(this.threads), REPORT_MS);
  }

  /** Jobs that it has are for others, at once. */
  async stop(): Promise<void> {
    this.stopping = true;
    clearInterval(this.reports);
    if (this.retry !== null) clearTimeout(this.retry);
    this.endPulls();
    await this.pool.close();
    const deadline = performance.now() + STOP_MS;
    while (this.storing > 0 && performance.now() < deadline) await sleep(50);
    if (this.renewals !== null) clearInterval(this.renewals);
    for (const { message } of this.held.values()) message.nak();
    this.report(0);
    await this.link.flush();
    await this.link.close();
  }

  // ---- the connection -----------------------------------------------------------------------------------------------
  private async connected(broker: Broker): Promise<void> {
    const { nc, names } = broker;
    this.broker = broker;
    nc.subscribe(names.cancelled, { callback: (error, { data }) => this.cancel(error === null ? data : null) });
    nc.subscribe(names.hello, { callback: () => this.report(this.threads) });
    this.report(this.threads);
    await this.again(broker);
  }
  private async again(broker: Broker): Promise<void> {
    this.consumer = await broker.consumer({ engine: this.engine, ackWaitMs: this.ackWaitMs });
    const { config } = await this.consumer.info(true);
    // Another worker may have set another time.
    const wait = millis(config.ack_wait ?? 0) || this.ackWaitMs;
    if (this.renewals !== null) clearInterval(this.renewals);
    this.renewals = setInterval(() => this.renew(), wait / RENEWALS);
    // What was asked for on the connection that was lost does not come.
    this.endPulls();
    this.fill();
  }
  private report(threads: number): void {
    const { id, engine, broker } = this;
    if (broker === null || broker.nc.isClosed()) return;
    broker.nc.publish(broker.names.workers, JSON.stringify({ id, engine, threads }));
  }
  private notice(notice: Notice): void {
    const { broker } = this;
    if (broker !== null && !broker.nc.isClosed()) broker.nc.publish(broker.names.notices, JSON.stringify(notice));
  }
  private renew(): void {
    for (const { message } of this.held.values()) message.working();
  }

  // ---- jobs come ----------------------------------------------------------------------------------------------------
  /** Asks for as many jobs as there is room for. */
  private fill(): void {
    const { consumer } = this;
    if (consumer === null || this.stopping || this.retry !== null) return;
    const fit = this.meanMs === null ? 1 : Math.floor(AHEAD_MS / this.meanMs);
    // Those that are being stored need no thread.
    const working = this.held.size - this.storing;
    const room = this.threads * Math.max(1, Math.min(fit, MOST_AHEAD)) - working - this.pulling;
    if (room > 0) void this.pull(consumer, room);
  }
  private async pull(consumer: Consumer, jobs: number): Promise<void> {
    let open = jobs;
    this.pulling += jobs;
    try {
      const messages = await consumer.fetch({ max_messages: jobs, expires: PULL_MS });
      this.pulls.add(messages);
      try {
        for await (const message of messages) {
          open--;
          this.pulling--;
          void this.take(message);
        }
      } finally {
        this.pulls.delete(messages);
      }
    } catch (error) {
      this.later(error);
    }
    this.pulling -= open;
    this.fill();
  }
  private endPulls(): void {
    for (const messages of this.pulls) messages.stop();
  }
  private later(error: unknown): void {
    if (this.stopping) return;
    if (this.link.up) this.trouble(`no jobs from NATS: ${textOf(error)}`);
    this.retry ??= setTimeout(() => void this.openAgain(), RETRY_MS);
  }
  /** Somebody may have removed the consumer. */
  private async openAgain(): Promise<void> {
    const { broker } = this;
    try {
      if (broker !== null && this.link.up) {
        await broker.ensure();
        this.consumer = await broker.consumer({ engine: this.engine, ackWaitMs: this.ackWaitMs });
      }
      this.retry = null;
      this.fill();
    } catch (error) {
      this.retry = null;
      this.later(error);
    }
  }

  private async take(message: JsMsg): Promise<void> {
    const { broker } = this;
    if (broker === null || this.stopping) return message.nak();
    const queued = parseQueued(message.data);
    try {
      if (typeof queued === 'string')
        return await this.bury(broker, message, null, `the job cannot be read: ${queued}`);
      if (queued.job.engine !== this.engine) return message.nak(OTHER_ENGINE_MS);
      if (this.takeAgain(queued.key, message)) return;
      const held = { queued, message, cancelled: false };
      this.held.set(queued.key, held);
      await this.begin(broker, held);
    } catch (error) {
      // Not acknowledged: it comes again.
      if (typeof queued !== 'string') this.held.delete(queued.key);
      if (this.link.up && !this.stopping) this.trouble(`a job from NATS could not be begun: ${textOf(error)}`);
    }
    this.fill();
  }
  /** A job that this worker has already: it was away for too long, or the job was withdrawn and submitted again. */
  private takeAgain(key: string, message: JsMsg): boolean {
    const held = this.held.get(key);
    if (held === undefined) return false;
    held.message = message;
    if (held.cancelled) this.pool.submit(held.queued);
    held.cancelled = false;
    return true;
  }
  private async begin(broker: Broker, held: Held): Promise<void> {
    const { queued, message } = held;
    const { key, limits } = queued;
    if ((await broker.outcome(key, limits)) !== null) {
      await this.end(broker, held);
      return;
    }
    const deliveries = message.info.deliveryCount;
    if (deliveries > this.maxDeliver) {
      const reason = `it has been given to workers ${this.maxDeliver} times, and none has come to an outcome`;
      await this.bury(broker, message, queued, reason);
      this.held.delete(key);
      return;
    }
    if (held.cancelled || this.stopping) {
      this.held.delete(key);
      if (held.cancelled) held.message.term();
      else held.message.nak();
    } else this.pool.submit(queued);
  }
  /** A job that nobody can work on is kept for somebody to look at, and its experiment goes on without it. */
  private async bury(broker: Broker, message: JsMsg, queued: QueuedJob | null, reason: string): Promise<void> {
    const deliveries = message.info.deliveryCount;
    const letter: DeadLetter = { reason, deliveries, job: queued ?? excerptOf(message.data) };
    // The last part of the subject, where it is not known to be one.
    const key = queued?.key ?? message.subject.split('.').at(-1) ?? '';
    await broker.bury(key, letter);
    if (queued !== null) {
      const problem = { code: 'RINGSIDE_E_INTERNAL', detail: reason };
      await broker.keep(key, { kind: 'failed', problem, wallSeconds: 0, limits: queued.limits });
      this.notice({ kind: 'ended', key });
    }
    message.term();
  }
  private cancel(data: Uint8Array | null): void {
    const keys = data === null ? null : (parseCancellation(data)?.keys ?? null);
    for (const key of keys ?? []) {
      const held = this.held.get(key);
      if (held !== undefined) held.cancelled = true;
    }
    if (keys !== null) this.pool.cancel(keys);
  }

  // ---- outcomes go --------------------------------------------------------------------------------------------------
  private async finish(key: string, outcome: JobOutcome): Promise<void> {
    const held = this.held.get(key);
    if (held === undefined) return;
    if (outcome.kind === 'cancelled') {
      this.held.delete(key);
      held.message.term();
      this.fill();
      return;
    }
    const ms = 1000 * outcome.wallSeconds;
    this.meanMs = this.meanMs === null ? ms : this.meanMs + MEAN_WEIGHT * (ms - this.meanMs);
    this.storing++;
    this.fill();
    await this.store(held, outcome.kind === 'result' ? outcome : { ...outcome, limits: held.queued.limits });
    this.storing--;
    this.ended++;
  }
  /** Until it is stored, however long the broker is away. */
  private async store(held: Held, outcome: KeptOutcome): Promise<void> {
    const { key, limits } = held.queued;
    const deadline = (): boolean => this.stopping && !this.link.up;
    while (!held.cancelled && !deadline()) {
      const { broker } = this;
      try {
        if (broker !== null && this.link.up) {
          // Two workers may have had it: what is there is the same, and somebody may be reading it.
          const known = held.message.redelivered && (await broker.outcome(key, limits)) !== null;
          if (!known) await broker.keep(key, outcome);
          await this.end(broker, held);
          return;
        }
      } catch (error) {
        if (this.link.up) this.trouble(`an outcome could not be stored by NATS: ${textOf(error)}`);
      }
      await sleep(RETRY_MS);
    }
    this.held.delete(key);
  }
  /** Its outcome is in the store. */
  private async end(broker: Broker, held: Held): Promise<void> {
    const { key } = held.queued;
    // Lost: it is delivered again, and its outcome found.
    await held.message.ackAck().catch(() => false);
    this.held.delete(key);
    broker.nc.publish(broker.names.notices, JSON.stringify({ kind: 'ended', key }));
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
