/**
 * What a NATS server keeps for the queue of jobs, and how it is named. A job waits in a work queue stream, on a subject of its
 * own, until a worker has stored its outcome in an object store and acknowledged it; a job that ends its workers goes to a stream
 * of dead letters. What is not kept: notices that a job has begun or ended, which spare asking, and cancellations.
 */
import {
  AckPolicy,
  type Consumer,
  DiscardPolicy,
  JetStreamApiError,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from '@nats-io/jetstream';
import { type ObjectStore, Objm } from '@nats-io/obj';
import { type NatsConnection, nanos, nuid } from '@nats-io/transport-node';
import { contentHash } from '../lab/job/job.ts';
import { type KeptOutcome, parseOutcome } from './nats-messages.ts';
import type { JobLimits, QueuedJob } from './queue.ts';

/** A second message with the same id within this time is not taken, ms. */
const DUPLICATE_WINDOW_MS = 120_000;
/** Outcomes and dead letters are kept so long, ms. */
const KEPT_MS = 7 * 24 * 3600 * 1000;
/** Consumers that no worker has asked for so long go away: those of engines that are not run any more, ms. */
const IDLE_CONSUMER_MS = 7 * 24 * 3600 * 1000;
/** Requests of workers that may wait at once. */
const MAX_WAITING = 8192;
/** Jobs that may be with workers at once. */
const MAX_ACK_PENDING = 100_000;
/** How long an outcome may take to be read, ms: without its data the client waits for ever. */
const READ_MS = 10_000;

/** Error codes of JetStream's API. */
const NO_MESSAGE_FOUND = 10037;
const CONSUMER_NOT_FOUND = 10014;
const STREAM_NAME_EXISTS = 10058;
const MAXIMUM_MESSAGES_PER_SUBJECT = 10077;

/** Subjects and names that begin with a prefix: several Ringsides may share a server. */
export class BrokerNames {
  readonly jobs: string;
  readonly dead: string;
  readonly outcomes: string;
  /** Subjects of what is not kept. */
  readonly notices: string;
  readonly cancelled: string;
  readonly workers: string;
  readonly hello: string;
  private readonly prefix: string;

  constructor(prefix: string) {
    this.prefix = prefix;
    this.jobs = `${prefix}_jobs`;
    this.dead = `${prefix}_dead`;
    this.outcomes = `${prefix}_outcomes`;
    this.notices = `${prefix}.notices`;
    this.cancelled = `${prefix}.cancelled`;
    this.workers = `${prefix}.workers`;
    this.hello = `${prefix}.hello`;
  }

  /** Jobs of an engine version: a worker of another never sees them. */
  engineJobs(engine: string): string {
    return `${this.prefix}.jobs.${token(engine)}.*`;
  }
  job({ key, job }: QueuedJob): string {
    return `${this.prefix}.jobs.${token(job.engine)}.${key}`;
  }
  get allJobs(): string {
    return `${this.prefix}.jobs.>`;
  }
  deadLetter(key: string): string {
    return `${this.prefix}.dead.${token(key)}`;
  }
  get allDead(): string {
    return `${this.prefix}.dead.*`;
  }
  consumer(engine: string): string {
    return `workers-${token(engine)}`;
  }
}

/** What may stand between the dots of a subject, and in a consumer's name. */
function token(text: string): string {
  return text.replace(/[^A-Za-z0-9_-]/g, '_').slice(0, 100);
}

export interface ConsumerOptions {
  readonly engine: string;
  /** A job whose worker says nothing for so long is given to another, ms. */
  readonly ackWaitMs: number;
}

/** A connection with the streams and the store behind it. */
export class Broker {
  readonly nc: NatsConnection;
  readonly names: BrokerNames;
  private readonly js: JetStreamClient;
  private readonly jsm: JetStreamManager;
  private store: ObjectStore;

  private constructor(nc: NatsConnection, names: BrokerNames, jsm: JetStreamManager, store: ObjectStore) {
    this.nc = nc;
    this.names = names;
    this.js = jetstream(nc);
    this.jsm = jsm;
    this.store = store;
  }

  /** Makes what is not there yet. */
  static async open(nc: NatsConnection, prefix: string): Promise<Broker> {
    const names = new BrokerNames(prefix);
    const jsm = await jetstreamManager(nc);
    return new Broker(nc, names, jsm, await makeAll(nc, jsm, names));
  }
  /** The server may have lost its disk. */
  async ensure(): Promise<void> {
    this.store = await makeAll(this.nc, this.jsm, this.names);
  }

  // ---- jobs ---------------------------------------------------------------------------------------------------------
  /**
   * Puts a job where workers take it. False: nothing was done, as the server has seen this id a short time ago and the job may be
   * there or not. A job that is there already stays as it is.
   */
  async publish(queued: QueuedJob, fresh: boolean): Promise<boolean> {
    const { key } = queued;
    const msgID = fresh ? `${key}.${nuid.next()}` : key;
    try {
      const ack = await this.js.publish(this.names.job(queued), JSON.stringify(queued), { msgID });
      return !ack.duplicate;
    } catch (error) {
      if (codeOf(error) === MAXIMUM_MESSAGES_PER_SUBJECT) return true;
      throw error;
    }
  }
  /** Whether it waits or is with a worker. */
  async holds(queued: QueuedJob): Promise<boolean> {
    try {
      const found = await this.jsm.streams.getMessage(this.names.jobs, { last_by_subj: this.names.job(queued) });
      return found !== null;
    } catch (error) {
      if (codeOf(error) === NO_MESSAGE_FOUND) return false;
      throw error;
    }
  }
  /** Subjects of all jobs that wait or are with workers. */
  async subjects(): Promise<ReadonlySet<string>> {
    const { state } = await this.jsm.streams.info(this.names.jobs, { subjects_filter: this.names.allJobs });
    return new Set(Object.keys(state.subjects ?? {}));
  }
  /** Whether workers of an engine have asked for jobs, and none waits or is with one of them. */
  async idle(engine: string): Promise<boolean> {
    try {
      const { num_pending, num_ack_pending } = await this.jsm.consumers.info(
        this.names.jobs,
        this.names.consumer(engine),
      );
      return num_pending === 0 && num_ack_pending === 0;
    } catch (error) {
      if (codeOf(error) === CONSUMER_NOT_FOUND) return false;
      throw error;
    }
  }
  /** Takes a job away, also from the worker that has it. */
  async withdraw(queued: QueuedJob): Promise<void> {
    await this.jsm.streams.purge(this.names.jobs, { filter: this.names.job(queued) });
  }
  async consumer({ engine, ackWaitMs }: ConsumerOptions): Promise<Consumer> {
    const { names, jsm } = this;
    const name = names.consumer(engine);
    const changeable = { ack_wait: nanos(ackWaitMs), max_ack_pending: MAX_ACK_PENDING, max_deliver: -1 };
    try {
      await jsm.consumers.add(names.jobs, {
        ...changeable,
        durable_name: name,
        filter_subject: names.engineJobs(engine),
        ack_policy: AckPolicy.Explicit,
        max_waiting: MAX_WAITING,
        inactive_threshold: nanos(IDLE_CONSUMER_MS),
      });
    } catch (error) {
      // It is there, and somebody has made or changed it: what matters follows this version.
      if (!(error instanceof JetStreamApiError)) throw error;
      await jsm.consumers.update(names.jobs, name, changeable);
    }
    return this.js.consumers.get(names.jobs, name);
  }
  async bury(key: string, letter: object): Promise<void> {
    await this.js.publish(this.names.deadLetter(key), JSON.stringify(letter), { msgID: key });
  }

  // ---- outcomes -----------------------------------------------------------------------------------------------------
  /** A job's outcome if it is there; of a job that was ended by its limits only where they were the same. What is damaged is removed. */
  async outcome(key: string, limits: JobLimits): Promise<KeptOutcome | null> {
    const info = await this.store.info(key);
    if (info === null || info.deleted) return null;
    const bytes = await within(READ_MS, this.store.getBlob(key));
    const kept = bytes === null ? null : parseOutcome(bytes);
    if (kept !== null && kept.kind === 'result' && kept.digest === contentHash(kept.result)) return kept;
    if (kept !== null && kept.kind === 'failed' && contentHash(kept.limits) === contentHash(limits)) return kept;
    await this.forget(key);
    return null;
  }
  async keep(key: string, outcome: KeptOutcome): Promise<void> {
    await this.store.putBlob({ name: key }, new TextEncoder().encode(JSON.stringify(outcome)));
  }
  async forget(key: string): Promise<void> {
    await this.store.delete(key);
  }
}

/** Each is left as it is where it is there; what may be changed follows this version. */
async function makeAll(nc: NatsConnection, jsm: JetStreamManager, names: BrokerNames): Promise<ObjectStore> {
  const storage = StorageType.File;
  await makeStream(jsm, {
    name: names.jobs,
    subjects: [names.allJobs],
    retention: RetentionPolicy.Workqueue,
    storage,
    duplicate_window: nanos(DUPLICATE_WINDOW_MS),
    // A job is there once, also after its id has been forgotten.
    max_msgs_per_subject: 1,
    discard: DiscardPolicy.New,
    discard_new_per_subject: true,
  });
  await makeStream(jsm, { name: names.dead, subjects: [names.allDead], storage, max_age: nanos(KEPT_MS) });
  return new Objm(nc).create(names.outcomes, { storage, ttl: nanos(KEPT_MS) });
}
async function makeStream(jsm: JetStreamManager, config: Partial<StreamConfig> & { name: string }): Promise<void> {
  try {
    await jsm.streams.add(config);
  } catch (error) {
    if (codeOf(error) !== STREAM_NAME_EXISTS) throw error;
    const { name, retention: _, storage: __, ...changeable } = config;
    await jsm.streams.update(name, changeable);
  }
}

function codeOf(error: unknown): number {
  return error instanceof JetStreamApiError ? error.code : 0;
}

async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing was read for ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
