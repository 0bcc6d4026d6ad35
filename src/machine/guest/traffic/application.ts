/**
 * The program behind a socket, where it answers what comes: a thread that sleeps in recv() until there is a message, reads
 * one at a time, does something about it and sleeps again. Its vCPU gives it slices of their own (TrafficSource.work);
 * what it sends goes out in others. A DPDK program has no such thread: it polls.
 */
import { NEVER } from '../../../engine/timeline.ts';
import type { Services } from '../../services.ts';

export abstract class Application {
  declare private readonly wakeCost: number;
  declare private readonly readCost: number;
  /** Messages that wait to be read. */
  private waiting = 0;
  private asleep = true;
  /** When it wakes without a message, NEVER without. */
  protected alarm = NEVER;

  constructor(services: Services) {
    this.wakeCost = services.ns('thread_context_switch');
    this.readCost = services.ns('guest_recvmsg');
  }

  /** `n` whole messages have arrived. */
  arrived(n: number): void {
    this.waiting += n;
  }
  /** ns of what it does next, at `now`; -1 = nothing. */
  work(now: number): number {
    if (this.waiting === 0 && this.alarm > now) return -1;
    return (this.asleep ? this.wakeCost : 0) + (this.waiting > 0 ? this.readCost : 0);
  }
  /** That is done at `now`. */
  worked(now: number): void {
    if (this.alarm <= now) {
      this.alarm = NEVER;
      this.rang(now);
    }
    if (this.waiting > 0) {
      this.waiting--;
      this.read(now);
    }
    this.asleep = this.waiting === 0;
  }
  get nextAlarm(): number {
    return this.alarm;
  }

  /** The socket can send: called once, at `now`. */
  abstract opened(now: number): void;
  /** Bytes of the messages that it reads. */
  abstract readonly messageBytes: number;
  /** It has read a message. */
  protected abstract read(now: number): void;
  /** Its alarm has gone off. */
  protected abstract rang(now: number): void;
}

/** The socket that an application writes to. */
export interface MessageSocket {
  /** A message of so many bytes is to go out. */
  send(bytes: number): void;
  /** Nothing more will be sent. */
  finish(): void;
}
