/**
 * eventfd: a counter and one waiter. Many signals before a read are one wake-up and one count, as in Linux
 * (linux fs/eventfd.c). The delay of the wake-up belongs to who signals: it passes through timeline.now[1].
 */
import type { Context } from './context.ts';

export class EventFd {
  /** The number that ioctls and messages carry: its descriptor in the process that made it, once it is open there. */
  declare fd: number;
  declare readonly name: string;
  counter = 0;
  waiter: Context | null = null;

  constructor(fd: number, name: string) {
    this.fd = fd;
    this.name = name;
  }

  /** Adds 1 and wakes the waiter at timeline.now[1] if it sleeps. */
  signal(): void {
    this.counter++;
    if (this.waiter !== null) this.waiter.rouse();
  }

  /** Returns the counter and resets it. */
  read(): number {
    const n = this.counter;
    this.counter = 0;
    return n;
  }
}
