/**
 * A deleted world's memory (hundreds of MiB of address space, what was touched of it in RAM) goes back to the system when
 * both threads that know it have collected garbage; idle threads never do so by themselves.
 */
import { runInNewContext } from 'node:vm';

let collect: (() => void) | null = null;

/** Collects this thread's garbage now: some milliseconds for heaps of our size. */
export function collectGarbage(): void {
  // nothing where tuneEngine() has not been called: a world that a test drives by itself
  collect ??= runInNewContext('globalThis.gc ?? (() => {})') as () => void;
  collect();
}
