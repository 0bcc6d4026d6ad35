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

export class Requester extends Application {
  declare private readonly account: TransactionAccount;
  declare private readonly socket: MessageSocket;
  declare private readonly loses: boolean;
  /** When the requests that have no response were sent, as a ring; and when the next ones of those that think are due. */
  declare private readonly since: Float64Array;
  private first = 0;
  private open = 0;
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
    this.since = new Float64Array(account.terms.outstanding);
    this.thinking = new Float64Array(account.terms.outstanding);
  }

  protected readonly unitsPerRead = 1;
  override get unitBytes(): number {
    return this.account.terms.responseBytes;
  }
  override opened(now: number): void {
    for (let i = 0; i < this.since.length; i++) this.ask(now);
    this.settle();
  }
  protected override read(_units: number, now: number): void {
    // one that was given up comes late: it is nobody's
    if (this.open === 0) return;
    this.account.answered(this.shift(), now);
    this.next(now);
    this.settle();
  }
  protected override rang(now: number): void {
    while (this.thoughts > 0 && this.thinking[this.firstThought]! <= now) {
      this.firstThought = (this.firstThought + 1) % this.thinking.length;
      this.thoughts--;
      this.ask(now);
    }
    while (this.loses && this.open > 0 && this.since[this.first]! + RESPONSE_TIMEOUT <= now) {
      this.shift();
      this.account.lost++;
      this.ask(now);
    }
    this.settle();
  }

  private ask(now: number): void {
    if (!this.account.ask(now)) return;
    this.since[(this.first + this.open++) % this.since.length] = now;
    this.socket.send(this.account.terms.requestBytes);
  }
  /** A response was read: the next request, now or when the client has thought. */
  private next(now: number): void {
    const { thinkNs } = this.account.terms;
    if (thinkNs === 0) return this.ask(now);
    this.thinking[(this.firstThought + this.thoughts++) % this.thinking.length] = now + thinkNs;
  }
  private shift(): number {
    const since = this.since[this.first]!;
    this.first = (this.first + 1) % this.since.length;
    this.open--;
    return since;
  }
  private settle(): void {
    const thought = this.thoughts > 0 ? this.thinking[this.firstThought]! : NEVER;
    const given = this.loses && this.open > 0 ? this.since[this.first]! + RESPONSE_TIMEOUT : NEVER;
    this.alarm = Math.min(thought, given);
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
    this.socket.send(this.terms.responseBytes);
  }
  protected override rang(): void {}
}
