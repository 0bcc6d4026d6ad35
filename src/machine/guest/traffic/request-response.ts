/**
 * netperf's TCP_RR and UDP_RR: a client sends a request, the server reads it whole and answers, and when the client has read
 * the answer it sends the next. What all clients of a run have asked and got is in one account.
 *
 * DEVIATION: a message of several segments is read by one recv(), when all of it is there.
 */
import { NEVER } from '../../../engine/timeline.ts';
import type { RunLedger } from '../../packet/run-ledger.ts';
import type { Services } from '../../services.ts';
import { Application, type MessageSocket } from './application.ts';

/**
 * A response that has not come after so long is lost, and the next request is sent: a program's choice, as ping's -W. Streams
 * lose nothing, so only UDP clients look.
 */
const RESPONSE_TIMEOUT = 1_000_000_000;

export interface TransactionTerms {
  readonly requestBytes: number;
  readonly responseBytes: number;
  /** Transactions of all clients. */
  readonly count: number;
  /** No request is sent from here on, ns; NEVER: `count` ends it. */
  readonly until: number;
  /** Requests of a client that wait for their response. */
  readonly outstanding: number;
  /** ns between a response and the next request. */
  readonly thinkNs: number;
}

/** What was asked and answered. Latencies go to the run's ledger. */
export class TransactionAccount {
  readonly terms: TransactionTerms;
  completed = 0;
  lost = 0;
  /** First request and last response, -1 = none yet. */
  firstNs = -1;
  lastNs = -1;
  private readonly ledger: RunLedger;
  private asked = 0;
  private total = 0;

  constructor(terms: TransactionTerms, ledger: RunLedger) {
    this.terms = terms;
    this.ledger = ledger;
  }

  /** True where another request may be sent at `now`. */
  ask(now: number): boolean {
    const { terms } = this;
    if (this.asked >= terms.count || now >= terms.until) return false;
    this.asked++;
    if (this.firstNs < 0) this.firstNs = now;
    return true;
  }
  answered(since: number, now: number): void {
    this.completed++;
    this.total += now - since;
    this.lastNs = now;
    this.ledger.addLatency(now - since);
  }
  /** ns. */
  get mean(): number {
    return this.completed === 0 ? 0 : this.total / this.completed;
  }
}

/** A tag is the slot of its request, and how often that was used: a late response is not taken for the next one. */
const SLOT_MASK = 63;
const USE_SHIFT = 6;

export class Requester extends Application {
  protected readonly unitsPerRead = 1;
  declare private readonly account: TransactionAccount;
  declare private readonly socket: MessageSocket;
  declare private readonly loses: boolean;
  /** By slot: when the request was sent that has no response, -1 = free; and how often the slot was used. */
  declare private readonly since: Float64Array;
  declare private readonly uses: Uint8Array;
  private open = 0;
  /** When the next requests are due, of those that think: a ring. */
  declare private readonly thinking: Float64Array;
  private firstThought = 0;
  private thoughts = 0;
  private finished = false;

  /** `loses`: a response may never come. */
  constructor(services: Services, account: TransactionAccount, socket: MessageSocket, loses: boolean) {
    super(services);
    this.account = account;
    this.socket = socket;
    this.loses = loses;
    const { outstanding } = account.terms;
    this.since = new Float64Array(outstanding).fill(-1);
    this.uses = new Uint8Array(outstanding);
    this.thinking = new Float64Array(outstanding);
  }

  override get unitBytes(): number {
    return this.account.terms.responseBytes;
  }
  override opened(now: number): void {
    for (let i = 0; i < this.since.length; i++) this.ask(now);
    this.settle();
  }
  protected override read(_units: number, now: number): void {
    const tag = this.socket.readTag();
    const slot = tag < 0 ? this.oldest() : tag & SLOT_MASK;
    // one that was given up comes late, or comes twice: it is nobody's
    if (slot < 0 || slot >= this.since.length || this.since[slot]! < 0) return;
    if (tag >= 0 && this.tagOf(slot) !== tag) return;
    this.account.answered(this.since[slot]!, now);
    this.release(slot);
    this.next(now);
    this.settle();
  }
  protected override rang(now: number): void {
    while (this.thoughts > 0 && this.thinking[this.firstThought]! <= now) {
      this.firstThought = (this.firstThought + 1) % this.thinking.length;
      this.thoughts--;
      this.ask(now);
    }
    for (let i = 0; this.loses && i < this.since.length; i++) {
      if (this.since[i]! < 0 || this.since[i]! + RESPONSE_TIMEOUT > now) continue;
      this.release(i);
      this.account.lost++;
      this.ask(now);
    }
    this.settle();
  }

  private ask(now: number): void {
    if (!this.account.ask(now)) return;
    let slot = 0;
    while (this.since[slot]! >= 0) slot++;
    this.since[slot] = now;
    this.uses[slot]!++;
    this.open++;
    this.socket.send(this.account.terms.requestBytes, this.tagOf(slot));
  }
  /** A response was read: the next request, now or when the client has thought. */
  private next(now: number): void {
    const { thinkNs } = this.account.terms;
    if (thinkNs === 0) return this.ask(now);
    this.thinking[(this.firstThought + this.thoughts++) % this.thinking.length] = now + thinkNs;
  }
  private tagOf(slot: number): number {
    return (slot | (this.uses[slot]! << USE_SHIFT)) & 0xff;
  }
  private release(slot: number): void {
    this.since[slot] = -1;
    this.open--;
  }
  /** Slot of the request that has waited longest, -1 without. */
  private oldest(): number {
    let found = -1;
    for (let i = 0; i < this.since.length; i++) {
      if (this.since[i]! >= 0 && (found < 0 || this.since[i]! < this.since[found]!)) found = i;
    }
    return found;
  }
  private settle(): void {
    const oldest = this.loses ? this.oldest() : -1;
    const thought = this.thoughts > 0 ? this.thinking[this.firstThought]! : NEVER;
    this.alarm = Math.min(thought, oldest < 0 ? NEVER : this.since[oldest]! + RESPONSE_TIMEOUT);
    if (this.open > 0 || this.thoughts > 0 || this.finished) return;
    this.finished = true;
    this.socket.finish();
  }
}

export class Responder extends Application {
  declare private readonly terms: TransactionTerms;
  declare private readonly socket: MessageSocket;

  constructor(services: Services, terms: TransactionTerms, socket: MessageSocket) {
    super(services);
    this.terms = terms;
    this.socket = socket;
  }
  protected readonly unitsPerRead = 1;
  override get unitBytes(): number {
    return this.terms.requestBytes;
  }
  override opened(): void {}
  protected override read(): void {
    this.socket.send(this.terms.responseBytes, this.socket.readTag());
  }
  protected override rang(): void {}
}
