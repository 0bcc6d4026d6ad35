/** Threads that compute for long give way to those that answer: without this a request waits for its turn among them. */
import { setPriority } from 'node:os';

/** Nice value of threads that run jobs. */
const NICE = 5;

/** Lowers the priority of the calling thread. On Linux only: elsewhere it would be the process's. */
export function giveWay(): void {
  if (process.platform !== 'linux') return;
  try {
    setPriority(0, NICE);
  } catch {
    // a sandbox may forbid it: then all threads are equal
  }
}
