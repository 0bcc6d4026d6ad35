/** One client that waits for news: of its world, of its own connection, of the server's end. A wake-up is never lost. */
import type { EventSource } from './event-source.ts';

export class Waiter {
  private readonly quiet: () => void;
  private readonly signals: readonly AbortSignal[];
  private resume: (() => void) | null = null;
  private woken = false;

  /** Until `close()` it is woken by what the source tells and by the signals. */
  constructor(source: EventSource, ...signals: AbortSignal[]) {
    this.quiet = source.onNews(this.wake);
    this.signals = signals;
    for (const signal of signals) signal.addEventListener('abort', this.wake);
  }

  readonly wake = (): void => {
    this.woken = true;
    this.resume?.();
  };

  /** Resolves true when there was news since the last call, at once where there already was; false after `ms` without. */
  async sleep(ms?: number): Promise<boolean> {
    if (!this.woken && !this.signals.some((signal) => signal.aborted)) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.resume = resolve;
      const timer = ms === undefined ? undefined : setTimeout(resolve, ms);
      await promise;
      clearTimeout(timer);
      this.resume = null;
    }
    const { woken } = this;
    this.woken = false;
    return woken || this.signals.some((signal) => signal.aborted);
  }

  close(): void {
    this.quiet();
    for (const signal of this.signals) signal.removeEventListener('abort', this.wake);
  }
}
