/**
 * The program behind a socket: a thread that sleeps in recv() until there is something for it, reads, does something about
 * it, and sleeps again. Its vCPU gives it slices of their own (TrafficSource.work); what it sends goes out in others. A DPDK
 * program has no such thread: it polls.
 *
 * DEVIATION: a vCPU runs what applications do when its NAPI polls leave it time, by turns with senders; there is no other
 * scheduling between threads, and a thread that goes to sleep costs nothing.
 */
import { GUEST_APP_READ, GUEST_APP_WAKE } from '../../../engine/events.ts';
import type { Recorder } from '../../../engine/recorder.ts';
import { NEVER } from '../../../engine/timeline.ts';
import type { Services } from '../../services.ts';

export abstract class Application {
  declare private readonly recorder: Recorder;
  declare private readonly wakeCost: number;
  declare private readonly readCost: number;
  declare private readonly byteCost256: number;
  /** What has arrived and was not read: messages, or bytes of a stream. */
  private waiting = 0;
  /** Of these, what the slice under way reads. */
  private reading = 0;
  private asleep = true;
  /** When it wakes without anything to read, NEVER without. */
  protected alarm = NEVER;

  constructor(services: Services) {
    this.recorder = services.recorder;
    this.wakeCost = services.ns('thread_context_switch');
    this.readCost = services.ns('guest_recvmsg');
    this.byteCost256 = services.per256('copy_per_byte_kernel');
  }

  /** Bytes of what is counted: of a message, 1 for a stream. */
  abstract readonly unitBytes: number;
  /** As many one recv() takes. */
  protected abstract readonly unitsPerRead: number;

  /** `n` more have arrived, each of them whole. */
  arrived(n: number): void {
    this.waiting += n;
  }
  /** ns of what it would do next, at `now`; -1 = nothing. */
  work(now: number): number {
    if (this.waiting === 0 && this.alarm > now) return -1;
    const units = Math.min(this.waiting, this.unitsPerRead);
    const read = units > 0 ? this.readCost + ((units * this.unitBytes * this.byteCost256) >> 8) : 0;
    return (this.asleep ? this.wakeCost : 0) + read;
  }
  /** It begins to do that, at the recorder's stamp; `at` is whose events these are. A program that polls was not asleep. */
  begin(at: SocketPlace, polls: boolean): void {
    if (this.asleep && !polls) this.recorder.event(at.base | GUEST_APP_WAKE, 0, at.localPort, 0);
    this.asleep = false;
    this.reading = Math.min(this.waiting, this.unitsPerRead);
  }
  /** It is done, at `now`, which is the recorder's stamp. */
  worked(at: SocketPlace, now: number): void {
    if (this.alarm <= now) {
      this.alarm = NEVER;
      this.rang(now);
    }
    const units = this.reading;
    this.reading = 0;
    this.waiting -= units;
    if (units > 0) {
      this.recorder.event(at.base | GUEST_APP_READ, 0, units * this.unitBytes, at.localPort);
      this.read(units, now);
    }
    this.asleep = this.waiting === 0;
  }
  get nextAlarm(): number {
    return this.alarm;
  }

  /** The socket can send: called once, at `now`. */
  abstract opened(now: number): void;
  /** It has read so many. */
  protected abstract read(units: number, now: number): void;
  /** Its alarm has gone off. */
  protected abstract rang(now: number): void;
}

/** Where a socket is: its queue pair's place and context as in meta words, and its port. */
export interface SocketPlace {
  readonly base: number;
  readonly localPort: number;
}

/** The socket that an application of messages writes to. */
export interface MessageSocket {
  /** A message of so many bytes is to go out; where messages can be lost, `tag` (a byte) goes with it. */
  send(bytes: number, tag: number): void;
  /** Tag of the message that is being read; -1 on a stream, where messages come in the order in which they were sent. */
  readTag(): number;
  /** Nothing more will be sent. */
  finish(): void;
}
